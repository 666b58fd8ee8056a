"""The Sphinx configuration: MyST pages, the furo theme, and the op reference written from the op table at each build."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import generate_reference  # noqa: E402

import tapegrad  # noqa: E402

generate_reference.write(HERE / "reference" / "generated")

project = "tapegrad"
author = "The tapegrad authors"
copyright = author  # noqa: A001 (the name that Sphinx reads)
version = release = tapegrad.__version__

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"tapegrad {release}"
nitpicky = True
