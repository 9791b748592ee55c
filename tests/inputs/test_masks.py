"""Masks and MOCs against healpy and analytic answers."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from planck_like import HFI, as_skymaps, write_planck_map

from szeek.config import load_config
from szeek.inputs.healpix_files import change_nside, mask_pixels
from szeek.inputs.masks import apply_mask, inpaint, mask_sources, read_mask, read_masks, write_moc
from szeek.verbs import run

NSIDE = 64
N_PIX = 12 * NSIDE**2


def disc(lon_deg, lat_deg, radius_deg, nside=NSIDE):
    inside = np.zeros(12 * nside**2, bool)
    inside[healpy.query_disc(nside, healpy.ang2vec(lon_deg, lat_deg, lonlat=True), np.radians(radius_deg))] = True
    return inside


def test_read_mask_takes_all_columns_or_those_named(tmp_path):
    plane = np.abs(healpy.pix2ang(NSIDE, np.arange(N_PIX), lonlat=True)[1]) > 20
    wide = np.abs(healpy.pix2ang(NSIDE, np.arange(N_PIX), lonlat=True)[1]) > 40
    healpy.write_map(
        tmp_path / "m.fits",
        [plane * 1.0, wide * 1.0],
        column_names=["GAL070", "GAL040"],
        coord="G",
        nest=False,
        dtype=np.float32,
    )
    np.testing.assert_array_equal(read_mask(tmp_path / "m.fits"), wide)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.fits", columns=("GAL070",)), plane)
    coarse = read_mask(tmp_path / "m.fits", columns=("GAL070",), nside=16)
    assert coarse.size == 12 * 16**2 and not (change_nside(coarse, NSIDE) & ~plane).any()
    with pytest.raises(ValueError, match="has no column 'GAL999', its columns are GAL070, GAL040"):
        read_mask(tmp_path / "m.fits", columns=("GAL999",))
    write_planck_map(tmp_path / "n.fits", plane * 1.0, None, ordering=None, columns=("I_STOKES",))
    with pytest.raises(ValueError, match="does not say its ordering"):
        read_mask(tmp_path / "n.fits")


def test_several_masks_leave_what_all_leave(tmp_path):
    lat = np.abs(healpy.pix2ang(NSIDE, np.arange(N_PIX), lonlat=True)[1])
    options = {"coord": "G", "nest": True, "dtype": np.float32}
    both = [healpy.reorder((lat > low) * 1.0, r2n=True) for low in (20, 40)]
    healpy.write_map(tmp_path / "plane.fits", both, column_names=["GAL070", "GAL040"], **options)
    healpy.write_map(tmp_path / "sources.fits", healpy.reorder(~disc(10, 60, 5) * 1.0, r2n=True), **options)
    coarse = np.ones(12 * 16**2)
    coarse[5] = 0.0
    healpy.write_map(tmp_path / "coarse.fits", healpy.reorder(coarse, r2n=True), **options)
    assert read_masks([]) is None
    kept = read_masks([f"GAL070={tmp_path / 'plane.fits'}", tmp_path / "sources.fits", tmp_path / "coarse.fits"])
    parent = healpy.ang2pix(16, *healpy.pix2ang(NSIDE, np.arange(N_PIX)))
    np.testing.assert_array_equal(kept, (lat > 20) & ~disc(10, 60, 5) & (parent != 5))
    with pytest.raises(ValueError, match=r"has the columns GAL070, GAL040, expected one or the name of one: GAL070="):
        read_masks([tmp_path / "plane.fits"])
    with pytest.raises(ValueError, match="has no column 'GAL080', its columns are GAL070, GAL040"):
        read_masks([f"GAL080={tmp_path / 'plane.fits'}"])
    with pytest.raises(FileNotFoundError, match=r"none\.fits' is not a file"):
        run(load_config("demo", sky={"masks": [str(tmp_path / "none.fits")]}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_change_nside_round_trip():
    keep = disc(30, 10, 20)
    np.testing.assert_array_equal(change_nside(change_nside(keep, 256), NSIDE), keep)
    lost = keep.sum() - change_nside(change_nside(keep, 16), NSIDE).sum()
    assert 0 < lost < 0.3 * keep.sum()  # coarser pixels only where all four by four children are


@pytest.mark.parametrize("nside", [16, NSIDE, 256])
def test_a_mask_at_some_pixels_is_the_mask_at_that_resolution(nside):
    keep = disc(30, 10, 20)
    ipix = np.random.default_rng(0).integers(0, 12 * nside**2, 500)
    np.testing.assert_array_equal(mask_pixels(keep, nside)(ipix), change_nside(keep, nside)[ipix])


def test_mask_sources():
    keep = mask_sources(Table({"lon_deg": [0.0, 200.0], "lat_deg": [90.0, -3.0]}), 256, 90.0)
    assert not keep[healpy.ang2pix(256, [7.0, 200.5], [89.0, -2.0], lonlat=True)].any()
    # two discs of 1.5 deg; pixels of 0.23 deg that the edge touches go too
    area = (~keep).sum() * healpy.nside2pixarea(256, degrees=True)
    assert 2 * np.pi * 1.5**2 < area < 2 * np.pi * 1.75**2


def test_ignore_takes_pixels_out():
    values = np.random.default_rng(0).normal(size=(N_PIX, 6)).astype(np.float32)
    maps = as_skymaps(values)
    keep = ~disc(10, 0, 5)
    masked = apply_mask(maps, keep)
    np.testing.assert_array_equal(masked.footprint, keep)
    assert not masked.values[~keep].any() and maps.footprint.all() and maps.values[~keep].any()
    with pytest.raises(ValueError, match=r"the mask has 12 pixels, expected 49152 \(nside 64\); use change_nside"):
        apply_mask(maps, np.ones(12, bool))
    with pytest.raises(ValueError, match="how='blank' is unknown, expected 'ignore' or 'inpaint'"):
        apply_mask(maps, keep, how="blank")


def test_inpainting_continues_a_harmonic_function():
    """log tan(theta / 2) and the azimuth solve Laplace's equation on the sphere; a hole is filled with them again."""
    theta, phi = healpy.pix2ang(NSIDE, np.arange(N_PIX))
    smooth = np.stack([np.log(np.tan(theta / 2)), phi], axis=1)
    truth = np.repeat(smooth, 3, axis=1).astype(np.float32)
    holes = disc(180, 20, 4) | disc(90, -30, 2)
    broken = truth.copy()
    broken[holes] = 1e6
    maps = apply_mask(as_skymaps(broken), ~holes, how="inpaint")
    assert maps.footprint.all()
    np.testing.assert_array_equal(maps.values[~holes], truth[~holes])
    assert np.abs(maps.values[holes] - truth[holes]).max() < 0.01  # of a range of 0.14 across the hole


def test_inpainting_next_to_the_footprints_edge():
    footprint = disc(50, 0, 10)
    values = np.where(footprint[:, None], np.float32(7.0), np.float32(0.0)).repeat(6, axis=1)
    holes = footprint & ~disc(50, 0, 9)
    filled = inpaint(values, footprint, holes)
    np.testing.assert_allclose(filled[footprint], 7.0, rtol=1e-6)
    assert not filled[~footprint].any()
    np.testing.assert_array_equal(inpaint(values, footprint, np.zeros(N_PIX, bool)), values)


def test_moc_covers_the_footprint(tmp_path):
    nside = 64
    footprint = np.zeros(12 * nside**2, bool)
    footprint[healpy.query_disc(nside, healpy.ang2vec(120.0, 40.0, lonlat=True), np.radians(20))] = True
    path = write_moc(footprint, tmp_path / "moc.fits")
    with fits.open(path) as hdus:
        uniq = hdus[1].data["UNIQ"]
        assert (hdus[1].header["ORDERING"], hdus[1].header["COORDSYS"]) == ("NUNIQ", "C")
        assert hdus[1].header["MOCORDER"] == 6
    assert (np.diff(uniq) > 0).all()
    order = (np.log2(uniq / 4) // 2).astype(int)
    area_deg2 = (41252.96125 / 12 / 4.0**order).sum()
    assert area_deg2 == pytest.approx(footprint.mean() * 41252.96125, rel=0.01)
    # any direction well inside the disc is in a cell, any well outside in none
    for offset_deg, inside in ((18.5, True), (21.5, False)):
        icrs = SkyCoord(120.0, 40.0, frame="galactic", unit="deg").directional_offset_by(
            np.arange(0, 360, 15) * units.deg, offset_deg * units.deg
        ).icrs  # fmt: skip
        for ra_deg, dec_deg in zip(icrs.ra.deg, icrs.dec.deg, strict=True):
            cells = [healpy.ang2pix(2**k, ra_deg, dec_deg, nest=True, lonlat=True) + 4 * 4**k for k in range(7)]
            assert bool(np.isin(cells, uniq).any()) == inside


def test_moc_of_the_whole_sky_is_twelve_cells(tmp_path):
    path = write_moc(np.ones(12 * 32**2, bool), tmp_path / "moc.fits")
    with fits.open(path) as hdus:
        assert hdus[1].data["UNIQ"].tolist() == list(range(4, 16))
    path = write_moc(np.zeros(12 * 32**2, bool), tmp_path / "moc.fits", order=3)
    with fits.open(path) as hdus:
        assert len(hdus[1].data) == 0
        assert hdus[1].header["MOCORDER"] == 3


def test_bands_are_kept():
    maps = as_skymaps(np.zeros((N_PIX, 6), np.float32))
    assert apply_mask(maps, np.ones(N_PIX, bool)).bands == HFI.bands
