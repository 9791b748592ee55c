"""Radial profiles of stacks, their covariance and significance, and the flux within an aperture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from szeek.sky.projection import PIXEL_ARCMIN
from szeek.sky.skymaps import SkyMaps
from szeek.stack.stacks import (
    Stack,
    as_skymaps,
    bootstrap_weights,
    effective_groups,
    pixel_radius_arcmin,
    random_groups,
    rings_of_pixels,
    sample_fields,
)


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
    covariance, block_covariance : (n_map, n_ring, n_ring) float64
        Of the rings of each map, by bootstrap over sources and over sky blocks.
    n_group, n_block : int
        Groups that each bootstrap drew from: the degrees of freedom of the covariance, plus one.

    Examples
    --------
    >>> one = np.array([[[0.04]]])
    >>> profile = Profile(("y",), np.array([0.0, 10.0]), np.array([6.7]), np.array([[1.0]]), one, 4 * one, 100, 30)
    >>> profile.error.round(3).item(), profile.block_error.round(3).item()
    (0.2, 0.4)
    >>> profile.to_table()["map", "outer_arcmin", "mean"][0].as_void().item()
    ('y', 10.0, 1.0)
    """

    names: tuple[str, ...]
    edges_arcmin: NDArray[np.float64]
    radius_arcmin: NDArray[np.float64]
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    block_covariance: NDArray[np.float64]
    n_group: int
    n_block: int

    @property
    def error(self) -> NDArray[np.float64]:
        """Standard errors by bootstrap over sources, (n_map, n_ring)."""
        return np.sqrt(np.diagonal(self.covariance, axis1=1, axis2=2))

    @property
    def block_error(self) -> NDArray[np.float64]:
        """Standard errors by bootstrap over sky blocks, (n_map, n_ring)."""
        return np.sqrt(np.diagonal(self.block_covariance, axis1=1, axis2=2))

    def to_table(self) -> Table:
        """One row per map and ring, for profiles.ecsv: ``map``, ``inner_arcmin``, ``outer_arcmin``,
        ``radius_arcmin``, ``mean``, ``error``, ``block_error``, and the ring's rows of both covariances,
        ``covariance`` and ``block_covariance``, (n_ring,) each.
        """
        n_map, n_ring = self.mean.shape
        return Table(
            {
                "map": np.repeat(self.names, n_ring),
                "inner_arcmin": np.tile(self.edges_arcmin[:-1], n_map),
                "outer_arcmin": np.tile(self.edges_arcmin[1:], n_map),
                "radius_arcmin": np.tile(self.radius_arcmin, n_map),
                "mean": self.mean.ravel(),
                "error": self.error.ravel(),
                "block_error": self.block_error.ravel(),
                "covariance": self.covariance.reshape(-1, n_ring),
                "block_covariance": self.block_covariance.reshape(-1, n_ring),
            }
        )


def measure_profile(stack: Stack, edges_arcmin: ArrayLike, *, n_bootstrap: int = 1000, seed: int = 0) -> Profile:
    """Radial profile of a stack with the covariance of its rings, over sources and over sky blocks.

    Source: Bonjean (2020), Fig. 6: profiles with bootstrap errors, background removed source by source (which
    :func:`szeek.stack.stacks.stack_at` did).

    Parameters
    ----------
    stack : Stack
    edges_arcmin : (n_ring + 1,) float
        Borders of the rings, rising.
    n_bootstrap, seed : int
        Draws.

    Returns
    -------
    Profile
        A covariance is NaN for fewer than two groups.

    Raises
    ------
    ValueError
        If the borders do not rise or a ring holds no pixel.

    Examples
    --------
    >>> from szeek.stack.stacks import Field, stack_at
    >>> where = Table({"lon_deg": [0.0, 90.0], "lat_deg": [40.0, 40.0]})
    >>> sky = np.full(12 * 64**2, 3.0, np.float32)
    >>> stack = stack_at(sky, where, Field(size=40, background_arcmin=None), n_threads=1)
    >>> measure_profile(stack, [0, 10, 20]).mean.round(6)
    array([[3., 3.]])
    """
    edges, n_map = np.asarray(edges_arcmin, float), len(stack.names)
    ring = rings_of_pixels(stack.mean.shape[0], stack.pixel_arcmin, edges).ravel()
    member = (ring == np.arange(edges.size - 1)[:, None]).astype(float)  # (n_ring, n_pixel)
    sums = []
    for groups in (stack.sources, stack.blocks):
        fields = groups.total.reshape(len(groups.total), -1, n_map)
        total = np.einsum("rp,gpm->grm", member, fields, optimize=True)
        sums.append((total, groups.weight.reshape(len(fields), -1) @ member.T))
    return _profile(stack, edges, sums, n_bootstrap, seed)


def measure_part(
    stack: Stack, rows: ArrayLike, *, n_groups: int = 100, n_bootstrap: int = 1000, seed: int = 0
) -> Profile:
    """Radial profile of some of a stack's sources, from the rings that were kept of each: no map is read again.

    Parameters
    ----------
    stack : Stack
        Made with ``edges_arcmin``.
    rows : (n_part,) int
        Sources, by their row among the positions: a bin of p, or one of several null sets.
    n_groups : int
        Random groups of them for the bootstrap. The sky blocks are those of the whole stack.
    n_bootstrap, seed : int
        Draws.

    Returns
    -------
    Profile
        That of a stack of these sources alone.

    Raises
    ------
    ValueError
        If the stack has no rings, or no source is chosen.

    Examples
    --------
    >>> from szeek.stack.stacks import Field, stack_at
    >>> where = Table({"lon_deg": [0.0, 90.0], "lat_deg": [0.0, 0.0]})
    >>> sky = np.repeat(np.float32([1, 2]), 12 * 64**2 // 2)
    >>> stack = stack_at(sky, where, Field(background_arcmin=None, edges_arcmin=[0, 10, 20]))
    >>> measure_part(stack, [0, 1]).mean.shape
    (1, 2)
    """
    members = np.asarray(rows, int)
    if stack.rings is None:
        raise ValueError("the stack kept no rings of its sources, expected one made with edges_arcmin")
    if members.size == 0:
        raise ValueError("no source is chosen, expected at least one")
    sums = []
    for group in (random_groups(members.size, n_groups, seed), stack.rings.block[members]):
        number = np.unique(group, return_inverse=True)[1]
        total, weight = (
            np.zeros((number.max() + 1, *values.shape[1:])) for values in (stack.rings.total, stack.rings.weight)
        )
        np.add.at(total, number, stack.rings.total[members])
        np.add.at(weight, number, stack.rings.weight[members])
        sums.append((total, weight))
    return _profile(stack, stack.rings.edges_arcmin, sums, n_bootstrap, seed)


def _profile(
    stack: Stack,
    edges_arcmin: NDArray[np.float64],
    sums: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    n_bootstrap: int,
    seed: int,
) -> Profile:
    """Profile from the sums over groups of sources and over blocks: (n_group, n_ring, n_map), (n_group, n_ring)."""
    radius, ring = stack.radius_arcmin, rings_of_pixels(stack.mean.shape[0], stack.pixel_arcmin, edges_arcmin)
    seen = ring >= 0
    mean_radius = np.bincount(ring[seen], radius[seen]) / np.bincount(ring[seen])
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = (sums[0][0].sum(axis=0) / sums[0][1].sum(axis=0)[:, None]).T
    covariances = []
    for total, weight in sums:
        n_group, n_ring, n_map = total.shape
        covariance = np.full((n_map, n_ring, n_ring), np.nan)
        if n_group > 1:
            drawn = bootstrap_weights(n_group, n_bootstrap, seed)
            with np.errstate(invalid="ignore", divide="ignore"):
                # no matrix product of BLAS, as in measure_error
                again = np.einsum("dg,grm->drm", drawn, total) / np.einsum("dg,gr->dr", drawn, weight)[..., None]
            shrunk = 1 - 1 / effective_groups(weight.sum(axis=1))
            for m in range(n_map):
                covariance[m] = np.cov(again[:, :, m], rowvar=False) / shrunk
        covariances.append(covariance)
    n_group, n_block = (len(total) for total, _ in sums)
    by_source, by_block = covariances
    return Profile(stack.names, edges_arcmin, mean_radius, mean, by_source, by_block, n_group, n_block)


def measure_significance(profile: Profile, nulls: Sequence[Profile] | NDArray[np.float64] = ()) -> Table:
    """Is there a signal? Chi-square of each map's profile against zero or matched nulls, and the first ring in sigma.

    The covariance of the nulls' mean - that within the sets, over their number - is added to the profile's own. It
    comes from ``n_group`` groups, so chi-square is Hotelling's T^2: (n - k) / (k (n - 1)) T^2 is F(k, n - k)
    distributed for k rings and n groups. (The nulls' part is known better than that, which is left out of account.)

    Parameters
    ----------
    profile : Profile
    nulls : sequence of Profile, or (n_map, n_ring) float64, optional
        Of matched null sets (:mod:`szeek.stack.nulls`): their mean is taken off first. An array is taken off as if it
        were known exactly.

    Returns
    -------
    Table
        ``map``, ``centre_sigma``, ``chi2``, ``n_ring``, ``p_value``, ``sigma`` (the p value as Gaussian
        standard deviations, two-sided), with the covariance over sources; then ``block_centre_sigma``,
        ``block_p_value`` and ``block_sigma`` with that over sky blocks, NaN unless there are more blocks than rings.

    Raises
    ------
    ValueError
        If there are not more groups than rings: the covariance has no inverse.

    Examples
    --------
    >>> edges, radius, mean = np.array([0.0, 10.0]), np.array([6.7]), np.array([[1.0]])
    >>> covariance = np.array([[[0.04]]])  # an error of 0.2
    >>> row = measure_significance(Profile(("y",), edges, radius, mean, covariance, covariance, 1000, 1000))[0]
    >>> round(float(row["centre_sigma"]), 3), round(float(row["chi2"]), 3)
    (5.0, 25.0)
    """
    k = profile.mean.shape[1]
    if profile.n_group <= k:
        raise ValueError(f"{k} rings but {profile.n_group} groups of sources, expected more groups: use fewer rings")
    difference, covariance, block_covariance = profile.mean, profile.covariance, profile.block_covariance
    if isinstance(nulls, np.ndarray):
        difference = difference - nulls
    elif nulls:
        difference = difference - np.mean([null.mean for null in nulls], axis=0)
        covariance = covariance + np.mean([null.covariance for null in nulls], axis=0) / len(nulls)
        block_covariance = block_covariance + np.mean([null.block_covariance for null in nulls], axis=0) / len(nulls)
    rows = []
    for m, name in enumerate(profile.names):
        centre, t2, p_value, sigma = _hotelling(difference[m], covariance[m], profile.n_group)
        by_block = (np.nan,) * 4
        if profile.n_block > k:
            by_block = _hotelling(difference[m], block_covariance[m], profile.n_block)
        rows.append((name, centre, t2, k, p_value, sigma, by_block[0], *by_block[2:]))
    names = ["map", "centre_sigma", "chi2", "n_ring", "p_value", "sigma"]
    return Table(rows=rows, names=[*names, "block_centre_sigma", "block_p_value", "block_sigma"])


def _hotelling(
    difference: NDArray[np.float64], covariance: NDArray[np.float64], n: int
) -> tuple[float, float, float, float]:
    """First ring in sigma, T^2, its p value, and that as sigma, of a covariance from n groups."""
    k = difference.size
    if not (np.isfinite(difference).all() and np.isfinite(covariance).all()):
        return (np.nan,) * 4
    t2 = float(difference @ np.linalg.solve(covariance, difference))
    p_value = float(stats.f.sf(t2 * (n - k) / (k * (n - 1)), k, n - k))
    return float(difference[0] / math.sqrt(covariance[0, 0])), t2, p_value, float(stats.norm.isf(p_value / 2))


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

    Examples
    --------
    >>> flat = np.full(12 * 64**2, 3.0, np.float32)
    >>> fluxes = measure_fluxes(flat, Table({"lon_deg": [10.0], "lat_deg": [40.0]}))
    >>> bool(np.abs(fluxes).max() < 1e-3)  # the background is taken off
    True
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
