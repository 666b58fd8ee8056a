"""Owns anomaly mode: the forward line of a failing derivative, nan in gradients, texts of version errors, the tape with source lines."""

from __future__ import annotations

import threading
import warnings

import pytest

import tapegrad as tg


@pytest.fixture
def anomaly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with tg.autograd.detect_anomaly():
            yield


def failing(run):
    """The warnings of a call, and its error."""
    with warnings.catch_warnings(record=True) as found, pytest.raises(Exception) as error:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in found], error.value


def test_nan_names_the_function_and_the_forward_line(anomaly):
    def run():
        x = tg.tensor([0.0, -1.0], requires_grad=True)
        y = x.sqrt()  # the line
        y.sum().backward()

    (message,), error = failing(run)
    assert str(error) == "Function 'SqrtBackward0' returned nan values in its 0th output."
    assert message.startswith("Error detected in SqrtBackward0. Traceback of forward call that caused the error:\n")
    assert message.rstrip().endswith("y = x.sqrt()  # the line") and "tapegrad/dispatch" not in message


def test_check_nan_can_be_switched_off():
    x = tg.tensor([-1.0], requires_grad=True)
    with tg.autograd.set_detect_anomaly(True, check_nan=False):
        assert tg.is_anomaly_enabled() and not tg.is_anomaly_check_nan_enabled()
        x.sqrt().backward()
    assert not tg.is_anomaly_enabled() and tg.is_anomaly_check_nan_enabled()
    assert x.grad.isnan().all()


def test_entering_warns():
    with pytest.warns(UserWarning, match="Anomaly Detection has been enabled. This mode will increase the runtime"):
        with tg.autograd.detect_anomaly():
            pass


def test_no_forward_information():
    y = tg.tensor([-1.0], requires_grad=True).sqrt()
    with tg.autograd.set_detect_anomaly(True):
        messages, _ = failing(y.backward)
    assert messages == [
        "Error detected in SqrtBackward0. No forward pass information available. Enable detect anomaly during forward pass for more "
        "information."
    ]


def test_errors_of_hooks_and_custom_functions_are_explained(anomaly):
    class Fails(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise ValueError("no")

    x = tg.ones(1, requires_grad=True)
    messages, error = failing(lambda: Fails.apply(x).backward())
    assert isinstance(error, ValueError) and messages[0].startswith("Error detected in FailsBackward. Traceback")

    def fail(g):
        raise ValueError("hook")

    x.register_hook(fail)
    messages, error = failing(lambda: (x * 2).backward())
    assert messages[0].startswith("Error detected in tapegrad::autograd::AccumulateGrad. Traceback")


def test_second_derivative_shows_the_first_one(anomaly):
    x = tg.tensor([0.0], requires_grad=True)
    y = x**1.5  # induced
    (g,) = tg.autograd.grad(y.sum(), x, create_graph=True)
    messages, error = failing(lambda: tg.autograd.grad((g * 0).sum(), x))
    assert str(error) == "Function 'PowBackward0' returned nan values in its 0th output."
    assert messages[1].startswith("\n\nPrevious calculation was induced by PowBackward0. Traceback of forward call that induced")
    assert messages[1].rstrip().endswith("y = x**1.5  # induced")
    assert g.grad_fn.metadata["parent_"] is not None and "traceback_" in y.grad_fn.metadata


def test_gradients_are_those_without_the_mode():
    def gradients():
        x = tg.arange(1.0, 7.0).reshape(2, 3).requires_grad_()
        y = x.T @ x
        z = (y.exp() * 1e-12 + y[0] * y.sum(0, keepdim=True)).log() + x.mean()
        z.sum().backward()
        return x.grad

    plain = gradients()
    with tg.autograd.set_detect_anomaly(True):
        assert tg.allclose(gradients(), plain)


def test_mode_is_of_all_threads_and_survives_grad_modes():
    found = []
    with tg.autograd.set_detect_anomaly(True):
        thread = threading.Thread(target=lambda: found.append(tg.is_anomaly_enabled()))
        thread.start()
        thread.join()
    assert found == [True]
    with tg.no_grad():
        tg.autograd.set_detect_anomaly(True)
    assert tg.is_anomaly_enabled()
    tg.autograd.set_detect_anomaly(False)
    thread = threading.Thread(target=lambda: found.append(tg.is_anomaly_enabled()))
    thread.start()
    thread.join()
    assert found == [True, False] and not tg.is_anomaly_enabled()


def test_the_mode_records_nothing_when_it_is_off():
    x = tg.ones(2, requires_grad=True)
    y = x * 2
    assert y.grad_fn.metadata == {}
    assert " at " not in tg.Tape().statements()[-1]


def test_tape_shows_source_lines(anomaly):
    x = tg.ones(2, requires_grad=True)
    y = x * 2  # this one
    assert any("test_anomaly.py" in line and "y = x * 2  # this one" in line for line in tg.Tape().statements())
    assert y is not None


def test_version_error_names_the_tensor_and_who_overwrote_it():
    w = tg.ones(2, requires_grad=True)
    y = w.exp()
    z = y * y
    y.add_(1)
    with pytest.raises(RuntimeError) as error:
        z.sum().backward()
    assert str(error.value) == (
        "one of the variables needed for gradient computation has been modified by an inplace operation: [tapegrad.FloatTensor [2]], which is "
        "output 0 of Add, is at version 1; expected version 0 instead. Hint: enable anomaly detection to find the operation that failed to "
        "compute its gradient, with tapegrad.autograd.set_detect_anomaly(True, check_nan=False)."
    )
    assert error.value.__notes__ == ["The value was overwritten by Add."]


def test_version_error_names_the_line_in_anomaly_mode(anomaly):
    w = tg.ones(2, requires_grad=True)
    b = tg.ones(2)
    z = w * b
    b.zero_()  # here
    messages, error = failing(z.sum().backward)
    assert "[tapegrad.FloatTensor [2]] is at version 1; expected version 0 instead. Hint: the backtrace further above" in str(error)
    assert "b.zero_()  # here" in error.__notes__[0] and messages[0].startswith("Error detected in MulBackward0")


@pytest.mark.torch
def test_texts_are_torchs(torch):
    def run(m):
        found = []
        for make in (lambda w: (w.exp(), lambda y: y.add_(1)), lambda w: ((w * 1).view(1, 2), lambda y: y.mul_(2)), lambda w: (w.exp(), lambda y: y[0].zero_())):
            w = m.ones(2, requires_grad=True)
            y, change = make(w)
            z = y * y
            change(y)
            _, error = failing(z.sum().backward)
            found.append(str(error).replace("torch", "tapegrad"))
        return found

    for ours, theirs in zip(run(tg), run(torch), strict=True):
        assert ours.startswith(theirs), (ours, theirs)
