"""Matched-filter S/N maps at a few cluster sizes, to be shown to a network beside the bands, and what else it finds.

A matched filter is the best linear finder, and knows spectrum, beams and the noise around it without training; what a
network would take many epochs to learn of them it is given here. What lies beyond - shapes, compact sources, dust
that is not Gaussian - is left to the network.

The pass over the sky's fields also gives what it has learnt of each of them, so that sources can be measured cheaply
(:mod:`szeek.filter.states`), and the compact sources in the single bands (:mod:`szeek.filter.compact`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import healpy
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray
from scipy import ndimage

from szeek.filter.compact import find_compact_sources, merge_compact_sources, owned
from szeek.filter.matchedfilter import FIELD_NSIDE, FilteredField, check_bands_known, list_fields
from szeek.filter.states import FieldState
from szeek.inputs.instrument import read_instrument
from szeek.parallel import Progress, spread
from szeek.physics.instrument import Instrument
from szeek.sky.skymaps import SkyMaps

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class FilteredSky:
    """What one pass of the matched filter over the sky gives.

    Parameters
    ----------
    maps : SkyMaps
        The maps with S/N maps of the sizes asked for.
    states : dict of int to FieldState
        What was learnt of each field, by the HEALPix pixel of nside 8 (RING) that it owns.
    compact : Table
        Compact sources of S/N 5 or more in each band, see :func:`szeek.filter.compact.find_compact_sources`.
    """

    maps: SkyMaps
    states: dict[int, FieldState]
    compact: Table


def filter_sky(
    maps: SkyMaps,
    theta500_arcmin: Sequence[float] = (),
    *,
    instrument: str | Instrument = "planck-hfi",
    threads: int | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> FilteredSky:
    """Filter every field of the sky: S/N maps of clusters of these sizes, compact sources, and the fields' noise.

    Parameters
    ----------
    maps : SkyMaps
        Full sky, or any footprint some degrees wide, of nside 64 or more.
    theta500_arcmin : sequence of float
        Sizes of the clusters that are filtered for; without any there are no S/N maps.
    instrument : str or Instrument
        tSZ response of the bands.
    threads : int, optional
        Fields at once; the machine's cores by default. The result does not depend on it.
    client : distributed.Client, optional
        Filter the fields on the workers of this Dask scheduler, for which the maps must be mapped from a folder.
    progress : Progress, optional
        Called as progress(stage, done, total, detail), in fields.

    Returns
    -------
    FilteredSky
        ``maps.snr`` is (n_pix, n_size) float32, 0 outside the footprint: each position from the field whose HEALPix
        pixel of nside 8 it is in, as in :func:`szeek.filter.matchedfilter.matched_filter`.

    Raises
    ------
    ValueError
        If the maps have a band that the instrument has not or an nside below 64, or nothing is seen.
    """
    sizes = tuple(float(theta) for theta in theta500_arcmin)
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    check_bands_known(maps, setup)
    places = _places(maps)
    if not places:
        raise ValueError("the maps' footprint is empty: no pixel is seen in every band")
    snr = np.zeros((len(maps.footprint), len(sizes)), np.float32) if sizes else None
    work = spread(
        _filter_field, places, maps, setup, sizes, client=client, threads=threads,
        progress=progress, stage="filter", detail="fields",
    )  # fmt: skip
    states, compact = {}, {}
    for number, found in work:
        if snr is not None:
            snr[found.ipix] = found.snr
        states[places[number][0]], compact[number] = found.state, found.compact
    table = merge_compact_sources(vstack([compact[number] for number in sorted(compact)]))
    return FilteredSky(replace(maps, snr=snr, theta500_arcmin=sizes), dict(sorted(states.items())), table)


def add_snr_maps(
    maps: SkyMaps,
    theta500_arcmin: Sequence[float],
    *,
    instrument: str | Instrument = "planck-hfi",
    noise: Mapping[int, FieldState] | None = None,
    threads: int | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> SkyMaps:
    """The same maps with matched-filter S/N maps of these sizes and no others; without any for no sizes.

    Maps that have them already are returned as they are; parameters and errors as of :func:`filter_sky`. For maps
    into which clusters were injected ``noise`` is what was learnt of their fields before: those fields alone are
    filtered, with the power that they had (:class:`szeek.filter.matchedfilter.FilteredField`), and elsewhere S/N is
    0.
    """
    sizes = tuple(float(theta) for theta in theta500_arcmin)
    if maps.theta500_arcmin == sizes:
        return maps
    if not sizes:
        return replace(maps, snr=None, theta500_arcmin=())
    if noise is None:
        return filter_sky(maps, sizes, instrument=instrument, threads=threads, client=client, progress=progress).maps
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    places = [(place, noise[place[0]]) for place in _places(maps) if place[0] in noise]
    snr = np.zeros((len(maps.footprint), len(sizes)), np.float32)
    work = spread(
        _filter_injected, places, maps, setup, sizes, client=client, threads=threads,
        progress=progress, stage="filter", detail="fields",
    )  # fmt: skip
    for _, (ipix, values) in work:
        snr[ipix] = values
    return replace(maps, snr=snr, theta500_arcmin=sizes)


def _places(maps: SkyMaps) -> list[tuple[int, float, float]]:
    """Fields of the maps: pixel that is owned, and centre."""
    return [(int(row["pixel"]), float(row["lon_deg"]), float(row["lat_deg"])) for row in list_fields(maps)]


def _filter_injected(
    place: tuple[tuple[int, float, float], FieldState],
    maps: SkyMaps,
    instrument: Instrument,
    theta500_arcmin: Sequence[float],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """One field with the noise that it had before."""
    (pixel, lon_deg, lat_deg), noise = place
    field = FilteredField(maps, lon_deg, lat_deg, instrument, noise=noise)
    return _snr_where_owned(field, pixel, maps, theta500_arcmin)


class _Found(NamedTuple):
    """Seen pixels (RING) of the HEALPix pixel that a field owns, S/N of each size there, and the rest."""

    ipix: NDArray[np.int64]
    snr: NDArray[np.float32]
    state: FieldState
    compact: Table


def _filter_field(
    place: tuple[int, float, float], maps: SkyMaps, instrument: Instrument, theta500_arcmin: Sequence[float]
) -> _Found:
    """One field; ``place`` is a row of :func:`szeek.filter.matchedfilter.list_fields`."""
    pixel, lon_deg, lat_deg = place
    field = FilteredField(maps, lon_deg, lat_deg, instrument)
    ipix, snr = _snr_where_owned(field, pixel, maps, theta500_arcmin)
    return _Found(ipix, snr, field.state, owned(find_compact_sources(field), pixel))


def _snr_where_owned(
    field: FilteredField, pixel: int, maps: SkyMaps, theta500_arcmin: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Seen pixels (RING) of the HEALPix pixel that a field owns, and S/N of each size there."""
    n_child = (maps.nside // FIELD_NSIDE) ** 2
    ipix: NDArray[np.int64] = healpy.nest2ring(
        maps.nside, healpy.ring2nest(FIELD_NSIDE, pixel) * n_child + np.arange(n_child)
    )
    ipix = ipix[maps.footprint[ipix]]
    at = field.pixels(np.stack(healpy.pix2vec(maps.nside, ipix), axis=1))
    snr = np.empty((len(ipix), len(theta500_arcmin)), np.float32)
    for k, theta in enumerate(theta500_arcmin):
        snr[:, k] = ndimage.map_coordinates(field.snr_map(theta)[0], at, order=1, mode="nearest")
    return ipix, snr
