"""Stacks against a healpy loop, and their errors against what the noise was made with."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import healpy
import numpy as np
import pytest
from astropy.table import Table

from szeek.sky.projection import field_directions, sample_field
from szeek.sky.skymaps import Band, SkyMaps
from szeek.stack import stacks
from szeek.stack.profiles import measure_part
from szeek.stack.stacks import Field, equal_count_bins, measure_error, sky_blocks, stack_at, stack_samples

NSIDE, PIXEL = 64, 55.0  # arcmin; a field of 20 pixels is 18 deg wide


def random_positions(n: int, seed: int = 0) -> Table:
    rng = np.random.default_rng(seed)
    return Table({"lon_deg": rng.uniform(0, 360, n), "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n)))})


def noise_map(n_map: int = 1, nside: int = NSIDE, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((12 * nside**2, n_map)).astype(np.float32)


def test_mean_is_that_of_a_healpy_loop() -> None:
    values, positions = noise_map(2), random_positions(30)
    expected = np.zeros((20, 20, 2))
    for row in positions:
        directions = field_directions(row["lon_deg"], row["lat_deg"], 30.0, 20, 20, PIXEL)
        theta, phi = healpy.vec2ang(directions.reshape(-1, 3))
        for m in range(2):
            expected[..., m] += healpy.get_interp_val(values[:, m], theta, phi).reshape(20, 20) / 30
    stack = stack_at(values, positions, Field(20, PIXEL, None), angle_deg=30.0, n_groups=7)
    np.testing.assert_allclose(stack.mean, expected, atol=2e-6)
    assert stack.n_source == 30
    # the groups hold the same sum, and so do the blocks
    for groups in (stack.sources, stack.blocks):
        np.testing.assert_allclose(
            groups.total.sum(axis=0) / groups.weight.sum(axis=0)[..., None], stack.mean, atol=1e-5
        )
    assert len(stack.sources.total) == 7


def test_number_of_threads_does_not_change_a_bit() -> None:
    values, positions = noise_map(), random_positions(150)
    one, two = (stack_at(values, positions, Field(16, background_arcmin=None), n_threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.mean, two.mean)
    np.testing.assert_array_equal(one.sources.total, two.sources.total)


def test_samples_share_one_pass_over_the_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two samples of 40 and 25 positions in three maps: 65 fields are sampled, in the order of the sky, and both
    # stacks are those made one by one.
    values, samples = noise_map(3), {"sources": random_positions(40, 1), "null": random_positions(25, 2)}
    field = Field(8, PIXEL, None, [0, 100, 250])
    alone = {name: stack_at(values, where, field, seed=3) for name, where in samples.items()}
    sampled = []

    def sample(maps: np.ndarray, lon_deg: float, lat_deg: float, *how: float) -> np.ndarray:
        sampled.append((maps.shape[1], healpy.ang2pix(32, lon_deg, lat_deg, lonlat=True)))
        return sample_field(maps, lon_deg, lat_deg, *how)

    monkeypatch.setattr(stacks, "sample_field", sample)
    together = stack_samples(values, samples, field, medians=["null"], n_threads=1, seed=3)
    assert [n_map for n_map, _ in sampled] == [3] * 65
    assert [pixel for _, pixel in sampled] == sorted(pixel for _, pixel in sampled)
    for name, stack in together.items():
        np.testing.assert_array_equal(stack.mean, alone[name].mean)
        np.testing.assert_array_equal(stack.sources.total, alone[name].sources.total)
        np.testing.assert_array_equal(stack.rings.total, alone[name].rings.total)
        assert (stack.median is None) == (name == "sources")
    with pytest.raises(ValueError, match="there are no positions to stack at"):
        stack_samples(values, {"sources": samples["sources"][:0]})


def test_background_is_taken_off_each_source() -> None:
    # A sky of a different constant at each source, plus a step of 3 within 200 arcmin of it: 3 is left.
    positions = Table({"lon_deg": [0.0, 120.0, 240.0], "lat_deg": [10.0, 10.0, 10.0]})
    vectors = np.transpose(healpy.pix2vec(NSIDE, np.arange(12 * NSIDE**2)))
    centres = healpy.ang2vec(positions["lon_deg"], positions["lat_deg"], lonlat=True)
    nearest = np.argmax(vectors @ centres.T, axis=1)
    distance_deg = np.degrees(np.arccos(np.max(vectors @ centres.T, axis=1)))
    values = np.array([5.0, -7.0, 100.0])[nearest] + 3.0 * (distance_deg < 200 / 60)
    stack = stack_at(values.astype(np.float32), positions, Field(20, PIXEL, (300.0, 500.0)))
    centre = stack.radius_arcmin < 100
    np.testing.assert_allclose(stack.mean[centre], 3.0, atol=1e-4)
    np.testing.assert_allclose(stack.mean[(stack.radius_arcmin > 300) & (stack.radius_arcmin < 500)], 0, atol=1e-4)


def test_masked_pixels_do_not_count() -> None:
    # Two sources on constant skies of 1 and 3; the second's eastern half is masked: 2 where both, 1 where
    # one.
    positions = Table({"lon_deg": [30.0, 210.0], "lat_deg": [0.0, 0.0]})
    lon_deg, lat_deg = healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), lonlat=True)
    values = np.where(lon_deg < 120, 1.0, 3.0).astype(np.float32)
    mask = ~((lon_deg > 210) & (lon_deg < 240))
    field = Field(20, PIXEL, None)
    stack = stack_at(values, positions, field, mask=mask, angle_deg=0.0, median=True)
    for image in (stack.mean, stack.median):
        np.testing.assert_allclose(image[:, :9], 2.0, atol=1e-6)
        np.testing.assert_allclose(image[:, 12:], 1.0, atol=1e-6)
    # NaN in a bare array, and a footprint of SkyMaps, mean the same
    hole = np.where(mask, values, np.nan).astype(np.float32)
    np.testing.assert_array_equal(stack_at(hole, positions, field, angle_deg=0.0).mean, stack.mean)
    sky = SkyMaps(values[:, None], mask, (Band("100", 100.0, 9.68, "K_CMB"),))
    again = stack_at(sky, positions, field, angle_deg=0.0)
    np.testing.assert_array_equal(again.mean, stack.mean)
    assert again.names == ("100",)
    # where every source is masked there is no mean
    nothing = stack_at(sky, positions[1:], field, mask=mask, angle_deg=0.0)
    assert np.isnan(nothing.mean[:, 12:]).all()
    # a source with all of its background masked does not enter
    inside = (abs(lon_deg - 210) < 3) & (abs(lat_deg) < 3)
    with_background = replace(field, background_arcmin=(300.0, 500.0))
    only = stack_at(values, positions, with_background, mask=inside | (lon_deg < 120), angle_deg=0.0)
    assert only.n_source == 1


def test_weights_by_hand() -> None:
    positions = Table({"lon_deg": [30.0, 210.0], "lat_deg": [0.0, 0.0]})
    lon_deg = healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), lonlat=True)[0]
    values = np.where(lon_deg < 120, 1.0, 3.0).astype(np.float32)
    stack = stack_at(values, positions, Field(4, background_arcmin=None), weights=[3.0, 1.0], n_groups=2)
    np.testing.assert_allclose(stack.mean, 1.5)


@pytest.mark.parametrize("n", [8, 9])
def test_median_is_exact_also_in_strips(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values, positions = noise_map(2), random_positions(n)
    fields = [sample_field(values, r["lon_deg"], r["lat_deg"], 0.0, 10, 10, PIXEL) for r in positions]
    settings = {"field": Field(10, PIXEL, None), "angle_deg": 0.0, "median": True}
    np.testing.assert_allclose(stack_at(values, positions, **settings).median, np.median(fields, axis=0), atol=1e-6)
    monkeypatch.setattr(stacks, "_MEDIAN_BYTES", 200)
    np.testing.assert_allclose(stack_at(values, positions, **settings).median, np.median(fields, axis=0), atol=1e-6)


def test_bootstrap_error_is_that_of_white_noise() -> None:
    # 400 fields of unit noise interpolated at pixel centres of a coarse field: the scatter of the mean over
    # the pixels of the stack is its error; both bootstraps must agree with it, as there is nothing to
    # correlate blocks.
    stack = stack_at(noise_map(nside=128), random_positions(400), Field(30, 60.0, None))
    scatter = float(stack.mean.std())
    for blocks in (False, True):
        error = measure_error(stack, blocks=blocks)
        assert error.shape == stack.mean.shape
        # the scatter of 900 pixels is known to 1 / sqrt(1800) = 2.4 %: three errors
        assert float(np.sqrt(np.mean(error**2))) == pytest.approx(scatter, rel=0.071)


def test_block_bootstrap_sees_what_neighbours_share() -> None:
    # The sky is one random number per nside-4 cell, shared by the sources inside. A bootstrap over sources
    # takes them as independent: too small by sqrt(sources per cell), about 2.8 here.
    cells = np.random.default_rng(2).standard_normal(12 * 4**2)
    parent = healpy.ang2pix(4, *healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), lonlat=True), lonlat=True)
    positions = random_positions(1500)
    stack = stack_at(cells[parent].astype(np.float32), positions, Field(2, background_arcmin=None))
    assert len(stack.blocks.total) == 192
    by_source, by_block = (float(measure_error(stack, blocks=b, n_bootstrap=500).mean()) for b in (False, True))
    # what these very sources and blocks give by hand; 500 draws know it to 1 / sqrt(1000) = 3.2 %: three errors
    here = healpy.ang2pix(4, positions["lon_deg"], positions["lat_deg"], lonlat=True)
    mean, count = cells[here].mean(), np.bincount(here, minlength=192)
    of_sources = cells[here].std() / np.sqrt(1500)
    of_blocks = np.sqrt(np.sum((count * (cells - mean)) ** 2) * 192 / 191) / 1500
    assert by_source == pytest.approx(of_sources, rel=0.095)
    assert by_block == pytest.approx(of_blocks, rel=0.095)


@cache
def toy_skies(kind: str, seed: int) -> np.ndarray:
    """200 skies of nside 32 side by side, (n_pix, 200): unit noise, and twice as much of what neighbours share."""
    rng = np.random.default_rng(seed)
    sky = noise_map(200, 32, seed)
    vectors = np.transpose(healpy.pix2vec(32, np.arange(len(sky))))
    if kind == "cells":  # one number per nside-4 cell
        cell = healpy.vec2pix(4, *vectors.T)
        sky += 2 * rng.standard_normal((192, 200)).astype(np.float32)[cell]
    elif kind == "smooth":  # bells of 10 deg FWHM, so that noise is correlated over 14 deg
        chord = 2 - 2 * (vectors @ np.array(healpy.pix2vec(8, np.arange(768)))).astype(np.float32)  # squared
        bell = np.exp(-4 * np.log(2) * chord / np.radians(10) ** 2)
        bell *= 2 / np.sqrt((bell**2).sum(axis=1, keepdims=True))
        sky += bell @ rng.standard_normal((768, 200), np.float32)
    return sky


def coverage(kind: str, background_arcmin: tuple[float, float] | None) -> tuple[float, float]:
    """How often 68 % intervals of the centre hold the truth, by bootstrap over sources and over blocks.

    In 1,000 toy skies without signal: five times 300 sources, in 200 skies each, which measures 0.683 to 0.015.
    """
    held = []
    for seed in range(5):
        field = Field(1 if background_arcmin is None else 10, 110.0, background_arcmin, [0, 90])
        stack = stack_at(toy_skies(kind, seed), random_positions(300, seed), field, angle_deg=0.0, seed=seed)
        profile = measure_part(stack, np.arange(300), n_bootstrap=400, seed=seed)
        held.append([np.abs(profile.mean[:, 0]) < error[:, 0] for error in (profile.error, profile.block_error)])
    by_source, by_block = np.concatenate(held, axis=1).mean(axis=1)
    print(f"{kind}: coverage {by_source:.3f} by source, {by_block:.3f} by block")
    return float(by_source), float(by_block)


def test_intervals_hold_the_truth() -> None:
    # 0.05 is more than three standard deviations of what 1,000 skies measure.
    assert coverage("white", None) == pytest.approx((0.683, 0.683), abs=0.05)


def test_only_blocks_see_what_neighbours_share() -> None:
    by_source, by_block = coverage("cells", None)  # the cells are the blocks
    assert by_block == pytest.approx(0.683, abs=0.05)
    assert by_source < 0.6


def test_a_background_of_each_source_s_own_removes_what_blocks_share() -> None:
    # Noise that is correlated across the borders of blocks is seen by neither bootstrap, unless each source's own
    # background is taken off it, as in every stack that is made of a run.
    assert max(coverage("smooth", None)) < 0.6
    assert coverage("smooth", (300.0, 490.0)) == pytest.approx((0.683, 0.683), abs=0.05)


def test_one_source_has_no_error() -> None:
    stack = stack_at(noise_map(), random_positions(1), Field(4, background_arcmin=None))
    assert np.isnan(measure_error(stack)).all()


def test_blocks_are_as_small_as_200_allow() -> None:
    positions = random_positions(5000)
    blocks = sky_blocks(np.asarray(positions["lon_deg"]), np.asarray(positions["lat_deg"]))
    assert blocks.max() + 1 == 192
    rng = np.random.default_rng(4)
    near = sky_blocks(112.5 + rng.uniform(-5, 5, 500), 41.8 + rng.uniform(-5, 5, 500))
    assert 20 < near.max() + 1 <= 200  # 75 deg^2 in cells of 3.4 deg^2
    # 3.4 deg wide fields: cells of 3.7 deg, that is 13.4 deg^2, hold 75 deg^2 and their borders in 6 to 18
    rng = np.random.default_rng(4)
    apart = sky_blocks(112.5 + rng.uniform(-5, 5, 500), 41.8 + rng.uniform(-5, 5, 500), 120 * 1.7177)
    assert 6 <= apart.max() + 1 <= 18


def test_bins_of_equal_counts() -> None:
    p = np.random.default_rng(5).random(18415)
    bins = equal_count_bins(p, 5)
    assert [len(rows) for rows in bins] == [3683] * 5  # the paper's Fig. 6
    assert all(p[low].max() < p[high].min() for low, high in pairwise(bins))
    with pytest.raises(ValueError, match="5 bins of 3 sources, expected at least one source in each"):
        equal_count_bins(p[:3], 5)


def test_bad_input_is_refused() -> None:
    values, positions = noise_map(), random_positions(3)
    with pytest.raises(ValueError, match="there are no positions to stack at"):
        stack_at(values, positions[:0])
    with pytest.raises(ValueError, match=r"weights have shape \(2,\), expected \(3,\)"):
        stack_at(values, positions, weights=[1, 2])
    with pytest.raises(
        ValueError, match=r"background annulus is \(60.0, 200.0\) arcmin, .* field of 10[0-9].* arcmin"
    ):
        stack_at(values, positions, Field(background_arcmin=(60.0, 200.0)))
    with pytest.raises(ValueError, match=r"the mask is float64 .*, expected bool"):
        stack_at(values, positions, mask=np.ones(12 * NSIDE**2))
