"""Figures of the sky, of candidates and of a run's numbers: arrays and tables in, matplotlib Figures out."""

from szeek.show.figures.curves import (
    plot_completeness,
    plot_input,
    plot_looks,
    plot_mass_redshift,
    plot_recovery,
    plot_reliability,
    plot_selection,
    plot_training,
)
from szeek.show.figures.cutouts import cut_out, plot_field, plot_gallery, plot_truth
from szeek.show.figures.dossier import draw_sheet, plot_dossier
from szeek.show.figures.skyplots import mollweide_picture, plot_sky, plot_tile
from szeek.show.figures.stackfigures import (
    draw_stack_folder,
    plot_flux_against_p,
    plot_profiles,
    plot_regions,
    plot_spectrum,
    plot_stack_rows,
    plot_stacks,
)
from szeek.show.figures.style import save_figure

__all__ = [
    "cut_out",
    "draw_sheet",
    "draw_stack_folder",
    "mollweide_picture",
    "plot_completeness",
    "plot_dossier",
    "plot_field",
    "plot_flux_against_p",
    "plot_gallery",
    "plot_input",
    "plot_looks",
    "plot_mass_redshift",
    "plot_profiles",
    "plot_recovery",
    "plot_regions",
    "plot_reliability",
    "plot_selection",
    "plot_sky",
    "plot_spectrum",
    "plot_stack_rows",
    "plot_stacks",
    "plot_tile",
    "plot_training",
    "plot_truth",
    "save_figure",
]
