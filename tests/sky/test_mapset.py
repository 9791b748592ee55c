"""Partial HEALPix maps against whole ones, and sets of maps on several grids."""

import pickle
from dataclasses import replace

import healpy
import numpy as np
import pytest
from astropy.wcs import WCS

from szeek.sky.fields import cover_sphere, own_runs
from szeek.sky.grids import ImageGrid
from szeek.sky.healpix import unit_vectors
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import COVERAGE_NSIDE, MapSet, open_maps
from szeek.sky.partial import PartialMap
from szeek.sky.projection import field_directions, interpolate, sample_field, to_healpix
from szeek.sky.skymaps import Band, SkyMaps


def test_a_partial_map_is_the_whole_one_where_it_is():
    nside = 32
    whole = np.random.default_rng(1).normal(size=(12 * nside**2, 2)).astype(np.float32)
    ipix = healpy.query_disc(nside, healpy.ang2vec(359.0, 60.0, lonlat=True), np.radians(25))
    rng = np.random.default_rng(2)
    part = PartialMap.from_pixels(nside, rng.permutation(ipix), np.zeros((len(ipix), 2), np.float32))
    np.testing.assert_array_equal(part.ipix, np.sort(ipix))
    part.values[:] = whole[part.ipix]
    inside = np.zeros(len(whole), bool)
    inside[ipix] = True
    np.testing.assert_array_equal(part[np.arange(len(whole))], np.where(inside[:, None], whole, np.nan))
    vectors = healpy.ang2vec(rng.uniform(0, 360, 2000), rng.uniform(20, 90, 2000), lonlat=True)
    np.testing.assert_allclose(part.interpolate(vectors), interpolate(whole, vectors, inside), atol=1e-6)
    place = (350.0, 70.0, 5.0, 8, 8, 60.0)
    np.testing.assert_array_equal(sample_field(part, *place), part.interpolate(field_directions(*place)))


def test_fields_fill_a_partial_map():
    nside = 16
    fields = [field for field in cover_sphere(nside, 220.0, 0, 1) if field.lat_deg > 20]
    part = PartialMap.empty(nside, np.concatenate([own_runs(field, nside) for field in fields]))
    for field in fields:
        runs = own_runs(field, nside)
        part.place(runs, np.concatenate([np.arange(*run, dtype=np.float32) for run in runs]))
    np.testing.assert_array_equal(part.values, part.ipix)
    assert len(part.runs) < 4 * nside  # runs side by side are joined
    with pytest.raises(ValueError, match="pixels that the map has not"):
        part.place(np.array([[12 * nside**2 - 2, 12 * nside**2]]), np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="runs overlap"):
        PartialMap.empty(nside, [(0, 5), (4, 6)])


def test_an_empty_map_has_no_pixel():
    part = PartialMap.empty(8, [])
    assert np.isnan(part[np.array([0, 5])]).all()
    assert np.isnan(part.interpolate(unit_vectors(np.array([1.0]), np.array([2.0])))).all()


# --- sets --------------------------------------------------------------------------------------------------


def make_images(folder=None, centre=(30.0, 10.0), names=("f090", "f150"), value=1.0):
    """Plate carree of 8 x 6 deg at 3 arcmin in Galactic coordinates, with a hole in the second band."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["GLON-CAR", "GLAT-CAR"], [centre[0], 0.0]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-0.05, 0.05], [80.5, 60.5 - centre[1] / 0.05]
    grid = ImageGrid.from_header(wcs, (120, 160))
    row, column = np.mgrid[:120, :160].astype(float)
    z = grid.directions(row, column)[..., 2] + value
    second = (2 * z).astype(np.float32)
    second[:40, :50] = np.nan
    bands = tuple(Band(name, freq, 2.0, "K_CMB") for name, freq in zip(names, (97.0, 149.0), strict=True))
    return ImageMaps(grid, bands, (Pixels(z.astype(">f4")), Pixels(second, 0.5)), (Pixels(np.ones((120, 160))), None))


def make_healpix(nside=256):
    vectors = np.stack(healpy.pix2vec(nside, np.arange(12 * nside**2)), axis=1)
    values = np.stack([vectors[:, 2] + 3, vectors[:, 0] + 3], axis=1).astype(np.float32)
    bands = (Band("100", 100.0, 9.7, "K_CMB"), Band("143", 143.0, 7.3, "K_CMB"))
    return SkyMaps(values, np.ones(len(values), bool), bands)


def test_a_set_samples_each_group_on_its_own_grid(tmp_path):
    maps = MapSet.of(make_healpix(), make_images())
    assert [band.name for band in maps.bands] == ["100", "143", "f090", "f150"]
    assert maps.nside == 1024  # 3.4 arcmin, nearest to 3
    field = sample_field(maps, 30.5, 10.5, 0.0, 16, 16, 3.0)
    unit = field_directions(30.5, 10.5, 0.0, 16, 16, 3.0)
    z = unit[..., 2] / np.linalg.norm(unit, axis=-1)
    np.testing.assert_allclose(field[..., 0], z + 3, atol=1e-4)
    np.testing.assert_allclose(field[..., 2], z + 1, atol=1e-5)
    np.testing.assert_allclose(field[..., 3], z + 1, atol=1e-5)
    far = sample_field(maps, 90.0, 10.5, 0.0, 4, 4, 3.0)
    assert np.isfinite(far[..., :2]).all() and np.isnan(far[..., 2:]).all()
    # in the hole of f150, the other bands are there
    hole = sample_field(maps, 32.8, 8.0, 0.0, 4, 4, 3.0)
    assert np.isfinite(hole[..., :3]).all() and np.isnan(hole[..., 3]).all()

    opened = open_maps(maps.save(tmp_path / "maps"))
    assert isinstance(opened, MapSet)
    np.testing.assert_array_equal(opened.coverage, maps.coverage)
    np.testing.assert_array_equal(sample_field(opened, 30.5, 10.5, 0.0, 16, 16, 3.0), field)
    np.testing.assert_array_equal(open_maps(opened.save(tmp_path / "again")).coverage, maps.coverage)


def test_a_set_goes_to_another_process_by_the_names_of_its_files(tmp_path):
    """Of 80,000 mapped bytes an image none is sent, and of what is in memory all; the coverage is no file."""
    maps = make_images()
    mapped = open_maps(MapSet.of(maps).save(tmp_path / "maps")).groups[0]
    assert len(pickle.dumps(mapped)) < 5000 and len(pickle.dumps(maps)) > 250_000
    for group in (mapped, maps):
        again = pickle.loads(pickle.dumps(group))
        assert again.bands == maps.bands and again.ivar[1] is None
        for band in range(2):
            np.testing.assert_array_equal(again.signal[band].values, maps.signal[band].values)
            assert again.signal[band].factor == group.signal[band].factor
    part = PartialMap.empty(64, [(0, 40_000)])
    np.save(tmp_path / "snr.npy", part.values)
    from_file = replace(part, values=np.load(tmp_path / "snr.npy", mmap_mode="r"))
    assert len(pickle.dumps(from_file)) < 1000
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(from_file)).values, part.values)


def test_coverage_is_the_area_of_each_band():
    maps = MapSet.of(make_images())
    cell_deg2 = healpy.nside2pixarea(COVERAGE_NSIDE, degrees=True)
    area = maps.coverage.sum(axis=0) * cell_deg2
    # 8 x 6 deg at latitude 10, a cell at the border counting whole; the hole is 2.5 x 2 deg
    assert 48 * np.cos(np.radians(10)) <= area[0] <= 9 * 7
    assert area[0] - area[1] == pytest.approx(5 * np.cos(np.radians(8)), abs=1.5)
    np.testing.assert_array_equal(maps.seen, maps.coverage.all(axis=1))


def test_snr_maps_are_saved_with_the_set(tmp_path):
    from dataclasses import replace

    maps = MapSet.of(make_images())
    snr = PartialMap.empty(maps.nside, [(1000, 1010)], 2)
    snr.values[:] = 1.5
    folder = replace(maps, snr=snr, theta500_arcmin=(1.0, 2.0)).save(tmp_path / "maps")
    opened = MapSet.open(folder)
    assert opened.theta500_arcmin == (1.0, 2.0)
    np.testing.assert_array_equal(opened.snr.values, snr.values)
    MapSet.of(make_images()).save_snr(folder)
    assert MapSet.open(folder).snr is None


def test_groups_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="band f090, f150 is in more than one group"):
        MapSet.of(make_images(), make_images())
    with pytest.raises(ValueError, match="f090, f150 overlap with none of the other bands"):
        MapSet.of(make_images(), make_images(centre=(200.0, 10.0), names=("a", "b")))
    empty = make_images()
    nothing = ImageMaps(empty.grid, empty.bands, (Pixels(np.zeros((120, 160))),) * 2, (None, None))
    with pytest.raises(ValueError, match="no pixel of f090, f150 is observed"):
        MapSet.of(nothing)


def test_a_file_that_changed_is_named(tmp_path):
    folder = MapSet.of(make_images()).save(tmp_path / "maps")
    with (folder / "0-f150.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match=r"0-f150.npy' is shorter than when the maps"):
        MapSet.open(folder)
    (folder / "0-f150.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"0-f150.npy' is not there"):
        MapSet.open(folder)


def test_a_set_on_healpix_is_its_sky_where_all_bands_are():
    maps = MapSet.of(make_healpix(), make_images())
    on_healpix = to_healpix(maps, 512)
    seen = np.flatnonzero(on_healpix.footprint)
    area_deg2 = len(seen) * healpy.nside2pixarea(512, degrees=True)
    # without two pixels along the sides and three about the hole, 0.05 deg each
    assert area_deg2 == pytest.approx((7.8 * 5.8 - 2.65 * 2.15) * np.cos(np.radians(10)), rel=0.02)
    z = np.stack(healpy.pix2vec(512, seen), axis=1)[:, 2]
    np.testing.assert_allclose(on_healpix.values[seen, 3], z + 1, atol=3e-5)  # mirrored at the rim
    np.testing.assert_allclose(on_healpix.values[seen, 0], z + 3, atol=1e-4)
    assert not on_healpix.values[~on_healpix.footprint].any()
