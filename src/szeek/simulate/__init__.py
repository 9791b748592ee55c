"""Simulated skies: haloes, what shines, what surveys would list, and clusters painted into real maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.simulate.field.simulate import FieldOptions, SimulatedField, simulate_field
    from szeek.simulate.haloes import draw_haloes
    from szeek.simulate.inject import draw_injections, inject_clusters
    from szeek.simulate.realisations import simulate_skies
    from szeek.simulate.sky import SimulateConfig, SimulatedSky, paint_haloes, simulate_sky
    from szeek.simulate.surveys import mock_mcxc, mock_psz2, mock_redmapper
    from szeek.simulate.validate import validate_sky

__all__ = [
    "FieldOptions",
    "SimulateConfig",
    "SimulatedField",
    "SimulatedSky",
    "draw_haloes",
    "draw_injections",
    "inject_clusters",
    "mock_mcxc",
    "mock_psz2",
    "mock_redmapper",
    "paint_haloes",
    "simulate_field",
    "simulate_skies",
    "simulate_sky",
    "validate_sky",
]

__getattr__ = load_lazily(__name__)
