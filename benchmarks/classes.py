"""What a network that tells classes apart finds of each, on a sky that it was not trained on.

python benchmarks/classes.py RUN [--model szeek-components] [--beside szeek-2] [--threads 2]

RUN is a simulated full sky of another seed with S/N maps (`szeek run --until filter`), of which the tiles of even
number are looked at: on the others the probabilities of szeek-components were fitted. Of sources, |b| > 30: the flux
at which completeness is 0.9 where reliability is 0.9, and the error of fluxes; of clumps and CO, everywhere: how many
are right and found; what candidates are called; and of clusters, on the whole of |b| > 30: completeness at purity,
beside another network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table
from scipy.optimize import minimize
from scipy.special import expit

from szeek.assess.calibrate import Calibration
from szeek.assess.classes import class_probabilities, find_class_sources, name_classes, split_calibrations
from szeek.assess.match import match
from szeek.assess.recovery import completeness_purity, wilson_interval
from szeek.assess.sources import find_sources
from szeek.find.detect import detect_sources
from szeek.find.predict import predict_classes
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import find_model, load_model
from szeek.measure.pairs import list_pairs
from szeek.simulate.components.dust import co_intensity
from szeek.sky.mapset import open_maps
from szeek.sky.tiles import Tiles, pixels_in_tiles

TILES = Tiles(tuple(range(0, 48, 2)), 2)
LATITUDE_DEG, RELIABILITY, PURITIES = 30.0, 0.9, (0.9, 0.8, 0.5)
#: Flux at 90 % completeness: MultiPoSeIDoN, Casas et al. (2022, A&A 658, A110); PCCS2, Planck 2015 results XXVI.
PUBLISHED_MJY = {"143": (79, 177), "217": (71, 152), "353": (60, 304)}


def p_of_all(run: Path, name: str, threads: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Maps of p of a network, kept beside the run by its weights."""
    weights = (find_model(name) / "model.safetensors").read_bytes()
    file = run / f"p-{hashlib.sha256(weights).hexdigest()[:8]}.npy"
    model = load_model(name, bfloat16=True)
    if not file.is_file():
        np.save(file, predict_classes(open_maps(run / "maps"), model, rotations=4, threads=threads))
    return np.load(file, mmap_mode="r"), model.classes


def inside(table: Table) -> Table:
    """Rows in the tiles that are looked at."""
    return table[TILES.contain(np.asarray(table["lon_deg"], float), np.asarray(table["lat_deg"], float))]


def flux_at(found: np.ndarray, flux_jy: np.ndarray, completeness: float = 0.9) -> tuple[float, float]:
    """Flux in mJy at which a logistic curve in ln(flux) reaches a completeness, and its error by 30 bootstraps."""
    rng, log = np.random.default_rng(1), np.log(flux_jy)

    def fitted(rows: np.ndarray) -> float:
        def loss(x: np.ndarray) -> float:
            c = np.clip(expit((log[rows] - x[0]) / np.exp(x[1])), 1e-9, 1 - 1e-9)
            return -float(np.where(found[rows], np.log(c), np.log(1 - c)).sum())

        middle, width = minimize(loss, [np.log(0.06), np.log(0.3)], method="Nelder-Mead").x
        return 1e3 * float(np.exp(middle + np.exp(width) * np.log(completeness / (1 - completeness))))

    everything = np.arange(len(log))
    return fitted(everything), float(np.std([fitted(rng.choice(everything, everything.size)) for _ in range(30)]))


def merge(sources: Table) -> Table:
    """Sources of two classes at one place as one, the likelier."""
    order = np.argsort(-np.asarray(sources["purity"], float), kind="stable")
    sources = sources[order]
    first, second, _ = list_pairs(sources, sources, 5.0)
    doubled = np.zeros(len(sources), bool)
    doubled[first[second < first]] = True
    return sources[~doubled]


def report_sources(found: Table, truth: Table) -> dict[str, object]:
    """Radio and dusty sources together, as catalogues of sources count them."""
    kinds = np.isin(np.asarray(found["class"], str), ["radio", "dusty"])
    listed = merge(found[kinds & (np.abs(found["lat_deg"]) > LATITUDE_DEG)])
    listed["p"] = listed["purity"]
    there = truth[np.isin(np.asarray(truth["survey"], str), ["RADIO", "DUSTY"])]
    there = there[np.abs(there["lat_deg"]) > LATITUDE_DEG - 0.1]
    matches = match(listed, there, 5.0)
    right = np.zeros(len(listed), bool)
    right[matches["source"]] = True
    order = np.argsort(-np.asarray(listed["p"], float), kind="stable")
    share = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    n = int(np.flatnonzero(share >= RELIABILITY).max()) + 1
    threshold = float(listed["p"][order[n - 1]])
    taken = np.zeros(len(there), bool)
    counted = matches[np.asarray(matches["p"], float) >= threshold]
    taken[counted["cluster"]] = True
    out: dict[str, object] = {"probability": round(threshold, 3), "listed": n}
    inner = np.abs(there["lat_deg"]) > LATITUDE_DEG
    for band, (multi, pccs2) in PUBLISHED_MJY.items():
        flux = np.asarray(there[f"flux_{band}_jy"], float)
        bright = inner & (flux > (0.06 if band == "353" else 0.04))
        value, error = flux_at(taken[bright], flux[bright])
        rows = counted[bright[counted["cluster"]]]
        ratio = np.asarray(listed[f"flux_{band}_mjy"], float)[rows["source"]] / (1e3 * flux[rows["cluster"]])
        ratio = ratio[np.isfinite(ratio)]
        out[band] = {
            "s90_mjy": round(value, 1), "error": round(error, 1), "sources": int(bright.sum()),
            "multiposeidon": multi, "pccs2": pccs2, "fluxes": len(ratio),
            "ratio": round(float(np.median(ratio)), 3),
            "scatter": round(float(0.5 * np.diff(np.quantile(ratio, [0.16, 0.84]))[0]), 3),
        }  # fmt: skip
    return out


def report_class(found: Table, truth: Table, name: str) -> dict[str, object]:
    """Of what is called a class with more than even chance, how much is; and how much of it is found."""
    mine = found[(np.asarray(found["class"], str) == name) & (np.asarray(found["purity"], float) > 0.5)]
    there = truth[np.asarray(truth["survey"], str) == name.upper()]
    radius = np.maximum(5.0, 0.5 * np.asarray(there["extent_arcmin"], float))
    source, entry, _ = list_pairs(mine, there, radius)
    right, taken = len(np.unique(source)), len(np.unique(entry))
    low, high = wilson_interval(right, len(mine))
    return {
        "listed": len(mine), "right": round(right / max(1, len(mine)), 3),
        "error": round(0.5 * float(high - low), 3), "there": len(there), "found": round(taken / len(there), 3),
    }  # fmt: skip


def report_co(p_map: np.ndarray) -> dict[str, float]:
    """p of CO against the painted intensity, in cells of nside 64."""
    cells = healpy.ud_grade(np.asarray(p_map, np.float64), 64)
    intensity, own = co_intensity(), pixels_in_tiles(64, TILES)
    cells, intensity = cells[own], intensity[own]
    bright = intensity > 2.0
    rank = np.corrcoef(np.argsort(np.argsort(cells[bright])), np.argsort(np.argsort(intensity[bright])))[0, 1]
    high = cells > 0.5
    return {
        "correlation": round(float(np.corrcoef(cells, bright)[0, 1]), 3), "rank_where_bright": round(float(rank), 3),
        "found": round(float(high[bright].mean()), 3), "right": round(float(bright[high].mean()), 3),
    }  # fmt: skip


def report_clusters(p_map: np.ndarray, truth: Table, planck_z: Table) -> dict[str, list[float]]:
    """Completeness at the purities asked for, over the whole sky outside the plane."""
    sources = detect_sources(np.ascontiguousarray(p_map), 0.05, weighted=True, deblend=True, min_prominence=0.05)
    high = np.abs(healpy.pix2ang(256, np.arange(12 * 256**2), lonlat=True)[1]) > LATITUDE_DEG
    rows = completeness_purity(sources, truth, planck_z, footprint=high, purities=PURITIES, thresholds=())
    out: dict[str, list[float]] = {}
    for row in rows:
        out.setdefault(f"{row['sample']} ({row['n_sample']})", []).append(round(float(row["completeness"]), 3))
    return out


def report_candidates(p: np.ndarray, classes: tuple[str, ...], model: str, run: Path) -> dict[str, object]:
    """What candidates of PURITY > 0.5 and those of class cluster are."""
    folder = find_model(model)
    calibration = Calibration.from_table(Table.read(folder / "calibration.ecsv"))
    of_class = split_calibrations(Table.read(folder / "class-calibration.ecsv"))
    sources = find_sources(np.ascontiguousarray(p[:, 0]), 0.1, deblend=True, calibration=calibration)
    sources = inside(sources[np.abs(sources["lat_deg"]) > LATITUDE_DEG])
    maps = {name: np.ascontiguousarray(p[:, k]) for k, name in enumerate(classes, 1)}
    found = class_probabilities(sources, maps, of_class)
    for name in found.colnames:
        sources[name] = found[name]
    kind = name_classes(sources, classes)
    haloes = select_clusters(read_catalogue(run / "simulated" / "truth.fits"), "truth>1e-4")
    real = np.zeros(len(sources), bool)
    real[match(sources, haloes, 5.0)["source"]] = True
    names, counts = np.unique(kind, return_counts=True)
    return {
        str(name): {"candidates": int(count), "clusters": round(float(real[kind == name].mean()), 3)}
        for name, count in zip(names, counts, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--model", default="szeek-components")
    parser.add_argument("--beside", default="szeek-2")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    p, classes = p_of_all(given.run, given.model, given.threads)
    truth = inside(Table.read(given.run / "simulated" / "classes.fits"))
    calibrations = split_calibrations(Table.read(find_model(given.model) / "class-calibration.ecsv"))
    maps = {name: np.ascontiguousarray(p[:, k]) for k, name in enumerate(classes, 1)}
    compact = Table.read(given.run / "maps" / "compact.fits")
    found = find_class_sources(
        maps, 0.05, calibrations=calibrations, compact=compact, instrument=read_instrument("planck-hfi")
    )
    found = inside(found)
    print("sources", json.dumps(report_sources(found, truth)))
    for name in classes:
        print(name, json.dumps(report_class(found, truth, name)))
    print("co by cells", json.dumps(report_co(p[:, 1 + classes.index("co")])))
    print("candidates", json.dumps(report_candidates(p, classes, given.model, given.run)))
    haloes = read_catalogue(given.run / "simulated" / "truth.fits")
    planck_z = select_clusters(read_catalogue(given.run / "simulated" / "psz2.fits"), "planck_z")
    planck_z = planck_z[np.abs(planck_z["lat_deg"]) > LATITUDE_DEG]
    print(given.model, json.dumps(report_clusters(p[:, 0], haloes, planck_z)))
    if given.beside:
        beside, _ = p_of_all(given.run, given.beside, given.threads)
        print(given.beside, json.dumps(report_clusters(beside[:, 0], haloes, planck_z)))


if __name__ == "__main__":
    main()
