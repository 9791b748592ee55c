"""Null positions: where they lie, and that nothing is found at them."""

from __future__ import annotations

from dataclasses import replace

import healpy
import numpy as np
import pytest
from astropy.table import Table, vstack
from scipy import stats

from szeek.assess.match import match
from szeek.stack.nulls import matched_positions, rotated_positions
from szeek.stack.profiles import Profile, measure_part, measure_profile, measure_significance
from szeek.stack.stacks import Field, stack_at

NSIDE = 128


@pytest.fixture(scope="module")
def dusty_sky() -> tuple[np.ndarray, Table]:
    """Dust that falls off from the plane and is lumpy, and sources that avoid the dustier half."""
    rng = np.random.default_rng(0)
    lat_deg = healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), lonlat=True)[1]
    lumps = healpy.smoothing(rng.standard_normal(lat_deg.size), fwhm=np.radians(10))
    dust = np.exp(lumps / lumps.std() * 0.5) / (0.1 + np.abs(np.sin(np.radians(lat_deg))))
    lon, lat = rng.uniform(0, 360, 3000), np.degrees(np.arcsin(rng.uniform(-1, 1, 3000)))
    clean = dust[healpy.ang2pix(NSIDE, lon, lat, lonlat=True)] < np.median(dust)
    return dust, Table({"lon_deg": lon[clean], "lat_deg": lat[clean]})


def level(dust: np.ndarray, table: Table) -> np.ndarray:
    return dust[healpy.ang2pix(NSIDE, table["lon_deg"], table["lat_deg"], lonlat=True)]


def test_matched_positions_have_the_latitude_and_dust_of_their_source(dusty_sky: tuple[np.ndarray, Table]) -> None:
    dust, sources = dusty_sky
    places = matched_positions(sources, dust, seed=3)
    assert len(places) > 0.99 * len(sources)
    source = sources[places["source"]]
    # the bins of 5 deg are of pixels: a position d deg in latitude from its pixel's centre is beyond an edge in d / 5
    # of all cases, and so is its source; three binomial errors
    ipix = healpy.ang2pix(NSIDE, places["lon_deg"], places["lat_deg"], lonlat=True)
    offset_deg = np.abs(places["lat_deg"] - healpy.pix2ang(NSIDE, ipix, lonlat=True)[1]).mean()
    expected = 1 - 2 * offset_deg / 5
    least = expected - 3 * np.sqrt(expected * (1 - expected) / len(places))
    same = (np.abs(places["lat_deg"]) // 5 == np.abs(source["lat_deg"]) // 5).mean()
    assert 0.9 < least < same
    # 20 bins: the quantiles of dust agree to one bin
    quantiles = np.linspace(0.05, 0.95, 10)
    found = np.quantile(level(dust, places), quantiles)
    ranks = np.searchsorted(np.sort(level(dust, sources)), found) / len(sources)
    np.testing.assert_allclose(ranks, quantiles, atol=0.05)
    # and none lies on a source
    assert len(match(Table({**places, "p": np.ones(len(places))}), sources, 10.0)) == 0
    again = matched_positions(sources, dust, seed=3)
    np.testing.assert_array_equal(again["lon_deg"], places["lon_deg"])
    assert not np.array_equal(matched_positions(sources, dust, seed=4)["lon_deg"], places["lon_deg"])


def test_matched_positions_stay_in_the_footprint(dusty_sky: tuple[np.ndarray, Table]) -> None:
    dust, sources = dusty_sky
    footprint = healpy.pix2ang(64, np.arange(12 * 64**2), lonlat=True)[0] < 180
    places = matched_positions(sources, dust, footprint)
    assert footprint[healpy.ang2pix(64, places["lon_deg"], places["lat_deg"], lonlat=True)].all()
    # with no room left, none
    assert len(matched_positions(sources, dust, np.zeros(48, bool))) == 0
    assert len(matched_positions(sources[:0], dust)) == 0


def test_dust_must_be_known_at_the_sources(dusty_sky: tuple[np.ndarray, Table]) -> None:
    dust, sources = dusty_sky
    holed = dust.copy()
    holed[healpy.ang2pix(NSIDE, sources["lon_deg"][:3], sources["lat_deg"][:3], lonlat=True)] = np.nan
    with pytest.raises(ValueError, match=r"dust map is not finite at [0-9]+ of [0-9]+ sources"):
        matched_positions(sources, holed)


def test_rotated_positions() -> None:
    sources = Table({"lon_deg": [350.0, 10.0], "lat_deg": [-30.0, 60.0]})
    turned = rotated_positions(sources, 20.0)
    assert turned["lon_deg"].tolist() == [10.0, 30.0]
    assert turned["lat_deg"].tolist() == [-30.0, 60.0]
    footprint = healpy.pix2ang(32, np.arange(12 * 32**2), lonlat=True)[1] > 0
    assert rotated_positions(sources, 20.0, footprint)["source"].tolist() == [1]


def measure_null_sets(
    values: np.ndarray, sources: Table, dust: np.ndarray, field: Field, n_sets: int, n_groups: int = 100
) -> list[Profile]:
    """Profiles of sets of matched positions, each as many as there are sources, from one stack of them all."""
    sets = [matched_positions(sources, dust, seed=1000 * k) for k in range(n_sets)]
    of_set = np.repeat(np.arange(n_sets), [len(places) for places in sets])
    stack = stack_at(values, vstack(sets, metadata_conflicts="silent"), field, n_groups=2)
    return [measure_part(stack, np.flatnonzero(of_set == k), n_groups=n_groups, seed=k) for k in range(n_sets)]


def means_and_covariance(profiles: list[Profile]) -> tuple[np.ndarray, np.ndarray]:
    """Of each set (n_set, n_map, n_ring), and between them (n_map, n_ring, n_ring)."""
    means = np.array([profile.mean for profile in profiles])
    return means, np.stack([np.cov(means[:, m], rowvar=False) for m in range(means.shape[1])])


def against_others(profiles: list[Profile]) -> np.ndarray:
    """Probability of each set's chi-square against the mean of the other sets, (n_set, n_map)."""
    rest = [[*profiles[:k], *profiles[k + 1 :]] for k in range(len(profiles))]
    return np.array(
        [measure_significance(one, others)["p_value"] for one, others in zip(profiles, rest, strict=True)]
    )


def uniformity(p_value: np.ndarray) -> np.ndarray:
    """Probability of Kolmogorov and Smirnov that they are uniform, of each map."""
    return np.array([stats.kstest(column, "uniform").pvalue for column in p_value.T])


def test_the_dust_hole_of_a_clean_selection_is_a_null(dusty_sky: tuple[np.ndarray, Table]) -> None:
    # Sources chosen where it is clean show a hole in the dust, background removed: selection, no signal. Matched
    # nulls show the same hole, so that nothing significant is left; random positions do not.
    dust, sources = dusty_sky
    sources = sources[:600]
    edges = [0, 60, 120, 240]
    field = Field(40, 30.0, (400.0, 570.0), edges)
    values = dust.astype(np.float32)
    hole = measure_profile(stack_at(values, sources, field), edges)
    nulls = measure_null_sets(values, sources, dust, field, 12)
    means, covariance = means_and_covariance(nulls)
    assert hole.mean[0, 0] < -10 * hole.error[0, 0]
    scatter = np.sqrt(np.diag(covariance[0]))
    assert np.all(np.abs(hole.mean[0] - means.mean(axis=0)[0]) < 4 * np.hypot(scatter, hole.error[0]))
    assert means.shape == (12, 1, 3)
    assert uniformity(against_others(nulls))[0] > 1e-3


def test_probabilities_of_a_hundred_null_sets_are_uniform() -> None:
    """100 sets of 150 positions in each of eight skies of red noise, white noise and dust: chi-square probabilities
    of their profiles against the mean of the others, and against zero, are uniform.

    Right errors give a probability of Kolmogorov and Smirnov below 0.01 once in a hundred; in one sky of eight, below
    0.01 / 8. The test has power: of errors a tenth too small it says no.
    """
    rng = np.random.default_rng(3)
    sky = rng.standard_normal((12 * NSIDE**2, 8))
    red = np.stack([healpy.smoothing(rng.standard_normal(len(sky)), fwhm=np.radians(4)) for _ in range(9)], axis=1)
    red /= red.std(axis=0)
    lat_deg = healpy.pix2ang(NSIDE, np.arange(len(sky)), lonlat=True)[1]
    dust = np.exp(red[:, 8]) / (0.1 + np.abs(np.sin(np.radians(lat_deg))))
    sky += red[:, :8] + 0.02 * dust[:, None]
    lon, lat = rng.uniform(0, 360, 150), np.degrees(np.arcsin(rng.uniform(-1, 1, 150)))
    nulls = measure_null_sets(
        sky.astype(np.float32), Table({"lon_deg": lon, "lat_deg": lat}), dust,
        Field(20, 40.0, (300.0, 380.0), [0, 60, 120, 200, 300]), 100, n_groups=50,
    )  # fmt: skip
    by_others = against_others(nulls)
    by_zero = np.array([measure_significance(profile)["p_value"] for profile in nulls])
    too_small = against_others([replace(profile, covariance=0.81 * profile.covariance) for profile in nulls])
    of_others, of_zero, power = (uniformity(p.reshape(-1, 1))[0] for p in (by_others, by_zero, too_small))
    print(
        f"KS p of 8 x 100 null sets: {of_others:.2f} against the others' mean ({uniformity(by_others).round(2)} of "
        f"each sky), {of_zero:.2f} against zero; {power:.1g} with errors a tenth too small"
    )
    assert min(of_others, of_zero) > 0.01
    assert min(uniformity(by_others).min(), uniformity(by_zero).min()) > 0.01 / 8
    assert power < 0.01
    # what the bootstrap within sets says is the covariance between them
    within = np.mean([profile.covariance for profile in nulls], axis=0)
    ratio = np.trace(np.linalg.solve(within, means_and_covariance(nulls)[1]), axis1=1, axis2=2) / 4
    # four rings of 100 sets: known to sqrt(2 / 400) in a sky, 2.5 % in the mean of eight; three errors
    assert ratio.mean() == pytest.approx(1, abs=0.075)
