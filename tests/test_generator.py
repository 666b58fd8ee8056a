"""The random streams of `tapegrad.generator`: stored values, the state, errors, and bit-for-bit agreement with torch where installed."""

import copy
import pickle

import numpy as np
import pytest

from tapegrad.generator import DEFAULT_SEED, Generator

SIZES = [*range(0, 41), 100, 1000, 12345]
FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int64", "int32", "int16", "int8", "uint8", "bool"]
SCALES = [(0.0, 1.0), (0.0, 0.02), (1.5, 3.0), (5.0, 0.0)]
NAN, INF = float("nan"), float("inf")


def seeded(seed=0):
    return Generator().manual_seed(seed)


# Stored values (torch 2.13, seed 0)


@pytest.mark.parametrize(
    "draw, expected",
    [
        (lambda g: g.uniform(2), [0.49625658988952637, 0.7682217955589294]),
        (lambda g: g.uniform(2, "float64"), [0.9701170320831703, 0.2703255583475233]),
        (lambda g: g.normal(3), [1.5409960746765137, -0.293428897857666, -2.1787893772125244]),
        (lambda g: g.normal(16)[[0, 7, 8, 15]], [-1.1258398294448853, -2.1152193546295166, 0.32227492332458496, 0.3679826855659485]),
        (lambda g: g.normal(17)[[0, 16]], STORED_17 := [-1.1258398294448853, NAN]),
        (lambda g: g.randint(4, 0, 10), [4, 9, 3, 0]),
        (lambda g: g.randperm(5), [0, 0, 0, 0, 0]),
        (lambda g: g.bernoulli(4, "float32", 0.5), [0, 0, 0, 0]),
        (lambda g: g.exponential(2, "float64"), [0, 0]),
        (lambda g: g.multinomial(np.array([1.0, 2.0, 3.0]), 2), [0, 0]),
        (lambda g: g.multinomial(np.array([1.0, 2.0, 3.0]), 3, True), [0, 0, 0]),
    ],
)
def test_stored(draw, expected):
    assert draw(seeded()).tolist() == expected
