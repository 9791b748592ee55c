"""The sections of the report: each reads products of a run folder and says what it could not find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.assess.match import match
from szeek.assess.recovery import ALL_TILES
from szeek.show import cutouts, figures, skyplots
from szeek.show.field import section_fields
from szeek.show.reportparts import Block, Cell, Column, Figures, Section, number, percent, table_block
from szeek.show.runfolder import RunFolder
from szeek.show.style import catalogue_look
from szeek.sky.tiles import TEST_TILE, TILE_NSIDE, tile_of

#: Other figures on the same sky tile at p > 0.1 (or S/N > 5.4): who, Planck_z recovered, sources, share matched.
PUBLISHED = (
    ("Bonjean (2020), U-Net", "100 % (40 of 40)", "218 in none of three catalogues", ""),
    ("SZcat (2022), U-Net re-implementation", "95 %", "214", "56 %"),
    ("SZcat (2022), its best model", "100 %", "292", "53 %"),
    ("thresholded y map, S/N > 5.4", "100 %", "438", "44 %"),
)
#: Rows of the candidate table that the page carries; all of them are in candidates.csv.
TABLE_ROWS = 1000

_CITE = (
    ("The method", "Bonjean V. (2020), Deep learning for Sunyaev-Zel'dovich detection in Planck, A&A 634, A81"),
    ("Planck maps", "Planck Collaboration 2018 results. III. (2020), A&A 641, A3"),
    ("PSZ2", "Planck Collaboration 2015 results. XXVII. (2016), A&A 594, A27"),
    ("MCXC", "Piffaretti R. et al. (2011), A&A 534, A109"),
    ("redMaPPer", "Rykoff E. S. et al. (2014), ApJ 785, 104"),
    ("HEALPix", "Gorski K. M. et al. (2005), ApJ 622, 759; healpy: Zonca A. et al. (2019), JOSS 4, 1298"),
)


def title_of(run: RunFolder) -> str:
    """The run's own title, or its folder's name."""
    record = run.json("run.json") or {}
    return str(record.get("title") or run.path.resolve().name)


def threshold_of(run: RunFolder) -> float:
    """p_max of the run's detection, 0.1 where run.json does not say."""
    config = (run.json("run.json") or {}).get("config") or {}
    return float((config.get("detect") or {}).get("p_max", 0.1))


def is_simulated(run: RunFolder) -> bool | None:
    """Whether the sky was simulated; None where run.json does not say."""
    config = (run.json("run.json") or {}).get("config") or {}
    flag = (config.get("sky") or {}).get("simulate")
    return None if flag is None else bool(flag)


def lead_of(run: RunFolder) -> str:
    """One sentence on what this page is about."""
    sky = {True: "a simulated Planck-like sky with known clusters", False: "the sky as observed", None: "the sky"}
    return (
        f"Galaxy clusters found through the Sunyaev-Zel'dovich effect in maps of {sky[is_simulated(run)]}: what was "
        "run, what it found, and how far to believe it."
    )


def recovered(sources: Table, clusters: Table, radius_arcmin: float = 5.0) -> NDArray[np.bool_]:
    """Which clusters have a source of their own: (n_cluster,) bool, one-to-one as the assessment counts."""
    found = np.zeros(len(clusters), bool)
    if len(sources) and len(clusters):
        found[np.asarray(match(sources, clusters, radius_arcmin)["cluster"])] = True
    return found


def _recovered_each(sources: Table, clusters: Table) -> NDArray[np.bool_]:
    """The same, each selection matched by itself: a cluster in two catalogues counts in both."""
    found = np.zeros(len(clusters), bool)
    selections = np.asarray(clusters["selection"])
    for name in np.unique(selections):
        found[selections == name] = recovered(sources, clusters[selections == name])
    return found


def _clusters(run: RunFolder) -> Table | None:
    if run.clusters is not None and "selection" not in run.clusters.colnames:
        run.clusters["selection"] = np.char.lower(np.asarray(run.clusters["survey"], str))
    return run.clusters


def key_numbers(run: RunFolder) -> list[dict[str, str]]:
    """The handful of numbers at the top of the page."""
    tiles = []
    threshold = threshold_of(run)
    if run.candidates is not None:
        above = run.candidates[np.asarray(run.candidates["p"]) >= threshold]
        inside = tile_of(np.asarray(above["lon_deg"]), np.asarray(above["lat_deg"])) == TEST_TILE
        tiles.append(
            {
                "label": f"sources at p > {threshold:g}",
                "value": f"{len(above):,}".replace(",", "\u202f"),
                "detail": f"{inside.sum()} in the test tile",
            }
        )
    recovery = run.table("recovery.ecsv")
    if recovery is not None:
        tiles += [
            {
                "label": f"{catalogue_look(row['catalogue'])[2]} recovered, test tile",
                "value": percent(row["recovered"]).text,
                "detail": f"{row['n_recovered']} of {row['n_clusters']}; chance {percent(row['chance']).text}",
            }
            for row in _at_threshold(_region(recovery, TEST_TILE), threshold)
            if row["catalogue"] in figures.PAPER_TEST_TILE
        ]
    card = run.json("model.json") or {}
    if card.get("curve"):
        seconds = max(float(row.get("seconds") or 0) for row in card["curve"])  # since the beginning
        tiles.append(
            {"label": "training", "value": f"{seconds / 60:.1f} min", "detail": f"{len(card['curve'])} epochs"}
        )
    return tiles


def section_run(run: RunFolder, _: Figures) -> Section:
    """What was run: configuration, versions, seeds, timings."""
    part = Section("run", "What was run")
    record = run.json("run.json")
    if record is None:
        part.missing("run.json", "`szeek run CONFIG.toml` writes it.")
    else:
        timings = record.get("timings") or {}
        if timings:
            rows = [
                (stage, number(seconds, decimals=1))
                for stage, seconds in timings.items()
                if isinstance(seconds, int | float)
            ]
            part.blocks.append(table_block("Time of each stage", [Column("stage"), Column("time", "s", True)], rows))
        facts = [(str(k), str(v)) for k, v in {**(record.get("versions") or {}), **_seeds(record)}.items()]
        if facts:
            part.blocks.append(table_block("Versions and seeds", [Column("what"), Column("which")], facts))
    config = run.path / "config.toml"
    if config.is_file():
        part.blocks.append(Block("code", text=config.read_text(encoding="utf-8")))
    else:
        part.missing("config.toml", "`szeek run CONFIG.toml` keeps the configuration it was given.")
    return part


def _seeds(record: dict[str, Any]) -> dict[str, Any]:
    return {k: record[k] for k in ("seed", "seeds", "device", "started", "hostname_free") if k in record}


def section_sky(run: RunFolder, made: Figures) -> Section:
    """The p map of the whole sky and of the test tile."""
    part = Section("sky", "The sky")
    if run.p_nested is None or run.p_ring is None:
        part.missing("prediction.fits", "`szeek predict` writes it.")
        return part
    seen = np.isfinite(run.p_nested)
    nside = healpy.npix2nside(run.p_nested.size)
    part.blocks.append(
        made.block(
            "sky",
            skyplots.plot_sky(run.p_nested),
            f"p over the sky (nside {nside}, {100 * seen.mean():.1f} % of it observed). Each half-degree pixel shows "
            "its largest p, so that areas of a few arcminutes stay visible. Red outline: the test tile.",
            "Mollweide map of the network's output p in Galactic coordinates",
            vector=False,
        )
    )
    in_tile = seen.reshape(48, -1)[healpy.ring2nest(TILE_NSIDE, TEST_TILE)]
    if not in_tile.any():
        part.absent.append("The test tile (112.5°, +41.81°) lies outside the footprint.")
        return part
    if run.candidates is None:
        part.missing("candidates.fits", "`szeek detect` writes it.")
        return part
    clusters = _clusters(run)
    if clusters is None:
        part.missing("clusters.fits", "The sources are shown without known clusters beside them.")
        clusters = Table({"lon_deg": np.empty(0), "lat_deg": np.empty(0), "selection": np.empty(0, str)})
    clusters = clusters[tile_of(np.asarray(clusters["lon_deg"]), np.asarray(clusters["lat_deg"])) == TEST_TILE]
    papers = np.isin(np.asarray(clusters["selection"]), list(figures.PAPER_TEST_TILE))
    clusters = clusters[papers] if papers.any() else clusters  # redMaPPer's thousands would hide the rest
    threshold = threshold_of(run)
    above = run.candidates[np.asarray(run.candidates["p"]) >= threshold]
    part.blocks.append(
        made.block(
            "test_tile",
            skyplots.plot_tile(run.p_ring, above, clusters, _recovered_each(above, clusters), p_max=threshold),
            f"The test tile, which no training patch touched: p, the sources above {threshold:g} (white circles), "
            "and the known clusters, filled where a source lies within 5 arcmin. Lambert's equal-area projection.",
            "Map of p in the test tile with sources and known clusters",
            vector=False,
        )
    )
    return part


def section_training(run: RunFolder, made: Figures) -> Section:
    """The network, its training curve, and the normalisation of its input."""
    part = Section("training", "Training")
    card = run.json("model.json")
    if card is None:
        part.missing("model.json", "`szeek train` writes it.")
        return part
    facts = {k: v for k, v in card.items() if not isinstance(v, dict) and k != "curve"}
    facts |= {f"network, {k}": v for k, v in (card.get("network") or {}).items()}
    rows = [
        (k.replace("_", " "), ", ".join(map(str, v)) if isinstance(v, list) else str(v)) for k, v in facts.items()
    ]
    part.blocks.append(table_block("The network", [Column("what"), Column("which")], rows))
    curve = card.get("curve") or []
    if curve:
        part.blocks.append(
            made.block(
                "training",
                figures.plot_training(curve),
                "Loss of the training and validation patches after each epoch. The weights kept are those of the "
                "best validation loss.",
                "Training and validation loss against epoch",
            )
        )
    else:
        part.missing("the training curve in model.json", "`szeek train` records it.")
    return part


def _region(recovery: Table, tile: int) -> Table:
    """The rows of one tile, or of all tiles together (-1)."""
    return recovery[np.asarray(recovery["tile"]) == tile]


def _at_threshold(recovery: Table, p_max: float) -> Table:
    """The rows of the threshold nearest to p_max."""
    values = np.asarray(recovery["p_max"], float)
    return recovery[values == values[np.argmin(np.abs(values - p_max))]] if len(recovery) else recovery


def section_recovery(run: RunFolder, made: Figures) -> Section:
    """Known clusters recovered against the threshold, beside the paper's values."""
    part = Section("recovery", "Known clusters recovered")
    recovery = run.table("recovery.ecsv")
    if recovery is None or len(recovery) == 0:
        part.missing("recovery.ecsv", "`szeek assess` writes it.")
        return part
    threshold = threshold_of(run)
    shown = _region(recovery, TEST_TILE)
    where = "Test tile"
    if len(shown) == 0:
        shown, where = _region(recovery, ALL_TILES), "All tiles that were assessed"
        part.absent.append(
            "recovery.ecsv has no row of the test tile; all assessed tiles together are shown instead."
        )
    part.blocks.append(
        made.block(
            "recovery",
            figures.plot_recovery(shown, p_max=threshold, show_paper=where == "Test tile"),
            f"{where}. Left: fraction of each catalogue with a source within 5 arcmin, one to one, against the "
            "threshold on p, with binomial errors; dashed, the fraction of random positions that match. Right: all "
            "sources, and those in none of the catalogues. Stars: Bonjean (2020), Fig. 3, on the real sky.",
            "Recovered fraction and number of sources against the threshold on p",
        )
    )
    for region, title, paper in (
        (shown, where, figures.PAPER_TEST_TILE),
        (
            _region(recovery, ALL_TILES) if where == "Test tile" else recovery[:0],
            "All tiles together",
            figures.PAPER_FULL_SKY,
        ),
    ):
        rows = _at_threshold(region, threshold)
        if len(rows):
            part.blocks.append(_recovery_table(rows, f"{title}, p > {float(rows['p_max'][0]):g}", paper))
    part.blocks.append(
        table_block(
            "Published figures for the test tile of the real sky, p > 0.1",
            [Column("who"), Column("Planck_z recovered"), Column("detections"), Column("matched to anything known")],
            PUBLISHED,
        )
    )
    if is_simulated(run):
        words = (
            "This run's sky is simulated: its numbers and the published ones are for different skies, alike in "
            "noise, beams and selection. Compare their size, not their last digit."
        )
        part.blocks.append(Block("text", text=words))
    return part


def _recovery_table(rows: Table, caption: str, paper: Mapping[str, float]) -> Block:
    heads = ("clusters", "recovered", "this run", "by chance", "Bonjean (2020)", "sources", "in no catalogue")
    cells = [
        (
            catalogue_look(row["catalogue"])[2],
            number(row["n_clusters"]),
            number(row["n_recovered"]),
            percent(row["recovered"], row["recovered_low"], row["recovered_high"]),
            percent(row["chance"]),
            percent(paper.get(row["catalogue"])),
            number(row["n_sources"]),
            number(row["n_unmatched"]),
        )
        for row in rows
    ]
    return table_block(caption, [Column("catalogue"), *(Column(head, "", True) for head in heads)], cells)


def section_reliability(run: RunFolder, made: Figures) -> Section:
    """Completeness and purity, where the truth is known."""
    part = Section("reliability", "Completeness and purity")
    rows = (run.json("assessment.json") or {}).get("completeness_purity")
    if not rows:
        part.missing("completeness and purity (assessment.json)", "They need a sky with known truth, as simulated.")
        return part
    table = Table([{key: np.nan if value is None else value for key, value in row.items()} for row in rows])
    part.blocks.append(
        made.block(
            "completeness",
            figures.plot_completeness(table),
            "Completeness of the true haloes and of the mock Planck_z against the purity of the detections, pooled "
            "over held-out tiles, one-to-one, the chance rate taken out, binomial errors. Open symbols: the "
            "run's own threshold.",
            "Completeness against purity",
        )
    )
    heads = ["purity asked", "threshold on p", "detections", "purity", "clusters", "found", "completeness"]
    heads += ["between tiles", "median offset [arcmin]"]
    cells = [
        (
            figures.SAMPLES.get(row["sample"], (row["sample"],))[0],
            percent(row["purity_asked"]),
            number(row["p_threshold"], 2),
            number(row["n_detections"]),
            percent(row["purity"], row["purity_low"], row["purity_high"]),
            number(row["n_sample"]),
            number(row["n_found"]),
            percent(row["completeness"], row["completeness_low"], row["completeness_high"]),
            percent(row["completeness_tile_std"]),
            number(row["median_offset_arcmin"], decimals=1),
        )
        for row in table
    ]
    columns = [Column("sample"), *(Column(head, "", True) for head in heads)]
    part.blocks.append(table_block("Completeness at given purity, and at the run's threshold", columns, cells))
    return part


def section_candidates(run: RunFolder, made: Figures) -> Section:
    """Cut-outs of the brightest candidates and of known clusters that were missed."""
    part = Section("gallery", "What the candidates look like")
    if run.candidates is None:
        part.missing("candidates.fits", "`szeek detect` writes it.")
        return part
    if run.maps is None:
        part.missing("the frequency maps (maps/)", "The cut-outs show p alone.")
    look: dict[str, Any] = {"maps": run.maps, "p_map": run.p_ring, "y_map": run.y_ring}
    if all(value is None for value in look.values()):
        return part
    threshold = threshold_of(run)
    best = run.candidates[: min(8, len(run.candidates))]
    if len(best):
        rows = [
            (
                f"{row['name']}\n$p$ = {row['p']:.2f}",
                cutouts.cut_out(float(row["lon_deg"]), float(row["lat_deg"]), **look),
            )
            for row in best
        ]
        part.blocks.append(
            made.block(
                "gallery_candidates",
                cutouts.plot_gallery(rows),
                "The candidates of highest p: 1° on a side, Galactic north up, east to the left; the field's median "
                "is taken off each band; one colour scale per column. Black disc: the beam. Circle: 5 arcmin radius.",
                "Cut-outs of the brightest candidates in all bands",
                vector=False,
                wide=True,
            )
        )
    else:
        part.absent.append("The catalogue holds no candidate.")
    clusters = _clusters(run)
    if clusters is None:
        part.missing("clusters.fits", "Missed clusters cannot be shown.")
        return part
    above = run.candidates[np.asarray(run.candidates["p"]) >= threshold]
    for selection in ("planck_z", "planck", "psz2"):
        known = clusters[np.asarray(clusters["selection"]) == selection]
        known = known[tile_of(np.asarray(known["lon_deg"]), np.asarray(known["lat_deg"])) == TEST_TILE]
        if not len(known):
            continue
        missed = known[~recovered(above, known)]
        name = catalogue_look(selection)[2]
        if not len(missed):
            part.blocks.append(
                Block("text", text=f"No {name} cluster of the test tile was missed at p > {threshold:g}.")
            )
            break
        order = np.argsort(-np.nan_to_num(np.asarray(missed["snr"], float)))[:6]
        rows = [
            (
                str(row["name"]).replace(" ", "\n", 1),
                cutouts.cut_out(float(row["lon_deg"]), float(row["lat_deg"]), **look),
            )
            for row in missed[order]
        ]
        part.blocks.append(
            made.block(
                "gallery_missed",
                cutouts.plot_gallery(rows),
                f"{name} clusters of the test tile without a source above p = {threshold:g} ({len(missed)} of "
                f"{len(known)}; the most significant are shown), as above.",
                "Cut-outs of known clusters that were missed",
                vector=False,
                wide=True,
            )
        )
        break
    return part


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
    _Shown("fold", "fold", "", 0),
)


def _any_known(column: Any) -> bool:
    """Whether a column says anything: NaN, and -1 in whole numbers, mean unknown."""
    values = np.asarray(column)
    return bool((values >= 0).any() if values.dtype.kind == "i" else np.isfinite(values).any())


def section_table(run: RunFolder, _: Figures) -> Section:
    """The candidate catalogue."""
    part = Section("candidates", "Candidates")
    if run.candidates is None:
        part.missing("candidates.fits", "`szeek detect` writes it.")
        return part
    table = run.candidates
    shown = [entry for entry in _SHOWN if entry.column in table.colnames and _any_known(table[entry.column])]
    words = [c for c in table.colnames if table[c].dtype.kind == "U" and c != "name" and (table[c] != "").any()]
    columns = [Column("name"), *(Column(entry.head, entry.unit, True) for entry in shown)]
    columns += [Column(name.replace("_", " ")) for name in words]
    rows = [
        [
            Cell(str(row["name"])),
            *(number(row[entry.column] * entry.factor, decimals=entry.decimals) for entry in shown),
            *(Cell(str(row[name])) for name in words),
        ]
        for row in table[:TABLE_ROWS]
    ]
    caption = f"{len(table)} candidates"
    if len(table) > TABLE_ROWS:
        caption = f"The {TABLE_ROWS} candidates of highest p, of {len(table)}; all are in candidates.csv"
    part.blocks.append(table_block(f"{caption}. A click on a column's head sorts.", columns, rows))
    return part


def section_clusters(run: RunFolder, made: Figures) -> Section:
    """The known clusters."""
    part = Section("clusters", "Known clusters")
    clusters = _clusters(run)
    if clusters is None:
        part.missing("clusters.fits", "`szeek assess` compares with the catalogues of the configuration.")
        return part
    selections = np.asarray(clusters["selection"])
    rows = []
    for name in dict.fromkeys(selections.tolist()):
        chosen = clusters[selections == name]
        inside = tile_of(np.asarray(chosen["lon_deg"]), np.asarray(chosen["lat_deg"])) == TEST_TILE
        rows.append((catalogue_look(name)[2] or "none of these", number(len(chosen)), number(int(inside.sum()))))
    head = [Column("catalogue"), Column("clusters", "", True), Column("in the test tile", "", True)]
    part.blocks.append(table_block("Catalogues", head, rows))
    if (np.isfinite(clusters["z"]) & np.isfinite(clusters["m500_1e14msun"])).any():
        part.blocks.append(
            made.block(
                "mass_redshift",
                figures.plot_mass_redshift(clusters),
                "Mass and redshift of the known clusters that have both (the paper's Fig. 1).",
                "Mass against redshift of the known clusters",
            )
        )
    return part


def section_cite(run: RunFolder, _: Figures) -> Section:
    """What to cite."""
    part = Section("cite", "How to cite")
    rows = [("This software", "SZeek, see CITATION.cff in its source"), *_CITE]
    part.blocks.append(table_block("Sources of the method and the data", [Column("for"), Column("cite")], rows))
    return part


_SECTIONS: tuple[Callable[[RunFolder, Figures], Section], ...] = (
    section_sky,
    section_recovery,
    section_reliability,
    section_candidates,
    section_fields,
    section_table,
    section_training,
    section_clusters,
    section_run,
    section_cite,
)


def all_sections(run: RunFolder, made: Figures) -> list[Section]:
    """Every section, in the order of the page."""
    return [section(run, made) for section in _SECTIONS]
