"""The report: complete from a full run, honest about what is missing, safe with any name, nothing loaded."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from matplotlib.figure import Figure
from runmaker import EVIL_NAME, make_run

from szeek.assess.match import match
from szeek.find.predict import write_prediction
from szeek.inputs.instrument import read_instrument
from szeek.learn.normalise import Normaliser
from szeek.measure.candidates import make_candidates, read_candidates, write_candidates
from szeek.pipeline.products import RunFolder
from szeek.show.report.candidatesections import section_candidates, section_kinds, section_table
from szeek.show.report.field import FieldPicture, find_best_place, keep_field, sample_image, section_fields
from szeek.show.report.known import drawn_clusters, recovered
from szeek.show.report.page import write_report
from szeek.show.report.papersection import section_paper
from szeek.show.report.parts import Block, Figures, number, percent
from szeek.show.report.sections import (
    all_sections,
    key_numbers,
    sample_input,
    section_clusters,
    section_recovery,
    section_sky,
    section_training,
)
from szeek.show.report.truthsection import section_truth, shows_truth
from szeek.sky.skymaps import SkyMaps


class _Page(HTMLParser):
    """Collects what a browser would fetch, the tags, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "demo", nside=64)


@pytest.fixture(scope="module")
def page(run_folder: Path) -> _Page:
    return _Page(write_report(run_folder).read_text(encoding="utf-8"))


def test_one_file_that_loads_nothing(page: _Page) -> None:
    assert page.links
    to_explorer = [link for link in page.links if link.startswith("http://127.0.0.1:8217/#")]
    assert len(to_explorer) > 20
    assert all(link.startswith(("data:", "#")) for link in page.links if link not in to_explorer)
    assert page.tags.count("script") == 1  # our own; none from a catalogue
    assert "iframe" not in page.tags


def test_everything_of_a_full_run_is_shown(page: _Page, run_folder: Path) -> None:
    for words in ("The sky", "Known clusters recovered", "What the candidates look like", "How to cite",
                  "Planck_no-z", "SZcat (2022)", 'preset = "demo"', "simulated"):  # fmt: skip
        assert words in page.text
    assert page.tags.count("figure") == 10
    assert "Not in this run: a field beside a y map" in page.text
    names = {f.name for f in (run_folder / "figures").iterdir()}
    assert {"sky.png", "sky.pdf", "test_tile.png", "recovery.pdf", "gallery_candidates.png", "training.png"} <= names
    assert not list(run_folder.glob(".*"))


def test_the_papers_numbers_and_figures_once_they_are_made(run_folder: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    part = section_paper(run, Figures(tmp_path / "figures"))
    assert "szeek reproduce" in part.absent[0] and "Fig. 3" in part.blocks[0].text
    row = {"where": "Sect. 4.1", "what": "Planck_z recovered", "paper": 1.0, "value": 0.89, "error": np.nan,
           "kind": "fraction", "status": "differs", "note": "<b>"}  # fmt: skip
    Table(rows=[row]).write(tmp_path / "reproduce.ecsv")
    (tmp_path / "reproduce").mkdir()
    (tmp_path / "reproduce" / "figure6.png").write_bytes(b"picture")
    part = section_paper(RunFolder(tmp_path), Figures(tmp_path / "figures"))
    assert not part.absent
    assert [block.kind for block in part.blocks] == ["text", "table", "figure", "text"]
    assert [cell.text for cell in part.blocks[1].rows[0]][2:5] == ["100.0 %", "89.0 %", ""]
    assert part.blocks[2].source == "data:image/png;base64,cGljdHVyZQ==" and "Fig. 6" in part.blocks[2].caption


def test_names_are_escaped(run_folder: Path, page: _Page) -> None:
    html = (run_folder / "report.html").read_text(encoding="utf-8")
    assert EVIL_NAME not in html
    assert EVIL_NAME in page.text  # as text it is there


def test_empty_folder_gives_a_report_that_says_what_is_missing(tmp_path: Path) -> None:
    page = _Page(write_report(tmp_path).read_text(encoding="utf-8"))
    for product in ("prediction.fits", "recovery.ecsv", "candidates.fits", "model.json", "run.json", "clusters.fits"):
        assert f"Not in this run: {product}" in page.text
    assert "figure" not in page.tags
    assert sorted(f.name for f in tmp_path.iterdir()) == ["report.html"]


def test_no_candidate_and_no_maps(run_folder: Path, tmp_path: Path) -> None:
    for product in ("prediction.fits", "clusters.fits"):
        (tmp_path / product).symlink_to(run_folder / product)
    write_candidates(read_candidates(run_folder / "candidates.fits")[:0], tmp_path / "candidates.fits")
    part = section_candidates(RunFolder(tmp_path), Figures(tmp_path / "figures"))
    assert "The catalogue is empty." in part.absent
    assert part.absent[0].startswith("Not in this run: the frequency maps")


class _Unsaved(Figures):
    """Keeps the captions and saves no picture: saving is most of a report's time."""

    def block(self, name: str, figure: Figure, caption: str, alt: str, **_: bool) -> Block:
        return Block("figure", caption=caption, alt=alt)


def _captions(run_folder: Path, folder: Path, config: dict[str, object]) -> str:
    """Captions and texts of the report's sections on the sky, under another configuration."""
    folder.mkdir()
    for product in ("prediction.fits", "clusters.fits", "candidates.fits", "maps", "y_map.fits"):
        (folder / product).symlink_to(run_folder / product)
    (folder / "run.json").write_text(json.dumps({"config": config}))
    recovery = Table.read(run_folder / "recovery.ecsv")
    recovery["tile"][recovery["tile"] == 6] = (config.get("split") or {"test_tiles": [6]})["test_tiles"][0]  # type: ignore[index]
    recovery.write(folder / "recovery.ecsv")
    run, made = RunFolder(folder), _Unsaved(folder)
    parts = [section(run, made) for section in (section_sky, section_recovery, section_candidates, section_clusters)]
    texts = [f"{b.caption} {b.text} {' '.join(c.name for c in b.columns)}" for part in parts for b in part.blocks]
    return "\n".join(texts + [f"{tile['label']} {tile['detail']}" for tile in key_numbers(run)])


def test_captions_follow_the_run(run_folder: Path, tmp_path: Path) -> None:
    split = {"test_tiles": [20, 6], "validation_tiles": [9]}
    config = {"detect": {"p_max": 0.3}, "assess": {"radius_arcmin": 7.0}, "split": split}
    told = _captions(run_folder, tmp_path / "other", config)
    for words in (
        "test tile 20, which no training patch touched; the others are 6", "sources above 0.3", "p > 0.3",
        "within 7 arcmin", "in tile 20", "measured in tiles 20 (test), 6 (test), 9 (validation)",
    ):  # fmt: skip
        assert words in told, words
    for words in ("above 0.1", "5 arcmin of", "within 5 arcmin", "tile 6,", "Stars"):  # the paper's tile is another
        assert words not in told, words
    paper = _captions(run_folder, tmp_path / "paper", {"split": {"test_tiles": [6], "validation_tiles": [9, 38, 41]}})
    for words in ("Test tile 6, which no training patch touched", "above 0.1", "Stars: Bonjean (2020), Fig. 3"):
        assert words in paper, words
    folds = _captions(run_folder, tmp_path / "folds", {"split": {"test_tiles": [6], "folds": 6}})
    assert "Sky tile 6, predicted, like every tile, by one of 6 networks that never saw it" in folds
    assert "Sky tile 6, held out of the training" in folds and "partly memory" not in folds
    silent = _captions(run_folder, tmp_path / "silent", {})
    assert "no training patch" not in silent and "does not record which tiles" in silent


def test_a_given_network_is_judged_on_the_sky_at_hand(run_folder: Path, tmp_path: Path) -> None:
    split = {"test_tiles": [6], "validation_tiles": [9, 38, 41]}  # of the sky that the network was trained on
    told = _captions(run_folder, tmp_path / "given", {"model": "/somewhere/my-network", "split": split})
    assert "tile" not in told.lower()
    for words in ("in these maps", "field with the best candidates", "beside Compton y", "network trained before"):
        assert words in told, words
    run = RunFolder(tmp_path / "given")
    assert [tile["label"] for tile in key_numbers(run)] == ["sources at p > 0.1", "network"]
    record = {"config": {"model": "szeek-1"}, "stages": {"measure": {"n_known": 4, "n_known_found": 3}}}
    (tmp_path / "given" / "run.json").write_text(json.dumps(record))
    run = RunFolder(tmp_path / "given")
    assert {"label": "known clusters found", "value": "75 %", "detail": "3 of 4 in these maps"} in key_numbers(run)
    shown = [part.id for part in all_sections(run, _Unsaved(tmp_path))]
    assert "recovery" in shown and not {"paper", "reliability", "fields"} & set(shown)


def test_best_field_is_where_most_clusters_are_expected() -> None:
    # one near-certain cluster; two at half a degree from each other, of 1.2 clusters together; their mean place
    sources = Table({"lon_deg": [9.0, 40.0, 40.5], "lat_deg": [0.0, 0.0, 0.0], "p": [0.9, 0.6, 0.6]})
    np.testing.assert_allclose(find_best_place(sources), (40.25, 0.0), atol=1e-9)
    sources["purity"] = [0.95, 0.3, 0.3]  # p is no probability, PURITY is one
    np.testing.assert_allclose(find_best_place(sources), (9.0, 0.0), atol=1e-9)
    sources["purity"] = np.nan
    np.testing.assert_allclose(find_best_place(sources), (40.25, 0.0), atol=1e-9)


def test_optical_clusters_do_not_hide_the_others(run_folder: Path, tmp_path: Path) -> None:
    assert len(drawn_clusters(RunFolder(_empty(tmp_path)))) == 0
    clusters = Table.read(run_folder / "clusters.fits")[:4]
    for richness, n in (([np.nan, 20.0, 30.0, np.nan], 2), ([20.0, 20.0, 30.0, 40.0], 4)):
        clusters["richness"] = richness
        clusters.write(tmp_path / "clusters.fits", overwrite=True)
        assert len(drawn_clusters(RunFolder(tmp_path))) == n


def test_recovery_says_which_catalogues_count_as_known(run_folder: Path, tmp_path: Path) -> None:
    recovery = Table.read(run_folder / "recovery.ecsv")
    recovery.meta["known"] = ["planck_z", "mcxcwp"]
    recovery.write(tmp_path / "recovery.ecsv")
    part = section_recovery(RunFolder(tmp_path), _Unsaved(tmp_path))
    assert "those in none of Planck_z and MCXCwP" in part.blocks[0].caption


def test_links_lead_to_each_candidate(run_folder: Path, page: _Page) -> None:
    run = RunFolder(run_folder)
    assert run.candidates is not None
    asked = [parse_qs(urlsplit(link).fragment) for link in page.links if link.startswith("http:")]
    assert {state["at"][0] for state in asked if "at" in state} == set(map(str, run.candidates["name"]))
    places = [state for state in asked if "at" not in state]  # missed clusters, by position
    assert places and all(float(state["fov"][0]) == 2 for state in places)


def test_input_of_a_whitened_network(run_folder: Path) -> None:
    # white noise that differs from cell to cell by a constant: the medians go, the matrix makes variance one
    rng = np.random.default_rng(0)
    cell = rng.normal(0, 50, (12 * 8**2, 6))
    values = healpy.reorder((cell[np.arange(12 * 64**2) // 64] + rng.normal(0, 2, (12 * 64**2, 6))).T, n2r=True).T
    maps = SkyMaps(values.astype(np.float32), np.ones(len(values), bool), read_instrument("planck-hfi").bands)
    normaliser = Normaliser("local-whitened", np.zeros(6, np.float32), np.eye(6, dtype=np.float32) / 2, 8)
    seen = np.sinh(sample_input(maps, normaliser))
    assert seen.shape == (12 * 64**2, 6)
    np.testing.assert_allclose(seen.std(axis=0), 1.0, atol=0.02)
    # S/N maps follow the bands where the network wants them
    sizes = (2.5, 7.0)
    snr = rng.normal(0, 1, (len(values), 2)).astype(np.float32)
    seen = sample_input(replace(maps, snr=snr, theta500_arcmin=sizes), replace(normaliser, theta500_arcmin=sizes))
    assert seen.shape == (12 * 64**2, 8)
    np.testing.assert_allclose(np.sinh(seen[:, 6:]).std(axis=0), 1.0, atol=0.02)
    assert sample_input(maps, replace(normaliser, theta500_arcmin=sizes)).shape == (12 * 64**2, 6)
    plain = Normaliser("left-gaussian", np.zeros(6, np.float32), np.eye(6, dtype=np.float32))
    assert set(sample_input(maps, plain)[:, 0].tolist()) <= set(maps.values[:, 0].tolist())


def test_networks_of_the_folds(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"config": {"split": {"test_tiles": [6], "folds": 3}}}))
    card = json.loads((run_folder / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(card))
    for fold, loss in ((0, 0.2), (1, 0.1)):  # the third is not there yet
        (tmp_path / f"fold-{fold}").mkdir()
        curve = [{"epoch": k, "train_loss": loss, "valid_loss": loss + abs(k - 2)} for k in range(4)]
        fold_card = {"config": {"split": {"test_tiles": [fold, fold + 3]}}, "curve": curve}
        (tmp_path / f"fold-{fold}" / "model.json").write_text(json.dumps(fold_card))
    part = section_training(RunFolder(tmp_path), _Unsaved(tmp_path))
    table = next(block for block in part.blocks if block.caption == "The networks, one a fold")
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["0", "2", "2", "0.2", "0, 3"], ["1", "2", "2", "0.1", "1, 4"], ["2", "0", "", "", ""],
    ]  # fmt: skip
    assert any("of the network of fold 0" in block.caption for block in part.blocks)


def test_classes_of_a_network_that_tells_several_apart(run_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run_folder, folder)
    card = json.loads((folder / "model.json").read_text()) | {"network": {"classes": ["radio", "co"]}}
    (folder / "model.json").write_text(json.dumps(card))
    (folder / "classes").mkdir()
    for name in ("radio", "co"):
        write_prediction(np.zeros(12 * 16**2, np.float32), folder / "classes" / f"{name}.fits")
    candidates = Table.read(folder / "candidates.fits")
    candidates["CLASS"] = np.array(["radio", *["cluster"] * (len(candidates) - 1)])
    candidates.write(folder / "candidates.fits", overwrite=True)
    sources = Table({"class": ["radio", "radio", "radio", "co"], "purity": [0.9, 0.4, 0.6, 0.2]})
    sources.write(folder / "class-sources.fits")
    part = section_kinds(RunFolder(folder), _Unsaved(tmp_path))
    table = next(block for block in part.blocks if block.caption.startswith("Classes"))
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["cluster", str(len(candidates) - 1), "", ""], ["radio", "1", "3", "2"], ["co", "0", "1", "0"],
    ]  # fmt: skip


def test_broken_products_are_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json' is not valid JSON"):
        write_report(tmp_path)
    (tmp_path / "run.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"run\.json' holds a list"):
        write_report(tmp_path)
    (tmp_path / "run.json").unlink()
    Table({"NAME": ["a"], "P": [0.5]}).write(tmp_path / "candidates.fits")
    with pytest.raises(ValueError, match=r"candidates\.fits' has no column "):
        write_report(tmp_path)
    with pytest.raises(NotADirectoryError, match="is not a folder"):
        write_report(tmp_path / "nowhere")
    assert not list(tmp_path.glob("*.html"))


def test_numbers_as_printed_and_sorted() -> None:
    assert number(-0.5, decimals=1).text == "−0.5"
    assert number(-0.5, decimals=1).sort == -0.5
    assert number(np.nan).text == "" and number(None).sort == "" and number(np.ma.masked).text == ""
    # 37 of 40: binomial interval 0.86 to 0.96
    assert percent(0.925, 0.86, 0.96).text == "92 +4 −6 %"
    assert percent(0.0).text == "0 %"


def test_tables_sort_by_value(page: _Page, run_folder: Path) -> None:
    html = (run_folder / "report.html").read_text(encoding="utf-8")
    values = [float(v) for v in re.findall(r'<td class="n" data-sort="(0\.\d+)"', html)]
    assert len(values) > 20


def test_recovered_is_one_to_one() -> None:
    # two clusters 1 arcmin apart share one source: one of them is recovered, not both
    clusters = Table({"lon_deg": [10.0, 10.0], "lat_deg": [0.0, 1 / 60]})
    sources = Table({"lon_deg": [10.0], "lat_deg": [0.001], "p": [0.9]})
    assert recovered(sources, clusters).tolist() == [True, False]
    assert recovered(sources[:0], clusters).tolist() == [False, False]


def _tan_image(file: Path, crval: tuple[float, float]) -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = crval, [50.5, 50.5], [-0.05, 0.05]
    rows, columns = np.indices((100, 100))
    data = np.exp(-0.5 * ((columns - 49.5) ** 2 + (rows - 49.5) ** 2) / 3**2) * 1e-5
    fits.PrimaryHDU(data.astype(np.float32), wcs.to_header()).writeto(file, overwrite=True)


def test_field_shows_the_y_map_where_it_is(run_folder: Path, tmp_path: Path) -> None:
    # Coma: (RA, Dec) = (194.953, 27.981) deg is (l, b) = (57.80, 88.00) deg
    _tan_image(tmp_path / "y.fits", (194.953, 27.981))
    picture = sample_image(tmp_path / "y.fits", 57.80, 88.00, 4.0, n=81)
    row, column = np.unravel_index(np.nanargmax(picture), picture.shape)
    assert abs(row - 40) <= 1 and abs(column - 40) <= 1
    assert np.isnan(sample_image(tmp_path / "y.fits", 57.80, 80.0, 1.0, n=5)).all()

    clusters = Table.read(run_folder / "clusters.fits")[:3]
    clusters["remark"] = ["one", "two", "three"]
    target = tmp_path / "run"
    shown = FieldPicture("Coma", 57.80, 88.0, 4.0, [tmp_path / "y.fits"] * 2, "MILCA", note="A note.")
    keep_field(target, "coma", run_folder, clusters, shown)
    part = section_fields(RunFolder(target), Figures(tmp_path / "figures"))
    assert [block.kind for block in part.blocks] == ["figure", "table", "text", "text"]
    assert part.blocks[1].caption.startswith("Coma: the clusters known there")
    assert [row[-1].text for row in part.blocks[1].rows] == ["one", "two", "three"]
    assert part.blocks[3].text == "A note."
    # 41,253 deg^2 less a cap of 6 deg radius: 2 pi (1 - cos 6 deg) = 113 deg^2
    sources = RunFolder(target).fields[0].candidates
    assert sources is not None
    other = len(sources) - len(match(sources, clusters, 5.0))
    assert part.blocks[2].text.startswith(f"{other} further sources in 411")
    with pytest.raises(FileNotFoundError, match=r"holds no prediction\.fits and no candidates\.fits"):
        keep_field(target, "x", tmp_path, clusters, shown)


def test_a_healpix_y_map_is_cut_out_where_it_is(tmp_path: Path) -> None:
    lon, _ = healpy.pix2ang(512, np.arange(12 * 512**2), lonlat=True)
    y = np.where(np.abs(lon - 100) < 20, lon, healpy.UNSEEN).astype(np.float32)
    healpy.write_map(str(tmp_path / "y.fits"), y, coord="G", dtype=np.float32, column_units="y")
    picture = sample_image(tmp_path / "y.fits", 100.0, 0.0, 2.0, n=21)
    # columns grow with longitude, on a tangent plane: at the n-th of 21 pixels of 2/21 deg the tangent is known
    expected = 100 + np.degrees(np.arctan(np.radians((np.arange(21) - 10) * 2 / 21)))
    np.testing.assert_allclose(picture[10], expected, atol=0.03)
    assert np.isnan(sample_image(tmp_path / "y.fits", 200.0, 0.0, 1.0, n=5)).all()


def test_threshold_of_a_predicted_field(tmp_path: Path) -> None:
    assert RunFolder(tmp_path).p_max == 0.1
    (tmp_path / "fields" / "field").mkdir(parents=True)
    (tmp_path / "fields" / "field" / "field.json").write_text('{"p_max": 0.25}')
    assert RunFolder(tmp_path).p_max == 0.25
    (tmp_path / "run.json").write_text('{"config": {"detect": {"p_max": 0.4}}}')
    assert RunFolder(tmp_path).p_max == 0.4


def test_sample_image_refuses_what_is_no_sky_image(tmp_path: Path) -> None:
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    with pytest.raises(ValueError, match="holds no HEALPix table"):
        sample_image(tmp_path / "empty.fits", 0, 0, 1)
    fits.PrimaryHDU(np.zeros((5, 5))).writeto(tmp_path / "plain.fits")
    with pytest.raises(ValueError, match="no celestial WCS"):
        sample_image(tmp_path / "plain.fits", 0, 0, 1)


def test_run_folder_reads_masks_and_orders(run_folder: Path) -> None:
    run = RunFolder(run_folder)
    assert run.candidates is not None and run.p_ring is not None and run.p_nested is not None
    assert (np.diff(np.asarray(run.candidates["p"])) <= 0).all()
    assert np.isnan(run.p_ring).sum() == np.isnan(run.p_nested).sum() > 0
    assert run.fields == []


def _rows(block: Block) -> list[list[str]]:
    return [[cell.text for cell in row] for row in block.rows]


def test_kinds_and_flags_are_counted(tmp_path: Path) -> None:
    table = make_candidates(
        Table(
            {
                "lon_deg": [10.0, 20.0, 30.0, 40.0], "lat_deg": [50.0, 50.0, 50.0, 50.0], "p": [0.9, 0.8, 0.7, 0.6],
                "snr": [9.0, 5.0, 7.0, np.nan], "y5r500_arcmin2": [2e-3, 1e-3, 3e-3, np.nan],
                "kind": ["cluster", "radio", "cluster", ""], "match_name": ["A", "", "", ""],
                # dust (32) is checked for all and set once, co (16) for none, point_source (4) for all but the last
                "flags": [0, 4 + 32, 0, 0], "checked": [4 + 32, 4 + 32, 4 + 32, 32], "ps_band": ["", "100", "", ""],
                "ps_snr": [np.nan, 8.0, np.nan, np.nan],
            }
        )
    )  # fmt: skip
    write_candidates(table, tmp_path / "candidates.fits")
    run, made = RunFolder(tmp_path), Figures(tmp_path / "figures")
    part = section_kinds(run, made)
    assert part.absent == []
    kinds, flags, first = part.blocks
    assert _rows(kinds) == [["cluster", "2", "1", "8.0"], ["radio", "1", "0", "5.0"], ["not measured", "1", "0", ""]]
    counts = {row[0]: row[2:] for row in _rows(flags)}
    assert counts["dust"] == ["1", "3", "0"]
    assert counts["point source"] == ["1", "2", "1"]
    assert counts["co"] == ["0", "0", "4"]  # never 'clear'
    assert all(sum(int(count) for count in row) == 4 for row in counts.values())
    heads = [str(column.name) for column in first.columns]
    row = dict(zip(heads, _rows(first)[1], strict=True))
    assert row["S/N"] == "5.0" and row["kind"] == "radio" and row["flags"] == "point source (100), dust"
    assert "co" in row["not checked"] and "dust" not in row["not checked"]
    assert heads[1:3] == ["<i>p</i>", "S/N"]  # no purity, which this catalogue does not have
    assert first.columns[3].unit == "10⁻³ arcmin²" and _rows(first)[1][3] == "1.00"
    assert _rows(section_table(run, made).blocks[1])[1][-2:] == [row["flags"], row["not checked"]]


def test_unmeasured_candidates_are_said_to_be_so(tmp_path: Path) -> None:
    sources = Table({"lon_deg": [10.0], "lat_deg": [50.0], "p": [0.9]})
    write_candidates(make_candidates(sources), tmp_path / "candidates.fits")
    part = section_kinds(RunFolder(tmp_path), Figures(tmp_path / "figures"))
    assert _rows(part.blocks[0]) == [["not measured", "1", "0", ""]]
    assert len(part.absent) == 1 and "`szeek photometry`" in part.absent[0]
    assert section_kinds(RunFolder(_empty(tmp_path)), Figures(tmp_path / "figures")).blocks == []


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_the_truth_of_a_small_simulated_field(tmp_path: Path) -> None:
    instrument = read_instrument("planck-hfi")
    n_pix = 12 * 64**2
    footprint = np.zeros(n_pix, bool)
    footprint[healpy.query_disc(64, healpy.ang2vec(40, 65, lonlat=True), np.radians(5))] = True
    SkyMaps(np.zeros((n_pix, 6), np.float32), footprint, instrument.bands).save(tmp_path / "maps")
    p_map = np.where(footprint, 0.01, healpy.UNSEEN).astype(np.float32)
    healpy.write_map(tmp_path / "prediction.fits", p_map, coord="G", dtype=np.float32)
    sources = Table({"lon_deg": [40.0, 41.0], "lat_deg": [65.0, 66.0], "p": [0.9, 0.4], "purity": [0.8, 0.4]})
    write_candidates(make_candidates(sources), tmp_path / "candidates.fits")
    (tmp_path / "run.json").write_text(json.dumps({"config": {"sky": {"simulate": True}}}))
    run = RunFolder(tmp_path)
    assert not shows_truth(run)  # there is none yet
    (tmp_path / "simulated").mkdir()
    # at the first candidate, 1.2 arcmin north; too faint at the second; one that was missed
    truth = Table({"lon_deg": [40.0, 41.0, 39.0], "lat_deg": [65.02, 66.0, 64.0], "z": [0.2, 0.2, 0.3]})
    truth["y500_arcmin2"], truth["m500_1e14msun"] = [1e-3, 1e-5, 5e-4], [5.0, 0.8, 4.0]
    truth["theta500_arcmin"] = 5.0
    truth.write(tmp_path / "simulated" / "truth.fits")
    assert shows_truth(run)
    part = section_truth(run, Figures(tmp_path / "figures"))
    figure, text, table = part.blocks
    assert "143 GHz" in figure.caption and "the 2 true haloes" in figure.caption
    assert text.text == "1 of the 2 candidates are true haloes; by the column PURITY 1 were expected."
    first, second = ([cell.text for cell in row] for row in table.rows)
    assert first[1:3] == ["0.90", "0.80"] and first[5:] == ["1.00", "0.200", "5.0", "1.2"]
    assert second[5:] == ["none", "", "", ""]
