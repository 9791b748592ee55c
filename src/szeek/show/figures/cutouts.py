"""Small fields side by side: what the six bands, p and y show at a position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from szeek.show.figures.style import P_COLOURS, journal, label_p, plain_text, scale_p
from szeek.sky.healpix import unit_vectors
from szeek.sky.mapset import MapSet
from szeek.sky.partial import PartialMap
from szeek.sky.projection import field_basis, field_directions, interpolate, project, sample_field
from szeek.sky.skymaps import SkyMaps

#: Brightness: blue below, red above the field's median.
BAND_COLOURS = "RdBu_r"
#: Compton y.
Y_COLOURS = "inferno"


@dataclass(frozen=True)
class Cutout:
    """One small picture of the sky around a position.

    Parameters
    ----------
    kind : str
        What it shows: a band's or further map's name, ``'p'`` or ``'y'``; panels of one kind share a colour scale.
    picture : (n, n) float64
        Rows grow to Galactic north, columns to the Galactic *east*; in ``unit``.
    unit : str
        Unit of the picture, as printed.
    fwhm_arcmin : float
        Beam to draw, 0 for none.
    """

    kind: str
    picture: NDArray[np.float64]
    unit: str
    fwhm_arcmin: float


def cut_out(
    lon_deg: float,
    lat_deg: float,
    *,
    maps: SkyMaps | MapSet | None = None,
    p_map: NDArray[np.float32] | PartialMap | None = None,
    y_map: NDArray[np.float32] | None = None,
    y_fwhm_arcmin: float = 0.0,
    width_arcmin: float = 60.0,
    pixel_arcmin: float = 1.0,
) -> list[Cutout]:
    """Cut a field out of every map that is given: the bands, further maps in units of their scatter, then p, then y.

    The median of the field is taken off each band, K_CMB becomes uK_CMB and MJy/sr becomes kJy/sr, y is in
    units of 1e-6.

    Parameters
    ----------
    lon_deg, lat_deg : float
        Centre, Galactic.
    p_map, y_map : (12 nside^2,) float32
        RING, NaN outside the footprint; p also as a PartialMap.
    y_fwhm_arcmin : float
        Beam of the y map, 0 where it is not known.

    Examples
    --------
    >>> cuts = cut_out(10.0, 40.0, p_map=np.full(12 * 64**2, 0.2, np.float32))
    >>> cuts[0].kind, cuts[0].picture.shape
    ('p', (60, 60))
    """
    n = max(3, round(width_arcmin / pixel_arcmin))
    cuts = []
    if maps is not None:
        planes = np.asarray(sample_field(maps, lon_deg, lat_deg, 0.0, n, n, pixel_arcmin), float)
        for index, band in enumerate(maps.bands):
            factor, unit = (1e6, "µK$_\\mathrm{CMB}$") if band.unit == "K_CMB" else (1e3, "kJy sr$^{-1}$")
            plane = factor * planes[..., index]
            seen = np.isfinite(plane)
            cuts.append(
                Cutout(band.name, plane - (np.median(plane[seen]) if seen.any() else 0), unit, band.fwhm_arcmin)
            )
    directions = field_directions(lon_deg, lat_deg, 0.0, n, n, pixel_arcmin)
    for one in () if maps is None else maps.further:
        picture = np.asarray(one.values.interpolate(directions)[..., 0], float)
        cuts.append(Cutout(one.name, picture, "S/N" if one.kind == "photons" else "$\\sigma$", 0.0))
    for kind, single, factor, unit, fwhm_arcmin in (
        ("p", p_map, 1.0, "$p$", 0.0),
        ("y", y_map, 1e6, "$10^{-6}$", y_fwhm_arcmin),
    ):
        if single is not None:
            picture = picture_of(single, directions)
            cuts.append(Cutout(kind, factor * picture, unit, fwhm_arcmin))
    return cuts


def picture_of(single: NDArray[np.float32] | PartialMap, directions: NDArray[np.float64]) -> NDArray[np.float64]:
    """One map at the directions of a picture's pixels."""
    if isinstance(single, PartialMap):
        return np.asarray(single.interpolate(directions), float)
    return np.asarray(interpolate(single[:, None], directions)[..., 0], float)


def colour_limits(cuts: Sequence[Cutout]) -> Normalize:
    """The colour scale that pictures of one kind share: symmetric for bands, that of p, from 0 for y."""
    kind = cuts[0].kind
    if kind == "p":
        return scale_p()
    # the typical picture sets the scale: one field in the Galactic plane must not bleach all others
    seen = [cut.picture[np.isfinite(cut.picture)] for cut in cuts]
    reach = [float(np.percentile(np.abs(values), 99.5)) for values in seen if values.size]
    top = float(np.median(reach)) * (1.0 if len(reach) == 1 else 1.3) if reach else 1.0
    return Normalize(0.0 if kind == "y" else -top, top or 1.0)


def draw_cutout(axes: Axes, cut: Cutout, width_arcmin: float, norm: Normalize, mark_arcmin: float) -> AxesImage:
    """Draw a cut-out with its beam in the corner and a circle of ``mark_arcmin`` around its centre."""
    half = width_arcmin / 2
    colours = P_COLOURS if cut.kind == "p" else Y_COLOURS if cut.kind == "y" else BAND_COLOURS
    image = axes.imshow(cut.picture, extent=(-half, half, -half, half), cmap=colours, norm=norm)
    axes.set(xlim=(half, -half), ylim=(-half, half), aspect="equal", facecolor="0.85")
    light = cut.kind in ("p", "y")
    axes.add_patch(Circle((0, 0), mark_arcmin, fill=False, edgecolor="white" if light else "black", linewidth=0.8))
    if cut.fwhm_arcmin:
        corner = 0.8 * half
        axes.add_patch(
            Circle((corner, -corner), cut.fwhm_arcmin / 2, facecolor="0.2", edgecolor="white", linewidth=0.5)
        )
    axes.minorticks_off()
    axes.set(xticks=[], yticks=[])
    return image


@journal
def plot_gallery(
    rows: Sequence[tuple[str, Sequence[Cutout]]], *, width_arcmin: float = 60.0, mark_arcmin: float = 5.0
) -> Figure:
    """One row of cut-outs per position, one column per map, one colour scale per column.

    Parameters
    ----------
    rows : sequence of (label, cut-outs)
        The same kinds of cut-out in the same order in each row.
    width_arcmin : float
        Of the cut-outs.
    mark_arcmin : float
        Radius of the circle about the position.

    Raises
    ------
    ValueError
        If there is no row, or the rows show different things.

    Examples
    --------
    >>> cuts = cut_out(10.0, 40.0, p_map=np.full(12 * 64**2, 0.2, np.float32))
    >>> figure = plot_gallery([("SZeek G010.00+40.00", cuts)])
    >>> len(figure.axes) > 0
    True
    """
    if not rows:
        raise ValueError("no position to show; expected at least one row")
    kinds = [cut.kind for cut in rows[0][1]]
    for label, cuts in rows:
        if [cut.kind for cut in cuts] != kinds:
            raise ValueError(f"row '{label}' shows {[c.kind for c in cuts]}, expected {kinds} as in the first row")
    n_row, n_column = len(rows), len(kinds)
    side, left, top, bottom, gap = 1.25, 1.35, 0.3, 0.55, 0.05
    width, height = left + n_column * (side + gap), top + n_row * (side + gap) + bottom
    figure = Figure(figsize=(width, height))
    for j, kind in enumerate(kinds):
        norm = colour_limits([cuts[j] for _, cuts in rows])
        for i, (label, cuts) in enumerate(rows):
            axes = figure.add_axes(
                (
                    (left + j * (side + gap)) / width,
                    1 - (top + (i + 1) * (side + gap)) / height,
                    side / width,
                    side / height,
                )
            )
            image = draw_cutout(axes, cuts[j], width_arcmin, norm, mark_arcmin)
            if i == 0:
                symbol = f"${kind}$" if kind in ("p", "y") else kind
                axes.set_title(f"{kind} GHz" if kind.isdigit() else symbol, fontsize=10)
            if j == 0:
                axes.text(-0.06, 0.5, label, transform=axes.transAxes, ha="right", va="center", fontsize=8)
        bar_axes = figure.add_axes(
            ((left + j * (side + gap) + 0.1) / width, (bottom - 0.12) / height, (side - 0.2) / width, 0.08 / height)
        )
        bar = figure.colorbar(image, cax=bar_axes, orientation="horizontal")
        if kind == "p":
            label_p(bar)
        else:
            tick = float(f"{0.75 * float(norm.vmax or 1.0):.1g}")
            bar.set_ticks([0, tick] if kind == "y" else [-tick, 0, tick])
            bar.ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))
        bar.ax.tick_params(labelsize=7, which="both", top=False, length=2)
        bar.ax.minorticks_off()
        bar.set_label(rows[0][1][j].unit, fontsize=8, labelpad=1)
    return figure


def _write_names(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], names: NDArray[np.str_]) -> None:
    """Names beside their positions: to the right; to the left near the right edge, or where the last is as high.

    A name that would cover the last one on its side moves down.
    """
    side, last = 1, np.inf
    half = abs(axes.get_ylim()[1])
    lowest = {1: np.inf, -1: np.inf}
    for at_x, at_y, name in sorted(zip(x, y, names, strict=True), key=lambda entry: -entry[1]):
        side, last = (-side if last - at_y < 0.03 * half else 1), at_y
        if abs(at_x) > 0.6 * half:  # the axis grows to the left
            side = 1 if at_x > 0 else -1
        crowded = 0 <= lowest[side] - at_y < 0.055 * half
        lowest[side] = lowest[side] - 0.055 * half if crowded else at_y
        text = axes.annotate(
            plain_text(str(name).removeprefix("PSZ2 ")), (at_x, lowest[side]), xytext=(8 * side, 0),
            textcoords="offset points", color="white", fontsize=7, va="center", ha="left" if side > 0 else "right",
        )  # fmt: skip
        text.set_path_effects([withStroke(linewidth=1.8, foreground="0.15")])  # legible outside the footprint too


@journal
def plot_field(
    p_map: NDArray[np.float32],
    y_picture: NDArray[np.float64] | None,
    sources: Table,
    clusters: Table,
    *,
    lon_deg: float,
    lat_deg: float,
    width_deg: float,
    p_max: float = 0.1,
    y_title: str = "$y$ map",
    cluster_title: str = "known clusters",
) -> Figure:
    """A field in p, with the sources found and the clusters known, beside a Compton-y map of the same sky.

    Source: Bonjean (2020), Fig. 8.

    Parameters
    ----------
    p_map : (12 nside^2,) float32
        RING, NaN outside the footprint.
    y_picture : (n, n) float64, optional
        Compton y on the field's own tangent plane, as :func:`szeek.sky.projection.field_directions` lays it
        out; NaN where there is none.
    sources, clusters : Table
        ``lon_deg``, ``lat_deg``; sources also ``p``, clusters also ``name``.

    Examples
    --------
    >>> from astropy.table import Table
    >>> p_map = np.full(12 * 64**2, 0.2, np.float32)
    >>> one = Table({"lon_deg": [10.0], "lat_deg": [40.0], "p": [0.5], "name": ["Coma"]})
    >>> figure = plot_field(p_map, None, one, one, lon_deg=10.0, lat_deg=40.0, width_deg=5.0)
    >>> figure.axes[0].get_title()
    '$p$ of this run'
    """
    n = 420
    pixel_arcmin = 60 * width_deg / n
    cuts = cut_out(lon_deg, lat_deg, p_map=p_map, width_arcmin=60 * width_deg, pixel_arcmin=pixel_arcmin)
    if y_picture is not None:
        cuts.append(Cutout("y", 1e6 * y_picture, "$10^{-6}$", 0.0))
    figure = Figure(figsize=(5.0 * len(cuts), 4.4), layout="constrained")
    half = width_deg / 2
    basis = field_basis(lon_deg, lat_deg)
    for index, cut in enumerate(cuts):
        axes = figure.add_subplot(1, len(cuts), index + 1)
        axes.set_facecolor("0.85")
        image = axes.imshow(
            cut.picture, extent=(-half, half, -half, half), norm=colour_limits([cut]),
            cmap=P_COLOURS if cut.kind == "p" else Y_COLOURS,
        )  # fmt: skip
        kept = sources[np.asarray(sources["p"]) >= p_max]
        layers: tuple[tuple[Table, dict[str, Any]], ...] = (
            (kept, {"marker": "o", "markersize": 12, "color": "white", "label": f"sources, p > {p_max:g}"}),
            (clusters, {"marker": "s", "markersize": 9, "color": "#7FE0C0", "label": cluster_title}),
        )
        for table, style in layers:
            if len(table):
                vectors = unit_vectors(np.asarray(table["lon_deg"]), np.asarray(table["lat_deg"]))
                x, y, front = project(basis, vectors, 60.0)  # a pixel of 60 arcmin: offsets in degrees
                inside = front & (np.abs(x) < half) & (np.abs(y) < half)
                axes.plot(
                    x[inside], y[inside], linestyle="none", markerfacecolor="none", markeredgewidth=0.9, **style
                )
                if table is clusters and index == 0 and "name" in table.colnames:
                    _write_names(axes, x[inside], y[inside], np.asarray(table["name"])[inside])
        axes.set(xlim=(half, -half), ylim=(-half, half), aspect="equal", xlabel="offset to Galactic east [deg]")
        if index == 0:
            axes.set_ylabel("offset to Galactic north [deg]")
            legend = axes.legend(loc="upper right", fontsize=8, frameon=True, facecolor="0.25", framealpha=0.75)
            for text in legend.get_texts():
                text.set_color("white")
        axes.set_title("$p$ of this run" if cut.kind == "p" else y_title)
        bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
        if cut.kind == "p":
            label_p(bar)
        bar.set_label("$p$" if cut.kind == "p" else "Compton $y$ [$10^{-6}$]")
    return figure


@journal
def plot_truth(
    cuts: Sequence[Cutout], sources: Table, haloes: Table, *, lon_deg: float, lat_deg: float, width_deg: float
) -> Figure:
    """Pictures of a simulated field, side by side; candidates and true haloes are marked on the last one.

    Parameters
    ----------
    cuts : sequence of Cutout
        As :func:`cut_out` makes them, all of this centre and width.
    sources, haloes : Table
        ``lon_deg``, ``lat_deg``; haloes also ``y500_arcmin2``.

    Examples
    --------
    >>> from astropy.table import Table
    >>> cuts = cut_out(10.0, 40.0, p_map=np.full(12 * 64**2, 0.2, np.float32), width_arcmin=300.0, pixel_arcmin=5.0)
    >>> one = Table({"lon_deg": [10.0], "lat_deg": [40.0], "y500_arcmin2": [1e-3]})
    >>> figure = plot_truth(cuts, one, one, lon_deg=10.0, lat_deg=40.0, width_deg=5.0)
    >>> figure.axes[0].get_title()
    '$p$'
    """
    figure = Figure(figsize=(5.6 * len(cuts), 5.0), layout="constrained")
    half = width_deg / 2
    for index, cut in enumerate(cuts):
        axes = figure.add_subplot(1, len(cuts), index + 1)
        image = draw_cutout(axes, replace(cut, fwhm_arcmin=0.0), width_deg, colour_limits([cut]), 0.0)
        axes.set_xlabel(f"{width_deg:.0f} deg wide")
        axes.set_title("$p$" if cut.kind == "p" else f"{cut.kind} GHz")
        bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.02)
        bar.set_label(cut.unit)
        if cut.kind == "p":
            label_p(bar)
    for table, style in (
        (sources, {"marker": "o", "s": 90.0, "edgecolors": "white", "label": "candidates"}),
        (haloes, {"marker": "s", "edgecolors": "#7FE0C0", "label": "true haloes"}),
    ):
        if len(table):
            vectors = unit_vectors(np.asarray(table["lon_deg"], float), np.asarray(table["lat_deg"], float))
            x, y, front = project(field_basis(lon_deg, lat_deg), vectors, 60.0)  # offsets in degrees
            inside = front & (np.abs(x) < half) & (np.abs(y) < half)
            area = 40.0 * np.asarray(haloes["y500_arcmin2"], float)[inside] / 1e-3 if table is haloes else None
            axes.scatter(x[inside], y[inside], facecolors="none", linewidths=0.9, **({"s": area} | style))
    legend = axes.legend(loc="upper right", fontsize=8, frameon=True, facecolor="0.25", framealpha=0.75)
    for text in legend.get_texts():
        text.set_color("white")
    return figure
