"""The op reference as Markdown, written from the records of `tapegrad/ops/`: nothing in it is typed by hand.

`write(folder)` is called by `conf.py` at each build; `python docs/generate_reference.py` writes the same files.  Reading the records
starts no engine and compiles nothing.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from pathlib import Path

OBJECT_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
PUBLIC_FILES = ("functional", "gradcheck", "forward_ad", "graph")  # of tapegrad/autograd
KINDS = {"F": "floating point", "C": "complex", "I": "integer", "B": "bool"}


def code(text: str) -> str:
    """`text` as inline code, whatever backticks it contains."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def prose(doc: str | None) -> str:
    """A docstring as Markdown: doctest examples become code blocks."""
    lines, block = [], []
    for line in [*inspect.cleandoc(doc or "").splitlines(), ""]:
        if block and not line.strip():
            lines += ["```python", *block, "```", ""]
            block = []
        elif block or line.startswith(">>>"):
            block.append(line)
        else:
            lines.append(line.replace("[", r"\[").replace("*", r"\*") if "`" not in line else line)
    return "\n".join(lines).strip()


def signature(function) -> str:
    """The signature of a function, without addresses of default objects."""
    if isinstance(function, property):
        return ""
    try:
        return OBJECT_ADDRESS.sub("", str(inspect.signature(function)))
    except (TypeError, ValueError):
        return "(...)"


# --- elementwise ops ------------------------------------------------------------------------------------------------
def public_forms(op) -> list[str]:
    """How an op is called: the function, the method, the in-place method."""
    names = ", ".join(op.parameters)
    others = ", ".join(op.parameters[1:])
    short = len(op.inputs) <= 2
    forms = [f"tapegrad.{op.name}({names})"] if op.function is True and short else []
    forms += [f"Tensor.{op.name}({others})"] if op.method and short else []
    forms += [f"Tensor.{op.name}_({others})"] if op.method and op.inplace and short else []
    return forms


def derivative(text: str | None) -> str:
    if text is None:
        return "not differentiable"
    return {"g": "`g`: the incoming gradient itself", "0": "zero everywhere"}.get(text, code(text))


def elementwise_section(op) -> str:
    lines = [f"### {op.name}", ""]
    if op.doc:
        lines += [prose(op.doc), ""]
    forms = public_forms(op)
    lines.append(f"- Forms: {', '.join(map(code, forms)) if forms else 'internal; another function chooses it'}")
    if op.operators:
        lines.append(f"- Operators: {', '.join(map(code, op.operators))}")
    if op.aliases:
        lines.append(f"- Aliases: {', '.join(map(code, op.aliases))}")
    lines.append(f"- Name in the graph: {code(op.backward_name)}")
    lines.append(f"- Formula: {code(op.forward)}")
    for kind, text in (("integers", op.forward_int), ("bool", op.forward_bool)):
        if text:
            lines.append(f"- Formula for {kind}: {code(text)}")
    for name, text in zip(op.inputs, op.grads, strict=True):
        lines.append(f"- Derivative for {code(name)}: {derivative(text)}")
    lines.append(f"- Computes in: {', '.join(KINDS[kind] for kind in op.kinds)}")
    if op.result:
        lines.append(f"- Result dtype: {code(op.result)}")
    return "\n".join(lines) + "\n"


def elementwise_page(ops) -> str:
    lines = [
        "# Elementwise ops",
        "",
        "Each section is one record. In a formula `x`, `y` and `z` are the inputs, `c` is a bool mask, `out` is the result and `g` the",
        "gradient of the result. What a derivative reads is what the tape saves.",
        "",
    ]
    by_file = defaultdict(list)
    for op in ops:
        by_file["Forms that only other functions use" if not public_forms(op) else "Public ops"].append(op)
    for title in sorted(by_file, reverse=True):
        lines += [f"## {title}", ""]
        lines += [elementwise_section(op) for op in sorted(by_file[title], key=lambda op: op.name)]
    return "\n".join(lines)


# --- structural ops and public names --------------------------------------------------------------------------------
def structural_page(ops) -> str:
    lines = [
        "# Structural ops",
        "",
        "Entries of the tape whose derivative is written in other ops. The text of each is the docstring of that derivative.",
        "",
    ]
    for op in sorted(ops, key=lambda op: op.name):
        lines += [f"## {op.name}", ""]
        if op.doc:
            lines += [prose(op.doc), ""]
        lines.append(f"- Name in the graph: {code(op.backward_name)}")
        formulas = getattr(op, "grads", None)
        if formulas:
            lines += [f"- Derivative for {code(n)}: {derivative(text)}" for n, text in zip(op.inputs, formulas, strict=True)]
        else:
            lines.append(f"- Derivative: {code(op.derivative.__module__ + '.' + op.derivative.__name__)}")
        if op.sweep:
            lines.append(f"- Rule of the compiled sweep: {code(op.sweep)}")
        lines.append("")
    return "\n".join(lines)


def names_page(title: str, introduction: str, prefix: str, names: dict) -> str:
    """Public names with signature and docstring; names of the same function are listed together."""
    lines = [f"# {title}", "", introduction, ""]
    together = defaultdict(list)
    for name, function in names.items():
        together[id(function)].append(name)
    for group in sorted(together.values(), key=lambda group: group[0].strip("_").lower()):
        function = names[group[0]]
        lines += [f"## {group[0]}", "", f"{code(prefix + group[0] + signature(function))}", ""]
        if len(group) > 1:
            lines += [f"Also: {', '.join(code(prefix + name) for name in group[1:])}", ""]
        if function.__doc__:
            lines += [prose(function.__doc__), ""]
    return "\n".join(lines)


def own_members() -> dict:
    """What the classes that make up Tensor define and document: attributes and methods that no other file registers."""
    from tapegrad.ops.public import METHODS
    from tapegrad.tensor import Tensor

    return {
        name: member
        for part in Tensor.__mro__
        for name, member in vars(part).items()
        if not name.startswith("_") and name not in METHODS and (inspect.isfunction(member) or isinstance(member, property)) and member.__doc__
    }


def modules_page(title: str, introduction: str, modules) -> str:
    """The public functions and classes of modules, one after the other."""
    from importlib import import_module

    lines = [f"# {title}", "", introduction, ""]
    for name in modules:
        module = import_module(name)
        chosen = getattr(module, "__all__", None) or [
            n for n, f in vars(module).items() if not n.startswith("_") and getattr(f, "__module__", "").startswith(name) and callable(f)
        ]
        lines += [f"## {name}", ""]
        for n in sorted(chosen, key=str.lower):
            member = getattr(module, n)
            lines += [f"### {n}", "", code(f"{name}.{n}" + signature(member)), "", prose(member.__doc__ or ""), ""]
    return "\n".join(lines)


def files_of(package: str, names) -> list[str]:
    """A package, and those of its files that have public names of their own."""
    return [package, *(f"{package}.{name}" for name in sorted(names))]


def write(folder: Path) -> None:
    """Write every page into `folder`; a page that has not changed keeps its time."""
    import tapegrad.fft
    import tapegrad.linalg
    import tapegrad.special  # (loads the table and the public names)
    from tapegrad.ops.public import FUNCTIONS, METHODS
    from tapegrad.ops.registry import BY_CODE, Elementwise, Structural

    elementwise = [op for op in BY_CODE if isinstance(op, Elementwise)]
    structural = [op for op in BY_CODE if isinstance(op, Structural)]
    pages = {
        "elementwise.md": elementwise_page(elementwise),
        "structural.md": structural_page(structural),
        "functions.md": names_page(
            "Functions", "Functions of the package other than the elementwise ones.", "tapegrad.", FUNCTIONS
        ),
        "methods.md": names_page(
            "Methods", "Attributes and methods of `Tensor` other than the elementwise ones.", "Tensor.", {**own_members(), **METHODS}
        ),
        "linalg.md": names_page(
            "Linear algebra", inspect.getdoc(tapegrad.linalg) or "", "tapegrad.linalg.",
            {n: getattr(tapegrad.linalg, n) for n in tapegrad.linalg.__all__ if inspect.isfunction(getattr(tapegrad.linalg, n))},
        ),
        "special.md": names_page(
            "Special functions", inspect.getdoc(tapegrad.special) or "", "tapegrad.special.", {n: getattr(tapegrad.special, n) for n in tapegrad.special.SPECIAL}
        ),
        "fft.md": modules_page("Fourier transforms", inspect.getdoc(tapegrad.fft) or "", ["tapegrad.fft"]),
        "autograd.md": modules_page(
            "Autograd", "`tapegrad.autograd`, and the files in it that have public names of their own.", files_of("tapegrad.autograd", PUBLIC_FILES)
        ),
        "func.md": modules_page("Transforms of functions", "`tapegrad.func`; see [transforms](../../concepts/transforms.md).", ["tapegrad.func"]),
        "nn.md": modules_page(
            "Networks", "`tapegrad.nn`; see [networks](../../concepts/networks.md).", files_of("tapegrad.nn", ("functional", "init", "utils"))
        ),
        "optim.md": modules_page("Optimizers", "`tapegrad.optim`: optimizers and schedules.", files_of("tapegrad.optim", ["lr_scheduler", "swa_utils"])),
        "distributions.md": modules_page(
            "Distributions", "`tapegrad.distributions`; see [distributions](../../concepts/distributions.md).", ["tapegrad.distributions"]
        ),
        "tools.md": modules_page("Data and tests", "Data sets and loaders, and what tests of programs need.", ["tapegrad.utils.data", "tapegrad.testing"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path.insert(0, str(here.parent))
    write(here / "reference" / "generated")
