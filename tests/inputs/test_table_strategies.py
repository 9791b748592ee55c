"""Catalogues with random legal columns in every format: read as astropy knows their sky, or refused by name.

HYPOTHESIS_PROFILE=thorough tries a thousand, which takes some minutes.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import from_table, writeto
from astropy.io.votable.tree import CooSys
from astropy.table import MaskedColumn, Table
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from szeek.inputs.catalogues import read_catalogue

#: Names of positions, the frame they stand for ('' where the file may state one), and whether the name has the unit.
POSITIONS = [
    ("RA", "DEC", "", False),
    ("ra", "dec", "", False),
    ("Ra", "Dec", "", False),
    ("RAdeg", "DEdeg", "", True),
    ("ra_deg", "dec_deg", "", True),
    ("RA", "DE", "", False),
    ("alpha", "delta", "", False),
    ("RAJ2000", "DEJ2000", "icrs", False),
    ("_RAJ2000", "_DEJ2000", "icrs", False),
    ("RA_ICRS", "DE_ICRS", "icrs", False),
    ("ALPHA_J2000", "DELTA_J2000", "icrs", False),
    ("RAB1950", "DEB1950", "fk4", False),
    ("RA_1950", "DEC_1950", "fk4", False),
    ("GLON", "GLAT", "galactic", False),
    ("l", "b", "galactic", False),
    ("lii", "bii", "galactic", False),
    ("lon_deg", "lat_deg", "galactic", True),
    ("ELON", "ELAT", "barycentricmeanecliptic", False),
]
NAMES = ["name", "NAME", "Name", "cluster", "Cluster", "DESIGNATION", "main_id", "ID", "objname"]
REDSHIFTS = [
    "z",
    "Z",
    "redshift",
    "Redshift",
    "REDSHIFT",
    "z_spec",
    "zspec",
    "ZSPEC",
    "z_cl",
    "z_phot",
    "photoz",
    "Z_LAMBDA",
]
#: Of these the first is meant before any of the second: the specific name before the general one.
SPECIFIC, GENERAL = (
    ("redshift", "Redshift", "REDSHIFT", "z_spec", "zspec", "ZSPEC", "z_cl"),
    ("z", "Z", "z_phot", "photoz"),
)
#: Columns that are there besides, and mean nothing here: never what is asked for.
OTHERS = ["e_z", "z_err", "L", "B", "M", "flag", "Y5R500", "g", "r", "note", "logM", "RA_err", "n_gal", "Lx"]
MARKS = ["", "...", "N/A", "--", "null", "nan", "-99", "-1"]
TEXTS = [",", ";", "\t", "|", ";decimal", "fixed", "ecsv"]


@st.composite
def catalogues(draw):
    """What is true of a catalogue, and how it is written."""
    n = draw(st.integers(1, 12))
    seed = draw(st.integers(0, 2**31))
    rng = np.random.default_rng(seed)
    sky = SkyCoord(rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n))), unit="deg")
    z = np.round(rng.uniform(0.01, 1.5, n), 5)
    z[rng.random(n) < draw(st.sampled_from([0.0, 0.3]))] = np.nan
    how = {
        "position": draw(st.sampled_from(POSITIONS)),
        "style": draw(st.sampled_from(["deg", "deg", "rad", "hourangle", "arcmin", "sexagesimal"])),
        "name": draw(st.sampled_from([*NAMES, None])),
        "redshift": draw(st.sampled_from([*REDSHIFTS, None])),
        "decoy": draw(st.sampled_from([None, None, *GENERAL])),
        "others": draw(st.lists(st.sampled_from(OTHERS), max_size=4, unique=True)),
        "format": draw(st.sampled_from(["fits", "fits", "fits-ascii", "votable", *TEXTS])),
        "mark": draw(st.sampled_from(MARKS)),
        "stated": draw(st.sampled_from(["", "icrs", "fk5", "fk4"])),
        "kind": draw(st.sampled_from(["<f8", ">f8", "<f4", ">f4"])),
        "shuffle": draw(st.randoms(use_true_random=False)),
        "decoration": draw(st.sampled_from(["", "comment", "bom", "crlf", "dashes", "latin"])),
        "words": draw(st.sampled_from(["A 2142", "Cl-%d", "c%d", "RXC J%d.1+02"])),
    }
    return sky, z, [how["words"] % k if "%" in how["words"] else f"{how['words']}{k}" for k in range(n)], how


def columns_of(sky, z, names, how):
    """Columns as this file has them, in their order, the frame that it states, and the catalogue's own redshifts."""
    lon_name, lat_name, frame, unit_in_name = how["position"]
    can_state = how["format"] in ("fits", "fits-ascii", "votable")
    stated = how["stated"] if can_state and not frame else ""
    own = sky.transform_to(frame or stated or "icrs")
    lon, lat = own.spherical.lon, own.spherical.lat
    style = "deg" if unit_in_name else how["style"]
    equatorial = lon_name.lower().lstrip("_").startswith(("ra", "alpha"))
    if style == "hourangle" and not equatorial:
        style = "deg"
    text_only = how["format"] in TEXTS and how["format"] != "ecsv"
    if text_only and style in ("rad", "hourangle", "arcmin"):
        style = "deg"  # text has no place for units, but a row of them
    if how["format"] == "fixed" and style == "sexagesimal":
        style = "deg"
    columns, units = {}, {}
    if style == "sexagesimal":
        columns[lon_name] = (lon.to(u.hourangle) if equatorial else lon).to_string(sep=":", precision=5, pad=True)
        columns[lat_name] = lat.to_string(sep=":", precision=4, pad=True, alwayssign=True)
    else:
        lat_unit = "deg" if style == "hourangle" else style
        columns[lon_name], columns[lat_name] = lon.to_value(style), lat.to_value(lat_unit)
        if not (style == "deg" and (text_only or how["shuffle"].random() < 0.5)):
            units = {lon_name: "h" if style == "hourangle" else style, lat_name: lat_unit}
    if how["name"]:
        columns[how["name"]] = np.array(names)
    if how["redshift"]:
        columns[how["redshift"]] = z
    if how["decoy"] and how["redshift"] in SPECIFIC:
        columns[how["decoy"]] = np.full(len(z), 0.7)
    folds = how["format"].startswith("fits")  # FITS has no two names that differ in case alone
    taken = {name.lower() if folds else name for name in columns}
    rng = np.random.default_rng(len(z))
    for other in how["others"]:
        if (other.lower() if folds else other) not in taken:
            columns[other] = (
                rng.integers(0, 9, len(z)) if other in ("flag", "n_gal") else np.round(rng.uniform(14, 22, len(z)), 3)
            )
    order = list(columns)
    how["shuffle"].shuffle(order)
    return {name: columns[name] for name in order}, units, stated


def as_text(columns, units, how):
    """Delimited or fixed-width text."""
    delimiter = {";decimal": ";", "fixed": " "}.get(how["format"], how["format"])

    def word(value):
        if isinstance(value, float | np.floating):
            text = how["mark"] if np.isnan(value) else repr(float(value))
            return text.replace(".", ",") if how["format"] == ";decimal" and not np.isnan(value) else text
        return str(value)

    rows = [[word(value) for value in row] for row in zip(*columns.values(), strict=True)]
    names = list(columns)
    if how["format"] == "fixed":
        rows = [[text or "..." for text in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in [names, *rows]
        ]
        if how["decoration"] == "dashes":
            lines.insert(1, "  ".join("-" * width for width in widths))
    else:
        lines = [delimiter.join(row) for row in [names, *rows]]
        if how["decoration"] == "dashes":
            lines.insert(1, delimiter.join("-" * max(3, len(name)) for name in names))
    if how["decoration"] == "comment":
        lines = ["# a catalogue", "# of 2026", *lines]
    text = ("\r\n" if how["decoration"] == "crlf" else "\n").join([*lines, ""])
    if how["decoration"] == "latin":
        return ("# \u00e9t\u00e9\n" + text).encode("latin-1")
    return text.encode("utf-8-sig" if how["decoration"] == "bom" else "utf-8")


def write(path, columns, units, stated, how):
    table = Table()
    for name, values in columns.items():
        values = np.asarray(values)
        if values.dtype.kind == "f":
            values = values.astype(how["kind"] if name == how["redshift"] else how["kind"][0] + "f8")
            if np.isnan(values).any() and how["mark"] in ("-99", "-1"):
                values = np.where(np.isnan(values), float(how["mark"]), values)
            elif np.isnan(values).any() and how["mark"] in ("--", "null"):
                values = MaskedColumn(values, mask=np.isnan(values))
        table[name] = values
        table[name].unit = units.get(name)
    if how["format"] in TEXTS and how["format"] != "ecsv":
        path.write_bytes(as_text(columns, units, how))
    elif how["format"] == "ecsv":
        table.write(path, format="ascii.ecsv")
    elif how["format"] == "votable":
        tree = from_table(table)
        if stated:
            system = {"icrs": ("ICRS", None), "fk5": ("eq_FK5", "J2000"), "fk4": ("eq_FK4", "B1950")}[stated]
            tree.resources[0].coordinate_systems.append(CooSys(ID="sys", system=system[0], equinox=system[1]))
            for field in tree.get_first_table().fields:
                if field.name in how["position"][:2]:
                    field.ref = "sys"
        writeto(tree, str(path))
    else:
        cards = {"": {}, "icrs": {"RADESYS": "ICRS"}, "fk5": {"EQUINOX": 2000.0}, "fk4": {"EQUINOX": 1950.0}}[stated]
        if how["format"] == "fits":
            hdu = fits.table_to_hdu(table)
        else:
            made = []
            for name in table.colnames:
                values = (
                    np.ma.filled(table[name], -99.0) if table[name].dtype.kind == "f" else np.asarray(table[name])
                )
                values = np.where(np.isnan(values), -99.0, values) if values.dtype.kind == "f" else values
                width = (
                    f"A{values.dtype.itemsize // 4}"
                    if values.dtype.kind == "U"
                    else "I6"
                    if values.dtype.kind == "i"
                    else "E24.15"
                )
                made.append(fits.Column(name, width, array=values, ascii=True, unit=units.get(name)))
            hdu = fits.TableHDU.from_columns(made)
        hdu.header.update(cards)
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(catalogues())
def test_random_catalogues(made):
    sky, z, names, how = made
    columns, units, stated = columns_of(sky, z, names, how)
    ending = {"votable": "vot", "ecsv": "ecsv", "fits": "fits", "fits-ascii": "fits"}.get(how["format"], "csv")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"list.{ending}"
        write(path, columns, units, stated, how)
        try:
            found = read_catalogue(path)
        except (ValueError, OSError) as error:
            refused = str(error)
            event("refused by name")
            assert "list." in refused and re.search(
                r"may both be|in hours|radians|is data and no comment", refused
            ), refused
            # a list over the sky below RA 24, without a unit, is the only one of these that may look like hours
            assert (
                "in hours" not in refused
                or sky.transform_to(how["position"][2] or stated or "icrs").spherical.lon.deg.max() < 24
            )
            return
    there = SkyCoord(found["ra_deg"], found["dec_deg"], unit="deg")
    assert there.separation(sky).arcsec.max() < 0.2  # FK5 and ICRS differ by 0.1 arcsec
    assert np.isfinite(found["lon_deg"]).all()
    expected = z if how["redshift"] else np.full(len(z), np.nan)
    if how["redshift"] in ("z", "Z") and {"g", "r"} <= set(how["others"]):
        expected = np.full(len(z), np.nan)  # a magnitude
    np.testing.assert_allclose(found["z"], expected, rtol=1e-6)
    if how["name"]:
        assert found["name"].tolist() == names
    else:
        assert all(name.startswith("LIST J") for name in found["name"])
