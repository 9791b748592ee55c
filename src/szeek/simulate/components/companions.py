"""Maps of the same large-scale structure at other wavelengths, for stacks: X-rays, lensing, galaxies.

xray.fits              photons of a ROSAT-like survey (szeek.simulate.components.xray), a rate in ct/s
xray_exposure.fits     its exposure: rate times exposure are whole photons
kappa.fits             CMB lensing convergence: density shells with the lensing kernel + haloes + Planck's noise
galaxies_*.fits        over-density of galaxies at 0.1 < z < 0.3 (WISExSCOS): all, passive, transitioning, active
"""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table

from szeek._version import __version__
from szeek.parallel import side_by_side
from szeek.physics.cosmology import COSMOLOGY
from szeek.simulate.components.xray import draw_xray_sky
from szeek.simulate.haloes import DensityShell, random_generator
from szeek.simulate.planckfits import write_planck_map
from szeek.sky.harmonics import (
    Alm,
    Map32,
    add_alm,
    analyse,
    beam_window,
    filter_alm,
    gaussian_alm,
    synthesise,
)

# Planck 2018 results VIII (A&A 641, A8), Fig. 1: N_L^kappa is flat at about 1e-7 up to l of 1000.
_KAPPA_NOISE, _KAPPA_LMAX = 1.0e-7, 1500
# WISExSCOS: 0.1 < z < 0.3, 15.8 million galaxies over 24,000 deg^2 (Bilicki et al. 2016, ApJS 225, 5).
_GALAXY_Z, GALAXIES_PER_ARCMIN2 = (0.1, 0.3), 0.16
#: Share of all galaxies, bias of the field, members per 1e14 Msun: passive ones live in clusters.
GALAXY_KINDS = {
    "all": (1.0, 1.2, 10.0),
    "passive": (0.25, 1.5, 7.0),
    "transitioning": (0.15, 1.2, 1.5),
    "active": (0.60, 1.0, 1.5),
}


def write_companions(
    haloes: Table, shells: list[DensityShell], seed: int, nside: int, folder: Path, *, threads: int = 0
) -> dict[str, Path]:
    """Make and write the companion maps.

    Parameters
    ----------
    haloes : Table
        The sky's truth.
    shells : list of DensityShell
        The sky's, to z = 3.5.
    seed : int
    nside : int
    folder : Path
    threads : int

    Returns
    -------
    dict of str to Path
    """
    cards = {"SEED": seed, "CREATOR": f"szeek {__version__}"}
    near = [s for s in shells if s.z_min < _GALAXY_Z[1] and s.z_max > _GALAXY_Z[0]]

    def make(name: str) -> Path:
        if name == "kappa":
            values, column, unit = kappa_map(haloes, shells, seed, nside, 1), "KAPPA", ""
        else:
            kind = name.removeprefix("galaxies_")
            values, column, unit = galaxy_map(kind, haloes, near, seed, nside, 1), "DELTA", ""
        return write_planck_map(folder / f"{name}.fits", values, column=column, unit=unit, extra=cards)

    names = ["kappa", *(f"galaxies_{kind}" for kind in GALAXY_KINDS)]
    return dict(zip(names, side_by_side(make, names, threads), strict=True))


def write_xray(haloes: Table, seed: int, nside: int, folder: Path) -> dict[str, Path]:
    """Draw and write the photons of a survey, xray.fits, and xray_exposure.fits; the exposure comes last."""
    cards = {"SEED": seed, "CREATOR": f"szeek {__version__}"}
    counts, exposure_s = draw_xray_sky(haloes, seed, nside)
    rate = write_planck_map(folder / "xray.fits", counts / exposure_s, column="RATE", unit="ct / s", extra=cards)
    file = folder / "xray_exposure.fits"
    seconds = write_planck_map(file, exposure_s, column="EXPOSURE", unit="s", extra=cards)
    return {"xray": rate, "xray_exposure": seconds}


def kappa_map(haloes: Table, shells: list[DensityShell], seed: int, nside: int, threads: int = 0) -> Map32:
    """CMB lensing convergence as Planck reconstructs it, (12 nside^2,) float32.

    kappa = 3/2 Om H0^2/c^2 sum_shells chi (1 - chi/chi*) (1 + z) delta dchi
    """
    chi_star = float(COSMOLOGY.comoving_distance(1089.9).value)
    hubble = 1.5 * COSMOLOGY.Om0 * (COSMOLOGY.H0.value / 299792.458) ** 2  # Mpc^-2
    total = np.zeros(shells[0].delta.size, np.float32)
    for shell in shells:
        near, far = (float(COSMOLOGY.comoving_distance(z).value) for z in (shell.z_min, shell.z_max))
        chi = 0.5 * (near + far)
        total += np.float32(hubble * chi * (1 - chi / chi_star) * (1 + shell.z) * (far - near)) * shell.delta
    shell_nside = healpy.npix2nside(total.size)
    lmax = min(_KAPPA_LMAX, 3 * nside - 1)
    alm: Alm = gaussian_alm(
        np.where(np.arange(lmax + 1) > 7, _KAPPA_NOISE, 0.0), lmax, random_generator(seed, "kappa noise")
    )
    add_alm(alm, analyse(total, min(lmax, 2 * shell_nside), threads, iterations=1), np.ones(lmax + 1))
    return synthesise(alm, nside, threads)


def galaxy_map(
    kind: str, haloes: Table, shells: list[DensityShell], seed: int, nside: int, threads: int = 0
) -> Map32:
    """Over-density n / <n> - 1 of one kind of galaxies, (12 nside^2,) float32, smoothed with 10 arcmin."""
    share, bias, members = GALAXY_KINDS[kind]
    rng = random_generator(seed, f"galaxies {kind}")
    depth = np.array([s.z_max - s.z_min for s in shells])
    field = np.zeros(shells[0].delta.size, np.float32)
    for shell, weight in zip(shells, depth / depth.sum(), strict=True):
        field += np.float32(weight) * shell.overdensity(bias)
    pixel_arcmin2 = 4 * np.pi * np.degrees(60) ** 2 / (12 * nside * nside)
    mean = share * GALAXIES_PER_ARCMIN2 * pixel_arcmin2
    density = synthesise(analyse(field, 512, threads, iterations=1), nside, threads)
    counts = rng.poisson(mean * np.maximum(1 + density, 0)).astype(np.float32)
    z = np.asarray(haloes["z"])
    inside = (z > _GALAXY_Z[0]) & (z < _GALAXY_Z[1])
    table = haloes[inside]
    owner = np.repeat(np.arange(len(table)), rng.poisson(members * np.asarray(table["m500_1e14msun"])))
    theta = np.asarray(table["theta500_arcmin"])[owner] * rng.uniform(size=owner.size) ** 0.7
    angle = rng.uniform(0, 2 * np.pi, owner.size)
    lat_deg = np.asarray(table["lat_deg"])[owner]
    lon_deg = np.asarray(table["lon_deg"])[owner]
    lon_deg = lon_deg + theta * np.sin(angle) / 60 / np.maximum(np.cos(np.radians(lat_deg)), 1e-3)
    lat_deg = np.clip(lat_deg + theta * np.cos(angle) / 60, -90, 90)
    pixel = healpy.ang2pix(nside, lon_deg, lat_deg, lonlat=True)
    counts += np.bincount(pixel, minlength=counts.size).astype(np.float32)
    counts /= counts.mean()
    counts -= 1
    lmax = 2 * nside
    alm = analyse(counts, lmax, threads)
    return synthesise(filter_alm(alm, beam_window(10.0, lmax), out=alm), nside, threads)
