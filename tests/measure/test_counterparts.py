"""Entries of other catalogues: the nearest of each survey, and the chance of one as random positions have it."""

import numpy as np
import pytest
from astropy.table import Table, vstack

from szeek.measure.counterparts import find_counterparts


def entries(rng, n, survey):
    return Table(
        {
            "name": ["same name"] * n,  # names need not be unique
            "survey": [survey] * n,
            "lon_deg": rng.uniform(0, 360, n),
            "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n))),
            "z": rng.uniform(0, 1, n),
            "richness": np.arange(n, dtype=float),
        }
    )


def test_each_survey_names_its_nearest():
    rng = np.random.default_rng(1)
    x, y = entries(rng, 3, "X"), entries(rng, 2, "Y")
    x["lon_deg"], x["lat_deg"] = [10.0, 10.05, 200.0], [0.0, 0.0, 50.0]
    y["lon_deg"], y["lat_deg"] = [10.02, 77.0], [0.0, 0.0]
    sources = Table({"name": ["A", "B"], "lon_deg": [10.03, 120.0], "lat_deg": [0.0, 0.0]})
    found = find_counterparts(sources, vstack([x, y]))
    assert found["catalogue"].tolist() == ["X", "Y"] and set(found["candidate"]) == {"A"}
    assert found["richness"].tolist() == [1.0, 0.0]  # rows 1 of X and 0 of Y, 1.2 and 0.6 arcmin away
    assert found["separation_arcmin"] == pytest.approx([1.2, 0.6])
    assert np.isnan(found["m500_1e14msun"]).all()  # the lists have none


def test_share_of_random_positions_is_the_probability_by_chance():
    rng = np.random.default_rng(2)
    known = entries(rng, 40_000, "X")
    random = entries(rng, 20_000, "")
    random["name"] = np.arange(20_000).astype(str)
    found = find_counterparts(random, known, 10.0)
    # 1 - exp(-n pi r^2), n = 40,000 over 41,253 deg^2, r = 1/6 deg: 0.0811; error of 20,000 draws 0.002
    assert len(found) / 20_000 == pytest.approx(0.0811, abs=0.006)


def test_nothing_near_is_an_empty_table_with_all_columns():
    rng = np.random.default_rng(3)
    found = find_counterparts(Table({"name": ["A"], "lon_deg": [0.0], "lat_deg": [90.0]}), entries(rng, 2, "X"), 0.1)
    assert len(found) == 0 and "p_chance" in found.colnames
