"""Figures: projections against independent ones, pictures against known sources, and what is refused."""

from __future__ import annotations

from pathlib import Path

import healpy
import matplotlib
import numpy as np
import pytest
from astropy.table import Table
from matplotlib.figure import Figure
from PIL import Image
from runmaker import make_clusters, make_recovery

from szeek.inputs.instrument import read_instrument
from szeek.show.figures import curves as figures
from szeek.show.figures import cutouts, skyplots
from szeek.show.figures.style import (
    P_COLOURS,
    P_TICKS,
    catalogue_look,
    journal,
    plain_text,
    save_figure,
    scale_p,
)
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import TEST_TILE

NSIDE = 64


def test_mollweide_agrees_with_healpy() -> None:
    # healpy's projector is an independent implementation: x in -2..2, y in -1..1, longitude growing to the left;
    # it interpolates in a table, which costs it 2e-3 next to the poles
    projector = healpy.projector.MollweideProj()
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(-179, 179, 500), rng.uniform(-70, 70, 500)
    x, y = projector.ang2xy(lon, lat, lonlat=True)
    own_x, own_y = skyplots.mollweide_forward(lon, lat)
    np.testing.assert_allclose(own_x, x, atol=2e-4)
    np.testing.assert_allclose(own_y, y, atol=2e-4)


def test_mollweide_keeps_areas_and_inverts() -> None:
    # uniform points on the sphere are uniform in the ellipse: half of them within |y| of the half-area latitude
    rng = np.random.default_rng(1)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 20000)))
    lon = rng.uniform(0, 360, 20000)
    x, y = skyplots.mollweide_forward(lon, lat)
    counts, _, _ = np.histogram2d(x, y, bins=[np.linspace(-1, 1, 5), np.linspace(-0.5, 0.5, 5)])
    expected = 20000 / (2 * np.pi) * 0.5 * 0.25  # cell area over the ellipse's 2 pi
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    back_lon, back_lat = skyplots.mollweide_inverse(x, y)
    np.testing.assert_allclose(np.cos(np.radians(back_lon - lon)), 1, atol=1e-9)
    np.testing.assert_allclose(back_lat, lat, atol=1e-6)
    assert np.isnan(skyplots.mollweide_inverse(1.9, 0.9)[0])


def test_lambert_keeps_distance_law() -> None:
    # Snyder (1987), p. 185: a point at distance c lies at r = 2 sin(c / 2)
    basis = skyplots.field_basis(112.5, 41.81)
    x, y = skyplots._lambert(basis, [112.5, 112.5], [41.81 + 30, 41.81 - 10])
    np.testing.assert_allclose(x, 0, atol=1e-9)
    np.testing.assert_allclose(y, np.degrees([2 * np.sin(np.radians(15)), -2 * np.sin(np.radians(5))]), rtol=1e-12)


def test_pool_maximum_keeps_one_bright_pixel() -> None:
    p = np.full(12 * NSIDE**2, np.nan, np.float32)
    p[: 12 * NSIDE**2 // 2] = 0.01
    p[777] = 0.9
    pooled = skyplots.pool_maximum(p, 16)
    assert pooled.shape == (12 * 16**2,)
    assert pooled[777 // 16] == np.float32(0.9)
    assert np.isnan(pooled[-1])


@pytest.mark.parametrize("width", [40, 101, 390, 700])
@pytest.mark.parametrize(("lon", "lat"), [(60.0, 30.0), (165.0, -4.0), (250.0, 85.0), (3.0, -89.0)])
def test_one_high_pixel_is_seen_at_every_display_resolution(width: int, lon: float, lat: float) -> None:
    # one pixel of 200,000, also near the poles, where the projection shears pixels to slivers
    nside = 128
    p = np.full(12 * nside**2, 0.001, np.float32)
    ipix = healpy.ang2pix(nside, lon, lat, nest=True, lonlat=True)
    p[ipix] = 0.95
    picture = skyplots.mollweide_picture(p, width, largest=True)
    rows, columns = np.nonzero(picture == np.float32(0.95))
    assert rows.size >= 1
    # healpy's own projector says where it belongs: within two display pixels, or the map's own where those are larger
    at = healpy.projector.MollweideProj().ang2xy(*healpy.pix2ang(nside, ipix, nest=True, lonlat=True), lonlat=True)
    shown_x, shown_y = (2 * columns + 1 - width) / width * 2, (2 * rows + 1 - width // 2) / (width // 2)
    reach = 2 * 4 / width + 2 * np.sqrt(2 * np.pi / p.size) * (6 if abs(lat) > 80 else 1)
    assert np.hypot(shown_x - at[0], shown_y - at[1]).max() < reach
    assert np.nanmax(picture) == np.float32(0.95) and np.nanmin(picture) == np.float32(0.001)


def test_pictures_of_the_largest_p_keep_gaps() -> None:
    p = np.full(12 * NSIDE**2, 0.2, np.float32)
    _, lat = healpy.pix2ang(NSIDE, np.arange(p.size), nest=True, lonlat=True)
    p[lat < 0] = np.nan
    picture = skyplots.mollweide_picture(p, 200, largest=True)
    assert np.isnan(picture[:48]).all() and np.nanmin(picture[51:]) == np.float32(0.2)


def test_sky_picture_shows_the_source_where_it_is(tmp_path: Path) -> None:
    p = np.full(12 * NSIDE**2, 0.001, np.float32)
    lon, lat = 60.0, 30.0
    p[healpy.query_disc(NSIDE, healpy.ang2vec(lon, lat, lonlat=True), np.radians(4), nest=True)] = 1.0
    figure = skyplots.plot_sky(p, tile=None)
    image = next(i for i in figure.axes[0].images)
    picture = np.asarray(image.get_array())
    rows, columns = np.nonzero(picture > 0.9)
    x, y = skyplots.mollweide_forward([lon], [lat])
    assert abs(np.linspace(-2, 2, picture.shape[1])[columns].mean() - x[0]) < 0.02
    assert abs(np.linspace(-1, 1, picture.shape[0])[rows].mean() - y[0]) < 0.02
    assert x[0] < 0  # l = 60 lies to the left of the Galactic centre
    file = save_figure(figure, tmp_path / "sky.png")
    assert np.asarray(Image.open(file).convert("L")).std() > 10


def test_scale_of_p_is_asinh_and_inverts() -> None:
    # by hand: asinh(1) / asinh(10) = 0.8814 / 2.9982
    p = np.array([0.0, 0.01, 0.1, 0.5, 0.9, 1.0])
    scale = scale_p()
    np.testing.assert_allclose(scale(p), np.arcsinh(10 * p) / np.arcsinh(10), rtol=1e-12)
    assert float(scale(0.1)) == pytest.approx(0.8814 / 2.9982, abs=1e-4)
    np.testing.assert_allclose(scale.inverse(scale(p)), p, atol=1e-12)


def test_colours_of_p_grow_lighter_all_the_way() -> None:
    # what grey print and colour-blind eyes keep: CIE lightness L* from relative luminance (sRGB, IEC 61966-2-1)
    rgb = matplotlib.colormaps[P_COLOURS](np.linspace(0, 1, 101))[:, :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    assert (np.diff(lightness) > 0).all()
    shown = np.interp([0.0, *scale_p()(P_TICKS)], np.linspace(0, 1, 101), lightness)
    assert (np.diff(shown[1:]) > 10).all()  # the labelled values stay apart


@pytest.mark.parametrize("draw", ["sky", "tile", "gallery", "field"])
def test_every_colour_bar_of_p_has_the_same_ticks(draw: str) -> None:
    p = np.full(12 * NSIDE**2, 0.02, np.float32)
    none = Table({"lon_deg": np.empty(0), "lat_deg": np.empty(0), "p": np.empty(0)})
    one = Table({"lon_deg": [10.0], "lat_deg": [20.0], "p": [0.5]})
    figure = {
        "sky": lambda: skyplots.plot_sky(p),
        "tile": lambda: skyplots.plot_tile(p, none, none, np.empty(0, bool)),
        "gallery": lambda: cutouts.plot_gallery([("a", [cutouts.Cutout("p", np.zeros((5, 5)), "$p$", 0.0)])]),
        "field": lambda: cutouts.plot_field(p, None, one, none, lon_deg=10.0, lat_deg=20.0, width_deg=5.0),
    }[draw]()
    figure.draw_without_rendering()
    bar = figure.axes[-1]
    axis = bar.xaxis if bar.get_xlabel() else bar.yaxis
    assert [label.get_text() for label in axis.get_ticklabels()] == ["0.01", "0.1", "0.5", "0.9"]
    low, high = axis.get_view_interval()
    assert (low, high) == (0.0, 1.0)
    place = axis.get_transform().transform(np.array([0.0, *axis.get_majorticklocs(), 1.0]))
    np.testing.assert_allclose(place / place[-1], scale_p()([0.0, *P_TICKS, 1.0]), atol=1e-9)


def test_tile_shows_a_single_pixel_of_the_full_map() -> None:
    nside = 1024  # 3.4 arcmin, of which the picture's pixels hold several
    p = np.full(12 * nside**2, 0.001, np.float32)
    ipix = healpy.ang2pix(nside, 115.0, 44.0, nest=True, lonlat=True)
    p[ipix] = 0.7
    none = Table({"lon_deg": np.empty(0), "lat_deg": np.empty(0), "p": np.empty(0)})
    axes = skyplots.plot_tile(p, none, none, np.empty(0, bool)).axes[0]
    picture = np.asarray(axes.images[0].get_array())
    rows, columns = np.nonzero(picture > 0.5)
    assert rows.size >= 1
    left, right, bottom, top = axes.images[0].get_extent()
    x = left + (columns.mean() + 0.5) * (right - left) / picture.shape[1]
    y = bottom + (rows.mean() + 0.5) * (top - bottom) / picture.shape[0]
    # 115 - 112.5 deg along the parallel of 44 deg, and 44 - 41.81 deg in latitude, to a tenth of a degree
    assert x == pytest.approx(2.5 * np.cos(np.radians(44.0)), abs=0.1)
    assert y == pytest.approx(44.0 - 41.81, abs=0.15)


def test_tile_counts_recovered_and_missed() -> None:
    rng = np.random.default_rng(2)
    clusters = make_clusters(rng, 10)
    clusters = clusters[clusters["selection"] == "planck_z"][:5]
    sources = Table({"lon_deg": clusters["lon_deg"][:3], "lat_deg": clusters["lat_deg"][:3], "p": [0.9, 0.5, 0.2]})
    p = np.full(12 * NSIDE**2, 0.02, np.float32)
    p[:100] = np.nan
    figure = skyplots.plot_tile(p, sources, clusters, np.array([True, True, True, False, False]), tile=TEST_TILE)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["sources, p > 0.1", "Planck_z, recovered (3)", "Planck_z, missed (2)"]
    low, high = figure.axes[0].get_xlim()
    assert low > high  # longitude grows to the left


def test_cut_out_units_and_orientation() -> None:
    # 1 K_CMB at 100 GHz is 1e6 uK_CMB, 1 MJy/sr at 857 GHz is 1e3 kJy/sr; the source lies to the east and north
    instrument = read_instrument("planck-hfi")
    values = np.zeros((12 * 256**2, 6), np.float32)
    east = healpy.query_disc(256, healpy.ang2vec(10.3, 0.2, lonlat=True), np.radians(0.5))
    values[east] = 1.0
    maps = SkyMaps(values, np.ones(len(values), bool), instrument.bands)
    cuts = cutouts.cut_out(10.0, 0.0, maps=maps, p_map=values[:, 0], width_arcmin=180, pixel_arcmin=2)
    assert [cut.kind for cut in cuts] == ["100", "143", "217", "353", "545", "857", "p"]
    assert cuts[0].picture.max() == pytest.approx(1e6, rel=1e-4)
    assert cuts[5].picture.max() == pytest.approx(1e3, rel=1e-4)
    rows, columns = np.nonzero(cuts[6].picture > 0.5)
    offset = 2.0 * (columns.mean() - 44.5), 2.0 * (rows.mean() - 44.5)
    assert offset == pytest.approx((18.0, 12.0), abs=4.0)


def test_gallery_refuses_nothing_and_unlike_rows() -> None:
    cut = cutouts.Cutout("p", np.zeros((5, 5)), "", 0.0)
    other = cutouts.Cutout("y", np.zeros((5, 5)), "", 0.0)
    with pytest.raises(ValueError, match="no position to show"):
        cutouts.plot_gallery([])
    with pytest.raises(ValueError, match=r"row 'b' shows \['y'\], expected \['p'\]"):
        cutouts.plot_gallery([("a", [cut]), ("b", [other])])
    assert isinstance(cutouts.plot_gallery([("a", [cut, other])]), Figure)


def test_colour_limits_of_each_kind() -> None:
    ramp = np.linspace(-10, 10, 10001).reshape(73, 137)
    band = cutouts.colour_limits([cutouts.Cutout("100", ramp, "", 0)])
    assert (band.vmin, band.vmax) == (pytest.approx(-9.95, abs=0.01), pytest.approx(9.95, abs=0.01))
    fields = [cutouts.Cutout("100", scale * ramp, "", 0) for scale in (1, 1, 1, 100)]  # one in the Galactic plane
    assert cutouts.colour_limits(fields).vmax == pytest.approx(1.3 * 9.95, abs=0.02)
    assert cutouts.colour_limits([cutouts.Cutout("p", ramp, "", 0)]).vmax == 1.0
    assert cutouts.colour_limits([cutouts.Cutout("y", ramp, "", 0)]).vmin == 0.0
    blank = cutouts.colour_limits([cutouts.Cutout("100", np.full((3, 3), np.nan), "", 0)])
    assert (blank.vmin, blank.vmax) == (-1.0, 1.0)


def test_training_marks_the_best_epoch() -> None:
    curve = [{"epoch": e, "train_loss": 1 / e, "valid_loss": abs(e - 3) + 0.1} for e in range(1, 6)]
    figure = figures.plot_training(curve)
    assert "best, epoch 3" in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    with pytest.raises(ValueError, match="no epoch"):
        figures.plot_training([])


def test_recovery_draws_every_catalogue_and_the_paper() -> None:
    recovery = make_recovery()
    recovery = recovery[recovery["tile"] == TEST_TILE]
    figure = figures.plot_recovery(recovery)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert {"Planck_z", "Planck_no-z", "MCXCwP", "Bonjean (2020)", "random positions"} <= set(labels)
    figure.draw_without_rendering()
    legend = figure.axes[0].get_legend().get_window_extent()
    assert legend.y0 >= figure.axes[0].get_window_extent().y1 - 1  # it covers no curve
    assert legend.y1 <= figure.bbox.y1 + 1 and legend.x0 >= -1
    without = figures.plot_recovery(recovery, show_paper=False)
    assert "Bonjean (2020)" not in [text.get_text() for text in without.axes[0].get_legend().get_texts()]


@pytest.mark.parametrize("asinh", [False, True])
def test_input_of_pure_noise_lies_under_the_dashed_curve(asinh: bool) -> None:
    # unit Gaussian noise, seen as it is or through asinh: the histogram is the curve, to the noise of its counts
    noise = np.random.default_rng(3).normal(size=(400_000, 2))
    figure = figures.plot_input(np.arcsinh(noise) if asinh else noise, ["a", "b"], asinh=[asinh] * 2)
    assert len(figure.axes) == 2
    for axes in figure.axes:
        counts, edges, _ = axes.patches[0].get_data()
        x, curve = axes.lines[0].get_data()
        np.testing.assert_allclose(x, 0.5 * (edges[1:] + edges[:-1]))
        np.testing.assert_allclose(counts, curve / (curve * counts).sum() * (counts**2).sum(), atol=0.03)


def test_mass_redshift_names_what_it_shows() -> None:
    clusters = make_clusters(np.random.default_rng(3), 10)
    labels = figures.plot_mass_redshift(clusters).axes[0].get_legend().get_texts()
    assert [text.get_text() for text in labels] == ["Planck_z (10)", "MCXCwP (16)"]  # Planck_no-z has no redshift


def test_reliability_on_the_diagonal() -> None:
    x = np.array([0.1, 0.5, 0.9])
    table = Table({"n": [9, 9, 9], "predicted": x, "observed": x, "observed_low": x - 0.1, "observed_high": x + 0.1})
    axes = figures.plot_reliability(table).axes[0]
    diagonal, points = axes.lines[0].get_data(), axes.lines[1].get_data()
    np.testing.assert_array_equal(diagonal[0], diagonal[1])
    np.testing.assert_array_equal(points[0], points[1])
    assert axes.get_xlim() == axes.get_ylim() == (0.0, 1.0)


def test_dollars_in_names_are_no_formulas(tmp_path: Path) -> None:
    clusters = make_clusters(np.random.default_rng(3), 10)
    clusters["selection"] = r"$\frac{$"
    save_figure(figures.plot_mass_redshift(clusters), tmp_path / "a.png")
    cut = cutouts.Cutout("p", np.zeros((5, 5)), "", 0.0)
    save_figure(cutouts.plot_gallery([(plain_text(r"$\nonsense$"), [cut])]), tmp_path / "b.png")


def test_saved_figures_are_the_same_bytes_twice(tmp_path: Path) -> None:
    @journal
    def draw() -> Figure:
        figure = Figure(figsize=(2, 2))
        figure.add_subplot().plot([0, 1], label=catalogue_look("rm30")[2])
        return figure

    for ending in ("png", "svg", "pdf"):
        first = save_figure(draw(), tmp_path / f"a.{ending}").read_bytes()
        assert first == save_figure(draw(), tmp_path / f"b.{ending}").read_bytes()
    assert sorted(f.name for f in tmp_path.iterdir()) == ["a.pdf", "a.png", "a.svg", "b.pdf", "b.png", "b.svg"]
