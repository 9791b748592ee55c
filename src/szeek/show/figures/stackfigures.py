"""Figures of stacks: the paper's Figs. 4 to 8, and the spectrum of a stack.

Every function takes images or tables of a run's stacks and gives a matplotlib Figure.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from numpy.typing import NDArray

from szeek.inputs.instrument import read_instrument
from szeek.physics.instrument import Instrument
from szeek.show.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    P_COLOURS,
    PURPLE,
    SKY,
    VERMILION,
    catalogue_look,
    journal,
    label_p,
    scale_p,
)
from szeek.sky.healpix import unit_vectors
from szeek.sky.projection import PIXEL_ARCMIN, field_basis, project
from szeek.stack.products import read_stacks

#: Below the surroundings blue, above them red, zero white.
STACK_COLOURS = "RdBu_r"
#: Lowest to highest p: dark to light, in order also without colour.
BIN_COLOURS = ("#440154", "#3B528B", "#21918C", "#5EC962", "#D9A800")
_BIN_MARKERS = "osD^v"
#: Map -> title, factor to the unit shown, that unit.
LOOKS: Mapping[str, tuple[str, float, str]] = {
    "y": ("Compton $y$", 1e6, "$10^{-6}$"),
    "y_noise": ("$y$, half difference", 1e6, "$10^{-6}$"),
    "iris_100um": ("IRIS 100 µm", 1e3, "kJy sr$^{-1}$"),
    "kappa": ("lensing convergence", 1e3, "$10^{-3}$"),
    "xray": ("X-rays", 1.0, "counts per pixel"),
    "galaxies_all": ("galaxies, all", 1e2, "$\\delta$ [%]"),
    "galaxies_passive": ("galaxies, passive", 1e2, "$\\delta$ [%]"),
    "galaxies_transitioning": ("galaxies, transitioning", 1e2, "$\\delta$ [%]"),
    "galaxies_active": ("galaxies, active", 1e2, "$\\delta$ [%]"),
    "sfr": ("star formation", 1.0, "$M_\\odot$ yr$^{-1}$ deg$^{-2}$"),
    "stellar_mass": ("stellar mass", 1e-9, "$10^9\\,M_\\odot$ deg$^{-2}$"),
}
_ARCMIN2_SR = (np.pi / 180 / 60) ** 2


@dataclass(frozen=True)
class Panel:
    """One map's stack, ready to be drawn.

    Parameters
    ----------
    name : str
        Of the map: a band's, or a key of :data:`LOOKS`.
    image : (n, n) float, or None
        In the map's unit; None where the map is lacking, which the panel then says.
    unit : str
        Of the map: 'K_CMB' and 'MJy/sr' are shown in uK and kJy/sr.
    fwhm_arcmin : float
        Beam drawn in the corner; 0 or NaN for none.
    remark : str
        Written into the panel: a significance, or what is lacking.
    """

    name: str
    image: NDArray[np.floating] | None
    unit: str = ""
    fwhm_arcmin: float = 0.0
    remark: str = ""

    @property
    def look(self) -> tuple[str, float, str]:
        """Title, factor and unit as printed."""
        if self.name in LOOKS:
            return LOOKS[self.name]
        factor, unit = {"K_CMB": (1e6, "µK$_\\mathrm{CMB}$"), "MJy/sr": (1e3, "kJy sr$^{-1}$")}.get(
            self.unit, (1.0, self.unit)
        )
        return (f"{self.name} GHz" if self.name.isdigit() else self.name), factor, unit


def read_significance(stacks: Path, of_nulls: bool = False) -> dict[str, float]:
    """Centre of each map's stack less its nulls in sigma, by band or map, from a stacks.fits; empty without one.

    In the sources' own scatter, or that of the nulls, which says whether anything is there; of a few sources, and in
    files that lack one of the two, in the other.
    """
    if not stacks.is_file():
        return {}
    with fits.open(stacks) as hdus:
        if "SIGNIFICANCE" not in hdus:
            return {}
        table = Table(hdus["SIGNIFICANCE"].data)
    own = np.asarray(table["centre_sigma"], float)
    null = np.asarray(table["null_sigma"], float) if "null_sigma" in table.colnames else own
    first, second = (null, own) if of_nulls else (own, null)
    sigma = np.where(np.isfinite(first), first, second)
    return {str(name): float(value) for name, value in zip(table["map"], sigma, strict=True) if np.isfinite(value)}


def read_panels(stacks: Path, record: Mapping[str, Any], kind: str) -> dict[str, Panel]:
    """Panels of a stacks.fits by map: 'mean', 'null', or 'difference' of the two; empty without the file.

    Parameters
    ----------
    stacks : Path
        stacks.fits.
    record : mapping
        stacks.json, which has units and beams.
    kind : str
    """
    if not stacks.is_file():
        return {}
    looks = {
        name: (unit, float(beam))
        for group in (record.get("maps") or {}).values()
        for name, unit, beam in zip(group["bands"], group["units"], group["fwhm_arcmin"], strict=True)
    }
    sigma = read_significance(stacks)
    panels = {}
    for label, images in read_stacks(stacks).items():
        group, _, band = label.partition(": ")
        name = band or group
        image = images["mean"] - images["null"] if kind == "difference" else images[kind]
        remark = f"{sigma[name]:.1f}σ".replace("-", "−") if kind == "difference" and name in sigma else ""
        panels[name] = Panel(name, image, *looks.get(name, ("", 0.0)), remark)
    return panels


def seen_fwhm_arcmin(record: Mapping[str, Any], name: str) -> float:
    """FWHM of a point source in the stack of a map: its beam, and the map's pixels, between which is interpolated.

    A pixel of width w adds w^2 / 12 of variance, linear interpolation between pixels w^2 / 6.

    Examples
    --------
    >>> group = {"bands": ["xray"], "units": ["count"], "fwhm_arcmin": [1.5], "nside": 1024}
    >>> round(seen_fwhm_arcmin({"maps": {"xray": group}}, "xray"), 2)
    4.31
    """
    for group in (record.get("maps") or {}).values():
        if name in group["bands"]:
            beam = float(group["fwhm_arcmin"][group["bands"].index(name)])
            pixel_arcmin = np.sqrt(np.pi / 3) / group["nside"] * 10800 / np.pi if "nside" in group else 0.0
            return float(np.hypot(beam, np.sqrt(8 * np.log(2)) * pixel_arcmin / 2))
    return 0.0


def draw_stack_folder(folder: str | os.PathLike[str]) -> list[Path]:
    """Draw what `szeek stack TABLE --map` wrote into a folder, as PDF and PNG beside it.

    Returns
    -------
    list of Path
        stacks.png (sources, nulls, difference in every map), spectrum.png where there is a spectrum.

    Examples
    --------
    >>> draw_stack_folder("nowhere")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    FileNotFoundError: nothing was stacked there
    """
    home = Path(folder)
    record = json.loads((home / "stacks.json").read_text())
    null = {"matched": "matched nulls", "rotated": "rotated nulls"}[record["null_kind"]]
    kinds = ((f"{record['n_source']} sources", "mean"), (null, "null"), ("difference", "difference"))
    rows = [(label, list(read_panels(home / "stacks.fits", record, kind).values())) for label, kind in kinds]
    drawn = {"stacks": plot_stack_rows(rows)}
    if (home / "spectrum.ecsv").is_file():
        spectrum = Table.read(home / "spectrum.ecsv")
        if "tsz" in spectrum.colnames:
            drawn["spectrum"] = plot_spectrum(spectrum, read_instrument(record.get("instrument", "planck-hfi")))
    for ending in ("pdf", "png"):
        (home / f"spectrum.{ending}").unlink(missing_ok=True)  # an earlier one, of other maps
        for name, figure in drawn.items():
            figure.savefig(home / f"{name}.{ending}", dpi=150)
    return [home / f"{name}.png" for name in drawn]


@journal
def plot_stacks(panels: Sequence[Panel], *, n_column: int = 4, pixel_arcmin: float = PIXEL_ARCMIN) -> Figure:
    """Stacked maps side by side, each with its own colour scale, symmetric about zero, and its beam.

    Source: Bonjean (2020), Fig. 5.

    Examples
    --------
    >>> picture = np.full((60, 60), 2e-6)
    >>> figure = plot_stacks([Panel("y", picture, "y", 10.0), Panel("kappa", picture, "", 0.0)])
    >>> round(float(figure.axes[0].images[0].get_array().max()), 6)  # in units of 1e-6
    2.0
    """
    if not panels:
        raise ValueError("no stack to show; expected at least one panel")
    n_row = -(-len(panels) // n_column)
    figure = Figure(figsize=(2.05 * n_column + 0.5, 2.35 * n_row + 0.35), layout="constrained")
    grid = figure.subplots(n_row, n_column, squeeze=False)
    for index, axes in enumerate(grid.ravel()):
        if index >= len(panels):
            axes.set_axis_off()
            continue
        panel = panels[index]
        title, _, unit = panel.look
        axes.set_title(title, fontsize=9)
        if panel.image is None:
            axes.set(xticks=[], yticks=[], facecolor="0.93", aspect="equal", xlim=(0, 1), ylim=(0, 1))
            axes.text(0.5, 0.5, panel.remark, ha="center", va="center", fontsize=7.5, color="0.25", wrap=True)
            continue
        image = _draw_stack(axes, panel, _symmetric([panel]), pixel_arcmin)
        bar = figure.colorbar(image, ax=axes, orientation="horizontal", fraction=0.06, pad=0.03, aspect=22)
        bar.set_label(unit, fontsize=8, labelpad=1)
        _few_ticks(bar.ax)
        _label_outside(axes, index, n_column, len(panels))
    return figure


@journal
def plot_stack_rows(
    rows: Sequence[tuple[str, Sequence[Panel]]], *, pixel_arcmin: float = PIXEL_ARCMIN, wide: float = 1.45
) -> Figure:
    """Rows of stacks of the same maps (sources, matched nulls, difference), one colour scale per column.

    Source: Bonjean (2020), Fig. 4, with the nulls that it lacks.

    Examples
    --------
    >>> sources = [Panel("y", np.full((60, 60), 2e-6), "y", 10.0)]
    >>> nulls = [Panel("y", np.zeros((60, 60)), "y", 10.0)]
    >>> figure = plot_stack_rows([("sources", sources), ("nulls", nulls)])
    >>> [axes.images[0].norm.vmax for axes in figure.axes[:2]]  # one scale for a column
    [2.0, 2.0]
    """
    if not rows or not rows[0][1]:
        raise ValueError("no stack to show; expected at least one row with a panel")
    n_row, n_column = len(rows), len(rows[0][1])
    figure, grid, bars = _picture_grid(n_row, n_column, wide)
    for j in range(n_column):
        column = [panels[j] for _, panels in rows]
        norm = _symmetric(column)
        for i, panel in enumerate(column):
            axes = grid[i][j]
            image = _draw_stack(axes, panel, norm, pixel_arcmin)
            axes.minorticks_off()
            axes.set(xticks=[], yticks=[])
            if i == 0:
                axes.set_title(panel.look[0], fontsize=9)
            if j == 0:
                axes.set_ylabel(rows[i][0], fontsize=9)
        bar = figure.colorbar(image, cax=bars[j], orientation="horizontal")
        bar.set_label(column[0].look[2], fontsize=8, labelpad=1)
        _few_ticks(bar.ax)
    return figure


@journal
def plot_profiles(
    profiles: Table, *, factor: float = 1.0, unit: str = "", fwhm_arcmin: float = 0.0, labels: Sequence[str] = ()
) -> Figure:
    """Radial profiles of one map in bins of p, with the matched nulls and the point-spread function.

    Source: Bonjean (2020), Fig. 6.

    Parameters
    ----------
    profiles : Table
        Rows of one map of a profiles.ecsv: ``sample`` ('p bin 1' ..., 'null'), ``radius_arcmin``, ``mean``,
        ``error``.
    factor, unit : float, str
        To the unit shown.
    fwhm_arcmin : float
        Of the Gaussian drawn as point-spread function, its mean in the profiles' rings, scaled to the highest bin's
        first ring; 0 for none. See :func:`seen_fwhm_arcmin`.
    labels : sequence of str
        Of the bins, lowest p first.

    Examples
    --------
    >>> rings = {"inner_arcmin": [0.0, 3.0], "outer_arcmin": [3.0, 6.0], "radius_arcmin": [2.0, 4.7]}
    >>> profiles = Table({"sample": ["p bin 1"] * 2, "mean": [3e-6, 1e-6], "error": [2e-7, 1e-7], **rings})
    >>> figure = plot_profiles(profiles, factor=1e6, unit="$10^{-6}$")
    >>> figure.axes[0].containers[0].lines[0].get_ydata().round(6).tolist()
    [3.0, 1.0]
    """
    samples = np.asarray(profiles["sample"]).astype(str)
    bins = sorted({name for name in samples if name.startswith("p bin")}, key=lambda name: int(name.split()[-1]))
    if not bins:
        raise ValueError(f"the profiles are of {', '.join(sorted(set(samples)))}, expected 'p bin 1' and so on")
    figure = Figure(figsize=(5.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    null = profiles[samples == "null"]
    if len(null):
        low, high = ((null["mean"] + sign * null["error"]) * factor for sign in (-1, 1))
        axes.fill_between(null["radius_arcmin"], low, high, color="0.8", linewidth=0, label="matched nulls")
    top = 0.0
    for k, name in enumerate(bins):
        rows = profiles[samples == name]
        shift = 0.12 * (k - (len(bins) - 1) / 2)
        colour = BIN_COLOURS[round(k * (len(BIN_COLOURS) - 1) / max(1, len(bins) - 1))]
        axes.errorbar(
            rows["radius_arcmin"] + shift, rows["mean"] * factor, yerr=rows["error"] * factor, color=colour,
            marker=_BIN_MARKERS[k % 5], markersize=4, capsize=2, elinewidth=0.8, linewidth=1.0,
            label=labels[k] if k < len(labels) else name,
        )  # fmt: skip
        top = max(top, float(rows["mean"][0]) * factor)
    if fwhm_arcmin > 0 and top > 0:
        rings = profiles[samples == bins[-1]]
        inner, outer = (np.asarray(rings[f"{edge}_arcmin"], float) for edge in ("inner", "outer"))
        width = fwhm_arcmin**2 / (4 * np.log(2))
        shape = (np.exp(-(inner**2) / width) - np.exp(-(outer**2) / width)) / (outer**2 - inner**2)
        axes.plot(
            rings["radius_arcmin"], top * shape / shape[0], color=BLACK, linestyle="--", linewidth=0.9,
            label=f"PSF with pixels, FWHM {fwhm_arcmin:.1f}′",
        )  # fmt: skip
    axes.axhline(0, color="0.5", linewidth=0.6)
    axes.set(xlabel="radius [arcmin]", ylabel=f"excess [{unit}]" if unit else "excess", xlim=(0, None))
    axes.legend(fontsize=8)
    return figure


@journal
def plot_flux_against_p(scaling: Table) -> Figure:
    """Mean aperture flux in the y map against p, the catalogues' beside, and the law fitted to the sources.

    Source: Bonjean (2020), Fig. 7.

    Parameters
    ----------
    scaling : Table
        A scaling.ecsv.

    Examples
    --------
    >>> bins = Table({"sample": ["p bin 1", "PSZ2"], "p_mean": [0.6, np.nan], "p_low": [0.4, np.nan]})
    >>> bins["p_high"], bins["flux"], bins["flux_error"] = [0.9, np.nan], [3e-4, 8e-4], [1e-4, 2e-4]
    >>> bins["flux_median"] = [2e-4, np.nan]
    >>> left, right = plot_flux_against_p(bins).axes
    >>> left.containers[0].lines[0].get_xydata().round(6).tolist()  # flux in units of 1e-4 arcmin^2
    [[0.6, 3.0]]
    """
    names = np.asarray(scaling["sample"]).astype(str)
    in_bins = np.char.startswith(names, "p bin")
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes, side = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.35))
    bins = scaling[in_bins]
    p = np.asarray(bins["p_mean"], float)
    across = [p - bins["p_low"], bins["p_high"] - p]
    axes.errorbar(
        p, bins["flux"] * 1e4, xerr=across, yerr=bins["flux_error"] * 1e4, color=BLACK, marker="o", markersize=5,
        linestyle="none", capsize=2, elinewidth=0.9, label="sources, mean",
    )  # fmt: skip
    axes.plot(p, bins["flux_median"] * 1e4, "o", color="white", markeredgecolor=BLACK, markersize=5, label="median")
    law = scaling.meta.get("law")
    if law:
        grid = np.linspace(law["p_low"], law["p_high"], 300)
        x = np.log(grid / (1 - grid)) - law["pivot_logit_p"]
        model = law["amplitude"] * np.exp(law["slope"] * x) * 1e4
        spread = model * np.hypot(law["amplitude_error"] / law["amplitude"], law["slope_error"] * x)
        text = f"$Y\\propto[p/(1-p)]^{{{law['slope']:.2f}\\pm{law['slope_error']:.2f}}}$"
        axes.fill_between(grid, model - spread, model + spread, color=SKY, alpha=0.4, linewidth=0)
        axes.plot(grid, model, color=BLUE, label=text)
    axes.set(xlabel="$p$", ylabel=r"$Y(<10^\prime)$ [$10^{-4}$ arcmin$^2$]", xlim=(0, 1))
    axes.legend(fontsize=8, loc="upper left")
    others = scaling[~in_bins]
    for k, row in enumerate(others):
        colour, marker, label = catalogue_look(str(row["sample"]))
        if row["sample"] == "NULL":
            colour, marker, label = "0.5", "x", "matched nulls"
        side.errorbar(
            k, row["flux"] * 1e4, yerr=row["flux_error"] * 1e4, color=colour, marker=marker, markersize=6, capsize=2,
        )  # fmt: skip
        others["sample"] = others["sample"].astype("U24")
        others["sample"][k] = label
    side.set_xticks(range(len(others)), list(others["sample"]), rotation=55, ha="right", fontsize=8)
    side.set_xlim(-0.6, len(others) - 0.4)
    for panel in (axes, side):
        panel.axhline(0, color="0.6", linewidth=0.6)
    side.minorticks_off()
    return figure


@journal
def plot_spectrum(spectrum: Table, instrument: Instrument) -> Figure:
    """Spectrum of a stack, the matched nulls taken off, with the components fitted to it.

    Parameters
    ----------
    spectrum : Table
        A spectrum.ecsv, see :func:`szeek.stack.products.measure_spectrum`.
    instrument : Instrument
        Of the bands: its factors bring all of them to mJy.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> planck = read_instrument()
    >>> spectrum = Table({"freq_ghz": [band.freq_ghz for band in planck.bands]})
    >>> spectrum["flux"] = planck.tsz_response * 1e-4  # a source of pure tSZ, of 1e-4 arcmin^2
    >>> spectrum["error"] = np.abs(spectrum["flux"]) / 10
    >>> flux_mjy = plot_spectrum(spectrum, planck).axes[0].containers[0].lines[0].get_ydata()
    >>> np.sign(flux_mjy).astype(int).tolist()  # a decrement below 217 GHz, an increment above
    [-1, -1, 1, 1, 1, 1]
    """
    to_mjy = instrument.mjysr_per_kcmb / instrument.unit_per_kcmb * _ARCMIN2_SR * 1e9
    figure = Figure(figsize=(6.6, 4.0), layout="constrained")
    axes = figure.add_subplot()
    x = np.asarray(spectrum["freq_ghz"], float)
    looks = {"tsz": (BLUE, "s", "tSZ"), "dust": (VERMILION, "D", "dust"), "radio": (GREEN, "^", "radio"),
             "cmb": (ORANGE, "v", "CMB")}  # fmt: skip
    total = np.zeros(len(x))
    for name, (colour, marker, label) in looks.items():
        if name in spectrum.colnames:
            part = np.asarray(spectrum[name], float) * to_mjy
            total += part
            axes.plot(
                x, part, color=colour, marker=marker, markersize=3.5, linewidth=0.9, linestyle="--", label=label
            )
    if "tsz" in spectrum.colnames:
        axes.plot(x, total, color=PURPLE, linewidth=1.3, label="sum")
    axes.errorbar(
        x, spectrum["flux"] * to_mjy, yerr=spectrum["error"] * to_mjy, color="0.45", marker="o", markersize=4,
        linestyle="none", capsize=2, elinewidth=0.8, label="stack − nulls",
    )  # fmt: skip
    largest = float(np.nanmax(np.abs(spectrum["flux"] * to_mjy))) or 1.0
    if "rest" in spectrum.colnames:
        axes.errorbar(
            x * 1.025, spectrum["rest"] * to_mjy, yerr=spectrum["rest_error"] * to_mjy, color=BLACK, marker="s",
            markersize=4.5, linestyle="none", capsize=3, label="less dust,\nradio and CMB", zorder=5,
        )  # fmt: skip
    if own_y := spectrum.meta.get("y_map"):
        scale = own_y["flux"] / spectrum.meta["fit"]["tsz"]["amplitude"]
        axes.plot(
            x, np.asarray(spectrum["tsz"], float) * to_mjy * scale, color=BLUE, linewidth=1.1, linestyle=":",
            label="tSZ of the\n$y$ map",
        )  # fmt: skip
    axes.axhline(0, color="0.6", linewidth=0.6)
    axes.set_yscale("symlog", linthresh=10 ** np.floor(np.log10(largest) - 1.5), linscale=0.8)
    axes.set(xlabel="frequency [GHz]", ylabel="flux density within 10′ [mJy]", xscale="log")
    axes.set_xlim(0.85 * x.min(), x.max() / 0.857)
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.xaxis.set_minor_locator(axes.xaxis.get_major_locator())
    figure.legend(fontsize=8, loc="outside right upper")
    return figure


@journal
def plot_regions(
    rows: Sequence[tuple[str, float, float]],
    columns: Mapping[str, Mapping[str, NDArray[np.floating]]],
    clusters: Table | None = None,
    *,
    y_column: str = "$y$ map",
    pixel_arcmin: float = PIXEL_ARCMIN,
) -> Figure:
    """Patches around superclusters: one row per region, one column per model, then the y map.

    Source: Bonjean (2020), Fig. 8.

    Parameters
    ----------
    rows : sequence of (name, lon_deg, lat_deg)
        Regions and their centres, Galactic.
    columns : mapping of title to mapping of region to (n, n) float
        p of each model and, under the title ``y_column``, Compton y.
    clusters : Table, optional
        ``lon_deg``, ``lat_deg``: known clusters, marked by crosses.

    Examples
    --------
    >>> rows = [("Shapley", 311.0, 31.0)]
    >>> columns = {"p": {"Shapley": np.full((40, 40), 0.5)}, "$y$ map": {"Shapley": np.full((40, 40), 3e-6)}}
    >>> figure = plot_regions(rows, columns)
    >>> [round(float(axes.images[0].get_array().max()), 6) for axes in figure.axes[:2]]  # y in units of 1e-6
    [0.5, 3.0]
    """
    if not rows or not columns:
        raise ValueError(f"{len(rows)} regions and {len(columns)} maps, expected at least one of each")
    figure, grid, bars = _picture_grid(len(rows), len(columns), 1.75, left=0.8)
    for j, (title, pictures) in enumerate(columns.items()):
        is_y = title == y_column
        images = []
        values = np.concatenate([np.asarray(pictures[name]).ravel() for name, *_ in rows])
        seen = values[np.isfinite(values)] * 1e6
        norm = Normalize(0, float(np.percentile(seen, 99.5)) if seen.size else 1.0) if is_y else scale_p()
        for i, (name, lon_deg, lat_deg) in enumerate(rows):
            axes, picture = grid[i][j], np.asarray(pictures[name], float)
            half = 0.5 * len(picture) * pixel_arcmin / 60
            images.append(
                axes.imshow(
                    picture * (1e6 if is_y else 1), extent=(-half, half, -half, half), norm=norm,
                    cmap="inferno" if is_y else P_COLOURS,
                )
            )  # fmt: skip
            if clusters is not None and len(clusters):
                _mark_clusters(axes, clusters, lon_deg, lat_deg, half)
            axes.set(xlim=(half, -half), ylim=(-half, half), aspect="equal", facecolor="0.85")
            axes.tick_params(labelsize=7)
            axes.minorticks_off()
            axes.set_xticks([-1, 0, 1], ["−1°", "0°", "1°"] if i == len(rows) - 1 else [])
            axes.set_yticks([-1, 0, 1], ["−1°", "0°", "1°"] if j == 0 else [])
            if i == 0:
                axes.set_title(title, fontsize=9)
            if j == 0:
                axes.set_ylabel(name, fontsize=8.5)
        bar = figure.colorbar(images[-1], cax=bars[j], orientation="horizontal")
        bar.set_label("$10^{-6}$" if is_y else "$p$", fontsize=8, labelpad=1)
        if not is_y:
            label_p(bar)
        _few_ticks(bar.ax)
    return figure


def _picture_grid(
    n_row: int, n_column: int, side: float, *, left: float = 0.32, top: float = 0.28, bottom: float = 0.72
) -> tuple[Figure, list[list[Axes]], list[Axes]]:
    """Square pictures close together (sizes in inches) and a colour bar below each column."""
    gap = 0.06
    width, height = left + n_column * (side + gap), top + n_row * (side + gap) + bottom
    figure = Figure(figsize=(width, height))
    grid = [
        [
            figure.add_axes(
                (
                    (left + j * (side + gap)) / width,
                    1 - (top + i * (side + gap) + side) / height,
                    side / width,
                    side / height,
                )
            )
            for j in range(n_column)
        ]
        for i in range(n_row)
    ]
    bars = [
        figure.add_axes(
            ((left + j * (side + gap) + 0.08 * side) / width, 0.4 / height, 0.84 * side / width, 0.07 / height)
        )
        for j in range(n_column)
    ]
    return figure, grid, bars


def _mark_clusters(axes: Axes, clusters: Table, lon_deg: float, lat_deg: float, half: float) -> None:
    vectors = unit_vectors(np.asarray(clusters["lon_deg"], float), np.asarray(clusters["lat_deg"], float))
    x, y, front = project(field_basis(lon_deg, lat_deg), vectors, 60.0)  # a pixel of 60 arcmin: offsets in degrees
    with np.errstate(invalid="ignore"):
        inside = front & (np.abs(x) < half) & (np.abs(y) < half)
    axes.plot(x[inside], y[inside], "+", color="#7FE0C0", markersize=5, markeredgewidth=0.8, linestyle="none")


def _draw_stack(axes: Axes, panel: Panel, norm: Normalize, pixel_arcmin: float) -> AxesImage:
    _, factor, _ = panel.look
    picture = np.asarray(panel.image, float) * factor
    half = 0.5 * len(picture) * pixel_arcmin / 60
    image = axes.imshow(picture, extent=(-half, half, -half, half), cmap=STACK_COLOURS, norm=norm)
    axes.set(aspect="equal", facecolor="0.85")
    if panel.fwhm_arcmin and np.isfinite(panel.fwhm_arcmin):
        at = -0.8 * half
        axes.add_patch(Circle((at, at), panel.fwhm_arcmin / 120, facecolor="0.25", edgecolor="white", linewidth=0.5))
    if panel.remark:
        axes.text(
            0.96, 0.95, panel.remark, transform=axes.transAxes, ha="right", va="top", fontsize=7.5,
            bbox={"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 1.2},
        )  # fmt: skip
    return image


def _symmetric(panels: Sequence[Panel]) -> Normalize:
    """Colour scale about zero that holds the brightest of the panels' centres (99.8 % of their pixels)."""
    tops = []
    for panel in panels:
        values = np.abs(np.asarray(panel.image, float)) * panel.look[1]
        values = values[np.isfinite(values)]
        tops.append(float(np.percentile(values, 99.8)) if values.size else 0.0)
    top = max(tops) or 1.0
    return Normalize(-top, top)


def _few_ticks(axes: Axes) -> None:
    low, high = axes.get_xlim()
    tick = float(f"{0.75 * high:.1g}")
    axes.set_xticks([-tick, 0, tick] if low < 0 else [0, tick])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
    axes.tick_params(labelsize=7, which="both", top=False, length=2)
    axes.minorticks_off()


def _label_outside(axes: Axes, index: int, n_column: int, n_panel: int) -> None:
    """Offsets along the grid's left and lower edges only."""
    axes.minorticks_off()
    axes.set_xticks([-1, 0, 1], ["−1°", "0°", "1°"] if index + n_column >= n_panel else [], fontsize=7)
    axes.set_yticks([-1, 0, 1], ["−1°", "0°", "1°"] if index % n_column == 0 else [], fontsize=7)
