"""Pairs of clusters and the light between them, on skies painted with and without bridges."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.table import Table

from szeek.sky.projection import field_directions
from szeek.stack.bridges import (
    REGIONS,
    control_pairs,
    find_pairs,
    measure_bridges,
    measure_excess,
)

NSIDE = 256


def make_clusters(lon_deg: list[float], lat_deg: list[float], z: list[float]) -> Table:
    return Table({"lon_deg": lon_deg, "lat_deg": lat_deg, "z": z}, dtype=[float] * 3)


def add_gaussian(sky: np.ndarray, lon_deg: float, lat_deg: float, peak: float, fwhm_deg: float) -> None:
    centre = healpy.ang2vec(lon_deg, lat_deg, lonlat=True)
    ipix = healpy.query_disc(NSIDE, centre, np.radians(4 * fwhm_deg))
    radius_deg = np.degrees(healpy.rotator.angdist(centre, healpy.pix2vec(NSIDE, ipix)))
    sky[ipix] += peak * np.exp(-4 * np.log(2) * (radius_deg / fwhm_deg) ** 2)


def test_pairs_by_hand() -> None:
    # 1 deg apart at the same z; 1 deg apart but 29,000 km/s; 1 arcmin apart; no redshift.
    clusters = make_clusters([10, 11, 12, 12.0167, 13], [0] * 5, [0.1, 0.1, 0.2, 0.2, np.nan])
    pairs = find_pairs(clusters)
    assert [tuple(row) for row in zip(pairs["first"], pairs["second"], strict=True)] == [(0, 1)]
    assert pairs["separation_arcmin"][0] == pytest.approx(60)
    assert pairs["lon_deg"][0] == pytest.approx(10.5)
    assert pairs["angle_deg"][0] == pytest.approx(0, abs=1e-9)
    apart = find_pairs(clusters, velocity_km_s=(10000, np.inf))
    assert sorted(tuple(row) for row in zip(apart["first"], apart["second"], strict=True)) == [
        (0, 2), (0, 3), (1, 2), (1, 3),
    ]  # fmt: skip
    # 299792 * 0.004 / 1.102 = 1088 km/s
    close = make_clusters([10, 11], [0, 0], [0.1, 0.104])
    assert len(find_pairs(close, velocity_km_s=(0, 1087))) == 0
    assert len(find_pairs(close, velocity_km_s=(0, 1089))) == 1
    assert len(find_pairs(clusters[:1])) == 0


@pytest.mark.parametrize(
    ("lon_deg", "lat_deg"), [([359.5, 0.5], [40, 41]), ([10, 190], [89.6, 89.7]), ([50, 50], [-60, -61])]
)
def test_the_second_member_lies_on_the_x_axis(lon_deg: list[float], lat_deg: list[float]) -> None:
    pairs = find_pairs(make_clusters(lon_deg, lat_deg, [0.1, 0.1]))
    pair = pairs[0]
    # a row of three pixels, half a separation apart (on the tangent plane)
    pixel_arcmin = np.degrees(np.tan(np.radians(pair["separation_arcmin"] / 120))) * 60
    directions = field_directions(pair["lon_deg"], pair["lat_deg"], pair["angle_deg"], 1, 3, pixel_arcmin)[0]
    for direction, member in ((directions[0], pair["first"]), (directions[2], pair["second"])):
        expected = healpy.ang2vec(lon_deg[member], lat_deg[member], lonlat=True)
        np.testing.assert_allclose(direction / np.linalg.norm(direction), expected, atol=1e-9)


@pytest.mark.parametrize("fwhm_deg", [0.8, 1.6])
def test_round_light_a_constant_and_a_slope_are_no_bridge(fwhm_deg: float) -> None:
    clusters = make_clusters([100, 104], [30, 31], [0.1, 0.1])
    pairs = find_pairs(clusters, separation_arcmin=(20, 400))
    sky = np.full(12 * NSIDE**2, 0.7)
    for row, peak in zip(clusters, (1.0, 3.0), strict=True):
        add_gaussian(sky, row["lon_deg"], row["lat_deg"], peak, fwhm_deg)
    x, _, z = healpy.pix2vec(NSIDE, np.arange(sky.size))
    sky += 0.5 * x - 0.3 * z
    # slopes are straight on the tangent plane to second order in 5 deg: 0.01
    assert abs(measure_excess(sky.astype(np.float32), pairs)[0, 0]) < 0.012
    # hard discs, as a network paints them, do not make one either
    disc = np.zeros(12 * NSIDE**2, np.float32)
    for row in clusters:
        centre = healpy.ang2vec(row["lon_deg"], row["lat_deg"], lonlat=True)
        disc[healpy.query_disc(NSIDE, centre, np.radians(0.7))] = 1
    assert measure_excess(disc, pairs)[0, 0] == pytest.approx(0, abs=1e-6)


def test_a_bridge_is_measured_in_full() -> None:
    # A band of 0.2 between the clusters, wider than the box.
    clusters = make_clusters([100, 104], [0, 0], [0.1, 0.1])
    pairs = find_pairs(clusters, separation_arcmin=(20, 400))
    lon_deg, lat_deg = healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), lonlat=True)
    sky = np.where((lon_deg > 100) & (lon_deg < 104) & (np.abs(lat_deg) < 1.2), 0.2, 0).astype(np.float32)
    assert measure_excess(sky, pairs)[0, 0] == pytest.approx(0.2, rel=1e-3)
    # masked between: unknown
    assert np.isnan(measure_excess(sky, pairs, mask=~((lon_deg > 101) & (lon_deg < 103) & (np.abs(lat_deg) < 2))))


@pytest.fixture(scope="module")
def paired_sky() -> tuple[np.ndarray, Table]:
    """Noise, 60 pairs of clusters 4 deg apart of which every other is physical; the first ten of these have a
    bridge of 5 sigma of the noise in a box."""
    rng = np.random.default_rng(7)
    sky = rng.normal(0, 0.3, 12 * NSIDE**2)
    centres = np.transpose(healpy.pix2ang(4, rng.permutation(192)[:60], lonlat=True))
    rows = []
    for k, (lon, lat) in enumerate(centres):
        lat = np.clip(lat, -60, 60)
        angle = rng.uniform(0, 360)
        middle = SkyCoord(lon, lat, unit="deg")
        ends = [middle.directional_offset_by(a * units.deg, 2 * units.deg) for a in (angle, angle + 180)]
        for n, end in enumerate(ends):
            rows.append((end.ra.deg, end.dec.deg, 0.07 + (0.2 * n if k % 2 else 0)))
            add_gaussian(sky, end.ra.deg, end.dec.deg, 3.0, 0.8)
        if k % 2 == 0 and k < 20:
            add_gaussian(sky, lon, lat, 0.6, 1.5)
    return sky.astype(np.float32), Table(rows=rows, names=["lon_deg", "lat_deg", "z"])


def test_bridges_stand_out_from_control_pairs(paired_sky: tuple[np.ndarray, Table]) -> None:
    sky, clusters = paired_sky
    pairs = find_pairs(clusters, separation_arcmin=(220, 260), velocity_km_s=(0, 500))
    pairs = pairs[np.isin(pairs["second"] - pairs["first"], [1]) & (pairs["first"] % 2 == 0)]
    assert len(pairs) == 30
    found = measure_bridges(sky, clusters, pairs)
    bridged = found["first"] < 40
    assert (found["n_control"] >= 20).all()
    assert np.median(found["sigma"][bridged]) > 3
    assert np.abs(np.median(found["sigma"][~bridged])) < 1
    assert found["p_value"][bridged].max() < 0.3
    # too few controls: no significance
    assert np.isnan(measure_bridges(sky, clusters, pairs[:1], n_controls_min=10**6)["sigma"][0])


def test_controls_are_alike_but_apart(paired_sky: tuple[np.ndarray, Table]) -> None:
    _, clusters = paired_sky
    pair = find_pairs(clusters, separation_arcmin=(220, 260), velocity_km_s=(0, 500))[0]
    controls = control_pairs(clusters, pair)
    assert len(controls) >= 20
    assert np.all(np.abs(controls["separation_arcmin"] / pair["separation_arcmin"] - 1) <= 0.15 + 1e-9)
    z = np.asarray(clusters["z"])
    assert np.all(np.abs(z[controls["first"]] - z[controls["second"]]) > 0.03)


@pytest.mark.realdata
def test_regions_hold_their_clusters(real_data: Path) -> None:
    from szeek.inputs.catalogues import read_catalogue

    mcxc = read_catalogue(real_data / "catalogues" / "mcxc.fits")
    clusters = SkyCoord(mcxc["lon_deg"], mcxc["lat_deg"], unit="deg")
    for region, redshift in zip(REGIONS, (0.048, 0.073, 0.0231, 0.0214), strict=True):
        separation = SkyCoord(region.lon_deg, region.lat_deg, unit="deg").separation(clusters).arcmin
        assert separation.min() < 20  # A399 and A401 lie 18 arcmin from their middle
        assert mcxc["z"][separation.argmin()] == pytest.approx(redshift, abs=0.002)


def test_bad_input_is_refused() -> None:
    clusters = make_clusters([1, 2], [0, 0], [0.1, 0.1])
    with pytest.raises(ValueError, match=r"separation_arcmin is \(50, 20\), expected 0 < least < greatest"):
        find_pairs(clusters, separation_arcmin=(50, 20))
    with pytest.raises(ValueError, match=r"boxes of half sizes 0.6 x 0.15"):
        measure_excess(np.zeros(12 * 16**2, np.float32), find_pairs(clusters), half_length=0.6)
