"""The second stage: ln odds of independent witnesses add, it is calibrated, and it does without X-rays."""

import numpy as np
import pytest
from scipy.special import expit, logit

from szeek.assess.witness import XrayPurity, fit_xray_purity


def sources(seed, n=6000):
    """Clusters with a Gaussian ln odds of the network, calibrated, and X-ray S/N of 0 +- 1, of clusters 3 +- 1."""
    rng = np.random.default_rng(seed)
    purity = expit(rng.normal(-1, 1.5, n))
    real = rng.uniform(size=n) < purity
    return purity, rng.normal(np.where(real, 3.0, 0.0)), real


def test_ln_odds_add_up():
    # of two unit Gaussians at 0 and 3 the ln ratio is 3 S - 4.5
    stage = fit_xray_purity(*sources(1, 40_000))
    a, b, c, d = stage.coefficients
    assert (a, b, c, d) == pytest.approx((-4.5, 1.0, 3.0, 0.0), abs=0.25)
    snr = np.array([0.5, 1.5, 2.5])
    expected = logit(0.4) + 3 * snr - 4.5
    assert logit(stage.predict(np.full(3, 0.4), snr)) == pytest.approx(expected, abs=0.15)


def test_probabilities_are_shares_of_other_sources_and_order_better():
    stage = fit_xray_purity(*sources(1))
    purity, snr, real = sources(2)
    joint = stage.predict(purity, snr)
    for low, high in ((0.02, 0.2), (0.2, 0.6), (0.6, 0.95)):
        part = (joint > low) & (joint < high)
        # binomial errors of some hundred sources
        assert real[part].mean() == pytest.approx(joint[part].mean(), abs=4 * np.sqrt(0.25 / part.sum()))
    # at a purity of 0.9 it finds more
    def found(score):
        order = np.argsort(-score)
        purity_of = np.cumsum(real[order]) / np.arange(1, len(order) + 1)
        return np.cumsum(real[order])[np.flatnonzero(purity_of >= 0.9).max()]
    assert found(joint) > 1.5 * found(purity)


def test_without_xrays_purity_stays_as_it_is():
    stage = fit_xray_purity(*sources(1))
    purity = np.array([0.2, 0.9, np.nan])
    joint = stage.predict(purity, [np.nan, np.nan, 2.0])
    assert joint[:2].tolist() == [0.2, 0.9] and np.isnan(joint[2])


def test_an_agn_counts_no_more_than_a_bright_cluster():
    stage = fit_xray_purity(*sources(1))
    assert stage.predict([0.1], [500.0])[0] == stage.predict([0.1], [6.0])[0]


def test_it_is_kept_as_json_and_refused_otherwise(tmp_path):
    stage = fit_xray_purity(*sources(1), made_from="a test")
    stage.write(tmp_path / "xray.json")
    assert XrayPurity.read(tmp_path / "xray.json") == stage
    (tmp_path / "xray.json").write_text('{"coefficients": [1.0]}')
    with pytest.raises(ValueError, match=r"xray.json' is no second stage of X-rays"):
        XrayPurity.read(tmp_path / "xray.json")
    with pytest.raises(ValueError, match="0 clusters and 50 other sources have X-rays, expected at least 10 of each"):
        fit_xray_purity(np.full(50, 0.1), np.zeros(50), np.zeros(50, bool))
