"""Cosmology, gas profile, tSZ response, spectra and scaling relations: pure functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.physics.bandpass import Bandpass
    from szeek.physics.beams import BeamTable
    from szeek.physics.cosmology import COSMOLOGY, angular_diameter_distance_mpc
    from szeek.physics.gas import (
        PROFILES,
        Y5R500_PER_Y500,
        PressureProfile,
        pressure_profile,
        profile_transform,
        y5r500_per_y500,
    )
    from szeek.physics.instrument import BandDetails, Instrument
    from szeek.physics.looks import ClusterLook
    from szeek.physics.scaling import (
        MASS_BIAS,
        electron_temperature_kev,
        mass_and_redshift,
        theta500_from_mass,
        y500_from_mass,
    )
    from szeek.physics.spectra import spectral_templates
    from szeek.physics.tsz import band_response, tsz_spectrum

__all__ = [
    "COSMOLOGY",
    "MASS_BIAS",
    "PROFILES",
    "Y5R500_PER_Y500",
    "BandDetails",
    "Bandpass",
    "BeamTable",
    "ClusterLook",
    "Instrument",
    "PressureProfile",
    "angular_diameter_distance_mpc",
    "band_response",
    "electron_temperature_kev",
    "mass_and_redshift",
    "pressure_profile",
    "profile_transform",
    "spectral_templates",
    "theta500_from_mass",
    "tsz_spectrum",
    "y5r500_per_y500",
    "y500_from_mass",
]

__getattr__ = load_lazily(__name__)
