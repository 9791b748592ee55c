"""The report's section on the paper: Bonjean (2020) number by number and its figures of stacks, from this run."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.show.report.papernumbers import Entry, section_numbers
from szeek.show.report.parts import Block, Figures, Section

#: Figures of the paper that the report's own sections do not show, as `szeek reproduce` names them.
_FIGURES = {
    "figure4": "Fig. 4: the stack of the sources of the test tile, in every map.",
    "figure5": "Fig. 5: the stack of the sources in no catalogue, in every map.",
    "figure6": "Fig. 6: radial profiles of the sources in bins of p.",
    "figure7": "Fig. 7: aperture flux against p.",
    "figure8": "Fig. 8: p and y around superclusters.",
}


def section_paper(run: RunFolder, _: Figures) -> Section:
    """Numbers and figures of the paper beside this run's, where `szeek reproduce` has made them."""
    part = Section("paper", "The paper's figures and numbers")
    entries = run.table(products.REPRODUCTION_TABLE)
    if entries is None and run.given_model:
        return part
    words = (
        "The paper's Fig. 1 is drawn below under 'Known clusters', Fig. 2 under 'Training', Fig. 3 above under "
        "'Known clusters recovered'."
    )
    part.add(Block("text", text=words))
    if entries is None:
        made = "`szeek reproduce RUN`, and then `szeek report RUN`, make them."
        part.missing("Figs. 4 to 8 and the table of every number beside the paper's", made)
        return part
    part.blocks += section_numbers([_entry(entries, row) for row in range(len(entries))]).blocks
    for name, caption in _FIGURES.items():
        file = run.path / products.REPRODUCTION / f"{name}.png"
        if file.is_file():
            part.add(_picture(file, caption))
    page = products.REPRODUCTION_PAGE
    words = f"What each of them shows, and what could not be made, is explained in {page} beside this page."
    part.add(Block("text", text=words))
    return part


def _entry(entries: Table, row: int) -> Entry:
    values = {name: entries[name][row] for name in entries.colnames}
    plain: dict[str, Any] = {
        name: "" if np.ma.is_masked(value) else str(value) if isinstance(value, str) else float(value)
        for name, value in values.items()
    }
    return Entry(**plain)


def _picture(file: Path, caption: str) -> Block:
    source = f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    return Block("figure", caption=caption, source=source, alt=caption, wide=True)
