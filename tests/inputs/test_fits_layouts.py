"""Maps, masks and images in every legal layout of FITS and HEALPix, drawn at random; what is not legal is named.

Files are written byte by byte from the header that a strategy drew, and what has to come out is known before: the
values, their pixels (healpy) and their positions (astropy).
"""

from __future__ import annotations

import bz2
import gzip
import lzma
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from szeek.cli.app import main
from szeek.config import load_config
from szeek.find.predict import read_prediction, write_prediction
from szeek.inputs.fits_files import is_auxiliary, parse_part
from szeek.inputs.healpix_files import INDEX_COLUMNS, describe_healpix
from szeek.inputs.image_files import read_image, read_pixels
from szeek.inputs.masks import read_mask, read_masks
from szeek.inputs.stackmaps import read_stack_map
from szeek.pipeline.stages import Run

TYPES = {"L": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
FRAMES = {"galactic": ("G", "GALACTIC", "Gal"), "icrs": ("C", "Q", "celestial"), "ecliptic": ("E", "ECLIPTIC")}
ASTROPY_FRAMES = {"icrs": "icrs", "ecliptic": "barycentricmeanecliptic"}
PACK = {"": bytes, "gzip": lambda b: gzip.compress(b, 1, mtime=0), "bzip2": bz2.compress, "xz": lzma.compress}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("layouts")


class Drawn(dict):
    """What was drawn; of the file itself, kilobytes, a failure need not show the bytes."""

    def __repr__(self):
        return repr({key: value for key, value in self.items() if key not in ("extensions", "bytes")})


def table_bytes(columns, rows, cards):
    """A binary-table extension: (name, TFORM letter, (rows, width) array as stored, cards of the column)."""
    header = fits.Header()
    widths = [array.shape[1] * array.dtype.itemsize for _, _, array, _ in columns]
    for key, value in (
        ("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", sum(widths)), ("NAXIS2", rows),
        ("PCOUNT", 0), ("GCOUNT", 1), ("TFIELDS", len(columns)),
    ):  # fmt: skip
        header[key] = value
    for i, (name, code, array, own) in enumerate(columns, start=1):
        header[f"TTYPE{i}"], header[f"TFORM{i}"] = name, f"{array.shape[1]}{code}"
        for key, value in own.items():
            header[f"{key}{i}"] = value
    for key, value in cards.items():
        if value is not None:
            header[key] = value
    data = b"".join(array[row].tobytes() for row in range(rows) for _, _, array, _ in columns)
    return header.tostring().encode("ascii") + data + bytes(-len(data) % 2880)


def write(path, *extensions, pack="", primary=None):
    header = fits.PrimaryHDU().header
    header.update(primary or {})
    path.write_bytes(PACK[pack](header.tostring().encode("ascii") + b"".join(extensions)))
    return path


@st.composite
def healpix_files(draw):
    """Bytes of a HEALPix file, and what it holds: RING pixels of its own frame, NaN where not observed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    nside = draw(st.sampled_from([1, 2, 4, 8]))
    n_pix = 12 * nside**2
    code = draw(st.sampled_from(list(TYPES)))
    frame = draw(st.sampled_from(["galactic", "galactic", "galactic", "icrs", "ecliptic"]))
    layout = draw(st.sampled_from(["whole", "whole", "run", "explicit", "grain", "unsaid"]))
    cards = {
        "PIXTYPE": draw(st.sampled_from(["HEALPIX", None])),
        "NSIDE": nside,
        "ORDERING": draw(st.sampled_from(["RING", "NESTED", "NEST", "ring", "nested"])),
        "COORDSYS": draw(st.sampled_from(FRAMES[frame])),
        "INDXSCHM": draw(st.sampled_from(["IMPLICIT", None])),
        "OBJECT": draw(st.sampled_from(["FULLSKY", None])),
        "EXTNAME": draw(st.sampled_from(["FREQ-MAP", "xtension", "SIGNAL", None])),
    }
    # which pixels, in which order
    numbers, grain = np.arange(n_pix), 1
    if layout == "whole":
        if draw(st.booleans()):  # of the map that it was degraded from
            cards["FIRSTPIX"], cards["LASTPIX"] = 0, draw(st.sampled_from([n_pix - 1, 4 * n_pix - 1]))
    elif layout == "run":
        first = draw(st.integers(0, n_pix - 2))
        numbers = np.arange(first, draw(st.integers(first + 1, n_pix)))
        cards["FIRSTPIX"], cards["LASTPIX"], cards["OBJECT"] = first, int(numbers[-1]), "PARTIAL"
    else:
        grain = draw(st.sampled_from([2, 4])) if layout == "grain" else 1
        starts = rng.permutation(n_pix // grain)[: draw(st.integers(1, n_pix // grain))] * grain
        numbers = (starts[:, None] + np.arange(grain)).ravel()
        cards["INDXSCHM"] = None if layout == "unsaid" else "EXPLICIT"
        cards["OBJECT"] = draw(st.sampled_from(["PARTIAL", None]))
        cards["GRAIN"] = grain if layout == "grain" else draw(st.sampled_from([0, 1, None]))
    n = len(numbers)
    explicit = layout in ("explicit", "grain", "unsaid")
    width = grain if explicit and grain > 1 else draw(st.sampled_from([w for w in (1, 3, 4, 12, n) if n % w == 0]))
    # values as stored, and as meant
    scale, zero, own = 1.0, 0.0, {}
    if code == "L":
        truth = rng.integers(0, 2, n).astype(float)
        raw = np.where(truth == 1, ord("T"), ord("F")).astype("u1")
    elif code in "ED":
        truth = rng.normal(size=n) * draw(st.sampled_from([1.0, 1e-6]))
        truth = 1e21 * np.abs(truth) if draw(st.booleans()) else truth  # column densities are as high
        truth = truth.astype(np.float32).astype(float)
        raw = truth.astype(TYPES[code])
    else:
        raw = rng.integers(1, 200, n).astype(TYPES[code])
        if draw(st.booleans()):
            scale, zero = draw(st.sampled_from([(2.0**-20, 0.0), (0.5, -100.0), (1.0, 32768.0)]))
            own["TSCAL"], own["TZERO"] = scale, zero
        truth = raw * scale + zero
    # marks of what was not observed
    bad = rng.random(n) < draw(st.sampled_from([0.0, 0.2]))
    if code == "L":
        raw[bad] = 0
    elif code in "ED":
        mark = draw(st.sampled_from([np.nan, np.inf, healpy.UNSEEN, np.float32(healpy.UNSEEN), -1.6375e24, -999.0]))
        raw[bad] = mark
        if mark == -999.0:
            cards["BAD_DATA"] = draw(st.sampled_from([-999.0, -999]))
        elif draw(st.booleans()):
            cards["BAD_DATA"] = -1.6375e30
    elif scale == 1.0 and zero == 0.0 and draw(st.booleans()):
        raw[bad], cards["BAD_DATA"] = 255 if code == "B" else 999, 255 if code == "B" else 999.0
    else:
        raw[bad] = own["TNULL"] = 0 if code == "B" else draw(st.sampled_from([-32768, -1, 0]))
    truth[bad] = np.nan
    # the columns: the map among noise and hits
    rows = n // width
    unit = draw(st.sampled_from(["K_CMB", "uK_CMB", "MJy/sr", None]))
    own |= {} if unit is None else {"TUNIT": unit}
    name = draw(st.sampled_from(["I_STOKES", "TEMPERATURE", "SIGNAL", "i", "GAL080", "FOO"]))
    columns = [(name, code, raw.reshape(rows, width), own)]
    for decoy, kind in draw(
        st.lists(st.sampled_from([("HITS", "J"), ("N_OBS", "I"), ("II_COV", "E"), ("SERROR", "D")]), unique=True)
    ):
        other = (decoy, kind, rng.integers(1, 9, (rows, draw(st.sampled_from([1, 3])))).astype(TYPES[kind]), {})
        columns.insert(draw(st.integers(0, len(columns))), other)
    if explicit:
        index = draw(st.sampled_from(INDEX_COLUMNS if layout == "unsaid" else (*INDEX_COLUMNS, "NUMBER")))
        kind = draw(st.sampled_from("IJK" if index in ("INDEX", "NUMBER") else "IJKD"))
        array = numbers[::grain].reshape(rows, -1).astype(TYPES[kind])
        # healpy takes the first column for the pixels where it has no name that all know
        where = 0 if index == "NUMBER" else draw(st.integers(0, len(columns)))
        columns.insert(where, (index, kind, array, {}))
    in_primary = draw(st.sampled_from([(), ("ORDERING", "COORDSYS", "BAD_DATA"), ("NSIDE", "PIXTYPE", "COORDSYS")]))
    primary = {key: cards.pop(key) for key in in_primary if cards.get(key) is not None}
    extensions = [table_bytes(columns, rows, cards)]
    if draw(st.booleans()):
        noise = rng.normal(size=(n_pix, 1)).astype(">f4")
        decoy = table_bytes(
            [("I_STOKES", "E", noise, {})], n_pix, {**cards, "EXTNAME": "NOISE", "INDXSCHM": "IMPLICIT"}
        )
        extensions.insert(draw(st.integers(0, 1)), decoy)
    pack = draw(st.sampled_from(["", "", "gzip", "bzip2", "xz"]))
    ending = draw(st.sampled_from([".fits", ".fits.gz", ".fit", ".bz2"]))
    # RING, in the file's own frame
    ring = healpy.nest2ring(nside, numbers) if (cards | primary)["ORDERING"].upper().startswith("NEST") else numbers
    expected = np.full(n_pix, np.nan)
    expected[ring] = truth
    return Drawn(extensions=extensions, pack=pack, name="map" + ending, frame=frame, expected=expected,
                      nside=nside, unit=unit, column=name, cards=cards, own=own, primary=primary)  # fmt: skip


def check_healpix(folder: Path, drawn) -> None:
    """A drawn file is read as it was meant: values, footprint, unit; as map, mask and map to stack alike."""
    path = write(folder / drawn["name"], *drawn["extensions"], pack=drawn["pack"], primary=drawn["primary"])
    file = describe_healpix(path)
    found, expected = file.read_ring(), drawn["expected"]
    assert (file.nside, file.unit, file.frame) == (drawn["nside"], drawn["unit"], drawn["frame"])
    if drawn["frame"] != "galactic":
        lon, lat = healpy.pix2ang(file.nside, np.arange(len(found)), lonlat=True)
        there = (
            SkyCoord(lon, lat, unit="deg", frame="galactic").transform_to(ASTROPY_FRAMES[drawn["frame"]]).spherical
        )
        expected = healpy.get_interp_val(expected, there.lon.deg, there.lat.deg, lonlat=True)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    size = np.nanmax(np.abs(drawn["expected"]), initial=0.0)
    # the ecliptics of healpy and astropy differ by less than an arcsecond, 1e-4 of a pixel of nside 8
    atol = (1e-6 if drawn["frame"] == "galactic" else 1e-3) * size
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=atol)
    mask = read_mask(path, columns=(drawn["column"],), minimum=0.25 * size) if is_one_table(path) else None
    if mask is not None and drawn["frame"] == "galactic":
        np.testing.assert_array_equal(mask, expected > 0.25 * size)
    if np.isfinite(expected).any():
        sky = read_stack_map("mine", path, unit="K", fwhm_arcmin=5.0)
        np.testing.assert_array_equal(sky.footprint, np.isfinite(found))
        np.testing.assert_array_equal(sky.values[sky.footprint, 0], found[sky.footprint])


def is_one_table(path):
    with fits.open(path) as hdus:
        return len(hdus) == 2


@given(healpix_files())
def test_every_legal_healpix_file_is_read(folder, drawn):
    check_healpix(folder, drawn)


@st.composite
def image_files(draw):
    """HDUs of an image file, and its pixels, NaN where not observed."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    code = draw(st.sampled_from([">u1", ">i2", ">i4", ">i8", ">f4", ">f8"]))
    axis = draw(st.sampled_from([("GLON-TAN", "GLAT-TAN"), ("RA---TAN", "DEC--TAN"), ("ELON-TAN", "ELAT-TAN")]))
    lon_deg, lat_deg = draw(st.floats(0, 359)), draw(st.floats(-80, 80))
    cards = {"CTYPE1": axis[0], "CTYPE2": axis[1], "CRVAL1": lon_deg, "CRVAL2": lat_deg,
             "CRPIX1": 2.0, "CRPIX2": 3.0, "CDELT1": -0.05, "CDELT2": 0.05}  # fmt: skip
    unit = draw(st.sampled_from(["K_CMB", "MJy/sr", None]))
    if unit is not None:
        cards["BUNIT"] = unit
    bad = rng.random(shape) < 0.2
    if code in (">f4", ">f8"):
        truth = rng.normal(size=shape).astype(np.float32).astype(float)
        raw = truth.astype(code)
        mark = draw(st.sampled_from([np.nan, np.inf, healpy.UNSEEN, -999.0]))
        raw[bad] = mark
        if mark == -999.0:
            cards["BAD_DATA"] = -999.0
    else:
        raw = rng.integers(1, 200, shape).astype(code)
        mark = 0 if code == ">u1" else draw(st.sampled_from([-32768, 0, 999]))
        raw[bad] = cards["BLANK"] = mark
        scale, zero = draw(st.sampled_from([(1.0, 0.0), (0.25, 7.0), (1.0, 32768.0), (1.0, 2147483648.0)]))
        if (scale, zero) != (1.0, 0.0):
            cards["BSCALE"], cards["BZERO"] = scale, zero
        truth = raw * scale + zero
    truth[bad] = np.nan
    deep = draw(st.booleans())
    header = fits.Header()
    bits = {">u1": 8, ">i2": 16, ">i4": 32, ">i8": 64, ">f4": -32, ">f8": -64}[code]
    own = {"SIMPLE": True, "BITPIX": bits, "NAXIS": 4 if deep else 2, "NAXIS1": shape[1], "NAXIS2": shape[0]}
    own |= {"NAXIS3": 1, "NAXIS4": 1, "CTYPE3": "FREQ", "CTYPE4": "STOKES"} if deep else {}
    for key, value in (own | {"EXTEND": True} | cards).items():
        header[key] = value
    data = raw.tobytes()
    extensions = header.tostring().encode("ascii") + data + bytes(-len(data) % 2880)
    if draw(st.booleans()):
        extensions += table_bytes([("BAND", "J", np.ones((2, 1), ">i4"), {})], 2, {})
    frame = {"G": "galactic", "R": "icrs", "E": "ecliptic"}[axis[0][0]]
    pack = draw(st.sampled_from(list(PACK)))
    return Drawn(bytes=extensions, pack=pack, truth=truth, unit=unit, header=header, frame=frame)


def check_image(folder: Path, drawn) -> None:
    path = folder / "image.fits"
    path.write_bytes(PACK[drawn["pack"]](drawn["bytes"]))
    image = read_image(path)
    assert (image.unit, image.frame) == (drawn["unit"], drawn["frame"])
    np.testing.assert_allclose(image.pixels, drawn["truth"], rtol=1e-12)
    there = WCS(drawn["header"]).celestial.wcs_pix2world([[1.0, 2.0]], 0)
    np.testing.assert_allclose(image.wcs.wcs_pix2world([[1.0, 2.0]], 0), there, rtol=1e-12)


@given(image_files())
def test_every_legal_image_is_read(folder, drawn):
    check_image(folder, drawn)


# --- what is refused ---------------------------------------------------------------------------------------

NSIDE = 4
N_PIX = 12 * NSIDE**2
RING = np.arange(1.0, N_PIX + 1)


def one(name="SIGNAL", code="E", array=RING, own=None, **cards):
    """A table of one column, RING and Galactic."""
    cards = {"PIXTYPE": "HEALPIX", "NSIDE": NSIDE, "ORDERING": "RING", "COORDSYS": "G"} | cards
    stored = np.asarray(array).reshape(len(array), -1).astype(TYPES[code])
    return table_bytes([(name, code, stored, own or {})], len(array), cards)


def several(columns, rows=N_PIX, **cards):
    cards = {"PIXTYPE": "HEALPIX", "NSIDE": NSIDE, "ORDERING": "RING", "COORDSYS": "G"} | cards
    return table_bytes(
        [(n, c, np.asarray(a).reshape(rows, -1).astype(TYPES.get(c, "S1")), {}) for n, c, a in columns], rows, cards
    )


HALF = np.arange(N_PIX // 2)
REFUSED = {
    "no frame": (one(COORDSYS=None), r"COORDSYS\); pass frame='galactic' or .* 'f.fits\[COORDSYS=G\]'"),
    "a frame of 1950": (one(COORDSYS="C", EQUINOX=1950.0), r"EQUINOX = '1950.0', expected ICRS or FK5 J2000"),
    "FK4": (one(COORDSYS="C", RADESYS="FK4"), "RADESYS = 'FK4'"),
    "another frame": (one(COORDSYS="SUPERGALACTIC"), "COORDSYS = 'SUPERGALACTIC', expected one of galactic"),
    "no ordering": (one(ORDERING=None), r"ORDERING\); pass ordering='RING' or .* 'f.fits\[ORDERING=RING\]'"),
    "a multi-order map": (one(name="UNIQ", code="K", ORDERING="NUNIQ"), "ORDERING = 'NUNIQ', a multi-order map"),
    "local indices": (one(INDXSCHM="LOCAL"), "INDXSCHM = 'LOCAL', expected IMPLICIT or EXPLICIT"),
    "a stale index scheme": (one(INDXSCHM="EXPLICIT"), "INDXSCHM = EXPLICIT, expected a column of pixel numbers"),
    "implicit, and shuffled": (
        several([("PIXEL", "J", RING[::-1] - 1), ("SIGNAL", "E", RING)], INDXSCHM="IMPLICIT"),
        "INDXSCHM = 'IMPLICIT'",
    ),
    "grains without GRAIN": (
        several([("PIXEL", "J", HALF[::4]), ("SIGNAL", "E", HALF)], N_PIX // 8, INDXSCHM="EXPLICIT"),
        r"24 pixel numbers \(PIXEL\) for 96 values \(SIGNAL\), GRAIN = 0, expected .*\[GRAIN=4\]",
    ),
    "GRAIN and no grains": (
        several([("PIXEL", "J", HALF), ("SIGNAL", "E", HALF)], N_PIX // 2, INDXSCHM="EXPLICIT", GRAIN=4),
        "GRAIN = 4",
    ),
    "numbers of grains": (  # not of their first pixels
        several([("PIXEL", "J", HALF[:24]), ("SIGNAL", "E", HALF)], N_PIX // 8, INDXSCHM="EXPLICIT", GRAIN=4),
        "column PIXEL of .* gives 69 pixels twice with GRAIN = 4",
    ),
    "a pixel twice": (
        several([("PIX", "J", HALF // 2), ("SIGNAL", "E", HALF)], N_PIX // 2),
        "column PIX of .* gives 48 pixels twice",
    ),
    "a pixel beyond": (
        several([("PIX", "J", HALF - 1), ("S", "E", HALF)], N_PIX // 2),
        "has pixels -1 to 94, expected 0",
    ),
    "half a sky": (one(array=HALF), "has 96 pixels, expected 12 nside.2 = 192 .* it has no pixel numbers"),
    "half a sky, of its parent": (one(array=HALF, FIRSTPIX=0, LASTPIX=191), "FIRSTPIX = 0, LASTPIX = 191"),
    "no NSIDE": (one(array=HALF, NSIDE=None), "does not say its NSIDE, and has 96 values"),
    "NSIDE in words": (one(NSIDE="four"), "NSIDE = 'four', expected a whole number"),
    "a mark in words": (one(BAD_DATA="none"), "BAD_DATA = 'none', expected the number"),
    "noise alone": (
        one(name="II_COV"),
        r"columns II_COV, expected an intensity .* in brackets: 'f.fits\[col II_COV\]'",
    ),
    "variance by its unit": (one(name="II", own={"TUNIT": "(K_CMB)^2"}), "the columns II, expected an intensity"),
    "noise by its extension": (one(EXTNAME="NOISE"), "the extension 'NOISE', with the columns SIGNAL"),
    "two signals": (several([("I_STOKES", "E", RING), ("SIGNAL", "E", RING)]), "the columns I_STOKES, SIGNAL"),
    "two halves": (
        one(EXTNAME="HALF1") + one(EXTNAME="HALF2"),
        r"HALF1 \(SIGNAL\); HALF2 \(SIGNAL\); name .*'f.fits\[HALF1\]'",
    ),
    "two of one name": (one(EXTNAME="MAP") + one(EXTNAME="MAP"), r"1 \(SIGNAL\); 2 \(SIGNAL\); name .*'f.fits\[1\]'"),
    "floats for pixels, in order or not": (
        several([("PIXEL", "D", RING[::-1] - 0.5), ("SIGNAL", "E", RING)]),
        "column PIXEL of .* no whole numbers",
    ),
    "text": (several([("SIGNAL", "A", ["x"] * N_PIX)]), "column SIGNAL of .* has TFORM '1A', expected numbers"),
    "an image": (
        fits.ImageHDU(np.zeros(12)).header.tostring().encode() + bytes(2880),
        "no HEALPix table, .* found images",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_legal_or_not_clear_is_named(tmp_path, what):
    extension, message = REFUSED[what]
    path = write(tmp_path / "f.fits", extension)
    with pytest.raises(ValueError, match=message) as refusal:
        describe_healpix(path).read_ring()
    assert "f.fits'" in str(refusal.value)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"<!DOCTYPE html>", "a web page"), (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"PK\x03\x04", "a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"), (b"", "it is empty"),
        (b"lon,lat\n1,2\n", "it starts with b'lon,lat"), (PACK["gzip"](PACK["gzip"](b"SIMPLE  =")), "another"),
        (b"\x93NUMPY", "a NumPy array"),
    ],
)  # fmt: skip
def test_what_is_not_fits_is_told_by_its_first_bytes(tmp_path, start, words):
    (tmp_path / "f.fits").write_bytes(start)
    for read in (describe_healpix, read_image):
        with pytest.raises(OSError, match=rf"f.fits' is not a FITS file: .*{words}"):
            read(tmp_path / "f.fits")


@pytest.mark.parametrize("pack", ["gzip", "bzip2", "xz"])
def test_compressed_files_that_break_off(tmp_path, pack):
    values = np.random.default_rng(0).normal(size=12 * 32**2)
    whole = fits.PrimaryHDU().header.tostring().encode() + one(array=values, NSIDE=32)
    (tmp_path / "f.fits").write_bytes(PACK[pack](whole)[:-4000])
    with pytest.raises(OSError, match=r"f.fits' is (truncated|not a readable FITS file)"):
        describe_healpix(tmp_path / "f.fits").read_ring()


# --- what is said after a file's name ----------------------------------------------------------------------


def test_extension_column_and_cards_after_the_name(tmp_path):
    halves = [
        several([("I", "E", RING * k), ("Q", "E", -RING * k)], EXTNAME=f"HALF{k}", COORDSYS=None) for k in (1, 2)
    ]
    path = write(tmp_path / "f.fits", *halves)
    for part, expected in (("[HALF2]", 2 * RING), ("[2]", 2 * RING), ("[half1][col Q]", -RING)):
        np.testing.assert_array_equal(describe_healpix(f"{path}{part}[COORDSYS=G]").read_ring(), expected)
    marked = describe_healpix(f"{path}[HALF1][COORDSYS=G][BAD_DATA=7][TUNIT=MJy/sr]")
    assert marked.unit == "MJy/sr" and np.flatnonzero(np.isnan(marked.read_ring())).tolist() == [6]
    with pytest.raises(
        ValueError, match="has no extension that alone is called 'HALF3', expected one of PRIMARY, HALF1, HALF2; give"
    ):
        describe_healpix(f"{path}[HALF3]")
    with pytest.raises(ValueError, match="has no column 'T', its columns are I, Q; name one of them"):
        describe_healpix(f"{path}[HALF1][col T]")
    with pytest.raises(ValueError, match="states the keyword 'COORDS', expected one of COORDSYS, ORDERING"):
        parse_part(f"{path}[COORDS=G]")
    odd = write(tmp_path / "odd[1].fits[2]", one())  # a file may be called so
    np.testing.assert_array_equal(describe_healpix(odd).read_ring(), RING)


def test_a_run_takes_brackets_in_its_configuration(tmp_path):
    """The files themselves are looked for and summed; what stands behind their names is part of the key."""
    toml = tmp_path / "c.toml"
    toml.write_text('[sky]\nmasks = ["GAL080=m.fits[2][COORDSYS=G]"]\ncatalogues = ["k.csv"]\n'
                    '[sky.maps]\n100 = "a.fits[HALF1][TUNIT=MJy/sr]"\n')  # fmt: skip
    job = Run(load_config(toml), tmp_path / "run")
    assert job.input_files() == [tmp_path / name for name in ("a.fits", "k.csv", "m.fits")]
    assert str(job.map_files()["100"]).endswith("a.fits[HALF1][TUNIT=MJy/sr]")


def test_grain_of_pixels_by_hand(tmp_path):
    """GRAIN = 4: number 8 stands for pixels 8 to 11, 100 for 100 to 103."""
    table = several([("PIXEL", "J", [8, 100]), ("SIGNAL", "E", np.arange(8.0))], 2, INDXSCHM="EXPLICIT", GRAIN=4)
    found = describe_healpix(write(tmp_path / "f.fits", table)).read_ring()
    assert np.flatnonzero(np.isfinite(found)).tolist() == [8, 9, 10, 11, 100, 101, 102, 103]
    assert found[[8, 11, 100, 103]].tolist() == [0, 3, 4, 7]


def test_healpy_reads_the_same(tmp_path):
    """Whole and partial maps as healpy writes them, in every type that it writes."""
    keep = np.arange(N_PIX) % 3 > 0
    for kind in (np.float32, np.float64, np.int16, np.int32, np.int64, np.uint8, bool):
        for partial in (False, True) if kind in (np.float32, np.float64) else (False,):
            values = np.where(keep, RING % 100, healpy.UNSEEN if partial else 0).astype(kind)
            path = tmp_path / "f.fits"
            healpy.write_map(path, values, nest=True, coord="G", dtype=kind, partial=partial, overwrite=True)
            theirs = np.asarray(healpy.read_map(path, dtype=np.float64))
            theirs[theirs == healpy.UNSEEN] = np.nan
            np.testing.assert_array_equal(describe_healpix(path).read_ring(), theirs)


@pytest.mark.realdata
@pytest.mark.parametrize(
    "name", ["CMB_I_SMICA_128_R2.00", "HFI_SkyMap_100_128_R2.00_RING", "HFI_SkyMap_857_128_R2.00_NESTED"]
)
def test_planck_maps_as_healpy_reads_them(real_data, name):
    """LASTPIX is still that of nside 2048 in two of them."""
    path = real_data / "maps" / "nside128" / f"{name}.fits"
    np.testing.assert_array_equal(describe_healpix(path).read_ring(), healpy.read_map(path, dtype=np.float32))


def test_names_of_what_lies_beside_the_signal():
    beside = [
        "HITS",
        "N_OBS",
        "NOBS",
        "II_COV",
        "IQ_COV",
        "NOISE",
        "RMS",
        "SERROR",
        "IVAR",
        "TMASK",
        "WHT",
        "err_I",
        "HITCOUNT",
        "NOISEMAP",
    ]
    assert all(is_auxiliary(name) for name in beside)
    signal = ["I_STOKES", "TEMPERATURE", "COUNTS", "FULL", "P_CLUSTER", "GAL080", "VARIABILITY", "COVERED", "TERRA"]
    assert not any(is_auxiliary(name) for name in signal)
    assert [is_auxiliary("X", unit) for unit in ("K_CMB^2", "(MJy/sr)^2", "K2", "deg-2", "Msun / deg2")] == [
        True, True, True, False, False,
    ]  # fmt: skip


# --- masks, images, p maps -------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "null"), [("B", 255), ("I", -1), ("J", -1), ("K", -1), ("E", -999)])
def test_an_undefined_pixel_of_a_mask_is_not_sky_to_use(tmp_path, code, null):
    """255 of a byte, which is above any threshold, is no 1."""
    stored = np.ones(N_PIX)
    stored[:50], stored[50:60] = 0, null
    mark = {"BAD_DATA": null} if code == "E" else {}
    table = one("GAL080", code, stored, {} if mark else {"TNULL": null}, **mark)
    assert read_mask(write(tmp_path / "f.fits", table)).sum() == N_PIX - 60


def test_frame_given_for_masks_is_that_of_those_that_say_none(tmp_path):
    stated = write(tmp_path / "a.fits", one(array=RING > 20, COORDSYS="G"))
    silent = write(tmp_path / "b.fits", one(array=RING < 100, COORDSYS=None))
    with pytest.raises(ValueError, match=r"b.fits' does not say its frame .* 'b.fits\[COORDSYS=G\]'"):
        read_masks([stated, silent])
    np.testing.assert_array_equal(read_masks([stated, f"{silent}[COORDSYS=G]"]), (RING > 20) & (RING < 100))
    np.testing.assert_array_equal(read_masks([stated, silent], "galactic"), (RING > 20) & (RING < 100))
    np.testing.assert_array_equal(read_masks([stated], "icrs"), RING > 20)


def test_masks_in_two_extensions(tmp_path):
    """As HFI_Mask_PointSrc has them: a column is found where it is, and both are asked about."""
    path = write(tmp_path / "f.fits", one("F100_05", array=RING > 9, EXTNAME="SRC-INT"),
                 one("F100_POL", array=RING > 99, EXTNAME="SRC-POL"))  # fmt: skip
    assert read_mask(path, columns=("F100_POL",)).sum() == N_PIX - 99
    assert read_mask(f"{path}[SRC-INT]").sum() == N_PIX - 9
    with pytest.raises(ValueError, match=r"SRC-INT \(F100_05\); SRC-POL \(F100_POL\); name extension"):
        read_mask(path)


def test_images_beside_noise_and_beside_each_other(tmp_path):
    header = fits.Header({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN", "CDELT1": -0.1, "CDELT2": 0.1})
    images = {"SCI": np.ones((4, 4)), "ERR": np.full((4, 4), 2.0), "SECOND": np.full((4, 4), 3.0)}
    hdus = [fits.ImageHDU(array, header, name) for name, array in images.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus[:2]]).writeto(tmp_path / "f.fits")
    assert read_image(tmp_path / "f.fits").pixels[0, 0] == 1
    assert read_image(f"{tmp_path / 'f.fits'}[ERR]").pixels[0, 0] == 2
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "g.fits")
    with pytest.raises(ValueError, match=r"g.fits' has the images SCI, ERR, SECOND, .* brackets: 'g.fits\[SCI\]'"):
        read_image(tmp_path / "g.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(images["SCI"], header, "NOISE")]).writeto(tmp_path / "h.fits")
    with pytest.raises(ValueError, match="has the images NOISE, expected one that is neither noise"):
        read_image(tmp_path / "h.fits")
    map_and_thumbnail = fits.PrimaryHDU(images["SCI"]), fits.BinTableHDU.from_columns([])
    map_and_thumbnail[0].writeto(tmp_path / "t.fits")
    (tmp_path / "t.fits").write_bytes((tmp_path / "t.fits").read_bytes() + one())
    assert read_image(tmp_path / "t.fits") is None
    np.testing.assert_array_equal(describe_healpix(tmp_path / "t.fits").read_ring(), RING)


def test_compressed_image_of_integers_keeps_its_blank(tmp_path):
    stored = np.arange(400, dtype=np.int32).reshape(20, 20)
    stored[3, 4] = -32768
    hdu = fits.CompImageHDU(stored, fits.Header({"BLANK": -32768}), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "f.fits")
    pixels = read_pixels(tmp_path / "f.fits")[1]
    assert np.argwhere(np.isnan(pixels)).tolist() == [[3, 4]] and pixels[19, 19] == 399


def p_map_at(lon_deg, lat_deg, nside=256):
    p = np.full(12 * nside**2, 0.001, np.float32)
    p[healpy.query_disc(nside, healpy.ang2vec(lon_deg, lat_deg, lonlat=True), np.radians(0.7))] = 0.9
    return p


def szeek(monkeypatch, capsys, *words):
    """Exit code and all that the command line said."""
    monkeypatch.setattr("sys.argv", ["szeek", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    return end.value.code or 0, said.out + said.err


@pytest.mark.parametrize("coordsys", ["G", "C", "E", None])
def test_sources_are_where_the_frame_of_a_p_map_has_them(tmp_path, monkeypatch, capsys, coordsys):
    """Coma at (194.953, 27.981), put down by astropy in each frame; without one: refused, and the way out works."""
    coma = SkyCoord(194.953, 27.981, unit="deg")
    frame = {"G": "galactic", "E": "barycentricmeanecliptic"}.get(coordsys, "icrs")
    where = coma.transform_to(frame).spherical
    path = tmp_path / "p.fits"
    write_prediction(p_map_at(where.lon.deg, where.lat.deg), path)
    with fits.open(path, mode="update") as hdus:
        del hdus[1].header["COORDSYS"]
        if coordsys:
            hdus[1].header["COORDSYS"] = coordsys
    (tmp_path / "coma.csv").write_text("name,ra,dec\nComa,194.953,27.981\n")
    assess = ("assess", "-c", tmp_path / "coma.csv", "--out", tmp_path / "a")
    given, options = path, ()
    if coordsys is None:
        for words in (("detect", path, "--out", tmp_path / "a"), (*assess, path)):
            code, said = szeek(monkeypatch, capsys, *words)
            assert code == 1 and "p.fits' does not say its frame (keyword COORDSYS)" in said
        code, said = szeek(monkeypatch, capsys, "detect", path, "--frame", "icrs", "--out", tmp_path / "b")
        assert code == 0
        given = f"{path}[COORDSYS=C]"
    code, said = szeek(monkeypatch, capsys, "detect", given, *options, "--out", tmp_path / "a")
    assert code == 0, said
    with fits.open(tmp_path / "a" / "candidates.fits") as hdus:
        (found,) = hdus[1].data
    assert SkyCoord(found["RA"], found["DEC"], unit="deg").separation(coma).deg < 0.05
    code, said = szeek(monkeypatch, capsys, *assess, given)
    assert code == 0 and "1 of 1 recovered" in said, said


def test_a_p_map_of_others_with_distances_beside_it(tmp_path):
    """PROB among its companions is p; the marks that the header has are outside the footprint."""
    p = np.linspace(0, 1, N_PIX)
    p[7] = -1.0
    table = several([("PROB", "D", p), ("DISTMU", "D", RING), ("DISTSIGMA", "D", RING)], BAD_DATA=-1.0, COORDSYS="G")
    found = read_prediction(write(tmp_path / "f.fits", table))
    assert np.flatnonzero(np.isnan(found)).tolist() == [7]
    np.testing.assert_allclose(np.delete(found, 7), np.delete(p, 7), rtol=1e-6)
