import healpy
import numpy as np
import pytest

from szeek.sky.fields import Field, cover_sphere, gather_field, own_runs, owns_seen_pixels, place_field
from szeek.sky.projection import field_directions


def _gather_into(p_map, field, p_field, pixel_arcmin, footprint):
    place_field(field, gather_field(field, p_field, pixel_arcmin, footprint), p_map)


@pytest.mark.parametrize(
    ("nside", "pixel_arcmin", "margin"), [(16, 1.7177, 16), (64, 6.87, 16), (128, 1.7177, 32), (64, 0.8, 16)]
)
def test_every_pixel_is_owned_once_and_lies_inside_its_field(nside, pixel_arcmin, margin):
    footprint = np.ones(12 * nside**2, bool)
    count = np.zeros(12 * nside**2, int)
    for field in cover_sphere(nside, pixel_arcmin, margin, 16):
        p_map = np.full(12 * nside**2, np.nan, np.float32)
        _gather_into(p_map, field, np.zeros((field.ny, field.nx), np.float32), pixel_arcmin, footprint)
        count += np.isfinite(p_map)
    assert count.min() == count.max() == 1


def test_what_a_field_owns_keeps_the_margin():
    nside, margin = 64, 24
    for field in cover_sphere(nside, 3.0, margin, 16):
        p_map = np.full(12 * nside**2, np.nan, np.float32)
        # distance of each field pixel to the field's edge
        row, column = np.minimum(np.arange(field.ny), np.arange(field.ny)[::-1]), np.arange(field.nx)
        depth = np.minimum(row[:, None], np.minimum(column, column[::-1])[None, :]).astype(np.float32)
        _gather_into(p_map, field, depth, 3.0, np.ones(12 * nside**2, bool))
        assert np.nanmin(p_map) >= margin


def test_gathering_a_smooth_function_of_direction_gives_it_back():
    nside, vector = 128, np.array([1.0, 2.0, 3.0])
    p_map = np.full(12 * nside**2, np.nan, np.float32)
    for field in cover_sphere(nside, 4.0, 16, 16):
        directions = field_directions(field.lon_deg, field.lat_deg, 0.0, field.ny, field.nx, 4.0)
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        _gather_into(p_map, field, (directions @ vector).astype(np.float32), 4.0, np.ones(len(p_map), bool))
    expected = np.stack(healpy.pix2vec(nside, np.arange(12 * nside**2)), axis=1) @ vector
    np.testing.assert_allclose(p_map, expected, atol=5e-6)


@pytest.mark.parametrize("pixel_arcmin", [1.7177, 1.0, 0.5])
def test_the_sky_is_covered_with_few_evaluations_a_pixel_by_fields_that_fit_into_memory(pixel_arcmin):
    fields = cover_sphere(2048, pixel_arcmin, 16, 16)
    assert sum(f.ny * f.nx for f in fields) / (41252.96 * 3600 / pixel_arcmin**2) < 1.35
    assert max(max(f.ny, f.nx) for f in fields) <= 720


def test_only_pixels_of_the_footprint_are_written_and_asked_for():
    nside = 32
    footprint = np.zeros(12 * nside**2, bool)
    footprint[healpy.query_disc(nside, healpy.ang2vec(100, 89, lonlat=True), np.radians(3))] = True
    fields = cover_sphere(nside, 6.0, 16, 16)
    asked = [f for f in fields if owns_seen_pixels(f, nside, footprint)]
    assert 1 <= len(asked) <= 2
    p_map = np.full(len(footprint), np.nan, np.float32)
    for field in asked:
        _gather_into(p_map, field, np.ones((field.ny, field.nx), np.float32), 6.0, footprint)
    np.testing.assert_array_equal(np.isfinite(p_map), footprint)


def test_a_field_too_small_for_what_it_owns_is_an_error():
    field = Field(0.0, 90.0, 16, 16, (1, 20), 0, 1)
    with pytest.raises(RuntimeError, match="lie outside it"):
        gather_field(field, np.zeros((16, 16), np.float32), 1.7, np.ones(12 * 32**2, bool))


def test_owned_runs_are_the_pixels_between_two_meridians_and_two_parallels():
    nside = 32
    lon = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)[0]
    ring = healpy.pix2ring(nside, np.arange(12 * nside**2))
    for field in cover_sphere(nside, 6.0, 16, 16):
        runs = own_runs(field, nside)
        own = np.concatenate([np.arange(first, stop) for first, stop in runs])
        west, east = 360 * field.part / field.n_parts, 360 * (field.part + 1) / field.n_parts
        # a pixel centre on a meridian, to rounding, belongs to the field east of it
        inside = (ring >= field.rings[0]) & (ring < field.rings[1]) & (lon > west - 1e-9) & (lon < east - 1e-9)
        np.testing.assert_array_equal(own, np.flatnonzero(inside))
