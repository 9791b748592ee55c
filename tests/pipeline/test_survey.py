"""A survey from the ground, from its maps to candidates and a report, as Planck's maps go: no special case."""

import sys
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.table import Table

from szeek.config import load_config
from szeek.filter.snrmaps import NOISE_THETA500_ARCMIN
from szeek.find.predict import read_prediction
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.sky.mapset import MapSet, open_maps
from szeek.sky.partial import PartialMap
from szeek.verbs import measure_purity, run

sys.path.insert(0, str(Path(__file__).parents[1]))
from act_like import Patch, act_like, act_like_instrument, spread_positions

PATCH = Patch(6.0, 4.0)
SIZES = (1.0, 3.0)


def write_instrument(path):
    """The instrument of the maps as a user's file."""
    setup, lines = act_like_instrument(), ['name = "act-like"']
    for k, band in enumerate(setup.bands):
        lines += ["[[bands]]", f'name = "{band.name}"', f'unit = "{band.unit}"']
        lines += [f"freq_ghz = {band.freq_ghz}", f"fwhm_arcmin = {band.fwhm_arcmin}"]
        lines += [f"mjysr_per_kcmb = {setup.mjysr_per_kcmb[k]}", f"tsz_kcmb = {setup.tsz_kcmb[k]}"]
        lines += [f"noise_uk_arcmin = {60 * setup.noise_uk_deg[k]}"]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """A finished run on 6 x 4 deg with 40 bright clusters, which a small network was trained on."""
    folder = tmp_path_factory.mktemp("survey")
    clusters = spread_positions(PATCH, 40, 3, border_deg=0.4)
    clusters["theta500_arcmin"], clusters["y500_arcmin2"] = 2.0, 4e-4
    clusters = PATCH.add_lonlat(clusters)
    act_like(PATCH, clusters=clusters, seed=5).save(folder / "saved")
    listed = Table({"glon": clusters["lon_deg"], "glat": clusters["lat_deg"]})
    listed["name"] = [f"C{k}" for k in range(len(clusters))]
    listed.write(folder / "clusters.csv")
    write_instrument(folder / "act-like.toml")
    tile = healpy.ang2pix(16, clusters["lon_deg"], clusters["lat_deg"], lonlat=True)
    tiles, number = np.unique(tile, return_counts=True)
    tiles = tiles[np.argsort(number)]
    config = load_config(
        "demo",
        seed=2,
        sky={"simulate": False, "saved_maps": str(folder / "saved"), "catalogues": [f"OWN={folder / 'clusters.csv'}"],
             "instrument": str(folder / "act-like.toml")},
        split={"nside": 16, "test_tiles": [int(tiles[0])], "validation_tiles": [int(tiles[-2])]},
        input={"background_nside": 64, "theta500_arcmin": list(SIZES)},
        labels={"selections": ["own"], "disc_arcmin": 4.0},
        patches={"n_patches": 220, "size": 32, "pixel_arcmin": 0.5},
        network={"filters": [4, 8]},
        train={"batch": 16, "max_epochs": 3, "learning_rate": 1e-2},
        predict={"rotations": 1},
        assess={"selections": ["own"]},
    )  # fmt: skip
    run(config, folder / "run", threads=2)
    return folder, clusters


def test_p_is_a_partial_map_of_the_survey(survey):
    folder, clusters = survey
    maps = open_maps(folder / "run" / "maps")
    assert isinstance(maps, MapSet) and maps.nside == 8192 and maps.theta500_arcmin == SIZES
    p_map = read_prediction(folder / "run" / products.PREDICTION)
    assert isinstance(p_map, PartialMap)
    area_deg2 = np.isfinite(p_map.values).sum() * healpy.nside2pixarea(8192, degrees=True)
    assert 0.93 * 24 < area_deg2 < 24  # all but the rim
    at = healpy.ang2pix(8192, clusters["lon_deg"], clusters["lat_deg"], lonlat=True)
    assert np.median(p_map[at]) > 5 * np.nanmedian(p_map.values)


def test_clusters_are_candidates_measured_as_any(survey):
    folder, clusters = survey
    run_folder = RunFolder(folder / "run")
    found = run_folder.candidates
    vectors = healpy.ang2vec(clusters["lon_deg"], clusters["lat_deg"], lonlat=True)
    sources = healpy.ang2vec(np.asarray(found["lon_deg"]), np.asarray(found["lat_deg"]), lonlat=True)
    distance_arcmin = np.degrees(np.arccos(np.clip(vectors @ sources.T, -1, 1))) * 60
    nearest, offset = distance_arcmin.argmin(axis=1), distance_arcmin.min(axis=1)
    matched = offset < 1.5
    assert matched.mean() > 0.9
    assert np.median(offset[matched]) < 0.5
    flux = np.asarray(found["y5r500_arcmin2"], float)[nearest[matched]]
    assert np.nanmedian(flux) == pytest.approx(1.79 * 4e-4, rel=0.2)
    assert (np.asarray(found["snr"], float)[nearest[matched]] > 5).mean() > 0.9


def test_noise_maps_and_areas_are_products(survey):
    folder, _ = survey
    areas = RunFolder(folder / "run").table(products.NOISE_AREAS)
    for theta in NOISE_THETA500_ARCMIN:
        mine = areas[np.isclose(areas["theta500_arcmin"], theta)]
        assert 15 < mine["area_deg2"].sum() < 24
    noise = healpy.read_map(folder / "run" / products.NOISE, field=2)
    seen = noise > 0
    at_2 = areas[np.isclose(areas["theta500_arcmin"], 2.0)]
    mean = np.average(at_2["y500_err_arcmin2"], weights=at_2["area_deg2"])
    assert np.median(noise[seen]) == pytest.approx(mean, rel=0.1)
    assert (folder / "run" / products.COMPACT).is_file()
    assert (folder / "run" / products.REPORT).stat().st_size > 100_000


def test_purity_of_a_survey_from_its_flipped_maps(survey):
    """What is found upside down is false, and rarer than what is found; rotated there is nothing to search."""
    folder, _ = survey
    facts = measure_purity(folder / "run")
    table = Table.read(folder / "run" / products.PURITY)
    assert "n_flipped" in table.colnames and "n_rotated" not in table.colnames
    assert facts.n and table["n_flipped"][0] < 0.5 * table["n"][0]
