"""Fields of ground-based surveys: the lattice against astropy, spectra and fluxes against input, one sky for all."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import camb
import healpy
import numpy as np
import pytest
from act_like import act_like_instrument
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.wcs import WCS
from colossus.cosmology import cosmology
from colossus.lss import mass_function
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from szeek.config import Config, FieldConfig
from szeek.inputs.instrument import read_instrument
from szeek.physics.instrument import BandDetails
from szeek.simulate.components.cmb import lensed_spectrum
from szeek.simulate.components.sources import (
    RADIO_COUNTS,
    RADIO_COUNTS_JY,
    Sources,
    draw_dusty_sources,
    draw_faint_radio_sources,
)
from szeek.simulate.density import DensityShell, all_density_shells
from szeek.simulate.field import simulate as field_module
from szeek.simulate.field.coverage import add_noise, atmosphere_on, depth, inverse_variance, resample
from szeek.simulate.field.diffuse import (
    cib_filters,
    cib_on,
    cmb_filters,
    cmb_on,
    fine_cmb_spectrum,
    ksz_spectrum,
    narrow_beam,
)
from szeek.simulate.field.haloes import (
    CELL_NSIDE,
    M500_FULL_SKY_1E14MSUN,
    draw_faint_haloes,
    draw_velocities_kms,
    velocity_rms_kms,
)
from szeek.simulate.field.lattice import MARGIN, Lattice, multipoles
from szeek.simulate.field.paint import NARROW_SIGMA_ARCMIN, paint_clusters_on, paint_sources_on
from szeek.simulate.field.simulate import FieldOptions, SimulatedField, draw_field_haloes, simulate_field
from szeek.simulate.field.validate import matched_filter_sigma, measure_spectrum, published_model_uk2
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.validate import validate_sky

SEED = 3
ARCMIN = np.pi / 10800
QUIET = act_like_instrument()
LOUD = replace(QUIET, details=tuple(BandDetails(knee_ell=knee, slope=-3.5) for knee in (400.0, 500.0, 600.0)))
FIELD = FieldConfig(ra_deg=358.0, dec_deg=-30.0, width_deg=7.0, height_deg=7.0)
NSIDE = 256
LATTICE = field_module.field_lattice(FIELD)


@pytest.fixture(scope="module")
def shells() -> list[DensityShell]:
    return all_density_shells(SEED, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SimulatedField:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_module, "read_instrument", lambda name: LOUD)
        options = FieldOptions(field=FIELD, instrument="act-like+planck-hfi", seed=SEED, nside=NSIDE, threads=1)
        return simulate_field(options, tmp_path_factory.mktemp("field"))


def hann(lattice: Lattice) -> NDArray[np.float32]:
    window = np.outer(np.hanning(lattice.shape[0]), np.hanning(lattice.shape[1]))
    return np.asarray(window / np.sqrt(np.mean(window**2)), np.float32)


def mean_in_bins(power: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the modes between multipoles of a spectrum given at the nodes of the filters."""
    ell = multipoles()
    fine = np.arange(edges[0], edges[-1])
    values = np.interp(fine, ell, power)
    return np.array(
        [
            np.average(values[(fine >= a) & (fine < b)], weights=fine[(fine >= a) & (fine < b)])
            for a, b in pairwise(edges)
        ]
    )


# --- the lattice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixel_arcmin", [0.25, 0.5, 1.0])
def test_header_is_that_of_the_pixels(pixel_arcmin: float) -> None:
    lattice = Lattice.around(359.7, -40.0, 2.0, 1.5)
    image = resample(np.zeros(lattice.shape, np.float32), pixel_arcmin)
    every = pixel_arcmin / 0.5
    assert image.shape == tuple(int((n - 1) / every) + 1 for n in lattice.shape)
    row, column = np.array([0, 7, image.shape[0] - 1]), np.array([3, 0, image.shape[1] - 1])
    sky = WCS(lattice.header(pixel_arcmin)).pixel_to_world(column, row)
    np.testing.assert_allclose(sky.dec.deg, np.interp(row * every, np.arange(lattice.shape[0]), lattice.dec_deg))
    apart = sky.ra.deg - np.interp(column * every, np.arange(lattice.shape[1]), lattice.ra_deg)
    np.testing.assert_allclose((apart + 180) % 360 - 180, 0.0, atol=1e-9)


def test_galactic_places_and_back() -> None:
    lattice = Lattice.around(0.2, 50.0, 2.0, 1.5)
    colatitude, longitude = lattice.galactic
    sky = SkyCoord(lattice.ra_deg[5] % 360, lattice.dec_deg[9], unit="deg")
    assert 90 - np.degrees(colatitude[9, 5]) == pytest.approx(sky.galactic.b.deg, abs=1e-5)
    assert np.degrees(longitude[9, 5]) % 360 == pytest.approx(sky.galactic.l.deg, abs=1e-5)
    row, column = lattice.places(sky.ra.deg, sky.dec.deg)
    assert (row, column) == (pytest.approx(9.0, abs=1e-6), pytest.approx(5.0, abs=1e-6))
    # 3600 square arcmin of half a arcmin, cos(50 deg) as wide, twice over
    assert lattice.pixel_sr[lattice.shape[0] // 2] == pytest.approx(
        (0.5 * ARCMIN) ** 2 * np.cos(np.radians(50.0)), rel=1e-6
    )


def test_fields_share_their_random_numbers() -> None:
    one, other = Lattice.around(0.1, -20.0, 2.0, 2.0), Lattice.around(359.4, -20.5, 3.0, 1.5)
    row, column = other.places(one.ra_deg[80] % 360, one.dec_deg[100])
    assert one.white(1, "a")[100, 80] == other.white(1, "a")[round(float(row)), round(float(column))]
    assert one.white(1, "a")[100, 80] != one.white(2, "a")[100, 80]


@pytest.mark.parametrize("dec_deg", [0.0, -60.0])
def test_filtered_noise_has_the_spectrum_in_every_direction(dec_deg: float) -> None:
    lattice = Lattice.around(10.0, dec_deg, 5.0, 5.0)
    ell = multipoles()
    white = lattice.white(4, "test")
    power = (np.maximum(ell, 100.0) / 1000.0) ** -3
    filtered = lattice.convolve([white], [[np.sqrt(power)]])[0]
    window = hann(lattice)
    edges = np.arange(1000.0, 16001.0, 100.0)
    drawn = measure_spectrum(white * window, white * window, lattice, edges)
    assert drawn.mean() == pytest.approx(1.0, abs=0.01)
    ours = measure_spectrum(filtered * window, filtered * window, lattice, edges)
    ratio = ours / drawn / mean_in_bins(power, edges)
    for part in (slice(0, 10), slice(10, 50), slice(50, 150)):
        assert ratio[part].mean() == pytest.approx(1.0, abs=0.02)
    step = np.radians(1 / 120)
    cosine = np.cos(np.radians(lattice.dec_deg)).mean()
    k_y = 2 * np.pi * np.fft.fftfreq(lattice.shape[0], step)[:, None]
    k_x = 2 * np.pi * np.fft.rfftfreq(lattice.shape[1], step) / cosine
    near = (np.hypot(k_x, k_y) > 4000) & (np.hypot(k_x, k_y) < 8000)
    before, after = (np.abs(np.fft.rfft2(field * window)) ** 2 for field in (white, filtered))
    after *= np.maximum(np.hypot(k_x, k_y), 1.0) ** 3
    up, along = near & (np.abs(k_y) > 2 * k_x), near & (k_x > 2 * np.abs(k_y))
    assert (after[up].sum() / before[up].sum()) / (after[along].sum() / before[along].sum()) == pytest.approx(
        1, abs=0.02
    )


@pytest.mark.parametrize("dec_deg", [0.0, 65.0])
def test_a_beam_is_round_on_the_sphere(dec_deg: float) -> None:
    lattice = Lattice.around(10.0, dec_deg, 1.0, 1.0)
    sigma = 2.0 * ARCMIN
    point = np.zeros(lattice.shape, np.float32)
    row, column = (n // 2 for n in lattice.shape)
    point[row, column] = 1.0
    seen = lattice.convolve([point], [[np.exp(-0.5 * (multipoles() * sigma) ** 2)]])[0]
    centre = SkyCoord(lattice.ra_deg[column], lattice.dec_deg[row], unit="deg")
    for i, j in ((row + 8, column), (row, column + 9), (row - 5, column - 7)):
        away = centre.separation(SkyCoord(lattice.ra_deg[j], lattice.dec_deg[i], unit="deg")).rad
        expected = lattice.pixel_sr[row] / (2 * np.pi * sigma**2) * np.exp(-0.5 * (away / sigma) ** 2)
        assert seen[i, j] == pytest.approx(expected, rel=0.02)


# --- haloes and sources ----------------------------------------------------------------------------------------


def test_haloes_of_the_full_sky_are_the_same(shells: list[DensityShell]) -> None:
    full_sky = draw_haloes(SEED, shells=shells)
    haloes = draw_field_haloes(LATTICE, QUIET, SEED, shells)
    assert haloes.full_sky.colnames == full_sky.colnames
    bright = haloes.table[(haloes.table["m500_1e14msun"] >= M500_FULL_SKY_1E14MSUN) & (haloes.table["z"] < 1.5)]
    there = LATTICE.contains(np.asarray(full_sky["ra_deg"]), np.asarray(full_sky["dec_deg"]))
    here = bright[LATTICE.contains(np.asarray(bright["ra_deg"]), np.asarray(bright["dec_deg"]))]
    assert len(here) == there.sum() > 100
    for name in full_sky.colnames:
        np.testing.assert_array_equal(np.asarray(here[name]), np.asarray(full_sky[name][there]))
    np.testing.assert_array_equal(here["velocity_kms"], draw_velocities_kms(full_sky, SEED)[there])
    assert (np.diff(haloes.table["y500_arcmin2"]) <= 0).all()
    # the faint ones, as another field that overlaps has them
    other = Lattice.around(0.5, -30.5, 3.0, 3.0)
    cells = other.cells(CELL_NSIDE)
    again = vstack(draw_faint_haloes(SEED, cells, shells))
    again = again[
        LATTICE.contains(again["ra_deg"], again["dec_deg"]) & other.contains(again["ra_deg"], again["dec_deg"])
    ]
    row_of = {str(name): row for row, name in enumerate(haloes.table["name"])}
    rows = [row_of[str(name)] for name in again["name"]]
    assert len(rows) > 3000
    for name in ("z", "y500_arcmin2", "velocity_kms"):
        np.testing.assert_array_equal(haloes.table[name][rows], again[name])


def test_faint_haloes_have_the_numbers_of_the_mass_function(shells: list[DensityShell]) -> None:
    cells = np.arange(0, 12 * CELL_NSIDE**2, 61)
    drawn = draw_faint_haloes(SEED, cells, shells)
    mass, z = (np.concatenate([np.asarray(table[name]) for table in drawn]) for name in ("m500_1e14msun", "z"))
    share = cells.size / (12 * CELL_NSIDE**2)
    planck = cosmology.setCosmology("planck18", persistence="")
    for (low, high), (near, far) in [((0.1, 0.7), (0.3, 0.6)), ((0.1, 0.3), (0.8, 1.4)), ((1.0, 30.0), (1.5, 2.5))]:
        grid, nodes = np.geomspace(low * 1e14, high * 1e14, 200) * planck.h, np.linspace(near, far, 61)
        per_z = []
        for value in (nodes[1:] + nodes[:-1]) / 2:
            density = mass_function.massFunction(grid, value, mdef="500c", model="tinker08", q_out="dndlnM")
            volume = 4 * np.pi * planck.comovingDistance(0, value) ** 2 * 2997.92458 / planck.Ez(value)
            per_z.append(np.trapezoid(density / grid, grid) * volume)
        expected = float(np.sum(per_z) * (nodes[1] - nodes[0])) * share
        found = np.sum((mass > low) & (mass < high) & (z > near) & (z < far))
        assert found == pytest.approx(expected, abs=4 * np.hypot(expected**0.5, 0.02 * expected))
    assert not ((mass > 0.7) & (z < 1.5)).any()


def test_velocities_are_those_of_linear_theory() -> None:
    # f H0 sqrt(int P dk / 6 pi^2) of camb's spectrum and growth
    parameters = camb.set_params(
        H0=67.66, ombh2=0.02242, omch2=0.11933, mnu=0.06, ns=0.9665, As=1e-10 * np.exp(3.047)
    )
    parameters.set_matter_power(redshifts=[0.0], kmax=10.0)
    results = camb.get_results(parameters)
    k, _, power = results.get_matter_power_spectrum(minkh=1e-4, maxkh=5.0, npoints=400)
    growth = results.get_fsigma8()[0] / results.get_sigma8_0()
    expected = growth * 100.0 * np.sqrt(np.trapezoid(power[0], k) / (6 * np.pi**2))
    assert velocity_rms_kms(np.array([0.0]))[0] == pytest.approx(expected, rel=0.03)


def test_painted_flux_is_that_of_the_table() -> None:
    lattice = Lattice.around(100.0, -45.0, 3.0, 3.0)
    centre = SkyCoord([100.3, 99.5], [-45.2, -44.5], unit="deg").galactic
    clusters = Table({"lon_deg": centre.l.deg, "lat_deg": centre.b.deg, "theta500_arcmin": [1.0, 3.0]})
    clusters["y500_arcmin2"] = [1e-4, 5e-4]
    out = np.zeros((*lattice.shape, 2), np.float32)
    paint_clusters_on(lattice, clusters, np.array([[1.0, 2.0], [1.0, -1.0]]), out)
    flux = (out * lattice.pixel_sr[:, None, None]).sum(axis=(0, 1)) / ARCMIN**2
    np.testing.assert_allclose(flux, [1.79 * 6e-4, 1.79 * (2e-4 - 5e-4)], rtol=3e-3)


def test_painted_sources_have_their_flux_and_width() -> None:
    lattice = Lattice.around(0.0, 60.0, 1.0, 1.0)
    at = SkyCoord([0.13, 359.8], [60.02, 59.9], unit="deg").galactic
    sources = Sources(at.l.deg, at.b.deg, np.array([[1.0], [0.5]]), np.array([0.0, 3.0]))
    out = np.zeros((*lattice.shape, 1), np.float32)
    paint_sources_on(lattice, sources, np.array([1.0]), out)
    assert (out[:, :, 0] * lattice.pixel_sr[:, None]).sum() == pytest.approx(1.5, rel=1e-3)
    assert out.max() == pytest.approx(1.0 / (2 * np.pi * (NARROW_SIGMA_ARCMIN * ARCMIN) ** 2), rel=0.5)


def test_faint_radio_counts_continue_the_bright_ones() -> None:
    cells = range(0, 12 * CELL_NSIDE**2, 25)
    flux = np.concatenate([draw_faint_radio_sources(QUIET, 1, CELL_NSIDE, cell).flux_jy[:, 1] for cell in cells])
    at_143 = flux / (149.0 / 143.0) ** -0.65  # but for a scatter of 0.3 in the index, 1 % in flux
    solid_angle = len(cells) * healpy.nside2pixarea(CELL_NSIDE)
    edges = np.array([0.5e-3, 1e-3, 2e-3, 2.9e-3])
    found = np.histogram(at_143, edges)[0] / solid_angle
    # S^2.5 dN/dS = N_3 (S / 3 mJy)^0.5: dN/dS = N_3 3 mJy^-0.5 S^-2
    expected = RADIO_COUNTS[0] * RADIO_COUNTS_JY[0] ** -0.5 * (1 / edges[:-1] - 1 / edges[1:])
    np.testing.assert_allclose(found, expected, rtol=0.05)
    cell = 4321
    drawn = draw_faint_radio_sources(QUIET, 1, CELL_NSIDE, cell)
    assert (healpy.ang2pix(CELL_NSIDE, drawn.lon_deg, drawn.lat_deg, lonlat=True) == cell).all()


# --- what is diffuse -------------------------------------------------------------------------------------------


def test_cmb_has_the_lensed_spectrum_across_the_band_limit() -> None:
    lattice, lmax = Lattice.around(40.0, -20.0, 9.0, 9.0), 767
    low = cmb_on(lattice, lmax, 5, 1)
    filters = cmb_filters(lmax)
    cmb = lattice.convolve([low, lattice.white(5, "cmb")], [list(filters)])[0] * hann(lattice)
    edges = np.array([300.0, 600.0, 900.0, 1200.0, 1800.0, 2400.0, 3000.0, 4000.0, 5000.0, 6000.0])
    ours = measure_spectrum(cmb, cmb, lattice, edges)
    expected = mean_in_bins(fine_cmb_spectrum() + ksz_spectrum(), edges)
    # sqrt(2 / modes), of which a Hann window leaves (35/128 / (3/8)^2)^-2 = 1 / 3.78
    modes = np.diff(edges**2) * lattice.area_deg2 * np.radians(1.0) ** 2 / (4 * np.pi) / 3.78
    assert (np.abs(ours / expected - 1) < 4 * np.sqrt(2 / modes)).all()
    assert np.average(ours / expected, weights=modes) == pytest.approx(1.0, abs=4 * np.sqrt(2 / modes.sum()))


def test_fine_cmb_spectrum_joins_the_full_sky() -> None:
    ell = multipoles()[400:600]
    np.testing.assert_allclose(fine_cmb_spectrum()[400:600], lensed_spectrum(2400)[ell.astype(int)], rtol=2e-3)
    # an earlier run of camb, with less lensing: 0.5 % low at l = 3000, 5 % at 4000; beyond, lensing alone makes
    # D_l fall slowly, by a factor of less than 6 from l = 5000 to 10,000
    at = np.array([750, 1000])
    ratio = lensed_spectrum(4000)[[3000, 4000]] / fine_cmb_spectrum()[at]
    np.testing.assert_allclose(ratio, [0.995, 0.953], atol=3e-3)
    tail = fine_cmb_spectrum()[[1250, 2500]] * [5000 * 5001, 10000 * 10001]
    assert 3 < tail[0] / tail[1] < 6


def test_cib_has_the_power_that_south_pole_telescope_measured(shells: list[DensityShell]) -> None:
    # Reichardt et al. (2021): 7.24 + 4.03 uK^2 at l = 3000, 150 GHz; here without sources that are painted, 0.4 uK^2
    lattice, lmax = Lattice.around(40.0, -20.0, 5.0, 5.0), 767
    filters = cib_filters(QUIET, draw_dusty_sources(QUIET, 5), lmax, 5)
    fields = [cib_on(lattice, lmax, SEED, shells, 1), lattice.white(5, "cib")]
    bands = lattice.convolve(fields, [[filters[0][band], filters[1][band]] for band in (1, 2)])
    edges = np.array([2500.0, 3500.0])
    window = hann(lattice)
    f150, f220 = (band * window for band in bands)
    power = [measure_spectrum(*pair, lattice, edges)[0] for pair in ((f150, f150), (f220, f220), (f150, f220))]
    band_power = power[0] * 3000 * 3001 / (2 * np.pi) * 1e12
    assert band_power == pytest.approx(11.27 - 0.4, rel=0.12)
    assert power[2] == pytest.approx(np.sqrt(power[0] * power[1]), rel=1e-3)


def test_depth_has_edges_and_a_step() -> None:
    inner = LATTICE.without_margin()
    deep = depth(inner, 0)
    assert np.median(deep[deep > 0]) == pytest.approx(1.0)
    assert deep[0].max() == 0 and deep[:, 0].max() == 0
    middle = deep[deep.shape[0] // 2]
    assert middle[4 * middle.size // 5] == pytest.approx(2 * middle[middle.size // 5], rel=0.01)
    assert (depth(inner, 2) > 0).sum() < (deep > 0).sum()
    part = depth(inner, 0, observed=0.75)
    assert np.median(part[part > 0]) == pytest.approx(1.0)
    last = np.flatnonzero(part.any(axis=1))[-1]
    assert last / deep.shape[0] == pytest.approx(0.75, abs=0.01)
    assert np.flatnonzero(part.any(axis=1))[0] == np.flatnonzero(deep.any(axis=1))[0]


def test_noise_is_that_of_the_inverse_variance() -> None:
    inner = Lattice.around(10.0, -55.0, 4.0, 4.0).without_margin()
    for pixel_arcmin in (0.5, 1.0):
        ivar = inverse_variance(inner, QUIET, 1, pixel_arcmin)
        values = np.ones(ivar.shape, np.float32)
        add_noise(values, ivar, np.random.default_rng(1))
        assert (values[ivar == 0] == 0).all()
        seen = ivar > 0
        assert ((values[seen] - 1) * np.sqrt(ivar[seen])).std() == pytest.approx(1.0, abs=0.01)
        # 14 uK arcmin at median depth: 28 uK in 0.5 arcmin, and more where cos(dec) makes pixels smaller
        level = np.median(1 / np.sqrt(ivar[seen])) * 1e6 * pixel_arcmin * np.sqrt(np.cos(np.radians(55.0)))
        assert level == pytest.approx(14.0, rel=0.02)


def test_atmosphere_has_its_knee() -> None:
    lattice = Lattice.around(40.0, -20.0, 6.0, 6.0)
    noise = atmosphere_on(lattice, LOUD, 1, 1) * hann(lattice)
    edges = np.array([350.0, 450.0, 800.0, 1200.0])
    power = measure_spectrum(noise, noise, lattice, edges)[[0, 2]]
    white = (14e-6 * ARCMIN) ** 2
    np.testing.assert_allclose(power / white, [(400 / 500) ** -3.5, (1000 / 500) ** -3.5], rtol=0.25)


# --- the whole -------------------------------------------------------------------------------------------------


def test_files_are_those_of_a_survey(made: SimulatedField) -> None:
    record = json.loads((made.folder / "simulate.json").read_text())
    assert list(record["maps"]) == ["f090", "f150", "f220", "100", "143", "217", "353", "545", "857"]
    assert record["maps"]["143"] == f"planck-hfi/szeek_sim_143_{NSIDE}.fits"
    assert list(record["ivar"]) == list(record["beams"]) == ["f090", "f150", "f220"]
    inner = LATTICE.without_margin()
    for band in ("f090", "f150", "f220"):
        with fits.open(made.maps[band]) as image, fits.open(made.ivar[band]) as weight:
            assert image[0].header["BUNIT"] == "uK_CMB" and weight[0].header["BUNIT"] == "uK_CMB^-2"
            assert image[0].header["CTYPE1"] == "RA---CAR"
            assert image[0].data.shape == weight[0].data.shape == inner.shape
            assert image[0].data.dtype.itemsize == 4
            assert ((image[0].data == 0) == (weight[0].data == 0)).all()
    ell, beam = np.loadtxt(made.beams["f150"]).T
    sigma = 1.4 / np.sqrt(8 * np.log(2)) * ARCMIN
    np.testing.assert_allclose(beam, np.exp(-0.5 * (ell * sigma) ** 2), atol=1e-6)
    truth = Table.read(made.catalogues["truth"])
    assert inner.contains(np.asarray(truth["ra_deg"]), np.asarray(truth["dec_deg"])).all()
    known = Table.read(made.catalogues["redmapper"])
    for row in known[known["truth_row"] >= 0]:
        assert abs(row["dec_deg"] - truth["dec_deg"][row["truth_row"]]) < 0.2


def test_bright_clusters_and_sources_are_where_the_truth_says(made: SimulatedField) -> None:
    with fits.open(made.maps["f150"]) as image, fits.open(made.maps["f090"]) as other:
        wcs = WCS(image[0].header)
        f150, f090 = (np.asarray(hdus[0].data, np.float64) for hdus in (image, other))
    inner = LATTICE.without_margin()
    sources = Table.read(made.catalogues["sources"])
    for row in sources[np.argsort(-sources["flux_mjy_f150"])][:5]:
        x, y = np.rint(wcs.world_to_pixel_values(row["ra_deg"], row["dec_deg"])).astype(int)
        if not (30 < x < f150.shape[1] - 30 and 30 < y < f150.shape[0] - 30):
            continue
        # peak of a point through 1.4 arcmin: S / (2 pi sigma^2), a little less off the pixel's centre
        solid_angle = 2 * np.pi * (1.4 / np.sqrt(8 * np.log(2)) * ARCMIN) ** 2
        peak = row["flux_mjy_f150"] * 1e-9 / QUIET.mjysr_per_kcmb[1] / solid_angle * 1e6
        above = f150[y - 1 : y + 2, x - 1 : x + 2].max() - np.median(f150[y - 12 : y + 13, x - 12 : x + 13])
        assert above == pytest.approx(peak, rel=0.2, abs=120)
    truth = Table.read(made.catalogues["truth"])
    depths = []
    for row in truth[:40]:
        x, y = np.rint(wcs.world_to_pixel_values(row["ra_deg"], row["dec_deg"])).astype(int)
        if 30 < x < f150.shape[1] - 30 and 30 < y < f150.shape[0] - 30:
            ring = [f[y - 16 : y + 17, x - 16 : x + 17] for f in (f090, f150)]
            depths.append([f[15:18, 15:18].mean() - np.median(f) for f in ring])
    assert len(depths) > 20
    assert (np.median(depths, axis=0) < -5).all()
    assert inner.shape == f150.shape


def test_planck_and_the_ground_see_one_sky(made: SimulatedField) -> None:
    planck = healpy.read_map(made.maps["143"])
    with fits.open(made.maps["f150"]) as image:
        values, sky = image[0].data.astype(np.float64), WCS(image[0].header)
    sigma = 10.0 / 0.5 / np.sqrt(8 * np.log(2))
    smooth = gaussian_filter(values, [sigma, sigma / np.cos(np.radians(30.0))])
    centre = SkyCoord(FIELD.ra_deg, FIELD.dec_deg, unit="deg").galactic
    pixels = healpy.query_disc(NSIDE, healpy.ang2vec(centre.l.deg, centre.b.deg, lonlat=True), np.radians(3.0))
    lon, lat = healpy.pix2ang(NSIDE, pixels, lonlat=True)
    icrs = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs
    ours = map_coordinates(smooth, sky.world_to_pixel_values(icrs.ra.deg, icrs.dec.deg)[::-1], order=1)
    assert np.corrcoef(ours, planck[pixels])[0, 1] > 0.95
    assert np.polyfit(planck[pixels] * 1e6, ours, 1)[0] == pytest.approx(1.0, abs=0.1)


def test_configuration_of_a_field() -> None:
    field = FieldConfig(lon_deg=57.8, lat_deg=88.0)
    ra_deg, dec_deg = field.centre_deg
    coma = SkyCoord(57.8, 88.0, unit="deg", frame="galactic").icrs
    assert (ra_deg, dec_deg) == (pytest.approx(coma.ra.deg, abs=1e-4), pytest.approx(coma.dec.deg, abs=1e-4))
    with pytest.raises(ValueError, match="no centre or two, expected either ra_deg and dec_deg"):
        FieldConfig(ra_deg=1.0)
    with pytest.raises(ValueError, match="within 85 deg of the equator"):
        FieldConfig(ra_deg=1.0, dec_deg=78.0)
    config = Config.model_validate({"sky": {"simulate": True, "field": {"ra_deg": 1.0, "dec_deg": 2.0}}})
    assert config.sky.field is not None and config.sky.field.pixel_arcmin == 0.5


def test_bands_of_a_field_are_those_of_the_ground(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"band 353 of 'planck-hfi' is at 353 GHz in K_CMB, expected bands between"):
        simulate_field(FieldOptions(field=FIELD, instrument="planck-hfi"), tmp_path)
    assert read_instrument("planck-hfi").bands[3].name == "353"


def test_narrow_beam_is_sampled() -> None:
    # the Gaussian of sigma 0.36 arcmin at Nyquist of 0.5 arcmin: exp(-(pi 0.72)^2 / 2) = 0.077
    assert narrow_beam(np.array([np.pi / (0.5 * ARCMIN)]))[0] == pytest.approx(0.0774, abs=1e-3)
    assert MARGIN == 60


def test_cells_about_a_corner_of_seven_neighbours_are_cells() -> None:
    """At (l, b) = (90, 41.8) deg three base pixels meet: healpy says -1 for the neighbour that is not there."""
    at = SkyCoord(l=90.0, b=41.81, unit="deg", frame="galactic").icrs
    cells = Lattice.around(at.ra.deg, at.dec.deg, 2.0, 2.0).cells(8)
    assert (healpy.get_all_neighbours(8, cells) < 0).any()
    assert cells.min() >= 0


# --- against published numbers ---------------------------------------------------------------------------------


def test_matched_filter_of_a_point_in_white_noise() -> None:
    # 10,000 uK arcmin: int l dl / 2 pi exp(-l^2 sigma^2) / N = 1 / (4 pi sigma^2 N)
    deep = replace(QUIET.select([1]), noise_uk_deg=np.array([1e4 / 60]))
    sigma = 1.4 / np.sqrt(8 * np.log(2)) * ARCMIN
    expected = np.sqrt(4 * np.pi) * sigma * 1e-2 * ARCMIN / abs(QUIET.tsz_kcmb[1]) / ARCMIN**2 / 1.79
    assert matched_filter_sigma(deep, np.array([0.01]), 1)[0] == pytest.approx(expected, rel=0.02)


def test_published_model_by_hand() -> None:
    # 150 GHz, l = 3000: CMB 28.1; tSZ 3.42 (0.9524 / 1.0415)^2 = 2.86; 3.0; 7.24; 4.03; 1.01; correlation
    # -2 x 0.076 sqrt(2.86 x 11.27) = -0.86
    assert published_model_uk2(150.0, 3000) == pytest.approx(28.1 + 2.86 + 3.0 + 7.24 + 4.03 + 1.01 - 0.86, abs=0.2)


def test_a_field_is_validated(made: SimulatedField) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(field_module, "read_instrument", lambda name: LOUD)
        checks = validate_sky(made.folder)
    ours = {row["check"]: row["ours"] for row in checks}
    assert (made.folder / "validation.html").is_file()
    # 45 deg^2 have few of anything; the noise must be out of the spectra
    assert ours["D_3000 at 149 GHz, uK^2"] == pytest.approx(45.4, rel=0.4)
    assert 0.2 < ours["clusters of S/N > 4 per deg^2, ideal filter"] < 2.0
