"""Owns the switches of the package: deterministic algorithms, `backends`, threads, precision; `_check` and its kind."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

import tapegrad as tg


@pytest.fixture
def deterministic():
    tg.use_deterministic_algorithms(True)
    yield
    tg.use_deterministic_algorithms(False)


def test_the_switch():
    assert not tg.are_deterministic_algorithms_enabled() and tg.get_deterministic_debug_mode() == 0
    try:
        for given, number, warns in ((2, 2, False), ("warn", 1, True), ("error", 2, False), (True, 1, True), ("default", 0, False)):
            tg.set_deterministic_debug_mode(given)
            assert (tg.get_deterministic_debug_mode(), tg.is_deterministic_algorithms_warn_only_enabled()) == (number, warns)
        tg.use_deterministic_algorithms(True, warn_only=True)
        assert tg.are_deterministic_algorithms_enabled() and tg.get_deterministic_debug_mode() == 1
        for wrong, error in ((5, RuntimeError), ("x", RuntimeError), (None, TypeError)):
            with pytest.raises(error, match="debug_mode"):
                tg.set_deterministic_debug_mode(wrong)
        with pytest.raises(TypeError, match="argument 'mode' .position 1. must be bool, not int"):
            tg.use_deterministic_algorithms(1)
        with pytest.raises(TypeError, match="argument 'warn_only' must be bool, not int"):
            tg.use_deterministic_algorithms(True, warn_only=1)
    finally:
        tg.use_deterministic_algorithms(False)


def test_what_is_not_deterministic(deterministic):
    x, i = tg.ones(4), tg.tensor([0, 1])
    with pytest.raises(RuntimeError, match=r"put_ does not have a deterministic implementation, but you set 'torch.use_deterministic_algorithms\(True\)'"):
        x.put_(i, tg.zeros(2))
    assert x.tolist() == [1, 1, 1, 1] and x.put_(i, tg.ones(2), accumulate=True).tolist() == [2, 2, 1, 1]
    tg.use_deterministic_algorithms(True, warn_only=True)
    with pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"):
        assert x.put_(i, tg.zeros(2)).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("d", [tg.float32, tg.float64, tg.float16, tg.bfloat16, tg.complex64, tg.int8, tg.uint8, tg.int64, tg.bool])
def test_new_memory_is_filled(deterministic, d):
    value = True if d is tg.bool else tg.iinfo(d).max if not (d.is_floating_point or d.is_complex) else math.nan
    x = tg.zeros(2, 3, dtype=d)
    made = [
        tg.empty(2, 3, dtype=d), tg.empty_like(x), x.new_empty(4), tg.empty_strided((2, 2), (1, 3), dtype=d), tg.zeros(2, dtype=d).resize_(5)[2:],
        x.new_empty_strided((2, 2), (2, 1)), tg.empty(0, dtype=d), tg.empty(2, 2, dtype=d, memory_format=tg.contiguous_format),
    ]  # fmt: skip
    for t in made:
        for found in t.flatten().tolist():
            assert found == value or (found.real if d.is_complex else found) != (found.real if d.is_complex else found)
    assert tg.zeros(2, dtype=d).resize_(5)[:2].tolist() == [0, 0] and tg.empty(2, requires_grad=True).requires_grad
    assert all(map(math.isnan, tg.Tensor(3).tolist())) and tg.ones(3).resize_(2).tolist() == [1, 1]
    tg.utils.deterministic.fill_uninitialized_memory = False
    try:
        assert not tg.utils.deterministic.fill_uninitialized_memory
        with pytest.raises(RuntimeError, match="expected a bool, but got str"):
            tg.utils.deterministic.fill_uninitialized_memory = "yes"
    finally:
        tg.utils.deterministic.fill_uninitialized_memory = True


def test_other_switches():
    assert tg.get_float32_matmul_precision() == "highest"
    tg.set_float32_matmul_precision("high")
    assert tg.get_float32_matmul_precision() == "high"
    tg.set_float32_matmul_precision("highest")
    with pytest.raises(RuntimeError, match="expects a str, but got int"):
        tg.set_float32_matmul_precision(3)
    for f in (tg.set_num_threads, tg.set_num_interop_threads):
        with pytest.raises(RuntimeError, match="expects an int, but got str"):
            f("x")
        with pytest.raises(RuntimeError, match="expects a positive integer"):
            f(0)
    told = subprocess.run(
        [sys.executable, "-c", "import tapegrad as tg; tg.set_num_interop_threads(3); print(tg.get_num_interop_threads()); tg.set_num_interop_threads(2)"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert told.stdout == "3\n" and "cannot set number of interop threads" in told.stderr
    assert tg.set_flush_denormal(True) is False
    assert tg.backends.cudnn.enabled and not tg.backends.cudnn.is_available() and not tg.backends.mps.is_available() and tg.backends.lapack.is_available()
    tg.backends.cudnn.benchmark = False
    tg.backends.cudnn.deterministic, tg.backends.cuda.matmul.allow_tf32 = False, False
    assert tg.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2", "AVX512")
    assert tg.typename(tg.ones(1)) == "tapegrad.FloatTensor" and tg.typename([]) == "list"
    with tg.device("cpu") as d:
        assert tg.ones(2).device == d
    assert tg.device("cpu")(lambda: 3)() == 3


@pytest.mark.parametrize("f, error", [
    (tg._check, RuntimeError), (tg._check_index, IndexError), (tg._check_value, ValueError), (tg._check_type, TypeError), (tg._check_not_implemented, NotImplementedError),
])  # fmt: skip
def test_checks(f, error):
    assert f(True) is None and f(True, 3) is None
    with pytest.raises(error, match="Expected cond to be True, but got False"):
        f(False)
    with pytest.raises(error, match="^mine$"):
        f(False, lambda: "mine")
    for wrong, words in ((1, "cond must be a bool, but got <class 'int'>"), (tg.tensor(True), "cond must be a bool, but got a Tensor")):
        with pytest.raises(TypeError, match=words):
            f(wrong)
    with pytest.raises(TypeError, match="message must be a callable"):
        f(False, "mine")


def test_checks_of_tensors():
    tg._check_tensor_all(tg.tensor([True, True]))
    with pytest.raises(RuntimeError, match="^mine$"):
        tg._check_tensor_all(tg.tensor([True, False]), lambda: "mine")
    with pytest.raises(TypeError, match="must have dtype torch.bool, but got torch.int64"):
        tg._check_tensor_all(tg.tensor([1]))
    with pytest.raises(TypeError, match="cond must be a tensor"):
        tg._check_tensor_all(True)
    with pytest.warns(FutureWarning, match="_check_is_size will be removed"):
        tg._check_is_size(2, max=2)
    with pytest.raises(RuntimeError):
        tg._check_is_size(-1)
    tg._assert(True, "mine"), tg._assert_async(tg.ones(1))
    with pytest.raises(AssertionError, match="mine"):
        tg._assert(tg.tensor(0), "mine")
    with pytest.raises(RuntimeError, match="Expected Tensor with single nonzero value, but got zero"):
        tg._assert_async(tg.tensor(0))
    with pytest.raises(RuntimeError, match="no values is ambiguous"):
        tg._assert_async(tg.tensor([]))
