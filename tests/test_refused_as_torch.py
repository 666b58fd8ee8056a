"""Owns calls that PyTorch refuses and these functions once took, or refused in other words; and calls by name that they once refused."""

from __future__ import annotations

import pytest

import tapegrad as tg

F = tg.nn.functional
M, X, I, B, V = tg.ones(2, 2), tg.arange(6.0).reshape(2, 3), tg.arange(4), tg.arange(4) > 1, tg.ones(3)  # noqa: E741
LEAF, IMAGE = tg.ones(2, 3, requires_grad=True), tg.ones(1, 2, 4, 4)
empty = lambda d=tg.float32: tg.zeros(0, dtype=d)

OUT = [  # (call, words of the RuntimeError)
    ("tg.mm(M, M, out=empty(tg.float64))", "Expected out tensor to have dtype float, but got double instead"),
    ("tg.mm(M, M, out=empty(tg.int64))", "Expected out tensor to have dtype float, but got long int instead"),
    ("tg.abs(X, out=empty(tg.float64))", "Found dtype Double but expected Float"),
    ("tg.round(X, decimals=1, out=empty(tg.float64))", "Found dtype Double but expected Float"),
    ("tg.clamp(X, 1, 2, out=empty(tg.int64))", "Found dtype Long but expected Float"),
    ("tg.lerp(X, X, X, out=empty(tg.float64))", "Found dtype Double but expected Float"),
    ("tg.dot(V, V, out=empty(tg.float64))", "result dtype Double does not match input dtype Float"),
    ("tg.where(X > 1, X, X, out=empty(tg.float64))", "Expected out type to be Float but got Double"),
    ("tg.cholesky(tg.eye(2), out=empty(tg.int64))", "cholesky: Expected result to be safely castable from Float dtype, but got result with dtype Long"),
    ("tg.linalg.inv(tg.eye(2), out=empty(tg.float64))", "Expected out tensor to have dtype float, but got double instead"),
    ("tg.linalg.norm(M, out=empty(tg.float64))", "linalg.norm expected out tensor dtype Float but got: Double"),
    ("tg.searchsorted(V, V, out=empty())", "output tensor's dtype is wrong, it can only be Int\\(int32\\) or Long\\(int64\\)"),
    ("tg.quantile(X, 0.5, out=empty(tg.float64))", "quantile\\(\\) out tensor must be same dtype as the input tensor"),
    ("tg.linalg.inv(tg.eye(2), out=tg.ones(0, requires_grad=True))", "linalg_inv_ex\\(\\): functions with out=... arguments don't support automatic"),
    ("tg.cholesky(tg.eye(2), out=tg.ones(0, requires_grad=True))", "cholesky\\(\\): functions with out=... arguments don't support automatic"),
    ("tg.quantile(X, 0.5, out=tg.ones(0, requires_grad=True))", "a leaf Variable that requires grad is being used in an in-place operation."),
    ("tg.gather(LEAF, 0, I[:1].reshape(1, 1), out=empty())", "gather\\(\\): functions with out="),
]  # fmt: skip


@pytest.mark.parametrize(("call", "words"), OUT, ids=[row[0] for row in OUT])
def test_what_out_may_be(call, words):
    with pytest.raises(RuntimeError, match=words):
        eval(call)


@pytest.mark.filterwarnings("ignore:An output with one or more")
def test_out_that_is_taken():
    repeated = tg.zeros(1).expand(2, 2)
    assert tg.cumsum(X, 0, out=repeated).tolist() == [[0, 1, 2], [3, 5, 7]]  # it gets memory of its own
    assert tg.t_copy(LEAF, out=empty()).tolist() == [[1, 1]] * 3 and tg.eq(LEAF, 1, out=empty(tg.bool)).all()
    assert tg.lerp(X, X, 0.5, out=empty(tg.float64)).dtype is tg.float64 and tg.clamp(X, X, out=empty(tg.float64)).dtype is tg.float64
    found = tg.round(X / 3, decimals=1, out=(out := empty()))
    assert found is out and out[0, 1].item() == pytest.approx(0.3)
    assert type(tg.sort(X, out=(empty(), empty(tg.int64)))).__name__ == "sort_out" and tg.conj_physical(X, out=empty()).equal(X)
    assert tg.alias_copy(X, out=empty()).equal(X)
    with pytest.raises(TypeError, match="expected tuple of 3 elements but got 2"):
        tg.linalg.svd(M, out=(empty(), empty()))
    with pytest.raises(TypeError, match=r"special_softmax\(\) got an unexpected keyword argument 'out'"):
        tg.special.softmax(X, 0, out=empty())


BY_NAME = [
    ("tg.bmm(input=M[None], mat2=M[None])", "M[None] @ M[None]"), ("M[None].bmm(mat2=M[None])", "M[None] @ M[None]"), ("tg.mv(input=M, vec=V[:2])", "M.mv(V[:2])"),
    ("X.repeat(repeats=(1, 2))", "X.repeat(1, 2)"), ("X.pow(exponent=2)", "X * X"), ("tg.heaviside(X, values=X)", "tg.heaviside(X, X)"),
    ("X.hsplit(sections=3)[0]", "X[:, :1]"), ("tg.tensor_split(X, indices=(1,))[1]", "X[1:]"), ("tg.linalg.vector_norm(x=X)", "X.norm()"),
    ("tg.det(input=M)", "M.det()"), ("tg.permute_copy(X, dims=(1, 0))", "X.t()"), ("X.clone().swapaxes_(axis0=0, axis1=1)", "X.t()"),
    ("tg.full_like(X, 1, memory_format=tg.preserve_format)", "tg.ones(2, 3)"), ("X.__add__(X, alpha=2)", "X * 3"), ("X.__mul__(other=X)", "X * X"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "same"), BY_NAME, ids=[row[0] for row in BY_NAME])
def test_arguments_by_name(call, same):
    for _ in range(3):  # the third is answered by compiled code
        assert eval(call).equal(eval(same))


REFUSED = [
    ("tg.chain_matmul((2.5, 1))", TypeError, "expected Tensor as element 0 in argument 0, but got tuple"),
    ("tg.chain_matmul()", RuntimeError, "chain_matmul\\(\\): Expected one or more matrices"),
    ("tg.ones(2, requires_grad=True).conj_physical_()", RuntimeError, "a leaf Variable that requires grad"),
    ("F.dropout3d(tg.ones(1, 1, 1, 1, 1), p=0.0, training=1)", TypeError, "feature_dropout\\(\\): argument 'train' \\(position 3\\) must be bool, not int"),
    ("F.dropout(1.0, inplace=True)", TypeError, "dropout_\\(\\): argument 'input'"),
    ("tg.cholesky_inverse(tg.zeros(2, 2))", RuntimeError, "cholesky_inverse: The diagonal element 1 is zero"),
    ("tg.linalg.vector_norm(X, dtype=tg.float16)", RuntimeError, "should be convertible without narrowing to the specified dtype \\(Half\\)"),
    ("tg.linalg.matrix_norm(X, dtype=tg.complex64)", RuntimeError, "dtype should be real for real inputs, but got ComplexFloat"),
    ("V.clone().cumsum_(0, dtype=float)", RuntimeError, "Bad in-place call: input tensor dtype float and output tensor dtype double should match"),
    ("B.clone().cumsum_(0)", NotImplementedError, "\"cumsum_out_cpu\" not implemented for 'Bool'"),
    ("I.split(True)", TypeError, "split\\(\\) received an invalid combination of arguments"),
    ("tg.trapezoid(tg.ones(2, 3), tg.ones(2, 1, 3))", RuntimeError, "The size of tensor a \\(2\\) must match the size of tensor b \\(3\\) at non-singleton dimension 2"),
    ("B.sub(True, alpha=2)", RuntimeError, "with two bool tensors is not supported"),
    ("X.repeat(B[0], 1)", RuntimeError, "Expected scalar.isIntegral"),
    ("tg.addr(tg.ones(4, 4, dtype=tg.int64), I, I, beta=2**63)", RuntimeError, "value cannot be converted to type int64_t without overflow"),
    ("tg.addmm(M.long(), M.long(), M.long(), alpha=2**70)", OverflowError, "int too big to convert"),
    ("tg.addmm(M.byte(), M.byte(), M.byte(), beta=300)", RuntimeError, "value cannot be converted to type uint8_t without overflow"),
    ("tg.addr(I[:2].reshape(1, 2), I[:1], I[:2], alpha=True)", RuntimeError, "Boolean alpha only supported for Boolean results."),
    ("tg.rsub(I, I, alpha=1.5)", RuntimeError, "For integral input tensors, argument alpha must not be a floating point number."),
    ("tg.full((2,), -0.5, dtype=tg.uint8)", RuntimeError, "value cannot be converted to type uint8_t without overflow"),
    ("tg.autograd.backward(tg.ones((), requires_grad=True), create_graph=-1)", OverflowError, "unsigned byte integer is less than minimum"),
    ("tg.autograd.grad(LEAF.sum(), LEAF, allow_unused='a')", TypeError, "'str' object cannot be interpreted as an integer"),
    ("setattr(tg.ones(1), '_base', X)", AttributeError, "attribute '_base' of 'Tensor' objects is not writable"),
    ("tg.autograd.gradgradcheck(lambda x: None, (LEAF,))", AttributeError, "'NoneType' object has no attribute 'requires_grad'"),
    ("tg.autograd.graph.save_on_cpu(device_type=set())", TypeError, "attribute name must be string, not 'set'"),
    ("tg.nn.CircularPad1d(3)(tg.ones(4))", ValueError, "expected 2D or 3D input \\(got 1D input\\)"),
    ("F.layer_norm(X, (3,), V.double())", RuntimeError, "mixed dtype \\(CPU\\): expect parameter to have scalar type of Float"),
    ("F.layer_norm(X.double(), (3,), V)", RuntimeError, "mixed dtype \\(CPU\\): all inputs must share same datatype."),
    ("F.group_norm(X.long(), 3)", NotImplementedError, "\"GroupNormKernelImpl\" not implemented for 'Long'"),
    ("tg.linalg.cross(V, V.double())", RuntimeError, "expected scalar type Float but found Double"),
    ("tg.linalg.vecdot(I, I)", RuntimeError, "Expected a floating point or complex tensor as input. Got Long"),
    ("tg.cdist(X, X.long())", RuntimeError, "cdist only supports floating-point dtypes, X2 got: Long"),
    ("F.kl_div(X, X.long())", RuntimeError, "kl_div: Integral inputs not supported."),
    ("F.relu6(B)", RuntimeError, "Bool inputs not supported for hardtanh"),
    ("F.threshold(I, -6, float('inf'))", RuntimeError, "value cannot be converted to type int64_t without overflow"),
    ("F.bilinear(M, M, M[None], tg.ones(1, dtype=tg.int64))", RuntimeError, "All tensors must have the same dtype, got input1: float, input2: float"),
    ("B.topk(1)", RuntimeError, "topk does not support bool dtypes on CPU"),
    ("tg.nanquantile(I, 0.5)", RuntimeError, "quantile\\(\\) input tensor must be either float or double dtype"),
    ("tg.histogram(X, tg.ones(1))", RuntimeError, "bins must be > 0, but got 0 for dimension 0"),
    ("tg.histogram(X, 3, weight=tg.ones(2))", RuntimeError, "got input with shape \\[6, 1\\] and weight with shape \\[2\\]"),
    ("X.index_fill(0, I[:1], tg.tensor(1j))", RuntimeError, "Converting complex Scalar to non-complex type is not supported"),
    ("tg.linalg.pinv(M.half())", RuntimeError, "expected a tensor with 2 or more dimensions of float, double, cfloat or cdouble types"),
    ("F.soft_margin_loss(tg.ones(()), V)", RuntimeError, "output with shape \\[\\] doesn't match the broadcast shape \\[3\\]"),
    ("F.rrelu(X, 3.0, 2.0, True)", RuntimeError, "Lower bound should be less than or equal to the upper bound"),
    ("F.max_pool2d(IMAGE, 2, dilation=-1)", RuntimeError, "dilation should be greater than zero, but got dilationH: -1 dilationW: -1"),
    ("F.max_pool1d(IMAGE[0], 2, 2, 0, -1)", RuntimeError, "max_pool1d\\(\\) dilation must be greater than zero, but got -1"),
    ("F.max_pool2d(IMAGE, (2, 2, 2, 2))", RuntimeError, "max_pool2d: kernel_size must either be a single int, or a tuple of two ints"),
    ("F.max_pool2d(IMAGE, -1)", RuntimeError, "kernel size should be greater than zero, but got kH: -1 kW: -1"),
    ("F.max_pool3d(tg.ones(2, 0, 4, 4, 4), 2)", RuntimeError, "Expected input's non-batch dimensions to have positive length"),
    ("F.avg_pool3d(IMAGE[None], 5)", RuntimeError, "input image \\(T: 2 H: 4 W: 4\\) smaller than kernel size \\(kT: 5 kH: 5 kW: 5\\)"),
    ("F.avg_pool1d(IMAGE[0], (2, 2))", RuntimeError, "avg_pool1d\\(\\) argument 'kernel_size' should contain one int \\(got 2\\)"),
    ("F.adaptive_max_pool2d(M, 2)", RuntimeError, "adaptive_max_pool2d\\(\\): Expected 3D or 4D tensor, but got: \\[2, 2\\]"),
    ("F.adaptive_avg_pool2d(IMAGE, (2,))", RuntimeError, "adaptive_avg_pool2d: output_size must be 2"),
    ("F.adaptive_max_pool2d(IMAGE, 2.5)", TypeError, "object of type 'float' has no len\\(\\)"),
    ("F.adaptive_max_pool2d(IMAGE, -1)", RuntimeError, "Trying to create tensor with negative dimension -1: \\[1, 2, -1, -1\\]"),
    ("F.unfold(IMAGE, 2, -1)", RuntimeError, "dilation should be greater than zero, but got dilation_height: -1 dilation_width: -1"),
    ("F.fold(tg.ones(1, 8, 9), 4, 2, 1, 0, 0)", RuntimeError, "stride should be greater than zero, but got stride_height: 0 stride_width: 0"),
    ("F.fold(tg.ones(1, 8, 9), (4,), 2)", RuntimeError, "It is expected output_size equals to 2, but got size 1"),
    ("F.lp_pool2d(IMAGE, 2, (2, 2, 2))", ValueError, "too many values to unpack \\(expected 2\\)"),
    ("F.pad(IMAGE, (1, 1), 'circular')", NotImplementedError, "Padding size 2 is not supported for 4D input tensor."),
    ("F.pad(tg.ones(2, 2, 0), (1, 1), 'replicate')", RuntimeError, "with possibly 0 batch size and other non-zero dimensions for input"),
    ("F.conv2d(IMAGE, M)", RuntimeError, "weight should have at least three dimensions"),
    ("F.conv2d(IMAGE, tg.ones(2, 2, 0, 0))", RuntimeError, "kernel size should be greater than zero, but got kernel_height: 0 kernel_width: 0"),
    ("F.conv2d(IMAGE, tg.ones(2, 2, 2, 2), tg.ones(2).double())", RuntimeError, "Input type \\(float\\) and bias type \\(double\\) should be the same"),
    ("F.conv_transpose1d(IMAGE[0], tg.ones(4, 2, 2), None, 1, 5)", RuntimeError, "Given input size per channel: \\(1 x 4\\)"),
    ("M * tg.ones(2, 0, 3)", RuntimeError, "tensor a \\(2\\) must match the size of tensor b \\(3\\) at non-singleton dimension 2"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED, ids=[row[0] for row in REFUSED])
@pytest.mark.filterwarnings("ignore")
def test_refused(call, kind, words):
    for _ in range(2):
        with pytest.raises(kind, match=words):
            eval(call)


def test_taken():
    assert F.adaptive_max_pool2d(tg.ones(0, 2, 4, 4), 2).shape == (0, 2, 2, 2)
    assert tg.addmv(I[:2], M.long(), I[:2], beta=1.5).tolist() == [1, 2]  # numbers are cut off for integers
    assert tg.cholesky(tg.zeros(0, 3)).shape == (0, 3) and tg.ones(0, 3).roll(0, 2).shape == (0, 3)
    assert tg.linalg.matrix_norm(M.half(), 1).item() == 2 and tg.cross(V.bfloat16(), V.bfloat16(), dim=0).tolist() == [0, 0, 0]
    assert tg.histogram(X, tg.tensor([0.0, 2.0, 5.0])).hist.tolist() == [2, 4] and tg.ones(2).conj_physical_()._version == 1
