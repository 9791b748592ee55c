"""Public data files: listed, fetched, verified, or the user's own.

A file is right or absent, never wrong: it grows under another name, interrupted it goes on where it stopped, it is
checked against size and checksum where they are known, and only then gets its name.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import logging
import os
import shutil
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from importlib import resources
from pathlib import Path
from threading import Event
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

import platformdirs
import urllib3
from filelock import FileLock

from szeek.files import remove_path, write_json
from szeek.parallel import Progress

log = logging.getLogger(__name__)

State = Literal["absent", "partial", "verified", "present", "wrong", "own"]

_BLOCK = 1 << 16
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_RECORD = "checksums.json"  # what the first fetch found, of files without a published checksum
_OWN = "own-files.json"


class DownloadError(OSError):
    """A file could not be had from any mirror, or came wrong from all of them."""


@dataclass(frozen=True)
class DataFile:
    """One file of a data set; the fields are those of datasets.toml."""

    path: str
    urls: tuple[str, ...]
    size: int | None = None
    sha256: str | None = None
    checksum: str | None = None
    unpack: str | None = None
    members: tuple[str, ...] = ()
    manifest: str | None = None
    about_gb: float | None = None


@dataclass(frozen=True)
class Dataset:
    """A survey product: what it is, what it is for, on what terms, and its files."""

    name: str
    title: str
    used_for: tuple[str, ...]
    licence: str
    citation: str
    note: str = ""
    files: tuple[DataFile, ...] = ()


@dataclass(frozen=True)
class FileState:
    """Where one file stands. ``how`` says what it was checked against."""

    dataset: str
    file: DataFile
    path: Path
    state: State
    how: str = ""
    n_bytes: int | None = None


def data_folder() -> Path:
    """The folder of survey data: the variable SZEEK_DATA, else the platform's cache folder.

    Raises
    ------
    OSError
        If neither is known.

    Examples
    --------
    >>> isinstance(data_folder(), Path)
    True
    """
    if given := os.environ.get("SZEEK_DATA"):
        return Path(given).expanduser()
    try:
        return platformdirs.user_cache_path("szeek") / "data"
    except RuntimeError as error:  # a user without a home folder
        raise OSError(f"no folder for survey data is known ({error}); set SZEEK_DATA to one") from None


def list_datasets(used_for: str | None = None, *, source: Path | None = None) -> list[Dataset]:
    """All data sets that SZeek knows, or those for one purpose ('bonjean2020', 'stacks', 'masks', ...).

    Raises
    ------
    ValueError
        If nothing is used for that.

    Examples
    --------
    >>> [f.path for f in list_datasets("bonjean2020")[0].files][:1]
    ['maps/HFI_SkyMap_100_2048_R3.01_full.fits']
    """
    text = (source or resources.files("szeek.inputs") / "datasets.toml").read_text()
    sets = [_parse_dataset(record) for record in tomllib.loads(text)["dataset"]]
    if used_for is None:
        return sets
    chosen = [d for d in sets if used_for in d.used_for]
    if not chosen:
        known = sorted({word for d in sets for word in d.used_for})
        raise ValueError(f"no data set is used for '{used_for}', expected one of {', '.join(known)}")
    return chosen


def fetch(
    names: Iterable[str],
    *,
    folder: Path | None = None,
    source: Path | None = None,
    dry_run: bool = False,
    n_parallel: int = 3,
    timeout_s: float = 60.0,
    max_failures: int = 5,
    progress: Progress | None = None,
) -> list[FileState]:
    """Fetch data sets by name; files that are there and right are left alone.

    A transfer that breaks off is continued (HTTP Range) as long as it gains bytes, and given up for the next
    mirror after `max_failures` breaks in a row without any. Servers that ask to wait (503, 429 with Retry-After)
    are waited for, five minutes at most.

    Parameters
    ----------
    names : iterable of str
        Data sets (:func:`list_datasets`).
    folder : path, optional
        Data folder, by default :func:`data_folder`.
    source : path, optional
        Another list than the package's datasets.toml, of the same form.
    dry_run : bool
        Touch nothing; the states say what would be fetched.
    n_parallel : int
        Files in transfer at a time.
    timeout_s : float
        Silence of a server that counts as a break.
    progress : Progress, optional
        Called as progress('download', done, total, path), in bytes; total is 0 where it is not known.

    Returns
    -------
    list of FileState
        One per file, in the order of the list.

    Raises
    ------
    ValueError
        Unknown name; a data set without a public file (its note says where from).
    DownloadError
        Any file could not be had, after all others were tried; the message has the reason for each mirror.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [state.state for state in fetch(["mcxc"], folder=Path(folder), dry_run=True)]  # nothing is transferred
    ['absent']
    """
    folder = folder or data_folder()
    chosen = _choose(names, source)
    for dataset in chosen:
        if not dataset.files and not _own_files(folder).get(dataset.name):
            raise ValueError(
                f"'{dataset.name}' cannot be fetched: {dataset.note} (szeek data add {dataset.name} PATH)"
            )
    jobs = [(d, f) for d in chosen for f in d.files]
    if dry_run:
        return [_state(d, f, folder) for d, f in jobs]
    pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=timeout_s, read=timeout_s), retries=False)
    stop = Event()

    def work(job: tuple[Dataset, DataFile]) -> FileState | Exception:
        try:
            return _fetch_file(*job, folder, pool, max_failures, progress, stop)
        except (OSError, ValueError) as error:
            return error

    with ThreadPoolExecutor(max(1, n_parallel)) as threads:
        try:
            results = list(threads.map(work, jobs))
        except BaseException:
            stop.set()
            raise
    errors = [r for r in results if isinstance(r, Exception)]
    if errors:
        raise DownloadError("; ".join(str(e) for e in errors)) from errors[0]
    return [r for r in results if isinstance(r, FileState)]


def verify(
    names: Iterable[str] | None = None, *, folder: Path | None = None, source: Path | None = None
) -> list[FileState]:
    """Read every file again and compare size and checksum with the published or the recorded ones."""
    folder = folder or data_folder()
    return [_state(d, f, folder, thorough=True) for d in _choose(names, source) for f in d.files]


def add(name: str, path: str | os.PathLike[str], *, folder: Path | None = None, source: Path | None = None) -> Path:
    """Use a file, or a folder of files, that the user has for a data set, where it lies.

    Raises
    ------
    ValueError
        Unknown data set; the file has another size or checksum than the published one.
    FileNotFoundError
        No such file.
    """
    folder = folder or data_folder()
    dataset = _choose([name], source)[0]
    own = Path(path).expanduser().resolve()
    if not own.exists():
        raise FileNotFoundError(f"'{own}' does not exist")
    wanted = {Path(f.path).name: f for f in dataset.files}
    found = {f.name: f for f in own.rglob("*") if f.is_file()} if own.is_dir() else {own.name: own}
    for file_name, given in found.items():
        if file_name in wanted:
            fault = _fault(given, wanted[file_name])
            if fault:
                raise ValueError(f"'{given}' is not {name}'s {file_name}: {fault}")
    paths = {f.path: str(found[n]) for n, f in wanted.items() if n in found} or {own.name: str(own)}
    records = _own_files(folder)
    records.setdefault(name, {}).update(paths)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(records, folder / _OWN)
    return own


def locate(name: str, *, folder: Path | None = None, source: Path | None = None) -> dict[str, Path]:
    """Paths of a data set's files that are there, by their names: fetched ones, or the user's own.

    Raises
    ------
    FileNotFoundError
        If none is there; the message has the command that fetches it.
    """
    folder = folder or data_folder()
    dataset = _choose([name], source)[0]
    paths = {Path(f.path).name: folder / f.path for f in dataset.files if (folder / f.path).exists()}
    paths |= {Path(k).name: Path(v) for k, v in _own_files(folder).get(name, {}).items() if Path(v).exists()}
    if not paths:
        way_out = f"szeek data fetch {name}" if dataset.files else f"szeek data add {name} PATH ({dataset.note})"
        raise FileNotFoundError(f"'{name}' is not in '{folder}'; {way_out}")
    return paths


# --- one file ---------------------------------------------------------------------------------------------


def _fetch_file(
    dataset: Dataset,
    file: DataFile,
    folder: Path,
    pool: urllib3.PoolManager,
    max_failures: int,
    progress: Progress | None,
    stop: Event,
) -> FileState:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{target.name}.lock")):
        file = _with_manifest(file, pool)
        before = _state(dataset, file, folder, thorough=True)
        if before.state in ("verified", "own"):
            return before
        if target.exists():
            log.warning("'%s' is not right (%s): fetched again", target, before.how)
        part = target.with_name(f".{target.name}.part")
        reasons = []
        for url in file.urls:
            try:
                _transfer(url, part, file, pool, max_failures, progress, stop)
                _put_in_place(part, target, file, folder)
            except DownloadError as error:
                reasons.append(f"{url}: {error}")
                log.info("%s", reasons[-1])
                continue
            return _state(dataset, file, folder, thorough=True)
        raise DownloadError(f"'{file.path}' could not be fetched ({'; '.join(reasons)})")


def _transfer(
    url: str,
    part: Path,
    file: DataFile,
    pool: urllib3.PoolManager,
    max_failures: int,
    progress: Progress | None,
    stop: Event,
) -> None:
    """Bring `part` to its full length from one address, going on where it stopped."""
    tag_file = part.with_name(part.name + ".json")
    known = json.loads(tag_file.read_text()) if tag_file.exists() and part.exists() else {}
    # bytes of another address, or of no stated version, may belong to another file; only a checksum would tell
    if part.exists() and not file.sha256 and (known.get("url") != url or not known.get("tag")):
        part.unlink()
    failures, slept = 0, 0.0  # tries in a row without a byte, seconds
    while True:
        had = part.stat().st_size if part.exists() else 0
        try:
            done, wait = _request(url, part, file, pool, known, progress, stop)
            write_json(known, tag_file)
            if done:
                return
            said = "the server asked to wait" if wait else "it ended early"
        except (urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
            write_json(known, tag_file)
            wait = None
            said = f"{type(error).__name__}: {error}"
        gained = (part.stat().st_size if part.exists() else 0) > had
        failures = 0 if gained else failures + 1
        if failures > max_failures:
            raise DownloadError(f"gave up after {failures} tries without a byte (last: {said})")
        if stop.is_set():
            raise DownloadError("stopped")
        pause = wait if wait is not None else min(0.05 * 2**failures, 10.0) * (not gained)
        slept += pause
        if slept > 300.0:
            raise DownloadError(f"the server asked to wait for more than five minutes (Retry-After {pause:.0f} s)")
        stop.wait(pause)


def _request(
    url: str,
    part: Path,
    file: DataFile,
    pool: urllib3.PoolManager,
    known: dict[str, Any],
    progress: Progress | None,
    stop: Event,
) -> tuple[bool, float | None]:
    """One request; True when the file is complete, else False and the seconds that the server asked to wait."""
    had = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
        if known.get("tag"):
            headers["If-Range"] = known["tag"]
    response = _open_following(url, headers, pool)
    try:
        if response.status in (429, 503):
            return False, _retry_after(response.headers.get("Retry-After"))
        if response.status == 416:
            part.unlink(missing_ok=True)
            return False, 0.0
        if response.status not in (200, 206):
            raise DownloadError(f"HTTP status {response.status}")
        total = _total_bytes(response, had)
        raw_size = file.size if file.unpack is None else None
        if raw_size is not None and total is not None and total != raw_size:
            part.unlink(missing_ok=True)
            raise DownloadError(f"it has {total} bytes, expected {raw_size}")
        if response.status == 200 or _first_byte(response) != had:
            had = 0
        if response.status == 206 and had == 0 and _first_byte(response) != 0:
            raise DownloadError("the server answered with another range than asked for")
        known.update(url=url, tag=response.headers.get("ETag") or response.headers.get("Last-Modified"), total=total)
        if known["tag"] and known["tag"].startswith("W/"):
            known["tag"] = None
        _need_room(part, total, had)
        with part.open("r+b" if had else "wb") as stream:
            stream.seek(had)
            stream.truncate()
            for block in response.stream(_BLOCK, decode_content=False):
                stream.write(block)
                had += len(block)
                if progress:
                    progress("download", had, total or 0, file.path)
                if stop.is_set():
                    raise DownloadError("stopped")
    finally:
        response.release_conn()
        response.close()
    return (total is None or had == total), None


def _open_following(url: str, headers: dict[str, str], pool: urllib3.PoolManager) -> urllib3.BaseHTTPResponse:
    """GET through at most ten redirects, each of them to an address that may be used."""
    for _ in range(10):
        _check_address(url)
        response = pool.request("GET", url, headers=headers, preload_content=False, redirect=False)
        if response.status not in (301, 302, 303, 307, 308):
            return response
        location = response.headers.get("Location")
        response.drain_conn()
        response.release_conn()
        if not location:
            raise DownloadError("a redirect without an address")
        url = urljoin(url, location)
    raise DownloadError("more than ten redirects")


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise DownloadError(f"'{url}' is no https address; files are fetched over TLS only")


def _total_bytes(response: urllib3.BaseHTTPResponse, had: int) -> int | None:
    """Length of the whole file as the answer states it."""
    span = response.headers.get("Content-Range", "")
    if response.status == 206 and "/" in span and span.rsplit("/", 1)[1].isdigit():
        return int(span.rsplit("/", 1)[1])
    length = response.headers.get("Content-Length")
    return int(length) + (had if response.status == 206 else 0) if length and length.isdigit() else None


def _first_byte(response: urllib3.BaseHTTPResponse) -> int:
    span = response.headers.get("Content-Range", "")
    digits = span.removeprefix("bytes").strip().split("-")[0]
    return int(digits) if response.status == 206 and digits.isdigit() else 0


def _retry_after(text: str | None) -> float:
    """Seconds of a Retry-After header, which may also be a date; 1 s where there is none."""
    if not text:
        return 1.0
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return 1.0


def _need_room(part: Path, total: int | None, had: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and free < total - had:
        raise OSError(
            errno.ENOSPC,
            f"{free} bytes are free, {total - had} more are needed; make room or set SZEEK_DATA",
            str(part),
        )


def _put_in_place(part: Path, target: Path, file: DataFile, folder: Path) -> None:
    """Check, unpack, rename, record. What is wrong is deleted; what is unpacked half-way too."""
    tag_file = part.with_name(part.name + ".json")
    staging: Path = part
    try:
        if file.unpack is not None:
            staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)) / target.name
            _unpack(part, staging, file)
        fault = _fault(staging, file)
        if fault:
            raise DownloadError(fault)
        remove_path(target)
        staging.replace(target)
    except (DownloadError, tarfile.TarError, gzip.BadGzipFile, EOFError) as error:
        part.unlink(missing_ok=True)
        tag_file.unlink(missing_ok=True)
        raise DownloadError(str(error)) from error
    finally:
        if file.unpack is not None:
            shutil.rmtree(staging.parent, ignore_errors=True)
    part.unlink(missing_ok=True)
    tag_file.unlink(missing_ok=True)
    if file.sha256 is None:
        with FileLock(folder / f".{_RECORD}.lock"):
            records = _read_json(folder / _RECORD)
            records[file.path] = {"sha256": _digest(target), "size": _size(target)}
            write_json(records, folder / _RECORD)


def _unpack(part: Path, staging: Path, file: DataFile) -> None:
    """gzip: the one file. tar: the members asked for, plain files only, none outside the folder."""
    if file.unpack == "gzip":
        with gzip.open(part) as packed, staging.open("wb") as stream:
            shutil.copyfileobj(packed, stream, 1 << 20)
        return
    staging.mkdir()
    wanted = set(file.members)
    with tarfile.open(part) as archive:
        for member in archive:
            name = Path(member.name)
            inside = next((m for m in wanted if name.as_posix() == m or name.as_posix().endswith("/" + m)), None)
            if inside is None:
                continue
            if name.is_absolute() or ".." in name.parts or not member.isfile():
                raise DownloadError(f"the archive's member '{member.name}' is no plain file inside it; not unpacked")
            goal = staging / inside
            goal.parent.mkdir(parents=True, exist_ok=True)
            source = archive.extractfile(member)
            assert source is not None
            with source, goal.open("wb") as stream:
                shutil.copyfileobj(source, stream, 1 << 20)
            wanted.discard(inside)
    if wanted:
        raise DownloadError(f"the archive lacks {', '.join(sorted(wanted))}")


# --- what is there ----------------------------------------------------------------------------------------


def _state(dataset: Dataset, file: DataFile, folder: Path, thorough: bool = False) -> FileState:
    own = _own_files(folder).get(dataset.name, {}).get(file.path)
    if own and Path(own).exists():
        return FileState(dataset.name, file, Path(own), "own", "the user's own", _size(Path(own)))
    target = folder / file.path
    if not target.exists():
        part = target.with_name(f".{target.name}.part")
        if part.exists():
            return FileState(dataset.name, file, target, "partial", "fetch goes on from here", part.stat().st_size)
        return FileState(dataset.name, file, target, "absent")
    record = _read_json(folder / _RECORD).get(file.path, {})
    expected = file if file.sha256 else replace(file, sha256=record.get("sha256"), checksum="of the first fetch")
    if not thorough:
        return FileState(dataset.name, file, target, "present", "not read", _size(target))
    fault = _fault(target, expected)
    if fault:
        return FileState(dataset.name, file, target, "wrong", fault, _size(target))
    how = f"sha256, {expected.checksum}" if expected.sha256 else "nothing to check against"
    return FileState(dataset.name, file, target, "verified" if expected.sha256 else "present", how, _size(target))


def _fault(path: Path, file: DataFile) -> str | None:
    """What is wrong with a file, None where nothing is known to be."""
    size = _size(path)
    if file.size is not None and size != file.size:
        return f"it has {size} bytes, expected {file.size}"
    if file.sha256 is not None:
        algorithm, _, wanted = file.sha256.rpartition(":")
        found = _digest(path, algorithm or "sha256")
        if found != wanted.lower():
            return f"its {algorithm or 'sha256'} is {found[:12]}..., expected {wanted[:12]}... ({file.checksum})"
    return None


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def _digest(path: Path, algorithm: str = "sha256") -> str:
    """Checksum of a file, or of a folder's files in the order of their names."""
    digest = hashlib.new(algorithm)
    for part in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        with part.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _with_manifest(file: DataFile, pool: urllib3.PoolManager) -> DataFile:
    """Size and checksum from the manifest that the archive publishes; without it the file is fetched unchecked."""
    if file.manifest is None:
        return file
    try:
        response = _open_following(file.manifest, {"Accept-Encoding": "identity"}, pool)
        records = json.loads(response.read()) if response.status == 200 else []
        response.release_conn()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        log.warning("the manifest %s could not be read (%s): '%s' goes unchecked", file.manifest, error, file.path)
        return file
    name = Path(file.path).name
    for record in records if isinstance(records, list) else records.get("files", []):
        if str(record.get("filename") or urlsplit(str(record.get("url", ""))).path).rsplit("/", 1)[-1] == name:
            checksum = next((f"{a}:{record[a]}" for a in ("sha512", "sha256", "md5") if record.get(a)), None)
            size = record.get("length", record.get("size"))
            return replace(file, size=int(size) if size is not None else None, sha256=checksum, checksum="official")
    log.warning("the manifest %s does not list '%s': it goes unchecked", file.manifest, name)
    return file


# --- small things -----------------------------------------------------------------------------------------


def _choose(names: Iterable[str] | None, source: Path | None) -> list[Dataset]:
    known = {d.name: d for d in list_datasets(source=source)}
    wanted = list(known) if names is None else list(names)
    unknown = [n for n in wanted if n not in known]
    if unknown:
        raise ValueError(f"data set {', '.join(map(repr, unknown))} is unknown, expected one of {', '.join(known)}")
    return [known[n] for n in wanted]


def _parse_dataset(record: dict[str, Any]) -> Dataset:
    files = [dict(f) for f in record.pop("file", [])]
    each = record.pop("each", None)
    if each:
        about = each.get("about_gb")
        for i, value in enumerate(each["values"]):
            one = {k: v for k, v in each.items() if k not in ("values", "about_gb")}
            one["path"], one["urls"] = each["path"].format(value), [u.format(value) for u in each["urls"]]
            files.append(one | ({"about_gb": about[i]} if about else {}))
    parsed = []
    for entry in files:
        path = Path(entry["path"])
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"'{path}' of data set '{record['name']}' lies outside the data folder")
        tuples = {k: tuple(entry[k]) for k in ("urls", "members") if k in entry}
        parsed.append(DataFile(**(entry | tuples)))
    return Dataset(**{**record, "used_for": tuple(record["used_for"])}, files=tuple(parsed))


def _own_files(folder: Path) -> dict[str, dict[str, str]]:
    return _read_json(folder / _OWN)


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}
