"""Recovery, completeness and purity against numbers worked out by hand in the comments."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.table import Table, vstack

from szeek.assess.recovery import HaloCuts, completeness_purity, measure_recovery, wilson_interval
from szeek.sky.tiles import TEST_TILE, tile_of

TILE_DEG2 = 41252.96125 / 48


def grid_in_tile(n: int, tile: int = TEST_TILE) -> tuple[np.ndarray, np.ndarray]:
    """``n`` positions at least a degree apart, well inside a tile."""
    ipix = np.flatnonzero(tile_of(*healpy.pix2ang(32, np.arange(12 * 32**2), lonlat=True)) == tile)
    vectors = np.transpose(healpy.pix2vec(32, ipix))
    centre = np.asarray(healpy.pix2vec(2, tile))
    ipix = ipix[np.argsort(-(vectors @ centre), kind="stable")][:n]  # nearest the centre first
    return healpy.pix2ang(32, ipix, lonlat=True)


def make_truth(lon_deg, lat_deg, y500=6e-4, m500=2.0, theta500=3.0) -> Table:
    n = len(lon_deg)
    return Table(
        {
            "lon_deg": lon_deg,
            "lat_deg": lat_deg,
            "y500_arcmin2": np.broadcast_to(y500, n).astype(float),
            "m500_1e14msun": np.broadcast_to(m500, n).astype(float),
            "theta500_arcmin": np.broadcast_to(theta500, n).astype(float),
        }
    )


def make_sources(lon_deg, lat_deg, p) -> Table:
    return Table({"lon_deg": lon_deg, "lat_deg": lat_deg, "p": np.broadcast_to(p, len(lon_deg)).astype(float)})


def test_wilson_interval_against_its_definition() -> None:
    # The ends are the p that put k/n one standard error away: (k/n - p)^2 = p (1 - p) / n.
    for k, n in [(0, 5), (3, 7), (40, 40), (17, 40)]:
        for end in wilson_interval(k, n):
            assert (k / n - end) ** 2 == pytest.approx(end * (1 - end) / n, abs=1e-12)
    assert [float(end) for end in wilson_interval(0, 0)] == [0, 1]
    low, high = wilson_interval(np.array([1, 2]), np.array([4, 4]), 2.0)
    assert low.shape == high.shape == (2,)
    with pytest.raises(ValueError, match="5 successes of 4"):
        wilson_interval(5, 4)


@pytest.fixture
def hand_made() -> tuple[Table, Table]:
    """25 haloes (Y500 6e-4), of which 17 are found; detections from the highest p down: 12 true, 3 false, 5
    true, 20 false. Offsets of the true ones: 1 arcmin each, 3 for the last five."""
    lon_deg, lat_deg = grid_in_tile(48)
    p = np.linspace(0.95, 0.16, 40)
    true = np.r_[0:12, 15:20]
    at = np.empty(40, int)
    at[true] = np.arange(17)
    at[np.setdiff1d(np.arange(40), true)] = np.arange(25, 48)
    offset_deg = np.where(np.arange(40) >= 15, 3, 1) / 60
    truth = make_truth(lon_deg[:25], lat_deg[:25])
    return make_sources(lon_deg[at], lat_deg[at] + offset_deg, p), truth


def rows_of(table: Table, sample: str = "y500>5e-4") -> Table:
    return table[table["sample"] == sample]


def test_completeness_at_purity_by_hand(hand_made: tuple[Table, Table]) -> None:
    # Cumulative purity: 12/12; 12/13 = 0.923, 12/14 = 0.857, 12/15 = 0.8; up to 17/20 = 0.85; 17/21 = 0.81;
    # 17/22 = 0.77; ... 17/40 = 0.425. So 0.9 is reached last at n = 13, 0.8 at n = 21, 0.5 at n = 34, 1 at
    # 12.
    sources, truth = hand_made
    table = completeness_purity(sources, truth, tiles=[TEST_TILE], purities=(0.5, 0.8, 0.9, 0.999), thresholds=())
    rows = rows_of(table)
    p = np.asarray(sources["p"])
    assert rows["n_detections"].tolist() == [33, 21, 13, 12]
    assert rows["n_true"].tolist() == [17, 17, 12, 12]
    np.testing.assert_allclose(rows["p_threshold"], p[[32, 20, 12, 11]])
    # 25 discs of 5 arcmin cover 25 * 78.5 / 3600 / 859.4 = 0.06 % of the tile
    chance = 25 * np.pi * 25 / 3600 / TILE_DEG2
    np.testing.assert_allclose(rows["purity_chance"], chance, rtol=0.3)
    for row, (k, n) in zip(rows, [(17, 33), (17, 21), (12, 13), (12, 12)], strict=True):
        q = row["purity_chance"]
        assert row["purity"] == pytest.approx((k / n - q) / (1 - q))
        assert row["purity_low"] == pytest.approx((wilson_interval(k, n)[0] - q) / (1 - q))
    # 17, 17, 12, 12 of 25 haloes; random discs hold one of 33, 21, ... detections
    for row, k, n in zip(rows, [17, 17, 12, 12], [33, 21, 13, 12], strict=True):
        c = row["completeness_chance"]
        assert c == pytest.approx(n * np.pi * 25 / 3600 / TILE_DEG2, rel=0.4)
        assert row["completeness"] == pytest.approx((k / 25 - c) / (1 - c))
    np.testing.assert_allclose(rows["median_offset_arcmin"], [1, 1, 1, 1], rtol=1e-6)
    # no halo above 1e-3: completeness unknown, not zero
    assert np.isnan(rows_of(table, "y500>1e-3")["completeness"]).all()


def test_half_purity_needs_the_chance_rate_taken_out(hand_made: tuple[Table, Table]) -> None:
    # 17 of 34 is 0.5 before, and 0.4997 after chance is taken out: so 'at purity 0.5' ends at 33.
    sources, truth = hand_made
    table = completeness_purity(sources, truth, tiles=[TEST_TILE], purities=(0.4995,), thresholds=())
    assert table["n_detections"][0] == 34


def test_at_least_ten_detections(hand_made: tuple[Table, Table]) -> None:
    sources, truth = hand_made
    few = sources[:9]
    row = completeness_purity(few, truth, tiles=[TEST_TILE], purities=(0.9,), thresholds=(0.1,))
    assert np.isnan(row["p_threshold"][0])
    assert row["n_detections"][0] == 0
    assert np.isnan(row["completeness"][0])
    fixed = rows_of(row)[1]
    assert np.isnan(fixed["purity_asked"])
    assert (fixed["n_detections"], fixed["n_true"]) == (9, 9)


def test_cuts_of_the_match_set(hand_made: tuple[Table, Table]) -> None:
    # A detection of a halo below the cuts is a false one: with the first 12 haloes light, then faint, 5 are
    # left.
    sources, truth = hand_made
    for column, value in (("m500_1e14msun", 0.9), ("y500_arcmin2", 2.5e-4)):
        weak = truth.copy()
        weak[column][:12] = value
        row = completeness_purity(sources, weak, tiles=[TEST_TILE], purities=(), thresholds=(0.1,))[0]
        assert (row["n_true"], row["n_detections"], row["n_sample"]) == (5, 40, 13)
    row = completeness_purity(
        sources, weak, tiles=[TEST_TILE], purities=(), thresholds=(0.1,), cuts=HaloCuts(2e-4)
    )[0]
    assert (row["n_true"], row["n_sample"]) == (17, 13)  # found again; the sample is Y500 > 5e-4


def test_further_peaks_in_an_extended_halo_count_neither_way(hand_made: tuple[Table, Table]) -> None:
    sources, truth = hand_made
    beside = make_sources(truth["lon_deg"][:2], truth["lat_deg"][:2] + 8 / 60, 0.5)
    truth["theta500_arcmin"][0] = 20.0  # radius 12 arcmin
    table = completeness_purity(vstack([sources, beside]), truth, tiles=[TEST_TILE], purities=(), thresholds=(0.1,))
    # the peak beside halo 0 is left out, the one beside halo 1 is false
    assert (table["n_detections"][0], table["n_true"][0]) == (41, 17)


def test_equal_scores_are_taken_together() -> None:
    # 10 true and 10 false detections of the same p: no threshold has purity above a half.
    lon_deg, lat_deg = grid_in_tile(20)
    sources = make_sources(lon_deg, lat_deg, 0.7)
    truth = make_truth(lon_deg[:10], lat_deg[:10])
    table = completeness_purity(sources, truth, tiles=[TEST_TILE], purities=(0.6, 0.49), thresholds=())
    assert rows_of(table)["n_detections"].tolist() == [0, 20]


def test_pooling_and_scatter_between_tiles() -> None:
    # Tile 6: 10 of 20 found, no false ones. Tile 9: 20 of 20 found, 20 false. Completeness 0.5 and 1: pooled
    # 0.75, standard deviation 0.5 / sqrt(2). Purity 1 and 0.5: pooled 30 / 50.
    one, two = np.array(grid_in_tile(20, 6)), np.array(grid_in_tile(40, 9))
    truth = make_truth(*np.concatenate([one, two[:, :20]], axis=1))
    sources = make_sources(*np.concatenate([one[:, :10], two], axis=1), 0.5)
    planck_z = truth[15:25]
    table = completeness_purity(sources, truth, planck_z, tiles=[6, 9], purities=(), thresholds=(0.1,))
    row = rows_of(table)[0]
    assert row["completeness"] == pytest.approx(0.75, abs=2e-3)
    assert row["completeness_tile_std"] == pytest.approx(0.5 / np.sqrt(2), rel=2e-3)
    assert row["purity"] == pytest.approx(0.6, abs=2e-3)
    assert row["purity_tile_std"] == pytest.approx(0.5 / np.sqrt(2), rel=2e-3)
    # Planck_z: five in tile 6 among the unfound, five found in tile 9
    row = rows_of(table, "planck_z")[0]
    assert (row["n_sample"], row["n_found"]) == (10, 5)
    # one tile by itself
    row = rows_of(completeness_purity(sources, truth, tiles=[6], purities=(), thresholds=(0.1,)))[0]
    assert (row["n_detections"], row["n_sample"], row["n_found"]) == (10, 20, 10)
    assert np.isnan(row["purity_tile_std"])


def test_random_detections_have_neither_purity_nor_completeness() -> None:
    # 4000 haloes and 4000 random detections in one tile match in about 1 in 10: none of it is left.
    rng = np.random.default_rng(1)
    places = np.array([rng.uniform(80, 145, 60000), np.degrees(np.arcsin(rng.uniform(0.3, 0.98, 60000)))])
    places = places[:, tile_of(*places) == TEST_TILE][:, :8000]
    truth = make_truth(places[0][:4000], places[1][:4000])
    sources = make_sources(places[0][4000:], places[1][4000:], rng.random(4000))
    row = completeness_purity(sources, truth, tiles=[TEST_TILE], purities=(), thresholds=(0.0,))[0]
    assert row["purity_chance"] == pytest.approx(0.1, abs=0.02)
    # one-to-one matching loses some of the chance matches that the coverage counts, a tenth of them at this
    # density
    assert abs(row["purity"]) < 0.03
    assert abs(row["completeness"]) < 0.03


def test_footprint_removes_haloes_sources_and_random_positions(hand_made: tuple[Table, Table]) -> None:
    sources, truth = hand_made
    footprint = np.ones(12 * 64**2, bool)
    gone = healpy.ang2pix(64, truth["lon_deg"][3], truth["lat_deg"][3], lonlat=True)
    footprint[healpy.query_disc(64, healpy.pix2vec(64, gone), np.radians(1.2))] = False
    left = footprint[healpy.ang2pix(64, truth["lon_deg"], truth["lat_deg"], lonlat=True)].sum()
    row = completeness_purity(sources, truth, tiles=[TEST_TILE], footprint=footprint, purities=(), thresholds=(0.1,))[
        0
    ]
    assert left < 25
    assert row["n_sample"] == left


def test_completeness_purity_refuses_bad_input(hand_made: tuple[Table, Table]) -> None:
    sources, truth = hand_made
    with pytest.raises(
        ValueError, match=r"no halo of the 25 in the truth table has M500 > 1e14.* lies in tiles \[7\]"
    ):
        completeness_purity(sources, truth, tiles=[7])
    with pytest.raises(ValueError, match=r"tiles \[48\], expected at least one of 0 to 47"):
        completeness_purity(sources, truth, tiles=[48])
    with pytest.raises(ValueError, match=r"purities \[90\], expected values in"):
        completeness_purity(sources, truth, purities=(90,))


@pytest.fixture(scope="module")
def made_map() -> tuple[np.ndarray, dict[str, Table]]:
    """nside 256: 20 clusters in the test tile with p = 0.05, 0.1, ... 1, and 8 further sources of p =
    0.55."""
    lon_deg, lat_deg = grid_in_tile(28)
    ipix = healpy.ang2pix(256, lon_deg, lat_deg, lonlat=True)
    p_map = np.zeros(12 * 256**2, np.float32)
    p_map[ipix[:20]] = np.arange(1, 21) / 20
    p_map[ipix[20:]] = 0.55
    lon_deg, lat_deg = healpy.pix2ang(256, ipix, lonlat=True)
    clusters = Table({"lon_deg": lon_deg[:20], "lat_deg": lat_deg[:20] + 2 / 60})
    return p_map, {"even": clusters[::2], "odd": clusters[1::2]}


def test_recovery_by_hand(made_map: tuple[np.ndarray, dict[str, Table]]) -> None:
    p_map, catalogues = made_map
    table = measure_recovery(p_map, catalogues, [0.12, 0.52, 0.92], tiles=[TEST_TILE])
    pooled = table[table["tile"] == -1]
    even = pooled[pooled["catalogue"] == "even"]  # p = 0.05, 0.15, ... 0.95
    assert even["n_recovered"].tolist() == [9, 5, 1]
    odd = pooled[pooled["catalogue"] == "odd"]  # p = 0.1, 0.2, ... 1
    assert odd["n_recovered"].tolist() == [9, 5, 1]
    assert even["n_sources"].tolist() == odd["n_sources"].tolist() == [26, 18, 2]
    assert even["n_unmatched"].tolist() == [8, 8, 0]
    assert even["recovered"].tolist() == [0.9, 0.5, 0.1]
    assert even["recovered_low"][0] == pytest.approx(float(wilson_interval(9, 10)[0]))
    assert (table["chance"] < 0.05).all()
    assert len(table) == 3 * 2 * 2
    only_even = measure_recovery(p_map, catalogues, [0.12], known=["even"])
    assert only_even["n_unmatched"][0] == 8 + 9


def test_source_list_gives_the_same_as_the_map_where_no_areas_merge(
    made_map: tuple[np.ndarray, dict[str, Table]],
) -> None:
    from szeek.find.detect import detect_sources

    p_map, catalogues = made_map
    thresholds = [0.12, 0.52]
    one = measure_recovery(p_map, catalogues, thresholds)
    two = measure_recovery(detect_sources(p_map, 0.01), catalogues, thresholds)
    assert one.colnames == two.colnames
    for name in ("n_recovered", "n_sources", "n_unmatched"):
        assert one[name].tolist() == two[name].tolist()


def test_clusters_outside_the_footprint_do_not_count(made_map: tuple[np.ndarray, dict[str, Table]]) -> None:
    p_map, catalogues = made_map
    p_map = p_map.copy()
    p_map[healpy.ang2pix(256, catalogues["even"]["lon_deg"], catalogues["even"]["lat_deg"], lonlat=True)[:3]] = np.nan
    table = measure_recovery(p_map, catalogues, [0.1])
    assert table[table["catalogue"] == "even"]["n_clusters"][0] == 7


def test_a_tile_without_clusters_has_no_fraction() -> None:
    # 4 of 5 in tile 6, 1 of 5 in tile 9, none in 38
    one, two = np.array(grid_in_tile(5, 6)), np.array(grid_in_tile(5, 9))
    clusters = Table({"lon_deg": np.r_[one[0], two[0]], "lat_deg": np.r_[one[1], two[1]]})
    sources = make_sources(clusters["lon_deg"][[0, 1, 2, 3, 5]], clusters["lat_deg"][[0, 1, 2, 3, 5]], 0.5)
    recovery = measure_recovery(sources, {"c": clusters}, [0.1], tiles=[6, 9, 38])
    fraction = dict(zip(recovery["tile"].tolist(), recovery["recovered"].tolist(), strict=True))
    assert (fraction[6], fraction[9]) == pytest.approx((0.8, 0.2))
    assert np.isnan(fraction[38])


def test_measure_recovery_refuses_bad_input(made_map: tuple[np.ndarray, dict[str, Table]]) -> None:
    p_map, catalogues = made_map
    with pytest.raises(ValueError, match="0 catalogues and 1 thresholds, expected at least one"):
        measure_recovery(p_map, {}, [0.1])
    with pytest.raises(ValueError, match="known names planck, expected some of even, odd"):
        measure_recovery(p_map, catalogues, [0.1], known=["planck"])
    with pytest.raises(ValueError, match="expected at least one of 0 to 47"):
        measure_recovery(p_map, catalogues, [0.1], tiles=[])


def test_samples_of_given_cuts_by_hand(hand_made: tuple[Table, Table]) -> None:
    """Of the 25 haloes the first ten are of 3e14 Msun and 2e-4 arcmin^2, of which the 12 true detections have all."""
    sources, truth = hand_made
    truth["m500_1e14msun"][:10], truth["y500_arcmin2"][:10] = 3.0, 2e-4
    rows = completeness_purity(
        sources, truth, tiles=[TEST_TILE], purities=(0.9,), thresholds=(),
        cuts=HaloCuts(1e-4, (1e-4, 5e-4), (2.5,)),
    )  # fmt: skip
    found = {row["sample"]: (row["n_found"], row["n_sample"]) for row in rows}
    assert found == {"y500>1e-4": (12, 25), "y500>5e-4": (2, 15), "m500>2.5e14": (10, 10)}
