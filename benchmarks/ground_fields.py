"""Finders on simulated fields of a survey from the ground, pooled: completeness at purity, and what PURITY says.

python benchmarks/ground_fields.py RUN [RUN ...] [--model szeek-act] [--filter] [--nemo NAME] [--planck szeek-2]
python benchmarks/ground_fields.py RUN [RUN ...] --limit 5.14 4.65 3.98

Each RUN is a simulated field of a seed that no network was trained on, at a place of its own on the sky, with maps
and S/N maps (`szeek run field.toml --out RUN --until filter`). Finders:

    network   of a shipped model or a folder, four orientations
    filter    the package's matched filter over all sizes, with its own subtraction of compact sources
    nemo      NAME is the catalogue's file in each RUN, of `benchmarks/peers/run_nemo.py`; flagged rows left out
    planck    a network for Planck HFI on the field's Planck maps alone (act-dr6+planck-hfi), within 5 arcmin

With --limit nothing is searched: the share of haloes whose S/N at their true place and size, with the mean noise of
their field, comes out above each threshold of the filter.

Samples are haloes of M500 > 1e14 Msun by Y500 and by M500; the match set is that of Y500 > 5e-5 arcmin^2 for all
finders, within 2.5 arcmin or 0.6 theta500, one to one, chance taken out, where all bands are seen.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from scipy.special import ndtr

from szeek.assess.calibrate import Calibration, judge_sources, measure_reliability
from szeek.assess.recovery import GROUND_CUTS, completeness_purity
from szeek.files import write_table
from szeek.find.baselines import find_by_matched_filter
from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.reddening import reddening_mag
from szeek.inputs.surveymaps import read_maps
from szeek.learn.model import find_model, load_model
from szeek.sky.mapset import MapSet, open_maps
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import Tiles

RADIUS_ARCMIN, PLANCK_RADIUS_ARCMIN = 2.5, 5.0
PURITIES = (0.9, 0.8, 0.5)
WHOLE_SKY = Tiles(tuple(range(48)), 2)


def read_nemo(file: Path) -> Table:
    """A catalogue of nemo's without its flagged rows, with ``p`` for the S/N."""
    found = Table.read(file)
    found = found[np.asarray(found["flags"]) == 0]
    place = SkyCoord(found["RADeg"], found["decDeg"], unit="deg").galactic
    return Table({"lon_deg": place.l.deg, "lat_deg": place.b.deg, "p": np.asarray(found["SNR"], float)})


def find(run: Path, given: argparse.Namespace) -> dict[str, Table]:
    """What each finder finds in a field; kept beside it, for filter and network take minutes."""
    maps, found = open_maps(run / "maps"), {}

    def kept(name: str, search: Callable[[], Table], weights: bytes = b"") -> None:
        key = f"-{hashlib.sha256(weights).hexdigest()[:8]}" if weights else ""
        file = run / f"found-{name.replace(' ', '-')}{key}.ecsv"
        if not file.is_file():
            write_table(search()["lon_deg", "lat_deg", "p"], file)
        found[name] = Table.read(file)

    def by_network(name: str, sky: SkyMaps | MapSet) -> Table:
        p_map = predict(sky, load_model(name, bfloat16=True), rotations=4, threads=given.threads)
        return detect_sources(p_map, 0.03, weighted=True, deblend=True, min_prominence=0.03)

    def planck_maps() -> SkyMaps | MapSet:
        files = {
            part.stem.split("_")[2]: part for part in (run / "simulated" / "planck-hfi").glob("szeek_sim_*.fits")
        }
        return read_maps(files, "planck-hfi", check=False)

    for model, name, sky in (
        (given.model, Path(given.model).name, lambda: maps),
        (given.planck, f"Planck alone, {given.planck}", planck_maps),
    ):
        if model:
            weights = (find_model(model) / "model.safetensors").read_bytes()
            kept(name, lambda model=model, sky=sky: by_network(model, sky()), weights)
    if given.filter:
        options = {"instrument": given.instrument, "snr_min": 3.0, "threads": given.threads}
        kept("matched filter", lambda: find_by_matched_filter(maps, **options))
    if given.nemo:
        found["nemo"] = read_nemo(run / given.nemo)
    return found


def share_above(runs: list[Path], thresholds: list[float], least_arcmin2: float) -> list[float]:
    """Share of the haloes above a flux that a filter of known position and size measures above each threshold."""
    snr = []
    for run in runs:
        truth, noise = read_catalogue(run / "simulated" / "truth.fits"), Table.read(run / "maps" / "noise.ecsv")
        haloes = truth[np.asarray(truth["y500_arcmin2"]) > least_arcmin2]
        sizes = np.unique(noise["theta500_arcmin"])
        of_size = [noise[noise["theta500_arcmin"] == size] for size in sizes]
        sigma = [np.average(part["y500_err_arcmin2"], weights=part["area_deg2"]) for part in of_size]
        theta = np.log(np.asarray(haloes["theta500_arcmin"]))
        snr.append(np.asarray(haloes["y500_arcmin2"]) / np.exp(np.interp(theta, np.log(sizes), np.log(sigma))))
    all_of_them = np.concatenate(snr)
    return [float(ndtr(all_of_them - threshold).mean()) for threshold in thresholds]


def seen_by_all(run: Path) -> np.ndarray:
    """Where all bands of a field are seen, of nside 256."""
    maps = open_maps(run / "maps")
    return np.logical_and.reduce([maps.coverage[:, band] for band in range(maps.n_band)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--model", default="")
    parser.add_argument("--filter", action="store_true")
    parser.add_argument("--nemo", default="")
    parser.add_argument("--planck", default="")
    parser.add_argument("--limit", type=float, nargs="+", default=[], help="S/N of the filter at the purities")
    parser.add_argument("--instrument", default="act-dr6")
    parser.add_argument("--least", type=float, default=GROUND_CUTS.least_y500_arcmin2, help="Y500 of the match set")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.limit:
        for least in GROUND_CUTS.y500_arcmin2:
            shares = share_above(given.runs, given.limit, least)
            print(f"y500>{least:g}: " + " / ".join(f"{share:.2f}" for share in shares))
        return
    cuts, lists = replace(GROUND_CUTS, least_y500_arcmin2=given.least), dict[str, list[Table]]()
    for run in given.runs:
        for finder, sources in find(run, given).items():
            lists.setdefault(finder, []).append(sources)
    truths = [read_catalogue(run / "simulated" / "truth.fits") for run in given.runs]
    truth = vstack(truths, metadata_conflicts="silent")
    seen = np.logical_or.reduce([seen_by_all(run) for run in given.runs])
    print(f"{seen.sum() * 41252.96 / seen.size:.0f} deg^2, purity {' / '.join(map(str, PURITIES))}")
    names: list[str] = []
    for finder, tables in lists.items():
        rows = completeness_purity(
            vstack(tables), truth, footprint=seen, purities=PURITIES, thresholds=(), cuts=cuts,
            radius_arcmin=PLANCK_RADIUS_ARCMIN if finder.startswith("Planck") else RADIUS_ARCMIN,
        )  # fmt: skip
        if not names:
            names = list(dict.fromkeys(rows["sample"]))
            numbers = [int(rows["n_sample"][rows["sample"] == name].max()) for name in names]
            head = [f"{name} ({n})" for name, n in zip(names, numbers, strict=True)]
            print("| finder | " + " | ".join(head) + " | true, offset | threshold |")
            print("|" + "---|" * (len(names) + 3))
        cells = []
        for name in names:
            mine = rows[rows["sample"] == name]
            error = 0.5 * (mine["completeness_high"] - mine["completeness_low"])
            cells.append(" / ".join(f"{c:.3f}" for c in mine["completeness"]) + f" ± {np.max(error):.3f}")
        first = rows[rows["sample"] == names[0]]
        cells.append(" / ".join(map(str, first["n_true"])) + f", {first['median_offset_arcmin'][0]:.2f}'")
        cells.append(" / ".join(f"{p:.3g}" for p in first["p_threshold"]))
        print(f"| {finder} | " + " | ".join(cells) + " |", flush=True)
        if finder != Path(given.model).name:
            continue
        file = find_model(given.model) / "calibration.ecsv"
        if file.is_file():
            sources, real = judge_sources(
                vstack(tables),
                truth,
                WHOLE_SKY,
                y500_min_arcmin2=GROUND_CUTS.least_y500_arcmin2,
                radius_arcmin=RADIUS_ARCMIN,
            )
            dust = reddening_mag(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))
            purity = Calibration.from_table(Table.read(file)).predict(np.asarray(sources["p"]), dust)
            print(measure_reliability(purity, real, 5, equal="clusters"))


if __name__ == "__main__":
    main()
