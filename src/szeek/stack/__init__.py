"""Stacks, profiles, scaling of fluxes, bridges between clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.stack.bridges import find_pairs, measure_bridges
    from szeek.stack.catalogue import StackMap, stack_catalogue
    from szeek.stack.cutting import cut_maps
    from szeek.stack.nulls import dust_map, matched_positions
    from szeek.stack.products import FluxMap, StackOptions, measure_spectrum, read_stacks, stack_sources
    from szeek.stack.profiles import Profile, measure_fluxes, measure_profile, measure_significance
    from szeek.stack.samples import choose_samples
    from szeek.stack.scaling import fit_pixels, fit_scaling
    from szeek.stack.spectrum import fit_spectrum
    from szeek.stack.stacks import Field, Stack, join_maps, stack_at, stack_samples

__all__ = [
    "Field",
    "FluxMap",
    "Profile",
    "Stack",
    "StackMap",
    "StackOptions",
    "choose_samples",
    "cut_maps",
    "dust_map",
    "find_pairs",
    "fit_pixels",
    "fit_scaling",
    "fit_spectrum",
    "join_maps",
    "matched_positions",
    "measure_bridges",
    "measure_fluxes",
    "measure_profile",
    "measure_significance",
    "measure_spectrum",
    "read_stacks",
    "stack_at",
    "stack_catalogue",
    "stack_samples",
    "stack_sources",
]

__getattr__ = load_lazily(__name__)
