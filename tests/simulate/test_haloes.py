"""Haloes: numbers against an independent integral, published relations by hand, clustering, and seeds."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.table import Table
from colossus.cosmology import cosmology
from colossus.lss import mass_function

from szeek.physics.cosmology import COSMOLOGY
from szeek.physics.scaling import MASS_BIAS, mass_and_redshift, theta500_from_mass, y500_from_mass
from szeek.simulate.density import all_density_shells, density_shells, random_generator
from szeek.simulate.haloes import draw_haloes, group_background


@pytest.fixture(scope="module")
def haloes() -> Table:
    return draw_haloes(3, m500_min_1e14msun=2.0)


def expected_number(m_min: float, z_min: float, z_max: float) -> float:
    """dn/dM integrated over mass and volume with other variables and another rule than the package's."""
    planck = cosmology.setCosmology("planck18", persistence="")
    mass = np.geomspace(m_min * 1e14, 3e15, 400) * planck.h
    z = np.linspace(z_min, z_max, 301)
    per_z = []
    for value in (z[1:] + z[:-1]) / 2:
        density = mass_function.massFunction(mass, value, mdef="500c", model="tinker08", q_out="dndlnM")
        volume = 4 * np.pi * planck.comovingDistance(0, value) ** 2 * 2997.92458 / planck.Ez(value)
        per_z.append(np.trapezoid(density / mass, mass) * volume)
    return float(np.sum(per_z) * (z[1] - z[0]))


@pytest.mark.parametrize(("m_min", "z_min", "z_max"), [(2.0, 0.01, 1.5), (2.0, 0.2, 0.4), (5.0, 0.01, 1.5)])
def test_number_is_the_integral_of_the_mass_function(haloes: Table, m_min: float, z_min: float, z_max: float) -> None:
    chosen = (haloes["m500_1e14msun"] > m_min) & (haloes["z"] > z_min) & (haloes["z"] <= z_max)
    expected = expected_number(m_min, z_min, z_max)
    # Poisson, and 1 % for the structure of a whole sky
    assert chosen.sum() == pytest.approx(expected, abs=4 * np.hypot(expected**0.5, 0.01 * expected))


def test_theta500_is_plancks_formula() -> None:
    # Planck 2013 results XX, eq. 9: theta500 = 6.997' (h/0.7)^-2/3 [(1-b)M/3e14]^1/3 E^-2/3 (D_A/500 Mpc)^-1
    mass, z = np.array([3.0, 8.0, 1.5]), np.array([0.1, 0.3, 0.9])
    expected = 6.997 * (0.6766 / 0.7) ** (-2 / 3) * (MASS_BIAS * mass / 3) ** (1 / 3)
    expected *= COSMOLOGY.efunc(z) ** (-2 / 3) * 500 / COSMOLOGY.angular_diameter_distance(z).value
    np.testing.assert_allclose(theta500_from_mass(mass, z), expected, rtol=2e-3)


def test_y500_is_plancks_relation() -> None:
    # at (1-b) M = 6e14 the bracket is one: D_A^2 Y = 10^-0.19 1e-4 Mpc^2 E^2/3 (h/0.7)^-0.21
    z = 0.25
    distance_arcmin = COSMOLOGY.angular_diameter_distance(z).value * np.pi / 10800
    expected = 10**-4.19 * COSMOLOGY.efunc(z) ** (2 / 3) * (0.6766 / 0.7) ** (1.79 - 2) / distance_arcmin**2
    assert y500_from_mass(np.array([6.0]), np.array([z]), 1.0)[0] == pytest.approx(expected, rel=1e-4)


def test_scatter_about_the_relation_is_17_percent(haloes: Table) -> None:
    mean = y500_from_mass(np.asarray(haloes["m500_1e14msun"]), np.asarray(haloes["z"]))
    ratio = np.log(np.asarray(haloes["y500_arcmin2"]) / mean)
    assert ratio.mean() == pytest.approx(0.0, abs=0.005)
    assert ratio.std() == pytest.approx(0.173, abs=0.003)


def test_columns_and_order(haloes: Table) -> None:
    from astropy.coordinates import SkyCoord

    common = "name lon_deg lat_deg ra_deg dec_deg z m500_1e14msun y500_arcmin2 theta500_arcmin richness snr survey"
    assert " ".join(haloes.colnames[:12]) == common
    assert set(haloes["survey"]) == {"TRUTH"} and len(set(haloes["name"])) == len(haloes)
    assert (np.diff(haloes["y500_arcmin2"]) <= 0).all()
    back = SkyCoord(haloes["ra_deg"][:50], haloes["dec_deg"][:50], unit="deg").galactic
    np.testing.assert_allclose(back.b.deg, haloes["lat_deg"][:50], atol=1e-9)
    assert (haloes["axis_ratio"] <= 1).all() and (haloes["axis_ratio"] >= 0.6).all()


def test_same_seed_same_bits_other_seed_other_sky() -> None:
    options = {"m500_min_1e14msun": 5.0, "z_max": 0.4}
    first, again, other = draw_haloes(1, **options), draw_haloes(1, **options), draw_haloes(2, **options)
    for name in first.colnames:
        np.testing.assert_array_equal(np.asarray(first[name]), np.asarray(again[name]))
    assert not np.isin(other["lon_deg"], first["lon_deg"]).any()


def test_component_streams_are_their_own() -> None:
    a, b = random_generator(1, "a").random(4), random_generator(1, "b").random(4)
    assert (a != b).all() and (a == random_generator(1, "a").random(4)).all()


def test_shell_has_the_variance_and_spectrum_asked_for() -> None:
    shell = list(density_shells(7, z_max=0.5))[8]
    assert shell.gaussian.var() == pytest.approx(shell.variance, rel=0.05)
    field = shell.delta.astype(np.float64)
    # the lognormal field has the linear spectrum: its variance is exp(var g) - 1
    assert field.var() == pytest.approx(np.expm1(shell.variance), rel=0.1)
    assert field.min() > -1
    # a biased tracer clusters b^2 times as strongly on large scales
    ratio = healpy.anafast(shell.overdensity(2.0), lmax=60)[5:] / healpy.anafast(shell.delta, lmax=60)[5:]
    assert np.median(ratio) == pytest.approx(4.0, rel=0.15)


def test_haloes_follow_their_shell_with_the_bias_of_tinker(haloes: Table) -> None:
    # slope of counts against the matter field, coarse pixels: b of 2-3e14 haloes at z = 0.25 is about 4.3
    nside, slopes = 16, []
    for shell in density_shells(3, z_max=0.4):
        inside = (haloes["z"] > shell.z_min) & (haloes["z"] <= shell.z_max) & (haloes["pair_id"] < 0)
        pixel = healpy.ang2pix(nside, haloes["lon_deg"][inside], haloes["lat_deg"][inside], lonlat=True)
        counts = np.bincount(pixel, minlength=12 * nside**2)
        matter = healpy.ud_grade(shell.delta.astype(np.float64), nside)
        slopes.append(np.polyfit(matter, counts / counts.mean() - 1, 1)[0])
    assert np.mean(slopes[2:]) == pytest.approx(4.3, abs=1.0)


def test_pairs_touch_and_share_a_redshift(haloes: Table) -> None:
    paired = haloes[haloes["pair_id"] >= 0]
    assert 20 < len(paired) < 600
    for number in np.unique(paired["pair_id"])[:40]:
        a, b = paired[paired["pair_id"] == number]
        apart = healpy.rotator.angdist([a["lon_deg"], a["lat_deg"]], [b["lon_deg"], b["lat_deg"]], lonlat=True)
        reach = a["theta500_arcmin"] + b["theta500_arcmin"]
        assert 0.85 < np.degrees(apart[0]) * 60 / reach < 1.55 or reach > 200
        assert abs(a["z"] - b["z"]) < 0.012


def test_background_has_the_mean_y_of_the_haloes_it_stands_for(haloes: Table) -> None:
    # the same mass range once as haloes, once as a background: lognormal scatter raises the mean by e^(var/2)
    background = group_background(3, m500_min_1e14msun=2.0, m500_max_1e14msun=40.0)
    near = haloes["z"] > 0.05  # a handful of nearby clusters would decide the sum
    painted = 1.79 * haloes["y500_arcmin2"][near].sum() / (41252.96 * 3600)
    assert background.shape == (786432,) and painted < background.mean() < 1.4 * painted
    # by quadrature over (z, M) outside the package's shells: 2.4e-7 below 7e13 Msun and z = 1.5, 9e-8 beyond
    faint = group_background(3)
    assert faint.mean() == pytest.approx(3.3e-7, rel=0.1)


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"m500_min_1e14msun is 0\.01"):
        draw_haloes(1, m500_min_1e14msun=0.01)
    with pytest.raises(ValueError, match=r"redshift range is 0.5 to 0.2"):
        draw_haloes(1, z_min=0.5, z_max=0.2)
    with pytest.raises(ValueError, match="mass_bias"):
        draw_haloes(1, mass_bias=2.0)
    with pytest.raises(ValueError, match=r"mass range is 2\.0 to 1\.0"):
        group_background(1, m500_min_1e14msun=2.0, m500_max_1e14msun=1.0)


def test_mass_and_redshift_come_back_from_flux_and_size() -> None:
    mass, z = (grid.ravel() for grid in np.meshgrid(np.geomspace(0.7, 20, 15), np.geomspace(0.005, 1.9, 25)))
    again, z_again = mass_and_redshift(y500_from_mass(mass, z), theta500_from_mass(mass, z))
    np.testing.assert_allclose(again, mass, rtol=2e-3)
    np.testing.assert_allclose(z_again, z, rtol=1e-3)


def test_mass_of_what_no_cluster_looks_like() -> None:
    # too large for its flux to be even at z = 0.003: what has this flux there; too small: what has this size at z = 2
    mass, z = mass_and_redshift([1e-5, 1e-2], [60.0, 0.8])
    np.testing.assert_allclose(z, [0.003, 2.0])
    assert y500_from_mass(mass[:1], z[:1])[0] == pytest.approx(1e-5)
    assert theta500_from_mass(mass[1:], z[1:])[0] == pytest.approx(0.8)


def test_shells_drawn_side_by_side_are_the_same() -> None:
    together = all_density_shells(5, threads=2)
    for one, other in zip(density_shells(5, z_max=0.3), together, strict=False):
        assert (one.index, one.z, one.variance) == (other.index, other.z, other.variance)
        np.testing.assert_array_equal(one.gaussian, other.gaussian)
    assert together[-1].z_max == pytest.approx(3.5)
