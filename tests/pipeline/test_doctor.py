"""`szeek doctor` finds what is wrong, and says the rest when something is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from szeek.pipeline import doctor


def test_every_check_of_this_installation_is_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SZEEK_DATA", str(tmp_path))
    checks = {check.what: check for check in doctor.examine()}
    assert not [check for check in checks.values() if check.failed]
    assert checks["network"].found.endswith("p as expected")
    assert checks["data"].found == f"no data set that is whole in {tmp_path}"


def test_what_is_broken_is_named_and_the_rest_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise FileNotFoundError(f"no network '{name}'")

    monkeypatch.setattr(doctor, "load_model", refuse)
    monkeypatch.setattr(doctor, "_NEEDED_MEMORY_GIB", 1e6)
    monkeypatch.setattr(doctor, "_NEEDED_DISK_GB", 1e9)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(Path(doctor.tempfile.gettempdir()) / "szeek-x"))
    checks = {check.what: check for check in doctor.examine()}
    assert [name for name, check in checks.items() if check.failed] == ["network"]
    assert checks["network"].found == "FileNotFoundError: no network 'szeek-2'"
    assert "use cut-outs" in checks["memory"].advice and "demo run needs" in checks["disk"].advice
    assert "set NUMBA_CACHE_DIR" in checks["caches"].advice


def test_a_network_that_computes_something_else_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_EXPECTED_P", 0.5)
    check = next(check for check in doctor.examine() if check.what == "network")
    assert check.failed and "expected 0.5000" in check.found


def test_a_user_without_a_home_is_told_what_to_set(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "SZEEK_DATA")}
    environment |= {"HOME": "/nowhere", "XDG_CACHE_HOME": "/proc/none", "XDG_CONFIG_HOME": "/proc/none"}
    command = [sys.executable, "-m", "szeek.cli", "doctor", "--no-self-test"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no fault found" in done.stdout and done.stdout.startswith("szeek: ")
