"""Pictures of the report and the explorer for README and docs, from a run: `python docs/make_screenshots.py RUN`.

Needs Chromium with its driver and selenium (`pip install '.[test]'`). Writes docs/images/*.png.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from szeek.show.explorer.server import ExplorerServer
from szeek.show.report import write_report

FLAGS = (
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars",
    "--no-first-run", "--disable-background-networking", "--window-size=1500,950",
)  # fmt: skip


def main(run_folder: Path, images: Path) -> None:
    """Write report.png, explorer-sky.png and explorer-candidate.png."""
    images.mkdir(parents=True, exist_ok=True)
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.get(write_report(run_folder).resolve().as_uri())
        driver.save_screenshot(str(images / "report.png"))
        with ExplorerServer(run_folder) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            driver.get(server.url)
            WebDriverWait(driver, 120).until(lambda d: d.execute_script("return document.body.dataset.ready"))
            time.sleep(5)
            driver.save_screenshot(str(images / "explorer-sky.png"))
            driver.find_element(By.ID, "grid").send_keys(Keys.HOME, Keys.ENTER)
            loaded = "const s = document.getElementById('sheet'); return s.naturalWidth && !s.ariaBusy"
            WebDriverWait(driver, 120).until(lambda d: d.execute_script(loaded))
            time.sleep(5)
            driver.save_screenshot(str(images / "explorer-candidate.png"))
            server.shutdown()
    finally:
        driver.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent / "images")
