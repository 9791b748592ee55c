"""Instrument files: what is computed from them, what is refused, and the round trip through a model's card."""

from __future__ import annotations

import json
from pathlib import Path

import astropy.units as u
import healpy
import numpy as np
import pytest
import tomli_w
from scipy.special import jv

from szeek.config import load_config
from szeek.inputs.instrument import (
    list_instruments,
    read_bandpasses,
    read_instrument,
    record_instrument,
    split_instrument,
)
from szeek.physics.bandpass import T_CMB_K
from szeek.physics.spectra import spectral_templates
from szeek.physics.tsz import band_response, tsz_spectrum

#: Radians per arcmin over the FWHM of a Gaussian of unit sigma.
SIGMA_PER_ARCMIN = np.pi / 10800 / np.sqrt(8 * np.log(2))
BAND = {"name": "a", "freq_ghz": 150.0, "fwhm_arcmin": 1.4, "noise_uk_arcmin": 12.0}


def write(folder: Path, *bands: dict[str, object], name: str = "mine.toml", **keys: object) -> Path:
    path = folder / name
    path.write_text(tomli_w.dumps({**keys, "bands": list(bands)}))
    return path


def table(folder: Path, name: str, *columns: np.ndarray) -> str:
    np.savetxt(folder / name, np.column_stack(columns), fmt="%.12g")
    return name


def test_file_with_the_least_that_is_needed(tmp_path):
    found = read_instrument(write(tmp_path, BAND))
    assert found.name == "mine" and found.band_names == ("a",)
    assert found.bands[0].freq_ghz == 150.0 and found.bands[0].unit == "K_CMB"
    assert found.noise_uk_deg[0] == pytest.approx(0.2)  # 12 / 60
    assert found.published_unit == ("",) and found.details[0].pixel_window
    # a flat band of 33 % of its frequency
    freq = np.linspace(0.835 * 150, 1.165 * 150, 20001)
    x = freq / (20.836619 * T_CMB_K)
    weight = x**4 * np.exp(x) / np.expm1(x) ** 2
    expected = T_CMB_K * (weight * tsz_spectrum(freq)).sum() / weight.sum()
    assert found.tsz_kcmb[0] == pytest.approx(expected, rel=1e-4)


def test_narrow_band_is_monochromatic(tmp_path):
    found = read_instrument(write(tmp_path, {**BAND, "width_ghz": 0.01}))
    assert found.tsz_kcmb[0] == pytest.approx(T_CMB_K * tsz_spectrum([150.0])[0], rel=1e-6)
    units = u.thermodynamic_temperature(150 * u.GHz, T_CMB_K * u.K)
    assert found.mjysr_per_kcmb[0] == pytest.approx((1 * u.K).to_value(u.MJy / u.sr, units), rel=1e-5)


def test_published_values_go_before_computed_ones(tmp_path):
    found = read_instrument(write(tmp_path, {**BAND, "tsz_kcmb": -2.5, "mjysr_per_kcmb": 390.0, "unit": "MJy/sr"}))
    assert found.tsz_response[0] == -2.5 * 390.0


def test_bandpass_table_lies_beside_the_file_and_its_wings_are_clipped(tmp_path):
    freq = np.linspace(120, 180, 61)
    passed = np.where(abs(freq - 150) < 10.5, 1.0, -0.02)
    name = table(tmp_path, "band.txt", freq, passed, np.full(61, 0.01))
    of_file = {**BAND, "bandpass": name}
    del of_file["freq_ghz"]
    found = read_instrument(write(tmp_path, of_file))
    # 21 GHz wide with linear edges of 1 GHz about 150 GHz
    assert found.bands[0].freq_ghz == pytest.approx(150.0)
    assert found.details[0].bandpass.transmission.min() == 0.0
    inline = {**BAND, "bandpass": {"freq_ghz": [139.0, 140.0, 160.0, 161.0], "transmission": [0.0, 1.0, 1.0, 0.0]}}
    same = read_instrument(write(tmp_path, inline))
    assert found.tsz_kcmb[0] == pytest.approx(same.tsz_kcmb[0], rel=1e-3)


def test_response_to_a_rayleigh_jeans_source_is_divided_by_the_frequency_squared(tmp_path):
    freq = np.linspace(130, 170, 2001)  # fine enough to be taken as it is
    flat = read_instrument(write(tmp_path, {**BAND, "bandpass": table(tmp_path, "i.txt", freq, np.ones(2001))}))
    rayleigh = {**BAND, "bandpass": table(tmp_path, "rj.txt", freq, freq**2), "bandpass_response": "rayleigh-jeans"}
    found = read_instrument(write(tmp_path, rayleigh))
    np.testing.assert_allclose(found.tsz_kcmb, flat.tsz_kcmb, rtol=1e-9)
    np.testing.assert_allclose(found.mjysr_per_kcmb, flat.mjysr_per_kcmb, rtol=1e-9)


def test_relativistic_response_and_colours_are_of_the_band_s_own_bandpass(tmp_path):
    freq = np.array([149.0, 151.0])
    two = [{**BAND, "name": "wide", "width_ghz": 50.0},
           {**BAND, "name": "narrow", "bandpass": table(tmp_path, "b.txt", freq, np.ones(2))}]  # fmt: skip
    found = read_instrument(write(tmp_path, *two))
    hot = band_response(found, 8.0)
    assert hot[1] == pytest.approx(T_CMB_K * tsz_spectrum([150.0], 8.0)[0], rel=1e-4)
    assert abs(hot[0] / hot[1] - 1) > 0.01
    # radio nu^-0.7 in K_CMB, IRAS: int nu^-0.7 / int (150 / nu) = (175^0.3 - 125^0.3) / 0.3 / 150 / ln(175 / 125)
    radio = spectral_templates(found, ["radio"])[0]
    mean = (175**0.3 - 125**0.3) / 0.3 / 150 / np.log(175 / 125) * 100**0.7
    assert radio[0] * found.mjysr_per_kcmb[0] == pytest.approx(mean, rel=1e-4)
    assert radio[1] * found.mjysr_per_kcmb[1] == pytest.approx(1.5**-0.7, rel=1e-4)


def test_beam_is_the_gaussian_of_its_fwhm_or_the_table(tmp_path):
    ell = np.arange(0.0, 20001.0, 2.0)
    gauss = np.exp(-0.5 * (ell * 1.4 * SIGMA_PER_ARCMIN) ** 2)
    three = [BAND, {**BAND, "name": "b", "beam": table(tmp_path, "b_ell.txt", ell, gauss)},
             {**BAND, "name": "c", "fwhm_arcmin": 1.5, "beam": "b_ell.txt"}]  # fmt: skip
    del three[1]["fwhm_arcmin"]
    found = read_instrument(write(tmp_path, *three))
    assert [round(band.fwhm_arcmin, 4) for band in found.bands] == [1.4, 1.4, 1.5]
    at = np.array([0.0, 101.0, 3000.0, 9999.0])
    beam = found.beam(at)
    np.testing.assert_array_equal(
        beam[:, 0], np.exp(-0.5 * (at * (1.4 / np.sqrt(8 * np.log(2)) * (np.pi / 10800))) ** 2)
    )
    np.testing.assert_allclose(beam[:, 1:], beam[:, :1].repeat(2, 1), atol=1e-7)


def test_beam_that_starts_above_zero_is_continued_and_normalised_where_told(tmp_path):
    ell = np.arange(300.0, 8001.0)
    b_ell = 1.1 * np.exp(-0.5 * (ell * 1.4 * SIGMA_PER_ARCMIN) ** 2)
    band = {**BAND, "beam": table(tmp_path, "b.txt", ell, np.zeros(ell.size), b_ell), "beam_column": 3}
    with pytest.raises(
        ValueError, match=r"mine.toml': band 'a': beam 'b.txt' starts at l = 300, expected 1 at l = 0"
    ):
        read_instrument(write(tmp_path, band))
    gauss = read_instrument(write(tmp_path, BAND)).beam([0.0, 200.0, 5000.0, 12000.0])
    divided = read_instrument(write(tmp_path, {**band, "beam_normalise": True}))
    np.testing.assert_allclose(divided.beam([0.0, 200.0, 5000.0, 12000.0]), gauss, rtol=1e-3, atol=1e-6)
    kept = read_instrument(write(tmp_path, {**band, "beam_normalise": False}))
    np.testing.assert_allclose(kept.beam([0.0, 200.0, 5000.0]), 1.1 * gauss[:3], rtol=1e-3)
    # what the table holds below a multipole may be made up
    made_up = np.where(ell < 600, 7.0, b_ell)
    table(tmp_path, "b.txt", ell, np.zeros(ell.size), made_up)
    later = read_instrument(write(tmp_path, {**band, "beam_normalise": True, "beam_from_ell": 600.0}))
    np.testing.assert_allclose(later.beam([0.0, 5000.0]), gauss[[0, 2]], rtol=1e-3)


def test_profile_of_a_disc_has_the_transform_of_a_disc(tmp_path):
    radius = np.linspace(0, 0.05, 20001)
    name = table(tmp_path, "profile.txt", radius, (radius <= 0.025).astype(float))
    found = read_instrument(write(tmp_path, {**BAND, "beam_profile": name}))
    ell = np.array([500.0, 3000.0, 6000.0])
    x = ell * np.radians(0.025)
    np.testing.assert_allclose(found.beam(ell)[:, 0], 2 * jv(1, x) / x, atol=2e-4)


def test_noise_power_has_knee_and_slope(tmp_path):
    two = [{**BAND, "knee_ell": 2000.0, "slope": -3.0},
           {**BAND, "name": "b", "noise_uk_deg": 0.5, "unit": "MJy/sr"}]  # fmt: skip
    del two[1]["noise_uk_arcmin"]
    found = read_instrument(write(tmp_path, *two))
    white = (12e-6 * np.pi / 10800) ** 2
    np.testing.assert_allclose(found.noise_power([2000.0, 4000.0, 1000.0])[:, 0], white * np.array([2, 1.125, 9]))
    np.testing.assert_allclose(found.noise_power([10.0])[0, 1], (0.5e-3 * np.pi / 180) ** 2)


def test_combination_has_the_bands_of_both_in_the_order_given(tmp_path):
    path = write(tmp_path, {**BAND, "knee_ell": 2000.0, "slope": -3.0})
    both = read_instrument(f"{path}+planck-hfi")
    assert both.name == "mine+planck-hfi"
    assert both.band_names == ("a", "100", "143", "217", "353", "545", "857")
    assert both.tsz_kcmb[1] == -4.031 and both.details[0].knee_ell == 2000.0 and both.details[1].knee_ell == 0.0
    assert both.select([1, 0]).details[1].slope == -3.0
    with pytest.raises(ValueError, match=r"has the band 100, 143, 217, 353, 545, 857 more than once"):
        read_instrument("planck-hfi+planck-hfi")
    odd = tmp_path / "a+b"
    odd.mkdir()
    assert split_instrument(write(odd, BAND)) == [str(odd / "mine.toml")]


def test_what_a_card_keeps_makes_the_same_instrument(tmp_path):
    ell = np.arange(0.0, 5001.0, 50.0)
    tables = {"beam": table(tmp_path, "b.txt", ell, 1.2 * np.exp(-(ell**2) * 1e-8)), "beam_normalise": True,
              "bandpass": table(tmp_path, "p.txt", np.linspace(130, 170, 41), np.ones(41))}  # fmt: skip
    path = write(
        tmp_path,
        {**BAND, **tables, "knee_ell": 2e3, "slope": -3.5, "pixel_window": False, "published_unit": "uK_CMB"},
    )
    del tables
    found = read_instrument(path)
    card = json.loads(json.dumps({"instrument": record_instrument(path)}))
    (tmp_path / "model.json").write_text(json.dumps(card))
    for source in (card["instrument"], tmp_path / "model.json"):
        again = read_instrument(source)
        assert again.name == "mine" and again.bands == found.bands and again.published_unit == ("uK_CMB",)
        np.testing.assert_array_equal(again.beam(ell), found.beam(ell))
        np.testing.assert_array_equal(again.noise_power(ell), found.noise_power(ell))
        np.testing.assert_array_equal(band_response(again, 5.0), band_response(found, 5.0))
        assert not again.details[0].pixel_window
    assert record_instrument("planck-hfi") == "planck-hfi"
    (tmp_path / "model.json").write_text(json.dumps({"instrument": "planck-hfi"}))
    assert read_instrument(tmp_path / "model.json").name == "planck-hfi"


def test_path_in_a_configuration_is_relative_to_it(tmp_path):
    write(tmp_path, BAND)
    (tmp_path / "run.toml").write_text('[sky]\ninstrument = "mine.toml+planck-hfi"\n')
    assert load_config(tmp_path / "run.toml").sky.instrument == f"{tmp_path / 'mine.toml'}+planck-hfi"
    (tmp_path / "run.toml").write_text('[sky]\ninstrument = "planck-hfi"\n')
    assert load_config(tmp_path / "run.toml").sky.instrument == "planck-hfi"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fwhm": 1.4}, r"mine.toml' is refused: band 'a': fwhm: unknown key, did you mean 'fwhm_arcmin'\?"),
        ({"fwhm_arcmin": -1.0}, r"band 'a': fwhm_arcmin: Input should be greater than 0 \(found -1.0\)"),
        ({"unit": "uK_CMB"}, r"band 'a': unit: Input should be 'K_CMB' or 'MJy/sr' \(found 'uK_CMB'\)"),
        ({"freq_ghz": None}, "band 'a' has neither freq_ghz nor bandpass"),
        ({"width_ghz": 400.0}, "band 'a': width_ghz is 400, expected less than twice 150 GHz"),
        ({"fwhm_arcmin": None}, "band 'a' has no beam, expected fwhm_arcmin, beam or beam_profile"),
        ({"noise_uk_arcmin": None}, "band 'a' has no noise, expected one of noise_uk_arcmin and noise_uk_deg"),
        ({"noise_uk_deg": 1.0}, "band 'a' has two values of the noise"),
        ({"knee_ell": 1000.0}, "knee_ell is 1000 and slope 0, expected a knee above 0 and a slope below 0"),
        ({"bandpass_response": "rayleigh-jeans"}, "has bandpass_response but no bandpass"),
        ({"beam_normalise": True}, "says how to read a table of l and b_l but names none"),
        ({"bandpass": "absent.txt"}, "band 'a': table '.*absent.txt' does not exist"),
        ({"bandpass": "words.txt"}, "words.txt' is no table of numbers"),
        ({"bandpass": "one.txt"}, "one.txt' has 1 columns and 3 rows, expected at least 2 columns"),
        ({"bandpass": "hertz.txt"}, "covers 1.4e[+]11 to 1.6e[+]11 GHz and freq_ghz is 150, expected a table in GHz"),
        ({"bandpass": "down.txt"}, "bandpass 'down.txt' has frequencies that are not sorted"),
        ({"bandpass": "below.txt"}, "bandpass 'below.txt' is nowhere above 0"),
        ({"bandpass": "hertz.txt", "width_ghz": 9.0}, "has bandpass and width_ghz, expected one of the two"),
        ({"bandpass": {"freq_ghz": [1.0, 2.0], "transmission": [1.0]}}, "bandpass has 2 and 1 values"),
        ({"beam": "beam.txt"}, r"beam 'beam.txt' is 0.9 at l = 0, expected 1 at l = 0; state beam_normalise = true"),
        ({"beam": "beam.txt", "beam_column": 3}, "has 2 columns and 3 rows, expected at least 3 columns"),
        ({"beam": "beam.txt", "beam_from_ell": 9e3}, "has fewer than two values from l = 9000 on"),
        (
            {"beam": "below.txt"},
            "beam 'below.txt' has fewer than two values from l = 0 on, or its first are not above 0; expected b_l",
        ),
        ({"beam": "beam.txt", "beam_profile": "beam.txt"}, "has beam and beam_profile, expected one of the two"),
        ({"beam": "down.txt"}, "beam 'down.txt' has multipoles that do not increase from 0"),
        (
            {"beam_profile": "beam.txt"},
            "beam_profile 'beam.txt' has angles that do not increase from 0 to at most 180",
        ),
        ({"beam_profile": "wide.txt"}, "beam_profile 'wide.txt' does not fall to half of its first value"),
        ({"beam": {"ell": [0.0, 1.0], "b_ell": [1.0, float("inf")]}}, "beam holds NaN or Inf"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, change, message):
    (tmp_path / "words.txt").write_text("150 GHz\n151 GHz\n")
    for name, columns in {
        "one.txt": ([1, 2, 3],), "hertz.txt": ([1.4e11, 1.5e11, 1.6e11], [0, 1, 0]),
        "down.txt": ([160, 150, 140], [1, 1, 1]), "below.txt": ([140, 150, 160], [-1, -1, -1]),
        "beam.txt": ([0, 1000, 2000], [0.9, 0.8, 0.4]), "wide.txt": ([0, 0.1, 0.2], [1, 0.9, 0.8]),
    }.items():  # fmt: skip
        table(tmp_path, name, *map(np.array, columns))
    band = {key: value for key, value in {**BAND, **change}.items() if value is not None}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_instrument(write(tmp_path, band))


def test_files_and_names_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"experiment 'plank-hfi' is unknown, .*did you mean 'planck-hfi'\?"):
        read_instrument("plank-hfi")
    with pytest.raises(FileNotFoundError, match=r"instrument file 'mine.toml' does not exist"):
        read_instrument("planck-hfi+mine.toml")
    (tmp_path / "bad.toml").write_text("name = \n")
    with pytest.raises(ValueError, match=r"bad.toml' is no valid TOML"):
        read_instrument(tmp_path / "bad.toml")
    with pytest.raises(ValueError, match=r"mine.toml' has no bands, expected a table"):
        read_instrument(write(tmp_path))
    with pytest.raises(ValueError, match=r"beams: unknown key, did you mean 'bands'\?"):
        read_instrument(write(tmp_path, BAND, beams=[]))
    with pytest.raises(ValueError, match=r"has the band 'a' twice"):
        read_instrument(write(tmp_path, BAND, BAND))


@pytest.mark.parametrize("name", list_instruments())
def test_what_ships_can_be_used(name):
    found = read_instrument(name)
    assert found.name == name
    assert np.isfinite(found.tsz_kcmb).all() and (found.noise_uk_deg > 0).all() and (found.mjysr_per_kcmb > 0).all()
    assert len(set(found.band_names)) == len(found.bands)


def test_numbers_of_what_ships_fit_together():
    """Goal and baseline of one telescope; ACT and SPT near the same frequencies; LFI near the low-frequency limit."""
    goal, baseline = read_instrument("so-lat"), read_instrument("so-lat-baseline")
    assert goal.bands == baseline.bands and (goal.noise_uk_deg < baseline.noise_uk_deg).all()
    # the knees are of one red noise: white noise times knee^3.5 is the same where the white noise differs
    red = [i.noise_power([1000.0])[0] - i.noise_power([1e9])[0] for i in (goal, baseline)]
    np.testing.assert_allclose(red[0], red[1], rtol=0.05)
    lfi = read_instrument("planck-lfi")
    assert (abs(lfi.tsz_kcmb / (-2 * T_CMB_K) - 1) < [0.03, 0.06, 0.14]).all()
    dust = spectral_templates(read_instrument("act-dr6+spt-3g"), ["dust"])[0]
    np.testing.assert_allclose(dust[:2], dust[3:5], rtol=0.05)


@pytest.mark.realdata
def test_planck_computed_from_its_bandpasses_is_as_published(real_data, tmp_path):
    """Planck 2013 results IX, Table 6, and 2015 XXII, Table 1, from an instrument file that has bandpasses alone."""
    passes = read_bandpasses(real_data / "instrument" / "HFI_RIMO_R3.00.fits")
    hfi, bands = read_instrument("planck-hfi"), []
    for band in hfi.bands:
        one = passes[band.name]
        name = table(tmp_path, f"{band.name}.txt", one.freq_ghz, one.transmission)  # wings count at 857 GHz
        bands.append({**BAND, "name": band.name, "freq_ghz": band.freq_ghz, "unit": band.unit, "bandpass": name})
    found = read_instrument(write(tmp_path, *bands))
    np.testing.assert_allclose(found.mjysr_per_kcmb, hfi.mjysr_per_kcmb, rtol=0.008)
    np.testing.assert_allclose(found.mjysr_per_kcmb[:3], hfi.mjysr_per_kcmb[:3], rtol=0.003)
    away = np.array(hfi.band_names) != "217"  # which lies on the null
    np.testing.assert_allclose(found.tsz_kcmb[away], hfi.tsz_kcmb[away], rtol=0.005)
    np.testing.assert_allclose(found.tsz_kcmb[~away], hfi.tsz_kcmb[~away], atol=0.02)
    # dust in the bands' own colours: Planck 2013 IX has corrections of 3 to 10 per cent
    colour = spectral_templates(found, ["dust"])[0] / spectral_templates(hfi, ["dust"])[0]
    assert ((colour > 0.97) & (colour < 1.13)).all() and colour.max() > 1.03


@pytest.mark.realdata
def test_act_ships_what_its_bandpasses_give(real_data, tmp_path):
    folder, files = real_data / "instrument" / "act", {"f090": "PA5_avg", "f150": "PA5_avg", "f220": "PA4_avg"}
    shipped, bands = read_instrument("act-dr6"), []
    for band in shipped.bands:
        path = folder / f"{files[band.name]}_passband_{band.name}_wErr_trunc_20200505.txt"
        bands.append({"name": band.name, "fwhm_arcmin": 1.0, "noise_uk_arcmin": 1.0, "bandpass": str(path),
                      "bandpass_response": "rayleigh-jeans"})  # fmt: skip
    found = read_instrument(write(tmp_path, *bands))
    np.testing.assert_allclose(found.tsz_kcmb, shipped.tsz_kcmb, atol=6e-4)
    np.testing.assert_allclose(found.mjysr_per_kcmb, shipped.mjysr_per_kcmb, rtol=1e-4)
    freq = [[band.freq_ghz for band in i.bands] for i in (found, shipped)]
    np.testing.assert_allclose(*freq, atol=0.01)
    # flat bands of the same variance stand in for the bandpasses: colours to 0.1 per cent
    for component in ("dust", "radio"):
        colours = [spectral_templates(i, [component])[0] for i in (found, shipped)]
        np.testing.assert_allclose(*colours, rtol=1.5e-3)
    # mean frequency of the response to a Rayleigh-Jeans source, as the collaboration states it
    plain = read_instrument(write(tmp_path, *({k: v for k, v in b.items() if "response" not in k} for b in bands)))
    np.testing.assert_allclose([band.freq_ghz for band in plain.bands], [96.9, 149.7, 224.8], atol=0.06)


@pytest.mark.realdata
def test_spt_3g_ships_what_its_release_states(real_data, tmp_path):
    folder, shipped = real_data / "instrument" / "spt3g", read_instrument("spt-3g")
    stated, part = {}, ""
    for line in (folder / "effective_frequencies.yaml").read_text().splitlines()[1:]:
        key, _, value = line.partition(":")
        part = key if not value.strip() else part
        if value.strip():
            stated[part, key.strip()] = float(value)
    names = ("90", "150", "220")
    tsz_ghz = [stated["tSZ", name] for name in names]
    np.testing.assert_allclose(tsz_ghz, [95.7, 148.8, 220.2], atol=0.06)
    np.testing.assert_allclose(shipped.tsz_kcmb, T_CMB_K * tsz_spectrum(tsz_ghz), atol=6e-4)
    np.testing.assert_allclose(
        [b.freq_ghz for b in shipped.bands], [stated["CIB", name] for name in names], rtol=1e-4
    )
    beam = {"beam": str(folder / "B_ell_300_4100.txt"), "beam_from_ell": 300.0}
    bands = [{"name": name, "freq_ghz": 150.0, "noise_uk_arcmin": 5.0, **beam, "beam_column": column}
             for column, name in enumerate(names, 2)]  # fmt: skip
    with pytest.raises(
        ValueError, match=r"B_ell_300_4100.txt' starts at l = 300, expected 1 at l = 0; state beam_norm"
    ):
        read_instrument(write(tmp_path, *bands))
    found = read_instrument(write(tmp_path, *({**band, "beam_normalise": False} for band in bands)))
    np.testing.assert_allclose(
        [b.fwhm_arcmin for b in found.bands], [b.fwhm_arcmin for b in shipped.bands], atol=0.01
    )
    np.testing.assert_allclose(found.beam([804.0]), 1.0, atol=5e-4)  # where the maps are calibrated
    ell = np.arange(800.0, 4100.0)
    np.testing.assert_allclose(shipped.beam(ell) / shipped.beam([804.0]), found.beam(ell), rtol=0.06)


@pytest.mark.realdata
def test_profile_of_act_s_beam(real_data, tmp_path):
    path = real_data / "instrument" / "act" / "profile_AR1_2009_pixwin_130224.txt"
    band = {"name": "148", "freq_ghz": 148.0, "noise_uk_arcmin": 30.0, "beam_profile": str(path)}
    found = read_instrument(write(tmp_path, {**band, "pixel_window": False}))
    # the core is as wide as the profile at half maximum, 1.42 arcmin; the wings lower b_l besides
    assert found.bands[0].fwhm_arcmin == pytest.approx(1.42, abs=0.03)
    radius, profile = np.loadtxt(path).T
    expected = healpy.beam2bl(profile[::10], np.radians(radius[::10]), 3000)
    np.testing.assert_allclose(
        found.beam([500, 1500, 3000])[:, 0], expected[[500, 1500, 3000]] / expected[0], rtol=2e-3
    )


def test_a_band_takes_a_beam_from_a_table(tmp_path):
    ell = np.arange(20_001)
    narrow = np.exp(-0.5 * (ell * np.radians(1.0 / 60) / np.sqrt(8 * np.log(2))) ** 2)
    np.savetxt(tmp_path / "beam.txt", np.column_stack([ell, narrow]))
    plain, changed = read_instrument("act-dr6"), read_instrument(f"act-dr6+f150={tmp_path / 'beam.txt'}")
    assert changed.bands[1].fwhm_arcmin == pytest.approx(1.0, rel=1e-4)
    np.testing.assert_allclose(changed.beam(ell[::100])[:, 1], narrow[::100])
    np.testing.assert_array_equal(changed.beam(ell)[:, [0, 2]], plain.beam(ell)[:, [0, 2]])
    np.testing.assert_array_equal(changed.tsz_response, plain.tsz_response)
    assert record_instrument(f"act-dr6+f150={tmp_path / 'beam.txt'}")["bands"][1]["beam"]["ell"][0] == 0.0
    with pytest.raises(ValueError, match=r"a beam is given for 143; act-dr6 has the bands f090, f150, f220"):
        read_instrument(f"act-dr6+143={tmp_path / 'beam.txt'}")
    np.savetxt(tmp_path / "high.txt", np.column_stack([ell[2:], narrow[2:]]))
    with pytest.raises(ValueError, match=r"band 'f150': beam '.*high.txt' starts at l = 2, expected 1 at l = 0"):
        read_instrument(f"act-dr6+f150={tmp_path / 'high.txt'}")
    with pytest.raises(ValueError, match="gives beams of no experiment"):
        read_instrument("f150=beam.txt")
