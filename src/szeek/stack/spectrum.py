r"""The spectrum of a stack in all bands, fitted with thermal SZ + dust + radio + CMB.

    S_band = y t_band(T_e) + A_dust D(nu) + A_radio R(nu) + A_cmb,
    D = nu^beta B_nu(T_d) / (the same at 857 GHz),   R = (nu / 100 GHz)^alpha,

with the templates of :mod:`szeek.physics.spectra`, in each band's own map unit. The model is linear in its
amplitudes: generalised least squares, no starting point, no local minimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from szeek.physics.instrument import Instrument
from szeek.physics.spectra import COMPONENTS, spectral_templates

_UNITS = {"tsz": "Compton y", "dust": "MJy/sr at 857 GHz", "radio": "MJy/sr at 100 GHz", "cmb": "K_CMB"}


@dataclass(frozen=True)
class SpectrumFit:
    """Amplitudes of the components.

    Parameters
    ----------
    components : tuple of str
        Fitted, of 'tsz', 'dust', 'radio', 'cmb'.
    amplitude : (n_component,) float64
        Compton y; MJy/sr at 857 GHz; MJy/sr at 100 GHz; K_CMB. Times the solid angle if the spectrum is one of
        fluxes.
    covariance : (n_component, n_component) float64
        Of the amplitudes.
    model : (n_component, n_band) float64
        Each component's part of the spectrum, in the map units.
    chi2 : float
    n_freedom : int
        Bands less components.
    """

    components: tuple[str, ...]
    amplitude: NDArray[np.float64]
    covariance: NDArray[np.float64]
    model: NDArray[np.float64]
    chi2: float
    n_freedom: int

    @property
    def error(self) -> NDArray[np.float64]:
        """Standard errors of the amplitudes."""
        return np.sqrt(np.diag(self.covariance))

    @property
    def p_value(self) -> float:
        """Probability of a larger chi-square; NaN without freedom."""
        return float(stats.chi2.sf(self.chi2, self.n_freedom)) if self.n_freedom else float("nan")

    def to_table(self) -> Table:
        """One row per component: ``component``, ``amplitude``, ``error``, ``sigma``, ``unit``."""
        return Table(
            {
                "component": self.components,
                "amplitude": self.amplitude,
                "error": self.error,
                "sigma": self.amplitude / self.error,
                "unit": [_UNITS[name] for name in self.components],
            },
            meta={"chi2": self.chi2, "n_freedom": self.n_freedom, "p_value": self.p_value},
        )


def separable_components(n_band: int) -> tuple[str, ...]:
    """The components that so many bands tell apart; of few, radio sources and then dust are not fitted.

    Examples
    --------
    >>> separable_components(6), separable_components(3)
    (('tsz', 'dust', 'radio', 'cmb'), ('tsz', 'dust', 'cmb'))
    """
    kept = ("tsz", "cmb", "dust", "radio")[:n_band]
    return tuple(name for name in COMPONENTS if name in kept)


def fit_spectrum(
    spectrum: ArrayLike,
    covariance: ArrayLike,
    instrument: Instrument,
    components: Sequence[str] = COMPONENTS,
    *,
    beam_factor: ArrayLike | None = None,
    t_e_kev: float = 0.0,
    dust_temperature_k: float = 19.7,
    dust_index: float = 1.62,
    radio_index: float = -0.7,
) -> SpectrumFit:
    """Fit the components' amplitudes to the brightness or flux of a stack in every band.

    Parameters
    ----------
    spectrum : (n_band,) float
        Central brightness or aperture flux of a stack, background removed, in the bands' map units.
    covariance : (n_band, n_band) float
        Of the spectrum; bands share CMB and dust, so not diagonal. From matched nulls or a bootstrap.
    instrument : Instrument
        Its bands, in this order.
    components : sequence of str
        Fitted, of 'tsz', 'dust', 'radio', 'cmb'.
    beam_factor : (n_band,) float, optional
        What each band's beam leaves of a source in the aperture
        (:func:`szeek.stack.profiles.gaussian_aperture_fraction`): multiplies all but the CMB. Default: 1.
    t_e_kev, dust_temperature_k, dust_index, radio_index
        As for :func:`spectral_templates`.

    Returns
    -------
    SpectrumFit

    Raises
    ------
    ValueError
        If shapes do not fit, the covariance is not positive definite, or there are more components than bands.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> hfi = read_instrument("planck-hfi")
    >>> fit = fit_spectrum(1e-5 * spectral_templates(hfi, ["tsz"])[0], np.eye(6) * 1e-12, hfi)
    >>> round(float(fit.amplitude[0]), 9)
    1e-05
    """
    data, errors = np.asarray(spectrum, float), np.asarray(covariance, float)
    n_band = len(instrument.bands)
    if data.shape != (n_band,) or errors.shape != (n_band, n_band):
        raise ValueError(
            f"spectrum has shape {data.shape} and covariance {errors.shape}, expected ({n_band},) and "
            f"({n_band}, {n_band}) for the bands of '{instrument.name}'"
        )
    if len(components) > n_band:
        raise ValueError(f"{len(components)} components and {n_band} bands: the spectrum cannot tell them apart")
    rows = spectral_templates(
        instrument,
        components,
        t_e_kev=t_e_kev,
        dust_temperature_k=dust_temperature_k,
        dust_index=dust_index,
        radio_index=radio_index,
    )
    if beam_factor is not None:
        source_like = np.array([name != "cmb" for name in components])[:, None]
        rows = np.where(source_like, rows * np.asarray(beam_factor, float), rows)
    # bands in K_CMB and in MJy/sr differ by 1e5: in units of each band's error the matrices are well conditioned
    sigma = np.sqrt(np.diag(errors))
    try:
        root = np.linalg.cholesky(errors / np.outer(sigma, sigma))
    except np.linalg.LinAlgError as error:
        raise ValueError("the covariance is not positive definite: use more sources, groups or null sets") from error
    white = np.linalg.solve(root, np.column_stack([data / sigma, (rows / sigma).T]))
    scale = np.linalg.norm(white[:, 1:], axis=0)
    design = white[:, 1:] / scale
    amplitude = np.linalg.lstsq(design, white[:, 0], rcond=None)[0]
    residual = white[:, 0] - design @ amplitude
    inverse = np.linalg.inv(design.T @ design) / np.outer(scale, scale)
    amplitude = amplitude / scale
    chi2 = float(residual @ residual)
    return SpectrumFit(
        tuple(components), amplitude, inverse, amplitude[:, None] * rows, chi2, n_band - len(components)
    )
