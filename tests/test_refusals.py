"""Owns the words for malformed calls: each row is a call, the exception and the start of the text that PyTorch answers it with."""

from __future__ import annotations

import re

import pytest

import tapegrad as tg

COMBINATION = "{}() received an invalid combination of arguments - got ({}), but expected "
OVERLAP = "unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory location. Please clone()"
UNKNOWN_DEVICE = "Expected one of cpu, cuda, ipu, xpu, mkldnn"

# x is (2, 3), w (4,) floats; m (2, 2); i (4,) int64; b (4,) bool; c (2, 2) complex; s 0-d; z (0, 3); r requires grad.
CALLS = [
    # number of arguments
    ("tg.exp()", TypeError, 'exp() missing 1 required positional arguments: "input"'),
    ("tg.mul()", TypeError, 'mul() missing 2 required positional argument: "input", "other"'),
    ("tg.mul(x)", TypeError, 'mul() missing 1 required positional arguments: "other"'),
    ("tg.exp(x, x, x)", TypeError, "exp() takes 1 positional argument but 3 were given"),
    ("tg.cumsum(x)", TypeError, 'cumsum() missing 1 required positional arguments: "dim"'),
    ("tg.cumsum(x, 0, 0, 0)", TypeError, "cumsum() takes 2 positional arguments but 4 were given"),
    ("tg.add()", TypeError, COMBINATION.format("add", "") + "(Tensor input, Tensor other, *, Number alpha = 1, Tensor out = None)"),
    ("tg.sum()", TypeError, COMBINATION.format("sum", "") + "one of:\n * (Tensor input, *, torch.dtype dtype = None)\n * (Tensor input, tuple of ints dim"),
    ("tg.gather(x, 0)", TypeError, 'gather() missing 1 required positional arguments: "index"'),
    ("tg.zeros()", TypeError, 'zeros() missing 1 required positional arguments: "size"'),
    # sizes one by one
    ("tg.ones(0.5, 2)", TypeError, "ones() takes 1 positional argument but 2 were given"),
    ("tg.ones(2, 0.5)", TypeError, "ones(): argument 'size' failed to unpack the object at pos 2"),
    ("tg.zeros(tg.tensor(2.), 2)", TypeError, "zeros() takes 1 positional argument but 2 were given"),
    ("x.repeat(0.5, 2)", TypeError, "repeat() takes 1 positional argument but 2 were given"),
    ("tg.ones(True, 2)", TypeError, "ones() takes 1 positional argument but 2 were given"),
    ("tg.ones(4).view(0, -1)", RuntimeError, "shape '[0, -1]' is invalid for input of size 4"),
    # data and sizes of constructors
    ("tg.tensor([1, None])", RuntimeError, "Could not infer dtype of NoneType"),
    ("tg.tensor([1, (2, 3)])", TypeError, "'tuple' object cannot be interpreted as an integer"),
    ("tg.tensor([None], dtype=tg.float32)", TypeError, "must be real number, not NoneType"),
    ("tg.tensor([1, None], dtype=tg.bool)", TypeError, "'NoneType' object cannot be interpreted as an integer"),
    ("tg.tensor([b'a'])", TypeError, "new(): invalid data type 'bytes'"),
    ("tg.LongTensor([None])", TypeError, "'NoneType' object cannot be interpreted as an integer"),
    ("tg.FloatTensor(2, 3.5)", TypeError, "new(): argument 'size' failed to unpack the object at pos 2"),
    ("tg.Tensor(0.5, 3)", TypeError, COMBINATION.format("new", "float, int") + "one of:\n * (*, torch.device device = None)"),
    ("tg.Tensor([1], dtype=tg.float64)", TypeError, COMBINATION.format("new", "list, dtype=torch.dtype")),
    ("tg.Tensor({})", TypeError, "new(): data must be a sequence (got dict)"),
    ("tg.FloatTensor(i)", TypeError, "expected TensorOptions(dtype=float, device=cpu"),
    # indices
    ("s[1]", IndexError, "index 1 is out of bounds for dimension 0 with size 0"),
    ("s[:]", IndexError, "slice() cannot be applied to a 0-dim tensor."),
    ("s[0, 0]", IndexError, "too many indices for tensor of dimension 0"),
    ("i[['a']]", TypeError, "new(): invalid data type 'str'"),
    ("w.scatter_add(0, i[:2], tg.ones(0, 1))", RuntimeError, "Index tensor must have the same number of dimensions as src tensor"),
    ("w.scatter(0, i[:2], tg.ones(0, 1))", RuntimeError, "Index tensor must have the same number of dimensions as src tensor"),
    ("w.scatter_reduce(0, i[:2], tg.ones(0, 1), 'sum')", RuntimeError, "Index tensor must have the same number of dimensions as src tensor"),
    ("w.index_add(0, tg.tensor([4]), tg.ones(1))", IndexError, "index out of range in self"),
    ("x.index_add(0, tg.tensor([4]), tg.ones(1, 3))", RuntimeError, "index 4 is out of bounds for dimension 0 with size 2"),
    # pieces and spans
    ("w.split([1.5, 2.5])", TypeError, "split_with_sizes(): argument 'split_sizes' (position 2) must be tuple of ints, but found element of type float"),
    ("w.split('a')", TypeError, "split_with_sizes(): argument 'split_sizes' (position 2) must be tuple of ints, not str"),
    ("tg.broadcast_shapes((3, 5), (4,))", RuntimeError, "Attempting to broadcast a dimension of length 4 at -1! Mismatching argument at index 1 had (4,)"),
    ("tg.arange(0, 2, float('nan'))", RuntimeError, "step must be nonzero"),
    ("tg.arange(float('inf'), 6)", RuntimeError, "unsupported range: inf -> 6"),
    ("tg.nn.functional.linear(s, m)", RuntimeError, "both arguments to linear need to be at least 1D, but they are 0D and 2D"),
    ("w.max(0.5)", TypeError, COMBINATION.format("max", "float") + "one of:\n * ()\n      didn't match because some of the arguments have invalid types: (!float!)"),
    # switches
    ("tg.autograd.grad((r * 2).sum(), r, create_graph=None)", TypeError, "'NoneType' object cannot be interpreted as an integer"),
    ("(r * 2).sum().backward(retain_graph='a')", TypeError, "'str' object cannot be interpreted as an integer"),
    ("tg.func.linearize(tg.sin, i)", ValueError, "Expected primal to be floating point or complex, but got: tapegrad.int64"),
    # attributes
    ("setattr(r * 2, 'requires_grad', True)", RuntimeError, "you can only change requires_grad flags of leaf variables."),
    # keywords
    ("tg.exp(x, foo=1)", TypeError, "exp() got an unexpected keyword argument 'foo'"),
    ("tg.cumsum(x, 0, dim=1)", TypeError, "cumsum() got multiple values for argument 'dim'"),
    ("tg.sum(x, foo=1)", TypeError, COMBINATION.format("sum", "Tensor, foo=int")),
    ("tg.max(x, foo=1)", TypeError, COMBINATION.format("max", "Tensor, foo=int")),
    ("x.prod(dim=[0, -2])", TypeError, "prod() received an invalid combination of arguments"),
    ("tg.zeros(2, foo=1)", TypeError, "zeros() got an unexpected keyword argument 'foo'"),
    ("tg.zeros(2, size=(2,))", TypeError, "zeros() got multiple values for argument 'size'"),
    ("tg.rand(2, foo=1)", TypeError, COMBINATION.format("rand", "int, foo=int")),
    ("tg.arange(5, foo=1)", TypeError, "arange() received an invalid combination of arguments"),
    # methods have forms of their own; other names are called by them
    ("x.abs(dim=1)", TypeError, "Tensor"),
    ("x.exp(out=x)", TypeError, "Tensor"),
    ("x.add(x, out=x)", TypeError, "add() got an unexpected keyword argument 'out'"),
    ("x.cumsum('a')", TypeError, "cumsum(): argument 'dim' (position 1) must be int, not str"),
    ("x.contiguous(1)", TypeError, "contiguous() takes 0 positional arguments but 1 was given"),
    ("x.round_(1)", TypeError, "round_() takes from 1 to 0 positional arguments but 1 were given"),
    ("x.argmax(dim='a')", TypeError, "argmax(): argument 'dim' must be int, not str"),
    ("x.add(1, 2, 3)", TypeError, COMBINATION.format("add", "!int!, !int!, !int!")),
    ("x.clamp_(1, 2, 3)", TypeError, COMBINATION.format("clamp_", "int, int, int")),
    ("tg.absolute(1j)", TypeError, "absolute(): argument 'input' (position 1) must be Tensor, not complex"),
    ("tg.special.expit('a')", TypeError, "special_expit(): argument 'input' (position 1) must be Tensor, not str"),
    ("tg.special.entr(1)", TypeError, "special_entr(): argument 'input' (position 1) must be Tensor, not int"),
    # Python numbers only where they count as tensors
    ("tg.maximum(x, 1)", TypeError, "maximum(): argument 'other' (position 2) must be Tensor, not int"),
    ("x.minimum(1.5)", TypeError, "minimum(): argument 'other' (position 1) must be Tensor, not float"),
    ("x.logical_and_(True)", TypeError, "logical_and_(): argument 'other' (position 1) must be Tensor, not bool"),
    ("tg.atan2(1.0, x)", TypeError, "atan2(): argument 'input' (position 1) must be Tensor, not float"),
    ("tg.hypot(x, 2)", TypeError, "hypot(): argument 'other' (position 2) must be Tensor, not int"),
    ("tg.fmax(x, 2)", TypeError, "fmax(): argument 'other' (position 2) must be Tensor, not int"),
    ("tg.logaddexp(x, 2)", TypeError, "logaddexp(): argument 'other' (position 2) must be Tensor, not int"),
    ("tg.eq(1, x)", TypeError, COMBINATION.format("eq", "int, Tensor")),
    ("tg.fmod(1.5, x)", TypeError, COMBINATION.format("fmod", "float, Tensor")),
    ("tg.clamp(x, x, 3)", TypeError, COMBINATION.format("clamp", "Tensor, Tensor, int")),
    ("tg.addcmul(1, x, x)", TypeError, "addcmul(): argument 'input' (position 1) must be Tensor, not int"),
    # truth values, lists and numbers are told apart
    ("tg.sort(x, descending=1)", TypeError, COMBINATION.format("sort", "Tensor, descending=int")),
    ("x.sum((1.5, 0))", TypeError, COMBINATION.format("sum", "tuple")),
    ("x.sum((0, 1.5))", TypeError, "sum(): argument 'dim' failed to unpack the object at pos 2 with error"),
    ("tg.median(x, 0, 1)", TypeError, "median(): argument 'keepdim' (position 3) must be bool, not int"),
    ("x.cumsum(True)", TypeError, "cumsum(): argument 'dim' (position 1) must be int, not bool"),
    ("x.copy_('a')", TypeError, "copy_(): argument 'other' (position 1) must be Tensor, not str"),
    ("x.expand()", TypeError, 'expand() missing 1 required positional arguments: "size"'),
    ("x.__iadd__('a') + 1", TypeError, "unsupported operand type(s) for +"),
    # types of arguments
    ("tg.exp('a')", TypeError, "exp(): argument 'input' (position 1) must be Tensor, not str"),
    ("tg.mul(x, 'a')", TypeError, "mul(): argument 'other' (position 2) must be Tensor, not str"),
    ("tg.pow(x, None)", TypeError, COMBINATION.format("pow", "Tensor, NoneType")),
    ("tg.eq('a', x)", TypeError, COMBINATION.format("eq", "str, Tensor")),
    ("tg.amax(3.0)", TypeError, "amax(): argument 'input' (position 1) must be Tensor, not float"),
    ("tg.sum(3.0)", TypeError, "sum(): argument 'input' (position 1) must be Tensor, not float"),
    ("tg.sum(x, 'a')", TypeError, COMBINATION.format("sum", "Tensor, str")),
    ("tg.cumsum(x, 'a')", TypeError, "cumsum(): argument 'dim' (position 2) must be int, not str"),
    ("tg.cumsum(x, dim=(0, 0))", TypeError, "cumsum(): argument 'dim' must be int, not tuple"),
    ("tg.cumsum(x, True)", TypeError, "cumsum(): argument 'dim' (position 2) must be int, not bool"),
    ("tg.cumsum(x, x)", TypeError, "cumsum(): argument 'dim' (position 2) must be int, not Tensor"),
    ("tg.amax(x, 1.5)", TypeError, "amax(): argument 'dim' (position 2) must be tuple of ints, not float"),
    ("tg.amax(x, 0, keepdim='a')", TypeError, "amax(): argument 'keepdim' must be bool, not str"),
    ("tg.cumsum(x, 0, dtype='float32')", TypeError, "cumsum(): argument 'dtype' must be torch.dtype, not str"),
    ("tg.flip(x, ['a'])", TypeError, "flip(): argument 'dims' (position 2) must be tuple of ints, but found element of type str at pos 0"),
    ("tg.flip(x, [0, 'a'])", TypeError, "flip(): argument 'dims' failed to unpack the object at pos 2 with error \"type must be tuple of ints,but got str\""),
    ("x.view(2, 1.5)", TypeError, "view(): argument 'size' failed to unpack the object at pos 2"),
    ("tg.gather(x, 0, 1)", TypeError, "gather(): argument 'index' (position 3) must be Tensor, not int"),
    ("tg.index_select(x, 0, [0])", TypeError, "index_select(): argument 'index' (position 3) must be Tensor, not list"),
    ("tg.nonzero(x, as_tuple='a')", TypeError, "nonzero(): argument 'as_tuple' must be bool, not str"),
    ("tg.exp(x, out=1)", TypeError, "exp(): argument 'out' must be Tensor, not int"),
    ("tg.cat(1)", TypeError, "cat(): argument 'tensors' (position 1) must be tuple of Tensors, not int"),
    ("tg.stack([x, 1])", TypeError, "expected Tensor as element 1 in argument 0, but got int"),
    ("tg.hstack(None)", TypeError, "hstack(): argument 'tensors' (position 1) must be tuple of Tensors, not NoneType"),
    ("tg.trapezoid(x, w)", RuntimeError, "trapezoid: There must be one `x` value for each sample point"),
    # out= and in place
    ("tg.add(x, x, out=tg.zeros(2, 3, dtype=tg.int64))", RuntimeError, "result type Float can't be cast to the desired output type Long"),
    ("i.add_(1.5)", RuntimeError, "result type Float can't be cast to the desired output type Long"),
    ("w[:2].add_(m)", RuntimeError, "output with shape [2] doesn't match the broadcast shape [2, 2]"),
    ("tg.add(w[:3], w[1:], out=w[:3])", RuntimeError, OVERLAP),
    ("tg.exp(w[:3], out=w[1:])", RuntimeError, OVERLAP),
    ("tg.mul(w[1:], 2, out=w[:3])", RuntimeError, OVERLAP),
    ("w[:3].add_(w[1:])", RuntimeError, OVERLAP),
    ("w[:3].copy_(w[1:])", RuntimeError, OVERLAP),
    ("x[0].mul_(x)", RuntimeError, OVERLAP),
    ("m.mul_(m.t())", RuntimeError, OVERLAP),
    ("tg.cat([x, x], out=tg.zeros(4, 3, dtype=tg.int64))", TypeError, "torch.cat(): input types can't be cast to the desired output type Long"),
    ("tg.sum(r, 0, out=tg.zeros(3))", RuntimeError, "sum(): functions with out=... arguments don't support automatic differentiation"),
    ("tg.gather(x, 0, tg.zeros(1, 1, dtype=tg.int64), out=tg.zeros(1, 1, dtype=tg.int64))", RuntimeError, "Expected out tensor to have dtype float, but got long int instead"),
    # shapes and dims
    ("tg.hstack([])", RuntimeError, "hstack expects a non-empty TensorList"),
    ("tg.vstack(())", RuntimeError, "vstack expects a non-empty TensorList"),
    ("x.squeeze((0, 0))", RuntimeError, "dim 0 appears multiple times in the list of dims"),
    ("x.view(-2)", RuntimeError, "invalid shape dimension -2 at index 0 of shape [-2]"),
    ("x.repeat(-1, 1)", RuntimeError, "Trying to create tensor with negative dimension -2: [-2, 3]"),
    ("tg.meshgrid(w, w, indexing='zz')", RuntimeError, 'torch.meshgrid: indexing must be one of "xy" or "ij", but received: zz'),
    ("tg.tensordot(x, x, 'a')", RuntimeError, "tensordot expects dims to be int or tuple[list[int], list[int]]"),
    ("tg.einsum('i1', x)", RuntimeError, "einsum(): invalid subscript given at index 1 in the equation string, subscripts must be in [a-zA-Z]"),
    ("tg.einsum('ij->ii', x)", RuntimeError, "einsum(): output subscript i appears more than once in the output"),
    ("tg.einsum('ij,jk', x, x)", RuntimeError, "einsum(): subscript j has size 2 for operand 1 which does not broadcast with previously seen size 3"),
    # values and dtypes
    ("tg.isclose(x, x, rtol=-1)", RuntimeError, "rtol must be greater than or equal to zero, but got -1"),
    ("tg.allclose(x, x, atol=-1.0)", RuntimeError, "atol must be greater than or equal to zero, but got -1"),
    ("tg.isclose(x, w)", RuntimeError, "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1"),
    ("tg.argmax(b)", RuntimeError, "argmax(): does not support bool input"),
    ("tg.median(b)", NotImplementedError, "\"median_cpu\" not implemented for 'Bool'"),
    ("tg.mode(c)", NotImplementedError, "\"mode_cpu\" not implemented for 'ComplexFloat'"),
    ("tg.nansum(c)", RuntimeError, "nansum on CPU does not support complex inputs"),
    ("tg.softmax(i, 0)", NotImplementedError, "\"softmax_lastdim_kernel_impl\" not implemented for 'Long'"),
    ("tg.lerp(i, i, 0.5)", NotImplementedError, "\"lerp_kernel_scalar\" not implemented for 'Long'"),
    ("tg.lerp(x, x.double(), 0.5)", RuntimeError, "expected dtype float for `end` but got dtype double"),
    ("tg.addcdiv(i, i, i)", RuntimeError, "Integer division with addcdiv is no longer supported"),
    ("tg.masked_fill(x, x, 1.0)", RuntimeError, "masked_fill_ only supports boolean masks, but got mask with dtype float"),
    # indices
    ("tg.take(x, tg.tensor([0.0]))", RuntimeError, "take(): Expected a long tensor for index, but got Float"),
    ("tg.index_select(x, 0, tg.tensor([0.0]))", RuntimeError, "index_select(): Expected dtype int32 or int64 for index"),
    ("tg.index_select(s, 0, tg.tensor([0, 0]))", RuntimeError, "index_select(): Index to scalar can have only 1 value, got 2 value(s)"),
    ("tg.index_add(x, 0, tg.tensor([0]), x)", RuntimeError, "index_add_(): Number of indices (1) should be equal to source.size(dim): (2), for dim: 0"),
    ("tg.index_add(x, 0, tg.tensor([0.0, 1]), x)", RuntimeError, "index_add_(): Expected dtype int32/int64 for index but got: Float"),
    ("tg.index_add(x, 0, tg.tensor([[0, 1]]), x)", IndexError, "index_add_(): Index is supposed to be a vector, but got dim: 2 with type: Long and size: [1, 2]"),
    ("tg.index_add(x, 0, tg.tensor([0, 1]), tg.ones(2, 5))", RuntimeError, "source tensor shape must match self tensor shape, excluding the specified dimension."),
    ("tg.index_copy(x, 0, tg.tensor([0.0, 1]), x)", RuntimeError, "index_copy_(): Expected a long tensor for index, but got Float"),
    ("tg.scatter(x, 0, tg.zeros(3, 9, dtype=tg.int64), x)", RuntimeError,
     "Expected index [3, 9] to be no larger than self [2, 3] apart from dimension 0 and to be no larger size than src [2, 3]"),
    ("tg.scatter_add(x, 0, tg.tensor([[0]]), i.view(1, 4))", RuntimeError, "scatter(): Expected self.dtype to be equal to src.dtype"),
    # factories
    ("tg.zeros(-1)", RuntimeError, "zeros: Dimension size must be non-negative."),
    ("tg.ones(2, -3)", RuntimeError, "Trying to create tensor with negative dimension -3: [2, -3]"),
    ("tg.randperm(-1)", RuntimeError, "Trying to create tensor with negative dimension -1: [-1]"),
    ("tg.zeros('a')", TypeError, "zeros(): argument 'size' (position 1) must be tuple of ints, not str"),
    ("tg.zeros((2, 'a'))", TypeError, "zeros(): argument 'size' failed to unpack the object at pos 2 with error \"type must be tuple of ints,but got str\""),
    ("tg.zeros(2, requires_grad='a')", TypeError, "zeros(): argument 'requires_grad' must be bool, not str"),
    ("tg.zeros(2, pin_memory='a')", TypeError, "zeros(): argument 'pin_memory' must be bool, not str"),
    ("tg.zeros(2, layout=5)", TypeError, "zeros(): argument 'layout' must be torch.layout, not int"),
    ("tg.zeros(2, dtype='float32')", TypeError, "zeros(): argument 'dtype' must be torch.dtype, not str"),
    ("tg.zeros(2, device=1.5)", TypeError, "zeros(): argument 'device' must be torch.device, not float"),
    ("tg.zeros(2, device='cuda')", AssertionError, "Torch not compiled with CUDA enabled"),
    ("tg.rand(2, device='cuda')", AssertionError, "Torch not compiled with CUDA enabled"),
    ("x.to('cuda')", AssertionError, "Torch not compiled with CUDA enabled"),
    ("tg.ones(2, device='foo')", RuntimeError, UNKNOWN_DEVICE),
    ("tg.device('foo')", RuntimeError, UNKNOWN_DEVICE),
    ("tg.device('cpu:x')", RuntimeError, "Invalid device string: 'cpu:x'"),
    ("tg.zeros(2, out=tg.zeros(2, dtype=tg.int64), dtype=tg.float32)", RuntimeError, "dtype Float does not match dtype of out parameter (Long)"),
    ("tg.full((-1,), 1)", RuntimeError, "Trying to create tensor with negative dimension -1: [-1]"),
]  # fmt: skip


def operands() -> dict:
    return {
        "x": tg.arange(6.0).reshape(2, 3), "w": tg.arange(4.0), "m": tg.ones(2, 2), "i": tg.arange(4), "b": tg.arange(4) > 1,
        "c": tg.ones(2, 2, dtype=tg.complex64), "s": tg.tensor(1.5), "z": tg.zeros(0, 3), "r": tg.ones(2, 3, requires_grad=True),
    }  # fmt: skip


@pytest.mark.parametrize("call, error, words", CALLS, ids=[call for call, _, _ in CALLS])
def test_refused_in_these_words(call, error, words):
    tensors = operands()
    with pytest.raises(error, match=re.escape(words)) as caught:
        eval(call, {"tg": tg, **tensors})
    assert caught.type is error
    assert str(caught.value).startswith(words)
    for name, old in operands().items():
        assert tg.equal(tensors[name], old), f"{name} has changed"
        assert tensors[name]._version == old._version


def test_out_gets_the_result_of_functions_that_index():
    x, index = tg.arange(6.0).reshape(2, 3), tg.tensor([1])
    for call, expected in (
        (lambda out: tg.gather(x, 0, tg.tensor([[1, 0]]), out=out), [[3, 1]]),
        (lambda out: tg.index_select(x, 0, index, out=out), [[3, 4, 5]]),
        (lambda out: tg.masked_select(x, x > 3, out=out), [4, 5]),
        (lambda out: tg.addcmul(x, x, x, value=2, out=out), [[0, 3, 10], [21, 36, 55]]),
        (lambda out: tg.addcdiv(x, x, tg.ones(3), out=out), [[0, 2, 4], [6, 8, 10]]),
        (lambda out: tg.hstack([x, x], out=out), [[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5]]),
        (lambda out: tg.vstack([x, x], out=out), [[0, 1, 2], [3, 4, 5]] * 2),
    ):  # fmt: skip
        out = tg.zeros(0)
        assert call(out) is out
        assert out.tolist() == expected
    out = tg.zeros(0, dtype=tg.int64)
    assert tg.nonzero(x > 3, out=out) is out
    assert out.tolist() == [[1, 1], [1, 2]]


def test_whole_operands_may_be_written_to():
    w = tg.arange(4.0)
    tg.add(w, w, out=w)
    w[:2].add_(w[2:])
    w[1:].mul_(w[1:])
    assert w.tolist() == [4, 64, 16, 36]


def test_an_error_about_values_stays_as_it_is():
    with pytest.raises(IndexError, match="Dimension out of range"):
        tg.sum(tg.ones(2), 5)
    with pytest.raises(RuntimeError, match="must match the size"):
        tg.ones(2).add(tg.ones(3), alpha=2)


@pytest.mark.parametrize("call, kernel", [
    (lambda b: tg.clamp(b, max=True), "clamp_max_scalar_cpu"), (lambda b: tg.clamp(b, min=False), "clamp_min_scalar_cpu"),
    (lambda b: b.clamp_max_(True), "clamp_max_scalar_cpu"), (lambda b: tg.clamp_min(b, False), "clamp_min_scalar_cpu"),
    (lambda b: b.clip(True, True), "clamp_scalar_cpu"), (lambda b: tg.clamp(b, b, b), "clamp_cpu"),
])  # fmt: skip
def test_bools_have_no_numbers_for_bounds(call, kernel):
    b = tg.tensor([True, False])
    for _ in range(3):
        with pytest.raises(NotImplementedError, match=f"\"{kernel}\" not implemented for 'Bool'"):
            call(b)
    assert b.tolist() == [True, False] and tg.clamp(b, max=b).tolist() == [True, False]
