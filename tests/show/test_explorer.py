"""The explorer's server: what it serves, what it refuses, and the verdicts it keeps."""

from __future__ import annotations

import html
import http.client
import io
import json
import math
import re
import socket
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import healpy
import matplotlib
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from runmaker import EVIL_NAME, make_run

from szeek.find.predict import write_prediction
from szeek.pipeline.products import RunFolder
from szeek.show.explorer import server as server_module
from szeek.show.explorer.columns import pack_columns
from szeek.show.explorer.dossierpage import page_address
from szeek.show.explorer.hips import tile_pixels
from szeek.show.explorer.layers import list_layers
from szeek.show.explorer.server import ExplorerServer
from szeek.show.explorer.verdicts import VerdictStore, vetted_candidates
from szeek.show.figures.style import P_COLOURS, scale_p


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExplorerServer]:
    folder = make_run(tmp_path_factory.mktemp("run") / "demo", nside=32, n_clusters=12)
    (folder / "secret.txt").write_text("not for the page")
    with ExplorerServer(folder) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(
    server: ExplorerServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One request, with a right Host header unless another is given."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=120)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": server.hosts[0], **headers}.items():
            connection.putheader(name.replace("_", "-"), value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def judge(server: ExplorerServer, content: object, **changes: str) -> tuple[int, dict[str, str], bytes]:
    headers = {"Content_Type": "application/json", "Origin": server.origins[0], **changes}
    return ask(server, "/api/verdicts.json", "POST", json.dumps(content).encode(), **headers)


def unpack_columns(body: bytes) -> dict[str, Any]:
    """As the page does it."""
    length = int.from_bytes(body[:4], "little")
    head, at, table = json.loads(body[4 : 4 + length]), 4 + length, {}
    for column in head["columns"]:
        at = 8 * math.ceil(at / 8)
        values = np.frombuffer(body, f"<{column['type']}", head["n_rows"], at)
        table[column["name"]] = np.array(column["words"])[values].tolist() if "words" in column else values
        at += values.nbytes
    return table


def test_columns_of_any_length_and_type_arrive() -> None:
    """Three texts are 12 bytes, three float32 too: neither ends where the next column may begin."""
    sent = {"name": np.array(["é", "", "b"]), "p": np.float32([1, np.nan, 2]), "n": np.arange(3), "words": 3 * ["x"]}
    found = unpack_columns(pack_columns(sent))
    assert found["name"] == ["é", "", "b"] and found["words"] == ["x"] * 3
    np.testing.assert_array_equal(found["p"], sent["p"])
    assert found["p"].dtype == np.float32 and found["n"].tolist() == [0, 1, 2]
    assert unpack_columns(pack_columns({"name": np.empty(0, str)})) == {"name": []}


def test_bound_to_loopback_alone(server: ExplorerServer) -> None:
    assert server.server_address[0] == "127.0.0.1"


def test_page_and_headers(server: ExplorerServer) -> None:
    for path, kind in (("/", "text/html"), ("/explorer.js", "text/javascript"), ("/explorer.css", "text/css")):
        status, headers, body = ask(server, path)
        assert status == 200 and headers["content-type"].startswith(kind) and body
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    status, headers, packed = ask(server, "/aladin.js", Accept_Encoding="gzip")
    assert headers["content-encoding"] == "gzip" and len(packed) < 1_000_000
    status, headers, plain = ask(server, "/aladin.js")
    assert "content-encoding" not in headers and len(plain) > 2_000_000
    assert b"GNU GENERAL PUBLIC LICENSE" in ask(server, "/aladin-licence.txt")[2]
    assert ask(server, "/", "HEAD")[2] == b""


def test_products(server: ExplorerServer) -> None:
    facts = json.loads(ask(server, "/api/run.json")[2])
    assert [layer["name"] for layer in facts["layers"]] == [
        "p",
        "y",
        *(f"band-{b}" for b in (100, 143, 217, 353, 545, 857)),
    ]
    table = unpack_columns(ask(server, "/api/candidates.bin")[2])
    run = RunFolder(server.explorer.run.path)
    assert run.candidates is not None and len(table["name"]) == len(run.candidates)
    for name in ("p", "ra_deg", "snr"):  # the bits that the server filters by
        np.testing.assert_array_equal(table[name], run.candidates[name])
    assert np.isfinite(table["snr"][0]) and set(table["kind"]) == {"", "dusty"}
    assert EVIL_NAME in table["match_name"]
    assert set(table["flags"]) <= {"none", "galactic", "dust", "galactic, dust"}
    assert all("co" in words for words in table["not_checked"])
    groups = json.loads(ask(server, "/api/clusters.json")[2])
    assert {name: len(group["name"]) for name, group in groups.items()} == {
        "planck_z": 12,
        "planck_no-z": 6,
        "mcxcwp": 19,
    }
    sky = np.asarray(Image.open(io.BytesIO(ask(server, "/sky.png")[2])).convert("RGB"))
    assert sky.shape == (400, 800, 3)
    palette = 255 * matplotlib.colormaps[P_COLOURS](np.linspace(0, 1, 255))[:, :3]
    highest = palette[int(254 * scale_p()(np.nanmax(run.p_nested)))]
    assert np.abs(sky - highest).max(axis=-1).min() <= 0.5  # rounded to whole numbers
    assert ask(server, "/report.html")[0] == 404  # none was written
    assert facts["report"] is False
    report = server.explorer.run.path / "report.html"
    report.write_text("<p>here</p>")
    assert ask(server, "/report.html")[2] == b"<p>here</p>"
    assert json.loads(ask(server, "/api/run.json")[2])["report"] is True
    report.unlink()


def test_dossiers_by_name(server: ExplorerServer) -> None:
    name = str(server.explorer.candidates["name"][1])
    status, headers, page = ask(server, page_address(name))
    assert status == 200 and headers["content-type"].startswith("text/html") and name.encode() in page
    assert "default-src 'none'" in headers["content-security-policy"]
    sheet = ask(server, page_address(name, "png"))[2]
    assert Image.open(io.BytesIO(sheet)).size[0] > 1000
    assert ask(server, page_address(name, "pdf"))[2].startswith(b"%PDF")
    # every address on the page leads somewhere
    for address in re.findall(r'(?:href|src)="(/[^"#]*)"', page.decode()):
        assert ask(server, html.unescape(address), "HEAD")[0] == 200, address
    for missing in (
        "/dossier/",
        "/dossier/nobody",
        "/dossier/nobody.png",
        "/dossier/0.html",
        f"/dossier/{name[:-1]}",
    ):
        assert ask(server, quote(missing))[0] == 404, missing


def test_all_dossiers_in_one_zip(server: ExplorerServer) -> None:
    p = np.sort(np.asarray(server.explorer.candidates["p"]))[::-1]
    status, headers, body = ask(server, f"/dossiers.zip?p_min={p[1]:.7f}&format=png")
    assert status == 200 and headers["content-type"] == "application/zip"
    assert headers["content-disposition"] == 'attachment; filename="dossiers.zip"'
    archive = zipfile.ZipFile(io.BytesIO(body))
    assert archive.testzip() is None
    assert [name[:6] for name in archive.namelist()] == ["candid", "00000_", "00001_"]
    assert ask(server, "/dossiers.zip?p_min=2")[0] == 404
    assert ask(server, "/dossiers.zip?p_min=high")[0] == 400
    assert ask(server, "/dossiers.zip?format=exe")[0] == 400
    assert ask(server, "/dossiers.zip", "HEAD")[0] == 200  # not made to be thrown away


def test_tiles_are_the_map(server: ExplorerServer) -> None:
    with fits.open(io.BytesIO(ask(server, "/hips/p/Norder0/Dir0/Npix4.fits")[2])) as hdus:
        picture = hdus[0].data[::-1]
    nested = RunFolder(server.explorer.run.path).p_nested
    assert nested is not None
    np.testing.assert_array_equal(picture, np.repeat(nested[4 * 32**2 : 5 * 32**2], 16**2)[tile_pixels()])
    for layer in ("y", "band-100"):
        assert ask(server, f"/hips/{layer}/Norder0/Dir0/Npix11.png")[0] == 200
        assert b"hips_frame" in ask(server, f"/hips/{layer}/properties")[2]
    assert ask(server, "/hips/p/Norder3/Allsky.fits")[0] == 200
    for missing in ("/hips/p/Norder10/Dir0/Npix0.fits", "/hips/p/Norder0/Dir0/Npix12.fits", "/hips/q/properties"):
        assert ask(server, missing)[0] == 404


def test_evil_names_are_escaped(server: ExplorerServer) -> None:
    row = list(server.explorer.candidates["match_name"]).index(EVIL_NAME)
    status, _, body = ask(server, page_address(str(server.explorer.candidates["name"][row])))
    assert status == 200 and b"<script>" not in body
    assert b"&lt;script&gt;" in body


@pytest.mark.parametrize(
    "path",
    ["/secret.txt", "/../secret.txt", "/%2e%2e/secret.txt", "/static/../../secret.txt", "//etc/passwd", "/run.json",
     "/dossier/..", "/dossier/%2e%2e%2frun.json", "/dossier/../../secret.txt", "/dossiers.zip/../secret.txt",
     "/hips/../run.json", "/hips/p/Norder0/Dir0/../../../run.json", "/dossier/..%2f..%2frun.json", "/verdicts.sqlite",
     "/dossier/99999.png", "/dossier/-1.png", "/hips/p/Norder%D9%A0/Dir0/Npix0.fits"],
)  # fmt: skip
def test_no_path_leads_out(server: ExplorerServer, path: str) -> None:
    status, _, body = ask(server, path)
    assert status in (400, 404)
    assert b"not for the page" not in body and b"root:" not in body


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "0.0.0.0", "[::1]:80", ""])
def test_other_host_names_are_refused(server: ExplorerServer, host: str) -> None:
    status, _, body = ask(server, "/api/candidates.bin", Host=host)
    assert status == 421 and b"loopback" in body


def test_localhost_is_this_machine(server: ExplorerServer) -> None:
    assert ask(server, "/", Host=f"localhost:{server.server_address[1]}")[0] == 200


def test_cross_site_writes_are_refused(server: ExplorerServer) -> None:
    name = str(server.explorer.candidates["name"][0])
    said = {"name": name, "verdict": "cluster"}
    assert judge(server, said, Origin="http://evil.example")[0] == 403
    assert judge(server, said, Origin="null")[0] == 403
    assert judge(server, said, Sec_Fetch_Site="cross-site")[0] == 403
    body = json.dumps(said).encode()
    assert ask(server, "/api/verdicts.json", "POST", body, Content_Type="application/json")[0] == 403  # no Origin
    assert judge(server, said, Content_Type="text/plain")[0] == 415
    assert ask(server, "/api/verdicts.json", "PUT", body)[0] == 501
    assert VerdictStore(server.explorer.run.path).read() == []


def test_malformed_writes_are_refused(server: ExplorerServer) -> None:
    name = str(server.explorer.candidates["name"][0])
    for content in ([], "x", {"name": 3}, {"name": name, "verdict": "yes!"}, {"name": name, "verdict": None}):
        assert judge(server, content)[0] == 400
    assert judge(server, {"name": "nobody", "verdict": "maybe"})[0] == 404
    assert judge(server, {"name": name, "verdict": "maybe", "note": "x" * 2001})[0] == 400
    assert judge(server, {"name": name, "note": "x" * 20000})[0] == 413
    headers = {"Content_Type": "application/json", "Origin": server.origins[0]}
    assert ask(server, "/api/verdicts.json", "POST", b"{", **headers)[0] == 400
    assert ask(server, "/api/run.json", "POST", b"{}", **headers)[0] == 404


def test_verdicts_round_trip(server: ExplorerServer) -> None:
    first, second = (str(name) for name in server.explorer.candidates["name"][:2])
    note = "merger? 'quoted'; DROP TABLE verdicts; " + EVIL_NAME
    assert judge(server, {"name": first, "verdict": "cluster", "note": note})[0] == 200
    assert judge(server, {"name": second, "verdict": "maybe"})[0] == 200
    kept = {said["name"]: said for said in json.loads(ask(server, "/api/verdicts.json")[2])}
    assert kept[first]["note"] == note and kept[second]["verdict"] == "maybe"
    with fits.open(io.BytesIO(ask(server, "/vetted.fits")[2])) as hdus:
        vetted = Table(hdus[1].data)
    row = list(vetted["NAME"]).index(first)
    assert vetted["VERDICT"][row] == "cluster" and vetted["NOTE"][row] == note
    assert (vetted["VERDICT"] != "").sum() == 2 and len(vetted) == len(server.explorer.candidates)
    assert b"DROP TABLE" in ask(server, "/vetted.csv")[2]
    for name in (first, second):
        assert judge(server, {"name": name, "verdict": "", "note": ""})[0] == 200
    assert json.loads(ask(server, "/api/verdicts.json")[2]) == []


def test_verdicts_from_many_threads(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: store.write(f"c{k}", "maybe", str(k)), range(60)))
    assert len(store.read()) == 60
    with pytest.raises(ValueError, match="verdict 'sure' is unknown"):
        store.write("c", "sure")
    with pytest.raises(ValueError, match="has an empty name"):
        store.write("", "maybe")


def test_vetted_catalogue_without_verdicts(server: ExplorerServer) -> None:
    vetted = vetted_candidates(server.explorer.run.path)
    assert set(vetted["VERDICT"]) == {""} and set(vetted["NOTE"]) == {""}


_PIECES = st.sampled_from(
    ["/", "..", "%2e%2e", "%2f", "%00", "%", "hips", "p", "band-100", "Norder0", "Norder-1", "Norder99", "Dir0",
     "Npix0", "Npix999999999", "Allsky", ".fits", ".png", ".pdf", ".html", "properties", "Moc.fits", "dossier",
     "dossiers.zip?p_min=9", "api", "run.json", "candidates.bin", "verdicts.json", "secret.txt", "verdicts.sqlite",
     "candidates.fits",
     "report.html", "?p_min=nan", "?format=pdf&p_min=9", "?kind=%ff", "#", ";", "\\", "~", "etc/passwd"]
)  # fmt: skip
_WILD = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=60)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.lists(_PIECES, max_size=8).map("".join), _WILD),
    st.sampled_from(["GET", "POST", "HEAD", "DELETE", "OPTIONS"]),
)
def test_any_path_is_answered_calmly(server: ExplorerServer, tail: str, method: str) -> None:
    status, headers, body = ask(server, "/" + quote(tail, safe="/%?#.&=;~", encoding="latin-1"), method)
    assert status in (200, 400, 403, 404, 501)
    assert b"Traceback" not in body and b"not for the page" not in body and b"root:" not in body
    assert b"SQLite format" not in body and not body.startswith(b"SIMPLE  =                    T / conforms")
    if status == 200 and headers["content-type"].startswith("text/html"):
        assert "default-src 'none'" in headers["content-security-policy"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "verdict", "note", "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(_JSON.map(lambda value: json.dumps(value).encode()), st.binary(max_size=80)))
def test_any_body_is_answered_calmly(server: ExplorerServer, body: bytes) -> None:
    headers = {"Content_Type": "application/json", "Origin": server.origins[0]}
    assert ask(server, "/api/verdicts.json", "POST", body, **headers)[0] in (400, 404)  # no candidate is named
    assert VerdictStore(server.explorer.run.path).read() == []


@pytest.mark.parametrize(
    "raw",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01",
     b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
     b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
     b"POST /api/verdicts.json HTTP/1.1\r\nContent-Length: -5\r\n\r\n"],
)  # fmt: skip
def test_any_bytes_are_answered_calmly(server: ExplorerServer, raw: bytes) -> None:
    with socket.create_connection(server.server_address[:2], timeout=10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert b" 200 " not in answer[:20] and b"Traceback" not in answer
    assert ask(server, "/")[0] == 200  # and the next one is served


def test_the_default_port_is_the_one_reports_link_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / "demo", nside=16, n_clusters=12)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(server_module, "EXPLORER_PORT", port)
    with server_module._open_server(folder, None) as first:
        assert first.server_address[1] == port
        with server_module._open_server(folder, None) as second:  # taken: any other, and said
            assert second.server_address[1] not in (port, 0)
            assert f"port {port} is in use" in capsys.readouterr().out
        with pytest.raises(OSError, match="in use"):
            server_module._open_server(folder, port)


def test_any_other_map_is_a_layer(tmp_path: Path) -> None:
    # an equatorial RING map of declination: where it is read, the frame is Galactic and the ordering NESTED
    folder = make_run(tmp_path / "demo", nside=32, n_clusters=12)
    _, dec = healpy.pix2ang(64, np.arange(12 * 64**2), lonlat=True)
    healpy.write_map(str(tmp_path / "dec.fits"), dec.astype(np.float32), coord="C", column_units="deg")
    (folder / "simulated").mkdir()
    healpy.write_map(
        str(folder / "simulated" / "xray.fits"), np.arange(12 * 16**2, dtype=np.float32), coord="G", nest=True
    )
    layers = {layer.name: layer for layer in list_layers(RunFolder(folder), {"dec": tmp_path / "dec.fits"})}
    assert list(layers) == ["p", "y", *(f"band-{b}" for b in (100, 143, 217, 353, 545, 857)), "xray", "dec"]
    assert layers["xray"].tile(0, 3)[0, 0] == 3 * 16**2 and layers["dec"].unit == "deg"
    own = np.concatenate([layers["dec"].read(k * 64**2, 64**2) for k in range(12)])
    lon, lat = healpy.pix2ang(64, np.arange(12 * 64**2), nest=True, lonlat=True)
    expected = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs.dec.deg
    np.testing.assert_allclose(own, expected, atol=1.0)  # a pixel is 0.9 deg
    with pytest.raises(ValueError, match="two maps are named 'p'"):
        list_layers(RunFolder(folder), {"p": tmp_path / "dec.fits"})
    with pytest.raises(FileNotFoundError, match="is not a file"):
        list_layers(RunFolder(folder), {"x": tmp_path / "nowhere.fits"})
    with pytest.raises(ValueError, match=r"layer name '\.\./x' is not valid"):
        list_layers(RunFolder(folder), {"../x": tmp_path / "dec.fits"})


def test_classes_of_the_network_are_layers_beside_p(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "demo", nside=32, n_clusters=12)
    card = json.loads((folder / "model.json").read_text()) | {"network": {"classes": ["radio", "co", "dusty"]}}
    (folder / "model.json").write_text(json.dumps(card))
    ring = np.linspace(0, 1, 12 * 32**2, dtype=np.float32)
    (folder / "classes").mkdir()
    for name in ("radio", "co"):  # the third is not there
        write_prediction(ring, folder / "classes" / f"{name}.fits")
    layers = {layer.name: layer for layer in list_layers(RunFolder(folder))}
    assert list(layers)[:4] == ["p", "p-radio", "p-co", "y"] and layers["p-co"].title == "p of CO"
    own = np.concatenate([layers["p-radio"].read(k * 32**2, 32**2) for k in range(12)])
    np.testing.assert_array_equal(own, ring[healpy.nest2ring(32, np.arange(12 * 32**2))])


def test_a_run_without_maps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds neither prediction\.fits nor y_map\.fits nor maps/"):
        list_layers(RunFolder(tmp_path))
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        ExplorerServer(tmp_path / "nowhere")
