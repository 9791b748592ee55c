"""Beams that are no Gaussians: tables of l and b_l, and the transform of an angular profile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import j0

Floats = NDArray[np.float64]

_ARCMIN = math.pi / 10800
FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))


@dataclass(frozen=True)
class BeamTable:
    """A beam's transform: ``ell`` (n,) float64 increasing from 0, ``b_ell`` (n,) float64.

    ``b_ell`` is 1 at l = 0, unless the maps are calibrated at another multipole.
    """

    ell: Floats
    b_ell: Floats

    @cached_property
    def fwhm_arcmin(self) -> float:
        """FWHM of the Gaussian nearest to the table: least squares over the modes, with free amplitude.

        Sidelobes, which make b_l fall at low multipoles, go into the amplitude.
        """
        weight = np.gradient(self.ell) * self.ell

        def misfit(log_sigma: float) -> float:
            gauss = np.exp(-0.5 * (self.ell * math.exp(log_sigma)) ** 2)
            amplitude = (weight * gauss) @ self.b_ell / ((weight * gauss) @ gauss)
            return float(weight @ (self.b_ell - amplitude * gauss) ** 2)

        start = math.log(1 / self.ell[np.argmax(self.b_ell < 0.5 * self.b_ell[0]) or -1])
        found = minimize_scalar(misfit, bounds=(start - 3, start + 3), method="bounded", options={"xatol": 1e-9})
        return math.exp(found.x) * FWHM_PER_SIGMA / _ARCMIN

    def __call__(self, ell: ArrayLike) -> Floats:
        """b_l at any multipoles; beyond the table's last it falls as the Gaussian nearest to the table.

        Examples
        --------
        >>> ell = np.arange(0.0, 6000.0, 10.0)
        >>> sigma = 1.4 / FWHM_PER_SIGMA * math.pi / 10800
        >>> table = BeamTable(ell, np.exp(-0.5 * (ell * sigma) ** 2))
        >>> round(table.fwhm_arcmin, 4)
        1.4
        >>> table([0.0, 6000.0, 12000.0]).round(4).tolist()
        [1.0, 0.5837, 0.1161]
        """
        at, last = np.asarray(ell, np.float64), self.ell[-1]
        sigma = self.fwhm_arcmin * _ARCMIN / FWHM_PER_SIGMA
        beyond = np.exp(-0.5 * sigma**2 * np.maximum(at**2 - last**2, 0.0))
        return np.asarray(np.interp(at, self.ell, self.b_ell) * beyond)


def first_points(ell: Floats) -> slice:
    """The points of a table up to twice its first multipole, two at least."""
    return slice(max(2, int(np.searchsorted(ell, 2 * ell[0], side="right"))))


def start_at_zero(ell: Floats, b_ell: Floats) -> BeamTable:
    """A table that starts above l = 0, continued to there by a Gaussian fitted to its :func:`first_points`.

    The fit is one of ln b_l against l^2, with free amplitude.

    Examples
    --------
    >>> ell = np.arange(300.0, 4000.0)
    >>> table = start_at_zero(ell, 1.1 * np.exp(-0.5 * (ell * 2e-4) ** 2))
    >>> table([0.0, 150.0]).round(5).tolist()
    [1.1, 1.09951]
    """
    if ell[0] == 0:
        return BeamTable(ell, b_ell)
    first = first_points(ell)
    slope, start = np.polyfit(ell[first] ** 2, np.log(b_ell[first]), 1)
    if slope > 0:  # noise, or a beam that is all but a point
        slope, start = 0.0, math.log(b_ell[0])
    before = np.linspace(0.0, ell[0], 32, endpoint=False)
    return BeamTable(np.r_[before, ell], np.r_[np.exp(start + slope * before**2), b_ell])


def transform_profile(radius_deg: Floats, profile: Floats) -> BeamTable:
    """Transform of an angular profile: int B(r) P_l(cos r) sin r dr, over its value at l = 0.

    Deviation: P_l(cos r) is J_0(sqrt(l(l+1)) 2 sin(r/2)), right to 1e-5 for beams up to a degree.

    Parameters
    ----------
    radius_deg : (n,) float64
        Increasing.
    profile : (n,) float64
        Any scale; taken as 0 beyond the last radius.

    Returns
    -------
    BeamTable
        To where a Gaussian as wide at half maximum has fallen to 1e-5.

    Examples
    --------
    >>> radius = np.linspace(0.0, 0.2, 2001)
    >>> beam = transform_profile(radius, np.exp(-4 * math.log(2) * (radius * 60 / 1.4) ** 2))
    >>> round(beam.fwhm_arcmin, 3)
    1.4
    """
    radius = np.radians(radius_deg)
    half = radius[int(np.argmax(profile < 0.5 * profile[0])) or -1]
    top = 4.8 * FWHM_PER_SIGMA / (2 * half)
    ell = np.linspace(0.0, top, 500)
    kernel = j0(np.sqrt(ell * (ell + 1))[:, None] * (2 * np.sin(radius / 2)))
    b_ell = np.trapezoid(kernel * (profile * np.sin(radius)), radius, axis=1)
    return BeamTable(ell, np.asarray(b_ell / b_ell[0]))
