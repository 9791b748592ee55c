"""The report's sections on candidates: what they look like, and their table, with links into the explorer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from szeek.measure.flags import FLAG_MEANINGS, FLAGS
from szeek.measure.photometry import KINDS
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.show.figures import cutouts
from szeek.show.figures.dossier import describe_flags
from szeek.show.figures.style import catalogue_look, page_text, plain_text
from szeek.show.report.known import counted_sky, in_counted_sky, known_clusters, recovered
from szeek.show.report.links import explorer_link
from szeek.show.report.parts import Block, Cell, Column, Figures, Link, Section, number, table_block

#: Rows of the candidate table that the page carries; all of them are in candidates.csv.
TABLE_ROWS = 1000


def section_candidates(run: RunFolder, made: Figures) -> Section:
    """Cut-outs of the brightest candidates and of known clusters that were missed."""
    part = Section("gallery", "What the candidates look like")
    if run.candidates is None:
        part.missing(products.CANDIDATES, "`szeek detect` writes it.")
        return part
    if run.maps is None:
        part.missing("the frequency maps (maps/)", "The cut-outs show p alone.")
    if run.maps is None and run.p_map is None and run.y_ring is None:
        return part
    look: dict[str, Any] = {"maps": run.maps, "p_map": run.p_map, "y_map": run.y_ring}
    look["y_fwhm_arcmin"] = run.y_fwhm_arcmin
    # a degree for Planck's beams
    mark_arcmin, width_arcmin = run.radius_arcmin, 12 * run.radius_arcmin
    look |= {"width_arcmin": width_arcmin, "pixel_arcmin": width_arcmin / 60}
    frame: dict[str, float] = {"width_arcmin": width_arcmin, "mark_arcmin": mark_arcmin}
    threshold = run.p_max
    best = run.candidates[: min(8, len(run.candidates))]
    if len(best):
        rows = [
            (
                f"{row['name']}\n$p$ = {row['p']:.2f}",
                cutouts.cut_out(float(row["lon_deg"]), float(row["lat_deg"]), **look),
            )
            for row in best
        ]
        part.add(
            made.block(
                "gallery_candidates",
                cutouts.plot_gallery(rows, **frame),
                f"The candidates of highest p: {width_arcmin:g} arcmin on a side, Galactic north up, east to the "
                "left; the field's median is taken off each band; one colour scale per column. Black disc: the beam. "
                f"Circle: {mark_arcmin:g} arcmin radius.",
                "Cut-outs of the brightest candidates in all bands",
                vector=False,
                wide=True,
            )
        )
        links = tuple(Link(str(row["name"]), explorer_link(str(row["name"]))) for row in best)
        part.add(Block("links", text="In the explorer:", links=links))
    else:
        part.absent.append("The catalogue is empty.")
    clusters = known_clusters(run)
    if clusters is None:
        part.missing(products.CLUSTERS, "Missed clusters cannot be shown.")
        return part
    above = run.candidates[np.asarray(run.candidates["p"]) >= threshold]
    for selection in ("planck_z", "planck", "psz2"):
        known = clusters[np.asarray(clusters["selection"]) == selection]
        known = known[in_counted_sky(known, run)]
        if not len(known):
            continue
        missed = known[~recovered(above, known, run.radius_arcmin)]
        name, where = catalogue_look(selection)[2], f"in {counted_sky(run)}"
        if not len(missed):
            part.add(Block("text", text=f"No {name} cluster {where} was missed at p > {threshold:g}."))
            break
        shown = missed[np.argsort(-np.nan_to_num(np.asarray(missed["snr"], float)))[:6]]
        rows = [
            (
                plain_text(str(row["name"]).replace(" ", "\n", 1)),
                cutouts.cut_out(float(row["lon_deg"]), float(row["lat_deg"]), **look),
            )
            for row in shown
        ]
        part.add(
            made.block(
                "gallery_missed",
                cutouts.plot_gallery(rows, **frame),
                f"{name} clusters {where} without a source above p = {threshold:g} within {run.radius_arcmin:g} "
                f"arcmin ({len(missed)} of {len(known)}; the most significant are shown), as above.",
                "Cut-outs of known clusters that were missed",
                vector=False,
                wide=True,
            )
        )
        places = [
            (str(row["name"]), round(float(row["lon_deg"]), 4), round(float(row["lat_deg"]), 4)) for row in shown
        ]
        links = tuple(Link(name, explorer_link(l=lon, b=lat, fov=2)) for name, lon, lat in places)
        part.add(Block("links", text="In the explorer:", links=links))
        break
    return part


def section_kinds(run: RunFolder, _: Figures) -> Section:
    """What the candidates are: counts per kind and per flag, and the first of them with their numbers."""
    part = Section("kinds", "What the candidates are")
    table = run.candidates
    if table is None or not len(table):
        part.missing("candidates", f"`szeek detect` writes {products.CANDIDATES}.")
        return part
    if not np.isfinite(np.asarray(table["snr"], float)).any():
        part.missing("S/N, flux and kind of the candidates", "`szeek photometry` adds them.")
    kind, matched = np.asarray(table["kind"], str), np.asarray(table["match_name"], str) != ""
    snr = np.asarray(table["snr"], float)
    rows = [
        (
            name or "not measured",
            number(int(chosen.sum())),
            number(int((chosen & matched).sum())),
            number(float(np.nanmedian(snr[chosen])) if np.isfinite(snr[chosen]).any() else None, decimals=1),
        )
        for name in (*KINDS, "")
        if (chosen := kind == name).any()
    ]
    heads = [Column("kind"), *(Column(head, "", True) for head in ("candidates", "known clusters", "median S/N"))]
    part.add(table_block("Kinds, by the spectrum at each position (KIND)", heads, rows))
    if run.classes:
        part.add(_classes_table(run, np.asarray(table["class"], str)))
    part.add(_flags_table(np.asarray(table["flags"], int), np.asarray(table["checked"], int)))
    first, shown = table[:_FIRST_ROWS], [entry for entry in _FIRST if _any_known(table[entry.column])]
    columns = [Column("name"), *(Column(page_text(entry.head), entry.unit, True) for entry in shown)]
    columns += [Column("kind"), Column("flags"), Column("not checked"), Column("known cluster")]
    cells = [
        [
            Cell(str(row["name"]), link=explorer_link(str(row["name"]))),
            *(number(row[entry.column] * entry.factor, decimals=entry.decimals) for entry in shown),
            *(Cell(text) for text in (str(row["kind"]), *describe_flags(row), str(row["match_name"]))),
        ]
        for row in first
    ]
    part.add(table_block(f"The {len(first)} candidates of highest p", columns, cells))
    return part


def _classes_table(run: RunFolder, classes: NDArray[np.str_]) -> Block:
    """What the network calls the candidates, and the sources of each class that it finds on the whole map."""
    sources = run.table(products.CLASS_SOURCES)
    rows: list[tuple[Cell | str, ...]] = []
    for name in ("cluster", *run.classes):
        cells = [number(int((classes == name).sum()))]
        if sources is not None and name != "cluster":
            mine = np.asarray(sources["class"], str) == name
            cells.append(number(int(mine.sum())))
            likely = np.asarray(sources["purity"], float) > 0.5 if "purity" in sources.colnames else None
            cells.append(number(None if likely is None else int((mine & likely).sum())))
        else:
            cells += [number(None), number(None)]
        rows.append((name, *cells))
    heads = [Column("class")]
    heads += [Column(head, "", True) for head in ("candidates", "sources found", "more likely than not")]
    caption = f"Classes, by the network: of the candidates (CLASS), and all sources ({products.CLASS_SOURCES})"
    return table_block(caption, heads, rows)


def _flags_table(flags: NDArray[np.int_], checked: NDArray[np.int_]) -> Block:
    """How many candidates have each flag, how many are clear of it, and of how many it is not known."""
    rows: list[tuple[Cell | str, ...]] = []
    for name, bit in FLAGS.items():
        is_set, known = flags & bit > 0, (flags | checked) & bit > 0
        counts = (is_set.sum(), (known & ~is_set).sum(), (~known).sum())
        rows.append((name.replace("_", " "), FLAG_MEANINGS[name], *(number(int(count)) for count in counts)))
    heads = [Column("flag"), Column("meaning"), *(Column(head, "", True) for head in ("set", "clear", "not checked"))]
    caption = "Flags (FLAGS, CHECKED). Clear: looked for and not found; not checked: it may be there"
    return table_block(caption, heads, rows)


class _Shown(NamedTuple):
    """How the page prints a column of candidates.fits: head, unit, decimals, and the factor to that unit."""

    column: str
    head: str
    unit: str
    decimals: int
    factor: float = 1.0


_SHOWN = (
    _Shown("ra_deg", "RA", "deg", 4),
    _Shown("dec_deg", "Dec", "deg", 4),
    _Shown("lon_deg", "l", "deg", 3),
    _Shown("lat_deg", "b", "deg", 3),
    _Shown("pos_err_arcmin", "position error", "arcmin", 1),
    _Shown("p", "p", "", 3),
    _Shown("area_arcmin2", "area", "arcmin²", 0),
    _Shown("purity", "purity", "", 2),
    _Shown("snr", "S/N", "", 1),
    _Shown("y5r500_arcmin2", "Y5R500", "10⁻³ arcmin²", 2, 1e3),
    _Shown("y5r500_err_arcmin2", "its error", "10⁻³ arcmin²", 2, 1e3),
    _Shown("fold", "fold", "", 0),
)
#: Columns of the short table, and how many rows it has.
_FIRST = tuple(
    entry for entry in _SHOWN if entry.column in ("p", "purity", "snr", "y5r500_arcmin2", "y5r500_err_arcmin2")
)
_FIRST_ROWS = 20


def _any_known(column: Any) -> bool:
    """Whether a column says anything: NaN, and -1 in whole numbers, mean unknown."""
    values = np.asarray(column)
    return bool((values >= 0).any() if values.dtype.kind == "i" else np.isfinite(values).any())


def section_table(run: RunFolder, _: Figures) -> Section:
    """The candidate catalogue."""
    part = Section("candidates", "Candidates")
    if run.candidates is None:
        part.missing(products.CANDIDATES, "`szeek detect` writes it.")
        return part
    table = run.candidates
    shown = [entry for entry in _SHOWN if entry.column in table.colnames and _any_known(table[entry.column])]
    words = [c for c in table.colnames if table[c].dtype.kind == "U" and c != "name" and (table[c] != "").any()]
    columns = [Column("name"), *(Column(page_text(entry.head), entry.unit, True) for entry in shown)]
    columns += [Column(name.replace("_", " ")) for name in (*words, "flags", "not_checked")]
    rows = [
        [
            Cell(str(row["name"]), link=explorer_link(str(row["name"]))),
            *(number(row[entry.column] * entry.factor, decimals=entry.decimals) for entry in shown),
            *(Cell(str(row[name])) for name in words),
            *(Cell(text) for text in describe_flags(row)),
        ]
        for row in table[:TABLE_ROWS]
    ]
    caption = f"{len(table)} candidates"
    if len(table) > TABLE_ROWS:
        caption = f"The {TABLE_ROWS} candidates of highest p, of {len(table)}; all are in {products.CANDIDATES_CSV}"
    hint = "Names are links into the sky explorer; start it with `szeek view` and this run's folder."
    part.add(Block("text", text=hint))
    part.add(table_block(f"{caption}. Click a column's head to sort.", columns, rows))
    return part
