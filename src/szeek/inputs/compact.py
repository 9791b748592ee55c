"""Published lists of what is no cluster: compact sources (PCCS2) and Galactic cold clumps (PGCC)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from numpy.typing import NDArray


def read_pccs2(files: Iterable[str | os.PathLike[str]]) -> Table:
    """Read the Second Planck Catalogue of Compact Sources, any of its files of HFI bands.

    Source: Planck 2015 results XXVI (A&A 594, A26): one file for each band, ``COM_PCCS_143_R2.01.fits``; the sources
    that were not validated, most of them dust, in another (``COM_PCCS_143-excluded_R2.01.fits``).

    Parameters
    ----------
    files : iterable of path
        The band is that of the file's name.

    Returns
    -------
    Table
        ``lon_deg``, ``lat_deg`` (Galactic), ``band``, ``flux_mjy``, ``flux_err_mjy`` (DETFLUX) and their ratio
        ``snr``, in the order of the files. Empty without files.

    Raises
    ------
    ValueError
        If a file's name says no band, or it lacks a column.
    """
    tables = []
    for file in map(Path, files):
        band = re.search(r"PCCS2?E?_(\d{3})", file.name)
        if band is None:
            raise ValueError(f"the name of '{file}' says no band, expected that of PCCS2: COM_PCCS_143_R2.01.fits")
        lon, lat, flux, error = _read_columns(file, ("GLON", "GLAT", "DETFLUX", "DETFLUX_ERR"))
        columns = {"lon_deg": lon, "lat_deg": lat, "band": np.full(lon.size, band.group(1)), "snr": flux / error}
        tables.append(Table({**columns, "flux_mjy": flux, "flux_err_mjy": error}))
    if not tables:
        names = ("lon_deg", "lat_deg", "band", "snr", "flux_mjy", "flux_err_mjy")
        return Table({name: np.zeros(0, "U3" if name == "band" else float) for name in names})
    return vstack(tables)


def read_pgcc(path: str | os.PathLike[str]) -> Table:
    """Read the Planck Catalogue of Galactic Cold Clumps, ``HFI_PCCS_GCC_R2.02.fits``.

    Source: Planck 2015 results XXVIII (A&A 594, A28).

    Returns
    -------
    Table
        ``lon_deg``, ``lat_deg`` (Galactic).

    Raises
    ------
    ValueError
        If it lacks a column.
    """
    lon, lat = _read_columns(Path(path), ("GLON", "GLAT"))
    return Table({"lon_deg": lon, "lat_deg": lat})


def _read_columns(file: Path, names: tuple[str, ...]) -> list[NDArray[np.float64]]:
    """Columns of a FITS file's first table."""
    with fits.open(file) as hdus:
        table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)), None)
        found = [] if table is None else list(table.columns.names)
        if table is None or (missing := [name for name in names if name not in found]):
            listed = ", ".join(names if table is None else missing)
            raise ValueError(f"'{file}' has columns {', '.join(found) or 'of no table'}, expected also {listed}")
        return [np.asarray(table.data[name], np.float64) for name in names]
