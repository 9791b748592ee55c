"""Matched nulls: positions where nothing is expected, as clean, as high and as dusty as the sources'.

Detections avoid dust, so the bands stacked at them show a *hole* in the dust that is selection, not physics (the
paper's Fig. 4). Random positions of the same latitude and dust level show the same hole; what is left after they
are taken off belongs to the sources.
"""

from __future__ import annotations

import zlib

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from szeek.sky.healpix import unit_vectors
from szeek.sky.skymaps import SkyMaps

_FINE_NSIDE = 8192  # random positions are centres of its pixels, 0.43 arcmin
_LATITUDE_STEP_DEG = 5.0
_DUST_NSIDE = 256


def dust_map(bands: SkyMaps) -> NDArray[np.float64]:
    """The band of highest frequency at nside 256, (12 nside^2,) float64 RING: the dust level of null positions.

    Examples
    --------
    >>> from szeek.sky.skymaps import Band
    >>> values = np.stack([np.full(12 * 64**2, 1.0), np.full(12 * 64**2, 5.0)], axis=1).astype(np.float32)
    >>> bands = Band("143", 143.0, 7.3, "K_CMB"), Band("857", 857.0, 4.6, "MJy/sr")
    >>> dust = dust_map(SkyMaps(values, np.ones(len(values), bool), bands))
    >>> dust.size == 12 * 64**2, float(dust.min())  # nside 256, or that of coarser maps
    (True, 5.0)
    """
    top = int(np.argmax([band.freq_ghz for band in bands.bands]))
    values = np.where(bands.footprint, np.asarray(bands.values[:, top], np.float32), np.float32(healpy.UNSEEN))
    coarse = np.asarray(healpy.ud_grade(values, min(_DUST_NSIDE, bands.nside)), float)
    coarse[coarse == healpy.UNSEEN] = np.nan
    return coarse


def matched_positions(
    positions: Table,
    dust: NDArray[np.floating],
    footprint: NDArray[np.bool_] | None = None,
    *,
    n_dust_bins: int = 20,
    avoid_arcmin: float = 10.0,
    seed: int = 0,
    n_tries: int = 50,
) -> Table:
    """One random position for each source, at its distance from the Galactic plane and its dust level.

    Parameters
    ----------
    positions : Table
        ``lon_deg``, ``lat_deg``.
    dust : (12 nside^2,) float
        RING map of any tracer: E(B-V), or the 857 GHz map. Its pixels are the choices: nside 256 to 512 is right.
    footprint : (12 nside^2,) bool, optional
        RING map, any nside, of where null positions may lie. Default: the whole sky.
    n_dust_bins : int
        Bins of dust level, of equal counts of sources; in each, bins of 5 deg in \\|b\\|.
    avoid_arcmin : float
        Least distance from every source.
    seed : int
        Of the draw.
    n_tries : int
        Draws per source before it is given up.

    Returns
    -------
    Table
        ``lon_deg``, ``lat_deg``, ``source`` (row of the source). A source whose surroundings leave no room has
        none, and is missing.

    Raises
    ------
    ValueError
        If the dust map is no HEALPix map, or not finite at a source.

    Examples
    --------
    >>> dust = np.ones(12 * 64**2)
    >>> one = Table({"lon_deg": [10.0], "lat_deg": [40.0]})
    >>> len(matched_positions(one, dust, n_dust_bins=1))
    1
    """
    nside = healpy.npix2nside(dust.size)
    lon_deg, lat_deg = (np.asarray(positions[name], float) for name in ("lon_deg", "lat_deg"))
    here = healpy.ang2pix(nside, lon_deg, lat_deg, lonlat=True)
    level = dust[here]
    if not np.isfinite(level).all():
        raise ValueError(
            f"the dust map is not finite at {np.count_nonzero(~np.isfinite(level))} of {level.size} sources; "
            "leave those out, or fill the map"
        )
    edges = np.unique(np.quantile(level, np.arange(1, n_dust_bins) / n_dust_bins)) if level.size else np.empty(0)
    map_lat_deg = healpy.pix2ang(nside, np.arange(dust.size), lonlat=True)[1]
    allowed = np.isfinite(dust)
    kind_of_pixel = np.where(allowed, _kind(edges, dust, map_lat_deg), -1)
    order = np.argsort(kind_of_pixel, kind="stable")
    kind_of_source = kind_of_pixel[here]  # that of its pixel, so that there is always a choice
    start = np.searchsorted(kind_of_pixel[order], kind_of_source, side="left")
    n_choice = np.searchsorted(kind_of_pixel[order], kind_of_source, side="right") - start

    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"matched_positions")]))
    tree = cKDTree(unit_vectors(lon_deg, lat_deg)) if level.size else None
    n_child = (_FINE_NSIDE // nside) ** 2
    found = np.full((level.size, 2), np.nan)
    left = np.arange(level.size)
    for _ in range(n_tries):
        if left.size == 0 or tree is None:
            break
        pixel = order[start[left] + rng.integers(0, n_choice[left])]
        fine = healpy.ring2nest(nside, pixel) * n_child + rng.integers(0, n_child, left.size)
        place = np.stack(healpy.pix2ang(_FINE_NSIDE, fine, nest=True, lonlat=True), axis=1)
        distance = tree.query(unit_vectors(place[:, 0], place[:, 1]))[0]
        good = distance > 2 * np.sin(np.radians(avoid_arcmin / 60) / 2)
        if footprint is not None:
            good &= footprint[healpy.ang2pix(healpy.npix2nside(footprint.size), *place.T, lonlat=True)]
        found[left[good]] = place[good]
        left = left[~good]
    kept = np.flatnonzero(np.isfinite(found[:, 0]))
    return Table({"lon_deg": found[kept, 0], "lat_deg": found[kept, 1], "source": kept})


def rotated_positions(positions: Table, angle_deg: float, footprint: NDArray[np.bool_] | None = None) -> Table:
    """The sources turned about the Galactic pole: same latitudes and clustering, other sky.

    Parameters
    ----------
    positions : Table
        ``lon_deg``, ``lat_deg``.
    angle_deg : float
        Added to the longitudes.
    footprint : (12 nside^2,) bool, optional
        Positions that leave it are dropped.

    Returns
    -------
    Table
        ``lon_deg``, ``lat_deg``, ``source`` (row of the source).
    """
    lon_deg = (np.asarray(positions["lon_deg"], float) + angle_deg) % 360
    turned = Table({"lon_deg": lon_deg, "lat_deg": positions["lat_deg"], "source": np.arange(lon_deg.size)})
    if footprint is None:
        return turned
    nside = healpy.npix2nside(footprint.size)
    return turned[footprint[healpy.ang2pix(nside, lon_deg, np.asarray(positions["lat_deg"], float), lonlat=True)]]


def _kind(edges: NDArray[np.floating], dust: NDArray[np.floating], lat_deg: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bin of dust level and of distance from the Galactic plane, as one number."""
    latitude = np.minimum(np.abs(lat_deg) // _LATITUDE_STEP_DEG, 90 // _LATITUDE_STEP_DEG - 1).astype(np.int64)
    return np.searchsorted(edges, dust, side="right") * int(90 // _LATITUDE_STEP_DEG) + latitude
