"""A small Planck-like sky for tests: CMB, dust, clusters, beams and noise; and files as Planck writes them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from astropy.table import Table

from szeek.inputs.instrument import read_instrument
from szeek.sky.skymaps import SkyMaps

HFI = read_instrument("planck-hfi")
#: Extra columns of the polarised PR3 maps, in their order.
PR3_COLUMNS = ("I_STOKES", "Q_STOKES", "U_STOKES", "HITS", "II_COV", "IQ_COV", "IU_COV", "QQ_COV", "QU_COV", "UU_COV")


@lru_cache(maxsize=3)
def planck_like_sky(nside: int, n_cluster: int = 300) -> tuple[np.ndarray, Table]:
    """Six bands in the instrument's units, (n_pix, 6) float32 RING Galactic, and the clusters painted on them."""
    rng = np.random.default_rng(20)
    lmax = 2 * nside
    ell = np.arange(lmax + 1)
    peaks = 4500 * np.exp(-(((ell - 220) / 120.0) ** 2)) + 2300 * np.exp(-(((ell - 670) / 220.0) ** 2))
    c_cmb = (1000 + peaks) * np.exp(-((ell / 1400.0) ** 2)) * 2 * np.pi / np.maximum(ell * (ell + 1), 1) * 1e-12
    c_dust = np.maximum(ell, 2.0) ** -2.6
    np.random.seed(20)  # noqa: NPY002  (healpy.synalm knows no Generator)
    cmb, dust = healpy.synalm(c_cmb, lmax), healpy.synalm(c_dust, lmax)
    lon = np.concatenate([[0.0, 0.0, 123.0], rng.uniform(0, 360, n_cluster - 3)])
    lat = np.concatenate([[0.2, 90.0, -89.9], np.degrees(np.arcsin(rng.uniform(-1, 1, n_cluster - 3)))])
    centres = healpy.ang2vec(lon, lat, lonlat=True)
    maps = np.empty((12 * nside**2, 6), np.float32)
    dust_857 = healpy.alm2map(dust, nside)
    nu = np.array([b.freq_ghz for b in HFI.bands])
    sed = nu**4.6 / np.expm1(nu / 20.837 / 19.7)
    for b, band in enumerate(HFI.bands):
        fwhm = np.radians(band.fwhm_arcmin / 60)
        sky = healpy.alm2map(healpy.smoothalm(cmb, fwhm=fwhm, inplace=False), nside) * HFI.unit_per_kcmb[b]
        dust_unit = 1.0 if band.unit == "MJy/sr" else 1.0 / HFI.mjysr_per_kcmb[b]
        sky += dust_857 / dust_857.std() * 0.4 * sed[b] / sed[-1] * dust_unit
        width2 = band.fwhm_arcmin**2 + 16.0
        for centre in centres:
            near = healpy.query_disc(nside, centre, np.radians(0.5))
            cosine = np.clip(np.stack(healpy.pix2vec(nside, near), 1) @ centre, -1, 1)
            r2 = (np.degrees(np.arccos(cosine)) * 60) ** 2
            sky[near] += HFI.tsz_response[b] * 1.5e-4 * 16 / width2 * np.exp(-4 * np.log(2) * r2 / width2)
        noise = HFI.noise_uk_deg[b] * (1e-6 if band.unit == "K_CMB" else 1e-3)
        maps[:, b] = sky + rng.normal(0, noise / healpy.nside2resol(nside, arcmin=True) * 60, len(sky))
    names = [f"C{i}" for i in range(n_cluster)]
    return maps, Table({"name": names, "lon_deg": lon, "lat_deg": lat, "survey": ["TRUTH"] * n_cluster})


def as_skymaps(values: np.ndarray) -> SkyMaps:
    return SkyMaps(np.ascontiguousarray(values, np.float32), np.ones(len(values), bool), HFI.bands)


def write_planck_map(
    path: Path,
    ring: np.ndarray,
    unit: str | None,
    *,
    ordering: str | None = "NESTED",
    coordsys: str | None = "GALACTIC",
    columns: tuple[str, ...] = PR3_COLUMNS,
    per_row: int = 1,
) -> Path:
    """One map the way Planck writes it: PR3 has one pixel a row and 10 or 3 columns, PR4 1024 pixels a row."""
    nside = healpy.npix2nside(len(ring))
    values = healpy.reorder(ring, r2n=True) if ordering == "NESTED" else ring
    rng = np.random.default_rng(7)
    table = []
    for name in columns:
        if name == "HITS":
            data, kind = np.full(len(ring), 9, np.int32), "J"
        else:
            data, kind = values if name in ("I_STOKES", "TEMPERATURE") else rng.normal(size=len(ring)), "E"
            data = data.astype(np.float32)
        shaped = data.reshape(-1, per_row) if per_row > 1 else data
        form = f"{per_row}{kind}" if per_row > 1 else kind
        table.append(fits.Column(name, form, array=shaped, unit=unit if kind == "E" else None))
    hdu = fits.BinTableHDU.from_columns(table, name="FREQ-MAP")
    hdu.header["PIXTYPE"] = "HEALPIX"
    for keyword, value in (("ORDERING", ordering), ("COORDSYS", coordsys)):
        if value is not None:
            hdu.header[keyword] = value
    hdu.header["NSIDE"], hdu.header["FIRSTPIX"], hdu.header["LASTPIX"] = nside, 0, len(ring) - 1
    hdu.header["BAD_DATA"], hdu.header["POLCCONV"], hdu.header["INDXSCHM"] = -1.6375e30, "COSMO", "IMPLICIT"
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return path


def write_planck_set(folder: Path, values: np.ndarray, **changes: object) -> dict[str, Path]:
    """All six bands PR3-like: ten columns for the polarised bands, three for 545 and 857 GHz."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for b, band in enumerate(HFI.bands):
        columns = PR3_COLUMNS if b < 4 else ("I_STOKES", "HITS", "II_COV")
        settings = {"columns": columns, "unit": band.unit if band.unit == "MJy/sr" else "Kcmb", **changes}
        files[band.name] = write_planck_map(folder / f"HFI_{band.name}.fits", values[:, b], **settings)  # type: ignore[arg-type]
    return files
