"""Point sources of sets of maps: found, fitted together, subtracted, listed; clusters beside them stay."""

from __future__ import annotations

from dataclasses import fields

import healpy
import numpy as np
import pytest
from act_like import ARCMIN, FWHM_ARCMIN, Patch, act_like, act_like_instrument, spread_positions
from astropy.table import Table, vstack
from scipy.special import j0

from szeek.filter.compact import find_compact_sources
from szeek.filter.matchedfilter import FilteredField
from szeek.filter.search import matched_filter
from szeek.filter.snrmaps import NOISE_THETA500_ARCMIN, filter_sky
from szeek.filter.sources import Sources, look_up, paint_sources, radial_tables, solve_fluxes
from szeek.filter.states import FieldState, read_states, write_states
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.sky.healpix import lonlat_deg, unit_vectors
from szeek.sky.mapset import MapSet
from szeek.sky.projection import sample_field

ACT = act_like_instrument()
PATCH = Patch(4.0, 4.0)
RADIO = np.array([1.35, 1.0, 0.75])
CENTRE = tuple(map(float, lonlat_deg(PATCH.directions(Table({"x_arcmin": [0.0], "y_arcmin": [0.0]}))[0])))


def point_sources() -> Table:
    """64 of 5 to 600 mJy at 149 GHz, anywhere within pixels."""
    table = spread_positions(PATCH, 64, 3)
    flux = np.geomspace(5, 600, len(table))[np.random.default_rng(0).permutation(len(table))]
    table["flux_mjy"] = flux[:, None] * RADIO
    return table


@pytest.fixture(scope="module")
def sources() -> Table:
    return point_sources()


@pytest.fixture(scope="module")
def maps(sources: Table) -> MapSet:
    return act_like(PATCH, sources=sources)


@pytest.fixture(scope="module")
def field(maps: MapSet) -> FilteredField:
    return FilteredField(maps, *CENTRE, ACT)


def test_sources_are_listed_with_their_fluxes(field: FilteredField, sources: Table) -> None:
    """Every band above S/N 5: positions to a tenth of the beam over S/N, unit pulls, none that is not there."""
    found = find_compact_sources(field)
    assert (found["snr"][~found["subtracted"]] < 6).all() and found["subtracted"].mean() > 0.97
    row, column = field.pixels(PATCH.directions(sources))
    for b, (name, fwhm) in enumerate(zip(ACT.band_names, FWHM_ARCMIN, strict=True)):
        listed = found[found["band"] == name]
        lon, lat = np.radians(listed["lon_deg"]), np.radians(listed["lat_deg"])
        vectors = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
        i, j = field.pixels(vectors)
        distance = np.hypot(i[:, None] - row, j[:, None] - column) * field.pixel_arcmin
        nearest = distance.argmin(axis=1)
        snr = np.asarray(listed["snr"])
        assert np.unique(nearest).size == len(listed) and (distance.min(axis=1) < fwhm / 2).all()
        bright = snr > 20
        assert (distance.min(axis=1)[bright] < 3 * fwhm / snr[bright] + 0.01).all()
        truth = sources["flux_mjy"][nearest, b]
        pull = (listed["flux_mjy"] - truth) / np.hypot(listed["flux_err_mjy"], 0.01 * truth)
        assert abs(pull[bright].mean()) < 4 / np.sqrt(bright.sum()) and pull[bright].std() < 1.4
        np.testing.assert_allclose(np.median(listed["flux_mjy"][bright] / truth[bright]), 1.0, atol=0.015)


def test_what_is_left_is_below_3_percent(field: FilteredField, maps: MapSet, sources: Table) -> None:
    """Of the peak, where S/N is above 100 in the band: sky with sources less the model, against the sky without."""
    sky, without = (
        np.moveaxis(sample_field(one, *CENTRE, 0.0, field.n, field.n, field.pixel_arcmin), -1, 0)
        for one in (maps, act_like(PATCH))
    )
    model = np.zeros_like(sky)
    paint_sources(field._sources, field._profiles, model)
    model *= field.unit[:, None, None].astype(np.float32)
    found = find_compact_sources(field)
    n = 0
    for b, name in enumerate(ACT.band_names):
        least = np.median(found["flux_err_mjy"][found["band"] == name]) * 100
        bright = sources[sources["flux_mjy"][:, b] > least]
        for row, column in zip(*field.pixels(PATCH.directions(bright)), strict=True):
            i, j = round(float(row)), round(float(column))
            if not field.valid[i, j]:
                continue
            box = np.s_[b, i - 8 : i + 9, j - 8 : j + 9]
            peak = (sky - without)[box].max()
            assert abs((sky - without - model)[box]).max() < 0.03 * peak
            n += 1
    assert n > 20


def test_nothing_but_noise_is_left_for_the_clusters_filter(field: FilteredField) -> None:
    """Where 64 sources of S/N 3 to 400 were."""
    without = FilteredField(act_like(PATCH), *CENTRE, ACT)
    assert not len(without._sources.row)
    searched = field.valid & ~field.compact
    assert searched.sum() > 0.99 * field.valid.sum()
    for theta in (0.5, 2.0):
        assert field.snr_map(theta)[0][searched].std() == pytest.approx(
            without.snr_map(theta)[0][searched].std(), rel=0.04
        )
        assert field.flux_error(theta) == pytest.approx(without.flux_error(theta), rel=0.05)


@pytest.mark.parametrize("apart_arcmin", [2.0, 4.0])
def test_clusters_beside_sources_survive(apart_arcmin: float) -> None:
    """Sources of 20 mJy 2 and 4 arcmin from clusters: S/N as without them within 15 and 5 %."""
    clusters = spread_positions(PATCH, 25, 4)
    clusters["theta500_arcmin"], clusters["y500_arcmin2"] = 1.5, 2e-4
    beside = clusters["x_arcmin", "y_arcmin"].copy()
    beside["x_arcmin"] += apart_arcmin
    beside["flux_mjy"] = np.full((len(beside), 1), 20.0) * RADIO
    both = FilteredField(act_like(PATCH, clusters=clusters, sources=beside), *CENTRE, ACT)
    alone = FilteredField(act_like(PATCH, clusters=clusters), *CENTRE, ACT)
    vectors = PATCH.directions(clusters)
    one, other = (f.interpolate(f.snr_map(1.5)[0], vectors) for f in (both, alone))
    assert (other > 8).all()
    assert np.median(one / other) == pytest.approx(1.0, abs=0.15 if apart_arcmin < 3 else 0.05)
    assert (one > 0.6 * other).all() and not both.compact[tuple(np.rint(both.pixels(vectors)).astype(int))].any()


def test_bright_clusters_are_no_sources() -> None:
    """S/N 40 and 150: neither their increment at 224 GHz nor the filter's ring about them is taken for sources."""
    clusters = spread_positions(PATCH, 16, 7)
    clusters["theta500_arcmin"], clusters["y500_arcmin2"] = 1.5, np.tile([6e-4, 2.4e-3], 8)
    field = FilteredField(act_like(PATCH, clusters=clusters), *CENTRE, ACT)
    snr = field.interpolate(field.snr_map(1.5)[0], PATCH.directions(clusters))
    expected = clusters["y500_arcmin2"] * Y5R500_PER_Y500 / field.flux_error(1.5)
    np.testing.assert_allclose(snr / expected, 1.0, atol=0.15)
    assert not len(field._holes[field._holes[:, 0] == 0]) and len(field._sources.row) < 3


def test_galaxy_that_is_no_point_is_filled_in() -> None:
    """A disc of 2.5 arcmin as bright as a bright source: a hole, and no cluster about it."""
    galaxy = vstack([spread_positions(PATCH, 9, 6)] * 40)
    angle, radius = np.random.default_rng(4).uniform(0, 1, (2, len(galaxy)))
    galaxy["x_arcmin"] += 2.5 * np.sqrt(radius) * np.cos(2 * np.pi * angle)
    galaxy["y_arcmin"] += 2.5 * np.sqrt(radius) * np.sin(2 * np.pi * angle)
    galaxy["flux_mjy"] = np.full((len(galaxy), 1), 15.0) * RADIO
    field = FilteredField(act_like(PATCH, sources=galaxy), *CENTRE, ACT)
    assert (field._holes[:, 0] == 0).sum() >= 9
    assert len(field.find_peaks(*field.best_snr(), 5.5).snr) == 0


def test_field_continues_from_its_state(field: FilteredField, maps: MapSet, sources: Table, tmp_path) -> None:
    write_states({5: field.state, 9: field.state}, tmp_path / "states.safetensors")
    state = read_states(tmp_path / "states.safetensors")[9]
    for part in fields(FieldState):
        np.testing.assert_array_equal(getattr(state, part.name), getattr(field.state, part.name))
    known = FilteredField(maps, *CENTRE, ACT, known=state)
    one, other = (f.snr_map(1.0)[0] for f in (field, known))
    np.testing.assert_allclose(one, other, atol=1e-3)
    np.testing.assert_array_equal(known.compact, field.compact)
    # a source that is to be measured is there again, the others are not
    brightest = int(np.argmax(sources["flux_mjy"][:, 1]))
    at = PATCH.directions(sources[brightest : brightest + 1])
    kept = FilteredField(maps, *CENTRE, ACT, known=state, keep=at)
    difference = np.abs(kept.snr_map(1.0)[0] - one)
    i, j = (round(float(at[0])) for at in field.pixels(at))
    assert difference[i - 3 : i + 4, j - 3 : j + 4].max() > 100
    rows, columns = np.indices(difference.shape)
    assert difference[np.hypot(rows - i, columns - j) > 120].max() < 2


def test_clusters_of_a_survey_are_found_among_its_sources() -> None:
    """Sources of all fluxes and clusters at random, depth from 0.4 to 1.6 times the mean: all of expected S/N 10."""
    patch, rng = Patch(10.0, 5.0), np.random.default_rng(0)

    def at_random(n: int) -> Table:
        return Table({"x_arcmin": rng.uniform(-300, 300, n), "y_arcmin": rng.uniform(-150, 150, n)})

    sources, clusters = at_random(300), at_random(50)
    sources["flux_mjy"] = np.minimum(3 * rng.uniform(size=300) ** (-1 / 1.5), 5000)[:, None] * RADIO
    clusters["theta500_arcmin"] = rng.choice([1.0, 1.5, 2.0, 3.0], 50)
    clusters["y500_arcmin2"] = 1e-4 * rng.uniform(size=50) ** (-1 / 1.5)
    x, y = np.linspace(0, 12, patch.shape[1]), np.linspace(0, 6, patch.shape[0])
    depth = 1 + 0.6 * np.sin(x) * np.cos(y)[:, None]
    maps = act_like(patch, sources=sources, clusters=clusters, depth=depth)
    found = matched_filter(maps, instrument=ACT, snr_min=5.0, threads=1)
    truth, listed = patch.directions(clusters), unit_vectors(found["lon_deg"], found["lat_deg"])
    distance = np.degrees(np.linalg.norm(listed[:, None] - truth[None], axis=2)) * 60
    noise = filter_sky(maps, instrument=ACT, threads=1).noise[healpy.vec2pix(256, *truth.T)]
    error = [np.interp(t, NOISE_THETA500_ARCMIN, n) for t, n in zip(clusters["theta500_arcmin"], noise, strict=True)]
    bright = np.asarray(clusters["y500_arcmin2"] / error) > 10.0
    assert bright.sum() > 10 and (distance.min(axis=0)[bright] < 1.5).all()


def test_fluxes_of_overlapping_sources_are_solved_together() -> None:
    """Three sources 1.2 FWHM apart, seen through the filter that they were made with."""
    ell = np.arange(0.0, 20000.0, 10.0)
    beam = np.exp(-0.5 * (ell * 1.4 * ARCMIN / np.sqrt(8 * np.log(2))) ** 2)[:, None]
    fwhm, pixel = np.array([2.8]), 0.5 * ARCMIN
    seen = radial_tables(beam**2 / (ell @ beam**2), ell, ell, pixel, 6 * fwhm)
    assert look_up(seen[0], np.array([0.0]))[0] == pytest.approx(1.0)
    at = np.array([0.0, 3.37, 6.7])
    sources = Sources(at, np.zeros(3), np.zeros((3, 1)))
    flux = np.array([5.0, 40.0, 8.0])
    h = np.array([[(ell * beam[:, 0] ** 2) @ j0(ell * abs(a - b) * pixel) for a in at] for b in at])
    v = (h / (ell @ beam[:, 0] ** 2) @ flux)[:, None]
    found = solve_fluxes(v, np.full((3, 1), 0.1), sources, seen, fwhm)
    np.testing.assert_allclose(found[:, 0], flux, rtol=0.02)
