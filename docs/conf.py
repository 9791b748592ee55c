"""Sphinx configuration; `make docs` builds with warnings as errors."""

from __future__ import annotations

from pathlib import Path

from szeek import __version__
from szeek.find.candidates import explain_columns

project = "SZeek"
author = "The SZeek developers"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = f"SZeek {version}"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes, dtypes and units stand in the docstrings

# The column reference has one source, the catalogue's own definition.
_generated = Path(__file__).parent / "_generated"
_generated.mkdir(exist_ok=True)
(_generated / "columns.md").write_text(
    "\n".join(explain_columns().splitlines()[1:]).replace("## FLAGS", "## The bits of FLAGS") + "\n", encoding="utf-8"
)
