"""Painting against healpy.query_disc, cluster by cluster, and the cost of a whole sky.

    python benchmarks/bench_painting.py [--nside 2048] [--n 2000] [--sky]

Both paint the same round clusters into one band, with discs of the same radius and profile tables of the same kind;
rounds of the two alternate within one run, and the ratio is of their medians. ``--sky`` also times a whole
sky in six bands, with its peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.inputs.instrument import read_instrument
from szeek.simulate.clusters import _tabulate_profiles, paint_clusters, paint_y, pixel_window_sigma_rad
from szeek.simulate.haloes import MASS_BIAS, draw_haloes
from szeek.simulate.spectra import band_response, electron_temperature_kev

ARCMIN = np.pi / 10800


def paint_with_query_disc(clusters: Table, nside: int, fwhm_arcmin: float, out: NDArray[np.float32]) -> None:
    """The usual way: query_disc, pix2vec, interpolate, add."""
    sigma = np.hypot(fwhm_arcmin / np.sqrt(8 * np.log(2)), pixel_window_sigma_rad(nside) / ARCMIN)
    theta = np.asarray(clusters["theta500_arcmin"], np.float64)
    table = _tabulate_profiles(theta.min(), theta.max(), np.array([sigma]))
    node = np.linspace(0, 1, table.values.shape[1])
    vectors = healpy.ang2vec(clusters["lon_deg"], clusters["lat_deg"], lonlat=True)
    row = np.round((np.log(theta) - table.log_theta_min) / table.log_theta_step).astype(int)
    for vector, r, y500 in zip(vectors, row, clusters["y500_arcmin2"], strict=True):
        edge = table.edge_arcmin[r]
        radius = table.core_arcmin * np.sqrt(np.expm1(node * np.log1p((edge / table.core_arcmin) ** 2)))
        pixels = healpy.query_disc(nside, vector, edge * ARCMIN)
        apart = np.array(healpy.pix2vec(nside, pixels)) - vector[:, None]
        distance = np.sqrt((apart**2).sum(axis=0)) / ARCMIN
        out[pixels] += (1.79 * y500 * np.interp(distance, radius, table.values[r, :, 0])).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nside", type=int, default=2048)
    parser.add_argument("--n", type=int, default=2000, help="clusters per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sky", action="store_true", help="also a whole sky in six bands")
    options: Any = parser.parse_args()
    haloes = draw_haloes(1)
    random = np.random.default_rng(1)
    some = haloes[random.choice(len(haloes), options.n, replace=False)]
    some = some["lon_deg", "lat_deg", "theta500_arcmin", "y500_arcmin2"]
    ours, theirs = (np.zeros(12 * options.nside**2, np.float32) for _ in range(2))
    paint_y(some[:10], options.nside, 5.0, out=np.zeros_like(ours))  # compiles
    seconds: dict[str, list[float]] = {"szeek": [], "query_disc": []}
    for _ in range(options.rounds):
        start = time.perf_counter()
        paint_y(some, options.nside, 5.0, out=ours, threads=1)
        seconds["szeek"].append(time.perf_counter() - start)
        start = time.perf_counter()
        paint_with_query_disc(some, options.nside, 5.0, theirs)
        seconds["query_disc"].append(time.perf_counter() - start)
    a, b = np.median(seconds["szeek"]), np.median(seconds["query_disc"])
    off = np.abs(ours - theirs).max() / ours.max()
    print(f"{options.n} clusters, nside {options.nside}, one thread, tables included in both")
    print(f"  szeek {1e6 * a / options.n:8.1f} us per cluster")
    print(f"  query_disc {1e6 * b / options.n:8.1f} us per cluster")
    print(f"  ratio {b / a:.1f}, largest difference {off:.1%} of the peak")
    if options.sky:
        del ours, theirs
        planck = read_instrument("planck-hfi")
        start = time.process_time(), time.perf_counter()
        haloes = draw_haloes(2)
        drawn = time.process_time(), time.perf_counter()
        temperature = electron_temperature_kev(MASS_BIAS * haloes["m500_1e14msun"], haloes["z"])
        response = band_response(planck, temperature)
        paint_clusters(haloes, options.nside, [band.fwhm_arcmin for band in planck.bands], response)
        painted = time.process_time(), time.perf_counter()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"whole sky: {len(haloes)} haloes")
        print(f"  draw  {drawn[0] - start[0]:6.1f} s CPU {drawn[1] - start[1]:6.1f} s wall")
        print(f"  paint {painted[0] - drawn[0]:6.1f} s CPU {painted[1] - drawn[1]:6.1f} s wall, six bands")
        print(f"  peak memory {memory:.1f} GiB")


if __name__ == "__main__":
    main()
