"""The candidate catalogue in every format: written, validated by astropy, read back the same."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from xmlrpc.server import SimpleXMLRPCServer

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.io.votable import parse, parse_single_table, validate
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from szeek.measure.candidates import (
    CATALOGUE_ENDINGS,
    COLUMNS,
    explain_columns,
    list_sources,
    make_candidates,
    name_candidates,
    read_candidates,
    send_to_samp,
    write_candidates,
)
from szeek.measure.flags import FLAG_MEANINGS, FLAGS


def make_sources() -> Table:
    return Table(
        {
            "lon_deg": [57.80, 0.005, 359.999],
            "lat_deg": [88.0, -0.005, -45.678],
            "p": np.array([0.99, 0.5, 0.11], np.float32),
            "area_arcmin2": [500.0, 30.0, 10.0],
            "n_pix": [170, 10, 3],
            "peak_lon_deg": [57.8, 0.0, 359.9],
            "peak_lat_deg": [88.0, 0.0, -45.6],
            "edge": [False, True, False],
            "match_name": ["PSZ2 G057.80+88.00", "", ""],
            "match_z": [0.0231, np.nan, np.nan],
        }
    )


@pytest.mark.parametrize(
    ("lon_deg", "lat_deg", "name"),
    [
        (57.80, 88.00, "SZeek G057.80+88.00"),  # Coma, as PSZ2 G057.80+88.00; 57.80 in binary is below 57.80
        (57.809999, 87.999999, "SZeek G057.80+87.99"),  # truncated
        (9.999, -0.009, "SZeek G009.99-00.00"),  # negative zero
        (9.999, -0.019, "SZeek G009.99-00.01"),  # truncated towards the equator
        (9.999, 0.009, "SZeek G009.99+00.00"),
        (9.999, -0.0, "SZeek G009.99+00.00"),  # on the equator
        (359.99999, -89.999, "SZeek G359.99-89.99"),
        (360.0, 90.0, "SZeek G000.00+90.00"),
        (-0.001, -1e-12, "SZeek G359.99-00.00"),
        (1e-9, 5e-324, "SZeek G000.00+00.00"),
    ],
)
def test_names_are_truncated(lon_deg: float, lat_deg: float, name: str) -> None:
    assert name_candidates([lon_deg], [lat_deg]) == [name]


@given(st.integers(0, 35999), st.integers(-9000, 9000))
def test_a_name_gives_back_a_position_of_two_decimals(lon_100: int, lat_100: int) -> None:
    (name,) = name_candidates([lon_100 / 100], [lat_100 / 100])
    assert len(name) == len("SZeek G057.80+88.00")
    assert round(float(name[7:13]) * 100) == lon_100
    assert round(float(name[13:]) * 100) == lat_100


def test_candidates_have_all_columns_positions_and_flags() -> None:
    table = make_candidates(make_sources())
    assert table.colnames == [c.name for c in COLUMNS]
    assert table["NAME"][0] == "SZeek G057.80+88.00"
    galactic = SkyCoord(table["RA"], table["DEC"], unit="deg").galactic
    np.testing.assert_allclose(galactic.b.deg, table["GLAT"], atol=1e-9)
    # the second lies at the Galactic centre; of the footprint and of reddening alone the sources know
    assert table["FLAGS"].tolist() == [0, FLAGS["edge"] + FLAGS["galactic"] + FLAGS["dust"], 0]
    assert table["CHECKED"].tolist() == [FLAGS["edge"] + FLAGS["galactic"] + FLAGS["dust"]] * 3
    assert table["MATCH_NAME"].tolist() == ["PSZ2 G057.80+88.00", "", ""]
    assert np.isnan(table["SNR"]).all()
    assert table["FOLD"].tolist() == [-1, -1, -1]
    assert table["AREA"].unit == units.arcmin**2


def test_flags_that_were_set_stay_as_they_are() -> None:
    sources = make_sources()
    sources["flags"], sources["checked"] = [0, 0, FLAGS["co"]], [0, FLAGS["co"], FLAGS["co"]]
    table = make_candidates(sources)
    assert table["FLAGS"].tolist() == [0, 0, FLAGS["co"]]
    assert table["CHECKED"].tolist() == [0, FLAGS["co"], FLAGS["co"]]


def test_list_sources_is_the_inverse() -> None:
    sources = make_sources()
    back = list_sources(make_candidates(sources))
    for name in ("lon_deg", "lat_deg", "p", "n_pix"):
        np.testing.assert_array_equal(back[name], sources[name])


@pytest.mark.parametrize("n_row", [3, 0])
def test_every_format_reads_back_the_same(tmp_path: Path, n_row: int) -> None:
    table = make_candidates(make_sources()[:n_row])
    files = write_candidates(table, tmp_path / "run" / "candidates.fits")
    assert [f.name for f in files] == [f"candidates{ending}" for ending in CATALOGUE_ENDINGS]
    assert sorted((tmp_path / "run").iterdir()) == sorted(files)
    for source in files[:3]:
        again = read_candidates(source)
        assert again.colnames == table.colnames
        for name in table.colnames:
            assert again[name].dtype.kind == table[name].dtype.kind
            assert again[name].unit == table[name].unit
            np.testing.assert_array_equal(again[name], table[name])


@pytest.mark.parametrize("n_row", [3, 200])
def test_votable_has_no_violation_and_valid_ucds(tmp_path: Path, n_row: int) -> None:
    # of 200 rows some columns are unknown, some names long, some values at their limits
    sources = make_sources()[np.arange(n_row) % 3]
    sources["match_name"] = np.where(np.arange(n_row) % 7 == 3, "a name with <angles> & more", sources["match_name"])
    sources["p"][n_row // 2 :] = np.linspace(1e-6, 1.0, n_row - n_row // 2)
    write_candidates(make_candidates(sources), tmp_path / "candidates.fits")
    report = io.StringIO()
    assert validate(str(tmp_path / "candidates.vot"), output=report, xmllint=False), report.getvalue()
    votable = parse_single_table(tmp_path / "candidates.vot", verify="exception")
    for field, definition in zip(votable.fields, COLUMNS, strict=True):
        assert field.ucd == definition.ucd
        assert check_ucd(field.ucd, check_controlled_vocabulary=True, has_colon=True)
        assert field.unit == (units.Unit(definition.unit) if definition.unit else None)
        assert " ".join(field.description.split()) == definition.description
    assert votable.fields[1].ref == "icrs"


def test_fits_header_has_units_and_ucds(tmp_path: Path) -> None:
    write_candidates(make_candidates(make_sources()), tmp_path / "candidates.fits")
    with fits.open(tmp_path / "candidates.fits") as hdus:
        hdus.verify("exception")
        header = hdus["CANDIDATES"].header
        for k, definition in enumerate(COLUMNS, 1):
            assert header[f"TTYPE{k}"] == definition.name
            assert header[f"TUCD{k}"] == definition.ucd
            assert header[f"TCOMM{k}"] == definition.description
            if definition.unit:
                assert units.Unit(header[f"TUNIT{k}"], format="fits") == units.Unit(definition.unit)


def test_regions_are_circles_at_the_candidates(tmp_path: Path) -> None:
    table = make_candidates(make_sources())
    write_candidates(table, tmp_path / "candidates.fits")
    lines = (tmp_path / "candidates.reg").read_text().splitlines()
    assert lines[2] == "icrs"
    # sqrt(500 / pi) = 12.62 arcmin; the small ones get 5
    assert (
        lines[3] == f"circle({table['RA'][0]:.5f},{table['DEC'][0]:.5f},12.62') # text={{{table['NAME'][0]} p=0.99}}"
    )
    assert lines[5].split(",")[2].startswith("5.00'")


def test_the_page_of_columns_explains_every_column_and_flag() -> None:
    page = explain_columns()
    for definition in COLUMNS:
        assert f"| {definition.name} |" in page
        assert definition.description in page
    for name, value in FLAGS.items():
        assert f"| {name} | {value} | {FLAG_MEANINGS[name]} |" in page
    assert "what is in neither was not looked for" in page


def test_every_file_explains_the_flags(tmp_path: Path) -> None:
    write_candidates(make_candidates(make_sources()), tmp_path / "candidates.fits")
    header = "".join(fits.getheader(tmp_path / "candidates.fits", "CANDIDATES")["COMMENT"])
    described = parse(tmp_path / "candidates.vot").resources[0].description
    for text in (header, described, (tmp_path / "candidates.md").read_text()):
        letters = "".join(text.split())  # a FITS comment goes on in the next card, wherever it was cut
        assert "clearonlywherethesamebitofCHECKEDisset" in letters
        for name, meaning in FLAG_MEANINGS.items():
            assert name in letters
            assert meaning.replace(" ", "") in letters


def test_a_catalogue_without_checked_has_nothing_checked(tmp_path: Path) -> None:
    write_candidates(make_candidates(make_sources()), tmp_path / "candidates.fits")
    old = Table.read(tmp_path / "candidates.csv", format="ascii.csv")
    old.remove_columns(["CHECKED", "PS_BAND", "PS_SNR"])
    old.write(tmp_path / "old.csv", format="ascii.csv")
    table = read_candidates(tmp_path / "old.csv")
    assert table["CHECKED"].tolist() == [0, 0, 0]
    assert table["PS_BAND"].tolist() == ["", "", ""]
    assert table["FLAGS"].tolist() == [0, FLAGS["edge"] + FLAGS["galactic"] + FLAGS["dust"], 0]


def test_a_failing_write_leaves_the_old_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_candidates(make_candidates(make_sources()[:1]), tmp_path / "candidates.fits")
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    fail = lambda table: (_ for _ in ()).throw(OSError("disk full"))  # noqa: E731
    monkeypatch.setattr("szeek.measure.candidates._regions", fail)
    with pytest.raises(OSError, match="disk full"):
        write_candidates(make_candidates(make_sources()), tmp_path / "candidates.fits")
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_bad_tables_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected also lat_deg, p"):
        make_candidates(Table({"lon_deg": [1.0]}))
    with pytest.raises(ValueError, match=r"Galactic position \(1.0, 91.0\) deg, expected a finite one"):
        name_candidates([1.0], [91.0])
    with pytest.raises(ValueError, match=r"the table lacks RA, .*make_candidates"):
        write_candidates(Table({"NAME": ["x"]}), tmp_path / "candidates.fits")
    with pytest.raises(ValueError, match=r"'candidates.txt' has no known ending"):
        read_candidates(tmp_path / "candidates.txt")
    Table({"x": [1]}).write(tmp_path / "other.csv", format="ascii.csv")
    with pytest.raises(ValueError, match=r"'other.csv' has no column NAME, .*not an SZeek candidate catalogue"):
        read_candidates(tmp_path / "other.csv")


@pytest.fixture
def samp_hub(tmp_path: Path) -> Iterator[tuple[Path, list[tuple]]]:
    """A hub that speaks SAMP's Standard Profile and notes what it is told."""
    calls: list[tuple] = []
    server = SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False, allow_none=True)

    def register(secret: str) -> dict[str, str]:
        calls.append(("register", secret))
        return {"samp.private-key": "k1"}

    server.register_function(register, "samp.hub.register")
    for name in ("declareMetadata", "notifyAll", "unregister"):
        server.register_function(lambda *a, name=name: calls.append((name, *a)) or "", f"samp.hub.{name}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    lockfile = tmp_path / ".samp"
    url = f"http://127.0.0.1:{server.server_address[1]}"
    lockfile.write_text(f"# a hub\nsamp.secret=s=3\nsamp.hub.xmlrpc.url={url}\nsamp.profile.version=1.3\n")
    yield lockfile, calls
    server.shutdown()
    thread.join()
    server.server_close()


def test_samp_message_reaches_the_hub(
    tmp_path: Path, samp_hub: tuple[Path, list[tuple]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lockfile, calls = samp_hub
    write_candidates(make_candidates(make_sources()), tmp_path / "candidates.fits")
    votable = tmp_path / "candidates.vot"
    send_to_samp(votable, lockfile)
    parameters = {"url": votable.as_uri(), "table-id": str(votable), "name": "candidates"}
    assert calls == [
        ("register", "s=3"),
        ("declareMetadata", "k1", {"samp.name": "SZeek"}),
        ("notifyAll", "k1", {"samp.mtype": "table.load.votable", "samp.params": parameters}),
        ("unregister", "k1"),
    ]
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:file://{lockfile}")
    send_to_samp(votable)
    assert len(calls) == 8


def test_samp_without_a_hub_says_so(tmp_path: Path) -> None:
    write_candidates(make_candidates(make_sources()), tmp_path / "candidates.fits")
    with pytest.raises(ValueError, match="is not a VOTable file"):
        send_to_samp(tmp_path / "candidates.fits")
    with pytest.raises(ConnectionError, match=r"no SAMP hub: .*none' not found; start TOPCAT"):
        send_to_samp(tmp_path / "candidates.vot", tmp_path / "none")
    (tmp_path / "stale").write_text("samp.secret=1\nsamp.hub.xmlrpc.url=http://127.0.0.1:9\n")
    with pytest.raises(ConnectionError, match=r"does not answer .*; start TOPCAT"):
        send_to_samp(tmp_path / "candidates.vot", tmp_path / "stale")
