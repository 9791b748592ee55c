"""Matching against hand-placed positions and a brute-force search over all pairs."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from szeek.assess.match import chance_rate, further_peaks, match, shift_directions
from szeek.measure.identify import identify_sources
from szeek.measure.pairs import list_pairs, truth_radius


def make_table(lon_deg: list[float], lat_deg: list[float], **columns: list[float]) -> Table:
    return Table({"lon_deg": lon_deg, "lat_deg": lat_deg, **columns}, dtype=[float] * (2 + len(columns)))


def random_sky(rng: np.random.Generator, n: int, span_deg: float = 180.0) -> Table:
    return Table(
        {
            "lon_deg": rng.uniform(-span_deg, span_deg, n) % 360,
            "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n) * min(1, np.sin(np.radians(min(span_deg, 90)))))),
            "p": rng.random(n),
        }
    )


def test_the_highest_p_chooses_first_and_each_cluster_counts_once() -> None:
    # Sources at 0, 2, 8 arcmin along the equator, clusters at 3 and 11: the second (p = 0.9) takes the
    # cluster at 3 (1 arcmin), the third (0.5) has 11 at 3 arcmin, the first (0.7) finds only the cluster at
    # 3, taken.
    sources = make_table([0, 2 / 60, 8 / 60], [0, 0, 0], p=[0.7, 0.9, 0.5])
    clusters = make_table([3 / 60, 11 / 60], [0, 0])
    matches = match(sources, clusters)
    assert matches["source"].tolist() == [1, 2]
    assert matches["cluster"].tolist() == [0, 1]
    np.testing.assert_allclose(matches["separation_arcmin"], [1, 3], rtol=1e-9)
    assert matches["p"].tolist() == [0.9, 0.5]


def test_a_source_falls_back_on_the_next_free_cluster() -> None:
    sources = make_table([0, 0.1 / 60], [0, 0], p=[0.9, 0.8])
    clusters = make_table([0, 4 / 60], [0, 0])
    assert match(sources, clusters)["cluster"].tolist() == [0, 1]


def test_radius_is_inclusive_and_may_differ_from_cluster_to_cluster() -> None:
    sources = make_table([0, 10], [0, 0], p=[0.5, 0.5])
    clusters = make_table([5 / 60, 10 + 12 / 60], [0, 0])
    assert match(sources, clusters)["cluster"].tolist() == [0]
    assert match(sources, clusters, [4.0, 12.0])["cluster"].tolist() == [1]
    assert len(match(sources, clusters, 4.999)) == 0


@pytest.mark.parametrize(("lon1", "lat1", "lon2", "lat2"), [(359.99, 0, 0.01, 0), (0, 89.99, 180, 89.99)])
def test_neighbours_over_l_0_and_over_the_pole(lon1: float, lat1: float, lon2: float, lat2: float) -> None:
    matches = match(make_table([lon1], [lat1], p=[1]), make_table([lon2], [lat2]))
    assert matches["separation_arcmin"][0] == pytest.approx(1.2, rel=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), n_source=st.integers(0, 40), n_cluster=st.integers(0, 40))
def test_agrees_with_search_over_all_pairs(seed: int, n_source: int, n_cluster: int) -> None:
    rng = np.random.default_rng(seed)
    sources, clusters = random_sky(rng, n_source, 0.3), random_sky(rng, n_cluster, 0.3)
    radius = rng.uniform(2, 10, n_cluster)
    one = SkyCoord(sources["lon_deg"], sources["lat_deg"], unit="deg")
    two = SkyCoord(clusters["lon_deg"], clusters["lat_deg"], unit="deg")
    expected, free = {}, set(range(n_cluster))
    for s in np.argsort(-sources["p"], kind="stable").tolist():
        near = [
            (float(one[s].separation(two[c]).arcmin), c)
            for c in free
            if one[s].separation(two[c]).arcmin <= radius[c]
        ]
        if near:
            expected[s] = min(near)[1]
            free.remove(expected[s])
    matches = match(sources, clusters, radius)
    assert dict(zip(matches["source"].tolist(), matches["cluster"].tolist(), strict=True)) == expected


def test_matches_above_a_threshold_do_not_depend_on_sources_below() -> None:
    rng = np.random.default_rng(5)
    sources, clusters = random_sky(rng, 300, 1.0), random_sky(rng, 300, 1.0)
    everything = match(sources, clusters)
    high = np.flatnonzero(sources["p"] > 0.5)
    above = match(sources[high], clusters)
    assert high[above["source"]].tolist() == everything["source"][everything["p"] > 0.5].tolist()


def test_truth_radius_and_further_peaks() -> None:
    # A halo of theta500 = 20 arcmin takes sources out to 12; of the three inside, the highest finds it, the
    # others count neither way. A second peak beside a small halo (radius 5) is a false one.
    clusters = make_table([0, 30], [0, 0], theta500_arcmin=[20, 3])
    radius = truth_radius(clusters)
    assert radius.tolist() == [12, 5]
    sources = make_table([0, 7 / 60, 11 / 60, 13 / 60, 30, 30 + 4 / 60], [0] * 6, p=[0.8, 0.9, 0.3, 0.3, 0.9, 0.8])
    matches = match(sources, clusters, radius)
    assert matches["source"].tolist() == [1, 4]
    assert further_peaks(sources, clusters, radius, matches).tolist() == [True, False, True, False, False, False]


def test_a_peak_inside_a_halo_that_nobody_found_is_no_further_peak() -> None:
    # The source is matched to the small halo, nearer to it; the extended one stays unfound.
    clusters = make_table([0, 1 / 60], [0, 0], theta500_arcmin=[20, 3])
    sources = make_table([1 / 60], [0], p=[0.5])
    radius = truth_radius(clusters)
    matches = match(sources, clusters, radius)
    assert matches["cluster"].tolist() == [1]
    assert not further_peaks(sources, clusters, radius, matches).any()


def test_chance_rate_is_the_area_of_the_discs() -> None:
    # 4000 sources on the sphere, discs of 5 arcmin: 4000 (1 - cos 5') / 2 = 0.212 % of random positions
    # match.
    rng = np.random.default_rng(3)
    sources, clusters = random_sky(rng, 4000), random_sky(rng, 20000)
    rate = chance_rate(sources, clusters, n_shifts=20, seed=1)
    expected = 4000 * (1 - np.cos(np.radians(5 / 60))) / 2
    assert rate.clusters == pytest.approx(expected, abs=5 * rate.clusters_error + 0.02 * expected)
    assert rate.sources == pytest.approx(5 * rate.clusters)  # the same matches over a fifth of the objects
    assert 0 < rate.clusters_error < 0.05 * expected


def test_chance_rate_does_not_count_true_matches() -> None:
    rng = np.random.default_rng(4)
    clusters = random_sky(rng, 2000)
    assert len(match(clusters, clusters)) > 1990
    rate = chance_rate(clusters, clusters, seed=2)
    assert rate.clusters < 0.003
    assert chance_rate(clusters, clusters, seed=2) == rate
    assert chance_rate(clusters, clusters, seed=3) != rate


def test_shifts_stay_in_the_footprint_and_within_half_to_two_degrees() -> None:
    nside = 32
    footprint = np.zeros(12 * nside**2, bool)
    footprint[healpy.query_disc(nside, [0, 0, 1], np.radians(12))] = True
    rng = np.random.default_rng(6)
    here = np.transpose(healpy.pix2vec(nside, np.flatnonzero(footprint)))
    there = shift_directions(here, footprint, rng)
    assert footprint[healpy.vec2pix(nside, *there.T)].all()
    shift_deg = np.degrees(np.arccos(np.sum(here * there, axis=1)))
    assert shift_deg.min() >= 0.5 - 1e-6
    assert shift_deg.max() <= 2 + 1e-6


def test_chance_of_identification_is_uniform_for_random_sources() -> None:
    # p_chance of the nearest neighbour of a random position is uniform on [0, p_chance(radius)].
    rng = np.random.default_rng(8)
    clusters, sources = random_sky(rng, 30000), random_sky(rng, 20000)
    clusters["name"] = clusters["survey"] = "x"
    clusters["z"] = clusters["m500_1e14msun"] = 0.1
    p_chance = np.asarray(identify_sources(sources, clusters, radius_arcmin=60.0)["match_p_chance"])
    assert np.mean(p_chance < 0.3) == pytest.approx(0.3, abs=0.02)
    assert np.mean(p_chance < 0.7) == pytest.approx(0.7, abs=0.02)


def test_nothing_to_match() -> None:
    empty, one = make_table([], [], p=[]), make_table([1], [1], p=[0.5])
    for sources, clusters in ((empty, one), (one, empty), (empty, empty)):
        matches = match(sources, clusters)
        assert matches.colnames == ["source", "cluster", "separation_arcmin", "p"]
        assert len(matches) == 0
        assert chance_rate(sources, clusters) == (0, 0, 0, 0)
        assert len(list_pairs(sources, clusters, 5.0)[0]) == 0


def test_bad_input_is_refused() -> None:
    good = make_table([1], [1], p=[0.5])
    with pytest.raises(ValueError, match="expected one named 'p'"):
        match(make_table([1], [1]), good)
    with pytest.raises(ValueError, match=r"columns \['ra'\], expected also lon_deg and lat_deg"):
        match(good, Table({"ra": [1.0]}))
    with pytest.raises(ValueError, match=r"1 positions are no positions, the first in row 1: lon_deg = nan"):
        match(good, make_table([1, np.nan], [1, 1]))
    with pytest.raises(ValueError, match="lat_deg = 91"):
        match(good, make_table([1], [91]))
    with pytest.raises(ValueError, match="expected positive radii"):
        match(good, good, 0.0)
    with pytest.raises(ValueError, match="n_shifts is 1, expected at least 2"):
        chance_rate(good, good, n_shifts=1)
    with pytest.raises(ValueError, match="no True pixel"):
        chance_rate(good, good, footprint=np.zeros(48, bool))


@pytest.mark.parametrize(
    ("survey", "error95", "theta500", "separation_arcmin", "found"),
    [
        ("PSZ2", 1.8, np.nan, 2.9, True),  # both in quadrature: 3 arcmin
        ("PSZ2", 1.8, np.nan, 3.1, False),
        ("MCXC", 1.8, np.nan, 2.9, False),  # of X-ray positions 1 arcmin: 2.06
        ("MCXC", 0.2, np.nan, 1.6, True),  # not below a pixel
        ("MCXC", 0.2, np.nan, 1.8, False),
        ("MCXC", 0.2, 20.0, 11.9, True),  # inside 0.6 theta500
        ("MCXC", np.nan, np.nan, 4.9, True),  # no position error: as asked for
        ("MCXC", np.nan, np.nan, 5.1, False),
    ],
)
def test_a_known_cluster_is_named_where_position_errors_allow_it(
    survey: str, error95: float, theta500: float, separation_arcmin: float, found: bool
) -> None:
    # Beside the candidate, and nearer to it, nothing; a second candidate 10 deg off is never named.
    sources = make_table([0, 10], [0, 0], pos_err95_arcmin=[error95, error95])
    clusters = Table(
        {
            "name": ["A"],
            "survey": [survey],
            "lon_deg": [separation_arcmin / 60],
            "lat_deg": [0.0],
            "z": [0.1],
            "m500_1e14msun": [5.0],
            "theta500_arcmin": [theta500],
        }
    )
    named = identify_sources(sources, clusters)
    assert named["match_name"].tolist() == (["A", ""] if found else ["", ""])
    if found:
        # one cluster in a disc of 5 deg: 1 - exp(-(s / 300')^2)
        assert named["match_p_chance"][0] == pytest.approx((separation_arcmin / 300) ** 2, rel=1e-3)
