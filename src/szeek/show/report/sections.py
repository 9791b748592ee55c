"""The sections of the report: each reads products of a run folder and says what it could not find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek._version import __version__
from szeek.assess.detections import DetectionCheck
from szeek.assess.recovery import ALL_TILES
from szeek.learn.normalise import Normaliser, local_background
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.show.figures import curves as figures
from szeek.show.figures import skyplots
from szeek.show.figures.style import P_LINEAR, catalogue_look, page_text
from szeek.show.report.candidatesections import section_candidates, section_kinds, section_table
from szeek.show.report.field import block_of_best_field, section_fields
from szeek.show.report.known import counted_sky, drawn_clusters, in_counted_sky, known_clusters, recovered
from szeek.show.report.papersection import section_paper
from szeek.show.report.parts import Block, Cell, Column, Figures, Section, number, percent, table_block
from szeek.show.report.selectionsection import check_block, section_selection
from szeek.show.report.truthsection import LARGEST_DEG2, section_truth, shows_truth
from szeek.sky.healpix import unit_vectors
from szeek.sky.mapset import MapSet, draw_seen, sees
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import TEST_TILE, TILE_NSIDE

#: Other figures on the same sky tile at p > 0.1 (or S/N > 5.4): who, Planck_z recovered, sources, share matched.
PUBLISHED = (
    ("Bonjean (2020), U-Net", "100 % (40 of 40)", "218 in none of three catalogues", ""),
    ("SZcat (2022), U-Net re-implementation", "95 %", "214", "56 %"),
    ("SZcat (2022), its best model", "100 %", "292", "53 %"),
    ("thresholded y map, S/N > 5.4", "100 %", "438", "44 %"),
)
_CITE = (
    ("The method", "Bonjean V. (2020), Deep learning for Sunyaev-Zel'dovich detection in Planck, A&A 634, A81"),
    ("Planck maps", "Planck Collaboration 2018 results. III. (2020), A&A 641, A3"),
    ("PSZ2", "Planck Collaboration 2015 results. XXVII. (2016), A&A 594, A27"),
    ("MCXC", "Piffaretti R. et al. (2011), A&A 534, A109"),
    ("redMaPPer", "Rykoff E. S. et al. (2014), ApJ 785, 104"),
    ("HEALPix", "Gorski K. M. et al. (2005), ApJ 622, 759; healpy: Zonca A. et al. (2019), JOSS 4, 1298"),
    ("The explorer's pictures: HiPS", "Fernique P. et al. (2015), A&A 578, A114"),
    ("The explorer's viewer: Aladin Lite 3", "Baumann M. et al. (2022), ASP Conf. Ser. 532, 7"),
)
_BIBTEX = """@article{Bonjean2020,
  author = {Bonjean, V.},
  title = {Deep learning for {Sunyaev-Zel'dovich} detection in {Planck}},
  journal = {Astronomy \\& Astrophysics},
  volume = {634},
  pages = {A81},
  year = {2020},
  doi = {10.1051/0004-6361/201936919}
}
@software{SZeek,
  author = {{The SZeek developers}},
  title = {{SZeek}: galaxy clusters in microwave maps through the {Sunyaev-Zel'dovich} effect},
  version = {%s}
}"""


def lead_of(run: RunFolder) -> str:
    """One sentence on the content of the page."""
    sky = {True: "a simulated Planck-like sky with known clusters", False: "the sky as observed", None: "the sky"}
    return (
        f"Galaxy clusters found through the Sunyaev-Zel'dovich effect in maps of {sky[run.is_simulated]}: what was "
        "run, what was found, and how reliable it is."
    )


def _recovered_each(sources: Table, clusters: Table, radius_arcmin: float) -> NDArray[np.bool_]:
    """The same, each selection matched by itself: a cluster in two catalogues counts in both."""
    found = np.zeros(len(clusters), bool)
    selections = np.asarray(clusters["selection"])
    for name in np.unique(selections):
        found[selections == name] = recovered(sources, clusters[selections == name], radius_arcmin)
    return found


def name_tile(run: RunFolder) -> str:
    """The sky tile that the report shows, and whether it was used in training."""
    tiles = run.held_out.get("test", ())
    if run.folds:
        return (
            f"sky tile {run.test_tile}, predicted, like every tile, by one of {run.folds} networks that never saw it"
        )
    if not tiles:
        return (
            f"sky tile {run.test_tile} (the paper's test tile; the run does not record which tiles were trained on)"
        )
    others = f"; the others are {', '.join(map(str, tiles[1:]))}" if len(tiles) > 1 else ""
    return f"test tile {run.test_tile}, which no training patch touched{others}"


def key_numbers(run: RunFolder) -> list[dict[str, str]]:
    """The handful of numbers at the top of the page."""
    tiles = []
    threshold = run.p_max
    if run.candidates is not None:
        above = run.candidates[np.asarray(run.candidates["p"]) >= threshold]
        inside = in_counted_sky(above, run)
        detail = f"{inside.sum()} in tile {run.test_tile}"
        if run.given_model:
            purity = np.asarray(above["purity"], float) if "purity" in above.colnames else np.full(len(above), np.nan)
            detail = f"{np.nansum(purity):.0f} clusters expected (PURITY)" if np.isfinite(purity).any() else ""
        tiles.append(
            {
                "label": f"sources at p > {threshold:g}",
                "value": f"{len(above):,}".replace(",", "\u202f"),
                "detail": detail,
            }
        )
    if run.given_model:
        return tiles + _given_numbers(run)
    recovery = run.table(products.RECOVERY)
    if recovery is not None:
        tiles += [
            {
                "label": f"{catalogue_look(row['catalogue'])[2]} recovered, tile {run.test_tile}",
                "value": percent(row["recovered"]).text,
                "detail": f"{row['n_recovered']} of {row['n_clusters']}; chance {percent(row['chance']).text}",
            }
            for row in _at_threshold(_region(recovery, run.test_tile), threshold)
            if row["catalogue"] in figures.PAPER_TEST_TILE
        ]
    card = run.json(products.MODEL_CARD)
    if card.get("curve"):
        seconds = max(float(row.get("seconds") or 0) for row in card["curve"])  # since the beginning
        tiles.append(
            {"label": "training", "value": f"{seconds / 60:.1f} min", "detail": f"{len(card['curve'])} epochs"}
        )
    return tiles


def _given_numbers(run: RunFolder) -> list[dict[str, str]]:
    """Of a network trained elsewhere: the known clusters that it found here, and its name."""
    tiles, measured = [], run.facts("measure")
    if measured.get("n_known"):
        tiles.append(
            {
                "label": "known clusters found",
                "value": percent(measured["n_known_found"] / measured["n_known"]).text,
                "detail": f"{measured['n_known_found']} of {measured['n_known']} in these maps",
            }
        )
    return [*tiles, {"label": "network", "value": Path(run.given_model).name, "detail": "trained before"}]


def section_run(run: RunFolder, _: Figures) -> Section:
    """What was run: configuration, versions, seeds, timings."""
    part = Section("run", "What was run")
    record = run.json(products.RECORD)
    if not record:
        part.missing(products.RECORD, "`szeek run CONFIG.toml` writes it.")
    else:
        timings = record.get("timings") or {}
        if timings:
            rows = [
                (stage, number(seconds, decimals=1))
                for stage, seconds in timings.items()
                if isinstance(seconds, int | float)
            ]
            part.add(table_block("Time of each stage", [Column("stage"), Column("time", "s", True)], rows))
        facts = [(str(k), str(v)) for k, v in {**(record.get("versions") or {}), **_seeds(record)}.items()]
        if facts:
            part.add(table_block("Versions and seeds", [Column("what"), Column("which")], facts))
    config = run.file(products.CONFIG)
    if config.is_file():
        part.add(Block("code", text=config.read_text(encoding="utf-8")))
    else:
        part.missing(products.CONFIG, "`szeek run CONFIG.toml` keeps the configuration it was given.")
    return part


def _seeds(record: dict[str, Any]) -> dict[str, Any]:
    return {k: record[k] for k in ("seed", "device", "started") if k in record}


def section_sky(run: RunFolder, made: Figures) -> Section:
    """The p map of the whole sky and of the test tile; of a given network the field of the best candidates."""
    part = Section("sky", "The sky")
    if run.p_nested is None:
        part.missing(products.PREDICTION, "`szeek predict` writes it.")
        return part
    seen = np.isfinite(run.p_nested)
    nside = healpy.npix2nside(run.p_nested.size)
    tile, outlined = run.test_tile, run.tile_nside == TILE_NSIDE and not run.given_model
    part.add(
        made.block(
            "sky",
            skyplots.plot_sky(run.p_nested, tile=tile if outlined else None),
            f"p over the sky (nside {nside}, {100 * seen.mean():.1f} % of it observed). Each half-degree pixel shows "
            "its largest p, so that areas of a few arcminutes stay visible; the colours are linear in p up to "
            f"{P_LINEAR:g} and logarithmic above." + (f" Red outline: {name_tile(run)}." if outlined else ""),
            "Mollweide map of the network's output p in Galactic coordinates",
            vector=False,
        )
    )
    if run.candidates is not None and seen.mean() < _SMALL_SURVEY:
        part.add(_survey_block(run, made))
    if run.given_model:
        if run.candidates is None:
            part.missing(products.CANDIDATES, "`szeek detect` writes it.")
        elif len(run.candidates) and seen.mean() * 4 * np.pi * np.degrees(1) ** 2 > LARGEST_DEG2:
            part.add(block_of_best_field(run, made))
        return part
    if not seen.reshape(12 * run.tile_nside**2, -1)[healpy.ring2nest(run.tile_nside, tile)].any():
        lon_deg, lat_deg = healpy.pix2ang(run.tile_nside, tile, lonlat=True)
        part.absent.append(f"Sky tile {tile} ({lon_deg:.1f}°, {lat_deg:+.2f}°) lies outside the footprint.")
        return part
    if run.tile_nside != TILE_NSIDE:  # the picture is of one of the 48
        return part
    if run.candidates is None:
        part.missing(products.CANDIDATES, "`szeek detect` writes it.")
        return part
    if run.clusters is None:
        part.missing(products.CLUSTERS, "The sources are shown without known clusters beside them.")
    clusters = drawn_clusters(run)
    clusters = clusters[in_counted_sky(clusters, run)]
    papers = np.isin(np.asarray(clusters["selection"]), list(figures.PAPER_TEST_TILE))
    clusters = clusters[papers] if papers.any() else clusters
    above = run.candidates[np.asarray(run.candidates["p"]) >= run.p_max]
    found = _recovered_each(above, clusters, run.radius_arcmin)
    words = name_tile(run)
    part.add(
        made.block(
            "test_tile",
            skyplots.plot_tile(run.p_nested, above, clusters, found, tile=tile, p_max=run.p_max),
            f"{words[0].upper()}{words[1:]}: p, the sources above {run.p_max:g} (white circles), and the known "
            f"clusters, filled where a source lies within {run.radius_arcmin:g} arcmin. Sources here are the "
            "catalogue's, with neighbours separated where the run does so; the counts of recovery are of connected "
            "areas, as in the paper, and may differ by a few. Lambert's equal-area projection.",
            "Map of p in one sky tile with sources and known clusters",
            vector=False,
        )
    )
    return part


#: Share of the sky below which a survey is shown by itself.
_SMALL_SURVEY = 0.1


def _survey_block(run: RunFolder, made: Figures) -> Block:
    """All of a small survey."""
    assert run.p_nested is not None and run.candidates is not None
    above = run.candidates[np.asarray(run.candidates["p"]) >= run.p_max]
    clusters = drawn_clusters(run)
    if run.maps is not None:
        lon_deg, lat_deg = (np.asarray(clusters[name], float) for name in ("lon_deg", "lat_deg"))
        clusters = clusters[sees(run.maps, unit_vectors(lon_deg, lat_deg).reshape(-1, 3))]
    found = _recovered_each(above, clusters, run.radius_arcmin)
    return made.block(
        "survey",
        skyplots.plot_tile(run.p_nested, above, clusters, found, tile=None, p_max=run.p_max),
        f"The survey: p, the sources above {run.p_max:g} (white circles), and the known clusters, filled where a "
        f"source lies within {run.radius_arcmin:g} arcmin. Lambert's equal-area projection.",
        "Map of p over the survey with sources and known clusters",
        vector=False,
    )


def section_training(run: RunFolder, made: Figures) -> Section:
    """The network, its training curve, and the normalisation of its input."""
    part = Section("training", "The network" if run.given_model else "Training")
    card = run.json(products.MODEL_CARD)
    if not card:
        part.missing(products.MODEL_CARD, "`szeek train` writes it.")
        return part
    facts = {k: v for k, v in card.items() if not isinstance(v, dict) and k != "curve"}
    facts |= {f"network, {k}": v for k, v in (card.get("network") or {}).items()}
    rows = [
        (k.replace("_", " "), ", ".join(map(str, v)) if isinstance(v, list) else str(v)) for k, v in facts.items()
    ]
    part.add(table_block("The network", [Column("what"), Column("which")], rows))
    curve = card.get("curve") or []
    if run.folds:
        part.add(_folds_table(run))
    if curve:
        part.add(
            made.block(
                "training",
                figures.plot_training(curve),
                "Loss of the training and validation patches after each epoch"
                + (", of the network of fold 0" if run.folds else "")
                + ". The weights kept are those of the best validation loss.",
                "Training and validation loss against epoch",
            )
        )
    else:
        part.missing(f"the training curve in {products.MODEL_CARD}", "`szeek train` records it.")
    if run.maps is None:
        part.missing("the frequency maps (maps/)", "What the network sees of them is not shown.")
    elif card.get("normaliser"):
        normaliser = Normaliser.from_dict(card["normaliser"])
        if normaliser.theta500_arcmin == run.maps.theta500_arcmin:
            part.add(_input_block(run.maps, normaliser, made))
    return part


def _folds_table(run: RunFolder) -> Block:
    """Tiles and validation loss of each fold's network."""
    rows = []
    for fold in range(run.folds):
        card = run.json(f"fold-{fold}/{products.MODEL_CARD}")
        tiles = ((card.get("config") or {}).get("split") or {}).get("test_tiles", ())
        losses = [float(epoch["valid_loss"]) for epoch in card.get("curve") or ()]
        best = (number(int(np.argmin(losses))), number(min(losses), 4)) if losses else (number(None), number(None))
        rows.append((number(fold), number(len(tiles)), *best, Cell(", ".join(map(str, tiles)))))
    columns = [Column(name, "", True) for name in ("fold", "tiles kept out", "best epoch", "validation loss")]
    return table_block("The networks, one a fold", [*columns, Column("which tiles")], rows)


def _input_block(maps: SkyMaps | MapSet, normaliser: Normaliser, made: Figures) -> Block:
    """Histograms of the network's input."""
    titles = [f"{band.name} GHz" if band.name.isdigit() else band.name for band in maps.bands]
    words = (
        "each band minus the mean, over the sigma, of a Gaussian fitted to the left side of its histogram, up to its "
        "mode (the paper's Fig. 2)"
    )
    whitened = normaliser.kind == "local-whitened"
    if whitened:
        titles = [f"component {k + 1}" for k in range(maps.n_band)]
        cell_deg = float(healpy.nside2resol(normaliser.background_nside, arcmin=True)) / 60
        words = (
            f"the bands minus their median within {cell_deg:.1f}°, rotated so that they are uncorrelated with unit "
            "variance over the quieter half of the sky, then asinh"
        )
    sizes = normaliser.theta500_arcmin if maps.snr is not None else ()
    if sizes:
        titles += [f"S/N, $\\theta_{{500}}$ = {size:g}′" for size in sizes]
        words += "; and asinh of the matched filter's S/N maps for clusters of several sizes"
    return made.block(
        "network_input",
        figures.plot_input(
            sample_input(maps, normaliser), titles, asinh=[whitened] * maps.n_band + [True] * len(sizes)
        ),
        f"What the network sees: {words}. Dashed: pure Gaussian noise of unit variance; the tails "
        "beyond it are dust, sources and clusters.",
        "Histograms of the network's input channels",
        wide=True,
    )


def sample_input(maps: SkyMaps | MapSet, normaliser: Normaliser) -> NDArray[np.float32]:
    """The network's input at about a million pixels all over the footprint: (n, n_band + n_size) float32.

    The bands alone where the maps come without the S/N maps that the network is used to; without further maps.
    """
    sizes = normaliser.theta500_arcmin if maps.snr is not None else ()
    normaliser = replace(normaliser, further=())
    if isinstance(maps, MapSet):
        vectors, values = draw_seen(maps, 300_000)
        if normaliser.background_nside:
            background = local_background(maps, normaliser.background_nside)
            values = values - background[healpy.vec2pix(normaliser.background_nside, *vectors.T)]
        if maps.snr is not None:
            values = np.concatenate([values, maps.snr[healpy.vec2pix(maps.nside, *vectors.T)]], axis=1)
        seen = replace(normaliser, theta500_arcmin=sizes)(values[None, None]).permute(0, 2, 3, 1)[0, 0]
        shown = [*range(maps.n_band), *range(maps.n_band + len(normaliser.groups), seen.shape[1])]
        return np.asarray(seen[:, shown])
    step = max(1, len(maps.footprint) // 1_000_000)
    pixels = step * np.flatnonzero(maps.footprint[::step])
    if normaliser.background_nside == 0:
        values = np.asarray(maps.values[pixels], np.float32)
        ipix = pixels
    else:  # whole cells, for their median
        nside = normaliser.background_nside
        per_cell = (maps.nside // nside) ** 2
        cells = np.unique(healpy.ang2pix(nside, *healpy.pix2ang(maps.nside, pixels), nest=True))
        cells = np.random.default_rng(0).permutation(cells)[: max(1, 1_000_000 // per_cell)]
        ipix = healpy.nest2ring(maps.nside, cells[:, None] * per_cell + np.arange(per_cell))
        ipix = ipix[maps.footprint[ipix].all(axis=1)]
        values = np.asarray(maps.values[ipix], np.float32)
        values = (values - np.median(values, axis=1, keepdims=True)).reshape(-1, maps.n_band)
    if sizes and maps.snr is not None:
        values = np.concatenate([values, maps.snr[ipix.ravel()]], axis=1)
    normaliser = replace(normaliser, theta500_arcmin=sizes)
    return np.asarray(normaliser(values[None, None]).permute(0, 2, 3, 1)[0, 0])


def _region(recovery: Table, tile: int) -> Table:
    """The rows of one tile, or of all tiles together (-1)."""
    return recovery[np.asarray(recovery["tile"]) == tile]


def _at_threshold(recovery: Table, p_max: float) -> Table:
    """The rows of the threshold nearest to p_max."""
    values = np.asarray(recovery["p_max"], float)
    return recovery[values == values[np.argmin(np.abs(values - p_max))]] if len(recovery) else recovery


def _known_words(recovery: Table) -> str:
    """The catalogues whose clusters count as known, as a caption names them."""
    names = [catalogue_look(name)[2] for name in recovery.meta.get("known", ())]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0] if names else "the catalogues"


def section_recovery(run: RunFolder, made: Figures) -> Section:
    """Known clusters recovered against the threshold, beside the paper's values."""
    part = Section("recovery", "Known clusters recovered")
    recovery = run.table(products.RECOVERY)
    if recovery is not None and len(recovery):
        _add_recovery(run, recovery, part, made)
    else:
        part.missing(products.RECOVERY, "`szeek assess` writes it.")
    measured = run.facts("measure")
    if run.given_model and measured.get("n_known"):
        words = (
            f"{measured['n_known_found']} of the {measured['n_known']} known clusters in these maps have a candidate "
            f"within {run.radius_arcmin:g} arcmin."
        )
        part.add(Block("text", text=words))
    check = measured.get("check")
    if check:
        part.warnings += DetectionCheck(**check).warn()
        part.add(check_block(DetectionCheck(**check)))
    return part


def _add_recovery(run: RunFolder, recovery: Table, part: Section, made: Figures) -> None:
    """Figure and tables of recovery.ecsv: of the test tile, or of all maps for a network trained elsewhere."""
    threshold, tile = run.p_max, run.test_tile
    shown, one_tile = _region(recovery, ALL_TILES if run.given_model else tile), not run.given_model
    unseen = run.folds or tile in run.held_out.get("test", ())
    where = f"Sky tile {tile}" + (", held out of the training" if unseen else "")
    if run.given_model:
        where = "All of these maps"
    elif len(shown) == 0:
        shown, one_tile, where = _region(recovery, ALL_TILES), False, "All tiles that were assessed"
        part.absent.append(f"{products.RECOVERY} has no row of tile {tile}; all assessed tiles are shown together.")
    papers_tile = one_tile and tile == TEST_TILE
    part.add(
        made.block(
            "recovery",
            figures.plot_recovery(shown, p_max=threshold, show_paper=papers_tile),
            f"{where}. Left: fraction of each catalogue with a source within {run.radius_arcmin:g} arcmin, one to "
            "one, against the threshold on p, with binomial errors; thin dashes, the fraction of random positions "
            f"that match. Right: all sources, and those in none of {_known_words(recovery)}."
            + (" Stars: Bonjean (2020), Fig. 3, on the real sky at p > 0.1." if papers_tile else ""),
            "Recovered fraction and number of sources against the threshold on p",
        )
    )
    for region, title, paper in (
        (shown, where, figures.PAPER_TEST_TILE if papers_tile else {}),
        (_region(recovery, ALL_TILES) if one_tile else recovery[:0], "All tiles together", figures.PAPER_FULL_SKY),
    ):
        rows = _at_threshold(region, threshold)
        if len(rows):
            part.add(_recovery_table(rows, f"{title}, p > {float(rows['p_max'][0]):g}", paper))
    if run.given_model:
        return
    part.add(
        table_block(
            "Published figures for the test tile of the real sky, p > 0.1",
            [Column("who"), Column("Planck_z recovered"), Column("detections"), Column("matched to anything known")],
            PUBLISHED,
        )
    )
    if run.held_out:
        words = (
            "All tiles together include the sky that the network was trained on: there, recovery is partly memory. "
            f"What it does on sky it has not seen is measured in tiles {_held_out_words(run)}."
        )
        part.add(Block("text", text=words))
    if run.is_simulated:
        words = (
            "This run's sky is simulated: its numbers and the published ones are for different skies, alike in "
            "noise, beams and selection. Compare their size, not their last digit."
        )
        part.add(Block("text", text=words))


def _held_out_words(run: RunFolder) -> str:
    return ", ".join(f"{tile} ({use})" for use, tiles in run.held_out.items() for tile in tiles)


def _recovery_table(rows: Table, caption: str, paper: Mapping[str, float]) -> Block:
    heads = ["clusters", "recovered", "this run", "by chance", "Bonjean (2020), p > 0.1"]
    heads += ["sources", "in no catalogue"]
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
    assessment = run.json(products.ASSESSMENT)
    rows = assessment.get("completeness_purity")
    if not rows:
        lacking = f"completeness and purity ({products.ASSESSMENT})"
        part.missing(lacking, "They need a simulated sky, whose truth is known.")
        return part
    table = Table([{key: np.nan if value is None else value for key, value in row.items()} for row in rows])
    part.add(
        made.block(
            "completeness",
            figures.plot_completeness(table),
            "Completeness of the true haloes and of the mock Planck_z against the purity of the detections, pooled "
            f"over {_tiles_words(run, assessment.get('held_out_tiles'))}, one-to-one, the chance rate taken out, "
            "binomial errors. Open symbols: the run's own threshold.",
            "Completeness against purity",
        )
    )
    heads = ["purity asked", "threshold on p", "detections", "purity", "clusters", "found", "completeness"]
    heads += ["between tiles", "median offset [arcmin]"]
    cells = [
        (
            Cell(page_text(figures.SAMPLES.get(row["sample"], (row["sample"],))[0])),
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
    part.add(table_block("Completeness at given purity, and at the run's threshold", columns, cells))
    _add_reliability(run, part, made)
    return part


def _add_reliability(run: RunFolder, part: Section, made: Figures) -> None:
    """The calibration's reliability diagram."""
    found = run.facts("calibrate")
    if not found.get("reliability"):
        part.missing("a calibration of p", f"It needs more sources. {found.get('refused', '')}".strip())
        return
    caption = (
        f"How well PURITY is calibrated: the {found['n_sources']} sources of {_tiles_words(run, found.get('tiles'))} "
        "in bins of predicted purity, each predicted from other tiles than its own, and the fraction of them that "
        f"are haloes, with binomial errors. Mean difference {100 * found['expected_calibration_error']:.1f} %."
    )
    figure = figures.plot_reliability(Table(rows=found["reliability"]))
    part.add(made.block("reliability", figure, caption, "Observed against predicted purity"))


def _tiles_words(run: RunFolder, tiles: list[int] | None) -> str:
    if run.given_model:
        return f"sky tiles {', '.join(map(str, tiles))}" if tiles else counted_sky(run)
    if not tiles:
        return "held-out tiles"
    return "all tiles, each held out once" if len(tiles) == 48 else f"the held-out tiles {', '.join(map(str, tiles))}"


def section_clusters(run: RunFolder, made: Figures) -> Section:
    """The known clusters."""
    part = Section("clusters", "Known clusters")
    clusters = known_clusters(run)
    if clusters is None:
        part.missing(products.CLUSTERS, "`szeek assess` compares with the catalogues of the configuration.")
        return part
    selections = np.asarray(clusters["selection"])
    rows = []
    for name in dict.fromkeys(selections.tolist()):
        chosen = clusters[selections == name]
        inside = in_counted_sky(chosen, run)
        rows.append((catalogue_look(name)[2] or "none of these", number(len(chosen)), number(int(inside.sum()))))
    heads = ["clusters", f"in {counted_sky(run).removeprefix('sky ')}"]
    head = [Column("catalogue"), *(Column(name, "", True) for name in heads)]
    part.add(table_block("Catalogues", head, rows))
    if (np.isfinite(clusters["z"]) & np.isfinite(clusters["m500_1e14msun"])).any():
        part.add(
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
    part.add(table_block("Sources of the method and the data", [Column("for"), Column("cite")], rows))
    part.blocks += [Block("text", text="As BibTeX:"), Block("code", text=_BIBTEX % __version__)]
    return part


_SECTIONS: tuple[Callable[[RunFolder, Figures], Section], ...] = (
    section_sky,
    section_recovery,
    section_reliability,
    section_selection,
    section_paper,
    section_kinds,
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
    first = [section_truth(run, made)] if shows_truth(run) else []
    parts = [*first, *(section(run, made) for section in _SECTIONS)]
    # what belongs to the sky of a training is not looked for where the network was given
    own = {"reliability", "paper", "fields"} if run.given_model else set()
    return [part for part in parts if part.blocks or part.id not in own]
