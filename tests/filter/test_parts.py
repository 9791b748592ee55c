"""Where a survey ends inside another one's: S/N everywhere, of the bands that are observed there."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.table import Table
from mixed_sky import N_GROUND, SHAPE, mixed_grid, mixed_instrument, mixed_sky
from numpy.typing import NDArray

from szeek.assess.selection import measure_noise
from szeek.filter.layout import list_fields
from szeek.filter.parts import assign_directions, open_parts
from szeek.filter.search import matched_filter
from szeek.filter.snrmaps import FilteredSky, add_snr_maps, filter_sky
from szeek.filter.states import read_states, write_states
from szeek.measure.photometry import measure_sources
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.sky.healpix import lonlat_deg, unit_vectors
from szeek.sky.mapset import MapSet

SETUP, THETA, Y500 = mixed_instrument(), 2.0, 1.2e-3
#: The last column that the ground survey observed: no field has it at its side.
EDGE = 230
#: The taper of 0.3 deg and what a spline feels of the edge, in pixels of 2 arcmin.
TAPER = 12


def west() -> NDArray[np.bool_]:
    """Where the ground survey observed."""
    seen = np.zeros(SHAPE, bool)
    seen[:, :EDGE] = True
    return seen


@pytest.fixture(scope="module")
def clusters() -> Table:
    """Rows of far ones, and in each row one near the edge; no two are near each other."""
    rows, columns = np.meshgrid([40.3, 95.1, 150.2, 204.9, 260.4], [60.2, 140.4, EDGE, 300.1, 370.2])
    columns[2] += [-16.2, -9.3, -4.4, 3.3, 8.1]
    table = Table({"row": rows.ravel(), "column": columns.ravel()})
    table["lon_deg"], table["lat_deg"] = lonlat_deg(mixed_grid().directions(table["row"], table["column"]))
    table["theta500_arcmin"], table["y500_arcmin2"] = THETA, Y500
    return table


@pytest.fixture(scope="module")
def maps() -> MapSet:
    return mixed_sky(ground=west())


@pytest.fixture(scope="module")
def filtered(maps: MapSet) -> FilteredSky[MapSet]:
    return filter_sky(maps, (THETA,), instrument=SETUP, threads=1)


def snr_of(filtered: FilteredSky[MapSet]) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """S/N, row and column of all pixels that have one or are within the outer borders."""
    snr = filtered.maps.snr
    assert snr is not None
    row, column = mixed_grid().pixels(np.stack(healpy.pix2vec(snr.nside, snr.ipix), axis=1))
    inside = (row > 8) & (row < SHAPE[0] - 9) & (column > 8) & (column < SHAPE[1] - 9)
    return snr.values[inside, 0], row[inside], column[inside]


def test_snr_is_everywhere_and_of_the_bands_that_are_observed(filtered: FilteredSky[MapSet]) -> None:
    """West of the edge as if the ground survey went on, east of it that of the satellite alone."""
    snr, row, column = snr_of(filtered)
    assert np.isfinite(snr).all()
    corner = np.zeros(SHAPE, bool)
    corner[:, :14] = True  # too little to be used
    of_all, of_space = (
        snr_of(filter_sky(mixed_sky(ground=ground), (THETA,), instrument=SETUP, threads=1))[0]
        for ground in (None, corner)
    )
    off_border = (row > 20) & (row < SHAPE[0] - 21) & (column > 30) & (column < SHAPE[1] - 21)
    deep, shallow = off_border & (column < EDGE - 2 * TAPER), off_border & (column > EDGE)
    assert np.corrcoef(snr[deep], of_all[deep])[0, 1] > 0.97  # P is measured on another part of the fields
    assert np.corrcoef(snr[deep], of_space[deep])[0, 1] < 0.7
    # those of the satellite alone, also within the taper of the ground survey: fields of the same centre have its P
    rim = off_border & (column > EDGE - 8) & (column < EDGE)
    for part in (shallow, rim):
        assert np.corrcoef(snr[part], of_space[part])[0, 1] > 0.99
    assert np.median(np.abs(snr[shallow] - of_space[shallow])) < 1e-5
    for part in (deep, shallow):
        assert snr[part].std() == pytest.approx(0.93, abs=0.08)  # a little less than 1 between pixels


def test_no_detection_is_made_along_the_edge(maps: MapSet) -> None:
    """CMB and noise alone: not one peak above S/N 4.5 in 20 pixels about the edge, and few above 3.5."""
    found = matched_filter(maps, instrument=SETUP, snr_min=3.5, threads=1)
    _, column = mixed_grid().pixels(healpy.ang2vec(found["lon_deg"], found["lat_deg"], lonlat=True).reshape(-1, 3))
    near = np.abs(column - EDGE) < 20
    assert (np.asarray(found["snr"])[near] < 4.5).all()
    expected = (~near).sum() * 40 / (SHAPE[1] - 18 - 40)
    assert near.sum() <= expected + 3 * np.sqrt(max(expected, 1.0))


def test_clusters_are_found_and_measured_on_either_side(
    clusters: Table, maps: MapSet, filtered: FilteredSky[MapSet]
) -> None:
    """As far from the edge as near it, with what was learnt of the fields before them and with nothing known."""
    sky = mixed_sky(clusters, ground=west())
    deep = np.asarray(clusters["column"]) < EDGE - TAPER
    found = matched_filter(sky, instrument=SETUP, snr_min=5.0, threads=1)
    separation = arcmin(clusters, found)
    assert separation.min(axis=1).max() < 2.5 and len(found) == len(clusters)
    snr = np.asarray(found["snr"])[separation.argmin(axis=1)]
    assert snr[deep].min() > 1.5 * snr[~deep].max()
    alone = measure_sources(sky, clusters, instrument=SETUP, threads=1)
    before = measure_sources(sky, clusters, instrument=SETUP, filtered=filtered.states, injected=True, threads=1)
    for measured in (alone, before):
        flux, error = (np.asarray(measured[f"fixed_y5r500_{name}arcmin2"]) / Y5R500_PER_Y500 for name in ("", "err_"))
        pull = (flux - Y500) / error
        for side in (deep, ~deep):
            assert abs(pull[side].mean()) < 3 / np.sqrt(side.sum()) and pull[side].std() < 1.5
        assert error[~deep].min() > 1.5 * error[deep].max()
        seen = np.isfinite(measured["flux_mjy"])
        assert seen[:, N_GROUND:].all() and np.array_equal(seen[:, 0], deep)
    # S/N maps of the sky with them differ by their signal over the noise there
    injected = add_snr_maps(sky, (THETA,), instrument=SETUP, noise=filtered.states, threads=1)
    assert injected.snr is not None and filtered.maps.snr is not None
    at = healpy.ang2pix(sky.nside, clusters["lon_deg"], clusters["lat_deg"], lonlat=True)
    gained = (injected.snr[at] - filtered.maps.snr[at])[:, 0]
    expected = Y500 * Y5R500_PER_Y500 / np.asarray(before["fixed_y5r500_err_arcmin2"])
    # up to half a pixel away from the peak
    assert (gained / expected).min() > 0.8 and (gained / expected).max() < 1.05


def arcmin(one: Table, other: Table) -> NDArray[np.float64]:
    u, v = (unit_vectors(np.asarray(t["lon_deg"]), np.asarray(t["lat_deg"])) for t in (one, other))
    return np.degrees(np.linalg.norm(u[:, None] - v[None], axis=-1)) * 60


def test_states_of_a_divided_field_are_kept(maps: MapSet, filtered: FilteredSky[MapSet], tmp_path: Path) -> None:
    write_states(filtered.states, tmp_path / "states.safetensors")
    states = read_states(tmp_path / "states.safetensors")
    divided = {pixel for pixel, state in states.items() if state.beside}
    assert divided and divided < set(states)
    for pixel, lon_deg, lat_deg in list_fields(maps):
        one, other = filtered.states[int(pixel)], states[int(pixel)]
        assert [np.isnan(part.unit).sum() for part in (other, *other.beside)] in ([0], [N_GROUND], [0, N_GROUND])
        if int(pixel) == min(divided):
            place = int(pixel), float(lon_deg), float(lat_deg)
            parts = open_parts(maps, place, SETUP, known=other)
            for part, state in zip(parts, (one, *one.beside), strict=True):
                np.testing.assert_allclose(part.state.inverse, state.inverse)
            owner = assign_directions(parts, np.stack(healpy.pix2vec(maps.nside, filtered.maps.snr.ipix), axis=1))
            assert {0, 1} <= set(owner)
            # the mean by area lies between those of the parts
            noise = measure_noise(maps, SETUP, (THETA,), filtered={int(pixel): other}, threads=1)[int(pixel), 0]
            low, high = (part.flux_error(THETA) / Y5R500_PER_Y500 for part in parts)
            assert low < noise < high
