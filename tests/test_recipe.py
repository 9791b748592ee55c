"""The conda recipe says what pyproject.toml says."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import szeek

ROOT = Path(__file__).parents[1]
#: Packages that conda-forge has under another name than the Python index.
OTHER_NAMES = {"astropy": "astropy-base", "matplotlib": "matplotlib-base", "torch": "pytorch"}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    """With its context filled in."""
    text = (ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8")
    for name, value in yaml.safe_load(text)["context"].items():
        text = text.replace("${{ " + name + " }}", value)
    return yaml.safe_load(text)


def conda_name(requirement: str) -> str:
    """A requirement of the Python index as conda writes it: name, space, range."""
    found = re.fullmatch(r"([\w-]+)(.*)", requirement)
    assert found is not None
    return f"{OTHER_NAMES.get(found[1], found[1])} {found[2]}"


def test_the_recipe_asks_for_the_same_packages(project: dict[str, Any], recipe: dict[str, Any]) -> None:
    asked = {conda_name(one) for one in project["project"]["dependencies"]}
    asked.add(f"python {project['project']['requires-python']}")
    assert set(recipe["requirements"]["run"]) == asked
    built_with = {conda_name(one) for one in project["build-system"]["requires"]}
    assert built_with < set(recipe["requirements"]["host"])


def test_the_recipe_is_of_this_version_and_licence(project: dict[str, Any], recipe: dict[str, Any]) -> None:
    stated = project["project"]
    assert recipe["package"] == {"name": stated["name"], "version": szeek.__version__}
    assert recipe["about"]["license"] == stated["license"]
    assert recipe["about"]["license_file"] == stated["license-files"]
    assert recipe["about"]["summary"] == stated["description"]
    assert all((ROOT / file).is_file() for file in recipe["about"]["license_file"])


def test_the_recipe_installs_and_tries_the_command(project: dict[str, Any], recipe: dict[str, Any]) -> None:
    commands = [f"{name} = {function}" for name, function in project["project"]["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == commands
    assert "szeek --version" in [line for test in recipe["tests"] for line in test.get("script", ())]
    lowest, highest = re.fullmatch(r">=([\d.]+),<3\.(\d+)", project["project"]["requires-python"]).groups()
    (python,) = [test["python"] for test in recipe["tests"] if "python" in test]
    assert python["python_version"] == [f"{lowest}.*", f"3.{int(highest) - 1}.*"]
