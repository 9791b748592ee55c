"""Clusters painted on the sphere: the universal pressure profile, projected and seen through each band's beam.

    y(r) = flux  int k dk/(2 pi) s(k theta500) exp(-k^2 sigma^2 / 2) J0(k r)

s is the Fourier transform of the universal pressure profile (:mod:`szeek.physics.gas`), projected, so that the
beam is exact and no projection integral is needed. Every cluster is a sum of round components - a clump, a
bridge, a line of components for an elongated one - so that the beam stays round whatever the cluster's shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numba
import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.special import j0

from szeek.physics.beams import BeamTable
from szeek.physics.gas import MAX_KAPPA, TRUNCATION_R500, profile_transform, y5r500_per_y500
from szeek.simulate.painting import Components, ProfileTable, paint_components
from szeek.sky.healpix import pixel_window_sigma_rad

Floats = NDArray[np.float64]

_ARCMIN = np.pi / 180 / 60
_FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))
_N_RADII = 160
_THETA_STEP = 0.05  # in ln theta500, of the tabulated profiles
_FLUX_INSIDE = 0.998  # a component's disc holds this much of its flux; the rest is scaled back in
_WIDEST_ARCMIN = 240.0  # to which sidelobes are followed
_NEEDED = ("lon_deg", "lat_deg", "theta500_arcmin", "y500_arcmin2")
# Bridge between the members of a merging pair: y of about 1e-5 over 1 x 1.5 Mpc between A399 and A401, 6 % of
# the flux of the two (Planck Intermediate Results VIII, 2013, A&A 550, A134).
_BRIDGE_FRACTION = 0.06


@dataclass(frozen=True)
class Beams:
    """Beams that clusters are painted through.

    Parameters
    ----------
    sigma_arcmin : (n_band,) float64
        Gaussians, or those nearest to the tables, with the pixel window.
    window_arcmin : (n_band,) float64
        Sigma of the pixel window, which tables are without.
    tables : tuple of (BeamTable or None)
        Measured beams; empty where there are none.

    Examples
    --------
    >>> Beams(np.array([1.0, 2.0]), np.zeros(2)).transform(np.array([0.0, 1.0])).round(3).tolist()
    [[1.0, 1.0], [0.607, 0.135]]
    """

    sigma_arcmin: Floats
    window_arcmin: Floats
    tables: tuple[BeamTable | None, ...] = ()

    def transform(self, k: Floats) -> Floats:
        """Of each band at ``k`` (n,) in 1/arcmin: (n, n_band)."""
        out = np.exp(-((k[:, None] * self.sigma_arcmin) ** 2) / 2)
        for b, table in enumerate(self.tables):
            if table is not None:
                out[:, b] = table(k / _ARCMIN) * np.exp(-((k * self.window_arcmin[b]) ** 2) / 2)
        return out


@cache
def _quadrature() -> tuple[Floats, Floats]:
    """Nodes and weights of Gauss-Legendre quadrature, 16 each."""
    return np.polynomial.legendre.leggauss(16)


def _convolved_profile(
    theta_arcmin: float, beams: Beams, radius_arcmin: Floats, profile: str = "universal"
) -> tuple[Floats, Floats]:
    """Surface brightness of a round cluster of unit flux through beams, and the flux inside a radius.

    Returns (n_radius, n_band) in 1/arcmin^2 and (n_radius, n_band) dimensionless.
    """
    k_max = min(5.5 / beams.sigma_arcmin.min(), MAX_KAPPA / theta_arcmin)
    n_panels = int(np.ceil(k_max * radius_arcmin.max() / 12)) + 3
    nodes, weights = _quadrature()
    edges = np.linspace(0.0, k_max, n_panels + 1)
    half = np.diff(edges)[:, None] / 2
    k = (edges[:-1, None] + half * (1 + nodes)).ravel()
    step = (half * weights).ravel()
    shape = profile_transform(k * theta_arcmin, profile)
    seen = shape[:, None] * beams.transform(k)
    phase = np.outer(radius_arcmin, k)
    brightness = j0(phase) @ (seen * (k * step)[:, None]) / (2 * np.pi)
    # The flux inside follows from the brightness; J1 would oscillate about it at large radii.
    area = np.pi * radius_arcmin**2
    rings = np.diff(area)[:, None] * (brightness[1:] + brightness[:-1]) / 2
    inside = np.concatenate([area[0] * brightness[:1], area[0] * brightness[0] + np.cumsum(rings, axis=0)])
    return brightness, inside


def _tabulate_profiles(theta_min: float, theta_max: float, beams: Beams, profile: str) -> ProfileTable:
    """Profiles for theta500 (arcmin) in a range, through beams."""
    sigma_arcmin, at_zero = beams.sigma_arcmin, beams.transform(np.zeros(1))[0]
    n_theta = int(np.ceil(np.log(theta_max / theta_min) / _THETA_STEP)) + 2
    thetas = theta_min * np.exp(_THETA_STEP * np.arange(n_theta))
    core = float(sigma_arcmin.min())
    fraction = np.linspace(0.0, 1.0, _N_RADII)
    edges, values = [], []
    for theta in thetas:
        widest = TRUNCATION_R500 * theta + 6 * sigma_arcmin.max()
        while True:
            radius = core * np.sqrt(np.expm1(np.linspace(0, 1, 240) * np.log1p((widest / core) ** 2)))
            brightness, inside = _convolved_profile(theta, beams, radius, profile)
            inside /= at_zero
            # sidelobes reach farther than the Gaussian nearest to a table
            if not beams.tables or inside[-1].min() > _FLUX_INSIDE or widest > _WIDEST_ARCMIN:
                break
            widest *= 2
        edge = max(np.interp(_FLUX_INSIDE, inside[:, b], radius) for b in range(sigma_arcmin.size))
        target = core * np.sqrt(np.expm1(fraction * np.log1p((edge / core) ** 2)))
        kept = CubicSpline(radius, brightness)(target)
        # Scaled so that the integral of the piecewise-linear table itself is one.
        area = np.pi * target**2
        flux = (np.diff(area)[:, None] * (kept[1:] + kept[:-1]) / 2).sum(axis=0)
        edges.append(edge)
        values.append(np.maximum(kept, 0.0) / flux)
    return ProfileTable(
        float(np.log(theta_min)), _THETA_STEP, np.array(edges), core, np.array(values, dtype=np.float32)
    )


def _join(parts: Sequence[Components]) -> Components:
    return Components(
        np.concatenate([p.lon_deg for p in parts]),
        np.concatenate([p.lat_deg for p in parts]),
        np.concatenate([p.theta_arcmin for p in parts]),
        np.concatenate([p.flux_arcmin2 for p in parts]),
        np.concatenate([p.row for p in parts]),
    )


def _offset(lon_deg: Floats, lat_deg: Floats, angle_deg: Floats, distance_arcmin: Floats) -> tuple[Floats, Floats]:
    """Positions a distance away along a great circle, at an angle from north towards increasing longitude."""
    lat, angle, step = np.radians(lat_deg), np.radians(angle_deg), distance_arcmin * _ARCMIN
    sine = np.clip(np.sin(lat) * np.cos(step) + np.cos(lat) * np.sin(step) * np.cos(angle), -1.0, 1.0)
    turn = np.arctan2(np.sin(angle) * np.sin(step) * np.cos(lat), np.cos(step) - np.sin(lat) * sine)
    return (lon_deg + np.degrees(turn)) % 360.0, np.degrees(np.arcsin(sine))


def _bearing(lon_deg: Floats, lat_deg: Floats, lon2_deg: Floats, lat2_deg: Floats) -> tuple[Floats, Floats]:
    """Angle from north and distance (degrees, arcmin) from the first positions to the second."""
    lat, lat2, turn = np.radians(lat_deg), np.radians(lat2_deg), np.radians(lon2_deg - lon_deg)
    east = np.cos(lat2) * np.sin(turn)
    north = np.cos(lat) * np.sin(lat2) - np.sin(lat) * np.cos(lat2) * np.cos(turn)
    along = np.sin(lat) * np.sin(lat2) + np.cos(lat) * np.cos(lat2) * np.cos(turn)
    return np.degrees(np.arctan2(east, north)), np.arctan2(np.hypot(east, north), along) / _ARCMIN


def _split_components(clusters: Table, sigma_arcmin: float) -> Components:
    """Round components of every cluster; shapes finer than the sharpest beam's sigma are left out."""
    column = {name: np.asarray(clusters[name], np.float64) for name in _NEEDED}
    # Nothing much smaller than the beam needs a profile of its own.
    whole = Components(
        column["lon_deg"],
        column["lat_deg"],
        np.maximum(column["theta500_arcmin"], sigma_arcmin / 10),
        _y5r500_per_y500(clusters) * column["y500_arcmin2"],
        np.arange(len(clusters)),
    )
    if "axis_ratio" not in clusters.colnames:
        return whole
    ratio, angle, clump, distance = (
        np.asarray(clusters[name], np.float64)
        for name in ("axis_ratio", "position_angle_deg", "clump_fraction", "clump_distance")
    )
    theta = whole.theta_arcmin / np.asarray(clusters["concentration"], np.float64)
    whole = Components(whole.lon_deg, whole.lat_deg, theta, whole.flux_arcmin2, whole.row)
    parts = [_draw_bridges(clusters, whole)]
    disturbed = np.flatnonzero((clump > 0) & (whole.theta_arcmin * distance > sigma_arcmin / 2))
    if disturbed.size:
        lon, lat = _offset(
            whole.lon_deg[disturbed],
            whole.lat_deg[disturbed],
            angle[disturbed],
            (distance * column["theta500_arcmin"])[disturbed],
        )
        # A clump of a share f of the flux has about f^(1/5) of the radius (Y ~ M^5/3 ~ R^5).
        share = clump[disturbed]
        parts.append(
            Components(
                lon,
                lat,
                theta[disturbed] * share**0.2,
                whole.flux_arcmin2[disturbed] * share,
                disturbed,
            )
        )
        whole.flux_arcmin2[disturbed] *= 1 - share
    # Elongation: the round profile, narrower by sqrt(q), drawn out by a Gaussian of sigma s along the major
    # axis with r^2 q + s^2 = r^2 / q at the half-light radius r of about theta500 / 2.
    spread = 0.5 * whole.theta_arcmin * np.sqrt(1 / ratio - ratio)
    half = np.where(spread > sigma_arcmin / 2, np.ceil(2.5 * spread / sigma_arcmin), 0).astype(np.int64)
    parts.append(whole.take(half == 0))
    for n in np.unique(half[half > 0]):
        long = whole.take(half == n)
        weight = np.exp(-((2.5 * np.arange(-n, n + 1) / n) ** 2) / 2)
        for step, share in zip(range(-n, n + 1), weight / weight.sum(), strict=True):
            away = 2.5 * spread[half == n] * step / n
            lon, lat = _offset(long.lon_deg, long.lat_deg, angle[half == n], away)
            narrow = long.theta_arcmin * np.sqrt(ratio[half == n])
            parts.append(Components(lon, lat, narrow, long.flux_arcmin2 * share, long.row))
    return _join(parts)


def split_profiles(
    clusters: Table,
    sigma_arcmin: Floats,
    tables: Sequence[BeamTable | None] = (),
    window_arcmin: ArrayLike = 0.0,
) -> Iterator[tuple[Components, ProfileTable]]:
    """What clusters are painted of: round components, and their profile through beams.

    Parameters
    ----------
    clusters : Table
        As :func:`paint_clusters` takes them, at least one.
    sigma_arcmin : (n_band,) float64
        Gaussian beams; shapes finer than the sharpest are left out.
    tables : sequence of (BeamTable or None), optional
        Measured beams of the bands that have one; sigma is then of the Gaussian nearest to it.
    window_arcmin : float or (n_band,) float64
        Sigma of the pixel window, which the tables are without.

    Yields
    ------
    Components, ProfileTable
        Of each pressure profile, for unit flux (:func:`total_response`).
    """
    components = _split_components(clusters, float(sigma_arcmin.min()))
    profiles, window = _profiles(clusters), np.broadcast_to(np.asarray(window_arcmin, np.float64), sigma_arcmin.shape)
    beams = Beams(sigma_arcmin, window, tuple(tables) if any(table is not None for table in tables) else ())
    for name in np.unique(profiles):
        part = components.take(profiles[components.row] == name)
        yield part, _tabulate_profiles(part.theta_arcmin.min(), part.theta_arcmin.max(), beams, str(name))


def total_response(response: Floats, tables: Sequence[BeamTable | None]) -> Floats:
    """The response times b_l at l = 0, which is not 1 where maps are calibrated at another multipole."""
    return response * np.array([1.0 if table is None else table(0.0) for table in tables]) if tables else response


def _profiles(clusters: Table) -> NDArray[np.str_]:
    """Name of each cluster's pressure profile."""
    named = "profile" in clusters.colnames
    return np.asarray(clusters["profile"], str) if named else np.full(len(clusters), "universal")


def _y5r500_per_y500(clusters: Table) -> Floats:
    names, which = np.unique(_profiles(clusters), return_inverse=True)
    return np.array([y5r500_per_y500(str(name)) for name in names])[which]


def _draw_bridges(clusters: Table, whole: Components) -> Components:
    """The gas between the two members of each merging pair: a line of small components, beyond their own flux."""
    pair = np.asarray(clusters["pair_id"], np.int64)
    members = np.flatnonzero(pair >= 0)
    members = members[np.argsort(pair[members], kind="stable")]
    first = members[:-1][pair[members[:-1]] == pair[members[1:]]]
    second = members[1:][pair[members[:-1]] == pair[members[1:]]]
    angle, distance = _bearing(
        whole.lon_deg[first], whole.lat_deg[first], whole.lon_deg[second], whole.lat_deg[second]
    )
    radius = 0.3 * (whole.theta_arcmin[first] + whole.theta_arcmin[second]) / 2
    flux = _BRIDGE_FRACTION * (whole.flux_arcmin2[first] + whole.flux_arcmin2[second])
    parts = []
    for share in np.linspace(0.2, 0.8, 7):
        lon, lat = _offset(whole.lon_deg[first], whole.lat_deg[first], angle, share * distance)
        parts.append(Components(lon, lat, radius, flux / 7, first))
    return _join(parts)


def _check_clusters(clusters: Table) -> None:
    if missing := [name for name in _NEEDED if name not in clusters.colnames]:
        raise ValueError(f"the clusters have no column {', '.join(missing)}, expected {', '.join(_NEEDED)}")
    for name in _NEEDED:
        values = np.asarray(clusters[name], np.float64)
        wrong = ~np.isfinite(values) | (values <= 0 if name == "theta500_arcmin" else False)
        if wrong.any():
            raise ValueError(
                f"{name} of cluster {np.flatnonzero(wrong)[0]} is {values[wrong][0]}, expected a "
                f"{'positive' if name == 'theta500_arcmin' else 'finite'} number; select the clusters that have one"
            )


def paint_clusters(
    clusters: Table,
    nside: int,
    fwhm_arcmin: ArrayLike,
    response: ArrayLike,
    *,
    out: NDArray[np.float32] | None = None,
    pixel_window: ArrayLike = True,
    tables: Sequence[BeamTable | None] = (),
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Paint clusters into the maps of several bands, each through its own beam.

    Source: pressure profile of Arnaud et al. (2010), or of the column ``profile``. The flux of a cluster, summed over
    pixels, is response x 1.79 Y500 to 0.5 % (or as :func:`szeek.physics.gas.y5r500_per_y500` has it).

    Parameters
    ----------
    clusters : Table
        ``lon_deg``, ``lat_deg``, ``theta500_arcmin``, ``y500_arcmin2``; the shape columns of
        :func:`szeek.simulate.haloes.draw_haloes` are used if they are there.
    nside : int
        HEALPix resolution of the maps.
    fwhm_arcmin : (n_band,) float64
        Gaussian beams.
    response : (n_band,) or (n_cluster, n_band) float64
        Signal per unit Compton y, see :func:`szeek.physics.tsz.band_response`.
    out : (12 nside^2, n_band) float32, optional
        RING maps to add to, in place; zeros if not given.
    pixel_window : bool or (n_band,) bool
        Also average over the pixel, as a real map does.
    tables : sequence of (BeamTable or None), optional
        Measured beams of the bands that have one, to be used instead of the Gaussian, which is the nearest to it.
    threads : int, optional
        Number of threads, at most those that numba has, by default all. The result does not depend on it.

    Returns
    -------
    (12 nside^2, n_band) float32
        ``out``.

    Raises
    ------
    ValueError
        For missing columns, values that are not finite, or shapes that do not fit.

    Examples
    --------
    >>> coma = Table({"lon_deg": [58.08], "lat_deg": [87.96], "theta500_arcmin": [48.0], "y500_arcmin2": [0.07]})
    >>> maps = paint_clusters(coma, 256, [10.0, 5.0], [-2.8, 6.2])
    >>> maps.shape, round(float(maps[:, 1].sum() * (4 * np.pi / len(maps)) * (10800 / np.pi) ** 2 / 6.2), 3)
    ((786432, 2), 0.125)
    """
    beams = np.asarray(fwhm_arcmin, np.float64)
    responses = np.asarray(response, np.float64)
    n_pix = 12 * nside * nside
    if nside < 1 or nside & (nside - 1):
        raise ValueError(f"nside is {nside}, expected a power of two")
    if beams.ndim != 1 or not (beams > 0).all():
        raise ValueError(f"fwhm_arcmin is {beams}, expected a positive beam per band")
    if responses.shape not in ((beams.size,), (len(clusters), beams.size)):
        raise ValueError(
            f"response has shape {responses.shape}, expected ({beams.size},) or ({len(clusters)}, {beams.size})"
        )
    if out is None:
        out = np.zeros((n_pix, beams.size), np.float32)
    if out.shape != (n_pix, beams.size) or out.dtype != np.float32:
        raise ValueError(f"out is {out.dtype} {out.shape}, expected float32 ({n_pix}, {beams.size})")
    _check_clusters(clusters)
    if len(clusters) == 0:
        return out
    window = np.where(pixel_window, pixel_window_sigma_rad(nside) / _ARCMIN, 0.0)
    sigma = np.hypot(beams / _FWHM_PER_SIGMA, window)
    threads_before = numba.get_num_threads()
    numba.set_num_threads(min(threads, threads_before) if threads else threads_before)
    try:
        for components, table in split_profiles(clusters, sigma, tables, window):
            paint_components(components, table, nside, sigma, total_response(responses, tables), out)
    finally:
        numba.set_num_threads(threads_before)
    return out


def paint_y(
    clusters: Table,
    nside: int,
    fwhm_arcmin: float,
    *,
    out: NDArray[np.float32] | None = None,
    pixel_window: bool = True,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Paint the Compton y of clusters through one beam; see :func:`paint_clusters`.

    Returns
    -------
    (12 nside^2,) float32
        y, RING; ``out`` if it was given.

    Examples
    --------
    >>> one = Table({"lon_deg": [0.0], "lat_deg": [0.0], "theta500_arcmin": [5.0], "y500_arcmin2": [1e-3]})
    >>> bool(paint_y(one, 512, 10.0).max() > 1e-6)
    True
    """
    column = None if out is None else out.reshape(-1, 1)
    painted = paint_clusters(
        clusters, nside, [fwhm_arcmin], [1.0], out=column, pixel_window=pixel_window, threads=threads
    )
    return painted[:, 0] if out is None else out
