"""Special functions: one row each, the value by a function of `scipy.special`, the derivative a formula in the same functions.

They are elementwise, but run in Python: their kernels are scipy's.  A row says what an `Elementwise` record says (`registry.py`); its derivative
formulas are evaluated on Tensors, so they can be differentiated again.  Names under `special.` are in `tapegrad.special`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np

from tapegrad import creation, dispatch, dtypes, writing
from tapegrad.autograd import inplace
from tapegrad.autograd.node import record
from tapegrad.creation.elements import room_for
from tapegrad.ops import plan as plans
from tapegrad.ops.checks import no_kernel
from tapegrad.ops.outputs import laid_out_as
from tapegrad.ops.public import FUNCTIONS, METHODS, function, made_public
from tapegrad.ops.registry import Structural, no_derivative
from tapegrad.ops.transformable import transformable

ROWS: dict[str, Special] = {}
SPECIAL: dict[str, object] = {}  # the functions of `tapegrad.special`


@dataclass(eq=False)
class Special(Structural):
    """A special function.

    value: the name of the scipy.special ufunc, or a function of arrays.
    grads: per input the derivative times `g`, in terms of the inputs' names, `out` and the other special functions; None: not differentiable.
    names: the public names, with `special.` before those that only `tapegrad.special` has.
    domain: per input the interval in which tests sample.
    parameter: the name of a number that the value (last argument) and the derivatives take besides.
    kernel: the name in the refusal of a dtype, if it is not <name>_cpu; reduced: whether it serves half precision.
    """

    inputs: tuple[str, ...] = ("x",)
    value: object = None
    grads: tuple[str | None, ...] = ()
    names: tuple[str, ...] = ()
    domain: tuple[tuple[float, float], ...] = ((-3.0, 3.0),)
    kinds: str = "F"
    parameter: str = ""
    kernel: str = ""
    reduced: bool = True
    promotes: bool = True  # whether integers are computed in the default dtype
    numbers: bool = False  # whether one operand may be a Python number
    stored: bool = False  # whether the value takes arrays as memory holds them, bfloat16 as its bits, rather than numbers to compute with

    def __post_init__(self):
        super().__post_init__()
        self.derivative = functools.partial(derivative_of, self)
        self.reads = sum(1 << k for k, name in enumerate((*self.inputs, "out")) if any(name in code(t).co_names for t in self.grads if t))
        ROWS[self.name] = self


@functools.cache
def code(text: str):
    return compile(text, "<formula>", "eval")


@functools.cache
def namespace() -> dict:
    """What derivative formulas may call: the rows by name, and tensor functions."""
    from tapegrad.ops.choosing import where
    from tapegrad.ops.registry import BY_NAME

    space = {name: functools.partial(call, op) for name, op in ROWS.items()}
    space |= {name: lambda x, name=name: getattr(x, name)() for name in ("exp", "log", "log1p", "sign")}
    space |= {"polygamma": polygamma, "mvdigamma": lambda x, p: sum(call(ROWS["digamma"], x - j / 2) for j in range(p)),
              "xlogy": lambda x, y: dispatch.call(BY_NAME["xlogy"], x, y), "where": where_of(where), "pi": math.pi, "sqrt": math.sqrt}
    return space


def where_of(where):
    return lambda c, a, b: where(c, a, b) if hasattr(a, "_slot") or hasattr(b, "_slot") else where(c, creation.tensor(a), creation.tensor(b))


def derivative_of(op: Special, node, g):
    """The rows' formulas on Tensors."""
    names = dict(zip(op.inputs, node.inputs, strict=True)) | {"out": node.outputs[0], "g": g}
    if op.parameter:
        names[op.parameter] = node.attributes.number
    result = []
    for k, text in enumerate(op.grads):
        if not node.inputs[k].requires_grad:
            result.append(None)
        elif text is None:
            raise no_derivative(*(("zeta", "special_zeta") if op.name == "zeta" else (op.name + ": input", op.name)))
        else:
            result.append(eval(code(text), namespace(), names))
    return result


@functools.cache
def kernel(value):
    if callable(value):
        return value
    import scipy.special

    return getattr(scipy.special, value)


def call(op: Special, *values, number=None, out=None):
    """The op on tensors and numbers, promoted as elementwise ops are; `number` is its parameter."""
    from tapegrad.geometry import broadcast_shapes

    values = [dispatch.operand(op.name, v, k + 1, ("input", "other")[k], op.numbers) for k, v in enumerate(values)]
    if all(isinstance(v, dispatch.NUMBERS) for v in values):
        raise TypeError(f"{op.name}(): argument 'input' (position 1) must be Tensor, not {type(values[0]).__name__}")
    d = dispatch.result_dtype(values)
    if op.kinds == "F" and op.promotes and d.category < dtypes.FLOAT:
        d = dtypes.default_dtype()
    shape = broadcast_shapes(*(() if isinstance(v, dispatch.NUMBERS) else tuple(v.shape) for v in values))
    if d.kind not in op.kinds or d.reduced and not op.reduced:
        raise no_kernel(op.kernel or op.name + "_cpu", d)
    tensors = [dispatch.number_slot(v, d) if isinstance(v, dispatch.NUMBERS) else dispatch.convert(v, d) for v in values]
    tensors = [t if tuple(t.shape) == shape else t.expand(shape) for t in tensors]
    result = run_row(op, tensors, number, d)
    if out is not None and d.is_floating_point:
        writing.can_store(d, out.dtype)
    if out is None:
        return result
    writing.check_out(op.name, tensors, out)
    if op.name != "ndtr":  # which torch composes of other functions
        writing.refuse_repeated(out)
    return writing.write_out(result.detach(), out, op.name)


@transformable("spread_list")
def run_row(op: Special, tensors, number, d):
    """The row's value on tensors of one shape and dtype, recorded."""
    with np.errstate(all="ignore"):
        arrays = [t.detach()._array() if op.stored else t.detach()._values() for t in tensors] + ([number] if op.parameter else [])
        result = laid_out_as(tensors[0], creation.from_array(np.asarray(kernel(op.value)(*arrays)), d))
    if d.is_floating_point:
        record(op, tensors, [result], plans.Parameters(op, number=number) if op.parameter else None, saves=op.reads)
    return result


def special(name, value, *grads, names=(), doc="", **properties):
    """Register a row, its functions, its method and its in-place form."""
    op = Special(name, doc=doc, value=value, grads=grads, names=names or (name,), **properties)

    def run(*args, out=None, **named):
        return call(op, *args, *(named[k] for k in ("input", "x", "other", "n") if k in named), out=out)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = doc or f"`scipy.special.{value}`, elementwise."
    for public in op.names:
        if public.startswith("special."):
            SPECIAL[public[8:]] = made_public(run, public, False)
        else:
            FUNCTIONS[public] = METHODS[public] = run
            METHODS[public + "_"] = inplace.by_function(run)
    return op


XY = ("x", "y")
HALF = (0.3, 3.0)

# --- gamma functions ------------------------------------------------------------------------------------------------
special("lgamma", lambda x: lgamma_values(x), "g * digamma(x)", names=("lgamma", "special.gammaln"), kernel="lgamma_vml_cpu", domain=(HALF,), doc="The logarithm of |Gamma(x)|.")
special("digamma", lambda x: digamma_values(x), "g * polygamma(1, x)", names=("digamma", "special.digamma", "special.psi"), kernel="digamma",
        domain=(HALF,), doc="The derivative of the logarithm of Gamma.")


def lgamma_values(x):
    """gammaln, infinite at both ends."""
    from scipy.special import gammaln

    return np.where(np.isinf(x), np.abs(x), gammaln(x))


def digamma_values(x):
    """psi, with torch's values at the poles: -inf at 0 (inf at -0), nan at negative integers."""
    from scipy.special import psi

    result = psi(x)
    result = np.where((x == np.floor(x)) & (x < 0), np.nan, result)
    return np.where(x == 0, np.copysign(np.inf, -x), result).astype(x.dtype)


def polygamma_values(x, n):
    from scipy.special import polygamma as by_scipy

    return digamma_values(x) if n == 0 else by_scipy(n, x)


def mvlgamma_values(x, p):
    from scipy.special import gammaln

    return p * (p - 1) / 4 * math.log(math.pi) + sum(gammaln(x - j / 2) for j in range(p))


POLYGAMMA = Special("polygamma", value=polygamma_values, grads=("g * polygamma(n + 1, x)",), parameter="n", kernel="polygamma", domain=(HALF,))
MVLGAMMA = Special("mvlgamma", value=mvlgamma_values, grads=("g * mvdigamma(x, p)",), parameter="p", domain=((3.2, 6.0),))


@function()
def polygamma(n, input, *, out=None):
    """The n-th derivative of digamma."""
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    if n < 2 and getattr(getattr(input, "dtype", None), "is_complex", False):
        raise no_kernel(("digamma", "trigamma")[n], input.dtype)
    return call(POLYGAMMA, input, number=n, out=out)


METHODS["polygamma"] = lambda self, n: polygamma(n, self)
METHODS["polygamma_"] = inplace.by_function(METHODS["polygamma"])
SPECIAL["polygamma"] = made_public(polygamma, "special.polygamma", False)


@function(method=True)
def mvlgamma(input, p, *, out=None):
    """The logarithm of the multivariate gamma function of dimension p: p (p - 1) / 4 log(pi) + the sum of lgamma(input - j / 2) over j < p."""
    if input.dtype is dtypes.bool_:
        raise RuntimeError("The input tensor may not be a boolean tensor.")
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    room_for(p * max(input.numel(), 1))  # as many terms: PyTorch adds them up in memory
    return call(MVLGAMMA, input, number=p, out=out)


METHODS["mvlgamma_"] = inplace.by_function(mvlgamma)
SPECIAL["multigammaln"] = made_public(mvlgamma, "special.multigammaln", False)
special("igamma", "gammainc", None, "g * exp(-y + xlogy(x - 1, y) - lgamma(x))", inputs=XY, names=("igamma", "special.gammainc"), domain=(HALF, HALF), promotes=False,
        doc="The regularised lower incomplete gamma function of input at other.")
special("igammac", "gammaincc", None, "-g * exp(-y + xlogy(x - 1, y) - lgamma(x))", inputs=XY, names=("igammac", "special.gammaincc"), domain=(HALF, HALF), promotes=False,
        doc="The regularised upper incomplete gamma function of input at other.")
special("zeta", "zeta", None, "g * (-x * zeta(x + 1, y))", inputs=XY, numbers=True, reduced=False, graph_name="SpecialZeta", names=("special.zeta",), domain=((1.5, 4.0), HALF),
        doc="The Hurwitz zeta function: the sum of (k + other)**-input.")

# --- error functions and the normal distribution --------------------------------------------------------------------
special("erfinv", lambda x: np.copysign(kernel("erfinv")(x), x), "g * (sqrt(pi) / 2 * exp(out * out))", names=("erfinv", "special.erfinv"),
        kernel="erfinv_vml_cpu", domain=((-0.9, 0.9),), doc="The inverse of erf.")
special("erfcx", "erfcx", "g * (2 * x * out - 2 / sqrt(pi))", graph_name="SpecialErfcx", names=("special.erfcx",), reduced=False, doc="exp(x**2) erfc(x).")
special("ndtr", "ndtr", "g * (exp(-x * x / 2) / sqrt(2 * pi))", graph_name="Mul", names=("special.ndtr",), kernel="erf_vml_cpu", doc="The normal distribution function.")
special("ndtri", "ndtri", "g * (sqrt(2 * pi) * exp(out * out / 2))", graph_name="SpecialNdtri", names=("special.ndtri",), reduced=False, domain=((0.05, 0.95),),
        doc="The inverse of `ndtr`.")
special("log_ndtr", "log_ndtr", "g * (sqrt(2 / pi) / erfcx(-x / sqrt(2)))", graph_name="SpecialLogNdtr", names=("special.log_ndtr",), reduced=False,
        doc="The logarithm of the normal distribution function.")
special("entr", "entr", "g * (-log(x) - 1)", graph_name="SpecialEntr", names=("special.entr",), domain=(HALF,), doc="-x log(x); 0 at 0, -inf below.")
special("xlog1py", "xlog1py", "g * where((x == 0) & (y <= -1), 0.0, log1p(y))", "g * (x / (y + 1))", inputs=XY, numbers=True, graph_name="SpecialXlog1Py",
        names=("special.xlog1py",), domain=((-3.0, 3.0), (-0.8, 3.0)), doc="x log1p(y), 0 where x is 0.")

# --- Bessel functions -----------------------------------------------------------------------------------------------
special("i0", "i0", "g * i1(x)", names=("i0", "special.i0"), kernel="i0_vml_cpu", doc="The modified Bessel function of the first kind, order 0.")
special("i0e", "i0e", "g * (i1e(x) - sign(x) * out)", graph_name="SpecialI0E", names=("special.i0e",), doc="exp(-|x|) i0(x).")
special("i1", "i1", "g * where(x == 0, 0.5, i0(x) - out / where(x == 0, 1.0, x))", graph_name="SpecialI1", names=("special.i1",),
        doc="The modified Bessel function of the first kind, order 1.")
special("i1e", "i1e", "g * where(x == 0, 0.5, i0e(x) - out * (sign(x) + 1 / where(x == 0, 1.0, x)))", graph_name="SpecialI1E", names=("special.i1e",),
        doc="exp(-|x|) i1(x).")
for _name, _value, _grad, _domain in (
    ("bessel_j0", "j0", "-g * bessel_j1(x)", (0.3, 6)), ("bessel_j1", "j1", "g * (bessel_j0(x) - out / x)", (0.3, 6)),
    ("bessel_y0", "y0", "-g * bessel_y1(x)", (0.3, 6)), ("bessel_y1", "y1", "g * (bessel_y0(x) - out / x)", (0.3, 6)),
    ("modified_bessel_i0", "i0", "g * modified_bessel_i1(x)", (0.3, 4)), ("modified_bessel_i1", "i1", "g * (modified_bessel_i0(x) - out / x)", (0.3, 4)),
    ("modified_bessel_k0", "k0", "-g * modified_bessel_k1(x)", (0.3, 4)), ("modified_bessel_k1", "k1", "-g * (modified_bessel_k0(x) + out / x)", (0.3, 4)),
    ("scaled_modified_bessel_k0", "k0e", "g * (out - scaled_modified_bessel_k1(x))", (0.3, 4)),
    ("scaled_modified_bessel_k1", "k1e", "g * (out - scaled_modified_bessel_k0(x) - out / x)", (0.3, 4)),
):  # fmt: skip
    special(_name, _value, _grad, graph_name="Special" + "".join(p.capitalize() for p in _name.split("_")), names=("special." + _name,), reduced=False,
            domain=(_domain,))  # fmt: skip
special("airy_ai", lambda x: airy(x, 0), "g * airy_ai_prime(x)", graph_name="SpecialAiryAi", names=("special.airy_ai",), reduced=False, doc="The Airy function Ai.")
special("airy_ai_prime", lambda x: airy(x, 1), "g * (x * airy_ai(x))", names=("special.airy_ai_prime",), doc="The derivative of the Airy function Ai.")
del SPECIAL["airy_ai_prime"]  # only the derivative uses it
special("spherical_bessel_j0", lambda x: np.where(np.isinf(x), 0, np.sinc(x / math.pi)).astype(x.dtype), "g * where(x == 0, 0.0, (x.cos() - out) / where(x == 0, 1.0, x))",
        graph_name="SpecialSphericalBesselJ0", names=("special.spherical_bessel_j0",), reduced=False, doc="sin(x) / x, 1 at 0.")


def airy(x, which):
    from scipy.special import airy as by_scipy

    return by_scipy(x)[which]


# --- with parameters, and integers ----------------------------------------------------------------------------------
special("gcd", np.gcd, None, None, inputs=XY, kinds="I", doc="The greatest common divisor.")
special("lcm", np.lcm, None, None, inputs=XY, kinds="I", doc="The least common multiple.")
special("nextafter", lambda x, y: nextafter_values(x, y), "where(x == y, 0.0, g)", "g * 0", inputs=XY, promotes=False, stored=True, doc="The next number from input towards other.")


def nextafter_values(x, y):
    """np.nextafter, also for the bits of bfloat16: a step away from 0 adds one to them."""
    if x.dtype != dtypes.bfloat16.numpy:
        return np.nextafter(x, y)
    a, b = (dtypes.from_stored(bits, dtypes.bfloat16) for bits in (x, y))
    stepped = np.where(a == 0, (y & 0x8000) | 1, np.where((a < b) == (a > 0), x + 1, x - 1))
    return np.where(np.isnan(a) | (a == b), np.where(np.isnan(a), x, y), np.where(np.isnan(b), y, stepped)).astype(x.dtype)


@function(method=True)
def logit(input, eps=None, *, out=None):
    """log(x / (1 - x)), with x first limited to [eps, 1 - eps]."""
    from tapegrad.ops.registry import BY_NAME

    if eps is not None:
        if input.dtype.category < dtypes.FLOAT:
            input = input.to(dtypes.default_dtype())
        low, high = input.new_full((), eps), input.new_full((), 1 - eps)
        input = dispatch.call(BY_NAME["clamp_both"], input, low, high)
    return dispatch.call(BY_NAME["logit"], input, out=out)


METHODS["logit_"] = inplace.by_function(logit)
SPECIAL["logit"] = made_public(logit, "special.logit", False)
