"""What a linear filter does: matched filter, S/N maps, compact sources, y map, photons over their background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.filter.compact import find_compact_sources, merge_compact_sources
    from szeek.filter.further import density_map, photon_map
    from szeek.filter.ilc import FlatILC, NeedletILC, list_spectra
    from szeek.filter.matchedfilter import FilteredField
    from szeek.filter.search import matched_filter, merge_detections
    from szeek.filter.snrmaps import FilteredSky, add_snr_maps, filter_sky
    from szeek.filter.ymap import Foregrounds, YMap, make_y_map

__all__ = [
    "FilteredField",
    "FilteredSky",
    "FlatILC",
    "Foregrounds",
    "NeedletILC",
    "YMap",
    "add_snr_maps",
    "density_map",
    "filter_sky",
    "find_compact_sources",
    "list_spectra",
    "make_y_map",
    "matched_filter",
    "merge_compact_sources",
    "merge_detections",
    "photon_map",
]

__getattr__ = load_lazily(__name__)
