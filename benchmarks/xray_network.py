"""What X-rays add as input of a network: the same sky searched with them, without, and by a network of bands alone.

python benchmarks/xray_network.py SKY --seed N [--model szeek-1x] [--beside szeek-2] [--tiles 1 6 9 14 32 38 41 45]
    [--exposure 300] [--flux-per-rate 1.2e-11] [--threads 2] [--out FILE.ecsv]

SKY is a run of a simulated sky of a seed that neither network was trained on (`szeek run CONFIG --out SKY --until
filter`). Its photons are drawn anew for the exposure given; completeness at given purities is that of
`szeek.assess.recovery.completeness_purity`, with haloes above 3e-4 arcmin2 as true, and above 1e-4. AGN nulls are the
point sources above 1e-12 erg/s/cm2 that have no halo of Y500 > 1e-4 arcmin2 within 15 arcmin, and a position a degree
away beside each.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table
from witnesses import LEAST_P, PURITIES, score, share_near

from szeek.assess.calibrate import expected_calibration_error, judge_sources, measure_reliability
from szeek.assess.sources import find_sources
from szeek.filter.further import photon_map
from szeek.find.predict import predict
from szeek.inputs.catalogues import read_catalogue, separation_arcmin
from szeek.learn.model import find_model, load_model
from szeek.pipeline.products import RunFolder
from szeek.simulate.components.xray import XraySurvey, draw_point_sources, draw_xray_sky
from szeek.sky.mapset import open_maps
from szeek.sky.photons import PhotonMap
from szeek.sky.tiles import pixels_in_tiles, tile_of


def agn_without_gas(seed: int, haloes: Table, tiles: list[int]) -> tuple[Table, Table]:
    """Bright X-ray points far from every cluster, and positions a degree from them."""
    points = draw_point_sources(seed)
    points = points[(points["flux"] > 1e-12) & np.isin(tile_of(points["lon_deg"], points["lat_deg"]), tiles)]
    gas = haloes[np.asarray(haloes["y500_arcmin2"]) > 1e-4]
    nulls = points[separation_arcmin(points, gas) > 15]
    moved = Table({"lon_deg": nulls["lon_deg"], "lat_deg": np.clip(nulls["lat_deg"] + 1.0, -90, 90)})
    return nulls, moved[separation_arcmin(moved, gas) > 15]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sky", type=Path)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--model", default="szeek-1x")
    parser.add_argument("--beside", default="szeek-2")
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 6, 9, 14, 32, 38, 41, 45])
    parser.add_argument("--exposure", type=float, default=300.0, help="median over the sky, in s")
    parser.add_argument("--flux-per-rate", type=float, default=XraySurvey().flux_per_rate)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    maps = open_maps(given.sky / "maps")
    haloes = read_catalogue(given.sky / "simulated" / "truth.fits")
    clusters = read_catalogue(given.sky / "clusters.fits")
    survey = XraySurvey(given.exposure, given.flux_per_rate)
    drawn = draw_xray_sky(haloes, given.seed, maps.nside, survey)
    area = float(healpy.nside2pixarea(maps.nside, degrees=True)) * 3600
    xray = photon_map("xray", PhotonMap(drawn.counts, drawn.exposure_s, area), given.threads)
    where = pixels_in_tiles(maps.nside, given.tiles)
    nulls, moved = agn_without_gas(given.seed, haloes, given.tiles)
    rows = []
    for least in (3e-4, 1e-4):  # X-rays alone, by the S/N in the wider window: S / (S + 5) is below 1 as p is
        snr = np.full(len(where), np.nan, np.float32)
        snr[xray.values.ipix] = np.maximum(xray.values.values[:, 1], 0)
        snr[~where] = np.nan
        peaks = find_sources(snr / (snr + 5), 4 / 9, deblend=True)
        found = score(peaks, np.asarray(peaks["p"], float), haloes, clusters, given.tiles, least)
        print(json.dumps({"order": "X-rays alone", "least_y500": least, **found}), flush=True)
    for name, further in ((given.beside, ()), (given.model, ()), (given.model, (xray,))):
        model = load_model(name, bfloat16=True)
        searched = replace(maps, further=further)
        p_map = predict(searched, model, rotations=4, where=where, threads=given.threads)
        folder = RunFolder(find_model(name))
        calibration = folder.calibration
        sources = find_sources(p_map, LEAST_P, deblend=True, calibration=calibration)
        label = f"{name}, with X-rays" if further else name
        ranked = np.asarray(sources["p"], float)
        if calibration is not None:
            judged, real = judge_sources(sources, haloes, given.tiles)
            purity = np.asarray(judged["purity"], float)
            error = float(expected_calibration_error(measure_reliability(purity, real)))
            near = [share_near(t, judged, purity > 0.5) for t in (nulls, moved)]
            sources, ranked = judged, purity
            print(json.dumps({"order": label, "calibration_error": round(error, 4), "n_agn": len(nulls),
                              "agn": near[0], "random": near[1]}), flush=True)  # fmt: skip
        for least in (3e-4, 1e-4):
            found = score(sources, ranked, haloes, clusters, given.tiles, least)
            print(json.dumps({"order": label, "least_y500": least, **found}), flush=True)
            for sample, values in found.items():
                rows.append((label, least, sample, *values))
    if given.out:
        names = ["network", "least_y500", "sample", *(f"completeness_{purity:g}" for purity in PURITIES)]
        meta = {"seed": given.seed, "tiles": given.tiles}
        Table(rows=rows, names=names, meta=meta).write(given.out, overwrite=True)


if __name__ == "__main__":
    main()
