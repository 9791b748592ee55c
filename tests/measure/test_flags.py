"""Flags: what is found near a candidate, and that nothing reads as clear which was not looked for."""

from __future__ import annotations

from dataclasses import replace

import healpy
import numpy as np
import pytest
from astropy.table import Table, vstack

from szeek.inputs.instrument import read_instrument
from szeek.measure.flags import FLAGS, expect_tsz_mjy, find_contaminants, measure_dust_excess, name_flags, set_flags
from szeek.sky.healpix import unit_vectors
from szeek.sky.skymaps import Band, SkyMaps


def make_sources(**columns: object) -> Table:
    """Two sources 5 deg apart in a clean part of the sky, of Y5R500 = 1e-3 arcmin^2."""
    table = Table({"lon_deg": [57.8, 57.8], "lat_deg": [80.0, 85.0]})
    table["y5r500_arcmin2"], table["y5r500_err_arcmin2"] = 1e-3, 1e-4
    for name, values in columns.items():
        table[name] = values
    return table


def compact_source(band: str, flux_mjy: float, snr: float, lat_deg: float = 80.05) -> Table:
    """One compact source, 3 arcmin from the first of the sources."""
    row = {"lon_deg": [57.8], "lat_deg": [lat_deg], "band": [band], "snr": [snr]}
    return Table({**row, "flux_mjy": [flux_mjy], "flux_err_mjy": [flux_mjy / snr]})


def test_tsz_flux_by_hand() -> None:
    # 1e-3 arcmin^2 x 6.205 K_CMB x 287.45 MJy/sr/K_CMB = 1.7836 MJy/sr arcmin^2; an arcmin^2 is 8.4616e-8 sr
    flux = expect_tsz_mjy([1e-3, -2e-3], read_instrument())
    assert flux.shape == (2, 6)
    assert flux[0, 3] == pytest.approx(150.9, rel=1e-3)
    np.testing.assert_allclose(flux[1], -2 * flux[0])


@pytest.mark.parametrize(
    ("band", "flux_mjy", "snr", "flagged"),
    [
        ("100", 200.0, 5.0, True),  # a cluster is dark there
        ("353", 151.0, 5.0, False),  # the cluster itself, as computed above
        ("353", 900.0, 15.0, True),  # six times as bright as the cluster
        ("857", 1000.0, 8.0, True),  # the cluster has 5 mJy
    ],
)
def test_a_compact_source_counts_in_excess_of_the_cluster(
    band: str, flux_mjy: float, snr: float, flagged: bool
) -> None:
    out = set_flags(make_sources(), compact=compact_source(band, flux_mjy, snr))
    assert out["ps_band"].tolist() == [band if flagged else "", ""]
    assert [bool(bits & FLAGS["point_source"]) for bits in out["flags"]] == [flagged, False]
    assert all(bits & FLAGS["point_source"] for bits in out["checked"])
    np.testing.assert_array_equal(out["ps_snr"], [snr if flagged else np.nan, np.nan])


def test_a_radio_source_that_looks_like_negative_y_is_not_explained_by_it() -> None:
    # y < 0 would make 143 GHz bright: 2.785 x 371.74 x 5e-3 x 84.616 = 438 mJy
    negative = make_sources(y5r500_arcmin2=-5e-3)
    found = find_contaminants(negative, compact_source("143", 400.0, 9.0), read_instrument())
    assert found["band"].tolist() == ["143", ""]


def test_the_most_significant_excess_names_the_band() -> None:
    both = vstack([compact_source("143", 300.0, 9.0), compact_source("857", 4000.0, 30.0)])
    found = find_contaminants(make_sources(), both, read_instrument())
    assert found["band"].tolist() == ["857", ""]


def test_a_compact_source_counts_within_its_own_beam() -> None:
    # 6 arcmin away: inside the beam of 100 GHz (9.68 arcmin), outside that of 217 GHz (5.02 arcmin)
    for band, flagged in (("100", True), ("217", False)):
        found = find_contaminants(make_sources(), compact_source(band, 900.0, 20.0, 80.1), read_instrument())
        assert np.isfinite(found["snr"]).tolist() == [flagged, False]


def test_compact_sources_of_another_instrument_are_refused() -> None:
    with pytest.raises(ValueError, match="compact sources in band 030, expected those of planck-hfi: 100, 143"):
        set_flags(make_sources(), compact=compact_source("030", 900.0, 20.0))


def test_nothing_reads_as_clear_that_was_not_looked_for() -> None:
    bare = set_flags(make_sources()["lon_deg", "lat_deg"])
    assert [name_flags(bits) for bits in bare["checked"]] == [("galactic", "dust")] * 2
    assert bare["flags"].tolist() == [0, 0]
    # no photometry outside the maps: there the spectrum says nothing
    outside = make_sources(
        kind=["cluster", ""],
        dust_snr=[1.0, np.nan],
        y5r500_arcmin2=[1e-3, np.nan],
        size_snr=[[5.0, 5.1], [np.nan] * 2],
    )
    checked = set_flags(outside, compact=compact_source("143", 300.0, 9.0))["checked"]
    for name in ("point_source", "cold_clump", "large"):
        assert [bool(bits & FLAGS[name]) for bits in checked] == [True, False]


def test_flags_are_a_part_of_what_was_checked() -> None:
    sources = make_sources(edge=[True, False], blend=[True, True], kind=["cold clump", "cluster"], dust_snr=9.0)
    out = set_flags(sources, compact=compact_source("143", 300.0, 9.0))
    assert (out["flags"] & ~out["checked"]).tolist() == [0, 0]
    assert name_flags(out["flags"][0]) == ("edge", "point_source", "cold_clump", "blend")
    assert name_flags(out["flags"][1]) == ("blend",)


def test_what_was_checked_before_stays_until_it_is_checked_again() -> None:
    first = set_flags(make_sources(edge=[True, False], kind=["cold clump", "cluster"], dust_snr=9.0))
    first.remove_columns(["edge"])
    first["kind"] = ["cluster", "cold clump"]
    second = set_flags(first)
    assert [name_flags(bits) for bits in second["flags"]] == [("edge",), ("cold_clump",)]
    assert second["checked"].tolist() == first["checked"].tolist()


def test_the_given_mask_is_the_galactic_plane() -> None:
    mask = np.ones(12 * 32**2, bool)
    mask[healpy.ang2pix(32, 57.8, 80.0, lonlat=True)] = False
    out = set_flags(make_sources(), galactic_mask=mask)
    assert [bool(bits & FLAGS["galactic"]) for bits in out["flags"]] == [True, False]


def test_catalogued_clumps_and_co() -> None:
    clumps = Table({"lon_deg": [57.8], "lat_deg": [85.05]})
    line = np.zeros((12 * 64**2, 1), np.float32)
    line[healpy.query_disc(64, unit_vectors(57.8, 80.0), np.radians(3.0))] = 5.0
    seen = np.ones(len(line), bool)
    seen[healpy.query_disc(64, unit_vectors(57.8, 85.0), np.radians(3.0))] = False
    co_map = SkyMaps(line, seen, (Band("co", 115.27, 10.0, "K km/s"),))
    out = set_flags(make_sources(), pgcc=clumps, co_map=co_map)
    assert [name_flags(bits) for bits in out["flags"]] == [("co",), ("cold_clump",)]
    assert [bool(bits & FLAGS["co"]) for bits in out["checked"]] == [True, False]


def test_a_clump_of_faint_dust_is_no_clump() -> None:
    out = set_flags(make_sources(kind=["cold clump", "cold clump"], dust_snr=[7.0, 3.0]))
    assert [name_flags(bits) for bits in out["flags"]] == [("cold_clump",), ()]


def test_dust_is_what_the_highest_band_has_above_its_surroundings() -> None:
    # 2 MJy/sr within 5 arcmin of the first source on a level of 1; the ring's mean is the level
    nside = 1024
    vectors = unit_vectors(np.array([57.8, 57.8]), np.array([80.0, 85.0]))
    values = np.ones((12 * nside**2, 1), np.float32)
    values[healpy.query_disc(nside, vectors[0], np.radians(6 / 60))] = 3.0
    maps = SkyMaps(values, np.ones(len(values), bool), (Band("857", 857.0, 4.64, "MJy/sr"),))
    excess = measure_dust_excess(maps, vectors, read_instrument())
    np.testing.assert_allclose(excess, [2.0, 0.0], atol=1e-6)
    low = replace(maps, bands=(Band("143", 143.0, 7.3, "K_CMB"),))
    assert np.isnan(measure_dust_excess(low, vectors, read_instrument())).all()
    out = set_flags(make_sources(), maps)
    assert [name_flags(bits) for bits in out["flags"]] == [("dust",), ()]


def test_large_is_what_no_point_explains() -> None:
    # S/N^2 is twice the log-likelihood: 5.5^2 - 4.5^2 = 10 > 9, 5.0^2 - 4.5^2 = 4.75
    out = set_flags(make_sources(size_snr=[[4.5, 5.5], [4.5, 5.0]]))
    assert [bool(bits & FLAGS["large"]) for bits in out["flags"]] == [True, False]


def test_no_sources_and_no_contaminants_are_no_error() -> None:
    source, contaminant = make_sources(kind="cluster", dust_snr=1.0), compact_source("143", 300.0, 9.0)
    clumps = Table({"lon_deg": [57.8], "lat_deg": [85.0]})
    for rows, others in ((0, 1), (2, 0), (0, 0)):
        out = set_flags(source[:rows], compact=contaminant[:others], pgcc=clumps[:others])
        assert len(out) == rows
        assert out["flags"].tolist() == [0] * rows
        assert [name_flags(bits) for bits in out["checked"]] == [
            ("galactic", "point_source", "cold_clump", "dust")
        ] * rows
