"""From p, which is a network's score, to the probability that a source is a cluster."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit

from szeek.assess.match import further_peaks, match
from szeek.assess.recovery import wilson_interval
from szeek.inputs.catalogues import TRUTH_Y500_ARCMIN2
from szeek.measure.pairs import truth_radius
from szeek.sky.tiles import Tiles, tile_of

METHODS = ("beta", "isotonic")
_CLIP = 1e-6  # p of 0 and 1 exactly are float32 saturation, not certainty
_N_KNOTS, _N_BOOTSTRAP = 201, 50


@dataclass(frozen=True)
class Calibration:
    """Purity as a rising function of p in each bin of dust level: straight lines between knots.

    Parameters
    ----------
    p : (n_knot,) float64
        Knots, rising.
    purity : (n_bin, n_knot) float64
        Probability that a source of that p is a cluster.
    dust_edges : (n_bin - 1,) float64
        Borders between the dust bins, in the unit of the dust level that was given; empty for one bin.
    method : str
        'beta' or 'isotonic'.
    log_loss : float
        Cross-validated mean of -ln(probability given to what turned out), in nats per source.
    y500_min_arcmin2 : float
        What counted as a cluster: haloes above this flux. Sources of fainter ones count as false.
    error : (n_bin, n_knot) float64, optional
        Of the purity, from drawing other tiles (68 %).

    Examples
    --------
    >>> p, purity = np.array([0.1, 0.5, 0.9]), np.array([[0.1, 0.6, 0.95]])
    >>> calibration = Calibration(p, purity, np.zeros(0), "isotonic", 0.3)
    >>> calibration.purity.shape  # one bin of reddening, three values of p
    (1, 3)
    """

    p: NDArray[np.float64]
    purity: NDArray[np.float64]
    dust_edges: NDArray[np.float64]
    method: str
    log_loss: float
    y500_min_arcmin2: float = TRUTH_Y500_ARCMIN2
    error: NDArray[np.float64] | None = None

    def predict_error(
        self, p: ArrayLike, dust: ArrayLike | None = None, look_error: float = 0.0
    ) -> NDArray[np.float64]:
        """Error of the calibrated purity, (n,) float64; NaN where no error was measured.

        Parameters
        ----------
        p, dust : (n,) float
            As of :meth:`predict`.
        look_error : float
            Systematic error of the logit of completeness, from what is not known of how clusters look
            (:attr:`szeek.assess.selection.Selection.slopes`): so many more or fewer of the sources are clusters, and
            the logit of purity moves as much.
        """
        if self.error is None:
            return np.full(np.shape(p), np.nan)
        purity = self.predict(p, dust)
        statistical = replace(self, purity=self.error).predict(p, dust)
        return np.asarray(np.hypot(statistical, purity * (1 - purity) * look_error))

    def predict(self, p: ArrayLike, dust: ArrayLike | None = None) -> NDArray[np.float64]:
        """Calibrated purity of sources.

        Parameters
        ----------
        p : (n,) float
            Score.
        dust : (n,) float, optional
            Dust level; needed if the calibration has dust bins.

        Returns
        -------
        (n,) float64

        Raises
        ------
        ValueError
            If the calibration has dust bins and no dust level is given.
        """
        score = np.asarray(p, float)
        if self.dust_edges.size and dust is None:
            raise ValueError(
                f"the calibration has {self.dust_edges.size + 1} dust bins; give the sources' dust level"
            )
        bins = np.zeros(score.shape, int) if dust is None else _bin_of(self.dust_edges, dust)
        out = np.empty(score.shape)
        for k, row in enumerate(self.purity):
            out[bins == k] = np.interp(score[bins == k], self.p, row)
        return out

    def to_table(self) -> Table:
        """One row per dust bin and knot: ``dust_low``, ``dust_high``, ``p``, ``purity``, ``error``; for ECSV."""
        edges = np.concatenate([[-np.inf], self.dust_edges, [np.inf]])
        n_knot = self.p.size
        return Table(
            {
                "dust_low": np.repeat(edges[:-1], n_knot),
                "dust_high": np.repeat(edges[1:], n_knot),
                "p": np.tile(self.p, len(self.purity)),
                "purity": self.purity.ravel(),
                "error": np.full(self.purity.size, np.nan) if self.error is None else self.error.ravel(),
            },
            meta={"method": self.method, "log_loss": self.log_loss, "y500_min_arcmin2": self.y500_min_arcmin2},
        )

    @classmethod
    def from_table(cls, table: Table) -> Calibration:
        """The inverse of :meth:`to_table`."""
        low = np.unique(np.asarray(table["dust_low"], float))
        n_knot = len(table) // low.size
        error = np.asarray(table["error"], float).reshape(low.size, n_knot) if "error" in table.colnames else None
        return cls(
            np.asarray(table["p"], float)[:n_knot],
            np.asarray(table["purity"], float).reshape(low.size, n_knot),
            low[1:],
            str(table.meta["method"]),
            float(table.meta["log_loss"]),
            float(table.meta.get("y500_min_arcmin2", TRUTH_Y500_ARCMIN2)),
            None if error is None or np.isnan(error).all() else error,
        )


def fit_calibration(
    p: ArrayLike,
    real: ArrayLike,
    dust: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    method: str = "best",
    n_dust_bins: int = 4,
    n_folds: int = 5,
    seed: int = 0,
) -> Calibration:
    r"""Fit purity against p, rising, by dust level.

    ``'beta'`` is :math:`\mathrm{logit}\,P = a \ln p - b \ln(1 - p) + c_d` with :math:`a, b \ge 0` common and
    :math:`c_d` of each dust bin (Kull, Silva Filho & Flach 2017, Proc. Mach. Learn. Res. 54, 623); it
    contains the logistic in logit p (a = b) and the identity (1, 1, 0). ``'isotonic'`` is the rising step
    function of greatest likelihood in each bin (Zadrozny & Elkan 2002, Proc. 8th ACM SIGKDD, 694), its blocks
    of n sources drawn in to (k + 1/2) / (n + 1). ``'best'`` takes the one with the lower cross-validated log
    loss.

    Neither claims more than the sample can show. In a bin of k clusters and m other sources purity stays between
    (1/2) / (m + 1) and (k + 1/2) / (k + 1): what the isotonic function reaches if p separates the two completely,
    with the mean of Jeffreys' posterior for k of k (Brown, Cai & DasGupta 2001, Stat. Sci. 16, 101).

    Parameters
    ----------
    p : (n,) float
        Scores of sources out of sample.
    real : (n,) bool
        Whether each is a cluster.
    dust : (n,) float, optional
        Dust level at each, in any unit; bins hold equal counts.
    groups : (n,) int, optional
        Sky tile of each: folds of the cross-validation never split one. Default: each source by itself.
    method : {'best', 'beta', 'isotonic'}
        See above.
    n_dust_bins : int
        Number of dust bins; read only with ``dust``.
    n_folds : int
        Folds of the cross-validation.
    seed : int
        Of the folds.

    Returns
    -------
    Calibration

    Raises
    ------
    ValueError
        If the arrays differ in length, p leaves [0, 1], fewer than 20 sources are given, all or none are
        real, or the method is unknown.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> p = rng.random(4000)
    >>> calibration = fit_calibration(p, rng.random(4000) < p**2, method="beta")
    >>> bool(abs(calibration.predict([0.5])[0] - 0.25) < 0.05)
    True
    """
    score, truth, level, tile = _check(p, real, dust, groups)
    if method not in ("best", *METHODS):
        raise ValueError(f"method '{method}', expected one of best, {', '.join(METHODS)}")
    edges = np.empty(0) if dust is None else np.unique(np.quantile(level, np.arange(1, n_dust_bins) / n_dust_bins))
    bins = _bin_of(edges, level)
    fold = _folds(tile, n_folds, seed)
    losses = {}
    for name in METHODS if method == "best" else (method,):
        losses[name] = _log_loss(_predict_held_out(name, score, truth, bins, edges.size + 1, fold), truth)
    best = min(losses, key=lambda name: losses[name])
    knots, purity = _fit(best, score, truth, bins, edges.size + 1)
    drawn = [rows for rows in _draw_groups(tile, seed) if truth[rows].any() and not truth[rows].all()]
    draws = [_fit(best, score[rows], truth[rows], bins[rows], edges.size + 1)[1] for rows in drawn]
    return Calibration(knots, purity, edges, best, losses[best], error=np.std(draws, axis=0))


def _draw_groups(tile: NDArray[np.int64], seed: int) -> Iterator[NDArray[np.int64]]:
    """Rows of the sources of as many groups, drawn with repetition."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"calibration_errors")]))
    order = np.argsort(tile, kind="stable")
    first = np.searchsorted(tile[order], np.arange(int(tile.max()) + 2))
    for _ in range(_N_BOOTSTRAP):
        groups = rng.integers(0, first.size - 1, first.size - 1)
        yield np.concatenate([order[first[k] : first[k + 1]] for k in groups])


def judge_sources(
    sources: Table,
    truth: Table,
    tiles: Iterable[int] | Tiles,
    *,
    y500_min_arcmin2: float = TRUTH_Y500_ARCMIN2,
    radius_arcmin: float = 5.0,
) -> tuple[Table, NDArray[np.bool_]]:
    """The sources of held-out tiles on a sky with known truth, and which of them are clusters: to calibrate on.

    Parameters
    ----------
    sources : Table
        ``lon_deg``, ``lat_deg``, ``p``; out of sample in the tiles.
    truth : Table
        Haloes: ``lon_deg``, ``lat_deg``, ``y500_arcmin2``, ``theta500_arcmin``.
    tiles : Tiles or iterable of int
        The held-out tiles.
    y500_min_arcmin2 : float
        Fainter haloes are no clusters that such maps can show.
    radius_arcmin : float
        Least matching radius, see :func:`szeek.measure.pairs.truth_radius`.

    Returns
    -------
    sources : Table
        Those in the tiles, without further peaks inside an extended halo that is found already, with ``tile``.
    real : (n,) bool
    """
    haloes = truth[np.asarray(truth["y500_arcmin2"]) > y500_min_arcmin2]
    radius = truth_radius(haloes, radius_arcmin)
    matches = match(sources, haloes, radius)
    real = np.zeros(len(sources), bool)
    real[matches["source"]] = True
    chosen = Tiles.given(tiles)
    tile = tile_of(np.asarray(sources["lon_deg"]), np.asarray(sources["lat_deg"]), chosen.nside)
    counted = np.isin(tile, chosen.numbers) & ~further_peaks(sources, haloes, radius, matches, radius_arcmin)
    judged = sources[counted]
    judged["tile"] = tile[counted]
    return judged, real[counted]


def predict_out_of_fold(
    p: ArrayLike,
    real: ArrayLike,
    dust: ArrayLike | None = None,
    *,
    groups: ArrayLike | None = None,
    method: str = "beta",
    n_dust_bins: int = 4,
    n_folds: int = 5,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Calibrated purity of each source from a fit that has not seen its fold: for an honest reliability
    diagram.

    Parameters and errors as :func:`fit_calibration`, ``method`` 'beta' or 'isotonic'.

    Returns
    -------
    (n,) float64
    """
    score, truth, level, tile = _check(p, real, dust, groups)
    if method not in METHODS:
        raise ValueError(f"method '{method}', expected one of {', '.join(METHODS)}")
    edges = np.empty(0) if dust is None else np.unique(np.quantile(level, np.arange(1, n_dust_bins) / n_dust_bins))
    fold = _folds(tile, n_folds, seed)
    return _predict_held_out(method, score, truth, _bin_of(edges, level), edges.size + 1, fold)


def measure_reliability(
    predicted: ArrayLike, real: ArrayLike, n_bins: int = 10, *, equal: Literal["sources", "clusters"] = "sources"
) -> Table:
    """Reliability diagram: observed against predicted purity in bins of equal counts.

    Most sources of a low threshold are no clusters: of ten bins with as many sources, nine may lie below a
    predicted purity of 0.2. Bins with as many predicted clusters are wide there and narrow above.

    Parameters
    ----------
    predicted : (n,) float
        Calibrated purity.
    real : (n,) bool
        Whether each is a cluster.
    n_bins : int
        Number of bins; fewer where there are fewer sources.
    equal : {'sources', 'clusters'}
        What each bin holds as many of: sources, or predicted clusters (the sum of ``predicted``).

    Returns
    -------
    Table
        ``n``, ``predicted`` (mean), ``observed``, ``observed_low``, ``observed_high`` (Wilson, 68.3 %);
        lowest first.
    """
    score, truth = np.asarray(predicted, float), np.asarray(real, bool)
    if score.shape != truth.shape or score.ndim != 1 or score.size == 0:
        raise ValueError(f"predicted has shape {score.shape} and real {truth.shape}, expected the same, (n,), n > 0")
    rows = []
    order = np.argsort(score, kind="stable")
    bins = np.array_split(order, min(n_bins, score.size))
    if equal == "clusters":
        total = np.cumsum(score[order])
        bins = np.split(order, np.searchsorted(total, total[-1] * np.arange(1, n_bins) / n_bins, side="right"))
    for members in filter(np.size, bins):
        k, n = int(truth[members].sum()), members.size
        low, high = wilson_interval(k, n)
        rows.append((n, score[members].mean(), k / n, float(low), float(high)))
    return Table(rows=rows, names=["n", "predicted", "observed", "observed_low", "observed_high"])


def expected_calibration_error(reliability: Table) -> float:
    """Mean of |observed - predicted| over the bins of a reliability diagram, weighted by their counts."""
    n = np.asarray(reliability["n"], float)
    return float(np.average(np.abs(reliability["observed"] - reliability["predicted"]), weights=n))


def p_max_for_purity(
    calibration: Calibration,
    p: ArrayLike,
    purity: float,
    dust: ArrayLike | None = None,
    n_detections_min: int = 10,
) -> float:
    """The lowest threshold at which the expected purity of these sources is still at least ``purity``.

    Parameters
    ----------
    calibration : Calibration
        From :func:`fit_calibration`.
    p, dust : (n,) float
        Scores and dust levels of the sources that the threshold is for.
    purity : float
        Wanted mean of the calibrated purity of sources with p at or above the threshold.
    n_detections_min : int
        Fewest sources above the threshold.

    Returns
    -------
    float
        NaN if no threshold reaches it.

    Examples
    --------
    >>> p, purity = np.array([0.1, 0.5, 0.9]), np.array([[0.1, 0.6, 0.95]])
    >>> calibration = Calibration(p, purity, np.zeros(0), "isotonic", 0.3)
    >>> p_max_for_purity(calibration, np.linspace(0.1, 0.9, 81), 0.8) > 0.5
    True
    """
    if not 0 < purity <= 1:
        raise ValueError(f"purity is {purity}, expected a value in (0, 1]")
    score = np.asarray(p, float)
    order = np.argsort(-score, kind="stable")
    n = np.arange(1, score.size + 1)
    mean = np.cumsum(calibration.predict(score, dust)[order]) / n
    last_of_tie = np.append(np.diff(score[order]) != 0, True)[: score.size]
    good = np.flatnonzero(last_of_tie & (n >= n_detections_min) & (mean >= purity))
    return float(score[order][good[-1]]) if good.size else np.nan


def _check(
    p: ArrayLike, real: ArrayLike, dust: ArrayLike | None, groups: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    score, truth = np.asarray(p, float), np.asarray(real, bool)
    level = np.zeros(score.shape) if dust is None else np.asarray(dust, float)
    tile = np.arange(score.size) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    shapes = {"p": score.shape, "real": truth.shape, "dust": level.shape, "groups": tile.shape}
    if len(set(shapes.values())) > 1 or score.ndim != 1:
        raise ValueError(f"shapes {shapes}, expected all the same, (n,)")
    if score.size < 20 or truth.all() or not truth.any():
        raise ValueError(
            f"{truth.sum()} real of {score.size} sources, expected at least 20 sources of both kinds: lower p_max, "
            "or pool more tiles"
        )
    if not np.all((score >= 0) & (score <= 1)):
        raise ValueError(f"p runs from {score.min()} to {score.max()}, expected values in [0, 1]")
    if not np.isfinite(level).all():
        raise ValueError(f"dust holds {np.count_nonzero(~np.isfinite(level))} values that are not finite")
    return score, truth, level, tile


def _bin_of(edges: NDArray[np.float64], dust: ArrayLike) -> NDArray[np.int64]:
    return np.searchsorted(edges, np.asarray(dust, float), side="right")


def _folds(tile: NDArray[np.int64], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each source; the sources of a tile share one."""
    n_tile = int(tile.max()) + 1
    if n_tile < 2 or n_folds < 2:
        raise ValueError(f"{n_tile} groups and {n_folds} folds, expected at least 2 of each to cross-validate")
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(b"calibration_folds")]))
    return (rng.permutation(n_tile) % n_folds)[tile]


def _predict_held_out(
    method: str,
    p: NDArray[np.float64],
    real: NDArray[np.bool_],
    bins: NDArray[np.int64],
    n_bin: int,
    fold: NDArray[np.int64],
) -> NDArray[np.float64]:
    out = np.empty(p.size)
    for k in np.unique(fold):
        held = fold == k
        knots, purity = _fit(method, p[~held], real[~held], bins[~held], n_bin)
        for b in range(n_bin):
            mine = held & (bins == b)
            out[mine] = np.interp(p[mine], knots, purity[b])
    return out


def _log_loss(predicted: NDArray[np.float64], real: NDArray[np.bool_]) -> float:
    chance = np.where(real, predicted, 1 - predicted)
    return float(-np.log(np.maximum(chance, _CLIP)).mean())


def _fit(
    method: str, p: NDArray[np.float64], real: NDArray[np.bool_], bins: NDArray[np.int64], n_bin: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Knots (n_knot,), denser towards 0 and 1, and purity there (n_bin, n_knot)."""
    knots = np.concatenate([[0.0], expit(np.linspace(-9, 9, _N_KNOTS - 2)), [1.0]])
    if method == "beta":
        # a curve goes on to 0 and 1, however few sources it was drawn through
        n_real, n_other = np.bincount(bins[real], minlength=n_bin), np.bincount(bins[~real], minlength=n_bin)
        least, most = 0.5 / (n_other + 1), (n_real + 0.5) / (n_real + 1)
        return knots, np.clip(_fit_beta(p, real, bins, n_bin, knots), least[:, None], most[:, None])
    return knots, np.stack([_fit_isotonic(p[bins == b], real[bins == b], knots) for b in range(n_bin)])


def _fit_isotonic(p: NDArray[np.float64], real: NDArray[np.bool_], knots: NDArray[np.float64]) -> NDArray[np.float64]:
    if p.size == 0:
        return np.full(knots.size, 0.5)
    order = np.argsort(p, kind="stable")
    blocks = isotonic_regression(real[order].astype(float)).blocks
    n = np.diff(blocks)
    k = np.add.reduceat(real[order].astype(float), blocks[:-1])
    value = np.maximum.accumulate((k + 0.5) / (n + 1))
    ends = np.stack([p[order][blocks[:-1]], p[order][blocks[1:] - 1]], axis=1)  # flat within a block
    return np.asarray(np.interp(knots, ends.ravel(), np.repeat(value, 2)))


def _fit_beta(
    p: NDArray[np.float64],
    real: NDArray[np.bool_],
    bins: NDArray[np.int64],
    n_bin: int,
    knots: NDArray[np.float64],
) -> NDArray[np.float64]:
    def features(score: NDArray[np.float64]) -> NDArray[np.float64]:
        clipped = np.clip(score, _CLIP, 1 - _CLIP)
        return np.stack([np.log(clipped), -np.log1p(-clipped)])

    x = features(p)
    bin_matrix = (np.arange(n_bin)[:, None] == bins).astype(float)

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logit = theta[:2] @ x + theta[2:] @ bin_matrix
        residual = expit(logit) - real
        # a weak Gaussian prior of width 10 keeps separable samples finite
        value = np.logaddexp(0, logit).sum() - logit[real].sum() + 0.005 * theta @ theta
        gradient = np.concatenate([x @ residual, bin_matrix @ residual]) + 0.01 * theta
        return float(value), gradient

    start = np.concatenate([[0.5, 0.5], np.zeros(n_bin)])
    bounds = [(0, None), (0, None)] + [(None, None)] * n_bin
    theta = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return np.asarray(expit(theta[:2] @ features(knots) + theta[2:, None]))
