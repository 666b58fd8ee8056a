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
    them.  strict: the names must be exactly the module's.
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
    with _with_parameters(module, dict(given), tie_weights, strict):
        arguments = () if args is None else args if isinstance(args, tuple) else (args,)
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
    groups: dict[int, list[str]] = {}
    for name, t in names.items():
        groups.setdefault(id(t), []).append(name)
    result = dict(given)
    for group in groups.values():
        values = {id(given[name]): given[name] for name in group if name in given}
        if len(group) > 1 and len(values) > 1:
            raise ValueError(
                "functional_call got multiple values for keys " + str(sorted(name for name in group if name in given)) + ", which are tied. "
                "Consider using tie_weights=False"
            )
        for value in values.values():
            result.update({name: value for name in group if name not in given})
    return result


@contextlib.contextmanager
def _with_parameters(module, given: dict, tie_weights: bool, strict: bool) -> Iterator[None]:
    names = _all_names(module)
    values = _tied(given, names) if tie_weights else given
    if strict:
        missing, unexpected = sorted(set(names) - set(values)), sorted(set(values) - set(names))
        texts = []
        if unexpected:
            texts.append(f"Unexpected key(s): {', '.join(unexpected)}.")
        if missing:
            texts.append(f"Missing key(s): {', '.join(missing)}.")
        if texts:
            raise RuntimeError(f"Error(s) in reparametrizing for {type(module).__name__}:\n\t" + "\n\t".join(texts))
    kept: list = []
    try:
        for name, value in values.items():
            if name not in names:
                continue
            path, _, last = name.rpartition(".")
            owner = module
            for part in path.split(".") if path else ():
                owner = getattr(owner, part)
            place = next((d for d in (getattr(owner, "_parameters", None), getattr(owner, "_buffers", None)) if d is not None and last in d), None)
            place = vars(owner) if place is None else place
            kept.append((place, last, place[last]))
            place[last] = value
        yield
        for (place, last, _), name in zip(kept, [n for n in values if n in names], strict=True):
            if name in given:
                given[name] = place[last]
    finally:
        for place, last, before in reversed(kept):
            place[last] = before


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
