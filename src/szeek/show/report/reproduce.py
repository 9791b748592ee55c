"""`szeek reproduce`: Bonjean (2020) once more, figure by figure and number by number, from one run.

What cannot be drawn from a run is said on the page, with the command or the training that it needs.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tomli_w
from astropy.table import Table
from numpy.typing import NDArray

from szeek.files import write_table, write_text
from szeek.find.predict import read_whole_prediction
from szeek.inputs.catalogues import read_catalogue, separation_arcmin
from szeek.learn.normalise import fit_normaliser
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.pipeline.stack import COMPANIONS, stack_run
from szeek.show.figures import curves as figures
from szeek.show.figures import stackfigures
from szeek.show.figures.spectrum import instrument_of
from szeek.show.figures.stackfigures import LOOKS, Panel
from szeek.show.figures.style import catalogue_look
from szeek.show.report.page import render_report
from szeek.show.report.papernumbers import (
    P_MAX,
    all_entries,
    key_numbers,
    lacking_maps,
    section_numbers,
)
from szeek.show.report.parts import Block, Cell, Column, Figures, Section, number, table_block
from szeek.show.report.sections import sample_input
from szeek.sky.projection import sample_field
from szeek.sky.tiles import TEST_TILE
from szeek.stack.bridges import REGIONS, find_pairs, measure_bridges
from szeek.stack.cutting import way_to_get
from szeek.stack.products import StackOptions

#: The models of Fig. 8: label -> selections that they were trained on; and the folder of models/ that each is in.
PAPER_MODELS: Mapping[str, tuple[str, ...]] = {
    "Planck_z": ("planck_z",),
    "+ MCXCwP": ("planck_z", "mcxcwp"),
    "+ RM50": ("planck_z", "mcxcwp", "rm50"),
    "+ RM30": ("planck_z", "mcxcwp", "rm30"),
}
MODEL_FOLDERS: Mapping[str, str] = {"Planck_z": "planck_z", "+ MCXCwP": "mcxcwp", "+ RM50": "rm50", "+ RM30": "rm30"}
_APART_DEG = 4.0  # fields of Fig. 8 do not overlap
_Y_COLUMN = "$y$ map"


def reproduce_run(
    run_folder: str | os.PathLike[str],
    *,
    models: Mapping[str, str | os.PathLike[str]] | None = None,
    regions: str | os.PathLike[str] | Table | None = None,
    stack_options: StackOptions = StackOptions(),
    progress: Progress | None = None,
) -> Path:
    """Write reproduce.html, reproduce.ecsv and the figures (reproduce/, PDF and PNG) of a run.

    Stacks are made first where the run has none (:func:`szeek.pipeline.stack.stack_run`). What cannot be made is
    said, with what it needs.

    Source: Bonjean (2020), Table 1, Figs. 1 to 8, Sects. 4.1 to 4.3.

    Parameters
    ----------
    run_folder : path
    models : mapping of label to path, optional
        More p maps for Fig. 8 (prediction.fits of runs trained on other selections; :data:`PAPER_MODELS`). Besides,
        RUN/models/NAME/prediction.fits are taken; the page says which of the paper's are missing, and
        RUN/models/NAME.toml is written for each, a configuration that `szeek run` makes it from.
    regions : path or Table, optional
        Names and positions to show in Fig. 8, read as any catalogue, instead of the paper's four or, on a simulated
        sky, of its brightest close pairs of clusters.
    stack_options : StackOptions
        Of the stacks, where they are made.
    progress : Progress, optional
        Called as progress(stage, done, total, detail).

    Returns
    -------
    Path
        RUN/reproduce.html, one file that loads nothing.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    """
    run = RunFolder(run_folder)
    needed = all((run.path / name).exists() for name in (products.CANDIDATES, products.CLUSTERS, products.MAPS))
    if needed and not run.has(products.STACKS_RECORD):
        stack_run(run.path, stack_options, progress=progress)
    entries = all_entries(run)
    made = Figures(run.path / products.REPRODUCTION)
    parts: list[Section] = []
    steps = (_figure_1, _figure_2, _figure_3, _figure_4, _figure_5, _figure_6, _figure_7)
    for k, draw in enumerate(steps):
        if progress is not None:
            progress("figures", k, 8, f"Fig. {k + 1}")
        parts.append(draw(run, made))
    if progress is not None:
        progress("figures", 7, 8, "Fig. 8")
    listed = read_catalogue(regions) if isinstance(regions, str | os.PathLike) else regions
    parts.append(_figure_8(run, made, dict(models or {}), listed))
    numbers = section_numbers(entries)
    if run.is_simulated:
        words = (
            "This run's sky is simulated: alike in noise, beams and selection, but another sky, with other clusters. "
            "A difference below says how this network on this sky departs from the paper's on the real one."
        )
        numbers.blocks.insert(0, Block("text", text=words))
    html = render_report(
        f"Bonjean (2020) from {run.title}",
        "Table 1, the numbers of Sects. 4.1 to 4.3 and Figs. 1 to 8 of the paper, from this run, beside the paper's.",
        key_numbers(entries),
        [numbers, *parts],
    )
    target = run.file(products.REPRODUCTION_PAGE)
    write_table(Table(rows=[vars(entry) for entry in entries]), run.file(products.REPRODUCTION_TABLE))
    write_text(html, target)
    return target


# --- figures ---------------------------------------------------------------------------------------------


def _figure_1(run: RunFolder, made: Figures) -> Section:
    part = Section("figure1", "Fig. 1: the clusters")
    if run.clusters is None or "selection" not in run.clusters.colnames:
        part.missing(f"{products.CLUSTERS} with the selections", "`szeek run` writes it.")
        return part
    named = run.clusters[np.asarray(run.clusters["selection"]) != ""]
    caption = "Mass and redshift of the known clusters that have both, by selection."
    if not (np.isfinite(named["z"]) & np.isfinite(named["m500_1e14msun"])).any():
        part.absent.append("No known cluster of this run has both redshift and mass.")
        return part
    alt = "Mass against redshift of the known clusters"
    part.add(made.block("figure1", figures.plot_mass_redshift(named), caption, alt))
    return part


def _figure_2(run: RunFolder, made: Figures) -> Section:
    part = Section("figure2", "Fig. 2: the normalisation")
    if run.maps is None:
        part.missing("the frequency maps (maps/)", "`szeek run` keeps them.")
        return part
    fitted = fit_normaliser(run.maps, "left-gaussian")
    titles = [f"{band.name} GHz" if band.name.isdigit() else band.name for band in run.maps.bands]
    figure = figures.plot_input(sample_input(run.maps, fitted), titles)
    caption = (
        "Pixels of each band after the paper's normalisation: minus the mean, over the sigma, of a Gaussian (dashed) "
        "fitted to the left side of the histogram, up to its mode."
    )
    part.add(made.block("figure2", figure, caption, "Histograms of the six bands", wide=True))
    return part


def _figure_3(run: RunFolder, made: Figures) -> Section:
    part = Section("figure3", "Fig. 3: recovery in the test tile")
    recovery = run.table(products.RECOVERY)
    if recovery is not None:
        known = np.isin(np.asarray(recovery["catalogue"]), list(figures.PAPER_TEST_TILE))
        recovery = recovery[known & (np.asarray(recovery["tile"]) == TEST_TILE)]
    if recovery is None or not len(recovery):
        part.missing(f"{products.RECOVERY} with the test tile", "`szeek assess` writes it.")
        return part
    caption = (
        "Test tile. Left: recovered fraction of each catalogue against the threshold, binomial errors; dashed: "
        "random positions. Right: all sources, and those in none of the catalogues. Stars: the paper at 0.1."
    )
    figure = figures.plot_recovery(recovery, p_max=P_MAX)
    part.add(made.block("figure3", figure, caption, "Recovery against the threshold", wide=True))
    return part


def _panels(run: RunFolder, sample: str, kind: str) -> dict[str, Panel]:
    """Panels of a sample's stacks by map, see :func:`szeek.show.figures.stackfigures.read_panels`."""
    record = run.json(products.STACKS_RECORD)
    return stackfigures.read_panels(run.path / "stacks" / sample / "stacks.fits", record, kind)


def _figure_4(run: RunFolder, made: Figures) -> Section:
    part = Section("figure4", "Fig. 4: stacks of the test tile's unknown sources")
    kinds = (("sources", "mean"), ("matched nulls", "null"), ("difference", "difference"))
    rows = [(label, _panels(run, "test_tile", kind)) for label, kind in kinds]
    names = [name for name in rows[0][1] if name.isdigit() or name == "y"]
    if not names:
        part.missing("stacks of the test tile (stacks/test_tile)", "`szeek stack` makes them.")
        return part
    n = _n_sources(run, "test_tile")
    caption = (
        f"Mean of the six bands and of the y map at the {n} sources of the test tile that are in none of the three "
        "catalogues (the paper: 218), 3.4° on a side, turned at random, the mean of 60′ to 100′ taken off. Below: "
        "random positions of the same latitude and dust level, which show how much of the dust signal is selection; "
        "and the difference, with the significance of its centre. Discs: beams."
    )
    figure = stackfigures.plot_stack_rows([(label, [panels[name] for name in names]) for label, panels in rows])
    alt = "Stacked bands and y map of sources, nulls, and their difference"
    part.add(made.block("figure4", figure, caption, alt, vector=False, wide=True))
    _add_spectrum(run, part, made, "test_tile")
    return part


def _say_cuts(run: RunFolder, part: Section) -> None:
    """What was cut out of the stacked maps, and what should have been."""
    record = run.json(products.STACKS_RECORD)
    for name, words in (record.get("cut_out") or {}).items():
        part.add(Block("text", text=f"Cut out of {name} before stacking: {', '.join(words)}."))
    for name, datasets in (record.get("not_cut_out") or {}).items():
        part.absent += [
            f"Not in this run: {dataset} sources cut out of {name}, as in the paper: {command}."
            for dataset, command in datasets.items()
        ]


def _add_spectrum(run: RunFolder, part: Section, made: Figures, sample: str) -> None:
    file = run.path / "stacks" / sample / "spectrum.ecsv"
    if not file.is_file():
        return
    instrument, spectrum = instrument_of(run), Table.read(file)
    if instrument is None or "tsz" not in spectrum.colnames:
        return
    fit = spectrum.meta["fit"]
    words = ", ".join(f"{name} {fit[name]['sigma']:.1f} sigma" for name in fit)
    caption = (
        f"Flux of the same {spectrum.meta['n_source']} sources in every band (disc of 10′ less 15′ to 25′), the "
        f"nulls' taken off, and the components fitted to it: {words}. Y = ({fit['tsz']['amplitude'] * 1e4:.2f} ± "
        f"{fit['tsz']['error'] * 1e4:.2f}) × 10⁻⁴ arcmin²; chi² = {spectrum.meta['chi2']:.1f} for "
        f"{spectrum.meta['n_freedom']} degrees of freedom."
    )
    figure = stackfigures.plot_spectrum(spectrum, instrument)
    part.add(made.block(f"spectrum_{sample}", figure, caption, "Spectrum of the stack with its components"))


def _figure_5(run: RunFolder, made: Figures) -> Section:
    part = Section("figure5", "Fig. 5: stacks of the whole sky's unknown sources")
    panels = _panels(run, "unmatched", "difference")
    if not panels:
        part.missing("stacks of the unmatched sources (stacks/unmatched)", "`szeek stack` makes them.")
        return part
    lacking = lacking_maps(run)
    bands = [panel for name, panel in panels.items() if name not in COMPANIONS]
    others = [
        panels.get(name, Panel(name, None, remark=f"not in this run\nneeds data set\n{dataset}"))
        for name, dataset in COMPANIONS.items()
    ]
    n_made = len(bands) + sum(panel.image is not None for panel in others)
    caption = (
        f"Mean of {n_made} of the paper's 16 maps at the {_n_sources(run, 'unmatched')} sources in none of the three "
        "catalogues (the paper: 18,415), less that at matched nulls, with the significance of the centre; "
        "3.4° on a side, turned at random. Discs: beams."
    )
    alt = "Stacks in sixteen maps"
    figure = stackfigures.plot_stacks([*bands, *others])
    part.add(made.block("figure5", figure, caption, alt, vector=False, wide=True))
    _say_cuts(run, part)
    part.absent += [f"Not in this run: the stack of {LOOKS[name][0]}: {why}." for name, why in lacking.items()]
    _add_spectrum(run, part, made, "unmatched")
    return part


def _n_sources(run: RunFolder, sample: str) -> int:
    return int(run.json(products.STACKS_RECORD).get("samples", {}).get(sample, 0))


def _figure_6(run: RunFolder, made: Figures) -> Section:
    part = Section("figure6", "Fig. 6: X-ray profiles")
    file = run.path / "stacks" / "unmatched" / "profiles.ecsv"
    profiles = Table.read(file) if file.is_file() else None
    if profiles is None or "xray" not in set(profiles["map"]):
        need = lacking_maps(run).get("xray", "`szeek stack` makes them.")
        part.missing("X-ray profiles of the unmatched sources (stacks/unmatched)", need)
        if profiles is None or "y" not in set(profiles["map"]):
            return part
    shown = "xray" if "xray" in set(profiles["map"]) else "y"
    _, factor, unit = LOOKS[shown]
    beam = stackfigures.seen_fwhm_arcmin(run.json(products.STACKS_RECORD), shown)
    scaling = run.path / "stacks" / "unmatched" / "scaling.ecsv"
    labels: list[str] = []
    if scaling.is_file():
        table = Table.read(scaling)
        bins = table[np.char.startswith(np.asarray(table["sample"]).astype(str), "p bin")]
        labels = [f"${row['p_low']:.2f} < p < {row['p_high']:.2f}$" for row in bins]
    rows = profiles[(profiles["map"] == shown) & (profiles["sample"] != "all")]
    figure = stackfigures.plot_profiles(rows, factor=factor, unit=unit, fwhm_arcmin=float(beam), labels=labels)
    caption = (
        f"Radial profiles of the stack ({LOOKS[shown][0].replace('$', '')}) in five bins of p of equal numbers of "
        "sources, background removed source by source, bootstrap errors; dashed: the point-spread function and the "
        "map's pixels, scaled to the highest bin; grey: matched nulls."
    )
    part.add(made.block("figure6", figure, caption, "Radial profiles in bins of p"))
    return part


def _figure_7(run: RunFolder, made: Figures) -> Section:
    part = Section("figure7", "Fig. 7: flux against p")
    file = run.path / "stacks" / "unmatched" / "scaling.ecsv"
    if not file.is_file():
        part.missing("fluxes of the unmatched sources (stacks/unmatched)", "`szeek stack` makes them, with a y map.")
        return part
    scaling = Table.read(file)
    figure = stackfigures.plot_flux_against_p(scaling)
    caption = (
        "Left: mean (filled) and median (open) aperture flux in the y map, disc of 10′ less 15′ to 25′, in five "
        "bins of p, bootstrap errors, and the scaling law fitted to ten or fewer bins. Corrected for Eddington bias: "
        f"{scaling.meta.get('correction', 'none')}. Right: the same flux of catalogued clusters and of matched nulls."
    )
    part.add(made.block("figure7", figure, caption, "Aperture flux against p"))
    return part


def _figure_8(
    run: RunFolder, made: Figures, models: dict[str, str | os.PathLike[str]], regions: Table | None
) -> Section:
    part = Section("figure8", "Fig. 8: superclusters")
    if run.p_ring is None:
        part.missing(products.PREDICTION, "`szeek predict` writes it.")
        return part
    titles = {folder: label for label, folder in MODEL_FOLDERS.items()}
    for file in sorted((run.path / "models").glob(f"*/{products.PREDICTION}")):
        models.setdefault(titles.get(file.parent.name, file.parent.name), file)
    p_ring = np.nan_to_num(run.p_ring)[:, None]
    known = _with_redshift(run.clusters)
    pairs = _close_pairs(known)
    if regions is not None:
        names = np.asarray(regions["name"], str)
        rows = [
            (str(name), float(row["lon_deg"]), float(row["lat_deg"]))
            for name, row in zip(names, regions, strict=True)
        ]
    elif run.is_simulated:
        rows = [
            (f"pair {k + 1}\n$z$ = {pair['z']:.2f}", float(pair["lon_deg"]), float(pair["lat_deg"]))
            for k, pair in enumerate(pairs)
        ]
        rows += _brightest(known, 4 - len(rows))
        part.absent.append(
            "Not in this run: Shapley, A399-A401, Coma and Leo, which a simulated sky does not have. Its brightest "
            f"close pairs of clusters are shown instead; for the paper's regions run on the real sky "
            f"({way_to_get('planck-pr3')})."
        )
    else:
        rows = [(region.name, region.lon_deg, region.lat_deg) for region in REGIONS]
    if not rows:
        part.absent.append("Not in this run: a known cluster with a redshift to show.")
        return part
    columns = {"this run": _cut(p_ring, rows)}
    for label, path in models.items():
        values = np.nan_to_num(read_whole_prediction(path))
        columns[label] = _cut(values[:, None], rows)
    if run.y_ring is not None:
        columns[_Y_COLUMN] = _cut(np.nan_to_num(run.y_ring)[:, None], rows)
    else:
        part.missing("a Compton-y map", f"{way_to_get('planck-y')}.")
    selections = tuple((run.stated.get("labels") or {}).get("selections", ()))
    for label, wanted in PAPER_MODELS.items():
        if label not in models and set(wanted) != set(selections):
            part.absent.append(
                f"Not in this run: the model '{label}', trained on {', '.join(wanted)}. {_way_to_train(run, label)}"
            )
    trained = ", ".join(catalogue_look(name)[2] for name in selections) or "clusters"
    caption = (
        f"p of the network of this run (trained on {trained}) beside the y map: 120 × 120 pixels, 3.4° on a side, "
        "Galactic north up, longitude grows to the left. Crosses: known clusters with a redshift."
    )
    figure = stackfigures.plot_regions(rows, columns, known, y_column=_Y_COLUMN)
    part.add(made.block("figure8", figure, caption, "p and y around superclusters", vector=False, wide=True))
    if known is not None and len(pairs):
        maps = {"p": p_ring} if run.y_ring is None else {"p": p_ring, "y": np.nan_to_num(run.y_ring)[:, None]}
        part.add(_bridge_table(maps, known, pairs))
    return part


def _way_to_train(run: RunFolder, label: str) -> str:
    """The command that trains a model of Fig. 8 on this run's sky, from a configuration that is written for it."""
    folder = run.path / "models" / MODEL_FOLDERS[label]
    own = run.file(products.CONFIG)
    if not own.is_file():
        return f"Train it on this sky by `szeek run`, and put its {products.PREDICTION} into {folder}."
    values = tomllib.loads(own.read_text())
    labels = {key: value for key, value in values.get("labels", {}).items() if key != "targets"}
    values["labels"] = {**labels, "selections": list(PAPER_MODELS[label])}
    folder.parent.mkdir(exist_ok=True)
    toml = folder.with_suffix(".toml")
    toml.write_text(tomli_w.dumps(values))
    return f"`szeek run {toml} --out {folder}` trains it, and `szeek reproduce {run.path}` then shows it."


def _brightest(known: Table | None, n: int) -> list[tuple[str, float, float]]:
    """Regions about the brightest clusters, where a sky has too few close pairs."""
    if known is None or n <= 0:
        return []
    order = np.argsort(-np.nan_to_num(np.asarray(known["y500_arcmin2"], float)), kind="stable")[:n]
    return [
        (f"cluster {k + 1}\n$z$ = {row['z']:.2f}", float(row["lon_deg"]), float(row["lat_deg"]))
        for k, row in enumerate(known[order])
    ]


def _bridge_table(maps: Mapping[str, NDArray[np.float32]], known: Table, pairs: Table) -> Block:
    measured = {name: measure_bridges(values, known, pairs) for name, values in maps.items()}
    columns = [Column("pair"), Column("z", "", True), Column("separation", "arcmin", True)]
    for name in measured:
        columns += [Column(f"excess of {name}", "", True), Column("controls", "", True), Column("sigma", "", True)]
    rows = []
    for k, pair in enumerate(pairs):
        names = f"{known['name'][pair['first']]}, {known['name'][pair['second']]}"
        cells: list[Cell | str] = [names, number(pair["z"], 2), number(pair["separation_arcmin"], 0)]
        for table in measured.values():
            cells += [number(table["excess"][k], 2), number(table["n_control"][k]), number(table["sigma"][k], 2)]
        rows.append(cells)
    caption = (
        "Signal between the clusters of each pair over what their own round light makes, against control pairs: as "
        "close on the sky, at different redshifts, so that discs cannot fake a bridge"
    )
    return table_block(caption, columns, rows)


def _cut(values: NDArray[np.float32], rows: list[tuple[str, float, float]]) -> dict[str, NDArray[np.float32]]:
    contiguous = np.ascontiguousarray(values, np.float32)
    return {name: sample_field(contiguous, lon, lat, 0.0, 120, 120)[..., 0] for name, lon, lat in rows}


def _with_redshift(clusters: Table | None) -> Table | None:
    """SZ and X-ray clusters with a redshift, what Fig. 8 marks."""
    if clusters is None:
        return None
    brighter = np.isin(np.asarray(clusters["survey"]), ("PSZ2", "MCXC"))
    return clusters[brighter & np.isfinite(np.asarray(clusters["z"], float))]


def _close_pairs(clusters: Table | None, n: int = 4) -> Table:
    """The pairs of clusters at one redshift, 20 to 90 arcmin apart, whose fainter member is brightest; no field
    twice."""
    if clusters is None or len(clusters) < 2:
        return Table({"first": np.empty(0, int)})
    pairs = find_pairs(clusters, separation_arcmin=(20.0, 90.0))
    flux = np.nan_to_num(np.asarray(clusters["y500_arcmin2"], float))
    order = np.argsort(-np.minimum(flux[pairs["first"]], flux[pairs["second"]]), kind="stable")
    kept: list[int] = []
    for k in order.tolist():
        if not kept or separation_arcmin(pairs[[k]], pairs[kept])[0] > 60 * _APART_DEG:
            kept.append(k)
        if len(kept) == n:
            break
    return pairs[kept]
