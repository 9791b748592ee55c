"""Maps for stacking: public formats read, convergence from kappa_lm, galaxies to maps, with answers by hand."""

from __future__ import annotations

import gzip

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from szeek.inputs.stackmaps import (
    below_main_sequence,
    galaxy_maps,
    galaxy_properties,
    read_convergence,
    read_stack_map,
    read_wisexscos,
)

NSIDE = 64
N_PIX = 12 * NSIDE**2


def test_y_map_as_planck_writes_it(tmp_path):
    """FULL, FIRST and LAST in one table; FULL is read, 10 arcmin, y."""
    full = np.random.default_rng(1).normal(size=N_PIX).astype(np.float32)
    full[5] = healpy.UNSEEN
    names = ["FULL", "FIRST", "LAST"]
    healpy.write_map(tmp_path / "milca.fits", [full, full * 2, full * 3], column_names=names, coord="G", nest=True,
                     dtype=np.float32)  # fmt: skip
    maps = read_stack_map("milca", tmp_path / "milca.fits")
    (band,) = maps.bands
    assert (band.name, band.fwhm_arcmin, band.unit) == ("milca", 10.0, "y")
    np.testing.assert_array_equal(maps.values[maps.footprint, 0], healpy.reorder(full, n2r=True)[maps.footprint])
    assert (~maps.footprint).sum() == 1
    last = read_stack_map("milca", tmp_path / "milca.fits", column="LAST")
    np.testing.assert_array_equal(last.values[maps.footprint], 3 * maps.values[maps.footprint])


def test_iris_and_unstated_things(tmp_path):
    values = np.arange(N_PIX, dtype=np.float32)
    healpy.write_map(tmp_path / "iris.fits", values, dtype=np.float32)  # neither frame nor unit
    with pytest.raises(ValueError, match=r"does not say its frame \(keyword COORDSYS\)"):
        read_stack_map("iris_100um", tmp_path / "iris.fits")
    maps = read_stack_map("iris_100um", tmp_path / "iris.fits", frame="galactic")
    assert maps.bands[0].unit == "MJy/sr" and maps.bands[0].fwhm_arcmin == 4.3
    np.testing.assert_array_equal(maps.values[:, 0], values)
    with pytest.raises(ValueError, match=r"the beam of .* is stated nowhere; pass fwhm_arcmin="):
        read_stack_map("mine", tmp_path / "iris.fits", unit="K", frame="galactic")
    with pytest.raises(ValueError, match=r"the unit of .* is stated nowhere; pass unit="):
        read_stack_map("rosat", tmp_path / "iris.fits", frame="galactic")
    healpy.write_map(tmp_path / "empty.fits", np.full(N_PIX, healpy.UNSEEN), coord="G", dtype=np.float32)
    with pytest.raises(ValueError, match="has no observed pixel"):
        read_stack_map("iris_100um", tmp_path / "empty.fits")


def test_convergence_from_klm(tmp_path):
    """One multipole in: its own spherical harmonic out, times the beam; those below lmin and above lmax gone."""
    lmax = 96
    alm = np.zeros(healpy.Alm.getsize(lmax), complex)
    for ell in (4, 20, 90):
        alm[healpy.Alm.getidx(lmax, ell, 3)] = 1.0 + 0.5j
    healpy.write_alm(tmp_path / "klm.fits", alm, overwrite=True)
    maps = read_convergence(tmp_path / "klm.fits", nside=NSIDE, fwhm_arcmin=60.0, lmin=8, lmax=64)
    only = np.zeros_like(alm)
    only[healpy.Alm.getidx(lmax, 20, 3)] = 1.0 + 0.5j
    # Gaussian beam of sigma 60 arcmin / 2.3548: exp(-l (l + 1) sigma^2 / 2) = 0.98857 at l = 20
    sigma = np.radians(1.0) / 2.354820045
    expected = healpy.alm2map(only, NSIDE) * np.exp(-20 * 21 * sigma**2 / 2)
    np.testing.assert_allclose(maps.values[:, 0], expected, atol=2e-6)
    # Wiener filter: N = 3, C + N = 4 at all l -> 1/4
    np.savetxt(
        tmp_path / "nlkk.dat", np.column_stack([np.arange(lmax + 1), np.full(lmax + 1, 3.0), np.full(lmax + 1, 4.0)])
    )
    mask = np.arange(N_PIX) > 100
    filtered = read_convergence(
        tmp_path / "klm.fits", nside=NSIDE, fwhm_arcmin=60.0, lmax=64, noise=tmp_path / "nlkk.dat", mask=mask
    )
    np.testing.assert_allclose(filtered.values[mask, 0], expected[mask] / 4, atol=2e-6)
    assert not filtered.values[~mask].any()
    with pytest.raises(ValueError, match="mask has 12 pixels, expected 49152"):
        read_convergence(tmp_path / "klm.fits", nside=NSIDE, mask=np.ones(12, bool))
    with fits.open(tmp_path / "klm.fits", mode="update") as hdus:
        hdus[1].header["COORDSYS"] = "C"
    with pytest.raises(ValueError, match=r"klm\.fits' has COORDSYS = 'icrs', expected Galactic kappa_lm"):
        read_convergence(tmp_path / "klm.fits", nside=NSIDE)


def write_galaxies(path, z, columns="l,b,zPhoto_Corr,w1mCorr,w2mCorr,w3mCorr"):
    rng = np.random.default_rng(3)
    lines = [columns]
    lines += [f"{rng.uniform(0, 360):.4f},{rng.uniform(-80, 80):.4f},{v},14.0,13.8,11.0" for v in z]
    with gzip.open(path, "wt") as stream:
        stream.write("\n".join(lines) + "\n")
    return path


def test_wisexscos_is_cut_in_redshift_block_by_block(tmp_path):
    z = np.linspace(0.0, 0.5, 501)
    path = write_galaxies(tmp_path / "w.csv.gz", z)
    table = read_wisexscos(path, n_block=2)
    assert len(table) == ((z > 0.1) & (z < 0.3)).sum() and set(table.colnames) == {
        "lon_deg", "lat_deg", "z", "w1", "w2", "w3",
    }  # fmt: skip
    np.testing.assert_allclose(np.sort(table["z"]), z[(z > 0.1) & (z < 0.3)])
    with pytest.raises(
        ValueError, match=r"lacks the columns zPhoto_Corr, found l, b, redshift.*columns= from Python"
    ):
        read_wisexscos(write_galaxies(tmp_path / "x.csv.gz", z, "l,b,redshift,w1mCorr,w2mCorr,w3mCorr"))
    other = read_wisexscos(tmp_path / "x.csv.gz", columns={"z": "redshift"})
    assert len(other) == len(table)


def test_wisexscos_with_other_columns_of_its_letters(tmp_path):
    """A byte-order mark, a luminosity L beside l, and marks of missing magnitudes."""
    path = tmp_path / "w.csv"
    path.write_text(
        "\ufeffL,l,b,B,zPhoto_Corr,w1mCorr,w2mCorr,w3mCorr\n9,10,20,8,0.2,14,13.8,-99\n9,11,21,8,0.2,99,13,11\n"
    )
    table = read_wisexscos(path)
    assert (table["lon_deg"].tolist(), table["lat_deg"].tolist()) == ([10.0, 11.0], [20.0, 21.0])
    np.testing.assert_array_equal(np.isnan(np.array([table["w1"], table["w3"]])), [[False, True], [True, False]])


def test_mass_and_star_formation_by_hand():
    """W1 = 14.0, W1 - W2 = 0.2, W3 = 11.0, z = 0.15: distance 741 Mpc (H0 67.8, Om 0.308), modulus 39.35.

    log L_W1 = -0.4 (14 - 39.35 - 3.24) = 11.436, log M = 11.436 - 0.392 - 0.03 = 11.014.
    nu F_nu = 31.674e-26 x 10^-4.4 x 2.5934e13 Hz = 3.270e-16 W m^-2, times 4 pi (2.287e25 m)^2 = 2.149e36 W,
    5.61e9 Lsun: log SFR = 0.889 x 9.749 - 7.76 = 0.907.
    """
    mass, sfr = galaxy_properties(*(np.array([v]) for v in (14.0, 13.8, 11.0, 0.15)))
    assert mass[0] == pytest.approx(11.014, abs=0.01)
    assert sfr[0] == pytest.approx(0.907, abs=0.01)
    # on the main sequence at 1e11 Msun: 8.7 Msun / yr
    np.testing.assert_allclose(
        below_main_sequence(np.array([11.0, 10.0]), np.log10([8.7, 8.7 * 10**-0.77])), 0.0, atol=1e-12
    )


def make_galaxies(n, seed=5):
    rng = np.random.default_rng(seed)
    lat = np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(30)), 1, n)))
    return Table(
        {"lon_deg": rng.uniform(0, 360, n), "lat_deg": lat, "log_mass": np.full(n, 10.5), "log_sfr": np.full(n, 0.0)}
    )


def test_galaxy_maps_of_a_uniform_survey_are_flat():
    """Galaxies spread evenly over b > 30: over-density 0 within Poisson noise up to the edge, SFR 1 each."""
    galaxies = make_galaxies(200_000)
    footprint = healpy.pix2ang(NSIDE, np.arange(N_PIX), lonlat=True)[1] > 30.5
    maps = galaxy_maps(galaxies, nside=NSIDE, fwhm_arcmin=300.0, footprint=footprint)
    assert [b.name for b in maps.bands] == ["galaxies", "passive", "transitioning", "active", "sfr", "stellar_mass"]
    delta = maps.values[footprint, 0]
    # 200,000 in 10,313 deg^2; a 5-deg Gaussian averages over 4 pi sigma^2 = 56.6 deg^2: 1100 galaxies, 3 %
    assert abs(delta.mean()) < 0.01 and delta.std() < 0.05 and np.abs(delta).max() < 0.25
    density = 200_000 / (2 * np.pi * 0.5 * (180 / np.pi) ** 2)
    assert maps.values[footprint, 4].mean() == pytest.approx(density, rel=0.01)
    assert maps.values[footprint, 5].mean() == pytest.approx(density * 10**10.5, rel=0.01)
    assert not maps.values[~footprint].any()


def test_galaxy_classes_and_a_clump():
    """log M = 10.5: main sequence at log SFR = 0.555; 0.2, 0.8, 1.5 dex below: active, transitioning, passive."""
    galaxies = make_galaxies(30_000)
    galaxies["log_sfr"] = 0.555 - np.array([0.2, 0.8, 1.5])[np.arange(len(galaxies)) % 3]
    clump = galaxies[:3000].copy()
    clump["lon_deg"], clump["lat_deg"] = 120.0, 60.0
    clump["log_sfr"] = 0.555 - 1.5
    both = Table({c: np.concatenate([galaxies[c], clump[c]]) for c in galaxies.colnames})
    footprint = healpy.pix2ang(NSIDE, np.arange(N_PIX), lonlat=True)[1] > 30.5
    maps = galaxy_maps(both, nside=NSIDE, fwhm_arcmin=180.0, footprint=footprint)
    there = healpy.ang2pix(NSIDE, 120.0, 60.0, lonlat=True)
    delta = dict(zip([b.name for b in maps.bands], maps.values[there], strict=True))
    assert delta["passive"] > 20 and abs(delta["active"]) < 1 and abs(delta["transitioning"]) < 1
    assert delta["passive"] > delta["galaxies"] > 5


def test_no_galaxies_inside():
    with pytest.raises(ValueError, match="none of 100 galaxies lies inside the footprint, expected some"):
        galaxy_maps(make_galaxies(100), nside=NSIDE, footprint=np.zeros(N_PIX, bool))


def test_missing_magnitudes():
    galaxies = make_galaxies(100)["lon_deg", "lat_deg"]
    with pytest.raises(ValueError, match="the galaxies lack w1, w2, w3, z, expected log_mass and log_sfr"):
        galaxy_maps(galaxies, nside=NSIDE)


def test_footprint_from_the_galaxies_themselves():
    maps = galaxy_maps(make_galaxies(100_000), nside=NSIDE, fwhm_arcmin=120.0)
    lat = healpy.pix2ang(NSIDE, np.flatnonzero(maps.footprint), lonlat=True)[1]
    assert lat.min() > 27 and maps.footprint.mean() == pytest.approx(0.25, abs=0.02)


def test_a_cut_out_is_read_like_a_map(tmp_path):
    """A TAN image of 5 arcmin pixels, brightness rising by 1 per degree to the north: the same at HEALPix pixels."""
    header = fits.Header()
    for k, (axis, centre) in enumerate((("GLON-TAN", 120.0), ("GLAT-TAN", 40.0)), start=1):
        header[f"CTYPE{k}"], header[f"CRVAL{k}"], header[f"CRPIX{k}"] = axis, centre, 30.5
        header[f"CDELT{k}"], header[f"CUNIT{k}"] = (-1 if k == 1 else 1) * 5 / 60, "deg"
    north_deg = (np.arange(60) - 29.5) * 5 / 60
    image = np.repeat(100 + north_deg[:, None], 60, axis=1).astype(np.float32)
    fits.ImageHDU(image, header).writeto(tmp_path / "image.fits")
    with pytest.raises(ValueError, match=r"the unit of .*image\.fits' is stated nowhere; pass unit="):
        read_stack_map("y", tmp_path / "image.fits", fwhm_arcmin=10.0)
    maps = read_stack_map("y", tmp_path / "image.fits", fwhm_arcmin=10.0, unit="y")
    assert maps.nside == 512  # 6.9 arcmin; that of 1024 is 3.4
    lon_deg, lat_deg = healpy.pix2ang(512, np.flatnonzero(maps.footprint), lonlat=True)
    assert 4.0**2 < maps.footprint.sum() * healpy.nside2pixarea(512, degrees=True) < 5.0**2
    near = np.abs(lon_deg - 120) < 0.5  # there the tangent plane's north is latitude
    np.testing.assert_allclose(maps.values[maps.footprint][near, 0], 100 + lat_deg[near] - 40, atol=3e-3)
