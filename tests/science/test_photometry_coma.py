"""Matched filter and photometry on real sky: six HFI cut-outs around Coma against PSZ2's own numbers."""

from __future__ import annotations

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table, vstack
from typer.testing import CliRunner

from szeek.cli.app import app
from szeek.filter.search import matched_filter
from szeek.filter.snrmaps import filter_sky
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.mapfiles import read_skymaps
from szeek.measure.flags import name_flags, set_flags
from szeek.measure.photometry import SIZES_ARCMIN, measure_sources
from szeek.pipeline.products import PHOTOMETRY, RunFolder
from szeek.sky.healpix import unit_vectors

pytestmark = pytest.mark.realdata

PSZ2_FILE = "catalogues/HFI_PCCS_SZ-union_R2.08.fits"
COMA = "PSZ2 G057.80+88.00"
CONFIRMED = ("PSZ2 G023.17+86.71", "PSZ2 G259.30+84.41", "PSZ2 G343.33+83.19")
#: Infrared sources, Q_NEURAL < 0.05, 25 arcmin from the border of the cut-outs.
SPURIOUS = ("PSZ2 G310.81+83.91", "PSZ2 G318.46+83.79", "PSZ2 G320.94+83.69")


@pytest.fixture(scope="module")
def maps(real_data):
    bands = ("100", "143", "217", "353", "545", "857")
    return read_skymaps({band: real_data / f"maps/coma/hfi_{band}_coma.fits" for band in bands})


@pytest.fixture(scope="module")
def psz2(real_data, maps):
    """PSZ2's entries in the field, with its own columns, by name."""
    clusters = read_catalogue(real_data / PSZ2_FILE)
    with fits.open(real_data / PSZ2_FILE) as hdus:
        data = hdus[1].data
        own = {str(row["NAME"]): row for row in data}
    inside = maps.footprint[healpy.ang2pix(maps.nside, clusters["lon_deg"], clusters["lat_deg"], lonlat=True)]
    return clusters[inside], own


@pytest.fixture(scope="module")
def measured(maps, psz2):
    found = measure_sources(maps, psz2[0]["lon_deg", "lat_deg", "z"], threads=1)
    return {str(name): row for name, row in zip(psz2[0]["name"], found, strict=True)}


def test_all_nine_entries_are_measured(psz2, measured):
    assert len(psz2[0]) == 9 and all(np.isfinite(row["snr"]) for row in measured.values())


@pytest.mark.parametrize("name", [COMA, *CONFIRMED])
def test_flux_is_that_of_psz2(psz2, measured, name):
    """Y5R500 marginalised over size, within 1.5 sigma of both errors."""
    own, row = psz2[1][name], measured[name]
    sigma = np.hypot(1e-3 * own["Y5R500_ERR"], row["y5r500_err_arcmin2"])
    assert abs(row["y5r500_arcmin2"] - 1e-3 * own["Y5R500"]) < 1.5 * sigma


@pytest.mark.parametrize("name", CONFIRMED)
def test_snr_and_mass_are_those_of_psz2(psz2, measured, name):
    """S/N: other maps (PR3 for PR2), and P without the clusters; PSZ2's own finders differ by as much."""
    own, row = psz2[1][name], measured[name]
    assert abs(row["snr"] - own["SNR"]) < 1.5
    sigma = np.hypot(0.5 * (own["MSZ_ERR_UP"] + own["MSZ_ERR_LOW"]), row["m500_err_1e14msun"])
    assert abs(row["m500_1e14msun"] - own["MSZ"]) < 1.5 * sigma
    assert row["kind"] == "cluster" and row["chi2"] < 11.3  # 1 % of the sets of 3 degrees of freedom


def test_coma_is_the_largest_and_brightest(measured):
    """PSZ2 has S/N 35.7; with Coma itself taken out of P the noise is lower. theta500 is 48 arcmin."""
    row = measured[COMA]
    assert row["snr"] > 35.7 and row["theta500_arcmin"] > 40 and row["kind"] == "cluster"
    assert 5.5 < row["m500_1e14msun"] < 7.5
    assert (np.diff(row["size_snr"][SIZES_ARCMIN < 40]) > 0).all()


@pytest.mark.parametrize("name", SPURIOUS)
def test_infrared_sources_are_cold_dust_without_tsz(measured, name):
    row = measured[name]
    assert row["kind"] == "cold clump" and row["dust_snr"] > 10
    assert row["size_snr"].max() < 3


def test_filter_finds_the_confirmed_clusters_and_no_infrared_source(maps, psz2):
    found = matched_filter(maps, snr_min=4.5, threads=1)
    vectors = unit_vectors(np.asarray(found["lon_deg"]), np.asarray(found["lat_deg"]))

    def nearest(cluster: Table.Row) -> tuple[float, float]:
        cosine = vectors @ unit_vectors(float(cluster["lon_deg"]), float(cluster["lat_deg"]))
        return float(np.degrees(np.arccos(min(cosine.max(), 1.0)))) * 60, float(found["snr"][cosine.argmax()])

    by_name = {str(row["name"]): row for row in psz2[0]}
    for name in (COMA, *CONFIRMED):
        separation_arcmin, snr = nearest(by_name[name])
        assert separation_arcmin < 3 and snr > 5
    assert all(nearest(by_name[name])[0] > 10 for name in SPURIOUS)
    # in 115 deg^2: the four, and what else is there above S/N 4.5
    assert 4 <= len(found) <= 10


def test_any_catalogue_on_any_maps_from_the_command_line(real_data, psz2, measured, tmp_path):
    """Forced photometry of all of PSZ2 on the cut-outs: nine entries inside, as measured above."""
    pattern = str(real_data / "maps/coma/hfi_{band}_coma.fits")
    words = ["photometry", str(real_data / PSZ2_FILE), "--map", pattern, "--out", str(tmp_path), "--threads", "1"]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.output
    assert "1653 positions: 1644 outside, 6 cluster, 3 cold clump" in answer.output
    table = RunFolder(tmp_path).table(PHOTOMETRY)
    found = table[np.isfinite(table["snr"])]
    assert set(found["name"]) == set(measured)
    for row in found:
        assert row["snr"] == pytest.approx(measured[str(row["name"])]["snr"])


def test_flags_tell_the_infrared_sources_from_the_clusters(maps, psz2, measured):
    """Coma, brightest of all at 353 GHz, is not its own point source; infrared sources are flagged three times."""
    found = vstack([Table(row) for row in measured.values()])
    found["lon_deg"], found["lat_deg"] = psz2[0]["lon_deg"], psz2[0]["lat_deg"]
    flagged = set_flags(found, maps, filter_sky(maps, threads=1).compact)
    flags = {name: set(name_flags(bits)) for name, bits in zip(measured, flagged["flags"], strict=True)}
    contaminated = {"point_source", "cold_clump", "dust"}
    assert all(flags[name] & contaminated == contaminated for name in SPURIOUS)
    assert all(not flags[name] & contaminated for name in (COMA, *CONFIRMED))
    assert "large" in flags[COMA]
