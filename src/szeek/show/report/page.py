"""report.html: what a run did and found, in one file that opens from disk and loads nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from szeek._version import __version__
from szeek.files import write_text
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.show.report import sections
from szeek.show.report.parts import Figures, Section
from szeek.show.report.templates import open_template, read_template


def render_report(title: str, lead: str, tiles: Sequence[dict[str, str]], parts: Sequence[Section]) -> str:
    """The HTML of a report; every text is escaped."""
    return open_template("report.html.j2").render(
        version=__version__,
        title=title,
        lead=lead,
        tiles=tiles,
        sections=parts,
        style=Markup(read_template("report.css")),
        script=Markup(read_template("report.js")),
    )


def write_report(run_folder: str | os.PathLike[str]) -> Path:
    """Write report.html, and the figures as PNG and PDF, from the products in a run folder.

    Products that are missing are listed in the report, with the stage that makes each.

    Parameters
    ----------
    run_folder : path
        Folder of a run.

    Returns
    -------
    Path
        The report, one self-contained file.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    ValueError
        If a product is there but cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:  # says what is missing
    ...     write_report(folder).name
    'report.html'
    """
    run = RunFolder(run_folder)
    figures = Figures(run.path / products.FIGURES)
    html = render_report(
        run.title, sections.lead_of(run), sections.key_numbers(run), sections.all_sections(run, figures)
    )
    write_text(html, run.file(products.REPORT))
    return run.file(products.REPORT)
