"""Masks: Galactic plane, point sources, footprints as MOC; masked pixels ignored or inpainted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import healpy
import numpy as np
from astropy.table import Table
from mocpy import MOC
from numpy.typing import NDArray

from szeek.arguments import plain_table
from szeek.config import named_file
from szeek.files import whole_file
from szeek.inputs.fits_files import parse_part
from szeek.inputs.healpix_files import change_nside, describe_healpix, list_columns
from szeek.sky.skymaps import SkyMaps


def read_mask(
    path: str | os.PathLike[str],
    *,
    columns: tuple[str, ...] | None = None,
    minimum: float = 0.5,
    nside: int | None = None,
    frame: str | None = None,
    ordering: str | None = None,
) -> NDArray[np.bool_]:
    """Read a HEALPix mask: True where all of its columns are above `minimum`.

    Source: Planck 2015 results VIII (A&A 594, A8): HFI_Mask_GalPlane (columns GAL020 ... GAL099), HFI_Mask_PointSrc
    (F100_05 ...); 1 is sky to use.

    Parameters
    ----------
    path : path
        FITS file of numbers, bytes or logicals.
    columns : tuple of str, optional
        Columns that must all be above; by default every one of the file.
    minimum : float
        Threshold, for apodised masks. A pixel that the mask itself does not know is not sky to use.
    nside : int, optional
        Resolution of the result; a coarser pixel is True where all, a finer one where its parent is.
    frame, ordering : str, optional
        Overrule the header.

    Returns
    -------
    (12 nside^2,) bool
        RING, Galactic.

    Raises
    ------
    ValueError
        A column is not there; ordering or frame are not stated.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     healpy.write_map(f"{folder}/mask.fits", np.arange(12 * 16**2) % 2, coord="G", dtype=np.int16)
    ...     float(read_mask(f"{folder}/mask.fits").mean())
    0.5
    """
    kept = []
    for name in columns or list_columns(path):
        file = describe_healpix(path, name)
        kept.append(np.zeros(12 * file.nside**2, bool))
        for pixels, values in file.read_ring_blocks(frame, ordering):  # a fifth of the memory of the whole map
            with np.errstate(invalid="ignore"):
                kept[-1][pixels] = values > minimum
    if not kept:
        raise ValueError(f"'{path}' has no columns, expected a HEALPix mask; give one")
    keep = keep_all(kept)
    return change_nside(keep, nside) if nside is not None else keep


def find_masks(
    files: Iterable[str | Path], frame: str | None = None, ordering: str | None = None
) -> list[tuple[Path, str]]:
    """File and column of masks, of which the headers alone are read.

    Parameters
    ----------
    files : iterable of path
        HEALPix masks, 1 where the sky is to be used; as 'COLUMN=FILE' one column of a file that has several.
    frame, ordering : str, optional
        Of masks whose headers do not say.

    Raises
    ------
    ValueError
        If a file has several columns and none is named: those of HFI_Mask_GalPlane leave 20 to 99 % of the sky; if
        the one that is named is not there, or ordering or frame are not stated.
    FileNotFoundError
        If there is no such file.
    """
    found = []
    for text in files:
        column, path = named_file(text)
        column = column or parse_part(path).column
        if column is None:
            names = list_columns(path)
            if len(names) != 1:
                raise ValueError(
                    f"'{path}' has the columns {', '.join(names)}, expected one or the name of one: {names[0]}={path}"
                )
            column = names[0]
        file = describe_healpix(path, column)
        file.require_ordering(_if_unstated(file.ordering, ordering))
        file.require_frame(_if_unstated(file.frame, frame))
        found.append((path, column))
    return found


def read_masks(
    files: Iterable[str | Path], frame: str | None = None, ordering: str | None = None
) -> NDArray[np.bool_] | None:
    """The sky that all of several masks leave, (12 nside^2,) bool RING Galactic at the finest of their resolutions.

    None without masks; parameters and what is refused are those of :func:`find_masks`.

    Examples
    --------
    >>> read_masks([]) is None  # nothing is masked
    True
    """
    kept = []
    for path, column in find_masks(files, frame, ordering):
        file = describe_healpix(path, column)
        words = _if_unstated(file.frame, frame), _if_unstated(file.ordering, ordering)
        kept.append(read_mask(path, columns=(column,), frame=words[0], ordering=words[1]))
    return keep_all(kept) if kept else None


def _if_unstated(found: str | None, given: str | None) -> str | None:
    """A frame or ordering given for all files, for one whose header does not say."""
    return given if found is None else None


def keep_all(kept: list[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """The sky that all of several RING masks leave, at the finest of their resolutions."""
    if len(kept) == 1:
        return kept[0]
    nside = max(healpy.npix2nside(len(keep)) for keep in kept)
    both = np.ones(12 * nside**2, bool)
    for keep in kept:
        both &= change_nside(keep, nside)
    return both


def mask_sources(table: Table, nside: int, radius_arcmin: float) -> NDArray[np.bool_]:
    """False within a radius of each source (`lon_deg`, `lat_deg`), True elsewhere, (12 nside^2,) RING.

    Examples
    --------
    >>> mask = mask_sources(Table({"lon_deg": [10.0], "lat_deg": [0.0]}), 64, 120.0)
    >>> mask.dtype.name, int((~mask).sum())  # 0.84 deg^2 a pixel
    ('bool', 30)
    """
    table = plain_table(table, "table")
    keep = np.ones(12 * nside**2, bool)
    for centre in healpy.ang2vec(np.asarray(table["lon_deg"]), np.asarray(table["lat_deg"]), lonlat=True):
        keep[healpy.query_disc(nside, centre, np.radians(radius_arcmin / 60), inclusive=True)] = False
    return keep


def apply_mask(skymaps: SkyMaps, keep: NDArray[np.bool_], how: Literal["ignore", "inpaint"] = "ignore") -> SkyMaps:
    """Maps without the masked sky, or with it filled from its surroundings; the input stays as it is.

    Parameters
    ----------
    skymaps : SkyMaps
        The maps.
    keep : (n_pix,) bool
        True where the sky is to be used.
    how : 'ignore' or 'inpaint'
        'ignore' takes masked pixels out of the footprint; 'inpaint' leaves them in, with a smooth continuation of
        their surroundings (:func:`inpaint`): meant for point sources, not for the Galactic plane.

    Raises
    ------
    ValueError
        If the mask has another resolution, or `how` is neither.
    """
    if keep.shape != skymaps.footprint.shape:
        raise ValueError(
            f"the mask has {keep.size} pixels, expected {skymaps.footprint.size} (nside {skymaps.nside}); "
            "use change_nside"
        )
    if how == "inpaint":
        values = inpaint(skymaps.values, skymaps.footprint, skymaps.footprint & ~keep)
        return SkyMaps(values, skymaps.footprint.copy(), skymaps.bands)
    if how != "ignore":
        raise ValueError(f"how='{how}' is unknown, expected 'ignore' or 'inpaint'")
    footprint = skymaps.footprint & keep
    values = np.array(skymaps.values)
    values[~footprint] = 0.0
    return SkyMaps(values, footprint, skymaps.bands)


def inpaint(
    values: NDArray[np.float32], footprint: NDArray[np.bool_], holes: NDArray[np.bool_], n_sweep: int = 60
) -> NDArray[np.float32]:
    """Fill holes with the solution of Laplace's equation: each pixel the mean of its eight neighbours.

    The start is the mean of the nearest coarser pixel that is seen at all, so that a few dozen sweeps settle holes of
    up to some ten pixels; larger ones keep the coarse start's broad shape.

    Parameters
    ----------
    values : (n_pix, n_band) float32
        RING maps.
    footprint : (n_pix,) bool
        Observed pixels, the holes among them.
    holes : (n_pix,) bool
        Pixels to fill.
    """
    nside = healpy.npix2nside(len(values))
    filled = np.array(values)
    todo = np.flatnonzero(holes)
    if not len(todo):
        return filled
    good = footprint & ~holes
    nested_todo = healpy.ring2nest(nside, todo)
    waiting = np.ones(len(todo), bool)
    order = healpy.nside2order(nside)
    nested_good = healpy.ring2nest(nside, np.flatnonzero(good))
    for up in range(1, order + 1):
        parents = nested_todo[waiting] >> (2 * up)
        n_parent = 12 * (nside >> up) ** 2
        cell = nested_good >> (2 * up)
        n_seen = np.bincount(cell, minlength=n_parent)
        known = n_seen[parents] > 0
        index = np.flatnonzero(waiting)[known]
        for b in range(values.shape[1]):
            total = np.bincount(cell, filled[good, b], minlength=n_parent)
            filled[todo[index], b] = total[parents[known]] / n_seen[parents[known]]
        waiting[index] = False
        if not waiting.any():
            break
    neighbours = healpy.get_all_neighbours(nside, todo)  # (8, n), -1 where a corner has only seven
    usable = (neighbours >= 0) & footprint[neighbours]
    weight = usable / np.maximum(usable.sum(axis=0), 1)
    settled = usable.any(axis=0)
    for _ in range(n_sweep):
        mean = np.einsum("kn,knb->nb", weight, filled[neighbours])
        filled[todo[settled]] = mean[settled]
    return filled


def write_moc(footprint: NDArray[np.bool_], path: str | os.PathLike[str], order: int | None = None) -> Path:
    """Write a Galactic RING footprint as a multi-order coverage map (MOC), which Aladin and TOPCAT open.

    A cell of the finest order is covered where its centre lies in the footprint. Cells are equatorial, as the
    standard has it, and written as NUNIQ, which readers of MOC 1.1 understand too.

    Source: IVOA Recommendation MOC 2.0 (2022), by mocpy.

    Parameters
    ----------
    footprint : (12 nside^2,) bool
        RING, Galactic.
    path : path
        FITS file.
    order : int, optional
        Finest cells; by default those of the footprint.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_moc(np.arange(12 * 16**2) < 100, f"{folder}/footprint.fits").name
    'footprint.fits'
    """
    path, nside = Path(path), healpy.npix2nside(len(footprint))
    depth = healpy.nside2order(nside) if order is None else order
    rotator = healpy.Rotator(coord=["C", "G"])
    covered = []
    n_cell = 12 * 4**depth
    for start in range(0, n_cell, 1 << 20):
        cells = np.arange(start, min(start + (1 << 20), n_cell))
        theta, phi = rotator(*healpy.pix2ang(1 << depth, cells, nest=True))
        covered.append(cells[footprint[healpy.ang2pix(nside, theta, phi)]])
    moc = MOC.from_healpix_cells(np.concatenate(covered).astype(np.uint64), np.uint8(depth), np.uint8(depth))
    with whole_file(path) as staging:
        moc.save(staging, overwrite=True, v1_compatible=True, fits_keywords={"PIXTYPE": "HEALPIX"})
    return path
