from dataclasses import replace

import healpy
import numpy as np
import pytest
from astropy.io import fits
from smallmaps import BANDS, make_maps, make_model

from szeek.find.predict import predict, predict_classes
from szeek.find.shards import gather_shards, parse_shard, predict_shard, share_fields
from szeek.learn.model import build_network
from szeek.sky.fields import cover_sphere
from szeek.sky.skymaps import SkyMaps


@pytest.fixture(scope="module")
def maps():
    return make_maps()


@pytest.mark.parametrize("of", [1, 3, 200])
def test_parts_put_together_are_the_map_of_one_machine(maps, tmp_path, of):
    """Also with more shards than fields: some parts are empty then."""
    shards = np.random.default_rng(3).permutation(of) + 1
    for number in shards:
        predict_shard(maps, make_model(), tmp_path, (int(number), of), rotations=2, threads=1)
    whole = predict(maps, make_model(), rotations=2)
    np.testing.assert_array_equal(gather_shards(maps, make_model(), tmp_path, rotations=2), whole)
    np.testing.assert_array_equal(np.isfinite(whole), maps.footprint)


def test_parts_of_all_classes_put_together_are_the_maps_of_one_machine(maps, tmp_path):
    config = {"filters": (4, 8), "classes": ("radio", "co")}
    network = build_network(len(BANDS), config)
    network.start(np.random.default_rng(1), 0.2)
    model = replace(make_model(), network=network, network_config=config)
    paths = [predict_shard(maps, model, tmp_path, (number, 2), threads=1) for number in (1, 2)]
    with fits.open(paths[0]) as part:
        assert part[1].columns.names == ["PIXEL", "P_CLUSTER", "P_RADIO", "P_CO"]
    whole = predict_classes(maps, model)
    assert whole.shape == (len(maps.footprint), 3)
    np.testing.assert_array_equal(gather_shards(maps, model, tmp_path), whole)


def test_a_part_is_a_healpix_file(maps, tmp_path):
    path = predict_shard(maps, make_model(), tmp_path, (2, 3))
    part, header = healpy.read_map(path, nest=None, dtype=None, h=True)
    header = dict(header)
    assert header["ORDERING"] == "RING" and header["COORDSYS"] == "G" and header["NSIDE"] == maps.nside
    seen = part != np.float32(healpy.UNSEEN)
    np.testing.assert_array_equal(part[seen], predict(maps, make_model())[seen])
    assert 0.2 < seen.sum() / maps.footprint.sum() < 0.5


@pytest.mark.parametrize("of", [2, 5, 64])
def test_every_field_falls_to_one_shard_and_all_have_about_as_many_pixels(of):
    fields = cover_sphere(2048, 1.7177, 16, 16)
    shares = [share_fields(fields, (number, of)) for number in range(1, of + 1)]
    assert [field for share in shares for field in share] == fields
    pixels = [sum(f.ny * f.nx for f in share) for share in shares]
    # a share is off by at most one field, the largest 640 pixels a side
    assert max(pixels) - min(pixels) <= 2 * 640**2


def test_missing_parts_are_named(maps, tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no part of a prediction; make them with --shard 1/n to n/n"):
        gather_shards(maps, make_model(), tmp_path)
    predict_shard(maps, make_model(), tmp_path, (2, 4))
    with pytest.raises(FileNotFoundError, match="lacks 3 of 4 parts of the prediction: --shard 1/4, 3/4, 4/4"):
        gather_shards(maps, make_model(), tmp_path)


def test_parts_of_another_job_are_refused(maps, tmp_path):
    for number in (1, 2):
        predict_shard(maps, make_model(), tmp_path, (number, 2))
    other_sky = SkyMaps(maps.values * np.float32(2), maps.footprint, BANDS)
    other_hole = SkyMaps(maps.values, maps.footprint & (np.arange(len(maps.footprint)) != 7), BANDS)
    for sky, model, options in (
        (maps, make_model(seed=2), {}),
        (maps, make_model(), {"rotations": 4}),
        (maps, make_model(), {"margin": 32}),
        (other_sky, make_model(), {}),
        (other_hole, make_model(), {}),
    ):
        with pytest.raises(ValueError, match=r"part-1-of-2.fits' was made from other maps, with another model"):
            gather_shards(sky, model, tmp_path, **options)
    predict_shard(maps, make_model(), tmp_path, (1, 3))
    with pytest.raises(ValueError, match="holds parts of a division by 2 and by 3; remove those of the others"):
        gather_shards(maps, make_model(), tmp_path)


def test_a_shard_does_not_filter_the_whole_sky(maps, tmp_path):
    model = make_model()
    model.normaliser = replace(model.normaliser, theta500_arcmin=(5.0, 10.0))
    with pytest.raises(
        ValueError, match=r"wants matched-filter S/N maps for \(5.0, 10.0\) arcmin, the maps hold \(\)"
    ):
        predict_shard(maps, model, tmp_path, (1, 2))
    # and those of another model's are left out
    snr = np.zeros((len(maps.values), 1), np.float32)
    with_snr = replace(maps, snr=snr, theta500_arcmin=(5.0,))
    predict_shard(with_snr, make_model(), tmp_path, (1, 1))
    np.testing.assert_array_equal(gather_shards(maps, make_model(), tmp_path), predict(maps, make_model()))


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "-1/4", "1/4/2", "a/b", ""])
def test_what_is_no_shard(text):
    with pytest.raises(ValueError, match=f"shard is '{text}', expected i/n with i from 1 to n"):
        parse_shard(text)


def test_a_failed_write_leaves_no_part(maps, tmp_path, monkeypatch):
    from astropy.io import fits

    def full(self, path, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fits.BinTableHDU, "writeto", full)
    with pytest.raises(OSError, match="No space left"):
        predict_shard(maps, make_model(), tmp_path, (1, 8))
    assert not list(tmp_path.iterdir())
