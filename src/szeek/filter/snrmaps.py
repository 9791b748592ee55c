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
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import healpy
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from szeek.filter.compact import find_compact_sources, merge_compact_sources, owned
from szeek.filter.layout import field_nside, list_fields, own_pixels
from szeek.filter.matchedfilter import FilteredField, check_bands_known
from szeek.filter.parts import assign_directions, join_states, open_parts
from szeek.filter.states import FieldState
from szeek.inputs.instrument import read_instrument
from szeek.parallel import Progress, spread
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.instrument import Instrument
from szeek.sky.healpix import unit_vectors
from szeek.sky.mapset import COVERAGE_NSIDE, MapSet
from szeek.sky.partial import PartialMap
from szeek.sky.skymaps import SkyMaps

if TYPE_CHECKING:
    from distributed import Client

Maps = TypeVar("Maps", bound=SkyMaps | MapSet)

#: Sizes of the noise maps, and the nside of those of HEALPix maps, whose noise is that of whole fields.
NOISE_THETA500_ARCMIN = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_NOISE_NSIDE = 64


@dataclass(frozen=True)
class FilteredSky(Generic[Maps]):
    """What one pass of the matched filter over the sky gives.

    Parameters
    ----------
    maps : SkyMaps or MapSet
        The maps with S/N maps of the sizes asked for.
    states : dict of int to FieldState
        What was learnt of each field, by the HEALPix pixel (RING) that it owns
        (:func:`szeek.filter.layout.field_nside`).
    compact : Table
        Compact sources of S/N 5 or more in each band, see :func:`szeek.filter.compact.find_compact_sources`.
    noise : PartialMap
        Errors of Y500, arcmin^2, of clusters of :data:`NOISE_THETA500_ARCMIN`, (n_own, n_size); NaN where nothing is
        searched.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> planck, values = read_instrument(), np.zeros((12 * 512**2, 6), np.float32)
    >>> disc = healpy.query_disc(512, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))
    >>> values[disc] = 1e-5 * planck.tsz_response * np.random.default_rng(1).standard_normal((disc.size, 6))
    >>> maps = SkyMaps(values, values.any(axis=1), planck.bands)
    >>> filtered = filter_sky(maps, threads=1)
    >>> filtered.noise.values.shape[1] == len(NOISE_THETA500_ARCMIN), filtered.maps.snr is None
    (True, True)
    """

    maps: Maps
    states: dict[int, FieldState]
    compact: Table
    noise: PartialMap


def filter_sky(
    maps: Maps,
    theta500_arcmin: Sequence[float] = (),
    *,
    instrument: str | Instrument = "planck-hfi",
    threads: int | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> FilteredSky[Maps]:
    """Filter every field of the sky: S/N maps of clusters of these sizes, compact sources, and the fields' noise.

    Parameters
    ----------
    maps : SkyMaps or MapSet
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
        ``maps.snr`` is (n_pix, n_size) float32, 0 outside the footprint, or of a set a PartialMap, NaN where a band
        that the field uses was not observed: each position from the field whose HEALPix pixel it is in, as in
        :func:`szeek.filter.search.matched_filter`.

    Raises
    ------
    ValueError
        If the maps have a band that the instrument has not or an nside below 64, or nothing is seen.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> planck, values = read_instrument(), np.zeros((12 * 512**2, 6), np.float32)
    >>> disc = healpy.query_disc(512, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))
    >>> values[disc] = 1e-5 * planck.tsz_response * np.random.default_rng(1).standard_normal((disc.size, 6))
    >>> maps = SkyMaps(values, values.any(axis=1), planck.bands)
    >>> filtered = filter_sky(maps, [5.0, 10.0], threads=1)
    >>> filtered.maps.snr.shape[1], len(filtered.states), bool((filtered.maps.snr[~maps.footprint] == 0).all())
    (2, 5, True)
    """
    sizes = tuple(float(theta) for theta in theta500_arcmin)
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    check_bands_known(maps, setup)
    places = _places(maps)
    if not places:
        raise ValueError("the maps' footprint is empty: no pixel is seen in every band")
    snr = _Columns(maps, [pixel for pixel, _, _ in places], len(sizes))
    work = spread(
        _filter_field, places, maps, setup, sizes, client=client, threads=threads,
        progress=progress, stage="filter", detail="fields",
    )  # fmt: skip
    states, compact, noise = {}, {}, []
    for number, found in work:
        snr.place(found.ipix, found.snr)
        states[places[number][0]], compact[number] = found.state, found.compact
        noise.append((found.coarse, found.noise))
    table = merge_compact_sources(vstack([compact[number] for number in sorted(compact)]))
    ipix, errors = (np.concatenate(parts) for parts in zip(*noise, strict=True))
    noise_map = PartialMap.from_pixels(_coarse_nside(maps), ipix, errors)
    return FilteredSky(snr.add_to(maps, sizes), dict(sorted(states.items())), table, noise_map)


def tabulate_noise(noise: PartialMap) -> Table:
    """Area against noise, as nemo's RMSTab has it.

    Source: Hilton et al. (2021), ApJS 253, 3, Sect. 4.

    Parameters
    ----------
    noise : PartialMap
        Of :class:`FilteredSky`.

    Returns
    -------
    Table
        ``theta500_arcmin``, ``y500_err_arcmin2``, ``area_deg2`` with that error, in steps of 2 % of the error.

    Examples
    --------
    >>> noise = PartialMap.empty(64, [(0, 100)], 7)
    >>> noise.values[:50], noise.values[50:] = 1e-4, 2e-4
    >>> tabulate_noise(noise)[:2]["area_deg2"].round(1).tolist()
    [42.0, 42.0]
    """
    cell_deg2 = healpy.nside2pixarea(noise.nside, degrees=True)
    parts = []
    for theta, column in zip(NOISE_THETA500_ARCMIN, noise.values.T, strict=True):
        known = column[np.isfinite(column)].astype(np.float64)
        _, group, count = np.unique(np.rint(np.log(known) / 0.02), return_inverse=True, return_counts=True)
        error = np.bincount(group.ravel(), known, len(count)) / count
        parts.append(
            Table(
                {
                    "theta500_arcmin": np.full(len(count), theta),
                    "y500_err_arcmin2": error,
                    "area_deg2": count * cell_deg2,
                }
            )
        )
    return vstack(parts)


def add_snr_maps(
    maps: Maps,
    theta500_arcmin: Sequence[float],
    *,
    instrument: str | Instrument = "planck-hfi",
    noise: Mapping[int, FieldState] | None = None,
    threads: int | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> Maps:
    """The same maps with matched-filter S/N maps of these sizes and no others; without any for no sizes.

    Maps that have them already are returned as they are; parameters and errors as of :func:`filter_sky`. For maps
    into which clusters were injected ``noise`` is what was learnt of their fields before: those fields alone are
    filtered, with the power that they had (:class:`szeek.filter.matchedfilter.FilteredField`), and elsewhere S/N is
    0.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> planck, values = read_instrument(), np.zeros((12 * 512**2, 6), np.float32)
    >>> disc = healpy.query_disc(512, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))
    >>> values[disc] = 1e-5 * planck.tsz_response * np.random.default_rng(1).standard_normal((disc.size, 6))
    >>> maps = SkyMaps(values, values.any(axis=1), planck.bands)
    >>> with_snr = add_snr_maps(maps, [5.0], threads=1)
    >>> with_snr.snr.shape[1], add_snr_maps(with_snr, [5.0]) is with_snr  # has them already
    (1, True)
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
    snr = _Columns(maps, [place[0] for place, _ in places], len(sizes))
    work = spread(
        _filter_injected, places, maps, setup, sizes, client=client, threads=threads,
        progress=progress, stage="filter", detail="fields",
    )  # fmt: skip
    for _, (ipix, values) in work:
        snr.place(ipix, values)
    return snr.add_to(maps, sizes)


class _Columns:
    """S/N maps in the making: of the whole sky, or of the fields' own pixels alone."""

    def __init__(self, maps: SkyMaps | MapSet, pixels: Sequence[int], n_size: int) -> None:
        self._whole: NDArray[np.float32] | None = None
        self._part: PartialMap | None = None
        if n_size and isinstance(maps, SkyMaps):
            self._whole = np.zeros((len(maps.footprint), n_size), np.float32)
        elif n_size:
            runs = np.concatenate([list_runs(own_pixels(maps, pixel)) for pixel in pixels])
            self._part = PartialMap.empty(maps.nside, runs, n_size)

    def place(self, ipix: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        if self._whole is not None:
            self._whole[ipix] = values
        elif self._part is not None:
            self._part.place(list_runs(ipix), values)

    def add_to(self, maps: Maps, sizes: tuple[float, ...]) -> Maps:
        if isinstance(maps, MapSet):
            return replace(maps, snr=self._part, theta500_arcmin=sizes)
        return replace(maps, snr=self._whole, theta500_arcmin=sizes)


def list_runs(ipix: NDArray[np.int64]) -> NDArray[np.int64]:
    """Runs of consecutive pixels, first and one past the last, (n_run, 2), of pixels in order.

    Examples
    --------
    >>> list_runs(np.array([3, 4, 5, 9])).tolist()
    [[3, 6], [9, 10]]
    """
    begins = np.flatnonzero(np.diff(ipix, prepend=-2) != 1)
    ends = np.append(begins[1:], len(ipix)) - 1
    return np.column_stack([ipix[begins], ipix[ends] + 1]) if len(ipix) else np.zeros((0, 2), np.int64)


def _places(maps: SkyMaps | MapSet) -> list[tuple[int, float, float]]:
    """Fields of the maps: pixel that is owned, and centre."""
    return [(int(row["pixel"]), float(row["lon_deg"]), float(row["lat_deg"])) for row in list_fields(maps)]


def _filter_injected(
    place: tuple[tuple[int, float, float], FieldState],
    maps: SkyMaps | MapSet,
    instrument: Instrument,
    theta500_arcmin: Sequence[float],
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """One field with the noise that it had before."""
    where, noise = place
    return _snr_where_owned(open_parts(maps, where, instrument, noise=noise), where[0], maps, theta500_arcmin)


class _Found(NamedTuple):
    """Seen pixels (RING) of the HEALPix pixel that a field owns, S/N of each size there, and the rest."""

    ipix: NDArray[np.int64]
    snr: NDArray[np.float32]
    coarse: NDArray[np.int64]
    noise: NDArray[np.float32]
    state: FieldState
    compact: Table


def _filter_field(
    place: tuple[int, float, float], maps: SkyMaps | MapSet, instrument: Instrument, theta500_arcmin: Sequence[float]
) -> _Found:
    """One field; ``place`` is a row of :func:`szeek.filter.layout.list_fields`."""
    pixel, parts = place[0], open_parts(maps, place, instrument)
    ipix, snr = _snr_where_owned(parts, pixel, maps, theta500_arcmin)
    compact = owned(_compact_sources(parts), pixel, field_nside(maps))
    return _Found(ipix, snr, *_noise_where_owned(parts, pixel, maps), join_states(parts), compact)


def _compact_sources(parts: Sequence[FilteredField]) -> Table:
    """Of each part those that it sees best."""
    found = [find_compact_sources(field) for field in parts]
    if len(parts) > 1:
        for number, table in enumerate(found):
            vectors = unit_vectors(np.asarray(table["lon_deg"]), np.asarray(table["lat_deg"])).reshape(-1, 3)
            found[number] = table[assign_directions(parts, vectors) == number]
    return vstack(found)


def _snr_where_owned(
    parts: Sequence[FilteredField], pixel: int, maps: SkyMaps | MapSet, theta500_arcmin: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Seen pixels (RING) of the HEALPix pixel that a field owns, and S/N of each size there."""
    ipix = own_pixels(maps, pixel)
    snr = np.empty((len(ipix), len(theta500_arcmin)), np.float32)
    if not theta500_arcmin:
        return ipix, snr
    vectors = np.stack(healpy.pix2vec(maps.nside, ipix), axis=1)
    owner = assign_directions(parts, vectors)
    if isinstance(maps, SkyMaps):  # what is in the footprint has a value, also between pixels that were not observed
        owner[:] = 0
    snr[owner < 0] = np.nan
    for number, field in enumerate(parts):
        mine = np.flatnonzero(owner == number)
        if mine.size:
            of_sizes = np.stack([field.snr_map(theta)[0] for theta in theta500_arcmin])
            snr[mine] = field.interpolate(of_sizes, vectors[mine]).T
    return ipix, snr


def _coarse_nside(maps: SkyMaps | MapSet) -> int:
    return COVERAGE_NSIDE if isinstance(maps, MapSet) else _NOISE_NSIDE


def _noise_where_owned(
    parts: Sequence[FilteredField], pixel: int, maps: SkyMaps | MapSet
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Coarse pixels (RING) of the HEALPix pixel that a field owns, and the errors of Y500 at their centres."""
    nside, n_child = _coarse_nside(maps), (_coarse_nside(maps) // field_nside(maps)) ** 2
    ipix = healpy.nest2ring(nside, healpy.ring2nest(field_nside(maps), pixel) * n_child + np.arange(n_child))
    vectors = np.stack(healpy.pix2vec(nside, ipix), axis=1)
    seen = maps.seen[ipix] if isinstance(maps, MapSet) else maps.footprint[healpy.vec2pix(maps.nside, *vectors.T)]
    ipix, vectors = ipix[seen], vectors[seen]
    true_area = (vectors @ parts[0].basis[0]) ** 3
    errors = np.full((len(ipix), len(NOISE_THETA500_ARCMIN)), np.nan, np.float32)
    owner = assign_directions(parts, vectors)
    for number, field in enumerate(parts):
        valid = (owner == number) & field.is_valid(vectors)
        for k, theta in enumerate(NOISE_THETA500_ARCMIN):
            local = field.local_error(theta)
            relative = np.ones(len(ipix)) if local is None else field.interpolate(local, vectors)
            errors[valid, k] = (field.flux_error(theta) / Y5R500_PER_Y500 * true_area * relative)[valid]
    return ipix, errors
