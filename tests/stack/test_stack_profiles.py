"""Profiles and aperture fluxes against analytic sources and noise of known covariance."""

from __future__ import annotations

from dataclasses import replace

import healpy
import numpy as np
import pytest
from astropy.table import Table
from scipy import stats

from szeek.stack.profiles import (
    gaussian_aperture_fraction,
    measure_fluxes,
    measure_part,
    measure_profile,
    measure_significance,
)
from szeek.stack.stacks import Field, Groups, Stack, measure_error, stack_at

NSIDE = 256  # pixels of 13.7 arcmin; sources are drawn with FWHM of 80 arcmin


def gaussian_sky(positions: Table, peaks: np.ndarray, fwhm_arcmin: float) -> np.ndarray:
    """Sum of Gaussians exp(-4 ln2 r^2 / FWHM^2) of the true angular distance."""
    sky = np.zeros(12 * NSIDE**2)
    for row, peak in zip(positions, peaks, strict=True):
        centre = healpy.ang2vec(row["lon_deg"], row["lat_deg"], lonlat=True)
        ipix = healpy.query_disc(NSIDE, centre, np.radians(5 * fwhm_arcmin / 60))
        radius = np.degrees(healpy.rotator.angdist(centre, healpy.pix2vec(NSIDE, ipix))) * 60
        sky[ipix] += peak * np.exp(-4 * np.log(2) * (radius / fwhm_arcmin) ** 2)
    return sky.astype(np.float32)


@pytest.fixture(scope="module")
def three_sources() -> tuple[np.ndarray, Table, np.ndarray]:
    positions = Table({"lon_deg": [0.0, 100.0, 200.0], "lat_deg": [85.0, -30.0, 10.0]})
    peaks = np.array([1.0, 2.0, 6.0])
    return gaussian_sky(positions, peaks, 80.0), positions, peaks


def test_profile_of_a_gaussian(three_sources: tuple[np.ndarray, Table, np.ndarray]) -> None:
    sky, positions, _ = three_sources
    stack = stack_at(sky, positions, Field(60, 8.0, None))
    profile = measure_profile(stack, np.arange(0, 200, 20))
    # means over rings of a Gaussian that bilinear interpolation between pixels of 13.7 arcmin has made wider, by a
    # variance of 13.7^2 / 6 along each axis
    variance = 80**2 / (8 * np.log(2))
    wider = variance + 13.7**2 / 6
    inner, outer = np.arange(0, 180, 20), np.arange(20, 200, 20)
    bell = 2 * wider * (np.exp(-(inner**2) / 2 / wider) - np.exp(-(outer**2) / 2 / wider)) / (outer**2 - inner**2)
    expected = 3.0 * variance / wider * bell
    np.testing.assert_allclose(profile.mean[0], expected, atol=0.03)
    table = profile.to_table()
    assert len(table) == 9
    assert table["map"][0] == "map0"
    np.testing.assert_array_equal(table["error"], profile.error[0])


def test_flux_of_gaussians_is_analytic(three_sources: tuple[np.ndarray, Table, np.ndarray]) -> None:
    sky, positions, peaks = three_sources
    total = peaks * 2 * np.pi * (80 / np.sqrt(8 * np.log(2))) ** 2
    settings = {"radius_arcmin": 80.0, "background_arcmin": (120.0, 200.0)}
    fraction = gaussian_aperture_fraction(80.0, **settings)
    flux = measure_fluxes(sky, positions, **settings, pixel_arcmin=4.0)
    # bilinear interpolation loses (13.7 / 80)^2 of curvature; the flux in a disc of twice the width much less
    np.testing.assert_allclose(flux[:, 0], fraction * total, rtol=0.01)
    # a background of any constant and slope makes no difference
    z = healpy.pix2vec(NSIDE, np.arange(sky.size))[2]
    tilted = measure_fluxes(sky + np.float32(50) + 3 * z.astype(np.float32), positions, **settings, pixel_arcmin=4.0)
    np.testing.assert_allclose(tilted, flux, rtol=0.02)


def test_fraction_against_integration() -> None:
    radius = np.linspace(0, 25, 200001)
    value = np.exp(-4 * np.log(2) * (radius / 9.68) ** 2)
    total = 2 * np.pi * (9.68 / np.sqrt(8 * np.log(2))) ** 2
    disc = np.trapezoid(np.where(radius <= 10, value * 2 * np.pi * radius, 0), radius)
    ring = np.trapezoid(np.where(radius >= 15, value * 2 * np.pi * radius, 0), radius)
    expected = (disc - ring / (np.pi * (25**2 - 15**2)) * np.pi * 100) / total
    assert gaussian_aperture_fraction(9.68, 10.0, (15.0, 25.0)) == pytest.approx(expected, rel=1e-4)


def test_masked_sources_have_no_flux(three_sources: tuple[np.ndarray, Table, np.ndarray]) -> None:
    sky, positions, _ = three_sources
    mask = np.ones(sky.size, bool)
    centre = healpy.ang2vec(100.0, -30.0, lonlat=True)
    mask[healpy.query_disc(NSIDE, centre, np.radians(1.2))] = False
    flux = measure_fluxes(sky, positions, 80.0, (120.0, 200.0), pixel_arcmin=8.0, mask=mask)
    assert np.isnan(flux[:, 0]).tolist() == [False, True, False]
    assert measure_fluxes(sky, positions[:0]).shape == (0, 1)


def toy_stack(signal: np.ndarray, n_group: int, seed: int) -> Stack:
    """A stack whose groups are a signal plus white noise and a common offset per group."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n_group, *signal.shape, 1)) + rng.standard_normal((n_group, 1, 1, 1))
    total = (noise + signal[..., None]).astype(np.float32)
    groups = Groups(total, np.ones((n_group, *signal.shape), np.float32))
    return Stack(("y",), total.mean(axis=0), None, groups, groups, n_group, 1.0)


def test_covariance_is_that_of_the_noise() -> None:
    # Of a ring of k pixels: (1 / k + 1) / n_group; between rings the common offset, 1 / n_group.
    stack = toy_stack(np.zeros((40, 40)), 400, 1)
    edges = np.array([0, 3, 6, 10])
    profile = measure_profile(stack, edges, n_bootstrap=4000)
    ring = np.digitize(stack.radius_arcmin, edges)
    n_pixel = [np.count_nonzero(ring == k) for k in (1, 2, 3)]
    expected = (np.diag(1 / np.array(n_pixel)) + 1) / 400
    # 400 groups give a variance to sqrt(2 / 400) = 7 %
    np.testing.assert_allclose(profile.covariance[0], expected, rtol=0.3)
    assert float(measure_error(stack).mean()) == pytest.approx(np.sqrt(2 / 400), rel=0.05)


def test_p_values_of_noise_are_uniform() -> None:
    # 60 stacks of noise with 30 groups and 6 rings each: a chi-square with a noisy covariance would reject
    # far too often (mean p of about 0.3); Hotelling's T^2 does not.
    edges = np.array([0, 3, 5, 7, 9, 12, 16])
    p_values = [
        measure_significance(measure_profile(toy_stack(np.zeros((40, 40)), 30, seed), edges))["p_value"][0]
        for seed in range(60)
    ]
    assert stats.kstest(p_values, "uniform").pvalue > 0.01


def test_two_null_sets_do_not_lift_the_significance() -> None:
    # Sources without signal against the mean of two null sets, 120 times: that mean has half of the sources' own
    # variance. Taken as exact it makes p values small; with its covariance they are uniform.
    edges = [0, 3, 6, 8]
    counted, exact = [], []
    for seed in range(120):
        stacks = [toy_stack(np.zeros((16, 16)), 30, 10 * seed + k) for k in range(3)]
        profile, *nulls = (measure_profile(stack, edges, n_bootstrap=300) for stack in stacks)
        counted.append(measure_significance(profile, nulls)["p_value"][0])
        exact.append(measure_significance(profile, np.mean([null.mean for null in nulls], axis=0))["p_value"][0])
    assert stats.kstest(counted, "uniform").pvalue > 0.01
    assert stats.kstest(exact, "uniform").pvalue < 0.001


def test_part_of_a_stack_is_the_stack_of_a_part(three_sources: tuple[np.ndarray, Table, np.ndarray]) -> None:
    # Two of the three sources, one of them half masked: from the rings kept of each, and stacked by themselves.
    sky, positions, _ = three_sources
    mask = np.ones(sky.size, bool)
    mask[healpy.query_disc(NSIDE, healpy.ang2vec(201.0, 10.0, lonlat=True), np.radians(1))] = False
    edges = [0, 30, 60, 100]
    field, settings = Field(40, 8.0, (110.0, 150.0)), {"angle_deg": 0.0, "mask": mask}
    whole = stack_at(sky, positions, replace(field, edges_arcmin=edges), **settings)
    part = measure_part(whole, [0, 2])
    alone = measure_profile(stack_at(sky, positions[[0, 2]], field, **settings), edges)
    np.testing.assert_allclose(part.mean, alone.mean, rtol=1e-5)
    np.testing.assert_array_equal(part.radius_arcmin, alone.radius_arcmin)
    # two bootstraps of 1,000 draws are 3.2 % apart
    np.testing.assert_allclose(part.block_error, alone.block_error, rtol=0.1)
    # two sources a apart: the bootstrap of their mean has variance a^2 / 8, times 2: a / 2. Of 1,000 draws, with the
    # kurtosis of 2 of such means, it is known to 1 / sqrt(4000) = 1.6 %: three errors
    lone = [measure_part(whole, [row]).mean[0, 2] for row in (0, 2)]  # a ring where nothing is masked
    assert part.error[0, 2] == pytest.approx(abs(lone[0] - lone[1]) / 2, rel=0.048)
    table = part.to_table()
    assert table["covariance"].shape == (3, 3)
    np.testing.assert_allclose(np.diag(table["block_covariance"]), table["block_error"] ** 2)
    with pytest.raises(ValueError, match="the stack kept no rings of its sources"):
        measure_part(stack_at(sky, positions, field, **settings), [0])
    with pytest.raises(ValueError, match="no source is chosen"):
        measure_part(whole, [])


def test_significance_of_a_signal_and_of_its_null() -> None:
    signal = np.zeros((40, 40))
    signal[17:23, 17:23] = 1.0
    profile = measure_profile(toy_stack(signal, 100, 3), [0, 3, 6, 10])
    row = measure_significance(profile)[0]
    assert row["centre_sigma"] > 5
    assert row["p_value"] < 1e-6
    assert row["sigma"] > 5
    nulled = measure_significance(profile, [profile])[0]
    assert (nulled["chi2"], nulled["p_value"]) == (0, 1)


def test_bad_rings_and_apertures_are_refused() -> None:
    stack = toy_stack(np.zeros((40, 40)), 3, 0)
    with pytest.raises(ValueError, match=r"edges_arcmin is \[0.0, 5.0, 5.0\], expected at least two rising"):
        measure_profile(stack, [0, 5, 5])
    with pytest.raises(ValueError, match=r"no pixel of 1 arcmin lies in the ring from 0 to 0\.1 arcmin"):
        measure_profile(stack, [0, 0.1, 5])
    with pytest.raises(ValueError, match="3 rings but 3 groups of sources, expected more groups"):
        measure_significance(measure_profile(stack, [0, 3, 6, 10]))
    with pytest.raises(ValueError, match="disc of 10 and annulus of 5 to 8 arcmin"):
        measure_fluxes(
            np.zeros(12 * 16**2, np.float32), Table({"lon_deg": [0.0], "lat_deg": [0.0]}), 10.0, (5.0, 8.0)
        )
