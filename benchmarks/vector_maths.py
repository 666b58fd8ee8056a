"""Accuracy and speed of `tapegrad.maths` beside NumPy, torch (if installed) and a numba loop over the `math` module.

    python benchmarks/vector_maths.py [--quick] [name ...]

Each function is first measured against mpmath (largest error in ulp over points across its range, by the tables of
tests/test_maths.py) and must pass; then 4096 elements are timed on one thread, the best of many runs, in ns per element.
"""

import argparse
import math
import sys
import time
from pathlib import Path

import numba
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import test_maths as checks  # noqa: E402

from tapegrad.maths import library  # noqa: E402

ELEMENTS = 4096
RANGES = {
    "exp": (-20, 20), "expm1": (-20, 20), "exp2": (-20, 20), "log": (0.01, 100), "log1p": (-0.9, 100), "log2": (0.01, 100),
    "log10": (0.01, 100), "asin": (-1, 1), "acos": (-1, 1), "acosh": (1, 100), "atanh": (-1, 1), "erf": (-4, 4), "erfc": (-4, 8),
    "pow": (0.1, 4), "sin": (-50, 50), "cos": (-50, 50), "tan": (-50, 50),
}
TORCH = {"pow": "pow", "sigmoid": "sigmoid", "softplus": "nn.functional.softplus", "erf": "erf", "erfc": "erfc"}


def best(call) -> float:
    """Seconds of the fastest of many runs."""
    fastest = math.inf
    for _ in range(40):
        start = time.perf_counter()
        for _ in range(10):
            call()
        fastest = min(fastest, (time.perf_counter() - start) / 10)
    return fastest


def torch_call(name: str, arguments):
    """A call of torch's function on the same data, or None."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    function = torch
    for part in TORCH.get(name, name).split("."):
        function = getattr(function, part)
    tensors = [torch.from_numpy(a) for a in arguments]
    return lambda: function(*tensors)


def math_loop(name: str, arguments):
    """A numba loop over math.<name>, or None where `math` has no such function."""
    function = getattr(math, name, None)
    if function is None or name == "exp2":  # which numba does not know
        return None
    out = np.empty_like(arguments[0])
    if len(arguments) == 2:
        def loop(x, y, out):
            for i in range(out.shape[0]):
                out[i] = function(x[i], y[i])
    else:
        def loop(x, out):
            for i in range(out.shape[0]):
                out[i] = function(x[i])
    kernel = numba.njit(error_model="numpy")(loop)
    return lambda: kernel(*arguments, out)


def numpy_call(name: str, arguments):
    if name in ("erf", "erfc"):
        return None
    function = checks.NUMPY.get(name) or getattr(np, name)
    return lambda: function(*arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="600 accuracy points per function instead of 6000")
    parser.add_argument("names", nargs="*", default=[])
    options = parser.parse_args()
    random = np.random.default_rng(3)
    print(f"{'function':10}{'dtype':9}{'max ulp':>8}{'ours':>8}{'numpy':>8}{'torch':>8}{'math':>8}   ns per element, {ELEMENTS} elements")
    for dtype in checks.DTYPES:
        for name in options.names or checks.ALL:
            points = checks.points(name, dtype, 600 if options.quick else 6000)
            error = checks.errors_in_ulp(name, dtype, checks.compiled(dtype, name, *points), points).max()
            if error > checks.ALLOWED[dtype][name]:
                raise SystemExit(f"{name} {dtype}: {error:.3g} ulp, allowed {checks.ALLOWED[dtype][name]}")
            low, high = RANGES.get(name, (-8, 8))
            arguments = [random.uniform(low, high, ELEMENTS).astype(dtype) for _ in range(2 if name in library.BINARY else 1)]
            out = np.empty_like(arguments[0])
            kernel = checks.kernel(dtype, name)
            others = (numpy_call(name, arguments), torch_call(name, arguments), math_loop(name, arguments))
            calls = (lambda: kernel(*arguments, out), *others)
            times = [f"{best(call) / ELEMENTS * 1e9:8.2f}" if call else f"{'-':>8}" for call in calls]
            print(f"{name:10}{dtype:9}{error:8.3f}{''.join(times)}", flush=True)


if __name__ == "__main__":
    main()
