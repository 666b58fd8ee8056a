"""Owns the check that the call cache answers as Python would when something around the call has changed since it was taught.

Each program is called until the cache answers it, then under other circumstances: other values, memory, gradients, modes, operands that are
the same, other numbers.  The outcome must be that of a call that nothing was taught before.
"""

from __future__ import annotations

import contextlib
import enum
import warnings

import numpy as np
import pytest
from test_chains import PROGRAMS, described, gradients

import tapegrad as tg
from tapegrad.nn import functional
from tapegrad.ops import plan as plans

MORE = {
    "as_strided": lambda x, y, v: x.as_strided((2, 3), (4, 1)), "as_strided further on": lambda x, y, v: v.as_strided((2,), (2,), 1),
    "view as a dtype": lambda x, y, v: v.view(tg.int32), "view_as_complex": lambda x, y, v: tg.view_as_real(tg.view_as_complex(v.view(2, 2))),
    "unsafe_split": lambda x, y, v: x.unsafe_split(2), "unsafe_chunk": lambda x, y, v: x.unsafe_chunk(2, 1), "contiguous": lambda x, y, v: x.contiguous(),
    "bce": lambda x, y, v: functional.binary_cross_entropy(x, y), "bce each": lambda x, y, v: functional.binary_cross_entropy(x, y, reduction="none"),
    "cholesky": lambda x, y, v: tg.linalg.cholesky(x @ y), "solve": lambda x, y, v: tg.linalg.solve(x, v), "det": lambda x, y, v: tg.linalg.det(x),
    "log_softmax": lambda x, y, v: x.log_softmax(1), "cumprod": lambda x, y, v: x.cumprod(0), "prod": lambda x, y, v: v.prod(), "std": lambda x, y, v: x.std(0),
    "gather": lambda x, y, v: x.gather(1, (y > 0.5).long()), "mask": lambda x, y, v: x[x > 0.5], "where": lambda x, y, v: tg.where(x > y, x, 0.5),
    "number first": lambda x, y, v: tg.where(x > y, 0.5, x),
    "masked_fill": lambda x, y, v: x.masked_fill(y > 0.5, 2.0), "clamp by tensors": lambda x, y, v: x.clamp(y, y), "lerp": lambda x, y, v: x.lerp(y, 0.25),
    "add": lambda x, y, v: tg.add(x, y, alpha=2), "zeros": lambda x, y, v: tg.zeros(2), "tensor": lambda x, y, v: tg.tensor([0.5]), "arange": lambda x, y, v: tg.arange(2.0),
    "zeros_like": lambda x, y, v: tg.zeros_like(x), "full_like": lambda x, y, v: tg.full_like(v, 2.0), "new_full": lambda x, y, v: v.new_full((2,), 3.0),
    "eye": lambda x, y, v: tg.eye(2), "linspace": lambda x, y, v: tg.linspace(0, 1, 3), "new_full of a tensor": lambda x, y, v: v.new_full((2,), v[0].detach()),
    "arange to a tensor": lambda x, y, v: tg.arange(2 + (v[0] > 0.2)), "repeat_interleave": lambda x, y, v: v.repeat_interleave((v > 0.35).long() + 1),
    "one_hot": lambda x, y, v: functional.one_hot((v.abs() * 4).long()),
    "slice by a tensor": lambda x, y, v: x[(v[0] > 0.2).long() :], "select by a tensor": lambda x, y, v: x[(v[0] > 0.2).long()], "unbind": lambda x, y, v: x.unbind(1),
    "layer_norm": lambda x, y, v: functional.layer_norm(x, (4,)), "pad": lambda x, y, v: functional.pad(x, (1, 1), value=0.5), "to": lambda x, y, v: x.to(tg.int64),
    "write": lambda x, y, v: x.detach().clone().copy_(y), "write of a part": lambda x, y, v: x.detach().clone()[1:].fill_(2.0), "mse": lambda x, y, v: functional.mse_loss(x, y),
    "embedding": lambda x, y, v: functional.embedding((v > 0.35).long(), x), "index_add": lambda x, y, v: x.index_add(0, (v > 0.35).long(), y),
}  # fmt: skip
ALL = {**PROGRAMS, **MORE}


def square(values):
    return tg.tensor(values, dtype=tg.float64).reshape(4, 4)


def operands(case: str):
    """x and y (4, 4) and v (4,), of the same geometries in every case."""
    x, y, v = np.arange(16) / 20 + 0.1, np.arange(16) * 7 % 11 / 11 + 0.05, np.array([0.3, 0.1, 0.8, 0.4])
    if case == "values":
        x, y, v = 0.9 - x[::-1], y[::-1] * 1.5, v[::-1] * 0.5
    elif case == "negative":
        x, y, v = -x, -y, -v
    elif case == "special":
        x, y, v = np.zeros(16), np.full(16, np.nan), np.full(4, -0.0)
    elif case == "memory":
        made = []
        for a, shape in ((x, (4, 4)), (y, (4, 4)), (v, (4,))):
            whole = tg.zeros(a.size + 1, dtype=tg.float64)
            whole[1:] = tg.tensor(a)
            made.append(whole[1:].view(shape))
        return made
    made = [square(x), square(y), tg.tensor(v, dtype=tg.float64)]
    if case == "same":
        made[1] = made[0]
    elif case == "overlapping":
        made[1] = made[0].view(4, 4)
    return [t.requires_grad_() if case in ("gradients", "no_grad") else t for t in made]


@contextlib.contextmanager
def default_dtype():
    tg.set_default_dtype(tg.float64)
    try:
        yield
    finally:
        tg.set_default_dtype(tg.float32)


@contextlib.contextmanager
def deterministic():
    tg.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        tg.use_deterministic_algorithms(False)


MODES = {"no_grad": tg.no_grad, "inference": tg.inference_mode, "default dtype": default_dtype, "deterministic": deterministic,
         "anomaly": tg.autograd.set_detect_anomaly}  # fmt: skip
CASES = ["values", "negative", "special", "memory", "same", "overlapping", "gradients", *MODES, "plain"]


def outcome(program, case: str):
    inputs = operands(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with MODES[case](True) if case == "anomaly" else MODES.get(case, contextlib.nullcontext)():
                result = program(*inputs)
        except (RuntimeError, IndexError, ValueError) as error:
            return type(error), str(error)
        found = repr(described(result, inputs))  # in which a NaN is a NaN, and -0.0 is not 0.0
        if case == "gradients" and any(r.requires_grad for r in (result if isinstance(result, tuple) else (result,))):
            found += repr(gradients(result, inputs))
    return found


@pytest.mark.parametrize("name", ALL)
def test_answered_as_if_nothing_had_been_taught(name):
    program, wanted = ALL[name], {}
    for case in CASES:
        plans.forget()
        wanted[case] = outcome(program, case)
    plans.forget()
    for _ in range(3):
        outcome(program, "plain")
    for case in CASES:
        assert outcome(program, case) == wanted[case], case


class Three(enum.IntEnum):
    THREE = 3


NUMBERS = [1, 1.0, True, 0, 0.0, -0.0, False, 2, 2.0, 0.5, -1, -1.0, float("nan"), float("inf"), Three.THREE, np.float64(0.5), np.int64(2), 1e300, 2**62]
WITH_A_NUMBER = {
    "full": lambda x, i, n: tg.full((2,), n), "tensor": lambda x, i, n: tg.tensor([n]), "pad": lambda x, i, n: functional.pad(x, (1, 1), value=n),
    "pad integers": lambda x, i, n: functional.pad(i, (1, 1), value=n), "clamp": lambda x, i, n: x.clamp(min=n), "clamp integers": lambda x, i, n: i.clamp(max=n),
    "add": lambda x, i, n: x.add(x, alpha=n), "add integers": lambda x, i, n: i.add(i, alpha=n), "masked_fill": lambda x, i, n: x.masked_fill(x > 0, n),
    "masked_fill integers": lambda x, i, n: i.masked_fill(i > 1, n), "where": lambda x, i, n: tg.where(x > 0, x, n), "where integers": lambda x, i, n: tg.where(i > 1, n, i),
    "fill_": lambda x, i, n: x.clone().fill_(n), "fill_ integers": lambda x, i, n: i.clone().fill_(n), "write": lambda x, i, n: written(x.clone(), n),
    "write integers": lambda x, i, n: written(i.clone(), n), "lerp": lambda x, i, n: x.lerp(x + 1, n), "norm": lambda x, i, n: x.norm(n), "std": lambda x, i, n: x.std(correction=n),
    "sum": lambda x, i, n: x.sum(n), "sum over all": lambda x, i, n: x.sum(0, keepdim=n), "index": lambda x, i, n: x[n], "slice": lambda x, i, n: x[n:], "roll": lambda x, i, n: x.roll(n),
    "zeros": lambda x, i, n: tg.zeros(n), "softplus": lambda x, i, n: functional.softplus(x, n), "hardtanh": lambda x, i, n: functional.hardtanh(x, -1.0, n),
    "smooth_l1": lambda x, i, n: functional.smooth_l1_loss(x, x + 1, beta=n), "huber": lambda x, i, n: functional.huber_loss(x, x + 2, delta=n), "arange": lambda x, i, n: tg.arange(n, 3),
    "addcmul": lambda x, i, n: x.addcmul(x, x, value=n), "renorm": lambda x, i, n: x[None].renorm(2, 0, n), "normalize": lambda x, i, n: functional.normalize(x, n, 0),
    "nan_to_num": lambda x, i, n: (x / 0).nan_to_num(n), "diagonal": lambda x, i, n: tg.diag(x, n), "repeat": lambda x, i, n: x.repeat(n),
    "layer_norm": lambda x, i, n: functional.layer_norm(x, (3,), eps=n),
    "logspace": lambda x, i, n: tg.logspace(0, 1, 3, base=n), "scatter": lambda x, i, n: x.scatter(0, i.clamp(max=2), n), "isclose": lambda x, i, n: tg.isclose(x, x + 0.5, atol=n),
    "vander": lambda x, i, n: tg.vander(x, n), "expand": lambda x, i, n: x[None].expand(n, 3), "complex": lambda x, i, n: tg.full_like(x, n), "split": lambda x, i, n: x.split(n),
}  # fmt: skip


def written(x, number):
    x[1] = number
    return x


def with_number(program, number):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = program(tg.tensor([-1.0, 0.0, 2.0]), tg.tensor([1, 2, 3]), number)
        except (RuntimeError, IndexError, ValueError, TypeError, OverflowError, MemoryError) as error:
            return type(error), str(error)
    return [(repr(r.tolist()) if r.numel() < 100 else "", r.dtype, r.shape, r.stride()) for r in (result if isinstance(result, tuple) else (result,))]


@pytest.mark.parametrize("name", WITH_A_NUMBER)
def test_numbers_that_are_equal_are_not_the_same(name):
    program, wanted = WITH_A_NUMBER[name], []
    numbers = NUMBERS
    if name in ("zeros", "repeat", "arange", "vander", "roll", "diagonal"):
        numbers = NUMBERS[:-2]
    elif name in ("smooth_l1", "huber"):
        numbers = NUMBERS[:3] + NUMBERS[9:14]  # each makes a kernel of its own
    for number in numbers:
        plans.forget()
        wanted.append(with_number(program, number))
    plans.forget()
    for order in (numbers, numbers[::-1]):
        for number in order:
            for _ in range(3):
                with_number(program, number)
        for number, expected in zip(numbers, wanted, strict=True):
            assert with_number(program, number) == expected, number
