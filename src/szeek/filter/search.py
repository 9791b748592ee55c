"""Clusters found in maps by the matched filter alone: all fields of the sky, one after the other."""

from __future__ import annotations

from collections.abc import Iterable

import healpy
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from szeek.filter.layout import list_fields, own_pixels
from szeek.filter.matchedfilter import FilteredField, Peaks, beam_scale, check_bands_known
from szeek.filter.parts import open_parts, share_pixels
from szeek.inputs.instrument import read_instrument
from szeek.parallel import Progress, spread
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.instrument import Instrument
from szeek.sky.healpix import lonlat_deg, unit_vectors
from szeek.sky.mapset import MapSet
from szeek.sky.partial import PartialMap
from szeek.sky.skymaps import SkyMaps

Map32 = NDArray[np.float32]

# Two detections are one within the radius, or within half of the larger theta500.
_MERGE_ARCMIN, _MERGE_THETA500 = 8.0, 0.5
_ARCMIN = np.pi / 10800


def matched_filter(
    maps: SkyMaps | MapSet,
    *,
    instrument: str | Instrument = "planck-hfi",
    tiles: Iterable[int] | None = None,
    snr_min: float = 4.5,
    threads: int | None = None,
    out: Map32 | PartialMap | None = None,
    progress: Progress | None = None,
) -> Table:
    """Clusters in maps, by the multi-frequency matched filter.

    Source: Melin, Bartlett & Delabrouille (2006); Planck 2015 results XXVII, Sect. 2.

    Deviation: P is measured again without the detections above S/N 4.5. A position belongs to the field whose HEALPix
    pixel (of nside 8, or more for finer maps) it is in. Extended detections on compact sources are kept. Detections
    are merged within 8 arcmin (less with narrow beams, see :func:`beam_scale`) or half of the larger theta500.

    Parameters
    ----------
    maps : SkyMaps or MapSet
        Full sky, or any footprint some degrees wide, of nside 64 or more.
    instrument : str or Instrument
        tSZ response of the bands.
    tiles : iterable of int, optional
        Search these of the 48 tiles only.
    snr_min : float
        Threshold.
    threads : int, optional
        Fields at once; the machine's cores by default. The result does not depend on it.
    out : (n_pix,) float32 or PartialMap, optional
        RING; the best S/N over all sizes is written to the pixels that were searched.
    progress : Progress, optional
        Called as progress(stage, done, total, detail), in fields.

    Returns
    -------
    Table
        Highest S/N first: ``lon_deg``, ``lat_deg`` (Galactic), ``snr``, ``theta500_arcmin`` (of the best size),
        ``y500_arcmin2`` (Compton y in the sphere of R500, for that size: Y5R500 / 1.79), ``y500_err_arcmin2`` (its
        error, for that size). No rows where nothing is above the threshold.

    Raises
    ------
    ValueError
        If the maps have a band that the instrument has not or an nside below 64, or nothing is seen in the tiles.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> from szeek.simulate.inject import inject_clusters
    >>> planck, values = read_instrument(), np.zeros((12 * 512**2, 6), np.float32)
    >>> disc = healpy.query_disc(512, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))
    >>> values[disc] = 1e-5 * planck.tsz_response * np.random.default_rng(1).standard_normal((disc.size, 6))
    >>> maps = SkyMaps(values, values.any(axis=1), planck.bands)
    >>> one = Table({"lon_deg": [120.0], "lat_deg": [50.0], "y500_arcmin2": [2e-2], "theta500_arcmin": [15.0]})
    >>> found = matched_filter(inject_clusters(maps, one, planck), threads=1)
    >>> len(found), bool(abs(found["lat_deg"][0] - 50) < 0.1)
    (1, True)
    """
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    check_bands_known(maps, setup)
    fields = list_fields(maps, tiles)
    if not len(fields):
        raise ValueError("no pixel of the maps is seen in the tiles that were asked for")

    def work(number: int) -> Table:
        pixel = int(fields["pixel"][number])
        place = (pixel, float(fields["lon_deg"][number]), float(fields["lat_deg"][number]))
        parts = open_parts(maps, place, setup)
        highest: Map32 | None = None
        detections = []
        for field, mine in zip(parts, share_pixels(parts, maps, pixel), strict=True):
            best, size = field.best_snr()
            # two more pixels, so that a peak on the border is in one field at least
            peaks = field.find_peaks(best, size, snr_min, ndimage.binary_dilation(mine, iterations=2))
            detections.append(_describe_peaks(field, peaks))
            highest = best if highest is None else np.where(mine, best, highest)
        if out is not None:
            _write_owned(parts[0], np.asarray(highest), pixel, maps, out)
        return vstack(detections)

    found = spread(work, range(len(fields)), threads=threads, progress=progress, stage="filter", detail="fields")
    return merge_detections(vstack([table for _, table in found]), _MERGE_ARCMIN * beam_scale(maps, maps.bands))


def _describe_peaks(field: FilteredField, peaks: Peaks) -> Table:
    """Rows of :func:`matched_filter`."""
    vectors, true_area = field.directions(peaks.row, peaks.column)
    sigma = np.array([field.flux_error(theta) for theta in field.sizes])[peaks.size]
    error = sigma * true_area * field.local_errors(peaks) / Y5R500_PER_Y500
    lon, lat = lonlat_deg(vectors)
    return Table(
        {
            "lon_deg": lon,
            "lat_deg": lat,
            "snr": peaks.snr,
            "theta500_arcmin": field.sizes[peaks.size],
            "y500_arcmin2": peaks.snr * error,
            "y500_err_arcmin2": error,
        }
    )


def merge_detections(detections: Table, radius_arcmin: float = _MERGE_ARCMIN) -> Table:
    """Highest S/N first, without those within 8 arcmin, or half of theta500 if that is more, of a higher one.

    Parameters
    ----------
    detections : Table
        ``lon_deg``, ``lat_deg``, ``snr``, ``theta500_arcmin``.
    radius_arcmin : float
        Another radius.

    Examples
    --------
    >>> found = Table({"lon_deg": [10.0, 10.1, 12.0], "lat_deg": [0.0] * 3, "snr": [5.0, 9.0, 6.0]})
    >>> found["theta500_arcmin"] = 4.0
    >>> merge_detections(found)["snr"].tolist()  # the first is 6 arcmin from the second
    [9.0, 6.0]
    """
    detections = detections[np.argsort(-np.asarray(detections["snr"]), kind="stable")]
    if not len(detections):
        return detections
    vectors = unit_vectors(np.asarray(detections["lon_deg"]), np.asarray(detections["lat_deg"]))
    reach_arcmin = np.maximum(radius_arcmin, _MERGE_THETA500 * np.asarray(detections["theta500_arcmin"]))
    kept = np.ones(len(detections), bool)
    for k, near in enumerate(cKDTree(vectors).query_ball_point(vectors, 2 * np.sin(reach_arcmin * _ARCMIN / 2))):
        if kept[k]:
            kept[[other for other in near if other > k]] = False
    return detections[kept]


def _write_owned(
    field: FilteredField, best: Map32, pixel: int, maps: SkyMaps | MapSet, out: Map32 | PartialMap
) -> None:
    """The best S/N at the HEALPix pixels that a field owns."""
    ipix = own_pixels(maps, pixel)
    values = field.interpolate(best, np.stack(healpy.pix2vec(maps.nside, ipix), axis=1))
    if isinstance(out, PartialMap):
        at = out.find(ipix)
        out.values[at[at >= 0]] = values[at >= 0]
    else:
        out[ipix] = values
