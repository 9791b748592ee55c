"""The generated reference: nothing that a user can type or finds in a folder is without a word of explanation."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from szeek.config import Config
from szeek.pipeline import products

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    sys.path.insert(0, str(DOCS))
    try:
        import write_reference
    finally:
        sys.path.remove(str(DOCS))
    return write_reference


def test_every_option_of_every_command_is_explained(reference: ModuleType) -> None:
    commands = dict(reference.list_commands())
    assert {"szeek run", "szeek predict", "szeek data list"} <= set(commands)
    for name, command in commands.items():
        assert command.help, name
        for option in reference.list_options(command):
            assert option.help, f"{name} {option.opts}"
    page = reference.describe_commands()
    assert "| `--p-max` |  | threshold on p; default: the run's own |" in page
    assert all(f"\n## {name}\n" in page for name in commands)


def test_every_key_of_the_configuration_is_explained(reference: ModuleType) -> None:
    keys = {key: reference.meaning(key, model, field) for key, model, field in reference.list_keys()}
    assert not [key for key, text in keys.items() if not text]
    assert {"seed", "sky.field.ra_deg", "sky.clusters.y_slope", "train.batch"} <= set(keys)
    assert {key for key in keys if "." not in key} == set(Config.model_fields)
    page = reference.describe_configuration()
    assert "| `batch` | integer, at least 1 | `20` | patches in a step |" in page
    assert "| `schedule` | `constant`, `one-cycle` |" in page


def test_every_product_is_explained(reference: ModuleType) -> None:
    named = {value for name, value in vars(products).items() if name.isupper() and isinstance(value, str)}
    assert named == set(products.PRODUCTS)
    assert all(f"| `{name}` |" in reference.describe_products() for name in named)


def test_every_public_name_has_its_place_in_the_api(reference: ModuleType) -> None:
    import szeek

    source = Path(szeek.__file__).parent
    exporting = {
        ".".join(("szeek", *file.parent.relative_to(source).parts))
        for file in source.rglob("__init__.py")
        if "__all__" in file.read_text(encoding="utf-8")
    }
    assert exporting - {"szeek.show", "szeek.cli"} == set(reference.PACKAGES)
    assert ".. autofunction:: szeek.sky.tile_of" in reference.describe_package("szeek.sky")
