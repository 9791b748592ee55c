"""A headless Chromium, and the explorer of a small run; skipped where chromium or its driver is not installed."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from runmaker import make_run

from szeek.show.explorer.server import ExplorerServer

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'szeek[test]'")

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-device-scale-factor=1",
    "--hide-scrollbars", "--lang=en",
)  # fmt: skip
#: WebGL in software: https://chromium.googlesource.com/chromium/src/+/main/docs/gpu/swiftshader.md
_SOFTWARE_GL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
_NO_GL = ("--disable-gpu", "--disable-3d-apis", "--disable-software-rasterizer")

Opener = Callable[..., Any]


def _find(*names: str) -> str:
    path = next((found for name in names if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"{names[0]} is not installed: apt-get install chromium chromium-driver")
    return path


# Browsers live as long as their module: one that draws goes on drawing, with software GL on most of a core.
@pytest.fixture(scope="module")
def open_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """Start a Chromium: ``open_browser(size=(w, h), webgl=True)``; all are closed with the module."""
    opened: list[Any] = []
    service_path, binary = _find("chromedriver"), _find("chromium", "chromium-browser", "google-chrome")

    def start(size: tuple[int, int] = (1250, 640), webgl: bool = True) -> Any:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        profile = tmp_path_factory.mktemp("profile")
        for flag in (*_FLAGS, *(_SOFTWARE_GL if webgl else _NO_GL)):
            options.add_argument(flag)
        options.add_argument(f"--window-size={size[0]},{size[1]}")
        options.add_argument(f"--user-data-dir={profile}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=service_path))
        driver.set_script_timeout(30)
        opened.append(driver)
        return driver

    yield start
    for driver in opened:
        driver.quit()


@pytest.fixture(scope="module")
def browser(open_browser: Opener) -> Any:
    """One Chromium with WebGL for all tests of a module that need no other."""
    return open_browser()


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExplorerServer]:
    """The explorer of a small synthetic run, on a free port."""
    folder = make_run(tmp_path_factory.mktemp("run") / "demo", nside=64, n_clusters=30)
    with ExplorerServer(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def requested_hosts(driver: Any) -> set[str]:
    """Hosts that pages of this browser asked over the network since the last call; its own start page left out."""
    hosts = set()
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if url.startswith(("http:", "https:", "ws:", "wss:", "ftp:")):
                hosts.add(url.split("/")[2])
    return hosts


def page_errors(driver: Any) -> list[str]:
    """Errors on the console since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def report_path(folder: Path) -> str:
    """A file as the address a browser opens."""
    return folder.resolve().as_uri()


def emulate(driver: Any, *, width: int = 0, scheme: str = "light") -> None:
    """Make the browser a phone of that width in CSS pixels (0: the window again), in light or dark colours."""
    if width:
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 2, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    else:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


#: Texts whose contrast with what they stand on is below 4.5 (WCAG 2.1): "ratio text"; disabled controls are exempt.
FAINT_TEXTS = """
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
  const ground = element => {
    for (; element; element = element.parentElement) {
      const colour = parts(getComputedStyle(element).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
    return [255, 255, 255];
  };
  const told = element => [...element.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    if (!told(element) || !element.checkVisibility() || element.disabled) continue;
    if (element.closest("#sky, #readout, .skip")) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${element.textContent.trim().slice(0, 40)}`);
  }
  return faint"""
