r"""Fluxes of clusters of unknown size: the population of haloes as prior, and a correction that is measured.

    p(Y, theta | d) ~ n(ln Y, ln theta) exp(Y t.v - Y^2 t.M.t / 2),     t = t(T_e(Y, theta)),     v, M at theta

v and M are what the matched filter has of the bands (:mod:`szeek.measure.photometry`), Y is Y5R500, n the number of
haloes of this flux and apparent size (:func:`halo_population`), and T_e their mean temperature: where the redshift is
known, of that redshift alone. What the maps decide is not touched by the prior; where they leave the size open, sizes
that no halo of this flux has do not count, and neither do fluxes that only noise makes.

A selection by the same data changes nothing in that. What is not in it (position, shape, galaxies in the cluster) is
measured on clusters of known flux, :func:`fit_flux_correction`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from threading import Lock
from typing import NamedTuple

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.optimize import isotonic_regression

from szeek.inputs.catalogues import TRUTH_Y500_ARCMIN2
from szeek.physics.cosmology import COSMOLOGY
from szeek.physics.gas import Y5R500_PER_Y500, y5r500_per_y500
from szeek.physics.scaling import MASS_BIAS, electron_temperature_kev, theta500_from_mass, y500_from_mass

Floats = NDArray[np.float64]

#: Temperatures at which the tSZ response is tabulated: up to where its expansion holds.
TEMPERATURES_KEV = np.linspace(0.0, 15.0, 151)
# The population: masses (true, 1e14 Msun), redshifts, and Y5R500 in arcmin^2.
_MASSES = np.geomspace(0.3, 40.0, 160)
_REDSHIFTS = np.geomspace(0.01, 1.5, 120)
_LOG_FLUX = np.linspace(math.log(Y5R500_PER_Y500 * TRUTH_Y500_ARCMIN2), math.log(3.0), 433)
_LOG_FLUX_STEP = _LOG_FLUX[1] - _LOG_FLUX[0]
# Scatter of the flux at a mass: Planck 2013 results XX (A&A 571, A20), Table 1; of the apparent size: that of the
# concentration among the profiles of Arnaud et al. (2010).
_FLUX_SCATTER_LN, _SIZE_SCATTER_LN = 0.075 * math.log(10), 0.25
# One cluster in a hundred has any size, so that maps can show what the relations do not know.
_ODD_SHARE, _SIZE_RANGE_LN = 0.01, math.log(100.0)
_NONE = 1e-100
# Values of the flux that are tried, out to so many sigma, over at least this range of its logarithm, at sizes of this
# probability; the flux of gas of 15 keV is within this factor of its non-relativistic one.
_N_NODES, _REACH, _LEAST_SPAN, _LEAST_WEIGHT, _HOTTEST = 64, 5.0, 0.3, 1e-4, 1.3
# Of the correction: fewest clusters, clusters in a bin, most bins; least S/N, and sizes between which errors change.
_FEWEST, _PER_BIN, _MOST_BINS, _LEAST_SNR, _SIZE_ENDS_ARCMIN = 20, 80, 8, 1.0, (2.0, 20.0)
_ONE_AT_A_TIME = Lock()
_SINGLE = ("redshift_factor", "constrained_factor", "error_scale", "error_slope")


class Population(NamedTuple):
    """Haloes against apparent size (rows) and Y5R500 (columns).

    ``log_number`` (n_size, n_flux) float64, of their number in the sky per unit ln theta500 and ln Y5R500;
    ``temperature`` (n_size, n_flux), the number of their mean one in :data:`TEMPERATURES_KEV`; ``log_flux``
    (n_flux,), ln Y5R500 of the columns.
    """

    log_number: Floats
    temperature: NDArray[np.int64]
    log_flux: Floats = _LOG_FLUX


def _flux_grid(least_y500_arcmin2: float) -> Floats:
    """ln Y5R500 in arcmin^2, from this Y500 on, in the steps of :data:`_LOG_FLUX`."""
    n_below = math.ceil(math.log(TRUTH_Y500_ARCMIN2 / least_y500_arcmin2) / _LOG_FLUX_STEP - 1e-9)
    return np.concatenate([_LOG_FLUX[0] - _LOG_FLUX_STEP * np.arange(n_below, 0, -1), _LOG_FLUX])


def halo_population(
    sizes_arcmin: tuple[float, ...], z: float = math.nan, least_y500_arcmin2: float = TRUTH_Y500_ARCMIN2
) -> Population:
    """Haloes of the sky, or of one redshift, against apparent size and flux.

    Source: mass function of Tinker et al. (2008), ApJ 688, 709; Planck 2013 results XX (A&A 571, A20), eqs. 7 and 9,
    with the scatter of its Table 1; temperatures of :func:`szeek.physics.scaling.electron_temperature_kev`.

    Parameters
    ----------
    sizes_arcmin : tuple of float
        Apparent theta500: that of the profile of mean concentration that looks alike.
    z : float
        NaN: all redshifts from 0.01 to 1.5; others are taken into that range.
    least_y500_arcmin2 : float
        Y500 of the faintest haloes; at most 3e-4, from which they count as clusters in Planck's maps.
    """
    if math.isnan(z):
        return _population(sizes_arcmin, None, least_y500_arcmin2)
    nearest = int(np.abs(np.log(_REDSHIFTS / max(z, 1e-3))).argmin())
    return _population(sizes_arcmin, nearest, least_y500_arcmin2)


@cache
def _population(sizes_arcmin: tuple[float, ...], slice_: int | None, least_y500_arcmin2: float) -> Population:
    grid = _flux_grid(least_y500_arcmin2)
    which = slice(None) if slice_ is None else slice(slice_, slice_ + 1)
    number, log_size, log_flux, temperature = (column[which].ravel() for column in _haloes())
    at_size = _normal(np.log(sizes_arcmin)[:, None] - log_size, _SIZE_SCATTER_LN)
    at_size = (1 - _ODD_SHARE) * at_size + _ODD_SHARE / _SIZE_RANGE_LN
    at_flux = _normal(log_flux[:, None] - grid, _FLUX_SCATTER_LN)
    density = np.maximum((at_size * number) @ at_flux, _NONE)
    mean = ((at_size * (number * temperature)) @ at_flux) / density
    step = TEMPERATURES_KEV[1]
    nearest = np.rint(np.minimum(mean, TEMPERATURES_KEV[-1]) / step).astype(np.int64)
    return Population(np.log(density), nearest, grid)


def _normal(away: Floats, sigma: float) -> Floats:
    return np.asarray(np.exp(-0.5 * (away / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi)))


def _haloes() -> tuple[Floats, Floats, Floats, Floats]:
    """Haloes in the sky in cells of redshift and mass, and their mean ln theta500, ln Y5R500 and temperature."""
    with _ONE_AT_A_TIME:  # colossus keeps tables of its own
        return _count_in_cells()


@cache
def _count_in_cells() -> tuple[Floats, Floats, Floats, Floats]:
    from colossus.lss import mass_function

    from szeek.simulate.density import set_colossus

    h = set_colossus().h
    per_mpc3 = np.stack(
        [
            mass_function.massFunction(_MASSES * 1e14 * h, float(z), mdef="500c", model="tinker08", q_out="dndlnM")
            for z in _REDSHIFTS
        ]
    )
    z, mass = np.meshgrid(_REDSHIFTS, _MASSES, indexing="ij")
    # of the whole sky, and a cell of the grid in ln M and ln z
    volume = 4 * math.pi * COSMOLOGY.differential_comoving_volume(_REDSHIFTS).value * _REDSHIFTS
    cell = math.log(_MASSES[1] / _MASSES[0]) * math.log(_REDSHIFTS[1] / _REDSHIFTS[0])
    return (
        per_mpc3 * h**3 * volume[:, None] * cell,
        np.log(theta500_from_mass(mass, z)),
        np.log(Y5R500_PER_Y500 * y500_from_mass(mass, z)),
        electron_temperature_kev(MASS_BIAS * mass, z),
    )


def count_haloes(
    y500_arcmin2: ArrayLike, theta500_arcmin: ArrayLike, least_y500_arcmin2: float = TRUTH_Y500_ARCMIN2
) -> Floats:
    """Haloes in the sky of unit ln Y500 and ln theta500 at these fluxes and sizes: weights of injected clusters.

    Below the flux from which haloes count as clusters, by default 3e-4 arcmin^2, there are none.

    Examples
    --------
    >>> few, many = count_haloes([1e-2, 1e-3], [6.0, 6.0])
    >>> bool(many > 100 * few)
    True
    """
    flux, size = np.broadcast_arrays(np.asarray(y500_arcmin2, float), np.asarray(theta500_arcmin, float))
    number, log_size, log_flux, _ = (column.ravel() for column in _haloes())
    grid = np.linspace(math.log(0.5), math.log(100.0), 107)
    at_size = _normal(grid[:, None] - log_size, grid[1] - grid[0])
    fluxes = _flux_grid(least_y500_arcmin2)
    density = (at_size * number) @ _normal(log_flux[:, None] - fluxes, _FLUX_SCATTER_LN)
    log_number = RegularGridInterpolator(
        (grid, fluxes), np.log(np.maximum(density, _NONE)), bounds_error=False, fill_value=-np.inf
    )
    return np.asarray(np.exp(log_number((np.log(size), np.log(Y5R500_PER_Y500 * flux)))))


class Inferred(NamedTuple):
    """Mean and standard deviation of Y5R500 in arcmin^2, the mean (of logarithms) of the apparent size, and weights.

    ``weight`` (n_profile, n_size) float64 is the probability of each profile and size.
    """

    flux: float
    error: float
    theta500_arcmin: float
    weight: Floats


def infer_flux(
    v: Floats, information: Floats, response: Floats, sizes_arcmin: Floats, population: Population,
    weight: Floats | None = None,
) -> Inferred:  # fmt: skip
    """The flux that data and population leave.

    Parameters
    ----------
    v : (n_profile, n_size, n_band) float64
        Weighted data for each profile, all equally likely before.
    information : (n_profile, n_size, n_band, n_band) float64
        Inverse covariance of the bands' fluxes.
    response : (n_temperature, n_band) float64
        tSZ response at :data:`TEMPERATURES_KEV`.
    sizes_arcmin : (n_size,) float64
        theta500, those of the population.
    population : Population
    weight : (n_profile, n_size) float64, optional
        Probability of each profile and size, where other data are to decide it.
    """
    signal = v @ response[0]
    power = np.einsum("b,pkbc,c->pk", response[0], information, response[0])
    best, error = signal / power, 1 / np.sqrt(power)
    # nodes in ln Y, as dense as the sizes that count need them
    likelihood = 0.5 * (signal * error).clip(0) ** 2
    counts = likelihood > likelihood.max() - 0.5 * _REACH**2 if weight is None else weight > _LEAST_WEIGHT
    lowest, highest = (best - _REACH * error)[counts].min(), (best + _REACH * error)[counts].max()
    low, high = np.log(np.clip([lowest / _HOTTEST, highest * _HOTTEST], *np.exp(population.log_flux[[0, -1]])))
    log_flux = np.linspace(low, max(high, low + _LEAST_SPAN), _N_NODES)
    flux = np.exp(log_flux)
    grid = population.log_flux
    column = np.minimum(np.rint((log_flux - grid[0]) / _LOG_FLUX_STEP).astype(np.int64), grid.size - 1)
    spectrum = np.take(response, population.temperature[:, column], axis=0)  # (n_size, n_node, n_band)
    signal = (spectrum @ v[..., None])[..., 0]
    power = np.einsum("pkjb,kjb->pkj", spectrum @ information, spectrum)
    log_p = population.log_number[:, column] + flux * (signal - 0.5 * flux * power)
    if weight is None:
        p = np.exp(log_p - log_p.max())
        p /= p.sum()
    else:
        p = np.exp(log_p - log_p.max(axis=-1, keepdims=True))
        p *= weight[..., None] / p.sum(axis=-1, keepdims=True)
    of_flux, of_size = p.sum(axis=(0, 1)), p.sum(axis=-1)
    mean = float(of_flux @ flux)
    sigma = math.sqrt(max(float(of_flux @ flux**2) - mean**2, 0.0))
    return Inferred(mean, sigma, float(np.exp(of_size.sum(axis=0) @ np.log(sizes_arcmin))), of_size)


def deproject(v: Floats, information: Floats, spectra: Floats) -> tuple[Floats, Floats]:
    """v and M without what these spectra explain: amplitudes from them are those of a fit together with them.

    v' = v - M A (A^T M A)^-1 A^T v,    M' = M - M A (A^T M A)^-1 A^T M

    Source: Zubeldia, Chluba & Battye (2023), MNRAS 522, 5123, Sect. 3. Deviation: the constraint holds for the sum
    over multipoles, for emission of the cluster's shape, not at each multipole.

    Parameters
    ----------
    v : (..., n_band) float64
    information : (..., n_band, n_band) float64
    spectra : (n_spectrum, n_band) float64
    """
    seen = information @ spectra.T
    scale = 1 / np.sqrt((seen * spectra.T).sum(axis=-2))  # spectra differ by orders of magnitude
    seen = seen * scale[..., None, :]
    normal = (spectra @ seen) * scale[..., :, None]
    share = np.linalg.solve(normal, seen.swapaxes(-1, -2))  # (..., n_spectrum, n_band)
    data = (v @ spectra.T) * scale
    return v - (data[..., None, :] @ share)[..., 0, :], information - seen @ share


@dataclass(frozen=True)
class FluxCorrection:
    """What fluxes of :func:`infer_flux` are to be multiplied with.

    Parameters
    ----------
    snr, factor : (n_knot,) float64
        S/N of the matched filter and factor on the flux: straight lines in ln S/N between the knots.
    redshift_factor, constrained_factor : float
        Further factors: where the redshift is known; on the constrained flux.
    error_scale, error_slope : float
        Factor on the relative error of an apparent size of 5 arcmin, and the power of the size with which it goes,
        between 2 and 20 arcmin: the larger a cluster, the more its shape counts.

    Examples
    --------
    >>> correction = FluxCorrection(np.array([3.0, 10.0]), np.array([0.9, 1.0]), error_scale=1.02)
    >>> FluxCorrection.from_table(correction.to_table()).error_scale
    1.02
    """

    snr: Floats
    factor: Floats
    redshift_factor: float = 1.0
    constrained_factor: float = 1.0
    error_scale: float = 1.0
    error_slope: float = 0.0

    def correct(self, measured: Table, flux: str = "population") -> tuple[Floats, Floats]:
        """Corrected Y5R500 and its error, (n,) arcmin^2 each; NaN where nothing was measured.

        Parameters
        ----------
        measured : Table
            From :func:`szeek.measure.photometry.measure_sources`; with ``z`` where redshifts were given.
        flux : str
            'population' or 'constrained'.
        """
        value, error = (np.asarray(measured[f"{flux}_y5r500_{name}"], float) for name in ("arcmin2", "err_arcmin2"))
        place = np.log(np.maximum(np.asarray(measured["snr"], float), self.snr[0]))
        factor = np.interp(place, np.log(self.snr), self.factor)
        factor = factor * np.where(_has_redshift(measured), self.redshift_factor, 1.0)
        factor = factor * (self.constrained_factor if flux == "constrained" else 1.0)
        scale = self.error_scale * np.exp(self.error_slope * _size_from_5_arcmin(measured))
        return factor * value, factor * scale * error

    def to_table(self) -> Table:
        """One row per knot, for ECSV."""
        meta = {name: getattr(self, name) for name in _SINGLE}
        return Table({"snr": self.snr, "factor": self.factor}, meta=meta)

    @classmethod
    def from_table(cls, table: Table) -> FluxCorrection:
        """Inverse of :meth:`to_table`."""
        snr, factor = (np.array(table[name], np.float64) for name in ("snr", "factor"))
        return cls(snr, factor, *(float(table.meta[name]) for name in _SINGLE))


def fit_flux_correction(measured: Table, truth: Table) -> FluxCorrection:
    """The correction after which half of the fluxes are too high, at any S/N, and 68 % within their error.

    The factor rises with S/N: where there is little, the network has found what noise makes brighter.

    Parameters
    ----------
    measured : Table
        Clusters as they were found, at the positions of their sources, from
        :func:`szeek.measure.photometry.measure_sources`; with ``z`` where redshifts were given. Those whose ``kind``
        is not 'cluster' have another source upon them and do not count.
    truth : Table
        Row by row, ``y500_arcmin2`` of these clusters and ``profile``, if it is not the universal one; ``weight``,
        where they are not as frequent as in the sky (:func:`count_haloes` for injections even in the logarithms of
        flux and size).

    Raises
    ------
    ValueError
        If those measured tell less than 20 of equal weight.

    Examples
    --------
    >>> true = np.full(100, 1e-3)
    >>> measured = Table({"snr": np.linspace(4, 10, 100), "kind": ["cluster"] * 100})
    >>> for name in ("population", "constrained"):  # twice what is true, and a scatter of 5 %
    ...     scatter = 1 + 0.05 * np.random.default_rng(1).standard_normal(100)
    ...     measured[f"{name}_y5r500_arcmin2"] = 2 * Y5R500_PER_Y500 * true * scatter
    ...     measured[f"{name}_y5r500_err_arcmin2"] = 1e-4
    >>> measured["population_theta500_arcmin"] = 5.0
    >>> fit_flux_correction(measured, Table({"y500_arcmin2": true})).factor.round(1).tolist()
    [0.5]
    """
    profile = np.asarray(truth["profile"], str) if "profile" in truth.colnames else np.full(len(truth), "universal")
    true = np.array([y5r500_per_y500(name) for name in profile.tolist()]) * np.asarray(truth["y500_arcmin2"], float)
    weight = np.asarray(truth["weight"], float) if "weight" in truth.colnames else np.ones(len(truth))
    found = np.isfinite(np.asarray(measured["population_y5r500_arcmin2"], float)) & (weight > 0)
    found &= np.asarray(measured["kind"]) == "cluster"
    measured, true, weight = measured[found], true[found], weight[found]
    if (number := _effective_number(weight)) < _FEWEST:
        raise ValueError(
            f"{found.sum()} clusters were measured, by their weights as good as {number:.0f}, expected at least "
            f"{_FEWEST} for a flux correction"
        )
    flux, snr = (np.asarray(measured[name], float) for name in ("population_y5r500_arcmin2", "snr"))
    known = _has_redshift(measured)
    both = min(known.sum(), (~known).sum()) >= _FEWEST
    parts = _bins(snr, np.where(both & known, 0.0, weight))
    factor = [_quantiles((true / flux)[part], weight[part], [0.5])[0] for part in parts]
    rising = isotonic_regression(factor, weights=[weight[part].sum() for part in parts]).x
    knots = [_quantiles(snr[part], weight[part], [0.5])[0] for part in parts]
    correction = FluxCorrection(np.maximum(knots, _LEAST_SNR), np.asarray(rising))
    if both:
        left = true[known] / correction.correct(measured[known])[0]
        correction = replace(correction, redshift_factor=_quantiles(left, weight[known], [0.5])[0])
    left = true / correction.correct(measured, "constrained")[0]
    correction = replace(correction, constrained_factor=_quantiles(left, weight, [0.5])[0])
    value, error = correction.correct(measured)
    pull, size = (true - value) / error, _size_from_5_arcmin(measured)
    parts = _bins(size, weight)
    ends = [_quantiles(pull[part], weight[part], [0.1587, 0.8413]) for part in parts]
    middle = [_quantiles(size[part], weight[part], [0.5])[0] for part in parts]
    *slope, width = np.polyfit(middle, [math.log((high - low) / 2) for low, high in ends], min(1, len(parts) - 1))
    return replace(correction, error_scale=math.exp(width), error_slope=float(sum(slope)))


def _bins(values: Floats, weight: Floats) -> list[NDArray[np.int64]]:
    """Rows with a weight in bins of equal weight, at most eight of at least 80 clusters each."""
    n_bin = int(np.clip(_effective_number(weight) / _PER_BIN, 1, _MOST_BINS))
    order = np.argsort(values, kind="stable")
    order = order[weight[order] > 0]
    share = (np.cumsum(weight[order]) - 0.5 * weight[order]) / weight[order].sum()
    parts = [order[(share * n_bin).astype(np.int64) == k] for k in range(n_bin)]
    return [part for part in parts if part.size]


def _effective_number(weight: Floats) -> float:
    """So many clusters of equal weight would tell as much."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if weight.any() else 0.0


def _size_from_5_arcmin(measured: Table) -> Floats:
    """ln of the apparent size over 5 arcmin, of 2 to 20."""
    size = np.asarray(measured["population_theta500_arcmin"], float)
    return np.asarray(np.log(np.clip(size, *_SIZE_ENDS_ARCMIN) / 5.0))


def _has_redshift(measured: Table) -> NDArray[np.bool_]:
    if "z" not in measured.colnames:
        return np.zeros(len(measured), bool)
    return np.asarray(np.isfinite(np.asarray(measured["z"], float)))


def _quantiles(values: Floats, weight: Floats, shares: Sequence[float]) -> list[float]:
    order = np.argsort(values)
    sums = np.cumsum(weight[order])
    return [float(values[order][np.searchsorted(sums, share * sums[-1])]) for share in shares]
