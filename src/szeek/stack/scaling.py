r"""From p to y: the mean Compton flux of sources against p, its scaling law, and a p map converted to y.

The law is :math:`\langle Y \rangle = A\,e^{B (x - x_0)}` with x = logit p, a power law in the odds p / (1 - p).
Sources are selected on the same maps that their flux is measured in, so noise lifts both (Eddington bias): its size,
the ratio of measured to true flux at given p, is measured on injected clusters and divided out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import least_squares

from szeek.stack.stacks import bootstrap_weights, equal_count_bins, random_groups

#: p closer to 0 or 1 than this says no more: the network's sigmoid saturates in float32.
P_CLIP = 1e-4
_N_GROUPS = 500


def measure_flux_in_bins(
    p: ArrayLike, flux: ArrayLike, n_bins: int = 5, *, n_bootstrap: int = 1000, seed: int = 0
) -> Table:
    """Mean flux of sources in bins of p of equal counts, with bootstrap errors.

    Source: Bonjean (2020), Fig. 7.

    Parameters
    ----------
    p : (n,) float
        Score.
    flux : (n,) float
        Aperture flux (:func:`szeek.stack.profiles.measure_fluxes`); NaN (masked) is left out.
    n_bins : int
        Number of bins.
    n_bootstrap, seed : int
        Draws of sources.

    Returns
    -------
    Table
        Lowest p first: ``n``, ``p_low``, ``p_high``, ``p_mean``, ``flux``, ``flux_error``, ``flux_median``.
    """
    score, value = _seen(p, flux)
    rows = []
    for k, members in enumerate(equal_count_bins(score, n_bins)):
        mine, n = value[members], members.size
        error = _bootstrap_ratio_error(mine, np.ones(n), n_bootstrap, seed + k)
        inside = score[members]
        rows.append((n, inside.min(), inside.max(), inside.mean(), mine.mean(), error, np.median(mine)))
    return Table(rows=rows, names=["n", "p_low", "p_high", "p_mean", "flux", "flux_error", "flux_median"])


@dataclass(frozen=True)
class ScalingLaw:
    """Mean flux against p.

    Parameters
    ----------
    amplitude : float
        A: mean flux at the pivot.
    slope : float
        B: d ln Y / d logit p.
    covariance : (2, 2) float64
        Of amplitude and slope.
    pivot : float
        logit p at which the amplitude holds.
    p_range : (float, float)
        Lowest and highest p of the sources fitted.
    chi2 : float
        Of the bins against the law.
    n_freedom : int
        Bins less two.
    """

    amplitude: float
    slope: float
    covariance: NDArray[np.float64]
    pivot: float
    p_range: tuple[float, float]
    chi2: float
    n_freedom: int

    @property
    def p_value(self) -> float:
        """Probability of a larger chi-square."""
        return float(stats.chi2.sf(self.chi2, self.n_freedom)) if self.n_freedom else np.nan

    def predict(self, p: ArrayLike) -> NDArray[np.float64]:
        """Mean flux at given p; not extrapolated beyond ``p_range``."""
        x = _logit(np.clip(np.asarray(p, float), *self.p_range)) - self.pivot
        return np.asarray(self.amplitude * np.exp(self.slope * x))

    def predict_error(self, p: ArrayLike) -> NDArray[np.float64]:
        """Standard error of :meth:`predict` from those of amplitude and slope."""
        x = _logit(np.clip(np.asarray(p, float), *self.p_range)) - self.pivot
        gradient = np.exp(self.slope * x)[..., None] * np.stack([np.ones_like(x), self.amplitude * x], axis=-1)
        return np.asarray(np.sqrt(np.einsum("...i,ij,...j", gradient, self.covariance, gradient)))

    def to_table(self) -> Table:
        """One row, for scaling.ecsv."""
        error = np.sqrt(np.diag(self.covariance))
        row = (self.amplitude, error[0], self.slope, error[1], self.pivot, *self.p_range, self.chi2, self.n_freedom)
        names = ["amplitude", "amplitude_error", "slope", "slope_error", "pivot_logit_p", "p_low", "p_high", "chi2"]
        return Table(rows=[row], names=[*names, "n_freedom"], meta={"covariance": self.covariance.tolist()})


def fit_scaling(
    p: ArrayLike,
    flux: ArrayLike,
    n_bins: int = 10,
    *,
    injections: Table | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> ScalingLaw:
    """Fit the law to mean fluxes in bins of p, Eddington bias taken out with injected clusters.

    The model of a bin is the mean of the law over its sources, not the law at their mean p. With injections, the
    bin's flux is divided by the mean measured over the mean true flux of injected clusters *detected* with p in
    the same bin; the error of that ratio (bootstrap) is added.

    Parameters
    ----------
    p, flux : (n,) float
        As for :func:`measure_flux_in_bins`.
    n_bins : int
        Bins, at least three.
    injections : Table, optional
        Injected clusters that were detected: ``p``, ``flux`` (measured alike), ``flux_true``. Their population
        should be that of the sources. Default: no correction, and the law describes measured fluxes.
    n_bootstrap, seed : int
        Draws for the errors.

    Returns
    -------
    ScalingLaw

    Raises
    ------
    ValueError
        If there are fewer than three bins, or a bin has no injection.
    """
    if n_bins < 3:
        raise ValueError(f"n_bins is {n_bins}, expected at least 3 to fit two numbers")
    score, value = _seen(p, flux)
    bins = measure_flux_in_bins(score, value, n_bins, n_bootstrap=n_bootstrap, seed=seed)
    mean, variance = np.asarray(bins["flux"]), np.asarray(bins["flux_error"]) ** 2
    if injections is not None:
        ratio = measure_selection_bias(injections, bins, n_bootstrap=n_bootstrap, seed=seed)
        bias, bias_error = np.asarray(ratio["ratio"]), np.asarray(ratio["ratio_error"])
        variance = variance / bias**2 + (mean * bias_error / bias**2) ** 2
        mean = mean / bias
    x = [_logit(score[members]) for members in equal_count_bins(score, n_bins)]
    pivot = float(np.mean(_logit(score)))

    def residual(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        model = np.array([np.exp(theta[1] * (part - pivot)).mean() for part in x])
        return np.asarray((theta[0] * model - mean) / np.sqrt(variance))

    fit = least_squares(residual, [max(mean.mean(), np.sqrt(variance.mean())), 0.3], x_scale=[mean.std() or 1, 0.1])
    covariance = np.linalg.inv(fit.jac.T @ fit.jac)
    p_range = (float(score.min()), float(score.max()))
    amplitude, slope = (float(value) for value in fit.x)
    return ScalingLaw(amplitude, slope, covariance, pivot, p_range, float(2 * fit.cost), n_bins - 2)


def measure_selection_bias(injections: Table, bins: Table, *, n_bootstrap: int = 1000, seed: int = 0) -> Table:
    """Eddington bias in bins of p: mean measured over mean true flux of injected clusters that were detected.

    Parameters
    ----------
    injections : Table
        ``p``, ``flux``, ``flux_true``.
    bins : Table
        From :func:`measure_flux_in_bins`: borders halfway between neighbouring bins, the outer ones open.
    n_bootstrap, seed : int
        Draws of injections for the error.

    Returns
    -------
    Table
        ``n``, ``ratio``, ``ratio_error``, in the order of the bins.
    """
    borders = 0.5 * (np.asarray(bins["p_high"])[:-1] + np.asarray(bins["p_low"])[1:])
    seen = np.isfinite(injections["flux"]) & np.isfinite(injections["flux_true"])
    bin_of = np.searchsorted(borders, np.asarray(injections["p"], float))
    rows = []
    for k in range(len(bins)):
        mine = injections[seen & (bin_of == k)]
        if len(mine) < 2:
            raise ValueError(
                f"{len(mine)} injections were detected with p from {bins['p_low'][k]:g} to {bins['p_high'][k]:g}, "
                "expected at least 2: inject more, or use fewer bins"
            )
        flux, true = (np.asarray(mine[name], float) for name in ("flux", "flux_true"))
        error = _bootstrap_ratio_error(flux, true, n_bootstrap, seed + k)
        rows.append((len(mine), flux.mean() / true.mean(), error))
    return Table(rows=rows, names=["n", "ratio", "ratio_error"])


def convert_to_y(p_map: NDArray[np.float32], law: ScalingLaw) -> NDArray[np.float32]:
    """A p map as a map of mean y, with a law fitted to pixels (p and y of the same pixels, held out).

    Parameters
    ----------
    p_map : (12 nside^2,) float32
        NaN outside the footprint, which stays.
    law : ScalingLaw
        ``fit_scaling(p_map[pixels], y_map[pixels])``.

    Returns
    -------
    (12 nside^2,) float32
        0 where p is below the lowest p fitted.
    """
    low = np.float32(law.p_range[0])
    out = np.where(np.isnan(p_map), np.float32(np.nan), np.float32(0))
    above = p_map >= low
    out[above] = law.predict(p_map[above])
    return out


def _bootstrap_ratio_error(
    upper: NDArray[np.float64], lower: NDArray[np.float64], n_bootstrap: int, seed: int
) -> float:
    """Standard error of sum(upper) / sum(lower), by bootstrap over sources (over 500 random groups of more)."""
    n_group = min(upper.size, _N_GROUPS)
    if n_group < 2:
        return float("nan")
    group = random_groups(upper.size, n_group, seed)
    drawn = bootstrap_weights(n_group, n_bootstrap, seed)
    ratios = (drawn @ np.bincount(group, upper)) / (drawn @ np.bincount(group, lower))
    return float(ratios.std(ddof=1) * np.sqrt(n_group / (n_group - 1)))


def _seen(p: ArrayLike, flux: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    score, value = np.asarray(p, float), np.asarray(flux, float)
    if score.shape != value.shape or score.ndim != 1:
        raise ValueError(f"p has shape {score.shape} and flux {value.shape}, expected the same, (n,)")
    seen = np.isfinite(score) & np.isfinite(value)
    return score[seen], value[seen]


def _logit(p: ArrayLike) -> NDArray[np.float64]:
    clipped = np.clip(np.asarray(p, float), P_CLIP, 1 - P_CLIP)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))
