"""How finders fare on a survey from the ground that is not as the one simulated for the training.

python benchmarks/ground_transfer.py RUN [RUN ...] [--model szeek-act] [--only CHANGE ...] [--no-filter] [--threads 2]

Each RUN is a simulated field as `benchmarks/ground_fields.py` takes it, with pixels of 0.5 arcmin. The maps from the
ground are changed in one respect at a time, and then in the first four at once; inverse variances, beams and
calibrations stay as they are, for a survey's user would not know:

    noise         white noise a quarter higher in every band
    beams         5 % wider than stated: maps smoothed, and the white noise that this takes away put back
    foregrounds   CIB, compact sources and the Galaxy 30 % brighter, simulated again from the field's seed
    stripes       noise along rows of constant declination, of 0.3 to 3 deg in declination, rms half of the white
                  noise in a pixel of an arcmin; each octave alike, 5 deg long
    fine stripes  the same of 0.1 to 3 deg, rms that of the white noise

S/N maps are computed from each. Completeness at purity 0.9, 0.8 and 0.5 of the haloes of all fields as in
`ground_fields.py`, for the network and for the package's matched filter, with binomial errors; how much a change adds
to that of Y500 > 1e-4, for the same haloes, with the error of a jackknife over cells of 7 deg; and of the sources of
PURITY > 0.5 their number, what PURITY says, what is true, and the share that is false but within an arcmin of a halo
just below the cut, of Y500 > 1.6e-5. Source lists are kept in RUN/transfer.

Planck's maps in a run of both experiments stay as they are, so that foregrounds are not changed there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import healpy
import numpy as np
import scipy.fft
from astropy.table import Table, vstack
from ground_fields import PURITIES, RADIUS_ARCMIN, WHOLE_SKY, seen_by_all

from szeek.assess.calibrate import Calibration, judge_sources
from szeek.assess.recovery import GROUND_CUTS, completeness_purity
from szeek.files import write_table
from szeek.find.baselines import find_by_matched_filter
from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.reddening import reddening_mag
from szeek.learn.model import find_model, load_model
from szeek.measure.pairs import list_pairs
from szeek.simulate.components.sources import draw_dusty_sources
from szeek.simulate.density import all_density_shells, random_generator
from szeek.simulate.field.diffuse import add_galaxy, cib_filters, cib_on, narrow_beam
from szeek.simulate.field.lattice import Lattice, multipoles
from szeek.simulate.field.paint import paint_sources_on
from szeek.simulate.field.simulate import (
    FieldOptions,
    draw_field_haloes,
    draw_field_sources,
    field_instrument,
    field_lattice,
    join_sources,
)
from szeek.sky.harmonics import band_limit, beam_window
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import MapSet, open_maps

CHANGES = ("noise", "beams", "foregrounds", "stripes", "fine stripes")
MORE_NOISE, WIDER_BEAM, BRIGHTER = 1.25, 1.05, 1.3
#: Shortest scale in declination, and rms in units of the white noise in a pixel of an arcmin.
STRIPES = {"stripes": (0.3, 0.5), "fine stripes": (0.1, 1.0)}
LONGEST_STRIPE_DEG, STRIPE_LENGTH_DEG = 3.0, 5.0
SAMPLES = ("y500>1e-4", "y500>2e-4", "m500>2e14")
COMPARED, JACKKNIFE_NSIDE = SAMPLES[0], 8
FAINT_Y500_ARCMIN2, FAINT_ARCMIN = 1.6e-5, 1.0


@cache
def read_options(run: Path) -> FieldOptions:
    """What a field was simulated with."""
    return FieldOptions(**json.loads((run / "simulated" / "simulate.json").read_text())["config"])


@cache
def simulate_foregrounds(run: Path, threads: int) -> list[np.ndarray]:
    """CIB, compact sources and the Galaxy of a field in each band, through its beam, map units, (ny, nx)."""
    options = read_options(run)
    seed, lmax, ell = options.seed, band_limit(options.nside), multipoles()
    instrument, lattice = field_instrument(options.instrument), field_lattice(options.field)
    shells = all_density_shells(seed, threads)
    galaxies = draw_field_haloes(lattice, instrument, seed, shells, options.clusters).galaxies
    sources = join_sources([galaxies, draw_field_sources(lattice, instrument, seed)])
    painted = np.zeros((*lattice.shape, len(instrument.bands)), np.float32)
    paint_sources_on(lattice, sources, 1e-6 * instrument.unit_per_kcmb / instrument.mjysr_per_kcmb, painted)
    add_galaxy(lattice, instrument, lmax, seed, painted, threads)
    unresolved = [cib_on(lattice, lmax, seed, shells, threads), lattice.white(seed, "cib beyond the full sky")]
    of_cib = cib_filters(instrument, draw_dusty_sources(instrument, seed), lmax, seed)
    inner = lattice.without_margin()
    top, left = inner.first_row - lattice.first_row, lattice.first_column - inner.first_column
    out = []
    for band, beam in enumerate(instrument.beam(ell).T):
        parts = [np.ascontiguousarray(painted[:, :, band]), *unresolved]
        filters = [np.minimum(beam / narrow_beam(ell), 10.0), *(beam * one[band] for one in of_cib)]
        values = lattice.convolve(parts, [filters])[0]
        out.append(np.ascontiguousarray(values[top : top + inner.shape[0], left : left + inner.shape[1]]))
    return out


def draw_stripes(lattice: Lattice, shortest_deg: float, generator: np.random.Generator) -> np.ndarray:
    """Stripes along rows, of rms 1, (ny, nx): as much in each octave of scales in declination."""
    step = lattice.dec_deg[1] - lattice.dec_deg[0]
    along = step * np.cos(np.radians(lattice.dec_deg.mean()))
    shape = [scipy.fft.next_fast_len(n, real=True) for n in lattice.shape]
    per_deg = np.abs(scipy.fft.fftfreq(shape[0], step))[:, None]
    within = (per_deg >= 1 / LONGEST_STRIPE_DEG) & (per_deg <= 1 / shortest_deg)
    k_x = 2 * np.pi * scipy.fft.rfftfreq(shape[1], along)
    root = np.where(within, 1 / np.sqrt(np.maximum(per_deg, step)), 0.0) * np.exp(
        -0.5 * (k_x * STRIPE_LENGTH_DEG) ** 2
    )
    wave = scipy.fft.rfft2(generator.standard_normal(shape, dtype=np.float32))
    out = scipy.fft.irfft2(wave * root.astype(np.float32), shape)[: lattice.shape[0], : lattice.shape[1]]
    return np.asarray(out / out.std(), np.float32)


def change_group(group: ImageMaps, changes: tuple[str, ...], run: Path, seed: int, threads: int) -> ImageMaps:
    """The maps from the ground with some of the changes; what was not observed stays so."""
    lattice, signal = field_lattice(read_options(run).field).without_margin(), []
    if group.grid.shape != lattice.shape:
        raise ValueError(f"the maps of '{run}' have {group.grid.shape} pixels, expected {lattice.shape}")
    for number, (band, part, weight) in enumerate(zip(group.bands, group.signal, group.ivar, strict=True)):
        values = np.asarray(part.values, np.float32) * np.float32(part.factor)
        ivar = np.asarray(weight.values, np.float32) * np.float32(weight.factor)
        seen = (values != 0) & (ivar > 0)
        white = np.divide(1.0, np.sqrt(ivar), out=np.zeros_like(ivar), where=seen)

        def draw(what: str, name: str = band.name, white: np.ndarray = white) -> np.ndarray:
            generator = random_generator(seed, f"{what} {name}")
            return white * generator.standard_normal(white.shape, dtype=np.float32)

        if "foregrounds" in changes:
            values += np.float32(BRIGHTER - 1) * simulate_foregrounds(run, threads)[number]
        if "beams" in changes:  # a mode that keeps W of its noise gets sqrt(1 - W^2) of another draw
            ell = multipoles()
            window = beam_window(band.fwhm_arcmin * np.sqrt(WIDER_BEAM**2 - 1), int(ell[-1]))[ell.astype(int)]
            noise = [window - 1, np.sqrt(1 - window**2)]
            values += lattice.convolve([values, draw("wider beam")], [noise])[0]
        if "noise" in changes:
            values += np.float32(np.sqrt(MORE_NOISE**2 - 1)) * draw("more noise")
        for name in STRIPES.keys() & set(changes):
            shortest_deg, rms = STRIPES[name]
            stripes = draw_stripes(lattice, shortest_deg, random_generator(seed, f"{name} {band.name}"))
            values += np.float32(rms * group.pixel_arcmin) * white * stripes
        values[~seen] = 0.0
        signal.append(Pixels(values))
    return replace(group, signal=tuple(signal))


def change(maps: MapSet, changes: tuple[str, ...], run: Path, seed: int, threads: int) -> MapSet:
    """The set with some of the changes, without S/N maps."""
    groups = [
        change_group(group, changes, run, seed, threads) if isinstance(group, ImageMaps) else group
        for group in maps.groups
    ]
    return replace(maps, groups=tuple(groups), snr=None, theta500_arcmin=())


def find(run: Path, changes: tuple[str, ...], given: argparse.Namespace) -> dict[str, Table]:
    """What network and filter find in a field that is changed; kept beside it, for it takes minutes."""
    model, found = load_model(given.model, bfloat16=True), {}
    weights = hashlib.sha256((find_model(given.model) / "model.safetensors").read_bytes()).hexdigest()[:8]

    @cache
    def changed() -> MapSet:
        maps = open_maps(run / "maps")
        return change(maps, changes, run, given.seed, given.threads) if changes else maps

    def by_network() -> Table:
        p_map = predict(changed(), model, rotations=4, threads=given.threads)
        return detect_sources(p_map, 0.03, weighted=True, deblend=True, min_prominence=0.03)

    def by_filter() -> Table:
        return find_by_matched_filter(changed(), instrument=model.instrument, threads=given.threads)

    searches: dict[str, Callable[[], Table]] = {Path(given.model).name: by_network}
    if not given.no_filter:
        searches["matched filter"] = by_filter
    for finder, search in searches.items():
        key = weights if search is by_network else model.instrument.name
        name = "-".join(("+".join(changes) or "nothing", finder, key, str(given.seed))).replace(" ", "-")
        file = run / "transfer" / f"{name}.ecsv"
        if not file.is_file():
            file.parent.mkdir(exist_ok=True)
            write_table(search()["lon_deg", "lat_deg", "p"], file)
        found[finder] = Table.read(file)
    return found


def completeness(sources: Table, truth: Table, seen: np.ndarray) -> Table:
    """Completeness at purity of the haloes where all bands are seen."""
    return completeness_purity(
        sources, truth, footprint=seen, purities=PURITIES, thresholds=(), cuts=GROUND_CUTS,
        radius_arcmin=RADIUS_ARCMIN,
    )  # fmt: skip


def leave_out(sources: Table, truth: Table, seen: np.ndarray) -> np.ndarray:
    """The completeness that is compared, of everything, and without each cell in turn: (1 + n_cell, n_purity)."""
    nside = healpy.npix2nside(seen.size)
    cell = healpy.vec2pix(JACKKNIFE_NSIDE, *healpy.pix2vec(nside, np.arange(seen.size)))
    parts = [seen, *(seen & (cell != number) for number in np.unique(cell[seen]))]
    rows = [completeness(sources, truth, part) for part in parts]
    return np.array([np.asarray(row["completeness"][row["sample"] == COMPARED]) for row in rows])


def describe(rows: Table) -> list[str]:
    """Completeness of each sample at the purities, with the largest of its errors."""
    cells = []
    for name in SAMPLES:
        mine = rows[rows["sample"] == name]
        error = 0.5 * np.max(mine["completeness_high"] - mine["completeness_low"])
        cells.append(" / ".join(f"{c:.3f}" for c in mine["completeness"]) + f" ± {error:.3f}")
    return cells


def judge(sources: Table, truth: Table, calibration: Calibration) -> str:
    """Sources of PURITY > 0.5: number, mean of PURITY, share of clusters, and share of haloes below the cut."""
    least = GROUND_CUTS.least_y500_arcmin2
    judged, real = judge_sources(sources, truth, WHOLE_SKY, y500_min_arcmin2=least, radius_arcmin=RADIUS_ARCMIN)
    dust = reddening_mag(np.asarray(judged["lon_deg"]), np.asarray(judged["lat_deg"]))
    purity = calibration.predict(np.asarray(judged["p"]), dust)
    sure = purity > 0.5
    faint = truth[np.asarray(truth["y500_arcmin2"]) <= least]
    near = list_pairs(judged[sure & ~real], faint, FAINT_ARCMIN)[0]
    share = real[sure].mean()
    error = np.sqrt(share * (1 - share) / sure.sum())
    below = np.unique(near).size / sure.sum()
    return f"{sure.sum()}, {purity[sure].mean():.3f}, {share:.3f} ± {error:.3f}, {below:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--model", default="szeek-act")
    parser.add_argument("--only", choices=(*CHANGES, "all"), nargs="+", help="some of the changes")
    parser.add_argument("--no-filter", action="store_true", help="the network alone")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    tried = {name: (name,) for name in CHANGES} | {"all": CHANGES[:4]}
    if any(len(open_maps(run / "maps").groups) > 1 for run in given.runs):
        tried = {name: tuple(c for c in changes if c != "foregrounds") for name, changes in tried.items()}
    wanted = {"nothing": ()} | {name: c for name, c in tried.items() if c and name in (given.only or tried)}
    truth = vstack(
        [read_catalogue(run / "simulated" / "truth.fits") for run in given.runs], metadata_conflicts="silent"
    )
    truth = truth[np.asarray(truth["y500_arcmin2"]) > FAINT_Y500_ARCMIN2]
    seen = np.logical_or.reduce([seen_by_all(run) for run in given.runs])
    calibration = Calibration.from_table(Table.read(find_model(given.model) / "calibration.ecsv"))
    lists: dict[tuple[str, str], list[Table]] = {}
    for run in given.runs:  # all changes of one field before the next: its foregrounds are kept in memory
        for name, changes in wanted.items():
            for finder, sources in find(run, changes, given).items():
                lists.setdefault((name, finder), []).append(sources)
        simulate_foregrounds.cache_clear()
    print(f"{seen.sum() * healpy.nside2pixarea(healpy.npix2nside(seen.size), degrees=True):.0f} deg^2")
    unchanged: dict[str, np.ndarray] = {}
    for (name, finder), tables in lists.items():
        sources = vstack(tables)
        rows = completeness(sources, truth, seen)
        if name == "nothing":
            numbers = [int(rows["n_sample"][rows["sample"] == sample].max()) for sample in SAMPLES]
            if not unchanged:
                head = [f"{sample} ({n})" for sample, n in zip(SAMPLES, numbers, strict=True)]
                head += ["change", "PURITY > 0.5: sources, mean, true, below the cut"]
                print(f"| changed | finder | {' | '.join(head)} |")
                print("|" + "---|" * (len(head) + 2))
        left = leave_out(sources, truth, seen)
        compared = ""
        if name == "nothing":
            unchanged[finder] = left
        else:
            n = len(left) - 1
            less = left - unchanged[finder]
            error = np.sqrt((n - 1) / n * ((less[1:] - less[1:].mean(axis=0)) ** 2).sum(axis=0)).max()
            compared = " / ".join(f"{change:+.3f}" for change in less[0]) + f" ± {error:.3f}"
        said = judge(sources, truth, calibration) if finder != "matched filter" else ""
        print(f"| {name} | {finder} | {' | '.join(describe(rows))} | {compared} | {said} |", flush=True)


if __name__ == "__main__":
    main()
