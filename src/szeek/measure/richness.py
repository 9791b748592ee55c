"""Galaxies about given positions: richness against redshift, the peak's redshift, and the chance of such a peak.

The measure of MCMF (Klein et al. 2018, MNRAS 474, 3324; 2019, MNRAS 488, 739) with photometric redshifts in place of
colours: galaxies within an aperture of fixed physical size, weighted by how well their redshift fits each z, less
those that a ring has; and f_cont, how often random positions have such a peak, over how often candidates have one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from szeek.arguments import plain_array, plain_table
from szeek.measure.pairs import chord, table_vectors
from szeek.physics.cosmology import angular_diameter_distance_mpc

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RichnessOptions:
    """How galaxies are counted.

    Parameters
    ----------
    z_range : (float, float)
        Redshifts between which a peak is looked for.
    z_step : float
    z_error : float
        Scatter of the photometric redshifts over 1 + z. 0.033: WISE x SuperCOSMOS, Bilicki et al. 2016
        (ApJS 225, 5).
    radius_mpc : float
        Of the aperture; about R500 of a cluster that the tSZ effect finds.
    limits_arcmin : (float, float)
        Least and greatest radius of the aperture.
    ring : (float, float)
        Inner and outer radius of the background's ring, in apertures.
    """

    z_range: tuple[float, float] = (0.05, 0.6)
    z_step: float = 0.01
    z_error: float = 0.033
    radius_mpc: float = 1.0
    limits_arcmin: tuple[float, float] = (2.0, 12.0)
    ring: tuple[float, float] = (2.0, 5.0)

    @property
    def grid(self) -> Floats:
        """The redshifts."""
        n = round((self.z_range[1] - self.z_range[0]) / self.z_step)
        return np.linspace(*self.z_range, n + 1)

    def aperture_arcmin(self, z: ArrayLike) -> Floats:
        """Radius of the aperture at a redshift.

        Examples
        --------
        >>> RichnessOptions().aperture_arcmin([0.01, 0.2, 2.0]).round(2).tolist()
        [12.0, 4.89, 2.0]
        """
        radius = np.degrees(self.radius_mpc / angular_diameter_distance_mpc(z)) * 60
        return np.asarray(np.clip(radius, *self.limits_arcmin))


def measure_richness(
    sources: Table,
    galaxies: Table,
    options: RichnessOptions = RichnessOptions(),
) -> Table:
    """The highest peak of richness against redshift at each position.

    lambda(z) = sum_in w - A_in / A_ring sum_ring w,  w = exp(-(z_k - z)^2 / 2 s^2),  s = z_error (1 + z)

    The peak is where lambda over its Poisson error, (A_in / A_ring sum_ring w^2)^1/2, is greatest; redshift and
    richness are those of the greatest lambda about it.

    Parameters
    ----------
    sources : Table
        ``lon_deg``, ``lat_deg`` (Galactic).
    galaxies : Table
        ``lon_deg``, ``lat_deg``, ``z`` (photometric).
    options : RichnessOptions

    Returns
    -------
    Table
        ``galaxy_z`` of the peak and its error ``galaxy_z_err``, ``galaxy_richness`` lambda, ``galaxy_density``, the
        over-density sum_in w / expected - 1, and ``galaxy_snr``. NaN where the ring holds no galaxies.

    Raises
    ------
    ValueError
        If the galaxies have no redshifts between those looked for.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> field = np.column_stack([*rng.uniform(-1, 1, (2, 2000)), rng.uniform(0.05, 0.5, 2000)])
    >>> members = np.column_stack([*rng.normal(0, 0.02, (2, 25)), rng.normal(0.2, 0.03, 25)])
    >>> galaxies = Table(np.concatenate([field, members]), names=("lon_deg", "lat_deg", "z"))
    >>> found = measure_richness(Table({"lon_deg": [0.0], "lat_deg": [0.0]}), galaxies)
    >>> bool(abs(found["galaxy_z"][0] - 0.2) < 0.02), bool(found["galaxy_snr"][0] > 5)
    (True, True)
    """
    sources, galaxies = plain_table(sources, "sources"), plain_table(galaxies, "galaxies")
    z_all = plain_array(galaxies["z"], "z").astype(np.float64)
    grid = options.grid
    margin = 3 * options.z_error * (1 + grid[-1])
    known = (z_all > grid[0] - margin) & (z_all < grid[-1] + margin)
    if not known.any():
        raise ValueError(f"none of the {len(galaxies)} galaxies has a redshift between {grid[0]:g} and {grid[-1]:g}")
    redshift, tree = z_all[known], cKDTree(table_vectors(galaxies[known]))
    radius = options.aperture_arcmin(grid)
    inner, outer = (factor * radius for factor in options.ring)
    ratio = 1 / (options.ring[1] ** 2 - options.ring[0] ** 2)
    spread = options.z_error * (1 + grid)
    best = np.full((len(sources), 5), np.nan)
    for row, vector in enumerate(table_vectors(sources)):
        near = np.array(tree.query_ball_point(vector, chord(float(outer.max()))), np.int64)
        separation = np.degrees(2 * np.arcsin(np.linalg.norm(tree.data[near] - vector, axis=1) / 2)) * 60
        weight = np.exp(-0.5 * ((redshift[near, None] - grid) / spread) ** 2)
        inside = separation[:, None] <= radius
        around = (separation[:, None] > inner) & (separation[:, None] <= outer)
        counted, expected = (weight * inside).sum(axis=0), ratio * (weight * around).sum(axis=0)
        error = np.sqrt(ratio * (weight**2 * around).sum(axis=0))
        enough = expected > _LEAST_EXPECTED
        if not enough.any():
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            snr = np.where(enough, (counted - expected) / error, -np.inf)
        peak = int(snr.argmax())
        # S/N is greatest where there are fewer other galaxies, to the side of the members: their redshift is lambda's
        width = int(_WIDTHS * spread[peak] / options.z_step)
        near_peak = slice(max(peak - width, 0), peak + width + 1)
        excess = counted - expected
        at = near_peak.start + int(np.where(enough, excess, -np.inf)[near_peak].argmax())
        richness = excess[at]
        z = grid[at] + options.z_step * _vertex(excess, at)
        z_err = spread[at] / np.sqrt(max(richness, 1.0))
        best[row] = z, z_err, richness, counted[at] / expected[at] - 1, snr[peak]
    return Table(best, names=("galaxy_z", "galaxy_z_err", "galaxy_richness", "galaxy_density", "galaxy_snr"))


#: How far from the peak of S/N that of lambda is looked for, in widths of the redshifts' scatter.
_WIDTHS = 1.5
#: Galaxies expected in the aperture, below which a single one makes any peak.
_LEAST_EXPECTED = 0.05


def _vertex(values: Floats, peak: int) -> float:
    """How far, in steps, the vertex of the parabola through a peak and its two neighbours lies from it."""
    if not 0 < peak < len(values) - 1 or not np.isfinite(values[peak - 1 : peak + 2]).all():
        return 0.0
    left, top, right = values[peak - 1 : peak + 2]
    curvature = left - 2 * top + right
    return float(0.5 * (left - right) / curvature) if curvature < 0 else 0.0


def contamination(snr: ArrayLike, z: ArrayLike, null_snr: ArrayLike, null_z: ArrayLike) -> Floats:
    """f_cont of each peak: share of random positions over share of candidates with a higher peak near its redshift.

    Of candidates of which a share c are chance, those with f_cont below a limit f hold at most c f that are chance
    positions. At most 1; peaks within 0.1 in redshift are compared.

    Source: Klein et al. (2019, MNRAS 488, 739), Eq. 11, with the S/N of the peak in place of its richness.

    Parameters
    ----------
    snr, z : (n,) float
        Of the candidates' peaks.
    null_snr, null_z : (m,) float
        Of the peaks at random positions.

    Returns
    -------
    (n,) float64
        NaN where there is no peak. Where no random position has one so high, a random position of which half lies
        above is assumed: 0 would be certainty.

    Examples
    --------
    >>> # 2 of 4 candidates and 1 of 10 random positions are at 5 or above
    >>> null = np.array([1.0] * 9 + [6.0])
    >>> contamination([5, 7, 1, 2], [0.2] * 4, null, np.full(10, 0.2)).round(2).tolist()
    [0.2, 0.2, 1.0, 0.13]
    """
    above, null_above = share_above(snr, z, snr, z), share_above(snr, z, null_snr, null_z)
    n_null = np.isfinite(np.asarray(null_snr, np.float64)).sum()
    least = 0.5 / n_null if n_null else np.nan
    return np.minimum(np.maximum(null_above, least) / above, 1.0)


def share_above(at_snr: ArrayLike, at_z: ArrayLike, snr: ArrayLike, z: ArrayLike) -> Floats:
    """Share of a list of peaks, snr and z, that are at least as high as another one and near its redshift.

    Parameters
    ----------
    at_snr, at_z : (n,) float
        The peaks to compare with; NaN gives NaN.
    snr, z : (m,) float
        The list.

    Examples
    --------
    >>> share_above([5.0], [0.2], [4.0, 5.0, 6.0, 7.0], [0.2, 0.2, 0.25, 0.4]).tolist()
    [0.5]
    """
    at_snr, at_z, snr, z = (np.asarray(values, np.float64) for values in (at_snr, at_z, snr, z))
    known = np.isfinite(snr)
    order = np.argsort(z[known], kind="stable")
    snr, z = snr[known][order], z[known][order]
    first, last = np.searchsorted(z, at_z - _LIKE_Z), np.searchsorted(z, at_z + _LIKE_Z)
    out = np.full(at_snr.shape, np.nan)
    for row in np.flatnonzero(np.isfinite(at_snr)):
        out[row] = np.count_nonzero(snr[first[row] : last[row]] >= at_snr[row]) / max(snr.size, 1)
    return out


_LIKE_Z = 0.1
