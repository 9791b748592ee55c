"""The needlet ILC and its y map: what it passes, what it nulls, and how large its errors say they are."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from commandline import szeek
from numpy.typing import NDArray

from szeek.filter.ilc import (
    FlatILC,
    NeedletILC,
    constrained_weights,
    list_spectra,
    needlet_windows,
    signal_free_spectra,
)
from szeek.filter.ymap import Foregrounds, YMap, _refine, combine_bands, local_scatter, make_y_map
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import load_model
from szeek.physics.spectra import spectral_templates
from szeek.pipeline.products import RunFolder
from szeek.sky.harmonics import synthesise
from szeek.sky.skymaps import SkyMaps
from szeek.verbs import make_y_map as make_y_map_of

HFI = read_instrument("planck-hfi")
BEAMS = np.array([band.fwhm_arcmin for band in HFI.bands])
PIXEL_ARCMIN = 2.0
DEPROJECTIONS: tuple[tuple[str, ...], ...] = ((), ("cib",), ("radio",), ("cib-moments",), ("cib-moments", "radio"))


def noise(shape: tuple[int, ...], seed: int = 5, level: float = 1e-8) -> NDArray[np.float64]:
    """White noise of a K_CMB level in every band, map units."""
    white = np.random.default_rng(seed).standard_normal((*shape, 6))
    return np.asarray(white * level * HFI.unit_per_kcmb)


def gaussian_of(fwhm_arcmin: float, n: int) -> NDArray[np.float64]:
    """A Gaussian of peak 1 amid a field of n x n pixels."""
    offset = PIXEL_ARCMIN * (np.arange(n) - (n - 1) / 2)
    radius2 = offset[:, None] ** 2 + offset**2
    return np.exp(-4 * np.log(2) * radius2 / fwhm_arcmin**2)


def test_needlets_conserve_power() -> None:
    for lowest in (0, 256):
        np.testing.assert_allclose(np.sum(np.square(needlet_windows(700, lowest)), axis=0), 1.0, atol=1e-12)
    # the lowest scale ends at the second peak
    assert np.flatnonzero(needlet_windows(700)[0] > 1e-12).max() == 63
    assert np.flatnonzero(needlet_windows(700, 256)[0] > 1e-12).max() == 255


def test_constrained_weights_by_hand() -> None:
    # unit covariance: w = A (A^T A)^-1 e with A = [a, 1]; passes a, nulls a flat spectrum
    response = np.array([-4.0, -3.0, 0.2, 6.0])
    mixing = np.stack([response, np.ones(4)], axis=1)
    expected = mixing @ np.linalg.inv(mixing.T @ mixing)[:, 0]
    weights = constrained_weights(np.eye(4)[None], mixing)[0]
    np.testing.assert_allclose(weights, expected, rtol=1e-4)
    assert weights @ response == pytest.approx(1.0)
    assert weights.sum() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("deproject", DEPROJECTIONS)
def test_every_constraint_holds(deproject: tuple[str, ...]) -> None:
    spectra = list_spectra(HFI, deproject)
    rng = np.random.default_rng(1)
    factors = rng.standard_normal((20, 6, 9)) * np.array([1, 1, 1, 3, 30, 1000])[:, None]
    weights = constrained_weights(factors @ np.swapaxes(factors, 1, 2), spectra)
    passed = weights @ spectra
    np.testing.assert_allclose(passed[:, 0], 1.0, rtol=1e-6)
    # beside the size of what cancels
    np.testing.assert_allclose(passed[:, 1:] / (np.abs(weights) @ np.abs(spectra[:, 1:])), 0.0, atol=1e-6)


def test_moments_are_the_derivatives_of_the_cib() -> None:
    # ln(nu^(3 + beta) / (exp(x) - 1)): by beta ln nu, by T x exp(x) / (exp(x) - 1) / T with x = h nu / kT; up to the
    # spectrum itself, which is deprojected too, and a factor
    cib, by_index, by_temperature = list_spectra(HFI, ("cib-moments",))[:, 2:].T
    freq_ghz = np.array([band.freq_ghz for band in HFI.bands])
    x = freq_ghz / (20.836619 * 24.0)
    for found, expected in (
        (by_index / cib, np.log(freq_ghz)),
        (by_temperature / cib, x * np.exp(x) / np.expm1(x)),
    ):
        steps, wanted = np.diff(found), np.diff(expected)
        np.testing.assert_allclose(steps / steps[0], wanted / wanted[0], rtol=2e-3)


@pytest.mark.parametrize(
    ("deproject", "message"),
    [
        (("dust",), "deproject names dust, expected some of cib, cib-moments, radio"),
        (("cib-moments", "radio"), "6 spectra, .* are to be told apart in 5 bands; deproject fewer"),
    ],
)
def test_refused_deprojections(deproject: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list_spectra(HFI.select(range(5)), deproject)


def test_ilc_recovers_y_and_removes_the_cmb() -> None:
    nside = 64
    pixels = np.arange(12 * nside**2)
    theta = healpy.rotator.angdist(healpy.pix2ang(nside, pixels, lonlat=True), [30.0, 40.0], lonlat=True)
    y = 1e-4 * np.exp(-0.5 * (np.degrees(theta) / 3.0) ** 2)
    cmb = 1e-4 * np.degrees(theta) / 50
    maps = (
        y[:, None] * HFI.tsz_response + cmb[:, None] * HFI.unit_per_kcmb + noise(pixels.shape)
    ).astype(np.float32)  # fmt: skip
    ilc = NeedletILC(HFI, nside, BEAMS, threads=1)
    with pytest.raises(RuntimeError, match=r"call fit\(maps\) before combine"):
        ilc.combine(maps)
    with pytest.raises(RuntimeError, match=r"call fit\(maps\) first"):
        _ = ilc.kept
    found = ilc.fit(maps)
    np.testing.assert_array_equal(found, ilc.combine(maps))
    near = theta < np.radians(6)
    np.testing.assert_allclose(found[near], y[near], atol=5e-6)
    assert np.std(found[~near] - y[~near]) < 2e-6
    # the CMB alone, 4e-4 K, behind one beam: less than 1e-3 of the y that it would be at 143 GHz (4e-4 / 2.8)
    same_beam = NeedletILC(HFI, nside, np.full(6, 5.0), threads=1)
    same_beam.fit(maps)
    assert np.abs(same_beam.combine((cmb[:, None] * HFI.unit_per_kcmb).astype(np.float32))).max() < 1.4e-7


def test_flat_ilc_gives_y_behind_ten_arcmin() -> None:
    # a cluster of FWHM 20 arcmin: behind a beam b its peak is 20^2 / (20^2 + b^2), its width the root of the sum
    n = 240
    field = noise((n, n), level=1e-8)
    for band, beam in enumerate(BEAMS):
        width = np.hypot(20.0, beam)
        field[..., band] += 1e-4 * (20.0 / width) ** 2 * gaussian_of(width, n) * HFI.tsz_response[band]
    rng = np.random.default_rng(2)
    cmb = 1e-4 * healpy_like_waves(rng, n)
    ilc = FlatILC(HFI, PIXEL_ARCMIN, BEAMS)
    with pytest.raises(RuntimeError, match=r"call fit\(field\) before combine"):
        ilc.combine(field.astype(np.float32))
    found = ilc.fit(field.astype(np.float32))
    expected = 1e-4 * 0.8 * gaussian_of(np.sqrt(500.0), n)  # 400 / 500
    inside = np.isfinite(found)
    # 10 arcmin, 5 pixels, of each border have no value
    assert inside[5:-5, 5:-5].all() and not inside[:5].any()
    # what the taper takes from the mean shifts all of it
    difference = (found - expected)[inside]
    np.testing.assert_allclose(difference - np.median(difference), 0.0, atol=4e-7)
    only_cmb = np.stack([cmb * factor for factor in HFI.unit_per_kcmb], axis=-1).astype(np.float32)
    same_beam = FlatILC(HFI, PIXEL_ARCMIN, np.full(6, 5.0))
    same_beam.fit(field.astype(np.float32))
    assert np.nanmax(np.abs(same_beam.combine(only_cmb))) < 1e-8


def healpy_like_waves(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """A smooth random field of rms 1."""
    waves = np.fft.rfft2(rng.standard_normal((n, n)))
    frequency = np.hypot(np.fft.fftfreq(n)[:, None], np.fft.rfftfreq(n))
    field = np.fft.irfft2(waves * np.exp(-0.5 * (frequency * 40) ** 2), s=(n, n))
    return np.asarray(field / field.std())


def test_moments_null_a_cib_of_varying_spectrum() -> None:
    # 1 MJy/sr of CIB whose index varies by 0.02 rms: one spectrum leaves what is of the first order in the index, the
    # moments what is of the second
    n = 160
    rng = np.random.default_rng(3)
    bright, index = healpy_like_waves(rng, n), 1.4 + 0.02 * healpy_like_waves(rng, n)
    steps = np.linspace(index.min(), index.max(), 40)
    table = np.stack([spectral_templates(HFI, ("dust",), dust_index=b, dust_temperature_k=24.0)[0] for b in steps])
    seen = np.stack([np.interp(index, steps, column) for column in table.T], axis=-1) * bright[..., None]
    field = noise((n, n), level=1e-9) + seen
    left = {
        deproject: FlatILC(HFI, PIXEL_ARCMIN, np.full(6, 5.0), deproject=deproject)
        for deproject in (("cib",), ("cib-moments",))
    }
    rms = {}
    for deproject, ilc in left.items():
        # weights that know nothing of this sky
        ilc.fit(noise((n, n), level=1e-6).astype(np.float32))
        rms[deproject] = float(np.nanstd(ilc.combine(seen.astype(np.float32))))
    assert rms[("cib-moments",)] < 0.05 * rms[("cib",)]
    assert np.nanstd(FlatILC(HFI, PIXEL_ARCMIN, np.full(6, 5.0), deproject=("cib-moments",)).fit(
        field.astype(np.float32))) < 1e-7  # fmt: skip


def test_scatter_is_that_of_the_noise_and_does_not_feel_a_cluster() -> None:
    nside = 128
    rng = np.random.default_rng(4)
    lon, lat = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    level = np.where(lat > 0, 2.0, 1.0)
    y = (level * rng.standard_normal(lon.size)).astype(np.float32)
    sigma = local_scatter(y)
    far = np.abs(lat) > 20  # cells are 7 deg
    np.testing.assert_allclose(sigma[far] / level[far], 1.0, atol=0.2)
    covered = np.abs(y[far]) < sigma[far]
    assert covered.mean() == pytest.approx(0.6827, abs=0.005)
    disc = healpy.query_disc(nside, healpy.ang2vec(50.0, 60.0, lonlat=True), np.radians(2.0))
    y[disc] += 1000.0
    assert np.abs(local_scatter(y)[disc] / sigma[disc] - 1).max() < 0.1
    y[:1000] = np.nan
    assert np.isnan(local_scatter(y)[:1000]).all() and np.isfinite(local_scatter(y)[1000:]).all()


@pytest.mark.parametrize("share", [0.9, 0.1])
def test_files_are_read_by_healpy(tmp_path: Path, share: float) -> None:
    n = 12 * 32**2
    y = np.random.default_rng(6).standard_normal(n).astype(np.float32)
    y[int(share * n) :] = np.nan
    path = YMap(y, 2 * y, deproject=("cib",)).write(tmp_path / "y.fits")
    for column, expected in enumerate((y, 2 * y)):
        found = healpy.read_map(path, field=column, dtype=np.float32)
        np.testing.assert_array_equal(np.where(found == healpy.UNSEEN, np.nan, found), expected)
    header = fits.getheader(path, 1)
    assert (header["FWHM"], header["DEPROJ"], header["COORDSYS"]) == (10.0, "cmb,cib", "G")


def sky(nside: int, seen: NDArray[np.bool_] | None = None) -> SkyMaps:
    """A sky of noise of 1e-6 K_CMB."""
    values = noise((12 * nside**2,), level=1e-6).astype(np.float32)
    seen = np.ones(len(values), bool) if seen is None else seen
    values[~seen] = 0
    return SkyMaps(values, seen, HFI.bands)


def test_y_map_of_a_sky_with_a_mask_and_of_a_field() -> None:
    nside = 128
    lon, lat = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    masked = make_y_map(sky(nside, np.abs(lat) > 20), HFI, BEAMS, threads=1)
    assert np.isnan(masked.y[np.abs(lat) < 20]).all() and np.isfinite(masked.y[np.abs(lat) > 25]).all()
    covered = np.abs(masked.y) < masked.sigma
    assert covered[np.isfinite(masked.y)].mean() == pytest.approx(0.68, abs=0.02)
    disc = healpy.rotator.angdist([lon, lat], [10.0, 50.0], lonlat=True) < np.radians(8)
    field = make_y_map(sky(nside, disc), HFI, BEAMS)
    inner = healpy.rotator.angdist([lon, lat], [10.0, 50.0], lonlat=True) < np.radians(6.5)
    assert np.isfinite(field.y[inner]).all() and np.isnan(field.y[~disc]).all()
    assert np.nanstd(field.y) == pytest.approx(np.nanstd(masked.y), rel=0.1)


def test_signal_free_combinations_are_all_that_hold_neither_sz_nor_cmb() -> None:
    weights, spectra = signal_free_spectra(HFI), list_spectra(HFI)
    assert np.linalg.matrix_rank(weights / np.abs(weights).max(axis=1)[:, None]) == 4
    # beside the size of what cancels
    left = np.abs(weights.T @ spectra) / (np.abs(weights).T @ np.abs(spectra))
    np.testing.assert_allclose(left, 0.0, atol=1e-12)


def with_signal(maps: SkyMaps, where: NDArray[np.bool_]) -> SkyMaps:
    """The maps with a y of 1e-5 in a Gaussian of 80 arcmin and a CMB of 1e-5 K in another, of all bands alike."""
    vectors = np.stack(healpy.pix2vec(maps.nside, np.arange(len(maps.values))), axis=1)
    cosines = vectors @ healpy.ang2vec([10.0, 13.0], [50.0, 51.0], lonlat=True).T
    y, cmb = (1e-5 * np.exp(-4 * np.log(2) * (np.degrees(np.arccos(np.clip(cosines, -1, 1))) * 60 / 80) ** 2)).T
    added = y[:, None] * HFI.tsz_response + cmb[:, None] * HFI.unit_per_kcmb
    values = np.where(where[:, None], maps.values + added, 0.0).astype(np.float32)
    return SkyMaps(values, maps.footprint, HFI.bands)


@pytest.mark.parametrize("of_field", [False, True])
def test_what_foregrounds_left_is_told_without_y(of_field: bool) -> None:
    """F, whatever it is, takes nothing from y: with a cluster and CMB added, y grows by the cluster as without F."""
    nside, beams = 128, np.full(6, 10.0)  # alike, as the signal that is added
    lon, lat = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    seen = np.ones(lon.size, bool)
    if of_field:
        seen = healpy.rotator.angdist([lon, lat], [10.0, 50.0], lonlat=True) < np.radians(11)
    quiet = sky(nside, seen)
    bright = with_signal(quiet, seen)
    free = [combine_bands(quiet, HFI, beams)]
    free.append(combine_bands(bright, HFI, beams, reference=free[0].reference))
    both = free[0].free.footprint & free[1].free.footprint
    level = free[0].free.values[both].std(axis=0)

    def tell(free: SkyMaps) -> NDArray[np.float32]:
        values = (free.values / level)[:, :4]  # the fifth feels the ILC's weights, which are fitted to each sky
        said = np.tanh(values.sum(axis=1)) + 0.3 * values[:, 0] ** 2
        return np.where(free.footprint, 1e-6 * said, np.nan).astype(np.float32)

    foregrounds = Foregrounds("f", free[0].reference, tell)
    told = [make_y_map(maps, HFI, beams, foregrounds=foregrounds) for maps in (quiet, bright)]
    plain = [make_y_map(maps, HFI, beams) for maps in (quiet, bright)]
    inner = np.isfinite(told[0].y) & (healpy.rotator.angdist([lon, lat], [10.0, 50.0], lonlat=True) < np.radians(6))
    assert np.std((told[0].y - plain[0].y)[inner]) > 0.2 * np.std(plain[0].y[inner])  # F says much
    growth = [(maps[1].y - maps[0].y)[inner] for maps in (told, plain)]
    scale = np.max(growth[1])
    assert scale > 5e-6
    difference = growth[0] - growth[1]  # up to a constant, as each map's median is taken off
    np.testing.assert_allclose(difference, np.median(difference), atol=1e-3 * scale)
    assert told[1].model == "f" and plain[1].model == ""
    change = (free[1].free.values - free[0].free.values)[both]
    np.testing.assert_allclose(change[:, :4] / level[:4], 0.0, atol=1e-3)
    assert np.std(change[:, 4]) < 0.005 * scale  # the bias of the ILC


def test_what_foregrounds_left_is_told_on_coarser_pixels() -> None:
    """Maps of nside 2048 have signal-free maps of nside 1024; what is said there is interpolated."""
    lat = {nside: healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)[1] for nside in (16, 32)}
    coarse, expected = ((3.0 + np.sin(np.radians(lat[nside]))).astype(np.float32) for nside in (16, 32))
    coarse[lat[16] > 60] = np.nan
    fine = _refine(coarse, 32)
    np.testing.assert_allclose(fine[lat[32] < 50], expected[lat[32] < 50], atol=0.01)
    assert np.isnan(fine[lat[32] > 65]).all() and _refine(coarse, 16) is coarse


def test_weights_of_a_sky_with_a_large_hole_do_not_ring() -> None:
    """Far from what was observed a covariance is rounding: weights of a hundred times those of the map came of it."""
    nside = 128
    lon, lat = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    seen = (np.abs(lat) > 35) & (lon < 200)
    values = sky(nside, seen).values
    values[healpy.rotator.angdist([lon, lat], [150.0, -45.0], lonlat=True) < np.radians(2), 5] *= (
        1e5  # a bright cloud
    )
    ilc = NeedletILC(HFI, nside, BEAMS)
    ilc.fit(values, seen)
    kept = healpy.ud_grade(ilc.kept.astype(float), 32) > 0.9
    assert ilc._weights is not None
    for scale in ilc._weights:
        weights = np.stack([synthesise(weight, 32, 1) for weight in scale], axis=1)
        assert np.abs(weights).max() < 10 * np.abs(weights[kept]).max()


def test_a_survey_that_is_no_field_and_a_small_part_of_the_sky_has_a_y_map() -> None:
    """A square of 24 deg, whose corners lie outside of a field's disc: half a per cent of the sky at any scale."""
    nside = 128
    lon, lat = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    seen = (np.abs(lon - 100) < 14) & (np.abs(lat - 30) < 12)
    part, whole = (make_y_map(maps, HFI, BEAMS) for maps in (sky(nside, seen), sky(nside)))
    inner = np.isfinite(part.y)  # within the fading
    assert inner.sum() > 0.2 * seen.sum()
    assert np.std(part.y[inner]) == pytest.approx(np.std(whole.y[inner]), rel=0.15)


def test_weights_pass_y_with_one_at_the_poles_too() -> None:
    ilc = NeedletILC(HFI, 64, BEAMS)
    ilc.fit(sky(64).values)
    assert ilc._weights is not None
    for scale in ilc._weights:
        weights = np.stack([synthesise(weight, 32, 1) for weight in scale], axis=1)
        np.testing.assert_allclose(weights @ HFI.tsz_kcmb, 1.0, atol=1e-3)


def test_refused_maps() -> None:
    with pytest.raises(ValueError, match="the maps have 6 bands, expected the 5 of planck-hfi"):
        make_y_map(sky(16), HFI.select(range(5)), BEAMS[:5])
    with pytest.raises(ValueError, match="footprint is empty"):
        make_y_map(sky(16, np.zeros(12 * 16**2, bool)), HFI, BEAMS)
    small = np.zeros(12 * 64**2, bool)
    small[healpy.query_disc(64, healpy.ang2vec(10.0, 50.0, lonlat=True), np.radians(0.7))] = True
    with pytest.raises(ValueError, match="10 arcmin away from"):
        make_y_map(sky(64, small), HFI, BEAMS)


def test_command(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    sky(64).save(run / "maps")
    done = szeek("ymap", run, "--deproject", "cib")
    assert "41253.0 deg^2" in done.stdout and str(run / "y.fits") in done.stdout
    shown = RunFolder(run).y_ring
    assert shown is not None and np.isfinite(shown).all() and RunFolder(run).y_fwhm_arcmin == 10.0
    seen = np.zeros(12 * 128**2, bool)
    seen[healpy.query_disc(128, healpy.ang2vec(10.0, 50.0, lonlat=True), np.radians(6))] = True
    sky(128, seen).save(tmp_path / "field" / "maps")
    told = szeek("ymap", tmp_path / "field", "--model", "szeek-y")
    assert "median error" in told.stdout
    assert fits.getheader(tmp_path / "field" / "y.fits", 1)["MODEL"] == "szeek-y"
    with pytest.raises(ValueError, match="leave out --out"):
        make_y_map_of(run, tmp_path / "other")
    with pytest.raises(ValueError, match="'demo' is a configuration; give --out"):
        make_y_map_of("demo")
    with pytest.raises(ValueError, match="names no maps"):
        make_y_map_of("bonjean2020", tmp_path / "other")
    with pytest.raises(ValueError, match="deproject names dust"):
        make_y_map_of(run, deproject=["dust"])
    with pytest.raises(ValueError, match="model is 'szeek-y' and deproject names cib"):
        make_y_map_of(run, deproject=["cib"], model="szeek-y")
    with pytest.raises(ValueError, match="'szeek-2' has learnt clusters, expected one that has learnt foregrounds"):
        make_y_map_of(run, model="szeek-2")
    with pytest.raises(ValueError, match="'szeek-y' has learnt foregrounds, expected one that has learnt clusters"):
        load_model("szeek-y")
