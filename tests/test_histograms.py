"""Owns histograms, searches in sorted values and running sums of exponentials: bins, dtypes, special values and errors, as in torch."""

from __future__ import annotations

import numpy as np
import pytest

import tapegrad as tg

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("dtype", [tg.float16, tg.bfloat16, tg.float32, tg.float64])
def test_histc_of_every_float(dtype):
    assert tg.histc(tg.tensor([1, 2, 1], dtype=dtype), bins=4, min=0, max=3).tolist() == [0, 2, 1, 0]
    assert tg.histc(tg.tensor([1.0, NAN, 0.2, INF, 2.0], dtype=dtype), 4, 0, 1).tolist() == [1, 0, 0, 1]
    assert tg.histc(tg.tensor([0.0, 1.0, 4.0], dtype=dtype), 2, 3, 3).tolist() == [2, 1]  # equal ends: those of the data
    assert tg.histc(tg.tensor([2.0], dtype=dtype), 2).tolist() == [0, 1]
    assert tg.histc(tg.tensor([], dtype=dtype), 2).tolist() == [0, 0]


def test_histogram_of_nothing_and_of_what_is_not_finite():
    found = tg.histogram(tg.tensor([]), 2)
    assert found.hist.tolist() == [0, 0]
    assert found.bin_edges.tolist() == [0, 0.5, 1]
    with pytest.raises(RuntimeError, match=r"torch.histogramdd: dimension 0's range \[1, inf\] is not finite"):
        tg.histogram(tg.tensor([1.0, INF]), 2)
    edges = tg.histogram(tg.tensor([-0.3, 1.1]), 7).bin_edges
    assert edges.tolist() == tg.linspace(-0.3, 1.1, 8).tolist()


@pytest.mark.parametrize(("hist", "edges", "said"), [("float64", "float32", "hist double"), ("float32", "float64", "bin_edges double for dimension 0")])
def test_histogram_writes_to_its_own_dtype_only(hist, edges, said):
    for bins in (3, tg.tensor([1.0, 2.0])):
        out = (tg.empty(0, dtype=getattr(tg, hist)), tg.empty(0, dtype=getattr(tg, edges)))
        with pytest.raises(RuntimeError, match=f"should have the same dtype, but got input float and {said}"):
            tg.histogram(tg.tensor([1.5]), bins, out=out)


def test_search_promotes():
    keys, values = tg.tensor([1, 2, 3]), tg.tensor([[0.5, 2.5]], dtype=tg.float64)
    assert tg.searchsorted(keys, values).tolist() == [[0, 2]]
    assert tg.bucketize(values, keys).tolist() == [[0, 2]]
    assert tg.searchsorted(tg.tensor([0.1, 0.2]), tg.tensor(0.1, dtype=tg.float64)).item() == 0  # a 0-d tensor takes the dtype of the keys
    assert tg.searchsorted(values[0], tg.tensor([1], dtype=tg.int32)).tolist() == [1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([complex(-INF, 1), complex(-INF, 2)], [complex(-INF, 0)] * 2),
        ([complex(INF, 0), complex(INF, 3)], [complex(INF, 0), complex(INF, NAN)]),
        ([1, complex(INF, NAN), 1], [1, complex(NAN, NAN), complex(NAN, NAN)]),
        ([complex(NAN, 1), 1], [complex(NAN, NAN)] * 2),
        ([0, -41], [0, 1.5628821893349888e-18]),
    ],
)
def test_running_sums_of_exponentials_of_complex_numbers(given, expected):
    found = tg.logcumsumexp(tg.tensor(given, dtype=tg.complex128), 0).numpy()
    np.testing.assert_allclose(found.real, np.array(expected).real, rtol=1e-14)
    np.testing.assert_allclose(found.imag, np.array(expected).imag, rtol=1e-14)
