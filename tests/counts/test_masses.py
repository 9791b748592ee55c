"""Masses: definitions against colossus itself, a flux's own mass back, and the prior of the mass function."""

import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from colossus.cosmology import cosmology
from colossus.halo.mass_adv import changeMassDefinitionCModel
from counts_run import make_photometry

from szeek.counts.masses import CURVE_REDSHIFTS, MassRelation, convert_mass, list_mass_curves, list_masses
from szeek.counts.massfunction import CosmologyParameters, halo_counts
from szeek.physics.cosmology import COSMOLOGY, angular_diameter_distance_mpc
from szeek.physics.scaling import theta500_from_mass, y500_from_mass
from szeek.simulate.density import set_colossus
from szeek.simulate.haloes import number_density


@pytest.mark.parametrize("definition", ["200c", "200m"])
def test_definitions_are_those_of_colossus_between_its_nodes(definition):
    h = set_colossus().h
    mass, z = 3.3, 0.237
    expected = changeMassDefinitionCModel(np.array([mass * 1e14 * h]), z, "500c", definition, c_model="diemer19")[0]
    assert convert_mass(mass, z, definition) == pytest.approx(expected[0] / h / 1e14, rel=2e-3)


def test_masses_grow_from_500c_over_200c_to_200m_and_are_unknown_beyond_the_table():
    """At high redshift the mean density is nearly the critical one: 200m nears 200c."""
    near, far = (convert_mass([5.0], [z], "200m") / convert_mass([5.0], [z], "200c") for z in (0.1, 1.5))
    assert near > 1.3 > far > 1.0
    assert np.isnan(convert_mass([5.0, np.nan], [3.0, 0.2], "200c")).all()


def test_an_unknown_definition_is_refused():
    with pytest.raises(ValueError, match="mass definition '200x' is unknown"):
        convert_mass(5.0, 0.2, "200x")


def test_a_precise_flux_gives_its_own_mass_back():
    """1 % of the flux is 0.6 % of the mass; without scatter the prior has nothing to say."""
    z, true = np.array([0.1, 0.3, 0.6]), np.array([4.0, 7.0, 9.0])
    table = list_masses(make_photometry(z, true, error=0.005), z, MassRelation(scatter_ln=0.0))
    np.testing.assert_allclose(table["M500C"], true, rtol=0.01)
    np.testing.assert_allclose(table["M_SZ"], 0.64 * true, rtol=0.01)
    assert table["M500C"].unit == "1e14 Msun" and table.meta["MASSBIAS"] == 0.64


def test_scatter_lowers_the_mass_as_the_mass_function_is_steep():
    """For n ~ M^-g and Y ~ M^1.79 of scatter s, <ln M> is lower by g s^2 / 1.79^2: g from halo_counts itself."""
    z, true, scatter = np.array([0.3]), np.array([8.0]), 0.3
    table = list_masses(make_photometry(z, true, error=0.005), z, MassRelation(scatter_ln=scatter))
    step = np.array([7.0, 8.0])  # where the posterior is
    slope = float(np.diff(np.log(halo_counts(z, step)[0]))[0] / np.diff(np.log(step))[0])
    # Gaussian in Y rather than in ln Y: the variance grows with the mass, which lowers it further by up to s^2
    shift = np.log(float(table["M500C"][0]) / 8.0)
    assert shift == pytest.approx(slope * (scatter / 1.79) ** 2, abs=scatter**2)
    assert shift < 0
    half_width = np.log(float(table["M500C_HIGH"][0] / table["M500C_LOW"][0])) / 2
    assert half_width == pytest.approx(scatter / 1.79, rel=0.25)


def test_a_faint_candidate_has_the_mass_of_a_cluster_and_not_of_any_halo():
    """At S/N 4 haloes of 1e13 Msun with noise outnumber clusters; given that it is one, M500C agrees with M_SZ."""
    z, true = np.array([0.5]), np.array([6.0])
    photometry = make_photometry(z, true, error=0.25)
    masses = {least: list_masses(photometry, z, y500_min_arcmin2=least) for least in (1e-7, 2e-4)}
    assert masses[1e-7]["M500C"][0] < 0.5
    found = masses[2e-4]
    assert found["M500C_LOW"][0] < true[0] < found["M500C_HIGH"][0]
    # of the mass function cut at the limit, whose mass at z = 0.5 is known: none is much lighter than that
    grid = np.linspace(1.0, 10.0, 1000)
    lightest = np.interp(2e-4, y500_from_mass(grid, np.full(1000, 0.5)), grid)
    assert lightest < found["M500C"][0] < true[0] and found.meta["Y500MIN"] == 2e-4


def test_no_redshift_no_mass_but_a_curve_that_meets_it():
    z, true = np.array([0.3, 0.3]), np.array([6.0, 6.0])
    photometry = make_photometry(z, true)
    table = list_masses(photometry, [np.nan, 0.3])
    curves = list_mass_curves(photometry)
    assert np.isnan(table["M500C"][0]) and np.isfinite(table["M500C"][1])
    at = CURVE_REDSHIFTS.index(0.3)
    np.testing.assert_allclose(curves["M_SZ_CURVE"][:, at], table["M_SZ"][1], rtol=1e-6)
    # further away, more massive; where its size would be another than the true one there is less signal
    assert np.all(np.diff(curves["M_SZ_CURVE"][0][: at + 3]) > 0)


def test_haloes_are_those_of_the_simulated_skies():
    """Per Mpc^3 of colossus in the simulations, per redshift and sky here: the comoving volume between."""
    log_mass, density = number_density(0.3, 0.7, 40.0)
    volume = 4 * np.pi * COSMOLOGY.differential_comoving_volume(0.3).value
    np.testing.assert_allclose(halo_counts(np.array([0.3]), np.exp(log_mass))[0], density * volume, rtol=1e-10)


def test_another_cosmology_is_forgotten_again():
    before = set_colossus().Om0
    more = halo_counts(np.array([0.3]), np.array([6.0]), CosmologyParameters(sigma8=0.9))
    assert more[0, 0] > 1.5 * halo_counts(np.array([0.3]), np.array([6.0]))[0, 0]
    assert cosmology.getCurrent().Om0 == before and cosmology.getCurrent().sigma8 == pytest.approx(0.8102)


def test_relations_in_another_cosmology_follow_its_distances():
    """E^2 and D_A^2 are all that cosmology enters with, beside h: eqs. 7 and 9 of Planck 2013 results XX."""
    other = FlatLambdaCDM(H0=67.66, Om0=0.25, Ob0=0.049, Tcmb0=2.7255)
    mass, z = np.array([5.0]), np.array([0.4])
    ratio = y500_from_mass(mass, z, cosmology=other) / y500_from_mass(mass, z)
    e, d = (
        f(other) / f(COSMOLOGY) for f in (lambda c: c.efunc(0.4), lambda c: c.angular_diameter_distance(0.4).value)
    )
    assert ratio[0] == pytest.approx(e ** (2 / 3) / d**2, rel=1e-4)
    size = theta500_from_mass(mass, z, cosmology=other) / theta500_from_mass(mass, z)
    assert size[0] == pytest.approx(e ** (-2 / 3) / d, rel=1e-4)
    assert angular_diameter_distance_mpc(0.4, other) == pytest.approx(
        other.angular_diameter_distance(0.4).value, rel=1e-5
    )


@pytest.mark.parametrize(("given", "named"), [({"omega_m": 3.0}, "omega_m is 3"), ({"sigma8": 0.0}, "sigma8 is 0")])
def test_impossible_cosmologies_are_refused(given, named):
    with pytest.raises(ValueError, match=named):
        CosmologyParameters(**given)


@pytest.mark.parametrize(
    ("given", "named"), [({"mass_bias": 2.0}, "mass_bias"), ({"scatter_ln": -1.0}, "scatter_ln")]
)
def test_impossible_relations_are_refused(given, named):
    with pytest.raises(ValueError, match=named):
        MassRelation(**given)
