"""The whole simulated sky at low resolution, the y map, and the comparison with real fields."""

from __future__ import annotations

import json
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from pydantic import ValidationError
from scipy.ndimage import map_coordinates
from scipy.stats import ks_2samp

from szeek.config import FieldConfig
from szeek.inputs.instrument import read_bandpasses, read_beams, read_instrument
from szeek.physics.tsz import band_response
from szeek.simulate.components.cib import draw_cib
from szeek.simulate.components.cmb import draw_cmb
from szeek.simulate.components.sources import draw_cold_clumps, draw_dusty_sources, draw_radio_sources
from szeek.simulate.haloes import random_generator
from szeek.simulate.realsky import MULTIPOLE_EDGES, find_alike, measure_spectra, peak_fluxes
from szeek.simulate.sky import (
    SimulateConfig,
    SimulatedSky,
    _observe_with,
    core_fwhm_arcmin,
    paint_haloes,
    simulate_sky,
)
from szeek.simulate.validate import (
    _interpolation_loss,
    _small_scales,
    _status,
    _without_chance,
    largest_step,
    validate_sky,
)
from szeek.sky.harmonics import beam_window

HFI = read_instrument("planck-hfi")


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> SimulatedSky:
    config = SimulateConfig(nside=64, seed=3, threads=1, half_missions=True)
    return simulate_sky(config, tmp_path_factory.mktemp("sky"))


def test_a_field_is_a_part_of_the_sky_of_its_seed(sky: SimulatedSky, tmp_path: Path) -> None:
    field = FieldConfig(lon_deg=40.0, lat_deg=60.0, width_deg=20.0, height_deg=16.0)
    config = SimulateConfig(nside=64, seed=3, threads=1, field=field, y_map=False, companions=False)
    part = simulate_sky(config, tmp_path)
    for band, path in part.maps.items():
        values, whole = healpy.read_map(path), healpy.read_map(sky.maps[band])
        seen = values != healpy.UNSEEN
        # 20 x 16 deg in pixels of 0.84 deg^2, those whose centres lie inside
        assert seen.sum() == pytest.approx(320 / healpy.nside2pixarea(64, degrees=True), rel=0.03)
        np.testing.assert_allclose(values[seen], whole[seen], rtol=0, atol=2e-3 * whole[seen].std())  # float32
    truth, whole_truth = (Table.read(made.catalogues["truth"]) for made in (part, sky))
    assert 0 < len(truth) < len(whole_truth) and set(truth["name"]) < set(whole_truth["name"])
    for name in ("psz2", "mcxc", "redmapper"):
        known = Table.read(part.catalogues[name])
        of_truth = known[known["truth_row"] >= 0]
        rows = truth[of_truth["truth_row"]]
        apart = SkyCoord(rows["ra_deg"], rows["dec_deg"], unit="deg").separation(
            SkyCoord(of_truth["ra_deg"], of_truth["dec_deg"], unit="deg")
        )
        assert apart.arcmin.max(initial=0.0) < 15.0, name  # the positions of surveys have errors


def test_a_field_has_no_y_map() -> None:
    field = FieldConfig(lon_deg=40.0, lat_deg=60.0)
    with pytest.raises(ValidationError, match="leave them or field out"):
        SimulateConfig(field=field)


def test_files(sky: SimulatedSky) -> None:
    names = {path.name for path in sky.folder.iterdir()}
    assert {f"szeek_sim_{band}_64.fits" for band in HFI.band_names} <= names
    assert {"y_map.fits", "y_map_first.fits", "y_map_last.fits", "truth.fits", "psz2.fits"} <= names
    assert {"xray.fits", "kappa.fits", "galaxies_all.fits", "mcxc.fits", "redmapper.fits"} <= names
    assert not any(name.endswith(".part") for name in names)
    record = json.loads((sky.folder / "simulate.json").read_text())
    assert record["config"]["seed"] == 3
    assert record["rows"]["truth"] == len(Table.read(sky.catalogues["truth"]))


def test_same_bits_for_other_threads_and_without_the_products_that_follow(sky: SimulatedSky, tmp_path: Path) -> None:
    bare = SimulateConfig(nside=64, seed=3, threads=2, y_map=False, companions=False)
    again = simulate_sky(bare, tmp_path)
    for band in HFI.band_names:
        assert again.maps[band].read_bytes() == sky.maps[band].read_bytes(), band


def test_a_component_more_leaves_the_draws_of_the_others_alone() -> None:
    draws = {
        "radio": lambda: draw_radio_sources(HFI, 3).flux_jy,
        "dusty": lambda: draw_dusty_sources(HFI, 3).flux_jy,
        "clumps": lambda: draw_cold_clumps(HFI, 3).flux_jy,
        "cmb": lambda: draw_cmb(64, 3),
        "cib": lambda: draw_cib(HFI, 64, 3, threads=1)[5],
    }
    first = {name: draw() for name, draw in draws.items()}
    random_generator(3, "a new component").standard_normal(1000)
    for name in reversed(draws):
        np.testing.assert_array_equal(draws[name](), first[name])


def test_gas_is_as_hot_as_its_xray_mass() -> None:
    # true M500 = 1e15 Msun at z = 0: kT = 5 keV (0.64 x 10 x 0.6766 / 0.7 / 3.84)^(1/1.71) = 6.61 keV
    one = {"lon_deg": [0.0], "lat_deg": [0.0], "theta500_arcmin": [60.0], "y500_arcmin2": [0.1]}
    cluster = Table({**one, "z": [0.0], "m500_1e14msun": [10.0]})
    maps = paint_haloes(cluster, HFI, 64, core_fwhm_arcmin(HFI), out=np.zeros((12 * 64**2, 6), np.float32), threads=1)
    expected = band_response(HFI, 6.61)
    total = maps.sum(axis=0, dtype=np.float64)
    np.testing.assert_allclose(total / total[0], expected / expected[0], rtol=2e-3)


@pytest.fixture
def rimo(tmp_path: Path) -> Path:
    """An instrument model with made-up beams, and bandpasses 1 % wide at the bands' frequencies."""
    names = np.array([[name] for name in HFI.band_names])
    beams = fits.BinTableHDU.from_columns(
        [
            fits.Column("FREQUENCY", "3A", array=names[:, 0]),
            fits.Column("FWHMGAUS", "D", array=np.arange(9.0, 3.0, -1.0)),
        ],
        name="MAP_PARAMS",
    )
    passes = []
    for band in HFI.bands:
        wavenumber = band.freq_ghz / 29.9792458 * np.linspace(0.995, 1.005, 5)
        columns = [
            fits.Column("WAVENUMBER", "D", array=wavenumber),
            fits.Column("TRANSMISSION", "D", array=np.ones(5)),
        ]
        passes.append(fits.BinTableHDU.from_columns(columns, name=f"BANDPASS_F{band.name}"))
    fits.HDUList([fits.PrimaryHDU(), beams, *passes]).writeto(tmp_path / "rimo.fits")
    return tmp_path / "rimo.fits"


def test_beams_and_responses_of_an_instrument_model(rimo: Path, tmp_path: Path) -> None:
    instrument, bandpasses = _observe_with(SimulateConfig(rimo=rimo))
    assert bandpasses is not None
    np.testing.assert_array_equal(core_fwhm_arcmin(instrument, rimo), np.arange(9.0, 3.0, -1.0))
    # 100 GHz: x = 1.7608, x coth(x/2) - 4 = -1.5081, times 2.7255 K
    assert instrument.tsz_kcmb[0] == pytest.approx(-4.110, rel=1e-3)
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "empty.fits")
    with pytest.raises(ValueError, match="no column FWHMGAUS in MAP_PARAMS, expected an HFI instrument model"):
        read_beams(tmp_path / "empty.fits")


def test_beams_of_the_real_instrument_model(real_data: Path) -> None:
    path = real_data / "instrument" / "HFI_RIMO_R3.00.fits"
    beams = core_fwhm_arcmin(HFI, path)
    np.testing.assert_allclose(beams[[0, 1, 2, 3, 5]], core_fwhm_arcmin(HFI)[[0, 1, 2, 3, 5]], atol=1e-3)
    assert beams[4] == pytest.approx(4.675)
    instrument, _ = _observe_with(SimulateConfig(rimo=path))
    np.testing.assert_allclose(instrument.tsz_response, band_response(HFI, bandpasses=read_bandpasses(path)))


def test_units_and_zero_holes(sky: SimulatedSky) -> None:
    for band in HFI.bands:
        values, header = healpy.read_map(sky.maps[band.name], h=True)
        assert dict(header)["TUNIT1"] == band.unit
        assert np.all(np.isfinite(values))
    high = np.abs(healpy.pix2ang(64, np.arange(12 * 64**2), lonlat=True)[1]) > 50
    # CMB of 1e-4 K in the K_CMB bands; dust and CIB of order 1 MJy/sr at 857 GHz
    assert 5e-5 < np.std(healpy.read_map(sky.maps["143"])[high]) < 1.5e-4
    assert 0.3 < np.median(healpy.read_map(sky.maps["857"])[high]) < 2.0


def test_half_missions_average_to_the_whole(sky: SimulatedSky) -> None:
    whole = healpy.read_map(sky.maps["143"])
    halves = [healpy.read_map(sky.folder / f"szeek_sim_143_64_half{n}.fits") for n in (1, 2)]
    np.testing.assert_allclose(np.mean(halves, axis=0), whole, atol=1e-9, rtol=1e-5)
    assert np.std(halves[0] - halves[1]) > 0


def test_validation_page(sky: SimulatedSky, tmp_path: Path) -> None:
    table = validate_sky(sky.folder)
    assert set(table["status"]) <= {"ok", "scatter", "off"}
    page = (sky.folder / "validation.html").read_text()
    assert "Planck 2018 VI" in page and "PSZ2" in page
    with pytest.raises(FileNotFoundError, match=r"simulate\.json not found; simulate it first"):
        validate_sky(tmp_path)


def test_status_tells_scatter_from_disagreement() -> None:
    assert [_status(apart, 0.1, 0.2) for apart in (-0.1, 0.3, -0.5)] == ["ok", "scatter", "off"]
    assert _status(0.2, 0.1, np.nan) == "off"


def test_interpolation_loss_is_that_of_a_turned_grid() -> None:
    # white noise of one value a pixel, read off linearly at the points of a grid turned by 27 deg, same pitch
    rng = np.random.default_rng(8)
    n, pitch = 1024, np.sqrt(4 * np.pi / (12 * 2048**2))
    x, y = np.meshgrid(np.arange(n // 2.0), np.arange(n // 2.0))
    turn = np.radians(27)
    at = [np.cos(turn) * y + np.sin(turn) * x + 2, np.cos(turn) * x - np.sin(turn) * y + n / 2 - 200]
    seen = map_coordinates(rng.standard_normal((n, n)), at, order=1, mode="wrap")
    power = np.abs(np.fft.fft2(seen)) ** 2 / seen.size
    frequency = np.fft.fftfreq(n // 2, pitch)
    ell = 2 * np.pi * np.hypot(*np.meshgrid(frequency, frequency))
    for centre in (1000, 2000, 3000, 4000):
        found = power[np.abs(ell - centre) < 100].mean()
        assert _interpolation_loss(centre, 2048) == pytest.approx(found, rel=0.05)


def test_chance_correlation_is_taken_out() -> None:
    # band = B (K c + g f): a CMB c and a far infrared f of colour g, which the real field has correlated by chance
    beam = np.stack([beam_window(fwhm, 4000)[3250:3251] for fwhm in (9.7, 7.2, 4.9, 4.9, 4.4, 4.2)], axis=1)[0]
    cmb, infrared = HFI.mjysr_per_kcmb * beam, np.array([0.0, 1e-3, 5e-3, 0.02, 0.4, 1.0]) * beam
    ours = 1e-9 * np.outer(cmb, cmb) + 1e-3 * np.outer(infrared, infrared)
    real = ours - 5e-8 * (np.outer(cmb, infrared) + np.outer(infrared, cmb))
    bins = len(MULTIPOLE_EDGES) - 1
    fwhm = np.array([9.7, 7.2, 4.9, 4.9, 4.4, 4.2])
    mended = _without_chance(np.tile(real, (bins, 1, 1)), np.tile(ours, (bins, 1, 1)), HFI, fwhm)
    np.testing.assert_allclose(mended[MULTIPOLE_EDGES[:-1] == 3000][0], ours, rtol=2e-3)


def test_peaks_have_the_flux_of_their_source() -> None:
    # 2 Jy through a beam of 7.3 arcmin: a peak of 2e-6 MJy / (2 pi sigma^2) sr
    sigma = 7.3 / 60 / np.sqrt(8 * np.log(2))
    y, x = np.mgrid[:101, :151] * 1.7177 / 60
    r2 = (y - 40 * 1.7177 / 60) ** 2 + (x - 70 * 1.7177 / 60) ** 2
    flux = peak_fluxes(2e-6 / (2 * np.pi * np.radians(sigma) ** 2) * np.exp(-r2 / 2 / sigma**2), 7.3)
    assert flux[40, 70] == pytest.approx(2.0, rel=0.01)
    assert np.count_nonzero(flux > 0.01) == 1


def test_largest_step_is_the_two_sample_statistic() -> None:
    rng = np.random.default_rng(7)
    ours, theirs = rng.normal(0.0, 1.0, 900), rng.normal(0.3, 1.1, 1100)
    found = largest_step(ours, np.quantile(theirs, np.linspace(0, 1, 21)))
    assert found == pytest.approx(ks_2samp(ours, theirs).statistic, abs=0.025)


def test_small_scales_of_a_field() -> None:
    # a wave of l = 1000 keeps 1 - exp(-(1000 sigma)^2 / 2) of its amplitude: all; the solar dipole's gradient nothing
    x = np.arange(512.0)
    wave = np.cos(1000 * np.radians(1.7177 / 60) * x)
    field = np.broadcast_to(np.stack([wave, 0.2 * x])[:, None], (2, 100, 512))
    found = _small_scales(field)[:, 50:, 100:-100]
    np.testing.assert_allclose(found[0], field[0, 50:, 100:-100], atol=1e-3)
    np.testing.assert_allclose(found[1], 0, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nside": 100}, "nside is 100, expected a power of two"),
        ({"nside": 4096}, "less than or equal to 2048"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"sede": 1}, "Extra inputs are not permitted"),
    ],
)
def test_bad_settings(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SimulateConfig(**settings)  # type: ignore[arg-type]


def test_spectrum_of_a_white_field() -> None:
    # white noise of 2 MJy/sr per pixel: C = 4 (1.7177 arcmin)^2 in sr
    rng = np.random.default_rng(6)
    field = 2.0 * rng.standard_normal((6, 300, 300)) * 1e-6
    spectra = measure_spectra(field, HFI)
    expected = 4e-12 * np.radians(1.7177 / 60) ** 2
    assert spectra.auto[4:].mean() == pytest.approx(expected, rel=0.02)
    assert np.abs(spectra.correlation[6:][:, 0, 1:]).max() < 0.08


def test_fields_like_another() -> None:
    from astropy.coordinates import SkyCoord

    fields = find_alike(SkyCoord(195.0, 29.0, unit="deg"), 4)
    assert 1 <= len(fields) <= 4
    assert all(abs(lat) > 50 for _, lat, _ in fields)
