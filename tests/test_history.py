"""What the documentation says of the benchmarks comes from their history, and from nowhere else."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def history(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import history

    return history


def test_every_figure_of_the_scaling_page_is_there(history):
    page = (ROOT / "docs" / "scaling.md").read_text()
    asked = set(re.findall(r"\{\{ (\w+) \}\}", page))
    assert asked and asked <= set(history.substitutions())


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_no_page_has_a_figure_left_to_fill_in(page):
    assert not re.search(r"@@\w*@@", page.read_text())


def test_a_new_measurement_takes_the_place_of_the_old_one(history, monkeypatch, tmp_path):
    row = sys.modules["rows"].Row("walk", "run", 2.0, "times slower", 1.5, "at most", 1)
    monkeypatch.setattr(history, "HISTORY", tmp_path / "history.jsonl")
    history.append("first", rows=[row])
    history.append("second", rows=[type(row)(**{**row.__dict__, "value": 1.25})])
    history.append("", scaling={"bands": [{"n": 3, "whole_s": 7.0, "gib": 0.5}]})
    assert [json.loads(line)["note"] for line in history.HISTORY.read_text().splitlines()] == ["first", "second", ""]
    latest, entry = history.latest_rows()["walk"]
    assert (latest.value, latest.reached, entry["note"]) == (1.25, True, "second") and not row.reached
    assert history._scaling_table("bands").splitlines()[-1] == "| 3 | 7.0 | 0.50 GiB |"
    with pytest.raises(ValueError, match=r"holds no scaling with nside; run benchmarks/bench_scaling.py nside"):
        history.latest_scaling("nside")
