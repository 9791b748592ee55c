"""Public functions have examples, which `make check` runs."""

import inspect
from importlib import import_module

PACKAGES = (
    *("szeek", "szeek.sky", "szeek.physics", "szeek.inputs", "szeek.simulate", "szeek.filter", "szeek.learn"),
    *("szeek.find", "szeek.measure", "szeek.assess", "szeek.stack", "szeek.counts"),
    *("szeek.show.figures", "szeek.show.report", "szeek.show.explorer"),
)


def has_example(value: object) -> bool:
    """In its own docstring, or in that of one of its methods."""
    members = vars(value).values() if inspect.isclass(value) else ()
    return any(">>>" in (inspect.getdoc(one) or "") for one in (value, *members))


def test_every_public_name_has_an_example() -> None:
    lacking = set()
    for package in PACKAGES:
        module = import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and not has_example(value):
                lacking.add(f"{value.__module__}.{name}")
    assert not lacking, "give them an example that runs"
