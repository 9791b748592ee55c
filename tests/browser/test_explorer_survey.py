"""The explorer of a survey on plate-carree (CAR) images in a real browser: bands and p lie where they belong."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from selenium.webdriver.common.by import By
from test_explorer_page import open_page, set_control, sky_picture, wait_for

from szeek.find.predict import write_prediction
from szeek.inputs.instrument import read_instrument
from szeek.measure.candidates import make_candidates, write_candidates
from szeek.show.explorer.server import ExplorerServer
from szeek.sky.grids import ImageGrid
from szeek.sky.healpix import lonlat_deg, unit_vectors
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import MapSet
from szeek.sky.partial import PartialMap
from szeek.sky.projection import field_directions

#: Width and height of the maps in pixels of an arcminute, and of their chequers: 0.5 deg.
NX, NY, CELL = 720, 480, 30


def chequer(row: np.ndarray, column: np.ndarray) -> np.ndarray:
    return (row // CELL + column // CELL) % 2 == 1


@pytest.fixture(scope="module")
def grid() -> ImageGrid:
    header = {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CUNIT1": "deg", "CUNIT2": "deg", "CRVAL1": 2.0}
    header |= {"CRVAL2": 0.0, "CDELT1": -1 / 60, "CDELT2": 1 / 60, "CRPIX1": NX / 2 + 0.5, "CRPIX2": 1500.5}
    return ImageGrid.from_header(fits.Header(header), (NY, NX))  # Dec -25 to -17, over RA 0


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory, grid: ImageGrid) -> Iterator[ExplorerServer]:
    """Two bands of chequers, and twelve candidates, discs of p of 6 arcmin."""
    folder = tmp_path_factory.mktemp("survey")
    bands = tuple(band for band in read_instrument("act-dr6").bands if band.name in ("f090", "f150"))
    odd = np.where(chequer(*np.mgrid[:NY, :NX]), 1e-4, -1e-4).astype(np.float32)
    maps = MapSet.of(ImageMaps(grid, bands, (Pixels(odd), Pixels(-odd)), (None, None)))
    maps.save(folder / "maps")
    row, column = (at.ravel() for at in np.meshgrid(np.arange(80.0, 420, 160), np.arange(75.0, 700, 180)))
    lon_deg, lat_deg = lonlat_deg(grid.directions(row, column))
    centres = unit_vectors(lon_deg, lat_deg)
    seen = healpy.query_disc(maps.nside, centres.mean(axis=0), np.radians(8.0))
    p = np.full(len(seen), 0.01, np.float32)
    for centre in centres:
        p[np.isin(seen, healpy.query_disc(maps.nside, centre, np.radians(0.1)))] = 0.9
    write_prediction(PartialMap.from_pixels(maps.nside, seen, p), folder / "prediction.fits")
    table = Table({"lon_deg": lon_deg, "lat_deg": lat_deg, "p": np.linspace(0.95, 0.4, len(row))})
    write_candidates(make_candidates(table), folder / "candidates.fits")
    record = {"config": {"sky": {"simulate": False, "instrument": "act-dr6"}, "detect": {"p_max": 0.1}}}
    Path(folder / "run.json").write_text(json.dumps(record))
    with ExplorerServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("band", ["f090", "f150"])
def test_bands_lie_where_their_images_have_them(
    browser: Any, survey: ExplorerServer, grid: ImageGrid, band: str
) -> None:
    # of one colour in each chequer, and where no image is of none, to two pixels of the screen
    lon, lat = (float(at) for at in lonlat_deg(grid.directions(np.array(60.0), np.array(100.0))))
    open_page(browser, survey, f"#projection=TAN&l={lon}&b={lat}&fov=6&base=band-{band}&low=-150&high=150")
    browser.execute_script("explorer.sky.candidates.hide(); explorer.sky.mark.hide()")
    ny, nx, _ = sky_picture(browser).shape
    pixel_arcmin = 60 * np.degrees(2 * np.tan(np.radians(3))) / nx
    directions = field_directions(lon, lat, 0.0, ny, nx, pixel_arcmin)[::-1, ::-1].reshape(-1, 3)
    row, column = (np.rint(at) for at in grid.pixels(directions))
    inside = (row >= 0) & (row < NY) & (column >= 0) & (column < NX)
    expected = np.where(inside, np.where(chequer(row, column) == (band == "f090"), 1, -1), 0).reshape(ny, nx)
    shifted = [np.roll(expected, (dy, dx), (0, 1)) for dy in range(-2, 3) for dx in range(-2, 3)]
    inner, agree, end = np.s_[40:-60, 60:-120], 0.0, time.monotonic() + 90
    assert 0.1 < (expected[inner] == 0).mean() < 0.8
    while agree < 0.99 and time.monotonic() < end:  # coarser tiles come first
        picture = sky_picture(browser)
        warm = picture[..., 0] - picture[..., 2]  # RdBu_r: red above 0, blue below
        shown = np.where(warm > 50, 1, np.where(warm < -50, -1, 0))
        agree = float(np.any([(shown == one)[inner] for one in shifted], axis=0).mean())
    assert agree > 0.99


def test_a_click_on_a_row_goes_to_its_disc_of_p(browser: Any, survey: ExplorerServer) -> None:
    open_page(browser, survey)
    assert browser.execute_script("return document.getElementById('base').value") == "p"
    browser.find_elements(By.CSS_SELECTOR, ".row")[4].click()
    row = browser.execute_script("return explorer.selected")
    table = survey.explorer.candidates
    wait_for(browser, "explorer.sky.where().fov < 3")
    time.sleep(1)
    where = browser.execute_script("return explorer.sky.where()")
    assert where["lat"] == pytest.approx(float(table["lat_deg"][row]), abs=0.01)
    assert where["lon"] == pytest.approx(float(table["lon_deg"][row]), abs=0.05)
    browser.execute_script("explorer.sky.candidates.hide(); explorer.sky.mark.hide()")
    bright, end = np.zeros(1, bool), time.monotonic() + 60
    radius = 0.0
    while not 0.9 < radius / 6.0 < 1.1 and time.monotonic() < end:
        picture = sky_picture(browser)
        pixel_arcmin = 60 * where["fov"] / picture.shape[1]
        bright = picture[40:-60, 60:-120].min(axis=-1) > 100  # 0.9 is pale yellow
        radius = float(np.sqrt(bright.sum() / np.pi)) * pixel_arcmin
    assert radius == pytest.approx(6.0, rel=0.1)
    y, x = np.nonzero(bright)
    ny, nx, _ = picture.shape
    assert abs(y.mean() + 40 - ny / 2) * pixel_arcmin < 1.0 and abs(x.mean() + 60 - nx / 2) * pixel_arcmin < 1.0
    set_control(browser, "base", "band-f150")
    wait_for(browser, "document.getElementById('base').value === 'band-f150'")
