"""Owns the plain twins of the loops of structural ops: each kernel text, run by the interpreter, does what its machine code does."""

import ctypes
import functools

import numpy as np
import pytest
from support import derivatives, outputs_of, random_arrays
from test_structural import CASES

import tapegrad as tg
from tapegrad.engine.native import plain
from tapegrad.ops import loops, moves, picks, rows
from tapegrad.ops import plan as plans

SIGNATURE = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def forget_kernels():
    plans.forget()
    for module in (loops, moves, picks, rows):
        for function in vars(module).values():
            if isinstance(function, functools._lru_cache_wrapper):
                function.cache_clear()


@pytest.fixture
def interpreted(monkeypatch):
    """Plans made from here on call kernels that the interpreter runs; a list of what they are, and of what went wrong in them."""
    made, errors = [], []

    def compiled(text, dtype, result, reassociate=False, extra=()):
        kernel = plain.kernel(text, dtype.name, result.name, extra)

        def run(args, start, stop):
            try:
                kernel(args, start, stop)
            except Exception as error:  # it cannot pass through compiled code
                errors.append(error)

        made.append(SIGNATURE(run))
        return ctypes.cast(made[-1], ctypes.c_void_p).value

    forget_kernels()
    monkeypatch.setattr(loops, "compiled", compiled)
    yield made, errors
    forget_kernels()


def results(f, arrays, weights):
    values, _, gradients, _ = derivatives(tg, f, arrays, weights, [], second=False)
    return [*values, *(g for g in gradients or () if g is not None)]


@pytest.mark.parametrize("name", CASES)
def test_interpreted_loops_agree_with_compiled_ones(name, rng, interpreted, monkeypatch):
    f, shapes = CASES[name]
    arrays = random_arrays(shapes, rng)
    made, errors = interpreted
    weights = [rng.uniform(-1, 1, tuple(t.shape)) for t in outputs_of(f(tg, *[tg.tensor(a) for a in arrays]))]
    found = results(f, arrays, weights)
    assert not errors, errors
    monkeypatch.undo()
    forget_kernels()
    for a, b in zip(found, results(f, arrays, weights), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14)


def test_the_table_reaches_the_loops(rng, interpreted):
    made, errors = interpreted
    for name in ("sum", "softmax", "matmul", "cumsum", "max dim"):
        f, shapes = CASES[name]
        f(tg, *[tg.tensor(a) for a in random_arrays(shapes, rng)])
    assert len(made) >= 5 and not errors
