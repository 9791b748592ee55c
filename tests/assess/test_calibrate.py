"""Calibration against samples whose purity is known by construction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.special import expit, logit

from szeek.assess import calibrate
from szeek.assess.calibrate import (
    METHODS,
    Calibration,
    expected_calibration_error,
    fit_calibration,
    judge_sources,
    measure_reliability,
    p_max_for_purity,
    predict_out_of_fold,
)
from szeek.learn.model import find_model


def make_sample(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """p, real, dust and purity: overconfident scores, worse where it is dusty: logit P = 0.6 logit p - 0.5 -
    dust."""
    rng = np.random.default_rng(seed)
    p = expit(rng.normal(0, 2, n))
    dust = rng.integers(0, 4, n) + 0.1 * rng.random(n)
    purity = expit(0.6 * logit(p) - 0.5 - np.floor(dust))
    return p, rng.random(n) < purity, dust, purity


@pytest.mark.parametrize("method", METHODS)
def test_recovers_the_purity_that_made_the_sample(method: str) -> None:
    p, real, dust, purity = make_sample(40000)
    calibration = fit_calibration(p, real, dust, method=method)
    error = calibration.predict(p, dust) - purity
    assert np.sqrt(np.mean(error**2)) < (0.01 if method == "beta" else 0.025)
    assert abs(error.mean()) < 0.01  # counting alone: sqrt(0.16 / 40000) = 0.002


@pytest.mark.parametrize("method", METHODS)
def test_the_raw_score_is_off_and_the_calibrated_one_is_not(method: str) -> None:
    p, real, dust, _ = make_sample(20000, seed=1)
    held_out = predict_out_of_fold(p, real, dust, groups=np.arange(p.size) % 48, method=method)
    assert expected_calibration_error(measure_reliability(p, real)) > 0.2
    # pure counting scatter of ten bins of 2000: sqrt(2 / pi) * sqrt(P (1 - P) / 2000), at most 0.009
    assert expected_calibration_error(measure_reliability(held_out, real)) < 0.012


@pytest.mark.parametrize("method", METHODS)
def test_shuffled_labels_give_a_flat_calibration(method: str) -> None:
    p, real, dust, _ = make_sample(20000, seed=2)
    shuffled = np.random.default_rng(3).permutation(real)
    calibration = fit_calibration(p, shuffled, dust, method=method)
    inner = calibration.predict(np.quantile(p, [0.1, 0.5, 0.9]), np.full(3, 1.0))
    np.testing.assert_allclose(inner, real.mean(), atol=0.04)
    # and it predicts no better than the mean does: the entropy of a coin of that purity
    mean = real.mean()
    entropy = -mean * np.log(mean) - (1 - mean) * np.log(1 - mean)
    assert calibration.log_loss > entropy - 0.001


@example(seed=1707, method="beta", n=20)  # of the 6 sources of a bin, p parts the clusters from the others
@given(seed=st.integers(0, 2**32 - 1), method=st.sampled_from(METHODS), n=st.integers(20, 300))
def test_always_rising_and_within_what_the_sample_can_show(seed: int, method: str, n: int) -> None:
    rng = np.random.default_rng(seed)
    p, real, dust = rng.random(n).round(2), rng.random(n) < 0.5, rng.random(n)
    real[:2] = True, False
    calibration = fit_calibration(p, real, dust, method=method, n_dust_bins=3)
    assert (np.diff(calibration.purity, axis=1) >= 0).all()
    for k, row in enumerate(calibration.purity):
        mine = np.searchsorted(calibration.dust_edges, dust, side="right") == k
        # (k + 1/2) / (k + 1) of the k clusters and (1/2) / (m + 1) of the m others: the isotonic fit by itself
        n_real, n_other = np.sum(mine & real), np.sum(mine & ~real)
        assert row[0] >= 0.5 / (n_other + 1) * (1 - 1e-12)
        assert row[-1] <= (n_real + 0.5) / (n_real + 1) * (1 + 1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_twenty_separable_sources_are_no_certainty(method: str) -> None:
    # Ten clusters above ten others: at most 10.5 / 11 and at least 0.5 / 11.
    p = np.linspace(0, 1, 20)
    calibration = fit_calibration(p, p > 0.5, method=method)
    assert calibration.predict([0.0, 1.0]) == pytest.approx([0.5 / 11, 10.5 / 11])


@pytest.mark.parametrize(
    ("model", "n_sources"),
    [
        ("szeek-1", 2700),  # docs/performance.md: on 2,700 sources, half of them in each dust bin
        ("bonjean2020-mcxc", 14044),  # model.json: calibrated on the whole sky of seed 2, sources at p > 0.1
        ("bonjean2020-planckz", 16354),
        ("bonjean2020-rm50", 7540),
        ("bonjean2020-rm30", 8916),
    ],
)
def test_calibrations_that_ship_are_no_surer_than_their_sample(model: str, n_sources: int) -> None:
    calibration = Calibration.from_table(Table.read(find_model(model) / "calibration.ecsv"))
    p = np.concatenate([[0, 1], expit(np.linspace(-30, 30, 20001))])
    for dust in (0.0, 10.0):
        purity = calibration.predict(p, np.full(p.size, dust))
        assert purity.min() >= 0.5 / (n_sources / 2 + 1)
        assert purity.max() <= 1 - 0.5 / (n_sources / 2 + 1)


def test_best_takes_the_lower_cross_validated_loss() -> None:
    p, real, dust, _ = make_sample(600, seed=4)
    losses = {name: fit_calibration(p, real, dust, method=name).log_loss for name in METHODS}
    best = fit_calibration(p, real, dust)
    assert best.method == min(losses, key=losses.get)
    assert best.log_loss == min(losses.values())
    # a step in purity is no beta curve: with many sources the isotonic one wins
    rng = np.random.default_rng(5)
    p = rng.random(20000)
    step = rng.random(20000) < np.where(p > 0.8, 0.9, np.where(p > 0.4, 0.5, 0.02))
    assert fit_calibration(p, step).method == "isotonic"


def test_separable_sample_stays_finite() -> None:
    p = np.linspace(0, 1, 40)
    calibration = fit_calibration(p, p > 0.5, method="beta")
    assert np.isfinite(calibration.purity).all()
    assert calibration.predict([0.0, 1.0]) == pytest.approx([0, 1], abs=0.05)


def test_reliability_by_hand() -> None:
    # Two bins of three: predicted 0.1, 0.2, 0.3 with one real; 0.7, 0.8, 0.9 with three.
    table = measure_reliability([0.3, 0.1, 0.2, 0.9, 0.7, 0.8], [True, False, False, True, True, True], n_bins=2)
    np.testing.assert_allclose(table["predicted"], [0.2, 0.8])
    np.testing.assert_allclose(table["observed"], [1 / 3, 1])
    assert table["n"].tolist() == [3, 3]
    # |1/3 - 0.2| and |1 - 0.8|, equal weights
    assert expected_calibration_error(table) == pytest.approx((1 / 3 - 0.2 + 0.2) / 2)


def test_reliability_in_bins_of_as_many_clusters_by_hand() -> None:
    # Predicted clusters add up to 2: eight sources of 1/8 hold one, the two of 0.5 the other.
    predicted = [0.5, *[0.125] * 8, 0.5]
    table = measure_reliability(predicted, [True, *[False] * 7, True, True], n_bins=2, equal="clusters")
    assert table["n"].tolist() == [8, 2]
    np.testing.assert_allclose(table["predicted"], [0.125, 0.5])
    np.testing.assert_allclose(table["observed"], [0.125, 1])
    nothing = measure_reliability([0.0, 0.0], [False, False], equal="clusters")
    assert nothing["n"].tolist() == [2] and nothing["observed"].tolist() == [0]


def test_p_max_for_purity_by_hand() -> None:
    # Purity = p; of p = 1, 0.9, ... 0.1 the mean of the first n is 1 - 0.05 (n - 1): 0.75 is reached at n =
    # 6.
    identity = Calibration(np.array([0.0, 1.0]), np.array([[0.0, 1.0]]), np.empty(0), "beta", 0.0)
    p = np.arange(1, 11) / 10
    assert p_max_for_purity(identity, p, 0.7499, n_detections_min=1) == pytest.approx(0.5)
    assert p_max_for_purity(identity, p, 0.55 - 1e-9) == pytest.approx(0.1)
    assert np.isnan(p_max_for_purity(identity, p, 0.9))  # fewer than ten detections reach it
    assert np.isnan(p_max_for_purity(identity, [], 0.9))
    with pytest.raises(ValueError, match="purity is 90, expected a value in"):
        p_max_for_purity(identity, p, 90)


def test_table_keeps_the_calibration(tmp_path: Path) -> None:
    p, real, dust, _ = make_sample(500)
    calibration = fit_calibration(p, real, dust)
    calibration.to_table().write(tmp_path / "calibration.ecsv")
    again = Calibration.from_table(Table.read(tmp_path / "calibration.ecsv"))
    np.testing.assert_array_equal(again.predict(p, dust), calibration.predict(p, dust))
    assert (again.method, again.log_loss) == (calibration.method, calibration.log_loss)
    bare = fit_calibration(p, real)
    assert Calibration.from_table(bare.to_table()).purity.shape == bare.purity.shape == (1, bare.p.size)


def test_bad_input_is_refused() -> None:
    p, real, dust, _ = make_sample(100)
    with pytest.raises(ValueError, match=r"shapes .*'real': \(99,\).*expected all the same"):
        fit_calibration(p, real[:-1])
    with pytest.raises(ValueError, match="0 real of 100 sources, expected at least 20 sources of both kinds"):
        fit_calibration(p, np.zeros(100, bool))
    with pytest.raises(ValueError, match="expected at least 20 sources"):
        fit_calibration(p[:19], real[:19])
    with pytest.raises(ValueError, match=r"expected values in \[0, 1\]"):
        fit_calibration(p * 100, real)
    with pytest.raises(ValueError, match="dust holds 1 values that are not finite"):
        fit_calibration(p, real, np.where(np.arange(100) == 5, np.nan, dust))
    with pytest.raises(ValueError, match="method 'platt', expected one of best, beta, isotonic"):
        fit_calibration(p, real, method="platt")
    with pytest.raises(ValueError, match="method 'best', expected one of beta, isotonic"):
        predict_out_of_fold(p, real, method="best")
    with pytest.raises(ValueError, match="1 groups and 5 folds"):
        fit_calibration(p, real, groups=np.zeros(100))
    with pytest.raises(ValueError, match="has 4 dust bins; give the sources' dust level"):
        fit_calibration(p, real, dust).predict(p)
    with pytest.raises(ValueError, match="expected the same"):
        measure_reliability([0.5], [True, False])


def test_sources_are_judged_in_the_tiles_only_and_further_peaks_left_out() -> None:
    """Tile 6 holds (112.5, 41.8). One compact halo, one of theta500 30 arcmin with two peaks, one below the cut."""
    truth = Table({
        "lon_deg": [110.0, 112.5, 115.0, 200.0], "lat_deg": [41.8, 41.8, 41.8, 10.0],
        "y500_arcmin2": [1e-3, 5e-3, 2e-4, 1e-3], "theta500_arcmin": [5.0, 30.0, 3.0, 5.0],
    })  # fmt: skip
    sources = Table({
        "lon_deg": [110.01, 112.5, 112.7, 115.0, 118.0, 200.0],
        "lat_deg": [41.8, 41.8, 41.8, 41.8, 41.8, 10.0],
        "p": [0.9, 0.8, 0.3, 0.7, 0.2, 0.9],
    })  # fmt: skip
    judged, real = judge_sources(sources, truth, [6])
    assert judged["p"].tolist() == [0.9, 0.8, 0.7, 0.2]
    assert real.tolist() == [True, True, False, False]
    assert judged["tile"].tolist() == [6] * 4


def test_errors_are_the_scatter_of_other_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Purity p^2, groups of 20 sources: the error is what fits to fresh samples scatter by, and looks add to it."""

    def sample(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        p = rng.random(2000)
        return p, rng.random(2000) < p**2, np.arange(2000) // 20

    p, real, groups = sample(0)
    calibration = fit_calibration(p, real, groups=groups, method="beta")
    at = np.array([0.3, 0.5, 0.7])
    monkeypatch.setattr(calibrate, "_N_BOOTSTRAP", 2)  # of the fresh samples no errors are wanted
    fits = [fit_calibration(*sample(seed)[:2], method="beta").predict(at) for seed in range(1, 31)]
    np.testing.assert_allclose(calibration.predict_error(at), np.std(fits, axis=0), rtol=0.45)
    purity = calibration.predict(at)
    wider = calibration.predict_error(at, look_error=0.2)
    np.testing.assert_allclose(wider, np.hypot(calibration.predict_error(at), 0.2 * purity * (1 - purity)), rtol=1e-9)
    again = Calibration.from_table(calibration.to_table())
    np.testing.assert_allclose(again.predict_error(at), calibration.predict_error(at))
    old = calibration.to_table()
    old.remove_column("error")
    assert np.isnan(Calibration.from_table(old).predict_error(at)).all()
