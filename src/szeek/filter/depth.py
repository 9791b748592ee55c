r"""White noise that differs from place to place within a field, from the maps' inverse variances.

    sigma^2(x) = sigma^2 [1 + beta q(x)],   q(x) = sum_b f_b (N_b(x) / <N_b> - 1)

f_b is the share of band b's white noise in the variance of the filtered map, N_b(x) its power. beta is 1 where all
else, the sky and the atmosphere, is the same everywhere; more where the atmosphere's noise varies with the white one.
It is measured on the filtered map itself, as nemo measures the noise in bins of the weight (Hilton et al. 2021, ApJS
253, 3, Sect. 2.3).
"""

from __future__ import annotations

import healpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from szeek.sky.grids import ImageGrid
from szeek.sky.imagemaps import ImageMaps
from szeek.sky.mapset import MapSet
from szeek.sky.projection import field_directions, interpolate
from szeek.sky.skymaps import SkyMaps

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

_STEP = 4  # pixels of the field from one sample of the depth to the next
_SLOPE_ERROR = 0.5  # of beta, before it is measured
_CLIP_SNR = 4.0  # what is higher is no noise
_LEAST_VARIANCE = 0.05


def white_power(maps: MapSet, lon_deg: float, lat_deg: float, n: int, pixel_arcmin: float) -> Map32 | None:
    """Power of the white noise of every band in a field, (n_band, n, n), unit^2 sr; None where no band's is known.

    NaN in bands whose inverse variance is not known, and where they were not observed.
    """
    if not any(part is not None for group in maps.groups for part in group.ivar):
        return None
    n_coarse = -(-(n - 1) // _STEP) + 1
    # the coarse pixels begin at the field's first one: their centre is moved by half of what they reach beyond it
    basis_shift = 0.5 * ((n_coarse - 1) * _STEP - (n - 1))
    directions = field_directions(lon_deg, lat_deg, 0.0, n_coarse, n_coarse, pixel_arcmin * _STEP)
    along_x, along_y = directions[0, 1] - directions[0, 0], directions[1, 0] - directions[0, 0]
    directions = directions + (basis_shift / _STEP) * (along_x + along_y)
    out = np.full((maps.n_band, n, n), np.nan, np.float32)
    at = np.arange(n) / _STEP
    for group, columns in zip(maps.groups, maps.columns, strict=True):
        if not group.ivar:
            continue
        if isinstance(group, ImageMaps):
            area, ivar = _pixel_area(group.grid, directions, pixel_arcmin), group.sample_ivar(directions)
        else:
            area, ivar = np.asarray(healpy.nside2pixarea(group.nside)), _interpolate_ivar(group, directions)
        for column, part, of_band in zip(columns, group.ivar, np.moveaxis(ivar, -1, 0), strict=True):
            known = np.isfinite(of_band) & (of_band > 0.0) & np.isfinite(area)
            if part is None or not known.any():
                continue
            power = np.where(known, area / np.where(known, of_band, 1.0), 0.0)
            nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
            rows, columns_ = np.meshgrid(at, at, indexing="ij")
            out[column] = ndimage.map_coordinates(power[tuple(nearest)], [rows, columns_], np.float32, order=1)
    return out


def _interpolate_ivar(maps: SkyMaps, directions: Floats) -> Map32:
    """Inverse variances at directions, (ny, nx, n_band); NaN where none is known."""
    out = np.full((*directions.shape[:2], maps.n_band), np.nan, np.float32)
    for column, part in enumerate(maps.ivar):
        if part is not None:
            out[..., column] = interpolate(part[:, None], directions, maps.footprint)[..., 0]
    return out


def _pixel_area(grid: ImageGrid, directions: Floats, pixel_arcmin: float) -> Floats:
    """Solid angle of the image's pixels at the coarse pixels of a field, sr."""
    row, column = grid.pixels(directions)
    if grid.period:
        column = np.unwrap(np.unwrap(column, period=grid.period, axis=0), period=grid.period, axis=1)
    (row_y, row_x), (column_y, column_x) = np.gradient(row, _STEP), np.gradient(column, _STEP)
    per_pixel = np.abs(row_y * column_x - row_x * column_y)
    # on the tangent plane a pixel is larger than its true area
    true_area = np.radians(pixel_arcmin / 60) ** 2 * np.linalg.norm(directions, axis=-1) ** -3
    with np.errstate(divide="ignore"):
        return np.asarray(true_area / per_pixel)


class LocalNoise:
    """How a field's noise varies.

    Parameters
    ----------
    power : (n_band, n, n) float32
        Of the white noise, NaN where it is not known.
    window : (n, n) float32
        That the field's power is measured in.

    Attributes
    ----------
    mean : (n_band,) float64
        Mean power, under the square of the window; 0 where it is not known.
    """

    def __init__(self, power: Map32, window: Map32) -> None:
        weight = window.astype(np.float64) ** 2
        weight /= weight.sum()
        self.mean: Floats = np.nan_to_num(np.einsum("bij,ij->b", np.where(window > 0, power, 0.0), weight))
        known = self.mean > 0
        self._excess: Map32 = np.zeros(power.shape, np.float32)
        self._excess[known] = power[known] / self.mean[known, None, None].astype(np.float32) - 1.0

    @property
    def varies(self) -> bool:
        """Whether it does by more than 2 % in any band."""
        return bool((np.abs(self._excess[:, ::8, ::8]).max(axis=(1, 2)) > 0.02).any())

    def excess(self, share: Floats) -> Map32:
        """q for these shares of the bands' white noise in the variance, (n, n)."""
        return np.asarray(np.tensordot(share.astype(np.float32), self._excess, 1))

    def divide_bands(self, snr: Map32, share: Floats) -> None:
        """Divide a map of each band, in place, by the local error over the mean one; shares as :meth:`excess`."""
        for one, excess, of_band in zip(snr, self._excess, share, strict=True):
            if of_band > 0:
                one /= relative_error(excess, of_band)

    def errors_at(self, share: Floats, row: Floats, column: Floats) -> Floats:
        """Local errors over the mean ones, (m, n_band), at rows and columns."""
        at = [ndimage.map_coordinates(excess, [row, column], np.float64, order=1) for excess in self._excess]
        return np.asarray(np.sqrt(np.maximum(1 + share * np.stack(at, axis=1), _LEAST_VARIANCE)))

    def ratios(self, row: Floats, column: Floats) -> Floats:
        """Power of the white noise over its mean, (m, n_band), at rows and columns."""
        return np.asarray(self.errors_at(np.ones(len(self._excess)), row, column) ** 2)


def measure_slope(snr: Map32, excess: Map32, where: Mask, n_independent: float) -> float:
    """beta: how much the variance of a filtered map varies with that of its white noise.

    Parameters
    ----------
    snr : (n, n) float32
        Over the mean error.
    excess : (n, n) float32
        q.
    where : (n, n) bool
    n_independent : float
        Independent values that the map has there.
    """
    q, variance = (np.asarray(part[::2, ::2], np.float64) for part in (excess, snr**2))
    used = where[::2, ::2] & (variance < _CLIP_SNR**2 * (1 + q))
    if not used.any():
        return 1.0
    q, variance = q[used], variance[used]
    weight = (1 + q) ** -2
    weight /= weight.sum()
    mean_q, mean = float(weight @ q), float(weight @ variance)
    spread = max(float(weight @ (q - mean_q) ** 2), 1e-9)
    slope = float(weight @ ((q - mean_q) * (variance - mean))) / spread
    level = max(mean - slope * mean_q, 1e-3)
    known = spread * n_independent / 2 * _SLOPE_ERROR**2  # of the variance's slope, 2 / (n spread)
    return float(np.clip((slope / level * known + 1.0) / (known + 1.0), 0.0, 3.0))


def relative_error(excess: Map32, slope: float) -> Map32:
    """Local error over the mean one."""
    return np.asarray(np.sqrt(np.maximum(1 + np.float32(slope) * excess, np.float32(_LEAST_VARIANCE))))
