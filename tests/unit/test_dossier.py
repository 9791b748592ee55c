"""Dossiers: the spectrum recovers what was put in; sheets and the zipped set are whole."""

from __future__ import annotations

import zipfile
from pathlib import Path

import healpy
import numpy as np
import pytest
from runmaker import make_run

from szeek.inputs.instrument import read_instrument
from szeek.show.dossier import (
    RING_ARCMIN,
    list_numbers,
    measure_spectrum,
    picture_bytes,
    plot_dossier,
    render_page,
    write_dossiers,
)  # fmt: skip
from szeek.show.runfolder import RunFolder
from szeek.sky.skymaps import SkyMaps


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return RunFolder(make_run(tmp_path_factory.mktemp("run") / "demo", nside=64, n_clusters=12))


def _sky_with_source(y: float, dust_mjysr: float, noise: float = 0.0) -> SkyMaps:
    """A flat disc of 12 arcmin radius, larger than the measuring disc and smaller than the ring, of tSZ and dust."""
    instrument = read_instrument("planck-hfi")
    nside = 1024
    rng = np.random.default_rng(0)
    values = (
        rng.normal(0, noise, (12 * nside**2, 6)).astype(np.float32)
        if noise
        else np.zeros((12 * nside**2, 6), np.float32)
    )
    inside = healpy.query_disc(nside, healpy.ang2vec(30, 40, lonlat=True), np.radians(12 / 60))
    freq = np.array([band.freq_ghz for band in instrument.bands])
    # a modified black body of 20.3 K and index 1.55, 1 at 353 GHz: h nu / k T = 0.04799243 nu / 20.3
    x = 0.0479924307 * freq / 20.3
    dust = (freq / 353) ** 4.55 * np.expm1(0.0479924307 * 353 / 20.3) / np.expm1(x)
    brightness = y * instrument.tsz_kcmb * instrument.mjysr_per_kcmb + dust_mjysr * dust  # MJy/sr
    values[inside] += (brightness / instrument.mjysr_per_kcmb * instrument.unit_per_kcmb).astype(np.float32)
    return SkyMaps(values, np.ones(len(values), bool), instrument.bands)


def test_spectrum_recovers_y_and_dust() -> None:
    assert RING_ARCMIN[0] > 12
    maps = _sky_with_source(5e-5, 0.02, noise=1e-7)
    found = measure_spectrum(maps, read_instrument("planck-hfi"), 30.0, 40.0)
    assert found is not None
    assert found.y == pytest.approx(5e-5, rel=0.02)
    assert found.dust == pytest.approx(20.0, rel=0.02)  # kJy/sr
    # signs of the thermal SZ effect: a decrement to 143 GHz, an increment from 353 GHz
    assert (found.tsz[:2] < 0).all() and (found.tsz[3:] > 0).all()


def test_no_source_no_signal() -> None:
    maps = _sky_with_source(5e-5, 0.02, noise=1e-6)
    far = measure_spectrum(maps, read_instrument("planck-hfi"), 200.0, -40.0)
    assert far is not None and abs(far.y) < 4 * far.y_error


def test_unobserved_field_has_no_spectrum() -> None:
    instrument = read_instrument("planck-hfi")
    values = np.zeros((12 * 64**2, 6), np.float32)
    empty = SkyMaps(values, np.zeros(len(values), bool), instrument.bands)
    assert measure_spectrum(empty, instrument, 0.0, 0.0) is None


def test_sheet_page_and_numbers(run: RunFolder) -> None:
    numbers = dict(list_numbers(run, 0))
    assert run.candidates is not None
    assert numbers["p"] == f"{run.candidates['p'][0]:.3f}" and "±" in numbers["Y5R500"]
    assert "training fold" not in numbers  # -1: unknown
    assert picture_bytes(plot_dossier(run, 0), "png").startswith(b"\x89PNG")
    assert "/dossier/0.png" in render_page(run, 0)
    with pytest.raises(IndexError, match="expected a number from 0"):
        plot_dossier(run, 10_000)


def test_zipped_set(run: RunFolder, tmp_path: Path) -> None:
    archive = zipfile.ZipFile(write_dossiers(run.path, tmp_path / "dossiers.zip", n_most=2))
    names = archive.namelist()
    assert len(names) == 2 and names[0].startswith("00000_SZeek_G") and names[0].endswith(".pdf")
    assert archive.read(names[1]).startswith(b"%PDF")
    assert [file.name for file in tmp_path.iterdir()] == ["dossiers.zip"]
    with pytest.raises(ValueError, match="sheets as 'docx'"):
        write_dossiers(run.path, tmp_path / "x.zip", ending="docx")
