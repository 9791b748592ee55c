"""Stacks, profiles, scaling of fluxes, bridges between clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.stack.bridges import find_pairs, measure_bridges
    from szeek.stack.catalogue import stack_catalogue
    from szeek.stack.cutting import cut_maps
    from szeek.stack.products import read_stacks, stack_sources
    from szeek.stack.profiles import Profile, measure_fluxes, measure_profile, measure_significance
    from szeek.stack.scaling import fit_scaling
    from szeek.stack.spectrum import fit_spectrum
    from szeek.stack.stacks import Stack, stack_at, stack_samples

__all__ = [
    "Profile",
    "Stack",
    "cut_maps",
    "find_pairs",
    "fit_scaling",
    "fit_spectrum",
    "measure_bridges",
    "measure_fluxes",
    "measure_profile",
    "measure_significance",
    "read_stacks",
    "stack_at",
    "stack_catalogue",
    "stack_samples",
    "stack_sources",
]

__getattr__ = load_lazily(__name__)
