"""Counts maps of X-ray surveys with their exposure: HEALPix files, or images in any celestial projection."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from numpy.typing import NDArray

from szeek.inputs.fits_files import parse_part
from szeek.inputs.healpix_files import FRAMES, HealpixFile, describe_healpix, list_columns
from szeek.inputs.image_files import read_pixels
from szeek.sky.photons import PhotonMap

_AXES = {"RA": "icrs", "GLON": "galactic", "ELON": "barycentricmeanecliptic"}
_COUNTS = ("COUNTS", "COUNT", "PHOTONS", "RATE", "SIGNAL", "I_STOKES", "TEMPERATURE")
_EXPOSURE = ("EXPOSURE", "EXPTIME", "EXPOSURE_S", "EXPOSURE_TIME")


def read_photons(
    path: str | os.PathLike[str],
    exposure: str | os.PathLike[str] | float,
    *,
    frame: str | None = None,
    ordering: str | None = None,
) -> PhotonMap:
    """Read photons in each pixel of a survey's map, and for how long it was observed.

    Parameters
    ----------
    path : path
        Counts, or rates where the unit says 'per second' (``count / s``): HEALPix FITS, or an image with a celestial
        WCS, plain or compressed; extension and column in brackets as :mod:`szeek.inputs.fits_files` has them.
    exposure : path or float
        Seconds: a map on the same pixels, or one number for all of the sky.
    frame, ordering : str, optional
        Of a HEALPix file, where its header does not say.

    Returns
    -------
    PhotonMap

    Raises
    ------
    OSError
        If a file is not FITS, or truncated.
    ValueError
        If the two maps are not on the same pixels, counts are negative, nothing was observed, or the exposure is no
        time.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = f"{folder}/counts.fits"
    ...     healpy.write_map(file, np.full(12 * 64**2, 2.0), coord="G", column_names=["COUNTS"], dtype=np.float32)
    ...     photons = read_photons(file, 300.0)
    >>> float(photons.counts.sum()), float(photons.exposure_s.max())
    (98304.0, 300.0)
    """
    seconds = _as_number(exposure)
    image = read_pixels(path)
    if image is not None:
        return _from_image(image, exposure, seconds)
    file = describe_healpix(path, None, _COUNTS)
    where = file.require_frame(frame)
    counts = _healpix_values(file, ordering)
    if seconds is None:
        other = _describe_exposure(str(exposure))
        if (other.nside, other.require_frame(frame)) != (file.nside, where):
            raise ValueError(
                f"'{exposure}' has nside {other.nside}, frame {other.require_frame(frame)}, expected those of "
                f"'{path}', {file.nside} and {where}; write it on the same pixels"
            )
        time = _healpix_values(other, ordering)
    else:
        time = np.full(counts.size, seconds)
    rotation = None if where == "galactic" else np.asarray(healpy.Rotator(coord=["G", FRAMES[where]]).mat)
    area = float(healpy.nside2pixarea(file.nside, degrees=True)) * 3600
    return _photons(path, counts, time, file.unit, area, rotation=rotation)


def _describe_exposure(path: str) -> HealpixFile:
    """The map of seconds in a file; its column is no intensity, and is named or the only one."""
    names = list_columns(path)
    known = [name for wanted in _EXPOSURE for name in names if name.upper() == wanted]
    column = known[0] if known else names[0] if len(names) == 1 else None
    return describe_healpix(path, None if parse_part(path).column else column, _COUNTS)


def _healpix_values(file: HealpixFile, ordering: str | None) -> NDArray[np.float64]:
    """All pixels, RING, in the file's own frame; NaN where it has none."""
    values = np.full(12 * file.nside**2, np.nan)
    nested = file.require_ordering(ordering) == "NESTED"
    for pixels, block in file.read_blocks():
        values[healpy.nest2ring(file.nside, pixels) if nested else pixels] = block
    return values


def _from_image(
    image: tuple[Path, NDArray[np.float64], fits.Header],
    exposure: str | os.PathLike[str] | float,
    seconds: float | None,
) -> PhotonMap:
    path, pixels, header = image
    counts: NDArray[np.float64] = pixels.reshape(pixels.shape[-2:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        wcs = WCS(header).celestial
    axis = str(wcs.wcs.ctype[wcs.wcs.lng]).split("-")[0] if wcs.wcs.lng >= 0 else ""
    if axis not in _AXES:
        raise ValueError(f"the image of '{path}' has no celestial axes ({', '.join(WCS(header).wcs.ctype)}); "
                         "expected RA and DEC, GLON and GLAT, or ELON and ELAT")  # fmt: skip
    if seconds is None:
        found = read_pixels(str(exposure))
        time: NDArray[np.float64] | None = None if found is None else found[1].reshape(found[1].shape[-2:])
        if time is None or time.shape != counts.shape:
            shape = "no image" if time is None else f"{time.shape[0]} x {time.shape[1]} pixels"
            raise ValueError(
                f"'{exposure}' has {shape}, expected the {counts.shape[0]} x {counts.shape[1]} of '{path}'"
            )
    else:
        time = np.full(counts.shape, seconds)
    y, x = np.indices(counts.shape)
    lon_deg, lat_deg = wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)
    on_sky = np.isfinite(lon_deg) & np.isfinite(lat_deg)
    galactic = SkyCoord(lon_deg[on_sky], lat_deg[on_sky], unit="deg", frame=_AXES[axis]).galactic
    area = float(abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600
    directions = np.asarray(galactic.cartesian.xyz.value.T)
    unit = str(header.get("BUNIT", ""))
    return _photons(path, counts.ravel()[on_sky], time.ravel()[on_sky], unit, area, directions=directions)


def _photons(
    path: str | os.PathLike[str],
    counts: NDArray[np.float64],
    time: NDArray[np.float64],
    unit: str | None,
    pixel_arcmin2: float,
    *,
    directions: NDArray[np.float64] | None = None,
    rotation: NDArray[np.float64] | None = None,
) -> PhotonMap:
    seen = np.isfinite(counts) & (time > 0)
    if not seen.any():
        raise ValueError(f"'{parse_part(path).path}' has no observed pixel with an exposure above 0")
    time = np.where(seen, time, 0.0)
    counts = np.where(seen, counts, 0.0)
    if is_rate(unit):
        counts = counts * time
    try:
        return PhotonMap(counts.astype(np.float32), time.astype(np.float32), pixel_arcmin2, directions, rotation)
    except ValueError as error:
        raise ValueError(
            f"'{parse_part(path).path}': {error}; a map with its background taken out will not do"
        ) from error


def is_rate(unit: str | None) -> bool:
    """Whether a unit is one of counts per second.

    Examples
    --------
    >>> [is_rate(unit) for unit in ("count / s", "cts/sec", "ct s-1", "count", "photons", None)]
    [True, True, True, False, False, False]
    """
    word = "".join((unit or "").lower().split())
    return word.endswith(("/s", "/sec", "/second", "s-1", "s^-1", "s**-1", "sec-1"))


def _as_number(exposure: str | os.PathLike[str] | float) -> float | None:
    """Seconds, where the exposure is a number; None where it is a file."""
    try:
        seconds = float(exposure)  # type: ignore[arg-type]  # a path raises TypeError
    except (TypeError, ValueError):
        return None
    if not 0 < seconds < np.inf:
        raise ValueError(f"exposure is {seconds:g}, expected seconds above 0")
    return seconds
