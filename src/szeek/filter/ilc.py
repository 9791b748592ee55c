"""Compton y from the bands of an instrument: needlet ILC, on the whole sky or in a flat field.

    y(x) = sum_j  N_j [ sum_b w_jb(x) (N_j d_b)(x) ],       w_j = e (A^T C_j^-1 A)^-1 A^T C_j^-1

with N_j the needlet filter of scale j (sum of their squares 1), d_b the map of band b brought to 10 arcmin, C_j(x)
the local covariance of the filtered maps, A the spectra - SZ response, CMB = 1, what else is deprojected - and
e = (1, 0, ...). As MILCA (Hurier, Macias-Perez & Hildebrandt 2013, A&A 558, A118), with the localisation of NILC
(Remazeilles, Aghanim & Douspis 2013, MNRAS 430, 370); what is left in it are the residuals of the sky that the maps
show.
"""

from __future__ import annotations

from collections.abc import Sequence

import healpy
import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree

from szeek.parallel import side_by_side
from szeek.physics.instrument import Instrument
from szeek.physics.spectra import spectral_templates
from szeek.sky.harmonics import (
    FWHM_PER_SIGMA,
    Alm,
    Floats,
    Map32,
    add_alm,
    analyse,
    band_limit,
    beam_window,
    filter_alm,
    pixel_window,
    synthesise,
)

#: Resolution of the y map, that of MILCA. Planck 2015 results XXII (A&A 594, A22).
Y_FWHM_ARCMIN = 10.0
#: What may be deprojected beside the CMB, and how many spectra each takes.
DEPROJECTIONS = {"cib": 1, "cib-moments": 3, "radio": 1}
#: Modified black body of the CIB: what the ACT DR6 maps deproject (Coulton et al. 2024, Phys. Rev. D 109, 063530).
CIB_INDEX, CIB_TEMPERATURE_K = 1.4, 24.0
_LMAX = 2048  # the 10 arcmin beam passes 4 % there
_PEAKS = (0, 64, 128, 256, 512, 1024, 2048)
_COVARIANCE_NSIDE, _COVARIANCE_LMAX = 32, 80
_MODES = 2500.0  # per covariance: keeps the ILC's bias below half a per cent
_LEAST_MODES = 300.0  # of the lowest scale of a flat field, which may have no more: 1.3 %
#: Narrowest smoothing of a covariance: its Gaussian has died out at l = 80, so that the bright plane does not ring.
_MIN_SMOOTHING_ARCMIN = 540.0
#: 857 GHz brightness in MJy/sr above which a map is faded out: the Galactic plane, 5 % of the sky.
_BRIGHT_MJYSR = 80.0
#: In a cell with less of the sky, over what the fullest has, a covariance is rounding: the nearest other's is taken.
_LEAST_SHARE = 0.1
#: Where less than this is left of the sky behind the fading, a y map has no value.
_LEAST_KEPT = 0.95
#: Width beyond the border of a flat field over which its outermost pixels are repeated and faded out.
_TAPER_DEG = 0.5
#: What is nearer to the border has no value: a beam.
_BORDER_ARCMIN = Y_FWHM_ARCMIN


def list_spectra(instrument: Instrument, deproject: Sequence[str] = ()) -> Floats:
    """Spectra that an ILC for y knows: the SZ effect, which it passes, the CMB and others, which it nulls.

    Parameters
    ----------
    instrument : Instrument
    deproject : sequence of str
        Of 'cib', a modified black body of index 1.4 and 24 K; 'cib-moments', the same with its derivatives by index
        and temperature, which null any mixture of near spectra; 'radio', a power law of index -0.7.

    Returns
    -------
    (n_band, n_component) float64
        K_CMB: per unit y in the first column, 1 in the second, each of length 1 in the others.

    Raises
    ------
    ValueError
        If one is unknown, or there are more spectra than bands.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> list_spectra(read_instrument("planck-hfi"), ("cib",)).round(2).tolist()[0]
    [-4.03, 1.0, 0.0]
    """
    if unknown := [name for name in deproject if name not in DEPROJECTIONS]:
        raise ValueError(
            f"deproject names {', '.join(unknown)}, expected some of {', '.join(DEPROJECTIONS)}; the CMB always is"
        )
    if {"cib", "cib-moments"} <= set(deproject):
        deproject = [name for name in deproject if name != "cib"]
    n = 2 + sum(DEPROJECTIONS[name] for name in set(deproject))
    if n > len(instrument.bands):
        raise ValueError(
            f"{n} spectra, SZ effect and CMB among them, are to be told apart in {len(instrument.bands)} bands; "
            "deproject fewer"
        )

    def dust(index: float, temperature_k: float) -> Floats:
        found = spectral_templates(instrument, ("dust",), dust_index=index, dust_temperature_k=temperature_k)
        return np.asarray(found[0] / instrument.unit_per_kcmb)

    columns = [instrument.tsz_kcmb, np.ones(len(instrument.bands))]
    for name in dict.fromkeys(deproject):
        if name == "radio":
            columns.append(spectral_templates(instrument, ("radio",))[0] / instrument.unit_per_kcmb)
            continue
        columns.append(dust(CIB_INDEX, CIB_TEMPERATURE_K))
        if name == "cib-moments":
            for step in ((1e-3, 0.0), (0.0, 1e-2)):
                ends = [dust(CIB_INDEX + s * step[0], CIB_TEMPERATURE_K + s * step[1]) for s in (-1, 1)]
                columns.append((ends[1] - ends[0]) / (2 * max(step)))
    spectra = np.stack(columns, axis=1)
    spectra[:, 2:] /= np.linalg.norm(spectra[:, 2:], axis=0)
    return np.asarray(spectra)


def signal_free_spectra(instrument: Instrument) -> Floats:
    """Combinations of the bands that hold neither the SZ effect nor the CMB: all that do, whatever the mixture.

    Parameters
    ----------
    instrument : Instrument

    Returns
    -------
    (n_band, n_band - 2) float64
        Weights of the bands in K_CMB, one column a combination; orthonormal for bands over their level of dust.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> hfi = read_instrument("planck-hfi")
    >>> weights = signal_free_spectra(hfi)
    >>> weights.shape, bool(np.abs(weights.T @ list_spectra(hfi)).max() < 1e-9 * np.abs(weights).max())
    ((6, 4), True)
    """
    level = spectral_templates(instrument, ("dust",))[0] / instrument.unit_per_kcmb
    axes, _, _ = np.linalg.svd(list_spectra(instrument) / level[:, None], full_matrices=True)
    return np.asarray(axes[:, 2:] / level[:, None])


def needlet_windows(lmax: int, lowest: int = 0) -> list[Floats]:
    """Cosine needlet filters, each (lmax + 1,), whose squares sum to 1 at every l; all below ``lowest`` is one."""
    peaks = [0.0, *(float(p) for p in _PEAKS if lowest <= p < lmax and p > 0)]
    peaks.append(float(lmax))
    ell = np.arange(lmax + 1.0)
    windows = []
    for j, peak in enumerate(peaks):
        window = np.zeros(lmax + 1)
        if j > 0:
            rising = (ell >= peaks[j - 1]) & (ell <= peak)
            window[rising] = np.cos((peak - ell[rising]) / (peak - peaks[j - 1]) * np.pi / 2)
        if j + 1 < len(peaks):
            falling = (ell >= peak) & (ell <= peaks[j + 1])
            window[falling] = np.cos((ell[falling] - peak) / (peaks[j + 1] - peak) * np.pi / 2)
        windows.append(window)
    return windows


class NeedletILC:
    """Weights of the combination, once fitted, can be applied to other maps: half missions, noise alone.

    Parameters
    ----------
    instrument : Instrument
    nside : int
        Of the maps in and of the y map.
    beams_arcmin : (n_band,) float64
        FWHM of the maps in.
    threads : int
        0 uses all cores.
    deproject : sequence of str
        Spectra nulled beside the CMB's, see :func:`list_spectra`.

    Raises
    ------
    ValueError
        As of :func:`list_spectra`.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> ilc = NeedletILC(read_instrument("planck-hfi"), 64, np.full(6, 10.0))
    >>> ilc.fwhm_arcmin, ilc.lmax, ilc.spectra.shape
    (10.0, 191, (6, 2))
    """

    fwhm_arcmin = Y_FWHM_ARCMIN

    def __init__(
        self,
        instrument: Instrument,
        nside: int,
        beams_arcmin: Floats,
        threads: int = 0,
        *,
        deproject: Sequence[str] = (),
    ) -> None:
        self.instrument = instrument
        self.beams_arcmin = beams_arcmin
        self.nside = nside
        self.threads = threads
        self.lmax = min(_LMAX, band_limit(nside))
        self.spectra = list_spectra(instrument, deproject)
        self._windows = needlet_windows(self.lmax)
        self._weights: list[list[Alm]] | None = None
        self._fade: Map32 | None = None
        self._alms: list[Alm] = []  # of the fitted maps, and of their y

    def fit(self, maps: NDArray[np.float32], seen: NDArray[np.bool_] | None = None) -> Map32:
        """Find the weights that these maps call for, and combine the maps with them.

        Parameters
        ----------
        maps : (12 nside^2, n_band) float32
            RING, map units.
        seen : (12 nside^2,) bool, optional
            Pixels that were observed; all without it.

        Returns
        -------
        (12 nside^2,) float32
            Compton y, RING, 10 arcmin; fades to 0 towards the Galactic plane and what was not observed.
        """
        self._fade = self._fade_out(maps[:, -1], seen)
        alms = self._harmonics(maps)
        total = np.zeros_like(alms[0])
        self._weights = []
        for window in self._windows:
            fields = self._filtered(alms, window)
            weights = self._fit_scale(fields, window)
            self._weights.append(weights)
            self._add_scale(total, fields, weights, window)
        self._alms = [*alms, total]
        return synthesise(total, self.nside, self.threads)

    def combine(self, maps: NDArray[np.float32]) -> Map32:
        """Combine other maps - a half mission, noise alone - with the fitted weights, (12 nside^2,) float32 RING.

        Raises
        ------
        RuntimeError
            If :meth:`fit` has not been called.
        """
        if self._weights is None:
            raise RuntimeError("NeedletILC has no weights yet: call fit(maps) before combine(maps)")
        alms = self._harmonics(maps)
        total = np.zeros_like(alms[0])
        for weights, window in zip(self._weights, self._windows, strict=True):
            self._add_scale(total, self._filtered(alms, window), weights, window)
        return synthesise(total, self.nside, self.threads)

    @property
    def mean_weights(self) -> Floats:
        """The fitted weights of each scale, mean over the sphere, (7, n_band).

        A coarse map's smallest scale stands for all that are smaller.

        Raises
        ------
        RuntimeError
            If :meth:`fit` has not been called.
        """
        if self._weights is None:
            raise RuntimeError("NeedletILC has no weights yet: call fit(maps) first")
        # the mean is the monopole over sqrt(4 pi)
        means = [[float(weight[0].real) / np.sqrt(4 * np.pi) for weight in weights] for weights in self._weights]
        return np.array(means + [means[-1]] * (len(_PEAKS) - len(means)))

    def signal_free(self, nside: int, reference: Floats) -> NDArray[np.float32]:
        """What the fitted maps hold beside the SZ effect and the CMB, at 10 arcmin.

        Parameters
        ----------
        nside : int
        reference : (7, n_band) float64
            Weights that are the same everywhere, such as the :attr:`mean_weights` of some sky.

        Returns
        -------
        (12 nside^2, n_band - 1) float32
            RING, faded out as the y map: the combinations of :func:`signal_free_spectra`; and y less that of the
            reference, which shows where the weights differ from it.

        Raises
        ------
        RuntimeError
            If :meth:`fit` has not been called.
        """
        if not self._alms:
            raise RuntimeError("NeedletILC has seen no maps yet: call fit(maps) first")
        lmax = min(self.lmax, band_limit(nside))
        free = signal_free_windows(self.instrument, reference, lmax)
        out = np.empty((12 * nside * nside, free.shape[1]), np.float32)
        for column, windows in zip(out.T, np.moveaxis(free, 1, 0), strict=True):
            total = np.zeros((lmax + 1) * (lmax + 2) // 2, np.complex64)
            for alm, window in zip(self._alms, windows, strict=True):
                add_alm(total, alm, window)
            column[:] = synthesise(total, nside, self.threads)
        return out

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Where the fading leaves the maps as they are, (12 nside^2,) bool RING.

        Raises
        ------
        RuntimeError
            If :meth:`fit` has not been called.
        """
        if self._fade is None:
            raise RuntimeError("NeedletILC has seen no maps yet: call fit(maps) first")
        return np.asarray(self._fade > _LEAST_KEPT)

    def _add_scale(self, total: Alm, fields: list[Map32], weights: list[Alm], window: Floats) -> None:
        """Add one scale's weighted sum to the coefficients of y."""
        nside, top = self._scale_size(window)
        y = np.zeros(12 * nside * nside, np.float32)
        smooth = side_by_side(lambda weight: synthesise(weight, nside, 1), weights, self.threads)
        for field, weight in zip(fields, smooth, strict=True):
            y += field * weight
        add_alm(total, analyse(y, top, self.threads, iterations=0 if nside > 512 else 1), window)

    def _fade_out(self, bright: NDArray[np.float32], seen: NDArray[np.bool_] | None) -> Map32:
        """1 at high latitude, 0 where the Galactic plane outshines all or nothing was seen; smooth over 2 deg."""
        coarse = healpy.ud_grade(np.ascontiguousarray(bright, np.float64), 64)
        fade = 1.0 / (1.0 + (np.maximum(_smooth(coarse), 0.0) / _BRIGHT_MJYSR) ** 4)
        if seen is not None and not seen.all():
            share = healpy.ud_grade(seen.astype(np.float32), 64)
            fade *= np.clip(2.0 * _smooth((share > 0.999).astype(np.float64)) - 1.0, 0.0, 1.0)
        return synthesise(analyse(fade, 128, 1, iterations=2), self.nside, self.threads)

    def _harmonics(self, maps: NDArray[np.float32]) -> list[Alm]:
        """Coefficients of every map in K_CMB at 10 arcmin."""
        assert self._fade is not None
        target = beam_window(Y_FWHM_ARCMIN, self.lmax)
        alms = []
        for index in range(len(self.instrument.bands)):
            alm = analyse(maps[:, index] * self._fade, self.lmax, self.threads)
            beam = beam_window(self.beams_arcmin[index], self.lmax) * pixel_window(self.nside, self.lmax)
            ratio = target / np.maximum(beam, 1e-4) / self.instrument.unit_per_kcmb[index]
            alms.append(filter_alm(alm, ratio, out=alm))
        return alms

    def _scale_size(self, window: Floats) -> tuple[int, int]:
        """nside and lmax that hold a scale."""
        top = int(np.flatnonzero(window > 0)[-1])
        nside = max(_COVARIANCE_NSIDE, 1 << int(np.ceil(np.log2(top / 2.5))))
        return min(nside, self.nside), top

    def _filtered(self, alms: list[Alm], window: Floats) -> list[Map32]:
        """Every map at one scale."""
        nside, top = self._scale_size(window)

        def filtered(alm: Alm) -> Map32:
            small = np.zeros((top + 1) * (top + 2) // 2, np.complex64)
            add_alm(small, alm, window)
            return synthesise(small, nside, 1)

        return side_by_side(filtered, alms, self.threads)

    def _fit_scale(self, fields: list[Map32], window: Floats) -> list[Alm]:
        """Weights of one scale as smooth fields, coefficients up to l = 80."""
        nside, _ = self._scale_size(window)
        fwhm_arcmin = float(np.clip(covariance_fwhm_arcmin(window), _MIN_SMOOTHING_ARCMIN, 5400.0))
        smoothing = beam_window(fwhm_arcmin, _COVARIANCE_LMAX)
        nest = healpy.ring2nest(nside, np.arange(12 * nside * nside))
        n_band, n_cell = len(fields), 12 * _COVARIANCE_NSIDE**2
        cell = healpy.nest2ring(_COVARIANCE_NSIDE, np.arange(n_cell))
        parent = cell[nest // (nside // _COVARIANCE_NSIDE) ** 2]

        def smooth_product(pair: tuple[int, int]) -> Map32:
            product = np.bincount(parent, weights=fields[pair[0]] * fields[pair[1]], minlength=n_cell)
            # scaled by the sky's rms: float32 harmonics of 1e-12 K^2 would be fine, of 1e-20 not
            size = float(np.sqrt(np.mean(product**2))) or 1.0
            alm = filter_alm(analyse(product / size, _COVARIANCE_LMAX, 1, iterations=1), smoothing)
            return synthesise(alm, _COVARIANCE_NSIDE, 1) * size

        covariance = np.empty((n_cell, n_band, n_band))
        pairs = [(i, j) for i in range(n_band) for j in range(i + 1)]
        for (i, j), values in zip(pairs, side_by_side(smooth_product, pairs, self.threads), strict=True):
            covariance[:, i, j] = covariance[:, j, i] = values
        assert self._fade is not None
        share = healpy.ud_grade(np.asarray(self._fade, np.float64) ** 2, _COVARIANCE_NSIDE)
        alm = filter_alm(analyse(share, _COVARIANCE_LMAX, 1, iterations=1), smoothing)
        share = synthesise(alm, _COVARIANCE_NSIDE, 1)
        share /= share.max()  # a wide smoothing leaves little of a small survey anywhere
        empty = np.flatnonzero(share < _LEAST_SHARE)
        if empty.size:
            cells = np.stack(healpy.pix2vec(_COVARIANCE_NSIDE, np.arange(n_cell)), axis=1)
            filled = np.flatnonzero(share >= _LEAST_SHARE)
            covariance[empty] = covariance[filled[cKDTree(cells[filled]).query(cells[empty])[1]]]
        weights = constrained_weights(covariance, self.spectra)
        return [
            analyse(weights[:, band].astype(np.float32), _COVARIANCE_LMAX, 1, iterations=4) for band in range(n_band)
        ]


class FlatILC:
    """The same combination in a flat field, for a part of the sky that is too small for spherical harmonics.

    Parameters
    ----------
    instrument : Instrument
    pixel_arcmin : float
        Of the field.
    beams_arcmin : (n_band,) float64
        FWHM of the field's bands, its pixels and how it was interpolated included.
    deproject : sequence of str
        As of :class:`NeedletILC`.

    Raises
    ------
    ValueError
        As of :func:`list_spectra`.

    Examples
    --------
    Noise of 1 uK in every band of a field of 5 deg:

    >>> from szeek.inputs.instrument import read_instrument
    >>> hfi = read_instrument("planck-hfi")
    >>> noise = np.random.default_rng(1).normal(0.0, 1e-6, (150, 150, 6)) * hfi.unit_per_kcmb
    >>> y = FlatILC(hfi, 2.0, np.full(6, 5.0)).fit(noise.astype(np.float32))
    >>> bool(np.nanstd(y) < 1e-6)  # 1 uK is y = 4e-7 at 143 GHz
    True
    """

    fwhm_arcmin = Y_FWHM_ARCMIN

    def __init__(
        self, instrument: Instrument, pixel_arcmin: float, beams_arcmin: Floats, *, deproject: Sequence[str] = ()
    ) -> None:
        self.instrument = instrument
        self.pixel_arcmin = pixel_arcmin
        self.beams_arcmin = beams_arcmin
        self.spectra = list_spectra(instrument, deproject)
        self._weights: list[Floats] | None = None
        self._taper = np.zeros((0, 0))
        self._nearest = np.zeros((2, 0, 0), np.int64)
        self._inside = np.zeros((0, 0), bool)
        self._windows: list[Floats] = []

    def fit(self, field: NDArray[np.float32]) -> Map32:
        """Find the weights that this field calls for, and combine its bands with them.

        Parameters
        ----------
        field : (ny, nx, n_band) float32
            Map units; NaN where it was not observed.

        Returns
        -------
        (ny, nx) float32
            Compton y, 10 arcmin; NaN within 10 arcmin of what was not observed and of the field's border.

        Raises
        ------
        ValueError
            If nothing of the field is left.
        """
        beyond = int(np.ceil(60 * _TAPER_DEG / self.pixel_arcmin))
        seen = np.pad(np.isfinite(field).all(axis=-1), beyond)
        inside = ndimage.distance_transform_edt(seen) * self.pixel_arcmin > _BORDER_ARCMIN
        if not inside.any():
            raise ValueError(
                f"the field has no place {_BORDER_ARCMIN:g} arcmin away from its border and its holes, expected one "
                "some degrees wide"
            )
        distance, nearest = ndimage.distance_transform_edt(~seen, return_indices=True)
        faded = np.clip(1.0 - distance * self.pixel_arcmin / 60 / _TAPER_DEG, 0.0, 1.0)
        self._taper = np.sin(0.5 * np.pi * faded) ** 2
        self._nearest = nearest - beyond
        self._inside = inside[beyond:-beyond, beyond:-beyond]
        share = float(np.sum(self._taper**2)) * np.radians(self.pixel_arcmin / 60) ** 2 / (4 * np.pi)
        self._windows = _windows_of(share)
        parts = self._filtered(field)
        self._weights = [self._fit_scale(f, w, share) for f, w in zip(parts, self._windows, strict=True)]
        return self._sum(parts)

    def combine(self, field: NDArray[np.float32]) -> Map32:
        """Combine other maps of the same field with the fitted weights, (ny, nx) float32.

        Raises
        ------
        RuntimeError
            If :meth:`fit` has not been called.
        """
        if self._weights is None:
            raise RuntimeError("FlatILC has no weights yet: call fit(field) before combine(field)")
        return self._sum(self._filtered(field))

    @property
    def mean_weights(self) -> Floats:
        """The fitted weights of each scale, mean over the field, (7, n_band).

        Scales are those of the sphere: the field's lowest stands for all that it holds.

        Raises
        ------
        RuntimeError
            If :meth:`fit` has not been called.
        """
        if self._weights is None:
            raise RuntimeError("FlatILC has no weights yet: call fit(field) first")
        means = [weights.reshape(-1, weights.shape[-1]).mean(axis=0) for weights in self._weights]
        return np.array([means[0]] * (len(_PEAKS) - len(means)) + means)

    def signal_free(self, field: NDArray[np.float32], reference: Floats) -> NDArray[np.float32]:
        """What the fitted field holds beside the SZ effect and the CMB, at 10 arcmin.

        Returns
        -------
        (ny, nx, n_band - 1) float32
            As of :meth:`NeedletILC.signal_free`.

        Raises
        ------
        RuntimeError
            If :meth:`fit` has not been called.
        """
        if self._weights is None:
            raise RuntimeError("FlatILC has no weights yet: call fit(field) before signal_free(field)")
        parts = self._filtered(field)
        waves = np.zeros((len(self.instrument.bands) + 1, *fft.rfft2(self._taper).shape), np.complex128)
        for part, window in zip(parts, self._windows, strict=True):
            for wave, band in zip(waves[:-1], part, strict=True):
                wave += fft.rfft2(self._back(fft.rfft2(band), window))
        waves[-1] = fft.rfft2(self._total(parts))
        free = signal_free_windows(self.instrument, reference, self._windows[0].size - 1)
        out = np.zeros((*self._taper.shape, free.shape[1]))
        for wave, windows in zip(waves, free, strict=True):
            for column, window in zip(np.moveaxis(out, -1, 0), windows, strict=True):
                column += self._back(wave, window)
        return np.asarray(out[self._middle], np.float32)

    @property
    def _middle(self) -> tuple[slice, slice]:
        """The field itself, without what was repeated around it."""
        beyond = (self._taper.shape[0] - self._inside.shape[0]) // 2
        return slice(beyond, -beyond), slice(beyond, -beyond)

    def _filtered(self, field: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Every band at every scale, (n_band, ny, nx) each, in K_CMB at 10 arcmin."""
        waves = []
        for band, unit in enumerate(self.instrument.unit_per_kcmb):
            values = field[..., band][tuple(self._nearest)].astype(np.float64) / unit
            values -= np.sum(values * self._taper) / np.sum(self._taper)
            waves.append(fft.rfft2(values * self._taper))
        ell = np.arange(self._windows[0].size)
        excess = np.radians(np.array([Y_FWHM_ARCMIN**2 - fwhm**2 for fwhm in self.beams_arcmin]) / 3600)
        excess = excess * np.radians(1.0) / FWHM_PER_SIGMA**2  # in sr, of sigma^2
        ratio = np.exp(-0.5 * ell**2 * excess[:, None])
        parts = []
        for window in self._windows:
            seen = [self._back(wave, window * r) for wave, r in zip(waves, ratio, strict=True)]
            parts.append(np.stack(seen).astype(np.float32))
        return parts

    def _back(self, wave: NDArray[np.complex128], window: Floats) -> Floats:
        """A window in l of what was transformed, as a field."""
        shape = self._taper.shape
        y, x = fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])
        ell = np.hypot(y, x) * 2 * np.pi / np.radians(self.pixel_arcmin / 60)
        gain = np.interp(ell, np.arange(window.size), window, right=0.0)
        return np.asarray(fft.irfft2(wave * gain, s=shape))

    def _fit_scale(self, part: NDArray[np.float32], window: Floats, share: float) -> Floats:
        """Weights of one scale, (ny, nx, n_band), or (n_band,) where the field has too few modes for a local one."""
        n_band = len(part)
        fwhm = covariance_fwhm_arcmin(window)
        area = share * 4 * np.pi * (180 * 60 / np.pi) ** 2
        if 1.13 * fwhm**2 > 0.5 * area:
            covariance = np.einsum("iyx,jyx->ij", part, part, dtype=np.float64)
            return np.asarray(constrained_weights(covariance[None], self.spectra)[0])
        sigma = fwhm / FWHM_PER_SIGMA / self.pixel_arcmin
        covariance = np.empty((*part.shape[1:], n_band, n_band))
        # no division by how much of the field was seen, which all of a covariance has in common
        for i in range(n_band):
            for j in range(i + 1):
                smooth = ndimage.gaussian_filter(part[i].astype(np.float64) * part[j], sigma, mode="constant")
                covariance[..., i, j] = covariance[..., j, i] = smooth
        weights = constrained_weights(covariance.reshape(-1, n_band, n_band), self.spectra)
        return np.asarray(weights.reshape(*part.shape[1:], n_band))

    def _sum(self, parts: list[NDArray[np.float32]]) -> Map32:
        return np.asarray(np.where(self._inside, self._total(parts)[self._middle], np.nan), np.float32)

    def _total(self, parts: list[NDArray[np.float32]]) -> Floats:
        assert self._weights is not None
        total = np.zeros(self._taper.shape)
        for part, weights, window in zip(parts, self._weights, self._windows, strict=True):
            y = np.einsum("byx,...b->yx" if weights.ndim == 1 else "byx,yxb->yx", part, weights)
            total += self._back(fft.rfft2(y), window)
        return total


def signal_free_windows(instrument: Instrument, reference: Floats, lmax: int) -> Floats:
    """Windows in l that make signal-free maps of the bands in K_CMB and the ILC's y.

    Parameters
    ----------
    instrument : Instrument
    reference : (7, n_band) float64
        Weights for y that are the same everywhere.
    lmax : int

    Returns
    -------
    (n_band + 1, n_band - 1, lmax + 1) float64
        The combinations of :func:`signal_free_spectra`, and y less the reference's.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> hfi = read_instrument("planck-hfi")
    >>> reference = np.tile(constrained_weights(np.eye(6)[None], list_spectra(hfi)), (7, 1))
    >>> windows = signal_free_windows(hfi, reference, 100)
    >>> passed = np.einsum("bkl,b->kl", windows[:6], list_spectra(hfi)[:, 0])  # of y = 1 in every band
    >>> (passed[4] + windows[6, 4]).round(6).any()  # and in the ILC
    np.False_
    """
    free = signal_free_spectra(instrument)
    n_band, n_free = free.shape
    squares = np.square(needlet_windows(_LMAX))[:, : lmax + 1]
    windows = np.zeros((n_band + 1, n_free + 1, lmax + 1))
    windows[:n_band, :n_free] = free[..., None]
    windows[:n_band, n_free] = -np.einsum("jb,jl->bl", reference, squares)
    windows[n_band, n_free] = 1.0
    return windows


def covariance_fwhm_arcmin(window: Floats) -> float:
    """FWHM over which a scale's covariance is smoothed, so that it holds enough modes."""
    ell = np.arange(window.size)
    modes = float(np.sum((2 * ell + 1) * window**2))
    area = min(4 * np.pi * _MODES / max(modes, 1.0), 4 * np.pi)
    return float(np.degrees(np.sqrt(area / 1.13)) * 60)


def constrained_weights(covariance: NDArray[np.float64], spectra: Floats) -> NDArray[np.float64]:
    """Weights that pass the first spectrum with 1, null the others, and have least variance.

    Parameters
    ----------
    covariance : (n, n_band, n_band) float64
        In K_CMB^2.
    spectra : (n_band, n_component) float64
        K_CMB per unit of each component, of :func:`list_spectra`.

    Returns
    -------
    (n, n_band) float64

    Examples
    --------
    >>> spectra = np.array([[1.0, 1.0], [-1.0, 1.0], [0.0, 1.0]])
    >>> constrained_weights(np.eye(3)[None], spectra).round(3).tolist()
    [[0.5, -0.5, 0.0]]
    """
    scale = np.sqrt(np.maximum(np.einsum("nii->ni", covariance), 1e-30))
    normal = covariance / scale[:, :, None] / scale[:, None, :]
    normal = normal + 1e-6 * np.eye(len(spectra))
    scaled = spectra[None] / scale[:, :, None]
    inverse = np.linalg.solve(normal, scaled)
    information = np.einsum("nbk,nbl->nkl", scaled, inverse)
    # rows of (A^T C^-1 A)^-1 A^T C^-1; the first passes y
    rows = np.linalg.solve(information, np.swapaxes(inverse, 1, 2))
    return np.asarray(rows[:, 0, :] / scale)


def _smooth(coarse: Floats) -> Floats:
    """A map of nside 64 behind a beam of 1.5 deg."""
    alm = filter_alm(analyse(coarse, 128, 1, iterations=2), beam_window(90.0, 128))
    return synthesise(alm, 64, 1).astype(np.float64)


def _windows_of(share: float) -> list[Floats]:
    """Needlet filters for a share of the sky: the lowest one has enough modes there."""
    for lowest in _PEAKS:
        windows = needlet_windows(_LMAX, lowest)
        if share * np.sum((2 * np.arange(_LMAX + 1) + 1) * windows[0] ** 2) > _LEAST_MODES:
            return windows
    return windows
