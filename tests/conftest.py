"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real survey data (SZEEK_DATA, or shared/data beside the repository)."""
    root = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("SZEEK_DATA", root.parent / "shared" / "data"))
    if not (folder / "catalogues").is_dir():
        pytest.skip(f"no real survey data in {folder}; set SZEEK_DATA")
    return folder
