"""The survey of a likelihood: a known law of detection, patches of like noise, false candidates; and its mocks."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table
from counts_run import SNR50, WIDTH, make_noise, make_selection
from scipy.stats import norm

from szeek.counts.massfunction import CosmologyParameters, halo_counts
from szeek.counts.mocks import MockSurvey
from szeek.counts.survey import (
    DetectionModel,
    Survey,
    fixed_snr,
    group_pixels,
    highest_snr,
    interpolate_noise,
    make_survey,
)
from szeek.physics.scaling import theta500_from_mass, y500_from_mass


def make_candidates_table(n=200):
    rng = np.random.default_rng(3)
    return Table(
        {
            "GLON": rng.uniform(0, 360, n), "GLAT": rng.uniform(10, 80, n), "SNR": rng.uniform(4, 8, n),
            "PURITY": np.full(n, 0.9),
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def survey():
    return make_survey(make_selection(), np.ones(12 * 16**2, bool), make_candidates_table(), n_patches=4, origin="a")


@pytest.mark.parametrize("own_snr", [True, False])
def test_the_law_of_detection_comes_back(own_snr):
    """From each injection's own S/N, or, where it was not kept, averaged over the noise.

    1,400 injections are bright: ratios of 0.9 that scatter by 0.17 with noise give their median to 0.006, and the
    scatter of 0.15, from a mean square known to 1 %, to 0.01 / (4 x 0.15) = 0.017.
    """
    model = DetectionModel.fit(make_selection(own_snr=own_snr))
    assert model.snr50 == pytest.approx(SNR50, abs=0.12)
    assert model.width == pytest.approx(WIDTH, abs=0.12)
    assert abs(model.size_slope) < 0.15 and abs(model.dust_slope) < 0.2
    assert model.snr_factor == pytest.approx(0.9 if own_snr else 1.0, abs=0.012)
    assert model.snr_scatter_ln == pytest.approx(0.15 if own_snr else 0.0, abs=0.025)


def test_injections_count_as_the_haloes_that_they_stand_for():
    """Small clusters have 0.9 of their S/N and large ones 0.6; the sky has nine small ones for every large one.

    ln 4 / ln 20 = 0.46 of the injections are small, and 0.885 of what they stand for. If all large ones lie below,
    the median is the 0.435 quantile of the small ones: 0.9 exp(-0.163 x 0.19), with a scatter of 0.15 and noise of
    0.11.
    """
    selection = make_selection()
    table = selection.injections
    small = np.asarray(table["theta500_arcmin"]) < 4.0
    table["snr_there"] = np.where(small, 1.0, 2 / 3) * table["snr_there"]
    table["weight"] = np.where(small, 9.0, 1.0)
    evenly = DetectionModel.fit(replace(selection, injections=table[[c for c in table.colnames if c != "weight"]]))
    assert DetectionModel.fit(selection).snr_factor == pytest.approx(0.873, abs=0.02)
    assert evenly.snr_factor < 0.85
    table["weight"] = np.where(np.arange(len(table)) == 7, 1.0, 0.0)  # one of them stands for all haloes
    assert DetectionModel.fit(selection).snr_factor == evenly.snr_factor
    assert DetectionModel.fit(replace(selection, injections=table[:40])).snr_factor == 1.0  # too few are bright


def test_snr_at_a_clusters_own_place_is_lower_than_the_highest():
    """The highest of a Gaussian field near its peak: chi-square of as many degrees of freedom as are fitted.

    S/N of a one-dimensional source of unit Gaussian shape in white noise, q = 8 at its place: two further parameters,
    place and width, add 2 to its square on average.
    """
    x = np.arange(-12, 12.01, 0.5)
    rng = np.random.default_rng(1)
    places, widths = np.arange(-0.5, 0.51, 0.05), np.linspace(0.75, 1.25, 21)
    shapes = np.array([np.exp(-0.5 * ((x - a) / w) ** 2) for a in places for w in widths])
    shapes /= np.linalg.norm(shapes, axis=1)[:, None]
    own = np.exp(-0.5 * x**2) / np.linalg.norm(np.exp(-0.5 * x**2))
    data = 8 * own + rng.standard_normal((20000, x.size))
    gained = (data @ shapes.T).max(axis=1) ** 2 - (data @ own) ** 2
    assert gained.mean() == pytest.approx(2.0, abs=0.15)
    np.testing.assert_allclose(fixed_snr(highest_snr([0.0, 4.5, 50.0])), [0.0, 4.5, 50.0], atol=1e-6)
    assert fixed_snr(1.0) == 0.0


def test_completeness_of_true_q_is_that_of_snr_averaged_over_noise():
    """A sharp threshold at S/N t leaves the normal distribution: P(q + noise > t)."""
    sharp = DetectionModel(snr50=5.0, width=0.02)
    q = np.array([2.0, 4.0, 5.0, 7.0])
    expected = norm.cdf(q - 5.0)
    np.testing.assert_allclose(sharp.found_of_q(q, 5.0, 0.0), expected, atol=0.1)  # 21 nodes of a step
    soft = DetectionModel(snr50=5.0, width=1.0)
    fine = np.linspace(-8, 8, 4001)
    direct = [np.trapezoid(soft.found(x + fine, 5.0, 0.0) * norm.pdf(fine), fine) for x in q]
    np.testing.assert_allclose(soft.found_of_q(q, 5.0, 0.0), direct, atol=1e-4)


def test_patches_have_like_noise_and_equal_area():
    """The north has half the noise of the south: the better patch has no pixel worse than one of the other."""
    noise = make_noise()
    covered = np.where(np.isfinite(noise).all(axis=1), 1.0, 0.0)
    patch = group_pixels(noise, covered, 2)
    level = np.log(noise[:, 0])
    assert set(patch[covered == 0]) == {-1}
    assert level[patch == 0].max() <= level[patch == 1].min() + 1e-12
    assert abs((patch == 0).sum() - (patch == 1).sum()) <= 1


def test_noise_and_sky_of_patches(survey):
    """Both hemispheres but a cap: 97 % of the sky; noise 1.2e-4 and twice that per arcmin of size."""
    assert survey.sky_fraction.sum() == pytest.approx(survey.covered.mean(), rel=1e-12)
    np.testing.assert_allclose(survey.patch_noise_arcmin2[0], 1.2e-4 * survey.theta500_arcmin, rtol=1e-9)
    np.testing.assert_allclose(survey.patch_noise_arcmin2[-1], 2.4e-4 * survey.theta500_arcmin, rtol=1e-9)
    assert survey.n_patches == 4 and survey.area_deg2 == pytest.approx(0.97 * 41253, rel=0.02)


def test_false_candidates_are_what_purity_leaves(survey):
    """200 candidates of purity 0.9 and an SNR between 4 and 8; a fixed S/N of 4.5 is an SNR of 4.82."""
    assert survey.n_false == pytest.approx(20 * (8 - 4.822) / 4, abs=1.5)
    centres, density = survey.false_density
    assert (density * 0.25).sum() == pytest.approx(1.0) and density[centres < 4.5].max() == 0


def test_a_survey_is_read_as_it_was_written(survey, tmp_path):
    again = Survey.read(survey.write(tmp_path / "survey.fits"))
    assert again.detection == survey.detection and again.cosmology == survey.cosmology and again.origin == "a"
    for name in ("theta500_arcmin", "covered", "patch", "false_counts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(survey, name))
    np.testing.assert_array_equal(np.isfinite(again.noise_arcmin2), np.isfinite(survey.noise_arcmin2))
    Table({"A": [1]}).write(tmp_path / "other.fits")
    with pytest.raises(ValueError, match=r"other.fits' has PRIMARY.*expected a survey"):
        Survey.read(tmp_path / "other.fits")


def test_a_threshold_where_nothing_is_found_is_refused():
    with pytest.raises(ValueError, match="snr_min is 1, where 0% of clusters are found"):
        make_survey(make_selection(), np.ones(768, bool), make_candidates_table(), snr_min=1.0)


def test_mocks_hold_what_an_integral_of_the_model_expects(survey):
    """Sum over patches of the integral of n(M, z) P(found above 4.5 | M, z), scatter and noise by quadrature."""
    survey = replace(survey, detection=replace(survey.detection, size_slope=0.0, dust_slope=0.0))
    mock = MockSurvey(survey)
    drawn = [mock.draw(seed) for seed in range(6)]
    z, mass = np.geomspace(0.01, 1.5, 80), np.geomspace(0.7, 40, 400)
    counts = halo_counts(z, mass)
    zs, ms = (grid.ravel() for grid in np.meshgrid(z, mass, indexing="ij"))
    flux, size = y500_from_mass(ms, zs), theta500_from_mass(ms, zs)
    model, expected = survey.detection, 0.0
    # P(counted | q): a logistic law times a threshold, averaged over the noise
    q, snr = np.linspace(0, 15, 300), np.linspace(4.5, 25, 4000)
    counted = np.trapezoid(model.found(snr, 5.0, 0.0) * norm.pdf(snr - q[:, None]), snr, axis=1)
    x, w = np.polynomial.hermite_e.hermegauss(15)
    scatter = np.hypot(mock.relation.scatter_ln, model.snr_scatter_ln)
    for patch, sky in enumerate(survey.sky_fraction):
        sigma = interpolate_noise(survey.theta500_arcmin, survey.patch_noise_arcmin2, size, patch)
        mean = model.snr_factor * flux / sigma
        found = sum(
            b * np.interp(mean * np.exp(scatter * a), q, counted) for a, b in zip(x, w / w.sum(), strict=True)
        )
        per_z = np.trapezoid(counts * found.reshape(counts.shape), np.log(mass), axis=1)
        expected += sky * np.trapezoid(per_z, z)
    n = [len(table) for table in drawn]
    assert np.mean(n) == pytest.approx(expected, abs=3 * np.sqrt(expected / len(n)))
    patch = np.concatenate([np.asarray(table["PATCH"]) for table in drawn])
    assert (patch == 0).sum() > 1.2 * (patch == 3).sum()  # half the noise
    assert all((table["FIXED_SNR"] >= survey.snr_min).all() for table in drawn)
    np.testing.assert_allclose(drawn[0]["SNR"] ** 2 - drawn[0]["FIXED_SNR"] ** 2, 3.0)


def test_a_mock_is_its_seed_and_lies_in_its_patches(survey):
    mock = MockSurvey(survey)
    one, again, other = mock.draw(7, false=True), mock.draw(7, false=True), mock.draw(8, false=True)
    assert (one["SNR"] == again["SNR"]).all() and len(other) != len(one)
    np.testing.assert_array_equal(survey.locate(one["GLON"], one["GLAT"]), one["PATCH"])
    n_false = np.isnan(one["TRUE_M500"]).sum()
    assert abs(n_false - survey.n_false) < 4 * np.sqrt(survey.n_false)


def test_more_matter_makes_more_clusters(survey):
    few, many = (MockSurvey(survey, parameters=CosmologyParameters(sigma8=s)).n_haloes for s in (0.75, 0.85))
    assert many > 1.3 * few
