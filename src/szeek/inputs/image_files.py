"""Images with a celestial WCS: read with every mark that FITS has for what was not observed, and put on HEALPix.

The one reader of images in the package. What each keyword does is in docs/inputs.md.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning
from astropy.wcs import WCS, FITSFixedWarning
from numpy.typing import NDArray
from scipy import ndimage

from szeek.inputs.fits_files import (
    NOT_OBSERVED,
    FilePart,
    find_marked,
    is_auxiliary,
    open_fits,
    parse_part,
    read_marks,
    require_stated,
)
from szeek.inputs.healpix_files import is_healpix

_MAX_ORDER = 12  # nside 4096, 0.9 arcmin, well inside any HFI beam: finer cut-outs are sampled no finer
_FRAMES = {"galactic": "GLON-TAN", "icrs": "RA---TAN", "ecliptic": "ELON-TAN"}
_AXES = {"RA": "icrs", "GLON": "galactic", "ELON": "ecliptic"}


@dataclass(frozen=True)
class Image:
    """One tangential (TAN) cut-out: its pixels, NaN where not observed, its WCS and what its header says.

    Parameters
    ----------
    path : Path
        The file.
    pixels : (ny, nx) float64
        Longitude runs along the last axis.
    wcs : WCS
        Celestial, of the two axes.
    frame, unit : str or None
        'galactic', 'icrs' or 'ecliptic', and BUNIT; None where the header says nothing.
    pixel_arcmin : float
    """

    path: Path
    pixels: NDArray[np.float64]
    wcs: WCS
    frame: str | None
    unit: str | None
    pixel_arcmin: float

    @property
    def nside(self) -> int:
        """The HEALPix resolution whose pixel is nearest in size."""
        return image_nside(self.pixel_arcmin)

    def require_frame(self, given: str | None = None) -> str:
        """'galactic', 'icrs' or 'ecliptic': the argument, else what the header says; an error where neither does."""
        return require_stated(self.path, "frame", "CTYPE1", given, self.frame, _FRAMES)


def image_nside(pixel_arcmin: float) -> int:
    """The HEALPix resolution, at most 4096, whose pixel is nearest in size.

    Examples
    --------
    >>> image_nside(1.7177)
    2048
    """
    order = float(np.clip(np.log2(healpy.nside2resol(1, arcmin=True) / pixel_arcmin), 0, _MAX_ORDER))
    return int(1 << round(order))


def read_cutout(
    path: str | os.PathLike[str], frame: str | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_], str | None] | None:
    """One TAN cut-out of any quantity, sampled once at the centres of the HEALPix pixels inside it.

    Parameters
    ----------
    path : path
        FITS file.
    frame : str, optional
        'galactic', 'icrs' or 'ecliptic': overrules the header.

    Returns
    -------
    values : (n_pix, 1) float32, footprint : (n_pix,) bool, unit : str or None
        RING, Galactic, of the nside whose pixel is nearest in size; or None where the file holds no image.
    """
    image = read_image(path)
    if image is None:
        return None
    n_pix = 12 * image.nside**2
    values, footprint = np.zeros((n_pix, 1), np.float32), np.zeros(n_pix, bool)
    fill_from_images([image], [image.require_frame(frame)], np.ones(1), values, footprint)
    return values, footprint, image.unit


def read_image(path: str | os.PathLike[str]) -> Image | None:
    """Read the TAN image of a file, axes of one pixel aside two-dimensional; None where it holds none.

    Raises
    ------
    OSError
        If the file is not a FITS file, or truncated.
    ValueError
        If there are several images and none is named in brackets, or the projection is not TAN.
    """
    found = read_pixels(path)
    if found is None:
        return None
    file, pixels, header = found
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)  # e.g. a missing RADESYS set to FK5 from EQUINOX = 2000
        try:
            wcs = WCS(header)
            scale = float(np.sqrt(abs(np.linalg.det(wcs.celestial.pixel_scale_matrix)))) * 60.0
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"the WCS of '{file}' is not understood ({reason}); mend its header") from error
    kinds = [str(c).upper() for c in wcs.wcs.ctype]
    sky = [kind for kind in kinds if kind.endswith("-TAN")]
    if len(sky) != 2 or wcs.wcs.lng < 0 or wcs.wcs.lat < 0:
        raise ValueError(
            f"the image of '{file}' has the axes {', '.join(kinds)}, expected a tangential projection (TAN); "
            "resample it to one, for instance with reproject"
        )
    # longitude first, frequency and Stokes axes of one pixel dropped
    lng, lat, n_axis = wcs.wcs.lng, wcs.wcs.lat, pixels.ndim
    pixels = np.moveaxis(pixels, (n_axis - 1 - lat, n_axis - 1 - lng), (-2, -1))
    pixels = pixels.reshape(pixels.shape[-2:])
    axis_of = kinds[lng].split("-")[0]
    wcs = wcs.sub([lng + 1, lat + 1])
    if axis_of == "RA":
        check_system(file, wcs)
    unit = str(header.get("BUNIT", "")).strip() or None
    return Image(file, pixels, wcs, _AXES.get(axis_of), unit, scale)


def check_system(file: Path, wcs: WCS) -> None:
    """Refuse equatorial axes of another system than ICRS or FK5 J2000.

    Raises
    ------
    ValueError
        Names it.
    """
    system, equinox = str(wcs.wcs.radesys or "").strip().upper(), wcs.wcs.equinox
    # neither keyword means ICRS, FK5 alone J2000: Calabretta & Greisen (2002, A&A 395, 1077), Sect. 3.1
    if system != "ICRS" and not (system in ("", "FK5") and (np.isnan(equinox) or equinox == 2000.0)):
        raise ValueError(
            f"'{file}' is in {system or 'no stated system'}, equinox {equinox}, expected ICRS or FK5 J2000 "
            "(RADESYS, EQUINOX); bring its header to one of them"
        )


def read_pixels(path: str | os.PathLike[str]) -> tuple[Path, NDArray[np.float64], fits.Header] | None:
    """File, pixels and header of the image in a FITS file; None where it holds no image, or HEALPix maps.

    Returns
    -------
    Path, (..., ny, nx) float64, Header
        Scaled by BSCALE and BZERO; NaN where BLANK, BAD_DATA or UNSEEN say that nothing was observed, and for Inf.

    Raises
    ------
    OSError
        If the file is not a FITS file, or truncated.
    ValueError
        If there are several images and none is named in brackets, or the image is a cube.
    """
    part = parse_part(path)
    with open_fits(part.path, scale_images=False) as hdus:
        chosen = choose_image(part, hdus)
        if chosen is None:
            return None
        header = chosen.header
        shape = [int(header[f"NAXIS{axis}"]) for axis in range(header["NAXIS"], 0, -1)]
        if sum(size > 1 for size in shape) > 2:
            raise ValueError(
                f"the image of '{part.path}' has {' x '.join(map(str, shape))} pixels, expected two dimensions; "
                "write each band to a file of its own"
            )
        header = header.copy()  # astropy takes the scaling out of it when the data are read
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", VerifyWarning)  # BLANK of an image of floats: honoured below
                raw = np.asarray(chosen.data)
        except (OSError, TypeError, ValueError, EOFError) as error:
            needed = abs(int(header["BITPIX"])) // 8 * math.prod(shape)
            raise OSError(f"'{part.path}' is truncated: its image needs {needed} bytes; fetch it again") from error
    scale, zero = float(header.get("BSCALE", 1.0)), float(header.get("BZERO", 0.0))
    blank, bad_data = (read_marks(part.path, header, (key,)) for key in ("BLANK", "BAD_DATA"))
    pixels = raw.astype(np.float64)
    bad = np.zeros(raw.shape, bool)
    for mark in blank:
        bad |= raw == mark
    pixels = pixels * scale + zero
    bad |= ~((pixels > NOT_OBSERVED) & (pixels < np.inf)) | find_marked(pixels, bad_data)
    pixels[bad] = np.nan
    return part.path, pixels, header


def choose_image(part: FilePart, hdus: fits.HDUList, auxiliary: bool = False) -> Any:
    """The HDU of the image that is meant, with the cards stated after the file's name; None where there is none.

    Parameters
    ----------
    part : FilePart
    hdus : HDUList
        Of the file.
    auxiliary : bool
        Whether a weight or mask is meant, which is the only image or the only one so named, not the signal.

    Raises
    ------
    ValueError
        If there are several images and none is named in brackets.
    """
    chosen = _choose(part, hdus, auxiliary)
    if chosen is not None:
        part.state_cards(chosen.header)
        if "TUNIT" in part.cards:
            chosen.header["BUNIT"] = part.cards["TUNIT"]
    return chosen


def _choose(part: FilePart, hdus: fits.HDUList, auxiliary: bool) -> Any:
    images = [
        (name, hdu)
        for name, hdu in part.select(hdus)
        if isinstance(hdu, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU) and hdu.header.get("NAXIS", 0) > 1
    ]
    if part.extension is not None:
        return images[0][1] if images else None
    if not images or any(isinstance(hdu, fits.BinTableHDU) and is_healpix(hdu) for hdu in hdus):
        return None
    if auxiliary and len(images) == 1:
        return images[0][1]
    meant = [pair for pair in images if is_auxiliary(pair[0], str(pair[1].header.get("BUNIT", ""))) == auxiliary]
    celestial = [pair for pair in meant if str(pair[1].header.get("CTYPE1", "")).strip()]
    for some in (meant, celestial):
        if len(some) == 1:
            return some[0][1]
    listed = ", ".join(name for name, _ in images)
    expected = "one that is a weight or mask" if auxiliary else "one that is neither noise, weight nor mask"
    raise ValueError(
        f"'{part.path}' has the images {listed}, expected {expected}; name one in "
        f"brackets: '{part.path.name}[{images[0][0]}]'"
    )


def fill_from_images(
    images: Sequence[Image],
    frames: Sequence[str],
    factors: NDArray[np.float64],
    values: NDArray[np.float32],
    footprint: NDArray[np.bool_],
) -> None:
    """Cubic-spline samples of each cut-out at the HEALPix pixel centres that lie in all of them."""
    nside = healpy.npix2nside(len(values))
    ipix: NDArray[np.int64] | None = None
    columns = []
    for image, frame, factor in zip(images, frames, factors, strict=True):
        if ipix is None:
            ipix = _pixels_about(image, frame, nside)
        lon_deg, lat_deg = healpy.pix2ang(nside, ipix, lonlat=True)
        lon_deg, lat_deg = _to_frame(lon_deg, lat_deg, frame)
        ny, nx = image.pixels.shape
        x, y = image.wcs.wcs_world2pix(lon_deg, lat_deg, 0)
        good = np.isfinite(image.pixels) & (image.pixels != 0.0)
        smooth = np.where(good, image.pixels, np.median(image.pixels[good]) if good.any() else 0.0)
        sampled = ndimage.map_coordinates(smooth, [y, x], order=3, mode="mirror") * factor
        # two pixels away a spline still carries 7 % of a wrong value: bad pixels and the image's edge take two
        # pixels with them
        bad = ndimage.binary_dilation(~good, np.ones((5, 5), bool))
        inside = (x >= 2) & (x <= nx - 3) & (y >= 2) & (y <= ny - 3)
        inside[inside] = ~bad[np.rint(y[inside]).astype(int), np.rint(x[inside]).astype(int)]
        columns.append(np.where(inside, sampled, np.nan))
    assert ipix is not None
    table = np.stack(columns, axis=1)
    seen = np.isfinite(table).all(axis=1)
    values[ipix[seen]] = table[seen]
    footprint[ipix[seen]] = True


def _pixels_about(image: Image, frame: str, nside: int) -> NDArray[np.int64]:
    """RING pixels of the disc around a cut-out."""
    ny, nx = image.pixels.shape
    lon_deg, lat_deg = image.wcs.wcs_pix2world(
        [(nx - 1) / 2, 0, nx - 1, 0, nx - 1], [(ny - 1) / 2, 0, 0, ny - 1, ny - 1], 0
    )
    vectors = healpy.ang2vec(lon_deg, lat_deg, lonlat=True)
    if frame != "galactic":
        vectors = vectors @ _rotation(frame)
    radius = float(np.arccos(np.clip((vectors[1:] @ vectors[0]).min(), -1, 1)))
    return np.asarray(healpy.query_disc(nside, vectors[0], radius + 2 * healpy.nside2resol(nside)))


def _rotation(frame: str) -> NDArray[np.float64]:
    """Matrix from Galactic to `frame`; its transpose, applied on the right to row vectors, the way back."""
    return np.asarray(healpy.Rotator(coord=["G", {"icrs": "C", "ecliptic": "E"}[frame]]).mat)


def _to_frame(
    lon_deg: NDArray[np.float64], lat_deg: NDArray[np.float64], frame: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if frame == "galactic":
        return lon_deg, lat_deg
    rotated = healpy.ang2vec(lon_deg, lat_deg, lonlat=True) @ _rotation(frame).T
    lon, lat = healpy.vec2ang(rotated, lonlat=True)
    return np.asarray(lon), np.asarray(lat)
