"""The diffuse sky: harmonics, CMB, dust, CIB, noise, and the file format."""

from __future__ import annotations

from pathlib import Path

import camb
import healpy
import numpy as np
import pytest
from astropy.io import fits

from szeek.inputs.instrument import read_instrument
from szeek.inputs.reddening import read_column_map
from szeek.simulate.components.cib import BANDS, CALIBRATION, clustered_spectra, draw_cib, dusty_shot_noise
from szeek.simulate.components.cmb import lensed_spectrum
from szeek.simulate.components.dust import co_intensity, draw_galaxy, modified_blackbody
from szeek.simulate.components.noise import (
    add_white_noise,
    draw_coloured_noise,
    noise_pattern,
    scan_depth,
    white_level,
)
from szeek.simulate.planckfits import write_planck_map
from szeek.sky.harmonics import (
    add_alm,
    analyse,
    beam_window,
    filter_alm,
    gaussian_alm,
    multipole_limit,
    power_spectrum,
    synthesise,
    white_alm,
)

HFI = read_instrument("planck-hfi")


def test_synthesis_agrees_with_healpy() -> None:
    alm = gaussian_alm(1.0 / (np.arange(65) + 1.0) ** 2, 64, np.random.default_rng(1))
    ours = synthesise(alm, 32, threads=1)
    theirs = healpy.alm2map(alm.astype(np.complex128), 32, lmax=64)
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    np.testing.assert_array_equal(ours, synthesise(alm, 32, threads=2))


def test_analysis_returns_what_was_synthesised() -> None:
    alm = white_alm(40, np.random.default_rng(2))
    back = analyse(synthesise(alm, 32, 1), 40, 1, iterations=3)
    assert np.abs(back - alm).max() < 1e-4
    np.testing.assert_allclose(power_spectrum(back), power_spectrum(alm), rtol=1e-3)


def test_white_field_has_unit_spectrum() -> None:
    # chi^2 with 2 l + 1 degrees of freedom: summed over l < 200 the relative error is sqrt(2 / 40,000) = 0.7 %
    power = power_spectrum(white_alm(199, np.random.default_rng(3)))
    weights = 2 * np.arange(200) + 1
    assert np.average(power, weights=weights) == pytest.approx(1.0, abs=4 * np.sqrt(2 / weights.sum()))


def test_filter_and_sum_of_different_limits() -> None:
    rng = np.random.default_rng(4)
    low, high = white_alm(10, rng), white_alm(20, rng)
    total = high.copy()
    add_alm(total, low, np.full(11, 2.0))
    # a_{l=7, m=3}: index of (l, m) is m (2 lmax + 1 - m) / 2 + l
    assert total[3 * (41 - 3) // 2 + 7] == pytest.approx(high[3 * (41 - 3) // 2 + 7] + 2 * low[3 * (21 - 3) // 2 + 7])
    np.testing.assert_allclose(filter_alm(high, beam_window(0.0, 20)), high)
    with pytest.raises(ValueError, match=r"alm has 7 coefficients, expected \(lmax \+ 1\)"):
        multipole_limit(np.zeros(7, np.complex64))
    with pytest.raises(ValueError, match="window has 5 multipoles, expected at least 21"):
        filter_alm(high, np.ones(5))


def test_first_acoustic_peak() -> None:
    # Planck 2018 results I, Table 2: the first peak lies at l = 220.6 +- 0.6, D_l = 5733 +- 39 uK^2
    spectrum = lensed_spectrum(600)
    ell = np.arange(601)
    band_power = ell * (ell + 1) * spectrum / (2 * np.pi) * 1e12
    peak = int(np.argmax(band_power[50:400])) + 50
    assert abs(peak - 220.6) < 2
    assert band_power[peak] == pytest.approx(5733, rel=0.01)


def test_shipped_cmb_is_what_camb_solves() -> None:
    # Planck 2018 results VI (A&A 641, A6), Table 2, last column (TT,TE,EE+lowE+lensing+BAO).
    parameters = camb.set_params(
        H0=67.66, ombh2=0.02242, omch2=0.11933, mnu=0.06, tau=0.0561, ns=0.9665, As=1e-10 * np.exp(3.047),
        lmax=700, lens_potential_accuracy=1,  # the lensing of l < 500 needs no more
    )  # fmt: skip
    spectra = camb.get_results(parameters).get_lensed_scalar_cls(lmax=500, CMB_unit="muK", raw_cl=True)
    np.testing.assert_allclose(lensed_spectrum(500)[2:], spectra[2:501, 0] * 1e-12, rtol=2e-3)
    with pytest.raises(ValueError, match="lmax is 5000, expected 0 to 4096"):
        lensed_spectrum(5000)


@pytest.mark.realdata
def test_cmb_spectrum_against_ffp10(real_data: Path) -> None:
    table = np.loadtxt(real_data / "templates" / "ffp10_lensedCls.dat")
    ell = np.arange(2501)
    ours = (lensed_spectrum(2500) * ell * (ell + 1) / (2 * np.pi) * 1e12)[30:]
    theirs = np.interp(ell[30:], table[:, 0], table[:, 1])
    assert np.abs(ours / theirs - 1).max() < 0.03
    assert abs(np.mean(ours / theirs) - 1) < 0.01


def test_modified_blackbody_by_hand() -> None:
    # 353 GHz, 20 K: x = h nu / k T = 0.84707; 2 h nu^3 / c^2 / (e^x - 1) = 4.865e-16 W/m^2/Hz/sr = 4.865e4 MJy/sr
    assert float(modified_blackbody(353.0, 20.0, 1.6)) == pytest.approx(4.865e4, rel=2e-3)
    # Rayleigh-Jeans limit: brightness goes as nu^(2 + beta)
    ratio = modified_blackbody(0.2, 20.0, 1.5) / modified_blackbody(0.1, 20.0, 1.5)
    assert float(ratio) == pytest.approx(2**3.5, rel=1e-3)


def test_dust_per_hydrogen_is_the_published_one() -> None:
    # Planck 2013 results XVII (A&A 566, A55), Table 3: 0.43 MJy/sr per 1e20 H/cm^2 at 857 GHz, 0.039 at 353 GHz
    column = read_column_map("dust_ebv_Planck13")
    hydrogen = read_column_map("h1_nh_HI4PI") / 1e20
    lat = healpy.pix2ang(64, np.arange(column.size), lonlat=True)[1]
    faint = (np.abs(lat) > 40) & (hydrogen < 3)
    for freq, emissivity in ((857.0, 0.43), (353.0, 0.039)):
        dust = column * modified_blackbody(freq, 19.7, 1.62) / 1.49e4
        slope = np.polyfit(hydrogen[faint], dust[faint], 1)[0]
        assert slope == pytest.approx(emissivity, rel=0.3)


def test_galaxy_keeps_the_real_morphology() -> None:
    galaxy = draw_galaxy(HFI, 64, seed=5, threads=1)
    ours = galaxy.band_map(5, 64, beam_window(4.2, 191), threads=1)
    assert ours.dtype == np.float32
    assert ours.min() > 0
    column = read_column_map("dust_ebv_Planck13")
    assert np.corrcoef(np.log(ours), np.log(column))[0, 1] > 0.97
    # log-normal: the small scales of the brightness are skewed to the bright side
    assert np.median(ours) < ours.mean()


def test_same_seed_same_galaxy_whatever_the_threads() -> None:
    one, two = (draw_galaxy(HFI, 64, seed=6, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one.log_column, two.log_column)
    other = draw_galaxy(HFI, 64, seed=7, threads=1)
    assert not np.array_equal(one.log_column, other.log_column)


def test_co_lies_in_the_plane() -> None:
    co = co_intensity()
    lat = healpy.pix2ang(64, np.arange(co.size), lonlat=True)[1]
    assert co[np.abs(lat) < 1].mean() > 20 * co[np.abs(lat) > 20].mean()
    assert co.min() >= 0 and co.max() < 300


def test_cib_spectra_are_those_of_planck() -> None:
    # the table at l = 1036, Jy^2/sr
    spectra = clustered_spectra(1100)
    assert spectra[1036, 5, 5] == pytest.approx(21663, rel=1e-3)
    assert spectra[1036, 3, 4] == pytest.approx(2028.1, rel=1e-3)
    np.testing.assert_array_equal(spectra, np.swapaxes(spectra, 1, 2))
    assert np.all(np.linalg.eigvalsh(spectra[100:] + dusty_shot_noise()) > -1e-5 * spectra[100:, 5:, 5])


def test_clustering_and_shot_noise_are_what_planck_measured() -> None:
    # Planck 2013 results XXX, measured spectra at l = 1956: 353x353, 353x545, 545x545, 353x857, 545x857, 857x857
    gain = np.array([CALIBRATION.get(name, 1.0) for name in BANDS])
    total = clustered_spectra(1956)[-1] * np.outer(gain, gain) + dusty_shot_noise()
    total = total[[3, 3, 4, 3, 4, 5], [3, 4, 4, 5, 5, 5]]
    np.testing.assert_allclose(total, [608, 1520, 4240, 2540, 7380, 14600], rtol=0.05)


def test_drawn_cib_has_the_spectra_it_was_drawn_from() -> None:
    lmax = 500
    alms = draw_cib(HFI, lmax, seed=8, threads=1)
    per_jy = HFI.unit_per_kcmb / HFI.mjysr_per_kcmb * 1e-6
    gain = np.array([CALIBRATION.get(name, 1.0) for name in BANDS])
    expected = clustered_spectra(lmax) * np.outer(gain, gain) + dusty_shot_noise()
    ell = np.arange(lmax + 1)
    inside, weights = slice(300, lmax + 1), (2 * ell + 1)[300:]
    error = np.sqrt(2 / weights.sum())
    for i in range(6):
        for j in range(i + 1):
            ours = power_spectrum(alms[i], alms[j])[inside] / per_jy[i] / per_jy[j]
            scale = np.sqrt(expected[inside, i, i] * expected[inside, j, j])
            apart = np.average((ours - expected[inside, i, j]) / scale, weights=weights)
            assert abs(apart) < 4.5 * error, (BANDS[i], BANDS[j])


def test_cib_needs_the_hfi_bands() -> None:
    class Other:
        band_names = ("93", "145")

    with pytest.raises(ValueError, match="the instrument has \\('93', '145'\\)"):
        draw_cib(Other(), 10, seed=1)  # type: ignore[arg-type]


def test_scan_depth() -> None:
    z = np.linspace(-0.9999, 0.9999, 20001)
    depth = scan_depth(z)
    assert depth.mean() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(depth, depth[::-1], rtol=0.02)
    # a great circle sweeping about the ecliptic axis spends (2/pi) / sqrt(1 - z^2) of the mean at height z
    assert scan_depth(np.array([0.0]))[0] == pytest.approx(2 / np.pi, rel=0.03)
    assert scan_depth(np.array([0.97]))[0] > 2 * scan_depth(np.array([0.0]))[0]


def test_noise_pattern_is_deep_at_the_ecliptic_poles() -> None:
    pattern = noise_pattern(64)
    pole = healpy.ang2pix(64, 96.384, 29.811, lonlat=True)
    assert np.sqrt(np.mean(pattern.astype(np.float64) ** 2)) == pytest.approx(1.0, abs=0.01)
    assert pattern[pole] < 0.7
    assert pattern.max() < 1.2


def test_white_noise_has_the_level_asked_for() -> None:
    values = np.zeros(12 * 64**2, np.float32)
    pattern = noise_pattern(64)
    add_white_noise(values, 3.0, pattern, np.random.default_rng(9))
    assert (values / pattern).std() == pytest.approx(3.0, rel=4 / np.sqrt(2 * values.size))
    # 143 GHz: 0.55 uK deg x sqrt(0.815), a pixel of nside 2048 is 0.02863 deg wide
    assert white_level(HFI, 2048)[1] == pytest.approx(0.55e-6 * np.sqrt(0.815) / 0.028629, rel=1e-3)


def test_coloured_noise_rises_to_low_multipoles() -> None:
    power = power_spectrum(draw_coloured_noise(HFI, 1, 400, np.random.default_rng(10)))
    nominal = (0.55e-6 * np.pi / 180) ** 2
    weights = 2 * np.arange(80, 121) + 1
    assert np.average(power[80:121], weights=weights) / nominal == pytest.approx(1.0, rel=0.15)  # at l = 100
    assert power[:2].max() == 0


def test_map_file_opens_in_healpy_as_planck_maps_do(tmp_path: Path) -> None:
    values = np.arange(12 * 32**2, dtype=np.float32)
    path = write_planck_map(tmp_path / "m.fits", values, column="I_STOKES", unit="K_CMB", extra={"SEED": 3})
    read, header = healpy.read_map(path, h=True, dtype=np.float32)
    np.testing.assert_array_equal(read, values)
    cards = dict(header)
    assert cards["ORDERING"] == "NESTED"
    assert cards["COORDSYS"] == "GALACTIC"
    assert cards["TUNIT1"] == "K_CMB"
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus[1].header["SEED"] == 3
    assert path.stat().st_size % 2880 == 0
    assert [p.name for p in tmp_path.iterdir()] == ["m.fits"]


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write_planck_map(tmp_path / "no" / "m.fits", np.zeros(48, np.float32), column="Y", unit="")
    assert list(tmp_path.iterdir()) == []
