"""Public functions have examples, which `make check` runs; those without one are listed, and only get fewer."""

import inspect
from importlib import import_module

PACKAGES = (
    *("szeek", "szeek.sky", "szeek.physics", "szeek.inputs", "szeek.simulate", "szeek.filter", "szeek.learn"),
    *("szeek.find", "szeek.measure", "szeek.assess", "szeek.stack"),
    *("szeek.show.figures", "szeek.show.report", "szeek.show.explorer"),
)
#: Public names without an example. Never add to these; take out what has got one.
MISSING = {
    "szeek.assess.nullsky.count_null_sources",
    "szeek.assess.selection.Selection",
    "szeek.assess.selection.fit_position_errors",
    "szeek.assess.selection.judge_injections",
    "szeek.assess.selection.measure_noise",
    "szeek.filter.compact.merge_compact_sources",
    "szeek.filter.matchedfilter.FilteredField",
    "szeek.filter.matchedfilter.matched_filter",
    "szeek.filter.matchedfilter.merge_detections",
    "szeek.filter.snrmaps.FilteredSky",
    "szeek.filter.snrmaps.add_snr_maps",
    "szeek.filter.snrmaps.filter_sky",
    "szeek.find.baselines.find_by_matched_filter",
    "szeek.find.predict.predict",
    "szeek.find.predict.predict_fields",
    "szeek.find.shards.gather_shards",
    "szeek.find.shards.predict_shard",
    "szeek.inputs.download.fetch",
    "szeek.inputs.instrument.read_bandpasses",
    "szeek.inputs.stackmaps.read_stack_map",
    "szeek.inputs.surveymaps.read_maps",
    "szeek.learn.patches.Patches",
    "szeek.learn.train.train",
    "szeek.measure.fluxes.fit_flux_correction",
    "szeek.measure.photometry.fit_kind",
    "szeek.measure.photometry.fit_size",
    "szeek.measure.photometry.measure_sources",
    "szeek.show.explorer.dossierset.write_dossiers",
    "szeek.show.explorer.hips.write_hips",
    "szeek.show.explorer.layers.list_layers",
    "szeek.show.explorer.server.serve",
    "szeek.show.figures.curves.plot_completeness",
    "szeek.show.figures.curves.plot_looks",
    "szeek.show.figures.curves.plot_mass_redshift",
    "szeek.show.figures.curves.plot_recovery",
    "szeek.show.figures.curves.plot_reliability",
    "szeek.show.figures.curves.plot_selection",
    "szeek.show.figures.dossier.draw_sheet",
    "szeek.show.figures.dossier.plot_dossier",
    "szeek.show.figures.stackfigures.plot_flux_against_p",
    "szeek.show.figures.stackfigures.plot_profiles",
    "szeek.show.figures.stackfigures.plot_regions",
    "szeek.show.figures.stackfigures.plot_spectrum",
    "szeek.show.figures.stackfigures.plot_stack_rows",
    "szeek.show.figures.stackfigures.plot_stacks",
    "szeek.show.report.field.keep_field",
    "szeek.simulate.field.simulate.simulate_field",
    "szeek.simulate.realisations.simulate_skies",
    "szeek.simulate.sky.paint_haloes",
    "szeek.simulate.sky.simulate_sky",
    "szeek.simulate.validate.validate_sky",
    "szeek.sky.imagemaps.ImageMaps",
    "szeek.stack.bridges.measure_bridges",
    "szeek.stack.catalogue.stack_catalogue",
    "szeek.stack.nulls.dust_map",
    "szeek.stack.products.measure_spectrum",
    "szeek.stack.products.read_stacks",
    "szeek.stack.products.stack_sources",
    "szeek.stack.profiles.Profile",
    "szeek.stack.profiles.measure_profile",
    "szeek.stack.profiles.measure_significance",
    "szeek.stack.scaling.fit_pixels",
    "szeek.stack.stacks.Stack",
    "szeek.verbs.run",
}


def has_example(value: object) -> bool:
    """In its own docstring, or in that of one of its methods."""
    members = vars(value).values() if inspect.isclass(value) else ()
    return any(">>>" in (inspect.getdoc(one) or "") for one in (value, *members))


def test_public_names_without_an_example_get_fewer() -> None:
    lacking = set()
    for package in PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and not has_example(value):
                lacking.add(f"{value.__module__}.{name}")
    assert not lacking - MISSING, "give them an example that runs"
    assert not MISSING - lacking, "they have an example now: take them out of MISSING"
