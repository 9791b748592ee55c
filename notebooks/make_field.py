"""The tutorials' field, cut out of the sky of a demo run (`szeek run demo`): `python notebooks/make_field.py RUN`.

Six frequency maps as compressed FITS images (TAN, Galactic, 1.7 arcmin pixels), a y map (HEALPix), the mock
catalogues and the true haloes inside. All of it lies in the tile that is held out of the demo's training.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.wcs import WCS

from szeek.inputs.catalogues import read_catalogue, write_catalogue
from szeek.inputs.mapfiles import read_skymaps
from szeek.inputs.stackmaps import read_stack_map
from szeek.sky.projection import field_basis, field_directions, interpolate, project, unit_vectors
from szeek.sky.tiles import TEST_TILE, tile_of

CENTRE_LON_DEG, CENTRE_LAT_DEG = 112.5, 41.8
PIXEL_ARCMIN, N_PIXEL = 1.7177, 420  # 12 deg
Y_NSIDE = 1024
#: Steps per noise sigma of the compressed images: they add a thousandth of the noise's variance.
QUANTIZE_LEVEL = 8
#: Haloes fainter than this are far below the noise, and thousands.
TRUTH_Y500_ARCMIN2 = 2e-4


def main(run: Path, out: Path) -> None:
    """Write the field's files to ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    record = json.loads((run / "simulated" / "simulate.json").read_text())
    maps = read_skymaps({band: run / "simulated" / name for band, name in record["maps"].items()})
    directions = field_directions(CENTRE_LON_DEG, CENTRE_LAT_DEG, 0.0, N_PIXEL, N_PIXEL, PIXEL_ARCMIN)
    planes = interpolate(maps.values, directions)
    for index, band in enumerate(maps.bands):
        _write(out / f"sim_{band.name}.fits", planes[..., index], band.unit, band.fwhm_arcmin)
    y_map = read_stack_map("y", run / "simulated" / "y_map.fits", unit="y", fwhm_arcmin=10.0)
    _write_y(out / "sim_y.fits.gz", y_map.values[:, 0])
    surveys = [read_catalogue(run / "simulated" / f"{name}.fits") for name in ("psz2", "mcxc", "redmapper")]
    write_catalogue(_inside(vstack(surveys, metadata_conflicts="silent")), out / "known.ecsv")
    truth = _inside(read_catalogue(run / "simulated" / "truth.fits"))
    truth = truth[truth["y500_arcmin2"] > TRUTH_Y500_ARCMIN2]
    write_catalogue(truth, out / "truth.ecsv")
    corners = directions[[0, 0, -1, -1], [0, -1, 0, -1]]
    lon_deg, lat_deg = healpy.vec2ang(corners, lonlat=True)
    if not (tile_of(lon_deg, lat_deg) == TEST_TILE).all():
        raise ValueError(f"the field leaves tile {TEST_TILE}; the network was trained on its corners")


def _wcs() -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    wcs.wcs.crval = [CENTRE_LON_DEG, CENTRE_LAT_DEG]
    wcs.wcs.crpix = [(N_PIXEL + 1) / 2] * 2
    wcs.wcs.cdelt = [PIXEL_ARCMIN / 60, PIXEL_ARCMIN / 60]  # columns grow with longitude, as the field's do
    return wcs


def _write(file: Path, image: np.ndarray, unit: str, fwhm_arcmin: float) -> None:
    header = _wcs().to_header()
    header["BUNIT"], header["FWHM"] = unit, (fwhm_arcmin, "arcmin")
    header["CREATOR"] = ("szeek", "simulated sky, not a measurement")
    hdu = fits.CompImageHDU(image.astype(np.float32), header, quantize_level=QUANTIZE_LEVEL, quantize_method=1,
                            dither_seed=1)  # fmt: skip
    hdu.writeto(file, overwrite=True)


def _write_y(file: Path, y_map: np.ndarray) -> None:
    """The y map as partial-sky HEALPix of nside 1024: its beam is 10 arcmin, a pixel 3.4."""
    coarse = healpy.ud_grade(y_map, Y_NSIDE)
    x, y = _pixel_of(*healpy.pix2ang(Y_NSIDE, np.arange(coarse.size), lonlat=True))
    inside = (x > 0) & (x < N_PIXEL - 1) & (y > 0) & (y < N_PIXEL - 1)
    # 1e-9, a thousandth of the noise, is the last digit kept: what follows it does not compress
    part = np.where(inside, np.round(coarse * 2**30) / 2**30, healpy.UNSEEN).astype(np.float32)
    healpy.write_map(
        str(file), part, partial=True, coord="G", dtype=np.float32, column_names=["Y"], column_units="y",
        extra_header=[("FWHM", 10.0, "arcmin"), ("CREATOR", "szeek", "simulated sky, not a measurement")],
        overwrite=True,
    )  # fmt: skip


def _pixel_of(lon_deg: np.ndarray, lat_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image column and row of Galactic positions; NaN behind the tangent plane."""
    basis = field_basis(CENTRE_LON_DEG, CENTRE_LAT_DEG)
    x, y, _ = project(basis, unit_vectors(lon_deg, lat_deg), PIXEL_ARCMIN)
    return x + (N_PIXEL - 1) / 2, y + (N_PIXEL - 1) / 2


def _inside(table: Table) -> Table:
    x, y = _pixel_of(np.asarray(table["lon_deg"]), np.asarray(table["lat_deg"]))
    return table[(x > 0) & (x < N_PIXEL - 1) & (y > 0) & (y < N_PIXEL - 1)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a demo run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "field", help="folder to write to")
    given = parser.parse_args()
    main(given.run, given.out)
