"""A candidate's dossier as a page of the explorer."""

from __future__ import annotations

from urllib.parse import quote

from szeek.pipeline.products import RunFolder
from szeek.show.figures.dossier import (
    KNOWN_ARCMIN,
    candidate_of,
    describe_place,
    list_known,
    list_numbers,
    spectrum_of,
)
from szeek.show.figures.style import page_text
from szeek.show.report.templates import open_template


def page_address(name: str, ending: str = "") -> str:
    """Where the explorer shows the dossier of a candidate, or its sheet as 'png' or 'pdf'.

    Examples
    --------
    >>> page_address("SZeek G057.80+88.00", "pdf")
    '/dossier/SZeek%20G057.80%2B88.00.pdf'
    """
    return f"/dossier/{quote(name, safe='')}{'.' + ending if ending else ''}"


def render_page(run: RunFolder, row: int) -> str:
    """A candidate's dossier as a page of the explorer, with links to the one before and the one after by p.

    Raises
    ------
    IndexError
        If the run has no such candidate.
    """
    candidate = candidate_of(run, row)
    names = [] if run.candidates is None else run.candidates["name"]
    name = str(candidate["name"])
    return open_template("dossier.html.j2").render(
        name=name,
        before=page_address(str(names[row - 1])) if row else "",
        after=page_address(str(names[row + 1])) if row + 1 < len(names) else "",
        pdf=page_address(name, "pdf"),
        png=page_address(name, "png"),
        place=describe_place(candidate),
        numbers=[(page_text(key), page_text(value)) for key, value in list_numbers(run, row, spectrum_of(run, row))],
        known=list_known(run, row),
        radius=f"{KNOWN_ARCMIN:g}",
    )
