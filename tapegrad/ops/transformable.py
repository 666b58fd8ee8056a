"""Where transforms (vmap, forward mode) step into an operation.

A tensor that a transform follows is a `Wrapper` (`transforms/wrappers.py`) and has a level.  A function made `transformable` looks for
such operands while any level is alive, and hands the call to the highest one found.  Its level then uses, in this order:

    batch       the op's own rule: `batch(level, f, *args, **kwargs)` computes the op over a batch (vmap only)
    linear      the names of parameters in each of which the op is linear (or a function of the arguments that tells them): the tangent is
                the op on the tangent (forward mode only); CONSTANT for what has no tangent, and is made of values alone
    the body    run on the wrapped operands as it is: right for whatever is composed of other transformable functions
    a fallback  when the body turns out to need memory, which a wrapper has not (`Unhandled`): a loop over the batch, or the
                transpose of the recorded derivative

So a new op needs no rule to be right, and one to be fast.  While no level is alive the price is one look at an empty list.
"""

from __future__ import annotations

import functools

from tapegrad.ops.arguments import checker
from tapegrad.overriding import ARMED, BY_BODY, met, overrides, state, taken

CONSTANT = ("",)  # as `linear`: nothing depends on the elements of the tensors, only on what they are
ACTIVE: list = []  # the levels that are alive, of all threads
POSTPONED: list = []  # `postponed.called`, once there has been a tensor whose conjugation or negation is postponed (`ops/postponed.py`)
VIEWS = frozenset(  # what lets such a tensor pass as it is
    "view reshape flatten ravel unflatten view_as reshape_as unsqueeze squeeze expand expand_as broadcast_to broadcast_tensors t transpose "
    "permute movedim moveaxis swapaxes swapdims select narrow split split_with_sizes chunk unbind tensor_split hsplit vsplit dsplit diagonal unfold "
    "as_strided atleast_1d atleast_2d atleast_3d meshgrid conj _neg_view resolve_conj resolve_neg is_conj is_neg real imag view_as_real "
    "view_as_complex adjoint clone contiguous copy_ positive __pos__ t_ transpose_ swapaxes_ swapdims_ squeeze_ unsqueeze_ as_strided_ "
    "__getitem__ resize_ set_ is_set_to storage untyped_storage is_complex is_floating_point is_inference is_same_size is_tensor numel "
    "is_pinned is_shared as_tensor asarray from_dlpack empty_like zeros_like ones_like full_like rand_like randn_like randint_like new_empty new_full new_ones new_zeros "
    "new_empty_strided".split()
)


class Unhandled(Exception):
    """Memory was asked of a tensor that a transform follows: the caller's level takes over."""


def level_of(values):
    """The highest level among tensors, None if no transform follows any of them."""
    found = None
    for value in values:
        level = getattr(value, "_level", None)
        if level is not None and (found is None or level.depth > found.depth):
            found = level
    return found


def level_in(values):
    """`level_of` for arguments: looks into tuples, lists, dicts and slices too."""
    found = None
    for value in values:
        level = getattr(value, "_level", None)
        if level is None:
            kind = type(value)
            if kind is slice:
                level = level_in((value.start, value.stop, value.step))
            elif isinstance(value, (tuple, list)):
                level = level_in(value)
            elif kind is dict:
                level = level_in(value.values())
            else:
                continue
        if level is not None and (found is None or level.depth > found.depth):
            found = level
    return found


def plain(t):
    """The tensor with memory below the wrappers of all levels."""
    while t._level is not None:
        t = t._value
    return t


def look_at(name: str, *args, **kwargs) -> None:
    """Refuse arguments that fit none of the forms of the function `name`, which torch calls with them at this place."""
    look = checker(name, False)
    assert look is not None, name
    look(args, kwargs)


def entrance(f, bare, name: str, method: bool, path: str):
    """The Python form of a public function: who overrides it is asked, then its arguments are looked at, then `f` runs.

    While a transform is on or something is postponed `bare` runs, which sees to them.  Types of positional arguments that nothing overrides
    and that are known to fit a form are remembered: the next call with them goes straight on.  `name` leads to its forms, `path` is where the
    public has it.
    """
    asked = name not in BY_BODY
    straight: set[tuple] = set()

    @functools.wraps(f)
    def run(*args, **kwargs):
        types = args and (type(args[0]) if len(args) == 1 else (*map(type, args),))
        if kwargs or types not in straight or (ARMED and state.modes):
            found = met(args if asked else (), kwargs)
            if found is not None:
                return taken(path, method, found, args, kwargs)
            look = checker(name, method)
            if look is not None:
                given, positional = args, not kwargs
                args, kwargs = look(args, kwargs)
                if positional and (kinds := (*map(type, given),)) in look.passed and not any(map(overrides, kinds)):
                    straight.add(types)
        return bare(*args, **kwargs) if ACTIVE or POSTPONED else f(*args, **kwargs)

    run.__name__ = run.__qualname__ = path.rpartition(".")[2]
    return run


def checked(name: str, method: bool = False):
    """Let a function that is not transformable refuse arguments that fit none of the forms of `name`."""
    return lambda f: entrance(f, f, name, method, name)


def checked_in_nn(name: str):
    """The same for a function of `nn.functional`, whose forms may be those of another name."""
    return lambda f: entrance(f, f, name, False, "nn.functional." + f.__name__)


def under_name(f, name: str):
    """The function under a public name whose errors it does not know: they are found again when `f` has refused the arguments."""

    @functools.wraps(f)
    def run(*args, **kwargs):
        try:
            if kwargs and not args and "input" in kwargs:  # of a method
                return f(kwargs["input"], **{k: v for k, v in kwargs.items() if k != "input"})
            return f(*args, **kwargs)
        except (TypeError, AttributeError):
            look_at(name, *args, **kwargs)
            raise

    run.__name__ = run.__qualname__ = name.rpartition(".")[2]
    run.__module__ = module_of(name)
    return run


def module_of(name: str) -> str:
    """The module in which the public has a function: where pickles find it."""
    return ".".join(("tapegrad", *name.split(".")[:-1]))


def transformable(batch=None, linear=(), writes=False, name="", method=False):
    """Let transforms step in: see the module's text for `batch` and `linear`; `writes` marks in-place methods.

    The public function or method `name` refuses arguments that fit none of its forms (`ops/arguments.py`).
    """

    passes = name in VIEWS

    def decorate(f):
        @functools.wraps(f)
        def bare(*args, **kwargs):
            if ACTIVE:
                level = level_in(args)
                if kwargs:
                    other = level_in(kwargs.values())
                    level = other if level is None or (other is not None and other.depth > level.depth) else level
                if level is not None:
                    return level.call(bare, args, kwargs)
            if POSTPONED and not passes:
                return POSTPONED[0](f, writes, args, kwargs)
            return f(*args, **kwargs)

        run = entrance(f, bare, name, method, name)
        for public in (bare, run):
            public.writes, public.public = writes, (name, method)
            public.batch, public.linear = batch, (linear,) if isinstance(linear, str) else linear
        return run if name else bare  # levels call the one that does not look: their rules give parameters that a method has not

    return decorate
