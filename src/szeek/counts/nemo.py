"""A survey and its catalogue as nemo leaves them: what `nemo.completeness.SelFn` of nemo 0.9 loads as it is.

    y0~ = Q(theta500) 10^A0 E(z)^2 (M500 / Mpivot)^(1 + B0),        S/N = y0~ / y0RMS

nemo has one filter, of a reference size, and Q says how much of another size's signal passes it. Here every size has
its filter, so that Q is what gives that S/N: the noise of y0 at the reference size over that at the size. y0 is the
central Compton y of the universal profile of a Y500 and theta500.

Two sizes: the relation was calibrated with R500 of the X-ray mass (1-b) M500, but nemo looks up Q at theta500 of M500
itself, (1-b)^(-1/3) times as large. QFit.fits lists nemo's size.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from numpy.typing import NDArray

from szeek.counts.masses import MassRelation
from szeek.counts.survey import Survey, interpolate_noise
from szeek.physics.cosmology import COSMOLOGY
from szeek.physics.gas import pressure_profile
from szeek.physics.scaling import Y_SLOPE, theta500_from_mass, y500_from_mass

Floats = NDArray[np.float64]

#: Name of the filter; nemo wants one.
_FILTER = "SZeek"
_REFERENCE_ARCMIN = 5.0
_PIVOT_MSUN = 3e14
_MASK_STEP_DEG = 0.5
#: Rows of RMSTab for each patch, of equal area. nemo halves their number, and leaves out a tile of one.
_N_NOISE = 16
#: Sizes of QFit: nemo's grid reaches from 5e13 Msun at z = 3 to 1e16 at 0.005. Outside the table Q would be 0, and
#: nemo's integral over the scatter, on 44 points between the least and the largest signal, too coarse.
_Q_SIZES_ARCMIN = np.geomspace(0.1, 500.0, 120)


def write_nemo(survey: Survey, catalogue: Table, relation: MassRelation, folder: Path) -> None:
    """catalogue.fits and selFn/: RMSTab, QFit, areaMask, fRelWeights, tileAreas, tileCoordsDict and config.yml.

    Tiles are the patches. The share of clusters that the network finds has no place in it.
    """
    selfn = folder / "selFn"
    selfn.mkdir()
    tiles = [f"PATCH{k}" for k in range(survey.n_patches)]
    area_deg2 = survey.sky_fraction * 4 * np.pi * np.degrees(1.0) ** 2
    _noise_table(survey, tiles, area_deg2).write(selfn / "RMSTab.fits")
    _write_q(survey, tiles, relation, selfn / "QFit.fits")
    wcs, patch_map = _draw_patches(survey)
    masks = [
        fits.CompImageHDU((patch_map == number).astype(np.uint8), wcs.to_header(), name=tile)
        for number, tile in enumerate(tiles)
    ]
    fits.HDUList([fits.PrimaryHDU(), *masks]).writeto(selfn / "areaMask.fits")
    _write_tiles(masks, selfn / "tileCoordsDict.pkl")
    # nothing is corrected for relativity: the relation is of Compton y
    Table({"tileName": tiles, "148.0": np.ones(len(tiles))}).write(selfn / "fRelWeights.fits")
    areas = [f"{tile} {area:.6f}" for tile, area in zip(tiles, area_deg2, strict=True)]
    (selfn / "tileAreas.txt").write_text("\n".join(["#tileName areaDeg2", *areas]) + "\n")
    (selfn / "config.yml").write_text(_configure(survey, relation))
    _list_clusters(survey, catalogue, tiles).write(folder / "catalogue.fits")


def _y0_noise(survey: Survey, y500_noise_arcmin2: Floats, theta500_arcmin: Floats | float) -> Floats:
    """Sigma of y0 where that of Y500 is this, in units of the S/N that injections have."""
    return np.asarray(
        y500_noise_arcmin2 * _central_y_per_y500() / np.square(theta500_arcmin) / survey.detection.snr_factor
    )


def _noise_table(survey: Survey, tiles: list[str], area_deg2: Floats) -> Table:
    """Noise of y0 at the reference size against area: quantiles of equal area of the pixels of each patch."""
    at = (np.arange(_N_NOISE) + 0.5) / _N_NOISE
    rows = []
    for number in range(survey.n_patches):
        pixel = np.flatnonzero(survey.patch == number)
        noise = _y0_noise(survey, survey.noise(_REFERENCE_ARCMIN, pixel), _REFERENCE_ARCMIN)
        order = np.argsort(noise)
        area = survey.covered[pixel][order]
        rows.append(np.interp(at, (np.cumsum(area) - area / 2) / area.sum(), noise[order]))
    columns = {
        "areaDeg2": np.repeat(area_deg2 / _N_NOISE, _N_NOISE),
        "y0RMS": np.concatenate(rows),
        "tileName": np.repeat(tiles, _N_NOISE),
    }
    return Table(columns)


def _write_q(survey: Survey, tiles: list[str], relation: MassRelation, path: Path) -> None:
    """Q of each patch. Sigma of Y500 is held beyond the sizes at which it is known, and Q above the largest."""
    seen = np.minimum(_Q_SIZES_ARCMIN, survey.theta500_arcmin[-1])
    of_nemo = _Q_SIZES_ARCMIN / np.cbrt(relation.mass_bias)
    hdus: list[fits.PrimaryHDU | fits.BinTableHDU] = [fits.PrimaryHDU()]
    for number, tile in enumerate(tiles):
        reference, noise = (
            interpolate_noise(survey.theta500_arcmin, survey.patch_noise_arcmin2, size, number) / np.square(size)
            for size in (_REFERENCE_ARCMIN, seen)
        )
        columns = {"theta500Arcmin": of_nemo, "Q": reference / noise, "z": np.zeros(seen.size)}
        hdu = fits.table_to_hdu(Table(columns, meta={"ZDEPQ": 0}))  # of every redshift
        hdu.name = tile
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path)


def _write_tiles(masks: list[fits.CompImageHDU], path: Path) -> None:
    """The pickle from which nemo has the tiles' names, and where they lie in the map: all of it is each one's."""
    tiles = {}
    for mask in masks:
        n_y, n_x = mask.data.shape
        whole = [0, n_x, 0, n_y]
        tiles[mask.name] = {
            "clippedSection": whole, "header": mask.header.copy(), "areaMaskInClipSection": whole,
            "reprojectToTan": False, "numPix": int(mask.data.sum()),
        }  # fmt: skip
    path.write_bytes(pickle.dumps(tiles))


def _configure(survey: Survey, relation: MassRelation) -> str:
    """config.yml: the cosmology and the relation; `unfilteredMaps` and `mapFilters` have to be there."""
    cosmology = survey.cosmology
    lines = [
        "unfilteredMaps: []",
        f"photFilter: '{_FILTER}'",
        "mapFilters:",
        f"  - label: '{_FILTER}'",
        "    params: {}",
        "massOptions:",
        f"  H0: {100 * cosmology.h:.4f}",
        f"  Om0: {cosmology.omega_m:.5f}",
        f"  Ob0: {cosmology.omega_b:.5f}",
        f"  sigma8: {cosmology.sigma8:.5f}",
        f"  ns: {cosmology.spectral_index:.5f}",
        "  scalingRelations:",
        f"    - label: '{_FILTER}'",
        f"      tenToA0: {_y0_of_pivot(relation):.6e}",
        f"      B0: {Y_SLOPE - 5 / 3:.6f}",
        f"      Mpivot: {_PIVOT_MSUN:.1e}",
        f"      sigma_int: {np.hypot(relation.scatter_ln, survey.detection.snr_scatter_ln):.6f}",
        "      relativisticCorrection: false",
    ]
    return "\n".join(lines) + "\n"


def _list_clusters(survey: Survey, catalogue: Table, tiles: list[str]) -> Table:
    """The catalogue with nemo's names; y0 in 1e-4, noise of the cluster's own pixel."""
    pixel = healpy.ang2pix(survey.nside, catalogue["GLON"], catalogue["GLAT"], lonlat=True)
    noise = 1e4 * _y0_noise(survey, survey.noise(_REFERENCE_ARCMIN, pixel), _REFERENCE_ARCMIN)
    fixed = np.asarray(catalogue["FIXED_SNR"], float)
    columns = {
        "name": np.asarray(catalogue["NAME"], str),
        "RADeg": np.asarray(catalogue["RA"], float),
        "decDeg": np.asarray(catalogue["DEC"], float),
        "SNR": np.asarray(catalogue["SNR"], float),
        "fixed_SNR": fixed,
        "fixed_y_c": fixed * noise,
        "fixed_err_y_c": noise,
        "redshift": np.asarray(catalogue["Z"], float),
        "redshiftErr": np.zeros(len(catalogue)),
        "tileName": np.array(tiles)[np.asarray(catalogue["PATCH"], int)],
    }
    return Table(columns)


def _central_y_per_y500() -> float:
    """y0 of the universal profile, for Y500 of 1 arcmin^2 and theta500 of 1 arcmin."""
    x = 5.0 * ((np.arange(200_000) + 0.5) / 200_000) ** 3  # dense towards the cusp
    dx = np.gradient(x)
    p = pressure_profile(x)
    inside = x < 1
    return float(2 * (p * dx).sum() / (4 * np.pi * (x**2 * p * dx)[inside].sum()))


def _y0_of_pivot(relation: MassRelation) -> float:
    """y0 of the true mass 3e14 Msun at E(z) = 1: Planck's relation has y0 ~ E^2 M^(alpha - 2/3)."""
    one, z = np.array([_PIVOT_MSUN / 1e14]), np.array([0.1])
    flux = y500_from_mass(one, z, relation.mass_bias)
    size = theta500_from_mass(one, z, relation.mass_bias)
    return float((flux / size**2)[0] * _central_y_per_y500() / COSMOLOGY.efunc(0.1) ** 2)


def _draw_patches(survey: Survey) -> tuple[WCS, NDArray[np.int64]]:
    """Patch of each pixel of a plate carree map of the whole sky, in RA and Dec."""
    n_x, n_y = int(360 / _MASK_STEP_DEG), int(180 / _MASK_STEP_DEG)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---CAR", "DEC--CAR"]
    wcs.wcs.cdelt = [-_MASK_STEP_DEG, _MASK_STEP_DEG]
    wcs.wcs.crval = [180.0, 0.0]
    wcs.wcs.crpix = [n_x / 2 + 0.5, n_y / 2 + 0.5]
    x, y = np.meshgrid(np.arange(n_x), np.arange(n_y))
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    galactic = SkyCoord(ra, dec, unit="deg").galactic
    return wcs, survey.patch[healpy.ang2pix(survey.nside, galactic.l.deg, galactic.b.deg, lonlat=True)]
