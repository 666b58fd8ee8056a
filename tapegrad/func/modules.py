"""Calling a module with other parameters than its own, and stacking the parameters of several modules.

A module is any callable object with `named_parameters` and `named_buffers`, whose names are attribute paths.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from tapegrad.tensor import Tensor


def functional_call(module: Any, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: dict[str, Any] | None = None, *,
                    tie_weights: bool = True, strict: bool = False) -> Any:
    """Call `module` with the parameters and buffers of a dict (or of several, with distinct names) in place of its own.

    args: a tuple of arguments, or a single one.  tie_weights: a tensor that the module has under several names is replaced under all of
    them.  strict: the names must be exactly the module's.  A buffer that the call assigns goes into the dict.

    >>> import tapegrad as tg
    >>> m = tg.nn.Linear(2, 1)
    >>> tg.func.functional_call(m, {"weight": tg.ones(1, 2), "bias": tg.zeros(1)}, tg.ones(1, 2))
    tensor([[2.]])
    """
    if isinstance(parameter_and_buffer_dicts, dict):
        given = parameter_and_buffer_dicts
    elif isinstance(parameter_and_buffer_dicts, Sequence):
        if not all(isinstance(d, dict) for d in parameter_and_buffer_dicts):
            raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
        names = [name for d in parameter_and_buffer_dicts for name in d]
        repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if repeated:
            raise ValueError(f"{repeated} appeared in multiple dictionaries; behavior of functional call is ambiguous")
        given = {name: t for d in parameter_and_buffer_dicts for name, t in d.items()}
    else:
        raise ValueError(
            f"Expected parameter_and_buffer_dicts to be a dict, or a list/tuple of dicts, but got {type(parameter_and_buffer_dicts)}"
        )
    return call_with(module, given, args, kwargs, tie_weights, strict)


def call_with(module, given: dict, args, kwargs, tie_weights: bool, strict: bool):
    """`module(*args, **kwargs)` with the tensors of `given` in place of its own; buffers that the call assigns are put into `given`."""
    arguments = () if args is None else args if isinstance(args, tuple) else (args,)
    with _with_parameters(module, given, tie_weights, strict):
        return module(*arguments, **(kwargs or {}))


def _all_names(module) -> dict[str, Tensor]:
    """Every name of a parameter or buffer, names of shared ones included."""
    found: dict[str, Tensor] = {}
    for listed in (module.named_parameters, module.named_buffers):
        try:
            found.update(listed(remove_duplicate=False))
        except TypeError:
            found.update(listed())
    return found


def _tied(given: dict, names: dict[str, Tensor]) -> dict:
    """`given` with what it gives to one name of a tensor given to all its names."""
    groups: dict[int, list[str]] = {}
    for name, t in names.items():
        groups.setdefault(id(t), []).append(name)
    result = dict(given)
    for group in groups.values():
        values = {id(given[name]): given[name] for name in group if name in given}
        if len(values) > 1:
            raise ValueError(
                "functional_call got multiple values for keys " + str(sorted(name for name in group if name in given)) + ", which are tied. "
                "Consider using tie_weights=False"
            )
        for value in values.values():
            result.update(dict.fromkeys(group, value))
    return result


_ABSENT = object()


def _place(module, path: str) -> tuple[dict, str]:
    """The dict and the key in it of the tensor with this dotted name; a new name is an attribute."""
    *owners, last = path.split(".")
    for part in owners:
        module = getattr(module, part)
    for held in (getattr(module, "_parameters", {}), getattr(module, "_buffers", {})):
        if last in held:
            return held, last
    return vars(module), last


@contextlib.contextmanager
def _with_parameters(module, given: dict, tie_weights: bool, strict: bool) -> Iterator[None]:
    names = _all_names(module)
    values = _tied(given, names) if tie_weights else dict(given)
    if strict:
        listed = lambda keys: ", ".join(f"'{key}'" for key in sorted(keys))
        unexpected, missing = set(values) - set(names), set(names) - set(values)
        problems = [f"{what} key(s): {listed(keys)}." for what, keys in (("Unexpected", unexpected), ("Missing", missing)) if keys]
        if problems:
            raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}:\n\t" + "\n\t".join(problems))
    kept: list = []
    try:
        for name, value in values.items():
            if value is not None and not isinstance(value, Tensor):
                raise TypeError(f"{value} is not an instance of tapegrad.Tensor")
            place, last = _place(module, name)
            kept.append((name, place, last, place.get(last, _ABSENT)))
            place[last] = value
        yield
    finally:
        for name, place, last, before in reversed(kept):
            assigned = place.pop(last, _ABSENT) if before is _ABSENT else place[last]
            if before is not _ABSENT:
                place[last] = before
            if name in given and assigned is not _ABSENT:
                given[name] = assigned


def stack_module_state(models: Sequence) -> tuple[dict[str, Any], dict[str, Any]]:
    """(parameters, buffers) of several modules of one class, each name's tensors stacked, ready for `vmap` over `functional_call`.

    Stacked parameters are new leaves.
    """
    if not len(models):
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if not (all(m.training for m in models) or all(not m.training for m in models)):
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if not all(type(m) is type(models[0]) for m in models):
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    return _stacked([dict(m.named_parameters()) for m in models]), _stacked([dict(m.named_buffers()) for m in models])


def _stacked(states: list[dict]) -> dict[str, Any]:
    from tapegrad.ops.joining import stack

    result = {}
    for name in states[0]:
        tensors = [state[name] for state in states]
        wanted = [t.requires_grad for t in tensors]
        if any(wanted) and not all(wanted):
            raise RuntimeError(f"Expected {name} from each model to have the same .requires_grad")
        whole = stack(tensors)
        result[name] = whole.detach().requires_grad_() if all(wanted) else whole
    return result
