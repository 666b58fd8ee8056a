"""Owns grad modes as decorators and context managers, inference mode, numbers as operands, and empty jacobians, as in PyTorch."""
# ruff: noqa: E501 (a table: one case per line)

from __future__ import annotations

import threading
import warnings

import pytest
import support

import tapegrad as tg

FUTURE = "Decorating classes is deprecated and will be disabled in future versions."


def decorated_class(m, mode):
    with pytest.warns(FutureWarning, match=FUTURE):

        @mode(m)
        class Thing:
            def __init__(self):
                self.grad = m.is_grad_enabled()

    return Thing().grad


def decorated_generator(m, mode):
    log = []

    @mode(m)
    def numbers():
        log.append(m.is_grad_enabled())
        try:
            log.append(((yield 1), m.is_grad_enabled()))
            try:
                yield 2
            except ValueError:
                log.append(("error", m.is_grad_enabled()))
                yield 3
        finally:
            log.append(("end", m.is_grad_enabled()))
        return 9

    running = numbers()
    next(running)
    log.append(m.is_grad_enabled())
    running.send(7)
    running.throw(ValueError)
    with pytest.raises(StopIteration) as stop:
        next(running)
    log.append(stop.value.value)
    running = numbers()
    next(running)
    running.close()
    return log


def inference(m):
    x = m.ones(2, requires_grad=True)
    with m.inference_mode():
        y = x * 2
        with m.inference_mode(False):
            z = x * 2
            inner = m.is_inference_mode_enabled(), m.is_grad_enabled()
        with m.enable_grad():
            w = x * 2
            shown = m.is_grad_enabled()
    return y.is_inference(), z.is_inference(), z.requires_grad, inner, w.requires_grad, w.is_inference(), shown, m.is_grad_enabled()


def made(m):
    with m.inference_mode():
        return m.ones(2)


def view_in_inference(m):
    x = m.ones(2, requires_grad=True).clone()
    with m.inference_mode():
        v = x[:1]
        x.add_(1)
        v.add_(1)
    return v.is_inference(), x.tolist(), x.grad_fn.name()


def multithreading(m):
    found = [m.autograd.grad_mode.set_multithreading_enabled] if m is not tg else [m.autograd.set_multithreading_enabled]
    with found[0](False):
        inside = m.autograd.is_multithreading_enabled()
        x = m.ones(3, requires_grad=True)
        (x * x).sum().backward()
    return inside, m.autograd.is_multithreading_enabled(), x.grad.tolist()


def i8(m):
    return m.tensor([100], dtype=m.int8)


def b(m):
    return m.tensor([True, False])


BIG, HUGE = 2**63, 10**400
CASES = {
    "class, no_grad": (lambda m: decorated_class(m, lambda m: m.no_grad()), False),
    "class, bare": (lambda m: decorated_class(m, lambda m: m.no_grad), False),
    "class, set_grad_enabled": (lambda m: decorated_class(m, lambda m: m.set_grad_enabled(False)), False),
    "generator": (lambda m: decorated_generator(m, lambda m: m.no_grad()), [False, True, (7, False), ("error", False), ("end", False), 9, False, ("end", False)]),
    "generator, inference": (lambda m: decorated_generator(m, lambda m: m.inference_mode()), [False, True, (7, False), ("error", False), ("end", False), 9, False, ("end", False)]),
    "set_grad_enabled of a string": (lambda m: m.set_grad_enabled("a"), "TypeError: set_grad_enabled(): argument 'enabled' (position 1) must be bool, not str"),
    "inference": (inference, (True, False, True, (False, True), False, True, True, True)),
    "inference tensor not saved": (lambda m: (made(m) + m.ones(2, requires_grad=True)).requires_grad, True),
    "inference tensor saved": (lambda m: made(m) * m.ones(2, requires_grad=True), "RuntimeError: Inference tensors cannot be saved for backward."),
    "inference out": (lambda m: m.add(m.ones(2), 1, out=made(m)), "RuntimeError: Inplace update to inference tensor outside InferenceMode is not allowed."),
    "view in inference": (view_in_inference, (False, [3.0, 2.0], "CloneBackward0")),
    "one thread": (multithreading, (False, True, [2.0, 2.0, 2.0])),
    "wraps": (lambda m: [(i8(m) + 300).item(), (i8(m) * 300).item(), i8(m).add_(300).item(), (300 - i8(m)).item()], [-112, 48, -112, -56]),
    "compares what wrapped": (lambda m: [(i8(m) == 300).item(), (i8(m) > 300).item()], [False, True]),
    "uint8": (lambda m: [(m.tensor([1], dtype=m.uint8) + k).item() for k in (-1, 256, -257)], [0, 1, 0]),
    "divisor that wraps to zero": (lambda m: i8(m) // 256, "RuntimeError: ZeroDivisionError"),
    "fill does not wrap": (lambda m: i8(m).fill_(300), "RuntimeError: value cannot be converted to type int8_t without overflow"),
    "where does not wrap": (lambda m: m.where(m.tensor([True]), i8(m), 300), "RuntimeError: value cannot be converted to type int8_t without overflow"),
    "clamp does not wrap": (lambda m: i8(m).clamp(min=300), "RuntimeError: value cannot be converted to type int8_t without overflow"),
    "int64": (lambda m: (m.ones(1, dtype=m.int64) * BIG).item(), -(2**63)),
    "float times 2**63": (lambda m: (m.ones(1) * BIG).item(), 2.0**63),
    "float times 10**64": (lambda m: m.ones(1) * 10**64, "OverflowError: int too big to convert"),
    "float plus 10**400": (lambda m: m.ones(1) + HUGE, "OverflowError: int too big to convert"),
    "reflected": (lambda m: HUGE * m.ones(1), "OverflowError: int too big to convert"),
    "in place": (lambda m: m.ones(1).add_(10**64), "OverflowError: int too big to convert"),
    "compared": (lambda m: m.ones(1) == HUGE, "OverflowError: int too big to convert"),
    "exponent": (lambda m: m.ones(1) ** HUGE, "OverflowError: int too big to convert"),
    "fill": (lambda m: m.ones(1).fill_(HUGE), "OverflowError: int too big to convert"),
    "set": (lambda m: m.ones(1).__setitem__(0, HUGE), "ValueError: Overflow when unpacking long long"),
    "tensor": (lambda m: m.tensor([HUGE, 1.0]), "OverflowError: int too large to convert to float"),
    "tensor of a large float": (lambda m: m.tensor(1e300).item(), float("inf")),
    "large float": (lambda m: [(m.ones(1) * 1e300).item(), m.ones(1).add_(1e300).item()], [float("inf")] * 2),
    "large float, filled": (lambda m: m.ones(1).fill_(1e300), "RuntimeError: value cannot be converted to type float without overflow"),
    "bool powers": (lambda m: [(b(m) ** True).tolist(), b(m).pow(False).tolist(), b(m).pow_(True).tolist(), b(m).pow_(False).tolist()], [[True, False], [True, True]] * 2),
    "bool to a number": (lambda m: (b(m) ** 1).tolist(), [1, 0]),
    "bool to a bool tensor": (lambda m: b(m) ** m.tensor(True), "NotImplementedError: \"pow\" not implemented for 'Bool'"),
    "empty jacobian": (lambda m: m.autograd.functional.jacobian(lambda x: x * 2, m.ones(0)), "RuntimeError: stack expects a non-empty TensorList"),
    "empty jacobian, vectorized": (lambda m: m.autograd.functional.jacobian(lambda x: x * 2, m.ones(0), vectorize=True), "IndexError: index 0 is out of bounds for dimension 0 with size 0"),
    "jacobian of an empty input": (lambda m: tuple(m.autograd.functional.jacobian(lambda x: x.sum(), m.ones(0, 3)).shape), (0, 3)),
    "resize_ counts": (lambda m: (lambda t: (t.resize_(2).tolist(), t._version))(m.arange(4.0)), ([0.0, 1.0], 1)),
    "resize_ to negative": (lambda m: m.ones(2).resize_(-1), "RuntimeError: numel: integer multiplication overflow"),
}  # fmt: skip


@pytest.mark.parametrize("m", support.MODULES, ids=lambda m: m.__name__)
@pytest.mark.parametrize("name", CASES)
def test_case(name, m):
    case, expected = CASES[name]
    before = m.is_grad_enabled()
    try:
        with warnings.catch_warnings():
            if m is not tg:
                warnings.simplefilter("ignore")
            found = case(m)
    except Exception as error:
        found = f"{type(error).__name__}: {error}".replace("torch", "tapegrad")
    finally:
        m.set_grad_enabled(before)
    assert found.startswith(expected) if isinstance(expected, str) else found == expected, found


def test_modes_belong_to_their_thread_but_for_anomaly():
    found = []
    with tg.no_grad(), tg.inference_mode():
        thread = threading.Thread(target=lambda: found.append((tg.is_grad_enabled(), tg.is_inference_mode_enabled())))
        thread.start()
        thread.join()
    assert found == [(True, False)]


def test_a_context_may_be_entered_again():
    context = tg.no_grad()
    with context:
        with context:
            assert not tg.is_grad_enabled()
        assert not tg.is_grad_enabled()
    assert tg.is_grad_enabled()
