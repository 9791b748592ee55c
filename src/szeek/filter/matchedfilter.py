r"""Multi-frequency matched filter: how Planck, ACT and SPT find clusters, and what SZeek is measured against.

    v(x) = int d^2k/(2 pi)^2 e^{ikx} t^T P^-1 d,     1/sigma^2 = int d^2k/(2 pi)^2 t^T P^-1 t,     t_b = a_b B_b s
    Y5R500(x) = sigma^2 v,     S/N = sigma v

d(k) are the bands of a flat field, P(k) their cross-power matrix, a_b the tSZ response, B_b(k) beam and pixel, and
s(k theta500) the transform of the pressure profile (:mod:`szeek.physics.gas`). P is measured on the field itself:
first with all that is in it, then again with the detections filled in, so that clusters do not count as noise.

Source: Herranz et al. (2002), MNRAS 336, 1057; Melin, Bartlett & Delabrouille (2006), A&A 459, 341, Sect. 3; Planck
2015 results XXVII (A&A 594, A27), Sect. 2. As there, compact sources above S/N 10 are filled in, detections on them
left out, and detections are peaks over position and size, merged over fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import healpy
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree

from szeek.filter.kernels import add_scaled, raise_best, relax, sum_products, sum_rings, weight_modes
from szeek.filter.states import FieldState
from szeek.inputs.instrument import read_instrument
from szeek.parallel import Progress, spread
from szeek.physics.gas import Y5R500_PER_Y500, profile_transform
from szeek.physics.instrument import Instrument
from szeek.physics.tsz import band_response
from szeek.sky.healpix import interpolation_sigma_rad, lonlat_deg, pixel_window_sigma_rad, unit_vectors
from szeek.sky.projection import field_basis, project, sample_field
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import TILE_NSIDE

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]
Complex = NDArray[np.complex64]
Mask = NDArray[np.bool_]

#: Sizes that are tried; below 0.9 arcmin every cluster is a beam.
THETA500_ARCMIN = np.geomspace(0.9, 35.0, 14)
#: Added to the bands' correlation matrix: transforms in float32 know it to 1e-7, and where dust is all there is to
#: see its smallest eigenvalue is no larger, or negative.
_LEAST_EIGENVALUE = 1e-6
#: One field for each HEALPix pixel of this nside; a position belongs to the field whose pixel it is in.
FIELD_NSIDE = 8
FIELD_DEG = 14.66

_TAPER_DEG = 0.3
_ELL_STEP = 12.0  # of the radial tables: half the spacing of a field's modes
_ELL_SMOOTHING = 30.0  # sigma of the Gaussian that smooths the cross-power: over 250 modes at l = 500
_NYQUIST_SHARE = 0.85  # higher multipoles are not used
_CLUSTER_SNR = 4.5  # detections that are no noise
# Compact sources: found above the first S/N in one band, filled in as far as the bands reach that have them above the
# second. Small detections within the radius count as made by them; large ones do not.
_COMPACT_SNR, _FILL_SNR = 10.0, 3.0
_ROUNDS, _CLUSTERS = (0, 1), 2  # of the holes: the rounds of compact sources, and the detections
_POINT_SNR = 5.0  # of the compact sources that are listed
_COMPACT_ARCMIN, _LARGE_THETA500_ARCMIN = 8.0, 8.0
_KEEP_ARCMIN = 10.0
# Two detections are one within the radius, or within half of the larger theta500.
_MERGE_ARCMIN, _MERGE_THETA500 = 8.0, 0.5
_FOOTPRINT_NSIDE = 256
_ARCMIN = math.pi / 10800
_FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))


class Peaks(NamedTuple):
    """Peaks of the S/N in a field: row and column (with fractions), S/N, number of the size."""

    row: Floats
    column: Floats
    snr: Floats
    size: NDArray[np.int64]


class PointPeaks(NamedTuple):
    """Peaks of the point-source S/N in the single bands of a field, each one source as one band sees it.

    ``row``, ``column`` (with fractions), number of the ``band``, ``snr``, ``error`` of the flux (band unit x sr at
    the field's centre), and ``reach_arcmin``, where the filtered source falls below a quarter of the noise.
    """

    row: Floats
    column: Floats
    band: NDArray[np.int64]
    snr: Floats
    error: Floats
    reach_arcmin: Floats


class FilteredField:
    """A flat field with the cross-power of its bands, to be filtered for clusters of any size.

    Parameters
    ----------
    maps : SkyMaps
    lon_deg, lat_deg : float
        Centre of the field, Galactic.
    instrument : Instrument
        tSZ response of the bands.
    keep : (m, 3) float64, optional
        Directions about which nothing is filled in, because it shall be measured: 10 arcmin.
    known : FieldState, optional
        What was learnt of this field of these maps before: compact sources and P. Not looked for again.
    noise : FieldState, optional
        What was learnt of this field before clusters were injected into the maps: P is that of the field without
        them, and compact sources are looked for anew. So what is injected never counts as noise.
    iterate : bool
        Measure P again without the detections.

    Attributes
    ----------
    n : int
        Pixels of a side.
    pixel_arcmin : float
    basis : (3, 3) float64
        Centre, east and north, as :func:`szeek.sky.projection.field_basis` has them.
    ell : (n_ell,) float64
        Multipoles of the radial tables.
    valid, compact : (n, n) bool
        Seen and 0.3 deg away from what is not; near a compact source.
    unit : (n_band,) float64
        Rms of each band in the field, in its map unit; inside, bands count in it.
    bands : tuple of Band
    instrument : Instrument
    point_peaks : PointPeaks
        Compact sources of S/N 5 or more in any single band, see :mod:`szeek.filter.compact`; None where ``known``.

    Raises
    ------
    ValueError
        If what is known is of other maps.
    """

    def __init__(
        self,
        maps: SkyMaps,
        lon_deg: float,
        lat_deg: float,
        instrument: Instrument,
        *,
        keep: Floats | None = None,
        known: FieldState | None = None,
        noise: FieldState | None = None,
        iterate: bool = True,
    ) -> None:
        self.bands, self.instrument = maps.bands, instrument
        self.point_peaks: PointPeaks | None = None
        self.pixel_arcmin = float(healpy.nside2resol(maps.nside, arcmin=True))
        self.n = 2 * fft.next_fast_len(math.ceil(FIELD_DEG * 30 / self.pixel_arcmin))
        self.basis = field_basis(lon_deg, lat_deg)
        self._modes, self._count, self.ell = _radial_modes(self.n, self.pixel_arcmin)
        columns = [instrument.band_names.index(band.name) for band in maps.bands]
        details = [instrument.details[column] for column in columns]
        fwhm = np.array([band.fwhm_arcmin for band in maps.bands])
        window = np.where([detail.pixel_window for detail in details], pixel_window_sigma_rad(maps.nside), 0.0)
        pixel = np.hypot(window, interpolation_sigma_rad(maps.nside, lat_deg)) / _ARCMIN
        self._sigma_arcmin = np.hypot(fwhm / _FWHM_PER_SIGMA, pixel)
        self._beam = np.exp(-0.5 * (self.ell[:, None] * self._sigma_arcmin * _ARCMIN) ** 2)
        for b, detail in enumerate(details):
            if detail.beam is not None:
                self._beam[:, b] = detail.beam(self.ell) * np.exp(-0.5 * (self.ell * pixel[b] * _ARCMIN) ** 2)
        self._n_used = int(np.searchsorted(self.ell, _NYQUIST_SHARE * 10800 / self.pixel_arcmin, side="right"))
        self._beam[self._n_used :] = 0.0

        bands = self._cut(maps, lon_deg, lat_deg, None if noise is None else noise.unit)
        #: tSZ signal per Compton y, in those units.
        self.response = band_response(instrument)[columns] / self.unit
        if noise is not None:
            quiet, _, _ = self._find_compact_sources(bands)
            self._set_data(bands, quiet, keep)
            self._set_inverse(noise.full_inverse())
        elif known is None:
            self._learn(bands, keep, iterate)
        else:
            self._continue(bands, keep, known)

    def _learn(self, bands: Map32, keep: Floats | None, iterate: bool) -> None:
        """Find compact sources, clusters, and the noise without them."""
        quiet, transforms, faint = self._find_compact_sources(bands)
        whole = self._set_data(bands, quiet, keep)
        power = self._set_power(self._transform if whole else fft.rfft2(quiet * self._window), self._window)
        # what was filled in, in the noise without it; the rest was seen without what hides it
        bright = self._point_peaks(*self._point_snr(transforms, power), self._hole_mask(*_ROUNDS))
        self.point_peaks = PointPeaks(*(np.concatenate(both) for both in zip(bright, faint, strict=True)))
        self._first = self._weights[: self._n_used], self._information[: self._n_used]
        if iterate:
            self._take_out(self._find_clusters(), quiet)

    def _continue(self, bands: Map32, keep: Floats | None, known: FieldState) -> None:
        """Do the same with what is known of the field."""
        if not known.fits(self.unit, self._n_used):
            expected, found = (", ".join(f"{rms:.4g}" for rms in unit) for unit in (known.unit, self.unit))
            raise ValueError(
                "what the filter has learnt of a field is of other maps: its bands have an rms of "
                f"{expected}, found {found}; run the filter stage on these maps"
            )
        quiet, self._holes = bands.copy(), known.holes
        for number in _ROUNDS:
            _fill_holes(quiet, self._hole_mask(number))
        self._set_inverse(known.full_inverse())
        self._first = known.first_weights, known.first_information
        if self._set_data(bands, quiet, keep):
            return
        # what was kept may be taken for a cluster, or hide one
        self._set_weights(*self._first)
        clusters = self._find_clusters()
        if np.array_equal(_discs(self.n, *clusters.T), self._hole_mask(_CLUSTERS)):
            self._set_inverse(known.full_inverse())
        else:
            self._take_out(clusters, quiet)

    def _set_data(self, bands: Map32, quiet: Map32, keep: Floats | None) -> bool:
        """Transform the data, and note what is near compact sources; returns whether nothing that was filled is kept.

        Parameters
        ----------
        bands, quiet : (n_band, n, n) float32
            As they are, and with compact sources filled in.
        keep : (m, 3) float64, optional
        """
        compact = self._holes[self._holes[:, 0] < _CLUSTERS]
        reach = np.full(len(compact), _COMPACT_ARCMIN / self.pixel_arcmin)
        self.compact: Mask = _discs(self.n, compact[:, 1], compact[:, 2], reach)
        whole = True
        if keep is not None:
            kept = _discs(self.n, *self.pixels(keep), np.full(len(keep), _KEEP_ARCMIN / self.pixel_arcmin))
            whole = not (kept & self._hole_mask(*_ROUNDS)).any()
        data = quiet if whole else np.where(kept, bands, quiet)
        self._transform: Complex = fft.rfft2(data * self._window)
        return whole

    def _find_clusters(self) -> Floats:
        """Row, column and radius, in pixels, of the holes that detections make, (n, 3)."""
        peaks = self.find_peaks(*self.best_snr(), _CLUSTER_SNR)
        radius = np.clip(2 * THETA500_ARCMIN[peaks.size], 10.0, 60.0) / self.pixel_arcmin
        return np.column_stack([peaks.row, peaks.column, radius])

    def _take_out(self, clusters: Floats, quiet: Map32) -> None:
        """Measure P again without the detections, which are filled in."""
        compact = self._holes[self._holes[:, 0] < _CLUSTERS]
        self._holes = np.vstack([compact, np.insert(clusters, 0, _CLUSTERS, axis=1)])
        holes = self._hole_mask(_CLUSTERS)
        _fill_holes(quiet, holes)
        self._set_power(fft.rfft2(quiet * self._window), self._window * ~holes)

    @property
    def _area(self) -> float:
        return float((self.n * self.pixel_arcmin * _ARCMIN) ** 2)

    @property
    def state(self) -> FieldState:
        """What was learnt of the field, for another :class:`FilteredField` to continue from."""
        return FieldState.pack(self.unit, self._holes, self._inverse[: self._n_used], *self._first)

    def _cut(self, maps: SkyMaps, lon_deg: float, lat_deg: float, unit: Floats | None) -> Map32:
        """The bands less their mean, in units of their rms or in those given."""
        sky = sample_field(maps, lon_deg, lat_deg, 0.0, self.n, self.n, self.pixel_arcmin)
        seen = ~np.isnan(sky[..., 0])
        self._window = _whole_taper(self.n, self.pixel_arcmin) if seen.all() else _taper(seen, self.pixel_arcmin)
        self.valid: Mask = self._window > 0.99
        bands = np.ascontiguousarray(np.moveaxis(sky, -1, 0))
        if not seen.all():
            bands[:, ~seen] = 0.0
        weight = self._window / self._window.sum(dtype=np.float64)
        bands -= np.einsum("bij,ij->b", bands, weight).astype(np.float32)[:, None, None]
        self.unit = np.sqrt(np.einsum("bij,bij,ij->b", bands, bands, weight)) if unit is None else unit
        bands /= self.unit.astype(np.float32)[:, None, None]
        return bands

    def _set_power(self, transform: Complex, window: Map32) -> Floats:
        """Invert the cross-power of tapered bands; returns the bands' own power, (n_ell, n_band)."""
        power = _cross_power(transform, window, self._modes, self._count, self.ell, self.pixel_arcmin)
        rms = np.sqrt(np.einsum("lbb->lb", power))
        used = power[: self._n_used]
        scale = rms[: self._n_used, :, None] * rms[: self._n_used, None, :]
        self._set_inverse(np.linalg.inv(used / scale + _LEAST_EIGENVALUE * np.eye(power.shape[1])) / scale)
        return np.asarray(rms**2, np.float64)

    def _set_inverse(self, inverse: Floats) -> None:
        """Use this inverse cross-power, at the multipoles that are used, and the tSZ spectrum's weights by it."""
        self._inverse = np.zeros((self.ell.size, *inverse.shape[1:]))
        self._inverse[: len(inverse)] = inverse
        template = self._beam * self.response
        weights = np.einsum("lb,lbc->lc", template, self._inverse)
        self._set_weights(weights, np.einsum("lc,lc->l", weights, template))

    def _set_weights(self, weights: Floats, information: Floats) -> None:
        """Weights of the bands at the multipoles that are used, and what they give."""
        self._weights, self._information = np.zeros((self.ell.size, len(self.unit))), np.zeros(self.ell.size)
        self._weights[: len(weights)], self._information[: len(information)] = weights, information
        self._weighted: Complex | None = None

    def _weigh(self) -> Complex:
        """The data, weighted; made when a map is."""
        if self._weighted is None:
            self._weighted = np.zeros(self._transform.shape[1:], np.complex64)
            for band, weight in zip(self._transform, self._weights.T.astype(np.float32), strict=True):
                add_scaled(band, self._modes, weight, self._weighted)
        return self._weighted

    def _back(self, scale: Floats, transform: Complex) -> Map32:
        """A transform times a function of l, as a map."""
        scaled = np.zeros_like(transform)
        add_scaled(transform, self._modes, scale.astype(np.float32), scaled)
        return np.asarray(fft.irfft2(scaled, (self.n, self.n), overwrite_x=True), np.float32)

    def snr_map(self, theta500_arcmin: float) -> tuple[Map32, float]:
        """S/N of a cluster of this size at every pixel, (n, n) float32, and the error of its Y5R500, arcmin^2.

        The error is that at the field's centre; elsewhere pixels are larger than their true area, see
        :meth:`directions`.
        """
        shape = profile_transform(self.ell * (theta500_arcmin * _ARCMIN))
        sigma = math.sqrt(self._area / float(self._count @ (shape**2 * self._information)))
        v = self._back(shape, self._weigh())
        v *= np.float32(sigma)
        return v, sigma / _ARCMIN**2

    def ring_sums(self, vectors: Floats) -> Floats:
        """B P^-1 d at positions, summed over the modes of each multipole: (m, n_ell, n_band) float64.

        One pass over the modes serves all sizes: v of a shape s is the sum over l of s(l) times this.

        Parameters
        ----------
        vectors : (m, 3) float64
            Directions inside the field.
        """
        row, column = self.pixels(vectors)
        weights = (self._beam[:, :, None] * self._inverse).astype(np.float32)
        weighted = np.empty((*self._modes.shape, len(self.unit)), np.complex64)
        weight_modes(self._transform, self._modes, weights, weighted)
        sums = np.zeros((len(vectors), self.ell.size, len(self.unit)))
        for out, i, j in zip(sums, row, column, strict=True):
            along_row = np.exp(2j * math.pi * fft.fftfreq(self.n) * i)
            along_column = np.exp(2j * math.pi * fft.rfftfreq(self.n) * j) * _mirrored(self.n) / self.n**2
            sum_rings(weighted, self._modes, along_row, along_column, out)
        return sums

    def information(self, shape: Floats, seen: Floats | None = None) -> Floats:
        """Inverse covariance of the bands' fluxes for a source of this shape, (..., n_band, n_band).

        Parameters
        ----------
        shape : (..., n_ell) float64
            Transform of the source of unit flux, without beam.
        seen : (..., n_ell) float64, optional
            Of another source, that is there: times its fluxes the result is v of the shape (:meth:`ring_sums`).
        """
        per_mode = self._beam[:, :, None] * self._inverse * self._beam[:, None, :]
        weight = shape * (shape if seen is None else seen) * (self._count / self._area)
        n_band = len(self.unit)
        return np.asarray(weight @ per_mode.reshape(-1, n_band**2)).reshape(*shape.shape[:-1], n_band, n_band)

    def sum_y(self, sums: Floats, kernel: Floats) -> tuple[Floats, float]:
        """Compton y under a kernel, from the bands weighted for least noise at each multipole.

        Parameters
        ----------
        sums : (m, n_ell, n_band) float64
            From :meth:`ring_sums`.
        kernel : (n_ell,) float64
            Transform of the kernel, of whatever resolution it has.

        Returns
        -------
        (m,) float64, float
            Sums of y, in the kernel's unit, and their error.
        """
        known = self._information > 0
        weight = np.where(known, kernel / np.where(known, self._information, 1.0), 0.0)
        error = math.sqrt(float(self._count @ (weight * kernel)) / self._area)
        return np.einsum("l,mlb,b->m", weight, sums, self.response), error

    def best_snr(self) -> tuple[Map32, NDArray[np.int8]]:
        """Highest S/N over the sizes at every pixel, and the number of that size."""
        best, size = self.snr_map(THETA500_ARCMIN[0])[0], np.zeros((self.n, self.n), np.int8)
        for number, theta in enumerate(THETA500_ARCMIN[1:], start=1):
            raise_best(self.snr_map(theta)[0], number, best, size)
        return best, size

    def find_peaks(self, best: Map32, size: NDArray[np.int8], snr_min: float, where: Mask | None = None) -> Peaks:
        """Peaks of the best S/N above a threshold, where they count (and within ``where``)."""
        counts = self.valid & (~self.compact | (THETA500_ARCMIN[size] > _LARGE_THETA500_ARCMIN))
        if where is not None:
            counts &= where
        counts[[0, -1]] = counts[:, [0, -1]] = False
        row, column = _highest_around(best, counts & (best > snr_min))
        here = best[row, column]
        return Peaks(
            row + _vertex(best[row - 1, column], here, best[row + 1, column]),
            column + _vertex(best[row, column - 1], here, best[row, column + 1]),
            here.astype(np.float64),
            size[row, column].astype(np.int64),
        )

    def directions(self, row: ArrayLike, column: ArrayLike) -> tuple[Floats, Floats]:
        """Unit vectors of pixels, (..., 3), and their true area over the central one's, cos^3 of the distance."""
        scale = self.pixel_arcmin * _ARCMIN
        x, y = (scale * (np.asarray(at, np.float64) - 0.5 * (self.n - 1)) for at in (column, row))
        length = np.sqrt(1 + x**2 + y**2)
        vectors = (self.basis[0] + x[..., None] * self.basis[1] + y[..., None] * self.basis[2]) / length[..., None]
        return vectors, length**-3

    def pixels(self, vectors: Floats) -> tuple[Floats, Floats]:
        """Rows and columns, with fractions, of directions in the field's half of the sky."""
        x, y, _ = project(self.basis, vectors, self.pixel_arcmin)
        return y + 0.5 * (self.n - 1), x + 0.5 * (self.n - 1)

    def is_valid(self, vectors: Floats) -> Mask:
        """Whether the pixels of directions are valid, (m,)."""
        row, column = (np.clip(np.rint(at), 0, self.n - 1).astype(int) for at in self.pixels(vectors))
        return np.asarray(self.valid[row, column])

    def _find_compact_sources(self, bands: Map32) -> tuple[Map32, list[Complex], PointPeaks]:
        """Bands with compact sources filled in, the transforms of the bands, and the peaks of what was not filled in.

        Found in the bands in which no cluster is bright: those up to 217 GHz, where it is dark, and 857 GHz, where
        what contaminates 353 and 545 GHz is brightest.
        """
        contaminants = [b for b, band in enumerate(self.bands) if band.freq_ghz < 230 or band.freq_ghz > 700]
        quiet, self._holes = bands.copy(), np.zeros((0, 4))
        first: list[Complex] = []
        for number in _ROUNDS:  # a bright source hides fainter ones
            transforms = [fft.rfft2(band * self._window) for band in quiet]
            powers = [
                _cross_power(of_band[None], self._window, self._modes, self._count, self.ell, self.pixel_arcmin)
                for of_band in transforms
            ]
            snr, error = self._point_snr(transforms, np.concatenate(powers, axis=1)[..., 0])
            bright = np.zeros((self.n, self.n), bool)
            for b in contaminants:
                bright[_highest_around(snr[b], (snr[b] > _COMPACT_SNR) & (self._window > 0))] = True
            row, column = np.nonzero(bright)
            # to where the beam has fallen to a quarter of the noise in the band that sees it farthest; the same hole
            # in every band, or else what is missing of the CMB in one of them looks like a cluster
            here = snr[:, row, column]
            reach = self._sigma_arcmin[:, None] * np.sqrt(2 * np.log(np.maximum(4 * here, 1.0)))
            reach = np.where(here > _FILL_SNR, reach, 0.0).max(axis=0, initial=0.0) / self.pixel_arcmin
            self._holes = np.vstack([self._holes, np.column_stack([np.full(row.size, number), row, column, reach])])
            _fill_holes(quiet, self._hole_mask(number))
            first = first or transforms
        return quiet, first, self._point_peaks(snr, error, ~self._hole_mask(*_ROUNDS))

    def _hole_mask(self, *kinds: int) -> Mask:
        """What was filled in, as holes of these kinds."""
        return _discs(self.n, *self._holes[np.isin(self._holes[:, 0], kinds), 1:].T)

    def _point_peaks(self, snr: Map32, error: Floats, where: Mask) -> PointPeaks:
        """Peaks of the single bands' S/N, of the errors given."""
        found = []
        for b, map_ in enumerate(snr):
            inside = where & self.valid & (map_ > _POINT_SNR)
            inside[[0, -1]] = inside[:, [0, -1]] = False
            row, column = _highest_around(map_, inside)
            # in logarithms the parabola is a Gaussian: no flux is lost between pixels
            here, up, down, left, right = (
                np.log(np.maximum(map_[row + i, column + j], 1.0))
                for i, j in ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
            )
            i, j = _vertex(up, here, down), _vertex(left, here, right)
            height = np.exp(here + 0.25 * (i * (down - up) + j * (right - left)))
            found.append((row + i, column + j, np.full(row.size, b), height))
        rows, columns, band, height = map(np.concatenate, zip(*found, strict=True))
        # filtered, a source is a beam convolved with itself, if the noise is white
        reach = self._sigma_arcmin[band] * 2 * np.sqrt(np.log(4 * height))
        return PointPeaks(rows, columns, band, height, error[band], reach)

    def _point_snr(self, transforms: Sequence[Complex], power: Floats) -> tuple[Map32, Floats]:
        """S/N of a point source in each band by itself, and the errors of its flux.

        Parameters
        ----------
        transforms : n_band of (n, n // 2 + 1) complex64
            Tapered bands.
        power : (n_ell, n_band) float64
            Of their noise.

        Returns
        -------
        (n_band, n, n) float32, (n_band,) float64
            The errors in band unit x sr.
        """
        snr, errors = np.empty((len(transforms), self.n, self.n), np.float32), np.empty(len(transforms))
        for b, transform in enumerate(transforms):
            weight = self._beam[:, b] / power[:, b]
            errors[b] = math.sqrt(self._area / float(self._count @ (weight * self._beam[:, b])))
            snr[b] = self._back(weight, transform)
            snr[b] *= np.float32(errors[b])
        return snr, errors


def matched_filter(
    maps: SkyMaps,
    *,
    instrument: str | Instrument = "planck-hfi",
    tiles: Iterable[int] | None = None,
    snr_min: float = 4.5,
    threads: int | None = None,
    out: Map32 | None = None,
    progress: Progress | None = None,
) -> Table:
    """Clusters in maps, by the multi-frequency matched filter.

    Source: Melin, Bartlett & Delabrouille (2006); Planck 2015 results XXVII, Sect. 2.

    Deviation: P is measured again without the detections above S/N 4.5. A position belongs to the field whose HEALPix
    pixel of nside 8 it is in. Extended detections on compact sources are kept. Detections are merged within 8 arcmin
    or half of the larger theta500.

    Parameters
    ----------
    maps : SkyMaps
        Full sky, or any footprint some degrees wide, of nside 64 or more.
    instrument : str or Instrument
        tSZ response of the bands.
    tiles : iterable of int, optional
        Search these of the 48 tiles only.
    snr_min : float
        Threshold.
    threads : int, optional
        Fields at once; the machine's cores by default. The result does not depend on it.
    out : (n_pix,) float32, optional
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
    """
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    check_bands_known(maps, setup)
    fields = list_fields(maps, tiles)
    if not len(fields):
        raise ValueError("no pixel of the maps is seen in the tiles that were asked for")

    def work(number: int) -> Table:
        pixel, lon_deg, lat_deg = (fields[name][number] for name in ("pixel", "lon_deg", "lat_deg"))
        field = FilteredField(maps, float(lon_deg), float(lat_deg), setup)
        best, size = field.best_snr()
        vectors, _ = field.directions(*np.indices(best.shape))
        own = healpy.vec2pix(FIELD_NSIDE, *np.moveaxis(vectors, -1, 0)) == int(pixel)
        if out is not None:
            _write_owned(field, best, int(pixel), maps, out)
        # two more pixels, so that a peak on the border is in one field at least
        peaks = field.find_peaks(best, size, snr_min, ndimage.binary_dilation(own, iterations=2))
        vectors, true_area = field.directions(peaks.row, peaks.column)
        sigma = np.array([field.snr_map(theta)[1] for theta in THETA500_ARCMIN])[peaks.size]
        error = sigma * true_area / Y5R500_PER_Y500
        lon, lat = lonlat_deg(vectors)
        return Table(
            {
                "lon_deg": lon,
                "lat_deg": lat,
                "snr": peaks.snr,
                "theta500_arcmin": THETA500_ARCMIN[peaks.size],
                "y500_arcmin2": peaks.snr * error,
                "y500_err_arcmin2": error,
            }
        )

    found = spread(work, range(len(fields)), threads=threads, progress=progress, stage="filter", detail="fields")
    return merge_detections(vstack([table for _, table in found]))


def merge_detections(detections: Table) -> Table:
    """Highest S/N first, without those within 8 arcmin, or half of theta500 if that is more, of a higher one.

    Parameters
    ----------
    detections : Table
        ``lon_deg``, ``lat_deg``, ``snr``, ``theta500_arcmin``.
    """
    detections = detections[np.argsort(-np.asarray(detections["snr"]), kind="stable")]
    if not len(detections):
        return detections
    vectors = unit_vectors(np.asarray(detections["lon_deg"]), np.asarray(detections["lat_deg"]))
    radius_arcmin = np.maximum(_MERGE_ARCMIN, _MERGE_THETA500 * np.asarray(detections["theta500_arcmin"]))
    kept = np.ones(len(detections), bool)
    for k, near in enumerate(cKDTree(vectors).query_ball_point(vectors, 2 * np.sin(radius_arcmin * _ARCMIN / 2))):
        if kept[k]:
            kept[[other for other in near if other > k]] = False
    return detections[kept]


def list_fields(maps: SkyMaps, tiles: Iterable[int] | None = None) -> Table:
    """Fields that cover what is seen: ``pixel`` (of nside 8, RING) and centre ``lon_deg``, ``lat_deg``.

    The centre is the barycentre of what is seen of the pixel, so that a small footprint lies amid its fields.

    Parameters
    ----------
    maps : SkyMaps
    tiles : iterable of int, optional
        Those in these of the 48 tiles only.
    """
    coarse = min(_FOOTPRINT_NSIDE, maps.nside)
    vectors = np.stack(healpy.pix2vec(coarse, np.arange(12 * coarse**2)), axis=1)
    vectors = vectors[maps.footprint[healpy.vec2pix(maps.nside, *vectors.T)]]
    pixel = healpy.vec2pix(FIELD_NSIDE, *vectors.T)
    sums: Floats = np.stack([np.bincount(pixel, v, 12 * FIELD_NSIDE**2) for v in vectors.T], axis=1).astype(float)
    wanted = np.bincount(pixel, minlength=12 * FIELD_NSIDE**2) > 0
    if tiles is not None:
        centres = healpy.pix2vec(FIELD_NSIDE, np.arange(12 * FIELD_NSIDE**2))
        wanted &= np.isin(healpy.vec2pix(TILE_NSIDE, *centres), list(tiles))
    lon_deg, lat_deg = lonlat_deg(sums[wanted])
    # a hair west of the meridian stays 360: the last bits of the field are those of a seed's maps
    lon_deg[(lon_deg == 0.0) & (sums[wanted][:, 1] < 0.0)] = 360.0
    return Table({"pixel": np.flatnonzero(wanted), "lon_deg": lon_deg, "lat_deg": lat_deg})


def check_bands_known(maps: SkyMaps, instrument: Instrument) -> None:
    """Raise ValueError if the maps have a band that the instrument has not, in another unit, or too large pixels."""
    known = {band.name: band.unit for band in instrument.bands}
    for band in maps.bands:
        if known.get(band.name) != band.unit:
            listed = ", ".join(f"{name} in {unit}" for name, unit in known.items())
            raise ValueError(f"band {band.name} in {band.unit} is none of {instrument.name}'s: {listed}")
    if maps.nside < 64:
        raise ValueError(f"the maps have nside {maps.nside}, expected at least 64 for the matched filter")


def _write_owned(field: FilteredField, best: Map32, pixel: int, maps: SkyMaps, out: Map32) -> None:
    """The best S/N at the HEALPix pixels that a field owns."""
    n_child = (maps.nside // FIELD_NSIDE) ** 2
    nested = healpy.ring2nest(FIELD_NSIDE, pixel) * n_child + np.arange(n_child)
    ipix = healpy.nest2ring(maps.nside, nested)
    ipix = ipix[maps.footprint[ipix]]
    at = field.pixels(np.stack(healpy.pix2vec(maps.nside, ipix), axis=1))
    out[ipix] = ndimage.map_coordinates(best, at, order=1, mode="nearest")


@cache
def _radial_modes(n: int, pixel_arcmin: float) -> tuple[NDArray[np.int32], Floats, Floats]:
    """Number in the radial table of each mode of rfft2, the modes (of the whole plane) per entry, and its l."""
    frequency = 2 * math.pi / (pixel_arcmin * _ARCMIN)
    ell = frequency * np.hypot(fft.fftfreq(n)[:, None], fft.rfftfreq(n)[None, :])
    modes: NDArray[np.int32] = np.rint(ell / _ELL_STEP).astype(np.int32)
    count: Floats = np.bincount(modes.ravel(), np.broadcast_to(_mirrored(n), modes.shape).ravel()).astype(float)
    return modes, count, _ELL_STEP * np.maximum(np.arange(count.size), 0.5)


def _mirrored(n: int) -> Floats:
    """How many modes of the whole plane each column of rfft2 (n even) stands for."""
    return np.concatenate([[1.0], np.full(n // 2 - 1, 2.0), [1.0]])


def _cross_power(
    transform: Complex, window: Map32, modes: NDArray[np.int32], count: Floats, ell: Floats, pixel_arcmin: float
) -> Floats:
    """Cross-power of tapered bands against l, smoothed, (n_ell, n_band, n_band), band units squared x sr.

    l^2 P is smoothed: it hardly varies over a few tens of multipoles, for CMB and dust alike.
    """
    n_band = len(transform)
    row, column = np.tril_indices(n_band)
    sums = np.zeros((ell.size, row.size))
    sum_products(transform, modes, _mirrored(window.shape[0]).astype(np.float32), sums)
    kernel = _smoothing(ell.size)
    scale = (pixel_arcmin * _ARCMIN) ** 2 / float((window.astype(np.float64) ** 2).sum()) / (kernel @ count) / ell**2
    power = np.empty((ell.size, n_band, n_band))
    for pair, (b, c) in enumerate(zip(row, column, strict=True)):
        power[:, b, c] = power[:, c, b] = scale * (kernel @ (sums[:, pair] * ell**2))
    return power


@cache
def _smoothing(n_ell: int) -> Floats:
    step = np.arange(n_ell)
    return np.asarray(np.exp(-0.5 * ((step[:, None] - step) * (_ELL_STEP / _ELL_SMOOTHING)) ** 2))


def _highest_around(values: Map32, where: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the pixels, of those few, that no other within two pixels exceeds."""
    row, column = np.nonzero(where)
    padded = np.pad(values, 2, constant_values=-np.inf)
    for i in range(5):
        for j in range(5):
            highest = values[row, column] >= padded[row + i, column + j]
            row, column = row[highest], column[highest]
    return row, column


def _vertex(before: Map32, here: Map32, after: Map32) -> Floats:
    """Vertices of the parabolas through three pixels, in pixels from the middle one, the highest."""
    return np.asarray(0.5 * (after - before) / np.maximum(2 * here - before - after, 1e-6), np.float64)


@cache
def _whole_taper(n: int, pixel_arcmin: float) -> Map32:
    return _taper(np.ones((n, n), bool), pixel_arcmin)


def _taper(seen: Mask, pixel_arcmin: float) -> Map32:
    """Window that rises from 0 at the edge of what is seen to 1 inside, as a squared sine."""
    distance = ndimage.distance_transform_edt(np.pad(seen, 1))[1:-1, 1:-1] * pixel_arcmin / (60 * _TAPER_DEG)
    return np.asarray(np.sin(0.5 * math.pi * np.clip(distance, 0, 1)) ** 2, np.float32)


def _discs(n: int, row: ArrayLike, column: ArrayLike, radius_pixel: Floats) -> Mask:
    """True within the radius of any of the positions, (n, n)."""
    mask = np.zeros((n, n), bool)
    for y, x, r in zip(np.asarray(row), np.asarray(column), radius_pixel, strict=True):
        i0, i1 = (min(max(k, 0), n) for k in (math.ceil(y - r), math.floor(y + r) + 1))
        j0, j1 = (min(max(k, 0), n) for k in (math.ceil(x - r), math.floor(x + r) + 1))
        mask[i0:i1, j0:j1] |= np.hypot(np.arange(i0, i1)[:, None] - y, np.arange(j0, j1) - x) <= r
    return mask


def _fill_holes(bands: Map32, hole: Mask) -> None:
    """Replace holes by the harmonic function of their borders, in place: smooth, without extremes of its own."""
    row, column = np.nonzero(hole[1:-1, 1:-1])
    row, column = row + 1, column + 1
    # the hole's pixels first, then those around it, once for each that they are beside
    number = np.full(hole.shape, -1)
    number[row, column] = np.arange(row.size)
    around = np.stack([row - 1, row + 1, row, row]), np.stack([column, column, column - 1, column + 1])
    beside = number[around]
    outside = beside < 0
    beside[outside] = np.arange(row.size, row.size + np.count_nonzero(outside))
    values = np.zeros((row.size + np.count_nonzero(outside), len(bands)), np.float32)
    values[row.size :] = bands[:, around[0][outside], around[1][outside]].T
    relax(values, np.ascontiguousarray(beside.T))
    bands[:, row, column] = values[: row.size].T
