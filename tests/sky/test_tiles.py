import healpy
import numpy as np
import pytest

from szeek.sky.tiles import TEST_TILE, VALIDATION_TILES, Tiles, pixels_in_tiles, pixels_near_tiles, tile_of


def test_test_tile_is_the_paper_s_in_either_ordering():
    # Bonjean (2020): centre (112.5, +41.81) deg; at these four pixels RING and NESTED agree
    for tile in (TEST_TILE, *VALIDATION_TILES):
        ring = healpy.pix2ang(2, tile, lonlat=True)
        assert ring == pytest.approx(healpy.pix2ang(2, tile, nest=True, lonlat=True))
        assert ring[0] in (pytest.approx(112.5), pytest.approx(247.5))
        assert abs(ring[1]) == pytest.approx(41.81, abs=0.01)


def test_pixels_in_tiles_is_tile_of_each_pixel():
    lon, lat = healpy.pix2ang(32, np.arange(12 * 32**2), lonlat=True)
    np.testing.assert_array_equal(pixels_in_tiles(32, [6, 40]), np.isin(tile_of(lon, lat), [6, 40]))


def test_no_point_of_a_patch_outside_the_near_zone_is_in_the_tile():
    rng = np.random.default_rng(1)
    near = pixels_near_tiles(128, [6], 1.3)
    lon, lat = rng.uniform(85, 140, 100_000), rng.uniform(15, 70, 100_000)
    far = ~near[healpy.ang2pix(128, lon, lat, lonlat=True)]
    centre = healpy.ang2vec(lon[far], lat[far], lonlat=True)
    side = np.cross(centre, rng.normal(size=centre.shape))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    rim = np.cos(np.radians(1.3)) * centre + np.sin(np.radians(1.3)) * side
    assert far.sum() > 10_000
    assert not np.any(healpy.vec2pix(2, *rim.T) == 6)
    # and the zone is no wider than it must be: by 1.3 deg and two pixels
    assert near.mean() < 1.35 / 48


def test_tiles_of_another_size_are_healpix_pixels_of_it():
    rng = np.random.default_rng(1)
    lon, lat = rng.uniform(0, 360, 2000), np.degrees(np.arcsin(rng.uniform(-1, 1, 2000)))
    tiles = Tiles((5, 300, 700), 8)
    expected = np.isin(healpy.ang2pix(8, lon, lat, lonlat=True), (5, 300, 700))
    np.testing.assert_array_equal(tiles.contain(lon, lat), expected)
    inside = pixels_in_tiles(64, tiles)
    assert inside.sum() == 3 * 64
    np.testing.assert_array_equal(inside[healpy.ang2pix(64, lon, lat, lonlat=True)], expected)
    assert pixels_near_tiles(64, tiles, 1.0)[inside].all()
    assert Tiles.given((1, 2)) == Tiles((1, 2), 2) and Tiles.given(tiles) is tiles
