"""The numbers of Bonjean (2020) beside those of a run: Table 1 and Sects. 4.1 to 4.3.

Each gets a status: *agrees* (within 2 sigma), *differs by n sigma*, or *needs data that you lack*, with the command
that gets them. The errors are binomial for fractions; counts get the scatter between the sky's 48 tiles on a
simulated sky, which is another draw of the sky, and Poisson errors on the real one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.assess.recovery import ALL_TILES, wilson_interval
from szeek.inputs.catalogues import read_catalogue, select_clusters, separation_arcmin
from szeek.inputs.download import locate
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.pipeline.stack import COMPANIONS
from szeek.show.figures import curves as figures
from szeek.show.figures.stackfigures import LOOKS, read_significance
from szeek.show.figures.style import catalogue_look
from szeek.show.report.parts import Cell, Column, Section, number, table_block
from szeek.sky.tiles import TEST_TILE, tile_of
from szeek.stack.cutting import way_to_get
from szeek.stack.samples import MATCH_ARCMIN, choose_samples

#: Threshold of all the paper's numbers.
P_MAX = 0.1
#: Clusters of each selection. Bonjean (2020), Table 1; of the first three in the test tile: Sect. 4.1.
PAPER_COUNTS: Mapping[str, int] = {"planck_z": 1094, "planck_no-z": 559, "mcxcwp": 1193, "rm50": 5067, "rm30": 14956}
PAPER_TILE_COUNTS: Mapping[str, int] = {"planck_z": 40, "planck_no-z": 18, "mcxcwp": 50}
#: Sources above 0.1 on the whole sky, those in none of the catalogues, and those of each bin of p. Sect. 4.2, 4.3.
PAPER_SOURCES, PAPER_UNMATCHED, PAPER_PER_BIN = 20204, 18415, 3683
#: Unmatched sources in other catalogues: data set -> (title, number or fraction). Sect. 4.2.
PAPER_CROSS_CHECKS: Mapping[str, tuple[str, float]] = {
    "act-2013": ("ACT (Hasselfield 2013)", 11),
    "spt-sz": ("SPT-SZ (Bleem 2015)", 98),
    "pgcc": ("Planck cold clumps (PGCC)", 0.061),
    "pccs2": ("PCCS2 at 353 GHz", 0.002),
}
AGREES_SIGMA = 2.0

_NO_RECOVERY = f"{products.RECOVERY}: `szeek assess` writes it"


@dataclass(frozen=True)
class Entry:
    """A number of the paper and of the run.

    Parameters
    ----------
    where : str
        Place in the paper.
    what : str
        What is counted or measured.
    paper, value : float
        NaN where there is none.
    error : float
        Of the difference, both sides' together; NaN where unknown.
    kind : str
        'count', 'fraction' or 'sigma', for printing.
    status : str
    note : str
    """

    where: str
    what: str
    paper: float
    value: float
    error: float
    kind: str
    status: str
    note: str = ""


def all_entries(run: RunFolder) -> list[Entry]:
    """Every number of the paper with the run's."""
    return [
        *_table_1(run),
        *_recovery_entries(run),
        *_source_entries(run),
        *_cross_checks(run),
        *_stack_entries(run),
    ]


def compare(value: float, error: float, paper: float) -> str:
    """The status of a number beside the paper's.

    Examples
    --------
    >>> compare(202, 20.0, 218), compare(100, 10.0, 218), compare(7.0, float("nan"), 5.0)
    ('agrees', 'differs by 11.8 sigma', 'not compared')
    """
    if not (math.isfinite(value) and math.isfinite(paper) and math.isfinite(error)):
        return "not compared"
    if value == paper:
        return "agrees"
    if error <= 0:
        return f"differs by {value - paper:+g}"
    sigma = abs(value - paper) / error
    return "agrees" if sigma < AGREES_SIGMA else f"differs by {sigma:.1f} sigma"


def compare_fractions(found: int, of: int, paper: float, paper_of: int) -> tuple[float, str]:
    """Error of the difference of two binomial fractions, and the status.

    The sides of Wilson's intervals that face each other count, so that 40 of 40 has an error.

    Examples
    --------
    >>> error, status = compare_fractions(38, 40, 1.0, 40)
    >>> round(error, 3), status
    (0.035, 'agrees')
    """
    if of == 0:
        return math.nan, "not compared"
    value, paper_found = found / of, round(paper * paper_of)
    low, high = (float(v) for v in wilson_interval(found, of))
    paper_low, paper_high = (float(v) for v in wilson_interval(paper_found, paper_of))
    error = (
        math.hypot(high - value, paper - paper_low) if value < paper else math.hypot(value - low, paper_high - paper)
    )
    return error, compare(value, error, paper)


def _table_1(run: RunFolder) -> list[Entry]:
    clusters = run.clusters
    if clusters is None:
        return [_lacking("Table 1", "clusters of each catalogue", f"{products.CLUSTERS}: `szeek run` writes it")]
    tile = tile_of(np.asarray(clusters["lon_deg"], float), np.asarray(clusters["lat_deg"], float))
    entries = []
    for where, chosen, counts in (
        ("Table 1", clusters, PAPER_COUNTS),
        ("Sect. 4.1, test tile", clusters[tile == TEST_TILE], PAPER_TILE_COUNTS),
    ):
        for name, paper in counts.items():
            what = f"{catalogue_look(name)[2]} clusters"
            dataset = {"planck": "psz2", "mcxcwp": "mcxc"}.get(name.split("_")[0], "redmapper")
            try:
                n = len(select_clusters(clusters, name)) if where == "Table 1" else len(_of(chosen, clusters, name))
            except ValueError:
                entries.append(_lacking(where, what, f"the catalogue: {way_to_get(dataset)}", paper, "count"))
                continue
            error = math.sqrt(n + paper) if run.is_simulated else 0.0
            entries.append(_entry(where, what, paper, n, error, "count"))
    return entries


def _of(inside: Table, clusters: Table, name: str) -> Table:
    """Those of a selection (made of the whole sky's catalogues) that are inside a part of it."""
    rows = select_clusters(clusters, name)
    return rows[np.isin(np.asarray(rows["name"], str), np.asarray(inside["name"], str))]


def _recovery_entries(run: RunFolder) -> list[Entry]:
    recovery = run.table(products.RECOVERY)
    entries: list[Entry] = []
    for where, tile, fractions, counts in (
        ("Sect. 4.1, test tile", TEST_TILE, figures.PAPER_TEST_TILE, PAPER_TILE_COUNTS),
        ("Sect. 4.2, full sky", ALL_TILES, figures.PAPER_FULL_SKY, PAPER_COUNTS),
    ):
        for name, paper in fractions.items():
            what = f"{catalogue_look(name)[2]} recovered"
            row = _recovery_row(recovery, tile, name)
            if row is None:
                entries.append(_lacking(where, what, _NO_RECOVERY, paper, "fraction"))
                continue
            found, of = int(row["n_recovered"]), int(row["n_clusters"])
            error, status = compare_fractions(found, of, paper, counts[name])
            note = f"{found} of {of}; {float(row['chance']):.1%} by chance"
            if tile == ALL_TILES and name == "planck_z":
                note += "; trained on most of these, here and in the paper"
            entries.append(Entry(where, what, paper, found / of if of else math.nan, error, "fraction", status, note))
    return entries


def _recovery_row(recovery: Table | None, tile: int, name: str) -> Table.Row | None:
    if recovery is None:
        return None
    wanted = (np.asarray(recovery["tile"]) == tile) & (np.asarray(recovery["catalogue"]) == name)
    rows = recovery[wanted & np.isclose(np.asarray(recovery["p_max"], float), P_MAX)]
    return rows[0] if len(rows) else None


def _source_entries(run: RunFolder) -> list[Entry]:
    """Numbers of sources; their error: the scatter between tiles on a simulated sky, Poisson on the real one."""
    recovery = run.table(products.RECOVERY)
    here, sky = _recovery_row(recovery, TEST_TILE, "planck_z"), _recovery_row(recovery, ALL_TILES, "planck_z")
    spread = _tile_scatter(run)
    entries = []
    for where, what, paper, row, column, n_tile in (
        ("Sect. 4.1, test tile", "sources in none of the three catalogues", figures.PAPER_NEW_SOURCES, here,
         "n_unmatched", 1),
        ("Sect. 4.2, full sky", "sources", PAPER_SOURCES, sky, "n_sources", 48),
        ("Sect. 4.2, full sky", "sources in none of the three catalogues", PAPER_UNMATCHED, sky, "n_unmatched", 48),
    ):  # fmt: skip
        if row is None:
            entries.append(_lacking(where, what, _NO_RECOVERY, paper, "count"))
            continue
        n = int(row[column])
        scatter = spread * math.sqrt(n_tile) if run.is_simulated and math.isfinite(spread) else math.sqrt(n + paper)
        note = f"scatter of one tile: {spread:.0f}" if math.isfinite(spread) else ""
        entries.append(_entry(where, what, paper, n, scatter, "count", note))
    return entries


def _tile_scatter(run: RunFolder) -> float:
    """Standard deviation of the number of unmatched sources between the 48 tiles."""
    if run.candidates is None or run.clusters is None:
        return math.nan
    free = choose_samples(run.candidates[np.asarray(run.candidates["p"]) >= P_MAX], run.clusters)["unmatched"]
    tiles = tile_of(np.asarray(free["lon_deg"], float), np.asarray(free["lat_deg"], float))
    return float(np.bincount(tiles, minlength=48).std(ddof=1))


def _cross_checks(run: RunFolder) -> list[Entry]:
    entries = []
    for dataset, (title, paper) in PAPER_CROSS_CHECKS.items():
        what, kind = f"unmatched sources in {title}", "count" if paper > 1 else "fraction"
        if run.is_simulated:
            need = f"a run on the real sky ({way_to_get('planck-pr3')}) and {way_to_get(dataset)}"
            entries.append(_lacking("Sect. 4.2, full sky", what, need, paper, kind))
            continue
        try:
            files = locate(dataset)
        except FileNotFoundError:
            entries.append(_lacking("Sect. 4.2, full sky", what, way_to_get(dataset), paper, kind))
            continue
        if run.candidates is None or run.clusters is None:
            entries.append(_lacking("Sect. 4.2, full sky", what, "candidates: `szeek detect`", paper, kind))
            continue
        chosen = [file for name, file in files.items() if dataset != "pccs2" or "353" in name]
        others = read_catalogue(chosen[0], survey=dataset.upper())
        free = choose_samples(run.candidates[np.asarray(run.candidates["p"]) >= P_MAX], run.clusters)["unmatched"]
        n = int((separation_arcmin(free, others) <= MATCH_ARCMIN).sum())
        if kind == "count":
            entries.append(_entry("Sect. 4.2, full sky", what, paper, n, math.sqrt(n + paper), kind))
        else:
            error, status = compare_fractions(n, len(free), paper, PAPER_UNMATCHED)
            value = n / max(1, len(free))
            entries.append(Entry("Sect. 4.2, full sky", what, paper, value, error, kind, status, f"{n} sources"))
    return entries


def _stack_entries(run: RunFolder) -> list[Entry]:
    """What the paper's stacks show without a number: is there signal at the centre, and does it rise with p."""
    entries = []
    for where, sample, maps in (
        ("Sect. 4.1, Fig. 4", "test_tile", ("y",)),
        ("Sect. 4.3, Fig. 5", "unmatched", tuple(COMPANIONS)),
    ):
        file = run.path / "stacks" / sample / "stacks.fits"
        found, own = read_significance(file, of_nulls=True), read_significance(file)
        for name in maps:
            what = f"stack of {LOOKS[name][0].replace('$', '')}: centre against matched nulls"
            if name in found:
                sigma = found[name]
                status = "agrees (signal seen)" if sigma > 3 else "differs: no signal above 3 sigma"
                note = f"paper: seen; {own[name]:.1f} of the sources' own scatter"
                entries.append(Entry(where, what, math.nan, sigma, math.nan, "sigma", status, note))
            else:
                need = lacking_maps(run).get(name, "stacks: `szeek stack` makes them")
                entries.append(_lacking(where, what, need, math.nan, "sigma"))
    profiles = run.table("stacks/unmatched/profiles.ecsv")
    scaling = run.table("stacks/unmatched/scaling.ecsv")
    if profiles is not None and "xray" in set(profiles["map"]):
        centre = _centres(profiles, "xray")
        entries.append(
            _rise("Sect. 4.3, Fig. 6", "central X-ray excess from the lowest to the highest bin of p", centre)
        )
    if scaling is not None:
        raw = Table.read(run.path / "stacks/unmatched/scaling.ecsv")
        bins = raw[np.char.startswith(np.asarray(raw["sample"]).astype(str), "p bin")]
        values = np.stack([np.asarray(bins["flux"], float), np.asarray(bins["flux_error"], float)], axis=1)
        entries.append(
            _rise("Sect. 4.3, Fig. 7", "flux in the y map from the lowest to the highest bin of p", values)
        )
        n = int(np.asarray(bins["n"]).min())
        note = "sources of a fifth of all unmatched ones"
        spread = _tile_scatter(run) * math.sqrt(48) / len(bins) if run.is_simulated else math.sqrt(n + PAPER_PER_BIN)
        entries.append(
            _entry("Sect. 4.3, Fig. 6", "sources in each bin of p", PAPER_PER_BIN, n, spread, "count", note)
        )
        if law := raw.meta.get("law"):
            text = f"slope {law['slope']:.3f} ± {law['slope_error']:.3f} of ln Y against logit p; the paper has none"
            value = law["slope"] / law["slope_error"]
            entries.append(
                Entry("Sect. 5, outlook", "p-to-y scaling law", math.nan, value, math.nan, "sigma", "new", text)
            )
    return entries


def _rise(where: str, what: str, centre: NDArray[np.float64]) -> Entry:
    step = centre[-1, 0] - centre[0, 0]
    sigma = float(step / np.hypot(centre[-1, 1], centre[0, 1]))
    status = "agrees (rises with p)" if sigma > 3 else "differs: no rise above 3 sigma"
    monotonic = "every step up" if np.all(np.diff(centre[:, 0]) > 0) else "not every step up"
    return Entry(where, what, math.nan, sigma, math.nan, "sigma", status, f"paper: rises; here {monotonic}")


def _centres(profiles: Table, name: str) -> NDArray[np.float64]:
    """Mean and error of the first ring in each bin of p, (n_bin, 2)."""
    rows = profiles[(profiles["map"] == name) & (profiles["inner_arcmin"] == np.min(profiles["inner_arcmin"]))]
    bins = rows[np.char.startswith(np.asarray(rows["sample"]).astype(str), "p bin")]
    return np.stack([np.asarray(bins["mean"], float), np.asarray(bins["error"], float)], axis=1)


def _entry(where: str, what: str, paper: float, value: float, error: float, kind: str, note: str = "") -> Entry:
    return Entry(where, what, float(paper), float(value), error, kind, compare(value, error, paper), note)


def _lacking(where: str, what: str, need: str, paper: float = math.nan, kind: str = "count") -> Entry:
    return Entry(where, what, paper, math.nan, math.nan, kind, f"needs data that you lack: {need}")


def _print(value: float, kind: str) -> Cell:
    if not math.isfinite(value):
        return Cell("", "")
    if kind == "fraction":
        return Cell(f"{100 * value:.1f} %", value)
    return Cell(f"{value:.1f} sigma", value) if kind == "sigma" else number(value, 0)


def section_numbers(entries: list[Entry]) -> Section:
    part = Section("numbers", "The numbers")
    heads = [Column("in the paper"), Column("what"), Column("Bonjean (2020)", "", True), Column("this run", "", True)]
    heads += [Column("error of the difference", "", True), Column("status"), Column("note")]
    rows = [
        (e.where, e.what, _print(e.paper, e.kind), _print(e.value, e.kind),
         _print(e.error if e.error > 0 else math.nan, e.kind), e.status, e.note)
        for e in entries
    ]  # fmt: skip
    part.add(table_block("Every number beside the paper's, at p > 0.1", heads, rows))
    return part


def key_numbers(entries: list[Entry]) -> list[dict[str, str]]:
    groups = (
        ("agree", sum(e.status.startswith("agrees") for e in entries), "within 2 sigma, or seen as in the paper"),
        ("differ", sum(e.status.startswith("differs") for e in entries), "by more than 2 sigma"),
        ("need data", sum(e.status.startswith("needs") for e in entries), "that this run lacks"),
    )
    return [
        {"label": label, "value": str(n), "detail": f"of {len(entries)}; {detail}"} for label, n, detail in groups
    ]


def lacking_maps(run: RunFolder) -> dict[str, str]:
    return dict(run.json(products.STACKS_RECORD).get("lacking") or {})
