"""Galaxies about positions: redshifts of painted clusters, and f_cont against what is true."""

import numpy as np
import pytest
from astropy.table import Table

from szeek.measure.richness import RichnessOptions, contamination, measure_richness
from szeek.physics.cosmology import angular_diameter_distance_mpc

SIDE_DEG, PER_ARCMIN2, Z_ERROR = 30.0, 0.1, 0.033


def field(rng):
    """Galaxies spread evenly, redshifts as of WISE x SuperCOSMOS: a Gaussian about 0.2."""
    n = rng.poisson(PER_ARCMIN2 * (60 * SIDE_DEG) ** 2)
    return np.column_stack(
        [*rng.uniform(-SIDE_DEG / 2, SIDE_DEG / 2, (2, n)), np.abs(rng.normal(0.2, 0.08, n)) + 0.01]
    )


def members(rng, lon_deg, lat_deg, z, n):
    """Galaxies of one cluster, Gaussian with 0.4 Mpc about its centre, with photometric redshifts."""
    spread = np.degrees(0.4 / angular_diameter_distance_mpc(z))
    east, north = rng.normal(0, spread, (2, n))
    return np.column_stack([lon_deg + east, lat_deg + north, rng.normal(z, Z_ERROR * (1 + z), n)])


@pytest.fixture(scope="module")
def survey():
    """400 candidates of which 150 are clusters, 2000 random positions, and the galaxies."""
    rng = np.random.default_rng(1)
    n, n_true = 400, 150
    lon_deg, lat_deg = rng.uniform(-13, 13, (2, n))
    z = rng.uniform(0.1, 0.35, n_true)
    parts = [field(rng)]
    parts += [members(rng, lon_deg[k], lat_deg[k], z[k], count) for k, count in enumerate(rng.poisson(14, n_true))]
    galaxies = Table(np.concatenate(parts), names=("lon_deg", "lat_deg", "z"))
    candidates = Table({"lon_deg": lon_deg, "lat_deg": lat_deg})
    random = Table(dict(zip(("lon_deg", "lat_deg"), rng.uniform(-13, 13, (2, 2000)), strict=True)))
    return measure_richness(candidates, galaxies), measure_richness(random, galaxies), z


def test_redshifts_of_painted_clusters_come_back(survey):
    found, _, z = survey
    sure = np.asarray(found["galaxy_snr"])[: len(z)] > 5
    away = (np.asarray(found["galaxy_z"])[: len(z)] - z)[sure] / (1 + z[sure])
    assert sure.sum() > 50
    # 14 members of 0.033 each: 0.009, and the background's galaxies make it worse
    assert abs(np.median(away)) < 0.006
    assert 1.48 * np.median(np.abs(away)) < 0.02


def test_richness_is_the_number_of_members_in_the_aperture(survey):
    found, _, z = survey
    # w averages 1 / sqrt 2 over members whose scatter is the width; 96 % of a Gaussian of 0.4 Mpc lies within 1 Mpc
    expected = 14 * 0.96 / np.sqrt(2)
    sure = np.abs(np.asarray(found["galaxy_z"])[: len(z)] - z) < 0.05
    assert np.asarray(found["galaxy_richness"])[: len(z)][sure].mean() == pytest.approx(expected, rel=0.2)


def test_contamination_is_what_f_cont_says(survey):
    found, random, z = survey
    f_cont = contamination(found["galaxy_snr"], found["galaxy_z"], random["galaxy_snr"], random["galaxy_z"])
    true = np.arange(len(found)) < len(z)
    share_false = 1 - true.mean()
    for limit in (0.1, 0.2):
        chosen = f_cont < limit
        n = chosen.sum()
        # of a sample cut at f_cont = f the share of chance peaks is at most f times that of all candidates
        allowed = limit * share_false * n
        assert n > 60
        assert (~true[chosen]).sum() < allowed + 3 * np.sqrt(allowed) + 1
    # and it costs few clusters
    assert (f_cont[true] < 0.2).mean() > 0.6


def test_random_positions_pass_as_often_as_they_must():
    rng = np.random.default_rng(3)
    null_snr, null_z = rng.exponential(1, 5000), rng.uniform(0.1, 0.4, 5000)
    snr, z = rng.exponential(1, 1000), rng.uniform(0.1, 0.4, 1000)
    f_cont = contamination(snr, z, null_snr, null_z)
    # all candidates are chance: the two shares are equal, but for the few highest of a thousand
    assert np.median(f_cont) == pytest.approx(1.0, abs=0.12)


def test_empty_sky_has_no_peak_and_wrong_redshifts_are_refused():
    rng = np.random.default_rng(1)
    galaxies = Table(np.column_stack([*rng.uniform(0, 2, (2, 500)), rng.uniform(0.1, 0.4, 500)]),
                     names=("lon_deg", "lat_deg", "z"))  # fmt: skip
    found = measure_richness(Table({"lon_deg": [90.0], "lat_deg": [50.0]}), galaxies)
    assert np.isnan(found["galaxy_z"][0]) and np.isnan(found["galaxy_richness"][0])
    galaxies["z"] += 2.0
    with pytest.raises(ValueError, match=r"none of the 500 galaxies has a redshift between 0.05 and 0.6"):
        measure_richness(found[:0], galaxies, RichnessOptions())
