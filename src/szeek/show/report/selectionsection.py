"""The report's section on completeness by injection: what is found, and whether that holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from szeek.assess.detections import DetectionCheck
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.pipeline.searches import HaloCheck, Selected
from szeek.show.figures import curves as figures
from szeek.show.figures.style import page_text
from szeek.show.report.parts import Block, Cell, Column, Figures, Section, number, table_block

#: Properties that are no factor on what is published.
_PROPERTIES = {"profile": "profile: share of cool-core less that of disturbed clusters"}


def section_selection(run: RunFolder, made: Figures) -> Section:
    """Completeness from injections, and whether it holds for the clusters that are known."""
    part = Section("selection", "Completeness against flux")
    found = run.facts("selection")
    selection = run.selection
    if selection is None or not found:
        part.missing(f"completeness against flux ({products.SELECTION})", "`szeek selection` measures it.")
        return part
    part.warnings += _warnings(found)
    part.add(
        made.block(
            "selection",
            figures.plot_selection(selection),
            f"Completeness by injection of {found['n_injected']} clusters, mean over the sky that was seen, found at "
            f"p > {found['p_max']:g}. Dark bands: statistical errors; light bands: with what is not known of the "
            "dust, temperature, radio galaxies and profiles of clusters.",
            "Completeness against flux for three sizes",
        )
    )
    fitted = run.table(products.SELECTION, "LOOK")
    if fitted is not None:
        heads = [Column("property of clusters, times what is published"), *(
            Column(head, "", True) for head in ("used", "error", "of known clusters alone", "error")
        )]  # fmt: skip
        cells = [
            (
                Cell(page_text(_PROPERTIES.get(str(row["name"]), str(row["name"])))),
                *(number(row[name], 2) for name in ("mean", "error", "clusters_mean", "clusters_error")),
            )
            for row in fitted
        ]
        known = f"that of {found['n_look']} known clusters of these maps" if found["n_look"] else "as published"
        caption = f"How injected clusters look; their dust is {known}"
        part.add(table_block(caption, heads, cells))
    spectra = [run.table(products.SELECTION, name) for name in ("KNOWN", "INJECTED")]
    if spectra[0] is not None and spectra[1] is not None and np.any(np.asarray(spectra[0]["n"]) > 1):
        part.add(
            made.block(
                "looks",
                figures.plot_looks(spectra[0], spectra[1], str(spectra[0].meta["BANDS"]).split(",")),
                "Spectra of known clusters and of injected ones of like flux and size: where they differ, injections "
                "do not look as clusters do in these maps.",
                "Spectra of known and of injected clusters",
            )
        )
    if found.get("known"):
        part.add(check_block(DetectionCheck(**found["known"])))
    return part


def _warnings(found: Mapping[str, Any]) -> list[str]:
    """What the selection stage warned of."""
    known, haloes = found.get("known"), found.get("haloes")
    return Selected(
        known=None if known is None else DetectionCheck(**known),
        haloes=None if haloes is None else HaloCheck(**haloes),
    ).warnings


def check_block(check: DetectionCheck) -> Block:
    """Known clusters by their S/N in the maps, found and expected."""
    columns = [Column("S/N in the maps from"), *(Column(head, "", True) for head in ("known", "found", "expected"))]
    bins = zip(check.snr, check.n_known, check.n_found, check.n_expected, strict=True)
    rows = [(number(low), number(n), number(n_found), number(expected, 3)) for low, n, n_found, expected in bins]
    caption = (
        "Known clusters that were not found by their SZ effect, by the S/N that they have in the maps, and what "
        f"injections of the same S/N say (probability {check.probability:.2g})"
    )
    return table_block(caption, columns, rows)
