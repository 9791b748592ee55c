"""Galaxies with photometric redshifts: each survey's layout, and any other table."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table

from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.galaxies import list_sweeps, read_galaxies


def test_sweep_takes_redshifts_from_beside_and_leaves_stars_and_faint_ones_out(tmp_path):
    # nanomaggies: 22.5 - 2.5 log10 f is 21 at f = 3.98; the last one is fainter
    sweep = Table({"RA": [10.0, 11.0, 12.0, 13.0], "DEC": [5.0] * 4, "TYPE": ["REX", "PSF", "DEV", "EXP"],
                   "FLUX_Z": [30.0, 30.0, 4.0, 3.9]})  # fmt: skip
    sweep.write(tmp_path / "sweep-010p005.fits")
    with pytest.raises(FileNotFoundError, match=r"sweep-010p005-pz.fits' does not exist"):
        read_galaxies([tmp_path / "sweep-010p005.fits"])
    Table({"Z_PHOT_MEDIAN": [0.2, 0.1, 0.3, 0.4]}).write(tmp_path / "sweep-010p005-pz.fits")
    found = read_galaxies([tmp_path / "sweep-010p005.fits"])
    assert found["z"] == pytest.approx([0.2, 0.3])
    there = SkyCoord(10.0, 5.0, unit="deg").galactic
    assert (found["lon_deg"][0], found["lat_deg"][0]) == pytest.approx((there.l.deg, there.b.deg))
    Table({"Z_PHOT_MEDIAN": [0.2]}).write(tmp_path / "sweep-010p005-pz.fits", overwrite=True)
    with pytest.raises(ValueError, match="has 1 rows, expected the 4 of"):
        read_galaxies([tmp_path / "sweep-010p005.fits"])


def test_wisexscos_and_any_table_are_read_and_joined(tmp_path):
    (tmp_path / "w.csv").write_text("l,b,w1mCorr,w2mCorr,zPhoto_Corr\n10,50,15,14.9,0.2\n20,50,15,14.9,0.9\n")
    Table({"glon": [30.0], "glat": [-50.0], "z_phot": [0.4]}).write(tmp_path / "own.csv")
    found = read_galaxies([tmp_path / "w.csv", tmp_path / "own.csv"], z_range=(0.0, 0.6))
    assert found["z"].tolist() == [0.2, 0.4] and found["lon_deg"].tolist() == [10.0, 30.0]


def test_a_table_without_redshifts_is_refused(tmp_path):
    Table({"glon": [30.0], "glat": [-50.0], "zp": [0.4]}).write(tmp_path / "own.csv")
    with pytest.raises(ValueError, match=r"own.csv' has no redshifts, expected a column of photometric ones"):
        read_galaxies([tmp_path / "own.csv"])
    found = read_galaxies([tmp_path / "own.csv"], columns={"redshift": "zp"})
    assert np.asarray(found["z"]).tolist() == [0.4]
    with pytest.raises(ValueError, match=r"no galaxy has a redshift between 0.5 and 0.6"):
        read_galaxies([tmp_path / "own.csv"], columns={"redshift": "zp"}, z_range=(0.5, 0.6))


def test_camiras_columns_without_a_header_are_read_by_its_name(tmp_path):
    (tmp_path / "c.dat").write_text("  10.0  5.0  0.25  40.5  39.0\n  11.0 -5.0  0.5  20.0  18.0\n")
    found = read_catalogue(tmp_path / "c.dat", "CAMIRA")
    assert found["z"].tolist() == [0.25, 0.5] and found["richness"].tolist() == [40.5, 20.0]
    assert found["ra_deg"] == pytest.approx([10.0, 11.0]) and set(found["survey"]) == {"CAMIRA"}
    with pytest.raises(OSError, match="is data and no comment above names 5 columns"):
        read_catalogue(tmp_path / "c.dat")


def test_erass1_and_whl_are_told_by_their_columns(tmp_path):
    Table({"NAME": ["1eRASS J1"], "RA": [10.0], "DEC": [-5.0], "BEST_Z": [0.3], "EXT_LIKE": [9.0],
           "LAMBDA_NORM": [44.0]}).write(tmp_path / "e.fits")  # fmt: skip
    Table({"WHL": ["J000020.8+001102"], "RAJ2000": [0.0867], "DEJ2000": [0.184], "zph": [0.3], "RL*": [55.0]}).write(
        tmp_path / "w.fits"
    )
    erass, whl = read_catalogue(tmp_path / "e.fits"), read_catalogue(tmp_path / "w.fits")
    assert (erass["survey"][0], erass["z"][0], erass["richness"][0]) == ("ERASS1", 0.3, 44.0)
    assert (whl["name"][0], whl["z"][0], whl["richness"][0]) == ("WHL J000020.8+001102", 0.3, 55.0)


def test_sweeps_of_a_region_hold_its_places():
    names = list_sweeps(199.5, 29.5, 1.0)
    # corners at (200, 30): four boxes of 10 x 5 deg meet there
    assert names == [f"sweep-{a}-{b}.fits" for a, b in (("190p025", "200p030"), ("200p025", "210p030"),
                                                        ("190p030", "200p035"), ("200p030", "210p035"))]  # fmt: skip
    assert list_sweeps(10.0, 89.9, 0.5)[0] == "sweep-000p085-010p090.fits" and len(list_sweeps(10.0, 89.9, 0.5)) == 36
    with pytest.raises(ValueError, match="declination 95 deg and radius 1 deg, expected a disc on the sky"):
        list_sweeps(10.0, 95.0, 1.0)
