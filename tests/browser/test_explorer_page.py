"""The explorer in a real browser: what is drawn, what is clicked and typed, what is asked of the network."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from typing import Any

import healpy
import matplotlib
import numpy as np
import pytest
from conftest import page_errors, requested_hosts
from PIL import Image
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from szeek.show.explorer.server import ExplorerServer
from szeek.show.skyplots import mollweide_forward
from szeek.sky.projection import field_basis, field_directions, project, unit_vectors

READY = "return document.body.dataset.ready"


def open_page(browser: Any, server: ExplorerServer, fragment: str = "") -> None:
    browser.get("about:blank")
    browser.get(server.url + fragment)
    WebDriverWait(browser, 120).until(lambda driver: driver.execute_script(READY))


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


def set_control(browser: Any, name: str, value: str) -> None:
    browser.execute_script(
        "const box = document.getElementById(arguments[0]); box.value = arguments[1];"
        "box.dispatchEvent(new Event('input', {bubbles: true}))", name, value,
    )  # fmt: skip


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
        colours = 255 * matplotlib.colormaps["cividis"](q)[..., :3]
        shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        return np.min([np.abs(picture - np.roll(colours, s, (0, 1))).max(axis=-1)[inner] for s in shifts], axis=0)

    assert (differs(p) < 20).mean() > 0.99
    assert (differs(p) < 20)[source].mean() > 0.97
    assert (differs(p[:, ::-1]) < 20)[p[:, ::-1][inner] > 0.1].mean() < 0.7  # and not its mirror image


def test_markers_lie_on_their_sources(browser: Any, explorer: ExplorerServer) -> None:
    table = explorer.explorer.candidates
    lon, lat = 112.5, 41.8
    open_page(browser, explorer, f"#projection=TAN&l={lon}&b={lat}&fov=15")
    settle(browser)
    width, height = browser.execute_script("const r = document.getElementById('sky').getBoundingClientRect();"
                                           "return [r.width, r.height]")  # fmt: skip
    scale = 60 * np.degrees(2 * np.tan(np.radians(7.5))) / width
    x, y, front = project(
        field_basis(lon, lat), unit_vectors(np.array(table["lon_deg"]), np.array(table["lat_deg"])), scale
    )
    inside = np.flatnonzero(front & (np.abs(x) < width / 2) & (np.abs(y) < height / 2))
    assert inside.size >= 3
    for row in inside.tolist():
        at = browser.execute_script("return explorer.sky.pixel(explorer.table, arguments[0])", row)
        assert at[0] == pytest.approx(width / 2 - x[row], abs=1.0)
        assert at[1] == pytest.approx(height / 2 - y[row], abs=1.0)


def test_layers_frames_and_projections_draw(browser: Any, explorer: ExplorerServer) -> None:
    open_page(browser, explorer)
    pictures = {"p": settle(browser)}
    for layer in ("band-143", "y"):
        set_control(browser, "base", layer)
        pictures[layer] = settle(browser)
    assert np.abs(pictures["band-143"] - pictures["p"]).mean() > 5
    assert np.abs(pictures["y"] - pictures["band-143"]).mean() > 5
    set_control(browser, "overlay", "band-353")
    blended = settle(browser)
    assert np.abs(blended - pictures["y"]).mean() > 3
    set_control(browser, "overlay", "")
    for control, value in (("frame", "ICRS"), ("projection", "ZEA"), ("stretch", "asinh")):
        set_control(browser, control, value)
        assert settle(browser).std() > 5


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
    open_page(browser, explorer)
    assert browser.execute_script(READY) == "still"
    assert "no WebGL2" in browser.find_element(By.ID, "readout").text
    wait_for(browser, "document.querySelector('#sky img').naturalWidth === 1600")
    assert sky_picture(browser).std() > 5
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


def test_25000_candidates_filter_in_a_tenth_of_a_second(browser: Any, explorer: ExplorerServer) -> None:
    open_page(browser, explorer)
    script = """
      const t = explorer.table, n = t.name.length;
      for (const column of Object.values(t).filter(Array.isArray)) {
        const small = column.slice(0, n);
        while (column.length < 25000) column.push(...small.slice(0, 25000 - column.length));
      }
      return n"""
    browser.execute_script(script)
    seconds = browser.execute_script("""
      explorer.grow(); const times = [];
      for (const limit of ["0.2", "0.5", ""]) {
        document.getElementById("p_min").value = limit;
        const start = performance.now(); explorer.applyFilters(); times.push(performance.now() - start);
      }
      return [times, explorer.order.length, document.querySelectorAll(".row").length]""")
    times, n, n_drawn = seconds
    assert n == 25000 and n_drawn < 80  # only what is in sight
    assert min(times) < 100, json.dumps(times)


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


def test_on_a_phone_nothing_is_wider_than_the_screen(
    open_browser: Callable[..., Any], explorer: ExplorerServer
) -> None:
    browser = open_browser(size=(500, 900), webgl=False)
    open_page(browser, explorer)
    browser.find_element(By.ID, "grid").send_keys(Keys.HOME)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
