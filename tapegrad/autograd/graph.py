"""The graph as a thing to look at and to hook into: nodes, edges, hooks on saved tensors and on several gradients at once."""

from __future__ import annotations

import weakref
from collections import namedtuple

from tapegrad import core, modes
from tapegrad.autograd import leaf_node, saved, underway
from tapegrad.autograd import node as nodes
from tapegrad.autograd.function import FunctionCtx
from tapegrad.autograd.hooks import RemovableHandle

__all__ = [
    "GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "get_gradient_edge", "increment_version",
    "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks",
]  # fmt: skip


class _NodeType(type):
    def __instancecheck__(cls, instance):
        return isinstance(instance, (nodes.Node, leaf_node.AccumulateGrad, FunctionCtx))

    def __subclasscheck__(cls, kind):
        return kind is cls or issubclass(kind, (nodes.Node, leaf_node.AccumulateGrad, FunctionCtx))


class Node(metaclass=_NodeType):
    """What `grad_fn` and its `next_functions` are: a name for isinstance, no class to make objects of."""


class GradientEdge(namedtuple("GradientEdge", ["node", "output_nr", "ownership_token"], defaults=[None])):
    """Where a gradient is computed: a node and the number of its output.  `autograd.grad` and `backward` take it for the tensor."""


def get_gradient_edge(tensor) -> GradientEdge:
    """The edge on which the gradient of `tensor` arrives; `tensor` must require grad."""
    if not tensor.requires_grad:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    slot = tensor._settle()
    edge = GradientEdge(nodes.gradient_node(slot), tensor.output_nr)
    edge._reference = leaf_node.SlotReference(slot)
    return edge


def edge_slot(edge: GradientEdge) -> int:
    """The slot whose gradient arrives on `edge`; 0 if nothing can send one there any more."""
    if isinstance(edge.node, leaf_node.AccumulateGrad):
        return edge.node._reference._slot
    e = edge.node._entry
    return core.operand_slot(e, core.entry_field(e, core.ENTRY_INPUTS) + edge.output_nr)


def increment_version(tensor) -> None:
    """Tell autograd that the values of `tensor` (or of each tensor of an iterable) were changed behind its back."""
    from tapegrad.tensor import Tensor

    for t in (tensor,) if isinstance(tensor, Tensor) else tensor:
        core.bump_version(t._slot, 1)


# --- saved tensors ----------------------------------------------------------------------------------------------------
class saved_tensors_hooks:
    """While active, what an operation saves for its derivative is `pack_hook(tensor)`, and `unpack_hook` of that is what it reads.

    The innermost pair counts.  `pack_hook` may return anything but must not change its argument; a `pack_hook` that returns its argument
    keeps an output of the operation, and with it the graph, alive: return `tensor.detach()`.

    >>> import tapegrad as tg
    >>> x = tg.tensor([1., 2.], requires_grad=True)
    >>> with tg.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(force=True), tg.from_numpy):
    ...     y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 4.])
    """

    def __init__(self, pack_hook, unpack_hook):
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self):
        if not callable(self.pack_hook) or not callable(self.unpack_hook):
            raise TypeError("saved_tensors_hooks(): incompatible function arguments: pack_hook and unpack_hook must be callable")
        saved.push_hooks(self.pack_hook, self.unpack_hook)

    def __exit__(self, *exception):
        saved.pop_hooks()


class save_on_cpu(saved_tensors_hooks):
    """Keep saved tensors in CPU memory.  All tensors are there: with `pin_memory` a copy is kept, without it the tensor's memory."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda"):
        if not isinstance(device_type, str):
            raise TypeError(f"attribute name must be string, not '{type(device_type).__name__}'")
        super().__init__(lambda tensor: tensor.detach().clone() if pin_memory else tensor.detach(), lambda packed: packed)


class disable_saved_tensors_hooks:
    """While active, setting default hooks raises a RuntimeError with `error_message`.  Also a decorator."""

    def __init__(self, error_message: str):
        self.error_message = error_message
        self._before: list = []

    def __enter__(self):
        before = saved.refuse_hooks(self.error_message)
        self._before.append(before)

    def __exit__(self, *exception):
        saved.refuse_hooks(self._before.pop(), even_active=False)

    def __call__(self, function):
        import functools

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            with type(self)(self.error_message):
                return function(*args, **kwargs)

        return wrapper


class _Handle:
    """Stands on the tape for a saved tensor."""

    __slots__ = ("__weakref__",)


class _Mutation:
    """What `allow_mutation_on_saved_tensors` hands out: the tensors saved under it, and copies of those that were overwritten since."""

    def __init__(self):
        self.original: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # handle -> the tensor as it is
        self.cloned: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # handle -> its copy
        self.tid_to_weakhandle: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # memory, layout and version -> handle
        self.open = True

    def pack(self, tensor):
        slot = tensor._slot
        key = (core.data_of(slot), core.get_field(slot, core.GEOMETRY), core.get_field(slot, core.DTYPE), core.version_of(slot))
        handle = self.tid_to_weakhandle.get(key)
        if handle is None or handle in self.cloned:
            handle = self.tid_to_weakhandle[key] = _Handle()
            self.original[handle] = tensor.detach()
        return handle

    def unpack(self, handle):
        if not self.open:
            raise AssertionError(
                "Trying to backward outside of the 'allow_mutation_on_saved_tensors' contextin which the graph was originally recorded."
            )
        return self.cloned[handle] if handle in self.cloned else self.original[handle]

    def before_write(self, buffer: int) -> None:
        """The memory `buffer` is about to change."""
        for handle, tensor in list(self.original.items()):
            if core.get_field(tensor._slot, core.BUFFER) == buffer:
                with modes.no_grad():
                    self.cloned[handle] = tensor.clone()
                del self.original[handle]

    def clear(self):
        self.original.clear()
        self.cloned.clear()


_mutations: list[_Mutation] = []


class allow_mutation_on_saved_tensors:
    """While active, in-place operations may overwrite saved tensors: their values are copied first.  The backward pass must run inside.

    >>> import tapegrad as tg
    >>> x = tg.ones(2, requires_grad=True)
    >>> with tg.autograd.graph.allow_mutation_on_saved_tensors():
    ...     y = x.exp()
    ...     z = y.sin()
    ...     _ = y.mul_(2)
    ...     z.sum().backward()
    """

    def __enter__(self):
        if _mutations:
            raise RuntimeError("allow_mutation_on_saved_tensors contexts cannot be nested")
        self._context = _Mutation()
        saved.push_hooks(self._context.pack, self._context.unpack)
        _mutations.append(self._context)
        return self._context

    def __exit__(self, *exception):
        _mutations.pop()
        saved.pop_hooks()
        self._context.open = False
        self._context.clear()


def before_write(target) -> None:
    """An in-place operation is about to overwrite `target`."""
    buffer = core.get_field(target._slot, core.BUFFER)
    for context in _mutations:
        context.before_write(buffer)


# --- hooks on several tensors -----------------------------------------------------------------------------------------
class _MultiHandle(RemovableHandle):
    """Several handles as one."""

    def __init__(self, handles):
        self.handles = tuple(handles)

    def remove(self):
        for handle in self.handles:
            handle.remove()


def register_multi_grad_hook(tensors, fn, *, mode="all"):
    """Call `fn` when the gradients of `tensors` are known.

    mode "all": once per backward, when the last gradient that the pass computes has come, with one gradient per tensor (None where
    there is none).  mode "any": with the first gradient that comes.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    tensors = tuple(tensors)
    if mode == "any":
        tensors = tuple(t for t in tensors if t.requires_grad)
    elif not all(t.requires_grad for t in tensors):
        raise AssertionError("Expected gradient function to be set")
    own = _Pass()

    def hook_of(k):
        def collect(grad):
            own.enter(k)
            own.grads[k] = grad
            if mode == "any":
                if len(own.grads) == 1:
                    fn(grad)
            elif not any(j not in own.grads and (underway.will_run(t._slot) or j > k and t is tensors[k]) for j, t in enumerate(tensors)):
                grads = [own.grads.get(j) for j in range(len(tensors))]
                own.grads = {}
                fn(grads)

        return collect

    return _MultiHandle(t.register_hook(hook_of(k)) for k, t in enumerate(tensors))


class _Pass:
    """The gradients that the backward pass under way has brought so far."""

    def __init__(self):
        self.task, self.grads = -1, {}

    def enter(self, k):
        task = underway.current_task()
        if task != self.task or k in self.grads:
            self.grads = {}
        self.task = task
