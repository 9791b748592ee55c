"""Fluxes with the population as prior, and their correction."""

import math

import numpy as np
import pytest
from astropy.table import Table, vstack
from noise_field import HFI

from szeek.measure.fluxes import (
    TEMPERATURES_KEV,
    FluxCorrection,
    Population,
    count_haloes,
    deproject,
    fit_flux_correction,
    halo_population,
    infer_flux,
)
from szeek.measure.photometry import SIZES_ARCMIN, list_spectra
from szeek.physics.gas import Y5R500_PER_Y500, profile_transform, y5r500_per_y500
from szeek.physics.scaling import MASS_BIAS, electron_temperature_kev, theta500_from_mass, y500_from_mass

SPECTRA = list_spectra(HFI, HFI.band_names)
N = SIZES_ARCMIN.size
N_FLUX = halo_population(tuple(SIZES_ARCMIN)).log_number.shape[1]
SIZES = tuple(SIZES_ARCMIN.tolist())


def one_size(flux: float, snr: float, kev: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """v and M of a noiseless cluster of gas of this temperature; all sizes look alike."""
    hot = SPECTRA.hot[round(kev * 10)]
    error = flux / snr * np.sqrt(6) * np.abs(SPECTRA.tsz)
    m = np.broadcast_to(np.diag(error**-2), (1, N, 6, 6))
    return np.einsum("pkbc,c->pkb", m, flux * hot), m


def flat(kev: float = 0.0, slope: float = 0.0) -> Population:
    log_flux = np.linspace(0.0, 1.0, N_FLUX) * np.log(3.0 / (Y5R500_PER_Y500 * 3e-4))
    return Population(np.tile(-slope * log_flux, (N, 1)), np.full((N, N_FLUX), round(kev * 10), np.int64))


def test_flux_of_hot_gas() -> None:
    v, m = one_size(5e-3, 100.0, 10.0)
    ratio = SPECTRA.hot[100] / SPECTRA.tsz
    hot = infer_flux(v, m, SPECTRA.hot, SIZES_ARCMIN, flat(10.0))
    assert hot.flux == pytest.approx(5e-3, rel=2e-3)
    assert hot.error == pytest.approx(5e-5 / np.sqrt((ratio**2).mean()), rel=2e-2)
    # without the correction: the mean of the bands' ratios, all equally certain
    cold = infer_flux(v, m, SPECTRA.hot, SIZES_ARCMIN, flat(0.0))
    assert cold.flux == pytest.approx(5e-3 * ratio.mean(), rel=2e-3) and abs(ratio.mean() - 1) > 0.02
    assert hot.weight.sum() == pytest.approx(1.0) and hot.theta500_arcmin == pytest.approx(np.sqrt(0.9 * 60.0))


def test_prior_by_direct_integration() -> None:
    """Faint haloes are more frequent: dN/dlnY ~ Y^-1.5 makes a cluster of S/N 5 fainter."""
    v, m = one_size(5e-3, 5.0)
    found = infer_flux(v, m, SPECTRA.hot, SIZES_ARCMIN, flat(slope=1.5))
    log_y = np.linspace(np.log(Y5R500_PER_Y500 * 3e-4), np.log(3.0), 200_001)
    p = np.exp(-1.5 * log_y - 0.5 * ((np.exp(log_y) - 5e-3) / 1e-3) ** 2)
    mean = (p @ np.exp(log_y)) / p.sum()
    sigma = np.sqrt((p @ np.exp(2 * log_y)) / p.sum() - mean**2)
    assert found.flux == pytest.approx(mean, rel=2e-3) and found.error == pytest.approx(sigma, rel=5e-3)
    assert mean < 4.8e-3


def test_sizes_of_other_data_decide() -> None:
    """A tenth of the weight at a size that sees half of the flux: its v is half as large."""
    v, m = one_size(5e-3, 100.0)
    v = np.where(np.arange(N)[:, None] == 3, 0.5 * v, v)
    weight = np.zeros((1, N))
    weight[0, [3, 8]] = 0.1, 0.9
    found = infer_flux(v, m, SPECTRA.hot, SIZES_ARCMIN, flat(), weight)
    assert found.flux == pytest.approx(0.95 * 5e-3, rel=2e-3) and found.weight[0, 8] == pytest.approx(0.9)
    assert found.error == pytest.approx(5e-3 * 0.5 * 0.3, rel=0.02)


def test_population_is_on_the_mean_relations() -> None:
    """At one redshift, flux and size are those of one mass: 6e14 Msun at 0.2."""
    mass, z = np.array([6.0]), np.array([0.2])
    flux, size = y500_from_mass(mass, z)[0], theta500_from_mass(mass, z)[0]
    haloes = halo_population(SIZES, 0.2)
    column = round((N_FLUX - 1) * np.log(flux / 3e-4) / np.log(3.0 / (Y5R500_PER_Y500 * 3e-4)))
    log_number = haloes.log_number[:, column]
    weight = np.exp(log_number - log_number.max())
    typical = np.exp(weight @ np.log(SIZES_ARCMIN) / weight.sum())
    # fainter ones are more frequent: scattered up to this flux they are 3 % smaller
    assert typical == pytest.approx(size, rel=0.05)
    kev = TEMPERATURES_KEV[haloes.temperature[int(log_number.argmax()), column]]
    assert kev == pytest.approx(electron_temperature_kev(MASS_BIAS * mass, z)[0], rel=0.05)


def test_number_of_haloes() -> None:
    """The simulated sky of seed 3 has 830 above 1e-3 arcmin^2 and 155 above 3e-3, 121 of these of 8 to 30 arcmin."""
    flux, size = np.geomspace(3e-4, 1.0, 401), np.geomspace(0.6, 90.0, 201)
    number = count_haloes(flux, size[:, None]) * np.log(flux[1] / flux[0]) * np.log(size[1] / size[0])
    assert number[:, flux > 1e-3].sum() == pytest.approx(830, rel=0.1)
    assert number[:, flux > 3e-3].sum() == pytest.approx(155, rel=0.15)
    assert number[(size > 8) & (size < 30)][:, flux > 3e-3].sum() == pytest.approx(121, rel=0.2)
    assert count_haloes(2e-4, 5.0) == 0.0


def test_fainter_haloes_of_narrow_beams() -> None:
    """With 6e-5 arcmin^2 for the faintest, what is above 3e-4 stays, and a cluster of 1e-4 is not made three times
    as bright."""
    least = 6e-5
    wide, deep = halo_population(SIZES), halo_population(SIZES, least_y500_arcmin2=least)
    n_more = deep.log_flux.size - wide.log_flux.size
    np.testing.assert_allclose(deep.log_flux[n_more:], wide.log_flux, rtol=1e-12)
    np.testing.assert_allclose(deep.log_number[:, n_more:], wide.log_number, rtol=1e-12)
    np.testing.assert_allclose(np.diff(deep.log_flux), np.diff(wide.log_flux)[0], rtol=1e-9)
    assert math.log(0.98 * least) < deep.log_flux[0] - math.log(Y5R500_PER_Y500) <= math.log(least)
    assert count_haloes(1e-4, 2.0, least) > count_haloes(3e-4, 2.0, least) == count_haloes(3e-4, 2.0) > 0
    v, m = one_size(Y5R500_PER_Y500 * 1e-4, 20.0, 3.0)
    flux = {name: infer_flux(v, m, SPECTRA.hot, SIZES_ARCMIN, population).flux / (Y5R500_PER_Y500 * 1e-4)
            for name, population in (("wide", wide), ("deep", deep))}  # fmt: skip
    assert flux["deep"] == pytest.approx(1.0, abs=0.05) and flux["wide"] > 2.9


def test_deprojected_amplitude_is_that_of_a_fit_together() -> None:
    rng = np.random.default_rng(4)
    root = rng.standard_normal((3, 6, 6)) / np.abs(SPECTRA.tsz)[:, None]
    information = root @ root.swapaxes(-1, -2)
    data = rng.standard_normal((3, 6)) * np.abs(SPECTRA.tsz)
    v = np.einsum("kbc,kc->kb", information, data)
    left, power = deproject(v, information, SPECTRA.members)
    np.testing.assert_allclose(np.einsum("kbc,sc->kbs", power, SPECTRA.members) / power.max(), 0.0, atol=1e-8)
    for k in range(3):
        half = np.linalg.cholesky(information[k]).T
        design = np.vstack([SPECTRA.tsz, SPECTRA.members]) @ half.T
        design /= (scale := np.linalg.norm(design, axis=1))[:, None]
        expected, *_ = np.linalg.lstsq(design.T, half @ data[k], rcond=None)
        strength = SPECTRA.tsz @ power[k] @ SPECTRA.tsz
        assert left[k] @ SPECTRA.tsz / strength == pytest.approx(expected[0] / scale[0], rel=1e-6)
        assert strength == pytest.approx(scale[0] ** 2 / np.linalg.inv(design @ design.T)[0, 0], rel=1e-6)


def test_posterior_of_the_population_is_calibrated() -> None:
    """Clusters drawn from the population, seen through a beam in white noise: unbiased, and pulls of width one."""
    rng = np.random.default_rng(5)
    haloes = halo_population(SIZES)
    p = np.exp(haloes.log_number).ravel()
    size, column = np.divmod(rng.choice(p.size, 500, p=p / p.sum()), N_FLUX)
    flux = Y5R500_PER_Y500 * 3e-4 * (3.0 / (Y5R500_PER_Y500 * 3e-4)) ** (column / (N_FLUX - 1))
    ell = np.arange(40.0, 6000.0, 40.0)
    beam = np.exp(-0.5 * (ell * np.radians(6 / 60) / 2.355) ** 2)
    shape = profile_transform(ell * np.radians(SIZES_ARCMIN[:, None] / 60)) * beam
    # sigma of a point's flux is 2e-4 arcmin^2
    weight = ell / (ell @ beam**2) / 2e-4**2
    one = np.zeros(6)
    one[1] = 1.0
    m = (shape**2 @ weight)[:, None, None] * np.outer(one, one) / SPECTRA.tsz[1] ** 2
    means, sigmas = np.empty((2, 500))
    for k in range(500):
        cold = SPECTRA.hot[haloes.temperature[size[k], column[k]], 1] / SPECTRA.tsz[1]
        seen = flux[k] * cold * shape[size[k]] * weight + rng.standard_normal(ell.size) * np.sqrt(weight)
        v = (shape @ seen)[:, None] * one / SPECTRA.tsz[1]
        means[k], sigmas[k], *_ = infer_flux(v[None], m[None], SPECTRA.hot, SIZES_ARCMIN, haloes)
    pull = (flux - means) / sigmas
    assert abs(pull.mean()) < 0.13 and pull.std() == pytest.approx(1.0, abs=0.1)
    # in bins of what was measured, as a posterior has it
    for mine in np.array_split(np.argsort(means), 3):
        assert abs((flux - means)[mine].sum()) < 3 * np.sqrt((sigmas[mine] ** 2).sum())


def as_measured(n: int, seed: int, redshift: bool = False) -> tuple[Table, Table]:
    """Fluxes 1 / 0.9 of the truth (1 / 0.95 with a redshift), constrained 0.8 of these.

    Errors are 0.8 of the scatter at 5 arcmin, 0.4 at 20.
    """
    rng = np.random.default_rng(seed)
    true = Y5R500_PER_Y500 * 3e-4 * np.exp(rng.exponential(0.7, n))
    error = 1.5e-4 * np.exp(0.3 * rng.standard_normal(n))
    flux = (true + error * rng.standard_normal(n)) / (0.95 if redshift else 0.9)
    measured = Table({"population_y5r500_arcmin2": flux})
    measured["population_theta500_arcmin"] = 5.0 * np.exp(rng.uniform(np.log(0.5), np.log(4.0), n))
    measured["population_y5r500_err_arcmin2"] = (
        0.8 * error / 0.9 / np.sqrt(measured["population_theta500_arcmin"] / 5)
    )
    measured["snr"] = np.maximum(true / error + rng.standard_normal(n), 2.0)
    measured["z"] = np.full(n, 0.2 if redshift else np.nan)
    measured["kind"] = "cluster"
    for name in ("arcmin2", "err_arcmin2"):
        measured[f"constrained_y5r500_{name}"] = 0.8 * measured[f"population_y5r500_{name}"]
    return measured, Table({"y500_arcmin2": true / Y5R500_PER_Y500})


def test_correction_is_what_was_put_in(tmp_path) -> None:  # type: ignore[no-untyped-def]
    measured, truth = as_measured(20_000, 1)
    correction = fit_flux_correction(measured, truth)
    assert correction.snr.size == 8 and (np.diff(correction.factor) >= 0).all()
    np.testing.assert_allclose(correction.factor, 0.9, rtol=0.02)
    assert correction.redshift_factor == 1.0 and correction.constrained_factor == pytest.approx(1.25, rel=0.02)
    assert correction.error_scale == pytest.approx(1 / 0.8, rel=0.03)
    assert correction.error_slope == pytest.approx(0.5, abs=0.05)
    # of cool-core clusters 1.62 times Y500 is in 5 R500, not 1.79
    cool = fit_flux_correction(measured, Table({**truth, "profile": ["cool-core"] * len(truth)}))
    np.testing.assert_allclose(cool.factor, correction.factor * y5r500_per_y500("cool-core") / Y5R500_PER_Y500)
    # what lies under a radio source tells nothing
    measured["kind"][::2] = "radio"
    measured["population_y5r500_arcmin2"][::2] = 1.0
    np.testing.assert_allclose(fit_flux_correction(measured, truth).factor, 0.9, rtol=0.03)
    correction.to_table().write(tmp_path / "fluxes.ecsv")
    again = FluxCorrection.from_table(Table.read(tmp_path / "fluxes.ecsv"))
    others, true = as_measured(20_000, 2)
    flux, error = again.correct(others)
    pull = (flux - Y5R500_PER_Y500 * np.asarray(true["y500_arcmin2"])) / error
    assert abs(np.median(pull)) < 0.05 and np.percentile(pull, [16, 84]) == pytest.approx([-1, 1], abs=0.06)


def test_correction_beyond_its_range_and_without_a_flux() -> None:
    correction = FluxCorrection(np.array([4.0, 16.0]), np.array([0.8, 1.0]), 1.1, 0.7, 1.5, 1.0)
    measured = Table({"snr": [1.0, 8.0, 40.0, 8.0, np.nan], "z": [np.nan, np.nan, np.nan, 0.1, np.nan]})
    measured["population_y5r500_arcmin2"] = [1.0, 1.0, 1.0, 1.0, np.nan]
    measured["population_y5r500_err_arcmin2"] = 0.1
    measured["population_theta500_arcmin"] = [5.0, 10.0, 1.0, 40.0, np.nan]
    flux, error = correction.correct(measured)
    # ln 8 lies midway between ln 4 and ln 16; errors go with size between 2 and 20 arcmin
    np.testing.assert_allclose(flux, [0.8, 0.9, 1.0, 0.99, np.nan])
    np.testing.assert_allclose(error[:4], 0.15 * flux[:4] * [1.0, 2.0, 0.4, 4.0])
    for name in ("arcmin2", "err_arcmin2"):
        measured[f"constrained_y5r500_{name}"] = measured[f"population_y5r500_{name}"]
    np.testing.assert_allclose(correction.correct(measured, "constrained"), [0.7 * flux, 0.7 * error])


def test_redshifts_and_weights_count() -> None:
    parts = [as_measured(5000, 3), as_measured(5000, 4, redshift=True)]
    measured, truth = (vstack(list(tables)) for tables in zip(*parts, strict=True))
    assert fit_flux_correction(measured, truth).redshift_factor == pytest.approx(0.95 / 0.9, rel=0.02)
    # of two kinds of clusters, one has no weight
    measured.remove_column("z")
    truth["weight"] = np.repeat([0.0, 3.0], 5000)
    np.testing.assert_allclose(fit_flux_correction(measured, truth).factor, 0.95, rtol=0.03)
    assert fit_flux_correction(measured[-20:], truth[-20:]).snr.size == 1
    with pytest.raises(
        ValueError, match="19 clusters were measured, by their weights as good as 19, expected at least 20"
    ):
        fit_flux_correction(measured[-19:], truth[-19:])
    with pytest.raises(ValueError, match="0 clusters were measured"):
        fit_flux_correction(measured[:9], truth[:9])
    truth["weight"][-1] = 1e9
    with pytest.raises(ValueError, match="by their weights as good as 1,"):
        fit_flux_correction(measured, truth)
