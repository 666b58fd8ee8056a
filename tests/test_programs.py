"""Owns the random programs of the suite: drawn by hypothesis, which shrinks those that fail (see random_programs.py)."""

from __future__ import annotations

import pytest
import random_layers
import random_programs
import random_wild
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@settings(max_examples=200, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(draw=st.randoms(use_true_random=False), length=st.integers(1, 10), seed=st.integers(0, 2**31))
def test_random_program(draw, length, seed):
    random_programs.check(random_programs.Program(draw, length), seed)


@pytest.mark.torch
@settings(max_examples=150, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(draw=st.randoms(use_true_random=False), length=st.integers(1, 12), seed=st.integers(0, 2**31))
def test_wild_program(draw, length, seed):
    pytest.importorskip("torch")
    random_wild.check(random_wild.Wild(draw, length), seed)


@pytest.mark.torch
@settings(max_examples=80, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(draw=st.randoms(use_true_random=False), length=st.integers(2, 10), seed=st.integers(0, 2**31))
def test_layered_program(draw, length, seed):
    pytest.importorskip("torch")
    random_wild.check(random_layers.Layered(draw, length), seed)
