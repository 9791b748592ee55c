"""Simulated galaxies with redshifts: as many as the survey lists, in the haloes and where the haloes are."""

import healpy
import numpy as np
import pytest

from szeek.simulate.components.galaxies import draw_galaxies, visible_share
from szeek.simulate.density import density_shells
from szeek.simulate.haloes import draw_haloes
from szeek.sky.tiles import tile_of

TILE = 6


@pytest.fixture(scope="module")
def sky():
    shells = list(density_shells(1, z_max=0.25))  # the near ones will do
    haloes = draw_haloes(1, m500_min_1e14msun=3.0, z_max=0.25, shells=shells)
    return shells, haloes, draw_galaxies(haloes, shells, 1, (TILE,))


def test_the_field_has_as_many_as_are_published(sky):
    _, _, galaxies = sky
    field = galaxies[galaxies["halo"] < 0]
    inside = tile_of(np.asarray(field["lon_deg"]), np.asarray(field["lat_deg"])) == TILE
    z = np.asarray(field["z_true"])[inside]
    area_arcmin2 = 41252.96 / 48 * 3600
    # below z = 0.2 half of 0.198 an arcmin2; structure of a tile moves it by some per cent
    assert (z < 0.2).sum() == pytest.approx(0.5 * 0.198 * area_arcmin2, rel=0.08)


def test_members_are_in_their_haloes(sky):
    _, haloes, galaxies = sky
    owned = galaxies[galaxies["halo"] >= 0]
    owner = haloes[np.asarray(owned["halo"])]
    assert np.abs(np.asarray(owned["z_true"]) - np.asarray(owner["z"])).max() == 0
    apart = healpy.rotator.angdist(
        np.array([owned["lon_deg"], owned["lat_deg"]]), np.array([owner["lon_deg"], owner["lat_deg"]]), lonlat=True
    )
    inside = np.degrees(apart) * 60 <= 1.01 * np.asarray(owner["theta500_arcmin"])
    assert inside.mean() > 0.99
    # 10 for 1e14 Msun at z = 0.1, in proportion to mass and to what is seen at its redshift
    here = tile_of(np.asarray(haloes["lon_deg"]), np.asarray(haloes["lat_deg"])) == TILE
    expected = (10 * np.asarray(haloes["m500_1e14msun"]) * visible_share(np.asarray(haloes["z"])))[here].sum()
    found = np.isin(np.asarray(owned["halo"]), np.flatnonzero(here)).sum()
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_photometric_redshifts_scatter_as_published(sky):
    _, _, galaxies = sky
    away = (galaxies["z"] - galaxies["z_true"]) / (1 + galaxies["z_true"])
    chosen = np.asarray(galaxies["z_true"]) > 0.1  # nearer ones are cut at 0
    assert np.std(away[chosen]) == pytest.approx(0.033, rel=0.02) and abs(np.mean(away[chosen])) < 1e-3


def test_field_galaxies_follow_the_haloes(sky):
    shells, _, galaxies = sky
    shell = shells[-1]
    field = galaxies[(galaxies["halo"] < 0) & (galaxies["z_true"] > shell.z_min) & (galaxies["z_true"] < shell.z_max)]
    pixel = healpy.ang2pix(64, np.asarray(field["lon_deg"]), np.asarray(field["lat_deg"]), lonlat=True)
    counts = np.bincount(pixel, minlength=12 * 64**2)
    matter = healpy.ud_grade(shell.delta.astype(np.float64), 64)
    inside = np.unique(pixel[tile_of(np.asarray(field["lon_deg"]), np.asarray(field["lat_deg"])) == TILE])
    assert np.corrcoef(counts[inside], matter[inside])[0, 1] > 0.3
