import healpy
import numpy as np
import pytest
import torch

from szeek.inputs.instrument import read_instrument
from szeek.learn.normalise import Normaliser, fit_left_gaussian, fit_normaliser, local_background
from szeek.sky.skymaps import SkyMaps

BANDS = read_instrument().bands


def _maps(nside=64, seed=1, mixing=None):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(12 * nside**2, 6))
    values = values @ (np.eye(6) if mixing is None else mixing)
    return SkyMaps(values.astype(np.float32), np.ones(len(values), bool), BANDS)


def test_left_gaussian_is_blind_to_the_right_side():
    """Fig. 2 of Bonjean (2020): dust on the right does not move the fit. Errors: about sigma / sqrt(n) x few."""
    rng = np.random.default_rng(1)
    sky = rng.normal(-3.0, 0.2, 400_000)
    for dust in (0, 40_000, 200_000):
        mean, sigma = fit_left_gaussian(np.concatenate([sky, -3 + rng.exponential(3.0, dust)]).astype(np.float32))
        assert mean == pytest.approx(-3.0, abs=0.03)
        assert sigma == pytest.approx(0.2, abs=0.02)


def test_left_gaussian_scales_with_the_unit():
    x = np.random.default_rng(2).normal(1.0, 0.1, 100_000).astype(np.float32)
    mean, sigma = fit_left_gaussian(x)
    mean_u, sigma_u = fit_left_gaussian(x * np.float32(1e-6))
    assert (mean_u * 1e6, sigma_u * 1e6) == pytest.approx((mean, sigma), rel=1e-3)


def test_constant_band_is_refused():
    with pytest.raises(ValueError, match="no spread"):
        fit_left_gaussian(np.ones(1000, np.float32))
    maps = _maps()
    maps.values[:, 2] = 7.0
    with pytest.raises(ValueError, match="band 217 is constant"):
        fit_normaliser(maps, "local-whitened", background_nside=4)


def test_local_background_is_the_median_of_each_cell():
    maps = _maps(32)
    background = local_background(maps, 4)
    cells = healpy.ang2pix(4, *healpy.pix2ang(32, np.arange(len(maps.values))))
    for cell in (0, 57, 191):
        np.testing.assert_allclose(background[cell], np.median(maps.values[cells == cell], axis=0), rtol=1e-6)


def test_background_takes_only_seen_pixels_and_fills_the_rim():
    maps = _maps(32)
    cells = healpy.ang2pix(4, *healpy.pix2ang(32, np.arange(len(maps.values))))
    inside = np.isin(cells, healpy.query_disc(4, [0, 0, 1], np.radians(40)))
    values = np.repeat(np.where(inside[:, None], np.float32(5.0), np.float32(1e9)), 6, axis=1)
    background = local_background(SkyMaps(values, inside, BANDS), 4)
    rim = np.unique(healpy.get_all_neighbours(4, np.unique(cells[inside])))
    np.testing.assert_allclose(background[rim[rim >= 0]], 5.0)


def test_whitened_bands_have_unit_covariance():
    mixing = np.eye(6) + 0.3 * np.random.default_rng(5).normal(size=(6, 6))
    maps = _maps(128, mixing=mixing)  # 1024 pixels a cell: the quieter half is 3 % too quiet by chance
    normaliser = fit_normaliser(maps, "local-whitened", background_nside=4)
    linear = maps.values @ normaliser.matrix.T
    np.testing.assert_allclose(np.cov(linear.T), np.eye(6), atol=0.06)


def test_whitening_undoes_a_change_of_units():
    maps = _maps(64, mixing=np.random.default_rng(6).normal(size=(6, 6)))
    scale = np.array([1e-6, 1, 1, 1e6, 1, 10], np.float32)
    other = SkyMaps(maps.values * scale, maps.footprint, BANDS)
    a, b = (fit_normaliser(m, "local-whitened", background_nside=4) for m in (maps, other))
    np.testing.assert_allclose(a.matrix, b.matrix * scale, rtol=2e-3, atol=1e-4)


def test_call_by_hand_and_nan_becomes_zero():
    normaliser = Normaliser(
        "local-whitened", np.array([1.0, 0.0], np.float32), np.array([[0, 2], [1, 0]], np.float32), 32
    )
    field = np.array([[[[3.0, 0.5], [np.nan, np.nan]]]], np.float32)
    out = normaliser(field)
    assert out.shape == (1, 2, 1, 2)
    # (3 - 1, 0.5) -> (2 x 0.5, 2) -> asinh
    torch.testing.assert_close(out[0, :, 0, 0], torch.asinh(torch.tensor([1.0, 2.0])))
    assert out[0, :, 0, 1].tolist() == [0.0, 0.0]
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_card_round_trip():
    normaliser = fit_normaliser(_maps(), "left-gaussian")
    again = Normaliser.from_dict(normaliser.to_dict())
    np.testing.assert_array_equal(again.matrix, normaliser.matrix)
    np.testing.assert_array_equal(again.offset, normaliser.offset)


def test_too_few_pixels_are_refused():
    with pytest.raises(ValueError, match="0 pixels to fit the normalisation to"):
        fit_normaliser(_maps(), use=np.zeros(12 * 64**2, bool))
