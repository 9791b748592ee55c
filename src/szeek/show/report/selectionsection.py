"""The report's section on completeness by injection: what is found, and whether that holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.pipeline.searches import LEAST_PROBABILITY
from szeek.show.figures import curves as figures
from szeek.show.figures.style import page_text
from szeek.show.report.parts import Cell, Column, Figures, Section, number, table_block


def section_selection(run: RunFolder, made: Figures) -> Section:
    """Completeness from injections, and whether it holds for the clusters that are known."""
    part = Section("selection", "Completeness against flux")
    found = ((run.json(products.RECORD) or {}).get("stages") or {}).get("selection")
    selection = run.selection
    if selection is None or not found:
        part.missing(f"completeness against flux ({products.SELECTION})", "`szeek selection` measures it.")
        return part
    part.warnings += _warnings(found)
    part.blocks.append(
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
                Cell(page_text(str(row["name"]))),
                *(number(row[name], 2) for name in ("mean", "error", "clusters_mean", "clusters_error")),
            )
            for row in fitted
        ]
        caption = f"How injected clusters look, fitted to {found['n_look']} known clusters of these maps"
        part.blocks.append(table_block(caption, heads, cells))
    spectra = [run.table(products.SELECTION, name) for name in ("KNOWN", "INJECTED")]
    if spectra[0] is not None and spectra[1] is not None and np.any(np.asarray(spectra[0]["n"]) > 1):
        part.blocks.append(
            made.block(
                "looks",
                figures.plot_looks(spectra[0], spectra[1], str(spectra[0].meta["BANDS"]).split(",")),
                "Spectra of known clusters and of injected ones of like flux and size: where they differ, injections "
                "do not look as clusters do in these maps.",
                "Spectra of known and of injected clusters",
            )
        )
    check = found.get("known")
    if check:
        columns = [
            Column("S/N in the maps from"),
            *(Column(head, "", True) for head in ("known", "found", "expected")),
        ]
        rows = [
            (number(low), number(n), number(n_found), number(expected, 1))
            for low, n, n_found, expected in zip(
                *(check[name] for name in ("snr", "n_known", "n_found", "n_expected")), strict=True
            )
        ]
        caption = (
            "Known clusters that were not found by their SZ effect, by the S/N that they have in the maps, and what "
            f"injections of the same S/N say (probability {check['probability']:.2g})"
        )
        part.blocks.append(table_block(caption, columns, rows))
    return part


def _warnings(found: Mapping[str, Any]) -> list[str]:
    """Warnings of the selection stage, from its record."""
    checks = {"own haloes": found.get("haloes"), "known clusters": found.get("known")}
    return [
        f"The completeness does not hold for this sky's {name}: found {sum(check['n_found'])}, expected "
        f"{sum(check['n_expected']):.0f}, probability {check['probability']:.2g}."
        for name, check in checks.items()
        if check and check["probability"] < LEAST_PROBABILITY
    ]
