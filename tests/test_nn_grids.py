"""Owns the checks of reading images at places (grid_sample, affine_grid), of unpooling and of bags of embeddings: values, derivatives, refusals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tapegrad as tg

F = tg.nn.functional
MODES = [
    (n, mode, padding, aligned)
    for n, mode, padding, aligned in itertools.product((2, 3), ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection"), (False, True))
    if n == 2 or mode != "bicubic"
]  # fmt: skip


def drawn(seed, n):
    rng = np.random.default_rng(seed)
    sizes, out = rng.integers(2, 5, n), rng.integers(1, 4, n)
    return rng.standard_normal((2, 3, *sizes)), rng.uniform(-2.5, 2.5, (2, *out, n)), rng.standard_normal((2, 3, *out))


@pytest.mark.torch
@pytest.mark.parametrize(("n", "mode", "padding", "aligned"), MODES)
def test_grid_sample_agrees_with_torch(n, mode, padding, aligned):
    torch = pytest.importorskip("torch")
    x, grid, weights = drawn(n, n)
    found = []
    for m in (torch, tg):
        a, b = m.tensor(x, requires_grad=True), m.tensor(grid, requires_grad=True)
        out = m.nn.functional.grid_sample(a, b, mode, padding, aligned)
        (out * m.tensor(weights)).sum().backward()
        found.append((out.detach().numpy(), a.grad.numpy(), b.grad.numpy()))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_grid_sample_has_derivatives_of_second_order(mode):
    x, grid, _ = drawn(5, 2)
    inputs = tg.tensor(x[:1, :1], requires_grad=True), tg.tensor(grid[:1, :1, :2] / 3, requires_grad=True)
    f = lambda a, b: F.grid_sample(a, b, mode, "zeros", False)
    assert tg.autograd.gradcheck(f, inputs) and tg.autograd.gradgradcheck(f, inputs)


def test_affine_grid_of_the_identity_reads_the_image_as_it_is():
    image = tg.arange(24.0).reshape(1, 2, 3, 4)
    for aligned in (False, True):
        grid = F.affine_grid(tg.tensor([[[1.0, 0, 0], [0, 1, 0]]]), image.shape, aligned)
        np.testing.assert_allclose(F.grid_sample(image, grid, align_corners=aligned).numpy(), image.numpy(), atol=1e-5)
    theta = tg.rand(2, 3, 4, dtype=tg.float64, requires_grad=True)
    assert tg.autograd.gradcheck(lambda t: F.affine_grid(t, (2, 1, 2, 3, 1), False), theta)


def test_grids_refuse_what_does_not_fit():
    image, grid = tg.rand(2, 3, 4, 5), tg.rand(2, 6, 7, 2)
    with pytest.raises(RuntimeError, match="same batch size, but got input with sizes"):
        F.grid_sample(image, grid[:1], align_corners=False)
    with pytest.raises(RuntimeError, match="expected grid to have size 2 in last dimension"):
        F.grid_sample(image, grid[..., :1], align_corners=False)
    with pytest.raises(RuntimeError, match="bicubic interpolation only supports 4D input"):
        F.grid_sample(tg.rand(1, 1, 2, 2, 2), tg.rand(1, 2, 2, 2, 3), "bicubic", align_corners=False)
    with pytest.raises(ValueError, match="expected padding_mode to be 'zeros', 'border', or 'reflection', but got: 'b'"):
        F.grid_sample(image, grid, padding_mode="b")
    with pytest.raises(ValueError, match="Expected a batch of 2D affine matrices of shape Nx2x3"):
        F.affine_grid(tg.rand(2, 3, 4), (2, 3, 4, 5), False)
    with pytest.warns(UserWarning, match="align_corners=False since 1.3.0"):
        F.grid_sample(image, grid)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_unpooling_puts_the_maxima_back(n):
    pool, unpool = getattr(tg.nn, f"MaxPool{n}d")(2, return_indices=True), getattr(tg.nn, f"MaxUnpool{n}d")(2)
    x = tg.rand(2, 3, *[5, 4, 6][:n], dtype=tg.float64, requires_grad=True)
    values, index = pool(x)
    out = unpool(values, index, x.shape)
    assert out.shape == x.shape
    np.testing.assert_array_equal(pool(out)[0].detach().numpy(), values.detach().numpy())
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), (out.detach().numpy() != 0) * 1.0)
    assert tg.autograd.gradgradcheck(lambda v: unpool(v, index), values.detach().requires_grad_())


def test_unpooling_refuses_places_outside():
    values, index = F.max_pool2d(tg.rand(1, 4, 4), 2, return_indices=True)
    with pytest.raises(RuntimeError, match=r"Found an invalid max index: \d+ \(output volumes are of size 4x4\)"):
        F.max_unpool2d(values, index + 100, 2)
    with pytest.raises(ValueError, match=r'invalid output_size "\(9, 5\)" \(dim 0 must be between 2 and 6\)'):
        F.max_unpool2d(values, index, 2, output_size=(9, 5))
    with pytest.raises(RuntimeError, match="elements in indices should be type int64 but got: Int"):
        F.max_unpool2d(values, index.int(), 2)


def test_a_bag_is_one_node_and_hangs_on_its_table_even_if_nothing_is_in_it():
    table = tg.rand(4, 3, requires_grad=True)
    for mode in ("sum", "mean", "max"):
        out = F.embedding_bag(tg.tensor([0, 0]), table, tg.tensor([0]), mode=mode, padding_idx=0)
        assert type(out.grad_fn).__name__ == "EmbeddingBagBackward0" and not out.any()
        out.sum().backward()
    assert not table.grad.any()
    assert F.embedding_bag(tg.tensor([1, 2]), table, tg.tensor([], dtype=tg.int64)).shape == (0, 3)


def test_bags_refuse_in_torch_s_words():
    table, index = tg.rand(4, 3), tg.tensor([[1, 9]])
    with pytest.raises(RuntimeError, match="Index 1 of input takes value 9 which is not in the valid range"):
        F.embedding_bag(index, table)
    with pytest.raises(RuntimeError, match="Expected idx >= 0 && idx < num_embeddings but found idx to be 9"):
        F.embedding_bag(index, table, mode="max")
    with pytest.raises(RuntimeError, match="padding_idx must be within the number of embeddings, -4 through 3, but got 4"):
        F.embedding_bag(index, table, padding_idx=4)
    with pytest.raises(RuntimeError, match="to have the same type as tensor for argument #1 'per_sample_weights'"):
        F.embedding_bag(index, table, mode="sum", per_sample_weights=tg.ones(1, 2, dtype=tg.float64))
