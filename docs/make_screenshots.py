"""Pictures of report, tile, explorer and dossier for README and docs: `python docs/make_screenshots.py RUN`.

Needs Chromium with its driver and selenium (`pip install '.[test]'`). Writes docs/images/*.png, and
RUN/report.html where the run has none.
"""

from __future__ import annotations

import argparse
import io
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from szeek.pipeline.products import RunFolder
from szeek.show.explorer.server import ExplorerServer
from szeek.show.figures.dossier import draw_sheet
from szeek.show.report.page import write_report

FLAGS = (
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars",
    "--no-first-run", "--disable-background-networking", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
)  # fmt: skip
#: Seconds for tiles to come and settle under software WebGL.
SETTLE_S = 15.0


def main(run_folder: Path, images: Path) -> None:
    """Write report.png, demo-tile.png, dossier.png, explorer-{sky,candidate,dark,phone}.png."""
    images.mkdir(parents=True, exist_ok=True)
    report = run_folder / "report.html"
    if not report.is_file():
        write_report(run_folder)
    run = RunFolder(run_folder)
    tile = Image.open(run_folder / "figures" / "test_tile.png")
    tile.thumbnail((820, 900))
    buffer = io.BytesIO()
    tile.save(buffer, "png")
    save(buffer.getvalue(), images / "demo-tile.png")
    save(draw_sheet(run, 0, "png"), images / "dossier.png")
    with _browser(900, 1050) as driver:
        driver.get(report.resolve().as_uri())
        driver.execute_script("for (const image of document.images) image.loading = 'eager'")
        time.sleep(2)
        save(driver.get_screenshot_as_png(), images / "report.png")
    with ExplorerServer(run_folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with _browser(1400, 850) as driver:
            _open(driver, server.url)
            save(driver.get_screenshot_as_png(), images / "explorer-sky.png")
            _open(driver, server.url + "#base=y")
            for box in driver.find_elements(By.CSS_SELECTOR, "#layers input")[:1]:
                box.click()
            _show_first(driver)
            save(driver.get_screenshot_as_png(), images / "explorer-candidate.png")
            driver.execute_cdp_cmd(
                "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
            )
            _open(driver, server.url + "#base=y&l=112.5&b=41.8&fov=12&p_min=0.5")
            for box in driver.find_elements(By.CSS_SELECTOR, "#layers input")[:1]:
                box.click()
            time.sleep(SETTLE_S)
            save(driver.get_screenshot_as_png(), images / "explorer-dark.png")
        with _browser(500, 1000) as driver:
            _as_phone(driver)
            _open(driver, server.url)
            driver.execute_script("document.getElementById('sky').scrollIntoView()")
            time.sleep(2)
            save(driver.get_screenshot_as_png(), images / "explorer-phone.png")
        server.shutdown()


def save(png: bytes, file: Path) -> None:
    """A picture in all its colours: in 256, colour bars fall into steps."""
    Image.open(io.BytesIO(png)).convert("RGB").save(file, optimize=True)
    print(f"{file}  {file.stat().st_size // 1024} KiB")


@contextmanager
def _browser(width: int, height: int) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--window-size={width},{height}"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(120)
    try:
        yield driver
    finally:
        driver.quit()


def _as_phone(driver: Any) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def _open(driver: Any, address: str) -> None:
    driver.get("about:blank")
    driver.get(address)
    WebDriverWait(driver, 120).until(lambda d: d.execute_script("return document.body.dataset.ready"))
    time.sleep(SETTLE_S)


def _show_first(driver: Any) -> None:
    driver.find_element(By.ID, "grid").send_keys(Keys.HOME, Keys.ENTER)
    loaded = "const s = document.getElementById('sheet'); return s.naturalWidth && !s.ariaBusy"
    WebDriverWait(driver, 120).until(lambda d: d.execute_script(loaded))
    time.sleep(SETTLE_S)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images", help="folder of the pictures")
    given = parser.parse_args()
    main(given.run, given.out)
