"""PCCS2 and PGCC as the Planck Legacy Archive names their files and columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

from szeek.inputs.compact import read_pccs2, read_pgcc


def write_pccs2(path: Path) -> Path:
    # two rows in the columns and types of the PCCS2's files
    columns = {
        "NAME": ["PCCS2 143 G000.1+10.0", "PCCS2 143 G350.0-20.0"],
        "GLON": [0.1, 350.0],
        "GLAT": [10.0, -20.0],
    }
    flux = {"DETFLUX": np.array([600.0, 250.0], np.float32), "DETFLUX_ERR": np.array([40.0, 50.0], np.float32)}
    Table({**columns, **flux}).write(path)
    return path


def test_pccs2_takes_the_band_from_the_file_name(tmp_path: Path) -> None:
    names = ("COM_PCCS_143_R2.01.fits", "COM_PCCS_857-excluded_R2.01.fits")
    table = read_pccs2([write_pccs2(tmp_path / name) for name in names])
    assert table["band"].tolist() == ["143", "143", "857", "857"]
    assert table["lon_deg"].tolist() == [0.1, 350.0, 0.1, 350.0]
    assert table["snr"].tolist() == [15.0, 5.0, 15.0, 5.0]
    assert table["flux_mjy"].tolist() == [600.0, 250.0, 600.0, 250.0]
    assert read_pccs2([]).colnames == table.colnames
    assert len(read_pccs2([])) == 0


def test_a_file_that_says_no_band_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the name of '.*mine.fits' says no band, expected that of PCCS2: COM_PCCS"):
        read_pccs2([write_pccs2(tmp_path / "mine.fits")])


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    Table({"RA": [1.0], "GLON": [2.0]}).write(tmp_path / "clumps.fits")
    with pytest.raises(ValueError, match=r"clumps.fits' has columns RA, GLON, expected also GLAT"):
        read_pgcc(tmp_path / "clumps.fits")


def test_cold_clumps_have_positions(tmp_path: Path) -> None:
    Table({"NAME": ["PGCC G001.0-02.0"], "GLON": [1.0], "GLAT": [-2.0]}).write(tmp_path / "HFI_PCCS_GCC_R2.02.fits")
    table = read_pgcc(tmp_path / "HFI_PCCS_GCC_R2.02.fits")
    assert (table["lon_deg"].tolist(), table["lat_deg"].tolist()) == ([1.0], [-2.0])
