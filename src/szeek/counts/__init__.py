"""Cluster counts: masses, the mass function, what a likelihood needs of a survey, mock catalogues, exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.counts.exports import FORMATS, export_survey
    from szeek.counts.masses import MassRelation, convert_mass, list_mass_curves, list_masses
    from szeek.counts.massfunction import CosmologyParameters, halo_counts
    from szeek.counts.mocks import MockSurvey
    from szeek.counts.survey import DetectionModel, Survey, make_survey

__all__ = [
    "FORMATS",
    "CosmologyParameters",
    "DetectionModel",
    "MassRelation",
    "MockSurvey",
    "Survey",
    "convert_mass",
    "export_survey",
    "halo_counts",
    "list_mass_curves",
    "list_masses",
    "make_survey",
]

__getattr__ = load_lazily(__name__)
