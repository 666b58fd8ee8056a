"""Owns TAPEGRAD_CHECK=1: kernels that do what they must not are planted, and each must be reported."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import ctypes
import tapegrad as tg
from tapegrad import core, geometry
from tapegrad.ops import plan as plans
from tapegrad.ops.reshaping import view_op

words = lambda address, count: (ctypes.c_int64 * count).from_address(address)
doubles = lambda address, count: (ctypes.c_double * count).from_address(address)

def copies(args, start, stop):
    out, x = words(args, 2)
    doubles(out, stop)[start:stop] = doubles(x, stop)[start:stop]

def too_far(args, start, stop):
    out, x = words(args, 2)
    doubles(out, stop + 1)[start : stop + 1] = [1.0] * (stop + 1 - start)

def changes_its_input(args, start, stop):
    copies(args, start, stop)
    doubles(words(args, 2)[1], stop)[start] += 1.0

def leaves_one_out(args, start, stop):
    copies(args, start, stop - 1)

kernel = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)({name})
x = tg.arange(9.0, dtype=tg.float64)
plan = plans.Plan(view_op, [(geometry.geometry((9,)), x.dtype.code)], kernel=ctypes.cast(kernel, ctypes.c_void_p).value, n=9, differentiable=0)
try:
    print(core.apply(plan.address, x).tolist())
except RuntimeError as error:
    print(error)
print(len(tg.ones(2).tolist()))
"""
WORDS = {
    "copies": "[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]",
    "too_far": "was written past its end",
    "changes_its_input": "was changed by a kernel that only reads it",
    "leaves_one_out": "holds elements that no kernel has written",
}


@pytest.mark.parametrize("name", WORDS)
def test_planted_kernel_is_reported(name):
    environment = {**os.environ, "TAPEGRAD_CHECK": "1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT.replace("{name}", name)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert WORDS[name] in first and last == "2"
