"""Jacobians, Hessians and their products with vectors, by reverse mode.

A product J v comes from differentiating twice: u -> J^T u is linear in u, and its own vector-Jacobian product is J v.
"""

from __future__ import annotations

from tapegrad import modes
from tapegrad.creation import zeros, zeros_like
from tapegrad.tensor import Tensor

NO_OUTPUT_VECTOR = "The vector v can only be None if the user-provided function returns a single Tensor with a single element."
NO_INPUT_VECTOR = (
    "The vector v can only be None if the input to the user-provided function is a single Tensor with a single element."
)

__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]


def _as_tuple(value, argument: str, function: str | None) -> tuple[bool, tuple]:
    """(whether it was a tuple, the tensors as a tuple); torch's TypeError for anything else."""
    if isinstance(value, Tensor):
        return False, (value,)
    start = f"The {argument} given to {function} must be either a Tensor or a tuple of Tensors but the"
    if not isinstance(value, tuple):
        raise TypeError(f"{start} given {argument} has type {type(value)}.")
    for k, item in enumerate(value):
        if not isinstance(item, Tensor):
            raise TypeError(f"{start} value at index {k} has type {type(item)}.")
    return True, value


def _prepare(values, create_graph: bool, wanted: bool = True) -> tuple:
    """Tensors of this computation's own: still connected to the caller's graph if the result is to be differentiable, else leaves."""
    return tuple(x.view_as(x) if create_graph and x.requires_grad else x.detach().requires_grad_(wanted) for x in values)


def _given(v, function: str, create_graph: bool):
    """The tensors of the vector `v`."""
    return None if v is None else _prepare(_as_tuple(v, "v", function)[1], create_graph, False)


def _check_vectors(v, others, other_tuple: bool, message: str) -> None:
    """Raise unless `v` has the shapes of `others`, or may be left out (`message` if not)."""
    if v is None:
        if len(others) != 1 or others[0].numel() != 1:
            raise RuntimeError(message)
        return
    if len(others) != len(v):
        raise RuntimeError(
            f"v is a tuple of invalid length: should be {len(others)} but got {len(v)}." if other_tuple else "The given v should contain a single Tensor."
        )
    for k, (a, b) in enumerate(zip(v, others, strict=True)):
        if a.shape != b.shape:
            prefix = f"Entry {k} in " if other_tuple else ""
            raise RuntimeError(f"{prefix}v has invalid size: should be {b.shape} but got {a.shape}.")


# --- strict mode ----------------------------------------------------------------------------------------------------
OUTPUT = (
    "Output {} of the user-provided function does not require gradients. The outputs must be computed in a differentiable manner from the input when "
    "running in strict mode."
)
GRADIENT = "The gradient with respect to input {} is independent of the inputs of the user-provided function. This is not allowed in strict mode."
JACOBIAN = (
    "While computing the hessian, found that the jacobian of the user-provided function with respect to input {} is independent of the input. This "
    "is not allowed in strict mode. You should ensure that your function is twice differentiable and that the jacobian depends on the inputs (this "
    "would be violated by a linear function for example)."
)
HESSIAN = (
    "The hessian of the user-provided function with respect to input {} is independent of the input. This is not allowed in strict mode. You should "
    "ensure that your function is thrice differentiable and that the hessian depends on the inputs."
)
NO_GRADIENT = "The output of the user-provided function is independent of input {}. This is not allowed in strict mode."
NO_PRODUCT = (
    "The gradient with respect to the input is independent of entry {} in the grad_outputs when using the double backward trick to compute forward "
    "mode gradients. This is not allowed in strict mode."
)
NO_JACOBIAN = "The jacobian of the user-provided function is independent of input {}. This is not allowed in strict mode."
NO_HESSIAN = (
    "The hessian of the user-provided function is independent of entry {} in the grad_jacobian. This is not allowed in strict mode as it prevents "
    "from using the double backward trick to replace forward mode AD."
)
CONSTANT = "The {} of the user-provided function is independent of input {}. This is not allowed in strict mode when create_graph=True."


def _check_connected(values, text: str, strict: bool) -> None:
    """In strict mode every one of `values` is there and requires grad."""
    for k, value in enumerate(values if strict else ()):
        if value is None or not value.requires_grad:
            raise RuntimeError((NO_GRADIENT if value is None else text).format(k))


def _fill(grads, models, strict: bool, create_graph: bool, text: str, what: str = "jacobian") -> tuple:
    """Zeros where there is no gradient; an error in strict mode, where `what` must depend on the inputs if it is to be differentiated again."""
    for k, g in enumerate(grads if strict else ()):
        if g is None:
            raise RuntimeError(text.format(k))
        if create_graph and not g.requires_grad:
            raise RuntimeError(CONSTANT.format(what, k))
    return tuple(zeros_like(x) if g is None else g for g, x in zip(grads, models, strict=True))


# --- gradients ------------------------------------------------------------------------------------------------------
def _grad(outputs, inputs, vectors, create_graph: bool, retain: bool | None = None) -> tuple:
    """autograd.grad that passes over outputs without a graph; None where an input was not used."""
    from tapegrad.autograd import grad

    live = [(out, v) for out, v in zip(outputs, vectors or (None,) * len(outputs), strict=True) if out is not None and out.requires_grad]
    if not live:
        return (None,) * len(inputs)
    return tuple(grad([out for out, _ in live], inputs, [v for _, v in live], retain, create_graph, allow_unused=True))


def _last_pass(create_graph: bool):
    """The grad mode of the pass whose results are returned."""
    return modes.set_grad_enabled(create_graph or modes.is_grad_enabled())


def _give(values, as_tuple: bool, create_graph: bool):
    values = tuple(values) if create_graph else tuple(t.detach() for t in values)
    return values if as_tuple else values[0]


def _called(func, inputs, function: str, strict: bool) -> tuple[bool, tuple]:
    out_tuple, outputs = _as_tuple(func(*inputs), "outputs of the user-provided function", function)
    _check_connected(outputs, OUTPUT, strict)
    return out_tuple, outputs


def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), v^T J): the product of `v`, of the outputs' shape, with the Jacobian of `func` at `inputs`.

    >>> import tapegrad as tg
    >>> tg.autograd.functional.vjp(lambda x: x ** 2, tg.tensor([1., 2.]), tg.ones(2))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    with modes.enable_grad():
        in_tuple, inputs = _as_tuple(inputs, "inputs", "vjp")
        inputs = _prepare(inputs, create_graph)
        out_tuple, outputs = _called(func, inputs, "vjp", strict)
        v = _given(v, "vjp", create_graph)
        _check_vectors(v, outputs, out_tuple, NO_OUTPUT_VECTOR)
    with _last_pass(create_graph):
        grads = _fill(_grad(outputs, inputs, v, create_graph), inputs, strict, create_graph, NO_GRADIENT)
    return _give(outputs, out_tuple, create_graph), _give(grads, in_tuple, create_graph)


def _forward(outputs, models, inputs, vectors, create_graph: bool, text: str, strict: bool):
    """What computes J v, with `outputs` of the shapes of `models`: u -> J^T u is linear in u, and v times its own Jacobian is J v."""
    cotangents = tuple(zeros_like(x, requires_grad=True) for x in models)
    pulled = _grad(outputs, inputs, cotangents, True)
    _check_connected(pulled, text, strict)
    return lambda: _grad(pulled, cotangents, vectors, create_graph)


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), J v): the product of the Jacobian of `func` at `inputs` with `v`, of the inputs' shape."""
    with modes.enable_grad():
        in_tuple, inputs = _as_tuple(inputs, "inputs", "jvp")
        inputs = _prepare(inputs, create_graph)
        v = _given(v, "jvp", create_graph)
        _check_vectors(v, inputs, in_tuple, NO_INPUT_VECTOR)
        out_tuple, outputs = _called(func, inputs, "jvp", strict)
        push = _forward(outputs, outputs, inputs, v, create_graph, GRADIENT, strict)
    with _last_pass(create_graph):
        product = _fill(push(), outputs, strict, create_graph, NO_PRODUCT)
    return _give(outputs, out_tuple, create_graph), _give(product, out_tuple, create_graph)


# --- Jacobians ------------------------------------------------------------------------------------------------------
def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"):
    """The derivative of every element of the output by every element of the input: shape (*output, *input).

    With a tuple of inputs or outputs the result is a tuple over inputs, over outputs, or over outputs of tuples over inputs.
    `vectorize` computes all rows at once, as a vmap; `strategy` "forward-mode" all columns.

    >>> import tapegrad as tg
    >>> tg.autograd.functional.jacobian(lambda x: x ** 2, tg.tensor([1., 2.]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has more outputs than inputs, "forward-mode" '
            'tends to be more performant. Otherwise, prefer to use "reverse-mode".'
        )
    if strategy == "forward-mode":
        _check_forward(create_graph, strict, vectorize)
        return _jacobian_forward(func, inputs)
    with modes.enable_grad():
        in_tuple, inputs = _as_tuple(inputs, "inputs", "jacobian")
        inputs = _prepare(inputs, create_graph)
        out_tuple, outputs = _called(func, inputs, "jacobian", strict)
        if vectorize and strict:
            raise RuntimeError(TOGETHER.format("vectorized=True", "vectorize=False"))
        if any(out.numel() == 0 for out in outputs):  # no rows to stack
            raise IndexError("index 0 is out of bounds for dimension 0 with size 0") if vectorize else RuntimeError(NOTHING_TO_STACK)
        rows = _rows_at_once(outputs, inputs, create_graph) if vectorize else _rows(outputs, inputs, create_graph, strict)
    if not create_graph:
        rows = [tuple(block.detach() for block in row) for row in rows]
    rows = [row if in_tuple else row[0] for row in rows]
    return tuple(rows) if out_tuple else rows[0]


NOTHING_TO_STACK = "stack expects a non-empty TensorList"
TOGETHER = "tapegrad.autograd.functional.jacobian: `strict=True` and `{}` are not supported together. Please either set `strict=False` or `{}`."


def _check_forward(create_graph: bool, strict: bool, vectorize: bool) -> None:
    """The options that forward mode has."""
    for name, given in (("create_graph", create_graph), ("strict", strict)):
        if given:
            kind = NotImplementedError if name == "create_graph" else RuntimeError
            raise kind(
                f'tapegrad.autograd.functional.jacobian: `{name}=True` and `strategy="forward-mode"` are not supported together (yet). Please either '
                f'set `{name}=False` or `strategy="reverse-mode"`.'
            )
    if not vectorize:
        raise NotImplementedError("Computing Jacobian using forward-AD or forward-over-reverse Hessian isonly implemented for `vectorize=True`.")


def _rows(outputs, inputs, create_graph: bool, strict: bool) -> list:
    """Per output its Jacobian by each input, row by row."""
    from tapegrad.ops.joining import stack

    rows = []
    for j, out in enumerate(outputs):
        if out.is_complex():
            raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {out.dtype}")
        columns: list[list] = [[] for _ in inputs]
        for unit in unit_vectors(out):
            for k, (g, x) in enumerate(zip(_grad((out,), inputs, (unit,), create_graph, True), inputs, strict=True)):
                if strict and g is None:
                    raise RuntimeError(f"Output {j} of the user-provided function is independent of input {k}. This is not allowed in strict mode.")
                if strict and create_graph and not g.requires_grad:
                    raise RuntimeError(CONSTANT.format("jacobian", j))
                columns[k].append(zeros_like(x) if g is None else g)
        rows.append(tuple(stack(column).view((*out.shape, *x.shape)) for column, x in zip(columns, inputs, strict=True)))
    return rows


def unit_vectors(out):
    """The unit vectors of the space of `out`."""
    for k in range(out.numel()):
        unit = zeros(out.numel(), dtype=out.dtype)
        unit[k] = 1
        yield unit.view(tuple(out.shape))


def _rows_at_once(outputs, inputs, create_graph: bool) -> list:
    """The same by one backward pass for the unit vectors of all outputs together."""
    from tapegrad.autograd import grad
    from tapegrad.func.reverse import basis

    live = [out for out in outputs if out.requires_grad]
    found = [None] * len(inputs)
    if live:
        found = grad(live, inputs, next(basis(live)), None, create_graph, allow_unused=True, is_grads_batched=True)
    rows, at = [], 0
    for out in outputs:
        n = out.numel() if out.requires_grad else 0
        part = lambda g, x: zeros((*out.shape, *x.shape), dtype=x.dtype) if g is None or not out.requires_grad else g[at : at + n]
        rows.append(tuple(part(g, x).reshape((*out.shape, *x.shape)) for g, x in zip(found, inputs, strict=True)))
        at += n
    return rows


def _jacobian_forward(func, inputs):
    """`jacobian` by one forward pass for the unit vectors of all inputs together."""
    from tapegrad.autograd import forward_ad
    from tapegrad.func.reverse import basis
    from tapegrad.transforms.batching import VmapLevel

    in_tuple, inputs = _as_tuple(inputs, "inputs", "jacobian")
    sizes = [x.numel() for x in inputs]
    with VmapLevel(sum(sizes), "error", public=False) as batch, forward_ad.dual_level():
        duals = [forward_ad.make_dual(x, batch.wrap(unit)) for x, unit in zip(inputs, next(basis(list(inputs))), strict=True)]
        out_tuple, outputs = _as_tuple(func(*duals), "outputs", None)
        parts = [forward_ad.unpack_dual(out) for out in outputs]
        products = [batch.spread(zeros_like(value) if tangent is None else tangent) for value, tangent in parts]
    rows = []
    for product in products:
        blocks = product.movedim(0, -1).split(sizes, -1)
        rows.append([block.reshape((*block.shape[:-1], *x.shape)) for block, x in zip(blocks, inputs, strict=True)])
    found = rows if in_tuple else tuple(row[0] for row in rows)
    return found if out_tuple else found[0]


# --- second derivatives ---------------------------------------------------------------------------------------------
def _called_scalar(func, inputs, function: str, strict: bool):
    """func(inputs), one tensor of one element."""
    out_tuple, outputs = _called(func, inputs, function, strict)
    if out_tuple:
        raise RuntimeError(f"The function given to {function} should return a single Tensor")
    if outputs[0].numel() != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {function} should contain a single element")
    return outputs[0]


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy="reverse-mode"):
    """The second derivatives of a function with a one-element result: shape (*input, *input), tuples of tuples for several inputs.

    >>> import tapegrad as tg
    >>> tg.autograd.functional.hessian(lambda x: (x ** 3).sum(), tg.tensor([1., 2.]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    in_tuple, inputs = _as_tuple(inputs, "inputs", "hessian")
    if outer_jacobian_strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')

    def scalar(*points):
        return _called_scalar(func, points, "hessian", strict).squeeze()

    def gradient(*points):
        if outer_jacobian_strategy == "forward-mode":
            from tapegrad.func.reverse import grad

            return grad(scalar, tuple(range(len(points))))(*points)
        found = jacobian(scalar, points, create_graph=True)
        _check_connected(found, JACOBIAN, strict)
        return found

    found = jacobian(gradient, inputs, create_graph, strict, vectorize, outer_jacobian_strategy)
    return found if in_tuple else found[0][0]


def _once_derived(function: str, func, inputs, v, create_graph: bool, strict: bool):
    """What `vhp` and `hvp` begin with: (whether the inputs are a tuple, they, v, the value, its gradient)."""
    in_tuple, inputs = _as_tuple(inputs, "inputs", function)
    inputs = _prepare(inputs, create_graph)
    v = _given(v, function, create_graph)
    _check_vectors(v, inputs, in_tuple, NO_INPUT_VECTOR)
    out = _called_scalar(func, inputs, function, strict)
    first = _grad((out,), inputs, None, True)
    _check_connected(first, JACOBIAN, strict)
    return in_tuple, inputs, v, out, first


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), v^T H): the product of `v`, of the inputs' shape, with the Hessian of a function with a one-element result."""
    with modes.enable_grad():
        in_tuple, inputs, v, out, first = _once_derived("vhp", func, inputs, v, create_graph, strict)
    with _last_pass(create_graph):
        product = _fill(_grad(first, inputs, v, create_graph), inputs, strict, create_graph, NO_JACOBIAN, "hessian")
    return _give((out,), False, create_graph), _give(product, in_tuple, create_graph)


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), H v): the product of the Hessian of a function with a one-element result with `v`, of the inputs' shape.

    >>> import tapegrad as tg
    >>> tg.autograd.functional.hvp(lambda x: (x ** 3).sum(), tg.tensor([1., 2.]), tg.ones(2))
    (tensor(9.), tensor([ 6., 12.]))
    """
    with modes.enable_grad():
        in_tuple, inputs, v, out, first = _once_derived("hvp", func, inputs, v, create_graph, strict)
        # The gradient's Jacobian is symmetric where the second derivatives exist, but J v is what is asked for.
        push = _forward(first, inputs, inputs, v, create_graph, HESSIAN, False)
        _check_connected(first, HESSIAN, strict)
    with _last_pass(create_graph):
        product = _fill(push(), inputs, strict, create_graph, NO_HESSIAN, "hessian")
    return _give((out,), False, create_graph), _give(product, in_tuple, create_graph)
