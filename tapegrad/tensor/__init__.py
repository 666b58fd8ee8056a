"""Tensor: the Python face of a slot.

An object holds a slot number and what only Python needs.  Operators and elementwise methods are compiled descriptors (`install.py`);
structural methods come from the files of `ops/`.  What belongs to the object itself is here: its place for what only Python knows and the
Python protocol; its attributes are in `attributes`, its place in the graph in `graph`, its elements in other forms in `conversions`.
"""

from __future__ import annotations

import numbers

from tapegrad import core, dtypes, overriding
from tapegrad.engine.bind import Handle
from tapegrad.ops.transformable import ACTIVE
from tapegrad.tensor.attributes import Attributes, close
from tapegrad.tensor.conversions import Conversions
from tapegrad.tensor.graph import InGraph


class _TensorType(type):
    """The type of Tensor.  Its elementwise methods are compiled: they exist once the engine runs, which asking for one starts."""

    def __getattr__(cls, name):
        from tapegrad import install

        if not core.started() and name in install.method_names():
            core.start()
            return getattr(cls, name)
        raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")

    def __dir__(cls):
        core.start()
        return super().__dir__()


def _optional(name, writable=True):
    """A property that reads a slot of the object, None while it is not set."""
    def get(self):
        try:
            return getattr(self, name)
        except AttributeError:
            return None

    def refuse(self, value):
        raise AttributeError(f"attribute '{name.removesuffix('_object')}' of '{type(self).__name__}' objects is not writable")

    return property(get, (lambda self, value: setattr(self, name, value)) if writable else refuse)


class Tensor(Attributes, InGraph, Conversions, metaclass=_TensorType):
    """A multi-dimensional array that records what is done with it.  Made by `tapegrad.tensor`, `zeros` and their kind."""

    __module__ = "tapegrad"
    __slots__ = ("_grad_object", "_base_object", "_parent_object", "_plan_object", "_hooks_dict", "_post_hooks_dict", "__weakref__", "__dict__")

    def __new__(cls, *args, **kwargs):
        if args or kwargs or cls is Tensor:
            from tapegrad import legacy

            return legacy.construct(cls, args, kwargs)
        return Handle.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        """Call `func`, a public function or method, whose arguments include tensors of this class: its results are of the class too.

        A subclass may have another; see `tapegrad.overrides`.
        """
        return overriding.default(cls, func, types, args, kwargs)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if overriding.overrides(cls):
            overriding.hang(cls)

    # --- what only Python knows; unset slots read as None -----------------------------------------------------------
    _level = None  # of a transform that follows the tensor (transforms/wrappers.py)
    _base = _optional("_base_object", writable=False)
    _parent = _optional("_parent_object")
    _plan = _optional("_plan_object")
    _hooks = _optional("_hooks_dict")
    _post_hooks = _optional("_post_hooks_dict")
    _grad_held = _optional("_grad_object")

    # --- the Python protocol --------------------------------------------------------------------------------------------
    def __repr__(self, *, tensor_contents=None):
        if ACTIVE:
            from tapegrad.transforms import showing

            return showing.text(self)
        return self._text(tensor_contents)

    def _text(self, tensor_contents=None):
        from tapegrad import printing

        try:
            node = self.grad_fn
            name = node.name() if node is not None else None
        except RuntimeError:  # a view that must not be used any more
            node, name = self, "Invalid"
        from tapegrad.nn_parameter import Parameter

        kind = type(self)
        text = printing.format_tensor(
            self._values(), dtype=self.dtype.name, default_dtype=dtypes.default_dtype().name, requires_grad=self.requires_grad and node is None,
            grad_fn=name.removeprefix("tapegrad::autograd::") if name else None, tensor_contents=tensor_contents,
            prefix="tensor(" if kind in (Tensor, Parameter) else f"{kind.__name__}(",
        )
        return f"Parameter({text})" if isinstance(self, Parameter) and kind is not Parameter else text

    def __str__(self):
        return repr(self)

    def __format__(self, spec):
        if self.ndim == 0 and (type(self) is Tensor or self._level is not None):
            return format(self.item(), spec)
        return object.__format__(self, spec) if not spec else self._refuse_format(spec)

    def _refuse_format(self, spec):
        raise TypeError(f"unsupported format string passed to {type(self).__name__}.__format__")

    def __len__(self):
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def __iter__(self):
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __contains__(self, element):
        if not isinstance(element, (Handle, numbers.Number)):
            raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}.")
        return (self == element).any().item()

    def __hash__(self):
        return id(self)

    def __reversed__(self):
        return self.flip(0) if self.ndim else self

    def __copy__(self):
        from tapegrad import copying

        return copying.shallow(self)

    def __deepcopy__(self, memo):
        from tapegrad import copying

        return copying.deep(self, memo)

    def __reduce_ex__(self, protocol):
        from tapegrad import copying

        return copying.reduced(self)

    def __dir__(self):
        return sorted({*object.__dir__(self)} - {*Tensor.__slots__})


overriding.QUIET.add(Tensor)

for _part in (Attributes, InGraph, Conversions):
    close(_part)
