"""The p-to-y law on sources whose law is known, with and without selection bias."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.table import Table
from scipy.special import expit, logit

from szeek.sky.skymaps import Band, SkyMaps
from szeek.sky.tiles import pixels_in_tiles
from szeek.stack.scaling import (
    convert_to_y,
    fit_pixels,
    fit_scaling,
    measure_flux_in_bins,
    measure_injected_fluxes,
    measure_selection_bias,
)


def make_sources(n: int, seed: int = 0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """<Y> = 2 exp(0.4 (logit p - 1)), noise around it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 1.5, n)
    return expit(x), 2 * np.exp(0.4 * (x - 1)) + noise * rng.standard_normal(n)


def test_bins_by_hand() -> None:
    table = measure_flux_in_bins([0.1, 0.2, 0.8, 0.9, 0.5], [1.0, 3.0, 10.0, 20.0, np.nan], n_bins=2)
    assert table["n"].tolist() == [2, 2]
    assert table["flux"].tolist() == [2.0, 15.0]
    assert table["p_low"].tolist() == [0.1, 0.8]
    assert table["p_high"].tolist() == [0.2, 0.9]
    # two values a apart: the bootstrap of the mean has variance a^2 / 8, times n / (n - 1): a / 2; of 1,000
    # draws, with the kurtosis of 2 of such means, its root is known to 1 / sqrt(4000) = 1.6 %: three errors
    np.testing.assert_allclose(table["flux_error"], [1.0, 5.0], rtol=0.048)


def test_bootstrap_error_is_the_standard_error() -> None:
    p, flux = make_sources(20000)
    table = measure_flux_in_bins(p, flux, 4)
    for row, members in zip(table, np.array_split(np.argsort(p, kind="stable"), 4), strict=True):
        # 500 groups of sources, 1,000 draws: known to 1 / sqrt(1000) and 1 / sqrt(2000), 3.9 % together; 2.6 errors
        assert row["flux_error"] == pytest.approx(flux[members].std() / np.sqrt(5000), rel=0.1)


def test_law_is_recovered_with_honest_errors() -> None:
    pulls = []
    for seed in range(40):
        p, flux = make_sources(2000, seed)
        law = fit_scaling(p, flux, n_bootstrap=200)
        truth = 2 * np.exp(0.4 * (law.pivot - 1)), 0.4
        pulls.append((np.array([law.amplitude, law.slope]) - truth) / np.sqrt(np.diag(law.covariance)))
    pulls = np.array(pulls)
    # 40 standard deviates: their mean is known to 1 / sqrt(40), their width to 1 / sqrt(80); three errors
    np.testing.assert_allclose(pulls.mean(axis=0), 0, atol=0.47)
    np.testing.assert_allclose(pulls.std(axis=0), 1, atol=0.34)


def test_predictions_and_table() -> None:
    p, flux = make_sources(20000)
    law = fit_scaling(p, flux)
    expected = 2 * np.exp(0.4 * (logit([0.3, 0.7, 0.9]) - 1))
    assert np.all(np.abs(law.predict([0.3, 0.7, 0.9]) - expected) < 4 * law.predict_error([0.3, 0.7, 0.9]))
    assert law.predict_error(expit(law.pivot)) == pytest.approx(np.sqrt(law.covariance[0, 0]))
    assert law.p_value > 1e-3
    # no extrapolation
    assert law.predict(1.0) == law.predict(law.p_range[1])
    row = law.to_table()[0]
    assert (row["slope"], row["n_freedom"]) == (law.slope, 8)


def test_eddington_bias_is_taken_out_with_injections() -> None:
    # Flux noise also lifts p: x = 2 ln(flux measured) + scatter, so sources of given p have too much measured flux.
    # Injections of the same population carry the same bias; without them the law is wrong by a lot, with them right.
    rng = np.random.default_rng(1)

    def observe(n: int) -> Table:
        true = np.exp(rng.normal(0.5, 0.5, n))
        flux = true + 0.8 * rng.standard_normal(n)
        x = 2 * np.log(np.maximum(flux, 0.05)) + 0.3 * rng.standard_normal(n)
        table = Table({"p": expit(x), "flux": flux, "flux_true": true})
        return table[table["p"] > 0.5]

    sky, injections = observe(20000), observe(20000)
    truth = measure_flux_in_bins(sky["p"], sky["flux_true"], 8)
    biased = fit_scaling(sky["p"], sky["flux"], 8)
    mended = fit_scaling(sky["p"], sky["flux"], 8, injections=injections)
    centre = np.asarray(truth["p_mean"])[[1, 4, 6]]
    expected = np.asarray(truth["flux"])[[1, 4, 6]]
    assert np.abs(biased.predict(centre) / expected - 1).max() > 0.2
    # noise is 0.9 % of it; the rest is the law's, straight in ln odds where the true mean bends
    np.testing.assert_allclose(mended.predict(centre), expected, rtol=0.06)
    ratio = measure_selection_bias(injections, measure_flux_in_bins(sky["p"], sky["flux"], 8))
    assert ratio["ratio"][-1] > 1.1
    assert ratio["n"].sum() == len(injections)


def test_injections_are_weighted_as_the_population_is() -> None:
    # Of p = 0.9: one injection lifted by half, one not at all. Alike: (3 + 1) / (2 + 1); the second nine times as
    # frequent: (3 + 9) / (2 + 9).
    injections = Table({"p": [0.9, 0.9], "flux": [3.0, 1.0], "flux_true": [2.0, 1.0]})
    bins = Table({"p_low": [0.5], "p_high": [1.0]})
    assert measure_selection_bias(injections, bins)["ratio"][0] == pytest.approx(4 / 3)
    injections["weight"] = [1.0, 9.0]
    assert measure_selection_bias(injections, bins)["ratio"][0] == pytest.approx(12 / 11)
    injections["weight"] = [1.0, 0.0]
    with pytest.raises(ValueError, match="1 injections were detected"):
        measure_selection_bias(injections, bins)


def test_fluxes_of_injections_are_what_lies_there_and_what_was_painted() -> None:
    """Three clusters in a map that is flat but for a disc under the first one, 4e-6 within 12 arcmin."""
    nside = 512
    y = np.zeros(12 * nside**2, np.float32)
    y[healpy.query_disc(nside, healpy.ang2vec(30.0, 40.0, lonlat=True), np.radians(0.2))] = 4e-6
    injections = Table(
        {
            "lon_deg": [30.0, 100.0, 200.0],
            "lat_deg": [40.0, 0.0, -50.0],
            "y500_arcmin2": [1e-3, 4e-3, 2e-3],
            "theta500_arcmin": [2.0, 4.0, 8.0],
            "p": [0.5, 0.9, np.nan],
            "offset_arcmin": [0.0, 3.0, np.nan],
        }
    )
    y_map = SkyMaps(y[:, None], np.ones(y.size, bool), (Band("y", np.nan, 10.0, "Compton y"),))
    population = injections[[0, 0, 0, 1, 2]]
    found = measure_injected_fluxes(injections, y_map, population)
    assert found["p"].tolist() == [0.5, 0.9]
    # the disc at the first as healpy finds it, within 10 arcmin less the annulus
    centre = healpy.ang2vec(30.0, 40.0, lonlat=True)
    inside, inner, outer = (healpy.query_disc(4096, centre, np.radians(arcmin / 60)) for arcmin in (10, 15, 25))
    here, around = (
        healpy.get_interp_val(y, *healpy.pix2ang(4096, ipix)).mean() for ipix in (inside, np.setdiff1d(outer, inner))
    )
    assert found["flux"][0] - found["flux_true"][0] == pytest.approx((here - around) * np.pi * 100, rel=0.02)
    # the second lost some, as it was looked for 3 arcmin off: 1 - exp(-(3 / 6.5)^2 / 4) or so of a bell of FWHM 11 in
    # an aperture of its own width
    assert 0.9 < found["flux"][1] / found["flux_true"][1] < 0.99
    # 1.79 Y500 less what lies outside of 10 arcmin and in the annulus
    assert 0.6 < found["flux_true"][0] / 1.79e-3 < 0.9
    assert found["weight"].tolist() == [3.0, 1.0]
    assert measure_injected_fluxes(injections, y_map)["weight"].tolist() == [1.0, 1.0]


def test_law_of_pixels_is_that_of_the_tiles_held_out() -> None:
    """y = 1e-6 (p / (1 - p))^0.5 in tile 5, and ten times as much elsewhere: the law is that of tile 5."""
    rng = np.random.default_rng(2)
    held_out = pixels_in_tiles(128, (5,))
    p_map = rng.uniform(0, 0.95, held_out.size).astype(np.float32)
    y = 1e-6 * np.sqrt(p_map / (1 - p_map)) * np.where(held_out, 1, 10) + rng.normal(0, 1e-7, held_out.size)
    p_map[rng.random(held_out.size) < 0.1] = np.nan
    y_map = SkyMaps(y[:, None].astype(np.float32), np.ones(y.size, bool), (Band("y", np.nan, 10.0, "Compton y"),))
    law = fit_pixels(p_map, y_map, y_map.footprint, (5,), 0.1)
    assert law is not None
    np.testing.assert_allclose(law.predict([0.2, 0.5, 0.9]), 1e-6 * np.sqrt([0.25, 1, 9]), rtol=0.03)
    # no law of maps of two nsides, nor of a handful of pixels
    assert fit_pixels(p_map[: 12 * 64**2], y_map, y_map.footprint, (5,), 0.1) is None
    assert fit_pixels(p_map, y_map, y_map.footprint, (5,), 0.9) is None


def test_converted_map_keeps_holes_and_zeros() -> None:
    p, flux = make_sources(3000)
    law = fit_scaling(p, flux)
    p_map = np.array([np.nan, 0.0, 0.5, 1.0], np.float32)
    y_map = convert_to_y(p_map, law)
    assert y_map.dtype == np.float32
    assert np.isnan(y_map[0])
    assert y_map[1] == 0
    np.testing.assert_allclose(y_map[2:], law.predict([0.5, 1.0]), rtol=1e-6)


def test_bad_input_is_refused() -> None:
    p, flux = make_sources(100)
    with pytest.raises(ValueError, match="n_bins is 2, expected at least 3"):
        fit_scaling(p, flux, 2)
    with pytest.raises(ValueError, match=r"p has shape \(100,\) and flux \(99,\)"):
        measure_flux_in_bins(p, flux[:-1])
    few = Table({"p": [0.5], "flux": [1.0], "flux_true": [1.0]})
    with pytest.raises(ValueError, match=r"[01] injections were detected with p from .*inject more"):
        fit_scaling(p, flux, 3, injections=few)
