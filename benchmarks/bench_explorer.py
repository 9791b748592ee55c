"""The explorer with 100,000 candidates: first paint and filters in a real browser; HiPS of one map; a dossier sheet.

python benchmarks/bench_explorer.py [--nside 2048] [--candidates 100000]

The browser rows need Chromium with its driver and selenium; they are left out where these are not installed.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.table import Table
from rows import Row, peak_gib, run

from szeek.inputs.instrument import read_instrument
from szeek.measure.candidates import make_candidates, write_candidates
from szeek.pipeline.products import RunFolder
from szeek.show.explorer.hips import HipsLayer, nested_reader, write_hips
from szeek.show.explorer.server import ExplorerServer
from szeek.show.figures.dossier import draw_sheet
from szeek.sky.skymaps import SkyMaps

_FLAGS = (
    "--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
    "--disable-dev-shm-usage", "--disable-background-networking", "--window-size=1400,900",
)  # fmt: skip
#: Filters, each alone, on all candidates: control and value.
_FILTERS = (("p_min", "0.3"), ("purity_min", "0.5"), ("snr_min", "5"), ("lat_min", "20"), ("matched", "no"),
            ("kind", "dusty"), ("search", "112"), ("search", "112.5 41.8"))  # fmt: skip


def make_run(folder: Path, n: int, nside: int = 256) -> Path:
    """A run of n random candidates with every column that the page filters by, and small maps."""
    rng = np.random.default_rng(0)
    table = Table({"lon_deg": rng.uniform(0, 360, n), "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n)))})
    table["p"], table["purity"] = rng.uniform(0.1, 1, n), rng.uniform(0, 1, n)
    table["snr"], table["y5r500_arcmin2"] = rng.uniform(2, 20, n), rng.uniform(0, 5e-3, n)
    table["match_name"] = np.where(rng.random(n) < 0.1, "PSZ2 G112.50+41.80", "")
    table["kind"] = rng.choice(["cluster", "dusty", "radio"], n)
    write_candidates(make_candidates(table), folder / "candidates.fits")
    p_map = rng.random(12 * nside**2, np.float32)
    healpy.write_map(str(folder / "prediction.fits"), p_map, nest=True, coord="G", dtype=np.float32)
    bands = read_instrument("planck-hfi").bands
    values = rng.normal(0, 1e-4, (p_map.size, len(bands))).astype(np.float32)
    SkyMaps(values, np.ones(p_map.size, bool), bands).save(folder / "maps")
    return folder


def measure(nside: int = 2048, candidates: int = 100_000) -> list[Row]:
    """Browser: wall seconds, best of three; HiPS and sheet: CPU seconds of one thread."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_run(Path(scratch) / "run", candidates)
        rows += _browser_rows(folder, candidates)
        sheet = RunFolder(folder)
        draw_sheet(sheet, 0, "pdf")
        start = time.process_time()
        for row in range(1, 4):
            draw_sheet(sheet, row, "pdf")
        rows.append(Row("a dossier sheet", "PDF", (time.process_time() - start) / 3, "s", 2.0, "at most", 1))
        values = np.random.default_rng(1).random(12 * nside**2, np.float32)
        layer = HipsLayer("p", "p", nested_reader(values), nside, "", 0.0, 1.0, "cividis", "maximum")
        start = time.process_time()
        write_hips(layer, Path(scratch) / "hips")
        seconds = time.process_time() - start
        rows.append(
            Row("HiPS of one map", f"nside {nside}, PNG and FITS", seconds, "s", 15.0, "at most", 1, peak_gib())
        )
    return rows


def _browser_rows(folder: Path, n: int) -> list[Row]:
    driver_path = shutil.which("chromedriver")
    if driver_path is None:
        return []
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in _FLAGS:
        options.add_argument(flag)
    driver: Any = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver_path))
    try:
        with ExplorerServer(folder) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            loads = [_load(driver, server.url) for _ in range(3)]
            filters = _filter(driver)
            server.shutdown()
    finally:
        driver.quit()
    against = f"{n} candidates"
    slowest = max(filters, key=lambda name: filters[name])
    return [
        Row("first paint", against, min(load[0] for load in loads), "s", 1.5, "at most", 1),
        Row("table filled", against, min(load[1] for load in loads), "s", 1.5, "at most", 1),
        Row("slowest filter", against, 1e3 * filters[slowest], "ms", 100, "at most", 1, None, slowest),
    ]


def _load(driver: Any, url: str) -> tuple[float, float]:
    """Seconds from the request to the first paint with content, and to the filled table."""
    driver.get("about:blank")
    driver.get(url)
    end = time.monotonic() + 120
    while not driver.execute_script("return document.body.dataset.ready") and time.monotonic() < end:
        time.sleep(0.2)
    paint, filled = driver.execute_script(
        "return [performance.getEntriesByName('first-contentful-paint')[0].startTime,"
        " performance.getEntriesByName('table')[0].startTime]"
    )
    return paint / 1e3, filled / 1e3


def _filter(driver: Any) -> dict[str, float]:
    """Seconds of each filter, to the redrawn table, best of three."""
    seconds: dict[str, float] = {}
    for _ in range(3):
        for name, value in _FILTERS:
            took = driver.execute_script(
                """document.getElementById('filters').reset();
                   document.getElementById(arguments[0]).value = arguments[1];
                   const start = performance.now();
                   explorer.applyFilters();
                   document.getElementById('grid').getBoundingClientRect();
                   return performance.now() - start""",
                name, value,
            )  # fmt: skip
            key = f"{name} = {value}"
            seconds[key] = min(seconds.get(key, np.inf), took / 1e3)
        driver.execute_script("document.getElementById('filters').reset()")
    return seconds


if __name__ == "__main__":
    run(measure, nside=2048, candidates=100_000)
