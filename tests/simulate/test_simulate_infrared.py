"""100 um, star formation and stellar mass of the simulated sky, against numbers by hand."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.cosmology import Planck18
from astropy.table import Table

from szeek.inputs.instrument import read_instrument
from szeek.inputs.stackmaps import below_main_sequence, read_stack_map
from szeek.simulate.components.dust import draw_galaxy
from szeek.simulate.components.infrared import KINDS, density_map, iris_map, write_infrared_maps
from szeek.simulate.haloes import random_generator
from szeek.simulate.planckfits import write_planck_map

NSIDE = 64


def test_one_galaxy_of_each_kind() -> None:
    # ln 10 x 0.3 = 0.691: a mean of exp(0.691^2 / 2) = 1.269 medians, a variance of exp(0.691^2) - 1 = 0.611 means^2
    mean, variance = KINDS["active"].mass_moments()
    assert mean == pytest.approx(1.269 * 10**10.6, rel=1e-3)
    assert variance / mean**2 == pytest.approx(0.611, rel=2e-3)
    # 8.7 (10^-0.4)^0.77 = 4.281; scatter 0.3055 dex = 0.7036: exp(0.7036^2 / 2) = 1.281
    assert KINDS["active"].rate_moments()[0] == pytest.approx(1.281 * 4.281, rel=1e-3)
    # the kinds are what the galaxies' maps of real data take them for: 0.4 and 1.25 dex below the main sequence
    below = {}
    for name, kind in KINDS.items():
        rate = np.log10(kind.rate_moments()[0]) - 0.1075  # ln 1.281 / ln 10: the median
        below[name] = float(below_main_sequence(np.array([kind.log_mass]), np.array([rate]))[0])
    assert below["active"] < 0.4 < below["transitioning"] < 1.25 < below["passive"]


def test_densities_follow_the_galaxies() -> None:
    flat = {name: np.zeros(12 * NSIDE**2, np.float32) for name in KINDS}
    mass = density_map("stellar_mass", flat, 1, 1)
    # 0.16 per arcmin^2 = 576 per deg^2, a quarter passive, 0.15 transitioning, 0.6 active, 1.269 medians each
    expected = 576 * 1.269 * (0.25 * 10**10.9 + 0.15 * 10**10.8 + 0.6 * 10**10.6)
    assert mass.mean() == pytest.approx(expected, rel=3e-3)
    # twice the active ones, and the mass of the active ones is there twice; noise drawn alike but for its strength
    doubled = density_map("stellar_mass", {**flat, "active": flat["active"] + 1}, 1, 1)
    assert (doubled - mass).mean() == pytest.approx(576 * 1.269 * 0.6 * 10**10.6, rel=3e-3)
    assert np.corrcoef(mass, doubled)[0, 1] > 0.999
    other = density_map("sfr", flat, 1, 1)
    assert abs(np.corrcoef(mass, other)[0, 1]) < 0.02  # of their own noise


@pytest.fixture(scope="module")
def cluster() -> Table:
    one = {"lon_deg": [30.0], "lat_deg": [70.0], "theta500_arcmin": [15.0], "y500_arcmin2": [1e-3]}
    return Table({**one, "z": [0.26], "m500_1e14msun": [5.6 / 0.64]})  # Planck's mass is 0.64 of it


def test_dust_of_a_cluster_at_100_um(cluster: Table) -> None:
    """A cluster more, its dust more: 1.1e10 Msun at 24.2 K and z = 0.26, beta 1.5, 0.0431 m^2/kg at 353 GHz."""
    galaxy = draw_galaxy(read_instrument("planck-hfi"), NSIDE, 5, 1)
    without, with_it = (iris_map(haloes, galaxy, 5, 512, 1) for haloes in (cluster[:0], cluster))
    flux_jy = (with_it - without).sum(dtype=float) * 4 * np.pi / without.size * 1e6
    nu, temperature = 2997.9e9 * 1.26, 24.2
    planck = 2 * 6.62607e-34 * nu**3 / 2.99792e8**2 / np.expm1(6.62607e-34 * nu / 1.380649e-23 / temperature)
    distance_m = Planck18.luminosity_distance(0.26).to_value("m")
    scatter = np.exp(0.4 * random_generator(5, "cluster galaxies").standard_normal(1)[0] - 0.08)
    kappa = 0.0431 * (nu / 353e9) ** 1.5
    expected = 1.1e10 * 1.989e30 * scatter * kappa * 1.26 * planck / distance_m**2 * 1e26
    assert flux_jy == pytest.approx(expected, rel=0.03)
    # the faint sky of IRIS is about 1 MJy/sr at 100 um
    lat_deg = np.abs(healpy.pix2ang(512, np.arange(without.size), lonlat=True)[1])
    assert 0.3 < np.median(without[lat_deg > 60]) < 3
    assert np.median(without[lat_deg < 2]) > 30


def test_files_are_read_as_stack_maps(cluster: Table, tmp_path: Path) -> None:
    galaxy = draw_galaxy(read_instrument("planck-hfi"), NSIDE, 5, 1)
    for name in KINDS:
        flat = np.zeros(12 * NSIDE**2, np.float32)
        write_planck_map(tmp_path / f"galaxies_{name}.fits", flat, column="DELTA", unit="")
    files = write_infrared_maps(cluster, galaxy, 5, NSIDE, tmp_path, threads=1)
    assert {name: read_stack_map(name, file, fwhm_arcmin=1.0).bands[0].unit for name, file in files.items()} == {
        "iris_100um": "MJy/sr", "sfr": "Msun / (yr deg2)", "stellar_mass": "Msun / deg2",
    }  # fmt: skip
