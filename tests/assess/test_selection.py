"""Completeness from injections: laws that are known beforehand come back, with their errors."""

from dataclasses import replace

import healpy
import numpy as np
import pytest
from astropy.table import Table
from scipy.special import erfc

from szeek.assess.selection import (
    NOISE_THETA500_ARCMIN,
    VARIED,
    PositionErrors,
    Selection,
    fit_position_errors,
    halo_offsets,
    judge_injections,
    match_injections,
    measure_noise,
    predicted_counts,
)
from szeek.inputs.instrument import read_instrument
from szeek.inputs.reddening import reddening_mag
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.scaling import theta500_from_mass, y500_from_mass
from szeek.sky.skymaps import SkyMaps

SIZES = np.array(NOISE_THETA500_ARCMIN)


def make_noise():
    """sigma = 1e-4 arcmin^2 at 1 arcmin, growing as the size, twice that in the south; one pixel unseen."""
    _, lat_deg = healpy.pix2ang(8, np.arange(768), lonlat=True)
    noise = 1e-4 * np.where(lat_deg < 0, 2.0, 1.0)[:, None] * SIZES[None, :]
    noise[5] = np.nan
    return noise


def law(q):
    """The usual error function: half of the clusters of q = 5, with a width of 0.4 in ln q."""
    return 0.5 * erfc(-np.log(q / 5.0) / 0.4 / np.sqrt(2))


def draw(n, seed, y=(1e-4, 1e-2)):
    rng = np.random.default_rng(seed)
    lon_deg, lat_deg = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    flux, size = (np.exp(rng.uniform(np.log(a), np.log(b), n)) for a, b in (y, (1.0, 20.0)))
    noise = make_noise()[healpy.ang2pix(8, lon_deg, lat_deg, lonlat=True), 0] * size
    table = Table({"lon_deg": lon_deg, "lat_deg": lat_deg, "y500_arcmin2": flux, "theta500_arcmin": size})
    table["noise_arcmin2"] = noise
    table["found"] = rng.random(n) < np.nan_to_num(law(flux / noise))
    return table[np.isfinite(noise)]


@pytest.fixture(scope="module")
def selection():
    table = draw(20_000, 1)
    table["p"] = np.where(table["found"], 0.9, np.nan)
    table["offset_arcmin"] = np.where(table["found"], 1.0, np.nan)
    return Selection(table, SIZES, make_noise(), 0.1)


def test_noise_is_interpolated_in_size_and_looked_up_in_position(selection):
    """sigma grows as the size: 3 arcmin, between the nodes 2 and 4, has 3e-4 in the north and 6e-4 in the south."""
    north, south = (int(healpy.ang2pix(8, 100.0, lat, lonlat=True)) for lat in (50.0, -50.0))
    np.testing.assert_allclose(selection.noise(3.0, [north, south]), [3e-4, 6e-4], rtol=1e-12)


@pytest.mark.parametrize("lat_deg", [40.0, -40.0])
def test_the_law_comes_back(selection, lat_deg):
    """At 6 arcmin q is Y500 / 6e-4 in the north and half of it in the south; bins smooth by a few per cent."""
    flux = np.geomspace(5e-4, 9e-3, 12)
    value, low, high, _ = selection.completeness(flux, 6.0, 100.0, lat_deg)
    expected = law(flux / (6e-4 if lat_deg > 0 else 1.2e-3))
    assert np.abs(value - expected).max() < 0.07
    assert np.all(low <= value) and np.all(value <= high) and np.all(np.diff(value) >= 0)


def test_unseen_sky_has_no_completeness(selection):
    lon_deg, lat_deg = healpy.pix2ang(8, 5, lonlat=True)
    assert np.isnan(selection.completeness(1e-2, 5.0, lon_deg, lat_deg).value)
    assert selection.area_deg2(1.0, 1.0) == pytest.approx(767 / 768 * 41252.96, rel=1e-6)


def test_area_is_the_northern_half_where_only_that_is_deep_enough(selection):
    """Size 6: q = 6.7 in the north, found in 77 %, and 3.3 in the south, found in 16 %."""
    area = selection.area_deg2(4e-3, 6.0, at_least=0.5)
    _, lat_deg = healpy.pix2ang(8, np.arange(768), lonlat=True)
    north = (lat_deg >= 0) & (np.arange(768) != 5)
    assert area == pytest.approx(north.sum() * 41252.96 / 768, rel=1e-6)


def test_counts_of_a_fresh_sky_are_predicted(selection):
    """Other clusters under the same law: chi-square of six bins of flux above its 1 % quantile, 16.8."""
    counts = predicted_counts(selection, draw(4000, 2), np.geomspace(1e-4, 1e-2, 7))
    chi2 = float((((counts["n_found"] - counts["expected"]) ** 2) / counts["variance"]).sum())
    assert len(counts) == 6 and counts["n"].sum() > 3900
    assert chi2 < 16.8


def test_variance_of_predicted_counts():
    """By resampling one set of injections: the scatter over sets, beside the sky's own binomial one."""
    clusters, edges = draw(2000, 2), [4e-4, 2e-3]
    one, expected = [], []
    for seed in range(40):
        table = draw(1500, 100 + seed)
        table["p"] = np.where(table["found"], 0.9, np.nan)
        counts = predicted_counts(Selection(table, SIZES, make_noise(), 0.1), clusters, edges, n_bootstrap=40)
        expected.append(float(counts["expected"][0]))
        one.append(float(counts["variance"][0]))
    inside = clusters[(clusters["y500_arcmin2"] >= edges[0]) & (clusters["y500_arcmin2"] < edges[1])]
    value = law(np.asarray(inside["y500_arcmin2"]) / np.asarray(inside["noise_arcmin2"]))
    scatter = np.var(expected) + float((value * (1 - value)).sum())
    assert np.mean(one) == pytest.approx(scatter, rel=0.35)  # a variance of 40 values is known to 22 per cent


def test_mock_has_as_many_as_expected(selection):
    clusters = draw(5000, 3)
    mock = selection.draw_found(clusters, seed=1)
    value = selection.completeness(*(clusters[name] for name in
                                     ("y500_arcmin2", "theta500_arcmin", "lon_deg", "lat_deg"))).value  # fmt: skip
    assert abs(len(mock) - value.sum()) < 4 * np.sqrt((value * (1 - value)).sum())
    assert len(selection.draw_found(clusters, seed=1)) == len(mock)
    assert mock["completeness"].min() > 0


def test_chance_is_taken_out():
    """A finder that reports 10 % of all positions finds nothing: 0.1 + 0.9 x 0 becomes 0, and 1 stays 1."""
    table = draw(4000, 4)
    rng = np.random.default_rng(5)
    table["p"] = np.where(rng.random(len(table)) < 0.1, 0.5, np.nan)
    nothing = Selection(table, SIZES, make_noise(), 0.1, chance=0.1)
    assert nothing.completeness(1e-3, 5.0, 10.0, 20.0).value < 0.03
    table["p"] = 0.5
    everything = Selection(table, SIZES, make_noise(), 0.1, chance=0.1)
    assert everything.completeness(1e-3, 5.0, 10.0, 20.0).value == 1.0


def test_few_injections_give_fewer_ranges_of_size():
    """Of 45 all above 30 sigma and found: one range, and completeness 1; none of 45 found: 0; 400 fill two ranges."""
    table = draw(60, 6, y=(0.08, 0.2))[:45]
    for p, expected in ((0.9, 1.0), (np.nan, 0.0)):
        table["p"] = p
        few = Selection(table, SIZES, make_noise(), 0.1)
        assert [len(curve[1]) for curve in few._curves] == [4]
        np.testing.assert_allclose(few.completeness(0.1, [1.5, 15.0], 10.0, 20.0).value, expected)
    more = draw(400, 6)
    more["p"] = 0.9
    assert [len(curve[1]) for curve in Selection(more, SIZES, make_noise(), 0.1)._curves] == [5, 5]


def test_mass_and_redshift_go_through_the_scaling_relations(selection):
    """One seen pixel: the mean over the sky is the value there."""
    noise = np.full((768, len(SIZES)), np.nan)
    noise[100] = make_noise()[100]
    one = Selection(selection.injections, SIZES, noise, 0.1)
    mass, z = np.array([4.0, 9.0]), np.array([0.2, 0.2])
    cube = selection.completeness_cube(y500_from_mass(mass, z), theta500_from_mass(mass, z))
    expected = np.diag(cube.value[100])
    np.testing.assert_allclose(one.completeness_of_mass(mass, z), expected)
    assert expected[1] > expected[0]


def test_file_round_trip(selection, tmp_path):
    again = Selection.read(selection.write(tmp_path / "selection.fits"))
    query = (2e-3, 5.0, [10.0, 200.0], [30.0, -60.0])
    np.testing.assert_allclose(again.completeness(*query).value, selection.completeness(*query).value, rtol=1e-5)
    cube = again.completeness_cube([1e-3, 1e-2], SIZES)
    assert cube.value.shape == (768, len(SIZES), 2) and np.isnan(cube.value[5]).all()
    assert again.p_max == 0.1 and not list(tmp_path.glob(".*"))


def test_judging_by_hand():
    """Three kinds: found 1 arcmin away; a source 6 arcmin away is none of a compact cluster's, but of an extended
    one's of 0.6 x 20 arcmin; one of the third kind had a source before."""
    injections = Table({"lon_deg": [10.0, 20.0, 30.0] * 7, "lat_deg": np.repeat(np.arange(7) * 5.0, 3),
                        "y500_arcmin2": [1e-3] * 21, "theta500_arcmin": [2.0, 2.0, 20.0] * 7})  # fmt: skip
    sources = injections["lon_deg", "lat_deg"].copy()
    sources["lat_deg"] += np.tile([1.0, 6.0, 6.0], 7) / 60
    sources["p"] = np.tile([0.9, 0.8, 0.7], 7)
    before = sources[2:3]
    judged = judge_injections(match_injections(injections, sources), before, make_noise(), 0.1)
    table = judged.injections
    assert np.isfinite(table["p"]).reshape(7, 3).all(axis=0).tolist() == [True, False, True]
    np.testing.assert_allclose(table["offset_arcmin"][:3], [1.0, np.nan, 6.0], atol=1e-6)
    assert judged.chance == pytest.approx(1 / 21)
    with pytest.raises(ValueError, match="0 injections lie where the noise is known, expected at least 20"):
        judge_injections(match_injections(injections, sources), before, np.full((768, len(SIZES)), np.nan), 0.1)


def test_bad_query_is_refused(selection):
    with pytest.raises(ValueError, match="must be positive everywhere"):
        selection.completeness(-1e-3, 5.0, 0.0, 0.0)


def test_position_errors_hold_what_they_say():
    """Rayleigh offsets of sigma = 2 - p arcmin: 68.3 % within 1.516 sigma, 95.4 % within 2.481 sigma."""
    rng = np.random.default_rng(1)

    def offsets(n):
        p = rng.uniform(0.1, 1, n)
        return Table({"p": p, "offset_arcmin": rng.rayleigh(2 - p), "y500_arcmin2": np.full(n, 1e-3),
                      "theta500_arcmin": np.full(n, 5.0)})  # fmt: skip

    errors = PositionErrors.from_table(fit_position_errors(offsets(20_000)).to_table())
    np.testing.assert_allclose(errors.predict(0.5)[0], 1.516 * 1.5, rtol=0.06)
    fresh = offsets(5000)
    for radius, share in zip(errors.predict(fresh["p"]), (0.683, 0.954), strict=True):
        assert abs((fresh["offset_arcmin"] < radius).mean() - share) < 0.02


def test_position_errors_are_those_of_the_population():
    """Half of the injections are large and 4 arcmin off, half small and 1 arcmin off; a sky of small ones says 1."""
    n = 4000
    size = np.where(np.arange(n) % 2 == 0, 1.0, 20.0)
    table = Table({"p": np.linspace(0.1, 1, n), "offset_arcmin": np.where(size > 5, 4.0, 1.0),
                   "y500_arcmin2": np.full(n, 1e-3), "theta500_arcmin": size})  # fmt: skip
    sky = Table({"y500_arcmin2": np.full(50, 1e-3), "theta500_arcmin": np.full(50, 1.0)})
    assert fit_position_errors(table).predict(0.5)[0] == pytest.approx(4.0)
    assert fit_position_errors(table, sky).predict(0.5)[0] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="19 clusters were found, expected at least 20"):
        fit_position_errors(table[:19])


def test_chance_matches_do_not_widen_position_errors():
    """Every second halo has a source at Rayleigh offsets of 0.8 arcmin: 68.3 and 95.4 % within 1.516 and 2.481 sigma.
    A tenth of all positions, and so of the other haloes, has a false source of low p within 5 arcmin."""
    rng = np.random.default_rng(8)
    lon_deg, lat_deg = (grid.ravel() for grid in np.meshgrid(np.arange(0, 100.0), np.arange(-30, 30.0)))
    haloes = Table({"lon_deg": lon_deg, "lat_deg": lat_deg, "theta500_arcmin": np.full(lon_deg.size, 4.0)})
    seen = rng.random(len(haloes)) < 0.5

    def near(table, radius_arcmin):
        angle = rng.uniform(0, 2 * np.pi, len(table))
        lat = table["lat_deg"] + radius_arcmin / 60 * np.sin(angle)
        return table["lon_deg"] + radius_arcmin / 60 * np.cos(angle) / np.cos(np.radians(lat)), lat

    own = near(haloes[seen], rng.rayleigh(0.8, seen.sum()))
    n = round(0.1 / (np.pi * 5**2) * 3600 * len(haloes))  # a tenth of a source in a disc of 5 arcmin
    other = rng.uniform(-0.5, 99.5, n), rng.uniform(-30.5, 29.5, n)
    sources = Table({"lon_deg": np.append(own[0], other[0]), "lat_deg": np.append(own[1], other[1])})
    sources["p"] = np.append(rng.uniform(0.1, 0.9, seen.sum()), rng.uniform(0.1, 0.3, n))
    found = halo_offsets(sources, haloes, seed=3)
    assert found["weight"].sum() == pytest.approx(seen.sum(), rel=0.06)
    low = np.linspace(0.12, 0.28, 50)
    r68, r95 = (r.mean() for r in fit_position_errors(found).predict(low))
    assert r68 == pytest.approx(1.516 * 0.8, rel=0.12) and r95 == pytest.approx(2.481 * 0.8, rel=0.2)
    with_chance = fit_position_errors(found[found["weight"] > 0])
    assert with_chance.predict(low)[1].mean() > 1.7 * r95


def test_noise_of_white_maps_falls_with_the_number_of_pixels():
    """Twice the noise in every band is twice the error of Y500, at every size; larger clusters have larger errors."""
    instrument = read_instrument()
    rng = np.random.default_rng(3)
    scale = np.array([1e-5, 1e-5, 1e-5, 3e-5, 0.02, 0.02])
    values = (rng.normal(size=(12 * 128**2, 6)) * scale).astype(np.float32)
    pixels = healpy.query_disc(128, healpy.ang2vec(40.0, 30.0, lonlat=True), np.radians(2.0))
    seen = np.zeros(len(values), bool)
    seen[healpy.query_disc(128, healpy.ang2vec(40.0, 30.0, lonlat=True), np.radians(8.0))] = True
    one, two = (measure_noise(SkyMaps(v, seen, instrument.bands), instrument, (10.0, 30.0)) for v in
                (values, 2 * values))  # fmt: skip
    here = int(healpy.ang2pix(8, 40.0, 30.0, lonlat=True))
    assert len(pixels) and np.isfinite(one[here]).all()
    np.testing.assert_allclose(two[here], 2 * one[here], rtol=1e-3)
    assert one[here, 1] > one[here, 0] and Y5R500_PER_Y500 == 1.79


def test_what_looks_change_comes_back():
    """Found with a logit that rises by 0.5 per unit of dust; the look at hand has 0.5 more than the injections."""
    table = draw(20_000, 4)
    rng = np.random.default_rng(5)
    for name in VARIED.values():
        table[name] = rng.uniform(0, 2, len(table))
    table["profile_balance"] -= 1.0
    q = np.asarray(table["y500_arcmin2"]) / np.asarray(table["noise_arcmin2"])
    logit = np.log(law(q) / (1 - law(q) + 1e-9) + 1e-9) + 0.5 * (np.asarray(table["dust_factor"]) - 1.0)
    found = rng.random(len(table)) < 1 / (1 + np.exp(-logit))
    table["p"] = np.where(found, 0.9, np.nan)
    look = Table({"name": list(VARIED), "mean": [1.5, 1.0, 1.0, 0.0], "error": [0.25, 0.0, 0.0, 0.0]})
    varied = Selection(table, SIZES, make_noise(), 0.1, look=look)
    np.testing.assert_allclose(varied.slopes["slope"], [0.5, 0, 0, 0, 0], atol=0.13)
    # 5 noise units at 6 arcmin in the north: half of them, at the injections' mean look
    even = replace(varied, look=None).completeness(3e-3, 6.0, 100.0, 40.0)
    dusty = varied.completeness(3e-3, 6.0, 100.0, 40.0)
    odds = even.value / (1 - even.value) * np.exp(varied.slopes["shift"].sum())
    assert dusty.value == pytest.approx(odds / (1 + odds), abs=2e-3)  # the slope of the reddening is another one
    # 0.25 in the logit are 0.0625 at one half
    assert dusty.value - even.value == pytest.approx(0.0625, abs=0.02)
    # the error of the mean dust, 0.25, is 0.125 in the logit
    assert even.systematic < 6e-3 and dusty.systematic == pytest.approx(
        0.125 * dusty.value * (1 - dusty.value), rel=0.25
    )


def test_dust_lowers_completeness():
    """Found with a logit that falls by 0.4 per e-fold of reddening: as many as there are in clear and dusty sky."""
    table, sky = draw(20_000, 7), draw(6000, 8)
    for one, seed in ((table, 9), (sky, 10)):
        dust = np.log(reddening_mag(one["lon_deg"], one["lat_deg"]) + 0.03)
        q = np.asarray(one["y500_arcmin2"]) / np.asarray(one["noise_arcmin2"])
        logit = np.log(law(q) / (1 - law(q) + 1e-9) + 1e-9) - 0.4 * (dust + 2.0)
        one["found"] = np.random.default_rng(seed).random(len(one)) < 1 / (1 + np.exp(-logit))
    table["p"] = np.where(table["found"], 0.9, np.nan)
    selection = Selection(table, SIZES, make_noise(), 0.1)
    # shallower: the curve in q that it stands beside is the mean of clear and dusty sky
    assert -0.4 < float(selection.slopes["slope"][-1]) < -0.25
    reddening = reddening_mag(sky["lon_deg"], sky["lat_deg"])
    for part in (reddening < 0.05, reddening > 0.5):
        counts = predicted_counts(selection, sky[part], (1e-4, 1e-2), n_bootstrap=20)
        assert abs(counts["n_found"][0] - counts["expected"][0]) < 3 * np.sqrt(counts["variance"][0])


def test_look_is_kept_in_the_file(tmp_path):
    table = draw(200, 6)
    table["p"] = np.where(table["found"], 0.9, np.nan)
    table["offset_arcmin"] = 1.0
    for name in VARIED.values():
        table[name] = np.linspace(-1, 1, len(table))
    look = Table({"name": list(VARIED), "mean": np.ones(4), "error": np.full(4, 0.1)})
    one = Selection(table, SIZES, make_noise(), 0.1, look=look)
    other = Selection.read(one.write(tmp_path / "selection.fits"))
    query = 3e-3, 6.0, 100.0, 40.0
    np.testing.assert_allclose(other.completeness(*query), one.completeness(*query), rtol=1e-5)
