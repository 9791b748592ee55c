"""Masks and MOCs against healpy, mocpy and analytic answers."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from planck_like import HFI, as_skymaps, write_planck_map

from szeek.config import load_config
from szeek.inputs.healpix_files import change_nside
from szeek.inputs.masks import apply_mask, inpaint, mask_sources, read_mask, read_masks, read_moc, write_moc
from szeek.pipeline.run import run

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
    with pytest.raises(FileNotFoundError, match=r"none\.fits' is no file"):
        run(load_config("demo", sky={"masks": [str(tmp_path / "none.fits")]}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_change_nside_round_trip():
    keep = disc(30, 10, 20)
    np.testing.assert_array_equal(change_nside(change_nside(keep, 256), NSIDE), keep)
    lost = keep.sum() - change_nside(change_nside(keep, 16), NSIDE).sum()
    assert 0 < lost < 0.3 * keep.sum()  # coarser pixels only where all four by four children are


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


def test_moc_round_trip(tmp_path):
    """Galactic footprint -> equatorial cells -> footprint: the same but for pixels that the edge cuts."""
    footprint = disc(40, 60, 15) | disc(300, -20, 8)
    back = read_moc(write_moc(footprint, tmp_path / "f.fits", order=9), NSIDE)
    np.testing.assert_array_equal(back, footprint)
    everything = write_moc(np.ones(N_PIX, bool), tmp_path / "all.fits")
    assert len(fits.getdata(everything)) == 12  # the twelve base cells
    assert read_moc(everything, 8).all()
    nothing = write_moc(np.zeros(N_PIX, bool), tmp_path / "none.fits")
    assert not read_moc(nothing, 8).any()


def test_moc_against_mocpy(tmp_path):
    mocpy = pytest.importorskip("mocpy", reason="mocpy, the independent implementation, is not installed")
    from astropy.coordinates import SkyCoord

    footprint = disc(40, 60, 15)
    moc = mocpy.MOC.from_fits(write_moc(footprint, tmp_path / "f.fits"))
    assert moc.sky_fraction == pytest.approx(footprint.mean(), rel=0.02)
    lon, lat = healpy.pix2ang(NSIDE, np.flatnonzero(disc(40, 60, 13)), lonlat=True)
    icrs = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs
    assert moc.contains_skycoords(icrs).all()
    moc.save(tmp_path / "theirs.fits", format="fits")
    theirs = read_moc(tmp_path / "theirs.fits", NSIDE)
    assert (theirs ^ read_moc(tmp_path / "f.fits", NSIDE)).sum() == 0


def test_what_is_no_moc(tmp_path):
    healpy.write_map(tmp_path / "m.fits", np.zeros(12), coord="G", dtype=np.float32)
    with pytest.raises(ValueError, match=r"has ORDERING = 'RING', expected a spatial MOC \(NUNIQ or RANGE\)"):
        read_moc(tmp_path / "m.fits", 8)
    write_moc(np.ones(12, bool), tmp_path / "g.fits")
    with fits.open(tmp_path / "g.fits", mode="update") as hdus:
        hdus[1].header["COORDSYS"] = "G"
    with pytest.raises(ValueError, match=r"has COORDSYS = 'G', expected 'C' \(ICRS\)"):
        read_moc(tmp_path / "g.fits", 8)


def test_bands_are_kept():
    maps = as_skymaps(np.zeros((N_PIX, 6), np.float32))
    assert apply_mask(maps, np.ones(N_PIX, bool)).bands == HFI.bands
