"""Haloes of a field: those of the full sky of the same seed, and fainter ones down to 1e13 Msun beside them.

The fainter ones are drawn in HEALPix cells of 3.4 deg^2, each from a generator of its own, so that fields that
overlap have the same. Beyond z = 1.5, where the full sky has none, all masses are drawn that way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import healpy
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from szeek.physics.bandpass import T_CMB_K
from szeek.physics.cosmology import COSMOLOGY
from szeek.physics.looks import ClusterLook
from szeek.physics.scaling import (
    MASS_BIAS,
    Y_PIVOT_1E14MSUN,
    Y_SLOPE,
    electron_temperature_kev,
    theta500_from_mass,
    y500_from_mass,
)
from szeek.simulate.density import SHELL_NSIDE, DensityShell, random_generator, set_colossus
from szeek.simulate.field.lattice import Lattice
from szeek.simulate.haloes import (
    Y_SCATTER_LN,
    draw_shapes,
    halo_bias,
    number_density,
    scatter_in_pixels,
    truth_table,
)

Floats = NDArray[np.float64]

#: Smallest true mass of the haloes of a field, and of those of the full sky.
M500_MIN_1E14MSUN, M500_FULL_SKY_1E14MSUN = 0.1, 0.7
#: Cells in which the fainter haloes are drawn.
CELL_NSIDE = 32
_Z_FULL_SKY, _M500_MAX_1E14MSUN = 1.5, 40.0
_LIGHT_KMS, _KEV_PER_THETA = 299792.458, 510.99895
_SUBCELLS, _QUANTILES = 8, 33
# Haloes reach into a field from five R500 beyond its sides.
_REACH_THETA500 = 5.5


@dataclass(frozen=True)
class _Census:
    """Mean numbers of haloes, and what their masses and redshifts are drawn from.

    Shells run along the first axis, mass groups of one bias along the second, redshift sub-cells along the third.
    """

    counts: Floats  #: over the whole sky
    bias: Floats  #: (n_shell, n_group)
    log_mass: Floats  #: (..., quantile)
    chi_mpc: Floats  #: (n_shell, sub-cell edge)


@cache
def _census(edges: tuple[tuple[float, float, float], ...]) -> _Census:
    """Of shells given by z_min, z_max and z."""
    low = np.linspace(np.log(M500_MIN_1E14MSUN), np.log(M500_FULL_SKY_1E14MSUN), 6)
    step = low[1] - low[0]
    high = np.append(np.log(M500_FULL_SKY_1E14MSUN) + step * np.arange(1, 5), np.log(_M500_MAX_1E14MSUN))
    groups = np.append(low, high)
    n_group = groups.size - 1
    counts = np.zeros((len(edges), n_group, _SUBCELLS))
    bias = np.zeros((len(edges), n_group))
    log_masses = np.zeros((len(edges), n_group, _SUBCELLS, _QUANTILES))
    chi = np.empty((len(edges), _SUBCELLS + 1))
    for s, (z_min, z_max, z_middle) in enumerate(edges):
        z_edges = np.linspace(z_min, z_max, _SUBCELLS + 1)
        chi[s] = COSMOLOGY.comoving_distance(z_edges).value
        volume = 4 * np.pi / 3 * np.diff(chi[s] ** 3)
        drawn = n_group if z_middle > _Z_FULL_SKY else low.size - 1
        middle = np.exp(np.minimum((groups[:drawn] + groups[1 : drawn + 1]) / 2, groups[:drawn] + step / 2))
        bias[s, :drawn] = halo_bias(middle, z_middle)
        for cell in range(_SUBCELLS):
            z = float(z_edges[cell] + z_edges[cell + 1]) / 2
            nodes, density = number_density(z, M500_MIN_1E14MSUN, _M500_MAX_1E14MSUN)
            cumulative = np.append(0.0, np.cumsum(np.diff(nodes) * (density[1:] + density[:-1]) / 2))
            at = np.interp(groups[: drawn + 1], nodes, cumulative)
            counts[s, :drawn, cell] = np.diff(at) * volume[cell]
            for g in range(drawn):
                log_masses[s, g, cell] = np.interp(np.linspace(at[g], at[g + 1], _QUANTILES), cumulative, nodes)
    return _Census(counts, bias, log_masses, chi)


@cache
def _chi_grid() -> tuple[Floats, Floats]:
    z = np.linspace(0.0, 3.6, 4000)
    return COSMOLOGY.comoving_distance(z).value, z


#: Haloes beyond this many times the mean density are not drawn, as in the full sky.
_CROWDING_MAX = 300.0


def draw_faint_haloes(
    seed: int, cells: NDArray[np.int64], shells: Sequence[DensityShell], look: ClusterLook | None = None
) -> list[Table]:
    """Haloes that the full sky of a seed does not have, above 1e13 Msun and to z = 3.5.

    Source: as :func:`szeek.simulate.haloes.draw_haloes`.

    Parameters
    ----------
    seed : int
    cells : (n,) int64
        HEALPix pixels of :data:`CELL_NSIDE`, RING.
    shells : sequence of DensityShell
        All of the seed's.
    look : ClusterLook, optional

    Returns
    -------
    list of Table
        Of each cell, columns as those of :func:`szeek.simulate.haloes.draw_haloes` and ``velocity_kms``.
    """
    census = _census(tuple((shell.z_min, shell.z_max, shell.z) for shell in shells))
    mean = census.counts.sum(axis=2) / (12 * SHELL_NSIDE**2)
    share = np.cumsum(census.counts, axis=2)
    share /= np.maximum(share[:, :, -1:], 1e-300)
    return [_draw_cell(seed, int(cell), shells, census, mean, share, look) for cell in cells]


def _draw_cell(
    seed: int,
    cell: int,
    shells: Sequence[DensityShell],
    census: _Census,
    mean: Floats,
    share: Floats,
    look: ClusterLook | None,
) -> Table:
    random = random_generator(seed, f"faint haloes of cell {cell}")
    pixels = _pixels_of_cell(cell)
    gaussian = np.stack([shell.gaussian[pixels] for shell in shells]).astype(np.float64)
    variance = np.array([shell.variance for shell in shells])[:, None, None]
    bias = census.bias[:, :, None]
    weight = np.minimum(np.exp(bias * gaussian[:, None, :] - bias**2 * variance / 2), _CROWDING_MAX)
    number = random.poisson(mean[:, :, None] * weight)
    shell, group, pixel = np.nonzero(number)
    repeats = number[shell, group, pixel]
    shell, group, pixel = (np.repeat(index, repeats) for index in (shell, group, pixel))
    n = shell.size
    sub = (random.uniform(size=n)[:, None] > share[shell, group]).sum(axis=1)
    near, far = census.chi_mpc[shell, sub] ** 3, census.chi_mpc[shell, sub + 1] ** 3
    z = np.interp(np.cbrt(near + (far - near) * random.uniform(size=n)), *_chi_grid())
    at = random.uniform(0, _QUANTILES - 1, n)
    node = np.minimum(at.astype(np.int64), _QUANTILES - 2)
    quantiles = census.log_mass[shell, group, sub]
    rows = np.arange(n)
    below, above = quantiles[rows, node], quantiles[rows, node + 1]
    mass = np.exp(below + (at - node) * (above - below))
    lon_deg, lat_deg = scatter_in_pixels(pixels[pixel], random)
    y500 = y500_from_mass(mass, z) * np.exp(Y_SCATTER_LN * random.standard_normal(n))
    columns = {**draw_shapes(random, np.zeros(n, bool)), "pair_id": np.full(n, -1)}
    velocity = random.standard_normal(n) * velocity_rms_kms(z)
    if look is not None:
        columns |= look.columns(n, random)
        y500 = y500 * (MASS_BIAS * mass / Y_PIVOT_1E14MSUN) ** (look.y_slope - Y_SLOPE)
    table = truth_table(lon_deg, lat_deg, z, mass, y500, theta500_from_mass(mass, z), columns)
    table["name"] = [f"HALO {cell:05d}.{k:04d}" for k in range(n)]
    table["velocity_kms"] = velocity
    return table


def _pixels_of_cell(cell: int) -> NDArray[np.int64]:
    """Pixels of the density shells inside a cell, RING."""

    per_cell = (SHELL_NSIDE // CELL_NSIDE) ** 2
    nested = healpy.ring2nest(CELL_NSIDE, cell) * per_cell + np.arange(per_cell)
    return np.asarray(healpy.nest2ring(SHELL_NSIDE, nested), np.int64)


@cache
def _velocity_grid() -> tuple[Floats, Floats]:
    k = np.geomspace(1e-4, 10.0, 600)  # 1/Mpc
    z = np.linspace(0.0, 3.6, 37)
    h = COSMOLOGY.h
    rms = []
    for value in z:
        power = set_colossus().matterPowerSpectrum(k / h, value) / h**3
        growth = COSMOLOGY.Om(value) ** 0.55 * COSMOLOGY.H(value).value / (1 + value)
        rms.append(growth * np.sqrt(np.trapezoid(power, k) / (6 * np.pi**2)))
    return z, np.array(rms)


def velocity_rms_kms(z: Floats) -> Floats:
    """Velocity dispersion of matter along one direction in linear theory, km/s: f a H sqrt(int P dk / 6 pi^2).

    Source: e.g. Sheth & Diaferio (2001, MNRAS 322, 901), Eq. 6, whose haloes have that of the matter.

    Examples
    --------
    >>> velocity_rms_kms(np.array([0.0, 0.5])).round(-2)
    array([300., 300.])
    """
    return np.asarray(np.interp(z, *_velocity_grid()))


def draw_velocities_kms(haloes: Table, seed: int) -> Floats:
    """Peculiar velocity away from us of the haloes of a full sky: Gaussian, each its own."""
    draws = random_generator(seed, "halo velocities").standard_normal(len(haloes))
    order = np.argsort(np.asarray(haloes["lon_deg"]), kind="stable")  # whatever the look has made of their order
    velocity = np.empty(len(haloes))
    velocity[order] = draws
    return velocity * velocity_rms_kms(np.asarray(haloes["z"]))


def ksz_response_kcmb(haloes: Table) -> Floats:
    """Kinetic SZ effect of haloes, K_CMB per unit Compton y, (n,): -T_CMB (v / c) tau / y.

    The optical depth is that of isothermal gas, tau = y m_e c^2 / kT, so that it has the cluster's pressure profile:
    a little too concentrated, for real gas cools outwards. Source: Sunyaev & Zeldovich (1980), MNRAS 190, 413.
    """
    temperature = electron_temperature_kev(MASS_BIAS * haloes["m500_1e14msun"], haloes["z"])
    return np.asarray(-T_CMB_K * haloes["velocity_kms"] / _LIGHT_KMS * _KEV_PER_THETA / temperature)


def within_reach(lattice: Lattice, haloes: Table) -> NDArray[np.bool_]:
    """Whether something of a halo may be seen on a lattice."""
    reach_deg = 0.1 + _REACH_THETA500 * np.asarray(haloes["theta500_arcmin"]) / 60
    row, column = lattice.places(np.asarray(haloes["ra_deg"]), np.asarray(haloes["dec_deg"]))
    per_degree = 1 / abs(lattice.dec_deg[1] - lattice.dec_deg[0])
    up = reach_deg * per_degree
    along = up / np.cos(np.radians(np.minimum(np.abs(haloes["dec_deg"]) + reach_deg, 89.0)))
    ny, nx = lattice.shape
    return np.asarray((row > -up) & (row < ny + up) & (column > -along) & (column < nx + along))


def join_haloes(parts: Sequence[Table]) -> Table:
    """Brightest first."""
    table = vstack([part for part in parts if len(part)], metadata_conflicts="silent")
    return table[np.argsort(-np.asarray(table["y500_arcmin2"]), kind="stable")]
