"""The explorer in a real browser: what is drawn, what is clicked and typed, what is asked of the network."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import healpy
import matplotlib
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from conftest import FAINT_TEXTS, emulate, page_errors, requested_hosts
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from szeek.measure.candidates import make_candidates, write_candidates
from szeek.show.explorer.dossierpage import page_address
from szeek.show.explorer.filters import Filters, choose_candidates
from szeek.show.explorer.server import ExplorerServer
from szeek.show.figures.skyplots import mollweide_forward
from szeek.show.figures.style import P_COLOURS, P_TICKS, scale_p
from szeek.show.report.links import explorer_link
from szeek.sky.healpix import unit_vectors
from szeek.sky.projection import field_basis, field_directions, project

READY = "return document.body.dataset.ready"


def open_page(browser: Any, server: ExplorerServer, fragment: str = "", sky: str = "aladin") -> None:
    browser.get("about:blank")
    browser.get(server.url + fragment)
    WebDriverWait(browser, 120).until(lambda driver: driver.execute_script(READY))
    assert browser.execute_script(READY) == sky


def wait_for(browser: Any, script: str, seconds: float = 60) -> Any:
    return WebDriverWait(browser, seconds, 0.1).until(lambda driver: driver.execute_script(f"return {script}"))


def sky_picture(browser: Any) -> np.ndarray:
    """What the sky's canvases show: (ny, nx, 3) float, first row at the top."""
    box = browser.execute_script("const r = document.getElementById('sky').getBoundingClientRect();"
                                 "return [r.x, r.y, r.width, r.height]")  # fmt: skip
    x, y, width, height = (round(v) for v in box)
    screen = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB")
    return np.asarray(screen, float)[y : y + height, x : x + width]


def settle(browser: Any, seconds: float = 60) -> np.ndarray:
    """The sky once two pictures, 0.7 s apart, agree and are not blank."""
    last, end = sky_picture(browser), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(0.7)
        now = sky_picture(browser)
        if now.shape == last.shape and np.abs(now - last).max() < 3 and now.std() > 5:
            return now
        last = now
    return last


def sky_until(browser: Any, good: Callable[[np.ndarray], bool], seconds: float = 60) -> np.ndarray:
    """The sky once it is as wanted, or as it is after that time."""
    end = time.monotonic() + seconds
    while not good(picture := sky_picture(browser)) and time.monotonic() < end:
        time.sleep(0.3)
    return picture


def set_control(browser: Any, name: str, value: str) -> None:
    browser.execute_script(
        "const box = document.getElementById(arguments[0]); box.value = arguments[1];"
        "box.dispatchEvent(new Event('input', {bubbles: true}))", name, value,
    )  # fmt: skip


@pytest.fixture(scope="module")
def chequers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExplorerServer]:
    """The explorer of nothing but a p map of nside 1024, 0.1 and 0.9 in chequers; no candidates."""
    folder, nside = tmp_path_factory.mktemp("chequers"), 1024
    lon, lat = healpy.pix2ang(nside, np.arange(12 * nside**2), nest=True, lonlat=True)
    odd = (np.floor(lon / 0.7) + np.floor(lat / 0.7)).astype(int) % 2
    p = np.where(odd, 0.9, 0.1).astype(np.float32)
    healpy.write_map(str(folder / "prediction.fits"), p, nest=True, coord="G", dtype=np.float32)
    with ExplorerServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_sky_is_the_map(browser: Any, explorer: ExplorerServer) -> None:
    # a tangent-plane view of p, compared pixel by pixel with the package's own projection of the same field
    row = int(np.argmax(np.abs(explorer.explorer.candidates["lat_deg"]) < 60))
    lon, lat = (float(explorer.explorer.candidates[name][row]) for name in ("lon_deg", "lat_deg"))
    open_page(browser, explorer, f"#projection=TAN&l={lon}&b={lat}&fov=8")
    browser.execute_script("explorer.sky.candidates.hide(); explorer.sky.mark.hide()")
    picture = settle(browser)
    ny, nx, _ = picture.shape
    # Aladin's field of view is the width of the view; it shows the pixel that a direction falls in
    pixel_arcmin = 60 * np.degrees(2 * np.tan(np.radians(4))) / nx
    directions = field_directions(lon, lat, 0.0, ny, nx, pixel_arcmin)[::-1, ::-1]  # north up, longitude to the left
    p_ring = explorer.explorer.run.p_ring
    p = p_ring[healpy.vec2pix(healpy.npix2nside(p_ring.size), *np.moveaxis(directions, -1, 0))]
    inner = np.s_[40:-60, 60:-120]  # away from buttons and logo
    source = p[inner] > 0.1
    assert source.sum() > 500

    def differs(q: np.ndarray) -> np.ndarray:
        """Least difference in colour from any place within one screen pixel."""
        colours = 255 * matplotlib.colormaps[P_COLOURS](scale_p()(q).filled(0))[..., :3]
        shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        return np.min([np.abs(picture - np.roll(colours, s, (0, 1))).max(axis=-1)[inner] for s in shifts], axis=0)

    assert (differs(p) < 20).mean() > 0.99
    assert (differs(p) < 20)[source].mean() > 0.97
    assert (differs(p[:, ::-1]) < 20)[p[:, ::-1][inner] > 0.1].mean() < 0.7  # and not its mirror image


def _marker_centres(browser: Any, near: list[tuple[float, float]]) -> list[np.ndarray]:
    """Centres of what is drawn where markers are expected, in pixels of the view: the shown less the hidden."""
    shown = settle(browser)
    browser.execute_script("explorer.sky.candidates.hide()")
    bare = settle(browser)
    browser.execute_script("explorer.sky.candidates.show()")
    drawn = np.abs(shown - bare).max(axis=-1)
    centres = []
    for x, y in near:
        first_x, first_y = round(x) - 12, round(y) - 12
        box = drawn[first_y : first_y + 25, first_x : first_x + 25]
        rows, columns = np.nonzero(box > 60)
        # a ring: the middle of its extent, from the pixels' outer edges
        centres.append(
            np.array([first_x + (columns.min() + columns.max() + 1) / 2, first_y + (rows.min() + rows.max() + 1) / 2])
        )
    return centres


@pytest.mark.parametrize("frame", ["galactic", "ICRS"])
def test_markers_lie_on_their_sources(browser: Any, explorer: ExplorerServer, frame: str) -> None:
    # what is drawn on the screen, against the package's own projection: within a pixel
    table = explorer.explorer.candidates
    lon, lat = 112.5, 41.8
    open_page(browser, explorer, f"#projection=TAN&l={lon}&b={lat}&fov=15&frame={frame}")
    width, height = browser.execute_script("const r = document.getElementById('sky').getBoundingClientRect();"
                                           "return [r.width, r.height]")  # fmt: skip
    scale = 60 * np.degrees(2 * np.tan(np.radians(7.5))) / width
    vectors = unit_vectors(np.array(table["lon_deg"]), np.array(table["lat_deg"]))
    x, y, front = project(field_basis(lon, lat), vectors, scale)
    if frame == "ICRS":  # north is up in the other frame: turned by the angle between the two norths
        turn = float(SkyCoord(lon, lat, unit="deg", frame="galactic").position_angle(
            SkyCoord(0, 90, unit="deg").galactic).rad)  # fmt: skip
        x, y = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
    # away from the edge and the buttons, and from each other
    inside = front & (np.abs(x) < width / 2 - 90) & (np.abs(y) < height / 2 - 60)
    apart = [np.nanmin(np.hypot(x - x[k], y - y[k])[np.arange(len(x)) != k], initial=99) > 30 for k in range(len(x))]
    rows = np.flatnonzero(inside & apart)
    assert rows.size >= 3
    expected = [(width / 2 - x[row], height / 2 - y[row]) for row in rows]
    for (x_px, y_px), row, centre in zip(expected, rows.tolist(), _marker_centres(browser, expected), strict=True):
        assert np.abs(centre - (x_px, y_px)).max() < 1.0, (row, centre, x_px, y_px)
        said = browser.execute_script("return explorer.sky.pixel(explorer.table, arguments[0])", row)
        assert said == pytest.approx([x_px, y_px], abs=1.0)


def test_down_to_an_arcminute(browser: Any, explorer: ExplorerServer) -> None:
    table = explorer.explorer.candidates
    row = int(np.argmax(np.abs(table["lat_deg"]) < 60))
    lon, lat = float(table["lon_deg"][row]), float(table["lat_deg"][row])
    open_page(browser, explorer, f"#projection=TAN&l={lon}&b={lat}&fov={1 / 60}")
    browser.execute_script("explorer.sky.candidates.hide(); explorer.sky.mark.hide()")
    where = browser.execute_script("return explorer.sky.where()")
    assert where["fov"] == pytest.approx(1 / 60, rel=0.01)
    time.sleep(2)
    inner = sky_picture(browser)[80:-80, 80:-140]  # a single pixel of the map, 55 arcmin wide, and its colour
    p_ring = explorer.explorer.run.p_ring
    p = p_ring[healpy.ang2pix(healpy.npix2nside(p_ring.size), lon, lat, lonlat=True)]
    colour = 255 * np.array(matplotlib.colormaps[P_COLOURS](float(scale_p()(p)))[:3])
    assert np.ptp(inner, axis=(0, 1)).max() < 3 and np.abs(inner - colour).max() < 20


@pytest.mark.parametrize("frame", ["galactic", "ICRS"])
def test_position_under_the_pointer(browser: Any, explorer: ExplorerServer, frame: str) -> None:
    open_page(browser, explorer, f"#projection=TAN&l=30&b=-40&fov=10&frame={frame}")
    ActionChains(browser).move_to_element(browser.find_element(By.ID, "sky")).move_by_offset(1, 1).perform()
    told = wait_for(browser, "document.getElementById('readout').textContent").replace("−", "-")
    place = SkyCoord(30, -40, unit="deg", frame="galactic")
    lon, lat = (float(word.rstrip("°")) for word in told.split()[1::2])
    expected = (place.icrs.ra.deg, place.icrs.dec.deg) if frame == "ICRS" else (30, -40)
    assert told.startswith("RA" if frame == "ICRS" else "l") and (lon, lat) == pytest.approx(expected, abs=0.1)


def test_the_map_rests_when_nothing_moves(browser: Any, explorer: ExplorerServer) -> None:
    """Not one call to WebGL where nothing changes, and drawing again as soon as something does."""
    open_page(browser, explorer)
    settle(browser)
    browser.execute_script(
        "window.draws = 0; const gl = WebGL2RenderingContext.prototype, draw = gl.drawElements;"
        "gl.drawElements = function (...words) { window.draws++; return draw.apply(this, words); }"
    )
    for change in ("explorer.sky.goto(100, 50, 20)", "explorer.sky.setLimits(0.1, 0.5)", "explorer.select(3)"):
        wait_for(browser, "new Promise(done => { draws = 0; setTimeout(() => done(draws === 0), 400) })")
        browser.execute_script(change)
        wait_for(browser, "draws > 0")


def test_layers_frames_and_projections_draw(browser: Any, explorer: ExplorerServer) -> None:
    open_page(browser, explorer)
    pictures = {"p": settle(browser)}
    for layer in ("band-143", "y"):
        set_control(browser, "base", layer)
        pictures[layer] = settle(browser)
    assert np.abs(pictures["band-143"] - pictures["p"]).mean() > 5
    assert np.abs(pictures["y"] - pictures["band-143"]).mean() > 5
    for control, value in (("frame", "ICRS"), ("projection", "ZEA"), ("stretch", "log")):
        set_control(browser, control, value)
        assert settle(browser).std() > 5


def test_a_blend_is_the_mean_of_two_pictures(browser: Any, explorer: ExplorerServer) -> None:
    # strength 0.25 from the address, 0.75 by hand; then the upper one alone: nothing of a blend is left in it
    open_page(browser, explorer, "#projection=TAN&l=30&b=-40&fov=10&base=band-143&overlay=band-857&opacity=0.25")
    browser.execute_script("explorer.sky.candidates.hide()")
    blended = {0.25: settle(browser)}
    for strength in (0.75, 0.0, 1.0):
        set_control(browser, "opacity", str(strength))
        blended[strength] = settle(browser)
    inner = np.s_[40:-60, 60:-120]
    for strength in (0.25, 0.75):
        mean = (1 - strength) * blended[0.0] + strength * blended[1.0]
        assert np.abs(blended[strength] - mean)[inner].max() < 6  # two roundings, and the edges of pixels
    assert np.abs(blended[0.0] - blended[1.0])[inner].mean() > 30
    set_control(browser, "opacity", "0.5")
    set_control(browser, "overlay", "")
    set_control(browser, "base", "band-857")
    assert np.abs(settle(browser) - blended[1.0])[inner].max() < 6


def test_limits_of_the_colours_are_typed_and_shared(browser: Any, explorer: ExplorerServer) -> None:
    open_page(browser, explorer, "#projection=TAN&l=30&b=-40&fov=10&base=band-857")
    browser.execute_script("explorer.sky.candidates.hide()")
    usual = settle(browser)
    set_control(browser, "low", "1000")  # MJy/sr: all of it lies below
    set_control(browser, "high", "2000")
    blue = 255 * np.array(matplotlib.colormaps["RdBu_r"](0.0)[:3])
    inner = np.s_[40:-60, 60:-120]
    assert np.abs(sky_until(browser, lambda now: np.abs(now[inner] - blue).max() < 20)[inner] - blue).max() < 20
    wait_for(browser, "location.hash.includes('low=1000') && location.hash.includes('high=2000')")
    set_control(browser, "base", "p")
    set_control(browser, "base", "band-857")  # its own again
    assert np.abs(settle(browser) - usual)[inner].max() < 6


def test_automatic_projection(browser: Any, explorer: ExplorerServer) -> None:
    # Mollweide's scales at its centre differ by (pi / 2 sqrt 2)^2 = 1.23: close by it is the tangent plane
    open_page(browser, explorer, "#l=30&b=-40&fov=300")
    assert browser.execute_script("return explorer.sky.projection") == "MOL"
    browser.execute_script("explorer.sky.goto(30, -40, 4)")
    wait_for(browser, "explorer.sky.projection === 'TAN'")
    where = browser.execute_script("return explorer.sky.where()")
    assert (where["lon"], where["lat"], where["fov"]) == pytest.approx((30, -40, 4), abs=0.01)
    browser.execute_script("explorer.sky.goto(30, -40, 360)")
    wait_for(browser, "explorer.sky.projection === 'MOL' && explorer.sky.where().fov === 360")


def test_a_position_is_read_as_it_is_written(browser: Any, explorer: ExplorerServer) -> None:
    table = explorer.explorer.candidates
    place = SkyCoord(float(table["lon_deg"][7]), float(table["lat_deg"][7]), unit="deg", frame="galactic")
    icrs = place.icrs
    open_page(browser, explorer)
    for frame, text in (
        ("galactic", f"{place.l.deg:.3f} {place.b.deg:.3f}"),
        ("galactic", f"l = {place.l.deg:.3f}°, b = {place.b.deg:.3f}°".replace("-", "−")),
        ("galactic", f"RA {icrs.ra.deg:.3f} Dec {icrs.dec.deg:+.3f}"),
        ("galactic", icrs.to_string("hmsdms", precision=0)),
        ("galactic", icrs.to_string("hmsdms", sep=":", precision=1)),
        ("ICRS", f"{icrs.ra.deg:.3f} {icrs.dec.deg:.3f}"),
        ("ICRS", f"l {place.l.deg:.3f} b {place.b.deg:.3f}"),
    ):
        set_control(browser, "frame", frame)
        set_control(browser, "search", "0 90")  # elsewhere
        wait_for(browser, "explorer.order[0] !== 7")
        set_control(browser, "search", text)
        wait_for(browser, "explorer.order[0] === 7")
    browser.execute_script("explorer.select(7)")
    assert f"RA {icrs.ra.deg:.4f}°" in browser.find_element(By.ID, "place").text


def test_keyboard_vetting_is_kept(browser: Any, explorer: ExplorerServer) -> None:
    open_page(browser, explorer)
    grid = browser.find_element(By.ID, "grid")
    grid.send_keys(Keys.HOME)
    for key in (Keys.ARROW_DOWN, Keys.ARROW_DOWN):
        grid.send_keys(key)
    assert browser.execute_script("return explorer.order.indexOf(explorer.selected)") == 2
    grid.send_keys("c")
    name = browser.execute_script("return explorer.table.name[explorer.selected]")
    wait_for(browser, "document.querySelector('.row[aria-selected=true] .v-cluster')")
    assert {said.name: said.verdict for said in explorer.explorer.verdicts.read()} == {name: "cluster"}
    grid.send_keys("n")
    note = browser.switch_to.active_element
    assert note.get_attribute("id") == "note"
    note.send_keys("bright in 143 <b>GHz</b>", Keys.TAB)
    WebDriverWait(browser, 60).until(lambda _: explorer.explorer.verdicts.read()[0].note)
    assert explorer.explorer.verdicts.read()[0].note == "bright in 143 <b>GHz</b>"

    open_page(browser, explorer)  # said once, known ever after
    set_control(browser, "judged", "cluster")
    wait_for(browser, "explorer.order.length === 1")
    browser.find_element(By.ID, "grid").send_keys(Keys.HOME)
    assert browser.find_element(By.ID, "note").get_attribute("value") == "bright in 143 <b>GHz</b>"
    browser.find_element(By.ID, "grid").send_keys("u")
    WebDriverWait(browser, 60).until(lambda _: explorer.explorer.verdicts.read()[0].verdict == "")
    explorer.explorer.verdicts.write(name, "", "")


def test_click_on_row_flies_and_click_on_marker_selects(browser: Any, explorer: ExplorerServer) -> None:
    open_page(browser, explorer)
    settle(browser)
    browser.find_elements(By.CSS_SELECTOR, ".row")[3].click()
    row = browser.execute_script("return explorer.selected")
    lon, lat = (float(explorer.explorer.candidates[name][row]) for name in ("lon_deg", "lat_deg"))
    wait_for(browser, "explorer.sky.where().fov < 3")
    time.sleep(1)
    where = browser.execute_script("return explorer.sky.where()")
    assert where["lat"] == pytest.approx(lat, abs=0.01) and where["lon"] == pytest.approx(lon, abs=0.05)
    browser.execute_script("explorer.select(-1)")
    settle(browser)
    at = browser.execute_script("return explorer.sky.pixel(explorer.table, arguments[0])", row)
    box = browser.find_element(By.ID, "sky")
    size = box.size
    ActionChains(browser).move_to_element_with_offset(
        box, round(at[0] - size["width"] / 2), round(at[1] - size["height"] / 2)
    ).pause(0.3).click().perform()
    wait_for(browser, f"explorer.selected === {row}")


def test_filters_and_search(browser: Any, explorer: ExplorerServer) -> None:
    table = explorer.explorer.candidates
    open_page(browser, explorer)
    p, lat = np.array(table["p"]), np.array(table["lat_deg"])
    matched = np.array([bool(name) for name in table["match_name"]])
    set_control(browser, "p_min", "0.5")
    set_control(browser, "lat_min", "30")
    set_control(browser, "matched", "yes")
    expected = int(((p >= 0.5) & (np.abs(lat) >= 30) & matched).sum())
    wait_for(browser, f"explorer.order.length === {expected}")
    assert f"{expected} of {len(table)}" in browser.find_element(By.ID, "summary").text
    browser.find_element(By.CSS_SELECTOR, "#filters button[type=reset]").click()
    wait_for(browser, f"explorer.order.length === {len(table)}")
    name = str(table["name"][5])
    set_control(browser, "search", name)
    wait_for(browser, "explorer.order.length >= 1 && explorer.order.length < 4")
    set_control(browser, "search", name.split()[1])  # a position, as in IAU names
    wait_for(browser, "explorer.order[0] === 5")
    # a position sorts by distance from it
    set_control(browser, "search", f"{float(table['lon_deg'][7]):.3f} {float(table['lat_deg'][7]):.3f}")
    wait_for(browser, "explorer.order[0] === 7")


def test_evil_name_is_text(browser: Any, explorer: ExplorerServer) -> None:
    open_page(browser, explorer)
    set_control(browser, "search", "<script>")
    wait_for(browser, "explorer.order.length === 1")
    cells = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, ".row span")]
    assert any("<script>" in text for text in cells)
    assert browser.execute_script("return document.querySelectorAll('#body script').length") == 0


def test_state_in_the_address(browser: Any, explorer: ExplorerServer) -> None:
    name = str(explorer.explorer.candidates["name"][4])
    open_page(browser, explorer)
    set_control(browser, "base", "y")
    set_control(browser, "p_min", "0.3")
    browser.execute_script("explorer.select(4, {fly: true})")
    WebDriverWait(browser, 60).until(lambda driver: "at=" in driver.current_url and "base=y" in driver.current_url)
    time.sleep(0.6)
    address = browser.current_url
    open_page(browser, explorer, "#" + address.split("#")[1])
    assert browser.execute_script("return explorer.table.name[explorer.selected]") == name
    assert browser.find_element(By.ID, "p_min").get_attribute("value") == "0.3"
    assert browser.execute_script("return document.getElementById('base').value") == "y"
    where = browser.execute_script("return explorer.sky.where()")
    assert where["fov"] == pytest.approx(2.0, rel=0.02)
    assert where["lat"] == pytest.approx(float(explorer.explorer.candidates["lat_deg"][4]), abs=0.01)


def test_a_link_opened_over_the_page_is_all_of_its_state(browser: Any, explorer: ExplorerServer) -> None:
    """Known clusters are part of the state, and what a link leaves out is as usual, not as it was."""
    open_page(browser, explorer)
    browser.find_element(By.CSS_SELECTOR, "#layers input[value='mcxcwp']").click()
    set_control(browser, "p_min", "0.3")
    browser.execute_script("explorer.select(2)")
    wait_for(browser, "location.hash.includes('known=mcxcwp') && location.hash.includes('at=')")
    address = browser.current_url
    browser.execute_script("location.hash = 'l=10&b=20&fov=5'")
    wait_for(browser, "explorer.selected === -1")
    shown = "return [document.getElementById('p_min').value, document.getElementById('detail').hidden,"
    shown += " [...document.querySelectorAll('#layers input:checked')].map(box => box.value)]"
    assert browser.execute_script(shown) == ["", True, []]
    # A save of the page's own state that falls between the change and its event must not win over it.
    late = "const own = location.hash; location.hash = arguments[0]; history.replaceState(null, '', own)"
    browser.execute_script(late, address.split("#")[1])
    wait_for(browser, "explorer.selected === 2")
    assert browser.execute_script(shown) == ["0.3", False, ["mcxcwp"]]


def test_colours_are_explained(browser: Any, explorer: ExplorerServer) -> None:
    """The scale on the map names the limits and colours of the layer that is shown."""
    open_page(browser, explorer)
    for name in ("p", "band-143"):
        set_control(browser, "base", name)
        layer = explorer.explorer.layers[name]
        for end in ("low", "high"):
            said = browser.find_element(By.ID, end).get_attribute("placeholder").replace("−", "-")
            assert float(said) == pytest.approx(getattr(layer, end), rel=0.01)
        assert browser.find_element(By.ID, "unit").text == ("µK" if name == "band-143" else "")
        ground = browser.execute_script("return getComputedStyle(document.getElementById('swatch')).backgroundImage")
        first = (255 * np.array(matplotlib.colormaps[layer.colours](0.0)[:3])).round().astype(int)
        assert ground.startswith(f"linear-gradient(to right, rgb({', '.join(map(str, first))})")
        ticks = (
            "return [...document.querySelectorAll('#ticks span')].map(t => [t.textContent, parseFloat(t.style.left)])"
        )
        ticks = browser.execute_script(ticks)
        assert [float(text) for text, _ in ticks] == list(P_TICKS if name == "p" else ())
        np.testing.assert_allclose([place / 100 for _, place in ticks], scale_p()([*layer.ticks]), atol=1e-3)


def test_candidates_do_not_hide_the_map_of_p(browser: Any, explorer: ExplorerServer) -> None:
    """Rings around the bright spots where few are in view, nothing where they are many; dots again on other maps."""
    open_page(browser, explorer)
    for n_shown, colour in ((5000, "rgba(255,255,255,0)"), (20, "rgba(255,255,255,0.8)")):
        browser.execute_script("explorer.sky.nShown = arguments[0]; explorer.sky.sizeMarkers()", n_shown)
        assert browser.execute_script("return explorer.sky.candidates.color") == colour
    browser.execute_script("explorer.sky.nShown = 5000")
    set_control(browser, "base", "y")
    assert browser.execute_script("return explorer.sky.candidates.color") == "rgba(255,255,255,0.3)"


def test_nothing_is_asked_of_any_other_host(browser: Any, explorer: ExplorerServer) -> None:
    requested_hosts(browser)
    page_errors(browser)  # both start afresh
    open_page(browser, explorer)
    set_control(browser, "base", "band-217")
    browser.find_element(By.ID, "grid").send_keys(Keys.HOME)
    for box in browser.find_elements(By.CSS_SELECTOR, "#layers input"):
        box.click()
    WebDriverWait(browser, 90).until(
        lambda d: d.execute_script("return document.getElementById('sheet').naturalWidth > 500")
    )
    settle(browser)
    assert requested_hosts(browser) == {explorer.hosts[0]}
    assert page_errors(browser) == []


def test_without_webgl_a_still_sky_and_the_same_table(
    open_browser: Callable[..., Any], explorer: ExplorerServer
) -> None:
    browser = open_browser(webgl=False)
    open_page(browser, explorer, sky="still")
    assert "no WebGL2" in browser.find_element(By.ID, "readout").text
    wait_for(browser, "document.querySelector('#sky img').naturalWidth === 800")
    assert sky_picture(browser).std() > 5
    controls = browser.find_elements(By.CSS_SELECTOR, ".sky select, .sky input[type=range]")
    assert len(controls) == 6 and not any(control.is_enabled() for control in controls)  # they would do nothing
    browser.find_element(By.CSS_SELECTOR, "#layers input").click()
    clusters = browser.find_element(By.CSS_SELECTOR, "#sky svg > path")
    assert clusters.get_attribute("visibility") == "visible" and clusters.get_attribute("d").count("M") > 5
    browser.find_element(By.ID, "grid").send_keys(Keys.HOME, Keys.ARROW_DOWN)
    row = browser.execute_script("return explorer.selected")
    x, y = browser.execute_script("return explorer.sky.pixel(explorer.table, arguments[0])", row)
    candidate = explorer.explorer.candidates[row]
    own_x, own_y = mollweide_forward([candidate["lon_deg"]], [candidate["lat_deg"]])
    assert (x, y) == pytest.approx((own_x[0], own_y[0]), abs=1e-6)
    ring = browser.execute_script(
        "const ring = document.querySelector('svg > circle');"
        "return [ring.getAttribute('cx'), ring.getAttribute('visibility')]"
    )
    assert float(ring[0]) == pytest.approx(own_x[0], abs=1e-6) and ring[1] == "visible"
    assert page_errors(browser) == []


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExplorerServer]:
    """The explorer of 25,000 random candidates, of which some have no S/N."""
    folder, n, rng = tmp_path_factory.mktemp("crowd"), 25_000, np.random.default_rng(3)
    healpy.write_map(str(folder / "prediction.fits"), np.full(12 * 16**2, 0.1, np.float32), nest=True, coord="G")
    table = Table({"lon_deg": rng.uniform(0, 360, n), "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n)))})
    table["p"], table["snr"] = rng.uniform(0.1, 1, n), np.where(rng.random(n) < 0.1, np.nan, rng.uniform(2, 9, n))
    write_candidates(make_candidates(table), folder / "candidates.fits")
    with ExplorerServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_25000_candidates_filter_rightly_and_draw_what_is_in_sight(browser: Any, crowd: ExplorerServer) -> None:
    # how long it takes is measured by benchmarks/bench_explorer.py
    open_page(browser, crowd)
    table = crowd.explorer.candidates
    assert len(table) == 25_000
    for words in ({"p_min": "0.2"}, {"snr_min": "5"}, {"p_min": "0.5", "lat_min": "30"}, {}):
        browser.execute_script("document.getElementById('filters').reset()")
        shown, drawn = browser.execute_script(
            """for (const [name, value] of Object.entries(arguments[0])) document.getElementById(name).value = value;
               explorer.applyFilters();
               return [explorer.order, document.querySelectorAll(".row").length]""",
            words,
        )
        assert shown == choose_candidates(table, Filters.parse(words)).tolist()  # both have the highest p first
        assert 0 < drawn < 80
    # by S/N: rising, what has none last, equal ones in the order of p
    browser.find_element(By.XPATH, "//*[@id='head']//button[.='S/N']").click()
    snr = np.asarray(table["snr"], float)
    assert browser.execute_script("return explorer.order") == np.argsort(-snr, kind="stable").tolist()


def test_of_many_candidates_those_in_view_are_marked(browser: Any, crowd: ExplorerServer) -> None:
    """On the whole sky the 5000 of highest p, which the page says; close by all that pass the filters."""
    rows = "return explorer.sky.candidates.getSources().map(source => source.data.row)"
    open_page(browser, crowd)
    assert browser.execute_script(rows) == list(range(5000))
    said = "document.getElementById('summary').textContent"
    assert browser.execute_script(f"return {said}") == "25000 candidates; the map marks the 5000 of highest p in view"
    browser.execute_script("explorer.sky.goto(200, 40, 10)")
    wait_for(browser, "explorer.sky.candidates.getSources().length < 1000")
    time.sleep(0.5)
    table = crowd.explorer.candidates
    place = SkyCoord(200, 40, unit="deg", frame="galactic")
    away = place.separation(SkyCoord(table["lon_deg"], table["lat_deg"], unit="deg", frame="galactic")).deg
    near = np.flatnonzero(away < 5)
    assert len(near) > 30 and set(near.tolist()) <= set(browser.execute_script(rows))
    set_control(browser, "p_min", "0.6")
    wait_for(browser, "explorer.order.length < 20000")
    marked = browser.execute_script(rows)
    kept = near[np.asarray(table["p"])[near] >= 0.6]
    assert set(kept.tolist()) <= set(marked) and np.asarray(table["p"])[marked].min() >= 0.6


def test_accessible_names_and_rows(browser: Any, explorer: ExplorerServer) -> None:
    open_page(browser, explorer)
    grid = browser.find_element(By.ID, "grid")
    grid.send_keys(Keys.HOME)
    assert grid.get_attribute("role") == "grid"
    active = grid.get_attribute("aria-activedescendant")
    assert browser.find_element(By.ID, active).get_attribute("aria-selected") == "true"
    assert int(grid.get_attribute("aria-rowcount")) == len(explorer.explorer.candidates) + 1
    unnamed = browser.execute_script("""
      const named = e => e.labels?.length || e.textContent.trim() || e.getAttribute("aria-label");
      return [...document.querySelectorAll("input, select, button, a")]
        .filter(e => e.checkVisibility() && !e.closest("#sky") && !named(e)).map(e => e.id)""")
    assert unnamed == []


def test_screen_reader_tree(browser: Any, explorer: ExplorerServer) -> None:
    """What assistive technology is told: landmarks, the grid with its heads and the selected row, the status."""
    open_page(browser, explorer)
    browser.find_element(By.ID, "grid").send_keys(Keys.HOME)
    browser.execute_cdp_cmd("Accessibility.enable", {})
    nodes = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    told = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]
    name = str(explorer.explorer.candidates["name"][0])
    for entry in (("main", ""), ("navigation", "Downloads"), ("region", "Sky map"), ("region", "Candidates"),
                  ("search", "Filter the candidates"), ("grid", "Candidates"), ("columnheader", "p ▼"),
                  ("gridcell", name), ("heading", name), ("group", "Verdict"), ("link", "Dossier")):  # fmt: skip
        assert entry in told, entry
    (selected,) = [
        node for node in nodes
        if node.get("role", {}).get("value") == "row"
        and any(p["name"] == "selected" and p["value"]["value"] for p in node.get("properties", []))
    ]  # fmt: skip
    assert name in selected["name"]["value"]
    status = next(node for node in nodes if node.get("role", {}).get("value") == "status")
    assert any(p["name"] == "live" and p["value"]["value"] == "polite" for p in status["properties"])
    browser.execute_cdp_cmd("Accessibility.disable", {})


def test_everything_by_keyboard(browser: Any, explorer: ExplorerServer) -> None:
    open_page(browser, explorer)
    here = browser.current_window_handle
    grid = browser.find_element(By.ID, "grid")
    stops = []
    for _ in range(60):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        stops.append(browser.execute_script("return document.activeElement.id || document.activeElement.textContent"))
        if stops[-1] == "grid":
            break
    for control in (
        "Skip to the candidates",
        "dossiers",
        "share",
        "help",
        "base",
        "frame",
        "search",
        "p_min",
        "grid",
    ):
        assert control in stops, control
    grid.send_keys(Keys.END)
    assert browser.execute_script("return explorer.order.indexOf(explorer.selected)") == len(
        explorer.explorer.candidates
    ) - 1  # fmt: skip
    grid.send_keys(Keys.PAGE_UP, Keys.HOME, "/")
    assert browser.switch_to.active_element.get_attribute("id") == "search"
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert browser.switch_to.active_element.get_attribute("id") == "grid"
    grid.send_keys("?")
    assert browser.find_element(By.ID, "keys").is_displayed()
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert not browser.find_element(By.ID, "keys").is_displayed()
    grid.send_keys(Keys.HOME, "d")
    WebDriverWait(browser, 30).until(lambda driver: len(driver.window_handles) == 2)
    browser.switch_to.window(next(handle for handle in browser.window_handles if handle != here))
    WebDriverWait(browser, 30).until(lambda driver: "/dossier/SZeek%20G" in driver.current_url)
    browser.close()
    browser.switch_to.window(here)


def test_dossier_page(browser: Any, explorer: ExplorerServer) -> None:
    names = [str(name) for name in explorer.explorer.candidates["name"]]
    page_errors(browser)
    requested_hosts(browser)
    browser.get(explorer.url.rstrip("/") + page_address(names[1]))
    assert browser.find_element(By.TAG_NAME, "h1").text == names[1]
    wait_for(browser, "document.querySelector('img.sheet').naturalWidth > 1000")
    numbers = browser.find_element(By.CSS_SELECTOR, "dl.numbers").text
    assert (
        "Y5R500" in numbers and "±" in numbers and "trained on here" in numbers.replace("held out", "trained on here")
    )
    browser.find_element(By.CSS_SELECTOR, "a[rel=next]").click()
    assert browser.find_element(By.TAG_NAME, "h1").text == names[2]
    for width, scheme in ((320, "light"), (390, "dark"), (0, "light")):
        emulate(browser, width=width, scheme=scheme)
        browser.refresh()
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert browser.execute_script(FAINT_TEXTS) == []
    browser.find_element(By.LINK_TEXT, "In the sky").click()
    wait_for(browser, "document.body.dataset.ready", 120)
    assert browser.execute_script("return explorer.table.name[explorer.selected]") == names[2]
    assert requested_hosts(browser) == {explorer.hosts[0]} and page_errors(browser) == []


def test_the_set_of_dossiers_is_what_the_table_shows(browser: Any, explorer: ExplorerServer) -> None:
    table = explorer.explorer.candidates
    explorer.explorer.verdicts.write(str(table["name"][2]), "maybe")
    open_page(browser, explorer)
    for settings in (
        {}, {"p_min": "0.4", "lat_min": "20"}, {"purity_min": "0.3", "snr_min": "6"}, {"kind": "dusty"},
        {"matched": "no", "p_min": "0.2"}, {"judged": "none"}, {"judged": "maybe"}, {"search": "psz2"},
        {"search": "112.5 41.8"},
    ):  # fmt: skip
        browser.find_element(By.CSS_SELECTOR, "#filters button[type=reset]").click()
        wait_for(browser, f"explorer.order.length === {len(table)}")
        for name, value in settings.items():
            set_control(browser, name, value)
            if value != "112.5 41.8":  # a position sorts, and chooses nothing
                wait_for(browser, f"document.getElementById('dossiers').href.includes('{name}=')")
        shown = sorted(browser.execute_script("return explorer.order"))
        address = browser.find_element(By.ID, "dossiers").get_attribute("href")
        asked = Filters.parse(dict(parse_qsl(urlsplit(address).query)))
        said = {one.name: one.verdict for one in explorer.explorer.verdicts.read()}
        assert shown == choose_candidates(table, asked, said).tolist(), settings
        assert shown or settings == {}
    explorer.explorer.verdicts.write(str(table["name"][2]), "")


def test_a_candidate_of_another_run_is_said_to_be(browser: Any, explorer: ExplorerServer) -> None:
    open_page(browser, explorer, "#at=SZeek+G000.00%2B00.00")
    assert "This run has no candidate SZeek G000.00+00.00" in browser.find_element(By.ID, "summary").text
    # and a link followed while the page is open: it flies there
    name = str(explorer.explorer.candidates["name"][6])
    browser.execute_script("location.hash = arguments[0]", explorer_link(name).split("#")[1])
    wait_for(browser, "explorer.selected === 6")
    wait_for(
        browser, f"Math.abs(explorer.sky.where().lat - {float(explorer.explorer.candidates['lat_deg'][6])}) < 0.01"
    )


@pytest.mark.parametrize(("lon", "lat", "fov"), [(83.3, 31.7, 6.0), (83.3, 31.7, 2.5), (200.1, -50.2, 4.0)])
def test_small_pixels_lie_where_they_belong(
    browser: Any, chequers: ExplorerServer, lon: float, lat: float, fov: float
) -> None:
    # chequers of 0.7 deg on a map of nside 1024, to two pixels of the screen: Aladin stretches its tiles, and
    # those of the map's own order alone put them 30 pixels off
    open_page(browser, chequers, f"#projection=TAN&l={lon}&b={lat}&fov={fov}")
    ny, nx, _ = sky_picture(browser).shape
    pixel_arcmin = 60 * np.degrees(2 * np.tan(np.radians(fov / 2))) / nx
    directions = field_directions(lon, lat, 0.0, ny, nx, pixel_arcmin)[::-1, ::-1]
    p = chequers.explorer.run.p_nested
    expected = p[healpy.vec2pix(1024, *np.moveaxis(directions, -1, 0), nest=True)] > 0.5
    shifted = [np.roll(expected, (dy, dx), (0, 1)) for dy in range(-2, 3) for dx in range(-2, 3)]
    inner, agree, end = np.s_[40:-60, 60:-120], 0.0, time.monotonic() + 90
    while agree < 0.99 and time.monotonic() < end:  # coarser tiles come first
        picture = sky_picture(browser)
        bright = picture[..., 0] > picture[..., 2]  # magma: 0.1 is violet, 0.9 is yellow
        agree = float(np.any([(bright == one)[inner] for one in shifted], axis=0).mean())
    assert agree > 0.99


def test_readable_in_dark_and_light(browser: Any, explorer: ExplorerServer) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        emulate(browser, scheme=scheme)
        open_page(browser, explorer)
        browser.find_element(By.ID, "grid").send_keys(Keys.HOME)
        grounds.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert browser.execute_script(FAINT_TEXTS) == []
    emulate(browser)
    assert grounds[0] != grounds[1]


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Any, explorer: ExplorerServer, width: int) -> None:
    emulate(browser, width=width)
    try:
        open_page(browser, explorer)
        browser.find_element(By.ID, "grid").send_keys(Keys.HOME)
        assert browser.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [width, width]
        box = browser.find_element(By.ID, "sky").rect
        assert box["width"] == width and box["height"] > 200  # the sky is not squeezed away
    finally:
        emulate(browser)
