"""Folds: every tile is kept out of exactly one network, and no patch of that one comes near it."""

import healpy
import numpy as np
import pytest
from smallmaps import make_maps, make_model

from szeek.config import load_config
from szeek.find.predict import predict
from szeek.learn.folds import fold_config, fold_of_tile
from szeek.learn.labels import ClusterLabels
from szeek.learn.patches import LocalMaps, Patches
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


def test_two_folds_are_refused():
    with pytest.raises(ValueError, match="folds is 2, expected 0 or at least 3"):
        load_config("demo", split={"folds": 2})
