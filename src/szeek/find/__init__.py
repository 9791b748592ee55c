"""Maps and network to p map, p map to sources. The prediction is :func:`szeek.predict`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.find.baselines import find_by_matched_filter, find_in_y_map
    from szeek.find.detect import detect_sources
    from szeek.find.predict import find_foregrounds, predict_fields, read_prediction, write_prediction
    from szeek.find.shards import gather_shards, predict_shard

__all__ = [
    "detect_sources",
    "find_by_matched_filter",
    "find_foregrounds",
    "find_in_y_map",
    "gather_shards",
    "predict_fields",
    "predict_shard",
    "read_prediction",
    "write_prediction",
]

__getattr__ = load_lazily(__name__)
