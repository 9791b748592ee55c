"""Dark-matter haloes over the whole sky: mass function, clustering, and what their gas looks like.

    n(M, z)              Tinker et al. (2008), M500c, Planck 2018 flat LCDM (through colossus)
    positions            lognormal density shells, biased by Tinker et al. (2010), no pixel beyond 300 times the mean
    Y500(M, z)           Planck 2013 XX: E^-2/3 D_A^2 Y500 = 10^-4.19 Mpc^2 [(1-b) M500 / 6e14 Msun]^1.79

The density shells are those of :mod:`szeek.simulate.density`, which everything else that follows the
large-scale structure shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import astropy.units as u
import ducc0
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from colossus.lss import bias as colossus_bias
from colossus.lss import mass_function as colossus_mass_function
from numpy.typing import NDArray

from szeek.physics.cosmology import COSMOLOGY
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.looks import ClusterLook
from szeek.physics.scaling import MASS_BIAS, Y_PIVOT_1E14MSUN, Y_SLOPE, theta500_from_mass, y500_from_mass
from szeek.simulate.density import (
    SHELL_NSIDE,
    DensityShell,
    density_shells,
    random_generator,
    set_colossus,
)

__all__ = [
    "DensityShell",
    "density_shells",
    "draw_haloes",
    "group_background",
    "random_generator",
]

Floats = NDArray[np.float64]

# Planck 2013 results XX (A&A 571, A20), Table 1.
Y_SCATTER_LN = 0.075 * np.log(10)  # sigma_logY = 0.075: 17 %

# Shapes. Concentration: scatter of c500 among the REXCESS profiles of Arnaud et al. (2010). Axis ratio
# of the gas: Lau et al. (2011) (gas axis ratios 0.8-0.95 inside R500). A quarter of an SZ-selected
# sample is strongly disturbed: Lovisari et al. (2017). Pairs: Planck Intermediate Results VIII (2013)
# found 25 candidate bridges among about 1,000 close pairs; A399-A401 lie 1.1 (theta1 + theta2) apart.
_CONCENTRATION_SCATTER_LN = 0.25
_AXIS_RATIO_MEAN, _AXIS_RATIO_SIGMA, _AXIS_RATIO_MIN = 0.87, 0.08, 0.6
_DISTURBED_FRACTION = 0.25
_PAIR_MIN_1E14MSUN = 5.0
_PAIR_FRACTION = 0.03
_PAIR_SEPARATION = (0.9, 1.5)  # of theta500 of the two added

# Linear bias of the most massive haloes, made lognormal, would crowd dozens of them into the few densest pixels of a
# sky. Haloes beyond this many times the mean are moved elsewhere in the shell, one in 700. With 300, pairs of PSZ2
# entries within 10, 20, 30, 60 and 120 arcmin are 8, 31, 62, 184 and 595 in the mean of seeds 1 to 5; those of
# HFI_PCCS_SZ-union_R2.08 are 7, 32, 50, 184 and 622. Without, seeds 1, 2 and 5 had 109, 258, 377, 562 and 999.
_CROWDING_MAX = 300.0

_SUBCELLS = 8  # in redshift, per shell
_BIAS_GROUPS = 6  # in mass, per shell


@cache
def number_density(z: float, m500_min_1e14msun: float, m500_max_1e14msun: float) -> tuple[Floats, Floats]:
    """ln(M500/1e14 Msun) nodes and dn/dlnM in Mpc^-3 at one redshift (Tinker et al. 2008, M500c)."""
    log_mass = np.linspace(np.log(m500_min_1e14msun), np.log(m500_max_1e14msun), 240)
    h = set_colossus().h
    density = colossus_mass_function.massFunction(
        np.exp(log_mass) * 1e14 * h, z, mdef="500c", model="tinker08", q_out="dndlnM"
    )
    return log_mass, np.asarray(density) * h**3


def halo_bias(m500_1e14msun: Floats, z: float) -> Floats:
    """Linear bias of haloes (Tinker et al. 2010)."""
    mass = m500_1e14msun * 1e14 * set_colossus().h
    return np.asarray(colossus_bias.haloBias(mass, z, "500c", model="tinker10"))


_M500_MAX_1E14MSUN = 40.0
_Z_MAX = 1.5


def _draw_shell(
    shell: DensityShell,
    random: np.random.Generator,
    crowded: np.random.Generator,
    m500_min_1e14msun: float,
    z_range: tuple[float, float],
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Pixel (RING nside 256), redshift and M500 of the haloes of one shell: Poisson counts in (z, M) cells."""
    chi_edges = COSMOLOGY.comoving_distance(
        np.clip(np.linspace(shell.z_min, shell.z_max, _SUBCELLS + 1), *z_range)
    ).value
    z_edges = np.clip(np.linspace(shell.z_min, shell.z_max, _SUBCELLS + 1), *z_range)
    volumes = 4 * np.pi / 3 * np.diff(chi_edges**3)
    # Groups of equal bias: geometric in mass, the last one open. Cells: redshift sub-cell x group.
    group_edges = np.append(np.log(m500_min_1e14msun) + 0.45 * np.arange(_BIAS_GROUPS), np.log(_M500_MAX_1E14MSUN))
    parts: list[tuple[NDArray[np.int64], Floats, Floats]] = []
    for low, high in pairwise(group_edges):
        counts, cumulatives = [], []
        for cell in range(_SUBCELLS):
            z = float((z_edges[cell] + z_edges[cell + 1]) / 2)
            log_mass, density = number_density(z, m500_min_1e14msun, _M500_MAX_1E14MSUN)
            steps = np.diff(log_mass) * (density[1:] + density[:-1]) / 2
            cumulative = np.append(0.0, np.cumsum(steps))
            first, last = np.interp([low, high], log_mass, cumulative)
            counts.append((last - first) * volumes[cell])
            cumulatives.append((log_mass, cumulative, first, last))
        middle = np.exp((low + min(high, low + 0.45)) / 2)
        weight = 1.0 + shell.overdensity(float(halo_bias(np.array([middle]), shell.z)[0]))
        cumulative_weight = np.cumsum(weight, dtype=np.float64)
        mean_weight = cumulative_weight[-1] / weight.size
        numbers = random.poisson(np.array(counts) * mean_weight)
        for cell, number in enumerate(numbers):
            log_mass, cumulative, first, last = cumulatives[cell]
            mass = np.exp(np.interp(random.uniform(first, last, number), cumulative, log_mass))
            z = np.interp(
                np.cbrt(random.uniform(chi_edges[cell] ** 3, chi_edges[cell + 1] ** 3, number)),
                chi_edges,
                z_edges,
            )
            target = random.uniform(0.0, cumulative_weight[-1], number)
            pixel = np.minimum(np.searchsorted(cumulative_weight, target, side="right"), weight.size - 1)
            excess = crowded.uniform(size=number) * weight[pixel] > _CROWDING_MAX * mean_weight
            pixel[excess] = crowded.integers(0, weight.size, np.count_nonzero(excess))
            parts.append((pixel, z, mass))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))  # type: ignore[return-value]


def scatter_in_pixels(pixel: NDArray[np.int64], random: np.random.Generator) -> tuple[Floats, Floats]:
    """Galactic longitude and latitude (degrees) uniform inside RING pixels of nside 256."""
    base = ducc0.healpix.Healpix_Base(SHELL_NSIDE, "RING")
    fine = 1 << 20  # positions to 0.2 arcsec, by drawing a nested descendant
    descendants = (fine // SHELL_NSIDE) ** 2
    nested = base.ring2nest(pixel) * descendants + random.integers(0, descendants, pixel.size)
    colatitude, longitude = ducc0.healpix.Healpix_Base(fine, "NEST").pix2ang(nested).T
    return np.degrees(longitude), 90.0 - np.degrees(colatitude)


def _pair_up(
    random: np.random.Generator, lon_deg: Floats, lat_deg: Floats, z: Floats, mass: Floats, mass_bias: float
) -> NDArray[np.int64]:
    """Bring some haloes beside a more massive one of their redshift (positions and z change in place)."""
    pair_id = np.full(z.size, -1, np.int64)
    massive = np.flatnonzero(mass > _PAIR_MIN_1E14MSUN)
    primaries = massive[random.uniform(size=massive.size) < _PAIR_FRACTION]
    primaries = primaries[np.argsort(-mass[primaries], kind="stable")]
    candidates = np.flatnonzero(mass > 0.3 * _PAIR_MIN_1E14MSUN)
    angles = random.uniform(0.0, 360.0, primaries.size)
    factors = random.uniform(*_PAIR_SEPARATION, primaries.size)
    velocity = random.normal(0.0, 0.002, primaries.size)
    pairs = []
    for number, primary in enumerate(primaries):
        fit = candidates[
            (pair_id[candidates] < 0) & (mass[candidates] < mass[primary]) & (mass[candidates] > 0.3 * mass[primary])
        ]
        if pair_id[primary] >= 0 or fit.size == 0:
            continue
        partner = fit[np.argmin(np.abs(z[fit] - z[primary]))]
        z[partner] = max(z[primary] + velocity[number], 0.01)
        pair_id[[primary, partner]] = number
        pairs.append((number, primary, partner))
    numbers, first, second = np.array(pairs, np.int64).reshape(-1, 3).T
    theta_arcmin = theta500_from_mass(mass[first], z[first], mass_bias)
    theta_arcmin = theta_arcmin + theta500_from_mass(mass[second], z[second], mass_bias)
    centres = SkyCoord(lon_deg[first], lat_deg[first], unit="deg", frame="galactic")
    away_deg = np.minimum(factors[numbers] * theta_arcmin / 60.0, 5.0)
    moved = centres.directional_offset_by(angles[numbers] * u.deg, away_deg * u.deg)
    lon_deg[second], lat_deg[second] = moved.l.deg, moved.b.deg
    return pair_id


def draw_haloes(
    seed: int,
    *,
    m500_min_1e14msun: float = 0.7,
    z_min: float = 0.01,
    z_max: float = 1.5,
    mass_bias: float = MASS_BIAS,
    shells: Sequence[DensityShell] | None = None,
    look: ClusterLook | None = None,
) -> Table:
    """Draw every halo of the sky above a mass.

    Source: Tinker et al. (2008) mass function, Tinker et al. (2010) bias, Planck 2013 results XX Y-M relation
    with its 17 % scatter.

    Parameters
    ----------
    seed : int
        Seed of the sky.
    m500_min_1e14msun : float
        Smallest true M500c, in 1e14 Msun, between 0.1 and 20; 0.7 gives about 830,000 haloes.
    z_min, z_max : float
        Redshift range, within 0.01 and 1.5.
    mass_bias : float
        (1-b): 0.64 with this cosmology gives the observed number of Planck clusters.
    shells : sequence of DensityShell, optional
        The :func:`~szeek.simulate.density.density_shells` of this seed, where the caller has them already.
    look : ClusterLook, optional
        Of the clusters, as published if not given. Other looks leave positions, masses and shapes as they are.

    Returns
    -------
    Table
        The common catalogue columns (survey 'TRUTH'), brightest first. ``m500_1e14msun`` is the true mass;
        ``theta500_arcmin`` belongs to (1-b) M500 as Planck's does; ``y500_arcmin2`` carries the scatter, and the
        painted flux is 1.79 times it. Shape columns for painting: ``axis_ratio``; ``position_angle_deg`` from
        Galactic north towards increasing longitude; ``concentration``, factor on c500; ``clump_fraction`` of the
        flux in a second peak ``clump_distance`` theta500 away along the major axis; ``pair_id`` shared by the two
        members of a merging pair, else -1. For another look than the published one the columns of
        :meth:`szeek.physics.looks.ClusterLook.columns`.

    Raises
    ------
    ValueError
        For a mass or redshift range outside the limits above.

    Examples
    --------
    >>> haloes = draw_haloes(1, m500_min_1e14msun=8.0, z_max=0.3)
    >>> bool(haloes["m500_1e14msun"].min() >= 8.0), bool(haloes["z"].max() < 0.35)
    (True, True)
    """
    if not 0.1 <= m500_min_1e14msun <= 20.0:
        raise ValueError(f"m500_min_1e14msun is {m500_min_1e14msun}, expected 0.1 to 20 (in 1e14 Msun)")
    if not 0.01 <= z_min < z_max <= 1.5:
        raise ValueError(f"redshift range is {z_min} to {z_max}, expected 0.01 <= z_min < z_max <= 1.5")
    if not 0.3 <= mass_bias <= 1.0:
        raise ValueError(f"mass_bias (1-b) is {mass_bias}, expected 0.3 to 1")
    columns = []
    for shell in density_shells(seed, z_max=z_max) if shells is None else shells:
        if shell.z_max > z_min and shell.z_min < z_max:
            random = random_generator(seed, f"haloes of shell {shell.index}")
            crowded = random_generator(seed, f"crowded haloes of shell {shell.index}")
            pixel, z, mass = _draw_shell(shell, random, crowded, m500_min_1e14msun, (z_min, z_max))
            columns.append((*scatter_in_pixels(pixel, random), z, mass))
    lon_deg, lat_deg, z, mass = (np.concatenate(column) for column in zip(*columns, strict=True))
    random = random_generator(seed, "halo pairs")
    pair_id = _pair_up(random, lon_deg, lat_deg, z, mass, mass_bias)
    random = random_generator(seed, "halo gas")
    n = z.size
    y500 = y500_from_mass(mass, z, mass_bias) * np.exp(Y_SCATTER_LN * random.standard_normal(n))
    gas: dict[str, Any] = {**draw_shapes(random, pair_id >= 0), "pair_id": pair_id}
    if look is not None:
        gas |= look.columns(n, random_generator(seed, "cluster looks"))
        y500 = y500 * (mass_bias * mass / Y_PIVOT_1E14MSUN) ** (look.y_slope - Y_SLOPE)
    order = np.argsort(-y500, kind="stable")
    return truth_table(lon_deg, lat_deg, z, mass, y500, theta500_from_mass(mass, z, mass_bias), gas)[order]


def draw_shapes(random: np.random.Generator, paired: NDArray[np.bool_]) -> dict[str, Floats]:
    """Columns of shape, as :func:`draw_haloes` has them, (n,) float64 each.

    Parameters
    ----------
    random : numpy.random.Generator
    paired : (n,) bool
        Members of a merging pair, which have no second peak of their own.
    """
    n = paired.size
    disturbed = (random.uniform(size=n) < _DISTURBED_FRACTION) & ~paired
    return {
        "axis_ratio": np.clip(random.normal(_AXIS_RATIO_MEAN, _AXIS_RATIO_SIGMA, n), _AXIS_RATIO_MIN, 1.0),
        "position_angle_deg": random.uniform(0.0, 180.0, n),
        "concentration": np.exp(_CONCENTRATION_SCATTER_LN * random.standard_normal(n)),
        "clump_fraction": np.where(disturbed, random.uniform(0.1, 0.35, n), 0.0),
        "clump_distance": np.where(disturbed, random.uniform(0.3, 1.0, n), 0.0),
    }


def truth_table(
    lon_deg: Floats, lat_deg: Floats, z: Floats, mass: Floats, y500: Floats, theta500: Floats, gas: dict[str, Any]
) -> Table:
    """The common catalogue columns, survey 'TRUTH', and the columns that painting needs."""
    icrs = SkyCoord(lon_deg, lat_deg, unit="deg", frame="galactic").icrs
    missing = np.full(z.size, np.nan)
    return Table(
        {
            "name": _halo_names(z.size),
            "lon_deg": lon_deg,
            "lat_deg": lat_deg,
            "ra_deg": icrs.ra.deg,
            "dec_deg": icrs.dec.deg,
            "z": z,
            "m500_1e14msun": mass,
            "y500_arcmin2": y500,
            "theta500_arcmin": theta500,
            "richness": missing,
            "snr": missing.copy(),
            "survey": np.full(z.size, "TRUTH"),
            **gas,
        }
    )


def _halo_names(n: int) -> NDArray[np.str_]:
    """'HALO 0000000', 'HALO 0000001', ... digit by digit: a sky has a million of them.

    Examples
    --------
    >>> _halo_names(12)[-2:].tolist()
    ['HALO 0000010', 'HALO 0000011']
    """
    codes = np.empty((n, 12), np.uint32)
    codes[:, :5] = [ord(letter) for letter in "HALO "]
    codes[:, 5:] = ord("0") + np.arange(n)[:, None] // 10 ** np.arange(6, -1, -1) % 10
    return np.asarray(codes.view("U12").ravel())


def group_background(
    seed: int,
    *,
    m500_min_1e14msun: float = 0.01,
    m500_max_1e14msun: float = 0.7,
    mass_bias: float = MASS_BIAS,
    shells: Sequence[DensityShell] | None = None,
) -> Floats:
    """Compton y of the haloes that are not painted one by one: a clustered background.

    Haloes below the painted ones at z < 1.5, and all haloes from there to z = 3.5. The mean Y of each shell's haloes
    times their Y-weighted biased over-density, and the shot noise of their number. Source: halo model, e.g. Komatsu &
    Seljak (2002), with the relations of :func:`draw_haloes`, which nothing tests below 1e13 Msun.

    Parameters
    ----------
    seed : int
        Seed of the sky.
    m500_min_1e14msun, m500_max_1e14msun : float
        Range of true M500c in 1e14 Msun; the upper end is ``m500_min_1e14msun`` of the painted haloes.
    mass_bias : float
        (1-b).
    shells : sequence of DensityShell, optional
        As in :func:`draw_haloes`, to z = 3.5.

    Returns
    -------
    (12 * 256**2,) float64
        y, RING, Galactic, nside 256; smooth it up in harmonic space.

    Raises
    ------
    ValueError
        If the mass range is empty or below 1e12 Msun.
    """
    if not 0.01 <= m500_min_1e14msun < m500_max_1e14msun:
        raise ValueError(
            f"mass range is {m500_min_1e14msun} to {m500_max_1e14msun}, expected 0.01 <= min < max (in 1e14 Msun)"
        )
    y_map = np.zeros(12 * SHELL_NSIDE**2)
    shot_noise = 0.0  # sum of Y^2 per steradian
    steradian = np.radians(1 / 60) ** 2
    for shell in density_shells(seed) if shells is None else shells:
        heaviest = m500_max_1e14msun if shell.z < _Z_MAX else _M500_MAX_1E14MSUN
        log_mass, density = number_density(shell.z, m500_min_1e14msun, heaviest)
        mass = np.exp(log_mass)
        volume = np.diff(COSMOLOGY.comoving_distance([shell.z_min, shell.z_max]).value ** 3)[0] / 3
        y_sr = Y5R500_PER_Y500 * steradian * y500_from_mass(mass, np.full(mass.size, shell.z), mass_bias)
        mean = volume * np.trapezoid(density * y_sr, log_mass)
        bias = volume * np.trapezoid(density * y_sr * halo_bias(mass, shell.z), log_mass) / mean
        y_map += mean * (1.0 + shell.overdensity(float(bias)))
        shot_noise += volume * np.trapezoid(density * y_sr**2, log_mass)
    pixel_sr = 4 * np.pi / y_map.size
    random = random_generator(seed, "group background")
    return np.asarray(y_map + np.sqrt(shot_noise / pixel_sr) * random.standard_normal(y_map.size))
