"""Photometry on maps of several grids: fluxes, pulls where the depth varies, kinds, bands that a field lacks."""

from __future__ import annotations

import numpy as np
import pytest
from act_like import Patch, act_like, act_like_instrument, spread_positions
from astropy.table import Table

from szeek.filter.snrmaps import filter_sky
from szeek.measure.photometry import SIZES_ARCMIN, list_flux_sizes, measure_sources
from szeek.sky.mapset import MapSet

ACT = act_like_instrument()
PATCH = Patch(5.0, 4.0)


def clusters(patch: Patch, n: int, y500_arcmin2: float = 2e-4) -> Table:
    table = spread_positions(patch, n, 8)
    table["theta500_arcmin"], table["y500_arcmin2"] = 1.5, y500_arcmin2
    return patch.add_lonlat(table)


def test_fluxes_and_pulls_where_the_depth_varies() -> None:
    """Inverse variances of 1 and 3 on the two sides: no bias, pulls of unit width on both."""
    table, depth = clusters(PATCH, 120), np.ones(PATCH.shape)
    depth[:, : PATCH.shape[1] // 2] = 3.0
    maps = act_like(PATCH, clusters=table, depth=depth)
    found = measure_sources(maps, table, instrument=ACT, threads=1)
    sizes = list_flux_sizes(maps)
    assert sizes[0] == 0.3 and sizes[-1] == SIZES_ARCMIN[-1] and found.meta["sizes_arcmin"] == sizes.tolist()
    seen = np.isfinite(found["snr"])
    assert seen.mean() > 0.9
    flux = found["fixed_y5r500_arcmin2"] / 1.79
    error = found["fixed_y5r500_err_arcmin2"] / 1.79
    assert np.mean(flux[seen]) == pytest.approx(2e-4, rel=0.02)
    east = np.asarray(table["x_arcmin"]) > 0  # columns fall to the east
    pull = (flux - 2e-4) / error
    for side in (east, ~east):
        assert pull[seen & side].std() == pytest.approx(1.0, abs=0.25)
    assert 1.15 < np.median(error[seen & ~east]) / np.median(error[seen & east]) < 1.6
    assert (found["kind"][seen] == "cluster").mean() > 0.95


def test_radio_sources_are_called_so() -> None:
    sources = PATCH.add_lonlat(spread_positions(PATCH, 16, 8))
    sources["flux_mjy"] = 40.0 * np.array([[1.35, 1.0, 0.75]] * len(sources))
    maps = act_like(PATCH, sources=sources)
    states = filter_sky(maps, instrument=ACT, threads=1).states
    found = measure_sources(maps, sources, instrument=ACT, filtered=states, threads=1)
    seen = np.isfinite(found["snr"])
    assert seen.sum() >= 12 and (found["kind"][seen] == "radio").all()
    # those of the smallest cluster, theta500 of 0.3 arcmin, which reaches farther than a point: most in narrow beams
    excess = np.median(found["flux_mjy"][seen], axis=0) / 40.0 / [1.35, 1.0, 0.75]
    assert (np.diff(excess) > 0).all() and excess[0] > 1.0 and excess[-1] < 1.3


def test_bands_that_a_field_lacks_have_no_flux() -> None:
    table = clusters(PATCH, 20)
    whole = act_like(PATCH, clusters=table, bands=(0, 1))
    nowhere = np.zeros(PATCH.shape)
    nowhere[:60] = 1.0
    strip = act_like(PATCH, clusters=table, bands=(2,), depth=nowhere)
    found = measure_sources(MapSet.of(*whole.groups, *strip.groups), table, instrument=ACT, threads=1)
    seen = np.isfinite(found["snr"])
    assert seen.mean() > 0.9 and np.isfinite(found["flux_mjy"][seen, :2]).all()
    assert np.isnan(found["flux_mjy"][seen, 2]).mean() > 0.9
    assert np.mean(found["fixed_y5r500_arcmin2"][seen]) / 1.79 == pytest.approx(2e-4, rel=0.05)
