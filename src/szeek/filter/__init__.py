"""What a linear filter does: matched filter, S/N maps, compact sources, y map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.filter.compact import find_compact_sources, merge_compact_sources
    from szeek.filter.ilc import FlatILC, NeedletILC, list_spectra
    from szeek.filter.matchedfilter import FilteredField
    from szeek.filter.search import matched_filter, merge_detections
    from szeek.filter.snrmaps import FilteredSky, add_snr_maps, filter_sky
    from szeek.filter.ymap import YMap, make_y_map

__all__ = [
    "FilteredField",
    "FilteredSky",
    "FlatILC",
    "NeedletILC",
    "YMap",
    "add_snr_maps",
    "filter_sky",
    "find_compact_sources",
    "list_spectra",
    "make_y_map",
    "matched_filter",
    "merge_compact_sources",
    "merge_detections",
]

__getattr__ = load_lazily(__name__)
