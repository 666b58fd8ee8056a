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


def _as_tuple(value, argument: str, function: str) -> tuple[bool, tuple]:
    """(whether it was a tuple, the tensors as a tuple); torch's TypeError for anything else."""
    if isinstance(value, Tensor):
        return False, (value,)
    if not isinstance(value, tuple):
        raise TypeError(
            f"The {argument} given to {function} must be either a Tensor or a tuple of Tensors but the given {argument} has type {type(value)}."
        )
    for k, item in enumerate(value):
        if not isinstance(item, Tensor):
            raise TypeError(
                f"The {argument} given to {function} must be either a Tensor or a tuple of Tensors but the value at index {k} has type {type(item)}."
            )
    return True, value


def _prepare(inputs, create_graph: bool) -> tuple:
    """The inputs as tensors of this computation's own: still connected to the caller's graph if the result is to be differentiable."""
    return tuple(
        x.view_as(x) if create_graph and x.requires_grad else x.detach().requires_grad_(not create_graph or x.dtype.differentiable)
        for x in inputs
    )


def _outputs(func, inputs, function: str):
    return _as_tuple(func(*inputs), "outputs of the user-provided function", function)


def _check_connected(outputs, inputs, strict: bool, what: str) -> None:
    if not strict:
        return
    for k, out in enumerate(outputs):
        if not out.requires_grad:
            raise RuntimeError(
                f"Output {k} of the user-provided function does not require gradients. The outputs must be computed in a differentiable manner "
                f"from the input when running in strict mode."
            )


def _check_vectors(v, others, other_tuple: bool) -> None:
    if len(others) != len(v):
        if other_tuple:
            raise RuntimeError(f"v is a tuple of invalid length: should be {len(others)} but got {len(v)}.")
        raise RuntimeError("The given v should contain a single Tensor.")
    for k, (a, b) in enumerate(zip(v, others, strict=True)):
        if a.shape != b.shape:
            prefix = f"Entry {k} in " if other_tuple or len(v) > 1 else ""
            raise RuntimeError(f"{prefix}v has invalid size: should be {b.shape} but got {a.shape}.")


def _vectors(v, others, others_tuple, function, message):
    if v is None:
        if len(others) != 1 or others[0].numel() != 1:
            raise RuntimeError(message)
        return tuple(zeros_like(x) + 1 for x in others)
    _, v = _as_tuple(v, "v", function)
    _check_vectors(v, others, others_tuple)
    return v


def _grad(outputs, inputs, vectors, create_graph: bool, retain: bool | None = None) -> tuple:
    """autograd.grad that passes over outputs without a graph; None where an input was not used."""
    from tapegrad.autograd import grad

    live = [(out, v) for out, v in zip(outputs, vectors, strict=True) if out is not None and out.requires_grad]
    if not live:
        return (None,) * len(inputs)
    wanted = [x for x in inputs if x.requires_grad]
    found = iter(grad([out for out, _ in live], wanted, [v for _, v in live], retain, create_graph, allow_unused=True) if wanted else ())
    return tuple(next(found) if x.requires_grad else None for x in inputs)


SECOND = (
    "While computing the hessian, found that the jacobian of the user-provided function with respect to input {} is independent of the input. "
    "This is not allowed in strict mode. You should ensure that your function is twice differentiable and that the jacobian depends on the "
    "inputs (this would be violated by a linear function for example)."
)


def _fill(grads, inputs, strict: bool, output: int | None = None, create_graph: bool = False) -> tuple:
    """Zeros where there is no gradient; an error in strict mode."""
    result = []
    subject = "The output" if output is None else f"Output {output}"
    for k, (g, x) in enumerate(zip(grads, inputs, strict=True)):
        if g is None:
            if strict:
                raise RuntimeError(
                    f"{subject} of the user-provided function is independent of input {k}. This is not allowed in strict mode."
                )
            g = zeros_like(x)
        elif strict and create_graph and not g.requires_grad:
            raise RuntimeError(
                f"The jacobian of the user-provided function is independent of input {k}. This is not allowed in strict mode when "
                "create_graph=True."
            )
        result.append(g)
    return tuple(result)


def _give(values, as_tuple: bool, create_graph: bool):
    values = tuple(values) if create_graph else tuple(t.detach() for t in values)
    return values if as_tuple else values[0]


def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), v^T J): the product of `v`, of the outputs' shape, with the Jacobian of `func` at `inputs`.

    >>> import tapegrad as tg
    >>> tg.autograd.functional.vjp(lambda x: x ** 2, tg.tensor([1., 2.]), tg.ones(2))
    (tensor([1., 4.]), tensor([2., 4.]))
    """
    with modes.enable_grad():
        in_tuple, inputs = _as_tuple(inputs, "inputs", "vjp")
        inputs = _prepare(inputs, create_graph)
        out_tuple, outputs = _outputs(func, inputs, "vjp")
        _check_connected(outputs, inputs, strict, "outputs")
        v = _vectors(v, outputs, out_tuple, "vjp", NO_OUTPUT_VECTOR)
        grads = _fill(_grad(outputs, inputs, v, create_graph), inputs, strict, None, create_graph)
    return _give(outputs, out_tuple, create_graph), _give(grads, in_tuple, create_graph)


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), J v): the product of the Jacobian of `func` at `inputs` with `v`, of the inputs' shape."""
    with modes.enable_grad():
        in_tuple, inputs = _as_tuple(inputs, "inputs", "jvp")
        v = _vectors(v, inputs, in_tuple, "jvp", NO_INPUT_VECTOR)
        inputs = _prepare(inputs, create_graph)
        out_tuple, outputs = _outputs(func, inputs, "jvp")
        _check_connected(outputs, inputs, strict, "outputs")
        product = _forward(outputs, inputs, v, create_graph, strict)
    return _give(outputs, out_tuple, create_graph), _give(product, out_tuple, create_graph)


def _forward(outputs, inputs, v, create_graph: bool, strict: bool) -> tuple:
    """J v, by differentiating u -> J^T u with respect to u."""
    cotangents = tuple(zeros_like(out).requires_grad_() for out in outputs)
    pulled = _fill(_grad(outputs, inputs, cotangents, True), inputs, strict, None, True)
    return _fill(_grad(pulled, cotangents, v, create_graph), outputs, False)


def _basis(out):
    """The unit vectors of the space of `out`."""
    n = out.numel()
    for k in range(n):
        unit = zeros(n, dtype=out.dtype)
        unit[k] = 1
        yield unit.view(tuple(out.shape))


NOTHING_TO_STACK = "stack expects a non-empty TensorList"


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
    if strategy == "forward-mode" and create_graph:
        raise NotImplementedError(
            "tapegrad.autograd.functional.jacobian: `create_graph=True` and `strategy=\"forward-mode\"` are not supported together (yet). "
            "Please either set `create_graph=False` or `strategy=\"reverse-mode\"`."
        )
    if strategy == "forward-mode" and not vectorize:
        raise NotImplementedError(
            "Computing Jacobian using forward-AD or forward-over-reverse Hessian isonly implemented for `vectorize=True`."
        )
    if strict and vectorize:
        raise RuntimeError("tapegrad.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported together. "
                           "Please either set `strict=False` or `vectorize=False`.")
    if strategy == "forward-mode":
        return _jacobian_forward(func, inputs)
    with modes.enable_grad():
        in_tuple, inputs = _as_tuple(inputs, "inputs", "jacobian")
        inputs = _prepare(inputs, create_graph)
        out_tuple, outputs = _outputs(func, inputs, "jacobian")
        _check_connected(outputs, inputs, strict, "outputs")
        if any(out.numel() == 0 for out in outputs):  # no rows to stack
            raise IndexError("index 0 is out of bounds for dimension 0 with size 0") if vectorize else RuntimeError(NOTHING_TO_STACK)
        rows = _rows_at_once(outputs, inputs, create_graph) if vectorize else _rows(outputs, inputs, create_graph, strict)
    if not create_graph:
        rows = [tuple(block.detach() for block in row) for row in rows]
    rows = [row if in_tuple else row[0] for row in rows]
    return tuple(rows) if out_tuple else rows[0]


def _rows(outputs, inputs, create_graph: bool, strict: bool) -> list:
    """Per output its Jacobian by each input, row by row."""
    from tapegrad.ops.joining import stack

    rows = []
    for j, out in enumerate(outputs):
        columns: list[list] = [[] for _ in inputs]
        for unit in _basis(out):
            grads = _fill(_grad((out,), inputs, (unit,), create_graph, True), inputs, strict, j, create_graph)
            for column, g in zip(columns, grads, strict=True):
                column.append(g)
        rows.append(tuple(stack(column).view((*out.shape, *x.shape)) for column, x in zip(columns, inputs, strict=True)))
    return rows


def _rows_at_once(outputs, inputs, create_graph: bool) -> list:
    """The same by one backward pass for the unit vectors of all outputs together."""
    from tapegrad.autograd import grad
    from tapegrad.func.reverse import basis

    live = [out for out in outputs if out.requires_grad]
    wanted = [x for x in inputs if x.requires_grad]
    found = [None] * len(inputs)
    if live and wanted:
        gradients = iter(grad(live, wanted, next(basis(live)), True, create_graph, allow_unused=True, is_grads_batched=True))
        found = [next(gradients) if x.requires_grad else None for x in inputs]
    rows, at = [], 0
    for out in outputs:
        n = out.numel() if out.requires_grad else 0
        part = lambda g, x: zeros((*out.shape, *x.shape), dtype=x.dtype) if g is None or not out.requires_grad else g[at : at + n]
        rows.append(tuple(part(g, x).reshape((*out.shape, *x.shape)) for g, x in zip(found, inputs, strict=True)))
        at += n
    return rows


def _jacobian_forward(func, inputs):
    """`jacobian` by one forward pass for the unit vectors of all inputs together."""
    from tapegrad.func.batched import vmap
    from tapegrad.func.forward import jvp_of
    from tapegrad.func.reverse import basis

    in_tuple, inputs = _as_tuple(inputs, "inputs", "jacobian")
    kinds = []

    def push(*tangents):
        def run(*points):
            kind, outputs = _outputs(func, points, "jacobian")
            kinds.append(kind)
            return outputs

        return jvp_of(run, inputs, tangents, None, False, False)[1]

    products = vmap(push)(*next(basis(list(inputs))))
    rows = []
    for product in products:
        blocks = product.movedim(0, -1).split([x.numel() for x in inputs], -1)
        rows.append(tuple(block.reshape((*block.shape[:-1], *x.shape)).detach() for block, x in zip(blocks, inputs, strict=True)))
    found = [row if in_tuple else row[0] for row in rows]
    return tuple(found) if kinds[0] else found[0]


def _single(func, function: str):
    """`func` checked to return one tensor of one element, as a 0-d tensor."""

    def run(*inputs):
        out_tuple, outputs = _outputs(func, inputs, function)
        if out_tuple or not isinstance(outputs[0], Tensor):
            raise RuntimeError(f"The function given to {function} should return a single Tensor")
        if outputs[0].numel() != 1:
            raise RuntimeError(f"The Tensor returned by the function given to {function} should contain a single element")
        return outputs[0].squeeze()

    return run


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy="reverse-mode"):
    """The second derivatives of a function with a one-element result: shape (*input, *input), tuples of tuples for several inputs.

    >>> import tapegrad as tg
    >>> tg.autograd.functional.hessian(lambda x: (x ** 3).sum(), tg.tensor([1., 2.]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """
    if outer_jacobian_strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')
    in_tuple, inputs = _as_tuple(inputs, "inputs", "hessian")
    scalar = _single(func, "hessian")
    if outer_jacobian_strategy == "forward-mode":
        return _hessian_forward(scalar, inputs, in_tuple, create_graph, strict, vectorize)

    def gradient(*points):
        found = jacobian(scalar, points, create_graph=True)
        for k, g in enumerate(found):
            if strict and not g.requires_grad:
                raise RuntimeError(SECOND.format(k))
        return found

    found = jacobian(gradient, inputs, create_graph, strict, vectorize)
    return found if in_tuple else found[0][0]


def _hessian_forward(scalar, inputs, in_tuple: bool, create_graph: bool, strict: bool, vectorize: bool):
    """`hessian` as the forward-mode Jacobian of the gradient."""
    from tapegrad.func.reverse import grad

    if create_graph or not vectorize or strict:
        jacobian(scalar, inputs, create_graph, strict, vectorize, "forward-mode")  # raises
    numbers = tuple(range(len(inputs)))
    found = _jacobian_forward(lambda *points: grad(scalar, numbers)(*points), inputs)
    return found if in_tuple else found[0][0]


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), v^T H): the product of `v`, of the inputs' shape, with the Hessian of a function with a one-element result."""
    with modes.enable_grad():
        in_tuple, inputs = _as_tuple(inputs, "inputs", "vhp")
        v = _vectors(v, inputs, in_tuple, "vhp", NO_INPUT_VECTOR)
        inputs = _prepare(inputs, create_graph)
        out = _checked_scalar(func, inputs, "vhp")
        _check_connected((out,), inputs, strict, "outputs")
        first = _fill(_grad((out,), inputs, (zeros_like(out) + 1,), True), inputs, strict)
        _check_second(first, strict)
        product = _fill(_grad(first, inputs, v, create_graph), inputs, strict, None, create_graph)
    return _give((out,), False, create_graph), _give(product, in_tuple, create_graph)


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """(func(inputs), H v): the product of the Hessian of a function with a one-element result with `v`, of the inputs' shape.

    >>> import tapegrad as tg
    >>> tg.autograd.functional.hvp(lambda x: (x ** 3).sum(), tg.tensor([1., 2.]), tg.ones(2))
    (tensor(9.), tensor([ 6., 12.]))
    """
    with modes.enable_grad():
        in_tuple, inputs = _as_tuple(inputs, "inputs", "hvp")
        v = _vectors(v, inputs, in_tuple, "hvp", NO_INPUT_VECTOR)
        inputs = _prepare(inputs, create_graph)
        out = _checked_scalar(func, inputs, "hvp")
        _check_connected((out,), inputs, strict, "outputs")
        first = _fill(_grad((out,), inputs, (zeros_like(out) + 1,), True), inputs, strict)
        _check_second(first, strict)
        # The gradient's Jacobian is symmetric where the second derivatives exist, but J v is what is asked for.
        product = _forward(first, inputs, v, create_graph, strict)
    return _give((out,), False, create_graph), _give(product, in_tuple, create_graph)


def _check_second(first, strict: bool) -> None:
    for k, g in enumerate(first):
        if strict and not g.requires_grad:
            raise RuntimeError(SECOND.format(k))


def _checked_scalar(func, inputs, function):
    out_tuple, outputs = _outputs(func, inputs, function)
    if out_tuple:
        raise RuntimeError(f"The function given to {function} should return a single Tensor")
    if outputs[0].numel() != 1:
        raise RuntimeError(f"The Tensor returned by the function given to {function} should contain a single element")
    return outputs[0]
