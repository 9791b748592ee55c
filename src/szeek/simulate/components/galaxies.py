"""Galaxies with photometric redshifts, as WISE x SuperCOSMOS lists them: members of haloes, and the field."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import healpy
import numpy as np
from astropy.table import Table

from szeek.physics.cosmology import COSMOLOGY
from szeek.simulate.density import SHELL_NSIDE, DensityShell, random_generator
from szeek.simulate.haloes import scatter_in_pixels
from szeek.sky.harmonics import Floats
from szeek.sky.tiles import Tiles, pixels_near_tiles

# Bilicki et al. 2016 (ApJS 225, 5): 20 million galaxies over 28,000 deg2, median redshift 0.2, scatter 0.033 (1 + z).
# z^2 exp(-(z / z0)^2) has its median at 1.088 z0.
GALAXIES_PER_ARCMIN2, _MEDIAN_Z, PHOTO_Z_ERROR = 0.198, 0.2, 0.033
_Z0 = _MEDIAN_Z / 1.088
_GREATEST_Z = 0.6
#: Members of a halo of 1e14 Msun that the survey lists at z = 0.1; bias of the field.
_MEMBERS, _BIAS = 10.0, 1.2
_MEMBERS_Z = 0.1


def redshift_density(z: Floats) -> Floats:
    """Galaxies per arcmin2 and unit redshift.

    Examples
    --------
    >>> z = np.linspace(0, 1, 1001)
    >>> n = redshift_density(z)
    >>> total = float(np.trapezoid(n, z))
    >>> round(total, 3), round(float(np.trapezoid(n[:201], z[:201])) / total, 2)
    (0.198, 0.5)
    """
    shape = np.asarray(z, np.float64) ** 2 * np.exp(-((np.asarray(z) / _Z0) ** 2))
    return np.asarray(GALAXIES_PER_ARCMIN2 * shape / (np.sqrt(np.pi) / 4 * _Z0**3))


def visible_share(z: Floats) -> Floats:
    """Share of the galaxies at a redshift that the survey lists, over that at z = 0.1; at most 1.

    Examples
    --------
    >>> visible_share(np.array([0.05, 0.1, 0.3])).round(2).tolist()
    [1.0, 1.0, 0.12]
    """

    def per_volume(redshift: Floats) -> Floats:
        return np.asarray(redshift_density(redshift) / COSMOLOGY.differential_comoving_volume(redshift).value)

    at = np.maximum(np.asarray(z, np.float64), 1e-3)
    return np.asarray(np.minimum(per_volume(at) / per_volume(np.array([_MEMBERS_Z])), 1.0))


def draw_galaxies(haloes: Table, shells: Sequence[DensityShell], seed: int, tiles: Iterable[int] | Tiles) -> Table:
    """Galaxies in and about some tiles of a sky.

    Parameters
    ----------
    haloes : Table
        The sky's truth.
    shells : sequence of DensityShell
        The sky's, which the field follows.
    seed : int
    tiles : Tiles or iterable of int
        With 5 deg about them.

    Returns
    -------
    Table
        ``lon_deg``, ``lat_deg``, ``z`` (photometric), ``z_true``, and ``halo``, the row of its halo or -1.
    """
    random = random_generator(seed, "galaxies with redshifts")
    where = pixels_near_tiles(SHELL_NSIDE, tiles, 5.0)
    pixels = np.flatnonzero(where)
    area_arcmin2 = float(healpy.nside2pixarea(SHELL_NSIDE, degrees=True)) * 3600
    parts: list[tuple[Floats, ...]] = []
    for shell in shells:
        grid = np.linspace(shell.z_min, min(shell.z_max, _GREATEST_Z), 20)
        if grid[-1] <= grid[0]:
            break
        density = redshift_density(grid)
        mean = float(np.trapezoid(density, grid)) * area_arcmin2
        counts = random.poisson(mean * (1 + np.asarray(shell.overdensity(_BIAS))[pixels]))
        lon_deg, lat_deg = scatter_in_pixels(np.repeat(pixels, counts), random)
        steps = np.append(0.0, np.cumsum((density[1:] + density[:-1]) / 2))
        z = np.interp(random.uniform(0, steps[-1], lon_deg.size), steps, grid)
        parts.append((lon_deg, lat_deg, z, np.full(z.size, -1.0)))
    z_halo, mass = np.asarray(haloes["z"], np.float64), np.asarray(haloes["m500_1e14msun"], np.float64)
    inside = where[healpy.ang2pix(SHELL_NSIDE, haloes["lon_deg"], haloes["lat_deg"], lonlat=True)]
    rows = np.flatnonzero(inside & (z_halo < _GREATEST_Z))
    owner = np.repeat(rows, random.poisson(_MEMBERS * mass[rows] * visible_share(z_halo[rows])))
    theta_deg = np.asarray(haloes["theta500_arcmin"], np.float64)[owner] / 60 * random.uniform(size=owner.size) ** 0.7
    angle = random.uniform(0, 2 * np.pi, owner.size)
    lat_deg = np.clip(np.asarray(haloes["lat_deg"])[owner] + theta_deg * np.cos(angle), -90, 90)
    east = theta_deg * np.sin(angle) / np.maximum(np.cos(np.radians(lat_deg)), 1e-3)
    parts.append((np.asarray(haloes["lon_deg"])[owner] + east, lat_deg, z_halo[owner], owner.astype(np.float64)))
    lon_deg, lat_deg, z_true, halo = (np.concatenate(column) for column in zip(*parts, strict=True))
    z = z_true + PHOTO_Z_ERROR * (1 + z_true) * random.standard_normal(z_true.size)
    names = ("lon_deg", "lat_deg", "z", "z_true")
    table = Table([lon_deg % 360, lat_deg, z, z_true], names=names)
    table["halo"] = halo.astype(np.int64)
    return table[z > 0]
