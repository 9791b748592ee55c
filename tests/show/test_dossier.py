"""Dossiers: the spectrum recovers what was put in; sheets and the zipped set are whole."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.table import Table
from runmaker import make_run
from typer.testing import CliRunner

from szeek.cli.app import app
from szeek.inputs.instrument import read_instrument
from szeek.pipeline.products import RunFolder
from szeek.show.explorer.dossierpage import render_page
from szeek.show.explorer.dossierset import stream_zip, write_dossiers
from szeek.show.explorer.filters import Filters, choose_candidates
from szeek.show.explorer.verdicts import VerdictStore
from szeek.show.figures.dossier import (
    describe_flags,
    draw_sheet,
    list_known,
    list_numbers,
    plot_dossier,
    spectrum_of,
    training_of,
)
from szeek.show.figures.spectrum import RING_ARCMIN, measure_spectrum
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


def test_numbers_with_errors_and_nothing_unknown(run: RunFolder) -> None:
    assert run.candidates is not None
    number = next(k for k, row in enumerate(run.candidates) if not row["kind"] and not row["flags"])
    row, numbers = run.candidates[number], dict(list_numbers(run, number, spectrum_of(run, number)))
    assert numbers["p"] == f"{row['p']:.3f}" and numbers["S/N"] == f"{row['snr']:.1f}"
    # the run's catalogue has Y5R500 = 1.5e-3 p with an error of 2e-4 arcmin^2
    assert numbers["Y5R500"] == f"({1.5 * row['p']:.2f} ± 0.20) × 10⁻³ arcmin²"
    assert "±" in numbers["y from spectrum"]
    assert not {"E(B-V)", "kind", "by chance"} & set(numbers)  # NaN, '': not known
    assert numbers["flags"] == "none" and "co" in numbers["not checked"]


def test_kind_flags_and_dust_are_told(run: RunFolder) -> None:
    assert run.candidates is not None
    told = RunFolder(run.path)
    told.__dict__["candidates"] = run.candidates.copy()
    told.candidates["kind"] = ["cold clump"] * len(run.candidates)
    told.candidates["flags"], told.candidates["dust"] = 2 + 8, 0.123  # see szeek.measure.candidates.FLAGS
    numbers = dict(list_numbers(told, 0))
    assert numbers["kind"] == "cold clump" and numbers["flags"] == "galactic, cold clump"
    assert numbers["E(B-V)"] == "0.123 mag"


def test_not_checked_never_reads_as_clear() -> None:
    # bits: edge 1, galactic 2, point_source 4, cold_clump 8, co 16, dust 32, large 64, blend 128
    def describe(flags: int, checked: int, band: str = "") -> tuple[str, str]:
        return describe_flags({"flags": flags, "checked": checked, "ps_band": band})

    assert describe(0, 0) == ("not checked", "")
    assert describe(0, 255) == ("none", "")
    assert describe(0, 255 - 16) == ("none", "co")
    assert describe(4 + 32, 255 - 16 - 8, "143") == ("point source (143), dust", "cold clump, co")
    assert describe(1, 0) == ("edge", "")  # of a catalogue without CHECKED


def test_small_and_negative_numbers_as_printed(run: RunFolder) -> None:
    assert run.candidates is not None
    told = RunFolder(run.path)
    told.__dict__["candidates"] = run.candidates.copy()
    told.candidates["snr"], told.candidates["y5r500_arcmin2"] = -2.4, -2.5e-3
    for chance, printed in ((7.16e-5, "7.2 × 10⁻⁵"), (0.0117, "0.012"), (3e-12, "3.0 × 10⁻¹²")):
        told.candidates["match_p_chance"] = chance
        numbers = dict(list_numbers(told, 0))
        assert numbers["by chance"] == printed
    assert numbers["S/N"] == "−2.4" and numbers["Y5R500"].startswith("(−2.50 ± 0.20) × 10⁻³")


def test_training_fold_of_a_candidate(run: RunFolder) -> None:
    assert run.candidates is not None
    tiles = np.asarray(
        healpy.ang2pix(2, np.asarray(run.candidates["lon_deg"]), np.asarray(run.candidates["lat_deg"]), lonlat=True)
    )
    said = [training_of(run, row) for row in range(len(tiles))]
    for tile, words in zip(tiles.tolist(), said, strict=True):
        expected = {6: "held out (test tile 6)"} | {t: f"held out (validation tile {t})" for t in (9, 38, 41)}
        assert words == expected.get(tile, f"trained on here (tile {tile})")
    assert "held out (test tile 6)" in said
    folds, silent = RunFolder(run.path), RunFolder(run.path)
    folds.__dict__["candidates"] = run.candidates.copy()
    folds.candidates["fold"] = 3
    assert training_of(folds, 0) == "fold 3, not trained on here"
    silent.__dict__["stated"] = {}
    assert training_of(silent, 0) == ""
    elsewhere = RunFolder(run.path)
    elsewhere.__dict__["stated"] = {**run.stated, "model": "szeek-2"}
    assert {training_of(elsewhere, row) for row in range(len(tiles))} == {""}


def test_known_clusters_nearby(run: RunFolder) -> None:
    # candidates of known clusters were put on them: the nearest is the match, at no distance
    assert run.candidates is not None and run.clusters is not None
    row = next(k for k, name in enumerate(run.candidates["match_name"]) if name)
    near = list_known(run, row)
    assert near[0].name == run.candidates["match_name"][row] and near[0].separation_arcmin < 0.01
    assert [one.separation_arcmin for one in near] == sorted(one.separation_arcmin for one in near)
    lonely = next(k for k, name in enumerate(run.candidates["match_name"]) if not name)
    assert all(one.separation_arcmin > 0.01 for one in list_known(run, lonely))


def test_sheet_and_page(run: RunFolder) -> None:
    assert draw_sheet(run, 0, "png").startswith(b"\x89PNG")
    figure = plot_dossier(run, 0)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert [title.split(" ")[0] for title in titles] == [
        "100", "143", "217", "353", "545", "857", "$p$", "$y$", "excess", "radial",
    ]  # fmt: skip
    cuts = figure.axes[:16:2]  # a colour bar follows each: all show 60 arcmin, longitude growing to the left
    assert {(axes.get_xlim(), axes.get_ylim()) for axes in cuts} == {((30.0, -30.0), (-30.0, 30.0))}
    page = render_page(run, 0)
    assert run.candidates is not None
    assert "/dossier/SZeek%20G" in page and str(run.candidates["name"][0]) in page
    assert 'rel="next"' in page and 'rel="prev"' not in page  # the highest p comes first
    with pytest.raises(IndexError, match="expected 0 to"):
        plot_dossier(run, 10_000)
    with pytest.raises(IndexError, match="expected 0 to"):
        render_page(run, -1)


def test_beams_are_drawn_to_scale(run: RunFolder) -> None:
    figure = plot_dossier(run, 0)
    assert run.maps is not None
    for band, axes in zip(run.maps.bands, figure.axes[:12:2], strict=True):
        radii = [patch.radius for patch in axes.patches]
        assert radii == [5.0, band.fwhm_arcmin / 2]  # the 5-arcmin circle, the beam


def test_zipped_set(run: RunFolder, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    target = write_dossiers(
        run.path, tmp_path / "dossiers.zip", n_most=2, progress=lambda _, done, total, __: told.append((done, total))
    )
    archive = zipfile.ZipFile(target)
    assert archive.testzip() is None
    names = archive.namelist()
    assert names[0] == "candidates.csv" and len(names) == 3
    assert names[1].startswith("00000_SZeek_G") and names[1].endswith(".pdf")
    assert archive.read(names[2]).startswith(b"%PDF")
    rows = Table.read(archive.read("candidates.csv").decode(), format="ascii.csv")
    assert run.candidates is not None and list(rows["name"]) == list(run.candidates["name"][:2])
    assert told[-1] == (2, 2)
    assert [file.name for file in tmp_path.iterdir()] == ["dossiers.zip"]


def test_zipped_set_of_the_chosen(run: RunFolder, tmp_path: Path) -> None:
    assert run.candidates is not None
    name = str(run.candidates["name"][3])
    store = VerdictStore(run.path)
    store.write(name, "cluster")
    target = write_dossiers(run.path, tmp_path / "d.zip", filters=Filters(judged="cluster"), ending="png")
    store.write(name, "")
    assert [entry[:6] for entry in zipfile.ZipFile(target).namelist()] == ["candid", "00003_"]
    with pytest.raises(ValueError, match="sheet format 'docx'"):
        write_dossiers(run.path, tmp_path / "x.zip", ending="docx")
    with pytest.raises(ValueError, match=r"none of the \d+ candidates .* passes the filters"):
        write_dossiers(run.path, tmp_path / "x.zip", filters=Filters(p_min=1.1))
    assert not list(tmp_path.glob("*x.zip"))


def test_a_zip_comes_piece_by_piece() -> None:
    made: list[str] = []

    def files() -> Iterator[tuple[str, bytes]]:
        for name in ("a", "b", "c"):
            made.append(name)
            yield name, name.encode() * 1000

    pieces = stream_zip(files())
    first = next(pieces)
    assert made == ["a"] and b"a" * 1000 in first  # sent before the next file is made
    archive = zipfile.ZipFile(io.BytesIO(first + b"".join(pieces)))
    assert archive.testzip() is None and archive.read("c") == b"c" * 1000


def test_filters_choose_what_they_say(run: RunFolder) -> None:
    table = run.candidates
    assert table is not None
    p, lat, matched = np.asarray(table["p"]), np.asarray(table["lat_deg"]), np.asarray(table["match_name"]) != ""
    chosen = choose_candidates(table, Filters(p_min=0.5, lat_min=20.0, matched="no"))
    assert chosen.tolist() == np.flatnonzero((p >= 0.5) & (np.abs(lat) >= 20) & ~matched).tolist()
    assert choose_candidates(table, Filters()).tolist() == list(range(len(table)))
    name = str(table["name"][2])
    assert choose_candidates(table, Filters(search=name.lower()[6:])).tolist() == [2]
    some = table.copy()
    some["purity"][::2] = np.nan  # unknown passes no filter on it
    assert (choose_candidates(some, Filters(purity_min=0.0)) % 2 == 1).all()
    some["kind"] = ["dusty" if k % 3 == 0 else "" for k in range(len(some))]
    assert (choose_candidates(some, Filters(kind="dusty")) % 3 == 0).all()
    said = {name: "maybe"}
    assert choose_candidates(table, Filters(judged="maybe"), said).tolist() == [2]
    assert 2 not in choose_candidates(table, Filters(judged="none"), said)


def test_filters_from_an_address() -> None:
    words = {"p_min": "0.5", "matched": "yes", "base": "y", "kind": "", "search": " A 1689 "}
    assert Filters.parse(words) == Filters(p_min=0.5, matched="yes", search="A 1689")
    with pytest.raises(ValueError, match="filter p_min is 'much', expected a number"):
        Filters.parse({"p_min": "much"})


def test_filters_refuse_what_is_no_answer(run: RunFolder) -> None:
    assert run.candidates is not None
    with pytest.raises(ValueError, match="filter matched is 'perhaps'"):
        choose_candidates(run.candidates, Filters(matched="perhaps"))


def test_dossiers_from_the_command_line(run: RunFolder, tmp_path: Path) -> None:
    words = ["--p-min", "0.2", "--matched", "yes", "--most", "1", "--png"]
    answer = CliRunner().invoke(app, ["dossiers", str(run.path), "-o", str(tmp_path / "d.zip"), *words])
    assert answer.exit_code == 0, answer.output
    assert f"dossiers: {tmp_path / 'd.zip'}" in answer.output
    names = zipfile.ZipFile(tmp_path / "d.zip").namelist()
    assert len(names) == 2 and names[1].endswith(".png")
