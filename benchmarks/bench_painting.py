"""Painting against healpy.query_disc; and 10,000 injected clusters painted, predicted and detected.

python benchmarks/bench_painting.py [--nside 2048] [--n 2000]

Both paint the same round clusters, from one set of profile tables and in discs of the same radius; rounds of the two
alternate within one run, and the ratio is of their medians.
"""

from __future__ import annotations

import time

import healpy
import numpy as np
from astropy.table import Table
from bench_predict import make_model
from numpy.typing import NDArray
from rows import Row, interleave, peak_gib, run, use_threads

from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.instrument import read_instrument
from szeek.simulate.components.clusters import Beams, _split_components, _tabulate_profiles
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.inject import draw_injections, inject_clusters
from szeek.simulate.painting import ProfileTable, paint_components
from szeek.sky.healpix import pixel_window_sigma_rad
from szeek.sky.skymaps import SkyMaps

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


def compare(clusters: Table, nside: int, fwhm_arcmin: NDArray[np.float64], rounds: int) -> Row:
    """Time both, in turns, with the same tables."""
    sigma = np.hypot(fwhm_arcmin / np.sqrt(8 * np.log(2)), pixel_window_sigma_rad(nside) / ARCMIN)
    components = _split_components(clusters, float(sigma.min()))
    smallest, largest = components.theta_arcmin.min(), components.theta_arcmin.max()
    table = _tabulate_profiles(smallest, largest, Beams(sigma, np.zeros(sigma.size)), "universal")
    response = np.ones(sigma.size)
    ours = np.zeros((12 * nside**2, sigma.size), np.float32)
    theirs = np.zeros((sigma.size, 12 * nside**2), np.float32)
    paint_components(components.take(np.arange(2)), table, nside, sigma, response, ours)  # compiles
    ours[:] = 0
    seconds = interleave(
        lambda: paint_components(components, table, nside, sigma, response, ours),
        lambda: paint_with_query_disc(clusters, table, nside, response, theirs),
        repeats=rounds,
    )
    a, b = (1e6 * s / len(clusters) for s in seconds)
    off = np.abs(ours - theirs.T).max() / ours.max()
    note = f"{a:.0f} against {b:.0f} us a cluster; largest difference {off:.1%} of the peak"
    bands = "one band" if sigma.size == 1 else f"{sigma.size} bands"
    against = f"healpy.query_disc, nside {nside}"
    return Row(f"painting, {bands}", against, b / a, "times faster", 5.0, "at least", 1, None, note)


def inject(nside: int, n: int) -> Row:
    """Paint injections into a sky of noise, predict it with the demo's network, and detect."""
    planck = read_instrument("planck-hfi")
    noise = np.random.default_rng(1).normal(scale=1e-4, size=(12 * nside, 6)).astype(np.float32)
    maps = SkyMaps(np.tile(noise, (nside, 1)), np.ones(12 * nside**2, bool), planck.bands)
    model = make_model(maps)
    start = time.process_time()
    maps = inject_clusters(maps, draw_injections(1, n), planck, threads=1)
    painted = time.process_time()
    p_map = predict(maps, model, threads=1)
    detect_sources(p_map, float(np.quantile(p_map[::97], 0.999)))
    seconds = time.process_time() - start
    note = f"painting {painted - start:.0f} s of it; maps of nside {nside}, one orientation"
    what = f"{n:,} injections: paint, predict, detect"
    return Row(what, "20 minutes on two cores", seconds, "core-s", 2400.0, "at most", 1, peak_gib(), note)


def measure(nside: int = 2048, n: int = 2000, rounds: int = 3) -> list[Row]:
    """One and six bands; then the injections at half the nside."""
    use_threads(1)
    beams = np.array([band.fwhm_arcmin for band in read_instrument("planck-hfi").bands])
    haloes = draw_haloes(1)
    some = haloes[np.random.default_rng(1).choice(len(haloes), n, replace=False)]
    some = some["lon_deg", "lat_deg", "theta500_arcmin", "y500_arcmin2"]
    return [*(compare(some, nside, b, rounds) for b in (beams[3:4], beams)), inject(nside // 2, 5 * n)]


if __name__ == "__main__":
    run(measure, nside=2048, n=2000, rounds=3)
