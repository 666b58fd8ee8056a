"""torch's semantics, value by value: what a call returns, what it refuses and in which words."""

import copy

import pytest

import tapegrad as tg
from tapegrad.autograd import functional, graph
from tapegrad.autograd.gradcheck import GradcheckError
from tapegrad.utils.checkpoint import checkpoint, checkpoint_sequential


def double(*values):
    return tg.tensor(values, dtype=tg.float64, requires_grad=True)


# --- creation and promotion -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name, value", [("uint8", 300), ("int8", 300), ("int16", 40000), ("int32", 2**31)])
def test_constructor_overflow_names_the_dtype(name, value):
    for data in (value, [value]):
        with pytest.raises(RuntimeError, match=f"value cannot be converted to type {name} without overflow"):
            tg.tensor(data, dtype=getattr(tg, name))
    with pytest.raises(ValueError, match="Overflow when unpacking long long"):
        tg.tensor([2**70])


def test_conversions_write_the_target_type():
    assert (tg.tensor([7, 8]) / 2).tolist() == [3.5, 4.0]
    assert tg.tensor([-1.5, 300.0, 0.0]).to(tg.int8).tolist() == [-1, 44, 0]
    assert tg.tensor([-1.0]).to(tg.uint8).tolist() == [255]
    assert tg.tensor([0.5, 0.0, float("nan")]).to(tg.bool).tolist() == [True, False, True]
    assert tg.tensor([256, 0]).to(tg.bool).tolist() == [True, False]


def test_integer_division_by_zero_is_an_error():
    for call in (lambda: tg.tensor([1]) // 0, lambda: 1 % tg.tensor([0]), lambda: tg.tensor([1, 2]) // tg.tensor([1, 0]),
                 lambda: tg.tensor([3]).floor_divide_(0)):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            call()
    assert (tg.tensor([7.0, -7.0]) // 0).tolist() == [float("inf"), float("-inf")]
    assert (tg.tensor([-7.0, 7.0, 3.5]) // 2).tolist() == [-4.0, 3.0, 1.0]


# --- graph and backward ---------------------------------------------------------------------------------------------
def test_backward_looks_at_gradients_before_it_counts_them():
    x = tg.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match="gradients can be either Tensors or None, but got float"):
        (x * 2).backward([1.0, 1.0])
    with pytest.raises(RuntimeError, match="got 1 tensors and 0 gradients"):
        (x * 2).backward(())
    (x * 2).backward([tg.ones(2), tg.ones(2)])  # what lies beyond the outputs is passed over
    assert x.grad.tolist() == [2.0, 2.0]


def test_names_of_nodes_that_are_not_derivatives():
    base = tg.ones(3, requires_grad=True) * 1
    base[0].mul_(5)
    assert base.grad_fn.name() == "tapegrad::autograd::CopySlices"
    assert repr(base).endswith("grad_fn=<CopySlices>)")
    x = tg.ones(1, requires_grad=True)
    with pytest.warns(UserWarning, match="reference cycle"):
        (x * x).backward(create_graph=True)
    assert x.grad.grad_fn.name() == "tapegrad::autograd::CopyBackwards"
    assert tg.autograd.grad(x.grad, x)[0].tolist() == [2.0]


def test_the_node_of_a_custom_function_is_its_context():
    class Scale(tg.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            ctx.save_for_backward(x)
            return x * factor

        @staticmethod
        def backward(ctx, g):
            return g * ctx.factor, None

    node = Scale.apply(tg.ones(1, requires_grad=True), 3).grad_fn
    assert node.needs_input_grad == (True, False) and node.factor == 3
    assert node.saved_tensors[0].tolist() == [1.0]
    node.factor = 5
    assert node.factor == 5
    with pytest.raises(AttributeError):
        node.missing  # noqa: B018


def test_inference_mode_marks_every_result():
    x = tg.ones(2, requires_grad=True)
    with tg.inference_mode():
        results = x * 2, x.sum(), tg.ones(1), x + tg.ones(2, dtype=tg.float64)
        views = x[0], x.view(2, 1), x.detach()
    assert all(t.is_inference() and not t.requires_grad for t in results)
    assert not any(t.is_inference() for t in views)  # they look at a normal tensor


def test_python_protocol():
    x = tg.ones(1)
    assert hash(x) == id(x) and x in {x: 1}
    assert repr(x.__dlpack_device__()) == "(<DLDeviceType.kDLCPU: 1>, 0)"
    assert copy.copy(x).tolist() == [1.0]


# --- edges and hooks on several gradients ----------------------------------------------------------------------------
def test_gradient_edge():
    x = tg.ones(2, requires_grad=True)
    edge = graph.get_gradient_edge(x * 2)
    assert (edge.node.name(), edge.output_nr) == ("MulBackward0", 0)
    assert graph.get_gradient_edge(x.unbind()[1]).output_nr == 1
    with pytest.raises(RuntimeError, match="does not require gradients"):
        graph.get_gradient_edge(tg.ones(1))


def test_multi_grad_hook_waits_for_the_gradients_that_come():
    x, z, unused = (tg.ones(1, requires_grad=True) for _ in range(3))
    y = x * 2
    seen = []
    handle = graph.register_multi_grad_hook((x, y, unused, z), seen.append)
    out = y * z * 3
    out.backward(retain_graph=True)
    (out + unused).backward(retain_graph=True)
    assert [[g if g is None else g.item() for g in gs] for gs in seen] == [[6.0, 3.0, None, 6.0], [6.0, 3.0, 1.0, 6.0]]
    handle.remove()
    out.backward()
    assert len(seen) == 2
    with pytest.raises(ValueError, match="Expects mode to be one of"):
        graph.register_multi_grad_hook((x,), print, mode="some")


def test_multi_grad_hook_any_fires_once_per_pass():
    x, z = tg.ones(1, requires_grad=True), tg.ones(1, requires_grad=True)
    seen = []
    graph.register_multi_grad_hook((x, z), seen.append, mode="any")
    for _ in range(2):
        (x * 2 + z * 2).backward()
    assert [g.item() for g in seen] == [2.0, 2.0]


def test_a_backward_within_a_backward_keeps_the_gradients_apart():
    x = tg.tensor([3.0], requires_grad=True)

    class Inner(tg.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            return a.detach() * 1

        @staticmethod
        def backward(ctx, g):
            with tg.enable_grad():
                (inner,) = tg.autograd.grad(x * x, x)
            return g * inner

    y = Inner.apply(x) + x * 10  # the gradient 10 of x waits while the inner pass computes another
    y.backward()
    assert x.grad.tolist() == [16.0]
    assert tg.autograd.grad(Inner.apply(x) + x * 10, x)[0].tolist() == [16.0]


# --- autograd.functional ---------------------------------------------------------------------------------------------
def test_jacobian_blocks():
    x, y = tg.tensor([1.0, 2.0]), tg.tensor([3.0, 4.0, 5.0])
    (a, b), (c, d) = functional.jacobian(lambda x, y: (x * y.sum(), x.sum() + y), (x, y))
    assert a.tolist() == [[12.0, 0.0], [0.0, 12.0]] and b.tolist() == [[1.0] * 3, [2.0] * 3]
    assert c.tolist() == [[1.0, 1.0]] * 3 and d.tolist() == tg.eye(3).tolist()
    assert functional.jacobian(lambda x: tg.ones(2), x).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert functional.jacobian(lambda x: x**2, x, vectorize=True, strategy="forward-mode").tolist() == [[2.0, 0.0], [0.0, 4.0]]
    point = x.clone().requires_grad_()
    assert functional.jacobian(lambda x: x**3, point, create_graph=True).requires_grad
    assert not functional.jacobian(lambda x: x**3, point).requires_grad and point.grad is None


def test_jacobian_refusals():
    with pytest.raises(RuntimeError, match="Output 0 of the user-provided function is independent of input 1"):
        functional.jacobian(lambda x, y: x * 2, (tg.ones(2), tg.ones(2)), strict=True)
    with pytest.raises(TypeError, match="The inputs given to jacobian must be either a Tensor or a tuple of Tensors"):
        functional.jacobian(lambda x: x, [tg.ones(2)])


def test_hessian_and_products():
    x = tg.tensor([1.0, 2.0])
    assert functional.hessian(lambda x: (x**3).sum(), x).tolist() == [[6.0, 0.0], [0.0, 12.0]]
    assert functional.hessian(lambda x: x.sum(), x).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    v = tg.tensor([1.0, 5.0])
    for product in (functional.hvp, functional.vhp):
        value, found = product(lambda x: (x**3).sum(), x, v)
        assert value.item() == 9.0 and found.tolist() == [6.0, 60.0]
    value, found = functional.jvp(lambda x: x**2, x, v)
    assert value.tolist() == [1.0, 4.0] and found.tolist() == [2.0, 20.0]
    value, found = functional.vjp(lambda x: x**2, x, v)
    assert value.tolist() == [1.0, 4.0] and found.tolist() == [2.0, 20.0]
    with pytest.raises(RuntimeError, match="should contain a single element"):
        functional.hessian(lambda x: x**2, x)
    with pytest.raises(RuntimeError, match="v has invalid size"):
        functional.vjp(lambda x: x**2, x, tg.ones(3))


# --- gradcheck -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fast_mode", [False, True])
def test_gradcheck_finds_a_wrong_derivative(fast_mode):
    def wrong(x):
        return x * x.detach()

    assert tg.autograd.gradcheck(lambda x: x * x, double(1.0, 2.0), fast_mode=fast_mode)
    with pytest.raises(GradcheckError, match="Jacobian mismatch for output 0 with respect to input 0"):
        tg.autograd.gradcheck(wrong, double(1.0, 2.0), fast_mode=fast_mode)
    assert not tg.autograd.gradcheck(wrong, double(1.0, 2.0), fast_mode=fast_mode, raise_exception=False)


def test_gradcheck_inputs():
    with pytest.raises(ValueError, match="at least one input tensor to require gradient"):
        tg.autograd.gradcheck(tg.sin, tg.ones(2, dtype=tg.float64))
    with pytest.raises(RuntimeError, match="dimension with stride 0"):
        tg.autograd.gradcheck(lambda x: x * 2, double(1.0).expand(3))
    with pytest.warns(UserWarning, match="is not a double precision"):
        tg.autograd.gradcheck(tg.sin, tg.ones(2, requires_grad=True), raise_exception=False)
    assert tg.autograd.gradcheck(lambda x: x.view(-1) * 2, double([1.0, 2.0], [3.0, 4.0]).detach().t().contiguous().requires_grad_(),
                                 check_batched_grad=True)


def test_gradgradcheck():
    assert tg.autograd.gradgradcheck(lambda x, y: (x * y, x.exp().sum()), (double(1.0, 2.0), double(3.0, 4.0)))
    assert not tg.autograd.gradgradcheck(lambda x: x * x.detach() * x, double(1.0, 2.0), raise_exception=False)


# --- memory -----------------------------------------------------------------------------------------------------------
def test_as_strided_and_unfold():
    assert tg.arange(6).as_strided((2, 2), (1, 2), 1).tolist() == [[1, 3], [2, 4]]
    assert tg.arange(6)[2:].as_strided((2,), (1,)).tolist() == [2, 3]
    assert tg.arange(5).unfold(0, 3, 1).tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert tg.tensor(3.0).unfold(0, 1, 1).tolist() == [3.0]
    x = tg.ones(5, requires_grad=True)
    x.unfold(0, 3, 1).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0, 3.0, 2.0, 1.0]
    y = double(1.0, 2.0, 3.0, 4.0)
    assert tg.autograd.gradgradcheck(lambda t: t.as_strided((3, 2), (1, 1)) ** 2, y)
    with pytest.raises(RuntimeError, match="are out of bounds for storage of size 48"):
        tg.arange(6).as_strided((2, 2), (1, 2), 5)
    with pytest.raises(RuntimeError, match="maximum size for tensor at dimension 0 is 5 but size is 6"):
        tg.arange(5).unfold(0, 6, 1)


def test_storage_and_resize():
    x = tg.zeros(4)
    assert x.untyped_storage().nbytes() == 16 and x.untyped_storage().data_ptr() == x[1:].untyped_storage().data_ptr()
    assert tg.arange(4.0).resize_(2, 1).tolist() == [[0.0], [1.0]]
    assert tg.arange(4.0).resize_(6)[:4].tolist() == [0.0, 1.0, 2.0, 3.0]
    with pytest.raises(RuntimeError, match="cannot resize variables that require grad"):
        tg.ones(2, requires_grad=True).resize_(3)


# --- checkpointing ------------------------------------------------------------------------------------------------------
def test_checkpoint_differentiates_as_the_function_does():
    x, w = tg.tensor([3.0], requires_grad=True), tg.tensor([5.0], requires_grad=True)
    v = w * 2
    out = checkpoint(lambda a: a * a * v, x, use_reentrant=False)  # v is reached by closure
    assert [g.item() for g in tg.autograd.grad(out, [x, w], retain_graph=True)] == [60.0, 18.0]
    (g,) = tg.autograd.grad(checkpoint(lambda a: a**3 * w, x, use_reentrant=False), x, create_graph=True)
    assert [h.item() for h in tg.autograd.grad(g, [x, w])] == [90.0, 27.0]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_nest(reentrant):
    x, w = tg.tensor([3.0], requires_grad=True), tg.tensor([5.0], requires_grad=True)
    nested = checkpoint(lambda a: checkpoint(lambda b: b * b * w, a, use_reentrant=reentrant) * a, x, use_reentrant=reentrant)
    nested.backward()
    assert x.grad.tolist() == [135.0] and w.grad.tolist() == [27.0]


def test_checkpoint_puts_the_random_state_back():
    tg.manual_seed(0)
    x = tg.ones(3, requires_grad=True)
    y = checkpoint(lambda a: a * tg.rand(3), x, use_reentrant=False)
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()


def test_checkpoint_keeps_the_structure_of_results():
    x = tg.tensor([2.0], requires_grad=True)
    out = checkpoint(lambda a: {"square": a * a, "more": [a.detach(), 3]}, x, use_reentrant=False)
    assert out["square"].requires_grad and not out["more"][0].requires_grad and out["more"][1] == 3
    assert checkpoint(lambda a: a, x, use_reentrant=False) is x
    out = checkpoint_sequential([tg.square, tg.neg, lambda a: a * 3], 2, x, use_reentrant=False)
    assert tg.autograd.grad(out, x)[0].tolist() == [-12.0]


@pytest.mark.parametrize("call,name", [("sum()", "SumBackward0"), ("sum(0)", "SumBackward1"), ("mean()", "MeanBackward0"), ("mean((0, 1))", "MeanBackward1"),
                                       ("prod()", "ProdBackward0"), ("prod(1)", "ProdBackward1"), ("squeeze()", "SqueezeBackward0"), ("squeeze(0)", "SqueezeBackward1"),
                                       ("squeeze((0, 1))", "SqueezeBackward2"), ("max()", "MaxBackward1")])  # fmt: skip
def test_overloads_have_names_of_their_own(call, name):
    x = tg.ones(2, 3, requires_grad=True)
    for _ in range(2):  # the second call is served by the cache
        assert eval(f"x.{call}", {"x": x}).grad_fn.name() == name


def test_arange_of_whole_numbers_counts_as_torch_does():
    assert tg.arange(3.5, dtype=tg.int64).tolist() == [0, 1, 2]
    assert tg.arange(0.5, 4.7, dtype=tg.int64).tolist() == [0, 1, 2, 3]
    assert tg.arange(0, 5, 1.5, dtype=tg.int32).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="step must be nonzero"):
        tg.arange(0, 2, 0.5, dtype=tg.int64)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("name", ["max", "min"])
def test_the_gradient_of_a_full_extremum_that_is_nan_goes_to_the_nans(name, create_graph):
    x = tg.tensor([float("nan"), 1.0, 2.0, float("nan")], requires_grad=True)
    (g,) = tg.autograd.grad(getattr(x, name)(), x, create_graph=create_graph)
    assert g.tolist() == [0.5, 0.0, 0.0, 0.5]
