"""The matched filter against the textbook's noise and painted clusters: unit variance, no bias, unit pulls, nulls."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.table import Table
from noise_field import CENTRE, HFI, NSIDE, SIGMA_Y, cluster_grid, noise_sky, vectors_of
from numpy.typing import NDArray
from scipy import sparse
from scipy.ndimage import map_coordinates
from scipy.sparse.linalg import spsolve

from szeek.filter.layout import list_fields
from szeek.filter.matchedfilter import FilteredField, _discs, _fill_holes
from szeek.filter.search import matched_filter, merge_detections
from szeek.physics.gas import Y5R500_PER_Y500, profile_transform
from szeek.sky.healpix import pixel_window_sigma_rad
from szeek.sky.projection import project
from szeek.sky.skymaps import SkyMaps

ARCMIN = np.pi / 10800


def y500_at(field: FilteredField, theta500_arcmin: float, clusters: Table) -> tuple[NDArray[np.float64], float]:
    """Y500 of one size at positions, and its error."""
    snr, sigma = field.snr_map(theta500_arcmin)
    x, y, _ = project(field.basis, vectors_of(clusters), field.pixel_arcmin)
    middle = (field.n - 1) / 2
    true_area = (vectors_of(clusters) @ field.basis[0]) ** 3
    return map_coordinates(snr, [y + middle, x + middle], order=3) * sigma * true_area / 1.79, sigma / 1.79


@pytest.fixture(scope="module")
def noise_field() -> FilteredField:
    return FilteredField(noise_sky(), *CENTRE, HFI)


@pytest.mark.parametrize("theta", [0.9, 5.0, 20.0])
def test_noise_alone_has_unit_variance(noise_field: FilteredField, theta: float) -> None:
    inside = noise_field.snr_map(theta)[0][noise_field.valid]
    # independent values: one per area of the filter
    n_independent = inside.size * noise_field.pixel_arcmin**2 / (np.pi * (10 + 2 * theta) ** 2)
    assert abs(inside.std() - 1) < 3 / np.sqrt(2 * n_independent)
    assert abs(inside.mean()) < 3 / np.sqrt(n_independent)


def test_noise_alone_has_the_detections_of_gaussian_noise(noise_field: FilteredField) -> None:
    assert not noise_field.compact.any()
    assert len(noise_field.find_peaks(*noise_field.best_snr(), 5.5).snr) == 0


def test_error_is_that_of_the_textbook_formula(noise_field: FilteredField) -> None:
    """White noise: 1/sigma^2 = sum_b int k dk/(2 pi) (s B_b)^2 / P, P = SIGMA_Y^2 x area of a pixel."""
    theta = 8.0
    k = np.linspace(1, 9000, 20000)
    total = 0.0
    for band in HFI.bands:
        # the pixel smooths the cluster; bilinear sampling smooths cluster and noise alike, and drops out
        sigma2 = (band.fwhm_arcmin * ARCMIN / np.sqrt(8 * np.log(2))) ** 2 + pixel_window_sigma_rad(NSIDE) ** 2
        seen = profile_transform(np.minimum(k * theta * ARCMIN, 400)) * np.exp(-0.5 * k**2 * sigma2)
        total += np.trapezoid(k * seen**2, k) / (2 * np.pi)
    expected = SIGMA_Y * np.sqrt(healpy.nside2pixarea(NSIDE) / total) / ARCMIN**2
    # 3 %: low multipoles are not used, and P has the scatter of its modes
    assert noise_field.snr_map(theta)[1] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize(("theta", "n", "step_deg"), [(1.0, 7, 1.2), (6.0, 5, 1.8), (18.0, 2, 5.0)])
def test_flux_is_recovered_without_bias_and_with_unit_pulls(
    noise_field: FilteredField, theta: float, n: int, step_deg: float
) -> None:
    y500 = 8 * noise_field.snr_map(theta)[1] / Y5R500_PER_Y500
    clusters = cluster_grid(theta, y500, n, step_deg)
    found, error = y500_at(FilteredField(noise_sky(clusters), *CENTRE, HFI), theta, clusters)
    pull = (found - y500) / error
    assert abs(pull.mean()) < 2.5 / n
    assert abs(pull.std(ddof=1) - 1) < 2.5 / np.sqrt(2 * (n * n - 1))
    # without the noise: the difference of two skies with the same one, 1 % for 49 clusters of S/N 8
    quiet, _ = y500_at(noise_field, theta, clusters)
    assert (found - quiet).mean() == pytest.approx(y500, rel=0.02)


def test_ring_sums_are_the_filtered_map(noise_field: FilteredField) -> None:
    row, column = np.array([200.0, 256.25, 300.7]), np.array([180.0, 250.5, 320.3])
    sums = noise_field.ring_sums(noise_field.directions(row, column)[0])
    for theta in (1.0, 20.0):
        shape = profile_transform(noise_field.ell * theta * ARCMIN)
        information = noise_field.response @ noise_field.information(shape) @ noise_field.response
        snr = np.einsum("l,mlb,b->m", shape, sums, noise_field.response) / np.sqrt(information)
        map_, sigma = noise_field.snr_map(theta)
        np.testing.assert_allclose(snr, map_coordinates(map_, [row, column], order=3), atol=0.01)
        assert 1 / np.sqrt(information) / ARCMIN**2 == pytest.approx(sigma, rel=1e-6)


def test_iteration_takes_clusters_out_of_the_noise() -> None:
    bright = cluster_grid(3.0, 5e-3, 7, 1.2)
    sky = noise_sky(bright)
    once = FilteredField(sky, *CENTRE, HFI, iterate=False).snr_map(3.0)[1]
    twice = FilteredField(sky, *CENTRE, HFI, iterate=True).snr_map(3.0)[1]
    alone = FilteredField(noise_sky(), *CENTRE, HFI).snr_map(3.0)[1]
    assert once > 1.15 * alone
    assert twice == pytest.approx(alone, rel=0.03)


@pytest.mark.parametrize(
    ("kind", "index"),
    [("radio", -0.7), ("dust", 3.4)],
)
def test_compact_sources_are_no_clusters(kind: str, index: float) -> None:
    """Point sources of S/N 30 to 300 in one band: what is left of them is below the threshold."""
    freq = np.array([band.freq_ghz for band in HFI.bands])
    spectrum = (freq / freq[0 if kind == "radio" else -1]) ** index * HFI.unit_per_kcmb / HFI.mjysr_per_kcmb
    sources = cluster_grid(1e-3, 1.0, 5, 1.6)
    # Jy arcmin^2 and the like do not matter: in units of a pixel's noise in the band where the source is brightest
    scale = np.min(SIGMA_Y * np.abs(HFI.tsz_response) / spectrum)
    sources["response"] = np.geomspace(400, 4000, 25)[:, None] * scale * spectrum / Y5R500_PER_Y500
    field = FilteredField(noise_sky(sources=sources), *CENTRE, HFI)
    vectors = vectors_of(sources)
    x, y, _ = project(field.basis, vectors, field.pixel_arcmin)
    middle = (field.n - 1) / 2
    assert field.compact[np.rint(y + middle).astype(int), np.rint(x + middle).astype(int)].mean() > 0.9
    peaks = field.find_peaks(*field.best_snr(), 5.0)
    assert len(peaks.snr) == 0
    # and where they are to be measured they stay
    kept = FilteredField(noise_sky(sources=sources), *CENTRE, HFI, keep=vectors)
    assert np.abs(kept.snr_map(1.0)[0]).max() > 2 * np.abs(field.snr_map(1.0)[0]).max()


def test_detections_of_a_cut_out() -> None:
    """Footprint of 50 deg^2 in several fields: all clusters once, where and as large as they are, none besides."""
    y500 = 0.01  # S/N 20
    clusters = cluster_grid(5.0, y500, 3, 1.7)
    maps = noise_sky(clusters, radius_deg=4.5)
    fields = list_fields(maps)
    assert len(fields) > 2
    out = np.full(len(maps.footprint), np.nan, np.float32)
    found = matched_filter(maps, snr_min=5.0, threads=1, out=out)
    separation = np.degrees(np.arccos(np.clip(vectors_of(clusters) @ vectors_of(found).T, -1, 1))) * 60
    assert len(found) == len(clusters) and (np.diff(found["snr"]) <= 0).all()
    assert separation.min(axis=1).max() < 2.0
    nearest = separation.argmin(axis=1)
    assert np.unique(nearest).size == len(clusters)
    # at free size flux and size go together; the size is one of the grid's, 1.32 apart
    assert abs(np.median(found["theta500_arcmin"]) / 5.0 - 1) < 0.3
    assert abs(np.mean(found["y500_arcmin2"]) / y500 - 1) < 0.1
    assert np.median(found["snr"]) == pytest.approx(y500 / np.median(found["y500_err_arcmin2"]), rel=0.1)
    assert (np.isfinite(out) == maps.footprint).all()
    at_peak = out[healpy.ang2pix(NSIDE, found["lon_deg"], found["lat_deg"], lonlat=True)]
    np.testing.assert_allclose(at_peak, found["snr"], rtol=0.1)
    again = matched_filter(maps, snr_min=5.0, threads=2)
    np.testing.assert_array_equal(found["snr"], again["snr"])


def test_negative_clusters_are_not_detected() -> None:
    clusters = cluster_grid(5.0, -1e-2, 3, 1.7)
    assert len(matched_filter(noise_sky(clusters, radius_deg=4.5), snr_min=5.0, threads=1)) == 0


def test_merging_keeps_the_higher_and_the_distant() -> None:
    detections = Table(
        {
            "lon_deg": [10.0, 10.1, 10.2, 50.0, 50.3],
            "lat_deg": [0.0, 0.0, 0.0, 0.0, 0.0],
            "snr": [5.0, 9.0, 6.0, 7.0, 20.0],
            "theta500_arcmin": [2.0, 2.0, 2.0, 2.0, 35.0],
        }
    )
    # 10.1 takes both neighbours at 6 arcmin; 50.3 takes all within 17.5 arcmin, and 50.0 is 18 away
    assert merge_detections(detections)["snr"].tolist() == [20.0, 9.0, 7.0]
    assert len(merge_detections(detections[:0])) == 0


def test_holes_are_filled_with_the_harmonic_function() -> None:
    """x^2 - y^2 is harmonic: its values inside a hole follow from those around."""
    y, x = np.mgrid[-20:21, -20:21] / 20.0
    truth = (x**2 - y**2 + 0.3 * x).astype(np.float32)
    values = truth.copy()
    hole = _discs(41, [18.0], [23.0], np.array([9.5]))
    values[hole] = 100.0
    _fill_holes(values[None], hole)
    np.testing.assert_allclose(values, truth, atol=1e-4)


@pytest.mark.parametrize("radius", [1.0, 6.0, 35.0])
def test_wide_and_narrow_holes_are_filled_as_by_a_direct_solution(radius: float) -> None:
    """The relaxation is as strong, and takes as many rounds, as the widest hole asks for."""
    n, values = 120, np.random.default_rng(5).standard_normal((1, 120, 120)).astype(np.float32)
    hole = _discs(n, [60.0, 8.0], [60.0, 100.0], np.array([radius, 2.0]))
    number = np.full((n, n), -1)
    number[hole] = np.arange(hole.sum())
    laplace, border = sparse.lil_matrix((hole.sum(), hole.sum())), np.zeros(hole.sum())
    for i, j in np.argwhere(hole):
        laplace[number[i, j], number[i, j]] = 4.0
        for k, m in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if hole[k, m]:
                laplace[number[i, j], number[k, m]] = -1.0
            else:
                border[number[i, j]] += values[0, k, m]
    expected = spsolve(laplace.tocsc(), border)
    _fill_holes(values, hole)
    np.testing.assert_allclose(values[0][hole], expected, atol=1e-4)  # of noise of unit rms


def test_errors() -> None:
    maps = noise_sky(radius_deg=1.0)
    with pytest.raises(ValueError, match="no pixel of the maps is seen in the tiles"):
        matched_filter(maps, tiles=[40])
    kelvin = SkyMaps(maps.values[: 12 * 64**2, :1], maps.footprint[: 12 * 64**2], HFI.bands[-1:])
    wrong = SkyMaps(kelvin.values, kelvin.footprint, (HFI.bands[0].__class__("857", 857.0, 4.6, "K_CMB"),))
    with pytest.raises(ValueError, match="band 857 in K_CMB is none of planck-hfi's"):
        matched_filter(wrong)
    with pytest.raises(ValueError, match="nside 32, expected at least 64"):
        matched_filter(SkyMaps(np.zeros((12 * 32**2, 6), np.float32), np.ones(12 * 32**2, bool), HFI.bands))


def test_field_centres_on_the_meridian_keep_the_bits_of_a_seeds_maps() -> None:
    """Rounding puts the barycentres of eight pixels a hair west of it, which is 360; with 0, S/N differ by 3.8e-5."""
    bands = HFI.bands[:1]
    fields = list_fields(SkyMaps(np.ones((12 * 64**2, 1), np.float32), np.ones(12 * 64**2, bool), bands))
    assert len(fields) == 768 and not (fields["lon_deg"] == 0.0).any()
    assert fields["pixel"][fields["lon_deg"] == 360.0].tolist() == [144, 208, 272, 336, 400, 464, 528, 592]


@pytest.mark.parametrize("place", [(-30.0, 5.0), (5.0, -30.0), (40.0, 5.0), (5.0, 40.0), (-30.0, 40.0)])
def test_discs_beside_the_field_are_not_in_it(place: tuple[float, float]) -> None:
    """A cluster of a catalogue may lie off a small footprint's field, on any side."""
    row, column = place
    assert not _discs(20, [row], [column], np.array([10.0])).any()
    both = _discs(20, [row, 3.0], [column, 4.0], np.array([10.0, 2.0]))
    assert np.array_equal(both, _discs(20, [3.0], [4.0], np.array([2.0]))) and both.sum() == 13
