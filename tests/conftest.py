"""Owns what every test file relies on: a seed per test, the PyTorch oracle, and the counts of what the engine holds."""

from __future__ import annotations

import gc
import zlib

import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad import memory


def pytest_configure(config):
    config.addinivalue_line("markers", "smoke: the story of the library in a few seconds")
    config.addinivalue_line("markers", "torch: needs PyTorch, the oracle")


@pytest.fixture(autouse=True)
def isolation(request):
    """Each test starts from defaults and from a seed of its own, whatever the order."""
    seed = zlib.crc32(request.node.nodeid.encode())
    np.random.seed(seed)
    tg.set_default_dtype(tg.float32)
    tg.set_grad_enabled(True)
    tg.set_warn_always(True)  # what is given once would be seen by the first test only
    yield
    tg.set_default_dtype(tg.float32)
    tg.set_grad_enabled(True)


def pytest_collection_finish(session):
    """What stands before the first test stays: the collector need not walk through it each time that a test asks for it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def rng(request):
    """A NumPy generator seeded by the name of the test."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def torch():
    """PyTorch; the test is not for machines without it."""
    return pytest.importorskip("torch")


@pytest.fixture
def holds_nothing():
    """The test leaves no slot, entry or byte behind."""
    gc.collect()
    before = support.counts()
    yield
    gc.collect()
    assert support.counts() == before


@pytest.fixture
def statistics():
    return memory.statistics


@pytest.fixture(autouse=True)
def no_sweep_left_open():
    """Whatever a test did, failed backward passes included, no sweep is under way after it."""
    yield
    from tapegrad import core

    assert core.sweeping.value == 0
    assert core.leaves_count.value == 0
