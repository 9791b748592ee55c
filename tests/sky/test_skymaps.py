import numpy as np
import pytest

from szeek.sky import skymaps
from szeek.sky.skymaps import Band, SkyMaps

BANDS = (Band("100", 100.0, 9.68, "K_CMB"), Band("545", 545.0, 4.83, "MJy/sr"))


def _maps(nside=4):
    values = np.random.default_rng(1).normal(size=(12 * nside**2, 2)).astype(np.float32)
    return SkyMaps(values, np.ones(len(values), bool), BANDS)


def test_round_trip_through_a_folder(tmp_path):
    maps = _maps()
    again = SkyMaps.open(maps.save(tmp_path / "sky"))
    np.testing.assert_array_equal(again.values, maps.values)
    np.testing.assert_array_equal(again.footprint, maps.footprint)
    assert again.bands == BANDS and again.nside == 4 and again.n_band == 2
    assert isinstance(again.values, np.memmap)


def test_failed_save_leaves_the_old_maps(tmp_path, monkeypatch):
    maps = _maps()
    folder = maps.save(tmp_path / "sky")
    assert folder.stat().st_mode & 0o055 == 0o055  # others may read it
    real = skymaps._save_array

    def full(array, path):
        if "footprint" in str(path):
            raise OSError(28, "No space left on device")
        real(array, path)

    monkeypatch.setattr(skymaps, "_save_array", full)
    with pytest.raises(OSError, match="No space left"):
        SkyMaps(maps.values + 1, maps.footprint, BANDS).save(folder)
    np.testing.assert_array_equal(SkyMaps.open(folder).values, maps.values)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sky"]


@pytest.mark.parametrize(
    ("values", "footprint", "error", "message"),
    [
        (np.zeros((50, 2), np.float32), np.ones(50, bool), ValueError, r"expected \(12 nside\^2, n_band\)"),
        (np.zeros((48, 2)), np.ones(48, bool), TypeError, "values is float64, expected float32"),
        (np.zeros((48, 2), np.float32), np.ones(12, bool), ValueError, r"footprint is bool \(12,\)"),
        (np.zeros((48, 3), np.float32), np.ones(48, bool), ValueError, "3 columns for 2 bands"),
    ],
)
def test_wrong_arrays_are_refused(values, footprint, error, message):
    with pytest.raises(error, match=message):
        SkyMaps(values, footprint, BANDS)


def test_open_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no saved SkyMaps: values.npy, footprint.npy, bands.json not found"):
        SkyMaps.open(tmp_path)


def test_what_is_not_a_saved_sky_is_never_replaced(tmp_path):
    maps = SkyMaps(np.zeros((48, 2), np.float32), np.ones(48, bool), BANDS)
    downloads = tmp_path / "maps"
    downloads.mkdir()
    assert SkyMaps.open(maps.save(downloads)).footprint.all()  # an empty folder is free
    (downloads / "bands.json").unlink()
    (downloads / "HFI_100.fits").write_text("nine gigabytes")
    with pytest.raises(ValueError, match=r"maps' holds other files, which saved maps would replace; give a new or"):
        maps.save(downloads)
    assert (downloads / "HFI_100.fits").read_text() == "nine gigabytes"
    with pytest.raises(ValueError, match=r"HFI_100.fits' is a file, expected a folder for the maps"):
        maps.save(downloads / "HFI_100.fits")


def test_saved_cut_outs_are_files_with_holes(tmp_path):
    """What numpy.save writes, byte for byte, without disk space for what was not observed."""
    values, footprint = np.zeros((12 * 256**2, 6), np.float32), np.zeros(12 * 256**2, bool)
    values[400_000:400_500] = np.random.default_rng(1).normal(size=(500, 6))
    footprint[400_000:400_500] = True
    bands = tuple(Band(str(k), 100.0, 10.0, "K_CMB") for k in range(6))
    folder = SkyMaps(values, footprint, bands).save(tmp_path / "maps")
    for name, array in (("values", values), ("footprint", footprint)):
        np.save(tmp_path / f"{name}.npy", array)
        assert (folder / f"{name}.npy").read_bytes() == (tmp_path / f"{name}.npy").read_bytes()
    assert (folder / "values.npy").stat().st_blocks * 512 < 0.02 * values.nbytes
