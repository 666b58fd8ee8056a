"""Owns the direction of imports: a module may import, at its top, only what the arrows allow."""

from __future__ import annotations

import ast
from pathlib import Path

import tapegrad

ROOT = Path(tapegrad.__file__).parent
# What must not be imported at the top of a module, by folder or file.
FORBIDDEN = {
    "maths": ("tapegrad.ops", "tapegrad.tensor", "tapegrad.core", "tapegrad.autograd", "tapegrad.kernels", "tapegrad.dispatch", "tapegrad.engine"),
    "engine": ("tapegrad.ops", "tapegrad.tensor", "tapegrad.core", "tapegrad.autograd", "tapegrad.kernels", "tapegrad.dispatch"),
    "dtypes.py": ("tapegrad.core", "tapegrad.tensor", "tapegrad.ops", "tapegrad.autograd", "tapegrad.dispatch"),
    "printing.py": ("tapegrad.core", "tapegrad.tensor", "tapegrad.ops", "tapegrad.autograd", "tapegrad.dispatch"),
    "core.py": ("tapegrad.tensor", "tapegrad.ops", "tapegrad.autograd", "tapegrad.dispatch", "tapegrad.kernels", "tapegrad.install"),
    "memory.py": ("tapegrad.tensor", "tapegrad.ops", "tapegrad.autograd", "tapegrad.dispatch"),
    "kernels.py": ("tapegrad.tensor", "tapegrad.autograd", "tapegrad.dispatch", "tapegrad.core"),
    "dispatch.py": ("tapegrad.install", "tapegrad.autograd"),
    "ops/registry.py": ("tapegrad.",),
}


def imports_of(path: Path) -> set[str]:
    """The modules that a file imports when it is loaded."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_imports_follow_the_arrows():
    broken = []
    for path in sorted(ROOT.rglob("*.py")):
        place = path.relative_to(ROOT).as_posix()
        for owner, forbidden in FORBIDDEN.items():
            if place == owner or place.startswith(owner + "/"):
                broken += [f"{place} imports {name}" for name in imports_of(path) if name.startswith(forbidden)]
    assert not broken, "\n".join(broken)


def test_numba_is_imported_only_where_code_is_compiled():
    allowed = ("engine/native/", "maths/")
    broken = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if any(n.split(".")[0] == "numba" for n in imports_of(path))]
    assert all(place.startswith(allowed) for place in broken), broken


def test_files_say_what_they_own():
    silent = [p.name for p in ROOT.rglob("*.py") if p.read_text().strip() and ast.get_docstring(ast.parse(p.read_text())) is None]
    assert not [name for name in silent if name not in ("native_codes.py",)], silent
