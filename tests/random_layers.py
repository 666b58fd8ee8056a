"""Owns the generator of random programs of the kinds that models are made of: what `random_wild.py` draws, and with it layers and losses,
gathers and scatters along any dim, places given as tensors, complex numbers, statistics, loops that carry a state.

    python tests/random_layers.py --count 2000 --seed 0
"""

from __future__ import annotations

import sys

import random_programs
import random_wild

import tapegrad as tg

F = "m.nn.functional."
# {x} has at least two dims, {d} is one of them, {n} its size.  No layer_norm, of which PyTorch's third derivatives are wrong, and no cdist, which has no second ones there.
LAYERS = [
    F + "batch_norm({x}, None, None, training=True)", F + "normalize({x}, dim={d})", F + "log_softmax({x}, {d})",
    F + "conv1d({x}.flatten(1).unsqueeze(1), m.ones(2, 1, 1, dtype={x}.dtype) * 0.4)",
    F + "avg_pool1d({x}.flatten(1).unsqueeze(0), 1)", F + "glu(m.cat([{x}, {x}], {d}), {d})",
    F + "max_pool1d({x}.flatten(1).unsqueeze(0), 1)", F + "scaled_dot_product_attention({x}.flatten(1), {x}.flatten(1).sin(), {x}.flatten(1))", F + "elu({x})",
    F + "linear({x}.flatten(1), {x}.flatten(1).cos(), None)", F + "pad({x}, (1, 0, 0, 1), value=0.5)",
    F + "cosine_similarity({x}, {x}.sin() + 2, {d})", F + "rms_norm({x}, {x}.shape[-1:])",
    F + "interpolate({x}.flatten(1).unsqueeze(1), scale_factor=2, mode='linear')", F + "unfold({x}.flatten(1)[None, None], 1)",
    F + "hardtanh({x}, -0.5, 0.5)", F + "silu({x})",
    F + "embedding(m.tensor([0, 0]), {x}.flatten(1))",
    F + "one_hot(m.tensor([0]), {n}).to({x}.dtype) * {x}.sum()", F + "pairwise_distance({x}.flatten(1), {x}.flatten(1).sin() + 3)",
]  # fmt: skip
LOSSES = [
    F + "mse_loss({x}, {x}.sin())", F + "l1_loss({x}, {x} * {x}, reduction='none')",
    F + "smooth_l1_loss({x}, {x}.cos(), beta=0.5)", F + "huber_loss({x}, {x}.cos(), reduction='sum')",
    F + "cross_entropy({x}.flatten(1), m.zeros({x}.shape[0], dtype=m.int64), label_smoothing=0.1)",
    F + "nll_loss({x}.flatten(1).log_softmax(1), m.zeros({x}.shape[0], dtype=m.int64))",
    F + "binary_cross_entropy_with_logits({x}, {x}.sigmoid())", F + "kl_div({x}.log_softmax({d}), {x}.sin().softmax({d}), reduction='sum')", F + "softplus({x}).mean()",
    F + "cross_entropy({x}.flatten(1), {x}.flatten(1).sin().softmax(1))",
    F + "poisson_nll_loss({x}.tanh(), {x}.detach().abs())", F + "gaussian_nll_loss({x}, {x}.sin(), {x}.cos() + 2)",
]  # fmt: skip
GATHERS = [
    "{x}.gather({d}, {x}.detach().argsort({d}))",
    "{x}.take_along_dim({x}.detach().argmax({d}, keepdim=True), {d})", "m.zeros_like({x}).scatter_add({d}, {x}.detach().argsort({d}), {x})",
    "{x}.scatter({d}, {x}.detach().argmax({d}, keepdim=True), {x}.sum({d}, keepdim=True))",
    "m.zeros_like({x}).index_add({d}, m.zeros({n}, dtype=m.int64), {x})", "{x}.index_select({d}, m.tensor([0, 0]))",
    "{x}.scatter_reduce({d}, {x}.detach().argmin({d}, keepdim=True), {x}.mean({d}, keepdim=True), 'sum')",
    "{x}.masked_fill({x} > 0.2, 0.3)", "m.where({x} > {x}.mean(), {x}, {x}.sum())",
    "{x}[{x}.detach() > -9]", "{x}.masked_scatter({x} > 0, {x}.sin().flatten())",
    "m.take({x}, m.tensor([0, -1]))", "{x}[..., m.tensor([0, -1])]", "{x}[m.tensor([[0], [-1]]), m.tensor([0, -1])]",
    "{x}[:, [0, -1]]", "{x}[m.arange({x}.shape[0]), 0]", "{x}[m.tensor(0)]",
    "{x}[m.tensor(0) :]", "{x}[: m.tensor(1)]", "{x}.index_copy({d}, m.tensor([0]), {x}.narrow({d}, {n} - 1, 1))",
    "{x}.index_put((m.tensor([0, 0]),), {x}[-1], accumulate=True)",
    "{x}.diagonal_scatter({x}.diagonal(0, 0, 1).sin(), 0, 0, 1)", "{x}.select_scatter({x}.select({d}, 0) * 2, {d}, -1)",
]  # fmt: skip
NUMBERS = [
    "m.view_as_real(m.complex({x}, {x}.sin()))", "m.complex({x}, {x} * 0.5).abs()",
    "(m.complex({x}, {x}.cos()) * 1j).real", "m.complex({x}, {x}.cos()).conj().imag", "m.polar({x}.exp(), {x}).real",
    "m.complex({x} + 3, {x}).angle()", "(m.complex({x}, {x}.sin()) * m.complex({x}, {x}).conj()).real", "m.view_as_complex(m.stack([{x}, {x}.sin()], -1)).abs()",
    "m.std_mean({x}, {d}, correction=0)[0]", "m.quantile({x}, 0.3, {d})", "m.var({x}, {d}, correction=0, keepdim=True)", "{x}.cummin({d})[0]",
    "m.trapezoid({x}, dim={d})", "m.cov({x}.flatten(1), correction=0)", "m.logaddexp({x}, {x}.sin())",
    "{x}.unflatten({d}, (1, {n}))", "m.tile({x}, (1, 2))", "{x}.movedim({d}, 0)", "{x}.mT",
    "m.linalg.norm({x}.flatten(1))", "m.linalg.matrix_norm({x}.flatten(1))",
    "m.linalg.slogdet(m.eye({n}, dtype={x}.dtype) * 3 + {x}.sum() * 0.01)[1]", "m.einsum('i...,i...->...', {x}, {x}.sin())",
    "m.meshgrid({x}.flatten(), {x}.flatten()[:2], indexing='ij')[0]", "m.hstack([{x}, {x}])",
    "{x}.nan_to_num()", "m.addcdiv({x}, {x}, {x} * {x} + 1, value=0.5)", "m.lerp({x}, {x}.sin(), {x}.cos())",
]  # fmt: skip
# Loops: the state {s} starts as a copy of {x}.
STEPS = ["{s} = {s} + 0.1 * m.tanh({s}) * {k}", "{s} = {s}.clone(); {s}[{s} > 0] *= 0.9", "{s} = m.where({s} > 0.1, {s} * 0.9, {s}.sin())", "{s} = {s} - 0.1 * {x}.to({s}.dtype).sin()",
         "{s} = {s} * 0.5 + {s}.detach() * 0.5", "{s}.mul_(0.9).add_(0.05 * {k})", "{s} = {s}.clone(); {s}.view_as({s})[...].neg_()"]  # fmt: skip


class Layered(random_wild.Wild):
    """A program with the kinds of steps that models take."""

    kinds = [*random_wild.Wild.kinds, "layer", "layer", "loss", "loss", "gather", "gather", "number", "number", "loop", "loop"]

    def add_kind(self, texts):
        x = self.pick(lambda s: len(s) > 1 and 0 not in s)
        if x is None:
            return self.add_unary()
        shape = self.shapes[x]
        d = self.draw.randrange(len(shape))
        text = self.draw.choice(texts)
        try:
            result = eval(text.format(x="v", d=d, n=shape[d]), {"m": tg, "v": tg.ones(shape)})
        except (RuntimeError, ValueError, IndexError):  # not for this shape: torch refuses it too
            self.line(f"attempt(log, lambda: {text.format(x=x, d=d, n=shape[d])})")
            return
        if result.numel() > 80 or "detach() > -9" in text and self.draw.random() < 0.5:
            return
        self.emit(text.format(x=x, d=d, n=shape[d]), tuple(result.shape), x)
        name = f"v{len(self.shapes) - 1}"
        if any(word in text for word in ("unflatten", "[m.tensor(0)", "[: m", "real", "imag", "movedim", "meshgrid", "nan_to_num", "pool", "pad", "masked_fill")):
            self.wide.add(name)  # may be a view

    def add_layer(self):
        self.add_kind(LAYERS)

    def add_loss(self):
        self.add_kind(LOSSES)

    def add_gather(self):
        self.add_kind(GATHERS)

    def add_number(self):
        self.add_kind(NUMBERS)

    def add_loop(self):
        x = self.pick()
        self.emit(f"{x} * 1", self.shapes[x])
        state = f"v{len(self.shapes) - 1}"
        steps = "; ".join(self.draw.choice(STEPS).format(s=state, x=x, k="k") for _ in range(self.draw.randint(1, 2)))
        self.line(f"for k in range(1, {self.draw.randint(2, 5)}): {steps}")


if __name__ == "__main__":
    sys.exit(random_programs.main(Layered, random_wild.check))
