import healpy
import numpy as np
import pytest
import torch

from szeek.find.detect import detect_sources
from szeek.find.predict import predict, read_prediction, write_prediction
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import Model, build_network, load_model
from szeek.learn.normalise import Normaliser
from szeek.sky.skymaps import SkyMaps

NSIDE, PIXEL = 64, 55.0
BANDS = read_instrument().bands
CONFIG = {"filters": (4, 8), "dropout": 0.0}


def _model(background_nside=0):
    network = build_network(6, dict(CONFIG))
    network.start(np.random.default_rng(1), 0.2)
    kind = "local-whitened" if background_nside else "left-gaussian"
    normaliser = Normaliser(kind, np.zeros(6, np.float32), np.eye(6, dtype=np.float32), background_nside)
    return Model(network, normaliser, tuple(b.name for b in BANDS), PIXEL, CONFIG)


def _maps(footprint=None):
    """Smooth on the scale of the pixels, so that where a field's pixels fall hardly matters."""
    rng = np.random.default_rng(2)
    values = np.stack([healpy.synfast(np.exp(-0.5 * (np.arange(64) / 8) ** 2), NSIDE) for _ in range(6)], axis=1)
    values = values + 0 * rng.random()
    seen = np.ones(len(values), bool) if footprint is None else footprint
    return SkyMaps((values * seen[:, None]).astype(np.float32), seen, BANDS)


@pytest.fixture(scope="module")
def whole():
    np.random.seed(3)  # noqa: NPY002 - healpy draws from numpy's global state
    maps = _maps()
    return maps, predict(maps, _model())


def test_p_is_a_probability_everywhere(whole):
    _, p_map = whole
    assert p_map.dtype == np.float32 and np.isfinite(p_map).all() and 0 <= p_map.min() < p_map.max() <= 1


def test_no_seam_between_fields(whole):
    """Across the meridians where fields meet, neighbours differ no more than elsewhere."""
    _, p_map = whole
    rings = healpy.ringinfo(NSIDE, np.arange(NSIDE, 3 * NSIDE, dtype=int))
    jumps = []
    for first, count in zip(rings[0], rings[1], strict=True):
        ring = p_map[first : first + count]
        jumps.append(np.abs(np.diff(np.append(ring, ring[0]))))
    jumps = np.array(jumps)
    # the largest jump of any meridian, averaged over latitude, stays within the spread of all meridians
    per_meridian = jumps.mean(axis=0)
    assert per_meridian.max() < per_meridian.mean() + 6 * per_meridian.std()


def test_threads_and_rotation_by_the_field_s_symmetry(whole):
    maps, p_map = whole
    np.testing.assert_array_equal(predict(maps, _model(), threads=3), p_map)
    once, four, eight = (predict(maps, _model(), rotations=r) for r in (1, 4, 8))
    assert not np.allclose(once, four) and not np.allclose(four, eight)
    assert np.corrcoef(once, eight)[0, 1] > 0.5


def test_mixed_precision_where_the_processor_has_it(whole, tmp_path, monkeypatch):
    """p within a hundredth, and elsewhere the bits of float32; training does not feel it."""
    maps, p_map = whole
    _model().save(tmp_path)
    monkeypatch.setattr("szeek.learn.model.multiplies_bfloat16", lambda: False)
    np.testing.assert_array_equal(predict(maps, load_model(tmp_path, bfloat16=True)), p_map)
    monkeypatch.setattr("szeek.learn.model.multiplies_bfloat16", lambda: True)
    mixed = load_model(tmp_path, bfloat16=True)
    again = predict(maps, mixed)
    assert 0 < np.abs(again - p_map).max() < 0.01 and again.dtype == np.float32
    x = torch.from_numpy(np.random.default_rng(4).normal(size=(1, 6, 32, 32)).astype(np.float32))
    assert torch.equal(mixed.network.train()(x), load_model(tmp_path).network.train()(x))


def test_partial_footprint_gives_nan_outside_and_the_same_p_well_inside(whole):
    maps, p_map = whole
    footprint = np.zeros(len(p_map), bool)
    centre = healpy.ang2vec(30, 85, lonlat=True)
    footprint[healpy.query_disc(NSIDE, centre, np.radians(40))] = True
    part = SkyMaps(maps.values * footprint[:, None], footprint, BANDS)
    p_part = predict(part, _model())
    np.testing.assert_array_equal(np.isfinite(p_part), footprint)
    core = healpy.query_disc(NSIDE, centre, np.radians(20))
    np.testing.assert_allclose(p_part[core], p_map[core], atol=1e-5)


def test_a_constant_added_to_a_band_drops_out_of_the_local_input():
    np.random.seed(3)  # noqa: NPY002
    maps = _maps()
    shifted = SkyMaps(maps.values + np.float32(3.0), maps.footprint, BANDS)
    a, b = (predict(m, _model(background_nside=2)) for m in (maps, shifted))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_prediction_file_is_nested_galactic_with_unseen(whole, tmp_path):
    _, p_map = whole
    p_map = p_map.copy()
    p_map[:1000] = np.nan
    path = write_prediction(p_map, tmp_path / "prediction.fits", model="test")
    stored, header = healpy.read_map(path, nest=None, dtype=None, h=True)
    header = dict(header)
    assert header["ORDERING"] == "NESTED" and header["COORDSYS"] == "G" and header["MODEL"] == "test"
    assert stored.dtype.itemsize == 4
    assert np.sum(stored == np.float32(healpy.UNSEEN)) == 1000
    np.testing.assert_array_equal(read_prediction(path), p_map)
    assert [p.name for p in tmp_path.iterdir()] == ["prediction.fits"]


def test_failed_write_leaves_the_old_file(whole, tmp_path, monkeypatch):
    path = write_prediction(whole[1], tmp_path / "prediction.fits")

    def full(nside, ipix):
        raise OSError(28, "No space left on device")  # after the headers are written

    monkeypatch.setattr(healpy, "nest2ring", full)
    with pytest.raises(OSError, match="No space left"):
        write_prediction(whole[1] * 0, path)
    monkeypatch.undo()
    np.testing.assert_array_equal(read_prediction(path), whole[1])
    assert [p.name for p in tmp_path.iterdir()] == ["prediction.fits"]


def test_a_large_map_is_kept_in_a_file_and_is_the_same(whole, tmp_path, monkeypatch):
    maps, p_map = whole
    monkeypatch.setattr("szeek.find.predict._LARGEST_IN_MEMORY", len(p_map) - 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mapped = predict(maps, _model())
    path = write_prediction(mapped, tmp_path / "prediction.fits")
    again = read_prediction(path)
    for one in (mapped, again):
        assert isinstance(one, np.memmap)
        np.testing.assert_array_equal(one, p_map)
        sources = detect_sources(one, 0.15)
        assert len(sources) == len(detect_sources(p_map, 0.15)) > 0
    # its file has no name: nothing is left behind whatever happens
    assert [p.name for p in tmp_path.iterdir()] == ["prediction.fits"]


@pytest.mark.parametrize("nest", [True, False])
def test_maps_that_healpy_wrote_are_read(whole, tmp_path, nest):
    p_map = whole[1].copy()
    p_map[::7] = healpy.UNSEEN
    stored = healpy.reorder(p_map, r2n=True) if nest else p_map
    healpy.write_map(tmp_path / "p.fits", stored, nest=nest, coord="G", dtype=np.float32)
    healpy.write_map(tmp_path / "partial.fits", stored, nest=nest, coord="G", dtype=np.float32, partial=True)
    for name in ("p.fits", "partial.fits"):
        np.testing.assert_array_equal(read_prediction(tmp_path / name), np.where(p_map < -1e30, np.nan, p_map))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": 8}, "margin is 8 pixels, expected at least 16"),
        ({"rotations": 3}, "rotations is 3, expected 1, 2, 4 or 8"),
    ],
)
def test_bad_options(whole, options, message):
    with pytest.raises(ValueError, match=message):
        predict(whole[0], _model(), **options)


def test_empty_footprint_and_nan_inside(whole):
    maps, _ = whole
    with pytest.raises(ValueError, match="footprint is empty"):
        predict(SkyMaps(maps.values * 0, np.zeros(len(maps.values), bool), BANDS), _model())
