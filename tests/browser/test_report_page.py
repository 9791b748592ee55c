"""The report as a file on disk, in a real browser: complete, sortable, silent on the network, narrow enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import FAINT_TEXTS, emulate, page_errors, report_path, requested_hosts
from runmaker import make_run
from selenium.webdriver import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from szeek.show.explorer.server import ExplorerServer
from szeek.show.report import links
from szeek.show.report.page import write_report


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


@pytest.mark.parametrize("width", [320, 390])
def test_readable_on_a_phone(browser: Any, report: Path, width: int) -> None:
    emulate(browser, width=width)
    try:
        browser.get(report_path(report))
        assert browser.execute_script("return innerWidth") == width
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert browser.execute_script("return parseFloat(getComputedStyle(document.body).fontSize)") >= 16
    finally:
        emulate(browser)


def test_readable_in_dark_and_light(browser: Any, report: Path) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        emulate(browser, scheme=scheme)
        browser.get(report_path(report))
        grounds.append(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert browser.execute_script(FAINT_TEXTS) == []
    emulate(browser)
    assert grounds[0] != grounds[1]
    browser.get(report_path(report))
    browser.execute_script("document.querySelector('.lead').style.color = '#aaa'")
    assert len(browser.execute_script(FAINT_TEXTS)) == 1  # it does see what is faint


def test_every_section_is_reached_from_the_keyboard(browser: Any, report: Path) -> None:
    browser.get(report_path(report))
    reached = set()
    for _ in range(14):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        reached.add(browser.execute_script("return document.activeElement.getAttribute('href')"))
    sections = browser.execute_script("return [...document.querySelectorAll('main section')].map(s => `#${s.id}`)")
    assert set(sections) <= reached and "#main" in reached  # the first stop leads past all of it


def test_a_candidate_leads_into_the_explorer(
    browser: Any, explorer: ExplorerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "EXPLORER_PORT", explorer.server_address[1])
    file = write_report(explorer.explorer.run.path)
    browser.get(report_path(file))
    here = browser.current_window_handle
    link = browser.find_element(By.CSS_SELECTOR, "#candidates tbody tr:nth-child(3) a.explorer")
    name = link.text
    browser.execute_script("arguments[0].click()", link)
    WebDriverWait(browser, 30).until(lambda driver: len(driver.window_handles) == 2)
    browser.switch_to.window(next(handle for handle in browser.window_handles if handle != here))
    WebDriverWait(browser, 120).until(lambda driver: driver.execute_script("return document.body.dataset.ready"))
    assert browser.execute_script("return explorer.table.name[explorer.selected]") == name
    assert browser.execute_script("return explorer.sky.where().fov") == pytest.approx(2.0, rel=0.02)
    # and back: the explorer links to the report, whose links stay with this explorer whatever port they were made for
    file.write_text(file.read_text().replace(f"127.0.0.1:{explorer.server_address[1]}", "127.0.0.1:1"))
    report = browser.find_element(By.ID, "report")
    assert report.is_displayed()
    browser.get(report.get_attribute("href"))
    addresses = browser.execute_script("return [...document.querySelectorAll('a.explorer')].map(a => a.href)")
    assert len(addresses) > 20 and all(address.startswith(explorer.url + "#") for address in addresses)
    browser.close()
    browser.switch_to.window(here)
    file.unlink()
