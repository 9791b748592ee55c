"""Fields in which a survey ends inside another one's: filtered once for each set of groups that is needed there.

The bands of one filter have to be observed together. Where a group of bands ends amid a field, what all see of the
field is filtered with all, and the rest with those that go on; a position takes the result of the most bands that it
is not at the border of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import healpy
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from szeek.filter.cuts import FieldPart, Map32, Mask, SetSample, set_window
from szeek.filter.layout import field_nside, field_pixels, pixel_arcmin
from szeek.filter.matchedfilter import FilteredField
from szeek.filter.states import FieldState
from szeek.physics.instrument import Instrument
from szeek.sky.mapset import MapSet
from szeek.sky.projection import field_directions
from szeek.sky.skymaps import SkyMaps

Floats = NDArray[np.float64]

#: Groups that see less of a field together are used where no others are: its noise would be known too badly.
_LEAST_SHARE = 0.05
#: What is narrower than twice this is not worth another filter: two footprints never end at the same pixels.
_LEAST_ARCMIN = 4.0


def open_parts(
    maps: SkyMaps | MapSet,
    place: tuple[int, float, float],
    instrument: Instrument,
    *,
    keep: Floats | None = None,
    known: FieldState | None = None,
    noise: FieldState | None = None,
) -> list[FilteredField]:
    """A field, filtered once for each set of groups that is needed in the pixel that it owns.

    Parameters
    ----------
    maps, instrument, keep, known, noise
        As of :class:`szeek.filter.matchedfilter.FilteredField`; states as :func:`join_states` gives them.
    place : (int, float, float)
        Pixel that the field owns, and its centre (:func:`szeek.filter.layout.list_fields`).
    """
    centre = place[1:]
    if known is not None:
        return [FilteredField(maps, *centre, instrument, keep=keep, known=one) for one in (known, *known.beside)]
    if noise is not None:
        return [FilteredField(maps, *centre, instrument, keep=keep, noise=one) for one in (noise, *noise.beside)]
    parts: Sequence[FieldPart | None] = [None]
    if isinstance(maps, MapSet) and len(maps.groups) > 1:
        parts = _list_parts(maps, place) or parts
    return [FilteredField(maps, *centre, instrument, keep=keep, part=part) for part in parts]


def join_states(parts: Sequence[FilteredField]) -> FieldState:
    """What was learnt of a field, for :func:`open_parts` to continue from."""
    first, *others = (part.state for part in parts)
    return replace(first, beside=tuple(others))


def assign_pixels(parts: Sequence[FilteredField]) -> NDArray[np.int8]:
    """Which part each pixel of a field belongs to, (n, n); -1 where none sees it."""
    owner = np.full(parts[0].valid.shape, -1, np.int8)
    for seen in ([part.seen for part in parts], [part.valid for part in parts]):
        for number in reversed(range(len(parts))):
            owner[seen[number]] = number
    return owner


def assign_directions(parts: Sequence[FilteredField], vectors: Floats) -> NDArray[np.int8]:
    """Which part directions (m, 3) in a field belong to, (m,)."""
    return np.asarray(parts[0].look_up(assign_pixels(parts), vectors))


def share_pixels(parts: Sequence[FilteredField], maps: SkyMaps | MapSet, pixel: int) -> list[Mask]:
    """The field's pixels that are in the HEALPix pixel that it owns and belong to each part, (n, n) each."""
    owner = assign_pixels(parts)
    directions, _ = parts[0].directions(*np.indices(owner.shape))
    own = healpy.vec2pix(field_nside(maps), *np.moveaxis(directions, -1, 0)) == pixel
    return [own & (owner == number) for number in range(len(parts))]


def _list_parts(maps: MapSet, place: tuple[int, float, float]) -> list[FieldPart]:
    """Sets of groups, most bands first, that each see something of the pixel which no earlier one sees well."""
    pixel, lon_deg, lat_deg = place
    sample, resolution, n = SetSample.of(maps, lon_deg, lat_deg), pixel_arcmin(maps), field_pixels(maps)
    directions = field_directions(lon_deg, lat_deg, 0.0, n, n, resolution)
    left = healpy.vec2pix(field_nside(maps), *np.moveaxis(directions, -1, 0)) == pixel
    bands = [sample.covering(columns) for columns in maps.columns]
    bands = [columns for columns in bands if len(columns)]
    sets = [np.concatenate(some) for k in range(len(bands)) for some in combinations(bands, k + 1)]
    sets.sort(key=len, reverse=True)
    seen = [np.asarray(sample.seen[columns].all(axis=0)) for columns in sets]
    known_well = [number for number, mask in enumerate(seen) if mask.mean() > _LEAST_SHARE]
    windows: dict[int, Map32] = {}
    chosen: set[int] = set()
    for least, numbers in ((0.99, known_well), (0.0, range(len(sets)))):
        for number in chosen:
            left &= windows[number] <= least
        for number in numbers:
            if not (left & seen[number]).any():
                continue
            if number not in windows:
                windows[number], _ = set_window(seen[number], resolution)
            mine = windows[number] > least
            if ndimage.distance_transform_edt(left & mine).max() * resolution > _LEAST_ARCMIN:
                chosen.add(number)
                left &= ~mine
    return [FieldPart(sets[number], sample) for number in sorted(chosen)]
