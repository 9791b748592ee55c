"""The matched filter on maps of several grids: fluxes, noise, depth, bands that are missing, gaps."""

from __future__ import annotations

from dataclasses import replace

import healpy
import numpy as np
import pytest
from act_like import FWHM_ARCMIN, PIXEL_ARCMIN, Patch, act_like, act_like_instrument, spread_positions
from astropy.table import Table
from noise_field import HFI
from scipy.ndimage import map_coordinates

from szeek.filter.layout import field_nside, field_pixels, list_fields, own_pixels
from szeek.filter.matchedfilter import FilteredField, beam_scale, list_sizes
from szeek.filter.search import matched_filter
from szeek.filter.snrmaps import NOISE_THETA500_ARCMIN, add_snr_maps, filter_sky, tabulate_noise
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.instrument import Instrument
from szeek.simulate.components.clusters import paint_clusters
from szeek.sky.healpix import lonlat_deg
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import Band, SkyMaps

ACT = act_like_instrument()
PATCH = Patch(4.0, 4.0)
Y500 = 4e-4


def centre(patch: Patch = PATCH, x_arcmin: float = 0.0) -> tuple[float, float]:
    lon_deg, lat_deg = lonlat_deg(patch.directions(Table({"x_arcmin": [x_arcmin], "y_arcmin": [0.0]}))[0])
    return float(lon_deg), float(lat_deg)


def clusters(theta500_arcmin: float, n: int, y500_arcmin2: float = Y500, seed: int = 2) -> Table:
    table = spread_positions(PATCH, n, seed)
    table["theta500_arcmin"], table["y500_arcmin2"] = theta500_arcmin, y500_arcmin2
    return table


def y500_at(field: FilteredField, theta500_arcmin: float, vectors: np.ndarray) -> np.ndarray:
    """Y500 of clusters of one size at directions."""
    snr, error = field.snr_map(theta500_arcmin)
    local = field.local_error(theta500_arcmin)
    signal = snr * error if local is None else snr * error * local
    true_area = (vectors @ field.basis[0]) ** 3
    return map_coordinates(signal, field.pixels(vectors), order=3) * true_area / Y5R500_PER_Y500


@pytest.fixture(scope="module")
def noise() -> MapSet:
    return act_like(PATCH)


@pytest.fixture(scope="module")
def field(noise: MapSet) -> FilteredField:
    return FilteredField(noise, *centre(), ACT)


def test_fields_are_small_where_pixels_are(noise: MapSet) -> None:
    """0.5 arcmin: nside 16, 896 pixels; every pixel of the coverage is in the middle part of its own field."""
    assert field_nside(noise) == 16 and field_pixels(noise) == 896
    fields = list_fields(noise)
    seen = np.flatnonzero(noise.seen)
    owner = healpy.vec2pix(16, *healpy.pix2vec(256, seen))
    assert set(owner) == set(fields["pixel"])
    for row in fields:
        vectors = np.stack(healpy.pix2vec(256, seen[owner == row["pixel"]]), axis=1)
        basis = FilteredField.__new__(FilteredField)
        basis.basis, basis.n = np.array(_basis(row)), 896
        basis.pixel_arcmin = noise.pixel_arcmin
        inside = np.concatenate(basis.pixels(vectors))
        assert inside.min() > 40 and inside.max() < 896 - 40
    own = [own_pixels(noise, int(pixel)) for pixel in fields["pixel"]]
    assert np.unique(np.concatenate(own)).size == sum(map(len, own)) == noise.seen.sum() * (noise.nside // 256) ** 2


def _basis(row: Table) -> np.ndarray:
    from szeek.sky.projection import field_basis

    return field_basis(float(row["lon_deg"]), float(row["lat_deg"]))


def test_sizes_and_lengths_follow_the_narrowest_beam(noise: MapSet, field: FilteredField) -> None:
    """1.0 arcmin against HFI's 4.64; Planck's own maps stay as they are, in a set or by themselves."""
    assert field.scale == pytest.approx(1.0 / 4.64)
    assert 0.28 <= field.sizes[0] < 0.3 and field.sizes[-1] == 35.0
    np.testing.assert_allclose(np.diff(np.log(field.sizes)), np.log(35 / 0.9) / 13)
    hfi = SkyMaps(np.zeros((12 * 64**2, 6), np.float32), np.ones(12 * 64**2, bool), HFI.bands)
    assert beam_scale(hfi, HFI.bands) == beam_scale(MapSet.of(hfi), HFI.bands) == 1.0
    assert list_sizes(1.0).size == 14


@pytest.mark.parametrize("theta", [0.5, 2.0, 5.0])
def test_noise_has_unit_variance(field: FilteredField, theta: float) -> None:
    inside = field.snr_map(theta)[0][field.valid]
    assert field.valid.mean() * (field.n * field.pixel_arcmin / 60) ** 2 == pytest.approx(3.4**2, rel=0.03)
    n_independent = inside.size * field.pixel_arcmin**2 / (np.pi * (2 + 2 * theta) ** 2)
    assert abs(inside.std() - 1) < 3 / np.sqrt(2 * n_independent)
    assert len(field.find_peaks(*field.best_snr(), 5.8).snr) == 0


@pytest.mark.parametrize(("theta", "n"), [(0.5, 100), (2.0, 36), (6.0, 9)])
def test_fluxes_come_back(field: FilteredField, theta: float, n: int) -> None:
    """Against the same sky without clusters: 2 %, beams and sub-pixel positions painted by other code."""
    y500 = 12 * field.flux_error(theta) / Y5R500_PER_Y500
    table = clusters(theta, n, y500)
    vectors = PATCH.directions(table)
    with_them = FilteredField(act_like(PATCH, clusters=table), *centre(), ACT)
    difference = y500_at(with_them, theta, vectors) - y500_at(field, theta, vectors)
    assert difference.mean() == pytest.approx(y500, rel=0.02)
    assert difference.std() < 0.06 * y500
    assert with_them.flux_error(theta) == pytest.approx(field.flux_error(theta), rel=0.04)


def test_clusters_are_detected_where_they_are() -> None:
    table = clusters(1.5, 36, 2e-4)
    found = matched_filter(act_like(PATCH, clusters=table), instrument=ACT, snr_min=6.0, threads=1)
    lonlat = PATCH.add_lonlat(table)
    distance = _arcmin(found, lonlat)
    assert len(found) == 36 and np.unique(distance.argmin(axis=0)).size == 36
    assert distance.min(axis=0).max() < 0.5 and np.median(found["y500_arcmin2"]) == pytest.approx(2e-4, rel=0.1)


def _arcmin(one: Table, other: Table) -> np.ndarray:
    from szeek.sky.healpix import unit_vectors

    u, v = (unit_vectors(np.asarray(t["lon_deg"]), np.asarray(t["lat_deg"])) for t in (one, other))
    return np.degrees(np.linalg.norm(u[:, None] - v[None], axis=-1)) * 60


def test_noise_is_that_of_the_place() -> None:
    """Depth steps by two amid the field: S/N has unit variance on both sides, with one error for both it has not."""
    depth = np.ones(PATCH.shape)
    depth[:, PATCH.shape[1] // 2 :] = 2.0
    field = FilteredField(act_like(PATCH, depth=depth), *centre(), ACT)
    step = PATCH.shape[1] // 2
    row, column = np.indices((field.n, field.n))
    _, at = PATCH.grid.pixels(field.directions(row, column)[0])
    for theta, least in ((0.5, 1.15), (2.0, 1.1)):
        snr, local = field.snr_map(theta)[0], field.local_error(theta)
        assert local is not None
        sides = [field.valid & (at < step - 8), field.valid & (at > step + 8)]
        shallow, deep = (snr[side].std() for side in sides)
        assert shallow == pytest.approx(1.0, abs=0.04) and deep == pytest.approx(1.0, abs=0.04)
        uniform = snr * local
        assert uniform[sides[0]].std() / uniform[sides[1]].std() > least, "what one error for both would give"
    maps = filter_sky(act_like(PATCH, depth=depth), (1.0,), instrument=ACT, threads=1)
    table = tabulate_noise(maps.noise)
    smallest = table[table["theta500_arcmin"] == NOISE_THETA500_ARCMIN[0]]
    assert smallest["area_deg2"].sum() == pytest.approx(3.4**2, rel=0.1)
    errors = np.asarray(smallest["y500_err_arcmin2"])
    assert 1.2 < errors.max() / errors.min() < 1.6


def test_gaps_are_filled_and_left_out(noise: MapSet) -> None:
    """A disc of 4 arcmin that was not observed: nothing is searched there, all is as before some beams away."""
    depth = np.ones(PATCH.shape)
    i, j = np.indices(PATCH.shape)
    hole = np.hypot(i - 300, j - 200) < 8
    depth[hole] = 0.0
    field = FilteredField(act_like(PATCH, depth=depth), *centre(), ACT)
    at = field.pixels(PATCH.grid.directions(300.0, 200.0))
    distance = np.hypot(*np.indices((field.n, field.n)) - np.array(at)[:, None, None]) * PIXEL_ARCMIN
    assert not field.valid[distance < 4 + 2 * FWHM_ARCMIN[0] - 1].any()
    # and what a spline feels of them, 7 pixels by 7
    assert field.valid[(distance > 4 + 2 * FWHM_ARCMIN[0] + 2.5) & (distance < 30)].all()
    assert abs(field.snr_map(1.0)[0][distance < 30]).max() < 5


def test_band_that_is_missing_in_half_of_the_sky() -> None:
    """Fields have the bands that cover them; the state says which, and is continued from."""
    wide, half = Patch(9.0, 3.0), np.ones(Patch(9.0, 3.0).shape)
    half[:, half.shape[1] // 2 :] = 0.0
    whole, part = act_like(wide, bands=(0, 1), depth=1.0), act_like(wide, bands=(2,), depth=half)
    maps = MapSet.of(*whole.groups, *part.groups)
    filtered = filter_sky(maps, (1.0,), instrument=ACT, threads=1)
    used = np.array([~np.isnan(state.unit) for state in filtered.states.values()])
    assert used[:, :2].all() and 0 < used[:, 2].sum() < len(used)
    snr = filtered.maps.snr
    assert snr is not None and snr.nside == 8192 and snr.values.shape[1] == 1
    both = np.isfinite(snr.values[:, 0])
    assert both.sum() * healpy.nside2pixarea(8192, degrees=True) > 0.8 * 27
    searched = filtered.noise.ipix[np.isfinite(filtered.noise.values[:, 0])]
    inside = np.isin(healpy.vec2pix(256, *healpy.pix2vec(8192, snr.ipix)), searched)
    assert snr.values[inside & both].std() == pytest.approx(0.93, abs=0.04)  # a little less between pixels
    for pixel, lon_deg, lat_deg in list_fields(maps):
        state = filtered.states[int(pixel)]
        again = FilteredField(maps, float(lon_deg), float(lat_deg), ACT, known=state)
        assert np.array_equal(again.columns, np.flatnonzero(~np.isnan(state.unit)))
        assert again.state.inverse == pytest.approx(state.inverse)
        break
    assert add_snr_maps(maps, (1.0,), instrument=ACT, noise=filtered.states, threads=1).snr is not None


def test_healpix_beside_car(noise: MapSet) -> None:
    """A band such as Planck's 143 at nside 1024 in the same filter: fluxes stay, and large clusters gain."""
    nside, theta = 1024, 8.0
    table = PATCH.add_lonlat(clusters(theta, 9, 2e-3))
    planck = Band("143", 143.0, 7.3, "K_CMB")
    column = HFI.band_names.index("143")
    values = np.zeros((12 * nside**2, 1), np.float32)
    vector = healpy.ang2vec(*centre(), lonlat=True)
    disc = healpy.query_disc(nside, vector, np.radians(7))
    pixel_arcmin = healpy.nside2resol(nside, arcmin=True)
    values[disc] = np.random.default_rng(5).normal(0, 33e-6 / pixel_arcmin, (len(disc), 1))
    footprint = np.zeros(len(values), bool)
    footprint[disc] = True
    empty = SkyMaps(values.copy(), footprint, (planck,))
    paint_clusters(table, nside, [7.3], HFI.tsz_response[[column]], out=values)
    setup = Instrument(
        "joint",
        (*ACT.bands, planck),
        np.append(ACT.mjysr_per_kcmb, HFI.mjysr_per_kcmb[column]),
        np.append(ACT.tsz_kcmb, HFI.tsz_kcmb[column]),
        np.append(ACT.noise_uk_deg, HFI.noise_uk_deg[column]),
        (*ACT.details, HFI.details[column]),
    )
    # one sky without CMB, which the HEALPix band has not
    alone = act_like(PATCH, cmb=False)
    with_them = act_like(PATCH, cmb=False, clusters=table)
    joint = MapSet.of(*with_them.groups, replace(empty, values=values))
    field = FilteredField(joint, *centre(), setup)
    assert [band.name for band in field.bands] == ["f090", "f150", "f220", "143"]
    before = FilteredField(MapSet.of(*alone.groups, empty), *centre(), setup)
    vectors = PATCH.directions(table)
    difference = y500_at(field, theta, vectors) - y500_at(before, theta, vectors)
    assert difference.mean() == pytest.approx(2e-3, rel=0.02)
    without = FilteredField(alone, *centre(), setup)
    assert before.flux_error(theta) < 0.97 * without.flux_error(theta)
    assert before.flux_error(0.5) == pytest.approx(without.flux_error(0.5), rel=0.03)
    assert before.snr_map(2.0)[0][before.valid].std() == pytest.approx(1.0, abs=0.04)
