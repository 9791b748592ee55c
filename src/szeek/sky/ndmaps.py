"""Maps on the grid of an image, for what works with pixell's maps."""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from szeek.sky.grids import ImageGrid
from szeek.sky.partial import PartialMap
from szeek.sky.projection import interpolate

_BLOCK_PIXELS = 1 << 20


def sample_on_image(values: NDArray[np.float32] | PartialMap, grid: ImageGrid) -> NDArray[np.float32]:
    """A p map or S/N map, interpolated bilinearly at the pixels of an image.

    Parameters
    ----------
    values : (12 nside^2,) float32 or PartialMap
        RING, Galactic; NaN where there is none.
    grid : ImageGrid

    Returns
    -------
    (ny, nx) float32, or (k, ny, nx) of a PartialMap of k columns
        NaN where less than half of the weight is on pixels that are known.
    """
    rows, columns = grid.shape
    whole = None if isinstance(values, PartialMap) else np.isfinite(values)
    blocks = []
    step = max(1, _BLOCK_PIXELS // columns)
    for first in range(0, rows, step):
        row = np.arange(first, min(first + step, rows), dtype=float)
        vectors = grid.directions(row[:, None], np.arange(columns, dtype=float))
        sky = np.isfinite(vectors).all(axis=-1)
        vectors[~sky] = [1.0, 0.0, 0.0]
        if isinstance(values, PartialMap):
            part = values.interpolate(vectors)
        else:
            part = interpolate(np.ascontiguousarray(values, np.float32)[:, None], vectors, whole)[..., 0]
        part[~sky] = np.nan
        blocks.append(part)
    return np.moveaxis(np.concatenate(blocks), (0, 1), (-2, -1))


def to_ndmap(values: NDArray[np.float32] | PartialMap, shape: tuple[int, int], wcs: WCS) -> Any:
    """The same as an ndmap of pixell, on the geometry (shape, wcs) of one of its maps.

    Raises
    ------
    ImportError
        If pixell is not installed.
    """
    from pixell import enmap

    return enmap.ndmap(sample_on_image(values, ImageGrid.from_header(wcs, shape)), wcs)
