"""Known clusters against injections of the same S/N."""

import numpy as np
import pytest
from astropy.table import Table

from szeek.assess.detections import SNR_BINS, DetectionCurve, independent_clusters


def draw(n: int, seed: int, threshold: float = 4.0) -> tuple[np.ndarray, np.ndarray]:
    """S/N, and whether it is found: half of them at the threshold, with a width of one."""
    rng = np.random.default_rng(seed)
    snr = rng.uniform(1.0, 12.0, n)
    return snr, rng.normal(snr - threshold) > 0


def test_clusters_of_the_same_law_pass_and_others_do_not() -> None:
    """Twenty surveys of 150 clusters; errors are larger than binomial, by clusters that no injection is like."""
    curve = DetectionCurve.count(*draw(3000, 0), 0.1)
    probabilities = [curve.check(*draw(150, seed)).probability for seed in range(1, 21)]
    assert min(probabilities) > 0.01 and 0.3 < np.median(probabilities) < 0.999
    other = curve.check(*draw(150, 1, threshold=5.5))
    assert other.probability < 1e-4
    [sentence] = other.warn()
    assert f"{sum(other.n_found)} of {sum(other.n_known)} known clusters are found" in sentence
    assert curve.check(*draw(150, 1)).warn() == []


def test_probability_by_hand() -> None:
    """One bin: 100 injections, half found; 40 known, 16 found. Variance 40 / 4 x 1.4 + (0.05 x 40)^2 = 18."""
    curve = DetectionCurve.count(np.full(100, 4.5), np.arange(100) < 50, 0.1)
    check = curve.check(np.full(40, 4.5), np.arange(40) < 16)
    assert (check.snr, check.n_known, check.n_found, check.n_expected) == ([4.0], [40], [16], [20.0])
    chi = 4 / np.sqrt(18)
    assert check.probability == pytest.approx(2 * (1 - _normal(chi)), rel=2e-3)


def _normal(x: float) -> float:
    from math import erf

    return 0.5 * (1 + erf(x / np.sqrt(2)))


def test_few_or_unlike_clusters_say_nothing() -> None:
    curve = DetectionCurve.count(np.full(100, 4.5), np.arange(100) < 50, 0.1)
    assert curve.check(np.full(19, 4.5), np.ones(19, bool)) is None
    assert curve.check(np.full(100, 9.0), np.ones(100, bool)) is None
    assert curve.check(np.full(100, np.nan), np.ones(100, bool)) is None


def test_curve_comes_back_from_its_table() -> None:
    one = DetectionCurve.count(*draw(500, 3), 0.2)
    other = DetectionCurve.from_table(one.to_table())
    assert np.array_equal(one.n, other.n) and np.array_equal(one.n_found, other.n_found) and other.p_max == 0.2
    assert one.n.sum() == 500 and len(one.n) == len(SNR_BINS) - 1
    table = one.to_table()
    table["snr"][0] = 1.5
    with pytest.raises(ValueError, match="bins of S/N begin at"):
        DetectionCurve.from_table(table)


def test_independent_clusters() -> None:
    """Not those found by their SZ effect, nor of unknown size, nor two within 15 arcmin."""
    table = Table(
        {
            "lon_deg": [10.0, 20.0, 30.0, 30.1, 50.0],
            "lat_deg": np.zeros(5),
            "theta500_arcmin": [5.0, np.nan, 5.0, 5.0, 5.0],
            "survey": ["PSZ2", "MCXC", "MCXC", "MCXC", "MCXC"],
        }
    )
    assert independent_clusters(table)["lon_deg"].tolist() == [50.0]
