"""Maps of photons: HEALPix in any order and frame, images, rates; and what is refused."""

import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from szeek.inputs.photons import read_photons

NSIDE = 64
PLACE = SkyCoord(120.0, 35.0, unit="deg", frame="galactic")


def spot(frame):
    """One photon in each pixel, a hundred in that of PLACE, in the map's own frame."""
    counts = np.ones(12 * NSIDE**2, np.float32)
    there = PLACE.transform_to(frame)
    lon, lat = (there.l.deg, there.b.deg) if frame == "galactic" else (there.ra.deg, there.dec.deg)
    counts[healpy.ang2pix(NSIDE, lon, lat, lonlat=True)] = 100
    return counts


def sum_near(photons, radius_arcmin=50.0):
    direction = PLACE.galactic.cartesian.xyz.value
    return float(photons.counts[photons.disc(direction, radius_arcmin)[0]].max())


@pytest.mark.parametrize(("frame", "coord", "nested"), [("galactic", "G", False), ("icrs", "C", True)])
def test_healpix_of_any_order_and_frame_has_its_source_in_the_same_place(tmp_path, frame, coord, nested):
    counts = spot(frame)
    values = healpy.reorder(counts, r2n=True) if nested else counts
    healpy.write_map(tmp_path / "x.fits", values, nest=nested, coord=coord, column_names=["COUNTS"],
                     column_units="count", dtype=np.float32)  # fmt: skip
    photons = read_photons(tmp_path / "x.fits", 300.0)
    assert sum_near(photons) == 100 and float(photons.counts.sum()) == float(counts.sum())
    assert np.unique(photons.exposure_s).tolist() == [300.0]


def test_rates_become_counts_and_an_exposure_of_zero_is_unobserved(tmp_path):
    exposure = np.full(12 * NSIDE**2, 200.0, np.float32)
    exposure[:1000] = 0.0
    common = {"coord": "G", "dtype": np.float32}
    healpy.write_map(tmp_path / "r.fits", spot("galactic") / 200, column_units="count / s", **common)
    healpy.write_map(tmp_path / "e.fits", exposure, column_names=["EXPOSURE"], column_units="s", **common)
    photons = read_photons(tmp_path / "r.fits", tmp_path / "e.fits")
    assert sum_near(photons) == pytest.approx(100, rel=1e-6)
    assert not photons.counts[:1000].any()
    assert len(photons.disc(np.array([0.0, 0.0, 1.0]), 60.0)[0]) == 0


def test_an_image_lies_where_its_wcs_says(tmp_path):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt, wcs.wcs.crpix = ["RA---SIN", "DEC--SIN"], [-1 / 60, 1 / 60], [60.5, 50.5]
    wcs.wcs.crval = [PLACE.icrs.ra.deg + 0.3, PLACE.icrs.dec.deg]
    counts = np.ones((100, 120), np.float32)
    x, y = wcs.world_to_pixel(PLACE.icrs)
    counts[round(float(y)), round(float(x))] = 100
    fits.PrimaryHDU(counts, wcs.to_header()).writeto(tmp_path / "i.fits")
    fits.PrimaryHDU(np.full((100, 120), 50.0, np.float32), wcs.to_header()).writeto(tmp_path / "t.fits")
    photons = read_photons(tmp_path / "i.fits", tmp_path / "t.fits")
    assert photons.pixel_arcmin2 == pytest.approx(1.0)
    assert sum_near(photons, 1.0) == 100
    # 9 arcmin^2 around it, pixels of 1 arcmin^2
    assert len(photons.disc(PLACE.cartesian.xyz.value, 3.0)[0]) == pytest.approx(9 * np.pi, abs=4)
    fits.PrimaryHDU(np.ones((9, 9), np.float32)).writeto(tmp_path / "small.fits")
    with pytest.raises(ValueError, match=r"small.fits' has 9 x 9 pixels, expected the 100 x 120"):
        read_photons(tmp_path / "i.fits", tmp_path / "small.fits")


def test_what_is_no_photons_is_refused(tmp_path):
    healpy.write_map(tmp_path / "n.fits", spot("galactic") - 2, coord="G", dtype=np.float32)
    with pytest.raises(ValueError, match=r"counts go down to -1.*background taken out"):
        read_photons(tmp_path / "n.fits", 300.0)
    with pytest.raises(ValueError, match="exposure is -1, expected seconds above 0"):
        read_photons(tmp_path / "n.fits", -1.0)
    healpy.write_map(tmp_path / "e.fits", np.ones(12 * 32**2), coord="G", dtype=np.float32)
    with pytest.raises(ValueError, match=r"e.fits' has nside 32, frame galactic, expected those of .* 64"):
        read_photons(tmp_path / "n.fits", tmp_path / "e.fits")
