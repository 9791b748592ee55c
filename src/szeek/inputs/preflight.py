"""Do these maps and these clusters belong together? If not: which mistake fits.

A map that is flipped, framed or ordered wrongly runs silently through every finder and gives a plausible, wrong
catalogue. The clusters themselves tell: in a combination of the bands that holds no CMB, the tSZ signal must
stand at their positions and not beside them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.inputs.instrument import read_instrument
from szeek.physics.instrument import Instrument
from szeek.sky.imagemaps import ImageMaps
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps

log = logging.getLogger(__name__)

Floats = NDArray[np.float64]

# of Planck's beams; scaled with the widest beam, convolved with a cluster, of other instruments
_CORE_ARCMIN, _RING_ARCMIN, _BACKGROUND_ARCMIN = (0.0, 2.5, 4.5), (7.0, 9.5), (20.0, 26.0)
_POINTS = {0.0: 1, 2.5: 6, 4.5: 10, 7.0: 12, 9.5: 12, 20.0: 16, 26.0: 16}
_PLANCK_FWHM_ARCMIN = 9.68  # of its widest, at 100 GHz
_CLUSTER_FWHM_ARCMIN = 4.0  # of a typical PSZ2 cluster: most of its y lies within theta500 / 2, 2 to 3 arcmin
_MAX_CLUSTERS, _N_NULL = 2000, 4000
_CLIP = 5.0  # no single cluster counts for more than 5 sigma
_CLEAR, _LIT, _MISTAKE = 8.0, 3.0, 4.0  # significances: beyond doubt; lit; enough to name a mistake (6 are tried)
_MOVED_ARCMIN = 20.0


@dataclass(frozen=True)
class _Reading:
    """The sky as given, or as a mistake has it.

    ``look``: directions (n, 3) to values (n, n_band), NaN where not observed. ``move``: directions to those in which
    the map has their sky.
    """

    look: Callable[[Floats], NDArray[np.float32]]
    move: Callable[[Floats], Floats]


@dataclass(frozen=True)
class _Finding:
    """What the clusters say about maps of one grid."""

    significance: float
    n_inside: int
    n_there: int
    tried: dict[str, tuple[float, float]]


class PreflightError(ValueError):
    """Maps and clusters do not belong together."""


@dataclass(frozen=True)
class PreflightReport:
    """What the clusters say about the maps.

    Parameters
    ----------
    significance : float
        Stacked tSZ signal at the clusters' positions, in sigmas of shifted positions; no cluster counts beyond 5.
    n_clusters : int
        Clusters inside the footprint that were used.
    lit : bool
        True where the signal is there (3 sigma or more).
    sentence : str
        The finding in words.
    alternatives : dict of str to tuple of float
        For each mistake that was tried: significance where it moves the clusters to, and, of the same clusters,
        where they are listed. Empty where the signal was beyond doubt at once.
    """

    significance: float
    n_clusters: int
    lit: bool
    sentence: str
    alternatives: dict[str, tuple[float, float]] = field(default_factory=dict)


def preflight(
    skymaps: SkyMaps | MapSet,
    clusters: Table,
    instrument: str | Instrument = "planck-hfi",
    *,
    seed: int = 1,
) -> PreflightReport:
    """Look for the clusters' stacked tSZ signal, and for the mistake that fits where it is not there.

    Each band's brightness in a disc and a ring about a position, less a background ring 20 to 26 arcmin away,
    is combined with the weights that keep the tSZ spectrum, null the CMB and have the least variance over positions
    shifted by 1 to 3 deg.

    Source: Remazeilles, Delabrouille & Cardoso (2011, MNRAS 410, 2481): the constrained ILC.
    Deviation: two radial bins instead of needlets, weights from the shifted positions of this catalogue.

    Parameters
    ----------
    skymaps : SkyMaps or MapSet
        Frequency maps; nside 256 or more shows clusters, nside 1024 or more shows them well. Each group of a set is
        looked at by itself.
    clusters : Table
        Cluster table (columns `lon_deg`, `lat_deg`); the first 2000 of a long one, evenly thinned, are used.
    instrument : str or Instrument
        tSZ response and beams of the bands.
    seed : int
        Draws the shifted positions.

    Returns
    -------
    PreflightReport
        Where too few clusters lie inside to tell either way, ``lit`` is False and the sentence says so.

    Raises
    ------
    PreflightError
        The clusters' signal lies elsewhere, and the message names the mistake; or 100 clusters and more show nothing.
    ValueError
        The table is empty.
    """
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    if not len(clusters):
        raise ValueError("the cluster table is empty, expected at least one cluster to look for")
    step = -(-len(clusters) // _MAX_CLUSTERS)
    lon_deg, lat_deg = (np.asarray(clusters[c], np.float64)[::step] for c in ("lon_deg", "lat_deg"))
    positions = np.asarray(healpy.ang2vec(lon_deg, lat_deg, lonlat=True)).reshape(-1, 3)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0x5E7F]))
    groups = skymaps.groups if isinstance(skymaps, MapSet) else (skymaps,)
    found = []
    for group in groups:
        own = setup if group is skymaps else setup.select([setup.band_names.index(b.name) for b in group.bands])
        found.append(_examine(group, own, positions, rng))
    best = max(found, key=lambda finding: (finding.significance, finding.n_inside))
    text = _judge(best, clusters)
    log.info("%s", text)
    return PreflightReport(best.significance, best.n_inside, best.significance >= _LIT, text, best.tried)


def _examine(group: SkyMaps | ImageMaps, setup: Instrument, positions: Floats, rng: np.random.Generator) -> _Finding:
    """The clusters' signal where they are listed, and, unless it is beyond doubt, where each mistake moves them to.

    Raises
    ------
    PreflightError
        Names the mistake that fits.
    """
    given = _read_as_given(group)
    scores = _scores(given, setup, positions, rng)
    significance, n_inside = _combine(scores), int(np.isfinite(scores).sum())
    if significance >= _CLEAR:
        return _Finding(significance, n_inside, n_inside, {})
    tried: dict[str, tuple[float, float]] = {}
    for sentence, reading in _mistakes(group):
        other = _scores(reading, setup, positions, rng)
        moved = _shift_arcmin(given.move(positions), reading.move(positions)) > _MOVED_ARCMIN
        tried[sentence] = (_combine(other[moved]), _combine(scores[moved]))
    best = _likeliest(tried)
    there, here = tried[best]
    if there >= _MISTAKE and there >= 2.0 * here:
        sigmas = f"{there:.1f} sigma there, {here:.1f} where listed"
        names = f" in {', '.join(setup.band_names)}" if isinstance(group, ImageMaps) else ""
        raise PreflightError(f"the clusters' tSZ signal is detected{names} {best} ({sigmas})")
    n_there = 0 if n_inside else int(np.isfinite(given.look(positions)).all(axis=1).sum())
    return _Finding(significance, n_inside, n_there, tried)


def _likeliest(tried: dict[str, tuple[float, float]]) -> str:
    """The mistake that gains most."""
    return max(tried, key=lambda sentence: tried[sentence][0] - max(tried[sentence][1], 0.0))


def _judge(found: _Finding, clusters: Table) -> str:
    """The finding in words.

    Raises
    ------
    PreflightError
        If no cluster is inside, or 100 and more show nothing.
    """
    sigmas = f"{found.significance:.1f} sigma"
    if found.n_inside == 0 and found.n_there:
        return f"{found.n_there} clusters are inside, but too near the edge or in too small a field to tell"
    if found.n_inside == 0:
        raise PreflightError(
            f"none of the {len(clusters)} clusters lies inside the maps' footprint, expected some; is the "
            "catalogue in the maps' frame (lon_deg, lat_deg Galactic) and are these the maps meant?"
            f"{_doubt(clusters)}"
        )
    if found.significance >= _LIT:
        return f"the tSZ signal of {found.n_inside} clusters is detected at their positions, {sigmas}"
    if found.n_inside >= 100:
        elsewhere = found.tried[_likeliest(found.tried)][0]
        raise PreflightError(
            f"{found.n_inside} clusters show no tSZ signal at their positions ({sigmas}, expected "
            f"more than {_LIT:.0f}), nor mirrored, reordered or in the other frame (at most {elsewhere:.1f}); "
            f"are these frequency maps of the sky that the catalogue was made from?{_doubt(clusters)}"
        )
    return f"{found.n_inside} clusters are too few to tell ({sigmas}); no inconsistency found"


def _scores(
    reading: _Reading, instrument: Instrument, positions: Floats, rng: np.random.Generator
) -> NDArray[np.float64]:
    """tSZ signal at each position in sigmas of shifted positions, shape (n,); NaN outside the footprint."""
    scores = np.full(len(positions), np.nan)
    inside = np.isfinite(reading.look(positions)).all(axis=1)
    if not inside.any():
        return scores
    scale = _scale(instrument)
    n_shift = int(np.clip(_N_NULL // inside.sum(), 4, 400))
    for n_more in (n_shift, 20 * n_shift):  # in a small field few shifted positions stay inside
        null = _shifted(np.repeat(positions[inside], n_more, axis=0), rng)
        at_null = _features(reading, null, scale)
        at_null = at_null[np.isfinite(at_null).all(axis=1)]
        if len(at_null) >= 10 * at_null.shape[1]:
            break
    else:
        return scores
    centre = np.median(at_null, axis=0)
    spread = 1.4826 * np.median(np.abs(at_null - centre), axis=0) + 1e-30
    quiet = (np.abs(at_null - centre) < 6.0 * spread).all(axis=1)
    covariance = np.cov(at_null[quiet], rowvar=False)
    weights = _weights(covariance, *_templates(instrument, scale))
    y_null = (at_null[quiet] - centre) @ weights
    y = (_features(reading, positions[inside], scale) - centre) @ weights
    scores[inside] = (y - y_null.mean()) / y_null.std()
    return scores


def _scale(instrument: Instrument) -> float:
    """Of the radii, over those for Planck: with the widest beam, convolved with a cluster."""
    widest = max(band.fwhm_arcmin for band in instrument.bands)
    return float(np.hypot(widest, _CLUSTER_FWHM_ARCMIN) / np.hypot(_PLANCK_FWHM_ARCMIN, _CLUSTER_FWHM_ARCMIN))


def _combine(scores: NDArray[np.float64]) -> float:
    """Significance of the stack, 0 where there is none; each member clipped to 5 sigma."""
    good = scores[np.isfinite(scores)]
    return float(np.clip(good, -_CLIP, _CLIP).sum() / np.sqrt(len(good))) if len(good) else 0.0


def _weights(
    covariance: NDArray[np.float64], signal: NDArray[np.float64], cmb: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weights of least variance with unit response to `signal` and none to the columns of `cmb`."""
    spread = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(spread, spread) + 1e-6 * np.eye(len(spread))
    constraints = np.column_stack([signal, cmb]) / spread[:, None]
    solved = np.linalg.solve(correlation, constraints)
    unit = np.zeros(constraints.shape[1])
    unit[0] = 1.0
    return np.asarray(solved @ np.linalg.solve(constraints.T @ solved, unit) / spread)


def _templates(instrument: Instrument, scale: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features of a compact cluster of unit peak y, (2 n_band,), and of CMB in core and ring, (2 n_band, 2).

    Of a single band the CMB cannot be nulled: (2, 0).
    """
    signal, n_band = [], len(instrument.bands)
    for radii in (_CORE_ARCMIN, _RING_ARCMIN):
        for band, response in zip(instrument.bands, instrument.tsz_response, strict=True):
            fwhm2 = band.fwhm_arcmin**2 + _CLUSTER_FWHM_ARCMIN**2
            points = np.array([_POINTS[r] for r in radii], float)
            at = np.array(radii) * scale
            profile = np.exp(-4.0 * np.log(2.0) * at**2 / fwhm2) * _CLUSTER_FWHM_ARCMIN**2 / fwhm2
            signal.append(response * float((points * profile).sum() / points.sum()))
    cmb = np.zeros((2 * n_band, 2))
    cmb[:n_band, 0] = cmb[n_band:, 1] = instrument.unit_per_kcmb
    return np.array(signal), cmb if n_band > 1 else cmb[:, :0]


def _features(reading: _Reading, positions: Floats, scale: float) -> NDArray[np.float64]:
    """Core and ring less background of each band, shape (n, 2 n_band); NaN where a point is not observed."""
    means = []
    for radii in (_CORE_ARCMIN, _RING_ARCMIN, _BACKGROUND_ARCMIN):
        points = (offset for radius in radii for offset in _around(positions, radius * scale, _POINTS[radius]))
        total = reading.look(next(points)).astype(np.float64)
        for offset in points:
            total += reading.look(offset)
        means.append(total / sum(_POINTS[r] for r in radii))
    return np.concatenate([means[0] - means[2], means[1] - means[2]], axis=1)


def _around(positions: NDArray[np.float64], radius_arcmin: float, n_point: int) -> list[NDArray[np.float64]]:
    """Unit vectors at a distance from each position, one (n, 3) array for each of n_point directions."""
    east, north = _tangents(positions)
    radius = np.radians(radius_arcmin / 60.0)
    angles = 2.0 * np.pi * np.arange(n_point) / n_point
    return [np.cos(radius) * positions + np.sin(radius) * (np.cos(a) * north + np.sin(a) * east) for a in angles]


def _shifted(positions: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Each position moved by 1 to 3 deg in a random direction."""
    east, north = _tangents(positions)
    angle = rng.uniform(0.0, 2.0 * np.pi, len(positions))[:, None]
    radius = np.radians(rng.uniform(1.0, 3.0, len(positions)))[:, None]
    return np.asarray(np.cos(radius) * positions + np.sin(radius) * (np.cos(angle) * north + np.sin(angle) * east))


def _tangents(positions: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors to the east and north of each position; at a pole any orthogonal pair."""
    east = np.stack([-positions[:, 1], positions[:, 0], np.zeros(len(positions))], axis=1)
    length = np.linalg.norm(east, axis=1, keepdims=True)
    east = np.where(length > 1e-12, east / np.maximum(length, 1e-12), [0.0, 1.0, 0.0])
    return east, np.cross(positions, east)


def _doubt(clusters: Table) -> str:
    """What the numbers of right ascension look like, where they look like no degrees; '' where they may be some."""
    if len(clusters) < 10 or not {"ra_deg", "dec_deg"} <= set(clusters.colnames):
        return ""
    ra_deg, dec_deg = (np.asarray(clusters[name], float) for name in ("ra_deg", "dec_deg"))
    if ra_deg.max() < 2 * np.pi and np.abs(dec_deg).max() < np.pi / 2:
        return " All positions are small numbers: state the columns' unit, rad, if they are radians."
    if ra_deg.max() < 24.0 and np.ptp(dec_deg) > 30.0:
        return " All right ascensions are below 24: state the column's unit, hourangle, if they are hours."
    return ""


# --- the mistakes, each as what it does to the sky ---------------------------------------------------------------


def _read_as_given(group: SkyMaps | ImageMaps) -> _Reading:
    if isinstance(group, ImageMaps):
        return _Reading(group.nearest, lambda v: v)
    return _read_pixels(group, _locate_as_given(group.nside))


def _read_pixels(skymaps: SkyMaps, locate: Callable[[Floats], NDArray[np.int64]]) -> _Reading:
    """HEALPix maps whose sky in these directions is in these RING pixels."""

    def look(v: Floats) -> NDArray[np.float32]:
        ipix = locate(v)
        values: NDArray[np.float32] = skymaps.values[ipix]
        values[~skymaps.footprint[ipix]] = np.nan
        return values

    return _Reading(look, lambda v: np.stack(healpy.pix2vec(skymaps.nside, locate(v)), axis=1))


def _mistakes(group: SkyMaps | ImageMaps) -> list[tuple[str, _Reading]]:
    return _mistakes_of_images(group) if isinstance(group, ImageMaps) else _mistakes_of_healpix(group)


def _mistakes_of_images(images: ImageMaps) -> list[tuple[str, _Reading]]:
    """Signs of CDELT, arrays that run the other way than their header says, and frames."""
    grid = images.grid
    to_icrs = np.asarray(healpy.Rotator(coord=["G", "C"]).mat)

    def read(move: Callable[[Floats], Floats]) -> _Reading:
        def look(v: Floats) -> NDArray[np.float32]:
            there = move(v)
            seen = np.isfinite(there).all(axis=1)
            values = np.full((len(v), images.n_band), np.nan, np.float32)
            values[seen] = images.nearest(there[seen])
            return values

        return _Reading(look, move)

    def flip(row: float | None, column: float | None) -> Callable[[Floats], Floats]:
        """Rows or columns mirrored about twice these."""

        def move(v: Floats) -> Floats:
            i, j = grid.pixels(v)
            return grid.directions(i if row is None else row - i, j if column is None else column - j)

        return move

    (ny, nx), (row0, column0) = grid.shape, grid.reference
    flips = [
        ("at mirrored longitudes: the map's x axis runs the other way; check the sign of CDELT1", None, 2 * column0),
        ("at mirrored latitudes: the map's y axis runs the other way; check the sign of CDELT2", 2 * row0, None),
    ]
    if abs(2 * column0 - (nx - 1)) > 2:
        flips.append(("with columns in reverse: the array is flipped in x and its header is not", None, nx - 1.0))
    if abs(2 * row0 - (ny - 1)) > 2:
        flips.append(("with rows in reverse: the array is flipped in y and its header is not", ny - 1.0, None))
    tried = [(sentence, read(flip(row, column))) for sentence, row, column in flips]
    tried += [
        (
            "when the map is taken for equatorial: it is not Galactic, or the catalogue's RA and Dec hold "
            "Galactic positions; pass frame='icrs'",
            read(lambda v: v @ to_icrs.T),
        ),
        (
            "when their positions are taken for equatorial: the catalogue's Galactic columns hold RA and Dec, or "
            "a Galactic map was read as equatorial; pass frame='galactic'",
            read(lambda v: v @ to_icrs),
        ),
    ]
    return tried


def _mistakes_of_healpix(skymaps: SkyMaps) -> list[tuple[str, _Reading]]:
    nside = skymaps.nside
    to_icrs = np.asarray(healpy.Rotator(coord=["G", "C"]).mat)
    given = _locate_as_given(nside)
    tried: list[tuple[str, Callable[[Floats], NDArray[np.int64]]]] = []
    if skymaps.footprint.mean() > 0.3:
        tried += [
            (
                "at mirrored longitudes: the map's x axis runs the other way (or its longitudes are negated)",
                lambda v: given(v * [1.0, -1.0, 1.0]),
            ),
            ("at mirrored latitudes: the map is upside down", lambda v: given(v * [1.0, 1.0, -1.0])),
        ]
    else:
        centre = _centre(skymaps)
        for name, frame in (("right ascensions", to_icrs), ("longitudes", np.eye(3))):
            east = _tangents((frame @ centre)[None])[0][0] @ frame
            tried.append(
                (
                    f"at mirrored {name}: the map's x axis runs the other way; check the sign of CDELT1",
                    _mirror(given, east),
                )
            )
    tried += [
        (
            "at positions exchanged between RING and NESTED: the map is NESTED but was read as RING; "
            "pass ordering='NESTED'",
            lambda v: np.asarray(healpy.vec2pix(nside, *np.moveaxis(v, -1, 0), nest=True)),
        ),
        (
            "at positions exchanged between RING and NESTED: the map is RING but was read as NESTED; "
            "pass ordering='RING'",
            lambda v: np.asarray(healpy.nest2ring(nside, given(v))),
        ),
        (
            "when the map is taken for equatorial: it is not Galactic, or the catalogue's RA and Dec hold "
            "Galactic positions; pass frame='icrs'",
            lambda v: given(v @ to_icrs.T),
        ),
        (
            "when their positions are taken for equatorial: the catalogue's Galactic columns hold RA and Dec, or "
            "a Galactic map was read as equatorial; pass frame='galactic'",
            lambda v: given(v @ to_icrs),
        ),
    ]
    return [(sentence, _read_pixels(skymaps, locate)) for sentence, locate in tried]


def _mirror(locate: Callable[[Floats], NDArray[np.int64]], normal: Floats) -> Callable[[Floats], NDArray[np.int64]]:
    """The sky mirrored in the plane with this unit normal."""
    return lambda v: locate(v - 2.0 * (v @ normal)[..., None] * normal)


def _locate_as_given(nside: int) -> Callable[[Floats], NDArray[np.int64]]:
    return lambda v: np.asarray(healpy.vec2pix(nside, *np.moveaxis(v, -1, 0)))


def _centre(skymaps: SkyMaps) -> NDArray[np.float64]:
    """Direction of the middle of the footprint."""
    ipix = np.flatnonzero(skymaps.footprint)
    total = np.stack(healpy.pix2vec(skymaps.nside, ipix[:: max(1, len(ipix) // 100_000)])).mean(axis=1)
    return np.asarray(total / np.linalg.norm(total))


def _shift_arcmin(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.degrees(np.arccos(np.clip((a * b).sum(axis=1), -1.0, 1.0))) * 60.0)
