r"""Superclusters and bridges: is there signal between two clusters that their own discs do not make?

With the clusters at x = -1/2 and 1/2 separations, the excess is

    E = B(0) - B(-1) - B(1) + [B(-3/2) + B(3/2)] / 2,

B(x) the mean in a box about x. Round light f(r) about both clusters gives 2 f(1/2) in the middle and f(1/2) + f(3/2)
on each outer side, so E = f(1) + f(2) - 2 f(3/2): discs fall out whatever their profile, as do a constant and a
slope, and discs that a network paints around clusters cannot fake a bridge. What is left is measured on *control
pairs*: clusters as close on the sky, one at the pair's redshift, the other far behind or in front, so that nothing
physical lies between.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from szeek.sky.healpix import lonlat_deg, unit_vectors
from szeek.sky.projection import field_basis, interpolate
from szeek.sky.skymaps import SkyMaps
from szeek.stack.stacks import as_skymaps

_C_KM_S = 299792.458


class Region(NamedTuple):
    """A part of the sky worth a picture."""

    name: str
    lon_deg: float
    lat_deg: float
    what: str


#: The regions of Bonjean (2020), Fig. 8, centred on clusters in them: PSZ2 position for Coma, MCXC for the others.
REGIONS = (
    Region("Shapley", 311.99, 30.73, "core of the Shapley supercluster, on Abell 3558"),
    Region("A399-A401", 164.25, -39.16, "between Abell 399 and Abell 401"),
    Region("Coma", 57.80, 88.00, "the Coma cluster, Abell 1656"),
    Region("Leo", 235.08, 73.02, "the Leo cluster, Abell 1367"),
)


def find_pairs(
    clusters: Table,
    *,
    separation_arcmin: tuple[float, float] = (20.0, 180.0),
    velocity_km_s: tuple[float, float] = (0.0, 2000.0),
) -> Table:
    """Pairs of clusters by angular separation and by difference of their redshifts.

    Parameters
    ----------
    clusters : Table
        ``lon_deg``, ``lat_deg``, ``z``; NaN redshifts pair with nothing.
    separation_arcmin : (float, float)
        Least and greatest separation.
    velocity_km_s : (float, float)
        Least and greatest ``c |z1 - z2| / (1 + mean z)``. (0, 2000) for physical pairs, (10000, inf) for controls.

    Returns
    -------
    Table
        ``first``, ``second`` (rows), ``lon_deg``, ``lat_deg`` (midpoint), ``angle_deg`` (orientation that puts the
        second cluster on the field's +x axis), ``separation_arcmin``, ``z`` (mean). No rows without pairs.

    Examples
    --------
    >>> clusters = Table({"lon_deg": [10.0, 10.5], "lat_deg": [40.0, 40.0], "z": [0.1, 0.1001]})
    >>> pairs = find_pairs(clusters)
    >>> len(pairs), len(find_pairs(clusters, separation_arcmin=(60.0, 180.0)))
    (1, 0)
    """
    low, high = separation_arcmin
    if not 0 < low < high:
        raise ValueError(f"separation_arcmin is {separation_arcmin}, expected 0 < least < greatest")
    z = np.asarray(clusters["z"], float)
    vectors = unit_vectors(np.asarray(clusters["lon_deg"], float), np.asarray(clusters["lat_deg"], float))
    known = np.flatnonzero(np.isfinite(z))
    pairs = cKDTree(vectors[known]).query_pairs(2 * math.sin(math.radians(high / 60) / 2), output_type="ndarray")
    first, second = known[pairs.reshape(-1, 2)].T
    chord = np.linalg.norm(vectors[first] - vectors[second], axis=1)
    separation = np.degrees(2 * np.arcsin(chord / 2)) * 60
    z_mean = 0.5 * (z[first] + z[second])
    velocity = _C_KM_S * np.abs(z[first] - z[second]) / (1 + z_mean)
    kept = (separation >= low) & (velocity >= velocity_km_s[0]) & (velocity <= velocity_km_s[1])
    first, second, separation, z_mean = first[kept], second[kept], separation[kept], z_mean[kept]
    middle = vectors[first] + vectors[second]
    lon_deg, lat_deg = lonlat_deg(middle)
    angle = [
        _bearing_deg(lon, lat, vector) for lon, lat, vector in zip(lon_deg, lat_deg, vectors[second], strict=True)
    ]
    return Table(
        {
            "first": first,
            "second": second,
            "lon_deg": lon_deg,
            "lat_deg": lat_deg,
            "angle_deg": np.array(angle, float),
            "separation_arcmin": separation,
            "z": z_mean,
        }
    )


def control_pairs(
    clusters: Table,
    pair: Table.Row,
    *,
    least_velocity_km_s: float = 10000.0,
    separation_tolerance: float = 0.15,
    z_tolerance: float = 0.02,
) -> Table:
    """Pairs like one pair on the sky that are not physical: same separation, one member at its redshift.

    Parameters
    ----------
    clusters : Table
        As for :func:`find_pairs`.
    pair : Table.Row
        A row of :func:`find_pairs`.
    least_velocity_km_s : float
        Least difference of redshift.
    separation_tolerance : float
        Relative difference of separation allowed.
    z_tolerance : float
        One member's redshift is within this of the pair's.

    Returns
    -------
    Table
        As :func:`find_pairs`.
    """
    separation = float(pair["separation_arcmin"])
    found = find_pairs(
        clusters,
        separation_arcmin=(separation * (1 - separation_tolerance), separation * (1 + separation_tolerance)),
        velocity_km_s=(least_velocity_km_s, math.inf),
    )
    z = np.asarray(clusters["z"], float)
    like = np.minimum(np.abs(z[found["first"]] - pair["z"]), np.abs(z[found["second"]] - pair["z"])) <= z_tolerance
    return found[like]


def measure_excess(
    maps: SkyMaps | NDArray[np.float32],
    pairs: Table,
    *,
    mask: NDArray[np.bool_] | None = None,
    half_length: float = 0.2,
    half_width: float = 0.15,
) -> NDArray[np.float64]:
    """Signal between the members of each pair over what round light about them and the background make.

    See the head of this module for the estimator.

    Parameters
    ----------
    maps : SkyMaps, or (n_pix,) or (n_pix, n_map) float32 array
        RING, Galactic.
    pairs : Table
        From :func:`find_pairs`.
    mask : (n_pix,) bool, optional
        True where pixels count.
    half_length, half_width : float
        Of the boxes, in separations: along the pair and across.

    Returns
    -------
    (n_pair, n_map) float64
        In the map unit; NaN where a box is more than half masked.
    """
    if not (0 < half_length <= 0.5 and half_width > 0):
        raise ValueError(f"boxes of half sizes {half_length} x {half_width}, expected 0 < length <= 0.5, 0 < width")
    sky = as_skymaps(maps, mask)
    footprint = None if sky.footprint.all() else sky.footprint
    x, y = np.meshgrid(np.linspace(-1, 1, 25) * half_length, np.linspace(-1, 1, 21) * half_width)
    out = np.full((len(pairs), sky.n_band), np.nan)
    for k, pair in enumerate(pairs):
        basis = field_basis(pair["lon_deg"], pair["lat_deg"], pair["angle_deg"])
        scale = 2 * math.tan(math.radians(pair["separation_arcmin"] / 120))  # separation on the tangent plane
        means = []
        for centre in (0.0, -1.0, 1.0, -1.5, 1.5):
            offset = np.stack([np.ones(x.size), (x.ravel() + centre) * scale, y.ravel() * scale], axis=1)
            box = interpolate(sky.values, offset @ basis, footprint)
            box = box[~np.isnan(box[:, 0])]
            means.append(box.mean(axis=0, dtype=float) if 2 * len(box) >= x.size else np.full(sky.n_band, np.nan))
        out[k] = means[0] - means[1] - means[2] + 0.5 * (means[3] + means[4])
    return out


def measure_bridges(
    maps: SkyMaps | NDArray[np.float32],
    clusters: Table,
    pairs: Table,
    *,
    mask: NDArray[np.bool_] | None = None,
    n_controls_min: int = 20,
) -> Table:
    """Excess of each pair beside that of its control pairs, and its significance.

    Parameters
    ----------
    maps, mask
        As for :func:`measure_excess`; the first map counts.
    clusters : Table
        From which control pairs are taken.
    pairs : Table
        From :func:`find_pairs`.
    n_controls_min : int
        Fewest controls for a significance.

    Returns
    -------
    Table
        The pairs with ``excess``, ``n_control``, ``control_mean``, ``control_std``, ``sigma`` (excess less the
        controls' mean in their standard deviations) and ``p_value`` (the fraction of controls, counting the pair
        itself, with at least this excess); NaN with fewer controls.

    Examples
    --------
    >>> import healpy
    >>> clusters = Table({"lon_deg": [100.0, 104.0], "lat_deg": [0.0, 0.0], "z": [0.1, 0.1]})
    >>> lon_deg, lat_deg = healpy.pix2ang(128, np.arange(12 * 128**2), lonlat=True)
    >>> between = (lon_deg > 100) & (lon_deg < 104) & (np.abs(lat_deg) < 1.2)
    >>> pairs = find_pairs(clusters, separation_arcmin=(20, 400))
    >>> bridge = measure_bridges(np.where(between, 0.2, 0).astype(np.float32), clusters, pairs)[0]
    >>> round(float(bridge["excess"]), 2), int(bridge["n_control"])  # two clusters have no control pairs
    (0.2, 0)
    """
    out = pairs.copy()
    out["excess"] = measure_excess(maps, pairs, mask=mask)[:, 0]
    for name in ("n_control", "control_mean", "control_std", "sigma", "p_value"):
        out[name] = 0 if name == "n_control" else np.nan
    for row in out:
        excess = measure_excess(maps, control_pairs(clusters, row), mask=mask)[:, 0]
        excess = excess[np.isfinite(excess)]
        row["n_control"] = excess.size
        if excess.size >= n_controls_min and np.isfinite(row["excess"]):
            row["control_mean"], row["control_std"] = excess.mean(), excess.std(ddof=1)
            row["sigma"] = (row["excess"] - row["control_mean"]) / row["control_std"]
            row["p_value"] = (1 + np.count_nonzero(excess >= row["excess"])) / (1 + excess.size)
    return out


def _bearing_deg(lon_deg: float, lat_deg: float, vector: NDArray[np.float64]) -> float:
    """Angle from east towards north at a position, towards a direction."""
    _, east, north = field_basis(lon_deg, lat_deg)
    return math.degrees(math.atan2(float(vector @ north), float(vector @ east)))
