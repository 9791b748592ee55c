"""Painted clusters: flux, an independent projection and convolution, shapes, and bits that threads do not change."""

from __future__ import annotations

import healpy
import numba
import numpy as np
import pytest
from astropy.table import Table
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import i0e

from szeek.physics.gas import pressure_profile
from szeek.simulate.components.clusters import paint_clusters, paint_y
from szeek.sky.healpix import pixel_window_sigma_rad

ARCMIN = np.pi / 10800


def one(lon: float, lat: float, theta: float, y500: float = 1e-3, **shape: float) -> Table:
    columns = {"lon_deg": [lon], "lat_deg": [lat], "theta500_arcmin": [theta], "y500_arcmin2": [y500]}
    return Table(columns | {name: [value] for name, value in shape.items()})


ROUND = {
    "axis_ratio": 1.0,
    "position_angle_deg": 0.0,
    "concentration": 1.0,
    "clump_fraction": 0.0,
    "clump_distance": 0.0,
    "pair_id": -1,
}


def flux(values: NDArray[np.float32]) -> float:
    return float(values.sum(dtype=np.float64) * 4 * np.pi / values.size / ARCMIN**2)


def test_total_flux_is_1_79_of_that_inside_r500() -> None:
    def inside(edge: float) -> float:
        return float(quad(lambda x: x**2 * pressure_profile(x), 0, edge, points=[0.01, 1.0])[0])

    # Planck 2015 results XXVII quotes Y5R500 = 1.79 Y500
    assert inside(5.0) / inside(1.0) == pytest.approx(1.79, rel=0.01)


@pytest.mark.parametrize("theta", [0.5, 6.0, 40.0])
@pytest.mark.parametrize(
    ("lon", "lat"), [(0.0, 0.0), (359.999, -41.8), (123.0, 41.81), (10.0, 90.0), (200.0, -89.9), (45.0, 66.44)]
)
def test_flux_is_conserved_wherever_the_cluster_is(theta: float, lon: float, lat: float) -> None:
    for nside, fwhm in ((1024, 5.0), (128, 5.0)):
        assert flux(paint_y(one(lon, lat, theta), nside, fwhm)) == pytest.approx(1.79e-3, rel=0.002)


def test_flux_of_bands_and_responses() -> None:
    clusters = Table({k: [*one(0, 0, 3.0)[k], *one(50, 20, 9.0)[k]] for k in one(0, 0, 3.0).colnames})
    response = np.array([[-4.0, 6.0], [-3.8, 5.5]])
    maps = paint_clusters(clusters, 512, [9.68, 4.94], response)
    for band in range(2):
        assert flux(maps[:, band]) == pytest.approx(1.79e-3 * response[:, band].sum(), rel=0.002)


@pytest.mark.parametrize(("theta", "fwhm"), [(1.0, 5.0), (8.0, 10.0), (30.0, 7.3)])
def test_profile_is_that_of_direct_projection_and_convolution(theta: float, fwhm: float) -> None:
    """Against the line-of-sight integral and a real-space convolution: no Fourier transform in common."""
    s = np.concatenate([[0.0], np.geomspace(1e-4, 5.0, 1500)])
    node, weight = np.polynomial.legendre.leggauss(400)
    t = (node + 1) / 2
    depth = np.sqrt(np.maximum(25 - s**2, 0))[:, None]
    line = depth * t**3  # crowded towards the centre
    projected = (weight / 2 * 3 * t**2 * depth * 2 * pressure_profile(np.hypot(s[:, None], line) + 1e-12)).sum(1)
    norm = np.trapezoid(2 * np.pi * s * projected, s)
    sigma = fwhm / np.sqrt(8 * np.log(2)) / theta

    def convolved(r: float) -> float:
        fine = np.union1d(np.linspace(0, 5, 20001), s)
        kernel = np.exp(-((r - fine) ** 2) / (2 * sigma**2)) * i0e(r * fine / sigma**2) / sigma**2
        return float(np.trapezoid(fine * np.interp(fine, s, projected) * kernel, fine) / norm / theta**2)

    nside = 1024
    values = paint_y(one(30.0, 20.0, theta), nside, fwhm, pixel_window=False)
    centre = healpy.ang2vec(30.0, 20.0, lonlat=True)
    near = healpy.query_disc(nside, centre, (2 * theta + fwhm) * ARCMIN)[::97][:25]
    radius = np.arccos(np.clip(np.array(healpy.pix2vec(nside, near)).T @ centre, -1, 1)) / ARCMIN / theta
    expected = 1.79e-3 * np.array([convolved(r) for r in radius])
    # 0.4 % : 0.2 % of the flux lies outside the disc and is scaled back in
    np.testing.assert_allclose(values[near], expected, rtol=4e-3, atol=3e-4 * expected.max())


def test_point_source_limit_is_the_beam() -> None:
    values = paint_y(one(77.0, -33.0, 0.01), 1024, 12.0, pixel_window=True)
    sigma2 = (12.0 / np.sqrt(8 * np.log(2))) ** 2 + (pixel_window_sigma_rad(1024) / ARCMIN) ** 2
    at = healpy.query_disc(1024, healpy.ang2vec(77.0, -33.0, lonlat=True), 10 * ARCMIN)
    centre = healpy.ang2vec(77.0, -33.0, lonlat=True)
    r = np.arccos(np.array(healpy.pix2vec(1024, at)).T @ centre) / ARCMIN
    expected = 1.79e-3 * np.exp(-(r**2) / (2 * sigma2)) / (2 * np.pi * sigma2)
    np.testing.assert_allclose(values[at], expected, rtol=0.01)  # theta500 is raised to a tenth of the beam


def test_pixels_are_those_of_query_disc() -> None:
    """Every pixel of the disc is painted once, none outside: healpy is the judge, at poles and the meridian too."""
    for lon, lat in ((0.0, 0.0), (359.9, 88.9), (12.0, -90.0), (180.0, 41.8), (90.0, -41.81)):
        values = paint_y(one(lon, lat, 30.0), 64, 60.0)
        painted = np.flatnonzero(values)
        centre = healpy.ang2vec(lon, lat, lonlat=True)
        radius = np.arccos(np.clip(np.array(healpy.pix2vec(64, painted)).T @ centre, -1, 1)).max()
        inside = healpy.query_disc(64, centre, radius * (1 + 1e-9))
        np.testing.assert_array_equal(painted, np.sort(inside))


def test_same_bits_for_any_number_of_threads() -> None:
    random = np.random.default_rng(5)
    n = 3000
    clusters = Table(
        {
            "lon_deg": random.uniform(0, 360, n),
            "lat_deg": np.degrees(np.arcsin(random.uniform(-1, 1, n))),
            "theta500_arcmin": random.lognormal(1.0, 0.8, n),
            "y500_arcmin2": random.lognormal(-8, 1, n),
        }
    )
    first = paint_clusters(clusters, 128, [10.0, 5.0], [-4.0, 6.0], threads=1)
    again = paint_clusters(clusters, 128, [10.0, 5.0], [-4.0, 6.0], threads=numba.config.NUMBA_NUM_THREADS)
    np.testing.assert_array_equal(first, again)


def test_linearity_and_adding_to_maps() -> None:
    clusters = one(10.0, 5.0, 5.0)
    out = np.full((12 * 64**2, 1), 3.0, np.float32)
    back = paint_clusters(clusters, 64, [60.0], [2.0], out=out)
    assert back is out
    np.testing.assert_allclose(out[:, 0] - 3.0, 2 * paint_y(clusters, 64, 60.0), atol=5e-7)
    y = np.zeros(12 * 64**2, np.float32)
    assert paint_y(clusters, 64, 60.0, out=y) is y and y.max() > 0


def moments(values: NDArray[np.float32], lon: float, lat: float, reach_arcmin: float) -> NDArray[np.float64]:
    """Second moments (north, longitude) of the inner brightness, arcmin^2."""
    nside = healpy.npix2nside(values.size)
    at = healpy.query_disc(nside, healpy.ang2vec(lon, lat, lonlat=True), reach_arcmin * ARCMIN)
    pixel_lon, pixel_lat = healpy.pix2ang(nside, at, lonlat=True)
    north = (pixel_lat - lat) * 60
    east = ((pixel_lon - lon + 180) % 360 - 180) * np.cos(np.radians(lat)) * 60
    return np.cov(north, east, aweights=values[at].astype(float))


def test_elongation_lies_along_the_position_angle_and_keeps_the_flux() -> None:
    shape = ROUND | {"axis_ratio": 0.65, "position_angle_deg": 30.0}
    values = paint_y(one(100.0, 10.0, 30.0, **shape), 512, 10.0)
    assert flux(values) == pytest.approx(1.79e-3, rel=0.002)
    tensor = moments(values, 100.0, 10.0, 60.0)
    eigenvalue, vector = np.linalg.eigh(tensor)
    angle = np.degrees(np.arctan2(vector[1, 1], vector[0, 1])) % 180
    assert angle == pytest.approx(30.0, abs=2.0)
    assert 0.6 < np.sqrt(eigenvalue[0] / eigenvalue[1]) < 0.9
    # a round one is round
    even = np.linalg.eigvalsh(moments(paint_y(one(100.0, 10.0, 30.0, **ROUND), 512, 10.0), 100.0, 10.0, 60.0))
    assert even[0] / even[1] == pytest.approx(1.0, abs=0.01)


def test_clump_is_a_second_peak_with_its_share() -> None:
    shape = ROUND | {"clump_fraction": 0.3, "clump_distance": 1.0, "position_angle_deg": 90.0}
    disturbed = paint_y(one(40.0, 0.0, 30.0, **shape), 512, 5.0)
    assert flux(disturbed) == pytest.approx(1.79e-3, rel=0.002)
    side = healpy.ang2pix(512, 40.5, 0.0, lonlat=True)
    other = healpy.ang2pix(512, 39.5, 0.0, lonlat=True)
    assert disturbed[side] > 2 * disturbed[other]


def test_merging_pair_has_a_bridge_of_six_percent() -> None:
    rows = {name: [one(0, 0, 17.0, **ROUND)[name][0]] * 2 for name in one(0, 0, 17.0, **ROUND).colnames}
    pair = Table(rows)
    pair["lon_deg"], pair["pair_id"] = [0.0, 0.62], [0, 0]  # 37 arcmin, as A399 and A401
    alone = pair.copy()
    alone["pair_id"] = [-1, -1]
    bridged, plain = paint_y(pair, 512, 5.0), paint_y(alone, 512, 5.0)
    assert flux(bridged - plain) == pytest.approx(0.06 * 2 * 1.79e-3, rel=0.005)
    middle = healpy.ang2pix(512, 0.31, 0.0, lonlat=True)
    assert bridged[middle] > 1.2 * plain[middle]


def test_no_clusters_no_signal() -> None:
    assert not paint_y(one(0, 0, 1.0)[:0], 16, 10.0).any()
    assert not paint_y(one(0, 0, 1.0, y500=0.0), 16, 10.0).any()


def test_errors() -> None:
    good = one(0, 0, 5.0)
    with pytest.raises(ValueError, match="no column theta500_arcmin"):
        paint_y(good["lon_deg", "lat_deg", "y500_arcmin2"], 16, 10.0)
    with pytest.raises(ValueError, match="theta500_arcmin of cluster 0 is nan"):
        paint_y(one(0, 0, np.nan), 16, 10.0)
    with pytest.raises(ValueError, match=r"theta500_arcmin of cluster 0 is 0\.0, expected a positive"):
        paint_y(one(0, 0, 0.0), 16, 10.0)
    with pytest.raises(ValueError, match=r"response has shape \(2,\), expected \(1,\) or \(1, 1\)"):
        paint_clusters(good, 16, [10.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="out is float64"):
        paint_clusters(good, 16, [10.0], [1.0], out=np.zeros((3072, 1)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nside is 100"):
        paint_y(good, 100, 10.0)
    with pytest.raises(ValueError, match="expected a positive beam"):
        paint_y(good, 16, -1.0)
