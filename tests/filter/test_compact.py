"""Compact sources of the single bands: known fluxes come back, each source once, none that is not there."""

from __future__ import annotations

import healpy
import numpy as np
from astropy.table import Table
from noise_field import CENTRE, HFI, NSIDE, SIGMA_Y, cluster_grid, noise_sky, vectors_of

from szeek.filter.compact import find_compact_sources, merge_compact_sources
from szeek.filter.layout import list_fields
from szeek.filter.matchedfilter import FilteredField
from szeek.filter.snrmaps import filter_sky
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.sky.healpix import pixel_window_sigma_rad

ARCMIN = np.pi / 10800
#: mJy of a source of 1 map unit x arcmin^2.
MJY = 1e9 * ARCMIN**2 * HFI.mjysr_per_kcmb / HFI.unit_per_kcmb


def point_sources(flux_mjy: np.ndarray, n: int, step_deg: float) -> Table:
    """n x n points of (n^2, 6) fluxes."""
    sources = cluster_grid(1e-3, 1.0, n, step_deg)
    sources["response"] = flux_mjy / MJY / Y5R500_PER_Y500
    return sources


def noise_mjy() -> np.ndarray:
    """Error of a point source's flux in white noise: sigma^2 = 4 pi s^2 N, s of the beam, N noise power."""
    s2 = np.array([(band.fwhm_arcmin / np.sqrt(8 * np.log(2))) ** 2 for band in HFI.bands])
    s2 += (pixel_window_sigma_rad(NSIDE) / ARCMIN) ** 2
    pixel_area = healpy.nside2pixarea(NSIDE) / ARCMIN**2
    return MJY * SIGMA_Y * np.abs(HFI.tsz_response) * np.sqrt(4 * np.pi * s2 * pixel_area)


def separation_arcmin(one: Table, other: Table) -> np.ndarray:
    return np.arccos(np.clip(vectors_of(one) @ vectors_of(other).T, -1, 1)) / ARCMIN


def test_fluxes_of_point_sources_come_back() -> None:
    """S/N 12 to 100 in every band: all found, fluxes within their errors, and nothing else."""
    true = np.geomspace(12, 100, 25)[:, None] * noise_mjy()
    sources = point_sources(true, 5, 1.8)
    found = find_compact_sources(FilteredField(noise_sky(sources=sources), *CENTRE, HFI))
    apart = separation_arcmin(sources, found)
    assert (apart.min(axis=0) < 3).all(), "no source that is not there"
    for b, band in enumerate(HFI.bands):
        here = found["band"] == band.name
        nearest = apart[:, here].argmin(axis=1)
        assert np.unique(nearest).size == 25 == here.sum()
        flux, error = (np.asarray(found[name])[here][nearest] for name in ("flux_mjy", "flux_err_mjy"))
        np.testing.assert_allclose(found["snr"][here][nearest], flux / error)
        np.testing.assert_allclose(np.median(error), noise_mjy()[b], rtol=0.05)
        # 2 %: the mean that is taken off the field is that of the sources too, and white noise does not hide it; the
        # peak of signal and noise is a little higher than the signal, 2 of 3 coordinates fitted: snr^2 = s^2 + 2
        unbiased = error * np.sqrt((flux / error) ** 2 - 2)
        pull = (unbiased - true[:, b]) / np.hypot(error, 0.02 * true[:, b])
        assert abs(pull.mean()) < 3 / 5 and pull.std() < 1.3


def test_a_very_bright_source_is_one_source() -> None:
    """S/N 3000: no rings, no second source within its hole."""
    sources = point_sources(3000 * noise_mjy()[None] * np.ones((9, 1)), 3, 3.0)
    found = find_compact_sources(FilteredField(noise_sky(sources=sources), *CENTRE, HFI))
    assert [int((found["band"] == name).sum()) for name in HFI.band_names] == [9] * 6
    true = 3000 * noise_mjy()
    for b, name in enumerate(HFI.band_names):
        np.testing.assert_allclose(found["flux_mjy"][found["band"] == name], true[b], rtol=0.03)


def test_negative_sources_and_noise_are_none() -> None:
    sources = point_sources(-50 * noise_mjy()[None] * np.ones((9, 1)), 3, 3.0)
    assert len(find_compact_sources(FilteredField(noise_sky(sources=sources), *CENTRE, HFI))) == 0


def test_a_cluster_is_bright_where_tsz_is_positive() -> None:
    cluster = cluster_grid(2.0, 0.02, 1, 1.0)
    found = find_compact_sources(FilteredField(noise_sky(cluster), *CENTRE, HFI))
    assert set(found["band"]) == {b.name for b, t in zip(HFI.bands, HFI.tsz_response, strict=True) if t > 0}


def test_of_several_fields_each_source_once() -> None:
    sources = point_sources(40 * noise_mjy()[None] * np.ones((81, 1)), 9, 0.8)
    maps = noise_sky(sources=sources, radius_deg=6.5)
    assert len(list_fields(maps)) > 2
    found = filter_sky(maps, threads=1).compact
    for name in HFI.band_names:
        apart = separation_arcmin(sources, found[found["band"] == name])
        assert apart.shape == (81, 81) and np.unique(apart.argmin(axis=1)).size == 81 and apart.min(axis=1).max() < 2
    assert separation_arcmin(filter_sky(maps, threads=2).compact, found).diagonal().max() < 1e-3


def test_merging_is_by_band_and_reach() -> None:
    sources = Table(
        {
            "lon_deg": [10.0, 10.1, 10.1, 10.3],
            "lat_deg": [0.0, 0.0, 0.0, 0.0],
            "band": ["100", "100", "143", "100"],
            "snr": [9.0, 8.0, 7.0, 20.0],
            "reach_arcmin": [7.0, 7.0, 7.0, 11.0],
        }
    )
    # 6 arcmin from the one of S/N 9, 12 from that of 20
    assert merge_compact_sources(sources)["snr"].tolist() == [20.0, 9.0, 7.0]
