r"""Point sources of a field in all of its bands: where they are, their fluxes, and what they look like.

    v_b(x_k) = sum_j F_bj h_b(|x_k - x_j|),    h_b(r) = sum_l B^2/P J0(l r) / sum_l B^2/P

v_b is the flux that band b's own matched filter gives at x_k (:mod:`szeek.filter.compact`); the sources' fluxes F
follow from it all at once, for each is seen in the others' wings. A source is then subtracted as F_b times the beam
about its position, as in nemo's first pass (Hilton et al. 2021, ApJS 253, 3, Sect. 2.2).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline
from scipy.special import j0

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]

#: Radial tables: values a pixel, Hankel transforms a pixel between which they are interpolated, and reach in FWHM.
_PER_PIXEL, _COARSE_PER_PIXEL, _REACH_FWHM = 32, 2, 6.0
#: Two peaks are one source within this share of the FWHM of the band; in a wide band sources share their flux.
_SAME_FWHM, _BLEND_FWHM = 0.6, 0.5
#: Fainter than this share of a source within so many FWHM, a peak is what that one leaves, or a ring of the filter's.
_RING_SHARE, _RING_FWHM = 0.03, 6.0
#: So is one fainter than this share of a decrement, of a bright cluster, within so many FWHM. One that is less than
#: the decrement at its place in another band, above this S/N, is a cluster's increment.
_DECREMENT_SHARE, _DECREMENT_FWHM, _DECREMENT_SNR = 0.25, 3.0, 3.0
_LEAST_SNR = 2.0  # of a source in a band, to be subtracted from it
_RIDGE = 1e-3
# Positions are improved above this S/N, by so many pixels at most; and a new peak is so near its highest pixel.
_MOVED_SNR, _MOST_MOVED, _MOST_REFINED = 15.0, 0.3, 1.5


class Sources(NamedTuple):
    """Point sources: ``row``, ``column`` (m,) with fractions, and ``flux`` (m, n_band) in band unit x sr."""

    row: Floats
    column: Floats
    flux: Floats

    @classmethod
    def none(cls, n_band: int) -> Sources:
        return cls(np.zeros(0), np.zeros(0), np.zeros((0, n_band)))

    def with_peaks(self, row: Floats, column: Floats) -> Sources:
        """These and others, whose fluxes are not known yet."""
        flux = np.vstack([self.flux, np.zeros((len(row), self.flux.shape[1]))])
        return Sources(np.append(self.row, row), np.append(self.column, column), flux)

    def distances(self, row: Floats, column: Floats) -> Floats:
        """Distances of positions from these, in pixels, (n, m)."""
        return np.hypot(row[:, None] - self.row, column[:, None] - self.column)


def radial_tables(
    transforms: Floats, ell: Floats, modes: Floats, pixel_rad: float, reach_pixel: Floats
) -> list[Floats]:
    """sum over l of modes(l) x transform(l) J0(l r) of each band, 32 values a pixel, ending in 0.

    Parameters
    ----------
    transforms : (n_ell, n_band) float64
    ell, modes : (n_ell,) float64
    pixel_rad : float
    reach_pixel : (n_band,) float64
        Where each table ends.
    """
    radius = np.arange(math.ceil(reach_pixel.max() * _COARSE_PER_PIXEL) + 2) / _COARSE_PER_PIXEL
    values = j0(radius[:, None] * ell * pixel_rad) @ (modes[:, None] * transforms)
    tables = []
    for column, reach in zip(values.T, reach_pixel, strict=True):
        fine = np.arange(math.ceil(reach * _PER_PIXEL)) / _PER_PIXEL
        ending = np.cos(0.5 * math.pi * np.clip(2 * fine / reach - 1, 0, 1)) ** 2
        tables.append(np.append(CubicSpline(radius, column)(fine) * ending, [0.0, 0.0]))
    return tables


def reach_pixels(fwhm_pixel: Floats) -> Floats:
    """How far radial tables go."""
    return _REACH_FWHM * fwhm_pixel


def paint_sources(sources: Sources, profiles: list[Floats], out: Map32, sign: float = 1.0) -> None:
    """Add sources to (or with sign -1 subtract them from) bands, in place."""
    for b, profile in enumerate(profiles):
        _add_profiles(sources.row, sources.column, sign * sources.flux[:, b], profile, float(_PER_PIXEL), out[b])


def look_up(table: Floats, distance: Floats) -> Floats:
    """A radial table at distances in pixels."""
    return np.interp(distance * _PER_PIXEL, np.arange(table.size), table, right=0.0)


def refine_peaks(spline: Map32, row: Floats, column: Floats) -> tuple[Floats, Floats]:
    """Peaks of a map, given by its cubic spline's coefficients, where it is the same on both sides.

    A filtered source is symmetric, so that this is its position at any height of the spline between pixels.
    """
    row, column = row.copy(), column.copy()
    for _ in range(4):
        here, up, down, left, right = (
            _at(spline, row + i, column + j) for i, j in ((0, 0), (-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))
        )
        row += np.clip(0.25 * (down - up) / np.maximum(2 * here - up - down, 1e-6), -0.5, 0.5)
        column += np.clip(0.25 * (right - left) / np.maximum(2 * here - left - right, 1e-6), -0.5, 0.5)
    return row, column


def improve_positions(sources: Sources, splines: list[Map32], error: Floats, seen: list[Floats]) -> Sources:
    """Positions moved by the slope that a subtracted source leaves in the S/N map that tells its position best."""
    if not len(sources.row):
        return sources
    snr = sources.flux / error
    bend = np.array([2 * (1 - look_up(table, np.array([1.0]))[0]) for table in seen])  # h = 1 - bend r^2 / 2
    best = (snr * np.sqrt(np.maximum(bend, 0.0))).argmax(axis=1)
    row, column = sources.row.copy(), sources.column.copy()
    for b, spline in enumerate(splines):
        mine = np.flatnonzero((best == b) & (snr[:, b] > _MOVED_SNR))
        up, down, left, right = (
            _at(spline, row[mine] + i, column[mine] + j) for i, j in ((-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5))
        )
        scale = 1 / (snr[mine, b] * bend[b])
        row[mine] += np.clip((down - up) * scale, -_MOST_MOVED, _MOST_MOVED)
        column[mine] += np.clip((right - left) * scale, -_MOST_MOVED, _MOST_MOVED)
    return sources._replace(row=row, column=column)


def find_new_sources(
    peaks: list[tuple[NDArray[np.int64], NDArray[np.int64]]],
    snr_maps: Map32,
    splines: list[Map32],
    known: Sources,
    known_snr: Floats,
    fwhm_pixel: Floats,
) -> tuple[Floats, Floats]:
    """Positions of sources that are not known yet, each from the band that tells it best.

    Parameters
    ----------
    peaks : n_band of two (n,) int64
        Row and column of the peaks above the threshold in each band.
    snr_maps : (n_band, n, n) float32
    splines : n_band of (n, n) float32
        Coefficients of the S/N maps.
    known : Sources
    known_snr : (m, n_band) float64
        Their S/N.
    fwhm_pixel : (n_band,) float64
    """
    rows, columns, bands, heights = [], [], [], []
    for b, pixels in enumerate(peaks):
        start = pixels[0].astype(np.float64), pixels[1].astype(np.float64)
        i, j = refine_peaks(splines[b], *start)
        near = np.hypot(i - start[0], j - start[1]) < _MOST_REFINED
        i, j = (np.where(near, *both) for both in zip((i, j), start, strict=True))
        rows.append(i)
        columns.append(j)
        bands.append(np.full(i.size, b))
        heights.append(_at(splines[b], i, j))
    row, column, band, snr = (np.concatenate(part) for part in (rows, columns, bands, heights))
    order = np.argsort(fwhm_pixel[band] / np.maximum(snr, 1.0), kind="stable")
    all_row, all_column, all_snr = list(known.row), list(known.column), list(known_snr)
    for k in order:
        distance = np.hypot(np.array(all_row) - row[k], np.array(all_column) - column[k])
        own = np.array([one[band[k]] for one in all_snr]).reshape(-1)
        width = fwhm_pixel[band[k]]
        ring = (distance < _RING_FWHM * width) & (snr[k] < _RING_SHARE * own)
        if (distance < _SAME_FWHM * width).any() or ring.any():
            continue
        here = np.array([float(_at(spline, row[k : k + 1], column[k : k + 1])[0]) for spline in splines])
        i, j, reach = round(row[k]), round(column[k]), math.ceil(_DECREMENT_FWHM * width)
        box = snr_maps[band[k], max(i - reach, 0) : i + reach + 1, max(j - reach, 0) : j + reach + 1]
        if here.min() < -max(snr[k], _DECREMENT_SNR) or snr[k] < -_DECREMENT_SHARE * box.min():
            continue
        all_row.append(row[k])
        all_column.append(column[k])
        all_snr.append(here)
    new = slice(len(known.row), None)
    return np.array(all_row[new]), np.array(all_column[new])


def sample_splines(splines: list[Map32], row: Floats, column: Floats) -> Floats:
    """Maps at positions, (m, n_band)."""
    return np.stack([_at(spline, row, column) for spline in splines], axis=1)


def solve_fluxes(v: Floats, error: Floats, sources: Sources, seen: list[Floats], fwhm_pixel: Floats) -> Floats:
    """Fluxes of all sources in every band at once, (m, n_band); 0 where they are below S/N 2.

    Of sources nearer than half of a band's FWHM the one that comes first has the flux of all in that band.

    Parameters
    ----------
    v : (m, n_band) float64
        Flux that the band's filter gives at each, with nothing subtracted.
    error : (m, n_band) float64
        Its error.
    sources : Sources
        The brightest first.
    seen : n_band of (n_r,) float64
        Radial tables of h.
    fwhm_pixel : (n_band,) float64
    """
    distance = sources.distances(sources.row, sources.column)
    flux = np.zeros_like(v)
    for b, table in enumerate(seen):
        near = np.triu(distance < _BLEND_FWHM * fwhm_pixel[b], 1)
        active = np.ones(len(v), bool)
        for k in range(len(v)):
            if active[k]:
                active[near[k]] = False
        response = look_up(table, distance)
        for _ in range(4):
            use = np.flatnonzero(active)
            if not use.size:
                break
            system = response[np.ix_(use, use)] + _RIDGE * np.eye(use.size)
            found = np.linalg.solve(system, (1 + _RIDGE) * v[use, b])
            faint = found < _LEAST_SNR * error[use, b]
            if not faint.any():
                flux[use, b] = found
                break
            active[use[faint]] = False
        else:
            flux[use, b] = np.where(faint, 0.0, found)
    return flux


def _at(spline: Map32, row: Floats, column: Floats) -> Floats:
    return np.asarray(
        ndimage.map_coordinates(spline, [row, column], np.float64, order=3, mode="mirror", prefilter=False)
    )


@njit(cache=True, nogil=True)
def _add_profiles(row, column, flux, profile, per_pixel, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Add flux x profile(distance) of every source; the profile has ``per_pixel`` values a pixel and ends in 0."""
    rows, columns = out.shape
    reach = (profile.size - 2) / per_pixel
    for k in range(row.size):
        if flux[k] == 0.0:
            continue
        i0, i1 = max(0, int(np.ceil(row[k] - reach))), min(rows, int(np.floor(row[k] + reach)) + 1)
        j0, j1 = max(0, int(np.ceil(column[k] - reach))), min(columns, int(np.floor(column[k] + reach)) + 1)
        for i in range(i0, i1):
            for j in range(j0, j1):
                at = np.sqrt((i - row[k]) ** 2 + (j - column[k]) ** 2) * per_pixel
                left = int(at)
                if left < profile.size - 1:
                    here = profile[left] + (at - left) * (profile[left + 1] - profile[left])
                    out[i, j] += np.float32(flux[k] * here)
