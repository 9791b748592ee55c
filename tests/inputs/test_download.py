"""Fetching against a real HTTP server on loopback: the file is right or absent, never wrong."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
import threading
import time
from collections import namedtuple
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from szeek.cli.data import data_app
from szeek.inputs import download
from szeek.inputs.download import DownloadError, add, fetch, list_datasets, locate, verify

RNG = np.random.default_rng(8)


class Server(ThreadingHTTPServer):
    """Serves `files`; a path may misbehave by a function of (handler, body, first byte), True where that answered."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.behaviour = {}
        self.requests: list[tuple[str, str | None]] = []
        self.tag = '"v1"'

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, client_address):
        pass  # a client that went away is part of the game


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        span = self.headers.get("Range")
        server.requests.append((self.path, span))
        body = server.files.get(self.path)
        first = int(span.removeprefix("bytes=").split("-")[0]) if span else 0
        if span and self.headers.get("If-Range") not in (None, server.tag):
            first, span = 0, None
        behaviour = server.behaviour.get(self.path)
        if behaviour and behaviour(self, body, first):
            return
        if body is None:
            self.answer(404, b"no such file")
        elif first > len(body):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        else:
            self.send_part(body, first, span is not None)

    def answer(self, status, body, headers=()):
        self.send_response(status)
        for key, value in dict(headers).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_part(self, body, first, partial, stop=None):
        """The body from `first` on; with `stop` the connection breaks there."""
        self.send_response(206 if partial else 200)
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        if partial:
            self.send_header("Content-Range", f"bytes {first}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - first))
        self.end_headers()
        self.wfile.write(body[first:stop])
        if stop is not None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def body():
    return RNG.bytes(300_000)


def write_list(folder: Path, urls, *, name="set", path="maps/file.fits", **extra) -> Path:
    lines = [
        "[[dataset]]",
        f'name = "{name}"\ntitle = "t"\nused_for = ["tests"]\nlicence = "l"\ncitation = "c"',
        "[[dataset.file]]",
        f'path = "{path}"',
        f"urls = {json.dumps(urls)}",
        *(f"{key} = {json.dumps(value)}" for key, value in extra.items()),
    ]
    source = folder / f"{name}.toml"
    source.write_text("\n".join(lines))
    return source


def sha(data):
    return hashlib.sha256(data).hexdigest()


def get(tmp_path, source, **settings):
    return fetch(["set"], folder=tmp_path / "data", source=source, **{"timeout_s": 5.0, **settings})


def visible(folder: Path):
    return (
        sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
        if folder.exists()
        else []
    )


def test_fetch_verify_and_leave_alone(server, tmp_path, body):
    server.files["/file.fits"] = body
    source = write_list(
        tmp_path, [server.address + "/file.fits"], size=len(body), sha256=sha(body), checksum="official"
    )
    seen = []
    (state,) = get(tmp_path, source, progress=lambda *a: seen.append(a))
    assert state.state == "verified" and "official" in state.how and state.path.read_bytes() == body
    assert seen[-1] == ("download", len(body), len(body), "maps/file.fits")
    n = len(server.requests)
    assert get(tmp_path, source)[0].state == "verified" and len(server.requests) == n
    state.path.write_bytes(body[:-1] + b"x" if body[-1:] != b"x" else body[:-1] + b"y")
    assert verify(["set"], folder=tmp_path / "data", source=source)[0].state == "wrong"
    assert get(tmp_path, source)[0].path.read_bytes() == body  # damaged on disk: fetched again


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["psz2", "hfi-rimo"])
def test_fifty_interruptions_of_a_real_file(server, tmp_path, real_data, name):
    """Official files under their public names, cut at 50 random bytes, each time continued from there."""
    known = next(d for d in list_datasets() if d.name == name).files[0]
    body = (real_data / known.path).read_bytes()
    url = "/" + known.urls[0].split("/", 3)[3]
    sent = gzip.compress(body, 6) if known.unpack == "gzip" else body
    server.files[url] = sent
    cuts = iter(np.sort(RNG.choice(np.arange(1, len(sent)), 50, replace=False)).tolist())

    def break_off(handler, data, first):
        stop = next((c for c in cuts if c > first), None)
        if stop is None:
            return False
        handler.send_part(data, first, first > 0, stop)
        return True

    server.behaviour[url] = break_off
    facts = {"size": known.size, "sha256": known.sha256, "checksum": known.checksum}
    unpack = {"unpack": known.unpack} if known.unpack else {}
    source = write_list(tmp_path, [server.address + url], path=known.path, **facts, **unpack)
    (state,) = get(tmp_path, source)
    assert state.state == "verified" and state.path.read_bytes() == body
    assert len(server.requests) == 51
    starts = [int(span.split("=")[1].rstrip("-")) for _, span in server.requests[1:]]
    assert starts == sorted(starts) and starts[-1] > 0  # never from the beginning again


def test_stopped_and_continued_in_another_call(server, tmp_path, body):
    server.files["/file.fits"] = body
    source = write_list(tmp_path, [server.address + "/file.fits"], sha256=sha(body), checksum="official")
    server.behaviour["/file.fits"] = lambda h, d, first: h.send_part(d, first, first > 0, max(first, 100_000)) or True
    with pytest.raises(DownloadError, match="gave up after 2 tries without a byte"):
        get(tmp_path, source, max_failures=1)
    assert visible(tmp_path / "data") == []
    assert fetch(["set"], folder=tmp_path / "data", source=source, dry_run=True)[0].state == "partial"
    server.behaviour.clear()
    server.requests.clear()
    assert get(tmp_path, source)[0].path.read_bytes() == body
    assert server.requests == [("/file.fits", "bytes=100000-")]


def test_a_file_that_changed_in_between_starts_over(server, tmp_path, body):
    """If-Range: half of the old and half of the new file would have the right length."""
    server.files["/file.fits"] = body
    source = write_list(tmp_path, [server.address + "/file.fits"])
    server.behaviour["/file.fits"] = lambda h, d, first: h.send_part(d, first, first > 0, max(first, 100_000)) or True
    with pytest.raises(DownloadError):
        get(tmp_path, source, max_failures=0)
    server.behaviour.clear()
    server.files["/file.fits"], server.tag = RNG.bytes(len(body)), '"v2"'
    assert get(tmp_path, source)[0].path.read_bytes() == server.files["/file.fits"]


def test_server_without_ranges_or_versions(server, tmp_path, body):
    server.tag = None
    server.files["/file.fits"] = body
    cuts = iter([1000, 50_000, 200_000])

    def no_ranges(handler, data, first):
        stop = next(cuts, None)
        handler.send_part(data, 0, False, stop)
        return True

    server.behaviour["/file.fits"] = no_ranges
    assert get(tmp_path, write_list(tmp_path, [server.address + "/file.fits"]))[0].path.read_bytes() == body


def test_wrong_checksum_then_the_right_mirror(server, tmp_path, body):
    server.files["/bad"], server.files["/good"] = body[::-1], body
    urls = [server.address + "/bad", server.address + "/good"]
    source = write_list(tmp_path, urls, sha256=sha(body), checksum="official")
    assert get(tmp_path, source)[0].path.read_bytes() == body
    shutil.rmtree(tmp_path / "data")
    source = write_list(tmp_path, urls[:1], sha256=sha(body), checksum="official")
    with pytest.raises(DownloadError, match=r"its sha256 is \w{12}\.\.\., expected \w{12}\.\.\. \(official\)"):
        get(tmp_path, source)
    assert visible(tmp_path / "data") == [] and not list((tmp_path / "data").rglob("*.part"))


def test_wrong_size(server, tmp_path, body):
    server.files["/file.fits"] = body
    source = write_list(tmp_path, [server.address + "/file.fits"], size=len(body) + 1)
    with pytest.raises(DownloadError, match="it has 300000 bytes, expected 300001"):
        get(tmp_path, source)
    assert visible(tmp_path / "data") == []


def test_404_then_mirror(server, tmp_path, body):
    server.files["/there"] = body
    source = write_list(tmp_path, [server.address + "/gone", server.address + "/there"], sha256=sha(body))
    assert get(tmp_path, source)[0].path.read_bytes() == body
    source = write_list(tmp_path, [server.address + "/gone", server.address + "/also-gone"], path="maps/other.fits")
    with pytest.raises(
        DownloadError, match=r"maps/other.fits' could not be fetched .*/gone: HTTP status 404; .*also-gone"
    ):
        get(tmp_path, source)


@pytest.mark.parametrize("retry_after", ["1", "date", None])
def test_503_with_retry_after(server, tmp_path, body, retry_after):
    server.files["/file.fits"] = body
    times = []

    def busy(handler, _data, _first):
        times.append(time.monotonic())
        if len(times) > 1:
            return False
        value = formatdate(time.time() + 2, usegmt=True) if retry_after == "date" else retry_after
        handler.answer(503, b"later", {"Retry-After": value} if value else {})
        return True

    server.behaviour["/file.fits"] = busy
    assert get(tmp_path, write_list(tmp_path, [server.address + "/file.fits"]))[0].path.read_bytes() == body
    assert times[1] - times[0] > 0.9


def test_a_wait_without_end_is_not_waited_for(server, tmp_path):
    server.behaviour["/file.fits"] = lambda h, *_: h.answer(503, b"", {"Retry-After": "86400"}) or True
    with pytest.raises(DownloadError, match="asked to wait for more than five minutes"):
        get(tmp_path, write_list(tmp_path, [server.address + "/file.fits"]))


def test_redirects(server, tmp_path, body):
    server.files["/real"] = body
    server.behaviour["/moved"] = lambda h, *_: h.answer(302, b"", {"Location": "/real"}) or True
    assert get(tmp_path, write_list(tmp_path, [server.address + "/moved"]))[0].path.read_bytes() == body
    server.behaviour["/moved"] = lambda h, *_: h.answer(302, b"", {"Location": "http://example.org/x"}) or True
    with pytest.raises(DownloadError, match=r"example.org/x' is no https address; files are fetched over TLS only"):
        get(tmp_path, write_list(tmp_path, [server.address + "/moved"], path="b.fits"))
    server.behaviour["/moved"] = lambda h, *_: h.answer(302, b"", {"Location": "/moved"}) or True
    with pytest.raises(DownloadError, match="more than ten redirects"):
        get(tmp_path, write_list(tmp_path, [server.address + "/moved"], path="c.fits"))


def test_slow_server(server, tmp_path, body):
    """Silence of a second counts as a break; what had come is kept."""
    server.files["/file.fits"] = body
    naps = iter([True, True, False])

    def slow(handler, data, first):
        if next(naps):
            handler.send_response(206 if first else 200)
            handler.send_header("ETag", server.tag)
            if first:
                handler.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
            handler.send_header("Content-Length", str(len(data) - first))
            handler.end_headers()
            handler.wfile.write(data[first : first + 100_000])
            handler.wfile.flush()
            time.sleep(2.0)
            return True
        return False

    server.behaviour["/file.fits"] = slow
    (state,) = get(tmp_path, write_list(tmp_path, [server.address + "/file.fits"]), timeout_s=1.0)
    assert state.path.read_bytes() == body
    assert server.requests[1][1] is not None


def test_full_disk(server, tmp_path, body, monkeypatch):
    server.files["/file.fits"] = body
    source = write_list(tmp_path, [server.address + "/file.fits"])
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1000))
        with pytest.raises(
            DownloadError, match="1000 bytes are free, 300000 more are needed; make room or set SZEEK_DATA"
        ):
            get(tmp_path, source)
    assert visible(tmp_path / "data") == []

    class Full(io.BufferedRandom):
        def write(self, block):
            if self.tell() > 100_000:
                raise OSError(28, "No space left on device")
            return super().write(block)

    real_open = Path.open

    def open_full(self, mode="r", *args, **kwargs):
        if self.name.endswith(".part") and ("w" in mode or "+" in mode):
            return Full(real_open(self, mode.replace("wb", "w+b"), buffering=0))
        return real_open(self, mode, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        with pytest.raises(DownloadError, match="No space left on device"):
            get(tmp_path, source)
    assert visible(tmp_path / "data") == []
    assert get(tmp_path, source)[0].path.read_bytes() == body  # room was made: it goes on


def test_two_fetches_at_once(server, tmp_path, body):
    """Two callers, one transfer: the second waits and finds the file there."""
    server.files["/file.fits"] = body
    server.behaviour["/file.fits"] = lambda *_: time.sleep(0.2)
    source = write_list(tmp_path, [server.address + "/file.fits"], sha256=sha(body), checksum="official")
    found = []
    threads = [threading.Thread(target=lambda: found.append(get(tmp_path, source)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [s.state for s in found] == ["verified"] * 3 and found[0].path.read_bytes() == body
    assert len(server.requests) == 1


def test_without_a_published_checksum_the_first_one_is_kept(server, tmp_path, body):
    server.files["/file.fits"] = body
    source = write_list(tmp_path, [server.address + "/file.fits"])
    assert "of the first fetch" in get(tmp_path, source)[0].how
    (tmp_path / "data" / "maps" / "file.fits").write_bytes(body[:-1])
    (state,) = verify(["set"], folder=tmp_path / "data", source=source)
    assert state.state == "wrong"


def test_manifest(server, tmp_path, body):
    """Size and md5 of the archive's own manifest.json, as PR4's; a file that is not what it says is refused."""
    server.files["/file.fits"] = body
    md5 = hashlib.md5(body).hexdigest()
    server.files["/manifest.json"] = json.dumps([{"filename": "file.fits", "length": len(body), "md5": md5}]).encode()
    source = write_list(tmp_path, [server.address + "/file.fits"], manifest=server.address + "/manifest.json")
    (state,) = get(tmp_path, source)
    assert state.path.read_bytes() == body
    server.files["/file.fits"] = body[::-1]
    source = write_list(
        tmp_path, [server.address + "/file.fits"], path="x/file.fits", manifest=server.address + "/manifest.json"
    )
    with pytest.raises(DownloadError, match=r"its md5 is .* \(official\)"):
        get(tmp_path, source)


def make_tar(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(info)
            else:
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_archives_are_unpacked_without_traversal(server, tmp_path):
    url = server.address + "/y.tgz"
    settings = {"unpack": "tar", "path": "maps/Y", "members": ["milca.fits", "MV/klm.fits"]}
    server.files["/y.tgz"] = make_tar({"Y/milca.fits": b"milca", "Y/MV/klm.fits": b"klm", "Y/other": b"no"})
    (state,) = get(tmp_path, write_list(tmp_path, [url], **settings))
    assert (state.path / "milca.fits").read_bytes() == b"milca" and (
        state.path / "MV/klm.fits"
    ).read_bytes() == b"klm"
    assert visible(tmp_path / "data") == ["checksums.json", "klm.fits", "milca.fits"]
    for members in (
        {"../../milca.fits": b"evil", "Y/MV/klm.fits": b"klm"},
        {"/tmp/milca.fits": b"evil", "Y/MV/klm.fits": b"klm"},
        {"Y/milca.fits": None, "Y/MV/klm.fits": b"klm"},
    ):
        shutil.rmtree(tmp_path / "data")
        server.files["/y.tgz"] = make_tar(members)
        with pytest.raises(DownloadError, match="is no plain file inside it; not unpacked"):
            get(tmp_path, write_list(tmp_path, [url], **settings))
        assert visible(tmp_path / "data") == [] and not (tmp_path / "milca.fits").exists()
    server.files["/y.tgz"] = make_tar({"Y/milca.fits": b"milca"})
    with pytest.raises(DownloadError, match=r"the archive lacks MV/klm.fits"):
        get(tmp_path, write_list(tmp_path, [url], **settings))
    server.files["/y.tgz"] = make_tar({"Y/milca.fits": RNG.bytes(100_000)})[:-5000]
    with pytest.raises(DownloadError, match=r"ended before|unexpected end"):
        get(tmp_path, write_list(tmp_path, [url], **settings))


def test_gzip_that_is_none(server, tmp_path):
    server.files["/f.gz"] = b"<html>maintenance</html>"
    with pytest.raises(DownloadError, match="Not a gzipped file"):
        get(tmp_path, write_list(tmp_path, [server.address + "/f.gz"], unpack="gzip"))
    assert visible(tmp_path / "data") == []


@pytest.mark.parametrize(
    "url", ["http://irsa.ipac.caltech.edu/x", "ftp://cdsarc.u-strasbg.fr/x", "file:///etc/passwd"]
)
def test_tls_only(tmp_path, url):
    with pytest.raises(DownloadError, match="is no https address; files are fetched over TLS only"):
        get(tmp_path, write_list(tmp_path, [url]))


def test_bring_your_own(tmp_path, body):
    own = tmp_path / "elsewhere" / "file.fits"
    own.parent.mkdir()
    own.write_bytes(body)
    source = write_list(tmp_path, ["https://example.org/file.fits"], sha256=sha(body), checksum="official")
    with pytest.raises(FileNotFoundError, match=r"'set' is not in .*; szeek data fetch set"):
        locate("set", folder=tmp_path / "data", source=source)
    add("set", own.parent, folder=tmp_path / "data", source=source)
    assert locate("set", folder=tmp_path / "data", source=source) == {"file.fits": own}
    assert get(tmp_path, source)[0].state == "own"  # nothing is fetched
    own.write_bytes(body[:-1])
    with pytest.raises(ValueError, match=r"is not set's file.fits: its sha256 is"):
        add("set", own, folder=tmp_path / "data", source=source)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        add("set", tmp_path / "none", folder=tmp_path / "data", source=source)


def test_bad_requests(tmp_path):
    with pytest.raises(ValueError, match="data set 'planck-pr5' is unknown, expected one of planck-pr3, planck-pr2"):
        fetch(["planck-pr5"], folder=tmp_path)
    with pytest.raises(ValueError, match=r"'iris' cannot be fetched: .* \(szeek data add iris PATH\)"):
        fetch(["iris"], folder=tmp_path)
    with pytest.raises(ValueError, match=r"used for 'nothing', expected one of act-dr5, .*bonjean2020, .*stacks"):
        list_datasets("nothing")
    source = write_list(tmp_path, ["https://example.org/x"], path="../outside.fits")
    with pytest.raises(ValueError, match="lies outside the data folder"):
        list_datasets(source=source)


def test_the_packages_own_list():
    """Every entry is complete, https, and has a checksum only where it says whose."""
    sets = list_datasets()
    assert len({d.name for d in sets}) == len(sets) > 20
    assert sum(f.about_gb for f in next(d for d in sets if d.name == "planck-pr3").files) == pytest.approx(9.2)
    paths = [f.path for d in sets for f in d.files]
    assert len(paths) == len(set(paths))
    for dataset in sets:
        assert dataset.citation and dataset.licence and (dataset.files or dataset.note)
        for file in dataset.files:
            assert file.urls and all(url.startswith("https://") and "{}" not in url for url in file.urls)
            assert (file.sha256 is None) == (file.checksum is None)


@pytest.mark.realdata
def test_the_lists_checksums_are_those_of_the_real_files(real_data):
    checked = 0
    for file in (f for d in list_datasets() for f in d.files if f.sha256):
        held = real_data / file.path
        assert sha(held.read_bytes()) == file.sha256 and held.stat().st_size == file.size
        checked += 1
    assert checked == 2


def test_command_line(server, tmp_path, body, monkeypatch):
    monkeypatch.setenv("SZEEK_DATA", str(tmp_path / "data"))
    assert download.data_folder() == tmp_path / "data"
    run = CliRunner()
    result = run.invoke(data_app, ["list", "--for", "bonjean2020"])
    assert result.exit_code == 0 and "planck-pr3" in result.output and "about 2 GB" in result.output
    assert "missing: 9.2 GB and 3 files of unknown size" in result.output
    result = run.invoke(data_app, ["fetch", "psz2", "--dry-run"])
    assert "absent" in result.output and "https://irsa.ipac.caltech.edu" in result.output
    result = run.invoke(data_app, ["fetch", "rosat"])
    assert result.exit_code == 1 and "cannot be fetched" in str(result.exception)
    (tmp_path / "iris.fits").write_bytes(b"x")
    assert run.invoke(data_app, ["add", "iris", str(tmp_path / "iris.fits")]).exit_code == 0
    assert locate("iris")["iris.fits"] == tmp_path / "iris.fits"
    server.files["/file.fits"] = body
    source = write_list(tmp_path, [server.address + "/file.fits"], sha256=sha(body), checksum="official")
    monkeypatch.setattr(download.resources, "files", lambda _: tmp_path)
    os.replace(source, tmp_path / "datasets.toml")
    result = run.invoke(data_app, ["fetch", "set"])
    assert result.exit_code == 0 and "verified" in result.output
    (tmp_path / "data" / "maps" / "file.fits").write_bytes(b"damaged")
    result = run.invoke(data_app, ["verify"])
    assert result.exit_code == 1 and "wrong" in result.output
