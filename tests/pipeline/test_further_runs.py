"""A run whose network sees X-rays beside the bands, and what users do with it: with X-rays, without, and wrongly."""

import shutil

import healpy
import numpy as np
import pytest
from astropy.table import Table
from commandline import szeek

from szeek.cli.options import given_xray
from szeek.config import load_config
from szeek.find.predict import read_prediction
from szeek.learn.model import load_model
from szeek.pipeline.searches import PurityOptions, SelectionOptions
from szeek.sky.further import open_further
from szeek.verbs import config_of_model, list_stages, measure_purity, measure_selection, run

CONFIG = """
preset = "demo"
[sky]
nside = 256
companions = false
[patches]
n_patches = 240
validation_fraction = 0.2
size = 32
pixel_arcmin = 13.74
[network]
filters = [4, 8]
[labels]
disc_arcmin = 40.0
[input]
background_nside = 16
theta500_arcmin = []
[input.further.xray]
[train]
max_epochs = 2
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("job")
    (folder / "small.toml").write_text(CONFIG)
    run(load_config(folder / "small.toml"), folder / "run", until="detect")
    return folder / "run"


def test_a_simulated_sky_has_its_own_photons(job):
    """Drawn though companions were left out; S/N is highest where clusters are: 19 of the 20 brightest have some."""
    one = open_further(job / "maps")[0]
    assert (one.name, one.kind, one.values.nside) == ("xray", "photons", 256)
    rate, exposure = (healpy.read_map(job / "simulated" / f"{name}.fits") for name in ("xray", "xray_exposure"))
    np.testing.assert_allclose(rate * exposure, np.rint(rate * exposure), atol=1e-3)
    truth = Table.read(job / "simulated" / "truth.fits")
    brightest = truth[np.argsort(-np.asarray(truth["y500_arcmin2"]))[:20]]
    snr = one.values[healpy.ang2pix(256, brightest["lon_deg"], brightest["lat_deg"], lonlat=True)].max(axis=1)
    assert (snr > 3).sum() >= 15 and np.median(np.abs(one.values.values)) < 1.2
    card = load_model(job)
    assert card.normaliser.further == (("xray", "photons"),)


def _predict(job, maps, out):
    run(config_of_model(job, sky={"saved_maps": str(maps)}), out, until="predict")
    return read_prediction(out / "prediction.fits")


def test_the_same_p_from_files_and_another_without_them(job, tmp_path):
    """Saved maps bring their photons; the same photons from their files give the same p; bands alone do without."""
    own = read_prediction(job / "prediction.fits")
    np.testing.assert_array_equal(_predict(job, job / "maps", tmp_path / "saved"), own)
    bare = tmp_path / "bare"
    shutil.copytree(job / "maps", bare)
    (bare / "further.json").unlink()
    files = "--xray", job / "simulated" / "xray.fits", "--exposure", job / "simulated" / "xray_exposure.fits"
    done = szeek("predict", "--map", bare, "--model", job, "--out", tmp_path / "files", "--no-measure", *files)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_prediction(tmp_path / "files" / "prediction.fits"), own)
    without = _predict(job, bare, tmp_path / "without")
    assert np.isfinite(without).all() and np.abs(without - own).max() > 1e-3


def test_completeness_is_that_of_clusters_that_shine_in_xrays_too(job, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(job, folder)
    done = szeek("selection", folder, "--number", 60, "--tile", 6)
    assert done.returncode == 0, done.stderr
    with pytest.raises(ValueError, match="sees xray as well"):
        measure_purity(folder, PurityOptions((6,)))
    # where the photons are not to be had, no cluster can be painted there
    other = tmp_path / "other"
    _predict(job, job / "maps", other)
    with pytest.raises(ValueError, match="its file is not in the configuration"):
        measure_selection(other, SelectionOptions(60, (6,)))


def test_xrays_are_refused_where_nothing_sees_them(job, tmp_path):
    here = ("--map", job / "maps", "--out", tmp_path / "out")
    photons = ("--xray", job / "simulated" / "xray.fits")
    done = szeek("predict", *here, "--model", "szeek-2", *photons, "--exposure", 300)
    assert done.returncode != 0 and "the further maps that the network 'szeek-2' sees are none" in done.stderr
    done = szeek("predict", *here, "--model", job, *photons)
    assert done.returncode != 0 and "the exposure of" in done.stderr
    done = szeek("predict", *here, "--model", job, "--exposure", 300)
    assert done.returncode != 0 and "--exposure is given without --xray" in done.stderr
    shutil.copytree(job, tmp_path / "run")
    other = load_config(job.parent / "small.toml", input={"further": {"wise": {"kind": "density"}}})
    with pytest.raises(ValueError, match=r"names 'wise' \(density\), but the simulated sky has no wise\.fits"):
        run(other, tmp_path / "run", until="filter")


def test_photons_that_do_not_show_the_known_clusters_are_refused(job, tmp_path):
    """The same map mirrored, as one in the wrong orientation would be; seconds as a number."""
    simulated = job / "simulated"
    rate, exposure = (healpy.read_map(simulated / f"{name}.fits") for name in ("xray", "xray_exposure"))
    lon_deg, lat_deg = healpy.pix2ang(256, np.arange(rate.size), lonlat=True)
    mirrored = (rate * exposure)[healpy.ang2pix(256, -lon_deg, lat_deg, lonlat=True)]
    for name, counts in (("right", rate * exposure), ("mirrored", mirrored)):
        healpy.write_map(tmp_path / f"{name}.fits", counts, coord="G", column_names=["COUNTS"], dtype=np.float32)
    sky = {"saved_maps": str(job / "maps"), "catalogues": [str(simulated / "psz2.fits")]}
    right, wrong = (
        {"further": {"xray": given_xray([tmp_path / f"{name}.fits"], ["300"])}} for name in ("right", "mirrored")
    )
    run(config_of_model(job, sky=sky, input=right), tmp_path / "right-run", until="filter")
    with pytest.raises(ValueError, match=r"known clusters .* are not seen in the photons of 'xray': their mean S/N"):
        run(config_of_model(job, sky=sky, input=wrong), tmp_path / "run", until="filter")
    run(config_of_model(job, sky={**sky, "check": False}, input=wrong), tmp_path / "run", until="filter")


def test_a_network_forgets_the_files_that_it_was_trained_with(job):
    """Another sky's photons are not those of the training."""
    given = config_of_model(job, input={"further": {"xray": {"file": ["a.fits"], "exposure": [300.0]}}})
    assert config_of_model(job).input.further["xray"].file == ()
    assert given.input.further["xray"].exposure == (300.0,) and given.input.further["xray"].absent == 0.25
    assert "filter" in [stage.name for stage in list_stages(given)]
