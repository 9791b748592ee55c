"""Fixtures that more than one test file uses, and how hypothesis draws its examples."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# The same examples at every run, so that a failure is never one of luck; new ones, and more of them where a test
# does not say how many, by hand: HYPOTHESIS_PROFILE=thorough, or --hypothesis-profile thorough --hypothesis-seed 7.
hypothesis.settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
hypothesis.settings.register_profile("thorough", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


#: Files that take minutes, the longest first.
LONG = (
    "science/test_finding.py", "pipeline/test_run.py", "test_notebooks.py", "pipeline/test_workers.py",
    "pipeline/test_ranks.py", "pipeline/test_cluster.py", "browser/test_explorer_page.py",
)  # fmt: skip
#: The other one that draws in Chromium comes last: two at once take both cores from each other.
LAST = "browser/test_report_page.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: of two workers none is left alone with one of them at the end."""
    here = Path(__file__).parent
    place = {here / name: number for number, name in enumerate(LONG)}
    place[here / LAST] = len(place) + 1
    items.sort(key=lambda item: place.get(item.path, len(LONG)))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real survey data (SZEEK_DATA, or shared/data beside the repository)."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("SZEEK_DATA", root.parent / "shared" / "data"))
    if not (folder / "catalogues").is_dir():
        pytest.skip(f"no real survey data in {folder}; set SZEEK_DATA")
    return folder
