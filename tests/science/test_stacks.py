"""Stacks give back what was painted, their errors hold the truth, their nulls are null; then the real Coma field."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy import stats
from scipy.ndimage import map_coordinates

from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.inputs.mapfiles import read_skymaps
from szeek.simulate.clusters import paint_y
from szeek.sky.skymaps import Band, SkyMaps
from szeek.stack.nulls import matched_positions, measure_nulls
from szeek.stack.profiles import gaussian_aperture_fraction, measure_fluxes, measure_profile, measure_significance
from szeek.stack.spectrum import fit_spectrum
from szeek.stack.stacks import Stack, mask_sources, measure_error, stack_at

Y5R500_PER_Y500 = 1.79  # Arnaud et al. (2010), cylindrical within 5 R500


def random_positions(rng: np.random.Generator, n: int) -> Table:
    return Table({"lon_deg": rng.uniform(0, 360, n), "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n)))})


def test_stacked_flux_is_the_painted_one() -> None:
    """300 clusters of known Y500, 10 arcmin beam, in noise ten times as large as their peaks' tenth: the mean flux
    within 25 arcmin is 1.79 Y500 within 3 %, source by source and in the stack."""
    rng = np.random.default_rng(1)
    clusters = random_positions(rng, 300)
    clusters["theta500_arcmin"] = rng.uniform(1, 3, 300)
    clusters["y500_arcmin2"] = 1e-3 * rng.lognormal(0, 0.5, 300)
    y_map = paint_y(clusters, 1024, 10.0)
    y_map += rng.normal(0, 1e-6, y_map.size).astype(np.float32)
    truth = Y5R500_PER_Y500 * np.asarray(clusters["y500_arcmin2"])

    flux = measure_fluxes(y_map, clusters, 25.0, (35.0, 50.0))[:, 0]
    error = flux.std() / np.sqrt(300)
    assert error < 0.05 * truth.mean()
    assert flux.mean() / truth.mean() == pytest.approx(1, abs=0.03)
    # each cluster's flux follows its own truth
    slope, intercept = np.polyfit(truth, flux, 1)
    assert slope == pytest.approx(1, abs=0.03)
    assert abs(intercept) < 0.03 * truth.mean()
    # the same in the stacked image
    stack = stack_at(y_map, clusters, size=80, background_arcmin=(40.0, 60.0))
    inside = stack.radius_arcmin < 25
    area_arcmin2 = np.count_nonzero(inside) * stack.pixel_arcmin**2
    assert stack.mean[inside, 0].mean() * area_arcmin2 / truth.mean() == pytest.approx(1, abs=0.03)
    # and a shuffled sky has none
    elsewhere = measure_fluxes(y_map, random_positions(rng, 300), 25.0, (35.0, 50.0))[:, 0]
    assert abs(np.median(elsewhere)) < 0.05 * truth.mean()


@pytest.mark.parametrize("correlated", [False, True])
def test_bootstrap_intervals_hold_the_truth_68_per_cent_of_the_time(correlated: bool) -> None:
    """200 toy skies of unit noise, 300 sources each with signal 0. Independent noise: both bootstraps cover. Noise
    that neighbouring sources share: only the bootstrap over blocks does."""
    covered = np.zeros((200, 2), bool)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        if correlated:  # one number per nside-4 cell, shared by the sources in it, beside each source's own noise
            cell = healpy.ang2pix(4, *healpy.pix2ang(32, np.arange(12 * 32**2), lonlat=True), lonlat=True)
            sky = 2 * rng.standard_normal(192)[cell] + rng.standard_normal(cell.size)
        else:
            sky = rng.standard_normal(12 * 32**2)
        stack = stack_at(
            sky.astype(np.float32), random_positions(rng, 300), size=1, angle_deg=0.0, background_arcmin=None,
            seed=seed, n_threads=1,
        )  # fmt: skip
        for k, blocks in enumerate((False, True)):
            covered[seed, k] = abs(stack.mean[0, 0, 0]) < measure_error(stack, blocks=blocks, seed=seed)[0, 0, 0]
    by_source, by_block = covered.mean(axis=0)
    # 200 skies measure 0.683 to 0.033
    assert by_block == pytest.approx(0.683, abs=0.07)
    if correlated:
        assert by_source < 0.60
    else:
        assert by_source == pytest.approx(0.683, abs=0.05)


def test_null_stacks_have_uniform_probabilities() -> None:
    """100 null sets of 150 matched positions in noise with a red spectrum and dust: chi-square probabilities of
    their profiles are uniform (KS)."""
    nside = 128
    rng = np.random.default_rng(3)
    lat_deg = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)[1]
    ell = np.arange(3 * nside)
    red = healpy.synfast(1 / (ell + 10.0) ** 2, nside, new=True)
    dust = np.exp(red / red.std()) / (0.1 + np.abs(np.sin(np.radians(lat_deg))))
    sky = (rng.standard_normal(red.size) + red / red.std() + 0.02 * dust).astype(np.float32)
    nulls = measure_nulls(
        sky, random_positions(rng, 150), dust, [0, 60, 120, 200, 300], n_sets=100, size=20, pixel_arcmin=40.0,
        background_arcmin=(300.0, 380.0), n_groups=50, n_threads=1,
    )  # fmt: skip
    assert nulls.ks_p_value[0] > 0.01
    # the bootstrap's covariance is that between the sets
    assert nulls.p_value.mean() == pytest.approx(0.5, abs=0.1)


def read_milca(folder: Path, nside: int = 2048) -> SkyMaps:
    """Mean and half difference of the two MILCA halves, at the centres of HEALPix pixels, by linear interpolation."""
    halves, inside, ipix = [], None, None
    for name in ("first", "last"):
        with fits.open(folder / f"milca_{name}_coma.fits") as hdus:
            wcs, image = WCS(hdus[1].header), np.asarray(hdus[1].data, float)
        if ipix is None:
            centre = wcs.pixel_to_world(image.shape[1] / 2, image.shape[0] / 2).galactic
            ipix = healpy.query_disc(nside, healpy.ang2vec(centre.l.deg, centre.b.deg, lonlat=True), np.radians(12))
            lon_deg, lat_deg = healpy.pix2ang(nside, ipix, lonlat=True)
            x, y = wcs.world_to_pixel(SkyCoord(lon_deg, lat_deg, frame="galactic", unit="deg"))
            inside = (x > 0) & (y > 0) & (x < image.shape[1] - 1) & (y < image.shape[0] - 1)
        halves.append(map_coordinates(image, [y[inside], x[inside]], order=1))
    values = np.zeros((12 * nside**2, 2), np.float32)
    footprint = np.zeros(12 * nside**2, bool)
    footprint[ipix[inside]] = True
    values[ipix[inside]] = np.stack([(halves[0] + halves[1]) / 2, (halves[0] - halves[1]) / 2], axis=1)
    bands = tuple(Band(name, np.nan, 10.0, "Compton y") for name in ("y", "noise"))
    return SkyMaps(values, footprint, bands)


@pytest.fixture(scope="module")
def coma_field(real_data: Path) -> tuple[SkyMaps, SkyMaps, np.ndarray]:
    """MILCA, the six HFI bands, and a mask of Coma itself (1.5 deg) in them."""
    folder = real_data / "maps" / "coma"
    milca = read_milca(folder)
    files = {band: folder / f"hfi_{band}_coma.fits" for band in read_instrument().band_names}
    mask = mask_sources(2048, Table({"lon_deg": [57.80], "lat_deg": [88.00]}), 90.0)
    return milca, read_skymaps(files), mask


def inside(clusters: Table, sky: SkyMaps, mask: np.ndarray, margin_arcmin: float) -> Table:
    """Clusters whose surroundings lie within the field."""
    good = []
    seen = sky.footprint & mask
    for row in clusters:
        vector = healpy.ang2vec(row["lon_deg"], row["lat_deg"], lonlat=True)
        good.append(seen[healpy.query_disc(sky.nside, vector, np.radians(margin_arcmin / 60))].mean() > 0.98)
    return clusters[np.array(good, bool)] if len(clusters) else clusters


SMALL = {"size": 60, "background_arcmin": (30.0, 50.0)}


def describe(name: str, stack: Stack) -> str:
    profile = measure_profile(stack, [0, 6, 12, 20, 30])
    table = measure_significance(profile)
    return f"{name}: {stack.n_source} sources, " + "; ".join(
        f"{row['map']} centre {profile.mean[k, 0]:.2e} +- {profile.error[k, 0]:.1e}, p = {row['p_value']:.1e}"
        for k, row in enumerate(table)
    )


@pytest.mark.realdata
def test_redmapper_and_mcxc_clusters_in_real_milca(
    real_data: Path, coma_field: tuple[SkyMaps, SkyMaps, np.ndarray]
) -> None:
    """redMaPPer clusters of richness > 30 in the Coma field stand out in the real y map; the half difference, and
    matched positions, do not."""
    milca, hfi, mask = coma_field
    redmapper = read_catalogue(real_data / "catalogues" / "redmapper_sdss_dr8_v6.3.csv")
    near = SkyCoord(redmapper["lon_deg"], redmapper["lat_deg"], unit="deg").separation(
        SkyCoord(57.8, 88.0, unit="deg")
    )
    rich = redmapper[(near.deg < 9) & (np.asarray(redmapper["richness"]) > 30)]
    rich = inside(rich, milca, mask & hfi.footprint, 25.0)
    assert len(rich) > 30
    stack = stack_at(milca, rich, mask=mask, **SMALL)
    print(describe("redMaPPer > 30", stack))
    profile = measure_profile(stack, [0, 6, 12, 20])
    table = measure_significance(profile)
    assert profile.mean[0, 0] > 4 * profile.error[0, 0]
    assert 5e-7 < profile.mean[0, 0] < 1e-5
    assert table["p_value"][1] > 1e-3  # the half difference holds noise only

    richer = rich[np.asarray(rich["richness"]) > 50]
    if len(richer) > 5:
        bright = stack_at(milca, richer, mask=mask, **SMALL)
        print(describe("redMaPPer > 50", bright))
        assert measure_profile(bright, [0, 6]).mean[0, 0] > profile.mean[0, 0]

    # null: as many positions, ten times over, of the same dust (857 GHz at 14 arcmin) in the same field
    dust = np.full(12 * 256**2, np.nan)
    bright_857 = np.where(hfi.footprint, hfi.values[:, 5], np.nan)
    dust[:] = healpy.ud_grade(np.where(np.isnan(bright_857), healpy.UNSEEN, bright_857), 256)
    dust[dust < -1e30] = np.nan
    sets = [matched_positions(rich, dust, milca.footprint & mask, n_dust_bins=4, seed=k) for k in range(10)]
    null = [
        measure_profile(stack_at(milca, places, mask=mask, **SMALL), [0, 6, 12, 20]).mean[0, 0] for places in sets
    ]
    centre = np.array(null)
    print(f"nulls: centre {centre.mean():.2e} +- {centre.std(ddof=1):.1e}")
    assert abs(centre.mean()) < 3 * centre.std(ddof=1) / np.sqrt(10) + 2e-7
    assert profile.mean[0, 0] - centre.mean() > 4 * centre.std(ddof=1)

    mcxc = inside(read_catalogue(real_data / "catalogues" / "mcxc.fits"), milca, mask, 25.0)
    if len(mcxc) > 3:
        print(describe("MCXC", stack_at(milca, mcxc, mask=mask, **SMALL)))


@pytest.mark.realdata
def test_tsz_spectrum_at_psz2_positions_agrees_with_milca(
    real_data: Path, coma_field: tuple[SkyMaps, SkyMaps, np.ndarray]
) -> None:
    """The three confirmed, isolated PSZ2 clusters of the Coma field: decrement at 100 and 143 GHz, and the y of the
    six-band fit agrees with MILCA's."""
    milca, hfi, mask = coma_field
    psz2 = read_catalogue(real_data / "catalogues" / "HFI_PCCS_SZ-union_R2.08.fits")
    names = ["PSZ2 G023.17+86.71", "PSZ2 G259.30+84.41", "PSZ2 G343.33+83.19"]
    clusters = psz2[np.isin(psz2["name"], names)]
    assert len(clusters) == 3
    radius, annulus = 12.0, (20.0, 35.0)
    rng = np.random.default_rng(0)
    footprint = hfi.footprint & mask
    pixels = rng.choice(np.flatnonzero(footprint), 3000, replace=False)
    lon_deg, lat_deg = healpy.pix2ang(2048, pixels, lonlat=True)
    random = inside(Table({"lon_deg": lon_deg, "lat_deg": lat_deg}), hfi, mask, 36.0)
    flux = measure_fluxes(hfi, clusters, radius, annulus).mean(axis=0)
    null = measure_fluxes(hfi, random, radius, annulus)
    covariance = np.cov(null, rowvar=False) / len(clusters)
    instrument = read_instrument()
    # point-like at these resolutions but for the beams: theta500 of 3 to 7 arcmin, FWHM of about 6 across
    beam = np.array(
        [gaussian_aperture_fraction(np.hypot(band.fwhm_arcmin, 6.0), radius, annulus) for band in instrument.bands]
    )
    fit = fit_spectrum(flux, covariance, instrument, ["tsz", "dust", "cmb"], beam_factor=beam)
    milca_fraction = gaussian_aperture_fraction(np.hypot(10.0, 6.0), radius, annulus)
    milca_flux = measure_fluxes(milca, clusters, radius, annulus)[:, 0]
    milca_null = measure_fluxes(milca, random, radius, annulus)[:, 0]
    milca_y = milca_flux.mean() / milca_fraction
    milca_error = milca_null[np.isfinite(milca_null)].std() / np.sqrt(3) / milca_fraction
    print(f"six-band y flux {fit.amplitude[0]:.2e} +- {fit.error[0]:.1e} arcmin^2, MILCA {milca_y:.2e} +- "
          f"{milca_error:.1e}; chi2 {fit.chi2:.1f} / {fit.n_freedom}")  # fmt: skip
    assert fit.amplitude[0] > 3 * fit.error[0]
    assert abs(fit.amplitude[0] - milca_y) < 2.5 * np.hypot(fit.error[0], milca_error)
    assert stats.chi2.sf(fit.chi2, fit.n_freedom) > 1e-3
    # the decrement itself, CMB taken off with 217 GHz: negative at 143 GHz
    assert flux[1] - flux[2] < 0
