"""What X-rays add to a network: the second stage fitted on one simulated sky and scored on another.

python benchmarks/witnesses.py --fit RUN --score RUN --calibration FILE [--seed N]
    [--fit-tiles 6 9 38 41] [--tiles 1 6 9 14 32 38 41 45] [--out xray.json]

Both runs hold the prediction of one network on skies of different seeds; the fit's tiles were held out of the
training, the scored sky is of a seed that no network was trained on. Photons are drawn of each sky
(`szeek.simulate.components.xray`), S/N are measured at all sources with p > 0.02, and completeness at given purities
is that of `szeek.assess.recovery.completeness_purity` for PURITY and for the two together. AGN nulls are the point
sources above 1e-12 erg/s/cm2 that have no halo of Y500 > 1e-4 arcmin2 within 15 arcmin; a random position stands
beside them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table

from szeek.assess.calibrate import Calibration, expected_calibration_error, judge_sources, measure_reliability
from szeek.assess.recovery import HaloCuts, completeness_purity
from szeek.assess.sources import find_sources
from szeek.assess.witness import fit_xray_purity
from szeek.find.predict import read_prediction
from szeek.inputs.catalogues import read_catalogue, select_clusters, separation_arcmin
from szeek.measure.xray import measure_xray
from szeek.simulate.components.xray import draw_point_sources, draw_xray_sky
from szeek.simulate.haloes import draw_haloes
from szeek.sky.photons import PhotonMap
from szeek.sky.tiles import tile_of

PURITIES = (0.9, 0.8, 0.5)
LEAST_P = 0.02


def measure(
    run: Path, tiles: list[int], calibration: Calibration, nside: int, seed: int | None = None
) -> tuple[Table, np.ndarray, Table, int]:
    """Sources of the tiles with PURITY and S/N, which are clusters, the haloes, and the sky's seed."""
    seed = json.loads((run / "run.json").read_text())["config"]["seed"] if seed is None else seed
    truth = run / "simulated" / "truth.fits"
    haloes = read_catalogue(truth) if truth.is_file() else draw_haloes(seed)
    sky = draw_xray_sky(haloes, seed, nside)
    photons = PhotonMap(sky.counts, sky.exposure_s, float(healpy.nside2pixarea(nside, degrees=True)) * 3600)
    p_map = read_prediction(run / "prediction.fits")
    sources = find_sources(p_map, LEAST_P, deblend=True, calibration=calibration)
    sources, real = judge_sources(sources, haloes, tiles)
    sources["snr"] = measure_xray(sources["lon_deg", "lat_deg"], photons)["xray_snr"]
    return sources, real, haloes, seed


def score(
    sources: Table, p: np.ndarray, haloes: Table, clusters: Table, tiles: list[int], least_y500: float
) -> dict[str, list[float]]:
    """Completeness at the purities, of sources in the order of p; true is what lies at a halo of that flux."""
    cuts = HaloCuts(least_y500)
    ordered = sources["lon_deg", "lat_deg"]
    ordered["p"] = np.clip(p, 1e-9, 1 - 1e-9)
    found: dict[str, list[float]] = {}
    for known in ("planck_z", "planck_no-z"):
        mock = select_clusters(clusters, known)
        rows = completeness_purity(ordered, haloes, mock, tiles=tiles, purities=PURITIES, thresholds=(), cuts=cuts)
        for sample in ("planck_z", "y500>5e-4", "y500>1e-3"):
            name = known if sample == "planck_z" else sample
            found[name] = [round(float(c), 3) for c in rows["completeness"][rows["sample"] == sample]]
    return found


def share_near(places: Table, sources: Table, chosen: np.ndarray) -> float:
    """Share of places with a chosen source within 5 arcmin."""
    return float((separation_arcmin(places, sources[chosen]) < 5).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", type=Path, required=True)
    parser.add_argument("--score", type=Path, required=True)
    parser.add_argument("--calibration", type=Path, required=True, help="the network's calibration.ecsv")
    parser.add_argument("--clusters", type=Path, help="mock catalogues of the scored sky; default: its clusters.fits")
    parser.add_argument("--seed", type=int, help="of the scored sky, where another run than its own predicted it")
    parser.add_argument("--fit-tiles", type=int, nargs="+", default=[6, 9, 38, 41])
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 6, 9, 14, 32, 38, 41, 45])
    parser.add_argument("--nside", type=int, default=2048, help="of the photons' map")
    parser.add_argument("--least-y500", type=float, nargs="+", default=[3e-4, 1e-4], help="of what counts as true")
    parser.add_argument("--network", default="szeek-2")
    parser.add_argument("--out", type=Path, help="where the second stage is written")
    given = parser.parse_args()
    calibration = Calibration.from_table(Table.read(given.calibration))
    known, real, _, seed = measure(given.fit, given.fit_tiles, calibration, given.nside)
    where = "all tiles" if len(given.fit_tiles) == 48 else f"tiles {given.fit_tiles}"
    made_from = f"{given.network}; simulated sky of seed {seed}, {where}, p > {LEAST_P:g}"
    stage = fit_xray_purity(known["purity"], known["snr"], real, made_from)
    print(json.dumps({"coefficients": np.round(stage.coefficients, 3).tolist(), "n": [len(real), int(real.sum())]}))
    if given.out:
        stage.write(given.out)
    sources, real, haloes, seed = measure(given.score, given.tiles, calibration, given.nside, given.seed)
    clusters = read_catalogue(given.clusters or given.score / "clusters.fits")
    own, joint = np.asarray(sources["purity"], float), stage.predict(sources["purity"], sources["snr"])
    points = draw_point_sources(seed)
    points = points[(points["flux"] > 1e-12) & np.isin(tile_of(points["lon_deg"], points["lat_deg"]), given.tiles)]
    gas = haloes[np.asarray(haloes["y500_arcmin2"]) > 1e-4]
    nulls = points[separation_arcmin(points, gas) > 15]
    moved = Table({"lon_deg": nulls["lon_deg"], "lat_deg": np.clip(nulls["lat_deg"] + 1.0, -90, 90)})
    moved = moved[separation_arcmin(moved, gas) > 15]
    for name, p in (("microwaves", own), ("with X-rays", joint)):
        error = expected_calibration_error(measure_reliability(p, real))
        near = {"agn": share_near(nulls, sources, p > 0.5), "random": share_near(moved, sources, p > 0.5)}
        print(json.dumps({"order": name, "calibration_error": round(float(error), 4), "n_agn": len(nulls), **near}))
        for least in given.least_y500:
            found = score(sources, p, haloes, clusters, given.tiles, least)
            print(json.dumps({"order": name, "least_y500": least, **found}), flush=True)
    for label, part in (("clusters", real), ("others", ~real)):
        snr = np.asarray(sources["snr"], float)[part]
        print(label, np.nanpercentile(snr, (5, 16, 50, 84, 95)).round(2).tolist())


if __name__ == "__main__":
    main()
