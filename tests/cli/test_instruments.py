"""`szeek instruments` and --instrument: what ships is listed, printed, and can be started from."""

from __future__ import annotations

import sys

import pytest

from szeek.cli.app import main
from szeek.cli.options import given_sky
from szeek.inputs.instrument import list_instruments, read_instrument


@pytest.fixture
def call(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["szeek", *words])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code, capsys.readouterr()

    return run


def test_all_that_ship_are_listed_and_a_printed_file_is_one_to_start_from(call, tmp_path):
    code, said = call("instruments")
    assert not code and all(f"\n{name}\n" in f"\n{said.out}" for name in list_instruments())
    assert "143        143.0    7.30   -2.785    33.0       -  K_CMB" in said.out
    own = tmp_path / "mine.toml"
    own.write_text(call("instruments", "act-dr6")[1].out.replace("fwhm_arcmin = 1.4", "fwhm_arcmin = 1.5"))
    assert [band.fwhm_arcmin for band in read_instrument(own).bands] == [2.1, 1.5, 1.0]
    assert "f150       148.3    1.50" in call("instruments", f"{own}+planck-hfi")[1].out
    code, said = call("instruments", "act-dr66")
    assert code == 1 and said.err.startswith("szeek: experiment 'act-dr66' is unknown") and "'act-dr6'?" in said.err


def test_bands_of_maps_and_units_are_the_instrument_s(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(
        '[[bands]]\nname = "a"\nfreq_ghz = 150.0\nfwhm_arcmin = 1.4\nnoise_uk_arcmin = 9.0\n'
    )
    sky = given_sky(["{band}.fits"], None, None, None, "a=uK_CMB", None, None, True, "mine.toml")
    assert sky["maps"] == {"a": str(tmp_path / "a.fits")} and sky["instrument"] == str(tmp_path / "mine.toml")
    with pytest.raises(ValueError, match="--unit names the band 100, expected one of a"):
        given_sky(["{band}.fits"], None, None, None, "100=uK_CMB", None, None, True, "mine.toml")
