"""Sphinx configuration; `make docs` builds with warnings as errors."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

from szeek import __version__
from szeek.simulate.sky import SimulateConfig, simulate_sky
from szeek.simulate.validate import validate_sky

project = "SZeek"
author = "The SZeek developers"
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_math_renderer = "mathml"
myst_enable_extensions = ["colon_fence", "dollarmath", "substitution"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # as committed
suppress_warnings = ["ref.python"]  # words of shapes, such as n_band, are attributes of several classes
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = f"SZeek {version}"
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # shapes, dtypes and units stand in the docstrings

# Measured figures have one source, the history of the benchmarks.
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import history  # noqa: E402

myst_substitutions = history.substitutions()

# The reference has one source, the code.
sys.path.insert(0, str(Path(__file__).parent))
from write_reference import write_reference  # noqa: E402

write_reference(Path(__file__).parent / "reference")
_generated = Path(__file__).parent / "_generated"
_generated.mkdir(exist_ok=True)


def validate_small_sky(page: Path) -> None:
    """The simulated sky of nside 512 against published numbers, made anew with the code that the docs are of."""
    with tempfile.TemporaryDirectory() as folder:
        simulate_sky(SimulateConfig(nside=512, seed=1, companions=False), folder)
        checks = validate_sky(folder)
    lines = ["| check | source | published | here | tolerance | spread | status |", "|---|---|---|---|---|---|---|"]
    for row in checks:
        numbers = [f"{row['published']:.3g}", f"{row['ours']:.3g}", f"{row['tolerance']:.0%}"]
        numbers.append(f"{row['spread']:.0%}" if row["spread"] > 0 else "")  # NaN: not known
        words = (str(row[name]).replace("|", r"\|") for name in ("check", "source"))
        lines.append("| " + " | ".join((*words, *numbers, row["status"])) + " |")
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if not (_generated / "validation.md").is_file():
    validate_small_sky(_generated / "validation.md")


# The notebooks are pages with the outputs that they were committed with; the tests run them.
_tutorials = Path(__file__).parent / "tutorials"
shutil.rmtree(_tutorials, ignore_errors=True)
shutil.copytree(Path(__file__).parents[1] / "notebooks", _tutorials, ignore=shutil.ignore_patterns("field", "*.py"))


def setup(app: Sphinx) -> None:
    """Formulas as MathML, which every browser knows: they show without a network."""

    def write_inline(page: Any, node: Any) -> None:
        page.body.append(tex2mathml(node.astext(), as_block=False))
        raise SkipNode

    def write_block(page: Any, node: Any) -> None:
        page.body.append(tex2mathml(node.astext(), as_block=True))
        raise SkipNode

    app.add_html_math_renderer("mathml", (write_inline, None), (write_block, None))
