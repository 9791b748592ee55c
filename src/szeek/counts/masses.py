"""Masses of candidates: of a flux and a redshift, in several definitions; and M(z) where no redshift is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from astropy.table import Table
from colossus.halo.mass_adv import changeMassDefinitionCModel
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import RegularGridInterpolator
from scipy.special import log_ndtr

from szeek.counts.massfunction import halo_counts
from szeek.inputs.catalogues import TRUTH_Y500_ARCMIN2
from szeek.measure.photometry import SIZES_ARCMIN, SizeFit, mass_from_flux
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.scaling import MASS_BIAS, theta500_from_mass, y500_from_mass
from szeek.simulate.density import set_colossus
from szeek.simulate.haloes import Y_SCATTER_LN

Floats = NDArray[np.float64]

#: Redshifts of the M(z) curves, as far as those of PSZ2 go.
CURVE_REDSHIFTS = tuple(np.round(np.arange(0.05, 1.001, 0.05), 2).tolist())
#: Masses beside M500c; 'm': times the mean density of matter, 'c': times the critical density.
DEFINITIONS = ("200c", "200m")
_TABLED_Z = np.linspace(0.005, 2.0, 40)
_TABLED_MASS = np.geomspace(0.05, 60.0, 60)  # 1e14 Msun
_FAINTEST, _HEAVIEST = 0.05, 60.0


@dataclass(frozen=True)
class MassRelation:
    """What is assumed of Y500 at a mass and redshift.

    Source: Planck 2013 results XX (A&A 571, A20), eq. 7 and Table 1.

    Parameters
    ----------
    mass_bias : float
        (1-b): X-ray calibrated over true mass.
    scatter_ln : float
        Standard deviation of ln Y500 at a mass.

    Examples
    --------
    >>> MassRelation().mass_bias, round(MassRelation().scatter_ln, 3)
    (0.64, 0.173)
    """

    mass_bias: float = MASS_BIAS
    scatter_ln: float = float(Y_SCATTER_LN)

    def __post_init__(self) -> None:
        if not 0.3 <= self.mass_bias <= 1.2:
            raise ValueError(f"mass_bias (1-b) is {self.mass_bias:g}, expected 0.3 to 1.2")
        if not 0.0 <= self.scatter_ln <= 1.0:
            raise ValueError(f"scatter_ln is {self.scatter_ln:g}, expected 0 to 1")


def convert_mass(m500_1e14msun: ArrayLike, z: ArrayLike, definition: str) -> Floats:
    """M500c as another spherical-overdensity mass.

    Source: NFW profile with the concentrations of Diemer & Joyce (2019), ApJ 871, 168, of colossus, tabulated.

    Parameters
    ----------
    m500_1e14msun, z : float array
        Broadcast together; 0.05 to 60 and 0.005 to 2, NaN beyond.
    definition : str
        As colossus has it: '200c', '200m', 'vir', ...

    Returns
    -------
    float64 array
        1e14 Msun.

    Raises
    ------
    ValueError
        If colossus does not know the definition.

    Examples
    --------
    >>> convert_mass([5.0, 5.0], [0.05, 0.5], "200c").round(1)
    array([7.3, 7.3])
    """
    mass, redshift = np.broadcast_arrays(np.asarray(m500_1e14msun, float), np.asarray(z, float))
    with np.errstate(invalid="ignore", divide="ignore"):
        where = np.stack([redshift, np.log(mass)], axis=-1)
    return np.asarray(mass * np.exp(_log_ratio(definition)(where)))


@cache
def _log_ratio(definition: str) -> RegularGridInterpolator:
    h = set_colossus().h
    try:
        rows = [
            changeMassDefinitionCModel(_TABLED_MASS * 1e14 * h, float(z), "500c", definition, c_model="diemer19")[0]
            for z in _TABLED_Z
        ]
    except Exception as error:  # colossus raises Exception itself
        raise ValueError(f"mass definition '{definition}' is unknown ({error}); expected e.g. 200c or 200m") from None
    ratio = np.log(np.array(rows) / (_TABLED_MASS * 1e14 * h))
    axes = (_TABLED_Z, np.log(_TABLED_MASS))
    return RegularGridInterpolator(axes, ratio, bounds_error=False, fill_value=np.nan)


def list_masses(
    photometry: Table,
    z: ArrayLike,
    relation: MassRelation = MassRelation(),
    definitions: Sequence[str] = DEFINITIONS,
    y500_min_arcmin2: float = TRUTH_Y500_ARCMIN2,
) -> Table:
    """Masses of candidates with a redshift.

    Two are given. ``M_SZ`` is where flux against size meets the mean relation, X-ray calibrated, as PSZ2 has it
    (:func:`szeek.measure.photometry.mass_from_flux`). ``M500C`` is the true mass: mean of ln M over

        P(M | flux, z) ~ n(M, z) N(flux; Y5R500(M, z), error^2 + (scatter Y5R500)^2) P(Y500 > least | M, flux),

    with the mass function n and, at each mass, flux and error of that mass's theta500: faint haloes that noise and
    scatter have made bright are many. That it is a cluster of more than the ``least`` Y500 is taken as given, because
    haloes too faint to be seen outnumber it anywhere on the sky; how probable it is, PURITY says. The others are
    converted from it (:func:`convert_mass`).

    Parameters
    ----------
    photometry : Table
        As :func:`szeek.measure.photometry.measure_sources` gives it: ``size_snr``, ``size_y5r500_arcmin2`` and
        ``size_y5r500_err_arcmin2``.
    z : (n,) float
        NaN where not known.
    relation : MassRelation
    definitions : sequence of str
    y500_min_arcmin2 : float
        Least Y500, that of the calibration of PURITY.

    Returns
    -------
    Table
        ``Z``, ``M_SZ``, ``M_SZ_ERR``, ``M500C``, ``M500C_LOW``, ``M500C_HIGH`` (68 %), and e.g. ``M200C``, in 1e14
        Msun; NaN without redshift or signal.

    Examples
    --------
    >>> y5r500 = Y5R500_PER_Y500 * y500_from_mass(np.array([5.0]), np.array([0.2]))  # of 5e14 Msun at z = 0.2
    >>> flux = np.full((1, SIZES_ARCMIN.size), y5r500)
    >>> photometry = Table({"size_snr": flux / (0.02 * flux), "size_y5r500_arcmin2": flux})
    >>> photometry["size_y5r500_err_arcmin2"] = 0.02 * flux
    >>> masses = list_masses(photometry, [0.2])
    >>> round(float(masses["M_SZ"][0]), 1), bool(4.5 < masses["M500C"][0] < 5.0)  # 0.64 x 5; the heavy are few
    (3.2, True)
    """
    redshift = np.asarray(z, float)
    names = ("M_SZ", "M_SZ_ERR", "M500C", "M500C_LOW", "M500C_HIGH")
    rows = np.full((len(photometry), len(names)), np.nan)
    known = np.flatnonzero((redshift > 0.005) & (redshift < 2.0))
    haloes = _halo_table(redshift[known])
    for number, k in enumerate(known):
        fit = _size_fit(photometry, int(k))
        if fit is None:
            continue
        value, error = mass_from_flux(fit, float(redshift[k]))
        if not np.isfinite(value):
            continue
        mean, low, high = _posterior(fit, float(redshift[k]), haloes[number], relation, y500_min_arcmin2)
        rows[k] = value, error, mean, low, high
    table = Table({"Z": redshift, **dict(zip(names, rows.T, strict=True))})
    for definition in definitions:
        table[f"M{definition.upper()}"] = convert_mass(table["M500C"], redshift, definition)
    for name in table.colnames[1:]:
        table[name].unit = "1e14 Msun"
    table.meta = {"MASSBIAS": relation.mass_bias, "YSCATTER": relation.scatter_ln, "Y500MIN": y500_min_arcmin2}
    return table


def list_mass_curves(photometry: Table, redshifts: Sequence[float] = CURVE_REDSHIFTS) -> Table:
    """M(z) of each candidate: the mass that it would have at each redshift, X-ray calibrated.

    Source: Planck 2015 results XXVII (A&A 594, A27), Sect. 6.2, which publishes it for every detection.

    Parameters
    ----------
    photometry : Table
        As of :func:`list_masses`.
    redshifts : sequence of float

    Returns
    -------
    Table
        ``M_SZ_CURVE``, ``M_SZ_CURVE_ERR`` (n, n_z) in 1e14 Msun; ``meta['REDSHIFTS']``.

    Examples
    --------
    >>> y5r500 = Y5R500_PER_Y500 * y500_from_mass(np.array([5.0]), np.array([0.2]))  # of 5e14 Msun at z = 0.2
    >>> flux = np.full((1, SIZES_ARCMIN.size), y5r500)
    >>> photometry = Table({"size_snr": flux / (0.02 * flux), "size_y5r500_arcmin2": flux})
    >>> photometry["size_y5r500_err_arcmin2"] = 0.02 * flux
    >>> curve = list_mass_curves(photometry, redshifts=(0.2, 0.5))["M_SZ_CURVE"][0]
    >>> round(float(curve[0]), 1), bool(curve[1] > curve[0])  # 0.64 x 5; the same flux from farther away is heavier
    (3.2, True)
    """
    values = np.full((2, len(photometry), len(redshifts)), np.nan)
    for k in range(len(photometry)):
        fit = _size_fit(photometry, k)
        if fit is not None:
            values[:, k] = np.transpose([mass_from_flux(fit, float(z)) for z in redshifts])
    table = Table({"M_SZ_CURVE": values[0], "M_SZ_CURVE_ERR": values[1]})
    for name in table.colnames:
        table[name].unit = "1e14 Msun"
    table.meta = {"REDSHIFTS": list(redshifts)}
    return table


def _size_fit(photometry: Table, k: int) -> SizeFit | None:
    """Flux against size of one row; None where nothing was measured."""
    columns = ("size_snr", "size_y5r500_arcmin2", "size_y5r500_err_arcmin2")
    snr, flux, error = (np.ma.filled(np.asarray(photometry[name][k], float), np.nan) for name in columns)
    if not (np.isfinite(snr).all() and np.isfinite(error).all()):
        return None
    sizes = photometry.meta.get("sizes_arcmin") or [
        photometry.meta[f"SIZE{number}"] for number in range(1, snr.size + 1) if f"SIZE{number}" in photometry.meta
    ]
    return SizeFit(snr, flux, error, np.asarray(sizes, float) if len(sizes) == snr.size else SIZES_ARCMIN)


_LOG_MASS = np.linspace(np.log(_FAINTEST), np.log(_HEAVIEST), 600)


def _halo_table(z: Floats) -> Floats:
    """ln of haloes per ln M at the masses of :data:`_LOG_MASS`, (n, 600), interpolated in redshift."""
    grid = np.linspace(0.005, 2.0, 41)
    log_counts = np.log(halo_counts(grid, np.exp(_LOG_MASS)) + 1e-300)
    return np.asarray(np.array([np.interp(z, grid, column) for column in log_counts.T]).T)


def _posterior(
    fit: SizeFit, z: float, log_haloes: Floats, relation: MassRelation, y500_min_arcmin2: float
) -> tuple[float, float, float]:
    """Mean of ln M500c, and that mean less and more a standard deviation, as masses."""
    mass, redshift = np.exp(_LOG_MASS), np.full(_LOG_MASS.size, z)
    expected = Y5R500_PER_Y500 * y500_from_mass(mass, redshift, relation.mass_bias)
    flux, error = fit.at(theta500_from_mass(mass, redshift, relation.mass_bias))
    scatter = relation.scatter_ln * expected
    variance = error**2 + scatter**2
    # which size has the highest S/N is left out: it tells of concentration and shape as much as of mass
    log_weight = log_haloes - 0.5 * (flux - expected) ** 2 / variance - 0.5 * np.log(variance)
    # of a mass and flux the true one is Gaussian about the weighted mean of flux and expectation
    true = (flux * scatter**2 + expected * error**2) / variance
    spread = np.maximum(error * scatter / np.sqrt(variance), 1e-6 * expected)
    log_weight += log_ndtr((true - Y5R500_PER_Y500 * y500_min_arcmin2) / spread)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = float(weight @ _LOG_MASS)
    sigma = float(np.sqrt(weight @ (_LOG_MASS - mean) ** 2))
    return float(np.exp(mean)), float(np.exp(mean - sigma)), float(np.exp(mean + sigma))
