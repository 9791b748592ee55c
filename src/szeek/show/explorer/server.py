"""The explorer's server: one run, on this machine alone.

It binds to 127.0.0.1; answers only requests to that host name (so that no other site's name can be rebound to it);
accepts writes only from its own page; serves a fixed set of files and products, never a path; and its content
security policy keeps the browser from loading anything from elsewhere.
"""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import sys
import threading
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import numpy as np
from astropy.table import Table

from szeek._version import __version__
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.show.explorer.columns import pack_columns
from szeek.show.explorer.dossierpage import render_page
from szeek.show.explorer.dossierset import dossier_files, stream_zip
from szeek.show.explorer.filters import Filters, choose_candidates
from szeek.show.explorer.hips import HipsLayer
from szeek.show.explorer.layers import list_layers
from szeek.show.explorer.verdicts import VERDICTS, VerdictStore, vetted_candidates
from szeek.show.figures.dossier import describe_flags, draw_sheet
from szeek.show.figures.skyplots import mollweide_picture
from szeek.show.report.links import EXPLORER_PORT

_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src 'self' blob:; font-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/explorer.js": ("explorer.js", "text/javascript; charset=utf-8"),
    "/skymap.js": ("skymap.js", "text/javascript; charset=utf-8"),
    "/explorer.css": ("explorer.css", "text/css; charset=utf-8"),
    "/aladin.js": ("aladin-lite-3.8.2.js.gz", "text/javascript; charset=utf-8"),
    "/aladin-licence.txt": ("ALADIN-LITE-COPYING.txt", "text/plain; charset=utf-8"),
}
_TILE = re.compile(r"/hips/([\w-]+)/Norder(\d{1,2})/(?:Dir\d{1,9}/Npix(\d{1,9})|(Allsky))\.(fits|png)", re.ASCII)
_HIPS_FILE = re.compile(r"/hips/([\w-]+)/(properties|Moc\.fits)", re.ASCII)
_DOSSIER = re.compile(r"/dossier/([^/]{1,200}?)(?:\.(png|pdf))?")
_POST_LIMIT = 16_384
#: Width of the still picture of the sky where each of its pixels is to be seen on a screen.
_STILL_WIDTH = 800
#: Columns of the candidates that the page reads.
_SHOWN = (
    "name", "ra_deg", "dec_deg", "lon_deg", "lat_deg", "p", "purity", "snr", "y5r500_arcmin2", "kind", "match_name",
)  # fmt: skip


class Answer(NamedTuple):
    """A response to the browser."""

    body: bytes
    kind: str
    status: HTTPStatus = HTTPStatus.OK
    encoding: str = ""
    file_name: str = ""  #: offered for saving under this name
    pieces: Iterator[bytes] | None = None  #: sent one by one instead of the body, as they are made


class Refused(Exception):
    """A request that is refused, with the reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Explorer:
    """What the explorer serves of a run: every product, by its route.

    Parameters
    ----------
    run_folder : path
        The run.
    maps : mapping of name to path, optional
        Other maps to show, HEALPix FITS files.
    """

    def __init__(
        self, run_folder: str | os.PathLike[str], maps: Mapping[str, str | os.PathLike[str]] | None = None
    ) -> None:
        self.run = RunFolder(run_folder)
        self.layers: dict[str, HipsLayer] = {layer.name: layer for layer in list_layers(self.run, maps)}
        self.verdicts = VerdictStore(self.run.path)
        self.tile = lru_cache(maxsize=256)(self._tile)
        self.sheet = lru_cache(maxsize=64)(self._sheet)

    @cached_property
    def candidates(self) -> Table:
        """The candidates, in the order of the page's numbering: highest p first."""
        numbers = ("lon_deg", "lat_deg", "ra_deg", "dec_deg", "p")
        empty = Table({"name": np.empty(0, str), **{column: np.empty(0) for column in numbers}})
        return empty if self.run.candidates is None else self.run.candidates

    def answer(self, route: str, query: Mapping[str, str] | None = None) -> Answer:
        """The product at a route.

        Raises
        ------
        Refused
            If the route is unknown, or the query is not valid.
        """
        if route in _STATIC:
            return _static(route)
        plain: dict[str, Callable[[], Answer]] = {
            f"/api/{products.RECORD}": lambda: _json(self.describe()),
            "/api/candidates.bin": lambda: self._candidates,
            "/api/clusters.json": lambda: self._clusters_json,
            "/api/verdicts.json": lambda: _json([verdict._asdict() for verdict in self.verdicts.read()]),
            "/sky.png": lambda: self._sky_picture,
            "/vetted.csv": lambda: self._vetted("csv"),
            "/vetted.fits": lambda: self._vetted("fits"),
            f"/{products.REPORT}": self._report,
            "/dossiers.zip": lambda: self._dossiers(query or {}),
        }
        if route in plain:
            return plain[route]()
        if found := _TILE.fullmatch(route):
            name, order, npix, allsky, ending = found.groups()
            return self.tile(self._layer(name), -1 if allsky else int(order), int(npix or 0), ending)
        if found := _HIPS_FILE.fullmatch(route):
            layer = self._layer(found[1])
            if found[2] == "properties":
                return Answer(layer.properties().encode(), "text/plain; charset=utf-8")
            return Answer(layer.moc(), "application/fits")
        if found := _DOSSIER.fullmatch(route):
            if found[1] not in self._rows:
                raise Refused(HTTPStatus.NOT_FOUND, "no candidate of that name")
            return self.sheet(self._rows[found[1]], found[2] or "html")
        raise Refused(HTTPStatus.NOT_FOUND, "not found")

    def warm(self) -> None:
        """Pack what the page requests first, while the browser starts."""
        _ = self._candidates
        _packed(self._clusters_json.body)

    def describe(self) -> dict[str, Any]:
        """The run's title, threshold and layers."""
        shown = [
            {
                **{fact: getattr(layer, fact) for fact in ("name", "title", "unit", "low", "high", "order")},
                **{"stretch": layer.stretch, "ticks": layer.ticks, "swatch": layer.swatch()},
                "colours": layer.colours.removesuffix("_r").lower(),
                "reversed": layer.colours.endswith("_r"),
            }
            for layer in self.layers.values()
        ]
        return {
            "title": self.run.title,
            "version": __version__,
            "p_max": self.run.p_max,
            "layers": shown,
            "verdicts": VERDICTS,
            "report": (self.run.file(products.REPORT)).is_file(),
        }

    def post(self, route: str, content: Any) -> Answer:
        """Store a verdict.

        Raises
        ------
        Refused
            If the route accepts no data or the content is not a verdict.
        """
        if route != "/api/verdicts.json":
            raise Refused(HTTPStatus.NOT_FOUND, "this address accepts no data")
        if not isinstance(content, dict) or not all(
            isinstance(content.get(key, ""), str) for key in ("name", "verdict", "note")
        ):
            raise Refused(HTTPStatus.BAD_REQUEST, "expected an object with texts: name, verdict, note")
        if content.get("name") not in self._rows:
            raise Refused(HTTPStatus.NOT_FOUND, "no candidate of that name")
        try:
            said = self.verdicts.write(content["name"], content.get("verdict", ""), content.get("note", ""))
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        return _json(said._asdict())

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Number of each candidate by its name; of the first one where two share a name."""
        names = [str(name) for name in self.candidates["name"]]
        return {name: row for row, name in reversed(list(enumerate(names)))}

    def _layer(self, name: str) -> HipsLayer:
        if name not in self.layers:
            raise Refused(HTTPStatus.NOT_FOUND, "no such layer")
        return self.layers[name]

    def _tile(self, layer: HipsLayer, order: int, npix: int, ending: str) -> Answer:
        try:
            picture = layer.allsky() if order < 0 else layer.tile(order, npix)
        except ValueError as error:
            raise Refused(HTTPStatus.NOT_FOUND, str(error)) from error
        return Answer(layer.encode(picture, ending), "image/png" if ending == "png" else "image/fits")

    def _sheet(self, row: int, ending: str) -> Answer:
        if ending == "html":
            return Answer(render_page(self.run, row).encode(), "text/html; charset=utf-8")
        return Answer(draw_sheet(self.run, row, ending), "image/png" if ending == "png" else "application/pdf")

    def _dossiers(self, query: Mapping[str, str]) -> Answer:
        ending = query.get("format", "pdf")
        if ending not in ("pdf", "png"):
            raise Refused(HTTPStatus.BAD_REQUEST, f"sheet format '{ending}' is unknown, expected 'pdf' or 'png'")
        said = {one.name: one.verdict for one in self.verdicts.read()}
        try:
            rows = choose_candidates(self.candidates, Filters.parse(query), said).tolist()
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        if not rows:
            raise Refused(HTTPStatus.NOT_FOUND, "no candidate passes these filters")
        pieces = stream_zip(dossier_files(self.run, rows, ending))
        return Answer(b"", "application/zip", file_name="dossiers.zip", pieces=pieces)

    @cached_property
    def _candidates(self) -> Answer:
        table = self.candidates
        columns: dict[str, Any] = {name: np.asarray(table[name]) for name in _SHOWN if name in table.colnames}
        if "flags" in table.colnames:
            facts = ("flags", "checked", "ps_band")
            each = list(zip(*(np.asarray(table[name]).tolist() for name in facts), strict=True))
            said = {one: describe_flags(dict(zip(facts, one, strict=True))) for one in set(each)}
            columns["flags"], columns["not_checked"] = ([said[one][k] for one in each] for k in (0, 1))
        return Answer(pack_columns(columns), "application/octet-stream")

    @cached_property
    def _clusters_json(self) -> Answer:
        clusters = self.run.clusters
        if clusters is None:
            return _json({})
        group = np.asarray(clusters["selection" if "selection" in clusters.colnames else "survey"], str)
        kept = [
            name for name in ("name", "lon_deg", "lat_deg", "z", "snr", "m500_1e14msun") if name in clusters.colnames
        ]
        groups = {
            str(label) or "others": {name: _json_column(clusters[group == label][name]) for name in kept}
            for label in dict.fromkeys(group.tolist())
        }
        return _json(groups)

    @cached_property
    def _sky_picture(self) -> Answer:
        layer = next(iter(self.layers.values()))
        if layer.combine == "maximum":
            picture = mollweide_picture(layer.whole_sky(), _STILL_WIDTH, largest=True)
        else:
            picture = mollweide_picture(layer.whole_sky(), 2 * _STILL_WIDTH)
        return Answer(layer.encode_png(picture[::-1]), "image/png")

    def _vetted(self, ending: str) -> Answer:
        table = vetted_candidates(self.run.path)
        if ending == "csv":
            text = io.StringIO()
            table.write(text, format="ascii.csv")
            return Answer(text.getvalue().encode(), "text/csv; charset=utf-8", file_name="candidates_vetted.csv")
        buffer = io.BytesIO()
        table.write(buffer, format="fits")
        return Answer(buffer.getvalue(), "application/fits", file_name="candidates_vetted.fits")

    def _report(self) -> Answer:
        file = self.run.file(products.REPORT)
        if not file.is_file():
            raise Refused(HTTPStatus.NOT_FOUND, "this run has no report yet: `szeek report RUN` writes it")
        return Answer(file.read_bytes(), "text/html; charset=utf-8")


def _json_column(values: Any) -> list[Any]:
    """A column as JSON holds it: NaN becomes null, floats keep six decimals."""
    array = np.asarray(values)
    if array.dtype.kind != "f":
        return list(array.astype(str).tolist() if array.dtype.kind in "SUO" else array.tolist())
    numbers: list[Any] = np.round(array.astype(float), 6).tolist()
    for gap in np.flatnonzero(~np.isfinite(array)):
        numbers[gap] = None
    return numbers


def _json(content: Any) -> Answer:
    return Answer(json.dumps(content, allow_nan=False, separators=(",", ":")).encode(), "application/json")


@lru_cache(maxsize=8)
def _packed(body: bytes) -> bytes:
    return gzip.compress(body, 1)


@lru_cache
def _static(route: str) -> Answer:
    name, kind = _STATIC[route]
    content = (resources.files("szeek.show.explorer") / "static" / name).read_bytes()
    return Answer(content, kind, encoding="gzip" if name.endswith(".gz") else "")


class _Handler(BaseHTTPRequestHandler):
    server: ExplorerServer
    server_version = f"SZeek/{__version__}"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        self._respond(lambda route: self.server.explorer.answer(route, query))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self._respond(self._take)

    def _take(self, route: str) -> Answer:
        origin = self.headers.get("Origin")
        if origin not in self.server.origins or self.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
            raise Refused(HTTPStatus.FORBIDDEN, "only this page may write")
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected application/json")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length, re.ASCII) or int(length) > _POST_LIMIT:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {_POST_LIMIT} bytes")
        try:
            content = json.loads(self.rfile.read(int(length)))
        except ValueError as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "the body is not valid JSON") from error
        return self.server.explorer.post(route, content)

    def _respond(self, find: Callable[[str], Answer]) -> None:
        try:
            if self.headers.get("Host") not in self.server.hosts:
                raise Refused(HTTPStatus.MISDIRECTED_REQUEST, "this server answers to its loopback address only")
            answer = find(unquote(urlsplit(self.path).path))
        except Refused as refused:
            answer = Answer(f"{refused}\n".encode(), "text/plain; charset=utf-8", refused.status)
            self.close_connection = True  # what an unread body holds is not the next request
        except ValueError as error:  # a path that no URL can be
            answer = Answer(f"{error}\n".encode(), "text/plain; charset=utf-8", HTTPStatus.BAD_REQUEST)
            self.close_connection = True
        self._send(answer)

    def _send(self, answer: Answer) -> None:
        if answer.pieces is not None and self.request_version == "HTTP/1.0":
            answer = answer._replace(body=b"".join(answer.pieces), pieces=None)
        body, encoding = answer.body, answer.encoding
        accepts = "gzip" in self.headers.get("Accept-Encoding", "")
        if encoding and not accepts:
            body, encoding = gzip.decompress(body), ""
        elif (
            not encoding and accepts and len(body) > 20_000 and answer.kind.startswith(("application/json", "text/"))
        ):
            body, encoding = _packed(body), "gzip"
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        if answer.pieces is None:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Transfer-Encoding", "chunked")
        if encoding:
            self.send_header("Content-Encoding", encoding)
        if answer.file_name:
            self.send_header("Content-Disposition", f'attachment; filename="{answer.file_name}"')
        if not answer.kind.startswith("text/html") or self.path.split("?")[0] != f"/{products.REPORT}":
            self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store" if self.path.startswith("/api/") else "no-cache")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if answer.pieces is None:
            self.wfile.write(body)
            return
        for piece in answer.pieces:
            if piece:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a page requests hundreds of tiles."""


class ExplorerServer(ThreadingHTTPServer):
    """The explorer of one run on 127.0.0.1.

    Parameters
    ----------
    run_folder : path
        The run.
    port : int
        0 for any free one.
    maps : mapping of name to path, optional
        Other maps to show, HEALPix FITS files.

    Examples
    --------
    >>> ExplorerServer("nowhere")
    Traceback (most recent call last):
    NotADirectoryError: 'nowhere' is not a folder; expected the folder of a run of `szeek run`
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        run_folder: str | os.PathLike[str],
        port: int = 0,
        maps: Mapping[str, str | os.PathLike[str]] | None = None,
    ) -> None:
        self.explorer = Explorer(run_folder, maps)
        super().__init__(("127.0.0.1", port), _Handler)
        threading.Thread(target=self.explorer.warm, daemon=True).start()
        number = self.server_address[1]
        self.hosts = (f"127.0.0.1:{number}", f"localhost:{number}")
        self.origins = tuple(f"http://{host}" for host in self.hosts)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"{self.origins[0]}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that the browser closes in the middle of a tile; report all other errors."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def serve(
    run_folder: str | os.PathLike[str],
    port: int | None = None,
    open_browser: bool = True,
    maps: Mapping[str, str | os.PathLike[str]] | None = None,
) -> None:
    """Show a run in the browser until Ctrl-C.

    Parameters
    ----------
    run_folder : path
        Folder of a run.
    port : int, optional
        Port on 127.0.0.1, 0 for any free one. By default the one that reports link to
        (:data:`szeek.show.report.links.EXPLORER_PORT`), or a free one where that is taken.
    open_browser : bool
        Open the page in the default browser.
    maps : mapping of name to path, optional
        Other maps to show beside the run's: HEALPix FITS files of any resolution.

    Raises
    ------
    NotADirectoryError
        If there is no such folder.
    FileNotFoundError
        If the run holds no map to show, or a file is not there.
    ValueError
        If a file is not a HEALPix map, or its header lacks frame or ordering.
    OSError
        If the port is taken.

    Examples
    --------
    >>> serve("my-run")  # doctest: +SKIP
    >>> serve("nowhere")
    Traceback (most recent call last):
    NotADirectoryError: 'nowhere' is not a folder; expected the folder of a run of `szeek run`
    """
    with _open_server(Path(run_folder), port, maps) as server:
        print(f"{server.url}  (Ctrl-C to stop)", flush=True)
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped")


def _open_server(
    run_folder: Path, port: int | None, maps: Mapping[str, str | os.PathLike[str]] | None = None
) -> ExplorerServer:
    if port is not None:
        return ExplorerServer(run_folder, port, maps)
    try:
        return ExplorerServer(run_folder, EXPLORER_PORT, maps)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    print(f"port {EXPLORER_PORT} is in use: links in saved reports open what runs there, not this run", flush=True)
    return ExplorerServer(run_folder, 0, maps)
