"""Owns Sobol' sequences."""

from __future__ import annotations

import numpy as np
import pytest

import tapegrad as tg

Engine = tg.quasirandom.SobolEngine


def test_the_first_points():
    points = Engine(3).draw(4)
    assert points.tolist() == [[0, 0, 0], [0.5, 0.5, 0.5], [0.75, 0.25, 0.25], [0.25, 0.75, 0.75]] and points.dtype is tg.float32
    assert Engine(1).draw(8, dtype=tg.float64).sort(0)[0].flatten().tolist() == [k / 8 for k in range(8)]


@pytest.mark.parametrize("scramble", [False, True])
def test_pieces_are_the_whole(scramble):
    whole = Engine(5, scramble=scramble, seed=3).draw(32, dtype=tg.float64)
    engine = Engine(5, scramble=scramble, seed=3)
    pieces = [engine.draw(n, dtype=tg.float64) for n in (1, 4, 11)]
    engine.fast_forward(6)
    pieces += [whole[16:22], engine.draw(2, dtype=tg.float64), engine.draw_base2(3, dtype=tg.float64)]
    if scramble:
        pieces[0] = whole[:1]  # the first point is in the default dtype
    assert tg.equal(tg.cat(pieces), whole) and engine.num_generated == 32
    assert tg.equal(engine.reset().fast_forward(0).fast_forward(4).draw(4, dtype=tg.float64), whole[4:8])
    out = tg.empty(0, dtype=tg.float64)
    assert engine.reset().draw(32, out=out, dtype=tg.float64) is out and tg.equal(out, whole)
    assert np.all(np.sort((whole.numpy() * 32).astype(int), 0) == np.arange(32)[:, None])  # one point in each thirty-second, in every dim


def test_refusals_and_text():
    for d in (0, Engine.MAXDIM + 1):
        with pytest.raises(ValueError, match="Supported range of dimensionality"):
            Engine(d)
    with pytest.raises(ValueError, match="require n to be a power of 2. 3 points have been previously generated"):
        Engine(2).fast_forward(3).draw_base2(1)
    with pytest.raises(RuntimeError, match=r"negative dimension -1: \[-1, 2\]"):
        Engine(2).draw(0)
    assert repr(Engine(2, scramble=True, seed=7)) == "SobolEngine(dimension=2, scramble=True, seed=7)"


@pytest.mark.parametrize("dimension, scramble", [(1, False), (50, False), (3, True), (40, True)])
def test_as_torch(dimension, scramble):
    torch = pytest.importorskip("torch")
    a, b = torch.quasirandom.SobolEngine(dimension, scramble=scramble, seed=11), Engine(dimension, scramble=scramble, seed=11)
    for _ in range(2):
        assert np.array_equal(a.draw(7).numpy(), b.draw(7).numpy())
        assert np.array_equal(a.fast_forward(5).draw(3, dtype=torch.float64).numpy(), b.fast_forward(5).draw(3, dtype=tg.float64).numpy())
        a.reset(), b.reset()
    assert np.array_equal(a.sobolstate.numpy(), b.sobolstate.numpy()) and np.array_equal(a.shift.numpy(), b.shift.numpy())
