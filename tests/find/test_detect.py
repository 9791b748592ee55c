"""Connected areas on the sphere, against a breadth-first search over astropy-healpix's own neighbour
table."""

from __future__ import annotations

from collections import deque

import astropy_healpix
import healpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from szeek.find.detect import detect_sources
from szeek.sky.healpix import pixel_directions, write_neighbours


def list_neighbours(nside: int, ipix: np.ndarray) -> np.ndarray:
    """(n, 8) RING neighbours from astropy-healpix; -1 where there is none (which it reports as a NumPy
    warning)."""
    with np.errstate(invalid="ignore"):
        return astropy_healpix.neighbours(ipix, nside, order="ring").T


def search_breadth_first(p_map: np.ndarray, p_max: float) -> list[frozenset[int]]:
    """Areas by definition: pixel sets reached over astropy-healpix neighbours, without any of our grid
    arithmetic."""
    nside = round((p_map.size / 12) ** 0.5)
    table = list_neighbours(nside, np.arange(p_map.size))
    left = set(np.flatnonzero(p_map > p_max).tolist())
    areas = []
    while left:
        queue, area = deque([left.pop()]), set()
        while queue:
            pixel = queue.popleft()
            area.add(pixel)
            for other in table[pixel].tolist():
                if other in left:
                    left.remove(other)
                    queue.append(other)
        areas.append(frozenset(area))
    return areas


def empty_map(nside: int) -> np.ndarray:
    return np.zeros(12 * nside * nside, np.float32)


def disc_map(nside: int, lon_deg: float, lat_deg: float, radius_deg: float, value: float = 0.9) -> np.ndarray:
    p_map = empty_map(nside)
    p_map[healpy.query_disc(nside, healpy.ang2vec(lon_deg, lat_deg, lonlat=True), np.radians(radius_deg))] = value
    return p_map


@pytest.mark.parametrize("nside", [2, 4, 8, 32])
def test_neighbours_and_directions_are_those_of_healpix(nside: int) -> None:
    ipix = np.arange(12 * nside * nside)
    expected = list_neighbours(nside, ipix)
    found = np.empty(8, np.int64)
    for pixel in ipix:
        write_neighbours(nside, pixel, found)
        assert set(found.tolist()) - {-1} == set(expected[pixel].tolist()) - {-1}
    np.testing.assert_allclose(pixel_directions(nside, ipix), np.transpose(healpy.pix2vec(nside, ipix)), atol=1e-14)


def test_neighbours_at_high_resolution() -> None:
    nside = 8192
    ipix = np.random.default_rng(1).integers(0, 12 * nside**2, 2000)
    ipix = np.concatenate([ipix, [0, 1, 2, 3], 12 * nside**2 - np.arange(1, 5)])  # both poles
    expected = list_neighbours(nside, ipix)
    found = np.empty(8, np.int64)
    for pixel, row in zip(ipix, expected, strict=True):
        write_neighbours(nside, pixel, found)
        assert set(found.tolist()) - {-1} == set(row.tolist()) - {-1}


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), nside=st.sampled_from([2, 4, 8, 16]), fraction=st.floats(0.02, 0.6))
def test_areas_agree_with_breadth_first_search(seed: int, nside: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    p_map = rng.random(12 * nside * nside, np.float32)
    p_max = 1 - fraction
    expected = search_breadth_first(p_map, p_max)
    sources = detect_sources(p_map, p_max)
    by_peak = {int(max(area, key=lambda k: (p_map[k], -k))): area for area in expected}
    peaks = healpy.ang2pix(nside, sources["peak_lon_deg"], sources["peak_lat_deg"], lonlat=True)
    assert sorted(peaks.tolist()) == sorted(by_peak)
    for row, peak in zip(sources, peaks.tolist(), strict=True):
        area = by_peak[peak]
        assert row["n_pix"] == len(area)
        assert row["p"] == p_map[peak]
        assert row["area_arcmin2"] == pytest.approx(len(area) * healpy.nside2pixarea(nside, degrees=True) * 3600)
        vector = np.transpose(healpy.pix2vec(nside, sorted(area))).mean(axis=0)
        if np.linalg.norm(vector) > 1e-6:
            found = healpy.ang2vec(row["lon_deg"], row["lat_deg"], lonlat=True)
            assert np.dot(found, vector) / np.linalg.norm(vector) == pytest.approx(1, abs=1e-12)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), turns=st.integers(1, 3), deblend=st.booleans())
def test_turning_the_sky_by_a_quarter_turns_the_sources(seed: int, turns: int, deblend: bool) -> None:
    # The grid is symmetric under a rotation of 90 deg in longitude: every ring shifts by a quarter of its
    # length.
    nside = 8
    rng = np.random.default_rng(seed)
    p_map = healpy.smoothing(rng.normal(size=12 * nside**2), fwhm=0.3).astype(np.float32)
    p_map[rng.random(p_map.size) < 0.05] = np.nan
    lon_deg, lat_deg = healpy.pix2ang(nside, np.arange(p_map.size), lonlat=True)
    turned = p_map[healpy.ang2pix(nside, lon_deg - 90 * turns, lat_deg, lonlat=True)]
    threshold = float(np.nanquantile(p_map, 0.8))
    one = detect_sources(p_map, threshold, deblend=deblend, min_prominence=0.05)
    two = detect_sources(turned, threshold, deblend=deblend, min_prominence=0.05)
    for name in ("p", "n_pix", "area_arcmin2", "edge"):
        np.testing.assert_allclose(one[name], two[name])
    for prefix in ("", "peak_"):  # directions, as a source may lie on the pole
        before = healpy.ang2vec(one[f"{prefix}lon_deg"] + 90 * turns, one[f"{prefix}lat_deg"], lonlat=True)
        after = healpy.ang2vec(two[f"{prefix}lon_deg"], two[f"{prefix}lat_deg"], lonlat=True)
        np.testing.assert_allclose(before, after, atol=1e-9)


@pytest.mark.parametrize(
    ("lon_deg", "lat_deg"),
    [
        (0.0, 90.0),  # the poles
        (0.0, -90.0),
        (0.0, 0.0),  # l = 0, the middle of base pixel 4
        (45.0, 0.0),  # corner of base pixels 0, 4, 5, 8
        (0.0, 41.8103149),  # the corner of three base pixels
        (90.0, -41.8103149),
        (112.5, 30.0),  # the corner of four tiles
        (200.0, 66.4),
    ],
)
def test_no_border_of_the_grid_splits_or_shifts_a_disc(lon_deg: float, lat_deg: float) -> None:
    nside = 128
    sources = detect_sources(disc_map(nside, lon_deg, lat_deg, 5.0))
    assert len(sources) == 1
    expected = healpy.ang2vec(lon_deg, lat_deg, lonlat=True)
    found = healpy.ang2vec(sources["lon_deg"][0], sources["lat_deg"][0], lonlat=True)
    assert np.degrees(np.arccos(min(1, expected @ found))) < 0.07  # a seventh of a pixel
    n_pix = len(healpy.query_disc(nside, expected, np.radians(5.0)))
    assert sources["area_arcmin2"][0] == pytest.approx(n_pix * healpy.nside2pixarea(nside, degrees=True) * 3600)
    assert not sources["edge"][0]


def test_an_area_over_l_0_keeps_its_longitude_near_0() -> None:
    sources = detect_sources(disc_map(128, 0.0, 20.0, 2.0))
    lon_deg = float(sources["lon_deg"][0])
    assert 0 <= lon_deg < 360
    assert min(lon_deg, 360 - lon_deg) < 0.05


def test_nothing_above_threshold_gives_an_empty_table_with_all_columns() -> None:
    for p_map in (empty_map(16), np.full(12 * 16**2, np.nan, np.float32)):
        sources = detect_sources(p_map)
        assert len(sources) == 0
        assert sources.colnames == [
            "lon_deg", "lat_deg", "p", "area_arcmin2", "n_pix", "peak_lon_deg", "peak_lat_deg", "edge",
        ]  # fmt: skip


def test_all_above_threshold_is_one_source_at_its_peak() -> None:
    p_map = np.full(12 * 16**2, 0.5, np.float32)
    p_map[100] = 0.6
    sources = detect_sources(p_map)
    assert sources["n_pix"].tolist() == [p_map.size]
    assert sources["area_arcmin2"][0] == pytest.approx(41252.96125 * 3600)  # 4 pi sr in deg^2
    lon_deg, lat_deg = healpy.pix2ang(16, 100, lonlat=True)
    assert (sources["lon_deg"][0], sources["lat_deg"][0]) == pytest.approx((lon_deg, lat_deg))


def test_threshold_is_exclusive_and_nan_is_outside() -> None:
    p_map = empty_map(16)
    p_map[500] = 0.1
    assert len(detect_sources(p_map, float(p_map[500]))) == 0
    p_map[500] = 0.2
    assert detect_sources(p_map)["edge"].tolist() == [False]
    p_map[501] = np.nan
    sources = detect_sources(p_map)
    assert sources["n_pix"].tolist() == [1]
    assert sources["edge"].tolist() == [True]


def test_weighted_barycentre_leans_to_the_brighter_pixel() -> None:
    p_map = empty_map(64)
    start = healpy.ang2pix(64, 90.0, 0.0, lonlat=True)
    p_map[[start, start + 1]] = 0.5, 0.75
    lon_deg = healpy.pix2ang(64, [start, start + 1], lonlat=True)[0]
    plain, weighted = detect_sources(p_map), detect_sources(p_map, weighted=True)
    assert plain["lon_deg"][0] == pytest.approx(lon_deg.mean(), abs=1e-9)
    # odds 0.5 / 0.52 = 0.9615 and 0.75 / 0.27 = 2.7778, less 0.6944, a quarter of the higher: two unit vectors
    # 1.4 deg apart, weighted 0.2671 to 2.0833; the chord differs from the arc by 1e-5 of it
    assert weighted["lon_deg"][0] == pytest.approx(0.1136 * lon_deg[0] + 0.8864 * lon_deg[1], abs=2e-4)


def test_faint_wing_to_one_side_does_not_move_the_source() -> None:
    p_map = empty_map(64)
    start = healpy.ang2pix(64, 90.0, 0.0, lonlat=True)
    p_map[start : start + 6] = 0.9, 0.4, 0.4, 0.4, 0.4, 0.4  # odds 7.5, and 0.65
    lon_deg = healpy.pix2ang(64, start, lonlat=True)[0]
    assert detect_sources(p_map)["lon_deg"][0] > lon_deg + 2.0
    assert detect_sources(p_map, weighted=True)["lon_deg"][0] == pytest.approx(lon_deg, abs=1e-9)


def test_weights_of_other_maps_are_their_values() -> None:
    """S/N of 4 and 12 weigh 1 to 9 above a quarter of 12, and so do y of 1e-6 and 3e-6, to the 1e-6 of 1.02."""
    start = healpy.ang2pix(64, 90.0, 0.0, lonlat=True)
    lon_deg = healpy.pix2ang(64, [start, start + 1], lonlat=True)[0]
    for values, threshold in (((4.0, 12.0), 3.0), ((1e-6, 3e-6), 1e-7)):
        some_map = empty_map(64)
        some_map[[start, start + 1]] = values
        found = detect_sources(some_map, threshold, weighted=True)
        assert found["lon_deg"][0] == pytest.approx(0.1 * lon_deg[0] + 0.9 * lon_deg[1], abs=1e-4)


def test_sources_are_ordered_by_p_then_area() -> None:
    p_map = empty_map(64)
    p_map[[100, 20000, 20001, 40000]] = 0.5, 0.5, 0.5, 0.9
    assert detect_sources(p_map)["n_pix"].tolist() == [1, 2, 1]


def pair_map(separation_arcmin: float, ratio: float = 1.0) -> np.ndarray:
    """Two Gaussian bumps of p, FWHM 6 arcmin at nside 2048, at l = 90 deg on the equator; ``ratio`` is the
    second's height. Drawn eight times as large at nside 256, which is the same picture on an eighth of the
    pixels a side."""
    nside, scale = 256, 8
    p_map = empty_map(nside)
    ipix = healpy.query_disc(nside, healpy.ang2vec(90.0, 0.0, lonlat=True), np.radians(8))
    lon_deg, lat_deg = healpy.pix2ang(nside, ipix, lonlat=True)
    for sign, height in ((-1, 1.0), (1, ratio)):
        offset = np.hypot((lon_deg - 90) * 60 / scale - sign * separation_arcmin / 2, lat_deg * 60 / scale)
        p_map[ipix] += 0.95 * height * np.exp(-4 * np.log(2) * (offset / 6) ** 2)
    return np.minimum(p_map, 1)


def test_deblending_separates_what_the_paper_merges() -> None:
    # Midway between two bumps of FWHM 6, 9 arcmin apart, the sum is 0.95 * 2 * 2^-(2 * 4.5/6)^2 = 0.40: above
    # p_max, 0.5 below the peaks.
    p_map = pair_map(9.0)
    assert len(detect_sources(p_map)) == 1
    sources = detect_sources(p_map, deblend=True)
    assert len(sources) == 2
    assert sources["blend"].all()
    np.testing.assert_allclose(np.sort(sources["lon_deg"]), [90 - 8 * 4.5 / 60, 90 + 8 * 4.5 / 60], atol=8 * 1 / 60)
    assert sources["n_pix"].sum() == detect_sources(p_map)["n_pix"].sum()
    # at 4 arcmin, less than FWHM / sqrt(2 ln 2) = 5.1, the sum has one maximum only
    assert len(detect_sources(pair_map(4.0), deblend=True, min_prominence=1e-3)) == 1


def test_a_ripple_below_the_prominence_is_no_source() -> None:
    # The lower peak is 0.6 * 0.95 = 0.57 high: never 0.6 above a saddle that is above p_max.
    p_map = pair_map(10.0, ratio=0.6)
    assert len(detect_sources(p_map)) == 1
    assert len(detect_sources(p_map, deblend=True, min_prominence=0.1)) == 2
    assert len(detect_sources(p_map, deblend=True, min_prominence=0.6)) == 1


@pytest.mark.parametrize(("saddle", "n_source"), [(0.998, 1), (0.99, 2), (0.95, 2)])
def test_where_p_saturates_its_odds_tell_neighbours_apart(saddle: float, n_source: int) -> None:
    # Two pixels of 0.999 (ln odds 6.907) with one between them: at 0.998 (6.213) it is 0.17 below in height, but only
    # 0.001 in p; at 0.99 (4.595) 0.58. Of any other map, here the same with a value above 1, heights are its values.
    p_map = empty_map(64)
    ring = healpy.ang2pix(64, 90.0, 0.0, lonlat=True)
    p_map[[ring - 1, ring, ring + 1]] = 0.999, saddle, 0.999
    assert len(detect_sources(p_map, deblend=True, min_prominence=0.25)) == n_source
    p_map[0] = 1.5
    assert len(detect_sources(p_map, deblend=True, min_prominence=0.25)) == 2  # the pair is one, and pixel 0


def test_a_blend_is_a_source_whose_area_holds_another() -> None:
    p_map = np.fmax(pair_map(9.0), 0.0)
    p_map[0] = 0.7  # far away, by itself, between the two in rank
    sources = detect_sources(p_map, deblend=True)
    assert len(sources) == 3
    assert sources["blend"].tolist() == [p != np.float32(0.7) for p in sources["p"]]
    assert "blend" not in detect_sources(p_map).colnames


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_deblending_only_cuts(seed: int) -> None:
    # Same pixels above the threshold, never fewer sources, and a huge prominence gives the paper's areas
    # back.
    rng = np.random.default_rng(seed)
    p_map = healpy.smoothing(rng.normal(size=12 * 16**2), fwhm=0.2).astype(np.float32)
    threshold = float(np.quantile(p_map, 0.7))
    areas = detect_sources(p_map, threshold)
    cut = detect_sources(p_map, threshold, deblend=True, min_prominence=1e-12)
    assert cut["n_pix"].sum() == areas["n_pix"].sum()
    assert len(cut) >= len(areas)
    whole = detect_sources(p_map, threshold, deblend=True, min_prominence=1e6)
    for name in areas.colnames:
        np.testing.assert_array_equal(whole[name], areas[name])
    # with no prominence asked for, the sources are the strict local maxima
    neighbours = healpy.get_all_neighbours(16, np.arange(p_map.size))
    around = np.where(neighbours < 0, -np.inf, p_map[neighbours]).max(axis=0)
    assert len(cut) == np.count_nonzero((p_map > around) & (p_map > threshold))


def test_p_map_of_wrong_shape_or_convention_is_refused() -> None:
    with pytest.raises(ValueError, match="p_map has 100 pixels, expected 12 nside"):
        detect_sources(np.zeros(100, np.float32))
    with pytest.raises(ValueError, match="expected a float32 array of shape"):
        detect_sources(np.zeros((12, 4), np.float32))
    p_map = empty_map(4)
    p_map[:7] = healpy.UNSEEN
    with pytest.raises(ValueError, match=r"holds 7 UNSEEN values.*NaN"):
        detect_sources(p_map)
    with pytest.raises(ValueError, match="min_prominence is 0, expected a positive"):
        detect_sources(empty_map(4), deblend=True, min_prominence=0)
