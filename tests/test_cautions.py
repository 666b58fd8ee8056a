"""Owns which warnings are given once in a process and which each time, as torch has it."""

import warnings

import numpy as np
import pytest

import tapegrad as tg
from tapegrad import cautions


def read_only():
    array = np.zeros(3)
    array.flags.writeable = False
    return tg.from_numpy(array)


ONCE = {
    "T": (lambda: tg.ones(2, 2, 2).T, "dimension other than 2"),
    "mT": (lambda: tg.ones(()).mT, "This function is the identity"),
    "H": (lambda: tg.ones(()).H, r"Consider using x\.conj\(\)"),
    "create_graph": (lambda: (tg.ones(1, requires_grad=True) * 1).backward(create_graph=True), "create a reference cycle"),
    "read-only": (read_only, "is not writable"),
    "addcmul": (lambda: tg.addcmul(tg.ones(2), 2, tg.ones(2), tg.ones(2)), "This overload of addcmul is deprecated"),
    "meshgrid": (lambda: tg.meshgrid(tg.ones(2), tg.ones(2)), "required to pass the indexing argument"),
    "cross": (lambda: tg.cross(tg.ones(2, 3), tg.ones(2, 3)), "without specifying the dim arg"),
    "lu": (lambda: tg.lu(tg.eye(2)), "torch.lu is deprecated"),
    "qr": (lambda: tg.qr(tg.eye(2)), "torch.qr is deprecated"),
    "cholesky": (lambda: tg.cholesky(tg.eye(2)), "torch.cholesky is deprecated"),
    "searchsorted": (lambda: tg.searchsorted(tg.ones(6)[::2], tg.ones(2)), "boundary tensor is non-contiguous"),
    "float": (lambda: float(tg.ones(1, requires_grad=True)), "Converting a tensor with requires_grad=True to a scalar may lead"),
    "complex number": (lambda: complex(tg.ones(1, requires_grad=True)), "Converting a tensor with requires_grad=True to a scalar may lead"),
    "complex": (lambda: tg.ones(1, dtype=tg.complex64).to(tg.float32), "Casting complex values to real"),
}
EACH_TIME = {
    "var": (lambda: tg.ones(1).var(), r"var\(\): degrees of freedom is <= 0"),
    "std": (lambda: tg.ones(3, 0).std(1), r"std\(\): degrees of freedom is <= 0"),
    "var_mean": (lambda: tg.var_mean(tg.ones(2), correction=2), r"var_mean\(\): degrees of freedom is <= 0"),
    "cov": (lambda: tg.cov(tg.ones(1, 3), correction=3), r"cov\(\): degrees of freedom is <= 0"),
    "new_tensor": (lambda: tg.ones(1).new_tensor(tg.ones(1)), r"rather than tensor\.new_tensor\(sourceTensor\)"),
}


def given(f) -> list:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        f()
    return seen


@pytest.mark.parametrize("name", ONCE)
def test_given_once(name, monkeypatch):
    f, words = ONCE[name]
    monkeypatch.setattr(cautions, "_given", set())
    tg.set_warn_always(False)
    with pytest.warns(UserWarning, match=words):
        f()
    assert given(f) == []
    tg.set_warn_always(True)
    assert len(given(f)) == 1 and tg.is_warn_always_enabled()


@pytest.mark.parametrize("name", EACH_TIME)
def test_given_each_time(name):
    f, words = EACH_TIME[name]
    tg.set_warn_always(False)
    for _ in range(3):
        with pytest.warns(UserWarning, match=words):
            f()


def test_a_good_divisor_is_silent():
    assert given(lambda: (tg.ones(2).var(), tg.ones(1).var(unbiased=False), tg.cov(tg.ones(2, 3)))) == []


def test_numbers_of_tensors_without_a_gradient_are_silent(monkeypatch):
    monkeypatch.setattr(cautions, "_given", set())
    x = tg.ones(1, requires_grad=True)
    assert given(lambda: (float(x.detach()), x.item(), int(x), bool(x))) == []
    with tg.no_grad():
        assert given(lambda: float(x)) == []
