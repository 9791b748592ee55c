"""Folds: every tile is kept out of exactly one network, and no patch of that one comes near it."""

import healpy
import numpy as np
import pytest
from smallmaps import make_maps, make_model

from szeek.config import load_config
from szeek.find.predict import predict
from szeek.learn.folds import covered_share, fold_config, fold_of_tile
from szeek.learn.labels import ClusterLabels
from szeek.learn.patches import LocalMaps, Patches
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles

CONFIG = load_config("demo", split={"folds": 6})


@pytest.mark.parametrize("n_folds", [3, 5, 6, 8])
def test_each_tile_is_tested_once_and_latitudes_are_shared(n_folds):
    fold = fold_of_tile(n_folds, 1)
    assert fold.shape == (48,) and set(fold) == set(range(n_folds))
    assert np.bincount(fold).max() - np.bincount(fold).min() <= 1
    b = np.abs(90 - np.degrees(healpy.pix2ang(2, np.arange(48))[0]))
    means = [b[fold == k].mean() for k in range(n_folds)]
    assert np.ptp(means) < 15  # of a mean |b| that runs from 0 to 66 deg between tiles
    assert np.any(fold != fold_of_tile(n_folds, 2))


def test_tiles_of_a_fold_s_split():
    splits = [fold_config(CONFIG, k).split for k in range(6)]
    tested = [tile for split in splits for tile in split.test_tiles]
    assert sorted(tested) == list(range(48))
    for k, split in enumerate(splits):
        assert len(split.validation_tiles) >= 3
        assert set(split.validation_tiles) <= set(splits[(k + 1) % 6].test_tiles)
        # sqrt(2) x 64 x 1.7177 arcmin = 2.59 deg
        assert split.guard_deg == pytest.approx(2.591, abs=1e-3) and split.folds == 0


def test_no_patch_comes_within_its_diagonal_of_the_fold_s_tiles():
    config = fold_config(CONFIG, 2)
    rng = np.random.default_rng(4)
    lon, lat = rng.uniform(0, 360, 500), np.degrees(np.arcsin(rng.uniform(-1, 1, 500)))
    patches = Patches(LocalMaps(make_maps(64), None), ClusterLabels(lon, lat), config.patches, config.split, 1)
    kept_out = (*config.split.test_tiles, *config.split.validation_tiles)
    inside = np.stack(healpy.pix2vec(256, np.flatnonzero(pixels_in_tiles(256, kept_out))), axis=1)
    diagonal_deg = config.split.guard_deg
    for i in range(40):
        lon_deg, lat_deg, _ = patches.place(i)
        nearest_deg = np.degrees(np.arccos((inside @ healpy.ang2vec(lon_deg, lat_deg, lonlat=True)).max()))
        assert nearest_deg > 1.5 * diagonal_deg - 0.2  # half of it is the patch; pixels of 14 arcmin


def test_folds_put_together_are_the_map_of_one_model():
    maps, model = make_maps(), make_model()
    of_tile = fold_of_tile(3, 1)
    whole = predict(maps, model)
    parts = [predict(maps, model, where=pixels_in_tiles(maps.nside, np.flatnonzero(of_tile == k))) for k in range(3)]
    assert np.all(sum(np.isfinite(part).astype(int) for part in parts)[maps.footprint] == 1)
    np.testing.assert_array_equal(np.nansum(parts, axis=0)[maps.footprint], whole[maps.footprint])


def test_a_survey_s_tiles_are_dealt_out_by_the_share_that_it_covers():
    """Ten whole tiles, five cut ones: of each kind every fold has as many as any other, to one."""
    covered = np.zeros(12 * 8**2)
    whole, cut = np.arange(100, 110), np.arange(300, 305)
    covered[whole], covered[cut] = 1.0, 0.2
    fold = fold_of_tile(3, 1, covered)
    assert set(np.flatnonzero(fold >= 0)) == {*whole, *cut}
    assert sorted(np.bincount(fold[whole])) == [3, 3, 4]
    assert sorted(np.bincount(fold[fold >= 0])) == [5, 5, 5]
    config = load_config("demo", split={"folds": 3, "nside": 8})
    splits = [fold_config(config, k, covered).split for k in range(3)]
    assert sorted(tile for split in splits for tile in split.test_tiles) == [*whole, *cut]
    for k, split in enumerate(splits):
        assert split.nside == 8 and set(split.validation_tiles) <= set(splits[(k + 1) % 3].test_tiles) & set(whole)
    with pytest.raises(ValueError, match="cover 2 tiles of nside 8, expected at least one for each of 3 folds; set "):
        fold_of_tile(3, 1, np.where(np.arange(768) < 2, 0.1, 0.0))


def test_share_of_tiles_that_maps_cover():
    """A cap of 60 deg about the pole: z > 1/2, and at nside 4 tiles on its rim are cut."""
    nside = 256
    seen = healpy.pix2vec(nside, np.arange(12 * nside**2))[2] > 0.5
    maps = SkyMaps(np.zeros((seen.size, 6), np.float32), seen, make_maps(16).bands)
    for one in (maps, MapSet.of(maps)):
        share = covered_share(one, 4)
        assert share.mean() == pytest.approx(0.25, abs=0.002)
        z = healpy.pix2vec(4, np.arange(192))[2]
        assert np.all(share[z > 0.8] == 1.0) and np.all(share[z < 0.2] == 0.0) and np.any((share > 0) & (share < 1))
    assert np.all(covered_share(maps, 2) == 1.0)


def test_two_folds_are_refused():
    with pytest.raises(ValueError, match="folds is 2, expected 0 or at least 3"):
        load_config("demo", split={"folds": 2})
