"""Maps of surveys on their own grids: how they lie in their files, inverse variances, masks, and mistakes."""

from __future__ import annotations

import gzip
import logging
import pickle
import subprocess
import sys
import textwrap

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from szeek.inputs.bandcheck import BandError
from szeek.inputs.surveymaps import read_maps
from szeek.physics.instrument import Instrument
from szeek.sky.mapset import MapSet, open_maps
from szeek.sky.projection import sample_field
from szeek.sky.skymaps import Band, SkyMaps

BANDS = (("100", 100.0, 9.7), ("f090", 97.0, 2.1), ("f150", 149.0, 1.4))
ACT = Instrument(
    "act-like",
    tuple(Band(name, freq, fwhm, "K_CMB") for name, freq, fwhm in BANDS),
    np.array([244.0, 230.0, 400.0]),
    np.array([-4.03, -4.2, -2.6]),
    np.array([1.3, 0.3, 0.3]),
)
#: Where the fields lie, ICRS.
RA_DEG, DEC_DEG = 12.0, -3.0


def make_header(projection="CAR", n=(160, 200), pixel_arcmin=3.0, signs=(-1, 1), unit="uK_CMB"):
    cylinder = projection in ("CAR", "CEA")
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = f"RA---{projection}", f"DEC--{projection}"
    header["CRVAL1"], header["CRVAL2"] = RA_DEG, 0.0 if cylinder else DEC_DEG
    header["CDELT1"], header["CDELT2"] = (sign * pixel_arcmin / 60 for sign in signs)
    header["CRPIX1"], header["CRPIX2"] = n[1] / 2 + 0.5, n[0] / 2 + 0.5
    if cylinder:
        header["CRPIX2"] -= DEC_DEG / header["CDELT2"]
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    header["BUNIT"] = unit
    return header


def sky_of(vectors):
    """A smooth sky in uK_CMB, positive and negative, of Galactic directions."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return 100.0 * np.sin(60 * x + 20 * y) * np.cos(50 * z + 10 * y) + 3.0


def make_image(header, n=(160, 200), scale=1.0):
    row, column = np.mgrid[: n[0], : n[1]]
    world = WCS(header).celestial.wcs_pix2world(column.ravel(), row.ravel(), 0)
    vectors = healpy.ang2vec(*world, lonlat=True) @ np.asarray(healpy.Rotator(coord=["G", "C"]).mat)
    return (scale * sky_of(vectors)).reshape(n).astype(">f4")


def write(path, data, header):
    fits.PrimaryHDU(data, header).writeto(path, overwrite=True)
    return path


def check_sky(maps, scales=(1.0,), atol=0.05):
    """The bands of a field, sampled, are the sky in K_CMB."""
    centre = healpy.Rotator(coord=["C", "G"])(RA_DEG, DEC_DEG, lonlat=True)
    from szeek.sky.projection import field_directions

    directions = field_directions(*centre, 20.0, 24, 24, 5.0)
    sky = sky_of(directions / np.linalg.norm(directions, axis=-1, keepdims=True))
    found = 1e6 * sample_field(maps, *centre, 20.0, 24, 24, 5.0)
    for b, scale in enumerate(scales):
        np.testing.assert_allclose(found[..., b], scale * sky, atol=atol * scale)


@pytest.fixture(scope="module")
def car():
    header = make_header()
    return header, make_image(header)


@pytest.mark.parametrize("signs", [(-1, 1), (1, 1), (-1, -1), (1, -1)])
@pytest.mark.parametrize("projection", ["CAR", "CEA", "SFL", "TAN", "ZEA"])
def test_an_image_is_mapped_from_its_file(tmp_path, projection, signs):
    """With either sign of its pixels; TAN of 0.8 arcmin, finer than what is put on HEALPix."""
    pixel = 0.8 if projection == "TAN" else 3.0
    header = make_header(projection, pixel_arcmin=pixel, signs=signs)
    file = write(tmp_path / "f150.fits", make_image(header), header)
    # in a field of 3 deg this sky is too smooth for a CMB
    maps = read_maps({"f150": file}, ACT, out=tmp_path / "maps", check=projection != "TAN")
    assert isinstance(maps, MapSet) and [band.name for band in maps.bands] == ["f150"]
    (group,) = maps.groups
    assert group.signal[0].file == file.resolve() and not list((tmp_path / "maps").glob("*f150*"))
    if projection == "TAN":
        centre = healpy.Rotator(coord=["C", "G"])(RA_DEG, DEC_DEG, lonlat=True)
        expected = sky_of(healpy.ang2vec(*centre, lonlat=True))
        assert 1e6 * sample_field(maps, *centre, 0.0, 1, 1, 1.0)[0, 0, 0] == pytest.approx(expected, abs=0.05)
    else:
        check_sky(maps)
    assert open_maps(tmp_path / "maps").groups[0].grid == group.grid


@pytest.mark.parametrize(("unit", "scale"), [("uK", 1.0), ("K", 1e-6), ("mK", 1e-3)])
def test_kelvins_of_a_ground_based_survey_are_those_of_the_cmb(tmp_path, unit, scale, caplog):
    """ACT writes BUNIT = 'uK', and its instrument file what that means. In maps of HFI kelvins are refused."""
    header = make_header(unit=unit)
    file = write(tmp_path / "f150.fits", make_image(header, scale=scale), header)
    with caplog.at_level(logging.INFO, "szeek.inputs.mapfiles"):
        check_sky(read_maps({"f150": file}, "act-dr6", out=tmp_path / "maps"))
    assert f"is in '{unit}': thermodynamic temperature ({unit}_CMB) is taken" in caplog.text
    with pytest.raises(ValueError, match=f"f150.fits' is in '{unit}', which is unknown; expected K_CMB at 143"):
        read_maps({"143": file}, "planck-hfi")


def as_gzip(path, image, header):
    write(path, image, header)
    packed = path.with_suffix(".fits.gz")
    packed.write_bytes(gzip.compress(path.read_bytes(), 1))
    return packed


def as_fpack(path, image, header):
    tiles = fits.CompImageHDU(image.astype(np.float32), header, compression_type="GZIP_1", quantize_level=0)
    tiles.writeto(path.with_suffix(".fits.fz"))
    return path.with_suffix(".fits.fz")


def write_scaled(path, stored, header, **cards):
    """Stored values with the cards that scale them: astropy drops those of a header that comes with data."""
    hdu = fits.PrimaryHDU(stored, header)
    hdu.header.update(cards)
    hdu.writeto(path)
    return path


def as_integers(path, image, header):
    stored = np.rint((image - 2.003) / 0.01).astype(">i2")
    stored[0, 0] = -32768
    return write_scaled(path, stored, header, BSCALE=0.01, BZERO=2.003, BLANK=-32768)


def as_scaled_floats(path, image, header):
    return write_scaled(path, image / np.float32(4.0), header, BSCALE=4.0)


def as_transposed(path, image, header):
    swapped = header.copy()
    for key in ("CTYPE", "CRVAL", "CDELT", "CRPIX"):
        swapped[f"{key}1"], swapped[f"{key}2"] = header[f"{key}2"], header[f"{key}1"]
    return write(path, image.T.copy(), swapped)


def as_act_cube(path, image, header):
    """(3, ny, nx) of T, Q and U without a third axis in the WCS, and a word on the sign of U."""
    return write(path, np.stack([image, -image, 0 * image]), fits.Header({**header, "POLCCONV": "IAU"}))


def as_stokes_cube(path, image, header):
    """Q, U, V and I, as -3 .. would not be: CRVAL3 = 4, CDELT3 = -1, so that I is the last plane."""
    cards = {"CTYPE3": "STOKES", "CRVAL3": 4.0, "CDELT3": -1.0, "CRPIX3": 1.0}
    return write(path, np.stack([-image, 2 * image, 0 * image, image]), fits.Header({**header, **cards}))


def as_marked(path, image, header):
    image = image.copy()
    image[0, 3] = healpy.UNSEEN
    return write(path, image, header)


def as_doubles(path, image, header):
    return write(path, image[None].astype(">f8"), header)


@pytest.mark.parametrize(
    ("layout", "mapped"),
    [(as_gzip, False), (as_fpack, False), (as_integers, False), (as_transposed, False), (as_marked, False),
     (as_act_cube, True), (as_stokes_cube, True), (as_doubles, True), (as_scaled_floats, True)],
)  # fmt: skip
@pytest.mark.parametrize("where", ["disk", "memory"])
def test_every_layout_is_the_same_sky(tmp_path, car, layout, mapped, where):
    header, image = car
    file = layout(tmp_path / "f150.fits", image, header)
    maps = read_maps({"f150": file}, ACT, out=tmp_path / "maps" if where == "disk" else None)
    check_sky(maps)
    (part,) = maps.groups[0].signal
    if mapped:
        assert part.file == file.resolve()
    elif where == "disk":
        assert (tmp_path / "maps" / "0-f150.npy").is_file() and part.values.dtype == np.float32
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == (["maps"] if where == "disk" else [])
    corner = maps.groups[0].nearest(maps.groups[0].grid.directions(np.zeros(2), np.array([0.0, 3.0])))[:, 0]
    assert np.isfinite(corner).tolist() == [layout is not as_integers, layout is not as_marked]


def test_temperature_is_taken_and_said(tmp_path, car, caplog):
    file = as_act_cube(tmp_path / "act.fits", car[1], car[0])
    with caplog.at_level(logging.INFO, "szeek.inputs.surveymaps"):
        read_maps({"f150": file}, ACT)
    assert "'act.fits': temperature is taken of 3 Stokes parameters" in caplog.text


def test_cubes_of_anything_else_are_refused(tmp_path, car):
    header, image = car
    cube = np.stack([image] * 3)
    file = write(tmp_path / "cube.fits", cube, fits.Header({**header, "CTYPE3": "FREQ", "CRVAL3": 90e9}))
    with pytest.raises(ValueError, match=r"cube.fits' has 3 x 160 x 200 pixels, axis 3 being FREQ, expected two"):
        read_maps({"f150": file}, ACT)
    with pytest.raises(ValueError, match="has 2 x 160 x 200 pixels, axis 3 being unnamed"):
        read_maps({"f150": write(tmp_path / "two.fits", cube[:2], header)}, ACT)
    polarised = fits.Header({**header, "CTYPE3": "STOKES", "CRVAL3": 2.0, "CDELT3": 1.0, "CRPIX3": 1.0})
    with pytest.raises(ValueError, match=r"has 2 Stokes parameters without I \(CRVAL3 = 2\)"):
        read_maps({"f150": write(tmp_path / "qu.fits", cube[:2], polarised)}, ACT)


def test_headers_that_are_no_sky_are_refused(tmp_path, car):
    header, image = car
    with pytest.raises(ValueError, match=r"'.*a.fits': the projection is SIN, expected one of CAR"):
        read_maps({"f150": write(tmp_path / "a.fits", image, make_header("SIN"))}, ACT)
    with pytest.raises(ValueError, match="is in FK4, equinox 1950"):
        read_maps({"f150": write(tmp_path / "b.fits", image, fits.Header({**header, "RADESYS": "FK4"}))}, ACT)
    silent = header.copy()
    del silent["BUNIT"]
    with pytest.raises(ValueError, match=r"c.fits' does not say its unit .* pass unit='K_CMB'"):
        read_maps({"f150": write(tmp_path / "c.fits", image, silent)}, ACT)
    check_sky(read_maps({"f150": tmp_path / "c.fits"}, ACT, unit="uK_CMB"))
    with pytest.raises(ValueError, match="unknown band f220; act-like has the bands 100, f090, f150"):
        read_maps({"f220": tmp_path / "c.fits"}, ACT)
    with pytest.raises(ValueError, match="no file for 100, f090, f150"):
        read_maps({}, ACT)
    (tmp_path / "d.fits").write_bytes((tmp_path / "c.fits").read_bytes()[:50_000])
    with pytest.raises(OSError, match=r"d.fits' is truncated: its image needs \d+ bytes"):
        read_maps({"f150": tmp_path / "d.fits"}, ACT)
    packed = as_gzip(tmp_path / "e.fits", image, header)
    packed.write_bytes(packed.read_bytes()[:50_000])
    with pytest.raises(OSError, match=r"e.fits.gz. is (truncated|not a readable FITS file)"):
        read_maps({"f150": packed}, ACT)


# --- several grids --------------------------------------------------------------------------------------------


def write_healpix(path, nside, scale=1.0, hole=None):
    values = scale * sky_of(np.stack(healpy.pix2vec(nside, np.arange(12 * nside**2)), axis=1))
    if hole is not None:
        values[hole] = healpy.UNSEEN
    healpy.write_map(path, values, coord="G", column_units="uK_CMB", dtype=np.float32, overwrite=True)
    return path


@pytest.mark.parametrize("out", [True, False])
def test_bands_that_share_a_grid_are_a_group(tmp_path, car, out):
    header, image = car
    other = make_header(pixel_arcmin=2.0)
    files = {
        "f090": write(tmp_path / "f090.fits", image, header),
        "100": write_healpix(tmp_path / "100.fits", 256, 3.0),
        "f150": write(tmp_path / "f150.fits", 2 * image, header),
    }
    with pytest.raises(BandError, match=r"CMB at 100 is 1.5 of the others"):
        read_maps(files, ACT)
    maps = read_maps(files, ACT, out=tmp_path / "maps" if out else None, check=False)
    assert [[band.name for band in group.bands] for group in maps.groups] == [["100"], ["f090", "f150"]]
    check_sky(maps, (3.0, 1.0, 2.0), atol=1.0)  # bilinear interpolation of 14 arcmin
    write(files["f150"], 2 * make_image(other), other)
    assert len(read_maps(files, ACT, check=False).groups) == 3
    # two HEALPix maps of other resolutions
    files = {"100": files["100"], "f090": write_healpix(tmp_path / "h.fits", 128)}
    assert [group.nside for group in read_maps(files, ACT).groups] == [256, 128]


def test_all_bands_on_one_healpix_grid_stay_one_sky(tmp_path):
    files = {name: write_healpix(tmp_path / f"{name}.fits", 32) for name in ACT.band_names}
    maps = read_maps(files, ACT, check=False)
    assert isinstance(maps, SkyMaps) and maps.footprint.all()
    with pytest.raises(ValueError, match="no file for f150; act-like has"):
        read_maps({name: files[name] for name in ("100", "f090")}, ACT)


@pytest.mark.skipif(sys.platform != "linux", reason="counts peak memory in kB")
def test_a_part_of_the_sky_at_nside_8192_takes_the_memory_of_its_own_pixels(tmp_path):
    """Equatorial, a list of pixels, with inverse variance and mask: a map of the whole sky would take 3.2 GB."""
    nside = 8192
    pixels = healpy.query_disc(nside, healpy.ang2vec(RA_DEG, DEC_DEG, lonlat=True), np.radians(2.0))
    matrix = np.asarray(healpy.Rotator(coord=["C", "G"]).mat)
    sky = sky_of(np.stack(healpy.pix2vec(nside, pixels), axis=1) @ matrix.T)
    for name, values, unit in (("map", sky, "uK_CMB"), ("ivar", np.full(len(pixels), 0.04), "uK^-2")):
        columns = [fits.Column("PIXEL", "K", array=pixels), fits.Column("SIGNAL", "E", unit=unit, array=values)]
        table = fits.BinTableHDU.from_columns(columns)
        table.header.update({"PIXTYPE": "HEALPIX", "ORDERING": "RING", "COORDSYS": "C", "NSIDE": nside})
        table.header.update({"INDXSCHM": "EXPLICIT", "OBJECT": "PARTIAL"})
        table.writeto(tmp_path / f"{name}.fits")
    keep = healpy.pix2ang(64, np.arange(12 * 64**2), lonlat=True)[1] < -65.0  # Galactic; the disc is at -65.7
    np.save(tmp_path / "keep.npy", keep)
    code = """
        import resource, sys
        import numpy as np
        from szeek.inputs.surveymaps import read_maps

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

        folder, before = sys.argv[1], peak()
        read_maps(
            {"f150": f"{folder}/map.fits"}, "act-dr6", ivar={"f150": f"{folder}/ivar.fits"},
            masks=[np.load(f"{folder}/keep.npy")], out=f"{folder}/maps", check=False,
        )
        print(peak() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1_000_000  # kB
    maps = MapSet.open(tmp_path / "maps")
    (group,) = maps.groups
    assert maps.nside == nside and isinstance(group, SkyMaps)
    assert sum(file.stat().st_blocks * 512 for file in (tmp_path / "maps").rglob("*")) < 200e6
    centre = matrix @ healpy.ang2vec(RA_DEG, DEC_DEG, lonlat=True)
    around = healpy.query_disc(nside, centre, np.radians(1.9))
    vectors = np.stack(healpy.pix2vec(nside, around), axis=1)
    kept = keep[healpy.vec2pix(64, *vectors.T)]
    assert 0.1 < kept.mean() < 0.9
    np.testing.assert_array_equal(group.footprint[around], kept)
    np.testing.assert_allclose(1e6 * group.values[around[kept], 0], sky_of(vectors[kept]), atol=0.01)
    np.testing.assert_allclose(group.ivar[0][around[kept]], 0.04e12, rtol=1e-6)
    coverage = healpy.nside2pixarea(256, degrees=True) * maps.seen.sum()
    assert coverage < np.pi * 2.5**2


def test_groups_of_other_skies_are_refused(tmp_path, car):
    header, image = car
    far = fits.Header({**header, "CRVAL1": 150.0})
    files = {"f090": write(tmp_path / "a.fits", image, header), "f150": write(tmp_path / "b.fits", image, far)}
    with pytest.raises(ValueError, match="f090 overlap with none of the other bands"):
        read_maps(files, ACT)
    with pytest.raises(ValueError, match="nside is given for maps that stay on their own grids"):
        read_maps(files, ACT, nside=512)


def test_tiles_are_put_together(tmp_path, car):
    """Four tiles, one of which is missing, are the image with a hole; others than of one pixelisation are refused."""
    header, image = car
    for top, left in ((0, 0), (0, 90), (70, 90)):
        part = image[top : top + 70, left:] if left else image[:70, :90]
        part = image[70:, 90:] if top else part
        cards = fits.Header({**header, "CRPIX1": header["CRPIX1"] - left, "CRPIX2": header["CRPIX2"] - top})
        write(tmp_path / f"tile_{top}_{left}.fits", part, cards)
    maps = read_maps({"f150": tmp_path / "tile_*.fits"}, ACT, out=tmp_path / "maps", check=False)
    (group,) = maps.groups
    assert group.grid.shape == image.shape
    at = group.grid.directions(np.array([20.0, 20, 100, 100]), np.array([20.0, 120, 120, 20]))
    found = group.nearest(at)[:, 0]
    expected = 1e-6 * image[[20, 20, 100], [20, 120, 120]]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-6)
    assert np.isnan(found[3])
    moved = fits.Header({**header, "CRPIX1": header["CRPIX1"] + 0.3})
    write(tmp_path / "tile_x.fits", image, moved)
    with pytest.raises(ValueError, match=r"tile_x.fits' is no tile of the pixelisation and unit of '.*tile_0_0"):
        read_maps({"f150": tmp_path / "tile_*.fits"}, ACT)
    with pytest.raises(FileNotFoundError, match=r"no file fits '.*none_\*.fits'"):
        read_maps({"f150": tmp_path / "none_*.fits"}, ACT)


# --- inverse variance --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "stored"), [(None, 0.04), ("uK^-2", 0.04), ("1/uK_CMB^2", 0.04), ("(uK)^-2", 0.04), ("K**-2", 4e10),
                         ("K_CMB-2", 4e10)]
)  # fmt: skip
def test_inverse_variance_in_any_unit(tmp_path, car, unit, stored, caplog):
    """5 uK in a pixel is 0.04 uK^-2 is 4e10 K^-2."""
    header, image = car
    file = write(tmp_path / "f150.fits", image, header)
    cards = header.copy()
    del cards["BUNIT"]
    cards.update({} if unit is None else {"BUNIT": unit})
    weight = write(tmp_path / "ivar.fits", np.full(image.shape, stored, ">f4"), cards)
    with caplog.at_level(logging.INFO, "szeek.inputs.surveymaps"):
        maps = read_maps({"f150": file}, ACT, ivar={"f150": weight}, out=tmp_path / "maps")
    assert ("states no unit: the inverse square of its map's, uK_CMB" in caplog.text) == (unit is None)
    at = maps.groups[0].grid.directions(np.array([80.0]), np.array([90.0]))
    assert maps.groups[0].sample_ivar(at)[0, 0] == pytest.approx(4e10, rel=1e-6)
    assert maps.groups[0].ivar[0].file == weight.resolve()


def test_inverse_variances_that_cannot_be_are_refused(tmp_path, car):
    header, image = car
    file = write(tmp_path / "f150.fits", image, header)
    good = np.full(image.shape, 0.04, ">f4")
    cards = fits.Header({**header, "BUNIT": "uK^-2"})
    with pytest.raises(ValueError, match=r"other.fits' has 160 x 199 pixels of 3 arcmin in CAR"):
        read_maps({"f150": file}, ACT, ivar={"f150": write(tmp_path / "other.fits", good[:, :-1], cards)})
    moved = fits.Header({**cards, "CRPIX1": header["CRPIX1"] + 1})
    with pytest.raises(ValueError, match=r"CRPIX \(101.5, .*expected the pixels of its map '.*f150.fits', 160 x 200"):
        read_maps({"f150": file}, ACT, ivar={"f150": write(tmp_path / "moved.fits", good, moved)})
    negative = good.copy()
    negative[7, 7] = -0.5
    with pytest.raises(ValueError, match=r"negative.fits' of f150 goes down to -0\.5, expected 0 where"):
        read_maps({"f150": file}, ACT, ivar={"f150": write(tmp_path / "negative.fits", negative, cards)})
    with pytest.raises(ValueError, match=r"is in 'uK_CMB', expected an inverse square such as uK.-2"):
        read_maps({"f150": file}, ACT, ivar={"f150": write(tmp_path / "unit.fits", good, header)})
    with pytest.raises(ValueError, match="ivar names the band f090, of which no map is given"):
        read_maps({"f150": file}, ACT, ivar={"f090": file})
    with pytest.raises(ValueError, match=r"100.fits' has HEALPix pixels of nside 64, expected the pixels of its map"):
        read_maps({"f150": file}, ACT, ivar={"f150": write_healpix(tmp_path / "100.fits", 64)})


def write_healpix_ivar(path, values, nest=False, unit="uK^-2", name="IVAR"):
    healpy.write_map(path, values, nest, coord="G", column_names=[name], column_units=unit, dtype=np.float32,
                     overwrite=True)  # fmt: skip
    return path


@pytest.mark.parametrize("nest", [False, True])
@pytest.mark.parametrize(("nside", "stored"), [(64, 0.04), (32, 0.16), (128, 0.01)])
def test_inverse_variance_of_healpix_maps(tmp_path, nside, stored, nest):
    """5 uK in a pixel of nside 64 is 0.04 uK^-2; four such pixels together have four times that."""
    values = np.full(12 * nside**2, stored)
    hole = healpy.query_disc(64, healpy.ang2vec(30.0, 40.0, lonlat=True), np.radians(20))
    fine = healpy.nest2ring(nside, np.arange(len(values))) if nest else np.arange(len(values))
    far = healpy.query_disc(nside, healpy.ang2vec(30.0, 40.0, lonlat=True), np.radians(25), inclusive=True)
    values[np.isin(fine, far)] = 0.0
    weight = write_healpix_ivar(tmp_path / "ivar.fits", values, nest)
    given = {"100": write_healpix(tmp_path / "100.fits", 64)}
    written = read_maps(given, ACT, ivar={"100": weight}, out=tmp_path / "maps", check=False)
    kept = read_maps(given, ACT, ivar={"100": weight}, check=False)
    for maps in (kept, written, open_maps(tmp_path / "maps"), pickle.loads(pickle.dumps(written))):
        assert isinstance(maps, MapSet)
        (group,) = maps.groups
        ivar = group.ivar[0]
        assert not group.footprint[hole].any() and not group.values[~group.footprint].any()
        np.testing.assert_array_equal(group.footprint, ivar > 0)
        outside = healpy.query_disc(64, -healpy.ang2vec(30.0, 40.0, lonlat=True), np.radians(150))
        np.testing.assert_allclose(ivar[outside], 4e10, rtol=1e-6)


def test_inverse_variances_of_healpix_maps_that_cannot_be_are_refused(tmp_path, car):
    header, image = car
    maps, good = {"100": write_healpix(tmp_path / "100.fits", 64)}, np.full(12 * 64**2, 0.04)
    with pytest.raises(ValueError, match=r"image.fits' has 160 x 200 pixels .*expected HEALPix pixels as its map"):
        read_maps(maps, ACT, ivar={"100": write(tmp_path / "image.fits", image, header)})
    negative = good.copy()
    negative[7] = -0.5
    with pytest.raises(ValueError, match=r"negative.fits' of 100 goes down to -0\.5, expected 0 where"):
        read_maps(maps, ACT, ivar={"100": write_healpix_ivar(tmp_path / "negative.fits", negative)})
    with pytest.raises(ValueError, match=r"is in 'uK_CMB', expected an inverse square such as uK.-2"):
        read_maps(maps, ACT, ivar={"100": write_healpix_ivar(tmp_path / "unit.fits", good, unit="uK_CMB")})
    weight = write_healpix_ivar(tmp_path / "weight.fits", good, unit="uK_CMB", name="TEMPERATURE")
    sky = write_healpix_ivar(tmp_path / "sky.fits", np.where(np.arange(len(good)) % 2, 50.0, -50.0))
    with pytest.raises(ValueError, match=r"'weight.fits' and 'sky.fits' are exchanged: the map of 100 is nowhere"):
        read_maps({"100": weight}, ACT, ivar={"100": sky})
    several = tmp_path / "several.fits"
    healpy.write_map(several, [good, good], coord="G", column_names=["HITS", "II_COV"], dtype=np.float32)
    with pytest.raises(ValueError, match=r"several.fits' has .*name one in brackets"):
        read_maps(maps, ACT, ivar={"100": several})


def test_a_map_exchanged_with_its_inverse_variance_is_named(tmp_path, car):
    header, image = car
    silent = header.copy()
    del silent["BUNIT"]
    sky = write(tmp_path / "sky.fits", image, silent)
    weight = write(tmp_path / "weight.fits", np.full(image.shape, 0.04, ">f4"), silent)
    with pytest.raises(ValueError, match=r"'weight.fits' and 'sky.fits' are exchanged: the map of f150 is nowhere"):
        read_maps({"f150": weight}, ACT, ivar={"f150": sky}, unit="uK_CMB")
    with pytest.raises(BandError, match=r"weight.fits', given as the map of f150, is nowhere negative and 4e-08 K"):
        read_maps({"f150": weight}, ACT, unit="uK_CMB")
    read_maps({"f150": weight}, ACT, unit="uK_CMB", check=False)
    # a dipole of 2 mK leaves a map nowhere negative, and is none
    read_maps({"f150": write(sky, image + 2000.0, silent)}, ACT, unit="uK_CMB")


# --- masks ------------------------------------------------------------------------------------------------------


def test_masks_cut_every_group(tmp_path, car):
    """A HEALPix mask, an array of another resolution, and an image: the sky that all of them leave, on every grid."""
    header, image = car
    files = {"f150": write(tmp_path / "f150.fits", image, header), "100": write_healpix(tmp_path / "100.fits", 256)}
    nside = 128
    centre = healpy.ang2vec(*healpy.Rotator(coord=["C", "G"])(RA_DEG, DEC_DEG, lonlat=True), lonlat=True)
    disc = np.zeros(12 * nside**2)
    disc[healpy.query_disc(nside, centre, np.radians(3.0))] = 1
    healpy.write_map(tmp_path / "disc.fits", disc, coord="G", dtype=np.uint8)
    half = np.ones(image.shape, np.uint8)
    half[:, 100:] = 0  # west of the middle
    picture = write(tmp_path / "half.fits", half, make_header(unit=""))
    maps = read_maps(files, ACT, masks=[tmp_path / "disc.fits", picture, np.ones(12 * 64**2, bool)])
    healpix, images = maps.groups
    at = images.grid.directions(np.array([80.0, 80.0, 80.0]), np.array([70.0, 120.0, 5.0]))
    assert np.isfinite(images.nearest(at))[:, 0].tolist() == [True, False, False]  # kept; west; beyond the disc
    ipix = healpy.vec2pix(256, *at.T)
    assert healpix.footprint[ipix].tolist() == [True, False, False]
    # half of a disc of 3 deg, less what lies beyond the image: none
    area = healpix.footprint.sum() * healpy.nside2pixarea(256, degrees=True)
    assert area == pytest.approx(np.pi * 9 / 2, rel=0.05)
    assert images.keep.sum() * 0.05**2 == pytest.approx(np.pi * 9 / 2, rel=0.05)
    with pytest.raises(ValueError, match=r"no pixel of 100 is observed|the mask is False wherever"):
        read_maps(files, ACT, masks=[np.zeros(12, bool)])


# --- maps in memory ----------------------------------------------------------------------------------------------


class Ndmap(np.ndarray):
    """What of pixell's ndmap is used: an array with a WCS."""

    wcs: WCS


def make_ndmap(array, header):
    ndmap = np.asarray(array, np.float32).view(Ndmap)
    ndmap.wcs = WCS(header)
    return ndmap


class Sparse:
    """What of healsparse's maps is used."""

    def __init__(self, nside, pixels, values):
        self.nside_sparse, self.valid_pixels, self._values = nside, pixels, dict(zip(pixels, values, strict=True))

    def get_values_pix(self, pixels):
        return np.array([self._values[pixel] for pixel in pixels])


def test_maps_in_memory(tmp_path, car):
    header, image = car
    maps = read_maps({"f150": make_ndmap(np.stack([image] * 3), header)}, ACT, unit="uK_CMB", out=tmp_path / "maps")
    check_sky(maps)
    assert (tmp_path / "maps" / "0-f150.npy").is_file()
    # healsparse says no frame: Galactic is stated, and so it is for the image beside it
    lonlat = healpy.Rotator(coord=["C", "G"])(RA_DEG, DEC_DEG, lonlat=True)
    gal = make_header("ZEA")
    gal["CRVAL1"], gal["CRVAL2"], gal["CTYPE1"], gal["CTYPE2"] = *lonlat, "GLON-ZEA", "GLAT-ZEA"
    row, column = np.mgrid[:160, :200]
    world = WCS(gal).wcs_pix2world(column.ravel(), row.ravel(), 0)
    galactic = sky_of(healpy.ang2vec(*world, lonlat=True)).reshape(160, 200)
    nside, centre = 512, healpy.ang2vec(*lonlat, lonlat=True)
    pixels = healpy.query_disc(nside, centre, np.radians(4), nest=True)
    sparse = Sparse(nside, pixels, sky_of(np.stack(healpy.pix2vec(nside, pixels, nest=True), axis=1)))
    both = read_maps({"f150": make_ndmap(galactic, gal), "100": sparse}, ACT, unit="uK_CMB", frame="galactic")
    check_sky(both, (1.0, 1.0), atol=0.3)
    with pytest.raises(ValueError, match="'100' does not say its frame"):
        read_maps({"100": sparse, "f150": make_ndmap(image, header)}, ACT, unit="uK_CMB")
    with pytest.raises(ValueError, match=r"the map of f150 has the shape .2, 160, 200., expected"):
        read_maps({"f150": make_ndmap(np.stack([image] * 2), header)}, ACT)
    with pytest.raises(TypeError, match="the map of f150 is a list, expected a file's name, an ndmap"):
        read_maps({"f150": [1, 2]}, ACT)
