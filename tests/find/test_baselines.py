"""Baselines: a y map over its local noise, and finders side by side."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.table import Table

from szeek.assess.compare import compare_finders, comparison_lines
from szeek.find.baselines import combine_scores, find_in_y_map, local_snr
from szeek.simulate.components.clusters import paint_y
from szeek.sky.tiles import pixels_in_tiles

NSIDE = 512


def test_local_snr_takes_out_background_and_noise_level() -> None:
    """Noise three times stronger in the south, on a slope: everywhere zero mean and unit width."""
    rng = np.random.default_rng(4)
    _, lat = healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), lonlat=True)
    noise = np.where(lat < 0, 3e-6, 1e-6) * rng.standard_normal(lat.size)
    snr = local_snr((noise + 1e-5 * np.sin(np.radians(lat))).astype(np.float32))
    for part in (lat < -5, lat > 5):
        # the deviation of the 64 pixels of a cell has an error of 0.15, between cells half of that
        assert abs(snr[part].mean()) < 0.01
        assert np.median(np.abs(snr[part])) * 1.4826 == pytest.approx(1.0, abs=0.04)


def test_one_cluster_is_found_where_it_is() -> None:
    cluster = Table({"lon_deg": [112.0], "lat_deg": [41.0], "theta500_arcmin": [10.0], "y500_arcmin2": [2e-2]})
    y = paint_y(cluster, NSIDE, 20.0, threads=1)
    y += (1e-6 * np.random.default_rng(5).standard_normal(y.size)).astype(np.float32)
    found = find_in_y_map(y, tiles=[6], snr_min=6.0)
    assert len(found) == 1
    away = healpy.rotator.angdist((112.0, 41.0), (found["lon_deg"][0], found["lat_deg"][0]), lonlat=True)
    assert np.degrees(away[0]) * 60 < 10
    assert find_in_y_map(-y, tiles=[6], snr_min=6.0)["p"].size == 0


def test_only_the_tiles_and_the_footprint() -> None:
    y = np.random.default_rng(6).standard_normal(12 * NSIDE**2).astype(np.float32)
    inside = pixels_in_tiles(NSIDE, [6])
    y[~inside & (np.random.default_rng(7).random(y.size) < 0.5)] = np.nan
    assert (np.isfinite(local_snr(y, [6])) == inside).all()
    y[inside] = np.nan
    assert not np.isfinite(local_snr(y, [6])).any()
    assert len(find_in_y_map(y, tiles=[6])) == 0


def test_size_of_the_map_is_checked() -> None:
    with pytest.raises(ValueError, match=r"shape \(100,\)"):
        local_snr(np.zeros(100, np.float32))
    with pytest.raises(ValueError, match="nside >= 128"):
        local_snr(np.zeros(12 * 64**2, np.float32))


def test_combined_score_rises_with_both_and_stays_a_score() -> None:
    p, snr = np.meshgrid(np.linspace(0, 1, 21), np.linspace(-3, 60, 64))
    score = combine_scores(p, snr)
    assert ((score >= 0) & (score <= 1)).all()
    assert (np.diff(score, axis=1) > 0).all() and (np.diff(score, axis=0) >= 0).all()
    np.testing.assert_allclose(combine_scores([0.2, 0.9], [3.0, np.nan]), [0.2, 0.9])
    # odds 1 and 2.5 sigma above neutral: e^2 to 1
    assert combine_scores([0.5], [5.5])[0] == pytest.approx(np.e**2 / (1 + np.e**2))


def test_finders_side_by_side() -> None:
    """One finder sees all 20 haloes, the other every second one, with ten false ones below."""
    lon = np.linspace(100, 125, 20)
    truth = Table(
        {
            "lon_deg": lon,
            "lat_deg": np.full(20, 41.8),
            "m500_1e14msun": np.full(20, 5.0),
            "y500_arcmin2": np.full(20, 3e-3),
            "theta500_arcmin": np.full(20, 3.0),
        }
    )
    good = Table({"lon_deg": lon, "lat_deg": np.full(20, 41.81), "p": np.linspace(9, 6, 20)})
    poor = Table(
        {
            "lon_deg": np.append(lon[::2], lon[::2]),
            "lat_deg": np.append(np.full(10, 41.81), np.full(10, 38.0)),
            "p": np.append(np.full(10, 8.0), np.full(10, 4.0)),
        }
    )
    table = compare_finders({"good": good, "poor": poor}, truth, tiles=[6], purities=(0.9, 0.5))
    at = {(r["finder"], r["purity_asked"]): r for r in table if r["sample"] == "y500>2e-3"}
    assert at["good", 0.9]["completeness"] == pytest.approx(1.0)
    # half of the haloes, the chance of a match by position (20 discs of 5 arcmin in 860 deg^2) taken out
    assert at["poor", 0.9]["completeness"] == pytest.approx(0.5, abs=0.002)
    assert at["poor", 0.9]["n_detections"] == 10 and at["poor", 0.5]["n_detections"] >= 10
    lines = comparison_lines(table)
    assert len(lines) == 2 + 4 and lines[2].startswith("| good | 0.9 |") and "0.50" in lines[4]
    with pytest.raises(ValueError, match="no detections are given"):
        compare_finders({}, truth)
