"""Maps in other light beside the bands: what the network is given, with and without them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy.table import Table

from szeek.config import PatchConfig, SplitConfig, load_config
from szeek.find.predict import predict
from szeek.inputs.instrument import read_instrument
from szeek.learn.labels import ClusterLabels
from szeek.learn.model import Model, build_unet, load_model
from szeek.learn.normalise import Normaliser
from szeek.learn.patches import LocalMaps, Patches
from szeek.learn.train import _take_weights, train
from szeek.sky.further import FurtherMap, open_further
from szeek.sky.mapset import MapSet, open_maps
from szeek.sky.partial import PartialMap
from szeek.sky.skymaps import SkyMaps

SEEN = (("xray", "photons"), ("galaxies", "density"))


@pytest.fixture(scope="module")
def maps():
    rng, n_pix = np.random.default_rng(1), 12 * 64**2
    values = rng.normal(size=(n_pix, 6)).astype(np.float32)
    north = PartialMap.from_pixels(64, np.arange(n_pix // 2), rng.normal(size=(n_pix // 2, 2)).astype(np.float32))
    whole = PartialMap.from_pixels(64, np.arange(n_pix), rng.normal(size=(n_pix, 1)).astype(np.float32))
    further = (FurtherMap("xray", "photons", north), FurtherMap("galaxies", "density", whole))
    return SkyMaps(values, np.ones(n_pix, bool), read_instrument().bands, further=further)


def test_the_bands_are_as_without_and_each_map_is_told_of(maps):
    alone = Normaliser("left-gaussian", np.zeros(6, np.float32), np.eye(6, dtype=np.float32))
    both = replace(alone, further=SEEN)
    assert Normaliser.from_dict(both.to_dict()).further == SEEN
    field = LocalMaps.prepare(maps, 0, further=SEEN).sample(30.0, 50.0, 10.0, 16, 16, 30.0)
    assert (both.n_input, both.n_channel) == (9, 11) and field.shape == (16, 16, 9)
    x = both(field[None])[0].numpy()
    np.testing.assert_array_equal(x[:6], alone(field[None, ..., :6])[0].numpy())
    np.testing.assert_allclose(x[6:8], np.arcsinh(np.moveaxis(field[..., 6:8], -1, 0)), rtol=1e-6)
    assert (x[8] == 1).all() and (x[10] == 1).all()
    south = LocalMaps.prepare(maps, 0, further=SEEN).sample(30.0, -50.0, 10.0, 16, 16, 30.0)
    assert np.isnan(south[..., 6:8]).all() and np.isfinite(south[..., 8]).all()
    x = both(south[None])[0].numpy()
    assert (x[6:9] == 0).all() and (x[10] == 1).all()
    with pytest.raises(ValueError, match=r"6 channels, expected 6 bands and S/N maps .* and xray, galaxies"):
        both(field[None, ..., :6])


def test_a_set_of_maps_has_them_too(maps, tmp_path):
    """The same field of one group as of plain maps, from a folder as well."""
    group = replace(maps, further=())
    there = open_maps(replace(MapSet.of(group), further=maps.further).save(tmp_path / "maps"))
    assert isinstance(there, MapSet)
    place = (30.0, 50.0, 10.0, 16, 16, 30.0)
    expected = LocalMaps.prepare(maps, 0, further=SEEN).sample(*place)
    found = LocalMaps.prepare(there, 0, bands=tuple(b.name for b in maps.bands), further=SEEN).sample(*place)
    np.testing.assert_array_equal(found, expected)


def test_some_patches_go_without_and_are_the_same_otherwise(maps):
    rng = np.random.default_rng(2)
    labels = ClusterLabels(rng.uniform(0, 360, 500), rng.uniform(0, 80, 500))
    sky = LocalMaps.prepare(maps, 0, further=SEEN)
    options = PatchConfig(size=16, pixel_arcmin=30.0, mirror=True)
    whole = Patches(sky, labels, options, SplitConfig(), seed=1)
    some = Patches(sky, labels, options, SplitConfig(), seed=1, absent=[0.3, 0.6])
    without = np.array([some.plan(i).without for i in range(2000)])
    # binomial errors of 0.010 and 0.011, independent of each other
    np.testing.assert_allclose(without.mean(axis=0), [0.3, 0.6], atol=0.035)
    assert (without[:, 0] & without[:, 1]).mean() == pytest.approx(0.18, abs=0.03)
    kinds = {tuple(row): i for i, row in enumerate(without[:50])}
    assert len(kinds) == 4
    for (no_xray, no_galaxies), index in kinds.items():
        assert whole.plan(index)[:2] == some.plan(index)[:2]
        (full, target), (less, same) = whole.cut(index), some.cut(index)
        np.testing.assert_array_equal(target, same)
        np.testing.assert_array_equal(less[..., :6], full[..., :6])
        for columns, gone in ((slice(6, 8), no_xray), (slice(8, 9), no_galaxies)):
            np.testing.assert_array_equal(less[..., columns], np.nan if gone else full[..., columns])


def test_a_network_that_begins_with_another_sees_at_first_what_that_saw():
    options = {"filters": (4, 8), "dropout": 0.0, "batch_norm": True}
    first, wider = build_unet(9, options), build_unet(12, options)
    first.start(np.random.default_rng(1), base_rate=0.01)
    wider.start(np.random.default_rng(2), base_rate=0.01)
    before = Model(first, Normaliser("left-gaussian", np.zeros(9), np.eye(9)), (), 1.7, options)
    _take_weights(wider, before)
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(2, 12, 32, 32)).astype(np.float32))
    torch.testing.assert_close(wider(x), first(x[:, :9]))


def test_maps_and_configuration_must_name_the_same_further_maps(maps, tmp_path):
    clusters = Table({"name": ["C"], "survey": ["PSZ2"], "lon_deg": [30.0], "lat_deg": [50.0], "z": [0.2]})
    with pytest.raises(ValueError, match=r"the further maps 'xray' \(photons\), 'galaxies' \(density\), expected"):
        train(maps, clusters, load_config("bonjean2020"), tmp_path)
    with pytest.raises(ValueError, match=r"'xray' \(photons\) is given beside the bands, .* are none"):
        predict(maps, load_model("bonjean2020-planckz"))


def test_what_is_saved_comes_back_and_goes_with_the_maps(maps, tmp_path):
    there = open_maps(maps.save(tmp_path / "maps"))
    assert [(one.name, one.kind) for one in there.further] == list(SEEN)
    for one, other in zip(there.further, maps.further, strict=True):
        np.testing.assert_array_equal(one.values.values, other.values.values)
        np.testing.assert_array_equal(one.values.runs, other.values.runs)
    replace(maps, further=()).save(tmp_path / "maps")
    assert open_further(tmp_path / "maps") == ()


def test_further_maps_are_refused_by_what_is_wrong_with_them():
    for given, problem in (
        ({"file": "a.fits"}, "0 exposures are given for 1 maps of photons"),
        ({"file": ["a.fits", "b.fits"], "exposure": [1.0, 2.0, 3.0]}, "3 exposures are given for 2 maps"),
        ({"kind": "density", "file": "a.fits", "exposure": 300.0}, "a density is one file and has no exposure"),
        ({"kind": "counts"}, "kind"),
    ):
        with pytest.raises(ValueError, match=problem):
            load_config("demo", input={"further": {"xray": given}})
    with pytest.raises(ValueError, match="expected names of letters and digits, found 'x-rays'"):
        load_config("demo", input={"further": {"x-rays": {}}})
