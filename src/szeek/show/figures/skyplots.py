r"""Pictures of the sky: the whole of it (Mollweide) and one tile (equal-area).

Longitude grows to the left in both, as on the sky seen from inside.

The Mollweide plane has x = (2 sqrt 2 / pi) lambda cos t and y = sqrt 2 sin t with 2 t + sin 2 t = pi sin(lat)
(Snyder 1987, USGS PP 1395, p. 251); the tile's plane is Lambert's, r = 2 sin(c / 2) at a distance c from its
centre (p. 185). Both keep areas, so a density of sources is seen as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import healpy
import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from numpy.typing import ArrayLike, NDArray

from szeek.show.figures.style import P_COLOURS, VERMILION, catalogue_look, journal, label_p, plain_text, scale_p
from szeek.sky.healpix import unit_vectors
from szeek.sky.projection import field_basis
from szeek.sky.tiles import TEST_TILE, TILE_NSIDE

Array = NDArray[np.float64]
#: Pixels across the picture of the whole sky, and down that of a tile: coarse enough to be seen one by one in print
#: and on a screen.
SKY_WIDTH, TILE_HEIGHT = 600, 500


def mollweide_forward(lon_deg: ArrayLike, lat_deg: ArrayLike) -> tuple[Array, Array]:
    """Positions -> (x, y) in the ellipse of half-axes 2 and 1, longitude growing to the left.

    Examples
    --------
    >>> x, y = mollweide_forward([90.0, 180.0, 10.0], [0.0, 0.0, 90.0])
    >>> x.round(4).tolist()[:2], y.round(4).tolist()[2]
    ([-1.0, -2.0], 1.0)
    """
    lon = (np.asarray(lon_deg, float) + 180.0) % 360.0 - 180.0
    lon = np.where((lon == -180.0) & (np.asarray(lon_deg) > 0), 180.0, lon)
    target = np.pi * np.sin(np.radians(np.asarray(lat_deg, float)))
    # 2t + sin 2t = target, by bisection in 2t: monotonic, safe at the poles, 50 steps reach double precision
    low, high = np.full(target.shape, -np.pi), np.full(target.shape, np.pi)
    for _ in range(52):
        middle = 0.5 * (low + high)
        below = middle + np.sin(middle) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    t = 0.25 * (low + high)
    return -2.0 * lon / 180.0 * np.cos(t), np.sin(t)


def mollweide_inverse(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """(x, y) of :func:`mollweide_forward` -> longitude and latitude in degrees, NaN outside the ellipse.

    Examples
    --------
    >>> lon, lat = mollweide_inverse(*mollweide_forward([100.0], [-35.0]))
    >>> lon.round(6).tolist(), lat.round(6).tolist()
    ([100.0], [-35.0])
    """
    x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
    inside = (x / 2) ** 2 + y**2 <= 1.0
    t = np.arcsin(np.where(inside, y, 0.0))
    lat = np.degrees(np.arcsin(np.clip((2 * t + np.sin(2 * t)) / np.pi, -1, 1)))
    lon = -90.0 * np.where(inside, x, 0.0) / np.maximum(np.cos(t), 1e-12)
    return np.where(inside, lon % 360.0, np.nan), np.where(inside, lat, np.nan)


def pool_maximum(map_nested: NDArray[np.float32], nside: int) -> NDArray[np.float32]:
    """Largest value of a NESTED map within each pixel of a coarser one; NaN where all of it is NaN.

    A detected area covers some ten pixels of 12 x 2048^2: it vanishes in an average over a pixel of the screen, not
    in a maximum.

    Examples
    --------
    >>> pool_maximum(np.arange(48, dtype=np.float32), 1).tolist()[:3]
    [3.0, 7.0, 11.0]
    """
    if map_nested.size <= 12 * nside**2:
        return map_nested
    rows = map_nested.reshape(12 * nside**2, -1)
    pooled = np.where(np.isnan(rows), -np.inf, rows).max(axis=1)
    return np.where(np.isinf(pooled), np.nan, pooled).astype(np.float32)


def _tile_outline(tile: int) -> tuple[Array, Array]:
    corners = healpy.boundaries(TILE_NSIDE, tile, step=48)
    lon, lat = healpy.vec2ang(corners.T, lonlat=True)
    return np.append(lon, lon[0]), np.append(lat, lat[0])


def largest_in_pixels(
    map_nested: NDArray[np.float32],
    lon_deg: Array,
    lat_deg: Array,
    locate: Callable[[Array, Array], tuple[Array, Array]],
    *,
    pixel_arcmin: float,
    radius_deg: float = 180.0,
) -> NDArray[np.float32]:
    """The largest value of a NESTED map in each pixel of a picture of any resolution.

    No map pixel is skipped: the map, pooled to cells no larger than the picture's pixels, fills every pixel with the
    cell at its centre, and then each cell raises the pixel that holds the cell's own centre.

    Parameters
    ----------
    map_nested : (12 nside^2,) float32
        NaN where unobserved.
    lon_deg, lat_deg : (n_y, n_x) float64
        Centres of the picture's pixels; NaN outside the sky.
    locate : callable
        Longitudes and latitudes -> column and row in the picture, 0 to n at its edges.
    pixel_arcmin : float
        Side of a pixel.
    radius_deg : float
        Every pixel lies within this distance of the picture's centre.

    Returns
    -------
    (n_y, n_x) float32
        NaN where unobserved.
    """
    map_nside = healpy.npix2nside(map_nested.size)
    nside = min(map_nside, 2 ** max(0, int(np.ceil(np.log2(healpy.nside2resol(1, arcmin=True) / pixel_arcmin)))))
    pooled = pool_maximum(map_nested, nside)
    on_sky = np.isfinite(lon_deg)
    n_y, n_x = lon_deg.shape
    picture = np.full((n_y, n_x), np.nan, np.float32)
    picture[on_sky] = pooled[healpy.ang2pix(nside, lon_deg[on_sky], lat_deg[on_sky], nest=True, lonlat=True)]
    if radius_deg < 180.0:
        middle = n_y // 2, n_x // 2
        centre = healpy.ang2vec(lon_deg[middle], lat_deg[middle], lonlat=True)
        cells = healpy.query_disc(nside, centre, np.radians(radius_deg), nest=True)
    else:
        cells = np.arange(pooled.size)
    column, row = locate(*healpy.pix2ang(nside, cells, nest=True, lonlat=True))
    inside = (column >= 0) & (column < n_x) & (row >= 0) & (row < n_y)
    place = row[inside].astype(int), column[inside].astype(int)
    np.fmax.at(picture, place, pooled[cells[inside]])
    return picture


def mollweide_picture(map_nested: NDArray[np.float32], width: int, *, largest: bool = False) -> NDArray[np.float32]:
    """A NESTED map in Mollweide projection, (width / 2, width) float32, first row at the bottom, NaN outside.

    Parameters
    ----------
    largest : bool
        Show the largest value in each pixel of the picture, rather than the value at its centre.

    Examples
    --------
    >>> mollweide_picture(np.ones(12 * 16**2, np.float32), 200).shape
    (100, 200)
    """
    n_y, n_x = width // 2, width
    x, y = np.meshgrid(*(half * (2 * np.arange(n) + 1 - n) / n for half, n in ((2, n_x), (1, n_y))))
    lon, lat = mollweide_inverse(x, y)
    if not largest:
        picture = np.full(x.shape, np.nan, np.float32)
        seen = np.isfinite(lon)
        nside = healpy.npix2nside(map_nested.size)
        picture[seen] = map_nested[healpy.ang2pix(nside, lon[seen], lat[seen], nest=True, lonlat=True)]
        return picture

    def locate(lon_deg: Array, lat_deg: Array) -> tuple[Array, Array]:
        x, y = mollweide_forward(lon_deg, lat_deg)
        return (x + 2) / 4 * n_x, (y + 1) / 2 * n_y

    return largest_in_pixels(map_nested, lon, lat, locate, pixel_arcmin=mollweide_pixel_arcmin(width))


def mollweide_pixel_arcmin(width: int) -> float:
    """Side of a pixel in a Mollweide picture: the ellipse of area 2 pi is the sky of 4 pi sr.

    Examples
    --------
    >>> round(mollweide_pixel_arcmin(720))
    27
    """
    return float(np.degrees(np.sqrt(2.0) * 4 / width) * 60)


@journal
def plot_sky(p_nested: NDArray[np.float32], *, tile: int | None = TEST_TILE, title: str = "") -> Figure:
    """The p map of the whole sky, Mollweide, Galactic: the largest p in each pixel of the picture.

    Parameters
    ----------
    p_nested : (12 nside^2,) float32
        p, NESTED, NaN outside the footprint.
    tile : int, optional
        Sky tile to outline.

    Examples
    --------
    >>> figure = plot_sky(np.full(12 * 16**2, 0.2, np.float32))
    >>> len(figure.axes)
    2
    """
    figure = Figure(figsize=(9.0, 5.0))
    axes = figure.add_axes((0.02, 0.1, 0.96, 0.87))
    picture = mollweide_picture(p_nested, SKY_WIDTH, largest=True)
    frame = Ellipse((0, 0), 4, 2, facecolor="0.85", edgecolor="black", linewidth=0.8)
    axes.add_patch(frame)
    image = axes.imshow(picture, extent=(-2, 2, -1, 1), cmap=P_COLOURS, norm=scale_p(), zorder=2)
    image.set_clip_path(Ellipse((0, 0), 4, 2, transform=axes.transData))
    graticule: dict[str, Any] = {"color": "white", "linewidth": 0.4, "alpha": 0.6, "zorder": 3}
    along = np.linspace(-90, 90, 181)
    for meridian in range(-120, 180, 60):
        axes.plot(*mollweide_forward(np.full(181, meridian), along), **graticule)
        at = mollweide_forward([meridian], [0.0])
        axes.text(at[0][0] - 0.01, at[1][0] + 0.01, f"{meridian % 360}°", color="white", fontsize=8, zorder=4)
    for parallel in (-60, -30, 0, 30, 60):
        axes.plot(*mollweide_forward(np.linspace(-180, 180, 181), np.full(181, parallel)), **graticule)
        if parallel:
            (edge,), (height,) = mollweide_forward([-180.0], [float(parallel)])
            axes.text(edge + 0.04, height, f"{parallel:+d}°".replace("-", "−"), fontsize=8, va="center", ha="left")
    if tile is not None:
        lon_edge, lat_edge = _tile_outline(tile)
        axes.plot(*mollweide_forward(lon_edge, lat_edge), color=VERMILION, linewidth=1.5, zorder=5)
    axes.set(xlim=(-2.02, 2.2), ylim=(-1.02, 1.02), aspect="equal", title=title)
    axes.axis("off")
    bar = figure.colorbar(image, ax=axes, orientation="horizontal", fraction=0.04, pad=0.02, shrink=0.5)
    label_p(bar)
    pixel_deg = mollweide_pixel_arcmin(SKY_WIDTH) / 60
    bar.set_label(f"largest $p$ within {pixel_deg:.2f}° (Galactic coordinates, $l$ = 0° in the centre)")
    return figure


#: Resolution at which the extent of a survey is looked for: 55 arcmin.
_OUTLINE_NSIDE = 64


def _survey_outline(p_nested: NDArray[np.float32]) -> tuple[Any, ...]:
    """Middle of what was seen, and positions all over it: longitude and latitude of each, in degrees."""
    nside = min(_OUTLINE_NSIDE, healpy.npix2nside(p_nested.size))
    cells = np.flatnonzero(np.isfinite(p_nested.reshape(12 * nside**2, -1)).any(axis=1))
    vectors = np.stack(healpy.pix2vec(nside, cells, nest=True), axis=1)
    (lon0,), (lat0,) = healpy.vec2ang(vectors.mean(axis=0), lonlat=True)
    return float(lon0), float(lat0), *healpy.vec2ang(vectors, lonlat=True)


@journal
def plot_tile(
    p_nested: NDArray[np.float32],
    sources: Table,
    clusters: Table,
    recovered: NDArray[np.bool_],
    *,
    tile: int | None = TEST_TILE,
    p_max: float = 0.1,
) -> Figure:
    """One sky tile in equal-area projection: largest p per pixel, sources above a threshold, known clusters.

    Without a tile all that was seen, which should be a part of the sky.

    Parameters
    ----------
    p_nested : (12 nside^2,) float32
        p, NESTED, NaN outside the footprint.
    sources : Table
        With ``lon_deg``, ``lat_deg``, ``p``.
    clusters : Table
        With ``lon_deg``, ``lat_deg`` and, optionally, ``selection`` (catalogue of each).
    recovered : (n_cluster,) bool
        Which of the clusters have a source.

    Examples
    --------
    >>> from astropy.table import Table
    >>> none = Table({"lon_deg": np.empty(0), "lat_deg": np.empty(0), "p": np.empty(0)})
    >>> figure = plot_tile(np.full(12 * 64**2, 0.2, np.float32), none, none, np.empty(0, bool))
    >>> len(figure.axes)
    2
    """
    if tile is None:
        lon0, lat0, *outline = _survey_outline(p_nested)
    else:
        (lon0, lat0), outline = healpy.pix2ang(TILE_NSIDE, tile, lonlat=True), list(_tile_outline(tile))
    basis = field_basis(float(lon0), float(lat0))
    edge_x, edge_y = _lambert(basis, *outline)
    wide, high = 1.06 * np.abs(edge_x).max(), 1.03 * np.abs(edge_y).max()
    n_y = TILE_HEIGHT
    n_x = round(n_y * wide / high)
    x, y = np.meshgrid(*(half * (2 * np.arange(n) + 1 - n) / n for half, n in ((wide, n_x), (high, n_y))))

    def locate(lon_deg: Array, lat_deg: Array) -> tuple[Array, Array]:
        x_deg, y_deg = _lambert(basis, lon_deg, lat_deg)
        return (x_deg / wide + 1) / 2 * n_x, (y_deg / high + 1) / 2 * n_y

    picture = largest_in_pixels(
        p_nested, *_lambert_inverse(basis, x, y), locate, pixel_arcmin=120 * high / n_y,
        radius_deg=1.1 * float(np.hypot(wide, high)),
    )  # fmt: skip

    # beside the legend the axes are 4.4 inches wide; above and below them labels and colour scale take 1.5
    figure = Figure(figsize=(7.4, min(7.6, 1.5 + 4.4 * high / wide)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_facecolor("0.85")
    image = axes.imshow(picture, extent=(-wide, wide, -high, high), cmap=P_COLOURS, norm=scale_p())
    if tile is not None:
        axes.plot(edge_x, edge_y, color=VERMILION, linewidth=1.2)
    kept = sources[np.asarray(sources["p"]) >= p_max]
    axes.plot(
        *_lambert(basis, kept["lon_deg"], kept["lat_deg"]), linestyle="none", marker="o", markersize=8,
        markerfacecolor="none", markeredgecolor="white", markeredgewidth=0.7, label=f"sources, p > {p_max:g}",
    )  # fmt: skip
    selections = (
        np.asarray(clusters["selection"]) if "selection" in clusters.colnames else np.full(len(clusters), "all")
    )
    for selection in filter(None, dict.fromkeys(selections.tolist())):
        _, marker, name = catalogue_look(selection)
        for found, colour, word in ((True, "#7FE0C0", "recovered"), (False, "#FFB000", "missed")):
            chosen = clusters[(selections == selection) & (recovered == found)]
            if len(chosen):
                axes.plot(
                    *_lambert(basis, chosen["lon_deg"], chosen["lat_deg"]), linestyle="none", marker=marker,
                    markersize=5, markerfacecolor=colour if found else "none", markeredgecolor=colour,
                    markeredgewidth=1.1, label=plain_text(f"{name}, {word} ({len(chosen)})"),
                )  # fmt: skip
    axes.set(
        xlim=(wide, -wide), ylim=(-high, high), aspect="equal",
        xlabel=f"offset from $l$ = {float(lon0):.1f}° [deg, $l$ grows to the left]",
        ylabel=f"offset from $b$ = {float(lat0):+.2f}° [deg]",
    )  # fmt: skip
    bar = label_p(figure.colorbar(image, ax=axes, location="bottom", fraction=0.03, pad=0.02))
    bar.set_label(f"largest $p$ within {120 * high / n_y:.0f}′")
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), facecolor="0.25", frameon=True)
    for text in legend.get_texts():
        text.set_color("white")
    return figure


def _lambert(basis: Array, lon_deg: ArrayLike, lat_deg: ArrayLike) -> tuple[Array, Array]:
    """Lambert's equal-area plane about a field's centre: offsets to the east and north, in degrees."""
    vectors = unit_vectors(np.asarray(lon_deg, float), np.asarray(lat_deg, float))
    depth, x, y = np.moveaxis(vectors @ basis.T, -1, 0)
    scale = np.sqrt(2.0 / np.maximum(1.0 + depth, 1e-12))
    return np.degrees(scale * x), np.degrees(scale * y)


def _lambert_inverse(basis: Array, x_deg: Array, y_deg: Array) -> tuple[Array, Array]:
    """Offsets of :func:`_lambert` -> longitude and latitude in degrees."""
    x, y = np.radians(x_deg), np.radians(y_deg)
    r2 = x**2 + y**2
    sine = np.sqrt(np.clip(1 - r2 / 4, 0, None))  # sin c = r cos(c/2)
    vectors = (1 - r2 / 2)[..., None] * basis[0] + sine[..., None] * (
        x[..., None] * basis[1] + y[..., None] * basis[2]
    )
    lon, lat = healpy.vec2ang(vectors.reshape(-1, 3), lonlat=True)
    return lon.reshape(x.shape), lat.reshape(x.shape)
