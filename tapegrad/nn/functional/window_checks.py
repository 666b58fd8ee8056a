"""What pooling and folding ask of their windows and inputs, in torch's words, before any memory is looked at."""

from __future__ import annotations

from tapegrad.ops.checks import no_kernel

COUNTS = {2: "two", 3: "three"}
AXES = ("T", "H", "W")


def items(value) -> tuple:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def in_one_dim(name: str, what: str, value, words: str) -> None:
    """A list for one dim has one item; none stands for a stride that is not given."""
    given = len(items(value))
    if given != 1 and not (what == "stride" and (value is None or given == 0)):
        raise RuntimeError(words.format(name=name, what=what, given=given))


def in_dims(name: str, n: int, **values) -> None:
    """A list for n dims has n items or one."""
    for what, value in values.items():
        if what == "stride" and (value is None or not items(value)) or len(items(value)) in (1, n):
            continue
        be = "must be either" if what == "dilation" else "must be" if name == "avg_pool3d" else "must either be"
        raise RuntimeError(f"{name}: {what} {be} {'omitted, ' * (what == 'stride')}a single int, or a tuple of {COUNTS[n]} ints")


def named(prefix: str, values) -> str:
    return " ".join(f"{prefix}{axis}: {v}" for axis, v in zip(AXES[-len(values) :], values, strict=True))


def max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode) -> None:
    """The refusals of max_pool1d, which has words of its own."""
    name = "max_pool1d"
    if input.dim() not in (2, 3) or any(s == 0 for s in input.shape[-2:]):
        raise RuntimeError(f"{name}: Expected 2D or 3D (batch mode) tensor with optional 0 dim batch size for input, but got:{list(input.shape)}")
    lists = "{name}() {what} must be an int, list of ints or tuple of ints of size 1 but got size {given}"
    in_one_dim(name, "kernel_size", kernel_size, lists)
    in_one_dim(name, "stride", stride, "{name}() {what} must be None, an int, list of ints, or tuple of ints of size 1 but got size {given}")
    in_one_dim(name, "padding", padding, lists.replace("list of ints or", "list of ints, or"))
    in_one_dim(name, "dilation", dilation, lists)
    (k,), (p,), (d,) = (tuple(map(int, items(v))) for v in (kernel_size, padding, dilation))
    if k <= 0:
        raise RuntimeError(f"{name}() kernel_size must be greater than zero, but got {k}")
    s = k if stride is None or not items(stride) else int(items(stride)[0])
    if s <= 0:
        raise RuntimeError(f"{name}() stride must be greater than zero, but got {s}")
    if p < 0:
        raise RuntimeError(f"{name}() padding must be non-negative, but got {p}")
    if p > k // 2:
        raise RuntimeError(f"{name}() padding should be at most half of kernel size, but got padding={p} and kernel_size={k}")
    if d <= 0:
        raise RuntimeError(f"{name}() dilation must be greater than zero, but got {d}")
    room = input.shape[-1] + 2 * p - d * (k - 1) - 1
    count = (-(-room // s) if ceil_mode else room // s) + 1
    if count <= 0:
        raise RuntimeError(f"{name}() Invalid computed output size: {count}")


def positive(kernel, stride, padding, dilation) -> None:
    """Sizes, steps and distances of a pooling's windows are above zero, padding is not below."""
    reaching(kernel, stride, padding, dilation)
    for values, what, prefix in ((kernel, "kernel size", "k"), (stride, "stride", "d"), (dilation, "dilation", "dilation")):
        if any(v <= 0 for v in values):
            raise RuntimeError(f"{what} should be greater than zero, but got {named(prefix, values)}")


def reaching(kernel, stride, padding, dilation) -> None:
    """What is asked of a pooling's windows before the input is looked at: that they move, and reach beyond the padding."""
    if any(s == 0 for s in stride):
        raise RuntimeError("stride should not be zero")
    for p, k, d in zip(padding, kernel, dilation, strict=True):
        if p < 0:
            raise RuntimeError(f"pad must be non-negative, but got pad: {p}")
        reach = (k - 1) * d + 1
        if p > (reach // 2 if reach >= 0 else -(-reach // 2)):
            raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and dilation={d}")


def filled(name: str, input, n: int) -> None:
    """No dim but that of the batch is empty."""
    sizes = input.shape[input.dim() - n - 1 :]
    if n == 2 and any(s == 0 for s in sizes):
        raise RuntimeError(f"Expected 3D or 4D (batch mode) tensor with optional 0 dim batch size for input, but got:{list(input.shape)}")
    if any(s == 0 for s in sizes):
        raise RuntimeError(
            f"{name}(): Expected input's non-batch dimensions to have positive length, but input has a shape of {list(input.shape)} and non-batch "
            "dimension 0 has length zero!"
        )


def image(input, kernel) -> None:
    """What avg_pool3d asks: no window is larger than the input."""
    if any(s < k for s, k in zip(input.shape[-3:], kernel)):
        shown = " ".join(f"{axis}: {s}" for axis, s in zip(AXES, input.shape[-3:]))
        raise RuntimeError(f"input image ({shown}) smaller than kernel size ({named('k', kernel)})")


def two_or_three_dims(name: str, input) -> None:
    if input.dim() not in (2, 3):
        raise RuntimeError(
            f"Expected 2 to 3 dimensions, but got {input.dim()}-dimensional tensor for argument #1 'self' (while checking arguments for {name})"
        )


def adaptive(name: str, n: int, input, parts) -> None:
    """The input of an adaptive pooling over n dims (1 for max_pool1d), which is not empty beyond the batch; `parts` are what it is cut into."""
    if n > 1 and input.dim() not in (n + 1, n + 2):
        shown = f"{':' * ('max' in name)} {list(input.shape)}"
        raise RuntimeError(f"{name}(): Expected {n + 1}D or {n + 2}D tensor, but got{shown}")
    for k in range(1 if "max" in name or n == 3 else input.dim() - n, input.dim()):
        if input.shape[k] == 0:
            raise RuntimeError(
                f"{name}(): Expected input to have non-zero size for non-batch dimensions, but input has sizes {list(input.shape)} with dimension {k} "
                "being empty"
            )
    if any(p is not None and p < 0 for p in parts):
        if "max" in name:
            whole = [*input.shape[: input.dim() - n], *parts]
            raise RuntimeError(f"Trying to create tensor with negative dimension {next(p for p in parts if p < 0)}: {whole}")
        shown = ", ".join(map(str, parts[:2])) + "".join(f",{p}" for p in parts[2:])
        raise RuntimeError(f"{name}: elements of output_size must be greater than or equal to 0 but received {{{shown}}}")
    if n > 1 and not input.dtype.is_floating_point:
        raise no_kernel(name + "_cpu" * (n == 3), input.dtype)


def folding(**values) -> None:
    """The windows of fold and unfold: two numbers each, or one for both."""
    for what, value in values.items():
        if len(items(value)) != 2 and isinstance(value, (tuple, list)):
            raise RuntimeError(f"It is expected {what} equals to 2, but got size {len(value)}")
    for what, words, name in (("kernel_size", "kernel size", "kernel"), ("dilation", "dilation", "dilation"), ("padding", "padding", "pad"), ("stride", "stride", "stride")):
        pair = items(values[what]) if len(items(values[what])) == 2 else items(values[what]) * 2
        if any(v < 0 if what == "padding" else v <= 0 for v in pair):
            least = "non-negative" if what == "padding" else "greater than zero"
            raise RuntimeError(f"{words} should be {least}, but got {name}_height: {pair[0]} {name}_width: {pair[1]}")
