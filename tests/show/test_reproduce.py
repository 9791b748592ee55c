"""Stacks and the paper's numbers and figures from a small run folder: all there, right, and honest on what lacks."""

from __future__ import annotations

import json
import shutil
import sys
import tomllib
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from matplotlib.figure import Figure
from scipy.special import logit

sys.path.insert(0, str(Path(__file__).parents[1]))
from runmaker import make_run

from szeek.filter.ymap import YMap
from szeek.find.predict import read_prediction, write_prediction
from szeek.inputs.instrument import read_instrument
from szeek.pipeline.products import RunFolder
from szeek.pipeline.stack import open_run_maps, stack_run
from szeek.show.figures import stackfigures
from szeek.show.figures.stackfigures import Panel
from szeek.show.report.papernumbers import compare, compare_fractions
from szeek.show.report.parts import Figures, Section
from szeek.show.report.reproduce import _figure_8, _say_cuts, reproduce_run
from szeek.sky.skymaps import Band, SkyMaps
from szeek.sky.tiles import TEST_TILE, tile_of
from szeek.stack.cutting import way_to_get
from szeek.stack.products import StackOptions, measure_spectrum, read_stacks
from szeek.stack.samples import choose_samples
from szeek.stack.spectrum import spectral_templates
from szeek.stack.stacks import join_maps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of nside 64 with an X-ray companion, its stacks, and its page."""
    run = make_run(tmp_path_factory.mktemp("runs") / "small", nside=64)
    (run / "simulated").mkdir()
    y_map = healpy.read_map(run / "y_map.fits", nest=True)
    counts = np.random.default_rng(0).poisson(2 + 2e5 * y_map).astype(np.float32)
    healpy.write_map(str(run / "simulated" / "xray.fits"), counts, nest=True, coord="G", dtype=np.float32)
    assert reproduce_run(run, stack_options=StackOptions(size=44, n_null_sets=2)) == run / "reproduce.html"
    return run


def test_stacks_of_three_samples_in_every_map(folder: Path) -> None:
    record = json.loads((folder / "stacks" / "stacks.json").read_text())
    assert list(record["maps"]) == ["bands", "y", "xray"]
    assert set(record["lacking"]) == {
        "iris_100um", "kappa", "galaxies_all", "galaxies_passive", "galaxies_transitioning", "galaxies_active",
        "sfr", "stellar_mass",
    }  # fmt: skip
    for sample in ("all", "unmatched"):
        files = {path.name for path in (folder / "stacks" / sample).iterdir()}
        assert files == {"stacks.fits", "profiles.ecsv", "scaling.ecsv", "spectrum.ecsv"}
    images = read_stacks(folder / "stacks" / "all" / "stacks.fits")
    assert list(images)[-2:] == ["y", "xray"]
    # the painted blobs are 55 arcmin wide (pixels of nside 64): the middle of the field is above its border
    y_map = images["y"]["mean"] - images["y"]["null"]
    assert y_map[18:26, 18:26].mean() > y_map[:4].mean() + 1e-6
    scaling = Table.read(folder / "stacks" / "all" / "scaling.ecsv")
    assert scaling["sample"].tolist()[5:] == ["PLANCK", "MCXCWP", "NULL"]


def test_entries_stand_beside_the_papers(folder: Path) -> None:
    entries = Table.read(folder / "reproduce.ecsv")
    by_what = {(row["where"], row["what"]): row for row in entries}
    row = by_what["Sect. 4.1, test tile", "Planck_z recovered"]
    # runmaker: round(40 (0.97 (1 - 0.05))) = 37 of 40; the paper 40 of 40
    assert (row["value"], row["paper"]) == (37 / 40, 1.0)
    assert row["status"] == "agrees"
    row = by_what["Sect. 4.2, full sky", "sources in none of the three catalogues"]
    assert (row["value"], row["paper"]) == (198, 18415)
    assert row["status"].startswith("differs by ")
    assert by_what["Table 1", "Planck_z clusters"]["value"] == 40
    assert "szeek data fetch redmapper" in by_what["Table 1", "RM50 clusters"]["status"]
    row = by_what["Sect. 4.2, full sky", "unmatched sources in SPT-SZ (Bleem 2015)"]
    assert "`szeek data fetch spt-sz`" in row["status"]
    assert np.isnan(row["value"])
    assert all(
        status.startswith(("agrees", "differs", "needs data that you lack", "new")) for status in entries["status"]
    )


def test_the_page_has_every_figure(folder: Path) -> None:
    page = (folder / "reproduce.html").read_text()
    for k in range(1, 9):
        assert f'id="figure{k}"' in page
    assert "<script>alert" not in page
    drawn = {path.name for path in (folder / "reproduce").iterdir()}
    for k in (1, 2, 3, 5, 6, 7, 8):
        assert {f"figure{k}.png", f"figure{k}.pdf"} <= drawn
    assert "needs data set" not in page  # that is inside the picture; the words say which command
    assert "lensing convergence: this simulated sky was made without it: `szeek run` in a new folder" in page
    assert "the model &#39;+ MCXCwP&#39;" in page


def test_regions_and_models_of_ones_own(folder: Path, tmp_path: Path) -> None:
    """Two regions of a list and one more model: drawn; the models that lack get a configuration and its command."""
    for name in ("candidates.fits", "clusters.fits", "maps", "run.json", "y_map.fits", "prediction.fits", "stacks"):
        (tmp_path / name).symlink_to(folder / name)
    config = 'preset = "demo"\n\n[labels]\nselections = [\n    "planck_z",\n    "rm50",\n]\ndisc_arcmin = 10.0\n'
    config += "\n[labels.targets]\nrm50 = 0.5\n"
    (tmp_path / "config.toml").write_text(config)
    regions = Table({"name": ["Here", "There"], "lon_deg": [57.8, 164.25], "lat_deg": [88.0, -39.16]})
    made_of = {"+ RM30": folder / "prediction.fits"}
    part = _figure_8(RunFolder(tmp_path), Figures(tmp_path / "reproduce"), made_of, regions)
    assert (tmp_path / "reproduce" / "figure8.png").is_file()
    said = " ".join(part.absent)
    assert "the model '+ RM30'" not in said
    assert f"`szeek run {tmp_path}/models/rm50.toml --out {tmp_path}/models/rm50` trains it" in said
    made = tomllib.loads((tmp_path / "models" / "rm50.toml").read_text())
    assert made == {
        "preset": "demo", "labels": {"selections": ["planck_z", "mcxcwp", "rm50"], "disc_arcmin": 10.0},
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [
        "mcxcwp.toml",
        "planck_z.toml",
        "rm50.toml",
    ]
    assert "which a simulated sky does not have" not in said


def test_what_was_cut_out_is_said(tmp_path: Path) -> None:
    (tmp_path / "stacks").mkdir()
    record = {
        "cut_out": {"xray": ["2rxs: 2 sources, 3 arcmin"]},
        "not_cut_out": {"y": {"pccs2": "`szeek data fetch pccs2`"}},
    }
    (tmp_path / "stacks" / "stacks.json").write_text(json.dumps(record))
    part = Section("figure5", "Fig. 5")
    _say_cuts(RunFolder(tmp_path), part)
    assert [block.text for block in part.blocks] == ["Cut out of xray before stacking: 2rxs: 2 sources, 3 arcmin."]
    assert part.absent == ["Not in this run: pccs2 sources cut out of y, as in the paper: `szeek data fetch pccs2`."]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    page = reproduce_run(tmp_path).read_text()
    assert page.count("Not in this run") >= 7
    entries = Table.read(tmp_path / "reproduce.ecsv")
    assert all(status.startswith("needs data that you lack") for status in entries["status"])
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        reproduce_run(tmp_path / "nothing")


def test_stack_run_says_what_it_needs(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no candidates\.fits .*; `szeek detect` makes it"):
        stack_run(tmp_path)
    with pytest.raises(ValueError, match="samples some are unknown, expected some of all, unmatched, test_tile"):
        stack_run(folder, samples=("some",))
    with pytest.raises(ValueError, match="masks of radio, expected some of bands, y, xray"):
        stack_run(folder, masks={"radio": np.ones(12, bool)})


def test_masks_are_honoured(folder: Path, tmp_path: Path) -> None:
    for name in ("candidates.fits", "clusters.fits", "maps", "run.json", "y_map.fits"):
        (tmp_path / name).symlink_to(folder / name)
    # of the y map only the northern half counts: the stack has fewer sources than the bands have
    north = healpy.pix2ang(64, np.arange(12 * 64**2))[0] < np.pi / 2
    p_map = np.random.default_rng(0).uniform(0.2, 0.9, north.size).astype(np.float32)
    p_map[:100] = np.nan
    write_prediction(p_map, tmp_path / "prediction.fits")
    stack_run(tmp_path, StackOptions(size=44, n_null_sets=2), masks={"y": north}, samples=("all",))
    with fits.open(tmp_path / "stacks" / "all" / "stacks.fits") as hdus:
        n = {name: hdus[f"{name}_MEAN"].header["NSOURCE"] for name in ("BANDS", "Y")}
    assert 0.3 * n["BANDS"] < n["Y"] < 0.7 * n["BANDS"]
    record = json.loads((tmp_path / "stacks" / "stacks.json").read_text())
    assert record["cut_out"] == {"y": ["a mask"]}
    # the p map as a map of mean y
    y_map = read_prediction(tmp_path / "stacks" / "y_from_p.fits")
    np.testing.assert_array_equal(np.isnan(y_map), np.isnan(p_map))
    law, some = record["y_from_p"], (p_map > 0.3) & (p_map < 0.8)
    expected = law["amplitude"] * np.exp(law["slope"] * (logit(p_map[some]) - law["pivot_logit_p"]))
    np.testing.assert_allclose(y_map[some], expected, rtol=1e-4)


def test_samples_and_maps() -> None:
    # 4 and 6 arcmin from a cluster, and one that only redMaPPer has: all but the first are unmatched
    sources = Table({"lon_deg": [10.0, 20.0, 112.5], "lat_deg": [0.0, 0.0, 41.8], "p": [0.5, 0.5, 0.5]})
    known = Table(
        {
            "name": ["A", "B", "C"], "survey": ["PSZ2", "MCXC", "REDMAPPER"],
            "lon_deg": [10 + 4 / 60, 20 + 6 / 60, 112.5],
            "lat_deg": [0.0, 0.0, 41.8], "z": [np.nan, 0.1, 0.3], "richness": [np.nan, np.nan, 60.0],
        }
    )  # fmt: skip
    chosen = choose_samples(sources, known)
    assert chosen["unmatched"]["lon_deg"].tolist() == [20.0, 112.5]
    assert chosen["test_tile"]["lon_deg"].tolist() == [112.5]
    assert int(tile_of(112.5, 41.8)) == TEST_TILE
    rng = np.random.default_rng(1)
    maps = {
        name: SkyMaps(rng.normal(size=(48, 1)).astype(np.float32), np.ones(48, bool), (Band(name, 0, 0, ""),))
        for name in ("y", "a", "b")
    }
    joined = join_maps(maps, apart={"y"})
    assert [band.name for band in joined["companions 1"].bands] == ["a", "b"]
    np.testing.assert_array_equal(joined["companions 1"].values[:, 1], maps["b"].values[:, 0])
    maps["b"].footprint[3] = False
    assert list(join_maps(maps, apart={"y"})) == ["y", "a", "b"]
    assert way_to_get("psz2") == "`szeek data fetch psz2`"
    assert way_to_get("iris").startswith("`szeek data add iris PATH`")


def test_more_maps_are_taken(folder: Path) -> None:
    given = SkyMaps(np.ones((12 * 64**2, 1), np.float32), np.ones(12 * 64**2, bool), (Band("x", 0, 4.3, "MJy/sr"),))
    maps, lacking = open_run_maps(RunFolder(folder), {"iris_100um": given})
    assert maps["iris_100um"].bands[0].name == "iris_100um"
    assert "iris_100um" not in lacking


def test_the_y_map_made_of_a_runs_own_bands_is_stacked(folder: Path, tmp_path: Path) -> None:
    """`szeek ymap` leaves y.fits; a y_map.fits that the user put there goes before it."""
    run = shutil.copytree(folder, tmp_path / "run", symlinks=True)
    (run / "y_map.fits").unlink()
    for name, y in (("y.fits", 2e-6), ("y_map.fits", 3e-6)):
        values = np.full(12 * 64**2, y, np.float32)
        YMap(values, values).write(run / name)
        found = open_run_maps(RunFolder(run))[0]["y"]
        assert found.values.min() == found.values.max() == np.float32(y)
        assert found.bands[0].fwhm_arcmin == 10.0


def test_spectrum_of_painted_tsz() -> None:
    """Bands that are y times the tSZ response, y a wide Gaussian: its flux in the aperture comes out."""
    instrument = read_instrument("planck-hfi")
    nside = 512
    rng = np.random.default_rng(2)
    sources = Table({"lon_deg": np.arange(5.0, 355.0, 10.0), "lat_deg": np.tile([30.0, 50.0, -40.0, 60.0, -20.0], 7)})
    y_map = np.zeros(12 * nside**2)
    for lon_deg, lat_deg in zip(sources["lon_deg"], sources["lat_deg"], strict=True):
        centre = healpy.ang2vec(lon_deg, lat_deg, lonlat=True)
        pixels = healpy.query_disc(nside, centre, np.radians(1.5))
        cos = np.clip(centre @ np.array(healpy.pix2vec(nside, pixels)), -1, 1)
        y_map[pixels] += 1e-5 * np.exp(-0.5 * (np.degrees(np.arccos(cos)) * 60 / 15) ** 2)
    tsz = spectral_templates(instrument, ["tsz"])[0]
    noise = 1e-9 * np.abs(tsz) / 1e-3 * rng.normal(size=(len(y_map), 6))
    bands = SkyMaps((y_map[:, None] * tsz + noise).astype(np.float32), np.ones(len(y_map), bool), instrument.bands)
    nulls = Table({"lon_deg": (sources["lon_deg"] + 5) % 360, "lat_deg": sources["lat_deg"]})
    table = measure_spectrum(bands, sources, nulls, instrument, background_arcmin=(40.0, 60.0))
    # disc of 10 arcmin of a Gaussian of sigma 15: 2 pi 15^2 (1 - exp(-10^2 / 450)) x 1e-5 = 2.82e-3 arcmin^2, less
    # the annulus' mean, 2 pi 15^2 (exp(-40^2/450) - exp(-60^2/450)) / (60^2 - 40^2) x 10^2 x 1e-5 = 2e-5
    # bilinear interpolation between pixels of 6.9 arcmin widens it by 6.9^2 / 6: 15^2 / (15^2 + 7.9) = 0.966
    np.testing.assert_allclose(table["flux"] / tsz, 0.966 * 2.80e-3, rtol=0.03)
    fit = table.meta["fit"]
    assert fit["tsz"]["sigma"] > 20
    assert abs(fit["cmb"]["sigma"]) < 5


@pytest.mark.parametrize(
    ("value", "error", "paper", "status"),
    [
        (10.0, 3.0, 15.9, "agrees"),
        (10.0, 3.0, 16.1, "differs by 2.0 sigma"),
        (1094.0, 0.0, 1094.0, "agrees"),
        (4643.0, 0.0, 5067.0, "differs by -424"),
        (np.nan, 1.0, 1.0, "not compared"),
    ],
)
def test_status(value: float, error: float, paper: float, status: str) -> None:
    assert compare(value, error, paper) == status


def test_fractions_of_nothing_and_of_all() -> None:
    assert compare_fractions(0, 0, 0.5, 10)[1] == "not compared"
    error, status = compare_fractions(40, 40, 1.0, 40)
    assert status == "agrees"
    assert error > 0
    assert compare_fractions(20, 40, 1.0, 40)[1].startswith("differs by ")


def test_figures_refuse_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="no stack to show"):
        stackfigures.plot_stacks([])
    with pytest.raises(ValueError, match="no stack to show"):
        stackfigures.plot_stack_rows([])
    with pytest.raises(ValueError, match="0 regions and 0 maps"):
        stackfigures.plot_regions([], {})
    rows = Table({"sample": ["all"], "radius_arcmin": [1.0], "mean": [1.0], "error": [0.1]})
    with pytest.raises(ValueError, match="the profiles are of all, expected 'p bin 1'"):
        stackfigures.plot_profiles(rows)


def test_lacking_maps_have_a_panel_that_says_so() -> None:
    image = np.random.default_rng(0).normal(size=(20, 20))
    figure = stackfigures.plot_stacks(
        [Panel("100", image, "K_CMB", 9.7, "3.0σ"), Panel("sfr", None, remark="not here")]
    )
    assert isinstance(figure, Figure)
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert words == ["3.0σ", "not here"]
    assert figure.axes[0].get_title() == "100 GHz"
