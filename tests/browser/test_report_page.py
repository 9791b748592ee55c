"""The report as a file on disk, in a real browser: complete, sortable, silent on the network, narrow enough."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import page_errors, report_path, requested_hosts
from runmaker import make_run
from selenium.webdriver.common.by import By

from szeek.show.report import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(make_run(tmp_path_factory.mktemp("run") / "demo", nside=32, n_clusters=20))


def test_opens_from_disk_and_asks_for_nothing(browser: Any, report: Path) -> None:
    requested_hosts(browser)
    page_errors(browser)
    browser.get(report_path(report))
    assert browser.title == "demo · SZeek report"
    sources = browser.execute_script("return [...document.images].map(image => image.src.slice(0, 11))")
    assert len(sources) >= 7 and set(sources) == {"data:image/"}
    assert requested_hosts(browser) == set()
    assert page_errors(browser) == []


def test_tables_sort_both_ways(browser: Any, report: Path) -> None:
    browser.get(report_path(report))
    table = browser.find_element(By.CSS_SELECTOR, "#candidates table")
    heads = [head.text.split(" ")[0] for head in table.find_elements(By.CSS_SELECTOR, "thead th")]
    column = heads.index("Dec")

    def shown() -> list[float]:
        script = "return [...arguments[0].tBodies[0].rows].map(r => Number(r.cells[arguments[1]].dataset.sort))"
        return list(browser.execute_script(script, table, column))

    head = table.find_elements(By.CSS_SELECTOR, "thead button")[column]
    browser.execute_script("arguments[0].click()", head)
    assert shown() == sorted(shown(), reverse=True)  # numbers start with the largest
    browser.execute_script("arguments[0].click()", head)
    assert shown() == sorted(shown())
    sorted_heads = table.find_elements(By.CSS_SELECTOR, "th[aria-sort]")
    assert [head.get_attribute("aria-sort") for head in sorted_heads] == ["ascending"]


def test_readable_on_a_phone(open_browser: Callable[..., Any], report: Path) -> None:
    browser = open_browser(size=(500, 900), webgl=False)
    browser.get(report_path(report))
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)") >= 16
