"""Sky maps as Planck publishes them: NESTED, Galactic, one binary table column of 1024 pixels a row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from szeek.files import write_blocks

_ROW = 1024


def write_planck_map(
    path: Path,
    values: NDArray[np.float32],
    *,
    column: str,
    unit: str,
    extra: Mapping[str, object] | None = None,
) -> Path:
    """Write a RING map as a Planck-format FITS file, NESTED on disk, whole or not at all.

    Parameters
    ----------
    path : Path
    values : (12 nside^2,) float32
        RING, Galactic.
    column : str
        Name of the column, e.g. ``'I_STOKES'``.
    unit : str
        Unit of the column as in Planck's headers: ``'K_CMB'``, ``'MJy/sr'``, ``''``.
    extra : mapping, optional
        More header cards: keyword to value or to (value, comment).

    Returns
    -------
    Path
        ``path``.

    Raises
    ------
    OSError
        If the disk is full or the folder is not writable; no file of that name is left then.
    """
    nside = healpy.npix2nside(values.size)
    row = min(_ROW, values.size)
    nested = healpy.reorder(np.ascontiguousarray(values, dtype=np.float32), r2n=True)
    header = fits.Header()
    for keyword, value, comment in (
        ("XTENSION", "BINTABLE", "binary table extension"),
        ("BITPIX", 8, ""),
        ("NAXIS", 2, ""),
        ("NAXIS1", 4 * row, "bytes in a row"),
        ("NAXIS2", values.size // row, "rows"),
        ("PCOUNT", 0, ""),
        ("GCOUNT", 1, ""),
        ("TFIELDS", 1, ""),
        ("TTYPE1", column, ""),
        ("TFORM1", f"{row}E", ""),
        ("TUNIT1", unit, ""),
        ("EXTNAME", "FREQ-MAP", ""),
        ("PIXTYPE", "HEALPIX", ""),
        ("ORDERING", "NESTED", ""),
        ("COORDSYS", "GALACTIC", ""),
        ("NSIDE", nside, ""),
        ("FIRSTPIX", 0, ""),
        ("LASTPIX", values.size - 1, ""),
        ("INDXSCHM", "IMPLICIT", ""),
        ("BAD_DATA", healpy.UNSEEN, ""),
        ("OBJECT", "FULLSKY", ""),
    ):
        header[keyword] = (value, comment)
    header.update(dict(extra or {}))
    write_blocks((nested[start : start + (1 << 22)] for start in range(0, nested.size, 1 << 22)), header, path)
    return path
