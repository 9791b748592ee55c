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

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install szeek[browser]")

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


@pytest.fixture(scope="session")
def open_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opener]:
    """Start a Chromium: ``open_browser(size=(w, h), webgl=True)``; all are closed at the end."""
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


@pytest.fixture(scope="session")
def browser(open_browser: Opener) -> Any:
    """One Chromium with WebGL for all tests that need no other."""
    return open_browser()


@pytest.fixture(scope="session")
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
