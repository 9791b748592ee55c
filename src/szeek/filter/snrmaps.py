"""Matched-filter S/N maps at a few cluster sizes, to be shown to a network beside the bands.

A matched filter is the best linear finder, and knows spectrum, beams and the noise around it without training; what a
network would take many epochs to learn of them it is given here. What lies beyond - shapes, compact sources, dust
that is not Gaussian - is left to the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import healpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from szeek.filter.matchedfilter import FIELD_NSIDE, FilteredField, check_bands_known, list_fields
from szeek.inputs.instrument import Instrument, read_instrument
from szeek.parallel import Progress, spread
from szeek.sky.projection import project
from szeek.sky.skymaps import SkyMaps

if TYPE_CHECKING:
    from distributed import Client


def add_snr_maps(
    maps: SkyMaps,
    theta500_arcmin: Sequence[float],
    *,
    instrument: str | Instrument = "planck-hfi",
    threads: int | None = None,
    client: Client | None = None,
    progress: Progress | None = None,
) -> SkyMaps:
    """The same maps with matched-filter S/N maps of these sizes and no others; without any for no sizes.

    Parameters
    ----------
    maps : SkyMaps
        Full sky, or any footprint some degrees wide.
    theta500_arcmin : sequence of float
        Sizes of the clusters that are filtered for.
    instrument : str or Instrument
        tSZ response of the bands.
    threads : int, optional
        Fields at once; the machine's cores by default. The result does not depend on it.
    client : distributed.Client, optional
        Filter the fields on the workers of this Dask cluster, for which the maps must be mapped from a folder.
    progress : Progress, optional
        Called as progress(stage, done, total, detail), in fields.

    Returns
    -------
    SkyMaps
        With ``snr``, (n_pix, n_size) float32, 0 outside the footprint: each position from the field whose HEALPix
        pixel of nside 8 it is in, as in :func:`szeek.filter.matchedfilter.matched_filter`.

    Raises
    ------
    ValueError
        If the maps have a band that the instrument has not, or nothing is seen.
    """
    sizes = tuple(float(theta) for theta in theta500_arcmin)
    if maps.theta500_arcmin == sizes:
        return maps
    if not sizes:
        return replace(maps, snr=None, theta500_arcmin=())
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    check_bands_known(maps, setup)
    if maps.nside < FIELD_NSIDE:
        raise ValueError(f"maps have nside {maps.nside}, expected at least {FIELD_NSIDE} for the matched filter")
    fields = list_fields(maps)
    if not len(fields):
        raise ValueError("the maps' footprint is empty: no pixel is seen in every band")
    snr = np.zeros((len(maps.footprint), len(sizes)), np.float32)
    places = [(int(row["pixel"]), float(row["lon_deg"]), float(row["lat_deg"])) for row in fields]
    for _, (ipix, values) in spread(
        snr_in_field, places, maps, setup, sizes, client=client, threads=threads,
        progress=progress, stage="filter", detail="fields",
    ):  # fmt: skip
        snr[ipix] = values
    return replace(maps, snr=snr, theta500_arcmin=sizes)


def snr_in_field(
    place: tuple[int, float, float], maps: SkyMaps, instrument: Instrument, theta500_arcmin: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Seen pixels of one HEALPix pixel of nside 8, and the S/N of each size there, from the field around it.

    Parameters
    ----------
    place : (pixel, lon_deg, lat_deg)
        A row of :func:`szeek.filter.matchedfilter.list_fields`.
    maps : SkyMaps
    instrument : Instrument
    theta500_arcmin : sequence of float

    Returns
    -------
    ipix : (n,) int64
        RING.
    snr : (n, n_size) float32
    """
    pixel, lon_deg, lat_deg = place
    field = FilteredField(maps, lon_deg, lat_deg, instrument)
    n_child = (maps.nside // FIELD_NSIDE) ** 2
    ipix: NDArray[np.int64] = healpy.nest2ring(
        maps.nside, healpy.ring2nest(FIELD_NSIDE, pixel) * n_child + np.arange(n_child)
    )
    ipix = ipix[maps.footprint[ipix]]
    x, y, _ = project(field.basis, np.stack(healpy.pix2vec(maps.nside, ipix), axis=1), field.pixel_arcmin)
    at = [y + 0.5 * (field.n - 1), x + 0.5 * (field.n - 1)]
    snr = np.empty((len(ipix), len(theta500_arcmin)), np.float32)
    for k, theta in enumerate(theta500_arcmin):
        snr[:, k] = ndimage.map_coordinates(field.snr_map(theta)[0], at, order=1, mode="nearest")
    return ipix, snr
