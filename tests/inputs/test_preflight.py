"""Preflight: the clusters stand where the catalogue says, or the message names the mistake."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from planck_like import HFI, as_skymaps, planck_like_sky

from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.mapfiles import read_skymaps
from szeek.inputs.preflight import PreflightError, preflight
from szeek.sky.skymaps import SkyMaps

NSIDE = 512


@pytest.fixture(scope="module")
def sky():
    return planck_like_sky(NSIDE)


def resampled(values, to_source):
    """The sky of `values` seen through a wrong reading: pixel i holds the sky of pixel to_source[i]."""
    return as_skymaps(values[to_source])


def test_the_right_sky_passes(sky):
    values, clusters = sky
    report = preflight(as_skymaps(values), clusters)
    assert report.lit and report.n_clusters == len(clusters)
    assert report.significance > 20
    assert not report.alternatives  # beyond doubt at once


def test_mirrored_longitudes(sky):
    values, clusters = sky
    lon, lat = healpy.pix2ang(NSIDE, np.arange(len(values)), lonlat=True)
    flipped = resampled(values, healpy.ang2pix(NSIDE, -lon, lat, lonlat=True))
    with pytest.raises(PreflightError, match="detected at mirrored longitudes: the map's x axis runs the other way"):
        preflight(flipped, clusters)


def test_upside_down(sky):
    values, clusters = sky
    lon, lat = healpy.pix2ang(NSIDE, np.arange(len(values)), lonlat=True)
    with pytest.raises(PreflightError, match="at mirrored latitudes"):
        preflight(resampled(values, healpy.ang2pix(NSIDE, lon, -lat, lonlat=True)), clusters)


def test_nested_read_as_ring(sky):
    values, clusters = sky
    wrong = resampled(values, healpy.nest2ring(NSIDE, np.arange(len(values))))
    with pytest.raises(PreflightError, match="the map is NESTED but was read as RING; pass ordering='NESTED'"):
        preflight(wrong, clusters)


def test_ring_read_as_nested(sky):
    values, clusters = sky
    wrong = resampled(values, healpy.ring2nest(NSIDE, np.arange(len(values))))
    with pytest.raises(PreflightError, match="the map is RING but was read as NESTED; pass ordering='RING'"):
        preflight(wrong, clusters)


@pytest.mark.parametrize(
    ("coord", "words"),
    [("CG", "taken for equatorial: it is not Galactic"), ("GC", "positions are taken for equatorial")],
)
def test_wrong_frame(sky, coord, words):
    """'CG': pixel (x, y) holds the sky at RA = x, Dec = y, an equatorial map read as Galactic; 'GC' the reverse."""
    values, clusters = sky
    theta, phi = healpy.Rotator(coord=list(coord))(*healpy.pix2ang(NSIDE, np.arange(len(values))))
    with pytest.raises(PreflightError, match=words):
        preflight(resampled(values, healpy.ang2pix(NSIDE, theta, phi)), clusters)


def test_catalogue_with_ra_dec_named_galactic(sky):
    values, clusters = sky
    wrong = clusters.copy()
    rotated = healpy.Rotator(coord=["G", "C"])(clusters["lon_deg"], clusters["lat_deg"], lonlat=True)
    wrong["lon_deg"], wrong["lat_deg"] = rotated
    with pytest.raises(PreflightError, match="the catalogue's Galactic columns hold RA and Dec"):
        preflight(as_skymaps(values), wrong)


def test_clusters_that_are_not_there(sky):
    values, clusters = sky
    rng = np.random.default_rng(3)
    wrong = clusters.copy()
    wrong["lon_deg"] = rng.uniform(0, 360, len(wrong))
    with pytest.raises(PreflightError, match="300 clusters show no tSZ signal at their positions"):
        preflight(as_skymaps(values), wrong)


@pytest.mark.parametrize(
    ("scale", "words"), [(1 / 15, "hourangle, if they are hours"), (np.pi / 180, "if they are radians")]
)
def test_hours_and_radians_read_as_degrees_are_doubted(sky, scale, words):
    values, clusters = sky
    right = SkyCoord(clusters["lon_deg"], clusters["lat_deg"], unit="deg", frame="galactic").icrs
    ra_deg, dec_deg = right.ra.deg * scale, right.dec.deg * (1 if scale == 1 / 15 else scale)
    wrong = SkyCoord(ra_deg, dec_deg, unit="deg").galactic
    table = Table({"lon_deg": wrong.l.deg, "lat_deg": wrong.b.deg, "ra_deg": ra_deg, "dec_deg": dec_deg})
    with pytest.raises(PreflightError, match=words):
        preflight(as_skymaps(values), table)


def test_few_clusters_without_signal_do_not_condemn(sky):
    values, _ = sky
    few = planck_like_sky(NSIDE)[1][:5].copy()
    few["lat_deg"] = [10.0, -33.0, 41.0, 55.0, -60.0]
    report = preflight(as_skymaps(values), few)
    assert not report.lit and "too few to tell" in report.sentence
    assert len(report.alternatives) == 6


def test_empty_table_and_foreign_field(sky):
    values, clusters = sky
    with pytest.raises(ValueError, match="cluster table is empty, expected at least one"):
        preflight(as_skymaps(values), clusters[:0])
    footprint = np.zeros(len(values), bool)
    footprint[healpy.query_disc(NSIDE, healpy.ang2vec(40.0, 5.0, lonlat=True), np.radians(2))] = True
    field = SkyMaps(np.where(footprint[:, None], values, 0).astype(np.float32), footprint, HFI.bands)
    far = clusters[:3]  # at l = 0 and the poles
    with pytest.raises(PreflightError, match="none of the 3 clusters lies inside the maps' footprint"):
        preflight(field, far)


@pytest.mark.parametrize(("radius_deg", "n_used"), [(1.7, 1), (0.6, 0)])
def test_a_small_field_is_not_refused(sky, radius_deg, n_used):
    """One cluster in the middle of 3 deg, or of 1 deg, where no position of comparison fits in."""
    values, clusters = sky
    centre = healpy.ang2vec(clusters["lon_deg"][0], clusters["lat_deg"][0], lonlat=True)
    footprint = np.zeros(len(values), bool)
    footprint[healpy.query_disc(NSIDE, centre, np.radians(radius_deg))] = True
    field = SkyMaps(np.where(footprint[:, None], values, 0).astype(np.float32), footprint, HFI.bands)
    report = preflight(field, clusters)
    assert report.n_clusters == n_used
    assert ("too small a field" in report.sentence) == (n_used == 0)


def test_the_null_is_calibrated(sky):
    """Random positions: significances scatter about 0 with unit width (12 draws of 50 positions)."""
    values, clusters = sky
    rng = np.random.default_rng(5)
    found = []
    for seed in range(12):
        random = clusters[:50].copy()
        random["lon_deg"] = rng.uniform(0, 360, 50)
        random["lat_deg"] = np.degrees(np.arcsin(rng.uniform(-1, 1, 50)))
        found.append(preflight(as_skymaps(values), random, seed=seed).significance)
    assert abs(np.mean(found)) < 1.0
    assert 0.4 < np.std(found) < 1.8


@pytest.mark.realdata
def test_real_coma(real_data, tmp_path):
    """PSZ2 in the real cut-outs: lit as given; with CDELT1 negated the flip is named, Coma (on the axis) aside."""
    from astropy.io import fits

    psz2 = read_catalogue(real_data / "catalogues" / "HFI_PCCS_SZ-union_R2.08.fits")
    files = {name: real_data / "maps" / "coma" / f"hfi_{name}_coma.fits" for name in HFI.band_names}
    report = preflight(read_skymaps(files), psz2)
    assert report.lit and report.significance > 7
    for name, path in files.items():
        with fits.open(path) as hdus:
            hdus[1].header["CDELT1"] *= -1
            hdus.writeto(tmp_path / f"{name}.fits")
    flipped = read_skymaps({name: tmp_path / f"{name}.fits" for name in files})
    with pytest.raises(PreflightError, match="mirrored right ascensions: the map's x axis runs the other way"):
        preflight(flipped, psz2)
