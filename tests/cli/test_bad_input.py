"""What comes in wrong ends in one clear sentence or in a right answer, and leaves nothing half-written."""

from __future__ import annotations

import errno
import os
import shutil

import healpy
import numpy as np
import pytest
from planck_like import HFI, as_skymaps, planck_like_sky, write_planck_map, write_planck_set

from szeek.cli.app import main
from szeek.config import Config
from szeek.inputs.catalogues import read_catalogue, write_catalogue
from szeek.inputs.mapfiles import read_skymaps
from szeek.inputs.preflight import PreflightError, preflight
from szeek.learn.model import find_model
from szeek.verbs import run


@pytest.fixture(scope="module")
def values():
    return planck_like_sky(64)[0]


@pytest.fixture
def files(values, tmp_path):
    return write_planck_set(tmp_path / "in", values)


@pytest.mark.parametrize("kept", [0.0, 0.0005, 0.5, 0.999])
def test_truncated_fits(files, tmp_path, kept):
    """Cut to nothing, in the header, half way, in the last block: refused, and the output folder stays empty."""
    path = files["217"]
    size = path.stat().st_size
    with path.open("r+b") as handle:
        handle.truncate(int(size * kept))
    with pytest.raises(
        OSError, match=r"HFI_217.fits' is (truncated|not a readable FITS file|not a FITS file)|holds no HEALPix table"
    ):
        try:
            read_skymaps(files, out=tmp_path / "out" / "maps")
        except ValueError as error:  # the cut may fall before the table's own header
            raise OSError(str(error)) from error
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_truncated_gzip(files, values, tmp_path):
    import gzip

    packed = tmp_path / "in" / "HFI_217.fits.gz"
    packed.write_bytes(gzip.compress(files["217"].read_bytes(), 1)[:-200_000])
    with pytest.raises(OSError, match=r"HFI_217.fits.gz' is (truncated|not a readable FITS file|not a FITS file)"):
        read_skymaps({**files, "217": packed}, out=tmp_path / "out" / "maps")


def test_not_a_fits_file_and_no_file(files, tmp_path):
    (tmp_path / "page.fits").write_text("<html>404 Not Found</html>" * 200)
    with pytest.raises(OSError, match=r"page.fits' is not a FITS file: it is a web page"):
        read_skymaps({**files, "143": tmp_path / "page.fits"})
    with pytest.raises(FileNotFoundError, match=r"gone.fits' is not a file"):
        read_skymaps({**files, "143": tmp_path / "gone.fits"})


def test_wrong_nside_among_bands(files, tmp_path):
    coarse = planck_like_sky(64)[0][: 12 * 32**2, 0]
    write_planck_map(files["353"], coarse, "K_CMB")
    with pytest.raises(
        ValueError, match=r"bands differ in nside .*'HFI_217.fits' 64, 'HFI_353.fits' 32.* one for all"
    ):
        read_skymaps(files)


def test_missing_and_unknown_band(files):
    fewer = {name: path for name, path in files.items() if name != "353"}
    with pytest.raises(ValueError, match="no file for 353; planck-hfi has the bands 100, 143, 217, 353, 545, 857"):
        read_skymaps(fewer)
    with pytest.raises(ValueError, match="no file for 353 and unknown band 350"):
        read_skymaps({**fewer, "350": files["353"]})


def test_unknown_unit(files, values):
    write_planck_map(files["143"], values[:, 1], "K")  # thermodynamic or Rayleigh-Jeans? it does not say
    with pytest.raises(
        ValueError, match=r"HFI_143.fits' is in 'K', which is unknown; expected K_CMB at 143; pass unit"
    ):
        read_skymaps(files)
    assert read_skymaps(files, unit={"143": "K_CMB"}).footprint.all()


def test_unknown_ordering_and_frame(files, values):
    write_planck_map(files["143"], values[:, 1], "K_CMB", ordering="RINGED")
    with pytest.raises(ValueError, match="ORDERING = 'RINGED', expected one of RING, NESTED"):
        read_skymaps(files)
    write_planck_map(files["143"], values[:, 1], "K_CMB", coordsys="SUPERGALACTIC")
    with pytest.raises(
        ValueError, match=r"COORDSYS = 'SUPERGALACTIC', expected one of galactic, icrs, .*pass frame='"
    ):
        read_skymaps(files)
    assert read_skymaps(files, frame="galactic").footprint.all()


def test_ambiguous_columns(files, values):
    write_planck_map(files["143"], values[:, 1], "K_CMB", columns=("FIRST", "SECOND"))
    with pytest.raises(ValueError, match="has the columns FIRST, SECOND, expected an intensity column"):
        read_skymaps(files)


def test_all_unseen(files, values, tmp_path):
    write_planck_map(files["545"], np.full(len(values), healpy.UNSEEN), "MJy/sr", columns=("I_STOKES",))
    with pytest.raises(
        ValueError, match=r"no pixel is observed in every band of 'HFI_100.fits'.*expected overlapping maps"
    ):
        read_skymaps(files, out=tmp_path / "out" / "maps")
    assert not list((tmp_path / "out").iterdir())


def test_nan_island_is_a_hole_and_nothing_else(values, tmp_path):
    """A disc of NaN in one band: a hole in the footprint there, every other pixel as if it were not."""
    island = healpy.query_disc(64, healpy.ang2vec(200.0, 30.0, lonlat=True), np.radians(3))
    holed = values.copy()
    holed[island, 1] = np.nan
    maps = read_skymaps(write_planck_set(tmp_path, holed))
    assert np.array_equal(np.flatnonzero(~maps.footprint), np.sort(island))
    rest = maps.footprint
    assert np.array_equal(maps.values[rest], values[rest]) and not maps.values[~rest].any()


def test_empty_catalogue(tmp_path):
    empty = planck_like_sky(64)[1][:0]
    path = write_catalogue(empty, tmp_path / "empty.ecsv")
    with pytest.raises(ValueError, match=r"empty.ecsv' has no entries, expected at least one cluster"):
        read_catalogue(path)


def test_catalogue_in_the_wrong_frame(tmp_path):
    """RA and Dec under the names GLON and GLAT: read without complaint, caught by preflight."""
    sky, clusters = planck_like_sky(512)
    ra, dec = healpy.Rotator(coord=["G", "C"])(clusters["lon_deg"], clusters["lat_deg"], lonlat=True)
    path = tmp_path / "list.csv"
    path.write_text(
        "NAME,GLON,GLAT\n" + "".join(f"c{i},{a},{d}\n" for i, (a, d) in enumerate(zip(ra, dec, strict=True)))
    )
    wrong = read_catalogue(path, survey="mine")
    with pytest.raises(PreflightError, match="the catalogue's Galactic columns hold RA and Dec"):
        preflight(as_skymaps(sky), wrong)


def test_clusters_at_the_poles_and_at_l_0():
    """The synthetic sky's first three clusters: l = 0, b = +90 and b = -89.9; those alone are lit."""
    sky, clusters = planck_like_sky(512)
    assert list(clusters["lat_deg"][:3]) == [0.2, 90.0, -89.9]
    report = preflight(as_skymaps(sky), clusters[:3])
    assert report.lit and report.n_clusters == 3 and report.significance > 4


class FullDisk:
    """A disk that takes so many bytes: os.posix_fallocate and numpy.save fail as a full one does."""

    def __init__(self, monkeypatch, where):
        def no_room(*_args, **_kwargs):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(*where, no_room)


@pytest.mark.parametrize("where", [(os, "posix_fallocate"), (np, "save")])
def test_full_disk_leaves_the_old_maps(files, values, tmp_path, monkeypatch, where):
    out = tmp_path / "out" / "maps"
    read_skymaps(files, out=out)
    before = (out / "values.npy").read_bytes()
    FullDisk(monkeypatch, where)
    with pytest.raises(OSError, match="No space left on device"):
        read_skymaps(files, out=out)
    assert [p.name for p in out.parent.iterdir()] == ["maps"]
    assert (out / "values.npy").read_bytes() == before


def test_interrupted_conversion_leaves_nothing(files, tmp_path, monkeypatch):
    """Ctrl-C in the middle of the bands."""
    from szeek.inputs import mapfiles

    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(mapfiles, "_scatter", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_skymaps(files, out=tmp_path / "out" / "maps")
    assert not list((tmp_path / "out").iterdir())


def test_images_and_healpix_mixed(files, tmp_path):
    from astropy.io import fits

    header = fits.Header(
        {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CDELT1": -0.1, "CDELT2": 0.1, "BUNIT": "K_CMB"}
    )
    fits.PrimaryHDU(np.zeros((8, 8), np.float32), header).writeto(tmp_path / "image.fits")
    with pytest.raises(
        ValueError, match=r"images and HEALPix maps are mixed .*'image.fits' image.* expected one kind"
    ):
        read_skymaps({**files, "100": tmp_path / "image.fits"})


def test_bands_are_the_instruments(files):
    assert read_skymaps(files).bands == HFI.bands


def test_a_run_never_takes_files_that_are_not_its_own(files, values, tmp_path):
    """`szeek run my.toml --out .` beside one's downloads in ./maps: refused, and they are still there."""
    downloads = write_planck_set(tmp_path / "maps", values)
    listed = write_catalogue(planck_like_sky(64)[1], tmp_path / "known.ecsv")
    sky = {"maps": downloads, "catalogues": (listed,)}
    config = Config.model_validate({"sky": sky})
    with pytest.raises(ValueError, match=r"holds maps, which no run made and a run would replace; .* another --out"):
        run(config, tmp_path)
    assert all(path.is_file() for path in downloads.values()) and not (tmp_path / "run.json").exists()
    with pytest.raises(ValueError, match=r"known.ecsv' is a file, expected a folder to write to; give another --out"):
        run(config, listed)
    with pytest.raises(ValueError, match=r"maps' holds other files, which saved maps would replace"):
        read_skymaps(files, out=tmp_path / "maps", check=False)


def say(monkeypatch, capsys, *words):
    """The last line that `szeek WORDS` prints, and its exit status."""
    monkeypatch.setattr("sys.argv", ["szeek", *map(str, words)])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return ended.value.code, " ".join(printed.err.replace("│", " ").split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ("simulate", "--out", "sky", "--nside", 100),
            "nside: nside is 100, expected a power of two from 64 to 2048",
        ),
        (("simulate", "--out", "sky", "--nside", 4096), "nside: Input should be less than or equal to 2048"),
        (("simulate", "--out", "sky", "--seed", -1), "Invalid value for '--seed'"),
        (("run", "demo", "--out", "run", "--threads", 0), "Invalid value for '--threads'"),
        (("run", "demo", "--out", "file.txt"), "'file.txt' is a file"),
        (("run", "typo.toml", "--out", "run"), "train.bacth: unknown key, did you mean 'batch'?"),
        (("run", "bonjean2020", "--out", "run"), "names no maps; give [sky] maps"),
        (
            ("predict", "--model", "none", "--map", "{band}", "--out", "p"),
            "'none' is neither a folder with model.json",
        ),
        (
            ("predict", "--model", "szeek-1", "-m", "100=a.fits", "-m", "100=b.fits", "--out", "p"),
            "--map gives band 100 twice, 'a.fits' and 'b.fits'; expected one file a band",
        ),
        (
            ("predict", "--model", "szeek-1", "-m", "{band}", "--unit", "150=uK_CMB", "--out", "p"),
            "unit names the band 150, expected one of 100, 143, 217, 353, 545, 857",
        ),
        (("predict", "--model", "cut", "-m", "{band}", "--out", "p"), "model.safetensors' does not fit its card"),
        (("report", "nowhere"), "'nowhere"),
    ],
)
def test_the_command_line_answers_in_one_sentence(tmp_path, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.txt").write_text("kept")
    (tmp_path / "typo.toml").write_text("[train]\nbacth = 20\n")
    shutil.copytree(find_model("szeek-1"), tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    code, printed = say(monkeypatch, capsys, *words)
    assert code != 0 and sentence in printed
    assert (tmp_path / "file.txt").read_text() == "kept"


def test_two_columns_are_a_question_and_column_answers_it(tmp_path, monkeypatch, capsys):
    """The way out that the message names is one of the verb at hand."""
    (tmp_path / "a.csv").write_text("name,ra,dec,z_spec,zspec\nA,10,20,0.1,0.2\n")
    p_map = np.full(12 * 64**2, 0.001, np.float32)
    healpy.write_map(str(tmp_path / "p.fits"), p_map, coord="G", column_names=["P"], dtype=np.float32)
    words = ["szeek", "assess", str(tmp_path / "p.fits"), "-c", str(tmp_path / "a.csv"), "--out", str(tmp_path / "o")]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1 and "--column redshift=z_spec" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", [*words, "--column", "redshift=zspec"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and (tmp_path / "o" / "recovery.ecsv").is_file()
    monkeypatch.setattr("sys.argv", [*words, "--column", "redshift=nix"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert "no catalogue has a column nix; found dec, name, ra, z_spec, zspec" in capsys.readouterr().err
