"""Public functions have examples, which `make check` runs; those without one are listed, and only get fewer."""

import inspect
from importlib import import_module

PACKAGES = (
    *("szeek", "szeek.sky", "szeek.physics", "szeek.inputs", "szeek.simulate", "szeek.filter", "szeek.learn"),
    *("szeek.find", "szeek.measure", "szeek.assess", "szeek.stack", "szeek.counts"),
    *("szeek.show.figures", "szeek.show.report", "szeek.show.explorer"),
)
#: Public names without an example. Never add to these; take out what has got one.
MISSING = {
    "szeek.inputs.surveymaps.read_maps",
    "szeek.learn.train.train",
    "szeek.show.explorer.dossierset.write_dossiers",
    "szeek.show.explorer.hips.write_hips",
    "szeek.show.explorer.layers.list_layers",
    "szeek.show.explorer.server.serve",
    "szeek.show.figures.dossier.draw_sheet",
    "szeek.show.figures.dossier.plot_dossier",
    "szeek.show.report.field.keep_field",
    "szeek.simulate.field.simulate.simulate_field",
    "szeek.simulate.realisations.simulate_skies",
    "szeek.simulate.sky.paint_haloes",
    "szeek.simulate.sky.simulate_sky",
    "szeek.simulate.validate.validate_sky",
    "szeek.stack.products.measure_spectrum",
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
