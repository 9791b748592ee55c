"""One owner of every product's name, and what a folder that continues another one reads."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table

import szeek
from szeek.config import load_config
from szeek.files import write_json
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder, continue_folder
from szeek.pipeline.stage import Facts, Run, Stage, stage_key

SOURCE = Path(szeek.__file__).parent
STRINGS = [value for name, value in vars(products).items() if name.isupper() and isinstance(value, str)]
NAMES = {value for value in STRINGS if "." in value}
#: Formats that exist without a run: a model, saved maps, a simulated sky, stacks of any list.
FORMATS = {
    "learn/model.py": {"model.json", "model.safetensors"},
    "learn/train.py": {"checkpoint.safetensors", "model.json"},
    "sky/skymaps.py": {"filter.json"},
    "simulate/field/simulate.py": {"simulate.json"},
    "simulate/sky.py": {"classes.fits", "simulate.json", "y_map.fits"},
    "simulate/validate.py": {"simulate.json", "truth.fits"},
    "stack/catalogue.py": {"stacks.json"},
    "show/figures/stackfigures.py": {"stacks.json"},
    "show/report/field.py": {"y.fits"},  # the field's own, in fields/NAME/
}


def spelled_names(file):
    """Product names in the strings of a module, docstrings aside."""
    tree = ast.parse(file.read_text())
    documents = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            documents.add(node.value)
    plain = {Path(name).name for name in NAMES}
    pattern = re.compile(r"(?<![\w.-])(" + "|".join(map(re.escape, sorted(plain))) + r")(?![\w.])")
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in documents
    ]
    return {name for text in texts for name in pattern.findall(text)}


def test_no_other_module_spells_a_products_name():
    assert {"run.json", "prediction.fits", "candidates.fits", "recovery.ecsv", "report.html"} <= NAMES
    spelled = {}
    for file in SOURCE.rglob("*.py"):
        path = file.relative_to(SOURCE).as_posix()
        if not path.startswith("pipeline/") and (names := spelled_names(file) - FORMATS.get(path, set())):
            spelled[path] = names
    assert not spelled


def test_every_product_that_is_needed_has_a_command():
    """`need` names the command, so that each product it may be asked for must be in the table."""
    for file in SOURCE.rglob("*.py"):
        for call in re.findall(r"\.need\(([^)]*)\)", file.read_text()):
            for name in re.findall(r"products\.([A-Z_]+)", call):
                assert getattr(products, name) in products.PRODUCTS, f"{file.name}: {name}"


def test_a_folder_that_continues_another_reads_there_and_writes_here(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    (one / "maps").mkdir(parents=True)
    (one / "maps" / "bands.json").write_text("[]")
    Table({"z": [0.1]}).write(one / "clusters.fits")
    write_json({"config": {"detect": {"p_max": 0.3}}, "stages": {}}, one / "run.json")
    continue_folder(RunFolder(one), two, (products.MAPS, products.CLUSTERS, products.PREDICTION))
    folder = RunFolder(two)
    assert folder.file(products.CLUSTERS) == one / "clusters.fits" and not folder.has(products.PREDICTION)
    assert folder.file("maps/bands.json") == one / "maps" / "bands.json"
    np.testing.assert_array_equal(folder.clusters["z"], [0.1])
    Table({"z": [0.2]}).write(two / "clusters.fits")  # its own goes first
    np.testing.assert_array_equal(RunFolder(two).clusters["z"], [0.2])
    with pytest.raises(FileNotFoundError, match=r"has no prediction.fits \(p, .*`szeek predict` makes it"):
        folder.need(products.PREDICTION)


def test_an_instrument_file_counts_by_what_is_in_it(tmp_path):
    """A stage is done again where a number of the file has changed, not where the file has moved."""
    text = '[[bands]]\nname = "a"\nfreq_ghz = 150.0\nfwhm_arcmin = 1.4\nnoise_uk_arcmin = 9.0\n'
    stage, keys = Stage("any", lambda run, progress: Facts(), sections=("sky",)), []
    for folder, number in (("one", "1.4"), ("two", "1.4"), ("three", "1.5")):
        path = tmp_path / folder / "mine.toml"
        path.parent.mkdir()
        path.write_text(text.replace("1.4", number))
        run = Run(load_config("bonjean2020", sky={"instrument": str(path)}), tmp_path)
        keys.append(stage_key(stage, run, {"stages": {}}))
    assert keys[0] == keys[1] != keys[2]


def test_surveys_that_do_not_reach_a_simulated_field_are_left_out(tmp_path):
    """redMaPPer is of the north: in a field at declination -45 its mock is an empty file."""
    config = load_config("szeek-act")
    (tmp_path / "simulated").mkdir()
    (tmp_path / "simulated" / "simulate.json").write_text('{"rows": {"psz2": 12, "mcxc": 7, "redmapper": 0}}')
    assert [file.name for file in Run(config, tmp_path, 1).catalogue_files()] == ["psz2.fits", "mcxc.fits"]


def test_catalogues_of_other_classes_are_no_known_clusters(tmp_path):
    Table({"name": ["A", "B"], "survey": ["PSZ2", "BLAZAR"]}).write(tmp_path / "clusters.fits")
    assert list(RunFolder(tmp_path).clusters["name"]) == ["A", "B"]
    write_json({"config": {"network": {"classes": ["blazar"]}}}, tmp_path / "run.json")
    assert list(RunFolder(tmp_path).clusters["name"]) == ["A"]
