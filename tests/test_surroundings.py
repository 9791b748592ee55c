"""Machines that give other libraries no place to keep things, or hand down what is not there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import healpy
import numba
import numpy as np
import pytest

import szeek
from szeek import surroundings
from szeek.find.predict import write_prediction
from szeek.surroundings import provide_caches


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """No variable set, a home and a package's folder that may be written to, nothing registered for the exit."""
    names = ("NUMBA_CACHE_DIR", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    monkeypatch.setattr(os, "environ", kept | {"HOME": str(tmp_path / "home")})
    monkeypatch.setattr(numba.config, "CACHE_DIR", numba.config.CACHE_DIR)
    given = []
    monkeypatch.setattr(surroundings.atexit, "register", lambda remove, *what: given.append((remove, what)))
    (tmp_path / "home").mkdir()
    (tmp_path / "package").mkdir()
    yield tmp_path
    for remove, what in given:
        remove(*what)
        assert not Path(what[0]).exists()


def test_nothing_is_changed_where_there_is_a_place(bare):
    provide_caches(bare / "package")
    assert "NUMBA_CACHE_DIR" not in os.environ and "MPLCONFIGDIR" not in os.environ
    # the package read-only, the user's own cache not
    (bare / "package" / "__pycache__").write_text("a file where a folder should be: not even root can write there")
    provide_caches(bare / "package")
    assert "NUMBA_CACHE_DIR" not in os.environ
    assert [path.name for path in bare.iterdir() if path.name not in ("home", "package")] == []


@pytest.mark.parametrize("home", ["a file", "not absolute"])
def test_without_a_place_there_is_a_temporary_one(bare, monkeypatch, home):
    (bare / "package" / "__pycache__").write_text("")
    (bare / "home").rmdir()
    (bare / "home").write_text("")
    if home == "not absolute":
        monkeypatch.setenv("HOME", "~")
    provide_caches(bare / "package")
    folder = os.environ["NUMBA_CACHE_DIR"]
    assert Path(folder).is_dir() and Path(folder).stat().st_mode & 0o077 == 0  # numba loads what it finds there
    assert os.environ["MPLCONFIGDIR"] == folder == numba.config.CACHE_DIR
    provide_caches(bare / "package")  # what was set once stays
    assert os.environ["NUMBA_CACHE_DIR"] == folder


def test_what_the_user_set_stays(bare, monkeypatch):
    (bare / "package" / "__pycache__").write_text("")
    shutil.rmtree(bare / "home")
    (bare / "home").write_text("")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(bare / "own"))
    monkeypatch.setenv("MPLCONFIGDIR", str(bare / "own"))
    provide_caches(bare / "package")
    assert os.environ["NUMBA_CACHE_DIR"] == os.environ["MPLCONFIGDIR"] == str(bare / "own")


def test_a_package_and_a_home_that_are_read_only_stop_no_verb(tmp_path):
    """As in a container, by a copy of the package whose cache folders are files and a home that is none."""
    site = tmp_path / "site"
    shutil.copytree(Path(szeek.__file__).parent, site / "szeek", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [site / "szeek", *(path for path in (site / "szeek").rglob("*") if path.is_dir())]:
        (folder / "__pycache__").write_text("")
    (tmp_path / "home").write_text("")
    p_map = np.full(12 * 64**2, 0.01, np.float32)
    p_map[healpy.ang2pix(64, 58.08, 87.96, lonlat=True)] = 0.9
    write_prediction(p_map, tmp_path / "p.fits")
    names = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    kept = {key: value for key, value in os.environ.items() if key not in names}
    # and a backend of a notebook's environment, which this one lacks
    own = {"HOME": str(tmp_path / "home"), "PYTHONPATH": str(site), "MPLBACKEND": "module://of_another.environment"}
    code = "import szeek.cli, sys; print(szeek.cli.__file__); szeek.cli.main()"
    words = [sys.executable, "-c", code, "detect", str(tmp_path / "p.fits"), "--out", str(tmp_path / "out")]
    done = subprocess.run(words, env=kept | own, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site)) and "1 candidates" in done.stdout
    told = [line for line in done.stderr.splitlines() if not line.strip().startswith(("detect: ", "measure: "))]
    assert told == []  # progress, which a slow machine sees, and nothing else
