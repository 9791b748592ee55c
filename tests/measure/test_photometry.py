"""Photometry: spectra and sizes by hand, masses there and back, painted clusters and sources without bias."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table, vstack
from noise_field import HFI, cluster_grid, noise_sky

from szeek.filter.snrmaps import filter_sky
from szeek.measure.candidates import COLUMNS, read_candidates
from szeek.measure.fluxes import FluxCorrection
from szeek.measure.photometry import (
    KINDS,
    SIZES_ARCMIN,
    SizeFit,
    fit_kind,
    fit_size,
    list_spectra,
    mass_from_flux,
    measure_sources,
)
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.scaling import theta500_from_mass, y500_from_mass
from szeek.pipeline.products import PHOTOMETRY, RunFolder
from szeek.simulate.components.clusters import paint_clusters
from szeek.sky.healpix import interpolation_sigma_rad
from szeek.sky.skymaps import SkyMaps
from szeek.verbs import measure

SPECTRA = list_spectra(HFI, HFI.band_names)
N = SIZES_ARCMIN.size
#: Errors of the band fluxes: the tSZ flux of 1e-3 arcmin^2, so that of a tSZ flux is 1e-3 / sqrt(6).
ERROR = 1e-3 * np.abs(HFI.tsz_response)


def seen(flux: np.ndarray, size: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """v and M of noiseless fluxes and independent errors; a fifth of the signal is lost at all sizes but one."""
    m = np.broadcast_to(np.diag(ERROR**-2), (N, 6, 6)).copy()
    share = np.where(np.arange(N) == size, 1.0, 0.8)
    return share[:, None] * (flux / ERROR**2), m


def test_size_fit_is_least_squares() -> None:
    v, m = seen(0.02 * HFI.tsz_response)
    fit = fit_size(v, m, SPECTRA.tsz)
    # chi^2 = sum_b (A_b - Y t_b)^2 / (1e-3 t_b)^2: six equal measurements of Y with an error of 1e-3
    np.testing.assert_allclose(fit.error, 1e-3 / np.sqrt(6))
    assert fit.best == 5 and fit.flux[5] == pytest.approx(0.02) and fit.snr[5] == pytest.approx(20 * np.sqrt(6))


def test_marginalised_flux_of_two_sizes_by_hand() -> None:
    """Flat priors: weights exp(snr^2/2) sigma theta. Two sizes count, the others have no likelihood."""
    snr = np.full(N, -40.0)
    snr[[3, 10]] = 5.0, 4.5
    error = np.full(N, 1e-3)
    error[10] = 3e-3
    fit = SizeFit(snr, snr * error, error)
    w = np.array([np.exp(12.5) * 1e-3 * SIZES_ARCMIN[3], np.exp(10.125) * 3e-3 * SIZES_ARCMIN[10]])
    # -40 sigma: exp(800) as likelihood of a negative flux; the posterior is for any sign, so keep it out by hand
    fit = SizeFit(np.where(snr < 0, 0.0, snr), np.where(snr < 0, 0.0, snr * error), np.where(snr < 0, 1e-9, error))
    mean = (w @ [5e-3, 13.5e-3]) / w.sum()
    spread = np.sqrt((w @ [26e-6, 9e-6 * (4.5**2 + 1)]) / w.sum() - mean**2)
    assert fit.marginalised() == pytest.approx((mean, spread), rel=1e-3)


def test_interpolated_flux_runs_through_the_sizes() -> None:
    error = 1e-4 * SIZES_ARCMIN
    fit = SizeFit(5 - 0.1 * np.log(SIZES_ARCMIN / 5) ** 2, np.zeros(N), error)
    flux, sigma = fit.at([SIZES_ARCMIN[7], 6.5])
    assert sigma == pytest.approx([error[7], 6.5e-4]) and flux[1] == pytest.approx(6.5e-4 * 4.99312, rel=1e-4)


@pytest.mark.parametrize(("mass", "z"), [(1.0, 0.05), (5.0, 0.3), (8.0, 0.7)])
def test_mass_of_a_flux_on_the_mean_relation(mass: float, z: float) -> None:
    """The flux that the relation gives for the mass, whatever the size: the mass comes back."""
    flux = Y5R500_PER_Y500 * y500_from_mass(np.array([mass]), np.array([z]), 1.0)[0]
    fit = SizeFit(np.full(N, 10.0), np.full(N, flux), np.full(N, flux / 10))
    found, error = mass_from_flux(fit, z)
    assert found == pytest.approx(mass, rel=2e-3)
    # Y ~ M^1.79: 10 % in flux are 5.6 % in mass
    assert error / found == pytest.approx(0.1 / 1.79, rel=0.02)
    assert np.isnan(mass_from_flux(SizeFit(-fit.snr, -fit.flux, fit.error), z)[0])


def test_kind_of_each_spectrum() -> None:
    small, large = 2, 12
    assert SIZES_ARCMIN[small] < 2.5 < SIZES_ARCMIN[large]
    dust, cold = SPECTRA.dust[1], SPECTRA.dust[3]
    cases = {
        "cluster": (1e-2 * SPECTRA.tsz, large),
        "radio": (30 * SPECTRA.radio[1] * (ERROR / SPECTRA.radio[1]).min(), small),
        "dusty": (30 * dust * (ERROR / dust).min(), small),
        "cold clump": (30 * cold * (ERROR / cold).min(), large),
        "artefact": (0.5 * ERROR * np.array([1, -1, 1, -1, 1, -1]), small),
    }
    assert tuple(cases) == KINDS
    for kind, (flux, size) in cases.items():
        fit = fit_kind(*seen(flux, size), SPECTRA)
        assert fit.kind == kind
        if kind != "artefact":
            assert fit.size == size and fit.chi2 < 1e-6 * np.sum((flux / ERROR) ** 2)
    # the coldest dust, as small as a beam, is no cold clump; and a negative cluster is nothing
    assert fit_kind(*seen(cases["cold clump"][0], small), SPECTRA).kind == "dusty"
    assert fit_kind(*seen(-cases["cluster"][0], large), SPECTRA).kind != "cluster"


def test_cluster_beside_a_brighter_radio_source_is_a_cluster() -> None:
    radio = SPECTRA.radio[1] * (ERROR / SPECTRA.radio[1]).min()
    flux = 8e-3 * SPECTRA.tsz + 14 * radio
    fit = fit_kind(*seen(flux), SPECTRA)
    assert fit.kind == "cluster" and fit.tsz_snr > 5 and fit.radio_snr > 5 and fit.chi2 < 1e-6
    assert fit_kind(*seen(14 * radio), SPECTRA).kind == "radio"


@pytest.fixture(scope="module")
def measured() -> tuple[Table, Table, np.ndarray]:
    """Nine clusters in white noise, measured at their size, and a radio and a dusty source of known flux."""
    clusters = cluster_grid(5.0, 0.012, 3, 3.0)
    sources = cluster_grid(1e-3, 1.0, 1, 1.0)["lon_deg", "lat_deg", "theta500_arcmin", "y500_arcmin2"]
    sources = Table(np.repeat(sources.as_array(), 2))
    sources["lon_deg"] += [-2.0, 2.0]
    # response x Y5R500 in map unit x arcmin^2: in every band as strong as 5 and 8 times its noise in an arcmin^2
    radio = SPECTRA.radio[1] / np.abs(HFI.tsz_response)
    dust = SPECTRA.dust[1] / np.abs(HFI.tsz_response)
    response = np.stack([SPECTRA.radio[1] / radio.max(), SPECTRA.dust[1] / dust.max()])
    sources["response"] = 0.1 * response / Y5R500_PER_Y500
    positions = Table({name: [*clusters[name], *sources[name]] for name in ("lon_deg", "lat_deg")})
    positions["theta500_arcmin"] = 5.0
    positions["z"] = np.nan
    maps = noise_sky(clusters, sources, radius_deg=6.5)
    return positions, measure_sources(maps, positions, threads=1), 0.1 * response


def test_fluxes_of_clusters_are_unbiased_with_unit_pulls(measured: tuple[Table, Table, np.ndarray]) -> None:
    found = measured[1][:9]
    true = 0.012 * Y5R500_PER_Y500
    pull = (np.asarray(found["fixed_y5r500_arcmin2"]) - true) / np.asarray(found["fixed_y5r500_err_arcmin2"])
    assert abs(pull.mean()) < 2.5 / 3 and abs(pull.std(ddof=1) - 1) < 2.5 / np.sqrt(16)
    assert (found["fixed_snr"] > 15).all() and (found["snr"] >= found["fixed_snr"] * 0.99).all()
    free = (np.asarray(found["y5r500_arcmin2"]) - true) / np.asarray(found["y5r500_err_arcmin2"])
    assert abs(free.mean()) < 2.5 / 3 and (found["y5r500_err_arcmin2"] > found["fixed_y5r500_err_arcmin2"]).all()
    assert (found["kind"] == "cluster").all()
    assert np.isnan(found["m500_1e14msun"]).all()


def test_aperture_flux_is_that_of_the_profile(measured: tuple[Table, Table, np.ndarray]) -> None:
    """Disc less ring of the profile at 10 arcmin resolution, by direct integration of the Hankel transform."""
    from scipy.special import j0

    from szeek.physics.gas import profile_transform

    arcmin = np.pi / 10800
    k = np.linspace(0.5, 6000, 12000)
    seen_at = profile_transform(k * 5 * arcmin) * np.exp(-0.5 * (k * 10 * arcmin) ** 2 / (8 * np.log(2)))
    r = np.linspace(0, 25, 501)
    y = np.trapezoid(k * seen_at * j0(np.outer(r * arcmin, k)), k, axis=1) / (2 * np.pi) * arcmin**2
    disc, ring = r <= 10, r >= 15
    inside = np.trapezoid(2 * np.pi * r[disc] * y[disc], r[disc])
    level = np.trapezoid(r[ring] * y[ring], r[ring]) / np.trapezoid(r[ring], r[ring])
    expected = 0.012 * Y5R500_PER_Y500 * (inside - np.pi * 100 * level)
    found = measured[1][:9]
    pull = (np.asarray(found["y_aperture_arcmin2"]) - expected) / np.asarray(found["y_aperture_err_arcmin2"])
    assert abs(pull.mean()) < 2.5 / 3 and abs(pull.std(ddof=1) - 1) < 2.5 / np.sqrt(16)


def test_band_fluxes_and_kinds_of_sources(measured: tuple[Table, Table, np.ndarray]) -> None:
    found, flux = measured[1][9:], measured[2]
    assert found["kind"].tolist() == ["radio", "dusty"]
    # map unit x arcmin^2 -> mJy
    expected = flux * 1e9 * (np.pi / 10800) ** 2 * HFI.mjysr_per_kcmb / HFI.unit_per_kcmb
    flux_mjy, error = np.asarray(found["flux_mjy"]), np.asarray(found["flux_err_mjy"])
    # the smallest size is 0.9 arcmin, not a point: 3 % more flux
    assert (np.abs(flux_mjy - expected) < 0.04 * expected + 3 * error).all() and (expected > 50 * error).any(
        axis=1
    ).all()
    assert found["radio_snr"][0] > 10 > found["dust_snr"][0] and found["dust_snr"][1] > 10 > found["radio_snr"][1]
    assert (found["spectrum_theta500_arcmin"] < 2.5).all()


def test_size_given_by_mass_and_positions_without_sky() -> None:
    mass, z = 8.0, 0.2
    theta = theta500_from_mass(np.array([mass]), np.array([z]), 1.0)[0]
    y500 = y500_from_mass(np.array([mass]), np.array([z]), 1.0)[0]
    cluster = cluster_grid(theta, y500 * 20, 1, 1.0)  # 20 times too bright for the noise here
    positions = Table(
        {"lon_deg": [cluster["lon_deg"][0], 200.0, 112.5], "lat_deg": [cluster["lat_deg"][0], 0.0, 38.45]}
    )
    positions["z"] = [z, z, z]
    found = measure_sources(noise_sky(cluster, radius_deg=3.5), positions, threads=1)
    # flux 20 times as large: mass 20^(1/1.79) times, less what the growing size takes of the flux
    assert found["m500_1e14msun"][0] > 3 * mass
    expected = theta500_from_mass(np.array([found["m500_1e14msun"][0]]), np.array([z]), 1.0)[0]
    assert found["fixed_theta500_arcmin"][0] == pytest.approx(expected)
    # outside, and 9 arcmin from the border
    assert np.isnan(found["snr"][1:]).all() and (found["kind"][1:] == "").all()
    assert len(measure_sources(noise_sky(radius_deg=3.5), positions[:0], threads=1)) == 0


def test_what_the_filter_has_learnt_changes_no_number() -> None:
    """Two fields, one of them not known; at a compact source that the filter has filled in, and at a cluster."""
    clusters = cluster_grid(5.0, 0.012, 1, 3.0)
    sources = cluster_grid(1e-3, 1.0, 2, 4.0)
    sources["response"] = 0.05 * np.abs(HFI.tsz_response[0]) * SPECTRA.radio[[1]] / SPECTRA.radio[1, 0]
    maps = noise_sky(clusters, sources, radius_deg=4.5)
    positions = vstack([table["lon_deg", "lat_deg"] for table in (clusters, sources)])
    positions["z"] = 0.2
    expected = measure_sources(maps, positions, threads=1)
    states = filter_sky(maps, threads=1).states
    assert len(states) > 2 and sum((state.holes[:, 0] < 2).any() for state in states.values()) > 1
    states.pop(int(healpy.ang2pix(8, *positions[1]["lon_deg", "lat_deg"], lonlat=True)))
    found = measure_sources(maps, positions, filtered=states, threads=1)
    for name in expected.colnames:
        if name == "kind":
            assert found[name].tolist() == expected[name].tolist()
        else:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-8, atol=1e-8, err_msg=name)


def test_errors() -> None:
    maps = noise_sky(radius_deg=0.1)
    with pytest.raises(ValueError, match="expected also lat_deg"):
        measure_sources(maps, Table({"lon_deg": [1.0]}))


def write_small_run(folder: Path) -> Path:
    """A run's folder: one bright cluster in white noise at nside 512, and two candidates, one of them nothing."""
    nside, at = 512, (112.5, 41.8)
    values = np.zeros((12 * nside**2, 6), np.float32)
    disc = healpy.query_disc(nside, healpy.ang2vec(*at, lonlat=True), np.radians(4.0))
    noise = np.random.default_rng(3).standard_normal((disc.size, 6))
    values[disc] = 1e-6 * np.abs(HFI.tsz_response) * noise
    cluster = Table({"lon_deg": [at[0]], "lat_deg": [at[1]], "theta500_arcmin": [8.0], "y500_arcmin2": [2e-2]})
    paint_clusters(cluster, nside, [band.fwhm_arcmin for band in HFI.bands], HFI.tsz_response, out=values)
    footprint = np.zeros(len(values), bool)
    footprint[disc] = True
    SkyMaps(values, footprint, HFI.bands).save(folder / "maps")
    Table({"lon_deg": [at[0], at[0] + 2], "lat_deg": [at[1], at[1]], "p": [0.9, 0.2]}).write(folder / "sources.fits")
    known = Table({"name": ["A1"], "survey": ["X"], "lon_deg": [at[0]], "lat_deg": [at[1]], "z": [0.1]})
    known["m500_1e14msun"] = [5.0]
    known.write(folder / "clusters.fits")
    return folder


def test_candidates_of_a_run_get_their_columns(tmp_path: Path) -> None:
    folder = write_small_run(tmp_path)
    measured = measure(folder, threads=1)
    assert (measured.n_candidates, measured.kinds["cluster"]) == (2, 1)
    assert (measured.n_known, measured.n_known_found) == (1, 1)
    candidates, photometry = read_candidates(folder / "candidates.fits"), RunFolder(folder).table(PHOTOMETRY)
    assert candidates["KIND"][0] == "cluster" and candidates["MATCH_NAME"].tolist() == ["A1", ""]
    assert photometry["kind"].tolist() == candidates["KIND"].tolist()
    assert photometry["name"].tolist() == candidates["NAME"].tolist()
    for column in COLUMNS:
        if column.source in photometry.colnames and column.dtype != "str":
            np.testing.assert_allclose(candidates[column.name], photometry[column.source], rtol=1e-6)
    assert candidates["SNR"][0] > 20 and np.isfinite(candidates["M500"]).tolist() == [True, False]
    assert photometry["flux_mjy"].shape == (2, 6) and photometry.meta["SIZE24"] == 60.0
    with fits.open(folder / "photometry.fits") as hdus:
        units = {column.name: column.unit for column in hdus[1].columns}
    assert units["y5r500_arcmin2"] == "arcmin2" and units["flux_mjy"] == "mJy" and units["snr"] is None
    assert not list(folder.glob(".*")), "nothing half-written is left"


def test_fluxes_are_corrected_where_the_correction_is_known(tmp_path: Path) -> None:
    folder = write_small_run(tmp_path)
    measure(folder, threads=1)
    before = read_candidates(folder / "candidates.fits")
    corrected = ("Y5R500_COR", "Y5R500_COR_ERR", "Y5R500_CONSTR", "Y5R500_CONSTR_ERR")
    assert all(np.isnan(before[name]).all() for name in corrected) and before["SNR_CONSTR"][0] > 15
    correction = FluxCorrection(np.array([5.0]), np.array([0.9]), 1.1, 0.7, 1.2)
    correction.to_table().write(folder / "fluxes.ecsv")
    measure(folder, threads=1)
    after, photometry = read_candidates(folder / "candidates.fits"), RunFolder(folder).table(PHOTOMETRY)
    # the first candidate is a known cluster, of known redshift
    for name, flux, further in (("Y5R500_COR", "population", 1.0), ("Y5R500_CONSTR", "constrained", 0.7)):
        factor = 0.9 * further * np.array([1.1, 1.0])
        np.testing.assert_allclose(after[name], factor * photometry[f"{flux}_y5r500_arcmin2"], rtol=1e-6)
        error = 1.2 * factor * photometry[f"{flux}_y5r500_err_arcmin2"]
        np.testing.assert_allclose(after[f"{name}_ERR"], error, rtol=1e-6)
    np.testing.assert_array_equal(after["Y5R500"], before["Y5R500"])


@pytest.mark.parametrize(("low_deg", "high_deg"), [(0, 5), (20, 25), (38, 41), (50, 55), (70, 75)])
def test_smoothing_by_interpolation_is_that_of_healpys_weights(low_deg: float, high_deg: float) -> None:
    """Second moment of the four pixels about the direction, per axis, over random directions of these latitudes."""
    rng = np.random.default_rng(1)
    lat = np.degrees(np.arcsin(rng.uniform(*np.sin(np.radians([low_deg, high_deg])), 20_000)))
    colatitude, longitude = np.radians(90 - lat), rng.uniform(0, 2 * np.pi, lat.size)
    pixel, weight = healpy.get_interp_weights(256, colatitude, longitude)
    away = np.stack(healpy.pix2vec(256, pixel)) - healpy.ang2vec(colatitude, longitude).T[:, None]
    measured = (weight * (away**2).sum(axis=0)).sum(axis=0).mean() / 2
    expected = interpolation_sigma_rad(256, (low_deg + high_deg) / 2) ** 2
    assert measured == pytest.approx(expected, rel=0.02)


def test_candidates_without_their_maps_are_told_how(tmp_path: Path) -> None:
    Table({"lon_deg": [10.0], "lat_deg": [40.0], "p": [0.5]}).write(tmp_path / "sources.fits")
    with pytest.raises(FileNotFoundError, match=r"has no maps .*`szeek run --until filter` makes it"):
        measure(tmp_path)
