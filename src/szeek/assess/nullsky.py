"""Purity without truth: what is found in a sky that has no clusters, made from the maps themselves.

* **Flipped**: every band times -1. CMB and noise are as before, clusters are what they never are, brighter below 217
  GHz and darker above. What is skewed is not as before: a radio source becomes a deficit at low frequencies, as a
  cluster is. Sources of the flipped sky where the maps have a radio or dusty source are therefore left out, and with
  them whatever such sources do in the sky itself: this purity is an upper limit.
* **Rotated**: bands turned about the Galactic axis by different quarter turns. Latitudes and everything that is in
  one band stay; nothing lies in two bands at the same place. The CMB does not cancel between bands any more, and a
  network that looks at differences of bands sees far more noise than there is: a lower limit, and a poor one.

A set of images on grids of their own is flipped alone, and the point sources that the filter lists are subtracted
first: at 1.4 arcmin there are more of them than clusters, and upside down each would be one. Rotated it cannot be,
for it covers a part of the sky.

What is found there per area, over what is found in the sky itself, is the share that is false; the two err
differently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from szeek.assess.match import chance_rate, further_peaks, match
from szeek.measure.pairs import truth_radius
from szeek.physics.instrument import Instrument
from szeek.simulate.components.sources import Sources
from szeek.simulate.imagepainting import paint_sources_on
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps

#: Kinds of :func:`szeek.measure.photometry.fit_kind` that shine in the maps: the flipped sky has a hole there.
SHINING = ("radio", "dusty", "cold clump")
#: Thresholds on p at which purity is told.
THRESHOLDS = (0.1, 0.2, 0.5, 0.7, 0.9, 0.95, 0.99)


def flip_signs(maps: SkyMaps) -> SkyMaps:
    """The bands times -1; without S/N maps, which are to be made again.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> bands = read_instrument("planck-hfi").bands
    >>> ones = SkyMaps(np.ones((48, 6), np.float32), np.ones(48, bool), bands)
    >>> float(flip_signs(ones).values.max())
    -1.0
    """
    return SkyMaps(-np.asarray(maps.values), np.array(maps.footprint), maps.bands, ivar=maps.ivar)


def flip_set(maps: MapSet, compact: Table, instrument: Instrument) -> MapSet:
    """The bands of a set times -1, without the point sources that were found in them; without S/N maps.

    Parameters
    ----------
    maps : MapSet
    compact : Table
        ``lon_deg``, ``lat_deg``, ``band``, ``flux_mjy`` and ``subtracted``, as
        :func:`szeek.filter.compact.find_compact_sources` has them.
    instrument : Instrument
        That has the bands.
    """
    found = compact[np.asarray(compact["subtracted"], bool)]
    names = np.char.strip(np.asarray(found["band"], str))
    groups: list[SkyMaps | ImageMaps] = []
    for group in maps.groups:
        own = instrument.select([instrument.band_names.index(band.name) for band in group.bands])
        if isinstance(group, SkyMaps):
            groups.append(flip_signs(group))
            continue
        flux_jy = 1e-3 * np.asarray(found["flux_mjy"], float)[:, None] * (names[:, None] == own.band_names)
        sources = Sources(
            np.asarray(found["lon_deg"], float), np.asarray(found["lat_deg"], float), -flux_jy, np.zeros(len(found))
        )
        images = [np.asarray(part.values, np.float32) * np.float32(part.factor) for part in group.signal]
        unseen = [~np.isfinite(image) | (image == 0.0) for image in images]
        paint_sources_on(group.grid, sources, own, np.array([band.fwhm_arcmin for band in group.bands]), images)
        for image, lost in zip(images, unseen, strict=True):
            image *= -1
            image[lost] = 0.0
        groups.append(replace(group, signal=tuple(Pixels(image) for image in images)))
    return MapSet(tuple(groups), maps.coverage)


def rotate_bands(maps: SkyMaps) -> SkyMaps:
    """Band number k turned by k quarter turns about the Galactic axis, without interpolation.

    Returns
    -------
    SkyMaps
        Seen where every turned band is; without S/N maps.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> bands = read_instrument("planck-hfi").bands
    >>> lon_deg, _ = healpy.pix2ang(2, np.arange(48), lonlat=True)
    >>> maps = SkyMaps(np.tile(lon_deg[:, None], 6).astype(np.float32), np.ones(48, bool), bands)
    >>> rotate_bands(maps).values[10].tolist()  # what was at 292.5 - 90 k degrees is now at 292.5
    [292.5, 202.5, 112.5, 22.5, 292.5, 202.5]
    """
    values = np.empty_like(maps.values)
    footprint = np.ones(len(maps.footprint), bool)
    for k in range(len(maps.bands)):
        values[:, k] = _quarter_turns(np.asarray(maps.values[:, k]), k)
        footprint &= _quarter_turns(np.asarray(maps.footprint), k)
    values[~footprint] = 0.0
    return SkyMaps(values, footprint, maps.bands)


def _quarter_turns(values: NDArray[np.generic], turns: int) -> NDArray[np.generic]:
    """A RING map turned to the east by quarter turns: each ring, of 4 i or 4 nside pixels, moved on by a quarter."""
    nside = healpy.npix2nside(len(values))
    out = np.empty_like(values)
    first, length, _, _, _ = healpy.ringinfo(nside, np.arange(1, 4 * nside))
    for start, n in zip(first.tolist(), length.tolist(), strict=True):
        out[start : start + n] = np.roll(values[start : start + n], turns % 4 * (n // 4))
    return out


def count_null_sources(
    sources: Table,
    nulls: Mapping[str, tuple[Table, float]],
    known: Table | None = None,
    haloes: Table | None = None,
    *,
    footprint: NDArray[np.bool_] | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    radius_arcmin: float = 5.0,
    seed: int = 0,
) -> Table:
    """Purity at several thresholds, from null skies, from known clusters and, where there is one, from the truth.

    Parameters
    ----------
    sources : Table
        ``lon_deg``, ``lat_deg``, ``p``.
    nulls : mapping of name to (Table, float)
        Sources of each null sky, and the area searched for ``sources`` over the area that it was searched in.
    known : Table, optional
        Known clusters: those matched, less what matches at shifted positions, are the least that is real.
    haloes : Table, optional
        True clusters: ``lon_deg``, ``lat_deg``, ``theta500_arcmin``.
    footprint : (n_pix,) bool, optional
        Where ``sources`` were looked for; shifted positions stay in it.
    thresholds : sequence of float
    radius_arcmin : float
        Least matching radius.
    seed : int
        Of the shifts.

    Returns
    -------
    Table
        ``p``, ``n``; for each null sky ``n_NAME`` (scaled to the area), ``purity_NAME``, ``error_NAME`` (Poisson, of
        at least one); ``matched`` and ``off_position`` (fractions of the sources with a known cluster there and at
        shifted positions), ``confirmed`` (matched less chance); ``purity_true`` and ``error_true`` (binomial, chance
        taken out; further peaks inside a found extended halo count neither way). NaN where there are no sources.

    Examples
    --------
    >>> sources = Table({"lon_deg": np.arange(0.0, 40, 2), "lat_deg": [50.0] * 20, "p": [0.9] * 10 + [0.3] * 10})
    >>> flipped = sources[10:15]  # a null sky of the same area has five sources, none of them above p = 0.5
    >>> table = count_null_sources(sources, {"flipped": (flipped, 1.0)}, thresholds=(0.1, 0.5))
    >>> table["n"].tolist(), table["purity_flipped"].tolist()
    ([20, 10], [0.75, 1.0])
    """
    p = np.asarray(sources["p"], float)
    rows = []
    for least in thresholds:
        mine = sources[p > least]
        n = len(mine)
        row: dict[str, float] = {"p": least, "n": n}
        for name, (null, area_ratio) in nulls.items():
            false = int((np.asarray(null["p"], float) > least).sum())
            row[f"n_{name}"] = area_ratio * false
            row[f"purity_{name}"] = 1 - area_ratio * false / n if n else np.nan
            row[f"error_{name}"] = area_ratio * np.sqrt(max(false, 1) + false**2 / n) / n if n else np.nan
        if known is not None:
            row |= _share(mine, known, np.full(len(known), radius_arcmin), footprint, seed)
        if haloes is not None:
            share = _share(mine, haloes, truth_radius(haloes, radius_arcmin), footprint, seed)
            row["purity_true"] = share["confirmed"]
            row["error_true"] = np.sqrt(share["confirmed"] * (1 - share["confirmed"]) / n) if n else np.nan
        rows.append(row)
    return Table(rows)


def _share(
    sources: Table, clusters: Table, radius: NDArray[np.float64], footprint: NDArray[np.bool_] | None, seed: int
) -> dict[str, float]:
    """Share of the sources that clusters match, at shifted positions, and what is left of it without chance."""
    if not len(sources) or not len(clusters):
        return dict.fromkeys(("matched", "off_position", "confirmed"), np.nan)
    matches = match(sources, clusters, radius)
    counted = len(sources) - int(further_peaks(sources, clusters, radius, matches).sum())
    matched = len(matches) / counted
    chance = chance_rate(sources, clusters, radius, footprint, n_shifts=10, seed=seed).sources
    return {"matched": matched, "off_position": chance, "confirmed": max(0.0, (matched - chance) / (1 - chance))}
