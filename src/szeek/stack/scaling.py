r"""From p to y: the mean Compton flux of sources against p, its scaling law, and a p map converted to y.

The law is :math:`\langle Y \rangle = A\,e^{B (x - x_0)}` with x = logit p, a power law in the odds p / (1 - p).
Sources are selected on the same maps that their flux is measured in, so noise lifts both (Eddington bias): its size,
the ratio of measured to true flux at given p, is measured on injected clusters and divided out. That is the bias of
*clusters*. False detections have no true flux and noise enough to look like one, which no injection tells: on a
simulated sky (18 tiles, 5,199 sources) the measured mean is 6.0, 4.8, 2.7, 1.5 and 1.04 times the true one in fifths
of p; corrected, it is 4.0, 3.7, 2.4, 1.1 and 0.95 times. Where most sources are real, above p of 0.3 there, the law
is that of true fluxes; below, it is an upper bound.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import least_squares

from szeek.simulate.components.clusters import paint_y
from szeek.sky.projection import field_basis
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import Tiles, pixels_in_tiles
from szeek.stack.profiles import measure_fluxes
from szeek.stack.stacks import bootstrap_weights, equal_count_bins, random_groups

#: p closer to 0 or 1 than this says no more: the network's sigmoid saturates in float32.
P_CLIP = 1e-4
_N_GROUPS = 500
_FEWEST_PIXELS = 1000


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
        Injected clusters that were detected: ``p``, ``flux`` (measured alike), ``flux_true``, and ``weight`` where
        their population is not that of the sky (:func:`measure_injected_fluxes`). Default: no correction, and the law
        describes measured fluxes.
    n_bootstrap, seed : int
        Draws for the errors.

    Returns
    -------
    ScalingLaw

    Raises
    ------
    ValueError
        If there are fewer than three bins, or a bin has no injection.

    Examples
    --------
    >>> p = np.linspace(0.1, 0.9, 200)
    >>> law = fit_scaling(p, 2e-3 * p**2, n_bootstrap=20)
    >>> bool(law.slope > 0)  # the flux rises with p
    True
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


def measure_injected_fluxes(
    injections: Table,
    y_map: SkyMaps,
    population: Table | None = None,
    *,
    mask: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> Table:
    """Flux that injected clusters are seen with in the y map, and their true one, for :func:`fit_scaling`.

    Injections are painted into the bands, which the y map is a linear combination of: with them inside it would be
    what it is plus their own y through its beam. (Its weights would hardly change.) So no y map is made again, and
    noise, dust and CMB are those that the network saw at the very same place. Fluxes are measured off the true
    centre, as far as the source was found from it.

    Parameters
    ----------
    injections : Table
        Of a :class:`szeek.assess.selection.Selection`: ``lon_deg``, ``lat_deg``, ``y500_arcmin2``,
        ``theta500_arcmin``, ``p`` (NaN: not found), ``offset_arcmin``. Their fluxes and sizes are log-uniform.
    y_map : SkyMaps
        One map, of the same sky, with its beam.
    population : Table, optional
        ``y500_arcmin2``, ``theta500_arcmin`` of the clusters of a sky: injections get the weight of how many of its
        clusters are like them. Default: all alike.
    mask : (12 nside^2,) bool, optional
        True where pixels count.
    seed : int
        Of the directions of the offsets.

    Returns
    -------
    Table
        ``p``, ``flux``, ``flux_true`` (arcmin^2), ``weight`` of those that were found; flux is NaN where masked.

    Examples
    --------
    >>> from szeek.simulate.inject import draw_injections
    >>> from szeek.sky.skymaps import Band
    >>> table = draw_injections(1, 3)
    >>> table["p"], table["offset_arcmin"] = [0.9, 0.4, np.nan], [1.0, 2.0, np.nan]
    >>> empty = SkyMaps(np.zeros((12 * 256**2, 1), np.float32), np.ones(12 * 256**2, bool),
    ...                 (Band("y", np.nan, 10.0, "Compton y"),))
    >>> found = measure_injected_fluxes(table, empty)
    >>> len(found), bool(np.allclose(found["flux"], found["flux_true"], rtol=0.1))
    (2, True)
    """
    found = injections[np.isfinite(np.asarray(injections["p"], float))]
    painted = paint_y(injections, y_map.nside, y_map.bands[0].fwhm_arcmin)
    turn = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"offsets")])).uniform(0, 360, len(found))
    place = []
    for row, angle in zip(found, turn, strict=True):
        centre, along, _ = field_basis(row["lon_deg"], row["lat_deg"], angle)
        place.append(centre + np.tan(np.radians(row["offset_arcmin"] / 60)) * along)
    lon_deg, lat_deg = healpy.vec2ang(np.reshape(place, (-1, 3)), lonlat=True)
    seen = Table({"lon_deg": lon_deg, "lat_deg": lat_deg})
    out = Table({"p": np.asarray(found["p"], float)})
    out["flux"] = measure_fluxes(y_map, seen, mask=mask)[:, 0] + measure_fluxes(painted, seen)[:, 0]
    out["flux_true"] = measure_fluxes(painted, found)[:, 0]
    out["weight"] = 1.0 if population is None else _how_many(population, injections, found)
    return out


def _how_many(population: Table, injections: Table, wanted: Table) -> NDArray[np.float64]:
    """Clusters of a population in the cell of flux and size of each wanted one; cells as the injections span them."""
    names = ("y500_arcmin2", "theta500_arcmin")
    drawn, there, here = (
        [np.log(np.asarray(table[name], float)) for name in names] for table in (injections, population, wanted)
    )
    edges = [np.linspace(v.min() - 1e-6, v.max() + 1e-6, n) for v, n in zip(drawn, (13, 7), strict=True)]
    count = np.histogram2d(there[0], there[1], bins=edges)[0]
    cell = [np.searchsorted(e, v, side="right") - 1 for e, v in zip(edges, here, strict=True)]
    return np.asarray(count[cell[0], cell[1]], float)


def measure_selection_bias(injections: Table, bins: Table, *, n_bootstrap: int = 1000, seed: int = 0) -> Table:
    """Eddington bias in bins of p: mean measured over mean true flux of injected clusters that were detected.

    Parameters
    ----------
    injections : Table
        ``p``, ``flux``, ``flux_true``; ``weight``, 1 by default.
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
    if "weight" in injections.colnames:
        seen &= np.asarray(injections["weight"]) > 0
    bin_of = np.searchsorted(borders, np.asarray(injections["p"], float))
    rows = []
    for k in range(len(bins)):
        mine = injections[seen & (bin_of == k)]
        if len(mine) < 2:
            raise ValueError(
                f"{len(mine)} injections were detected with p from {bins['p_low'][k]:g} to {bins['p_high'][k]:g}, "
                "expected at least 2: inject more, or use fewer bins"
            )
        weight = np.asarray(mine["weight"], float) if "weight" in mine.colnames else np.ones(len(mine))
        flux, true = (weight * np.asarray(mine[name], float) for name in ("flux", "flux_true"))
        rows.append((len(mine), flux.sum() / true.sum(), _bootstrap_ratio_error(flux, true, n_bootstrap, seed + k)))
    return Table(rows=rows, names=["n", "ratio", "ratio_error"])


def fit_pixels(
    p_map: NDArray[np.float32], y_map: SkyMaps, seen: NDArray[np.bool_], tiles: Tiles, p_max: float
) -> ScalingLaw | None:
    """The law of mean y against p of single pixels above the threshold, in tiles that the network was not trained on.

    Its errors take pixels as independent, which neighbours are not: they are too small, and the law's use is the map
    that :func:`convert_to_y` makes with it. None for maps of two nsides, or fewer than 1,000
    pixels.

    Examples
    --------
    >>> from szeek.sky.skymaps import Band
    >>> p_map = np.random.default_rng(1).uniform(0.2, 0.9, 12 * 64**2).astype(np.float32)
    >>> y = 1e-6 * np.sqrt(p_map / (1 - p_map))  # the odds to the power of a half
    >>> y_map = SkyMaps(y[:, None], np.ones(y.size, bool), (Band("y", 0, 10, "y"),))
    >>> law = fit_pixels(p_map, y_map, y_map.footprint, (5, 6), p_max=0.1)
    >>> (1e6 * law.predict([0.5, 0.8])).round(1).tolist()
    [1.0, 2.0]
    """
    if p_map.size != seen.size:
        return None
    with np.errstate(invalid="ignore"):
        pixels = np.flatnonzero(pixels_in_tiles(y_map.nside, tiles) & seen & y_map.footprint & (p_map >= p_max))
    if pixels.size < _FEWEST_PIXELS:
        return None
    return fit_scaling(p_map[pixels], y_map.values[pixels, 0])


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
