"""Owns the checks of attention and Transformer layers: values, gradients, masks, state, texts and refusals, against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import support

import tapegrad as tg


def f(m):
    return m.nn.functional.scaled_dot_product_attention


Q, K, V = (2, 4, 3, 5), (2, 4, 6, 5), (2, 4, 6, 7)
DOT = {
    "plain": (lambda m, q, k, v: f(m)(q, k, v), [Q, K, V]), "matrices": (lambda m, q, k, v: f(m)(q, k, v), [(3, 5), (6, 5), (6, 7)]),
    "causal": (lambda m, q, k, v: f(m)(q, k, v, is_causal=True), [Q, K, V]), "scale": (lambda m, q, k, v: f(m)(q, k, v, scale=-0.3), [Q, K, V]),
    "bools": (lambda m, q, k, v: f(m)(q, k, v, m.tensor(np.arange(18).reshape(3, 6) % 4 > 0)), [Q, K, V]),
    "added": (lambda m, q, k, v, a: f(m)(q, k, v, a), [Q, K, V, (3, 6)]), "nobody": (lambda m, q, k, v: f(m)(q, k, v, m.tensor(np.arange(18).reshape(3, 6) < 9)), [Q, K, V]),
    "groups": (lambda m, q, k, v: f(m)(q, k, v, enable_gqa=True), [(2, 4, 3, 5), (2, 2, 6, 5), (2, 2, 6, 7)]),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.parametrize("name", DOT)
def test_dot_products_as_torch(name, rng):
    pytest.importorskip("torch")
    function, shapes = DOT[name]
    support.check_against_torch(function, [rng.uniform(-1, 1, s) for s in shapes], rng, layout=False, second=name not in ("groups",))


LAYERS = {
    "attention": ("MultiheadAttention", (8, 2), {}), "no bias": ("MultiheadAttention", (8, 4), {"bias": False, "batch_first": True}),
    "other sizes": ("MultiheadAttention", (8, 2), {"kdim": 3, "vdim": 5}), "more keys": ("MultiheadAttention", (8, 2), {"add_bias_kv": True, "add_zero_attn": True}),
    "encoder layer": ("TransformerEncoderLayer", (8, 2, 16), {"dropout": 0.0}),
    "norm first": ("TransformerEncoderLayer", (8, 2, 16), {"dropout": 0.0, "norm_first": True, "activation": "gelu", "batch_first": True}),
    "decoder layer": ("TransformerDecoderLayer", (8, 2, 16), {"dropout": 0.0}),
    "decoder norm first": ("TransformerDecoderLayer", (8, 2, 16), {"dropout": 0.0, "norm_first": True, "bias": False}),
    "transformer": ("Transformer", (8, 2, 2, 1, 16, 0.0), {}), "batch first": ("Transformer", (8, 2, 1, 1, 16, 0.0), {"batch_first": True, "norm_first": True}),
}  # fmt: skip


def layer(m, name):
    """A layer with torch's initial values."""
    kind, positions, options = LAYERS[name]
    m.manual_seed(3)
    return getattr(m.nn, kind)(*positions, dtype=m.float64, **options)


def masks_of(m, masks, length, size, rows):
    """(an attention mask, a padding mask), of numbers or bools."""
    if masks == "none":
        return None, None
    attention, padding = np.arange(length)[:, None] < np.arange(size) - 1, np.arange(rows)[:, None] + np.arange(size) > size
    if masks == "bools":
        return m.tensor(attention), m.tensor(padding)
    return m.tensor(attention * -0.7), m.tensor(padding * -1.3)


def run(m, name, masks):
    """The outputs of a layer and the gradients of a loss of them."""
    module, rng = layer(m, name), np.random.default_rng(5)
    kind, first = type(module).__name__, LAYERS[name][2].get("batch_first")
    turn = (lambda t: t.transpose(0, 1)) if first else lambda t: t
    draw = lambda length, size: m.tensor(rng.uniform(-1, 1, (length, 3, size)), requires_grad=True)
    x, y = draw(4, 8), draw(6, 8)
    leaves = [x, y]
    if kind == "MultiheadAttention":
        attention, padding = masks_of(m, masks, 4, 6, 3)
        key, value = draw(6, module.kdim), draw(6, module.vdim)
        leaves = [x, key, value]
        out = [t for need in (True, False) for t in module(*map(turn, leaves), key_padding_mask=padding, attn_mask=attention, need_weights=need)]
        out += module(*map(turn, leaves), average_attn_weights=False)
    elif kind == "TransformerEncoderLayer":
        attention, padding = masks_of(m, masks, 4, 4, 3)
        out, leaves = [module(turn(x), attention, padding)], [x]
    elif kind == "TransformerDecoderLayer":
        attention, padding = masks_of(m, masks, 4, 4, 3)
        out = [module(turn(x), turn(y), tgt_mask=attention, tgt_key_padding_mask=padding)]
    else:
        attention = None if masks == "none" else module.generate_square_subsequent_mask(4, dtype=m.float64)
        out = [module(turn(y), turn(x), tgt_mask=attention, memory_key_padding_mask=masks_of(m, masks, 4, 6, 3)[1] if masks != "numbers" else None)]
    out = [t for t in out if t is not None]
    loss = sum((t * t.cos()).sum() for t in out)
    return [support.value(t) for t in out], [support.value(g) for g in m.autograd.grad(loss, [*module.parameters(), *leaves], allow_unused=True) if g is not None]


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("masks", ["none", "bools", "numbers"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_as_torch(name, masks):
    torch = pytest.importorskip("torch")
    found, expected = run(tg, name, masks), run(torch, name, masks)
    for a, b in zip(found[0] + found[1], expected[0] + expected[1], strict=True):
        support.close(a, b, 1e-10)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAYERS)
def test_texts_and_state_as_torch(name):
    torch = pytest.importorskip("torch")
    mine, theirs = layer(tg, name), layer(torch, name)
    assert repr(mine) == repr(theirs)
    assert [(k, v.shape) for k, v in mine.state_dict().items()] == [(k, tuple(v.shape)) for k, v in theirs.state_dict().items()]
    for a, b in zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True):
        support.close(support.value(a), support.value(b), 1e-12)


def test_a_sequence_without_a_batch(rng):
    attention = tg.nn.MultiheadAttention(4, 2, dtype=tg.float64)
    x = tg.tensor(rng.uniform(-1, 1, (5, 4)))
    alone, together = attention(x, x, x), attention(*[x.unsqueeze(1)] * 3)
    support.close(support.value(alone[0]), support.value(together[0].squeeze(1)))
    support.close(support.value(alone[1]), support.value(together[1].squeeze(0)))


@pytest.mark.torch
def test_dropout_of_weights_as_torch():
    torch = pytest.importorskip("torch")
    outputs = []
    for m in (tg, torch):
        m.manual_seed(1)
        module = m.nn.MultiheadAttention(4, 2, dropout=0.5)
        m.manual_seed(2)
        outputs.append([support.value(t) for t in module(*[m.ones(3, 2, 4)] * 3)])
    for a, b in zip(*outputs, strict=True):
        support.close(a, b, 1e-5)


def attend(m, *shapes, heads=2, **options):
    return m.nn.MultiheadAttention(4, heads)(*[m.ones(*s) for s in shapes], **options)


ONE = (2, 3, 4)
ERRORS = {
    "vectors": lambda m: f(m)(m.ones(2), m.ones(2), m.ones(2)), "dtypes": lambda m: f(m)(m.ones(2, 2), m.ones(2, 2), m.ones(2, 2).double()),
    "two masks": lambda m: f(m)(m.ones(2, 2), m.ones(2, 2), m.ones(2, 2), m.ones(2, 2), is_causal=True),
    "integers": lambda m: f(m)(m.ones(2, 2), m.ones(2, 2), m.ones(2, 2), m.ones(2, 2, dtype=m.int64)),
    "heads": lambda m: m.nn.MultiheadAttention(4, 3), "no heads": lambda m: m.nn.MultiheadAttention(4, 0), "rank": lambda m: attend(m, ONE, (2, 4), ONE),
    "padding rank": lambda m: attend(m, ONE, ONE, ONE, key_padding_mask=m.ones(3)), "mask rank": lambda m: attend(m, ONE, ONE, ONE, attn_mask=m.ones(3)),
    "mask shape": lambda m: attend(m, ONE, ONE, ONE, attn_mask=m.ones(3, 3)), "mask heads": lambda m: attend(m, ONE, ONE, ONE, attn_mask=m.ones(3, 2, 2)),
    "padding shape": lambda m: attend(m, ONE, ONE, ONE, key_padding_mask=m.ones(2, 2) > 0), "width": lambda m: attend(m, (2, 3, 5), ONE, ONE),
    "values": lambda m: attend(m, ONE, ONE, (3, 3, 4)), "causal": lambda m: attend(m, ONE, ONE, ONE, is_causal=True),
    "integer mask": lambda m: attend(m, ONE, ONE, ONE, attn_mask=m.ones(2, 2, dtype=m.int64)), "activation": lambda m: m.nn.TransformerEncoderLayer(4, 2, activation="sin"),
    "batches": lambda m: m.nn.Transformer(4, 2, 1, 1, 4)(m.ones(2, 3, 4), m.ones(2, 2, 4)), "features": lambda m: m.nn.Transformer(4, 2, 1, 1, 4)(m.ones(2, 3, 5), m.ones(2, 3, 4)),
}  # fmt: skip


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ERRORS)
def test_errors_as_torch(name):
    pytest.importorskip("torch")
    support.check_error_as_torch(ERRORS[name])
