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
from szeek.sky.skymaps import SkyMaps

log = logging.getLogger(__name__)

#: Directions -> RING pixels of the map as given, shape preserved: what a mistake does to the sky.
Locate = Callable[[NDArray[np.float64]], NDArray[np.int64]]

_CORE_ARCMIN, _RING_ARCMIN, _BACKGROUND_ARCMIN = (0.0, 2.5, 4.5), (7.0, 9.5), (20.0, 26.0)
_POINTS = {0.0: 1, 2.5: 6, 4.5: 10, 7.0: 12, 9.5: 12, 20.0: 16, 26.0: 16}
_CLUSTER_FWHM_ARCMIN = 4.0  # of a typical PSZ2 cluster: most of its y lies within theta500 / 2, 2 to 3 arcmin
_MAX_CLUSTERS, _N_NULL = 2000, 4000
_CLIP = 5.0  # no single cluster counts for more than 5 sigma
_CLEAR, _LIT, _MISTAKE = 8.0, 3.0, 4.0  # significances: beyond doubt; lit; enough to name a mistake (6 are tried)
_MOVED_ARCMIN = 20.0


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
    skymaps: SkyMaps,
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
    skymaps : SkyMaps
        Frequency maps; nside 256 or more shows clusters, nside 1024 or more shows them well.
    clusters : Table
        Cluster table (columns `lon_deg`, `lat_deg`); the first 2000 of a long one, evenly thinned, are used.
    instrument : str or Instrument
        tSZ response and beams of the same bands.
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

    as_given = _locate_as_given(skymaps.nside)
    scores = _scores(skymaps, setup, positions, as_given, rng)
    inside = np.isfinite(scores)
    significance, n_inside = _combine(scores), int(inside.sum())
    if significance >= _CLEAR:
        text = f"the tSZ signal of {n_inside} clusters is detected at their positions, {significance:.1f} sigma"
        log.info("%s", text)
        return PreflightReport(significance, n_inside, True, text)

    tried: dict[str, tuple[float, float]] = {}
    for sentence, locate in _mistakes(skymaps):
        other = _scores(skymaps, setup, positions, locate, rng)
        shift = _shift_arcmin(skymaps.nside, as_given(positions), locate(positions))
        moved = shift > _MOVED_ARCMIN
        tried[sentence] = (_combine(other[moved]), _combine(scores[moved]))
    best = max(tried, key=lambda s: tried[s][0] - max(tried[s][1], 0.0))
    there, here = tried[best]
    if there >= _MISTAKE and there >= 2.0 * here:
        sigmas = f"{there:.1f} sigma there, {here:.1f} where listed"
        raise PreflightError(f"the clusters' tSZ signal is detected {best} ({sigmas})")
    n_there = int(skymaps.footprint[as_given(positions)].sum())
    if n_inside == 0 and n_there:
        text = f"{n_there} clusters are inside, but too near the edge or in too small a field to tell"
        log.info("%s", text)
        return PreflightReport(0.0, 0, False, text, tried)
    if n_inside == 0:
        raise PreflightError(
            f"none of the {len(clusters)} clusters lies inside the maps' footprint, expected some; is the "
            "catalogue in the maps' frame (lon_deg, lat_deg Galactic) and are these the maps meant?"
            f"{_doubt(clusters)}"
        )
    if significance >= _LIT:
        text = f"the tSZ signal of {n_inside} clusters is detected at their positions, {significance:.1f} sigma"
    elif n_inside >= 100:
        raise PreflightError(
            f"{n_inside} clusters show no tSZ signal at their positions ({significance:.1f} sigma, expected "
            f"more than {_LIT:.0f}), nor mirrored, reordered or in the other frame (at most {there:.1f}); "
            f"are these frequency maps of the sky that the catalogue was made from?{_doubt(clusters)}"
        )
    else:
        text = f"{n_inside} clusters are too few to tell ({significance:.1f} sigma); no inconsistency found"
    log.info("%s", text)
    return PreflightReport(significance, n_inside, significance >= _LIT, text, tried)


def _scores(
    skymaps: SkyMaps, instrument: Instrument, positions: NDArray[np.float64], locate: Locate, rng: np.random.Generator
) -> NDArray[np.float64]:
    """tSZ signal at each position in sigmas of shifted positions, shape (n,); NaN outside the footprint."""
    scores = np.full(len(positions), np.nan)
    inside = skymaps.footprint[locate(positions)]
    if not inside.any():
        return scores
    n_shift = int(np.clip(_N_NULL // inside.sum(), 4, 400))
    for n_more in (n_shift, 20 * n_shift):  # in a small field few shifted positions stay inside
        null = _shifted(np.repeat(positions[inside], n_more, axis=0), rng)
        at_null = _features(skymaps, null, locate)
        at_null = at_null[np.isfinite(at_null).all(axis=1)]
        if len(at_null) >= 10 * at_null.shape[1]:
            break
    else:
        return scores
    centre = np.median(at_null, axis=0)
    spread = 1.4826 * np.median(np.abs(at_null - centre), axis=0) + 1e-30
    quiet = (np.abs(at_null - centre) < 6.0 * spread).all(axis=1)
    covariance = np.cov(at_null[quiet], rowvar=False)
    weights = _weights(covariance, *_templates(instrument))
    y_null = (at_null[quiet] - centre) @ weights
    y = (_features(skymaps, positions[inside], locate) - centre) @ weights
    scores[inside] = (y - y_null.mean()) / y_null.std()
    return scores


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


def _templates(instrument: Instrument) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features of a compact cluster of unit peak y, (2 n_band,), and of CMB in core and ring, (2 n_band, 2)."""
    signal, n_band = [], len(instrument.bands)
    for radii in (_CORE_ARCMIN, _RING_ARCMIN):
        for band, response in zip(instrument.bands, instrument.tsz_response, strict=True):
            fwhm2 = band.fwhm_arcmin**2 + _CLUSTER_FWHM_ARCMIN**2
            points = np.array([_POINTS[r] for r in radii], float)
            profile = np.exp(-4.0 * np.log(2.0) * np.array(radii) ** 2 / fwhm2) * _CLUSTER_FWHM_ARCMIN**2 / fwhm2
            signal.append(response * float((points * profile).sum() / points.sum()))
    cmb = np.zeros((2 * n_band, 2))
    cmb[:n_band, 0] = cmb[n_band:, 1] = instrument.unit_per_kcmb
    return np.array(signal), cmb


def _features(skymaps: SkyMaps, positions: NDArray[np.float64], locate: Locate) -> NDArray[np.float64]:
    """Core and ring less background of each band, shape (n, 2 n_band); NaN where a point is not observed."""
    means = []
    seen = np.ones(len(positions), bool)
    for radii in (_CORE_ARCMIN, _RING_ARCMIN, _BACKGROUND_ARCMIN):
        total = np.zeros((len(positions), skymaps.n_band))
        for radius in radii:
            for offset in _around(positions, radius, _POINTS[radius]):
                ipix = locate(offset)
                total += skymaps.values[ipix]
                seen &= skymaps.footprint[ipix]
        means.append(total / sum(_POINTS[r] for r in radii))
    features = np.concatenate([means[0] - means[2], means[1] - means[2]], axis=1)
    features[~seen] = np.nan
    return features


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


# --- the mistakes, each as the pixel that a direction's sky ended up in ------------------------------------


def _mistakes(skymaps: SkyMaps) -> list[tuple[str, Locate]]:
    nside = skymaps.nside
    to_icrs = np.asarray(healpy.Rotator(coord=["G", "C"]).mat)
    given = _locate_as_given(nside)
    tried: list[tuple[str, Locate]] = []
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
    return tried


def _mirror(locate: Locate, normal: NDArray[np.float64]) -> Locate:
    """The sky mirrored in the plane with this unit normal."""
    return lambda v: locate(v - 2.0 * (v @ normal)[..., None] * normal)


def _locate_as_given(nside: int) -> Locate:
    return lambda v: np.asarray(healpy.vec2pix(nside, *np.moveaxis(v, -1, 0)))


def _centre(skymaps: SkyMaps) -> NDArray[np.float64]:
    """Direction of the middle of the footprint."""
    ipix = np.flatnonzero(skymaps.footprint)
    total = np.stack(healpy.pix2vec(skymaps.nside, ipix[:: max(1, len(ipix) // 100_000)])).mean(axis=1)
    return np.asarray(total / np.linalg.norm(total))


def _shift_arcmin(nside: int, a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.float64]:
    cosine = (np.stack(healpy.pix2vec(nside, a)) * np.stack(healpy.pix2vec(nside, b))).sum(axis=0)
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))) * 60.0)
