"""The figures of numbers: training, normalisation, recovery, completeness and purity, the catalogues.

Every function takes arrays or tables and gives a matplotlib Figure; nothing here touches pyplot's global
state or a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from numpy.typing import NDArray

from szeek.show.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    SKY,
    VERMILION,
    catalogue_look,
    figure_text,
    journal,
    plain_log,
    plain_text,
)

if TYPE_CHECKING:
    from szeek.assess.selection import Selection

#: Recovered fraction of the test tile at p_max = 0.1. Bonjean (2020), Sect. 4.1: 40 of 40, 89 % and 12 %.
PAPER_TEST_TILE: Mapping[str, float] = {"planck_z": 1.0, "planck_no-z": 0.89, "mcxcwp": 0.12}
#: The same on the whole sky. Bonjean (2020), Sect. 4.2.
PAPER_FULL_SKY: Mapping[str, float] = {"planck_z": 0.985, "planck_no-z": 0.764, "mcxcwp": 0.208}
#: Sources of the test tile at p_max = 0.1 that are in none of the three catalogues. Bonjean (2020), Sect. 4.1.
PAPER_NEW_SOURCES = 218
_SELECTION_THETA500_ARCMIN = (3.0, 6.0, 12.0)
_THRESHOLD = "threshold on the largest $p$ of a source, $p_\\mathrm{max}$"


def _interval_bars(table: Table, name: str) -> list[NDArray[np.float64]]:
    """Error bars of a column, down and up, from ``name``_low and ``name``_high."""
    value, low, high = (np.asarray(table[column], float) for column in (name, f"{name}_low", f"{name}_high"))
    return [np.clip(value - low, 0, None), np.clip(high - value, 0, None)]


@journal
def plot_training(curve: Sequence[Mapping[str, Any]]) -> Figure:
    """Training and validation loss against epoch, the best epoch marked.

    Parameters
    ----------
    curve : sequence of mappings
        ``epoch``, ``train_loss``, ``valid_loss`` of each epoch, as in model.json.

    Examples
    --------
    >>> figure = plot_training([{"epoch": 1, "train_loss": 0.03, "valid_loss": 0.04, "seconds": 30.0}])
    >>> len(figure.axes)
    1
    """
    if not curve:
        raise ValueError("the training curve has no epoch; expected at least one")
    epoch = np.array([row["epoch"] for row in curve])
    valid = np.array([row["valid_loss"] for row in curve], float)
    figure = Figure(figsize=(5.2, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(epoch, [row["train_loss"] for row in curve], color=BLUE, marker="o", markersize=3, label="training")
    axes.plot(epoch, valid, color=VERMILION, marker="s", markersize=3, linestyle="--", label="validation")
    best = int(np.nanargmin(valid))
    axes.axvline(epoch[best], color="0.5", linewidth=0.8, linestyle=":")
    axes.plot(epoch[best], valid[best], "*", color=VERMILION, markersize=12, label=f"best, epoch {epoch[best]}")
    axes.set(xlabel="epoch", ylabel="binary cross-entropy per pixel", yscale="log")
    plain_log(axes.yaxis, (1, 2, 3, 5))
    axes.legend()
    return figure


@journal
def plot_input(samples: NDArray[np.floating], titles: Sequence[str], *, asinh: Sequence[bool] = ()) -> Figure:
    """Histogram of each channel of the network's input, with the unit Gaussian that pure noise would follow.

    Source: Bonjean (2020), Fig. 2.

    Parameters
    ----------
    samples : (n, n_channel) float
        Input of the network at many pixels.
    titles : sequence of str
        Of each channel.
    asinh : sequence of bool
        Which channels were compressed by asinh: so is their Gaussian. None by default.

    Examples
    --------
    >>> figure = plot_input(np.random.default_rng(1).standard_normal((1000, 2)), ["143", "217"])
    >>> len(figure.axes) >= 2
    True
    """
    n_column = min(3, len(titles))
    n_row = -(-len(titles) // n_column)
    figure = Figure(figsize=(2.8 * n_column, 2.2 * n_row + 0.2), layout="constrained")
    for index, (title, compressed) in enumerate(zip(titles, asinh or [False] * len(titles), strict=True)):
        edges = np.linspace(-4.0, 6.0, 181) if compressed else np.linspace(-6.0, 12.0, 181)
        u = 0.5 * (edges[1:] + edges[:-1])
        # of u = asinh(x), x Gaussian: exp(-x^2 / 2) dx/du; x itself without asinh
        gauss = np.exp(-0.5 * np.sinh(u) ** 2) * np.cosh(u) if compressed else np.exp(-0.5 * u**2)
        axes = figure.add_subplot(n_row, n_column, index + 1)
        counts, _ = np.histogram(samples[:, index], edges)
        axes.stairs(counts / max(1, counts.max()), edges, fill=True, color=SKY, alpha=0.8)
        axes.plot(u, gauss / gauss.max(), color=BLACK, linewidth=1.1, linestyle="--")
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1.15), title=title)
        label = "input of the network" if compressed else r"$(T - \mu)\,/\,\sigma$"
        axes.set_xlabel(label if index >= len(titles) - n_column else "")
        axes.set_ylabel("pixels / maximum" if index % n_column == 0 else "")
    return figure


@journal
def plot_mass_redshift(clusters: Table) -> Figure:
    """Mass against redshift of the clusters that have both.

    Source: Bonjean (2020), Fig. 1.

    Parameters
    ----------
    clusters : Table
        ``z``, ``m500_1e14msun`` and ``selection``.

    Examples
    --------
    >>> clusters = Table({"z": [0.1, 0.3, np.nan], "m500_1e14msun": [5.0, 8.0, 4.0], "selection": ["planck_z"] * 3})
    >>> plot_mass_redshift(clusters).axes[0].lines[0].get_xydata().tolist()  # without the one of unknown redshift
    [[0.1, 5.0], [0.3, 8.0]]
    """
    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    axes = figure.add_subplot()
    known = np.isfinite(clusters["z"]) & np.isfinite(clusters["m500_1e14msun"]) & (clusters["m500_1e14msun"] > 0)
    selections = np.asarray(clusters["selection"])
    for selection in filter(None, dict.fromkeys(selections[np.asarray(known)].tolist())):
        colour, marker, name = catalogue_look(selection)
        chosen = clusters[known & (selections == selection)]
        axes.plot(
            chosen["z"], chosen["m500_1e14msun"], linestyle="none", marker=marker, markersize=3, color=colour,
            alpha=0.6, markeredgewidth=0, label=plain_text(f"{name} ({len(chosen)})"),
        )  # fmt: skip
    axes.set(xlabel="redshift $z$", ylabel=r"$M_{500}$ [$10^{14}\,M_\odot$]", yscale="log")
    plain_log(axes.yaxis)
    if known.any():
        axes.legend()
    return figure


@journal
def plot_recovery(recovery: Table, *, p_max: float = 0.1, show_paper: bool = True) -> Figure:
    """Recovered fraction of each catalogue, and the number of sources, against the threshold on p.

    Error bars are binomial; the thin dashed line of the same colour is the rate at which random positions match.

    Source: Bonjean (2020), Fig. 3.

    Parameters
    ----------
    recovery : Table
        One row per catalogue and threshold, of one region, as :func:`szeek.assess.recovery.measure_recovery`
        gives them.
    p_max : float
        Threshold to mark.
    show_paper : bool
        Draw the paper's values for its test tile at p_max = 0.1 as stars.

    Examples
    --------
    >>> measured = {"recovered": [0.9, 0.6], "recovered_low": [0.85, 0.5], "recovered_high": [0.94, 0.7]}
    >>> recovery = Table({"catalogue": ["planck_z"] * 2, "p_max": [0.5, 0.1], "chance": [0.0, 0.01], **measured})
    >>> recovery["n_sources"], recovery["n_unmatched"] = [300, 900], [100, 700]
    >>> _, counts = plot_recovery(recovery, show_paper=False).axes
    >>> [line.get_ydata().tolist() for line in counts.lines[:2]]  # lowest threshold first
    [[900, 300], [700, 100]]
    """
    figure = Figure(figsize=(9.2, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in dict.fromkeys(np.asarray(recovery["catalogue"]).tolist()):
        rows = recovery[np.asarray(recovery["catalogue"]) == name]
        rows.sort("p_max")
        colour, marker, label = catalogue_look(name)
        x, y = np.asarray(rows["p_max"], float), np.asarray(rows["recovered"], float)
        left.errorbar(
            x, y, yerr=_interval_bars(rows, "recovered"), color=colour, marker=marker, markersize=4, capsize=2,
            elinewidth=0.8, label=plain_text(label),
        )  # fmt: skip
        left.plot(x, rows["chance"], color=colour, linewidth=0.8, linestyle="--")
        if show_paper and name in PAPER_TEST_TILE:
            left.plot(
                0.1, PAPER_TEST_TILE[name], "*", color=colour, markersize=13, markeredgecolor="black",
                markeredgewidth=0.6, zorder=5,
            )  # fmt: skip
    if show_paper:
        left.plot([], [], "*", color="white", markeredgecolor="black", markersize=11, label="Bonjean (2020)")
    left.plot([], [], color="0.4", linewidth=0.8, linestyle="--", label="random positions")
    left.set(xlabel=_THRESHOLD, ylabel="recovered fraction", ylim=(-0.03, 1.06))
    # above the axes: inside, there is no corner that no curve reaches
    left.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    counts = recovery[np.asarray(recovery["catalogue"]) == recovery["catalogue"][0]]
    counts.sort("p_max")
    right.plot(counts["p_max"], counts["n_sources"], color=BLUE, marker="o", markersize=4, label="all sources")
    right.plot(
        counts["p_max"], counts["n_unmatched"], color=VERMILION, marker="s", markersize=4, linestyle="--",
        label="in none of the catalogues",
    )  # fmt: skip
    if show_paper:
        right.plot(
            0.1, PAPER_NEW_SOURCES, "*", color=VERMILION, markersize=13, markeredgecolor="black", markeredgewidth=0.6
        )
    right.set(xlabel=_THRESHOLD, ylabel="number of sources", yscale="log")
    plain_log(right.yaxis)
    right.legend()
    for axes in (left, right):
        axes.axvline(p_max, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    return figure


#: Samples of szeek.assess.recovery.completeness_purity, as printed, with their colour and marker.
SAMPLES: Mapping[str, tuple[str, str, str]] = {
    "planck_z": ("mock Planck_z", BLUE, "o"),
    "y500>5e-4": ("Y500 > 5 × 10⁻⁴ arcmin²", GREEN, "^"),
    "y500>1e-3": ("Y500 > 10⁻³ arcmin²", ORANGE, "s"),
    "y500>2e-3": ("Y500 > 2 × 10⁻³ arcmin²", VERMILION, "D"),
}


@journal
def plot_completeness(assessment: Table) -> Figure:
    """Completeness of each sample against the purity of the catalogue, where the truth is known.

    Parameters
    ----------
    assessment : Table
        As :func:`szeek.assess.recovery.completeness_purity` gives it; rows without ``purity_asked`` (fixed
        thresholds) are drawn as open symbols.

    Examples
    --------
    >>> rows = {"purity": [0.9, 0.5], "completeness": [0.6, 0.8], "purity_asked": [0.9, np.nan]}
    >>> rows |= {"completeness_low": [0.5, 0.7], "completeness_high": [0.7, 0.9]}
    >>> axes = plot_completeness(Table({"sample": ["planck_z"] * 2, **rows})).axes[0]
    >>> [bars.lines[0].get_xydata().tolist() for bars in axes.containers]  # asked for a purity; at a fixed threshold
    [[[0.9, 0.6]], [[0.5, 0.8]]]
    """
    figure = Figure(figsize=(5.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for sample in dict.fromkeys(np.asarray(assessment["sample"]).tolist()):
        name, colour, marker = SAMPLES.get(sample, (sample, BLACK, "o"))
        label = figure_text(name)
        for fixed in (False, True):
            rows = assessment[(assessment["sample"] == sample) & (np.isnan(assessment["purity_asked"]) == fixed)]
            rows = rows[np.isfinite(rows["purity"]) & np.isfinite(rows["completeness"])]
            rows.sort("purity")
            axes.errorbar(
                rows["purity"], rows["completeness"], yerr=_interval_bars(rows, "completeness"), color=colour,
                marker=marker, markersize=4 if not fixed else 8, linestyle="none" if fixed else "-", capsize=2,
                elinewidth=0.8, label="_" if fixed else label, markerfacecolor="white" if fixed else colour,
            )  # fmt: skip
    axes.plot([], [], "o", color="0.4", markerfacecolor="white", markersize=8, label="the run's own threshold")
    axes.set(xlabel="purity of the catalogue", ylabel="completeness", ylim=(-0.03, 1.05))
    axes.legend()
    return figure


@journal
def plot_reliability(reliability: Table) -> Figure:
    """Observed against predicted purity: a calibrated one lies on the diagonal.

    Parameters
    ----------
    reliability : Table
        As :func:`szeek.assess.calibrate.measure_reliability` gives it.

    Examples
    --------
    >>> rows = Table({"predicted": [0.2, 0.8], "observed": [0.25, 0.75]})
    >>> rows["observed_low"], rows["observed_high"] = [0.2, 0.7], [0.3, 0.8]
    >>> plot_reliability(rows).axes[0].containers[0].lines[0].get_xydata().tolist()
    [[0.2, 0.25], [0.8, 0.75]]
    """
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.9, linestyle="--", label="calibrated")
    axes.errorbar(
        reliability["predicted"], reliability["observed"], yerr=_interval_bars(reliability, "observed"), color=BLUE,
        marker="o", markersize=4, capsize=2, label="measured",
    )  # fmt: skip
    axes.set(xlabel="purity predicted", ylabel="share that are clusters", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.legend(loc="upper left")
    return figure


@journal
def plot_selection(selection: Selection) -> Figure:
    """Completeness against flux for three sizes, mean over the seen sky, with statistical and all errors.

    Parameters
    ----------
    selection : Selection

    Examples
    --------
    >>> from szeek.assess.selection import Selection
    >>> flux = np.geomspace(1e-4, 1e-2, 200)
    >>> injections = Table({"lon_deg": np.arange(200.0), "lat_deg": [50.0] * 200, "y500_arcmin2": flux})
    >>> injections["theta500_arcmin"], injections["noise_arcmin2"] = 5.0, 3e-4
    >>> injections["p"] = np.where(flux > 1e-3, 0.9, np.nan)  # found above 1e-3 arcmin^2
    >>> selection = Selection(injections, np.array([1.0, 32.0]), np.full((768, 2), 3e-4), p_max=0.1)
    >>> curve = plot_selection(selection).axes[0].lines[0]
    >>> np.interp([2e-4, 5e-3], *curve.get_data()).round(2).tolist()
    [0.0, 1.0]
    """
    figure = Figure(figsize=(5.2, 3.8), layout="constrained")
    axes = figure.add_subplot()
    flux = np.geomspace(1e-4, 1e-2, 40)
    cube = selection.completeness_cube(flux, _SELECTION_THETA500_ARCMIN)
    value, low, high, systematic = (np.nanmean(part, axis=0) for part in cube)
    for k, (theta, colour) in enumerate(zip(_SELECTION_THETA500_ARCMIN, (BLUE, ORANGE, GREEN), strict=True)):
        below, above = np.hypot(value - low, systematic)[k], np.hypot(high - value, systematic)[k]
        axes.fill_between(flux, value[k] - below, value[k] + above, color=colour, alpha=0.15, linewidth=0)
        axes.fill_between(flux, low[k], high[k], color=colour, alpha=0.3, linewidth=0)
        axes.plot(flux, value[k], color=colour, label=f"$\\theta_{{500}}$ = {theta:g} arcmin")
    axes.set(xscale="log", ylim=(0, 1.03), xlabel="$Y_{500}$ [arcmin$^2$]", ylabel="completeness")
    axes.legend(loc="lower right")
    return figure


@journal
def plot_looks(known: Table, injected: Table, bands: Sequence[str]) -> Figure:
    """Spectra of known clusters and of injected ones, over the size of the non-relativistic tSZ spectrum.

    Parameters
    ----------
    known, injected : Table
        From :func:`szeek.assess.looks.stack_spectra`.
    bands : sequence of str
        Names of the bands.

    Examples
    --------
    >>> looks = Table({"n": [20], "theta500_high": [6.0], "y5r500_high": [np.inf]})
    >>> looks["spectrum"], looks["spectrum_err"] = [[-1.0, 0.5]], [[0.1, 0.1]]
    >>> axes = plot_looks(looks, looks, ["143", "353"]).axes[0]
    >>> [label.get_text() for label in axes.get_legend().get_texts()]
    ['injected, 20', 'known, 20']
    """
    rows = [k for k in range(len(known)) if known["n"][k] > 1 and injected["n"][k] > 1]
    figure = Figure(figsize=(2.7 * max(len(rows), 1), 3.2), layout="constrained")
    place = np.arange(len(bands))
    for number, k in enumerate(rows):
        axes = figure.add_subplot(1, len(rows), number + 1)
        for table, colour, marker, away, label in (
            (injected, ORANGE, "s", 0.12, "injected"), (known, BLUE, "o", -0.12, "known"),
        ):  # fmt: skip
            axes.errorbar(
                place + away, table["spectrum"][k], yerr=table["spectrum_err"][k], color=colour, marker=marker,
                markersize=4, capsize=2, linestyle="none", label=f"{label}, {table['n'][k]}",
            )  # fmt: skip
        axes.axhline(0.0, color="0.6", linewidth=0.8)
        size, flux = known["theta500_high"][k], known["y5r500_high"][k]
        axes.set_title(
            f"{'below' if np.isfinite(size) else 'above'} 6 arcmin, "
            f"$Y_{{5R500}}$ {'<' if np.isfinite(flux) else '>'} 2 × 10$^{{-3}}$ arcmin$^2$",
            fontsize="small",
        )
        axes.set_xticks(place, bands, rotation=45)
        axes.set(yscale="symlog", xlabel="band [GHz]")
        axes.margins(y=0.08)
        axes.legend(fontsize="small")
    if rows:
        figure.axes[0].set_ylabel("flux over that of the tSZ effect")
    return figure
