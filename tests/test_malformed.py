"""Owns the random malformed calls: an exception at most, never a crash; what the engine holds and the operands stay as they were.

    python tests/test_malformed.py --count 10000
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np

import tapegrad as tg

# Not operations: settings, modes and what the process as a whole depends on; dunder methods of the object itself.
SKIP = {"set_default_dtype", "set_grad_enabled", "set_num_threads", "set_printoptions", "printoptions", "inference_mode", "no_grad", "enable_grad",
        "requires_grad_", "data", "grad", "from_numpy", "manual_seed", "seed", "set_rng_state", "initial_seed"}  # fmt: skip
ODD = [None, "x", "", -1, 0, 1, 2, 7, -100, 2**31, 2**63, -(2**63), 10**30, 0.5, float("nan"), float("inf"), True, (), [], (1, -1), (10**6, 10**6, 10**6),
       [0, 0], [[1], [2, 3]], {}, object(), slice(None), Ellipsis, b"x", 1j, tg.float32, tg.int64, int, (0, 1), [5], (-1, -1), np.ones(2), np.array("a")]  # fmt: skip


def names(owner):
    return sorted(n for n in dir(owner) if not n.startswith("_") and n not in SKIP and callable(getattr(owner, n, None)) and not isinstance(getattr(owner, n), type))


def run(count: int, seed: int) -> int:
    """Returns how many of the calls raised."""
    from support import counts

    warnings.simplefilter("ignore")
    tensors = [tg.ones(3), tg.ones(2, 3), tg.tensor(1.5), tg.zeros(0), tg.arange(4), tg.ones(2, 3) > 0, tg.ones(2, 2, dtype=tg.float64), tg.ones(3, 2).t(),
               tg.ones(1).expand(4), tg.ones(3, requires_grad=True), tg.ones(2, 3, requires_grad=True) * 2, tg.tensor([5, -9])]  # fmt: skip
    freed = (tensors[9] * tensors[9]).sum()
    freed.backward()
    tensors[9].grad = None
    tensors.append(freed)
    functions, methods = names(tg), names(tg.Tensor)
    raised = 0
    for k in range(count):
        draw = random.Random(seed * 1_000_003 + k)
        argument = lambda: draw.choice(tensors) if draw.random() < 0.45 else draw.choice(ODD)
        arguments = [argument() for _ in range(draw.randint(0, 3))]
        if draw.random() < 0.5:
            name, target = draw.choice(functions), None
        else:
            name, target = draw.choice(methods), draw.choice(tensors)
            if name.endswith("_") or name in ("backward", "register_hook", "retain_grad", "register_post_accumulate_grad_hook"):
                target = target.detach().clone()
        call = getattr(tg if target is None else target, name)
        if os.environ.get("MALFORMED_TRACE"):
            print(k, name, target if target is None else tuple(target.shape), arguments, file=sys.stderr, flush=True)
        held = counts() if k % 50 == 0 else None
        before = [t.detach().numpy().copy() for t in tensors]
        try:
            call(*arguments)
            continue
        except Exception:
            raised += 1
        for t, old in zip(tensors, before, strict=True):
            np.testing.assert_array_equal(t.detach().numpy(), old, err_msg=f"call {k} of {name} has changed an operand")
        if held:
            try:  # the same refused call again: nothing may be left behind
                call(*arguments)
            except Exception:
                pass
            gc.collect()
            settled = counts()
            try:
                call(*arguments)
            except Exception:
                pass
            gc.collect()
            assert counts() == settled, f"call {k} of {name} leaves something behind: {settled}, then {counts()}"
    assert (tg.ones(3) + 1).tolist() == [2, 2, 2]
    return raised


def test_malformed_calls():
    here = Path(__file__)
    result = subprocess.run([sys.executable, str(here), "--count", "2000"], capture_output=True, text=True, timeout=300,
                            env=dict(os.environ, PYTHONPATH=f"{Path(tg.__file__).parents[1]}"))  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.chdir(tempfile.mkdtemp())  # a call of save may be right by chance
    print(run(options.count, options.seed), "refused of", options.count)
