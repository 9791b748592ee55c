"""Round profiles added to the RING pixels of their discs, ring by ring in runs: the inner loops of painting.

The sphere is cut into zones of whole rings that no two threads share, and each zone adds its components in one
order, that of their longitude, so that neighbours share cache lines: the same bits for any number of threads.

Inside a disc of radius R a profile is tabulated at nodes j of ln(1 + r^2/a^2) = j/(n-1) ln(1 + R^2/a^2): fine in
the core, coarse outside, and no square root per pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from szeek.sky.healpix import ring_above, ring_start

Floats = NDArray[np.float64]

_ARCMIN = np.pi / 180 / 60
_N_ZONES = 96
# A Gaussian sampled every p with sigma/p above this conserves its sum to 1e-4 (4 exp(-2 pi^2 0.72^2)).
_SAMPLED = 0.72
# Nearer to a pole the centres of the pixels are not where their area is: sampling would lose up to 4 % there.
_POLAR_LAT_DEG = 88.0


@dataclass(frozen=True)
class Components:
    """Round components of clusters, each (n,): where, how large, how bright, and the cluster they belong to."""

    lon_deg: Floats
    lat_deg: Floats
    theta_arcmin: Floats  #: theta500
    flux_arcmin2: Floats  #: integral of Compton y
    row: NDArray[np.int64]

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Components:
        """Some of them."""
        return Components(
            self.lon_deg[index],
            self.lat_deg[index],
            self.theta_arcmin[index],
            self.flux_arcmin2[index],
            self.row[index],
        )


@dataclass(frozen=True)
class ProfileTable:
    """Beam-convolved profiles of unit flux on an even grid of ln theta500."""

    log_theta_min: float
    log_theta_step: float
    edge_arcmin: Floats  #: (n_theta,): R
    core_arcmin: float  #: a
    values: NDArray[np.float32]  #: (n_theta, n_radius, n_band), 1/arcmin^2


def paint_components(
    components: Components,
    table: ProfileTable,
    nside: int,
    sigma_arcmin: Floats,
    response: Floats,
    out: NDArray[np.float32],
) -> None:
    """Add round components to interleaved RING maps.

    Parameters
    ----------
    components : Components
        What to paint; theta500 within the table's range.
    table : ProfileTable
        Profiles through beams of ``sigma_arcmin`` (n_band,), in arcmin.
    nside : int
        HEALPix resolution of ``out``.
    sigma_arcmin : (n_band,) float64
        Beams (with the pixel window): where pixels are coarse against them, sums are measured and normalised.
    response : (n_band,) or (n_cluster, n_band) float64
        Signal per unit y.
    out : (12 nside^2, n_band) float32
        Added to, in place.
    """
    components = components.take(np.argsort(components.lon_deg % 360.0, kind="stable"))
    lon, z = np.radians(components.lon_deg % 360.0), np.sin(np.radians(components.lat_deg))
    log_theta = np.log(components.theta_arcmin)
    profiles = (table.log_theta_min, table.log_theta_step, table.edge_arcmin, table.core_arcmin, table.values)
    grid = table.log_theta_min + table.log_theta_step * np.arange(table.edge_arcmin.size)
    edge = np.interp(log_theta, grid, table.edge_arcmin) * _ARCMIN
    amplitude = response[components.row] if response.ndim == 2 else response[None, :]
    amplitude = amplitude * components.flux_arcmin2[:, None]
    pixel_arcmin = np.sqrt(4 * np.pi / (12 * nside**2)) / _ARCMIN
    coarse = sigma_arcmin.min() < _SAMPLED * pixel_arcmin
    uneven = np.flatnonzero(coarse | (np.abs(components.lat_deg) > _POLAR_LAT_DEG))
    ranges = _ring_ranges(nside, z, edge)
    amplitude[uneven] /= _measure_sums(nside, ranges[uneven], lon[uneven], z[uneven], log_theta[uneven], *profiles)
    edges = _zone_edges(nside)
    zone_of_ring = np.searchsorted(edges, np.arange(4 * nside), side="right") - 1
    members, start = _sort_into_zones(ranges, zone_of_ring, edges.size - 1)
    _paint_zones(
        nside, edges, members, start, lon, z, ranges, log_theta,
        np.ascontiguousarray(amplitude, np.float32), *profiles, out,
    )  # fmt: skip


def _zone_edges(nside: int) -> NDArray[np.int64]:
    """First rings of zones of about equal area, and one past the last ring."""
    n_zones = min(_N_ZONES, 2 * nside)
    z = np.linspace(1.0, -1.0, n_zones + 1)[1:-1]
    rings = np.array([ring_above(nside, value) for value in z])
    return np.unique(np.concatenate([[1], rings + 1, [4 * nside]]))


@numba.njit(cache=True)
def _paint_rings(
    nside: int,
    first_ring: int,
    last_ring: int,
    lon: float,
    z: float,
    edge: float,
    core: float,
    profile: NDArray[np.float32],
    out: NDArray[np.float32],
    total: NDArray[np.float64],
    write: bool,
) -> None:  # pragma: no cover
    """Add a round profile (n_radius, n_band) to the pixels of its disc that lie in some rings.

    Angles in radians. With ``write`` False the values are summed into ``total`` (n_band,) instead.
    """
    n_radius, n_band = profile.shape
    scale = (n_radius - 1) / np.log1p((edge / core) ** 2)
    inverse_core2 = 1.0 / core**2
    edge2 = edge * edge
    sine = np.sqrt(max(1.0 - z * z, 0.0))
    cos_edge = np.cos(edge)
    for ring in range(first_ring, last_ring + 1):
        start, count, ring_z, first_lon = ring_start(nside, ring)
        ring_sine = np.sqrt(max(1.0 - ring_z * ring_z, 0.0))
        product = sine * ring_sine
        reach = cos_edge - z * ring_z
        step = 2 * np.pi / count
        if reach >= product:
            continue
        if reach <= -product:
            low, number = 0, count
        else:
            half = np.arccos(reach / product)
            low = int(np.ceil((lon - half - first_lon) / step))
            number = min(int(np.floor((lon + half - first_lon) / step)) - low + 1, count)
        # 1 - cos(distance) = (1 - cos(colatitude difference)) + product (1 - cos(longitude difference))
        rise = z * ring_sine - ring_z * sine
        apart = rise * rise / (1.0 + z * ring_z + product) if z * ring_z + product > 0 else 1 - z * ring_z - product
        # sin and cos of half the longitude difference, turned from pixel to pixel
        half_step = 0.5 * step
        turn_sin, turn_cos = np.sin(half_step), np.cos(half_step)
        half_turn = 0.5 * (first_lon + low * step - lon)
        sin_half, cos_half = np.sin(half_turn), np.cos(half_turn)
        low %= count
        for k in range(number):
            along = sin_half
            sin_half, cos_half = (
                sin_half * turn_cos + cos_half * turn_sin,
                cos_half * turn_cos - sin_half * turn_sin,
            )
            chord2 = 2.0 * (apart + 2.0 * product * along * along)
            distance2 = chord2 * (1.0 + chord2 / 12.0)
            if distance2 >= edge2:
                continue
            at = np.log(1.0 + distance2 * inverse_core2) * scale
            node = min(int(at), n_radius - 2)
            share = np.float32(at - node)
            pixel = start + low + k
            if low + k >= count:
                pixel -= count
            if write:
                for b in range(n_band):
                    out[pixel, b] += profile[node, b] + share * (profile[node + 1, b] - profile[node, b])
            else:
                for b in range(n_band):
                    total[b] += profile[node, b] + share * (profile[node + 1, b] - profile[node, b])


@numba.njit(cache=True)
def blend_profile(
    log_theta: float,
    log_theta_min: float,
    step: float,
    edges: Floats,
    values: NDArray[np.float32],
    amplitude: NDArray[np.float32],
    profile: NDArray[np.float32],
) -> float:  # pragma: no cover
    """Fill ``profile`` (n_radius, n_band) for one theta500 and the band amplitudes; return the edge in arcmin."""
    at = (log_theta - log_theta_min) / step
    i = min(max(int(at), 0), edges.size - 2)
    share = at - i
    edge = edges[i] + share * (edges[i + 1] - edges[i])
    # Scaled by the edges' areas, so that the flux of the blend is the blend of the fluxes.
    first = np.float32((1.0 - share) * (edges[i] / edge) ** 2)
    second = np.float32(share * (edges[i + 1] / edge) ** 2)
    for node in range(profile.shape[0]):
        for b in range(profile.shape[1]):
            profile[node, b] = amplitude[b] * (first * values[i, node, b] + second * values[i + 1, node, b])
    return float(edge)


@numba.njit(parallel=True, cache=True)
def _measure_sums(
    nside: int,
    ranges: NDArray[np.int64],
    lon: Floats,
    z: Floats,
    log_theta: Floats,
    log_theta_min: float,
    step: float,
    edges: Floats,
    core_arcmin: float,
    values: NDArray[np.float32],
) -> Floats:  # pragma: no cover
    """Sum over pixels of each component of unit flux, times the pixel area: (n_component, n_band), about 1."""
    sums = np.zeros((lon.size, values.shape[2]))
    area_arcmin2 = 4 * np.pi / (12.0 * nside * nside) * (10800.0 / np.pi) ** 2
    for c in numba.prange(lon.size):
        _measure_sum(
            nside, ranges[c], lon[c], z[c], log_theta[c], log_theta_min, step, edges, core_arcmin, values, sums[c]
        )  # fmt: skip
    return sums * area_arcmin2


@numba.njit(cache=True)
def _measure_sum(
    nside: int,
    rings: NDArray[np.int64],
    lon: float,
    z: float,
    log_theta: float,
    log_theta_min: float,
    step: float,
    edges: Floats,
    core_arcmin: float,
    values: NDArray[np.float32],
    total: Floats,
) -> None:  # pragma: no cover
    """Sum over pixels of one component of unit flux, into ``total`` (n_band,)."""
    n_band = values.shape[2]
    arcmin = np.pi / 10800.0
    nowhere = np.empty((0, n_band), np.float32)
    profile = np.empty(values.shape[1:], np.float32)
    edge = blend_profile(log_theta, log_theta_min, step, edges, values, np.ones(n_band, np.float32), profile)
    _paint_rings(
        nside, rings[0], rings[1], lon, z, edge * arcmin, core_arcmin * arcmin, profile, nowhere, total, False
    )  # fmt: skip


@numba.njit(parallel=True, cache=True)
def _paint_zones(
    nside: int,
    zone_edges: NDArray[np.int64],
    members: NDArray[np.int64],
    member_start: NDArray[np.int64],
    lon: Floats,
    z: Floats,
    ranges: NDArray[np.int64],
    log_theta: Floats,
    amplitude: NDArray[np.float32],
    log_theta_min: float,
    step: float,
    edges: Floats,
    core_arcmin: float,
    values: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:  # pragma: no cover
    """Paint all components, zone by zone: no two threads ever write the same pixel."""
    for zone in numba.prange(zone_edges.size - 1):
        _paint_zone(
            nside, zone_edges[zone], zone_edges[zone + 1] - 1, members[member_start[zone] : member_start[zone + 1]],
            lon, z, ranges, log_theta, amplitude, log_theta_min, step, edges, core_arcmin, values, out,
        )  # fmt: skip


@numba.njit(cache=True)
def _paint_zone(
    nside: int,
    zone_first: int,
    zone_last: int,
    members: NDArray[np.int64],
    lon: Floats,
    z: Floats,
    ranges: NDArray[np.int64],
    log_theta: Floats,
    amplitude: NDArray[np.float32],
    log_theta_min: float,
    step: float,
    edges: Floats,
    core_arcmin: float,
    values: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:  # pragma: no cover
    """Paint what of the components ``members`` lies in the rings zone_first ... zone_last."""
    arcmin = np.pi / 10800.0
    profile = np.empty(values.shape[1:], np.float32)
    unused = np.empty(values.shape[2])
    for c in members:
        edge = blend_profile(log_theta[c], log_theta_min, step, edges, values, amplitude[c], profile)
        _paint_rings(
            nside, max(ranges[c, 0], zone_first), min(ranges[c, 1], zone_last), lon[c], z[c], edge * arcmin,
            core_arcmin * arcmin, profile, out, unused, True,
        )  # fmt: skip


@numba.njit(cache=True)
def _ring_ranges(nside: int, z: Floats, edge: Floats) -> NDArray[np.int64]:  # pragma: no cover
    """First and last ring that a disc (z of its centre, radius in radians) can touch, (n, 2)."""
    ranges = np.empty((z.size, 2), np.int64)
    for c in range(z.size):
        colatitude = np.arccos(z[c])
        top, bottom = colatitude - edge[c], colatitude + edge[c]
        ranges[c, 0] = 1 if top <= 0 else max(ring_above(nside, np.cos(top)), 1)
        ranges[c, 1] = 4 * nside - 1 if bottom >= np.pi else min(ring_above(nside, np.cos(bottom)) + 1, 4 * nside - 1)
    return ranges


@numba.njit(cache=True)
def _sort_into_zones(
    ranges: NDArray[np.int64], zone_of_ring: NDArray[np.int64], n_zones: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:  # pragma: no cover
    """Components of each zone, in their order: ``members[start[zone]:start[zone + 1]]``."""
    start = np.zeros(n_zones + 1, np.int64)
    for c in range(ranges.shape[0]):
        for zone in range(zone_of_ring[ranges[c, 0]], zone_of_ring[ranges[c, 1]] + 1):
            start[zone + 1] += 1
    start = np.cumsum(start)
    members = np.empty(start[-1], np.int64)
    at = start[:-1].copy()
    for c in range(ranges.shape[0]):
        for zone in range(zone_of_ring[ranges[c, 0]], zone_of_ring[ranges[c, 1]] + 1):
            members[at[zone]] = c
            at[zone] += 1
    return members, start
