"""Tables as people, archives and instruments write them: read as astropy reads their numbers, or refused by name."""

from __future__ import annotations

import bz2
import gzip
import logging
import lzma

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import from_table, writeto
from astropy.io.votable.tree import CooSys
from astropy.table import MaskedColumn, QTable, Table

from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.inputs.knownclusters import read_clusters

#: Coma and Abell 2142, NED: degrees, ICRS.
NAMES, RA, DEC, Z = ["Coma", "Abell 2142"], [194.953, 239.567], [27.981, 27.225], [0.0231, 0.0894]
#: The same directions in other frames, by astropy.
SKY = SkyCoord(RA, DEC, unit="deg")
B1950 = SKY.transform_to("fk4")
GALACTIC = SKY.galactic
ECLIPTIC = SKY.transform_to("barycentricmeanecliptic")

ROWS = "Coma,194.953,27.981,0.0231\nAbell 2142,239.567,27.225,0.0894\n"
HEAD = "name,ra,dec,z\n"


def check(table, z=Z, names=NAMES, atol=2e-3):
    assert list(table["name"]) == names
    np.testing.assert_allclose(table["ra_deg"], RA, atol=atol)
    np.testing.assert_allclose(table["dec_deg"], DEC, atol=atol)
    np.testing.assert_allclose(table["z"], z, atol=1e-6)


TEXTS = {
    "plain.csv": HEAD + ROWS,
    "bom.csv": "\ufeff" + HEAD + ROWS,
    "crlf.csv": (HEAD + ROWS).replace("\n", "\r\n"),
    "cr.csv": (HEAD + ROWS).replace("\n", "\r"),
    "comments above.csv": "# my list\n# of 2026, by hand\n" + HEAD + ROWS,
    "header behind a mark.csv": "# a list\n# name,ra,dec,z\n" + ROWS,
    "header behind a mark, no commas.txt": "#name ra dec z\n" + ROWS,
    "comment in the middle.csv": HEAD + ROWS.replace("Abell", "# and\nAbell"),
    "quotes.csv": HEAD + ROWS.replace("Abell 2142", '"Abell 2142"'),
    "semicolons.csv": (HEAD + ROWS).replace(",", ";"),
    "decimal commas.csv": (HEAD + ROWS).replace(",", ";").replace(".", ","),
    "decimal commas, tabs.txt": (HEAD + ROWS).replace(",", "\t").replace(".", ","),
    "tabs.tsv": (HEAD + ROWS).replace(",", "\t"),
    "bars.txt": (HEAD + ROWS).replace(",", "|"),
    "bars at both ends.txt": "".join(f"|{line}|\n" for line in (HEAD + ROWS).replace(",", "|").splitlines()),
    "delimiter at the end.csv": (HEAD + ROWS).replace("\n", ",\n"),
    "row of units.csv": HEAD + ",deg,deg,\n" + ROWS,
    "units behind the names.csv": "name,RA [deg],Dec (deg),z\n" + ROWS,
    "units in brackets.csv": HEAD + ",[deg],[deg],\n" + ROWS,
    "frames behind the names.csv": "name,RA (J2000),Dec (J2000),z\n" + ROWS,
    "pandas.csv": "," + HEAD + "0," + ROWS.replace("\nAbell", "\n1,Abell"),
    "Markdown.md": "| name | ra | dec | z |\n|:-----|---:|-----|---|\n"
    + "".join(f"| {line.replace(',', ' | ')} |\n" for line in ROWS.splitlines()),
    "reStructuredText.rst": (
        "==========  =======  ======  ======\nname        ra       dec     z\n==========  =======  ======  ======\n"
        "Coma        194.953  27.981  0.0231\nAbell 2142  239.567  27.225  0.0894\n"
        "==========  =======  ======  ======\n"
    ),
    "fixed width.txt": (
        "name        ra       dec     z\nComa        194.953  27.981  0.0231\nAbell 2142  239.567  27.225  0.0894\n"
    ),
    "sexagesimal, fixed width.txt": (
        "name        RAJ2000      DEJ2000      z\n"
        "Coma        12 59 48.72  +27 58 51.6  0.0231\nAbell 2142  15 58 16.08  +27 13 30.0  0.0894\n"
    ),
    "letters.csv": "name,ra,dec,z\nComa,12h59m48.72s,27d58m51.6s,0.0231\nAbell 2142,15h58m16.08s,+27d13m30s,0.0894\n",
    "hours by name.csv": "name,ra_hours,dec_deg,z\nComa,12.99687,27.981,0.0231\nAbell 2142,15.97113,27.225,0.0894\n",
    "VizieR.tsv": (
        "#\n#   VizieR Astronomical Server vizier.cds.unistra.fr\n#Name: J/X/1/2\n#Title: a list\n\n"
        "_RAJ2000\t_DEJ2000\tName\tz\ndeg\tdeg\t \t \n----------\t----------\t----------\t------\n"
        "194.953000\t+27.981000\tComa      \t0.0231\n239.567000\t+27.225000\tAbell 2142\t0.0894\n\n"
    ),
    "VizieR, fixed width.txt": (
        "#Title: a list\nRAJ2000     DEJ2000     Name       z     \n"
        '"h:m:s"     "d:m:s"                       \n----------- ----------- ---------- ------\n'
        "12 59 48.72 +27 58 51.6 Coma       0.0231\n15 58 16.08 +27 13 30.0 Abell 2142 0.0894\n"
    ),
    "IPAC.tbl": (
        "\\a list\n|name       |ra      |dec     |z      |\n|char       |double  |double  |double |\n"
        "|           |deg     |deg     |       |\n Coma        194.953  27.981   0.0231 \n"
        " Abell 2142  239.567  27.225   0.0894 \n"
    ),
    "HEASARC.txt": (
        "|name      |ra      |dec    |lii    |bii    |redshift|\n"
        "|Coma      |12 59 48.72|+27 58 51.6|58.09|87.95|0.0231|\n"
        "|Abell 2142|15 58 16.08|+27 13 30.0|44.22|48.68|0.0894|\n"
    ),
    "CDS.dat": (
        "Title: A list\nTable: the table\n"
        "================================================================================\n"
        "Byte-by-byte Description of file: a.dat\n"
        "--------------------------------------------------------------------------------\n"
        "   Bytes Format Units  Label   Explanations\n"
        "--------------------------------------------------------------------------------\n"
        "   1- 10 A10    ---    Name    Name\n  12- 18 F7.3   deg    RAdeg   Right ascension (J2000)\n"
        "  20- 25 F6.3   deg    DEdeg   Declination (J2000)\n  27- 32 F6.4   ---    z       Redshift\n"
        "--------------------------------------------------------------------------------\n"
        "Coma       194.953 27.981 0.0231\nAbell 2142 239.567 27.225 0.0894\n"
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_dialects_of_text(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(TEXTS[name].encode())
    check(read_catalogue(path))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_encodings(tmp_path, encoding):
    path = tmp_path / "a.csv"
    path.write_bytes(("name,ra,dec,z,who\n" + ROWS.replace("\n", ",Sunyaev & Zel\u00e9\n")).encode(encoding))
    check(read_catalogue(path))


@pytest.mark.parametrize(
    ("opened", "ending"), [(gzip.open, "gz"), (bz2.open, "bz2"), (lzma.open, "xz"), (gzip.open, "csv"), (open, "gz")]
)
def test_compression_is_told_by_content(tmp_path, opened, ending):
    path = tmp_path / f"a.csv.{ending}"
    with opened(path, "wb") as stream:
        stream.write((HEAD + ROWS).encode())
    check(read_catalogue(path))
    table = Table({"name": NAMES, "ra": RA, "dec": DEC, "z": Z})
    table.write(tmp_path / "a.fits")
    with opened(tmp_path / f"b.fits.{ending}", "wb") as stream:
        stream.write((tmp_path / "a.fits").read_bytes())
    check(read_catalogue(tmp_path / f"b.fits.{ending}"))


def position_columns(frame, style):
    """Columns of a list in a frame, as text or numbers, and astropy's own values of them."""
    sky = {"fk4": B1950, "galactic": GALACTIC, "icrs": SKY, "ecliptic": ECLIPTIC}[frame]
    lon, lat = sky.spherical.lon, sky.spherical.lat
    if style == "degrees":
        return lon.deg, lat.deg
    hours = lon.to(u.hourangle) if frame in ("fk4", "icrs") else lon
    return (
        [text.replace(":", " ") for text in hours.to_string(sep=":", precision=4, pad=True)],
        lat.to_string(sep=" ", precision=3, pad=True, alwayssign=True),
    )


@pytest.mark.parametrize("style", ["degrees", "sexagesimal"])
@pytest.mark.parametrize(
    ("frame", "lon", "lat"),
    [
        ("fk4", "RAB1950", "DEB1950"),
        ("fk4", "_RAB1950", "_DEB1950"),
        ("fk4", "RA_B1950", "DEC_B1950"),
        ("fk4", "RA1950", "DEC1950"),
        ("fk4", "RA (B1950)", "Dec (B1950)"),
        ("icrs", "RA_ICRS", "DE_ICRS"),
        ("icrs", "_RA.icrs", "_DE.icrs"),
        ("icrs", "_RAJ2000", "_DEJ2000"),
        ("icrs", "ALPHA_J2000", "DELTA_J2000"),
        ("icrs", "raj2000", "dej2000"),
        ("galactic", "GLON", "GLAT"),
        ("galactic", "l", "b"),
        ("galactic", "lii", "bii"),
        ("ecliptic", "ELON", "ELAT"),
    ],
)
def test_frames_in_names(tmp_path, frame, lon, lat, style):
    """B1950 read as J2000 is 0.6 deg off."""
    columns = position_columns(frame, style)
    Table({"name": NAMES, lon: columns[0], lat: columns[1], "z": Z}).write(tmp_path / "a.csv")
    check(read_catalogue(tmp_path / "a.csv"), atol=1e-6)


@pytest.mark.parametrize(
    ("cards", "frame"),
    [
        ({"EQUINOX": 1950.0}, "fk4"),
        ({"RADESYS": "FK4"}, "fk4"),
        ({"RADECSYS": "FK4", "EQUINOX": 1950.0}, "fk4"),
        ({"EPOCH": 1950.0}, "fk4"),
        ({"EQUINOX": "B1950"}, "fk4"),
        ({"EQUINOX": 2000.0}, "icrs"),
        ({"RADESYS": "ICRS", "EQUINOX": 2000.0}, "icrs"),
        ({"RADESYS": "FK5"}, "icrs"),
        ({"EPOCH": 2015.5}, "icrs"),
        ({}, "icrs"),
    ],
)
@pytest.mark.parametrize("where", [0, 1])
def test_frames_in_fits_headers(tmp_path, cards, frame, where):
    lon, lat = position_columns(frame, "degrees")
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.table_to_hdu(Table({"name": NAMES, "RA": lon, "DEC": lat, "z": Z}))])
    hdus[where].header.update(cards)
    hdus.writeto(tmp_path / "a.fits")
    # FK5 J2000 and ICRS differ by up to 0.1 arcsec
    check(read_catalogue(tmp_path / "a.fits"), atol=3e-5)


def test_a_name_with_a_frame_counts_before_the_header(tmp_path):
    hdu = fits.table_to_hdu(Table({"name": NAMES, "_RAJ2000": RA, "_DEJ2000": DEC, "z": Z}))
    hdu.header["EQUINOX"] = 1950.0  # of the catalogue's own columns, which are not here
    hdu.writeto(tmp_path / "a.fits")
    check(read_catalogue(tmp_path / "a.fits"))


@pytest.mark.parametrize(
    ("system", "equinox", "frame", "names"),
    [
        ("eq_FK4", "B1950", "fk4", ("RA", "DEC")),
        ("eq_FK5", "J2000", "icrs", ("RA", "DEC")),
        ("FK4", "1950", "fk4", ("RA", "DEC")),
        ("ICRS", None, "icrs", ("RA", "DEC")),
        ("galactic", None, "galactic", ("l", "b")),
        ("GALACTIC", None, "galactic", ("GLON", "GLAT")),
        ("ecl_FK5", "J2000", "ecliptic", ("ELON", "ELAT")),
    ],
)
@pytest.mark.parametrize("referred", [True, False])
def test_frames_in_votables(tmp_path, system, equinox, frame, names, referred):
    lon, lat = position_columns(frame, "degrees")
    tree = from_table(Table({"name": NAMES, names[0]: lon, names[1]: lat, "z": Z}))
    tree.version = "1.3"
    resource = tree.resources[0]
    if referred:  # another system in the file, that no column is in
        resource.coordinate_systems.append(CooSys(ID="other", system="eq_FK5", equinox="J1975"))
        for name in names:
            next(f for f in tree.get_first_table().fields if f.name == name).ref = "sys"
    resource.coordinate_systems.append(
        CooSys(
            ID="sys",
            system=system.lower() if system == "GALACTIC" else {"FK4": "eq_FK4"}.get(system, system),
            equinox=equinox,
        )
    )
    writeto(tree, str(tmp_path / "a.vot"))
    text = (
        (tmp_path / "a.vot")
        .read_text()
        .replace('system="galactic"', f'system="{system}"' if system == "GALACTIC" else 'system="galactic"')
    )
    (tmp_path / "a.vot").write_text(text)
    check(read_catalogue(tmp_path / "a.vot"), atol=3e-5)


@pytest.mark.parametrize(
    ("systems", "names", "words"),
    [
        (
            [("eq_FK4", "B1950"), ("eq_FK5", "J2000")],
            ("RA", "DEC"),
            "states the frames FK4 B1950.*FK5 J2000.* and not which RA is in",
        ),
        ([("galactic", None)], ("RA", "DEC"), "are stated to be in the frame GALACTIC, expected an equatorial one"),
        ([("ecl_FK4", "B1950")], ("RA", "DEC"), "COOSYS 'sys0' states the frame 'ecl_FK4', which is not read here"),
        ([("eq_FK4", "some")], ("RA", "DEC"), "states the equinox 'some', expected a year"),
    ],
)
def test_frames_that_are_refused(tmp_path, systems, names, words):
    tree = from_table(Table({"name": NAMES, names[0]: RA, names[1]: DEC}))
    tree.version = "1.3"
    for k, (system, _) in enumerate(systems):
        tree.resources[0].coordinate_systems.append(CooSys(ID=f"sys{k}", system=system, equinox=f"J{1900 + k}"))
    writeto(tree, str(tmp_path / "a.vot"))
    text = (tmp_path / "a.vot").read_text()
    for k, (_, equinox) in enumerate(systems):
        text = text.replace(f'equinox="J{1900 + k}"', f'equinox="{equinox}"' if equinox else "")
    (tmp_path / "a.vot").write_text(text)
    with pytest.raises((ValueError, OSError), match=words):
        read_catalogue(tmp_path / "a.vot")


@pytest.mark.parametrize(
    ("head", "row", "z"),
    [
        ("name,ra,dec,g,r,i,z,redshift", "Coma,194.953,27.981,19.1,18.2,17.6,17.3,0.0231", 0.0231),
        ("name,ra,dec,redshift,u,g,r,i,z", "Coma,194.953,27.981,0.0231,20,19.1,18.2,17.6,17.3", 0.0231),
        ("name,ra,dec,z,z_spec", "Coma,194.953,27.981,0.5,0.0231", 0.0231),
        ("name,ra,dec,Z,zspec", "Coma,194.953,27.981,0.5,0.0231", 0.0231),
        ("name,ra,dec,z,z_cl", "Coma,194.953,27.981,0.5,0.0231", 0.0231),
        ("name,ra,dec,Z,z", "Coma,194.953,27.981,0.5,0.0231", 0.0231),
        ("name,ra,dec,REDSHIFT,redshift", "Coma,194.953,27.981,0.5,0.0231", 0.0231),
        ("name,ra,dec,z_phot,z", "Coma,194.953,27.981,0.5,0.0231", 0.0231),
        ("name,ra,dec,z_phot", "Coma,194.953,27.981,0.0231", 0.0231),
        ("name,ra,dec,z_spec,redshift", "Coma,194.953,27.981,0.0231,0.0231", 0.0231),
        ("name,ra,dec,g,r,i,z", "Coma,194.953,27.981,19.1,18.2,17.6,17.3", np.nan),
    ],
)
def test_which_column_is_the_redshift(tmp_path, caplog, head, row, z):
    (tmp_path / "a.csv").write_text(f"{head}\n{row}\n")
    table = read_catalogue(tmp_path / "a.csv")
    np.testing.assert_allclose(table["z"], [z])
    assert np.isfinite(z) or "z beside other bands is a magnitude" in caplog.text


@pytest.mark.parametrize(
    ("head", "row", "lon", "lat"),
    [
        ("name,l,b,L,B", "Coma,58.08,87.96,4.5,15.2", 58.08, 87.96),
        ("name,L,B,l,b", "Coma,4.5,15.2,58.08,87.96", 58.08, 87.96),
        ("name,L [erg/s],B [mag],GLON,GLAT", "Coma,4.5,15.2,58.08,87.96", 58.08, 87.96),
        ("name,L,B", "Coma,58.08,87.96", 58.08, 87.96),
        (
            "name,RAJ2000,DEJ2000,RAB1950,DEB1950",
            "Coma,12 59 48.72,+27 58 51.6,12 57 24.4,+28 15 02",
            58.0896,
            87.9575,
        ),
        ("name,RAh,RAm,RAs,DE-,DEd,DEm,DEs", "Coma,12,59,48.72,+,27,58,51.6", 58.0896, 87.9575),
    ],
)
def test_which_columns_are_the_position(tmp_path, head, row, lon, lat):
    (tmp_path / "a.csv").write_text(f"{head}\n{row}\n")
    table = read_catalogue(tmp_path / "a.csv")
    np.testing.assert_allclose((table["lon_deg"][0], table["lat_deg"][0]), (lon, lat), atol=2e-3)


def test_sign_of_a_declination_below_one_degree(tmp_path):
    (tmp_path / "a.csv").write_text("name,RAh,RAm,RAs,DE-,DEd,DEm,DEs\nA,1,0,0,-,0,30,0\nB,1,0,0,+,0,30,0\n")
    assert read_catalogue(tmp_path / "a.csv")["dec_deg"].tolist() == [-0.5, 0.5]
    (tmp_path / "b.csv").write_text("name,RA,DEC\nA,01:00:00,-00:30:00\nB,01:00:00,\u221200:30:00\n")
    assert read_catalogue(tmp_path / "b.csv")["dec_deg"].tolist() == [-0.5, -0.5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "name,ra,dec,z_spec,zspec\nA,10,20,0.1,0.2\n",
            r"z_spec and zspec may both be the redshift, and differ .in row 0: 0.1, 0.2.*{.redshift.: .z_spec.}",
        ),
        ("name,ra,dec,redshift,z_cl\nA,10,20,0.1,0.1\nB,10,20,0.3,0.2\n", r"redshift and z_cl .*in row 1"),
        (
            "name,RA,DEC,ra,dec\nA,10,20,11,20\n",
            r"RA, DEC and ra, dec may both be the position.*columns={.ra.: .RA., .dec.: .DEC.}",
        ),
        (
            "name,ra,dec,z\nA,10,20,17.3\n",
            r"the column z holds 17.3 in row 0, expected redshifts.*columns={.redshift.:",
        ),
        ("name,ra,dec,z [km/s]\nA,10,20,6900\n", r"the column z \[km/s\] is in 'km / s', expected redshifts"),
        ("name,ra,dec,z\nA,10,20,~0.4\n", r"the column z holds '~0.4' in row 0, expected a number"),
        ("name,ra,dec,z\nA,10,20,0.1\nB,10,20,0.41p\n", r"the column z holds '0.41p' in row 1"),
        ("name,ra,dec,richness\nA,10,20,many\n", r"the column richness holds 'many' in row 0"),
        ("name;ra;dec;z\nA;10,5;20.5;0,1\n", r"column ra holds no angles \('10,5' in row 0: .*decimal point"),
        ("name,ra,dec\nA,12:59:48,27\nB,194.9,28\n", r"column ra holds no angles \('194.9' in row 1: a plain number"),
        ("name,ra,dec\nA,12:61:48,27\n", r"column ra holds no angles \('12:61:48' in row 0: minutes"),
        ("A,10,20,0.1\n", r"its first row, 'A,10,20,0.1', is data and no comment above names 4 columns"),
        ("name,ra,dec\nA,10,20\nB,10\n", r"row 1 has 2 fields, 'B \| 10', under 3 names"),
        ("name,ra,ra\nA,10,20\n", r"it has two columns of the name ra; rename one"),
        ("", "it has no rows"),
        ("# only\n# comments\n", "it has no rows"),
        ("<!DOCTYPE html>\n<html>", "it is a web page"),
        ("name ra dec\nA 1 2 3 4\nB 5\n", r"its rows have 2, 3, 5 words"),
        (
            "RAJ2000\tDEJ2000\ndeg\tdeg\n----\t----\n10\t20\nRAJ2000\tDEJ2000\ndeg\tdeg\n----\t----\n10\t20\n",
            "several tables of VizieR",
        ),
    ],
)
def test_what_is_refused(tmp_path, text, words):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises((ValueError, OSError), match=rf"a.csv'.*{words}"):
        read_catalogue(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "start", [b"PK\x03\x04", b"PAR1", b"\x89HDF\r\n", b"\xd0\xcf\x11\xe0", b"\x00\x01\x02\x03", b"%PDF-1"]
)
def test_other_formats_are_named(tmp_path, start):
    (tmp_path / "a.csv").write_bytes(start + bytes(100))
    with pytest.raises(OSError, match=r"a.csv' holds no readable text table \(it"):
        read_catalogue(tmp_path / "a.csv")
    with pytest.raises(OSError, match="is a folder, expected a file with a table"):
        read_catalogue(tmp_path)


WORDS = [
    "",
    "...",
    "-",
    "--",
    "---",
    "N/A",
    "n/a",
    "null",
    "NULL",
    "nan",
    "NaN",
    "None",
    "-1",
    "-9.99",
    "-99",
    "-99.9",
    "99",
    "999",
    "-9999",
    "\u2026",
    "undef",
]


@pytest.mark.parametrize("word", WORDS)
def test_words_for_missing(tmp_path, word):
    (tmp_path / "a.csv").write_text(
        f"name,ra,dec,z,richness\nA,10,20,0.0231,30\nB,11,21,{word},{word}\nC,12,22,0.3,40\n"
    )
    table = read_catalogue(tmp_path / "a.csv")
    np.testing.assert_allclose(table["z"], [0.0231, np.nan, 0.3])
    if not word.startswith("9"):
        np.testing.assert_allclose(table["richness"], [30, np.nan, 40])


def test_hours_without_a_unit(tmp_path):
    """A list over the sky whose right ascensions all lie below 24; fields of degrees stay as they are."""
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, 60), np.degrees(np.arcsin(rng.uniform(-1, 1, 60)))
    names = [f"c{i}" for i in range(60)]
    Table({"name": names, "ra": ra / 15, "dec": dec}).write(tmp_path / "hours.csv")
    with pytest.raises(
        ValueError, match=r"hours.csv': the column ra states no unit.* below 24 .*right ascension in hours"
    ):
        read_catalogue(tmp_path / "hours.csv")
    for name, unit, scale in (
        ("ra_hours", None, 15),
        ("ra", "h", 15),
        ("ra", "hourangle", 15),
        ("ra_deg", None, 1),
        ("ra", "deg", 1),
    ):
        table = Table({"name": names, name: ra / 15, "dec": dec})
        table[name].unit = unit
        table.write(tmp_path / "stated.ecsv", overwrite=True)
        np.testing.assert_allclose(read_catalogue(tmp_path / "stated.ecsv")["ra_deg"], ra / 15 * scale)
    Table({"name": names, "ra": ra, "dec": dec}).write(tmp_path / "degrees.csv")
    np.testing.assert_allclose(read_catalogue(tmp_path / "degrees.csv")["ra_deg"], ra)
    Table({"name": names, "ra": ra / 15, "dec": dec / 10}).write(tmp_path / "field.csv")
    np.testing.assert_allclose(read_catalogue(tmp_path / "field.csv")["ra_deg"], ra / 15)
    Table({"name": names, "ra": np.radians(ra), "dec": np.radians(dec)}).write(tmp_path / "rad.csv")
    with pytest.raises(ValueError, match="radians"):
        read_catalogue(tmp_path / "rad.csv")


@pytest.mark.parametrize("ending", ["fits", "ecsv", "vot"])
def test_units_masks_shapes_and_types(tmp_path, ending):
    table = QTable({"name": np.array(NAMES), "ra": (RA * u.deg).to(u.rad), "dec": (DEC * u.deg).to(u.arcmin)})
    table["redshift"] = MaskedColumn(np.array([0.0231, 5.0], ">f4"), mask=[False, True])
    table["M500"] = [5.0e14, 9.0e14] * u.solMass
    table["theta500"] = [0.5, 0.25] * u.deg
    table["richness"] = np.array([100, 120], np.int16)
    table["snr"] = np.array([[6.0], [7.0]], np.float32)
    table.write(tmp_path / f"a.{ending}", format="votable" if ending == "vot" else None)
    found = read_catalogue(tmp_path / f"a.{ending}")
    check(found, z=[0.0231, np.nan], atol=1e-6)
    np.testing.assert_allclose(found["m500_1e14msun"], [5, 9])
    np.testing.assert_allclose(found["theta500_arcmin"], [30, 15])
    assert found["richness"].tolist() == [100, 120] and found["snr"].tolist() == [6, 7]
    table["snr"] = np.zeros((2, 3))
    table.write(tmp_path / f"b.{ending}", format="votable" if ending == "vot" else None)
    with pytest.raises(ValueError, match="the column snr holds 3 values in each row, expected one"):
        read_catalogue(tmp_path / f"b.{ending}")


def test_a_skycoord_in_ecsv(tmp_path):
    Table({"name": NAMES, "sky": GALACTIC, "z": Z}).write(tmp_path / "a.ecsv")
    check(read_catalogue(tmp_path / "a.ecsv"), atol=1e-9)


@pytest.mark.parametrize("mark", ["NaN", "-9.99", "---", "0.0"])
def test_marks_of_ascii_fits_tables(tmp_path, mark):
    """TNULLn of an ASCII table is any text; astropy takes it for a number."""
    columns = [
        fits.Column("NAME", "A10", array=np.array(NAMES), ascii=True),
        fits.Column("RA", "F10.5", array=RA, ascii=True),
        fits.Column("DEC", "F10.5", array=DEC, ascii=True),
        fits.Column("Z", "F10.5", array=Z, ascii=True),
        fits.Column("N", "I6", array=[3, 4], ascii=True),
    ]
    hdu = fits.TableHDU.from_columns(columns)
    hdu.writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes().replace(b"   0.08940", mark.rjust(10).encode())
    (tmp_path / "a.fits").write_bytes(content)
    check_header = fits.getheader(tmp_path / "a.fits", 1)
    check_header["TNULL4"] = mark
    with (tmp_path / "b.fits").open("wb") as out:
        out.write(fits.getheader(tmp_path / "a.fits", 0).tostring().encode() + check_header.tostring().encode())
        out.write(content[-2880:])
    check(read_catalogue(tmp_path / "b.fits"), z=[0.0231, np.nan])


def test_columns_that_the_user_names(tmp_path):
    (tmp_path / "a.csv").write_text("who,x,y,alpha_bcg,zA,zB,Lam\nComa,194.953,27.981,0,0.5,0.0231,40\n")
    given = {"name": "who", "ra": "x", "dec": "Y", "redshift": "zB", "richness": "lam"}
    table = read_catalogue(tmp_path / "a.csv", columns=given)
    assert (table["name"][0], table["z"][0], table["richness"][0]) == ("Coma", 0.0231, 40)
    assert table["dec_deg"][0] == pytest.approx(27.981)
    with pytest.raises(ValueError, match=r"the column nix, given for redshift, is not there; found who, x, y"):
        read_catalogue(tmp_path / "a.csv", columns={"redshift": "nix"})
    with pytest.raises(ValueError, match=r"columns are given for mass; expected name, redshift"):
        read_catalogue(tmp_path / "a.csv", columns={"mass": "zB"})
    with pytest.raises(ValueError, match=r"dec is not given beside ra; pass columns={.dec.: .NAME.} too"):
        read_catalogue(tmp_path / "a.csv", columns={"ra": "x"})
    with pytest.raises(ValueError, match=r"no position: .*found who, x, y.*columns={.ra.: .NAME., .dec.: .NAME.}"):
        read_catalogue(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(HEAD + ROWS)
    both = read_clusters([tmp_path / "a.csv", tmp_path / "b.csv"], given | {"dec": "y"})
    assert both["z"].tolist() == [0.0231, *Z]
    with pytest.raises(ValueError, match=r"no catalogue has a column nix; found"):
        read_clusters([tmp_path / "b.csv"], {"redshift": "nix"})


def test_names_are_not_made_in_silence(tmp_path, caplog):
    (tmp_path / "mine.csv").write_text("ra,dec,zB\n194.953,27.981,0.0231\n")
    with caplog.at_level(logging.WARNING):
        assert read_catalogue(tmp_path / "mine.csv")["name"][0] == "MINE J1259.8+2758"
    assert "1 of 1 entries have no name" in caplog.text and "--column name=NAME" in caplog.text
    assert "no redshifts are read, though there are the columns zB" in caplog.text


def test_several_tables_in_one_file(tmp_path, caplog):
    other = fits.table_to_hdu(Table({"key": [1, 2], "remark": ["a", "b"]}))
    list_ = fits.table_to_hdu(Table({"name": NAMES, "ra": RA, "dec": DEC, "z": Z}))
    fits.HDUList([fits.PrimaryHDU(), other, list_]).writeto(tmp_path / "a.fits")
    check(read_catalogue(tmp_path / "a.fits"))
    assert not caplog.text
    fits.HDUList([fits.PrimaryHDU(), list_, list_.copy()]).writeto(tmp_path / "b.fits")
    check(read_catalogue(tmp_path / "b.fits"))
    assert "holds 2 tables with positions" in caplog.text
    fits.ImageHDU(np.zeros((2, 2))).writeto(tmp_path / "c.fits")
    with pytest.raises(OSError, match="it has no table, only images"):
        read_catalogue(tmp_path / "c.fits")


# --- published layouts -----------------------------------------------------------------------------------

MCXC = Table(
    {
        "MCXC": ["J1259.7+2756", "J1558.3+2713"],
        "OName": ["RXC J1259.7+2756", "RXC J1558.3+2713"],
        "AName": ["Coma", "A2142"],
        "z": Z,
        "Scale": [0.466, 1.668],
        "L500": [3.46, 10.7],
        "M500": [4.29, 8.15],
        "R500": [1.138, 1.38],
    }
)


def mcxc_layout(kind):
    """MCXC as its CDS file, VizieR and HEASARC have it; HEASARC's masses in solar masses."""
    lon, lat = position_columns("icrs", "sexagesimal")
    if kind == "cds":
        out = MCXC.copy()
        out["RAdeg"], out["DEdeg"] = RA, DEC
    elif kind == "vizier":
        out = MCXC.copy()
        out["RAJ2000"], out["DEJ2000"] = lon, lat
        out["RAJ2000"].unit, out["DEJ2000"].unit = '"h:m:s"', '"d:m:s"'
    else:
        out = Table({"name": [f"MCXC {name}" for name in MCXC["MCXC"]], "ra": RA, "dec": DEC, "redshift": Z})
        out["lii"], out["bii"] = GALACTIC.l.deg, GALACTIC.b.deg
        out["alt_name"], out["angular_scale"], out["radius_500"] = MCXC["AName"], MCXC["Scale"], MCXC["R500"]
        out["mass_500"] = np.asarray(MCXC["M500"]) * 1e14
        out["mass_500"].unit = "solMass"
    return out


@pytest.mark.filterwarnings("ignore:.*h.m.s", "ignore:.*d.m.s")  # no units of FITS, but VizieR's
@pytest.mark.parametrize("ending", ["fits", "vot", "csv", "ecsv"])
@pytest.mark.parametrize("kind", ["cds", "vizier", "heasarc"])
def test_layouts_of_mcxc(tmp_path, kind, ending):
    table = mcxc_layout(kind)
    if ending == "csv" and kind == "heasarc":
        table["mass_500"] = np.asarray(MCXC["M500"])
    table.write(tmp_path / f"a.{ending}", format={"vot": "votable", "csv": "ascii.csv"}.get(ending))
    found = read_catalogue(tmp_path / f"a.{ending}")
    check(found, names=["MCXC J1259.7+2756", "MCXC J1558.3+2713"])
    assert set(found["survey"]) == {"MCXC"}
    np.testing.assert_allclose(found["m500_1e14msun"], MCXC["M500"], rtol=1e-6)
    # 1.138 Mpc at 0.466 kpc per arcsec: 40.70 arcmin
    np.testing.assert_allclose(found["theta500_arcmin"], [40.70, 13.79], atol=0.01)
    assert "Coma" in found["counterparts"][0]


@pytest.mark.filterwarnings("ignore:.*h.m.s", "ignore:.*d.m.s")
@pytest.mark.parametrize("kind", ["archive", "vizier", "heasarc"])
def test_layouts_of_psz2(tmp_path, kind):
    lon, lat = GALACTIC.l.deg, GALACTIC.b.deg
    short = ["G058.08+87.95", "G044.22+48.68"]
    full = [f"PSZ2 {name}" for name in short]
    table = {
        "archive": Table(
            {
                "NAME": full,
                "GLON": lon,
                "GLAT": lat,
                "Q_NEURAL": [1.0, 1.0],
                "SNR": [35.7, 20.0],
                "Y5R500": [198.4, 50.0],
                "REDSHIFT": [0.0231, -1.0],
                "MSZ": [7.17, 0.0],
                "MCXC": ["J1259.7+2756", ""],
            }
        ),
        "vizier": Table(
            {
                "PSZ2": short,
                "GLON": lon,
                "GLAT": lat,
                "RAdeg": RA,
                "DEdeg": DEC,
                "S/N": [35.7, 20.0],
                "Y5R500": [198.4, 50.0],
                "z": MaskedColumn([0.0231, 1.0], mask=[0, 1]),
                "MSZ": MaskedColumn([7.17, 1.0], mask=[0, 1]),
                "MCXC": ["J1259.7+2756", ""],
            }
        ),
        "heasarc": Table(
            {
                "name": full,
                "ra": RA,
                "dec": DEC,
                "lii": lon,
                "bii": lat,
                "snr": [35.7, 20.0],
                "y5r500": [198.4, 50.0],
                "redshift": MaskedColumn([0.0231, 1.0], mask=[0, 1]),
                "mass_sz": MaskedColumn([7.17, 1.0], mask=[0, 1]),
                "mcxc_id": ["J1259.7+2756", ""],
            }
        ),
    }[kind]
    table.write(tmp_path / "a.fits")
    found = read_catalogue(tmp_path / "a.fits")
    check(found, names=full, z=[0.0231, np.nan])
    assert set(found["survey"]) == {"PSZ2"}
    np.testing.assert_allclose(found["m500_1e14msun"], [7.17, np.nan], rtol=1e-6)
    np.testing.assert_allclose(found["snr"], [35.7, 20.0], rtol=1e-6)
    # Y500 = Y5R500 / 1.79: 198.4e-3 / 1.79
    assert found["y500_arcmin2"][0] == pytest.approx(0.11084, rel=2e-3)
    assert found["counterparts"].tolist() == ["MCXC J1259.7+2756", ""]
    mcxc = tmp_path / "mcxc.fits"
    mcxc_layout("vizier").write(mcxc)
    assert select_clusters([found, read_catalogue(mcxc)], "mcxcwp")["name"].tolist() == ["MCXC J1558.3+2713"]


@pytest.mark.parametrize(
    ("columns", "survey", "expected"),
    [
        (
            {
                "SPT-CL": ["J0000-5748"],
                "RAJ2000": ["00 01 00"],
                "DEJ2000": ["-57 48 00"],
                "xi": [8.0],
                "z": [0.7],
                "M500": [4.56],
            },
            "SPT",
            {"name": "SPT-CLJ0000-5748", "z": 0.7, "m500_1e14msun": 4.56, "snr": 8.0, "ra_deg": 0.25},
        ),
        (
            {
                "SPT_ID": ["SPT-CLJ0000-5748"],
                "RA": [0.25],
                "DEC": [-57.8],
                "XI": [8.0],
                "REDSHIFT": [0.0],
                "M500": [0.0],
            },
            "SPT",
            {"name": "SPT-CLJ0000-5748", "z": np.nan, "m500_1e14msun": np.nan, "snr": 8.0},
        ),
        (
            {
                "Name": ["ACT-CL J1522.8+0830"],
                "RAJ2000": [230.7],
                "DEJ2000": [8.5],
                "SNR": [5.9],
                "z1C": [1.29],
                "z2C": [0.03],
                "L1C": [42.5],
                "M500-1C": [1.58e14],
            },
            "ACT_DR5_MCMF",
            {"name": "ACT-CL J1522.8+0830", "z": 1.29, "m500_1e14msun": 1.58, "richness": 42.5, "snr": 5.9},
        ),
        (
            {
                "ACT-CL": ["J0000.0-3837"],
                "RAJ2000": [0.02],
                "DEJ2000": [-38.6],
                "S/N": [6.1],
                "z": [0.3],
                "M500cCal": [2.5],
            },
            "ACT",
            {"name": "ACT-CL J0000.0-3837", "z": 0.3, "m500_1e14msun": 2.5, "snr": 6.1},
        ),
        (
            {
                "NAME": ["RMJ155820.0+271400.3"],
                "RA": [239.58],
                "DEC": [27.23],
                "LAMBDA": [169.8],
                "Z_SPEC": [-1.0],
                "Z_LAMBDA": [0.09],
            },
            "REDMAPPER",
            {"name": "RMJ155820.0+271400.3", "z": np.nan, "richness": 169.8},
        ),
        (
            {
                "MCXC": ["J0000.1+0816"],
                "RAdeg": [0.03],
                "DEdeg": [8.27],
                "z": [0.04],
                "z_type": ["S"],
                "M500": [0.74],
                "L500": [0.2],
                "R500": [0.63],
                "Scale": [0.784],
            },
            "MCXC-II",
            {"name": "MCXC J0000.1+0816", "z": 0.04, "m500_1e14msun": 0.74, "theta500_arcmin": 13.39},
        ),
    ],
)
@pytest.mark.parametrize("ending", ["fits", "csv"])
def test_layouts_of_others(tmp_path, columns, survey, expected, ending):
    Table(columns).write(tmp_path / f"a.{ending}", format="ascii.csv" if ending == "csv" else None)
    row = read_catalogue(tmp_path / f"a.{ending}")[0]
    assert row["survey"] == survey
    for name, value in expected.items():
        assert row[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-3, nan_ok=True)), name
