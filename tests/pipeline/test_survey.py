"""A survey from the ground, from its maps to candidates and a report, as Planck's maps go: no special case."""

import sys
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from szeek.config import SplitConfig, load_config
from szeek.filter.snrmaps import NOISE_THETA500_ARCMIN
from szeek.find.predict import predict, read_prediction, read_whole_prediction
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import load_model
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.sky.grids import ImageGrid
from szeek.sky.healpix import lonlat_deg
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import MapSet, open_maps
from szeek.sky.partial import PartialMap
from szeek.sky.tiles import tile_of
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


@pytest.fixture(scope="module")
def coarse_survey(tmp_path_factory):
    """Maps of 60 x 40 deg with 12 arcmin pixels and a cluster every 4 deg, and a configuration of three folds."""
    folder = tmp_path_factory.mktemp("coarse")
    header = {"CTYPE1": "RA---CAR", "CTYPE2": "DEC--CAR", "CUNIT1": "deg", "CUNIT2": "deg", "CRVAL1": 150.0}
    header |= {"CRVAL2": 0.0, "CDELT1": -0.2, "CDELT2": 0.2, "CRPIX1": 150.5, "CRPIX2": 100.5}
    grid = ImageGrid.from_header(fits.Header(header), (200, 300))
    row, column = (at.ravel() for at in np.meshgrid(np.arange(10, 200, 20.0), np.arange(10, 300, 20.0)))
    rows, columns = np.mgrid[:200, :300]
    blobs = np.exp(-0.5 * ((rows % 20 - 10) ** 2 + (columns % 20 - 10) ** 2) / 1.5**2)
    rng, setup = np.random.default_rng(1), read_instrument("planck-hfi")
    maps = tuple(
        Pixels((np.sign(response) * blobs + 0.1 * rng.standard_normal(blobs.shape)).astype(np.float32))
        for response in setup.tsz_kcmb
    )
    MapSet.of(ImageMaps(grid, setup.bands, maps, (None,) * len(maps))).save(folder / "saved")
    lon_deg, lat_deg = lonlat_deg(grid.directions(row, column))
    names = [f"C{k}" for k in range(len(row))]
    Table({"glon": lon_deg, "glat": lat_deg, "name": names}).write(folder / "clusters.csv")
    return load_config(
        "demo",
        seed=2,
        sky={
            "simulate": False,
            "saved_maps": str(folder / "saved"),
            "catalogues": [f"OWN={folder / 'clusters.csv'}"],
        },
        split={"nside": 4, "folds": 3},
        input={"background_nside": 8, "theta500_arcmin": []},
        labels={"selections": ["own"], "disc_arcmin": 15.0},
        patches={"n_patches": 220, "size": 16, "pixel_arcmin": 6.0},
        network={"filters": [4, 8]},
        train={"batch": 8, "max_epochs": 4, "learning_rate": 2e-2},
        predict={"rotations": 1},
        assess={"selections": ["own"]},
    )


def test_folds_share_the_tiles_that_the_survey_covers(coarse_survey, tmp_path):
    """Every pixel has the p of a network that was kept from its tile, to the bit, and sources say of which."""
    folder = tmp_path / "run"
    run(coarse_survey, folder, until="detect", threads=2)
    maps, p_map = open_maps(folder / "maps"), read_whole_prediction(folder / products.PREDICTION)
    seen = np.flatnonzero(np.isfinite(p_map))
    assert seen.size * healpy.nside2pixarea(maps.nside, degrees=True) == pytest.approx(60 * 39, rel=0.05)
    tile = tile_of(*healpy.pix2ang(maps.nside, seen, lonlat=True), 4)
    kept_out = {}
    for fold in range(3):
        model = load_model(folder / f"fold-{fold}")
        tiles = model.card["config"]["split"]["test_tiles"]
        assert not set(tiles) & set(model.card["config"]["split"]["validation_tiles"])
        kept_out |= dict.fromkeys(tiles, fold)
        mine = seen[np.isin(tile, tiles)]
        assert len(mine)
        np.testing.assert_array_equal(p_map[mine], predict(maps, model, threads=2)[mine])
    assert set(tile) <= set(kept_out)
    found = Table.read(folder / products.SOURCES)
    of_source = tile_of(np.asarray(found["lon_deg"]), np.asarray(found["lat_deg"]), 4)
    assert len(found) > 50 and np.asarray(found["fold"]).tolist() == [kept_out[k] for k in of_source]


def test_more_folds_than_tiles_are_refused_before_the_filter(coarse_survey, tmp_path):
    many = coarse_survey.model_copy(update={"split": SplitConfig(nside=2, folds=12)})
    with pytest.raises(
        ValueError, match=r"cover \d tiles of nside 2, expected .* each of 12 folds; set split.nside to"
    ):
        run(many, tmp_path / "run", until="filter")


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
