"""Galaxies with photometric redshifts: WISE x SuperCOSMOS, sweeps of the Legacy Surveys, any table with z."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from numpy.typing import NDArray

from szeek.inputs.columns import CatalogueColumns
from szeek.inputs.fits_files import open_stream
from szeek.inputs.stackmaps import WISEXSCOS_COLUMNS, read_wisexscos
from szeek.inputs.tablefiles import read_tables

#: Faintest z magnitude of the Legacy Surveys whose photometric redshifts are recommended: Zhou et al. 2021
#: (MNRAS 501, 3309).
SWEEP_Z_MAG = 21.0


def read_galaxies(
    paths: Iterable[str | os.PathLike[str]],
    *,
    z_range: tuple[float, float] = (0.0, 1.5),
    columns: Mapping[str, str] | None = None,
) -> Table:
    """Read positions and photometric redshifts of galaxies from one file or several of a survey.

    Told by their columns are WISE x SuperCOSMOS (``zPhoto_Corr``) and sweeps of the DESI Legacy Imaging Surveys, the
    redshifts of which lie in a file ``...-pz.fits`` beside each, row by row: of these, extended sources with
    z < 21 mag. Of any other table, position and redshift as :func:`~szeek.inputs.catalogues.read_catalogue` finds
    them.

    Parameters
    ----------
    paths : iterable of path
    z_range : (float, float)
        Redshifts kept.
    columns : mapping of str to str, optional
        Columns to read where their names do not tell: 'ra', 'dec', 'glon', 'glat', 'redshift'.

    Returns
    -------
    Table
        ``lon_deg``, ``lat_deg`` (Galactic), ``z``.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or a sweep has no file of redshifts beside it.
    ValueError
        If a file has no positions or no redshifts, or no galaxy lies in the range.
    """
    parts = []
    for path in map(Path, paths):
        table = _read_one(path, z_range, columns or {})
        z = np.asarray(table["z"], float)
        if not np.isfinite(z).any():
            raise ValueError(
                f"'{path}' has no redshifts, expected a column of photometric ones; choose it: pass "
                "columns={'redshift': 'NAME'}"
            )
        parts.append(table[(z > z_range[0]) & (z < z_range[1])])
    galaxies = vstack(parts, metadata_conflicts="silent") if parts else Table(names=("lon_deg", "lat_deg", "z"))
    if not len(galaxies):
        raise ValueError(f"no galaxy has a redshift between {z_range[0]:g} and {z_range[1]:g}")
    return galaxies


def list_sweeps(ra_deg: float, dec_deg: float, radius_deg: float) -> list[str]:
    """Names of the Legacy Surveys' sweeps, boxes of 10 x 5 deg, that a disc on the sky touches.

    Source: description of DR9's files; names hold the box's corners, in whole degrees.

    Parameters
    ----------
    ra_deg, dec_deg, radius_deg : float
        ICRS.

    Returns
    -------
    list of str
        In order of declination and right ascension; not all need be in the survey.

    Raises
    ------
    ValueError
        If the declination or the radius is no angle of a disc.

    Examples
    --------
    >>> list_sweeps(194.95, 27.98, 2.0)
    ['sweep-190p025-200p030.fits']
    >>> sorted({name[6:13] for name in list_sweeps(359.9, -0.1, 0.5)})
    ['000m005', '000p000', '350m005', '350p000']
    """
    if not (abs(dec_deg) <= 90 and 0 < radius_deg <= 90):
        raise ValueError(f"declination {dec_deg:g} deg and radius {radius_deg:g} deg, expected a disc on the sky")
    step_deg = min(radius_deg / 20, 0.1)
    n = int(np.ceil(radius_deg / step_deg))
    around = np.linspace(0, 360, 720, endpoint=False)
    centre = SkyCoord(ra_deg, dec_deg, unit="deg")
    places = centre.directional_offset_by(
        around[:, None] * u.deg, np.linspace(0, radius_deg, n + 1)[None, :] * u.deg
    )
    ra, dec = (places.ra.deg // 10 * 10).astype(int), np.minimum(places.dec.deg // 5 * 5, 85).astype(int)
    boxes = sorted(set(zip(dec.ravel().tolist(), ra.ravel().tolist(), strict=True)))
    return [f"sweep-{a:03d}{_sign(d)}-{a + 10:03d}{_sign(d + 5)}.fits" for d, a in boxes]


def _sign(dec_deg: int) -> str:
    return f"{'m' if dec_deg < 0 else 'p'}{abs(dec_deg):03d}"


def _read_one(path: Path, z_range: tuple[float, float], columns: Mapping[str, str]) -> Table:
    if not columns and _is_wisexscos(path):
        return read_wisexscos(path, z_range=z_range)["lon_deg", "lat_deg", "z"]
    table = read_tables(path)[0]
    found = CatalogueColumns(table, columns)
    if not columns and found.has(frozenset({"type", "flux_z", "ra", "dec"})):
        return _read_sweep(path, table)
    if found.has(frozenset({"lon_deg", "lat_deg", "z"})) and not columns:
        lon_deg, lat_deg = found.position_of("lon_deg", "lat_deg")
    else:
        position = found.position().galactic
        lon_deg, lat_deg = position.l.deg, position.b.deg
    return Table({"lon_deg": lon_deg, "lat_deg": lat_deg, "z": found.numbers("redshift", above=0.0)})


def _is_wisexscos(path: Path) -> bool:
    """Whether the first line of a text file names WISE x SuperCOSMOS's redshift."""
    with open_stream(path) as stream:
        first = io.BytesIO(stream.read(4096)).readline()
    return WISEXSCOS_COLUMNS["z"].encode() in first


def _read_sweep(path: Path, sweep: Table) -> Table:
    """A sweep and the file of photometric redshifts beside it, row by row."""
    beside = path.with_name(f"{path.stem}-pz{path.suffix}")
    if not beside.is_file():
        raise FileNotFoundError(
            f"'{beside}' does not exist, expected the photometric redshifts of '{path.name}' beside it; the survey "
            "keeps them in a folder of their own (9.1-photo-z)"
        )
    pz = read_tables(beside)[0]
    if len(pz) != len(sweep):
        raise ValueError(
            f"'{beside}' has {len(pz)} rows, expected the {len(sweep)} of '{path.name}'; fetch both again"
        )
    names = CatalogueColumns(pz)
    column = names.first("Z_PHOT_MEDIAN", "Z_PHOT_MEAN")
    if column is None:
        raise ValueError(f"'{beside}' has no column Z_PHOT_MEDIAN, found {', '.join(names.names[:20])}")
    position = CatalogueColumns(sweep).position().galactic
    columns = {name.lower(): name for name in sweep.colnames}
    flux_z = _filled(sweep[columns["flux_z"]])  # nanomaggies: 22.5 mag is 1
    kind = np.char.strip(np.asarray(sweep[columns["type"]], str))
    bright = flux_z > 10 ** (-0.4 * (SWEEP_Z_MAG - 22.5))
    galaxy = bright & (kind != "PSF") & (kind != "DUP")
    z = np.where(galaxy, _filled(pz[column]), np.nan)
    return Table({"lon_deg": position.l.deg, "lat_deg": position.b.deg, "z": z})


def _filled(values: object) -> NDArray[np.float64]:
    return np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
