"""Owns the direction of imports: a module may import, at its top, only what the arrows allow."""

from __future__ import annotations

import ast
from pathlib import Path

import tapegrad

ROOT = Path(tapegrad.__file__).parent
# From the ground up.  A unit (a folder, a file, or one of the files of `ops` that others build on) imports at its top only what is below it.
LAYERS = [
    "naming",
    "cautions determinism device locks dtypes maths overriding printing random.arithmetic random.rejection restricted ops.registry",
    "ops.call_forms",
    "ops.arguments",
    "engine limits out_rules random.stream ops.transformable",
    "assertions geometry kernels settings ops.checks ops.public",
    "core formats ops.formulas ops.loops",
    "memory modes ops.columns ops.folds serialization",
    "ops.chains",
    "creation ops.plan tensor",
    "copying cuda storage legacy nn_parameter ops.chain_plans ops.rows random.draws writing",
    "dispatch",
    "amp autograd callables foreach numpy_protocol",
    "ops tape utils",
    "planned special transforms",
    "backends func install linalg overrides random",
    "_C quasirandom random.tensors",
    "random.gamma",
    "nn utils.data",
    "distributions fft testing",
    "optim",
    "tapegrad demo return_types __main__",
]
LEVEL = {unit: k for k, layer in enumerate(LAYERS) for unit in layer.split()}


def unit_of(module: str) -> str:
    """The unit that a module of the package belongs to."""
    parts = module.split(".")[1:]
    if not parts:
        return "tapegrad"
    return ".".join(parts[:2]) if ".".join(parts[:2]) in LEVEL else parts[0]


def module_of(path: Path) -> str:
    name = ".".join(("tapegrad", *path.relative_to(ROOT).with_suffix("").parts))
    return name.removesuffix(".__init__")


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports when it is loaded."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_imports_point_down():
    modules = {module_of(path): path for path in ROOT.rglob("*.py")}
    broken = []
    for module, path in sorted(modules.items()):
        for name in imports_of(path):
            while name and name not in modules:
                name = name.rpartition(".")[0]
            if not name or name == "tapegrad" or unit_of(name) == unit_of(module):
                continue
            if LEVEL[unit_of(name)] >= LEVEL[unit_of(module)]:
                broken.append(f"{module} imports {name}")
    assert not broken, "\n".join(broken)


def test_numba_is_imported_only_where_code_is_compiled():
    allowed = ("engine/native/", "maths/")
    broken = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if any(n.split(".")[0] == "numba" for n in imports_of(path))]
    assert all(place.startswith(allowed) for place in broken), broken


def test_files_say_what_they_own():
    silent = [p.name for p in ROOT.rglob("*.py") if p.read_text().strip() and ast.get_docstring(ast.parse(p.read_text())) is None]
    assert not [name for name in silent if name not in ("native_codes.py",)], silent
