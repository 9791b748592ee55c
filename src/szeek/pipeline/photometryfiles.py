"""Photometry of a run's candidates, or of any list of positions on any maps: files in, files out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table, hstack

from szeek.files import write_table
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.mapfiles import read_skymaps
from szeek.measure.candidates import COLUMNS, list_sources, make_candidates, read_candidates, write_candidates
from szeek.measure.photometry import SIZES_ARCMIN, measure_sources
from szeek.parallel import Progress
from szeek.sky.skymaps import SkyMaps

#: Column-name endings and the units they stand for.
_UNITS = {"_1e14msun": "1e14 Msun", "_arcmin2": "arcmin2", "_arcmin": "arcmin", "_deg": "deg", "_mjy": "mJy"}


def measure_run(
    run_folder: str | os.PathLike[str], *, threads: int | None = None, progress: Progress | None = None
) -> str:
    """Measure the candidates of a run in its own maps; those with a matched redshift get a mass.

    Writes photometry.fits (all that :func:`szeek.measure.photometry.measure_sources` gives) and the candidate
    catalogue again, with its columns of the photometry filled.

    Parameters
    ----------
    run_folder : path
        With ``maps/`` and candidates.fits.
    threads, progress
        As for ``measure_sources``.

    Returns
    -------
    str
        What was found, in words.

    Raises
    ------
    OSError
        If maps or candidates are missing.
    """
    folder = Path(run_folder)
    candidates = read_candidates(folder)
    if not (folder / "maps").is_dir():
        raise FileNotFoundError(
            f"'{folder}' keeps no maps, expected a run's folder; measure its list in the maps it is from: "
            f"szeek photometry {folder / 'candidates.fits'} --map ..."
        )
    maps = SkyMaps.open(folder / "maps")
    record: dict[str, Any] = {}
    if (folder / "run.json").is_file():
        record = json.loads((folder / "run.json").read_text())
    instrument = record.get("config", {}).get("sky", {}).get("instrument", "planck-hfi")
    sources = list_sources(candidates)
    positions = Table({"lon_deg": sources["lon_deg"], "lat_deg": sources["lat_deg"], "z": sources["match_z"]})
    found = measure_sources(maps, positions, instrument=instrument, threads=threads, progress=progress)
    path = write_photometry(hstack([Table({"name": sources["name"]}), positions, found]), folder / "photometry.fits")
    filled = sources.copy()
    for column in COLUMNS:
        if column.source in found.colnames:
            filled[column.source] = found[column.source]
    write_candidates(make_candidates(filled), folder)
    return f"{_count_kinds(found)}: {path}, {folder / 'candidates.fits'}"


def measure_files(
    positions: str | os.PathLike[str],
    maps: Mapping[str, str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    unit: str | Mapping[str, str] | None = None,
    frame: str | None = None,
    ordering: str | None = None,
    check: bool = True,
    columns: Mapping[str, str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> str:
    """Measure a list of positions in map files, full sky or cut-outs, whether anything was detected there or not.

    Parameters
    ----------
    positions : path
        Any catalogue that :func:`szeek.inputs.catalogues.read_catalogue` knows (its theta500, where it has one, is
        the size held fixed), or candidates.fits.
    maps : mapping of band name to path
        As for :func:`szeek.inputs.mapfiles.read_skymaps`, with ``unit``, ``frame`` and ``ordering``.
    columns : mapping of str to str, optional
        Columns of the list, as for ``read_catalogue``.
    out : path
        Folder; photometry.fits is written there.
    threads, progress
        As for :func:`szeek.measure.photometry.measure_sources`.

    Returns
    -------
    str
        What was found, in words.

    Raises
    ------
    ValueError
        If the list or a map cannot be understood.
    OSError
        If a file is missing.
    """
    file = Path(positions)
    if file.name.startswith("candidates."):
        listed = list_sources(read_candidates(file))
        listed["z"] = listed["match_z"]
    else:
        listed = read_catalogue(file, columns=columns)
    # of a candidate, its size of highest S/N is measured, not given
    names = ["name", "lon_deg", "lat_deg", "z", *(["theta500_arcmin"] if "survey" in listed.colnames else [])]
    skymaps = read_skymaps(maps, unit=unit, frame=frame, ordering=ordering, check=check)
    found = measure_sources(skymaps, listed[names], threads=threads, progress=progress)
    target = Path(out)
    target.mkdir(parents=True, exist_ok=True)
    path = write_photometry(hstack([listed["name", "lon_deg", "lat_deg", "z"], found]), target / "photometry.fits")
    return f"{_count_kinds(found)}: {path}"


def write_photometry(table: Table, path: str | os.PathLike[str]) -> Path:
    """Write photometry as a FITS table with units, whole or not at all; the header has the sizes as SIZE1, ..."""
    out = table.copy()
    for name in out.colnames:
        ending = next((end for end in _UNITS if name.endswith(end)), None)
        if ending is not None:
            out[name].unit = _UNITS[ending]
    out.meta = {f"SIZE{k}": round(float(size), 4) for k, size in enumerate(SIZES_ARCMIN, 1)}
    target = Path(path)
    write_table(out, target)
    return target


def read_photometry(path: str | os.PathLike[str]) -> Table:
    """Read what :func:`write_photometry` wrote; no masks."""
    table = Table.read(path)
    for name in table.colnames:
        if table[name].dtype.kind == "S":
            table[name] = np.char.decode(np.asarray(table[name]))
    return Table({name: np.asarray(table[name]) for name in table.colnames}, meta=table.meta)


def _count_kinds(found: Table) -> str:
    kinds, counts = np.unique(np.asarray(found["kind"]), return_counts=True)
    words = [f"{count} {kind or 'outside'}" for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True)]
    return f"{len(found)} positions: {', '.join(words)}" if len(found) else "no positions"
