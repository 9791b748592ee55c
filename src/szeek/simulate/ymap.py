"""A Compton-y map from the six frequency maps: needlet ILC, constrained to pass y and to null the CMB.

    y(x) = sum_j  N_j [ sum_b w_jb(x) (N_j d_b)(x) ],       w_j = e (A^T C_j^-1 A)^-1 A^T C_j^-1

with N_j the needlet filter of scale j (sum of their squares 1), d_b the map of band b brought to 10 arcmin, C_j(x)
the local covariance of the filtered maps, A the two columns (SZ response, CMB = 1) and e = (1, 0). As MILCA
(Hurier, Macias-Perez & Hildebrandt 2013, A&A 558, A118), with the localisation of NILC; its residuals are those of
the simulated sky.
"""

from __future__ import annotations

import healpy
import numpy as np
from numpy.typing import NDArray

from szeek.physics.instrument import Instrument
from szeek.simulate.harmonics import (
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
from szeek.simulate.pool import side_by_side

#: Resolution of the y map, that of MILCA. Planck 2015 results XXII (A&A 594, A22).
Y_FWHM_ARCMIN = 10.0
_LMAX = 2048  # the 10 arcmin beam passes 4 % there
_PEAKS = (0, 64, 128, 256, 512, 1024, 2048)
_COVARIANCE_NSIDE, _COVARIANCE_LMAX = 32, 80
_MODES = 2500.0  # per covariance: keeps the ILC's bias below half a per cent
#: Narrowest smoothing of a covariance: its Gaussian has died out at l = 80, so that the bright plane does not ring.
_MIN_SMOOTHING_ARCMIN = 540.0
#: 857 GHz brightness in MJy/sr above which a map is faded out: the Galactic plane, 5 % of the sky.
_BRIGHT_MJYSR = 80.0


def needlet_windows(lmax: int) -> list[Floats]:
    """Cosine needlet filters, each (lmax + 1,), whose squares sum to 1 at every l."""
    peaks = [float(p) for p in _PEAKS if p < lmax]
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
    """

    fwhm_arcmin = Y_FWHM_ARCMIN

    def __init__(self, instrument: Instrument, nside: int, beams_arcmin: Floats, threads: int = 0) -> None:
        self.instrument = instrument
        self.beams_arcmin = beams_arcmin
        self.nside = nside
        self.threads = threads
        self.lmax = min(_LMAX, band_limit(nside))
        self._windows = needlet_windows(self.lmax)
        self._weights: list[list[Alm]] | None = None
        self._fade: Map32 | None = None

    def fit(self, maps: NDArray[np.float32]) -> Map32:
        """Find the weights that these maps call for, and combine the maps with them.

        Parameters
        ----------
        maps : (12 nside^2, n_band) float32
            RING, map units.

        Returns
        -------
        (12 nside^2,) float32
            Compton y, RING, 10 arcmin.
        """
        self._fade = self._fade_plane(maps[:, -1])
        alms = self._harmonics(maps)
        total = np.zeros_like(alms[0])
        self._weights = []
        for window in self._windows:
            fields = self._filtered(alms, window)
            weights = self._fit_scale(fields, window)
            self._weights.append(weights)
            self._add_scale(total, fields, weights, window)
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

    def _add_scale(self, total: Alm, fields: list[Map32], weights: list[Alm], window: Floats) -> None:
        """Add one scale's weighted sum to the coefficients of y."""
        nside, top = self._scale_size(window)
        y = np.zeros(12 * nside * nside, np.float32)
        smooth = side_by_side(lambda weight: synthesise(weight, nside, 1), weights, self.threads)
        for field, weight in zip(fields, smooth, strict=True):
            y += field * weight
        add_alm(total, analyse(y, top, self.threads, iterations=0 if nside > 512 else 1), window)

    def _fade_plane(self, bright: NDArray[np.float32]) -> Map32:
        """1 at high latitude, 0 where the Galactic plane outshines everything; smooth over 2 deg."""
        coarse = healpy.ud_grade(np.ascontiguousarray(bright, np.float64), 64)
        smooth = synthesise(filter_alm(analyse(coarse, 128, 1, iterations=2), beam_window(90.0, 128)), 64, 1).astype(
            np.float64
        )
        fade = 1.0 / (1.0 + (np.maximum(smooth, 0.0) / _BRIGHT_MJYSR) ** 4)
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
        ell = np.arange(window.size)
        modes = float(np.sum((2 * ell + 1) * window**2))
        area = min(4 * np.pi * _MODES / max(modes, 1.0), 4 * np.pi)
        fwhm_arcmin = float(np.clip(np.degrees(np.sqrt(area / 1.13)) * 60, _MIN_SMOOTHING_ARCMIN, 5400.0))
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
        weights = constrained_weights(covariance, self.instrument.tsz_kcmb)
        return [
            analyse(weights[:, band].astype(np.float32), _COVARIANCE_LMAX, 1, iterations=1) for band in range(n_band)
        ]


def constrained_weights(covariance: NDArray[np.float64], response: Floats) -> NDArray[np.float64]:
    """Weights that pass ``response`` with 1, null a flat (CMB) spectrum, and have least variance.

    Parameters
    ----------
    covariance : (n, n_band, n_band) float64
        In K_CMB^2.
    response : (n_band,) float64
        K_CMB per unit y.

    Returns
    -------
    (n, n_band) float64
    """
    mixing = np.stack([response, np.ones_like(response)], axis=1)
    scale = np.sqrt(np.maximum(np.einsum("nii->ni", covariance), 1e-30))
    normal = covariance / scale[:, :, None] / scale[:, None, :]
    normal = normal + 1e-6 * np.eye(response.size)
    scaled = mixing[None] / scale[:, :, None]
    inverse = np.linalg.solve(normal, scaled)
    information = np.einsum("nbk,nbl->nkl", scaled, inverse)
    # rows of (A^T C^-1 A)^-1 A^T C^-1; the first passes y
    rows = np.linalg.solve(information, np.swapaxes(inverse, 1, 2))
    return np.asarray(rows[:, 0, :] / scale)
