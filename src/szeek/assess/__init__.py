"""Recovery, purity, completeness, positions. Matching is :func:`szeek.match`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.assess.calibrate import Calibration, fit_calibration, p_max_for_purity
    from szeek.assess.compare import compare_finders
    from szeek.assess.nullsky import count_null_sources, flip_signs, rotate_bands
    from szeek.assess.recovery import completeness_purity, measure_recovery, wilson_interval
    from szeek.assess.selection import Selection, fit_position_errors, judge_injections, measure_noise
    from szeek.assess.sources import find_sources

__all__ = [
    "Calibration",
    "Selection",
    "compare_finders",
    "completeness_purity",
    "count_null_sources",
    "find_sources",
    "fit_calibration",
    "fit_position_errors",
    "flip_signs",
    "judge_injections",
    "measure_noise",
    "measure_recovery",
    "p_max_for_purity",
    "rotate_bands",
    "wilson_interval",
]

__getattr__ = load_lazily(__name__)
