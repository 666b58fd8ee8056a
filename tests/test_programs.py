"""Owns the random programs of the suite: drawn by hypothesis, which shrinks those that fail (see random_programs.py)."""

from __future__ import annotations

import random_programs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@settings(max_examples=200, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(draw=st.randoms(use_true_random=False), length=st.integers(1, 10), seed=st.integers(0, 2**31))
def test_random_program(draw, length, seed):
    random_programs.check(random_programs.Program(draw, length), seed)
