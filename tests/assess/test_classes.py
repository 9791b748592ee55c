"""Sources of several classes: which are right, their fluxes, and what a candidate is likeliest."""

import healpy
import numpy as np
import pytest
from astropy.table import Table

from szeek.assess.calibrate import Calibration
from szeek.assess.classes import (
    class_probabilities,
    find_class_sources,
    join_calibrations,
    judge_class_sources,
    name_classes,
    split_calibrations,
)
from szeek.inputs.instrument import read_instrument
from szeek.measure.flags import FLAGS, set_flags
from szeek.sky.tiles import tile_of

NSIDE = 256
HFI = read_instrument("planck-hfi")


def spots(*places):
    """A map that is zero but at (lon, lat, p)."""
    p_map = np.zeros(12 * NSIDE**2, np.float32)
    for lon_deg, lat_deg, p in places:
        p_map[healpy.ang2pix(NSIDE, lon_deg, lat_deg, lonlat=True)] = p
    return p_map


def test_a_point_is_found_once_and_a_cell_of_co_by_all_that_lies_in_it():
    tile = int(tile_of(np.array([30.0]), np.array([40.0]))[0])
    sources = Table({"lon_deg": [30.0, 30.05, 30.0, 200.0], "lat_deg": [40.0, 40.0, 40.4, -40.0]})
    sources["p"] = [0.9, 0.8, 0.7, 0.6]
    entry = {"lon_deg": [30.0], "lat_deg": [40.0]}
    point, cell = Table({**entry, "extent_arcmin": [0.0]}), Table({**entry, "extent_arcmin": [78.0]})
    # 0.05 deg of longitude at 40 deg are 2.3 arcmin: within reach of the point, which has been found already
    judged, real = judge_class_sources(sources, point, [tile])
    assert judged["p"].tolist() == [0.9, 0.8, 0.7] and real.tolist() == [True, False, False]
    # 24 arcmin are inside of 39
    assert judge_class_sources(sources, cell, [tile])[1].tolist() == [True, True, True]


def test_fluxes_are_those_of_the_nearest_compact_source_within_a_share_of_the_beam():
    p_map = spots((30.0, 40.0, 0.8))
    place = find_class_sources({"radio": p_map}, 0.1)
    lon_deg, lat_deg = float(place["lon_deg"][0]), float(place["lat_deg"][0])
    # beams of 7.3 and 4.9 arcmin: 0.6 of them are 4.4 and 2.9
    compact = Table({"band": ["143", "143", "217"], "flux_mjy": [100.0, 70.0, 50.0], "flux_err_mjy": [9.0, 8.0, 7.0]})
    compact["lon_deg"], compact["lat_deg"] = lon_deg, lat_deg + np.array([4.0, 2.0, 3.5]) / 60
    found = find_class_sources({"radio": p_map, "co": spots()}, 0.1, compact=compact, instrument=HFI)
    assert found["class"].tolist() == ["radio"]
    assert (found["flux_143_mjy"][0], found["flux_143_err_mjy"][0]) == (70.0, 8.0)
    assert np.isnan(found["flux_217_mjy"][0]) and np.isnan(found["flux_353_mjy"][0])


def test_a_candidate_has_the_highest_p_near_it_made_a_probability():
    """p of 0.8 lies 2 arcmin off, of 0.9 at 9 arcmin; a straight line makes 0.4 of 0.8."""
    p_map = np.zeros(12 * 1024**2, np.float32)  # pixels of 3.4 arcmin
    for offset, p in ((2.0, 0.8), (9.0, 0.9)):
        p_map[healpy.ang2pix(1024, 30.0, 40.0 + offset / 60, lonlat=True)] = p
    half = Calibration(np.array([0.0, 1.0]), np.array([[0.0, 0.5]]), np.zeros(0), "isotonic", 0.3)
    sources = Table({"lon_deg": [30.0, 120.0], "lat_deg": [40.0, 10.0], "p": [0.3, 0.5]})
    found = class_probabilities(sources, {"radio": p_map, "dusty": p_map}, {"radio": half})
    assert found["p_radio"].tolist() == pytest.approx([0.4, 0.0])
    assert found["p_dusty"].tolist() == pytest.approx([0.8, 0.0])
    for name in found.colnames:
        sources[name] = found[name]
    assert name_classes(sources, ["radio", "dusty"]).tolist() == ["dusty", "cluster"]


def test_what_was_not_seen_is_of_no_class():
    p_map = np.full(12 * NSIDE**2, np.nan, np.float32)
    found = class_probabilities(Table({"lon_deg": [30.0], "lat_deg": [40.0]}), {"co": p_map}, {})
    assert np.isnan(found["p_co"]).all()
    assert name_classes(Table({"p": [np.nan], "p_co": [np.nan]}), ["co"]).tolist() == [""]


def test_calibrations_of_several_classes_are_one_table(tmp_path):
    rng = np.random.default_rng(1)
    knots = np.linspace(0, 1, 5)
    lines = {
        name: Calibration(knots, np.sort(rng.random((2, 5)), axis=1), np.array([0.1]), "beta", float(k))
        for k, name in enumerate(("radio", "clump"))
    }
    join_calibrations(lines).write(tmp_path / "classes.ecsv")
    again = split_calibrations(Table.read(tmp_path / "classes.ecsv"))
    assert list(again) == ["radio", "clump"]
    for name, line in lines.items():
        np.testing.assert_array_equal(again[name].purity, line.purity)
        assert again[name].log_loss == line.log_loss and again[name].dust_edges.tolist() == [0.1]


def test_classes_set_flags_and_say_that_they_were_looked_for():
    sources = Table({"lon_deg": [10.0, 20.0, 30.0], "lat_deg": [60.0, 60.0, 60.0]})
    sources["p_clump"], sources["p_dusty"], sources["p_radio"] = [0.9, 0.1, np.nan], [0.1, 0.6, 0.2], [0.0, 0.0, 0.0]
    flagged = set_flags(sources)
    clump, point = FLAGS["cold_clump"], FLAGS["point_source"]
    assert [bool(bits & clump) for bits in flagged["flags"]] == [True, False, False]
    assert [bool(bits & clump) for bits in flagged["checked"]] == [True, True, False]
    assert [bool(bits & point) for bits in flagged["flags"]] == [False, True, False]
    assert [bool(bits & FLAGS["co"]) for bits in flagged["checked"]] == [False, False, False]
