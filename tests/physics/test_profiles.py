"""Pressure profiles of the literature, and looks of clusters."""

import numpy as np
import pytest
from scipy.integrate import quad

from szeek.physics.gas import PROFILES, pressure_profile, profile_transform, y5r500_per_y500
from szeek.physics.looks import ClusterLook


def moment(name: str, power: int, edge: float) -> float:
    """Integral of x^power p(x) to an edge, by adaptive quadrature in ln x."""
    return float(
        quad(lambda t: np.exp((power + 1) * t) * float(pressure_profile(np.exp(t), name)), -14, np.log(edge))[0]
    )


@pytest.mark.parametrize("name", list(PROFILES)[1:])
def test_flux_within_5_r500_is_that_of_the_integrals(name: str) -> None:
    assert y5r500_per_y500(name) == pytest.approx(moment(name, 2, 5.0 - 1e-9) / moment(name, 2, 1.0), rel=2e-4)


@pytest.mark.parametrize("name", PROFILES)
def test_transform_falls_with_the_second_moment(name: str) -> None:
    """s = 1 - kappa^2 <x^2> / 6 for small kappa."""
    kappa = 0.05
    expected = 1 - kappa**2 / 6 * moment(name, 4, 5.0 - 1e-9) / moment(name, 2, 5.0 - 1e-9)
    assert float(profile_transform(kappa, name)) == pytest.approx(expected, abs=2e-6)


def test_cores_are_in_order() -> None:
    """Flux within a tenth of R500: most in cool cores, least in disturbed clusters."""
    inner = {name: moment(name, 2, 0.1) / moment(name, 2, 1.0) for name in ("cool-core", "universal", "disturbed")}
    assert inner["cool-core"] > inner["universal"] > inner["disturbed"]


def test_columns_of_looks() -> None:
    random = np.random.default_rng(1)
    assert ClusterLook().columns(5, random) == ClusterLook(y_slope=1.6).columns(5, random) == {}
    fixed = ClusterLook(dust=2.0, profile="planck-2013").columns(3, random)
    assert fixed["dust_factor"].tolist() == [2.0] * 3 and fixed["radio_factor"].tolist() == [1.0] * 3
    assert fixed["profile"].tolist() == ["planck-2013"] * 3
    varied = ClusterLook(dust=1.5, temperature=0.75, radio=0.5, vary=True).columns(20_000, random)
    for name, mean in (("dust_factor", 1.5), ("temperature_factor", 0.75), ("radio_factor", 0.5)):
        assert varied[name].min() >= 0 and varied[name].max() <= 2 * mean
        # the mean of n even draws between 0 and 2 m is m to m / sqrt(3 n)
        assert varied[name].mean() == pytest.approx(mean, abs=4 * mean / np.sqrt(3 * 20_000))
    assert set(varied["profile"]) == {"universal", "cool-core", "disturbed"}


@pytest.mark.parametrize("wrong", [{"dust": -1}, {"temperature": 5}, {"profile": "beta"}, {"dusty": 1}])
def test_impossible_looks_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClusterLook(**wrong)  # type: ignore[arg-type]
