"""Radial profiles of stacks, their covariance and significance, and the flux within an aperture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from szeek.sky.projection import PIXEL_ARCMIN
from szeek.sky.skymaps import SkyMaps
from szeek.stack.stacks import Stack, as_skymaps, bootstrap_weights, pixel_radius_arcmin, sample_fields


@dataclass(frozen=True)
class Profile:
    """Mean of a stack in rings about its centre.

    Parameters
    ----------
    names : tuple of str
        Of the maps.
    edges_arcmin : (n_ring + 1,) float64
        Borders of the rings.
    radius_arcmin : (n_ring,) float64
        Mean radius of the pixels in each ring.
    mean : (n_map, n_ring) float64
        Profile of each map; NaN in a ring that is all masked.
    covariance : (n_map, n_ring, n_ring) float64
        Of the rings of each map, by bootstrap.
    n_group : int
        Groups that the bootstrap drew from: the degrees of freedom of the covariance, plus one.
    """

    names: tuple[str, ...]
    edges_arcmin: NDArray[np.float64]
    radius_arcmin: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    n_group: int

    @property
    def error(self) -> NDArray[np.float64]:
        """Standard errors, (n_map, n_ring)."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    def to_table(self) -> Table:
        """One row per map and ring: ``map``, ``inner_arcmin``, ``outer_arcmin``, ``radius_arcmin``, ``mean``,
        ``error``; for profiles.ecsv."""
        n_map, n_ring = self.mean.shape
        return Table(
            {
                "map": np.repeat(self.names, n_ring),
                "inner_arcmin": np.tile(self.edges_arcmin[:-1], n_map),
                "outer_arcmin": np.tile(self.edges_arcmin[1:], n_map),
                "radius_arcmin": np.tile(self.radius_arcmin, n_map),
                "mean": self.mean.ravel(),
                "error": self.error.ravel(),
            }
        )


def measure_profile(
    stack: Stack,
    edges_arcmin: ArrayLike,
    *,
    blocks: bool = False,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Profile:
    """Radial profile of a stack with the covariance of its rings.

    Source: Bonjean (2020), Fig. 6: profiles with bootstrap errors, background removed source by source (which
    :func:`szeek.stack.stacks.stack_at` did).

    Parameters
    ----------
    stack : Stack
    edges_arcmin : (n_ring + 1,) float
        Borders of the rings, rising.
    blocks : bool
        Bootstrap over sky blocks instead of sources.
    n_bootstrap, seed : int
        Draws.

    Returns
    -------
    Profile
        The covariance is NaN for fewer than two groups.

    Raises
    ------
    ValueError
        If the borders do not rise or a ring holds no pixel.
    """
    edges = np.asarray(edges_arcmin, float)
    if edges.ndim != 1 or edges.size < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"edges_arcmin is {edges.tolist()}, expected at least two rising numbers")
    radius = stack.radius_arcmin.ravel()
    member = (radius >= edges[:-1, None]) & (radius < edges[1:, None])  # (n_ring, n_pixel)
    if not member.any(axis=1).all():
        ring = int(np.flatnonzero(~member.any(axis=1))[0])
        raise ValueError(
            f"no pixel of {stack.pixel_arcmin:g} arcmin lies in the ring from {edges[ring]:g} to {edges[ring + 1]:g} "
            "arcmin: widen it"
        )
    groups = stack.blocks if blocks else stack.sources
    n_group, n_map = len(groups.total), len(stack.names)
    ring_of = member.astype(np.float64)
    total = np.einsum("rp,gpm->gmr", ring_of, groups.total.reshape(n_group, -1, n_map), optimize=True)
    weight = groups.weight.reshape(n_group, -1) @ ring_of.T
    drawn = bootstrap_weights(n_group, n_bootstrap, seed)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total.sum(axis=0) / weight.sum(axis=0)
        again = np.tensordot(drawn, total, 1) / (drawn @ weight)[:, None]  # (n_bootstrap, n_map, n_ring)
    covariance = np.full((n_map, edges.size - 1, edges.size - 1), np.nan)
    if n_group > 1:
        for m in range(n_map):
            covariance[m] = np.cov(again[:, m], rowvar=False) * n_group / (n_group - 1)
    return Profile(stack.names, edges, (ring_of @ radius) / ring_of.sum(axis=1), mean, covariance, n_group)


def measure_significance(profile: Profile, null: ArrayLike | None = None) -> Table:
    """Is there a signal? Chi-square of each map's profile against zero or a null, and the first ring in
    sigma.

    The covariance comes from ``n_group`` groups, so chi-square is Hotelling's T^2: (n - k) / (k (n - 1)) T^2
    is F(k, n - k) distributed for k rings and n groups.

    Parameters
    ----------
    profile : Profile
    null : (n_map, n_ring) float, optional
        Mean profile of matched nulls, taken off first (:mod:`szeek.stack.nulls`).

    Returns
    -------
    Table
        ``map``, ``centre_sigma``, ``chi2``, ``n_ring``, ``p_value``, ``sigma`` (the p value as Gaussian
        standard deviations, two-sided).

    Raises
    ------
    ValueError
        If there are not more groups than rings: the covariance has no inverse.
    """
    n, k = profile.n_group, profile.mean.shape[1]
    if n <= k:
        raise ValueError(f"{k} rings but {n} groups of sources, expected more groups: use fewer rings")
    difference = profile.mean - (0 if null is None else np.asarray(null, float))
    rows = []
    for name, row, covariance, error in zip(
        profile.names, difference, profile.covariance, profile.error, strict=True
    ):
        t2 = float(row @ np.linalg.solve(covariance, row))
        p_value = float(stats.f.sf(t2 * (n - k) / (k * (n - 1)), k, n - k))
        rows.append((name, float(row[0] / error[0]), t2, k, p_value, float(stats.norm.isf(p_value / 2))))
    return Table(rows=rows, names=["map", "centre_sigma", "chi2", "n_ring", "p_value", "sigma"])


def measure_fluxes(
    maps: SkyMaps | NDArray[np.float32],
    positions: Table,
    radius_arcmin: float = 10.0,
    background_arcmin: tuple[float, float] = (15.0, 25.0),
    *,
    pixel_arcmin: float = PIXEL_ARCMIN,
    mask: NDArray[np.bool_] | None = None,
    n_threads: int | None = None,
) -> NDArray[np.float64]:
    """Aperture flux of each source: mean within a disc less the mean in an annulus, times the disc's area.

    Source: Bonjean (2020), Fig. 7: aperture photometry in the y map.

    Parameters
    ----------
    maps : SkyMaps, or (n_pix,) or (n_pix, n_map) float32 array
        RING, Galactic, as for :func:`szeek.stack.stacks.stack_at`.
    positions : Table
        ``lon_deg``, ``lat_deg``.
    radius_arcmin : float
        Of the disc.
    background_arcmin : (float, float)
        Of the annulus.
    pixel_arcmin : float
        Pixel size of the fields in which is summed.
    mask : (n_pix,) bool, optional
        True where pixels count.
    n_threads : int, optional
        Threads that sample the maps. Default: all cores.

    Returns
    -------
    (n, n_map) float64
        Map unit times arcmin^2; NaN where less than half of the disc or of the annulus is seen. No rows
        without positions.

    Raises
    ------
    ValueError
        If the radii do not rise.
    """
    inner, outer = background_arcmin
    if not 0 < radius_arcmin <= inner < outer:
        raise ValueError(
            f"disc of {radius_arcmin:g} and annulus of {inner:g} to {outer:g} arcmin, "
            "expected 0 < disc <= inner < outer"
        )
    sky = as_skymaps(maps, mask)
    lon_deg, lat_deg = (np.asarray(positions[name], float) for name in ("lon_deg", "lat_deg"))
    size = 2 * math.ceil(outer / pixel_arcmin) + 1
    radius = pixel_radius_arcmin(size, pixel_arcmin)
    disc, annulus = radius <= radius_arcmin, (radius >= inner) & (radius < outer)
    area_arcmin2 = 2 * math.pi * (1 - math.cos(math.radians(radius_arcmin / 60))) * (180 * 60 / math.pi) ** 2
    flux = np.full((lon_deg.size, sky.n_band), np.nan)
    fields = sample_fields(sky, lon_deg, lat_deg, np.zeros(lon_deg.size), size, pixel_arcmin, n_threads)
    for k, field in enumerate(fields):
        means = []
        for part in (disc, annulus):
            seen = field[part]
            seen = seen[~np.isnan(seen[:, 0])]
            means.append(seen.mean(axis=0, dtype=float) if 2 * len(seen) >= part.sum() else np.nan)
        flux[k] = (means[0] - means[1]) * area_arcmin2
    return flux


def gaussian_aperture_fraction(
    fwhm_arcmin: float, radius_arcmin: float, background_arcmin: tuple[float, float]
) -> float:
    """Part of a round Gaussian source's flux that :func:`measure_fluxes` finds in its aperture.

    For a source of width sigma, 1 - exp(-r^2 / 2 sigma^2) within the disc, less the annulus' mean times its
    area.

    Examples
    --------
    >>> round(gaussian_aperture_fraction(10.0, 10.0, (15.0, 25.0)), 4)
    0.937
    """

    def enclosed(radius: float) -> float:
        return -math.expm1(-4 * math.log(2) * (radius / fwhm_arcmin) ** 2)

    inner, outer = background_arcmin
    in_annulus = (enclosed(outer) - enclosed(inner)) / (outer**2 - inner**2) * radius_arcmin**2
    return enclosed(radius_arcmin) - in_annulus
