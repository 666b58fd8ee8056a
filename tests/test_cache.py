"""Owns the checks of the kernel cache: damaged, foreign, read-only and shared directories give right results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tapegrad
from tapegrad.engine import build

PROGRAM = "import tapegrad as tg; x = tg.ones(3, requires_grad=True); tg.tanh(x * 2).sum().backward(); print(round(x.grad[0].item(), 4))"


def start(directory):
    root = Path(tapegrad.__file__).parents[1]
    environment = dict(os.environ, TAPEGRAD_CACHE_DIR=str(directory), PYTHONPATH=str(root))
    return subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert out.strip() == "0.1413"


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A directory that two processes have filled at the same time."""
    directory = tmp_path_factory.mktemp("cache")
    both = [start(directory), start(directory)]
    for process in both:
        finish(process)
    assert not list(directory.glob(".new-*"))
    return directory


def test_concurrent_processes_fill_a_whole_cache(warm):
    assert all(path.read_bytes().startswith(build.MAGIC) for path in warm.glob("*" + build.SUFFIX))


def test_damaged_kernels_are_compiled_again(warm, tmp_path):
    directory = shutil.copytree(warm, tmp_path / "damaged")
    kernels = sorted(directory.glob("kernel-*"))
    assert len(kernels) >= 3
    whole = kernels[0].read_bytes()
    kernels[0].write_bytes(whole[: len(whole) // 2])
    kernels[1].write_bytes(kernels[1].read_bytes()[:-1] + b"\x7f")
    shutil.copy(kernels[-1], kernels[2])
    for path in kernels[3:]:
        path.write_bytes(b"")
    finish(start(directory))


def test_stored_objects_answer_only_to_their_name(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "cache_directory", lambda: tmp_path)
    build.store_cached("one", b"body")
    assert build.load_cached("one") == b"body"
    (tmp_path / ("two" + build.SUFFIX)).write_bytes((tmp_path / ("one" + build.SUFFIX)).read_bytes())
    assert build.load_cached("two") is None
    assert build.load_cached("three") is None


def test_a_place_that_is_no_directory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(build, "cache_directory", lambda: tmp_path / "file")
    build.store_cached("one", b"body")
    assert build.load_cached("one") is None
