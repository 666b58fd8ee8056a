"""Calling a module with other tensors in the place of its parameters and buffers."""

from __future__ import annotations

import contextlib

from tapegrad.nn.modules.module import Module
from tapegrad.nn.parameter import Parameter
from tapegrad.tensor import Tensor


def _places(module) -> dict:
    """Dotted name -> (owner's dict, name) of every parameter and buffer, those with two names under both."""
    result = {}
    for path, child in module.named_modules(remove_duplicate=False):
        for held in (child._parameters, child._buffers):
            for name in held:
                result[(path + "." if path else "") + name] = (held, name)
    return result


@contextlib.contextmanager
def swapped(module, given, tie_weights=True, strict=False):
    """The module with the tensors of `given` (dotted name -> tensor) in place of its own, as long as the context lasts."""
    places = _places(module)
    unexpected = [key for key in given if key not in places]
    if strict:
        missing = [key for key, (held, name) in places.items() if held[name] is not None and key not in given]
        problems = []
        if unexpected:
            problems.append(f"Unexpected key(s): {', '.join(unexpected)}.")
        if missing:
            problems.append(f"Missing key(s): {', '.join(missing)}.")
        if problems:
            raise RuntimeError(f"Error(s) in swapping tensors for {type(module).__name__}:\n\t" + "\n\t".join(problems))
    elif unexpected:
        path, _, name = unexpected[0].rpartition(".")
        owner = module.get_submodule(path)
        raise AttributeError(f"{type(owner).__name__} has no attribute `{name}`")
    chosen = dict(given)
    if tie_weights:
        by_tensor: dict[int, list] = {}
        for key, (held, name) in places.items():
            if held[name] is not None:
                by_tensor.setdefault(id(held[name]), []).append(key)
        for names in by_tensor.values():
            values = {id(given[n]): given[n] for n in names if n in given}
            if len(values) > 1:
                raise ValueError(f"functional_call got multiple values for keys {sorted(n for n in names if n in given)}, which are tied. "
                                 "Consider using tie_weights=False")
            for n in names if values else ():
                chosen[n] = next(iter(values.values()))
    before = {}
    for key, value in chosen.items():
        if value is not None and not isinstance(value, Tensor):
            raise TypeError(f"{value} is not an instance of tapegrad.Tensor")
        held, name = places[key]
        before[key] = held[name]
        held[name] = value
    try:
        yield
    finally:
        for key, value in before.items():
            held, name = places[key]
            if isinstance(given, dict) and held[name] is not chosen[key] and key in given and not isinstance(held[name], Parameter):
                given[key] = held[name]  # the call has assigned another tensor
            held[name] = value


def functional_call(module, parameter_and_buffer_dicts, args=None, kwargs=None, *, tie_weights=True, strict=False):
    """`module(*args, **kwargs)` computed with the tensors of a dict (or several) in place of its parameters and buffers.

    >>> import tapegrad as tg
    >>> m = tg.nn.Linear(2, 1)
    >>> functional_call(m, {"weight": tg.ones(1, 2), "bias": tg.zeros(1)}, tg.ones(1, 2))
    tensor([[2.]])
    """
    if not isinstance(module, Module):
        raise AssertionError("module must be an nn.Module")
    given = parameter_and_buffer_dicts
    if not isinstance(given, dict):
        if not isinstance(given, (list, tuple)) or not all(isinstance(d, dict) for d in given):
            raise ValueError("Expected all elements of parameter_and_buffer_dicts to be dictionaries")
        keys = [key for d in given for key in d]
        repeated = [key for key in keys if keys.count(key) > 1]
        if repeated:
            raise ValueError(f"{repeated} appeared in multiple dictionaries; behavior of functional call is ambiguous")
        given = {key: value for d in given for key, value in d.items()}
    if args is None:
        args = ()
    elif not isinstance(args, tuple):
        args = (args,)
    with swapped(module, given, tie_weights, strict):
        return module(*args, **(kwargs or {}))
