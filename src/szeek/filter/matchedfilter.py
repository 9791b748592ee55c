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
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import ducc0
import healpy
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage

from szeek.filter.cuts import FieldPart, SetSample, set_window, taper
from szeek.filter.depth import LocalNoise, measure_slope, relative_error
from szeek.filter.kernels import (
    raise_best,
    relax,
    scale_modes,
    sum_products,
    sum_rings,
    sum_squares,
    sum_weighted,
    weight_modes,
)
from szeek.filter.layout import FIELD_NSIDE, field_nside, field_pixels, pixel_arcmin
from szeek.filter.sources import (
    Sources,
    find_new_sources,
    improve_positions,
    look_up,
    paint_sources,
    radial_tables,
    reach_pixels,
    sample_splines,
    solve_fluxes,
)
from szeek.filter.states import NO_SOURCES, FieldState
from szeek.physics.gas import profile_transform
from szeek.physics.instrument import Instrument
from szeek.sky.healpix import interpolation_sigma_rad, pixel_window_sigma_rad
from szeek.sky.imagemaps import ImageMaps
from szeek.sky.mapset import MapSet
from szeek.sky.projection import field_basis, project, sample_field
from szeek.sky.skymaps import Band, SkyMaps

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]
Complex = NDArray[np.complex64]
Mask = NDArray[np.bool_]

#: Sizes that are tried; below 0.9 arcmin every cluster is a beam.
THETA500_ARCMIN = np.geomspace(0.9, 35.0, 14)
#: Added to the bands' correlation matrix: transforms in float32 know it to 1e-7, and where dust is all there is to
#: see its smallest eigenvalue is no larger, or negative.
_LEAST_EIGENVALUE = 1e-6
_ELL_STEP = 12.0  # of the radial tables of the largest fields: half the spacing of their modes
_ELL_SMOOTHING = 2.5  # steps, sigma of the Gaussian that smooths the cross-power: over 250 modes at l = 500
_NYQUIST_SHARE = 0.85  # higher multipoles are not used
_CLUSTER_SNR = 4.5  # detections that are no noise
# Compact sources: found above the first S/N in one band, filled in as far as the bands reach that have them above the
# second. Small detections within the radius count as made by them; large ones do not.
_COMPACT_SNR, _FILL_SNR = 10.0, 3.0
# Of the holes: the rounds of compact sources, the detections, and what is near sources that were subtracted.
_ROUNDS, _CLUSTERS, _NEAR = (0, 1), 2, 3
# In sets of maps compact sources are subtracted, the bright ones first. Where more than this share of one, and so
# many times the noise, is left half a beam away, it is no point, and is filled in as well. Detections do not count as
# far as a share of a source would be above the second S/N; of those above the third this many beams farther.
_SUBTRACT_SNR = (30.0, 8.0, 5.0)
_LEFT_SHARE, _LEFT_SNR, _EXTENDED_FWHM = 0.05, 8.0, 2.0
_NEAR_SHARE, _NEAR_SNR, _RING_SNR, _RING_FWHM = 0.03, 1.5, 500.0, 3.0
_LEAST_SHARE = 0.3  # of the window, that sources are corrected for
_SLOPE_THETA500_ARCMIN = (0.5, 2.0, 8.0)  # at which it is measured how the noise varies with the depth
_SUBTRACTED_FWHM = 0.6  # two fields' sources within this share of the beam are one
_POINT_SNR = 5.0  # of the compact sources that are listed
_COMPACT_ARCMIN, _LARGE_THETA500_ARCMIN = 8.0, 8.0
_KEEP_ARCMIN = 10.0
#: Lengths above are for HFI, whose narrowest beam this is; in sets of maps they go with the narrowest beam.
_NARROWEST_FWHM_ARCMIN = 4.64
_SMALLEST_THETA500_ARCMIN = 0.28
# Of a set nothing within so many beams of a gap that was filled in counts.
_GAP_FWHM = 2.0
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
    the field's centre), ``reach_arcmin``, within which a fainter one is the same, and whether it was ``subtracted``.
    """

    row: Floats
    column: Floats
    band: NDArray[np.int64]
    snr: Floats
    error: Floats
    reach_arcmin: Floats
    subtracted: Mask


class FluxNoise:
    """Covariance of the bands' fluxes in a field of varying depth.

    The fluxes M^-1 v have no bias anywhere; their covariance is M^-1 V M^-1, V = M + beta sum_b (N_b / <N_b> - 1) K_b
    the covariance of v at the place, K_b what the white noise of band b gives of it.
    """

    def __init__(self, field: FilteredField, white: Floats, slope: float) -> None:
        self._field, self._white, self._slope = field, white, slope

    def apply(self, v: Floats, information: Floats, vector: Floats) -> tuple[Floats, Floats, float]:
        """v and M that give the same fluxes with the covariance at a place, and its error over the mean one.

        Parameters
        ----------
        v : (..., n_band) float64
        information : (..., n_band, n_band) float64
        vector : (3,) float64
        """
        excess = self._slope * (self._field.depth_ratios(vector[None])[0] - 1)
        added = np.einsum("...cdb,b->...cd", self._white, excess)
        gain = np.swapaxes(np.linalg.solve(information + added, information), -1, -2)  # M V^-1
        local = gain @ information
        tsz = self._field.response
        share = np.einsum("c,...cd,d->...", tsz, information, tsz) / np.einsum("c,...cd,d->...", tsz, local, tsz)
        return np.einsum("...cd,...d->...c", gain, v), local, math.sqrt(float(np.median(share)))


class FilteredField:
    """A flat field with the cross-power of its bands, to be filtered for clusters of any size.

    Parameters
    ----------
    maps : SkyMaps or MapSet
        Of a set, bands that cover less than half of what is seen of the field are left out; the others are needed
        wherever anything is searched.
    lon_deg, lat_deg : float
        Centre of the field, Galactic.
    instrument : Instrument
        tSZ response of the bands.
    keep : (m, 3) float64, optional
        Directions about which nothing is filled in, because it shall be measured: 10 arcmin, or less with narrow
        beams (:func:`beam_scale`).
    known : FieldState, optional
        What was learnt of this field of these maps before: compact sources and P. Not looked for again.
    noise : FieldState, optional
        What was learnt of this field before clusters were injected into the maps: P is that of the field without
        them, and compact sources are looked for anew. So what is injected never counts as noise.
    iterate : bool
        Measure P again without the detections.
    part : FieldPart, optional
        Bands of a set to use instead (:mod:`szeek.filter.parts`); what continues from a state uses that one's.

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
        Those that are used, and ``columns``, (n_band,) int64, their numbers in the maps.
    sizes : (n_size,) float64
        theta500 that are tried, arcmin.
    scale : float
        Lengths of the method over those for HFI, see :func:`beam_scale`.
    instrument : Instrument
    point_peaks : PointPeaks
        Compact sources of S/N 5 or more in any single band, see :mod:`szeek.filter.compact`; None where ``known``.

    Raises
    ------
    ValueError
        If what is known is of other maps.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> planck, values = read_instrument(), np.zeros((12 * 512**2, 6), np.float32)
    >>> disc = healpy.query_disc(512, healpy.ang2vec(120, 50, lonlat=True), np.radians(4))
    >>> values[disc] = 1e-5 * planck.tsz_response * np.random.default_rng(1).standard_normal((disc.size, 6))
    >>> maps = SkyMaps(values, values.any(axis=1), planck.bands)
    >>> field = FilteredField(maps, 120.0, 50.0, planck)
    >>> snr, error_arcmin2 = field.snr_map(5.0)
    >>> bool(0.8 < snr[field.valid].std() < 1.2), bool(np.isclose(error_arcmin2, field.flux_error(5.0)))
    (True, True)
    """

    def __init__(
        self,
        maps: SkyMaps | MapSet,
        lon_deg: float,
        lat_deg: float,
        instrument: Instrument,
        *,
        keep: Floats | None = None,
        known: FieldState | None = None,
        noise: FieldState | None = None,
        iterate: bool = True,
        part: FieldPart | None = None,
    ) -> None:
        self.bands, self.instrument = maps.bands, instrument
        self.point_peaks: PointPeaks | None = None
        self.pixel_arcmin = pixel_arcmin(maps)
        self.n = field_pixels(maps)
        self.basis = field_basis(lon_deg, lat_deg)
        self._modes, self._count, self.ell = _radial_modes(self.n, self.pixel_arcmin, _ell_step(maps))
        self._n_used = int(np.searchsorted(self.ell, _NYQUIST_SHARE * 10800 / self.pixel_arcmin, side="right"))
        self._beam, self._sigma_arcmin, self._band_used = _beams(maps, instrument, lat_deg, self.ell, self._n_used)
        self.columns: NDArray[np.int64] = np.arange(maps.n_band)
        self._n_band = maps.n_band
        self._depth: LocalNoise | None = None
        self._slopes: list[float] = []
        self._profiles: list[Floats] | None = None
        self._sources = Sources.none(maps.n_band)

        if isinstance(maps, MapSet):
            before = known if noise is None else noise
            sample = SetSample.of(maps, lon_deg, lat_deg) if part is None else part.sample
            if part is not None:
                used = part.columns
            elif before is None or len(before.unit) != maps.n_band:
                used = sample.covering(self.columns)
            else:
                used = np.flatnonzero(~np.isnan(before.unit))
            if not (len(used) and sample.seen[used].all(axis=0).any()):
                raise ValueError(f"nothing is seen of the field at ({lon_deg:g}, {lat_deg:g}) deg")
            self._use_bands(used)
            bands = self._cut_set(sample, None if noise is None else noise.unit)
            self._profiles = self._point_profiles(maps, lat_deg)
        else:
            bands = self._cut(maps, lon_deg, lat_deg, None if noise is None else noise.unit)
        #: Lengths over those for HFI.
        self.scale = beam_scale(maps, self.bands)
        #: Sizes that are tried, arcmin.
        self.sizes = list_sizes(self.scale)
        columns = [instrument.band_names.index(band.name) for band in self.bands]
        #: tSZ signal per Compton y, in those units.
        self.response = instrument.tsz_response[columns] / self.unit
        if noise is not None:
            quiet, _, _ = self._find_compact_sources(bands)
            self._set_data(bands, quiet, keep)
            self._set_inverse(noise.full_inverse(self.columns))
        elif known is None:
            self._learn(bands, keep, iterate)
        else:
            self._continue(bands, keep, known)

    def _learn(self, bands: Map32, keep: Floats | None, iterate: bool) -> None:
        """Find compact sources, clusters, and the noise without them."""
        quiet, transforms, faint = self._find_compact_sources(bands)
        whole = self._set_data(bands, quiet, keep)
        power = self._set_power(self._transform if whole else self._forward(quiet), self._window)
        self.point_peaks = faint
        if self._profiles is None:
            # what was filled in, in the noise without it; the rest was seen without what hides it
            bright = self._point_peaks(*self._point_snr(transforms, power), self._hole_mask(*_ROUNDS))
            self.point_peaks = PointPeaks(*(np.concatenate(both) for both in zip(bright, faint, strict=True)))
        self._first = self._weights[: self._n_used], self._information[: self._n_used]
        if iterate:
            self._take_out(self._find_clusters(), quiet)

    def _continue(self, bands: Map32, keep: Floats | None, known: FieldState) -> None:
        """Do the same with what is known of the field."""
        unit = _among(self.unit, self.columns, self._n_band)
        if not known.fits(unit, self._n_used):
            expected, found = (", ".join(f"{rms:.4g}" for rms in of) for of in (known.unit, unit))
            raise ValueError(
                "what the filter has learnt of a field is of other maps: its bands have an rms of "
                f"{expected}, found {found}; run the filter stage on these maps"
            )
        quiet, self._holes = bands.copy(), known.holes
        if self._profiles is not None and len(known.sources):
            flux = known.sources[:, 2:][:, self.columns] / self.unit
            self._sources = Sources(known.sources[:, 0], known.sources[:, 1], flux)
            paint_sources(self._sources, self._profiles, quiet, -1.0)
        for number in _ROUNDS:
            _fill_holes(quiet, self._hole_mask(number))
        self._set_inverse(known.full_inverse(self.columns))
        self._first = known.first_weights[:, self.columns], known.first_information
        if self._set_data(bands, quiet, keep):
            return
        # what was kept may be taken for a cluster, or hide one
        self._set_weights(*self._first)
        clusters = self._find_clusters()
        if np.array_equal(_discs(self.n, *clusters.T), self._hole_mask(_CLUSTERS)):
            self._set_inverse(known.full_inverse(self.columns))
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
        reach = np.full(len(compact), _COMPACT_ARCMIN * self.scale / self.pixel_arcmin)
        if self._profiles is not None:
            reach += compact[:, 3]
        self.compact: Mask = _discs(self.n, compact[:, 1], compact[:, 2], reach) | self._hole_mask(_NEAR)
        whole, data = True, quiet
        if keep is not None:
            radius = np.full(len(keep), _KEEP_ARCMIN * self.scale / self.pixel_arcmin)
            kept = _discs(self.n, *self.pixels(keep), radius)
            whole = not (kept & self._hole_mask(*_ROUNDS)).any()
            data = quiet if whole else np.where(kept, bands, quiet)
            if self._profiles is not None and len(self._sources.row):
                near = self._sources.distances(*self.pixels(keep)) <= radius[:, None]
                if near.any():
                    back = Sources(*(part[near.any(axis=0)] for part in self._sources))
                    whole, data = False, quiet.copy()
                    paint_sources(back, self._profiles, data)
                    data = np.where(kept & self._hole_mask(*_ROUNDS), bands, data)
        self._transform = self._forward(data)
        return whole

    def _find_clusters(self) -> Floats:
        """Row, column and radius, in pixels, of the holes that detections make, (n, 3)."""
        peaks = self.find_peaks(*self.best_snr(), _CLUSTER_SNR)
        radius = np.clip(2 * self.sizes[peaks.size], 10.0 * self.scale, 60.0) / self.pixel_arcmin
        return np.column_stack([peaks.row, peaks.column, radius])

    def _take_out(self, clusters: Floats, quiet: Map32) -> None:
        """Measure P again without the detections, which are filled in."""
        compact = self._holes[self._holes[:, 0] != _CLUSTERS]
        self._holes = np.vstack([compact, np.insert(clusters, 0, _CLUSTERS, axis=1)])
        holes = self._hole_mask(_CLUSTERS)
        _fill_holes(quiet, holes)
        self._set_power(self._forward(quiet), self._window * ~holes)

    @property
    def subtracts(self) -> bool:
        """Whether compact sources are subtracted, as in sets of maps, or else filled in."""
        return self._profiles is not None

    @property
    def _area(self) -> float:
        return float((self.n * self.pixel_arcmin * _ARCMIN) ** 2)

    @property
    def state(self) -> FieldState:
        """What was learnt of the field, for another :class:`FilteredField` to continue from."""
        first_weights, first_information = self._first
        return FieldState.pack(
            _among(self.unit, self.columns, self._n_band),
            self._holes,
            _among(np.moveaxis(_among(self._inverse[: self._n_used], self.columns, self._n_band, 0.0), 1, 2),
                   self.columns, self._n_band, 0.0),
            _among(first_weights, self.columns, self._n_band, 0.0),
            first_information,
            self._pack_sources(),
        )  # fmt: skip

    def _pack_sources(self) -> Floats:
        row, column, flux = self._sources
        if not len(row):
            return NO_SOURCES
        return np.column_stack([row, column, _among(flux * self.unit, self.columns, self._n_band, 0.0)])

    def _cut(self, maps: SkyMaps, lon_deg: float, lat_deg: float, unit: Floats | None) -> Map32:
        """The bands less their mean, in units of their rms or in those given."""
        sky = sample_field(maps, lon_deg, lat_deg, 0.0, self.n, self.n, self.pixel_arcmin)
        seen = ~np.isnan(sky[..., 0])
        self._window = taper(seen, self.pixel_arcmin)
        self.valid: Mask = self._window > 0.99
        bands = np.ascontiguousarray(np.moveaxis(sky, -1, 0))
        if not seen.all():
            bands[:, ~seen] = 0.0
        weight = self._window / self._window.sum(dtype=np.float64)
        bands -= np.einsum("bij,ij->b", bands, weight).astype(np.float32)[:, None, None]
        self.unit = np.sqrt(np.einsum("bij,bij,ij->b", bands, bands, weight)) if unit is None else unit
        bands /= self.unit.astype(np.float32)[:, None, None]
        return bands

    def _cut_set(self, sample: SetSample, unit: Floats | None) -> Map32:
        """The same of the bands of a set that are used; small gaps in them are filled in."""
        sky, seen, white = sample
        everywhere: Mask = np.asarray(seen[self.columns].all(axis=0))
        self._window, gaps = set_window(everywhere, self.pixel_arcmin)
        whole = everywhere | gaps
        bands = np.ascontiguousarray(sky[self.columns])
        bands[:, ~everywhere] = 0.0
        self.valid = self._window > 0.99
        if gaps.any():
            _fill_holes(bands, gaps)
            reach = _GAP_FWHM * max(band.fwhm_arcmin for band in self.bands) / self.pixel_arcmin
            self.valid &= ndimage.distance_transform_edt(~gaps) > reach
        if not self.valid.any():
            self.valid = self._window > 0.99 * self._window.max()
        weight = self._window / self._window.sum(dtype=np.float64)
        bands -= np.einsum("bij,ij->b", bands, weight).astype(np.float32)[:, None, None]
        bands[:, ~whole] = 0.0
        self.unit = np.sqrt(np.einsum("bij,bij,ij->b", bands, bands, weight))
        if unit is not None:
            self.unit = unit[self.columns]
        bands /= self.unit.astype(np.float32)[:, None, None]
        if white is not None:
            depth = LocalNoise(white[self.columns], self._window)
            self._depth = depth if depth.varies else None
        return bands

    def _use_bands(self, columns: NDArray[np.int64]) -> None:
        """Leave out all other bands."""
        self.columns, self.bands = columns, tuple(self.bands[column] for column in columns)
        self._beam, self._sigma_arcmin = self._beam[:, columns], self._sigma_arcmin[columns]
        self._band_used = self._band_used[columns]

    def _set_power(self, transform: Complex, window: Map32) -> Floats:
        """Invert the cross-power of tapered bands; returns the bands' own power, (n_ell, n_band)."""
        power = _cross_power(transform, window, self._modes, self._count, self.ell, self.pixel_arcmin)
        _separate(power, self._band_used)
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
        self._slopes = []

    def _weigh(self) -> Complex:
        """The data, weighted; made when a map is."""
        if self._weighted is None:
            self._weighted = np.empty(self._transform.shape[1:], np.complex64)
            sum_weighted(self._transform, self._modes, self._weights.astype(np.float32), self._weighted)
        return self._weighted

    def _forward(self, bands: Map32) -> Complex:
        """Transforms of bands, tapered, (n_band, n, n // 2 + 1); one by one, so that each stays in the cache."""
        transform = np.empty((len(bands), self.n, self.n // 2 + 1), np.complex64)
        for band, out in zip(bands, transform, strict=True):
            ducc0.fft.r2c(band * self._window, out=out, nthreads=1)
        return transform

    def _back(self, scale: Floats, transform: Complex) -> Map32:
        """A transform times a function of l, as a map."""
        scaled = np.empty_like(transform)
        scale_modes(transform, self._modes, scale.astype(np.float32), scaled)
        return np.asarray(
            ducc0.fft.c2r(
                scaled, lastsize=self.n, forward=False, inorm=2, nthreads=1, allow_overwriting_input=True
            )
        )  # fmt: skip

    def snr_map(self, theta500_arcmin: float) -> tuple[Map32, float]:
        """S/N of a cluster of this size at every pixel, (n, n) float32, and the error of its Y5R500, arcmin^2.

        The error is that at the field's centre; elsewhere pixels are larger than their true area, see
        :meth:`directions`. Where the maps' depth varies it is the mean one; S/N is over the local error
        (:meth:`local_error`).
        """
        shape = profile_transform(self.ell * (theta500_arcmin * _ARCMIN))
        sigma = self._error(shape)
        v = self._back(shape, self._weigh())
        v *= np.float32(sigma)
        if self._depth is not None:
            v /= relative_error(self._depth.excess(self._white_share(shape)), self._slope(theta500_arcmin))
        return v, sigma / _ARCMIN**2

    def _slope(self, theta500_arcmin: float) -> float:
        """How the noise of a filtered map varies with the white noise, measured at some sizes and linear between."""
        assert self._depth is not None
        if not self._slopes:
            independent = self.valid.sum() * (self.pixel_arcmin / (3 * self._sigma_arcmin.min())) ** 2
            for theta in _SLOPE_THETA500_ARCMIN:
                shape = profile_transform(self.ell * (theta * _ARCMIN))
                snr = self._back(shape, self._weigh()) * np.float32(self._error(shape))
                excess = self._depth.excess(self._white_share(shape))
                self._slopes.append(measure_slope(snr, excess, self.valid, float(independent)))
        return float(np.interp(math.log(theta500_arcmin), np.log(_SLOPE_THETA500_ARCMIN), self._slopes))

    def _error(self, shape: Floats) -> float:
        """Error of the flux of a cluster of this shape at the field's centre, sr."""
        return math.sqrt(self._area / float(self._count @ (shape**2 * self._information)))

    def flux_error(self, theta500_arcmin: float) -> float:
        """Error of Y5R500 of a cluster of this size, arcmin^2, that :meth:`snr_map` gives beside the map."""
        return self._error(profile_transform(self.ell * (theta500_arcmin * _ARCMIN))) / _ARCMIN**2

    def _white_share(self, shape: Floats) -> Floats:
        """Share of each band's white noise in the variance of the map filtered for a shape, (n_band,)."""
        assert self._depth is not None
        modes = self._count * shape**2
        return np.asarray((modes @ self._weights**2) * self._depth.mean / self.unit**2 / (modes @ self._information))

    def local_error(self, theta500_arcmin: float) -> Map32 | None:
        """Error of the flux of a cluster of this size at every pixel over the mean one; None where it is the same."""
        if self._depth is None:
            return None
        shape = profile_transform(self.ell * (theta500_arcmin * _ARCMIN))
        return relative_error(self._depth.excess(self._white_share(shape)), self._slope(theta500_arcmin))

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

    def local_noise(self, shapes: Floats) -> FluxNoise | None:
        """How the covariance of the bands' fluxes for sources of these shapes varies; None where it does not.

        Parameters
        ----------
        shapes : (..., n_ell) float64
        """
        if self._depth is None:
            return None
        weight = shapes**2 * (self._count / self._area)
        per_band = self._beam[:, :, None] * self._inverse * np.sqrt(self._depth.mean / self.unit**2)
        outer = per_band[:, :, None, :] * per_band[:, None, :, :]
        n_band = len(self.unit)
        white = (weight @ outer.reshape(-1, n_band**3)).reshape(*shapes.shape[:-1], *(n_band,) * 3)
        return FluxNoise(self, white, self._slope(_SLOPE_THETA500_ARCMIN[1]))

    def depth_ratios(self, vectors: Floats) -> Floats:
        """Power of the bands' white noise at directions over its mean in the field, (m, n_band)."""
        assert self._depth is not None
        return self._depth.ratios(*self.pixels(vectors))

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
        best, size = self.snr_map(self.sizes[0])[0], np.zeros((self.n, self.n), np.int8)
        for number, theta in enumerate(self.sizes[1:], start=1):
            raise_best(self.snr_map(theta)[0], number, best, size)
        return best, size

    def find_peaks(self, best: Map32, size: NDArray[np.int8], snr_min: float, where: Mask | None = None) -> Peaks:
        """Peaks of the best S/N above a threshold, where they count (and within ``where``)."""
        counts = self.valid & (~self.compact | (self.sizes[size] > _LARGE_THETA500_ARCMIN))
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
        return self.look_up(self.valid, vectors)

    def is_seen(self, vectors: Floats) -> Mask:
        """Whether directions were observed in all bands that are used, or filled in as a small gap, (m,)."""
        return self.look_up(self.seen, vectors)

    @property
    def seen(self) -> Mask:
        """Observed in all bands that are used, or filled in as a small gap, (n, n)."""
        return np.asarray(self._window > 0)

    def look_up(self, image: NDArray[Any], vectors: Floats) -> NDArray[Any]:
        """Values of the pixels (of an image of the field) that directions are in, (m,)."""
        row, column = (np.clip(np.rint(at), 0, self.n - 1).astype(int) for at in self.pixels(vectors))
        return np.asarray(image[row, column])

    def interpolate(self, values: Map32, vectors: Floats) -> Map32:
        """Maps of the field, (..., n, n), at directions, linear between the pixels; (..., m)."""
        at, maps = self.pixels(vectors), values.reshape(-1, self.n, self.n)
        found = [ndimage.map_coordinates(one, at, order=1, mode="nearest") for one in maps]
        return np.asarray(found, np.float32).reshape(*values.shape[:-2], len(vectors))

    def local_errors(self, peaks: Peaks) -> Floats:
        """Error at peaks over the mean one, (m,)."""
        out = np.ones(len(peaks.snr))
        if self._depth is not None:
            row, column = (np.rint(at).astype(int) for at in (peaks.row, peaks.column))
            for number in np.unique(peaks.size):
                here = peaks.size == number
                local = self.local_error(float(self.sizes[number]))
                out[here] = 1.0 if local is None else local[row[here], column[here]]
        return out

    def _find_compact_sources(self, bands: Map32) -> tuple[Map32, Complex, PointPeaks]:
        """Bands with compact sources filled in, the transforms of the bands, and the peaks of what was not filled in.

        Found in the bands in which no cluster is bright: those up to 217 GHz, where it is dark, and 857 GHz, where
        what contaminates 353 and 545 GHz is brightest.
        """
        if self._profiles is not None:
            return self._subtract_compact_sources(bands, self._profiles)
        contaminants = self._contaminants
        quiet, self._holes = bands.copy(), np.zeros((0, 4))
        first = self._forward(quiet)
        for number in _ROUNDS:  # a bright source hides fainter ones
            transforms = self._forward(quiet) if number else first
            snr, error = self._point_snr(transforms, self._own_powers(transforms))
            bright = np.zeros((self.n, self.n), bool)
            for b in contaminants:
                bright[_highest_around(snr[b], (snr[b] > _COMPACT_SNR) & (self._window > 0))] = True
            row, column = _positions(bright)
            # to where the beam has fallen to a quarter of the noise in the band that sees it farthest; the same hole
            # in every band, or else what is missing of the CMB in one of them looks like a cluster
            here = snr[:, row, column]
            reach = self._sigma_arcmin[:, None] * np.sqrt(2 * np.log(np.maximum(4 * here, 1.0)))
            reach = np.where(here > _FILL_SNR, reach, 0.0).max(axis=0, initial=0.0) / self.pixel_arcmin
            self._holes = np.vstack([self._holes, np.column_stack([np.full(row.size, number), row, column, reach])])
            _fill_holes(quiet, self._hole_mask(number))
        return quiet, first, self._point_peaks(snr, error, ~self._hole_mask(*_ROUNDS))

    @property
    def _contaminants(self) -> list[int]:
        return [b for b, band in enumerate(self.bands) if band.freq_ghz < 230 or band.freq_ghz > 700]

    def _own_powers(self, transforms: Complex) -> Floats:
        """Power of each band by itself, (n_ell, n_band)."""
        sums = np.zeros((self.ell.size, len(transforms)))
        sum_squares(transforms, self._modes, _mirrored(self.n).astype(np.float32), sums)
        return _smooth_power(sums, self._window, self._count, self.ell, self.pixel_arcmin)

    def _point_profiles(self, maps: MapSet, lat_deg: float) -> list[Floats]:
        """What a point source of flux 1 sr looks like in each band: radial tables."""
        ell = np.linspace(0.0, 5.0 / (self._sigma_arcmin.min() * _ARCMIN), 1500)
        beam, _, _ = _beams(maps, self.instrument, lat_deg, ell)
        modes = ell * ell[1] / (2 * math.pi)
        reach = reach_pixels(self._fwhm_pixel)
        return radial_tables(beam[:, self.columns], ell, modes, self.pixel_arcmin * _ARCMIN, reach)

    @property
    def _fwhm_pixel(self) -> Floats:
        return np.asarray(self._sigma_arcmin * _FWHM_PER_SIGMA / self.pixel_arcmin)

    def _subtract_compact_sources(
        self, bands: Map32, profiles: list[Floats]
    ) -> tuple[Map32, Complex, PointPeaks]:
        """Bands without point sources, as :meth:`_find_compact_sources` gives them.

        Positions and fluxes are found in what earlier ones leave, those of all fitted together, and once more in the
        end, when the noise is known.
        """
        sources, quiet = Sources.none(len(self.bands)), bands.copy()
        first = self._forward(quiet)
        self._holes, fwhm = np.zeros((0, 4)), self._fwhm_pixel
        for number, least in enumerate((*_SUBTRACT_SNR, math.inf)):
            if not number or len(sources.row):  # else all is as it was
                transforms = self._forward(quiet) if number else first
                power = self._own_powers(transforms)
                snr, error = self._point_snr(transforms, power)
                splines = [ndimage.spline_filter(one, 3, np.float32) for one in snr]
                weight = self._beam**2 / power
                seen = radial_tables(
                    weight / (self._count @ weight),
                    self.ell,
                    self._count,
                    self.pixel_arcmin * _ARCMIN,
                    reach_pixels(fwhm),
                )
            before, sources = sources, improve_positions(sources, splines, error, seen)
            if least < math.inf:
                peaks = [
                    _highest_around(one, (one > least) & (self._window > 0) & (b in self._contaminants))
                    for b, one in enumerate(snr)
                ]
                sources = sources.with_peaks(
                    *find_new_sources(peaks, snr, splines, sources, sources.flux / error, fwhm)
                )
            if not len(sources.row):
                continue
            at = [sources.row, sources.column]
            errors = np.broadcast_to(error, sources.flux.shape)
            if self._depth is not None:
                errors = error * self._depth.errors_at(self._point_share(power), *at)
            share = ndimage.map_coordinates(self._window, at, order=1)[:, None]
            left = sample_splines(splines, *at) * errors / np.maximum(share, _LEAST_SHARE)
            distance = before.distances(*at)
            hidden = np.stack([look_up(t, distance) @ f for t, f in zip(seen, before.flux.T, strict=True)], axis=1)
            order = np.argsort(-((left + hidden) / errors).max(axis=1), kind="stable")
            sources = Sources(*(part[order] for part in sources))
            left, hidden, errors = left[order], hidden[order], errors[order]
            flux = solve_fluxes(left + hidden, errors, sources, seen, fwhm)
            left -= (left + hidden) * (flux == 0)  # what is not subtracted is left
            sources = sources._replace(flux=flux)
            quiet = bands.copy()
            paint_sources(sources, profiles, quiet, -1.0)
        self._sources = sources
        bright = None
        if len(sources.row):
            self._note_sources(sources, errors, left, splines, seen)
            _fill_holes(quiet, self._hole_mask(*_ROUNDS))
            inside = self.valid[np.rint(sources.row).astype(int), np.rint(sources.column).astype(int)]
            row, band = np.nonzero((sources.flux > _POINT_SNR * errors) & inside[:, None])
            bright = PointPeaks(
                sources.row[row],
                sources.column[row],
                band,
                (sources.flux / errors)[row, band],
                errors[row, band],
                _SUBTRACTED_FWHM * fwhm[band] * self.pixel_arcmin,
                np.ones(row.size, bool),
            )
        faint = self._point_peaks(snr, error, (self._window > 0) & ~self._hole_mask(*_ROUNDS, _NEAR))
        if bright is None:
            return quiet, first, faint
        apart = np.ones(len(faint.row), bool)
        for b, width in enumerate(fwhm):
            of_band, mine = faint.band == b, sources.flux[:, b] > 0
            near = sources.distances(faint.row[of_band], faint.column[of_band])[:, mine] < width
            apart[of_band] = ~near.any(axis=1)
        both = zip(bright, (part[apart] for part in faint), strict=True)
        return quiet, first, PointPeaks(*(np.concatenate(pair) for pair in both))

    def _note_sources(
        self, sources: Sources, errors: Floats, changed: Floats, splines: list[Map32], seen: list[Floats]
    ) -> None:
        """Make holes where the subtraction leaves much, and note what is near the brightest.

        ``changed`` is what the last fit added to the fluxes, which the maps of ``splines`` still have.
        """
        fwhm, snr = self._fwhm_pixel, sources.flux / errors
        left = np.zeros_like(snr)
        angle = np.arange(8) * math.pi / 4
        for b, table in enumerate(seen):
            i = sources.row[:, None] + 0.5 * fwhm[b] * np.sin(angle)
            j = sources.column[:, None] + 0.5 * fwhm[b] * np.cos(angle)
            around = sample_splines(splines[b : b + 1], i.ravel(), j.ravel()).reshape(i.shape)
            mine = changed[:, b] / errors[:, b] * look_up(table, np.array([0.5 * fwhm[b]]))
            left[:, b] = (around - mine[:, None]).max(axis=1)  # a decrement is a cluster's
        failed = left > np.maximum(_LEFT_SNR, _LEFT_SHARE * snr)
        distance = sources.distances(sources.row, sources.column)
        for b, width in enumerate(fwhm):  # something extended was taken for several points
            failed[:, b] = (distance[:, failed[:, b] & (snr[:, b] > 0)] < _EXTENDED_FWHM * width).any(axis=1)
        sigma = self._sigma_arcmin / self.pixel_arcmin
        hole = np.where(failed, sigma * np.sqrt(2 * np.log(np.maximum(4 * snr, 4.0))), 0.0).max(axis=1)
        level = _NEAR_SHARE * snr / _NEAR_SNR
        near = np.where(level > 1, sigma * np.sqrt(2 * np.log(np.maximum(level, 1.0))), 0.0)
        near = np.where(snr > _RING_SNR, near + _RING_FWHM * fwhm, near).max(axis=1)
        rows = [
            np.column_stack([np.full(of.sum(), kind), sources.row[of], sources.column[of], radius[of]])
            for kind, radius in ((_ROUNDS[0], hole), (_NEAR, near))
            if (of := radius > 0).any()
        ]
        self._holes = np.vstack([np.zeros((0, 4)), *rows])

    def _point_share(self, power: Floats) -> Floats:
        """Share of the white noise in the variance of each band's point-source flux, (n_band,)."""
        assert self._depth is not None
        weight = (self._beam / power) ** 2 * self._count[:, None]
        share = weight.sum(axis=0) * self._depth.mean / self.unit**2 / (weight * power).sum(axis=0)
        return np.asarray(np.minimum(share, 1.0))

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
        return PointPeaks(rows, columns, band, height, error[band], reach, np.zeros(rows.size, bool))

    def _point_snr(self, transforms: Complex, power: Floats) -> tuple[Map32, Floats]:
        """S/N of a point source in each band by itself, and the errors of its flux.

        Parameters
        ----------
        transforms : (n_band, n, n // 2 + 1) complex64
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
        if self._depth is not None:
            self._depth.divide_bands(snr, self._point_share(power))
        return snr, errors


def check_bands_known(maps: SkyMaps | MapSet, instrument: Instrument) -> None:
    """Raise ValueError if the maps have a band that the instrument has not, in another unit, or too large pixels."""
    known = {band.name: band.unit for band in instrument.bands}
    for band in maps.bands:
        if known.get(band.name) != band.unit:
            listed = ", ".join(f"{name} in {unit}" for name, unit in known.items())
            raise ValueError(f"band {band.name} in {band.unit} is none of {instrument.name}'s: {listed}")
    if maps.nside < 64:
        raise ValueError(f"the maps have nside {maps.nside}, expected at least 64 for the matched filter")


def beam_scale(maps: SkyMaps | MapSet, bands: Sequence[Band]) -> float:
    """Lengths of the method over those for HFI: 1, or of sets with narrower beams the narrowest over HFI's.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> planck = read_instrument("planck-hfi").bands
    >>> maps = SkyMaps(np.zeros((12 * 64**2, 6), np.float32), np.ones(12 * 64**2, bool), planck)
    >>> beam_scale(maps, planck)
    1.0
    """
    if isinstance(maps, SkyMaps):
        return 1.0
    return min(1.0, min(band.fwhm_arcmin for band in bands) / _NARROWEST_FWHM_ARCMIN)


def list_sizes(scale: float) -> Floats:
    """Sizes theta500 that are tried, arcmin: :data:`THETA500_ARCMIN`, and below it in equal steps for narrow beams.

    Examples
    --------
    >>> list_sizes(1.0)[:1].tolist(), list_sizes(0.2)[:5].round(2).tolist()
    ([0.9], [0.29, 0.39, 0.51, 0.68, 0.9])
    """
    step = THETA500_ARCMIN[1] / THETA500_ARCMIN[0]
    smallest = max(THETA500_ARCMIN[0] * scale, _SMALLEST_THETA500_ARCMIN)
    n = math.floor(math.log(THETA500_ARCMIN[0] / smallest) / math.log(step) + 1e-9)
    return np.concatenate([THETA500_ARCMIN[0] * step ** np.arange(-n, 0.0), THETA500_ARCMIN])


def _ell_step(maps: SkyMaps | MapSet) -> float:
    """Of the radial tables; fields that are half as wide have modes twice as far apart."""
    return _ELL_STEP * field_nside(maps) / FIELD_NSIDE


def _beams(
    maps: SkyMaps | MapSet, instrument: Instrument, lat_deg: float, ell: Floats, n_used: int | None = None
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Beam and sampling of each band, (n_ell, n_band); their sigma, arcmin; and how many multipoles each is used at.

    Pixels smooth where they hold the mean of the sky inside them. Images are then sampled by splines, HEALPix maps
    bilinearly. Without ``n_used`` they are whole.
    """
    beams, sigmas, used = [], [], []
    for group in maps.groups if isinstance(maps, MapSet) else (maps,):
        details = [instrument.details[instrument.band_names.index(band.name)] for band in group.bands]
        fwhm = np.array([band.fwhm_arcmin for band in group.bands])
        if isinstance(group, ImageMaps):
            resolution = group.pixel_arcmin
            pixel_sigma, sampling_sigma = resolution * _ARCMIN / math.sqrt(12), 0.0
            spline = group.window(ell.size, float(ell[1]))
        else:
            resolution = float(healpy.nside2resol(group.nside, arcmin=True))
            pixel_sigma, sampling_sigma = (
                pixel_window_sigma_rad(group.nside), interpolation_sigma_rad(group.nside, lat_deg)
            )  # fmt: skip
            spline = None
        window = np.where([detail.pixel_window for detail in details], pixel_sigma, 0.0)
        pixel = np.hypot(window, sampling_sigma) / _ARCMIN
        sigma = np.hypot(fwhm / _FWHM_PER_SIGMA, pixel)
        beam = np.exp(-0.5 * (ell[:, None] * sigma * _ARCMIN) ** 2)
        for b, detail in enumerate(details):
            if detail.beam is not None:
                beam[:, b] = detail.beam(ell) * np.exp(-0.5 * (ell * pixel[b] * _ARCMIN) ** 2)
        if spline is not None:
            beam *= spline[:, None]
        of_group = (
            len(ell)
            if n_used is None
            else min(n_used, int(np.searchsorted(ell, _NYQUIST_SHARE * 10800 / resolution, side="right")))
        )
        beam[of_group:] = 0.0
        beams.append(beam)
        sigmas.append(sigma)
        used.append(np.full(fwhm.size, of_group))
    return np.concatenate(beams, axis=1), np.concatenate(sigmas), np.concatenate(used)


def _separate(power: Floats, band_used: NDArray[np.int64]) -> None:
    """Take a band out of the others' noise above the multipoles that it is used at: its pixels make waves there."""
    for b in np.flatnonzero(band_used < band_used.max(initial=0)):
        own = power[band_used[b] :, b, b].copy()
        power[band_used[b] :, b, :] = power[band_used[b] :, :, b] = 0.0
        power[band_used[b] :, b, b] = own


def _among(values: Floats, columns: NDArray[np.int64], n_band: int, fill: float = np.nan) -> Floats:
    """Values of some bands, along the last axis, among those of all."""
    if len(columns) == n_band:
        return values
    out = np.full((*values.shape[:-1], n_band), fill)
    out[..., columns] = values
    return out


@cache
def _radial_modes(n: int, pixel_arcmin: float, ell_step: float) -> tuple[NDArray[np.int32], Floats, Floats]:
    """Number in the radial table of each mode of rfft2, the modes (of the whole plane) per entry, and its l."""
    frequency = 2 * math.pi / (pixel_arcmin * _ARCMIN)
    ell = frequency * np.hypot(fft.fftfreq(n)[:, None], fft.rfftfreq(n)[None, :])
    modes: NDArray[np.int32] = np.rint(ell / ell_step).astype(np.int32)
    count: Floats = np.bincount(modes.ravel(), np.broadcast_to(_mirrored(n), modes.shape).ravel()).astype(float)
    return modes, count, ell_step * np.maximum(np.arange(count.size), 0.5)


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
    power = np.empty((ell.size, n_band, n_band))
    power[:, row, column] = power[:, column, row] = _smooth_power(sums, window, count, ell, pixel_arcmin)
    return power


def _smooth_power(sums: Floats, window: Map32, count: Floats, ell: Floats, pixel_arcmin: float) -> Floats:
    """Power of the sums over the modes of each multipole, (n_ell, n_sum)."""
    kernel = _smoothing(ell.size)
    scale = (pixel_arcmin * _ARCMIN) ** 2 / float((window.astype(np.float64) ** 2).sum()) / (kernel @ count) / ell**2
    return np.asarray(scale[:, None] * (kernel @ (sums * (ell**2)[:, None])))


@cache
def _smoothing(n_ell: int) -> Floats:
    step = np.arange(n_ell)
    return np.asarray(np.exp(-0.5 * ((step[:, None] - step) * (1 / _ELL_SMOOTHING)) ** 2))


def _positions(where: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of what is true, in order: ``nonzero``, which takes fifty times as long in two dimensions."""
    row, column = np.divmod(np.flatnonzero(where), where.shape[1])
    return row, column


def _highest_around(values: Map32, where: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row and column of the pixels, of those few, that no other within two pixels exceeds."""
    row, column = _positions(where)
    padded = np.pad(values, 2, constant_values=-np.inf)
    for i in range(5):
        for j in range(5):
            highest = values[row, column] >= padded[row + i, column + j]
            row, column = row[highest], column[highest]
    return row, column


def _vertex(before: Map32, here: Map32, after: Map32) -> Floats:
    """Vertices of the parabolas through three pixels, in pixels from the middle one, the highest."""
    return np.asarray(0.5 * (after - before) / np.maximum(2 * here - before - after, 1e-6), np.float64)


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
    inside = np.zeros_like(hole)
    inside[1:-1, 1:-1] = hole[1:-1, 1:-1]
    row, column = _positions(inside)
    if not len(row):
        return
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
