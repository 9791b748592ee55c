r"""Compact sources in the single bands: what Planck's PCCS2 lists, from the maps at hand.

    v(x) = int d^2k/(2 pi)^2 e^{ikx} B_b / P_b d_b,    1/sigma^2 = int d^2k/(2 pi)^2 B_b^2 / P_b

is the flux sigma^2 v of a point source in band b alone, and sigma its error. The matched filter
(:mod:`szeek.filter.matchedfilter`) makes these maps anyway, for it fills in compact sources before it looks for
clusters; their peaks are listed here, down to S/N 5. A cluster is one of them in the bands in which it is bright.

Source: Tegmark & de Oliveira-Costa (1998), ApJ 500, L83, eq. 5; Planck 2015 results XXVI (A&A 594, A26).
"""

from __future__ import annotations

import math

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from szeek.filter.matchedfilter import FilteredField
from szeek.sky.healpix import unit_vectors

_ARCMIN = math.pi / 10800
_BORDER = 128  # a source in a pixel so many times as fine, beside a field's own, is listed by both


def find_compact_sources(field: FilteredField) -> Table:
    """Point sources of S/N 5 or more in each band of a field, with their flux densities.

    Two peaks of a band are one source where the fainter is as near the brighter as that one's filtered image reaches.

    Parameters
    ----------
    field : FilteredField

    Returns
    -------
    Table
        Brightest first, band by band: ``lon_deg``, ``lat_deg`` (Galactic), ``band`` (its name), ``snr``,
        ``flux_mjy``, ``flux_err_mjy``, ``reach_arcmin`` (how far the source is seen in the filtered band; 0.6 beams
        where sources were fitted together); of sets of maps also whether it was ``subtracted``. No rows where nothing
        is above S/N 5; nothing within 0.3 deg of what is not seen.

    Examples
    --------
    >>> from szeek.filter import matchedfilter
    >>> from szeek.inputs.instrument import read_instrument
    >>> from szeek.sky.skymaps import SkyMaps
    >>> planck = read_instrument("planck-hfi")
    >>> noise = np.random.default_rng(1).normal(size=(12 * 64**2, 6)).astype(np.float32)
    >>> maps = SkyMaps(noise, np.ones(len(noise), bool), planck.bands)
    >>> find_compact_sources(matchedfilter.FilteredField(maps, 30.0, 60.0, planck)).colnames
    ['lon_deg', 'lat_deg', 'band', 'snr', 'flux_mjy', 'flux_err_mjy', 'reach_arcmin']
    """
    if (peaks := field.point_peaks) is None:
        raise ValueError("the field continues from what is known, and has not searched for compact sources")
    setup, names = field.instrument, np.array([band.name for band in field.bands])
    columns = [setup.band_names.index(name) for name in names]
    mjy = 1e9 * field.unit * (setup.mjysr_per_kcmb / setup.unit_per_kcmb)[columns]  # per band unit x sr
    vectors, true_area = field.directions(peaks.row, peaks.column)
    lon_deg, lat_deg = healpy.vec2ang(vectors, lonlat=True)
    error = mjy[peaks.band] * peaks.error * true_area
    found = Table(
        {
            "lon_deg": lon_deg,
            "lat_deg": lat_deg,
            "band": names[peaks.band],
            "snr": peaks.snr,
            "flux_mjy": peaks.snr * error,
            "flux_err_mjy": error,
            "reach_arcmin": peaks.reach_arcmin,
        }
    )
    if field.subtracts:
        found["subtracted"] = peaks.subtracted
    return merge_compact_sources(found)


def owned(sources: Table, pixel: int, nside: int) -> Table:
    """The sources in a field's HEALPix pixel or some arcmin outside: two fields may disagree about the side."""
    vectors = unit_vectors(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]))
    ipix = healpy.vec2pix(_BORDER * nside, *vectors.T, nest=True)
    around = np.vstack([ipix, healpy.get_all_neighbours(_BORDER * nside, ipix, nest=True)])
    return sources[(around // _BORDER**2 == healpy.ring2nest(nside, pixel)).any(axis=0)]


def merge_compact_sources(sources: Table) -> Table:
    """Each source once: in every band, none within the reach of a brighter one.

    Parameters
    ----------
    sources : Table
        As of :func:`find_compact_sources`.

    Examples
    --------
    >>> sources = Table({"band": ["100", "100", "143"], "lon_deg": [10.0, 10.01, 10.0], "lat_deg": [40.0] * 3})
    >>> sources["snr"], sources["reach_arcmin"] = [8.0, 20.0, 6.0], 10.0
    >>> merge_compact_sources(sources)["band", "snr"].as_array().tolist()  # of one place
    [('100', 20.0), ('143', 6.0)]
    """
    sources = sources[np.lexsort((-np.asarray(sources["snr"]), np.asarray(sources["band"])))]
    kept = np.ones(len(sources), bool)
    for name in np.unique(sources["band"]):
        rows: NDArray[np.int64] = np.flatnonzero(sources["band"] == name)
        vectors = unit_vectors(np.asarray(sources["lon_deg"][rows]), np.asarray(sources["lat_deg"][rows]))
        reach = 2 * np.sin(np.asarray(sources["reach_arcmin"][rows]) * _ARCMIN / 2)
        for k, near in enumerate(cKDTree(vectors).query_ball_point(vectors, reach)):
            if kept[rows[k]]:
                kept[rows[[other for other in near if other > k]]] = False
    return sources[kept]
