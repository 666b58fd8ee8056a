"""Owns conjugates and negatives that are views: sharing memory, being read and written, and their place in the graph."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
from func_cases import CASES

import tapegrad as tg

VALUES = [[1 + 2j, 3 - 1j], [0.5j, 2 + 0j]]


def pair():
    """A complex tensor and its conjugate."""
    x = tg.tensor(VALUES, dtype=tg.complex128)
    return x, x.conj()


def elements(t):
    return t.detach().numpy(force=True)


def test_a_conjugate_is_a_view():
    x, c = pair()
    assert c.is_conj() and not x.is_conj() and not c.is_neg() and c.dtype is tg.complex128
    assert c.data_ptr() == x.data_ptr() and c._base is x and c.stride() == x.stride() and c.conj()._base is x
    assert not c.conj().is_conj() and x.real.conj().is_conj() is False
    assert c.tolist() == np.conj(VALUES).tolist() and c[0, 1].item() == 3 + 1j and repr(c[0]) == "tensor([1.-2.j, 3.+1.j], dtype=tapegrad.complex128)"
    assert c.imag.is_neg() and not c.real.is_neg() and c.imag.data_ptr() == x.imag.data_ptr() and c.imag.tolist() == [[-2.0, 1.0], [-0.5, -0.0]]
    assert x.mH.is_conj() and x.H.is_conj() and x.adjoint().data_ptr() == x.data_ptr()


VIEWS = {
    "t": lambda c: c.t(), "reshape": lambda c: c.reshape(4), "getitem": lambda c: c[0], "unbind": lambda c: c.unbind()[1], "split": lambda c: c.split(1)[0],
    "expand": lambda c: c.expand(2, 2, 2), "as_strided": lambda c: c.as_strided((2,), (1,)), "detach": lambda c: c.detach(), "data": lambda c: c.data,
    "contiguous": lambda c: c.contiguous(), "to": lambda c: c.to(tg.complex128), "positive": lambda c: +c, "copy": copy.copy, "diagonal": lambda c: c.diagonal(),
    "pickle": lambda c: pickle.loads(pickle.dumps(c)), "parameter": tg.nn.Parameter, "as_tensor": tg.as_tensor, "movedim": lambda c: c.movedim(0, 1),
}
COPIES = {
    "clone": lambda c: c.clone(), "resolve": lambda c: c.resolve_conj(), "mul": lambda c: c * 2, "cat": lambda c: tg.cat([c]), "contiguous": lambda c: c.t().contiguous(),
    "double": lambda c: c.to(tg.complex64), "mask": lambda c: c[c.real > 1], "list": lambda c: c[[0]], "deepcopy": copy.deepcopy, "flatten": lambda c: c.t().flatten(),
    "sum": lambda c: c.sum(), "matmul": lambda c: c @ c, "zeros_like": tg.zeros_like, "new_tensor": lambda c: c.new_tensor(c), "conj_physical": lambda c: c.conj_physical(),
}  # fmt: skip


@pytest.mark.parametrize("name", VIEWS)
def test_views_stay_conjugate(name):
    x, c = pair()
    v = VIEWS[name](c)
    assert v.is_conj()
    np.testing.assert_array_equal(elements(v), elements(VIEWS[name](x.conj_physical())))


@pytest.mark.filterwarnings("ignore:To copy construct")
@pytest.mark.parametrize("name", COPIES)
def test_results_are_in_memory(name):
    x, c = pair()
    v = COPIES[name](c)
    assert not v.is_conj()
    np.testing.assert_allclose(elements(v), elements(COPIES[name](x.conj_physical())))


def test_writing_into_a_conjugate_changes_the_original():
    x, c = pair()
    version = x._version
    c[0] = tg.tensor([5 + 1j, 1j])
    assert x[0].tolist() == [5 - 1j, -1j] and x._version == version + 1 == c._version
    c.mul_(1j)
    assert c[0].tolist() == [-1 + 5j, -1 + 0j] and x[0].tolist() == [-1 - 5j, -1 + 0j]
    c.imag.add_(1)
    assert x.imag[0].tolist() == [-6.0, -1.0]
    c.copy_(x)
    assert c.tolist() == np.conj(x.tolist()).tolist() and c.is_conj()
    c.real = 7.0
    assert x.real.tolist() == [[7.0, 7.0], [7.0, 7.0]]
    tg.mul(tg.ones(2, 2), 2j, out=c)
    assert c.tolist() == [[2j, 2j], [2j, 2j]] and x[0, 0].item() == -2j and c.is_conj()
    c.masked_fill_(tg.tensor([True, False]), 3j).index_add_(0, tg.tensor([1]), tg.ones(1, 2, dtype=tg.complex128))
    assert x.tolist() == [[-3j, -2j], [1 - 3j, 1 - 2j]]
    c.zero_()
    assert not x.any()


def test_refusals():
    x, c = pair()
    with pytest.raises(RuntimeError, match=r"Can't call numpy\(\) on Tensor that has conjugate bit set. Use tensor.resolve_conj\(\).numpy\(\) instead."):
        c.numpy()
    with pytest.raises(RuntimeError, match=r"Can't call numpy\(\) on Tensor that has negative bit set. Use tensor.resolve_neg\(\).numpy\(\) instead."):
        np.asarray(c.imag)
    with pytest.raises(RuntimeError, match="view_as_real doesn't work on unresolved conjugated tensors"):
        tg.view_as_real(c)
    with pytest.raises(RuntimeError, match="torch.Tensor.view is not supported for conjugate view tensors when converting to a different dtype"):
        c.view(tg.float64)
    with pytest.raises(BufferError, match="Can't export tensors with the conjugate bit set"):
        tg.from_dlpack(c)
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad is being used in an in-place operation"):
        x.requires_grad_().conj().mul_(2)


def test_saved_and_loaded_as_conjugates():
    _, c = pair()
    file = io.BytesIO()
    tg.save({"c": c, "n": pair()[1].imag}, file)
    file.seek(0)
    found = tg.load(file)
    assert found["c"].is_conj() and found["n"].is_neg() and found["c"].tolist() == c.tolist() and found["n"].tolist() == c.imag.tolist()


@pytest.mark.torch
def test_files_of_torch():
    torch = pytest.importorskip("torch")
    for writer, reader in ((tg, torch), (torch, tg)):
        c = writer.tensor(VALUES, dtype=writer.complex128).conj()
        file = io.BytesIO()
        writer.save([c, writer.tensor(VALUES, dtype=writer.complex128).conj().imag], file)
        file.seek(0)
        d, n = reader.load(file)
        assert d.is_conj() and n.is_neg() and d.tolist() == c.tolist() and n.tolist() == c.imag.tolist()


def test_the_graph():
    x = tg.tensor(VALUES, dtype=tg.complex128, requires_grad=True)
    assert type(x.conj().grad_fn).__name__ == "ConjBackward0" and type(x.conj().resolve_conj().grad_fn).__name__ == "CloneBackward0"
    assert [type(node).__name__ for node, _ in (x.conj() * x).grad_fn.next_functions] == ["ConjBackward0", "AccumulateGrad"]
    assert type(x.conj().imag.grad_fn.next_functions[0][0]).__name__ == "NegViewBackward0"
    assert tg.autograd.gradcheck(lambda x: (x.conj() * x.mH, x.conj().imag**3), x) and tg.autograd.gradgradcheck(lambda x: (x.conj() * x.mH).imag, x)
    y = x.conj()
    y.retain_grad()
    y.backward(x.detach().conj())  # the gradient given is itself a conjugate
    assert x.grad.tolist() == VALUES and y.grad.tolist() == np.conj(VALUES).tolist()


def test_in_place_through_the_graph():
    """x := 2 Re(x_0), conj(x_1): the derivatives by hand."""
    w = tg.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    x = w * 1
    c = x.conj()
    c[0].add_(w[0])  # conj(x_0) := conj(w_0) + w_0
    c[1] = w[1]
    assert x.tolist() == [2, 3 + 1j] and not x.imag[0].item()
    (x * tg.tensor([1, 1j])).imag.sum().backward()  # Re(conj(w_1))
    assert w.grad.tolist() == [0, 1] and type(c.grad_fn).__name__ == "ConjBackward0"


def flat(o) -> list:
    return [o] if isinstance(o, tg.Tensor) else [t for part in o for t in flat(part)] if isinstance(o, (tuple, list)) else []


def outcome(f, base, x, sign):
    """What `f` gives for x, with the gradients of `base` that `sign` makes comparable; or its error."""
    tg.manual_seed(0)
    try:
        out = flat(f(tg, x))
    except Exception as error:
        return type(error), str(error)
    floats = [o for o in out if o.requires_grad]
    if floats:
        sum((o * o.detach().cos()).abs().sum() for o in floats).backward()
    return [elements(o) for o in out], None if base.grad is None else sign(elements(base.grad))


@pytest.mark.filterwarnings("ignore:Casting complex")
@pytest.mark.parametrize("kind", ["neg", "conj"])
@pytest.mark.parametrize("name", CASES)
def test_every_family_reads_the_value(name, kind, rng):
    f, shape = CASES[name]
    a = rng.uniform(0.3, 1.5, shape) * rng.choice([-1, 1], shape)
    if kind == "conj":
        a = a + 1j * rng.uniform(0.3, 1.5, shape)
    sign = np.conj if kind == "conj" else np.negative
    plain = tg.tensor(a, requires_grad=True)
    base = tg.tensor(sign(a), requires_grad=True)
    wanted = outcome(f, plain, plain, lambda g: g)
    found = outcome(f, base, base.conj() if kind == "conj" else base._neg_view(), sign)
    if isinstance(wanted[0], type):
        assert found == wanted
        return
    for p, q in zip(found[0], wanted[0], strict=True):
        np.testing.assert_allclose(p, q)
    assert (found[1] is None) == (wanted[1] is None)
    if found[1] is not None:
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-10, atol=1e-12)


def test_transforms_take_conjugates():
    x, c = pair()
    np.testing.assert_array_equal(elements(tg.func.vmap(lambda t: t * 2)(c)), elements(c * 2))
    value, tangent = tg.func.jvp(lambda t: t.conj() * t, (c,), (c,))
    np.testing.assert_allclose(elements(value), elements(c * x))
    np.testing.assert_allclose(elements(tangent), elements(2 * c * x))


def test_an_optimizer_takes_a_conjugate_gradient():
    found = []
    for read in (lambda t: t, lambda t: t.resolve_conj()):
        x, c = pair()
        x.requires_grad_()
        x.grad = read(c.detach())
        tg.optim.Adam([x], lr=0.1).step()
        found.append(elements(x))
    np.testing.assert_array_equal(*found)


def test_subclasses_are_carried_out_too():
    class Sub(tg.Tensor):
        pass

    x = tg.tensor([1 + 2j, 3 - 1j]).as_subclass(Sub)
    y = tg.tensor([1 + 2j, 3 - 1j], requires_grad=True).as_subclass(Sub)
    for result, wanted in (
        (x.conj() * 2, [2 - 4j, 6 + 2j]),
        (x.conj().resolve_conj(), [1 - 2j, 3 + 1j]),
        (x.conj().imag * 2, [-4.0, 2.0]),
        (x.clone().conj().mul_(2), [2 - 4j, 6 + 2j]),
        (tg.cat([x.conj()[:1], x]), [1 - 2j, 1 + 2j, 3 - 1j]),
        (tg.autograd.grad((y.conj() * y).real.sum(), y)[0], [2 + 4j, 6 - 2j]),
    ):
        assert type(result) is Sub and result.tolist() == wanted


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_storages_are_the_memory_itself():
    x, conjugate = pair()
    assert conjugate.storage().tolist() == x.storage().tolist() == [v for row in VALUES for v in row]
    imag = conjugate.imag
    found = imag.storage()
    assert len(found) == 8
    assert found[1] == 2.0
    found[1] = 9.0
    assert x[0, 0].item() == 1 + 9j
    assert imag[0, 0].item() == -9.0
