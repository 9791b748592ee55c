"""What a flat field sees of a set of maps, where it is used, and with which weight."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from szeek.filter.depth import white_power
from szeek.filter.layout import field_pixels, pixel_arcmin
from szeek.sky.mapset import MapSet
from szeek.sky.projection import sample_field

Map32 = NDArray[np.float32]
Mask = NDArray[np.bool_]

_TAPER_DEG = 0.3
# Bands of a set: one that covers less of the field is left out, places with so many times the median noise power are
# as if not observed, holes up to this radius are filled in.
_LEAST_COVER, _SHALLOW, _GAP_ARCMIN = 0.5, 16.0, 12.0


class SetSample(NamedTuple):
    """What a field sees of a set of maps, (n_band, n, n) each.

    ``sky``, where each band was observed deep enough (``seen``), and the power of its white noise (``white``), None
    where no band's is known.
    """

    sky: Map32
    seen: NDArray[np.bool_]
    white: Map32 | None

    @classmethod
    def of(cls, maps: MapSet, lon_deg: float, lat_deg: float) -> SetSample:
        """Sampled at the pixels of the field about a direction."""
        n, pixel = field_pixels(maps), pixel_arcmin(maps)
        sky = np.moveaxis(sample_field(maps, lon_deg, lat_deg, 0.0, n, n, pixel), -1, 0)
        seen = ~np.isnan(sky)
        white = white_power(maps, lon_deg, lat_deg, n, pixel)
        if white is not None:
            for of_band, power in zip(seen, white, strict=True):
                if not np.isnan(power[0, 0]) and of_band.any():
                    of_band &= power < _SHALLOW * np.median(power[of_band][::16])
        return cls(sky, seen, white)

    def covering(self, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of these bands that cover half of what any of them sees amid the field, or more."""
        border = self.seen.shape[-1] // 4  # the HEALPix pixel that the field is of is half as wide
        seen = self.seen[columns]
        inner = seen[:, border:-border, border:-border]
        inner = inner if inner.any() else seen
        cover = inner.sum(axis=(1, 2)) / max(int(inner.any(axis=0).sum()), 1)
        return np.asarray(columns[cover >= _LEAST_COVER])


class FieldPart(NamedTuple):
    """The bands that a field is filtered with, by their numbers, and what it sees of the set."""

    columns: NDArray[np.int64]
    sample: SetSample


def set_window(everywhere: Mask, pixel_arcmin: float) -> tuple[Map32, Mask]:
    """Window about what all bands see of a field, and the small gaps in that, over which it goes on."""
    gaps = _small_gaps(everywhere, _GAP_ARCMIN / pixel_arcmin)
    return taper(everywhere | gaps, pixel_arcmin), gaps


def _small_gaps(seen: Mask, radius_pixel: float) -> Mask:
    """What is not seen amid what is, if it is no larger than a disc of this radius."""
    gaps, n = ndimage.label(~seen)
    if not n:
        return np.zeros_like(seen)
    small = np.bincount(gaps.ravel(), minlength=n + 1) <= math.pi * radius_pixel**2
    small[0] = False
    small[np.unique(np.concatenate([gaps[[0, -1]].ravel(), gaps[:, [0, -1]].ravel()]))] = False
    return np.asarray(small[gaps])


def taper(seen: Mask, pixel_arcmin: float) -> Map32:
    """Window that rises from 0 at the edge of what is seen to 1 inside, as a squared sine."""
    return _whole_taper(len(seen), pixel_arcmin) if seen.all() else _taper(seen, pixel_arcmin)


@cache
def _whole_taper(n: int, pixel_arcmin: float) -> Map32:
    return _taper(np.ones((n, n), bool), pixel_arcmin)


def _taper(seen: Mask, pixel_arcmin: float) -> Map32:
    """Window that rises from 0 at the edge of what is seen to 1 inside, as a squared sine."""
    distance = ndimage.distance_transform_edt(np.pad(seen, 1))[1:-1, 1:-1] * pixel_arcmin / (60 * _TAPER_DEG)
    return np.asarray(np.sin(0.5 * math.pi * np.clip(distance, 0, 1)) ** 2, np.float32)
