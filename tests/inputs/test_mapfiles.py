"""Map files: every layout that Planck publishes, cut-outs, units, frames, the dipole, and exchanged bands."""

from __future__ import annotations

import gzip
import logging
import shutil
from itertools import combinations

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from planck_like import HFI, as_skymaps, planck_like_sky, write_planck_map, write_planck_set

from szeek.inputs.bandcheck import BandError, check_bands, measure_bands
from szeek.inputs.healpix_files import describe_healpix
from szeek.inputs.mapfiles import dipole_amplitude, read_skymaps
from szeek.sky.skymaps import SkyMaps

NSIDE = 64


@pytest.fixture(scope="module")
def values():
    return planck_like_sky(NSIDE)[0]


@pytest.fixture(scope="module")
def pr3(values, tmp_path_factory):
    return write_planck_set(tmp_path_factory.mktemp("pr3"), values)


def test_pr3_layout_is_read_exactly(pr3, values):
    """Ten and three columns, one pixel a row, NESTED, 'Kcmb': the same numbers in RING, and what healpy reads."""
    maps = read_skymaps(pr3)
    assert maps.nside == NSIDE and maps.footprint.all() and maps.bands == HFI.bands
    np.testing.assert_array_equal(maps.values, values)
    np.testing.assert_array_equal(maps.values[:, 2], healpy.read_map(pr3["217"], field=0))


def test_pr4_layout(values, tmp_path):
    """PR4 (NPIPE): 1024 pixels a row, IQU, and 545 and 857 GHz in K_CMB too."""
    kelvin = (values / HFI.unit_per_kcmb).astype(np.float32)
    files = write_planck_set(
        tmp_path, kelvin, unit="K_CMB", columns=("I_STOKES", "Q_STOKES", "U_STOKES"), per_row=1024, ordering="NESTED"
    )
    np.testing.assert_allclose(read_skymaps(files).values, values, rtol=3e-7)


def test_healpy_layout_and_gzip(values, tmp_path):
    """What healpy.write_map makes: RING, TEMPERATURE, 1024 a row; gzipped."""
    files = {}
    for b, band in enumerate(HFI.bands):
        path = tmp_path / f"{band.name}.fits"
        healpy.write_map(path, values[:, b], coord="G", column_units=band.unit, dtype=np.float32)
        files[band.name] = tmp_path / f"{band.name}.fits.gz"
        with path.open("rb") as plain, gzip.open(files[band.name], "wb", compresslevel=1) as packed:
            shutil.copyfileobj(plain, packed)
    np.testing.assert_array_equal(read_skymaps(files).values, values)


@pytest.mark.parametrize(
    ("unit", "scale"),
    [
        ("uK_CMB", 1e6),
        ("muK_CMB", 1e6),
        ("mK_CMB", 1e3),
        ("MJy/sr", None),
    ],
)
def test_units_are_converted(values, tmp_path, unit, scale):
    """By hand at 143 GHz: 1 K_CMB = 1e6 uK_CMB = 371.74 MJy/sr."""
    factor = HFI.mjysr_per_kcmb if scale is None else np.full(6, scale)
    files = write_planck_set(tmp_path, (values / HFI.unit_per_kcmb * factor).astype(np.float32), unit=unit)
    np.testing.assert_allclose(read_skymaps(files).values, values, rtol=5e-7)
    if unit == "uK_CMB":  # micro sign and Greek mu, which a FITS header cannot hold
        for mu in ("\u00b5", "\u03bc"):
            np.testing.assert_allclose(read_skymaps(files, unit=f"{mu}K_CMB").values, values, rtol=5e-7)


def test_unit_and_frame_arguments_overrule_and_fill_in(values, tmp_path):
    files = write_planck_set(tmp_path, values, unit=None, coordsys=None)
    with pytest.raises(ValueError, match=r"HFI_100.fits' does not say its unit .* expected K_CMB; pass unit='K_CMB'"):
        read_skymaps(files)
    units = {band.name: band.unit for band in HFI.bands}
    with pytest.raises(
        ValueError, match=r"HFI_100.fits' does not say its frame \(keyword COORDSYS\); pass frame='gal"
    ):
        read_skymaps(files, unit=units)
    np.testing.assert_array_equal(read_skymaps(files, unit=units, frame="galactic").values, values)
    with pytest.raises(ValueError, match="frame='Galactic' is unknown, expected one of galactic, icrs, ecliptic"):
        read_skymaps(files, unit=units, frame="Galactic")


def test_ordering_is_never_assumed(values, tmp_path):
    files = write_planck_set(tmp_path, values, ordering=None)
    with pytest.raises(ValueError, match=r"does not say its ordering \(keyword ORDERING\); pass ordering='RING' or"):
        read_skymaps(files)
    np.testing.assert_array_equal(read_skymaps(files, ordering="RING").values, values)


def test_mixed_orderings_and_row_lengths(values, tmp_path):
    files = write_planck_set(tmp_path, values)
    write_planck_map(files["353"], values[:, 3], "K_CMB", ordering="RING", per_row=1024)
    write_planck_map(files["100"], values[:, 0], "K_CMB", columns=("TEMPERATURE",), per_row=256)
    np.testing.assert_array_equal(read_skymaps(files).values, values)


@pytest.mark.parametrize("coordsys", ["C", "ECLIPTIC"])
def test_rotated_maps(tmp_path, coordsys):
    """A smooth sky (l <= 6), rotated exactly through its a_lm, comes back to what bilinear interpolation allows.

    That is l(l+1) h^2 / 8 = 3.2e-3 of the sky along a ring (l = 6, pixels h = 90 deg / nside = 1.41 deg apart), and
    less than that again across rings.
    """
    np.random.seed(4)  # noqa: NPY002
    alm = healpy.synalm(np.ones(7), 6)
    sky = healpy.alm2map(alm, NSIDE)
    frame = {"C": "C", "ECLIPTIC": "E"}[coordsys]
    rotated = healpy.alm2map(healpy.Rotator(coord=["G", frame]).rotate_alm(alm), NSIDE)
    files = write_planck_set(tmp_path, np.repeat(rotated[:, None], 6, 1), coordsys=coordsys, unit="K_CMB")
    maps = read_skymaps(files, check=False)
    assert maps.footprint.all()
    assert np.abs(maps.values[:, 0] - sky).max() < 6.4e-3 * np.abs(sky).max()


@pytest.mark.parametrize("place", [(50.0, 30.0, 4.0), (0.0, 90.0, 2.0), (122.9, 27.1, 1.0), (0.0, 0.0, 180.0)])
def test_a_rotated_part_of_the_sky_is_that_of_the_whole(tmp_path, place):
    """Bit for bit what healpy interpolates on a map that is NaN elsewhere: at poles, in a small disc, everywhere."""
    nside = 256
    lon_deg, lat_deg, radius_deg = place
    seen = healpy.query_disc(nside, healpy.ang2vec(lon_deg, lat_deg, lonlat=True), np.radians(radius_deg))
    source = np.full(12 * nside**2, healpy.UNSEEN, np.float32)
    source[seen] = np.random.default_rng(0).standard_normal(len(seen))
    healpy.write_map(tmp_path / "a.fits", source, partial=True, coord="C", dtype=np.float32)
    source[source == np.float32(healpy.UNSEEN)] = np.nan
    angles = healpy.Rotator(coord=["G", "C"])(*healpy.pix2ang(nside, np.arange(len(source))))
    expected = healpy.get_interp_val(source, *angles).astype(np.float32)
    assert np.isfinite(expected).any()
    np.testing.assert_array_equal(describe_healpix(tmp_path / "a.fits").read_ring(), expected)


def test_bad_pixels_leave_the_footprint(values, tmp_path):
    """UNSEEN at 100, NaN at 217, Inf at 857: all bands are 0 there and only there."""
    bad = values.copy()
    bad[100:200, 0], bad[5000, 2], bad[40000:40010, 5] = healpy.UNSEEN, np.nan, np.inf
    maps = read_skymaps(write_planck_set(tmp_path, bad))
    expected = np.ones(len(values), bool)
    expected[100:200] = expected[5000] = expected[40000:40010] = False
    np.testing.assert_array_equal(maps.footprint, expected)
    assert not maps.values[~expected].any()
    np.testing.assert_array_equal(maps.values[expected], values[expected])


def test_partial_sky_file(values, tmp_path):
    files = write_planck_set(tmp_path, values)
    part = values[:, 1].copy()
    part[: len(part) // 2] = healpy.UNSEEN
    healpy.write_map(
        files["143"], part, partial=True, coord="G", column_units="K_CMB", dtype=np.float32, overwrite=True
    )
    maps = read_skymaps(files)
    assert maps.footprint.sum() == len(part) - len(part) // 2
    np.testing.assert_array_equal(maps.values[maps.footprint], values[maps.footprint])


@pytest.mark.parametrize("nside", [16, NSIDE, 128])
def test_masked_sky_is_as_if_never_observed(pr3, values, tmp_path, nside):
    """By a mask of any resolution, and whether the maps lie on disk or in memory."""
    keep = np.abs(healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)[1]) > 30
    lat = np.abs(healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), lonlat=True)[1])
    maps = read_skymaps(pr3, mask=keep)
    assert maps.footprint[lat > 34].all() and not maps.footprint[lat < 26].any()
    np.testing.assert_array_equal(maps.values, np.where(maps.footprint[:, None], values, 0))
    saved = read_skymaps(pr3, mask=keep, out=tmp_path / "maps")
    np.testing.assert_array_equal(saved.footprint, maps.footprint)
    np.testing.assert_array_equal(saved.values, maps.values)
    with pytest.raises(ValueError, match="the mask is False wherever the maps are observed"):
        read_skymaps(pr3, mask=np.zeros(12, bool), out=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_out_folder_is_memory_mapped_and_replaced_whole(pr3, values, tmp_path):
    maps = read_skymaps(pr3, out=tmp_path / "maps")
    assert (tmp_path / "maps").stat().st_mode & 0o055 == 0o055  # others may read it
    assert isinstance(maps.values, np.memmap)
    np.testing.assert_array_equal(maps.values, values)
    again = read_skymaps(pr3, out=tmp_path / "maps")
    np.testing.assert_array_equal(again.values, values)
    assert [p.name for p in tmp_path.iterdir()] == ["maps"]
    assert SkyMaps.open(tmp_path / "maps").footprint.all()


# --- cut-outs ---------------------------------------------------------------------------------------------


def smooth_kelvin(lon_deg, lat_deg):
    """A known smooth function on the sphere with structure of 3 deg, K_CMB."""
    x, y, z = healpy.ang2vec(lon_deg, lat_deg, lonlat=True).T
    return 1e-4 * np.sin(100 * x + 50 * y) * np.cos(90 * z + 20 * y)


def write_cutouts(
    folder, *, cdelt=(-1, 1), ctype=("GLON-TAN", "GLAT-TAN"), centre=(30.0, 5.0), unit="K_CMB", n=160, **cards
):
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = ctype
    header["CRVAL1"], header["CRVAL2"] = centre
    pixel = 3.4355 / 60
    header["CDELT1"], header["CDELT2"] = cdelt[0] * pixel, cdelt[1] * pixel
    header["CRPIX1"], header["CRPIX2"] = n / 2 + 0.5, n / 2 + 0.5
    header["CUNIT1"] = header["CUNIT2"] = "deg"
    if unit:
        header["BUNIT"] = unit
    header.update(cards)
    x, y = np.meshgrid(np.arange(n), np.arange(n))
    world = WCS(header).wcs_pix2world(x.ravel(), y.ravel(), 0)
    if ctype[0].startswith("RA"):
        world = healpy.Rotator(coord=["C", "G"])(*world, lonlat=True)
    image = smooth_kelvin(*world).reshape(n, n).astype(np.float32)
    files = {}
    for band in HFI.bands:
        files[band.name] = folder / f"{band.name}.fits"
        fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image, header)]).writeto(files[band.name], overwrite=True)
    return files


@pytest.mark.parametrize("east", [-1, 1])
@pytest.mark.parametrize("ctype", [("GLON-TAN", "GLAT-TAN"), ("RA---TAN", "DEC--TAN")])
@pytest.mark.parametrize("centre", [(30.0, 5.0), (0.2, 88.0)])
def test_cutouts_of_either_sign_and_frame(tmp_path, east, ctype, centre):
    """Cubic spline of a known function: right to 1 % of its amplitude at every HEALPix centre inside."""
    cards = {"EQUINOX": 2000.0} if ctype[0].startswith("RA") else {}
    files = write_cutouts(tmp_path, cdelt=(east, 1), ctype=ctype, centre=centre, **cards)
    maps = read_skymaps(files, check=False)
    assert maps.nside == 1024  # 3.4355 arcmin
    ipix = np.flatnonzero(maps.footprint)
    # 160 pixels less two at each edge, of the HEALPix pixels' area; gnomonic pixels shrink outward
    assert abs(len(ipix) - 155**2) < 0.01 * 155**2
    expected = smooth_kelvin(*healpy.pix2ang(1024, ipix, lonlat=True))
    assert np.abs(maps.values[ipix, 0] - expected).max() < 1e-6
    np.testing.assert_allclose(maps.values[ipix, 5], expected * HFI.unit_per_kcmb[5], atol=1e-6 * 2.27)
    assert not maps.values[~maps.footprint].any()


def test_cutout_with_a_hole_and_nside_asked_for(tmp_path):
    files = write_cutouts(tmp_path)
    with fits.open(files["217"], mode="update") as hdus:
        hdus[1].data[70:90, 70:90] = np.nan
    maps = read_skymaps(files, check=False, nside=512)
    assert maps.nside == 512
    inside = maps.footprint[healpy.query_disc(512, healpy.ang2vec(30.0, 5.0, lonlat=True), np.radians(0.5))]
    assert not inside.any()
    ipix = np.flatnonzero(maps.footprint)
    assert np.abs(maps.values[ipix, 2] - smooth_kelvin(*healpy.pix2ang(512, ipix, lonlat=True))).max() < 2e-6


def test_cutouts_that_do_not_say(tmp_path):
    with pytest.raises(ValueError, match=r"'.*100.fits' does not say its unit \(TUNIT or BUNIT\), expected K_CMB"):
        read_skymaps(write_cutouts(tmp_path, unit=None))
    files = write_cutouts(tmp_path, ctype=("RA---SIN", "DEC--SIN"))
    with pytest.raises(ValueError, match=r"has the axes RA---SIN, DEC--SIN, expected a tangential projection"):
        read_skymaps(files)
    files = write_cutouts(tmp_path, ctype=("RA---TAN", "DEC--TAN"), RADESYS="FK4", EQUINOX=1950.0)
    with pytest.raises(ValueError, match=r"is in FK4, equinox 1950\.0, expected ICRS or FK5 J2000"):
        read_skymaps(files)
    files = write_cutouts(tmp_path, ctype=("SLON-TAN", "SLAT-TAN"))
    with pytest.raises(ValueError, match="does not say its frame"):
        read_skymaps(files)
    with pytest.raises(ValueError, match="nside is 100, expected a power of two"):
        read_skymaps(write_cutouts(tmp_path), nside=100)


def rotated(angle_deg):
    """CDELT and PC of a rotation as one matrix, the other way that headers have it."""
    c, s, pixel = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg)), 3.4355 / 60
    return {"CD1_1": -pixel * c, "CD1_2": pixel * s, "CD2_1": pixel * s, "CD2_2": pixel * c}


@pytest.mark.parametrize(
    "cards",
    [{"CROTA2": 30.0}, rotated(-20.0), {"PC1_1": 0.8, "PC1_2": -0.6, "PC2_1": 0.6, "PC2_2": 0.8}],
    ids=["CROTA2", "CD", "PC"],
)
def test_cutouts_turned_in_every_way_that_headers_say_it(tmp_path, cards):
    """No RADESYS and no EQUINOX: ICRS, says the standard."""
    files = write_cutouts(tmp_path, ctype=("RA---TAN", "DEC--TAN"), centre=(266.0, -29.0), **cards)
    if "CD1_1" in cards:
        for path in files.values():
            with fits.open(path, mode="update") as hdus:
                del hdus[1].header["CDELT1"], hdus[1].header["CDELT2"]
    check_against_the_function(files)


def check_against_the_function(files):
    maps = read_skymaps(files, check=False)
    ipix = np.flatnonzero(maps.footprint)
    assert abs(len(ipix) - 155**2) < 0.01 * 155**2
    assert np.abs(maps.values[ipix, 0] - smooth_kelvin(*healpy.pix2ang(1024, ipix, lonlat=True))).max() < 1e-6


def test_cutouts_with_axes_of_one_pixel_and_latitude_first(tmp_path):
    """Frequency and Stokes axes, as interferometers write them; and an image whose first axis is latitude."""
    files = write_cutouts(tmp_path)
    with fits.open(files["100"]) as hdus:
        header, image = hdus[1].header, hdus[1].data
    cube = header.copy()
    cube["CTYPE3"], cube["CTYPE4"], cube["CRVAL3"], cube["CDELT3"] = "FREQ", "STOKES", 143e9, 1e9
    fits.PrimaryHDU(image[None, None], cube).writeto(files["143"], overwrite=True)
    swapped = header.copy()
    for keyword in ("CTYPE", "CRVAL", "CDELT", "CRPIX"):
        swapped[f"{keyword}1"], swapped[f"{keyword}2"] = header[f"{keyword}2"], header[f"{keyword}1"]
    fits.PrimaryHDU(image.T, swapped).writeto(files["100"], overwrite=True)
    check_against_the_function(files)
    fits.PrimaryHDU(np.stack([image, image]), header).writeto(files["217"], overwrite=True)
    with pytest.raises(ValueError, match=r"217.fits' has 2 x 160 x 160 pixels, expected two dimensions; write each"):
        read_skymaps(files)


def test_cutouts_of_other_sizes_and_other_places(tmp_path):
    """The footprint is what all of them cover; where they cover nothing in common, that is said."""
    files = write_cutouts(tmp_path)
    (tmp_path / "small").mkdir()
    small = write_cutouts(tmp_path / "small", n=64, cdelt=(1, 1))
    maps = read_skymaps({**files, "353": small["353"]}, check=False)
    np.testing.assert_allclose(maps.footprint.sum(), 59**2, rtol=0.02)
    for centre in ((35.0, 20.0), (210.0, -5.0)):  # beside it, and opposite on the sphere
        (tmp_path / f"{centre[0]}").mkdir()
        elsewhere = write_cutouts(tmp_path / f"{centre[0]}", centre=centre)
        with pytest.raises(ValueError, match=r"no pixel is observed in every band .* expected overlapping maps"):
            read_skymaps({**files, "217": elsewhere["217"]}, check=False)


def test_zeros_are_what_was_not_observed(values, tmp_path, caplog):
    """A disc of zeros in one band, UNSEEN turned to -1.6e24 with the map's unit in another."""
    first, second = (healpy.query_disc(NSIDE, healpy.ang2vec(lon, 30.0, lonlat=True), 0.1) for lon in (50.0, 90.0))
    holed = values.copy()
    holed[first, 4], holed[second, 0] = 0.0, -1.6375e24
    maps = read_skymaps(write_planck_set(tmp_path, holed))
    assert set(np.flatnonzero(~maps.footprint)) == {*first, *second}
    assert f"{len(first)} pixels are exactly 0" in caplog.text
    with fits.open(write_cutouts(tmp_path)["545"], mode="update") as hdus:
        hdus[1].data[70:90, 70:90] = 0.0
    maps = read_skymaps({band.name: tmp_path / f"{band.name}.fits" for band in HFI.bands}, check=False)
    assert not maps.footprint[healpy.query_disc(1024, healpy.ang2vec(30.0, 5.0, lonlat=True), np.radians(0.5))].any()


def test_partial_sky_by_its_column_and_bad_pixel_numbers(values, tmp_path):
    """A PIXEL column without INDXSCHM; numbers beyond the sphere; INDXSCHM = EXPLICIT without the column."""
    seen = np.arange(20_000)
    files = {}
    for b, band in enumerate(HFI.bands):
        table = Table({"PIXEL": seen, "SIGNAL": values[seen, b].astype(np.float64)})
        table["SIGNAL"].unit = None
        hdu = fits.BinTableHDU(table)
        hdu.header.update(NSIDE=NSIDE, ORDERING="RING", COORDSYS="G", TUNIT2=band.unit)
        files[band.name] = tmp_path / f"{band.name}.fits"
        hdu.writeto(files[band.name])
    maps = read_skymaps(files, check=False)
    assert np.array_equal(np.flatnonzero(maps.footprint), seen)
    np.testing.assert_array_equal(maps.values[seen], values[seen])
    with fits.open(files["353"], mode="update") as hdus:
        hdus[1].data["PIXEL"][7] = 12 * NSIDE**2
    with pytest.raises(ValueError, match=r"353.fits' has pixels 0 to 49152, expected 0 to 49151 \(NSIDE = 64\)"):
        read_skymaps(files)
    healpy.write_map(files["353"], values[:, 3], coord="G", column_units="K_CMB", overwrite=True)
    with fits.open(files["353"], mode="update") as hdus:
        hdus[1].header["INDXSCHM"] = "EXPLICIT"
    with pytest.raises(
        ValueError, match=r"353.fits' has INDXSCHM = EXPLICIT, expected a column of pixel numbers \(PIXEL, "
    ):
        read_skymaps(files)


def test_nside_that_is_no_power_of_two(tmp_path):
    odd = np.ones(12 * 100**2, np.float32)
    files = {name: healpy_map(tmp_path / f"{name}.fits", odd) for name in HFI.band_names}
    with pytest.raises(ValueError, match=r"100.fits' has NSIDE = 100, expected a power of two"):
        read_skymaps(files)


def healpy_map(path, values):
    healpy.write_map(path, values, coord="G", column_units="K_CMB", dtype=np.float32, fits_IDL=False)
    return path


# --- dipole -----------------------------------------------------------------------------------------------


def test_the_dipole_is_found_and_removed(values, tmp_path, caplog):
    """3362.08 uK towards (264.021, 48.253): put in with the published numbers, gone after reading."""
    axis = healpy.ang2vec(264.021, 48.253, lonlat=True)
    dipole = 3362.08e-6 * np.stack(healpy.pix2vec(NSIDE, np.arange(len(values))), 1) @ axis
    files = write_planck_set(tmp_path, (values + dipole[:, None] * HFI.unit_per_kcmb).astype(np.float32))
    with caplog.at_level(logging.INFO, "szeek.inputs.mapfiles"):
        maps = read_skymaps(files)
    assert "solar dipole found" in caplog.text
    np.testing.assert_allclose(maps.values[:, :4], values[:, :4], atol=2e-9)
    np.testing.assert_allclose(dipole_amplitude(as_skymaps(values), HFI), 0.0, atol=0.05)


@pytest.mark.realdata
def test_real_coma_cutouts(real_data):
    """MJy/sr, CDELT1 > 0, no RADESYS, dipole in: 2 mK of dipole found and gone, 90 uK of CMB left."""
    files = {name: real_data / "maps" / "coma" / f"hfi_{name}_coma.fits" for name in HFI.band_names}
    maps = read_skymaps(files)
    seen = maps.values[maps.footprint]
    assert maps.nside == 2048 and abs(len(seen) / (507 * 325) - 1) < 0.02
    assert np.abs(seen[:, :3].mean(0)).max() < 200e-6  # the dipole there is +2.2 mK
    assert np.all((seen[:, :3].std(0) > 90e-6) & (seen[:, :3].std(0) < 130e-6))
    # the brightest tSZ decrement lies at Coma: 143 GHz less 217 GHz, 0.5 deg about it against the field
    centre = healpy.query_disc(2048, healpy.ang2vec(57.80, 88.00, lonlat=True), np.radians(0.2))
    difference = maps.values[centre, 1] - maps.values[centre, 2]
    assert difference.mean() - np.median(seen[:, 1] - seen[:, 2]) < -60e-6
    measured = measure_bands(maps, HFI)
    assert np.sqrt(measured.degree[0, 1]) == pytest.approx(90e-6, rel=0.1)


# --- exchanged and mis-scaled bands ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fine_sky():
    return planck_like_sky(512)[0]


def test_marks_that_no_header_states_are_asked_about(values, tmp_path):
    """-999 in one band, without BAD_DATA: no sky is so cold; stated, those pixels are not observed."""
    marked = values.copy()
    marked[:500, 2] = -999.0
    files = write_planck_set(tmp_path, marked)
    with pytest.raises(BandError, match=r"500 pixels of 'HFI_217.fits' are exactly -999 K_CMB.*BAD_DATA=-999"):
        read_skymaps(files)
    stated = read_skymaps({**files, "217": f"{files['217']}[BAD_DATA=-999]"})
    np.testing.assert_array_equal(np.flatnonzero(~stated.footprint), np.arange(500))


@pytest.mark.parametrize("kind", ["BAD_DATA", "TNULL"])
def test_marks_that_the_header_states_leave_the_footprint(values, tmp_path, kind):
    """-999 by BAD_DATA, or the lowest int16 by TNULL beside TSCAL: 500 pixels are not observed, the rest is right."""
    files = {}
    for b, band in enumerate(HFI.bands):
        scale = float(np.abs(values[:, b]).max()) / 30000
        stored = np.rint(values[:, b] / scale).astype(np.int16) if kind == "TNULL" else values[:, b].copy()
        stored[:500] = -32768 if kind == "TNULL" else -999
        hdu = fits.BinTableHDU.from_columns([fits.Column("I", "I" if kind == "TNULL" else "E", array=stored)])
        hdu.header.update(NSIDE=NSIDE, ORDERING="RING", COORDSYS="G", TUNIT1=band.unit)
        hdu.header.update({"TNULL1": -32768, "TSCAL1": scale, "TZERO1": 0.0} if kind == "TNULL" else {kind: -999.0})
        files[band.name] = tmp_path / f"{band.name}.fits"
        hdu.writeto(files[band.name])
    maps = read_skymaps(files, check=kind == "BAD_DATA")
    assert not maps.footprint[:500].any()
    # rounded to the integer 0 is a mark too
    seen = maps.footprint[500:] if kind == "TNULL" else np.ones(len(values) - 500, bool)
    assert seen.mean() > 0.9 and maps.footprint[500:][seen].all()
    # half a step, which float32 rounds by up to 6e-8 of the highest value: 0.4 % of it
    half = np.abs(values).max(axis=0) / 60000 if kind == "TNULL" else np.zeros(6)
    assert (np.abs(maps.values[500:][seen] - values[500:][seen]) <= 1.01 * half + 1e-12).all()


@pytest.mark.parametrize("word", ["uK_CMB", "\u00b5K_CMB", "\u03bcK_CMB"])
def test_micro_is_1e_6_however_it_is_written(values, tmp_path, word):
    files = write_planck_set(tmp_path, (values / HFI.unit_per_kcmb * 1e6).astype(np.float32), unit=None)
    np.testing.assert_allclose(read_skymaps(files, unit=word).values, values, rtol=5e-7)


def test_plain_fits_under_a_name_of_gzip_and_the_other_way(values, tmp_path):
    files = write_planck_set(tmp_path, values)
    plain = files["100"].rename(tmp_path / "a.fits.gz")
    packed = tmp_path / "b.fits"
    packed.write_bytes(gzip.compress(files["143"].read_bytes(), 1))
    np.testing.assert_array_equal(read_skymaps({**files, "100": plain, "143": packed}).values, values)


def test_right_bands_pass(fine_sky, values):
    check_bands(as_skymaps(fine_sky), HFI)
    check_bands(as_skymaps(values), HFI)


@pytest.mark.parametrize("pair", list(combinations(range(6), 2)))
@pytest.mark.parametrize("unit", ["K_CMB", "MJy/sr"])
def test_every_exchange_is_named(pair, unit):
    """Two files under each other's name, in K_CMB or in MJy/sr (then each goes through the wrong factor)."""
    i, j = pair
    only_beams_tell = unit == "K_CMB" and j < 3
    kelvin = planck_like_sky(512 if only_beams_tell else 128)[0] / HFI.unit_per_kcmb
    factor = HFI.mjysr_per_kcmb if unit == "MJy/sr" else np.ones(6)
    written = (kelvin * factor)[:, [{i: j, j: i}.get(b, b) for b in range(6)]]
    read = written / factor * HFI.unit_per_kcmb
    first, second = HFI.band_names[i], HFI.band_names[j]
    with pytest.raises(BandError, match=f"'{first}' and '{second}' are exchanged"):
        check_bands(as_skymaps(read), HFI, (unit,) * 6)


@pytest.mark.parametrize(
    ("columns", "factor", "words"),
    [
        ([1], 1e6, "'143' is 1e6 times too bright: it holds uK_CMB, not K_CMB"),
        ([0], 1e-6, "'100' is 1e6 times too faint: it holds K_CMB, not uK_CMB"),
        ([3], 1e3, "'353' is 1e3 times too bright: it holds mK_CMB"),
        ([2], 483.69, "'217' is 483.69 times too bright: it holds MJy/sr, not K_CMB"),
        ([1], 1 / 371.74, "'143' is 371.74 times too faint: it holds K_CMB but is labelled MJy/sr"),
        ([4], 58.04, "'545' is 58.04 times too bright"),
        ([0, 1, 2, 3], 1e6, "the K_CMB bands are 1e6 times too bright: they hold uK_CMB"),
        ([0, 1, 2, 3], 1e-3, "the K_CMB bands are 1e3 times too faint: they hold K_CMB, not mK_CMB"),
        ([0, 1, 2, 3, 4, 5], 1e6, "all bands are 1e6 times too bright: they hold uK_CMB"),
    ],
)
def test_every_wrong_scale_is_named(columns, factor, words):
    wrong = planck_like_sky(128)[0].copy()
    wrong[:, columns] *= factor
    with pytest.raises(BandError, match=words):
        check_bands(as_skymaps(wrong), HFI)


def test_unexplained_bands_are_refused_with_numbers():
    wrong = planck_like_sky(128)[0].copy()
    wrong[:, 0] *= 2.0
    wrong[:, 4] *= 30.0
    with pytest.raises(BandError, match=r"do not belong together \(CMB at 100 is 1\.9\d of the others.*check=False"):
        check_bands(as_skymaps(wrong), HFI)


def test_one_file_for_two_bands(pr3):
    with pytest.raises(ValueError, match=r"HFI_100.fits' is given for 100 and for 143, expected one file a band"):
        read_skymaps({**pr3, "143": pr3["100"]})


def test_dust_that_is_lost_in_the_cmb_condemns_nothing():
    """In this clean field the covariance of 217 and 857 GHz is noise and comes out below 0: no band is wrong."""
    sky = planck_like_sky(128)[0]
    footprint = np.zeros(len(sky), bool)
    footprint[healpy.query_disc(128, healpy.ang2vec(100, 60, lonlat=True), np.radians(9.0))] = True
    maps = SkyMaps(sky, footprint, HFI.bands)
    assert measure_bands(maps, HFI).fine[2, 5] < 0
    check_bands(maps, HFI)


def test_exchange_through_the_files(tmp_path):
    """Through read_skymaps the message names the files, and nothing is left in the output folder."""
    sky = planck_like_sky(128)[0]
    files = write_planck_set(tmp_path / "in", sky)
    files["217"], files["545"] = files["545"], files["217"]
    with pytest.raises(BandError, match=r"'HFI_545.fits' and 'HFI_217.fits' are exchanged"):
        read_skymaps(files, out=tmp_path / "out" / "maps")
    assert not list((tmp_path / "out").iterdir())


def test_maps_that_cannot_be_checked_say_so(caplog, values):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(12 * 64**2, 6)).astype(np.float32)
    with caplog.at_level(logging.WARNING, "szeek.inputs.bandcheck"):
        check_bands(as_skymaps(noise), HFI)
        check_bands(as_skymaps(noise[: 12 * 16**2]), HFI)
    assert "they share no CMB signal" in caplog.text and "needs three CMB bands and nside 32" in caplog.text


@pytest.mark.realdata
def test_exchanges_in_the_real_coma_cutouts(real_data):
    """On 137 deg^2 of real sky: K_CMB maps of 100 and 143 GHz exchanged show in their beams alone, and do."""
    files = {name: real_data / "maps" / "coma" / f"hfi_{name}_coma.fits" for name in HFI.band_names}
    for first, second in (("143", "353"), ("100", "217")):
        swapped = {**files, first: files[second], second: files[first]}
        with pytest.raises(BandError, match=f"'hfi_{second}_coma.fits' and 'hfi_{first}_coma.fits' are exchanged"):
            read_skymaps(swapped)
    maps = read_skymaps(files)
    seen = np.flatnonzero(maps.footprint)
    maps.values[seen] = maps.values[seen][:, [1, 0, 2, 3, 4, 5]]
    with pytest.raises(BandError, match=r"'100' and '143' are exchanged.*fine structure at 100 is 1.1"):
        check_bands(maps, HFI, ("K_CMB",) * 6)
