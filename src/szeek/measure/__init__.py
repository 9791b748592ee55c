"""Sources and maps to the catalogue: photometry, spectrum, flags, identification, candidates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.measure.candidates import (
        explain_columns,
        make_candidates,
        read_candidates,
        send_to_samp,
        write_candidates,
    )
    from szeek.measure.flags import name_flags, set_flags
    from szeek.measure.fluxes import FluxCorrection, fit_flux_correction
    from szeek.measure.identify import identify_sources
    from szeek.measure.photometry import fit_kind, fit_size, measure_sources

__all__ = [
    "FluxCorrection",
    "explain_columns",
    "fit_flux_correction",
    "fit_kind",
    "fit_size",
    "identify_sources",
    "make_candidates",
    "measure_sources",
    "name_flags",
    "read_candidates",
    "send_to_samp",
    "set_flags",
    "write_candidates",
]

__getattr__ = load_lazily(__name__)
