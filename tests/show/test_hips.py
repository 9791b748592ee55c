"""HiPS: tiles against the sky they show, lower orders, coverage, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from szeek.show.explorer.hips import (
    TILE_WIDTH,
    HipsLayer,
    combine_four,
    nested_reader,
    ring_reader,
    tile_pixels,
    write_hips,
)
from szeek.show.figures.style import scale_p


def _layer(values: np.ndarray, **changes: object) -> HipsLayer:
    nside = healpy.npix2nside(values.size)
    settings = {"name": "p", "title": "p", "unit": "", "low": 0.0, "high": 1.0, **changes}
    return HipsLayer(read=nested_reader(values.astype(np.float32)), nside=nside, **settings)  # type: ignore[arg-type]


def test_tile_pixels_are_all_pixels_in_the_standard_layout() -> None:
    pixels = tile_pixels(512)
    assert np.array_equal(np.sort(pixels.ravel()), np.arange(512**2))
    # HiPS 1.0, Fig. 4: the four quarters of a tile are its children 0 (top left), 1 (below it), 2 (top right), 3
    quarters = pixels[:256, :256], pixels[256:, :256], pixels[:256, 256:], pixels[256:, 256:]
    assert [int(quarter[0, 0]) // 256**2 for quarter in quarters] == [0, 1, 2, 3]


def test_neighbours_in_a_tile_are_neighbours_on_the_sky() -> None:
    nside = 64
    lon, lat = healpy.pix2ang(nside, 5 * 16**2 * 4 + tile_pixels(32), nest=True, lonlat=True)
    vectors = healpy.ang2vec(lon, lat, lonlat=True)
    for axis in (0, 1):
        step = np.degrees(np.linalg.norm(np.diff(vectors, axis=axis), axis=-1))
        assert step.max() < 1.8 * healpy.nside2resol(nside, arcmin=True) / 60


def test_no_resampling_at_the_deepest_order() -> None:
    nside = 1024  # order 1
    values = np.arange(12 * nside**2, dtype=np.float32) % 4093
    layer = _layer(values)
    assert layer.order == 1
    for npix in (0, 17, 47):
        run = values[npix * TILE_WIDTH**2 : (npix + 1) * TILE_WIDTH**2]
        assert np.array_equal(layer.tile(1, npix), run[tile_pixels()])


def test_lower_orders_are_means_or_maxima() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=12 * 1024**2).astype(np.float32)
    values[:4] = np.nan
    values[4] = np.nan
    inner = tile_pixels()
    by_mean = _layer(values, combine="mean").tile(0, 0)
    by_maximum = _layer(values, combine="maximum").whole_sky()[: TILE_WIDTH**2][inner]
    assert np.isnan(by_mean[inner == 0]) and np.isnan(by_maximum[inner == 0])
    np.testing.assert_allclose(by_mean[inner == 1], values[5:8].mean(), rtol=1e-6)  # of the three observed
    np.testing.assert_allclose(by_maximum[inner == 1], values[5:8].max())
    healpy_mean = healpy.ud_grade(values.astype(float), 512, order_in="NESTED", pess=False)
    np.testing.assert_allclose(by_mean[inner > 1], healpy_mean[: TILE_WIDTH**2][inner][inner > 1], atol=1e-5)


def test_every_order_shows_a_single_high_pixel() -> None:
    # the deepest order as it is; in the others every block of 2 x 2, in order 0 of 4 x 4, shows its maximum, for a
    # viewer that draws one tile pixel of so many
    nside = 2048  # orders 0 to 2
    values = np.full(12 * nside**2, 0.01, np.float32)
    ipix = 7 * nside**2 + 1_234_567
    values[ipix] = 0.9
    layer = _layer(values, combine="maximum")
    for order, block in ((0, 4), (1, 2), (2, 1)):
        depth = 11 - order  # of the map's pixels below a tile, in steps of four
        tile = layer.tile(order, ipix >> 2 * depth)
        assert tile[tile_pixels() == (ipix & ((1 << 2 * depth) - 1)) >> 2 * (2 - order)] == np.float32(0.9)
        rows, columns = np.nonzero(tile == np.float32(0.9))
        assert rows.size == block**2 and np.ptp(rows) == np.ptp(columns) == block - 1
        assert rows.min() % block == columns.min() % block == 0
        for first in range(block):  # whichever of them is drawn
            assert tile[first::block, first::block].max() == np.float32(0.9)
        assert np.unique(tile).tolist() == [np.float32(0.01), np.float32(0.9)]
    sky = layer.allsky()
    assert np.nanmax(sky[::4, ::4]) == np.float32(0.9)
    assert (layer.whole_sky() == np.float32(0.9)).sum() == 1


def test_asinh_pictures_have_the_scale_of_the_figures() -> None:
    p = np.array([[0.0, 0.01, 0.1, 0.5, 0.9, 1.0]], np.float32)
    layer = _layer(np.zeros(12), colours="gray", stretch="asinh")
    grey = np.asarray(Image.open(io.BytesIO(layer.encode_png(p))).convert("L"))[0]
    np.testing.assert_allclose(grey / 255, scale_p()(p[0]), atol=1 / 255)


def test_description_says_what_lower_orders_hold() -> None:
    for how in ("mean", "maximum"):
        assert f"holds the {how} of the four below" in _layer(np.zeros(12), combine=how).properties()


def test_coarse_maps_are_repeated_not_interpolated() -> None:
    values = np.arange(12 * 64**2, dtype=np.float32)
    layer = _layer(values)
    assert layer.order == 0
    tile = layer.tile(0, 7)
    np.testing.assert_array_equal(np.unique(tile), values[7 * 64**2 : 8 * 64**2])
    assert (np.unique(tile, return_counts=True)[1] == 64).all()


@pytest.mark.parametrize(("order", "npix"), [(1, 17), (2, 130), (6, 40_000), (9, 3_000_000)])
def test_orders_beyond_the_maps_own_repeat_its_pixels(order: int, npix: int) -> None:
    # each element of a tile is the map's pixel that holds its centre, whatever the order
    nside = 128
    layer = _layer(np.arange(12 * nside**2, dtype=np.float32), order_least=9)
    assert layer.order == 9 and layer.own_order == 0
    elements = npix * TILE_WIDTH**2 + tile_pixels()
    lon, lat = healpy.pix2ang(2**order * TILE_WIDTH, elements, nest=True, lonlat=True)
    np.testing.assert_array_equal(layer.tile(order, npix), healpy.ang2pix(nside, lon, lat, nest=True, lonlat=True))


def test_published_tiles_end_at_the_maps_own_order(tmp_path: Path) -> None:
    folder = write_hips(_layer(np.zeros(12 * 64**2), order_least=9), tmp_path / "hips")
    assert sorted(path.name for path in folder.glob("Norder*")) == ["Norder0", "Norder3"]  # 3: the Allsky picture
    assert "hips_order           = 0\n" in (folder / "properties").read_text()


def test_combine_four_with_gaps() -> None:
    pixels = np.array([1, np.nan, 3, 5, np.nan, np.nan, np.nan, np.nan], np.float32)
    np.testing.assert_array_equal(combine_four(pixels, "mean"), np.array([3, np.nan], np.float32))
    np.testing.assert_array_equal(combine_four(pixels, "maximum"), np.array([5, np.nan], np.float32))


def test_ring_reader_gives_nested_order_and_gaps() -> None:
    nside = 32
    rng = np.random.default_rng(1)
    values = rng.normal(size=(12 * nside**2, 2)).astype(np.float32)
    footprint = rng.random(12 * nside**2) > 0.1
    expected = healpy.reorder(np.where(footprint, 2 * values[:, 1], np.nan), r2n=True).astype(np.float32)
    np.testing.assert_array_equal(ring_reader(values, 1, footprint, 2.0)(100, 500), expected[100:600])


def test_pictures_decode_to_the_values() -> None:
    values = np.tile(np.linspace(0, 1, 512, dtype=np.float32), (512, 1))
    values[10, 20] = np.nan
    layer = _layer(np.zeros(12, np.float32), colours="gray")
    png = np.asarray(Image.open(io.BytesIO(layer.encode_png(values))).convert("RGBA"))
    assert png[10, 20, 3] == 0 and png[11, 20, 3] == 255
    assert np.abs(png[100, :, 0].astype(float) - 255 * values[100]).max() <= 2
    with fits.open(io.BytesIO(layer.encode_fits(values))) as hdus:
        np.testing.assert_array_equal(hdus[0].data[::-1], values)  # FITS rows from the bottom


def test_swatch_is_what_pictures_are_coloured_with() -> None:
    layer = HipsLayer("p", "p", nested_reader(np.zeros(48, np.float32)), 2, "", 0.0, 1.0, "cividis")
    picture = Image.open(io.BytesIO(layer.encode_png(np.array([[0.0, 0.5, 1.0]], np.float32)))).convert("RGB")
    drawn = np.asarray(picture)[0].astype(int)
    told = [[int(colour[k : k + 2], 16) for k in (1, 3, 5)] for colour in layer.swatch(3)]
    np.testing.assert_allclose(drawn, told, atol=2)


def test_whole_hips_on_disk(tmp_path: Path) -> None:
    values = np.zeros(12 * 64**2)
    values[: 64**2] = np.nan  # base pixel 0 unobserved
    folder = write_hips(_layer(values, unit="K"), tmp_path / "hips")
    files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert len(files) == 2 * 12 + 2 + 2
    properties = dict(
        (part.strip() for part in line.split("=", 1)) for line in (folder / "properties").read_text().splitlines()
    )
    assert properties["hips_frame"] == "galactic" and properties["hips_order"] == "0"
    assert properties["hips_tile_width"] == "512" and properties["hips_pixel_bitpix"] == "-32"
    assert float(properties["moc_sky_fraction"]) == pytest.approx(11 / 12)
    with fits.open(folder / "Moc.fits") as hdus:  # NUNIQ: all base pixels but the first, Galactic as the tiles are
        assert hdus[1].data["UNIQ"].tolist() == list(range(5, 16)) and hdus[1].header["COORDSYS"] == "G"
    sky = np.asarray(Image.open(folder / "Norder3" / "Allsky.png"))
    assert sky.shape == (29 * 64, 27 * 64)
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(FileExistsError, match="exists; remove it"):
        write_hips(_layer(values), folder)


def test_what_was_not_observed_is_not_read() -> None:
    """A tenth of base pixel 5: the tiles of every order are as they are when all is read."""
    nside = 2048
    own = np.arange(5 * nside**2 + 400_000, 5 * nside**2 + 800_000)
    values = np.full(12 * nside**2, np.nan, np.float32)
    values[own] = np.random.default_rng(0).standard_normal(len(own))
    n_read = []

    def read(first: int, n: int) -> np.ndarray:
        n_read.append(n)
        return values[first : first + n]

    def observed(first: int, n: int) -> bool:
        return first <= own[-1] and first + n > own[0]

    some = HipsLayer("p", "p", read, nside, "", 0.0, 1.0, observed=observed)
    whole = HipsLayer("p", "p", nested_reader(values), nside, "", 0.0, 1.0)
    for order, npix in ((0, 5), (0, 4), (1, 20), (2, 80), (2, 83), (2, 84)):
        np.testing.assert_array_equal(some.tile(order, npix), whole.tile(order, npix))
    np.testing.assert_array_equal(some.allsky(), whole.allsky())
    assert some.moc() == whole.moc()
    assert sum(n_read) < 10 * len(own)


def test_a_failing_write_leaves_nothing(tmp_path: Path) -> None:
    def read(first: int, n: int) -> np.ndarray:
        if first:
            raise OSError("no space left on device")
        return np.zeros(n, np.float32)

    layer = HipsLayer("p", "p", read, 64, "", 0.0, 1.0)
    with pytest.raises(OSError, match="no space left"):
        write_hips(layer, tmp_path / "hips")
    assert list(tmp_path.iterdir()) == []


def test_refused_layers_and_tiles(tmp_path: Path) -> None:
    flat = np.zeros(12 * 16**2)
    with pytest.raises(ValueError, match=r"layer name '\.\./p' is not valid"):
        _layer(flat, name="../p")
    with pytest.raises(ValueError, match=r"colour limits 1\.0 to 1\.0"):
        _layer(flat, low=1.0)
    with pytest.raises(ValueError, match="nside 3, expected a power of two"):
        HipsLayer("p", "p", nested_reader(flat.astype(np.float32)), 3, "", 0, 1)
    for order, npix in ((1, 0), (0, 12), (-1, 0), (0, -1)):
        with pytest.raises(ValueError, match="has no tile"):
            _layer(flat).tile(order, npix)
    with pytest.raises(ValueError, match="tile formats jpg"):
        write_hips(_layer(flat), tmp_path / "hips", formats=("jpg",))
