"""Start-up in fresh processes: importing, and from import to the first gradient with a warm and with an empty cache.

    python benchmarks/startup.py [--rounds 7]

Medians over subprocesses, in turn with torch.  The interpreter's own start is not counted: each process times itself.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

IMPORT = """
import time
start = time.perf_counter()
import {module} as m
print(time.perf_counter() - start)
"""

GRADIENT = """
import time
start = time.perf_counter()
import {module} as m
x = m.tensor([1.0, 2.0, 3.0], requires_grad=True)
(m.exp(x) * x - 2.0).sum().backward()
seconds = time.perf_counter() - start
import math
expected = [math.exp(v) * (v + 1.0) for v in (1.0, 2.0, 3.0)]
assert all(abs(a - b) <= 1e-5 * b for a, b in zip(x.grad.tolist(), expected)), x.grad
print(seconds)
"""


def seconds(source: str, cache: str) -> float:
    """What a fresh process that runs `source` reports, with the object cache in `cache`."""
    root = str(Path(__file__).parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"TAPEGRAD_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout)


def measure(rounds: int = 7, cold_rounds: int = 3) -> dict[str, float]:
    """Median seconds by name."""
    modules = ["tapegrad"] + (["torch"] if importlib.util.find_spec("torch") else [])
    samples: dict[str, list[float]] = {}
    note = lambda name, value: samples.setdefault(name, []).append(value)  # noqa: E731
    with tempfile.TemporaryDirectory() as cache:
        for module in modules:  # files into the page cache, objects into ours
            seconds(GRADIENT.format(module=module), cache)
        for _ in range(rounds):
            for module in modules:
                note(f"import {module}", seconds(IMPORT.format(module=module), cache))
                note(f"import {module} to the first gradient", seconds(GRADIENT.format(module=module), cache))
    for _ in range(cold_rounds):
        with tempfile.TemporaryDirectory() as cache:
            note("import tapegrad to the first gradient, empty cache", seconds(GRADIENT.format(module="tapegrad"), cache))
    return {name: statistics.median(values) for name, values in samples.items()}


def table(rounds: int = 7) -> str:
    lines = ["| start-up | seconds |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in measure(rounds).items()]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="processes per median (default: %(default)s)")
    print(table(parser.parse_args().rounds))
