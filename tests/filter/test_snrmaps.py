"""S/N maps of the matched filter: unit variance on noise, the right S/N at a cluster, kept with the maps."""

from dataclasses import replace

import healpy
import numpy as np
import pytest

from szeek.filter.layout import list_fields
from szeek.filter.matchedfilter import FilteredField
from szeek.filter.snrmaps import add_snr_maps, filter_sky
from szeek.inputs.instrument import read_instrument
from szeek.physics.beams import BeamTable
from szeek.physics.instrument import BandDetails
from szeek.sky.skymaps import SkyMaps

NSIDE = 1024


@pytest.fixture(scope="module")
def noise():
    """White noise in six bands within 9 deg of (30, 60)."""
    instrument = read_instrument("planck-hfi")
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (12 * NSIDE**2, 6)).astype(np.float32)
    values *= (20e-6 * instrument.unit_per_kcmb).astype(np.float32)
    footprint = np.zeros(len(values), bool)
    footprint[healpy.query_disc(NSIDE, healpy.ang2vec(30, 60, lonlat=True), np.radians(9))] = True
    values[~footprint] = 0
    return SkyMaps(values, footprint, instrument.bands)


def test_on_noise_it_is_the_filtered_field_of_unit_variance(noise):
    maps = add_snr_maps(noise, (3.0, 6.0))
    assert maps.snr.shape == (12 * NSIDE**2, 2) and maps.snr.dtype == np.float32
    assert not maps.snr[~noise.footprint].any()
    inner = healpy.query_disc(NSIDE, healpy.ang2vec(30, 60, lonlat=True), np.radians(7))
    field = FilteredField(noise, 30.0, 60.0, read_instrument("planck-hfi"))
    for k, theta in enumerate(maps.theta500_arcmin):
        snr = field.snr_map(theta)[0][field.valid]
        assert 0.93 < snr.std() < 1.0  # a little below 1: the noise is learnt from the field itself
        # bilinear interpolation at random between pixels of correlation r leaves 2/3 + r/3 of the variance an axis:
        # the mean of (1 - u)^2 + u^2 + 2 u (1 - u) r
        r = np.corrcoef(field.snr_map(theta)[0][:, 1:].ravel(), field.snr_map(theta)[0][:, :-1].ravel())[0, 1]
        np.testing.assert_allclose(maps.snr[inner, k].std(), snr.std() * (2 / 3 + r / 3), rtol=0.03)


def test_one_pass_gives_noise_and_compact_sources_too(noise):
    found = filter_sky(noise, (3.0,), threads=1)
    np.testing.assert_array_equal(found.maps.snr, add_snr_maps(noise, (3.0,)).snr)
    assert list(found.states) == list_fields(noise)["pixel"].tolist()
    # half a million pixels in six bands, of which 3e-7 are above 5 sigma: 0.15
    assert len(found.compact) < 4
    assert filter_sky(noise, threads=1).maps.snr is None
    with pytest.raises(ValueError, match="footprint is empty"):
        filter_sky(replace(noise, footprint=np.zeros(len(noise.footprint), bool)), (3.0,))


def test_same_values_for_any_number_of_threads(noise):
    one, two = (add_snr_maps(noise, (30.0,), threads=n).snr[noise.footprint] for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_maps_that_have_them_are_left_alone_and_no_sizes_take_them_away(noise):
    maps = replace(noise, snr=np.zeros((12 * NSIDE**2, 1), np.float32), theta500_arcmin=(30.0,))
    assert add_snr_maps(maps, [30.0]) is maps
    assert add_snr_maps(maps, []).snr is None and add_snr_maps(noise, []) is noise


def test_kept_with_the_maps_and_replaced_in_place(noise, tmp_path):
    maps = replace(noise, snr=np.arange(12 * NSIDE**2, dtype=np.float32)[:, None], theta500_arcmin=(7.0,))
    maps.save(tmp_path / "maps")
    again = SkyMaps.open(tmp_path / "maps")
    assert again.theta500_arcmin == (7.0,)
    again.save_snr(tmp_path / "maps")  # onto the file that it is mapped from
    np.testing.assert_array_equal(SkyMaps.open(tmp_path / "maps").snr, maps.snr)
    noise.save_snr(tmp_path / "maps")
    assert SkyMaps.open(tmp_path / "maps").snr is None


def test_columns_and_sizes_must_agree(noise):
    with pytest.raises(ValueError, match=r"snr has shape \(12582912, 2\), expected one column for each of \(7.0,\)"):
        replace(noise, snr=np.zeros((12 * NSIDE**2, 2), np.float32), theta500_arcmin=(7.0,))
    with pytest.raises(ValueError, match="none of planck-hfi's"):
        add_snr_maps(replace(noise, bands=(replace(noise.bands[0], name="90"), *noise.bands[1:])), (7.0,))


def test_bands_that_show_nothing_but_dust_do_not_break_it():
    """In the plane dust is a million times the noise: correlations of 1 to within float32."""
    instrument = read_instrument("planck-hfi")
    rng = np.random.default_rng(6)
    nside = 256
    dust = healpy.smoothing(rng.normal(size=12 * nside**2), fwhm=np.radians(1.0))
    values = (dust[:, None] * [1.0, 2.0, 5.0, 20.0, 100.0, 300.0]).astype(np.float32)
    values += rng.normal(0, 1e-7, values.shape).astype(np.float32)
    footprint = np.zeros(len(values), bool)
    footprint[healpy.query_disc(nside, healpy.ang2vec(30, 0, lonlat=True), np.radians(9))] = True
    values[~footprint] = 0
    snr = add_snr_maps(SkyMaps(values, footprint, instrument.bands), (2.5, 20.0)).snr
    assert np.isfinite(snr).all() and np.abs(snr[footprint]).max() < 10


def test_beam_tables_are_used_where_the_instrument_has_them(noise):
    planck = read_instrument("planck-hfi")
    ell = np.arange(0.0, 12001.0, 5.0)
    tables = [BeamTable(ell, planck.beam(ell)[:, b]) for b in range(6)]
    details = tuple(BandDetails(beam=table) for table in tables)
    gauss, tabulated = (FilteredField(noise, 30.0, 60.0, i) for i in (planck, replace(planck, details=details)))
    (expected, sigma), (found, sigma2) = gauss.snr_map(3.0), tabulated.snr_map(3.0)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert sigma2 == pytest.approx(sigma, rel=1e-3)
    # half the beam's amplitude, and maps that do not average over pixels: what the filter is told is what it uses
    halved = tuple(BandDetails(beam=BeamTable(ell, 0.5 * table.b_ell)) for table in tables)
    assert FilteredField(noise, 30.0, 60.0, replace(planck, details=halved)).snr_map(3.0)[1] == pytest.approx(
        2 * sigma, rel=1e-3
    )
    sharp = replace(planck, details=(BandDetails(pixel_window=False),) * 6)
    assert FilteredField(noise, 30.0, 60.0, sharp).snr_map(3.0)[1] < sigma
