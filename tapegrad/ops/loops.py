"""Compiled loops of structural ops: text kernels by name and dtype, cached like the elementwise ones.

Arguments are the operands' addresses, outputs first, then the address of the plan's int64 parameters (`p`).
"""

from __future__ import annotations

import functools

from tapegrad import kernels
from tapegrad.engine import build


def serves(dtype) -> bool:
    """Whether row kernels, which are written for real numbers, can be made for a dtype."""
    return not dtype.is_complex


REDUCE = """
def kernel(args, start, stop):
    result = load_i64(args)
    source = load_i64(args + 8)
    p = load_i64(args + 16)
    count = load_i64(p)
    inner = load_i64(p + 8)
    for o in range(start, stop):
        if inner == 1:
            total = {start_value}
            at = o * count
            for k in range(count):
                x = get_{dtype}(source, at + k)
                total = {step}
            put_{result}(result, o, {finish})
        else:
            for j in range(inner):
                put_{result}(result, o * inner + j, {start_value})
            for k in range(count):
                at = (o * count + k) * inner
                for j in range(inner):
                    x = get_{dtype}(source, at + j)
                    total = get_{result}(result, o * inner + j)
                    put_{result}(result, o * inner + j, {step})
            for j in range(inner):
                total = get_{result}(result, o * inner + j)
                put_{result}(result, o * inner + j, {finish})
"""

# name: (start value, step, finish, reassociate)
REDUCTIONS = {
    "sum": ("wide(0)", "total + x", "total", True),
    "mean": ("wide(0)", "total + x", "total / count", True),
    "complex_mean": ("wide(0)", "total + x", "complex(total.real / count, total.imag / count)", True),
    "prod": ("wide(1)", "total * x", "total", False),
    "amax": ("lowest", "where(x > total, x, where(x != x, x, total))", "total", False),
    "amin": ("highest", "where(x < total, x, where(x != x, x, total))", "total", False),
}


def start_value(d, start: str) -> str:
    """The text that a running value over elements of `d` starts with: `start`, or the lowest or highest number that there is."""
    if start not in ("lowest", "highest"):
        return start
    if d.is_floating_point:
        return "-inf" if start == "lowest" else "inf"
    bits, signed = (1 if d.name == "bool" else 8 * d.itemsize), d.name not in ("bool", "uint8")
    return str(-(2 ** (bits - 1)) * signed if start == "lowest" else 2 ** (bits - signed) - 1)


@functools.cache
def reduction(name: str, dtype, result) -> int:
    """The address of a reduction kernel: (outer, count, inner) elements of `dtype` to (outer, inner) of `result`."""
    start, step, finish, reassociate = REDUCTIONS[name]
    text = REDUCE.format(start_value=start_value(dtype, start), step=step, finish=finish, dtype=dtype.name, result=result.name)
    return compiled(text, dtype, result, reassociate)


def filled(template: str, **parts) -> str:
    """The template, with the lines that are given for a name in braces in its place."""
    found = []
    for line in template.splitlines():
        name = line.strip()
        found += [line.replace(name, each) for each in parts[name[1:-1]]] if name.startswith("{") else [line]
    return "\n".join(found) + "\n"


def compiled(text: str, dtype, result, reassociate=False, extra=()) -> int:
    """The address of the kernel of `text`, which reads `dtype`, writes `result` and may name elements of the dtypes `extra` too."""
    name = "kernel-" + build.key(text, dtype.name, result.name, str(reassociate), kernels.support_digest())
    body = build.load_cached(name)
    if body is None:
        body = kernels.compile_kernel(text, dtype, reassociate, result, extra)
        build.store_cached(name, body)
    return build.load(body)("kernel")


MATMUL = """
def kernel(args, start, stop):
    result = load_i64(args)
{operands}
    gemm = load_i64(p)
    m = load_i64(p + 8)
    n = load_i64(p + 16)
    k = load_i64(p + 24)
    lr = load_i64(p + 32)
    lc = load_i64(p + 40)
    rr = load_i64(p + 48)
    rc = load_i64(p + 56)
    dims = load_i64(p + 64)
    words = load_i64(p + 72)
    size = load_i64(p + 80)
    for b in range(start, stop):
        a_at = left
        b_at = right
        rest = b
        for d in range(dims - 1, -1, -1):
            extent = load_i64(p + 88 + d * 8)
            i = rest % extent
            rest = rest // extent
            a_at = a_at + i * load_i64(p + 88 + (dims + d) * 8) * size
            b_at = b_at + i * load_i64(p + 88 + (2 * dims + d) * 8) * size
        out = result + b * m * n * size
        if gemm == 0 or k == 0:
            for i in range(m):
                for j in range(n):
                    total = wide(0)
                    for q in range(k):
                        total = total + get_{dtype}(a_at, i * lr + q * lc) * get_{dtype}(b_at, q * rr + j * rc)
                    put_{dtype}(out, i * n + j, total)
        elif n == 1:
            blas_gemv_{dtype}(gemm, words, m, k, a_at, lr, lc, b_at, rr, out)
        else:
            blas_gemm_{dtype}(gemm, words, m, n, k, a_at, lr, lc, b_at, rr, rc, out)
{after}
"""
PRODUCT = """
    left = load_i64(args + 8)
    right = load_i64(args + 16)
    p = load_i64(args + 24)
"""
ADDED_PRODUCT = """
    added = load_i64(args + 8)
    left = load_i64(args + 16)
    right = load_i64(args + 24)
    p = load_i64(args + 32)
    row = load_i64(p + 88 + 24)
    column = load_i64(p + 88 + 32)
"""
ADDITION = """
        for i in range(m):
            for j in range(n):
                put_{dtype}(out, i * n + j, get_{dtype}(out, i * n + j){alpha}{beta})
"""


@functools.cache
def matmul(dtype) -> int:
    """The address of the batched matrix product kernel: BLAS for sizes worth it, plain loops below."""
    return compiled(MATMUL.format(dtype=dtype.name, operands=PRODUCT, after=""), dtype, dtype)


@functools.cache
def addmm(dtype, beta, alpha) -> int:
    """The address of the kernel of beta * added + alpha * (left @ right), for matrices; `added` has strides behind those of the product."""
    number = repr if dtype.is_complex else (lambda x: f"real({x!r})") if dtype.is_floating_point else (lambda x: str(int(x)))
    alpha_text = "" if alpha == 1 else f" * {number(alpha)}"
    beta_text = "" if beta == 0 else f" + get_{dtype.name}(added, i * row + j * column)" + ("" if beta == 1 else f" * {number(beta)}")
    after = ADDITION.format(dtype=dtype.name, alpha=alpha_text, beta=beta_text) if alpha_text or beta_text else ""
    return compiled(MATMUL.format(dtype=dtype.name, operands=ADDED_PRODUCT, after=after), dtype, dtype)
