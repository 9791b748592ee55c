"""What clusters are found with today, as lists that rank beside the network's: a thresholded y map, a matched filter.

Each gives a source table as :func:`szeek.find.detect.detect_sources` does, with the S/N as the score ``p``. Network
and matched filter together rank better than either.
"""

from __future__ import annotations

from collections.abc import Iterable

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit

from szeek.filter.search import matched_filter
from szeek.find.detect import detect_sources
from szeek.physics.instrument import Instrument
from szeek.sky.projection import interpolate
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles

#: Cells in which background and noise of a y map are measured: 0.9 deg. On nine tiles of a simulated sky better than
#: 1.8 deg at purity 0.8 and above, and as good below.
_CELL_NSIDE = 64
_SIGMA_PER_MAD = 1.4826
# Combined score: the S/N that leaves p as it is, what an S/N of one more adds to ln p/(1-p), and the range that
# counts. Of 0.3, 0.5 and 0.8 the last was best on four simulated tiles.
_NEUTRAL_SNR, _ODDS_PER_SNR, _SNR_RANGE = 3.0, 0.8, (-2.0, 8.0)


def find_by_matched_filter(
    maps: SkyMaps,
    *,
    instrument: str | Instrument = "planck-hfi",
    tiles: Iterable[int] | None = None,
    snr_min: float = 3.0,
    threads: int | None = None,
) -> Table:
    """Detections of :func:`szeek.filter.search.matched_filter` with their S/N as ``p``.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> planck, values = read_instrument(), np.zeros((12 * 512**2, 6), np.float32)
    >>> disc = healpy.query_disc(512, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))
    >>> values[disc] = 1e-5 * planck.tsz_response * np.random.default_rng(1).standard_normal((disc.size, 6))
    >>> maps = SkyMaps(values, values.any(axis=1), planck.bands)
    >>> found = find_by_matched_filter(maps, snr_min=2.5, threads=1)
    >>> len(found) > 0, bool((found["p"] >= 2.5).all())  # S/N takes the place of p
    (True, True)
    """
    found = matched_filter(maps, instrument=instrument, tiles=tiles, snr_min=snr_min, threads=threads)
    found["p"] = found["snr"]
    return found


def find_in_y_map(
    y_map: NDArray[np.float32],
    *,
    tiles: Iterable[int] | None = None,
    snr_min: float = 3.0,
    min_prominence: float = 1.0,
) -> Table:
    """Peaks of a Compton-y map over its local noise.

    Source: the simplest finder on a y map, e.g. Planck 2015 results XXII (A&A 594, A22), Sect. 5.1, where two
    standard finders are run on MILCA and NILC; here threshold and watershed.

    Parameters
    ----------
    y_map : (12 nside^2,) float32
        RING, Galactic; NaN outside the footprint. MILCA, NILC, the simulation's ILC, or any other map.
    tiles : iterable of int, optional
        Search these of the 48 tiles only.
    snr_min : float
        Threshold.
    min_prominence : float
        Height over the saddle, in sigma, that makes a second maximum a source of its own.

    Returns
    -------
    Table
        As :func:`szeek.find.detect.detect_sources`; ``p`` is the S/N of the highest pixel.

    Raises
    ------
    ValueError
        If the map is no full-sky HEALPix map of nside 128 or more.

    Examples
    --------
    >>> y_map = np.random.default_rng(1).normal(0.0, 1e-6, 12 * 128**2).astype(np.float32)
    >>> y_map[80000] = 1e-4
    >>> bool(find_in_y_map(y_map)["p"].max() > 0)
    True
    """
    return detect_sources(
        local_snr(y_map, tiles), snr_min, weighted=True, deblend=True, min_prominence=min_prominence
    )


def combine_scores(p: ArrayLike, snr: ArrayLike) -> NDArray[np.float64]:
    """One score from the network's p and the matched filter's S/N at the same place.

    ln odds = ln p / (1 - p) + 0.8 (S/N - 3), the S/N cut to -2 to 8. The network knows shapes and sources, the filter
    beams, noise and spectrum.

    Source: the idea of Lin et al. (2021, DeepSZ, doi:10.1093/mnras/stab2229). Deviation: odds.

    Parameters
    ----------
    p : (n,) float
        Of the network, 0 to 1.
    snr : (n,) float
        ``snr`` of :func:`szeek.measure.photometry.measure_sources`; NaN, where it was not measured, leaves p.

    Returns
    -------
    (n,) float64
        0 to 1; p where the S/N is 3.

    Examples
    --------
    >>> combine_scores([0.5, 0.5, 0.5], [3.0, 6.0, np.nan]).round(2)
    array([0.5 , 0.92, 0.5 ])
    """
    inside = np.clip(np.asarray(p, float), 1e-6, 1 - 1e-6)
    excess = np.clip(np.asarray(snr, float), *_SNR_RANGE) - _NEUTRAL_SNR
    return np.asarray(expit(logit(inside) + _ODDS_PER_SNR * np.nan_to_num(excess, nan=0.0)))


def local_snr(y_map: NDArray[np.float32], tiles: Iterable[int] | None = None) -> NDArray[np.float32]:
    """A map minus its local median, over its local rms, both measured in HEALPix cells of 0.9 deg and interpolated.

    The rms is that of the median absolute deviation, which clusters hardly touch.

    Parameters
    ----------
    y_map : (12 nside^2,) float32
        RING; NaN outside the footprint.
    tiles : iterable of int, optional
        NaN outside these of the 48 tiles; all by default.

    Returns
    -------
    (12 nside^2,) float32

    Raises
    ------
    ValueError
        If the map is no full-sky HEALPix map of nside 128 or more.

    Examples
    --------
    >>> noise = np.random.default_rng(1).normal(3.0, 2.0, 12 * 256**2).astype(np.float32)
    >>> round(float(local_snr(noise).std()), 1)
    1.1
    """
    nside = round((y_map.size / 12) ** 0.5)
    if y_map.ndim != 1 or 12 * nside * nside != y_map.size or nside < 2 * _CELL_NSIDE:
        raise ValueError(f"y_map has shape {y_map.shape}, expected (12 nside^2,) with nside >= {2 * _CELL_NSIDE}")
    n_cell, n_fine = 12 * _CELL_NSIDE**2, (nside // _CELL_NSIDE) ** 2
    wanted = np.ones(n_cell, bool) if tiles is None else pixels_in_tiles(_CELL_NSIDE, tiles)
    cells = np.flatnonzero(wanted)
    near = healpy.get_all_neighbours(_CELL_NSIDE, cells)  # are needed to interpolate
    level = np.full((n_cell, 2), np.nan, np.float32)
    for block in _blocks(np.union1d(cells, near[near >= 0]), n_fine):
        values = y_map[_pixels_of(block, nside)]
        enough = np.isfinite(values).sum(axis=1) * 4 > n_fine
        middle = np.nanmedian(values[enough], axis=1)
        deviation = np.nanmedian(np.abs(values[enough] - middle[:, None]), axis=1)
        level[block[enough]] = np.stack([middle, _SIGMA_PER_MAD * deviation], axis=1)
    measured = level[:, 1] > 0
    level[~measured] = 0.0
    out = np.full(y_map.size, np.nan, np.float32)
    for block in _blocks(cells[measured[cells]], n_fine):
        pixels = _pixels_of(block, nside)
        here = interpolate(level, np.stack(healpy.pix2vec(nside, pixels), axis=-1), measured)
        out[pixels] = (y_map[pixels] - here[..., 0]) / here[..., 1]
    return out


def _blocks(cells: NDArray[np.int64], n_fine: int) -> list[NDArray[np.int64]]:
    """Cells in portions of about a million pixels."""
    return np.array_split(cells, max(1, cells.size * n_fine // 2**20))


def _pixels_of(cells: NDArray[np.int64], nside: int) -> NDArray[np.int64]:
    """RING pixels of coarse RING cells, (n_cell, n_fine)."""
    n_fine = (nside // _CELL_NSIDE) ** 2
    nested = healpy.ring2nest(_CELL_NSIDE, cells)[:, None] * n_fine + np.arange(n_fine)
    return np.asarray(healpy.nest2ring(nside, nested), np.int64)
