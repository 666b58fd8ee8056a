"""Owns what `tapegrad.func`, forward mode and custom Functions share with PyTorch to the letter: results, errors and their texts."""

from __future__ import annotations

import numpy as np
import pytest
import support

import tapegrad as tg
from tapegrad.utils._pytree import tree_leaves

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore::UserWarning")]


class Two:
    """A module as functional_call knows them, without `nn`."""

    training = True

    def __init__(self, m, scale=1.0):
        self.weight, self.bias = m.ones(2) * scale, m.zeros(2)

    def named_parameters(self):
        return [("weight", self.weight), ("bias", self.bias)]

    def named_buffers(self):
        return []

    def __call__(self, x, power=1):
        return x**power * self.weight + self.bias


def functions(m):
    """Custom Functions of module `m`, by name."""

    class Old(m.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2

    class Plain(m.autograd.Function):
        @staticmethod
        def forward(x):
            return x * 2

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, g):
            return g * 2

    class Cube(m.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x, scale):
            return x**3 * scale, x * 0 + 1

        @staticmethod
        def setup_context(ctx, inputs, output):
            x, ctx.scale = inputs
            ctx.save_for_backward(x)
            ctx.save_for_forward(x)
            ctx.mark_non_differentiable(output[1])

        @staticmethod
        def backward(ctx, g, _):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * g * ctx.scale, None

        @staticmethod
        def jvp(ctx, t, _):
            (x,) = ctx.saved_tensors
            return 3 * x**2 * t * ctx.scale, None

    class Both(Plain):
        generate_vmap_rule = True

        @staticmethod
        def vmap(info, in_dims, x):
            return Plain.apply(x), 0

    class Own(Plain):
        @staticmethod
        def vmap(info, in_dims, x):
            assert info.batch_size == x.shape[in_dims[0]] and info.randomness == "error"
            return Plain.apply(x) + 1, in_dims[0]

    class One(Plain):
        @staticmethod
        def vmap(info, in_dims, x):
            return x

    class Product(m.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x, y):
            return x * y

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)
            ctx.save_for_forward(*inputs)

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return g * y, g * x

        @staticmethod
        def jvp(ctx, tx, ty):
            x, y = ctx.saved_tensors
            return tx * y + ty * x

    class Short(Product):
        @staticmethod
        def jvp(ctx, tx, ty):
            return tx, ty

    class Wrong(Product):
        @staticmethod
        def jvp(ctx, tx, ty):
            return 3

    return {k: v for k, v in locals().items() if k != "m"}


def _needs_x(m, f):
    def run(x):
        y = m.zeros(2)
        y[0] = x
        return f(y)

    return run


def _duals(m, f):
    fw = m.autograd.forward_ad
    with fw.dual_level():
        return f(fw, fw.make_dual(m.arange(3.0), m.ones(3)))


def _written(m, fw, d):
    y = m.zeros(3)
    v = y[1:]
    y[0] = d[1] * 2
    v.mul_(3)
    z = m.zeros(3)
    z.copy_(d)
    d.mul_(2.5)
    return [t for x in (y, z, d) for t in fw.unpack_dual(x)]


X = lambda m: m.arange(3.0)
M = lambda m: m.arange(6.0).reshape(3, 2)
G = lambda m: m.arange(3.0).requires_grad_()

SNIPPETS = {
    # vmap
    "sizes": lambda m: m.vmap(m.add)(m.ones(3), m.ones(2)),
    "no inputs": lambda m: m.vmap(lambda: 1)(),
    "no tensor": lambda m: m.vmap(m.add, in_dims=(None, None))(m.ones(3), m.ones(2)),
    "in_dims kind": lambda m: m.vmap(m.add, in_dims=[0, 0])(m.ones(3), m.ones(3)),
    "in_dims structure": lambda m: m.vmap(lambda x: x[0] + x[1], in_dims=((0, 0, 0),))((m.ones(3), m.ones(3))),
    "in_dims name": lambda m: m.vmap(lambda x: x["a"], in_dims=({"a": "b"},))({"a": m.ones(3)}),
    "in_dims range": lambda m: m.vmap(m.sin, in_dims=2)(m.ones(3)),
    "in_dims number": lambda m: m.vmap(m.add)(m.ones(3), 2.0),
    "in_dims dict": lambda m: m.vmap(lambda d, y: d["a"] * y + d["b"].sum(), in_dims=({"a": 0, "b": None}, -1))({"a": X(m), "b": X(m)}, M(m).t()),
    "out_dims kind": lambda m: m.vmap(m.sin, out_dims="a")(m.ones(3)),
    "out_dims range": lambda m: m.vmap(m.sin, out_dims=1)(m.ones(3)),
    "out_dims structure": lambda m: m.vmap(lambda x: (x, x), out_dims=(0, 0, 0))(m.ones(3)),
    "out_dims tuple": lambda m: m.vmap(lambda x: (x, x.sum()), out_dims=(1, 0))(M(m)),
    "out_dims None": lambda m: m.vmap(lambda x: (x, 3), out_dims=(0, None))(M(m))[0],
    "out_dims None of batch": lambda m: m.vmap(lambda x: x, out_dims=None)(M(m)),
    "no tensor out": lambda m: m.vmap(lambda x: 3)(M(m)),
    "None out": lambda m: m.vmap(lambda x: None)(M(m)),
    "unbatched out": lambda m: m.vmap(lambda x: m.ones(2))(M(m)),
    "chunks": lambda m: m.vmap(lambda x, y: (x * y, {"s": y.sum() + x}), in_dims=(0, None), chunk_size=2, out_dims=(1, {"s": 0}))(M(m), m.ones(2)),
    "chunk_size": lambda m: m.vmap(m.sin, chunk_size=0),
    "randomness": lambda m: m.vmap(m.sin, randomness="x")(m.ones(2)),
    "random": lambda m: m.vmap(lambda x: m.randn(2) + x)(M(m)),
    "random same in place": lambda m: m.vmap(lambda x: m.zeros(2).normal_() * x, randomness="different")(M(m)),
    "item": lambda m: m.vmap(lambda x: x.item())(X(m)),
    "branch": lambda m: m.vmap(lambda x: x if x > 0 else -x)(X(m)),
    "float": lambda m: m.vmap(lambda x: float(x))(X(m)),
    "numpy": lambda m: m.vmap(lambda x: x.numpy())(X(m)),
    "nonzero": lambda m: m.vmap(lambda x: x.nonzero())(M(m)),
    "mask index": lambda m: m.vmap(lambda x: x[x > 0])(M(m)),
    "masked_select": lambda m: m.vmap(lambda x: x.masked_select(x > 0))(M(m)),
    "equal": lambda m: m.vmap(lambda x: m.equal(x, x))(M(m)),
    "in place unbatched": lambda m: m.vmap(_needs_x(m, lambda y: y))(X(m)),
    "in place captured": lambda m: m.vmap(lambda x, y: y.mul_(x), in_dims=(0, None))(M(m), m.ones(2)),
    "dim out of range": lambda m: m.vmap(lambda x: x.sum(2))(m.ones(2, 2, 2)),
    "requires_grad_": lambda m: m.vmap(lambda x: x.requires_grad_())(X(m)),
    "backward": lambda m: m.vmap(lambda x: x.backward())(X(m)),
    "of a leaf": lambda m: m.vmap(lambda x: x * x)(G(m)),
    # grad, vjp, jvp
    "grad": lambda m: m.func.grad(lambda x: (x**2).sum())(X(m)),
    "argnums": lambda m: m.func.grad(lambda x, y: ((x * y).sum(), y), argnums=(1, 0), has_aux=True)(X(m), m.ones(3)),
    "argnums negative": lambda m: m.func.grad(lambda x, y: (x * y).sum(), argnums=-1)(X(m), m.ones(3)),
    "argnums range": lambda m: m.func.grad(lambda x, y: (x * y).sum(), argnums=2)(X(m), m.ones(3)),
    "argnums twice": lambda m: m.func.grad(lambda x, y: (x * y).sum(), argnums=(0, 0))(X(m), m.ones(3)),
    "argnums empty": lambda m: m.func.grad(lambda x, y: (x * y).sum(), argnums=())(X(m), m.ones(3)),
    "argnums kind": lambda m: m.func.grad(lambda x, y: (x * y).sum(), argnums="0")(X(m), m.ones(3)),
    "grad of a tree": lambda m: m.func.grad(lambda p: (p["w"] * p["b"][0]).sum())({"w": X(m), "b": [m.ones(3), m.ones(1)]}),
    "grad of a vector": lambda m: m.func.grad(lambda x: x)(X(m)),
    "grad of no tensor": lambda m: m.func.grad(lambda x: 3)(X(m)),
    "grad of ints": lambda m: m.func.grad(lambda x: x.sum())(m.arange(3)),
    "grad by a number": lambda m: m.func.grad(lambda x: x.sum())(3.0),
    "grad aux": lambda m: m.func.grad(lambda x: x.sum(), has_aux=True)(X(m)),
    "grad unused": lambda m: m.func.grad(lambda x, y: x.sum(), argnums=(0, 1))(X(m), m.ones(2)),
    "grad constant": lambda m: m.func.grad(lambda x: m.ones(()))(X(m)),
    "grad of an outer leaf": lambda m: m.func.grad(lambda x: (x**3).sum())(G(m)),
    "grad with a captured leaf": lambda m: (lambda w: m.func.grad(lambda x: (x * w).sum())(X(m)))(G(m)),
    "grad in no_grad": lambda m: m.no_grad()(m.func.grad(lambda x: (x**3).sum()))(G(m)),
    "no_grad in grad": lambda m: m.func.grad(lambda x: (x * m.no_grad()(lambda: x * x)()).sum())(X(m)),
    "perturbation": lambda m: m.func.grad(lambda x: x * m.func.grad(lambda y: x + y)(x))(m.tensor(3.0)),
    "detach": lambda m: m.func.grad(lambda x: (x * x.detach()).sum())(X(m)),
    "grad_and_value": lambda m: m.func.grad_and_value(lambda x: ((x**2).sum(), {"a": x}), has_aux=True)(X(m)),
    "vjp tree": lambda m: m.func.vjp(lambda x: {"a": x * x, "b": (x.sum(),)}, X(m))[1]({"a": X(m), "b": (m.ones(()),)}),
    "vjp structure": lambda m: m.func.vjp(lambda x: (x, {"a": x}), X(m))[1](X(m)),
    "vjp ints": lambda m: m.func.vjp(lambda x: x.long(), X(m)),
    "vjp nothing": lambda m: m.func.vjp(lambda x: None, X(m)),
    "vjp numbers": lambda m: m.func.vjp(lambda x: (x, 3), X(m)),
    "vjp aux": lambda m: m.func.vjp(lambda x: (x * x, x), X(m), has_aux=True)[2],
    "vjp of a leaf": lambda m: m.func.vjp(lambda x: x * x, G(m))[1](m.ones(3)),
    "vjp twice": lambda m: [m.func.vjp(lambda x: x**3, X(m))[1](v) for v in (X(m), m.ones(3))],
    "jvp": lambda m: m.func.jvp(lambda x, y: x * y, (X(m), X(m)), (m.ones(3), X(m))),
    "jvp constant": lambda m: m.func.jvp(lambda x: m.ones(2), (X(m),), (X(m),)),
    "jvp strict": lambda m: m.func.jvp(lambda x: m.ones(2), (X(m),), (X(m),), strict=True),
    "jvp structure": lambda m: m.func.jvp(m.sin, (X(m),), [X(m)]),
    "jvp tuple": lambda m: m.func.jvp(m.sin, X(m), X(m)),
    "jvp shape": lambda m: m.func.jvp(m.sin, (X(m),), (m.ones(2),)),
    "jvp ints": lambda m: m.func.jvp(m.sin, (m.arange(3),), (m.arange(3),)),
    "jvp number": lambda m: m.func.jvp(m.sin, (X(m),), (3.0,)),
    "jvp aux": lambda m: m.func.jvp(lambda x: (x * x, x), (X(m),), (X(m),), has_aux=True),
    "jvp written": lambda m: m.func.jvp(_needs_x(m, lambda y: y * y), (m.tensor(3.0),), (m.tensor(2.0),)),
    "jacrev tree": lambda m: m.func.jacrev(lambda x, y: {"a": x * y.sum(), "b": [y]}, argnums=(0, 1))(X(m), m.ones(2)),
    "jacfwd tree": lambda m: m.func.jacfwd(lambda x, y: {"a": x * y.sum(), "b": [y]}, argnums=(0, 1))(X(m), m.ones(2)),
    "jacrev chunks": lambda m: m.func.jacrev(lambda x: (x**2).cumsum(0), chunk_size=2)(X(m)),
    "jacrev rows": lambda m: m.func.jacrev(lambda x: (x**2).cumsum(0), chunk_size=1)(X(m)),
    "jacrev chunk_size": lambda m: m.func.jacrev(m.sin, chunk_size=0),
    "jacfwd aux": lambda m: m.func.jacfwd(lambda x: (x * x, x.sum()), has_aux=True)(X(m)),
    "hessian tree": lambda m: m.func.hessian(lambda p: (p[0] ** 2 * p[1].sum()).sum())((X(m), m.ones(2))),
    "hessian argnums": lambda m: m.func.hessian(lambda x, y: (x * y * y).sum(), argnums=(0, 1))(X(m), X(m)),
    "backward in grad": lambda m: m.func.grad(lambda x: x.clone().backward())(m.ones(())),
    "requires_grad_ in grad": lambda m: m.func.grad(lambda x: x.clone().requires_grad_())(m.ones(())),
    "in place on the input": lambda m: m.func.grad(lambda x: x.add_(1).sum())(X(m)),
    "in place inside": lambda m: m.func.grad(lambda x: _needs_x(m, lambda y: (y * y).sum())(x[1]))(X(m)),
    "in place on a captured tensor": lambda m: (lambda c: m.func.grad(lambda x: c.add_(x).sum())(X(m)))(m.zeros(3)),
    "in place on an argument": lambda m: (lambda c: (m.func.grad(lambda x, c: c.add_(x).sum())(X(m), c), c))(m.zeros(3)),
    "copy to a captured tensor": lambda m: (lambda c: m.func.jvp(lambda x: c.copy_(x), (X(m),), (X(m),)))(m.zeros(3)),
    # modules
    "functional_call": lambda m: m.func.functional_call(Two(m), {"weight": m.full((2,), 3.0)}, (m.ones(2),), {"power": 2}) if m is tg else m.full((2,), 3.0),
    # forward_ad
    "dual": lambda m: _duals(m, lambda fw, d: [fw.unpack_dual(d * d).tangent, fw.unpack_dual(d).primal, d.sin().detach()]),
    "dual shape": lambda m: _duals(m, lambda fw, d: fw.make_dual(m.ones(3), m.ones(2))),
    "dual twice": lambda m: _duals(m, lambda fw, d: fw.make_dual(d, m.ones(3))),
    "dual nested": lambda m: _duals(m, lambda fw, d: fw.enter_dual_level()),
    "dual outside": lambda m: m.autograd.forward_ad.make_dual(m.ones(3), m.ones(3)),
    "dual exit": lambda m: m.autograd.forward_ad.exit_dual_level(level=3),
    "dual ints": lambda m: _duals(m, lambda fw, d: fw.make_dual(m.arange(3), m.ones(3))),
    "dual of a bool": lambda m: _duals(m, lambda fw, d: str(fw.unpack_dual(d > 1).tangent) == "None" and d),
    "dual after": lambda m: _duals(m, lambda fw, d: d) * 2,
    "dual written": lambda m: _duals(m, lambda fw, d: _written(m, fw, d)),
    "dual repr": lambda m: _duals(m, lambda fw, d: repr(d)),
    # custom Functions
    **{f"{name} {how}": (lambda name, run: lambda m: run(m, functions(m)[name].apply))(name, run)
       for name, hows in {
           "Old": ("vmap", "grad"), "Plain": ("vmap", "grad", "jvp", "jacrev"), "Both": ("vmap",), "Own": ("vmap", "vmapgrad", "nested"), "One": ("vmap",),
       }.items()
       for how, run in {
           "vmap": lambda m, f: m.vmap(f)(X(m)), "grad": lambda m, f: m.func.grad(lambda x: f(x).sum())(X(m)),
           "jvp": lambda m, f: m.func.jvp(f, (X(m),), (X(m),)), "jacrev": lambda m, f: m.func.jacrev(f)(X(m)),
           "vmapgrad": lambda m, f: m.vmap(m.func.grad(f))(X(m)), "nested": lambda m, f: m.vmap(m.vmap(f))(M(m)),
       }.items() if how in hows},
    "Cube": lambda m: [run(lambda x: functions(m)["Cube"].apply(x, 2.0)[0].sum()) for run in (
        lambda f: m.vmap(f)(M(m)), lambda f: m.func.grad(f)(X(m)), lambda f: m.vmap(m.func.grad(f))(M(m)), lambda f: m.func.jvp(f, (X(m),), (X(m),)),
        lambda f: m.vmap(lambda x: m.func.jvp(f, (x,), (x,))[1])(M(m)), lambda f: m.func.hessian(f)(X(m)), lambda f: m.vmap(m.func.hessian(f))(M(m)),
        lambda f: m.func.jacrev(m.func.jacrev(f))(X(m)))],
    "Product": lambda m: [m.vmap(f, in_dims=dims)(M(m), y) for f in (
        functions(m)["Product"].apply, m.func.grad(lambda x, y: functions(m)["Product"].apply(x, y).sum(), argnums=(0, 1)))
        for dims, y in (((0, None), m.ones(2)), ((1, None), m.ones(3)), ((0, 0), M(m)))],
    "Short": lambda m: _duals(m, lambda fw, d: functions(m)["Short"].apply(d, d)),
    "Wrong": lambda m: _duals(m, lambda fw, d: functions(m)["Wrong"].apply(d, d)),
    "Old dual": lambda m: _duals(m, lambda fw, d: functions(m)["Old"].apply(d)),
    # autograd with batches and forward mode
    "grads batched": lambda m: (lambda x: m.autograd.grad(x * x, x, m.eye(3), is_grads_batched=True))(G(m)),
    "grads batched shape": lambda m: (lambda x: m.autograd.grad(x * x, x, m.ones(3), is_grads_batched=True))(G(m)),
    "grads batched none": lambda m: (lambda x: m.autograd.grad(x * x, x, None, is_grads_batched=True))(G(m)),
    "grads batched twice": lambda m: (lambda x: m.autograd.grad(m.autograd.grad(x**3, x, m.eye(3), create_graph=True, is_grads_batched=True)[0].sum(), x))(G(m)),
    "jacobian vectorize": lambda m: m.autograd.functional.jacobian(lambda x, y: (x * y.sum(), y.exp(), m.ones(2)), (X(m), m.ones(2)), vectorize=True),
    "jacobian forward": lambda m: m.autograd.functional.jacobian(
        lambda x, y: (x * y.sum(), y.exp(), m.ones(2)), (X(m), m.ones(2)), vectorize=True, strategy="forward-mode"),
    "jacobian strict": lambda m: m.autograd.functional.jacobian(m.sin, X(m), vectorize=True, strict=True),
    "jacobian create": lambda m: m.autograd.functional.jacobian(m.sin, X(m), vectorize=True, create_graph=True, strategy="forward-mode"),
    "hessian vectorize": lambda m: m.autograd.functional.hessian(lambda x: (x**3).sum(), X(m), vectorize=True),
    "hessian forward": lambda m: m.autograd.functional.hessian(lambda x: (x**3).sum(), X(m), vectorize=True, outer_jacobian_strategy="forward-mode").detach(),
    "hessian loop": lambda m: m.autograd.functional.hessian(lambda x: (x**3).sum(), X(m), outer_jacobian_strategy="forward-mode"),
    "hessian strategy": lambda m: m.autograd.functional.hessian(lambda x: (x**3).sum(), X(m), outer_jacobian_strategy="x"),
}  # fmt: skip


def outcome(run, m):
    """('value', arrays and whether they require grad) or (type, text) of an error, names of the module left out."""
    try:
        leaves = tree_leaves(run(m))
    except Exception as error:
        return type(error).__name__, str(error).replace("functorch", "f").replace("tapegrad.tensor", "torch").replace("tapegrad", "torch")
    return "value", [(np.asarray(support.value(t)), t.requires_grad) if hasattr(t, "detach") else t for t in leaves]


@pytest.mark.parametrize("name", SNIPPETS)
def test_as_torch(name, torch):
    expected, found = outcome(SNIPPETS[name], torch), outcome(SNIPPETS[name], tg)
    assert found[0] == expected[0], (found, expected)
    if found[0] != "value":
        assert found[1] == expected[1]
        return
    assert len(found[1]) == len(expected[1])
    for a, b in zip(found[1], expected[1]):
        if isinstance(a, tuple):
            support.close(a[0], b[0], 1e-5, name)
            assert a[1] == b[1], "requires_grad"
        else:
            assert a == b
