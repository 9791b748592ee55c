"""Prediction and detection on sets of maps: the same p as on one HEALPix map of the same sky."""

from dataclasses import replace

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from smallmaps import BANDS, CONFIG, make_maps, make_model

from szeek.find.detect import detect_sources
from szeek.find.predict import predict, read_prediction, read_whole_prediction, write_prediction
from szeek.find.shards import gather_shards, predict_shard
from szeek.learn.model import Model, build_network, load_model
from szeek.learn.normalise import Normaliser, fit_normaliser, local_background
from szeek.learn.train import _share_without
from szeek.sky.fields import cover_sphere, meets, owns_seen_pixels
from szeek.sky.grids import ImageGrid
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import COVERAGE_NSIDE, MapSet
from szeek.sky.partial import PartialMap
from szeek.sky.skymaps import SkyMaps


def plain_model():
    """A network that takes no background off."""
    model = make_model()
    return replace(model, normaliser=replace(model.normaliser, background_nside=0))


def as_partial(p_map):
    seen = np.flatnonzero(np.isfinite(p_map))
    return PartialMap.from_pixels(healpy.npix2nside(len(p_map)), seen, p_map[seen])


def test_a_set_of_one_healpix_group_gives_the_p_of_its_maps():
    maps, model = make_maps(), plain_model()
    whole, part = predict(maps, model), predict(MapSet.of(maps), model)
    inside = np.isfinite(part.values)
    np.testing.assert_allclose(part.values[inside], whole[part.ipix[inside]], atol=1e-6)
    # beside the hole p is not interpolated from fields' pixels that were not seen
    assert np.isfinite(whole).sum() * 0.93 < inside.sum() <= np.isfinite(whole).sum()


def test_images_give_the_p_of_their_sky():
    """A smooth sky, once on HEALPix and once in plate carree: the same p to what bilinear interpolation costs."""
    model = plain_model()
    model = replace(model, pixel_arcmin=10.0)

    def sky(vectors):
        x, y, z = np.moveaxis(vectors, -1, 0)
        return np.stack([np.sin(k * x) + np.cos(k * y) + z for k in range(1, 7)], axis=-1) + 5.0

    nside = 256
    vectors = np.stack(healpy.pix2vec(nside, np.arange(12 * nside**2)), axis=1)
    healpix = SkyMaps(sky(vectors).astype(np.float32), np.ones(len(vectors), bool), BANDS)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---CAR", "DEC--CAR"], [150.0, 0.0]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-0.2, 0.2], [75.5, 40.5]
    grid = ImageGrid.from_header(wcs, (100, 150))
    values = sky(grid.directions(*np.mgrid[:100, :150].astype(float)))
    images = ImageMaps(grid, BANDS, tuple(Pixels(values[..., k].copy()) for k in range(6)), (None,) * 6)
    expected, part = predict(healpix, model), predict(MapSet.of(images), model)
    seen = np.isfinite(part.values)
    area_deg2 = seen.sum() * healpy.nside2pixarea(part.nside, degrees=True)
    assert 20 * 30 * 0.85 < area_deg2 < 20 * 30
    at = np.stack(healpy.pix2vec(part.nside, part.ipix), axis=1)
    row, column = grid.pixels(at)
    inner = (row > 18) & (row < 82) & (column > 18) & (column < 132)  # further inside than the network looks
    assert seen[inner].all()
    np.testing.assert_allclose(part.values[inner], expected[healpy.vec2pix(nside, *at[inner].T)], atol=5e-3)


def test_fields_that_meet_the_coverage_are_those_that_own_seen_pixels():
    nside = 512
    seen = np.zeros(12 * nside**2, bool)
    seen[healpy.query_disc(nside, healpy.ang2vec(2.0, 83.0, lonlat=True), np.radians(3))] = True
    coverage = healpy.ud_grade(seen.astype(np.float32), COVERAGE_NSIDE) > 0
    fields = cover_sphere(nside, 6.87, 16, 16)
    owning = [owns_seen_pixels(field, nside, seen) for field in fields]
    meeting = [meets(field, nside, coverage) for field in fields]
    assert all(m for o, m in zip(owning, meeting, strict=True) if o)
    assert sum(owning) <= sum(meeting) <= sum(owning) + 3


def test_sources_of_a_partial_map_are_those_of_the_whole():
    nside = 64
    rng = np.random.default_rng(5)
    p_map = healpy.smoothing(rng.normal(size=12 * nside**2), fwhm=np.radians(4)).astype(np.float32)
    p_map = np.clip(0.5 + 0.25 * p_map / p_map.std(), 0.0, 0.99).astype(np.float32)
    p_map[healpy.query_disc(nside, healpy.ang2vec(10.0, 20.0, lonlat=True), np.radians(40))] = np.nan
    for options in ({}, {"weighted": True, "deblend": True}):
        whole, part = detect_sources(p_map, 0.8, **options), detect_sources(as_partial(p_map), 0.8, **options)
        assert len(whole) > 20 and whole["edge"].any()
        assert whole.colnames == part.colnames
        for name in whole.colnames:
            np.testing.assert_array_equal(np.asarray(whole[name]), np.asarray(part[name]), err_msg=name)


def test_a_partial_map_is_written_and_read(tmp_path):
    nside = 4096
    ipix = healpy.query_disc(nside, healpy.ang2vec(120.0, -40.0, lonlat=True), np.radians(0.5))
    values = np.random.default_rng(1).random(len(ipix)).astype(np.float32)
    part = PartialMap.from_pixels(nside, ipix, values)
    part.values[7] = np.nan
    path = write_prediction(part, tmp_path / "p.fits", model="test")
    with fits.open(path) as hdus:  # astropy finds the table whole
        hdus.verify("exception")
        assert hdus[1].header["OBJECT"] == "PARTIAL" and len(hdus[1].data) == len(ipix) - 1
    again = read_prediction(path)
    assert isinstance(again, PartialMap)
    np.testing.assert_array_equal(again[part.ipix], part.values)
    with pytest.raises(ValueError, match="part of the sky at nside 4096, expected at most 2048; degrade it"):
        read_whole_prediction(path)
    small = write_prediction(as_partial(np.where(np.arange(192) < 30, np.float32(0.5), np.nan)), tmp_path / "q.fits")
    np.testing.assert_array_equal(np.isfinite(read_prediction(small)), np.arange(192) < 30)
    np.testing.assert_array_equal(healpy.read_map(small) > 0, np.arange(192) < 30)  # healpy's own reader


def test_shards_of_a_set_are_its_prediction(tmp_path):
    maps, model = MapSet.of(make_maps()), plain_model()
    whole = predict(maps, model)
    for number in (1, 2, 3):
        predict_shard(maps, model, tmp_path, (number, 3))
    part = gather_shards(maps, model, tmp_path)
    seen = np.isfinite(whole.values)
    np.testing.assert_array_equal(part[whole.ipix[seen]], whole.values[seen])
    assert np.isfinite(part.values).sum() == seen.sum()


# --- groups of bands --------------------------------------------------------------------------------------


def two_groups():
    maps = make_maps()
    first = SkyMaps(np.ascontiguousarray(maps.values[:, :4]), maps.footprint, BANDS[:4])
    seen = np.ones(len(maps.values), bool)
    seen[healpy.query_disc(64, healpy.ang2vec(90.0, 0.0, lonlat=True), np.radians(50))] = False
    second = SkyMaps(maps.values[:, 4:] * seen[:, None], seen, BANDS[4:])
    return first, second


def grouped_model(seed=1):
    network = build_network(8, dict(CONFIG))
    network.start(np.random.default_rng(seed), 0.2)
    normaliser = Normaliser("local-whitened", np.zeros(6, np.float32), np.eye(6, dtype=np.float32), 0, (), (4, 2))
    return Model(network, normaliser, tuple(b.name for b in BANDS), 55.0, dict(CONFIG))


def test_a_network_is_told_which_groups_are_there():
    normaliser = grouped_model().normaliser
    field = np.ones((1, 3, 3, 6), np.float32)
    field[0, 0, :, 5] = np.nan  # one band of the second group
    field[0, 1, 1, 0] = np.nan  # one of the first
    x = normaliser(field)[0].numpy()
    one = np.arcsinh(1.0)
    first, second = np.full((3, 3), one), np.full((3, 3), one)
    first[1, 1], second[0] = 0, 0
    np.testing.assert_allclose(x[:6], np.stack([first] * 4 + [second] * 2), rtol=1e-6)
    np.testing.assert_array_equal(x[6], [[1, 1, 1], [1, 0, 1], [1, 1, 1]])
    np.testing.assert_array_equal(x[7], [[0, 0, 0], [1, 1, 1], [1, 1, 1]])
    assert normaliser.sees(field[0]).all()


def test_a_missing_group_is_one_that_was_not_observed(tmp_path):
    first, second = two_groups()
    model = load_model(grouped_model().save(tmp_path / "model"))
    both = predict(MapSet.of(first, second), model)
    alone = predict(MapSet.of(first), model)
    assert np.isfinite(alone.values).sum() < np.isfinite(both.values).sum()  # the hole of the first is the second's
    # far from the second group (a field's reach is 16 pixels of 55 arcmin) both are one
    near = healpy.query_disc(64, healpy.ang2vec(90.0, 0.0, lonlat=True), np.radians(20))
    near = near[np.isfinite(alone[near])]
    np.testing.assert_allclose(both[near], alone[near], atol=1e-6)
    swapped = MapSet.of(second, first)  # groups come in any order
    np.testing.assert_allclose(predict(swapped, model)[both.ipix], both.values, atol=1e-6)
    odd = SkyMaps(np.ascontiguousarray(first.values[:, :3]), first.footprint, BANDS[:3])
    with pytest.raises(ValueError, match="the maps hold the bands 100, 143, 217, but the model was trained on"):
        predict(MapSet.of(odd), model)


def test_a_group_that_training_never_missed_is_asked_for():
    """The first group leaves a hole of 30 deg to the second, which sees all but 50 deg: shares of the union."""
    first, second = two_groups()
    model = grouped_model()
    model.card["share_without"] = _share_without([MapSet.of(first, second)])
    cap = [0.5 * (1 - np.cos(np.radians(radius))) for radius in (30, 50)]
    np.testing.assert_allclose(model.card["share_without"], cap, atol=0.01)
    model.card["share_without"][0] = 0.04
    model.check_bands(MapSet.of(first))
    with pytest.raises(
        ValueError, match="lack the bands 100, 143, 217, 353, without which the"
    ):
        predict(MapSet.of(second), model)


def test_groups_are_whitened_each_by_itself():
    first, second = two_groups()
    mixed = np.random.default_rng(3).normal(size=(4, 4)).astype(np.float32)
    first = SkyMaps(first.values @ mixed, first.footprint, first.bands)
    maps = MapSet.of(first, second)
    normaliser = fit_normaliser(maps, "local-whitened", background_nside=2)
    assert normaliser.groups == (4, 2) and normaliser.n_channel == 8
    assert not normaliser.matrix[:4, 4:].any() and not normaliser.matrix[4:, :4].any()
    seen = first.footprint
    whitened = (first.values[seen]) @ normaliser.matrix[:4, :4].T
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(4), atol=0.12)  # white noise of rank 4; medians off
    plain = fit_normaliser(maps, "left-gaussian")
    np.testing.assert_allclose(1 / np.diag(plain.matrix)[4:], 1.0, rtol=0.1)
    assert Normaliser.from_dict(normaliser.to_dict()).groups == (4, 2)


def test_the_background_of_a_set_is_that_of_its_maps():
    maps = make_maps(256)
    one, other = local_background(maps, 4), local_background(MapSet.of(maps), 4)
    vectors = np.stack(healpy.pix2vec(4, np.arange(192)), axis=1)
    far = vectors @ healpy.ang2vec(200, 30, lonlat=True) < np.cos(np.radians(55))
    # white noise: medians of a quarter of 4096 pixels, and of all of them
    assert np.abs(one[far] - other[far]).max() < 5 * 1.25 / np.sqrt(1024)
    assert one.shape == other.shape
