"""What else than clusters a network tells apart: sources of each class, and what a position is most likely.

p of a class is a score, as that of clusters is; on skies with known truth it becomes a probability
(:mod:`szeek.assess.calibrate`), class by class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import healpy
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from szeek.assess.calibrate import Calibration
from szeek.assess.match import match
from szeek.assess.sources import find_sources
from szeek.inputs.reddening import reddening_mag
from szeek.measure.pairs import list_pairs
from szeek.physics.instrument import Instrument
from szeek.sky.healpix import unit_vectors
from szeek.sky.partial import PartialMap
from szeek.sky.tiles import Tiles, tile_of

#: A source of a class lies within this of what it is; of what is larger, within half of its extent.
CLASS_RADIUS_ARCMIN = 5.0
#: Share of a band's beam within which a compact source in that band is the same.
_SAME_BEAM = 0.6
_ARCMIN = np.pi / 10800

PMap = NDArray[np.float32] | PartialMap


def find_class_sources(
    p_maps: Mapping[str, PMap],
    p_max: float,
    *,
    calibrations: Mapping[str, Calibration] | None = None,
    compact: Table | None = None,
    instrument: Instrument | None = None,
) -> Table:
    """Sources of each class, with their fluxes in every band in which they are seen.

    Parameters
    ----------
    p_maps : mapping of class to map
        As :func:`szeek.find.predict.predict` returns them, of one class each.
    p_max : float
        Threshold on p.
    calibrations : mapping of class to Calibration, optional
        Probability against p.
    compact : Table, optional
        Compact sources of each band (:func:`szeek.filter.compact.find_compact_sources`), with their ``instrument``.
    instrument : Instrument, optional

    Returns
    -------
    Table
        By class, highest p first: ``class``, the columns of :func:`szeek.assess.sources.find_sources`, where
        ``purity`` is the probability that the source is of the class, and of each band ``flux_BAND_mjy`` and
        ``flux_BAND_err_mjy``, NaN where no compact source is seen there.

    Examples
    --------
    >>> p_map = np.zeros(12 * 64**2, np.float32)
    >>> p_map[healpy.ang2pix(64, 30.0, 40.0, lonlat=True)] = 0.8
    >>> found = find_class_sources({"radio": p_map, "co": 0 * p_map}, 0.1)
    >>> found["class"].tolist(), round(float(found["p"][0]), 3)
    (['radio'], 0.8)
    """
    known = calibrations or {}
    tables = []
    for name, p_map in p_maps.items():
        found = find_sources(p_map, p_max, deblend=True, calibration=known.get(name))
        found.add_column(np.full(len(found), name, f"U{max(map(len, p_maps))}"), 0, "class")
        tables.append(found)
    sources = vstack(tables, metadata_conflicts="silent")
    for name in ("purity", "purity_err"):
        if name in sources.colnames:
            sources[name] = np.ma.filled(np.ma.asarray(sources[name], float), np.nan)
    if compact is not None and instrument is not None:
        _add_fluxes(sources, compact, instrument)
    return sources


def _add_fluxes(sources: Table, compact: Table, instrument: Instrument) -> None:
    """Flux of the nearest compact source of each band within a share of its beam."""
    where = unit_vectors(np.asarray(sources["lon_deg"], float), np.asarray(sources["lat_deg"], float))
    for band in instrument.bands:
        own = compact[np.asarray(compact["band"], str) == band.name]
        flux, error = (np.full(len(sources), np.nan, np.float32) for _ in range(2))
        if len(own) and len(sources):
            tree = cKDTree(unit_vectors(np.asarray(own["lon_deg"], float), np.asarray(own["lat_deg"], float)))
            reach = 2 * np.sin(_SAME_BEAM * band.fwhm_arcmin * _ARCMIN / 2)
            distance, nearest = tree.query(where, distance_upper_bound=reach)
            near = np.isfinite(distance)
            flux[near] = np.asarray(own["flux_mjy"], float)[nearest[near]]
            error[near] = np.asarray(own["flux_err_mjy"], float)[nearest[near]]
        sources[f"flux_{band.name}_mjy"], sources[f"flux_{band.name}_err_mjy"] = flux, error


def judge_class_sources(
    sources: Table, truth: Table, tiles: Iterable[int] | Tiles
) -> tuple[Table, NDArray[np.bool_]]:
    """The sources of one class in held-out tiles of a sky with known truth, and which of them are right.

    Parameters
    ----------
    sources : Table
        ``lon_deg``, ``lat_deg``, ``p``.
    truth : Table
        What is there of the class: ``lon_deg``, ``lat_deg``, ``extent_arcmin``
        (:func:`szeek.simulate.classes.list_classes`).
    tiles : Tiles or iterable of int

    Returns
    -------
    sources : Table
        Those in the tiles, with ``tile``.
    real : (n,) bool
        One-to-one; of what is as large as a cell of CO every source inside is right.
    """
    extent = np.asarray(truth["extent_arcmin"], float)
    radius = np.maximum(CLASS_RADIUS_ARCMIN, 0.5 * extent)
    real = np.zeros(len(sources), bool)
    if len(truth) and len(sources):
        real[match(sources, truth, radius)["source"]] = True
        source, entry, _ = list_pairs(sources, truth, radius)
        real[source[extent[entry] > 4 * CLASS_RADIUS_ARCMIN]] = True
    chosen = Tiles.given(tiles)
    tile = tile_of(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]), chosen.nside)
    counted = np.isin(tile, chosen.numbers)
    judged = sources[counted]
    judged["tile"] = tile[counted]
    return judged, real[counted]


def class_probabilities(
    sources: Table, p_maps: Mapping[str, PMap], calibrations: Mapping[str, Calibration]
) -> Table:
    """Probability that something of each class lies within 5 arcmin of a position.

    Parameters
    ----------
    sources : Table
        ``lon_deg``, ``lat_deg``.
    p_maps : mapping of class to map
    calibrations : mapping of class to Calibration
        Of a class that has none p itself is given.

    Returns
    -------
    Table
        ``p_CLASS`` of each, float64; NaN where the map has no value.

    Examples
    --------
    >>> p_map = np.zeros(12 * 64**2, np.float32)
    >>> p_map[healpy.ang2pix(64, 30.0, 40.0, lonlat=True)] = 0.8
    >>> positions = Table({"lon_deg": [30.0, 90.0], "lat_deg": [40.0, 0.0]})
    >>> class_probabilities(positions, {"radio": p_map}, {})["p_radio"].round(2).tolist()
    [0.8, 0.0]
    """
    lon_deg, lat_deg = np.asarray(sources["lon_deg"], float), np.asarray(sources["lat_deg"], float)
    dust = reddening_mag(lon_deg, lat_deg)
    out = Table()
    for name, p_map in p_maps.items():
        p = _highest_near(p_map, unit_vectors(lon_deg, lat_deg).reshape(-1, 3))
        seen = np.isfinite(p)
        if name in calibrations:
            p[seen] = calibrations[name].predict(p[seen], dust[seen])
        out[f"p_{name}"] = p
    return out


def name_classes(sources: Table, classes: Iterable[str]) -> NDArray[np.str_]:
    """The likeliest class of each source, 'cluster' or one of the others; '' where nothing is known.

    Parameters
    ----------
    sources : Table
        ``purity``, or where that was not measured ``p``, of clusters; ``p_CLASS`` of the others.
    classes : iterable of str

    Examples
    --------
    >>> name_classes(Table({"p": [0.9, 0.4], "p_radio": [0.1, 0.8]}), ["radio"]).tolist()
    ['cluster', 'radio']
    """
    names = np.array(["cluster", *classes])
    cluster = np.asarray(sources["purity" if "purity" in sources.colnames else "p"], float)
    p = np.stack([cluster, *(np.asarray(sources[f"p_{name}"], float) for name in names[1:])], axis=1)
    known = np.isfinite(p)
    likeliest = np.where(known, p, -1.0).argmax(axis=1)
    return np.where(known.any(axis=1), names[likeliest], "")


def _highest_near(p_map: PMap, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Highest value within 5 arcmin of directions, the pixel there included."""
    nside = p_map.nside if isinstance(p_map, PartialMap) else healpy.npix2nside(len(p_map))
    out = np.full(len(vectors), np.nan)
    for k, vector in enumerate(vectors):
        near = healpy.query_disc(nside, vector, CLASS_RADIUS_ARCMIN * _ARCMIN)
        values = np.asarray(p_map[np.append(near, healpy.vec2pix(nside, *vector))], float)
        if np.isfinite(values).any():
            out[k] = np.nanmax(values)
    return out


def join_calibrations(calibrations: Mapping[str, Calibration]) -> Table:
    """Calibrations of several classes as one table with the column ``class``, for :func:`split_calibrations`."""
    tables = []
    for name, calibration in calibrations.items():
        table = calibration.to_table()
        table.add_column(np.full(len(table), name), 0, "class")
        tables.append(table)
    joined = vstack(tables, metadata_conflicts="silent")
    joined.meta = {name: dict(table.meta) for name, table in zip(calibrations, tables, strict=True)}
    return joined


def split_calibrations(table: Table) -> dict[str, Calibration]:
    """The inverse of :func:`join_calibrations`.

    Examples
    --------
    >>> line = Calibration(np.array([0.0, 1.0]), np.array([[0.1, 0.9]]), np.zeros(0), "isotonic", 0.3)
    >>> again = split_calibrations(join_calibrations({"radio": line, "co": line}))
    >>> list(again), float(again["co"].predict([0.5])[0])
    (['radio', 'co'], 0.5)
    """
    out = {}
    for name, meta in table.meta.items():
        rows = table[np.asarray(table["class"], str) == name]
        rows.meta = dict(meta)
        out[name] = Calibration.from_table(rows)
    return out
