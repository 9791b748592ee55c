"""Exports of a run are read back as they were measured, and wrong inputs are refused by name."""

import importlib.util
import json
import pickle

import h5py
import healpy
import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from commandline import szeek
from counts_run import make_counts_run, make_selection
from pyarrow import parquet
from scipy.integrate import quad
from scipy.interpolate import InterpolatedUnivariateSpline

from szeek.assess.calibrate import Calibration
from szeek.counts.exports import FORMATS, export_survey
from szeek.counts.masses import MassRelation
from szeek.counts.massfunction import CosmologyParameters
from szeek.counts.mocks import MockSurvey
from szeek.counts.survey import DetectionModel, Survey
from szeek.physics.cosmology import COSMOLOGY
from szeek.physics.gas import pressure_profile
from szeek.physics.scaling import theta500_from_mass, y500_from_mass
from szeek.pipeline.counts import CountOptions, draw_mocks, export_run, measure_masses, open_survey, write_masses
from szeek.pipeline.products import RunFolder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = RunFolder(make_counts_run(tmp_path_factory.mktemp("counts") / "run"))
    write_masses(measure_masses(folder), folder)
    return folder


@pytest.fixture(scope="module")
def opened(run):
    return open_survey(run, CountOptions(n_patches=3))


@pytest.mark.parametrize("kind", list(FORMATS))
def test_every_format_is_written(run, kind, tmp_path):
    found = export_run(run, kind, tmp_path / kind, CountOptions(n_patches=3))
    assert found.n_clusters > found.n_with_z > 10 and (tmp_path / kind / "SZEEK.txt").is_file()
    again = export_run(run, kind, tmp_path / kind, CountOptions(n_patches=3))  # takes its place
    assert again.n_clusters == found.n_clusters


def load_module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_modules_for_cosmocnc_say_what_the_survey_says(run, opened, tmp_path):
    """S/N, patch and redshift of the catalogue; q of a mass by the package's own relations; the share found."""
    survey, catalogue, _ = opened
    folder = export_run(run, "cosmocnc", tmp_path / "out", CountOptions(n_patches=3)).folder
    params = json.loads((folder / "params.json").read_text())
    listed = load_module(folder / "survey_cat_szeek.py").cluster_catalogue_survey(
        catalogue_name="catalogue.npz", cnc_params=params["cnc_params"]
    )
    np.testing.assert_allclose(listed.catalogue["q_szeek"], catalogue["FIXED_SNR"], rtol=1e-6)
    # two of place, one of size
    np.testing.assert_allclose(catalogue["SNR"] ** 2 - catalogue["FIXED_SNR"] ** 2, 3.0, rtol=1e-4)
    np.testing.assert_array_equal(listed.catalogue_patch["q_szeek"], catalogue["PATCH"])
    np.testing.assert_allclose(listed.catalogue["z"], catalogue["Z"])
    module = load_module(folder / "survey_sr_szeek.py")
    relation = module.scaling_relations(cnc_params=params["cnc_params"])
    relation.initialise_scaling_relation()
    np.testing.assert_allclose(relation.skyfracs, survey.sky_fraction, rtol=1e-7)
    np.testing.assert_allclose(np.exp(relation.log_noise.T), survey.patch_noise_arcmin2, rtol=1e-6)
    z, patch, log_mass = 0.3, 1, np.linspace(0.0, 3.0, 400)
    other = {"H0": COSMOLOGY.H0.value, "E_z": COSMOLOGY.efunc(z), "D_A": COSMOLOGY.angular_diameter_distance(z).value}
    relation.precompute_scaling_relation(params=params["scal_rel_params"], other_params=other, patch_index=patch)
    log_q = relation.eval_scaling_relation(log_mass, layer=0)
    mass, redshift = np.exp(log_mass), np.full(400, z)
    size = theta500_from_mass(mass, redshift)
    sigma = np.exp(np.interp(np.log(size), np.log(survey.theta500_arcmin), np.log(survey.patch_noise_arcmin2[patch])))
    expected = survey.detection.snr_factor * y500_from_mass(mass, redshift) / sigma
    np.testing.assert_allclose(np.exp(log_q), expected, rtol=1e-3)
    snr = relation.eval_scaling_relation(log_q, layer=1)
    np.testing.assert_allclose(snr, module.compress(expected), rtol=1e-3)
    np.testing.assert_allclose(module.compress(np.array([39.0, 40.0, 80.0])), [39, 40, 40 * (1 + np.log(2))])
    share = 1 / relation.eval_derivative_scaling_relation(snr, layer=2)
    at = (snr > 2) & (snr < 30)
    direct = survey.detection.found(snr, size, survey.patch_log_dust[patch])
    np.testing.assert_allclose(share[at], direct[at], atol=2e-3)
    scatter = module.scatter(params["scal_rel_params"])
    assert scatter.get_cov("q_szeek", "q_szeek", layer=0) == pytest.approx(
        MassRelation().scatter_ln ** 2 + survey.detection.snr_scatter_ln**2
    )
    assert [scatter.get_cov("q_szeek", "q_szeek", layer=k) for k in (1, 2)] == [1.0, 0.0]
    assert relation.get_n_layers() == 3
    relation.precompute_scaling_relation(params["scal_rel_params"], {**other, "cluster_index": 0}, patch)
    assert relation.get_n_layers() == 2  # the data of one cluster, beside other observables


def test_selfn_of_nemo_gives_the_same_signal_to_noise(run, opened, tmp_path):
    """nemo's S/N is y0 Q / RMS with y0 = 10^A0 E^2 (M / Mpivot)^(1 + B0): for any mass that of Y500 / sigma.

    nemo's size is theta500 of M500 itself; the noise is known at that of the X-ray mass (1-b) M500.
    """
    survey, _, _ = opened
    selfn = export_run(run, "nemo", tmp_path / "out", CountOptions(n_patches=3)).folder / "selFn"
    rms = Table.read(selfn / "RMSTab.fits")
    config = yaml.safe_load((selfn / "config.yml").read_text())
    relation = config["massOptions"]["scalingRelations"][0]
    mass, z = np.array([3.0, 6.0, 12.0]), np.array([0.2, 0.3, 0.5])
    size = theta500_from_mass(mass, z)
    y0 = relation["tenToA0"] * COSMOLOGY.efunc(z) ** 2 * (mass * 1e14 / relation["Mpivot"]) ** (1 + relation["B0"])
    for patch in range(3):
        table = Table.read(selfn / "QFit.fits", hdu=f"PATCH{patch}")
        q_of = InterpolatedUnivariateSpline(table["theta500Arcmin"], table["Q"], ext=1)
        noise = np.log(survey.patch_noise_arcmin2[patch])
        sigma = np.exp(np.interp(np.log(size), np.log(survey.theta500_arcmin), noise))
        expected = survey.detection.snr_factor * y500_from_mass(mass, z) / sigma
        signal = y0 * q_of(theta500_from_mass(mass, z, mass_bias=1.0))
        rows = rms[rms["tileName"] == f"PATCH{patch}"]
        middle = np.exp(np.average(np.log(rows["y0RMS"]), weights=rows["areaDeg2"]))
        np.testing.assert_allclose(signal / middle, expected, rtol=0.02)


def test_selfn_has_the_layout_that_nemo_reads(run, opened, tmp_path):
    """As nemo 0.9 writes it: names of files, columns and extensions; what its class SelFn asks for."""
    survey, catalogue, _ = opened
    folder = export_run(run, "nemo", tmp_path / "out", CountOptions(n_patches=3)).folder
    selfn, tiles = folder / "selFn", ["PATCH0", "PATCH1", "PATCH2"]
    rms = Table.read(selfn / "RMSTab.fits")
    assert rms.colnames == ["areaDeg2", "y0RMS", "tileName"]
    # nemo halves the rows of a tile and drops it when there was one; it draws mocks from rows that ascend
    assert [int((rms["tileName"] == tile).sum()) for tile in tiles] == [16, 16, 16]
    assert all((np.diff(rms["y0RMS"][rms["tileName"] == tile]) >= 0).all() for tile in tiles)
    np.testing.assert_allclose(rms["areaDeg2"], np.repeat(survey.sky_fraction * 41252.96 / 16, 16), rtol=1e-6)
    with fits.open(selfn / "QFit.fits") as hdus:
        assert [hdu.name for hdu in hdus[1:]] == tiles and all(hdu.header["ZDEPQ"] == 0 for hdu in hdus[1:])
        assert hdus[1].columns.names == ["theta500Arcmin", "Q", "z"]
        # theta500 of 5e13 Msun at z = 3, and of 1e16 at 0.005, between which nemo looks, true masses
        ends = theta500_from_mass(np.array([0.5, 100.0]), np.array([3.0, 0.005]), mass_bias=1.0)
        listed = hdus[1].data["theta500Arcmin"]
        assert listed[0] < ends[0] and ends[1] < listed[-1] and hdus[1].data["Q"].min() > 0
    with fits.open(selfn / "areaMask.fits") as hdus:
        assert [hdu.name for hdu in hdus[1:]] == tiles
        # pixels that are half covered count whole in the mask
        weight = np.cos(np.radians((np.arange(360) + 0.5) * 0.5 - 90))[:, None] * 0.25
        area = [float((hdu.data * weight).sum()) for hdu in hdus[1:]]
        np.testing.assert_allclose(area, survey.sky_fraction * 41252.96, rtol=0.25)
        assert sum(hdu.data.astype(int) for hdu in hdus[1:]).max() == 1
        for number, tile in enumerate(tiles):  # each cluster lies in the mask of its own tile
            mine = catalogue[catalogue["PATCH"] == number]
            x, y = WCS(hdus[tile].header).world_to_pixel_values(mine["RA"], mine["DEC"])
            x = np.round(x).astype(int) % 720
            assert hdus[tile].data[np.round(y).astype(int), x].mean() > 0.8  # others at a border
    places = pickle.loads((selfn / "tileCoordsDict.pkl").read_bytes())
    assert list(places) == tiles and places["PATCH0"]["clippedSection"] == [0, 720, 0, 360]
    assert places["PATCH0"]["header"]["NAXIS1"] == 720 and places["PATCH0"]["header"]["CTYPE1"] == "RA---CAR"
    weights = Table.read(selfn / "fRelWeights.fits")
    assert list(weights["tileName"]) == tiles and float(weights.colnames[1]) == 148.0
    assert (selfn / "tileAreas.txt").read_text().splitlines()[0] == "#tileName areaDeg2"
    config = yaml.safe_load((selfn / "config.yml").read_text())
    assert config["unfilteredMaps"] == [] and config["photFilter"] == config["mapFilters"][0]["label"]
    assert config["mapFilters"][0]["params"] == {} and set(config["massOptions"]) >= {
        "H0",
        "Om0",
        "Ob0",
        "sigma8",
        "ns",
    }


def test_noise_and_clusters_of_nemo_by_hand(tmp_path):
    """Two patches, of noise 1e-4 and 2e-4 arcmin^2 at every size, and a cluster of S/N 6 in each.

    y0 = C Y500 / theta500^2, C = 2 int p dx / (4 pi int_0^1 x^2 p dx); Q of 10 over 5 arcmin is 4 at equal noise.
    """
    patch = (np.arange(768) >= 384).astype(int)  # north and south
    noise = np.where(patch[:, None] == 0, 1e-4, 2e-4) * np.ones((1, 2))
    law = DetectionModel(snr50=4.0, width=0.5, snr_factor=0.8)
    survey = Survey(np.array([1.0, 32.0]), noise, np.ones(768), patch, law, 4.5, np.zeros(80))
    listed = {
        "NAME": ["N", "S"],
        "RA": [192.9, 12.9],
        "DEC": [27.1, -27.1],
        "GLON": [0.0, 0.0],
        "GLAT": [89.0, -89.0],
    }
    catalogue = Table({**listed, "SNR": [6.2, 6.2], "FIXED_SNR": [6.0, 6.0], "Z": [0.2, np.nan], "PATCH": [0, 1]})
    folder = export_survey("nemo", survey, catalogue, MassRelation(mass_bias=0.5), tmp_path / "out")

    def integrate(power, low, high):
        return quad(lambda x: x**power * float(pressure_profile(np.array([x]))[0]), low, high, limit=200)[0]

    central = 2 * integrate(0, 1e-6, 5.0) / (4 * np.pi * integrate(2, 0.0, 1.0))
    expected = central * np.array([1e-4, 2e-4]) / 5.0**2 / 0.8
    rms = Table.read(folder / "selFn" / "RMSTab.fits")
    np.testing.assert_allclose([rms["y0RMS"][0], rms["y0RMS"][-1]], expected, rtol=5e-3)
    clusters = Table.read(folder / "catalogue.fits")
    np.testing.assert_allclose(clusters["fixed_err_y_c"], 1e4 * expected, rtol=5e-3)  # nemo's unit is 1e-4
    np.testing.assert_allclose(clusters["fixed_y_c"] / clusters["fixed_err_y_c"], clusters["fixed_SNR"])
    assert list(clusters["tileName"]) == ["PATCH0", "PATCH1"] and clusters["RADeg"][0] == 192.9
    table = Table.read(folder / "selFn" / "QFit.fits", hdu="PATCH1")
    q = np.interp(np.array([5.0, 10.0]) * 2 ** (1 / 3), table["theta500Arcmin"], table["Q"])  # (1-b) = 0.5
    np.testing.assert_allclose(q, [1.0, 4.0], rtol=5e-3)


def test_hdf5_is_read_with_numpy_alone(run, opened, tmp_path):
    """The reader of docs/cosmology.md."""
    survey, catalogue, _ = opened
    export_run(run, "hdf5", tmp_path / "out", CountOptions(n_patches=3))
    with h5py.File(tmp_path / "out" / "survey.h5") as file:
        data = {group: {name: np.array(column) for name, column in file[group].items()} for group in file}
        snr_min = file["PATCHES"].attrs["SNR_MIN"]
    found = survey.completeness()
    np.testing.assert_array_equal(data["PATCHES"]["FOUND_OF_SNR"], found[1])
    np.testing.assert_array_equal(data["SNR"]["SNR"], found[0])
    np.testing.assert_array_equal(data["PATCHES"]["SKYFRAC"], survey.sky_fraction)
    assert snr_min == 4.5 and len(data["CATALOGUE"]["SNR"]) == len(catalogue)
    assert data["CATALOGUE"]["NAME"][0].decode() == catalogue["NAME"][0]


def test_parquet_and_hats_hold_the_catalogue(run, opened, tmp_path):
    _, catalogue, _ = opened
    whole = parquet.read_table(export_run(run, "parquet", tmp_path / "p").folder / "catalogue.parquet")
    np.testing.assert_array_equal(whole["SNR"], catalogue["SNR"])
    assert whole["NAME"].to_pylist() == list(catalogue["NAME"])
    assert len(whole["M_SZ_CURVE"][0]) == 20 and whole.schema.field("M500C").metadata[b"unit"] == b"1e+14 solMass"
    hats = export_run(run, "hats", tmp_path / "h").folder / "catalogue"
    rows = np.loadtxt(hats / "partition_info.csv", delimiter=",", skiprows=1, dtype=int)
    names = []
    for order, pixel in rows:
        part = parquet.read_table(hats / "dataset" / f"Norder={order}" / "Dir=0" / f"Npix={pixel}.parquet")
        index = np.asarray(part["_healpix_29"])
        assert (np.diff(index) >= 0).all() and (index >> 2 * (29 - order) == pixel).all()
        inside = healpy.ang2pix(2**order, np.asarray(part["RA"]), np.asarray(part["DEC"]), nest=True, lonlat=True)
        assert (inside == pixel).all()
        names += part["NAME"].to_pylist()
    assert sorted(names) == sorted(catalogue["NAME"])
    assert parquet.read_metadata(hats / "dataset" / "_metadata").num_rows == len(names)


def test_mocks_of_a_run_are_exported_like_its_catalogue(run, tmp_path):
    options = CountOptions(n_patches=3)
    folder, sizes = draw_mocks(run, 2, tmp_path / "mocks", options, seed=4)
    assert Survey.read(folder / "survey.fits").n_patches == 3 and len(sizes) == 2
    found = export_run(run, "fits", tmp_path / "out", CountOptions(n_patches=3, catalogue=folder / "mock-0001.fits"))
    assert found.n_clusters == sizes[1]


# --- what is refused ---------------------------------------------------------------------------------------------


def test_a_selection_of_another_threshold_is_refused(tmp_path):
    folder = RunFolder(make_counts_run(tmp_path / "run", p_max=0.3))
    with pytest.raises(ValueError, match=r"selection.fits' counts sources of p > 0.3, but the catalogue .* p > 0.1"):
        export_run(folder, "fits", tmp_path / "out")


def test_a_catalogue_of_another_run_is_refused(run, tmp_path):
    other = make_counts_run(tmp_path / "other")
    with pytest.raises(ValueError, match=r"other/candidates.fits' comes of .*: two runs"):
        export_run(run, "fits", tmp_path / "out", CountOptions(catalogue=other / "candidates.fits"))


def test_a_mock_of_another_cosmology_or_run_is_refused(run, tmp_path):
    folder, _ = draw_mocks(run, 1, tmp_path / "m", parameters=CosmologyParameters(sigma8=0.9))
    with pytest.raises(ValueError, match=r"mock-0000.fits' was drawn with sigma8 0.9 instead of 0.8102"):
        export_run(run, "fits", tmp_path / "out", CountOptions(catalogue=folder / "mock-0000.fits"))
    other = RunFolder(make_counts_run(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"is a mock of 'run', expected one of 'other'"):
        export_run(other, "fits", tmp_path / "out", CountOptions(catalogue=folder / "mock-0000.fits"))


@pytest.mark.parametrize(
    ("name", "message"),
    [("WMAP9", "cosmology 'WMAP9' has h 0.693.*expected the run's"), ("Planck", "cosmology 'Planck' is unknown")],
)
def test_another_cosmology_is_refused(run, name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_run(run, "fits", tmp_path / "out", CountOptions(cosmology=name))
    open_survey(run, CountOptions(cosmology="Planck18"))


def test_a_footprint_outside_the_maps_is_refused_and_one_inside_is_used(run, opened, tmp_path):
    _, lat_deg = healpy.pix2ang(16, np.arange(3072), lonlat=True)
    for name, inside in (("out", lat_deg < 20), ("in", lat_deg > 30), ("empty", lat_deg > 95)):
        healpy.write_map(str(tmp_path / f"{name}.fits"), inside.astype(np.float32), coord="G", dtype=np.float32)
    with pytest.raises(ValueError, match=r"% of the footprint .*out.fits' lie outside the maps"):
        open_survey(run, CountOptions(footprint=tmp_path / "out.fits"))
    with pytest.raises(ValueError, match=r"empty.fits' is 0 everywhere"):
        open_survey(run, CountOptions(footprint=tmp_path / "empty.fits"))
    survey, catalogue, _ = open_survey(run, CountOptions(footprint=tmp_path / "in.fits"))
    assert survey.area_deg2 == pytest.approx(41252.96 * (lat_deg > 30).mean(), rel=1e-6)
    assert survey.area_deg2 < opened[0].area_deg2
    assert (catalogue["GLAT"] > 25).all()


def test_photometry_of_other_candidates_is_refused(tmp_path):
    folder = RunFolder(make_counts_run(tmp_path / "run"))
    Table.read(folder.path / "photometry.fits")[1:].write(folder.path / "photometry.fits", overwrite=True)
    with pytest.raises(ValueError, match=r"lists 59 positions that are not the 60 of candidates.fits"):
        measure_masses(folder)


def test_folders_of_others_are_not_replaced(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files, which an export would replace"):
        export_run(run, "fits", tmp_path)
    with pytest.raises(ValueError, match="holds other files, which mock catalogues would replace"):
        draw_mocks(run, 1, tmp_path)


def test_an_unknown_format_and_a_missing_column_are_named(opened, tmp_path):
    survey, catalogue, _ = opened
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="format 'csv' is unknown, expected one of cosmocnc"):
        export_survey("csv", survey, catalogue, MassRelation(), out)
    with pytest.raises(ValueError, match="the catalogue lacks PATCH"):
        lacking = catalogue["NAME", "RA", "DEC", "GLON", "GLAT", "SNR", "FIXED_SNR", "Z"]
        export_survey("fits", survey, lacking, MassRelation(), tmp_path)


def test_a_run_without_selection_says_which_command_makes_it(run, tmp_path):
    folder = make_counts_run(tmp_path / "run")
    (folder / "selection.fits").unlink()
    with pytest.raises(FileNotFoundError, match="`szeek selection` makes it"):
        export_run(RunFolder(folder), "fits", tmp_path / "out")
    assert make_selection(100).p_max == 0.1


def test_the_command_line_says_what_was_written(tmp_path):
    """From a run to masses, an export and mocks; what the library refuses is one line, with status 1."""
    run = make_counts_run(tmp_path / "run")
    said = szeek("masses", str(run))
    assert said.returncode == 0 and "masses of 40 candidates with a redshift, M(z) of 60" in said.stdout
    said = szeek("export", str(run), "--to", "fits", "--patches", "3", "--mass-bias", "0.7")
    assert said.returncode == 0 and "3 patches" in said.stdout and "are expected to be false" in said.stdout
    assert (run / "exports" / "fits" / "survey.fits").is_file()
    assert szeek("mock", str(run), "-n", "1", "--patches", "3", "--sigma8", "0.7").returncode == 0
    assert Table.read(run / "mocks" / "mock-0000.fits").meta["SIGMA8"] == 0.7
    said = szeek("export", str(run), "--to", "fits", "--cosmology", "WMAP9")
    assert said.returncode == 1 and said.stderr.startswith("szeek: cosmology 'WMAP9' has h 0.693")


def test_haloes_below_the_cut_of_purity_are_not_false_of_a_likelihood(tmp_path):
    """PURITY counts them as false, the mass function as clusters: what noise lifts above S/N 4.5 is taken off."""
    folder = RunFolder(make_counts_run(tmp_path / "run"))
    before, _, has_purity = open_survey(folder)
    cut_arcmin2 = 1e-3
    calibration = Calibration(np.array([0.1, 0.9]), np.array([[0.2, 0.9]]), np.zeros(0), "beta", 0.3, cut_arcmin2)
    calibration.to_table().write(folder.path / "calibration.ecsv")
    after = open_survey(folder)[0]
    mock = MockSurvey(before)
    faint = mock.count_faint(cut_arcmin2)
    assert has_purity and before.n_false > 0 and faint.sum() > 0
    np.testing.assert_allclose(after.false_counts, np.maximum(before.false_counts - faint, 0))
    # no cluster is fainter than nothing, all are fainter than anything; below the S/N of the survey there are none
    assert mock.count_faint(0.0, 1).sum() == 0
    assert mock.count_faint(np.inf, 3).sum() == pytest.approx(np.mean([len(mock.draw(seed)) for seed in range(3)]))
    assert faint[:18].sum() == 0
