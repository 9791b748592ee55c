"""Null skies made of the maps themselves: exact turns, and purity counted by hand."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from szeek.assess.nullsky import count_null_sources, flip_set, flip_signs, rotate_bands
from szeek.inputs.instrument import read_instrument
from szeek.sky.grids import ImageGrid
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps


@pytest.fixture(scope="module")
def maps() -> SkyMaps:
    rng = np.random.default_rng(1)
    _, lat_deg = healpy.pix2ang(16, np.arange(12 * 16**2), lonlat=True)
    seen = np.abs(lat_deg) > 10
    values = rng.normal(size=(12 * 16**2, 6)).astype(np.float32)
    values[~seen] = 0.0
    return SkyMaps(values, seen, read_instrument().bands)


def test_each_band_is_turned_by_quarter_turns_of_longitude(maps: SkyMaps) -> None:
    lon_deg, lat_deg = healpy.pix2ang(16, np.arange(len(maps.values)), lonlat=True)
    turned = rotate_bands(maps)
    for k in range(6):
        source = healpy.ang2pix(16, lon_deg - 90 * k, lat_deg, lonlat=True)
        np.testing.assert_array_equal(turned.values[:, k], maps.values[source, k])
    assert turned.snr is None and np.array_equal(turned.footprint, maps.footprint)


def test_what_one_turned_band_does_not_see_is_unseen(maps: SkyMaps) -> None:
    """A hole at longitude 45 becomes four, one for each of the turns; band 5 goes where band 1 went."""
    holed = maps.footprint.copy()
    hole = healpy.query_disc(16, healpy.ang2vec(45.0, 40.0, lonlat=True), np.radians(5.0))
    holed[hole] = False
    turned = rotate_bands(SkyMaps(np.where(holed[:, None], maps.values, 0), holed, maps.bands))
    for lon_deg in (45.0, 135.0, 225.0, 315.0):
        assert not turned.footprint[healpy.ang2pix(16, lon_deg, 40.0, lonlat=True)]
    assert (~turned.footprint).sum() - (~maps.footprint).sum() == 4 * hole.size
    assert not turned.values[~turned.footprint].any()


def test_signs_are_flipped(maps: SkyMaps) -> None:
    np.testing.assert_array_equal(flip_signs(maps).values, -maps.values)


def test_an_image_is_flipped_without_its_point_sources() -> None:
    """A source of 100 mJy in a beam of 1.4 arcmin, half of which is listed; what was not observed stays so."""
    act = read_instrument("act-dr6").select([1])
    header = fits.Header({"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CRPIX1": 101, "CRPIX2": 101, "CRVAL1": 30.0,
                          "CDELT1": -0.5 / 60, "CDELT2": 0.5 / 60, "CUNIT1": "deg", "CUNIT2": "deg"})  # fmt: skip
    grid = ImageGrid.from_header(header, (201, 201))
    sigma_rad = np.radians(1.4 / 60) / np.sqrt(8 * np.log(2))
    away = np.hypot(*np.indices((201, 201)) - 100) * np.radians(0.5 / 60)
    kcmb = 0.1 * 1e-6 / act.mjysr_per_kcmb[0] / (2 * np.pi * sigma_rad**2)  # of 0.1 Jy at its peak
    image = (1e-6 + kcmb * np.exp(-0.5 * (away / sigma_rad) ** 2)).astype(np.float32)
    image[:, :20] = 0.0
    group = ImageMaps(grid, act.bands, (Pixels(image),), (None,))
    lon_deg, lat_deg = healpy.Rotator(coord=["C", "G"])(30.0, 0.0, lonlat=True)
    compact = Table({"lon_deg": [lon_deg] * 3, "lat_deg": [lat_deg] * 3, "band": ["f150", "f090", "f150"],
                     "flux_mjy": [50.0, 70.0, 30.0], "subtracted": [True, True, False]})  # fmt: skip
    (flipped,) = flip_set(MapSet.of(group), compact, read_instrument("act-dr6")).groups
    values = np.asarray(flipped.signal[0].values)
    assert values[100, 100] == pytest.approx(-1e-6 - 0.5 * kcmb, rel=1e-3)
    np.testing.assert_allclose(values[:50, 20:], -1e-6, rtol=1e-5)
    assert not values[:, :20].any()


def test_purity_by_hand() -> None:
    """Ten of 20 sources above 0.5, of which eight are clusters and six known; three false ones in twice the area."""
    lon_deg = np.arange(20) * 15.0
    sources = Table({"lon_deg": lon_deg, "lat_deg": np.zeros(20), "p": np.repeat([0.9, 0.3], 10)})
    null = Table({"lon_deg": [1.0, 2.0, 3.0], "lat_deg": [0.0] * 3, "p": [0.95, 0.8, 0.2]})
    haloes = Table({"lon_deg": lon_deg[:8], "lat_deg": [0.0] * 8, "theta500_arcmin": [4.0] * 8})
    low, high = count_null_sources(sources, {"flipped": (null, 0.5)}, haloes[:6], haloes, thresholds=(0.1, 0.5))
    assert (low["n"], low["n_flipped"], low["purity_flipped"]) == (20, 1.5, 1 - 1.5 / 20)
    assert (high["n"], high["n_flipped"], high["purity_flipped"]) == (10, 1.0, 0.9)
    # 0.5 sqrt(2 + 2^2 / 10) / 10
    assert high["error_flipped"] == pytest.approx(0.0774597, rel=1e-5)
    assert high["matched"] == pytest.approx(0.6) and high["confirmed"] == pytest.approx(0.6, abs=0.01)
    assert high["purity_true"] == pytest.approx(0.8, abs=0.01)
    assert high["error_true"] == pytest.approx(np.sqrt(0.8 * 0.2 / 10), rel=0.02)


def test_no_sources_no_purity() -> None:
    sources = Table({"lon_deg": [10.0], "lat_deg": [0.0], "p": [0.3]})
    row = count_null_sources(sources, {"flipped": (sources, 1.0)}, sources, thresholds=(0.5,))[0]
    assert row["n"] == 0 and np.isnan([row["purity_flipped"], row["confirmed"]]).all()
