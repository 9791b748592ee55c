"""Painting against healpy.query_disc, cluster by cluster, and the cost of a whole sky.

    python benchmarks/bench_painting.py [--nside 2048] [--n 2000] [--sky]

Both paint the same round clusters, from one set of profile tables and in discs of the same radius; rounds of the two
alternate within one run, and the ratio is of their medians. ``--sky`` also times a whole
sky in six bands, with its peak memory.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import healpy
import numba
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.inputs.instrument import read_instrument
from szeek.inputs.tsz import band_response, electron_temperature_kev
from szeek.simulate.clusters import _split_components, _tabulate_profiles, paint_clusters
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.painting import ProfileTable, paint_components
from szeek.sky.gas import MASS_BIAS, pixel_window_sigma_rad

ARCMIN = np.pi / 10800


def paint_with_query_disc(
    clusters: Table, table: ProfileTable, nside: int, response: NDArray[np.float64], out: NDArray[np.float32]
) -> None:
    """The usual way: query_disc, pix2vec, interpolate in each band, add. ``out`` is (n_band, n_pix)."""
    node = np.linspace(0, 1, table.values.shape[1])
    vectors = healpy.ang2vec(clusters["lon_deg"], clusters["lat_deg"], lonlat=True)
    row = np.round((np.log(clusters["theta500_arcmin"]) - table.log_theta_min) / table.log_theta_step).astype(int)
    for vector, r, y500 in zip(vectors, row, clusters["y500_arcmin2"], strict=True):
        edge = table.edge_arcmin[r]
        radius = table.core_arcmin * np.sqrt(np.expm1(node * np.log1p((edge / table.core_arcmin) ** 2)))
        pixels = healpy.query_disc(nside, vector, edge * ARCMIN)
        apart = np.array(healpy.pix2vec(nside, pixels)) - vector[:, None]
        distance = np.sqrt((apart**2).sum(axis=0)) / ARCMIN
        for band, factor in enumerate(response):
            out[band, pixels] += factor * 1.79 * y500 * np.interp(distance, radius, table.values[r, :, band])


def compare(clusters: Table, nside: int, fwhm_arcmin: NDArray[np.float64], rounds: int) -> None:
    """Time both, in turns, with the same tables."""
    sigma = np.hypot(fwhm_arcmin / np.sqrt(8 * np.log(2)), pixel_window_sigma_rad(nside) / ARCMIN)
    components = _split_components(clusters, float(sigma.min()))
    table = _tabulate_profiles(components.theta_arcmin.min(), components.theta_arcmin.max(), sigma)
    response = np.ones(sigma.size)
    ours = np.zeros((12 * nside**2, sigma.size), np.float32)
    theirs = np.zeros((sigma.size, 12 * nside**2), np.float32)
    paint_components(components.take(np.arange(2)), table, nside, sigma, response, ours)  # compiles
    ours[:] = 0
    theirs[:] = 0
    seconds: dict[str, list[float]] = {"szeek": [], "query_disc": []}
    for _ in range(rounds):
        start = time.perf_counter()
        paint_components(components, table, nside, sigma, response, ours)
        seconds["szeek"].append(time.perf_counter() - start)
        start = time.perf_counter()
        paint_with_query_disc(clusters, table, nside, response, theirs)
        seconds["query_disc"].append(time.perf_counter() - start)
    a, b = (np.median(seconds[name]) / len(clusters) * 1e6 for name in ("szeek", "query_disc"))
    off = np.abs(ours - theirs.T).max() / ours.max()
    print(f"{len(clusters)} clusters, nside {nside}, {sigma.size} band(s), one thread, us per cluster:")
    print(f"  szeek {a:.1f}   query_disc {b:.1f}   ratio {b / a:.1f}   largest difference {off:.1%} of the peak")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nside", type=int, default=2048)
    parser.add_argument("--n", type=int, default=2000, help="clusters per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sky", action="store_true", help="also a whole sky in six bands")
    options: Any = parser.parse_args()
    numba.set_num_threads(1)
    planck = read_instrument("planck-hfi")
    beams = np.array([band.fwhm_arcmin for band in planck.bands])
    haloes = draw_haloes(1)
    random = np.random.default_rng(1)
    some = haloes[random.choice(len(haloes), options.n, replace=False)]
    some = some["lon_deg", "lat_deg", "theta500_arcmin", "y500_arcmin2"]
    compare(some, options.nside, beams[3:4], options.rounds)
    compare(some, options.nside, beams, options.rounds)
    if options.sky:
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        start = time.process_time(), time.perf_counter()
        haloes = draw_haloes(2)
        drawn = time.process_time(), time.perf_counter()
        temperature = electron_temperature_kev(MASS_BIAS * haloes["m500_1e14msun"], haloes["z"])
        response = band_response(planck, temperature)
        paint_clusters(haloes, options.nside, beams, response)
        painted = time.process_time(), time.perf_counter()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"whole sky: {len(haloes)} haloes")
        print(f"  draw  {drawn[0] - start[0]:6.1f} s CPU {drawn[1] - start[1]:6.1f} s wall")
        print(f"  paint {painted[0] - drawn[0]:6.1f} s CPU {painted[1] - drawn[1]:6.1f} s wall, six bands")
        print(f"  peak memory {memory:.1f} GiB")


if __name__ == "__main__":
    main()
