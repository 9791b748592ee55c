import healpy
import numpy as np
import pytest

from szeek.config import PatchConfig, SplitConfig
from szeek.inputs.instrument import read_instrument
from szeek.learn.labels import ClusterLabels
from szeek.learn.patches import LocalMaps, Patches
from szeek.sky.projection import field_directions
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles

SPLIT = SplitConfig()


@pytest.fixture(scope="module")
def sky():
    rng = np.random.default_rng(1)
    nside = 64
    values = rng.normal(size=(12 * nside**2, 6)).astype(np.float32)
    maps = SkyMaps(values, np.ones(len(values), bool), read_instrument().bands)
    lon, lat = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    return LocalMaps.prepare(maps, 8), ClusterLabels(lon, lat)


def _patches(sky, seed=1, **options):
    return Patches(*sky, PatchConfig(**options), SPLIT, seed)


def _tiles(place, size=64, pixel_arcmin=1.7177):
    return np.unique(healpy.vec2pix(2, *field_directions(*place, size, size, pixel_arcmin).reshape(-1, 3).T))


def test_no_pixel_of_a_training_patch_lies_in_a_test_or_validation_tile(sky):
    patches = _patches(sky, empty_fraction=0.5)
    kept_out = {*SPLIT.test_tiles, *SPLIT.validation_tiles}
    for index in range(600):
        assert not kept_out & set(_tiles(patches.place(index)))


def test_no_pixel_of_a_validation_patch_lies_outside_the_validation_tiles(sky):
    patches = _patches(sky, empty_fraction=0.3)
    for index in range(200):
        assert set(_tiles(patches.place(index, "validation"))) <= set(SPLIT.validation_tiles)


def test_training_comes_close_to_the_tiles_that_are_kept_out():
    """The guard is half a patch diagonal and not much more: the sky is not wasted."""
    rng = np.random.default_rng(3)
    maps = SkyMaps(np.zeros((12 * 16**2, 6), np.float32), np.ones(12 * 16**2, bool), read_instrument().bands)
    labels = ClusterLabels(np.append(rng.uniform(60, 165, 4000), 112.5), np.append(rng.uniform(0, 80, 4000), -41.8))
    patches = Patches(LocalMaps(maps, None), labels, PatchConfig(), SPLIT, 1)
    centres = np.array([patches.place(i)[:2] for i in range(3000)])
    tile = np.stack(healpy.pix2vec(256, np.flatnonzero(pixels_in_tiles(256, [6]))))
    distance = np.degrees(np.arccos(np.clip(healpy.ang2vec(*centres.T, lonlat=True) @ tile, -1, 1).max(axis=1)))
    assert 1.29 < distance.min() < 2.1


def test_every_patch_holds_a_cluster_unless_it_may_be_empty(sky):
    full, mixed = _patches(sky), _patches(sky, empty_fraction=0.5)
    assert all(full.cut(i)[1].any() for i in range(200))
    # 3000 clusters on the sky: 0.24 a patch, so about 0.5 + 0.5 x 0.21 of the mixed ones hold one
    share = np.mean([mixed.cut(i)[1].any() for i in range(600)])
    assert share == pytest.approx(0.605, abs=0.07)


def test_clusters_fall_anywhere_in_the_patch_at_any_orientation(sky):
    lone = ClusterLabels(np.array([30.0, 112.5]), np.array([-60.0, -41.8]))  # the second in a validation tile
    patches = Patches(sky[0], lone, PatchConfig(), SPLIT, 2)
    rows, columns, angles = [], [], []
    for index in range(400):
        target = patches.cut(index)[1]
        r, c = np.nonzero(target[..., 0])
        rows.append(r.mean())
        columns.append(c.mean())
        angles.append(patches.place(index)[2] % 360)
    # uniform over 62 pixels: mean 31.5 +- 0.9, standard deviation 17.9
    for found, scale in ((rows, 62), (columns, 62), (angles, 360)):
        assert np.mean(found) == pytest.approx(scale / 2, abs=4 * scale / np.sqrt(12 * 400) + 0.6)
        assert np.std(found) == pytest.approx(scale / np.sqrt(12), rel=0.1)


def test_a_patch_is_a_pure_function_of_seed_and_index(sky):
    a, b = _patches(sky), _patches(sky)
    b.cut(99)
    for i in (0, 7, 12345):
        for x, y in zip(a.cut(i), b.cut(i), strict=True):
            np.testing.assert_array_equal(x, y)
    assert a.place(7) != a.place(8) != _patches(sky, seed=2).place(8)
    assert a.place(7) != a.place(7, "validation")


def test_half_of_the_patches_are_mirrored_field_and_target_alike(sky):
    upright, mirrored = _patches(sky), _patches(sky, mirror=True)
    turned = 0
    for index in range(60):
        (field, target), (same_field, same_target) = upright.cut(index), mirrored.cut(index)
        if not np.array_equal(field, same_field):
            turned += 1
            field, target = field[:, ::-1], target[:, ::-1]
        np.testing.assert_array_equal(field, same_field)
        np.testing.assert_array_equal(target, same_target)
    # binomial, 60 draws: 30 +- 3.9
    assert 15 <= turned <= 45


def test_small_footprint_without_room_says_so():
    footprint = np.zeros(12 * 64**2, bool)
    footprint[healpy.query_disc(64, healpy.ang2vec(112.5, 41.8, lonlat=True), np.radians(3))] = True
    maps = SkyMaps(np.zeros((len(footprint), 6), np.float32), footprint, read_instrument().bands)
    labels = ClusterLabels(np.array([112.5]), np.array([41.8]))
    with pytest.raises(ValueError, match="no cluster of the catalogue lies where training patches may be"):
        Patches(LocalMaps(maps, None), labels, PatchConfig(), SPLIT, 1)
