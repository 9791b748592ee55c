"""Published frequency maps -> one checked :class:`~szeek.sky.skymaps.SkyMaps`.

HEALPix FITS files and tangential (TAN) image cut-outs, in any unit, frame and ordering that their header or
the caller *states*; nothing is assumed. The signal itself is checked in :mod:`szeek.inputs.bandcheck`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import healpy
import numba
import numpy as np
from numpy.typing import NDArray

from szeek.files import allocate_array, remove_path
from szeek.inputs.bandcheck import check_bands
from szeek.inputs.healpix_files import HealpixFile, describe_healpix, mask_pixels
from szeek.inputs.image_files import Image, fill_from_images, read_image
from szeek.inputs.instrument import read_instrument
from szeek.physics.instrument import Instrument
from szeek.sky.skymaps import SkyMaps, check_replaceable

log = logging.getLogger(__name__)

_BLOCK_PIXELS = 1 << 20

Files = Mapping[str, str | os.PathLike[str]]
Stated = str | Mapping[str, str] | None

#: Solar dipole: amplitude and Galactic direction, Planck 2018 results I (A&A 641, A1), Table 3.
DIPOLE_KCMB, DIPOLE_LON_DEG, DIPOLE_LAT_DEG = 3362.08e-6, 264.021, 48.253
#: CIB monopoles and zero-level errors stay below this up to 217 GHz: Planck 2018 results III (A&A 641, A3), Table 12.
ZERO_LEVEL_KCMB = 100e-6

_K_PER_UNIT = {
    **dict.fromkeys(("K_CMB", "KCMB", "K CMB", "K(CMB)", "K THERMO", "K_THERMO"), 1.0),
    **dict.fromkeys(("MK_CMB", "MKCMB"), 1e-3),
    **dict.fromkeys(("UK_CMB", "UKCMB", "MUK_CMB", "MUKCMB", "MICROK_CMB", "UK CMB"), 1e-6),
}
_PLAIN_UNITS = ("K", "MK", "UK")
_MJYSR_UNITS = ("MJY/SR", "MJY SR-1", "MJY.SR-1", "MJY SR^-1", "MJY SR**-1", "MJY / SR")


def read_skymaps(
    files: Files,
    instrument: str | Instrument = "planck-hfi",
    *,
    unit: Stated = None,
    frame: str | None = None,
    ordering: str | None = None,
    nside: int | None = None,
    mask: NDArray[np.bool_] | None = None,
    out: str | os.PathLike[str] | None = None,
    check: bool = True,
) -> SkyMaps:
    """Read one map per band into a checked SkyMaps: HEALPix RING, Galactic, in the instrument's units.

    HEALPix files keep their pixels. Equatorial and ecliptic ones are rotated by bilinear interpolation between
    the four nearest pixel centres (which smooths by about half a pixel). TAN cut-outs are sampled once, by
    cubic spline, at the centres of the HEALPix pixels inside them. Pixels of any band that are UNSEEN, NaN, Inf or
    what BAD_DATA, TNULL or BLANK of the header say leave the footprint, and so do those that are exactly 0, as many
    codes write what was not observed. A solar dipole still in the maps is found by regression on its template and
    taken out.

    Source: Bonjean (2020), Sect. 2: six HFI maps of nside 2048 in K_CMB and MJy/sr.

    Parameters
    ----------
    files : mapping of band name to path
        One FITS file for each band of the instrument, plain or compressed; extension, column and what its header
        leaves unsaid may follow its name in brackets (:mod:`szeek.inputs.fits_files`).
    instrument : str or Instrument
        Bands, their units and conversion factors.
    unit : str or mapping of band name to str, optional
        'K_CMB', 'mK_CMB', 'uK_CMB' or 'MJy/sr': overrules the header.
    frame : str, optional
        'galactic', 'icrs' or 'ecliptic': overrules the header.
    ordering : str, optional
        'RING' or 'NESTED': overrules the header. HEALPix files only.
    nside : int, optional
        Resolution that TAN cut-outs are sampled at; by default the one whose pixel is nearest in size, at most 4096.
    mask : (12 n^2,) bool, optional
        RING, Galactic, of any resolution: pixels that are False leave the footprint, with all that is in them.
    out : path, optional
        Folder to write the maps to (whole or not at all); the result is then memory-mapped from there.
    check : bool
        Compare the bands' CMB, dust and beams with what the instrument expects, and refuse exchanged or
        mis-scaled bands (:func:`szeek.inputs.bandcheck.check_bands`).

    Returns
    -------
    SkyMaps
        All bands of the instrument, in its order.

    Raises
    ------
    ValueError
        A band is missing or unknown; unit, frame or ordering are not stated or not known; bands differ in
        resolution; no pixel is observed in all bands, or none that the mask leaves; a band is mis-scaled or two are
        exchanged.
    OSError
        A file is missing, truncated or no FITS file; the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     files = {band: f"{folder}/{band}.fits" for band in ("100", "143", "217", "353", "545", "857")}
    ...     for band, file in files.items():
    ...         unit = "K_CMB" if int(band) < 500 else "MJy/sr"
    ...         healpy.write_map(file, np.ones(192), coord="G", column_units=unit, dtype=np.float32)
    ...     maps = read_skymaps(files, check=False)
    >>> maps.nside, maps.bands[-1].name
    (4, '857')
    """
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    check_band_names(files, setup, all_of_them=True)
    paths = [Path(files[name]) for name in setup.band_names]
    check_stated_units(unit, setup)
    target = check_replaceable(out) if out is not None else None
    images = [read_image(path) for path in paths]
    if any(images) and not all(images):
        kinds = ", ".join(f"'{p.name}' {'image' if i else 'HEALPix'}" for p, i in zip(paths, images, strict=True))
        raise ValueError(f"images and HEALPix maps are mixed ({kinds}), expected one kind for all bands")
    maps = [i if i is not None else describe_healpix(p) for p, i in zip(paths, images, strict=True)]
    keeps = None if mask is None else mask_pixels(mask, _common_nside(maps, nside))
    return fill_skymaps(
        maps, setup, unit=unit, frame=frame, ordering=ordering, nside=nside, keeps=keeps, target=target, check=check
    )


def fill_skymaps(
    maps: Sequence[Image | HealpixFile],
    setup: Instrument,
    *,
    unit: Stated = None,
    frame: str | None = None,
    ordering: str | None = None,
    nside: int | None = None,
    keeps: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
    target: Path | None = None,
    check: bool = True,
) -> SkyMaps:
    """The maps of files whose headers were read, one for each band and in the order of the bands.

    Parameters and what is refused are those of :func:`read_skymaps`; ``keeps`` tells which RING pixels a mask leaves.
    """
    n_side = _common_nside(maps, nside)
    factors = np.array([unit_factor(m.path, m.unit, unit, setup, b) for b, m in enumerate(maps)])
    units_in = tuple(stated_unit(unit, setup.band_names[b]) or m.unit or "" for b, m in enumerate(maps))
    frames = [m.require_frame(frame) for m in maps]

    staging: Path | None = None
    cutouts = all(isinstance(m, Image) for m in maps)
    try:
        # maps of a part of the sky take the memory of their own pixels, and that space on the disk
        if target is not None and any(isinstance(m, HealpixFile) and m.is_whole_sky for m in maps):
            target.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
            staging.chmod(0o755)  # as any other folder: others read it too
        file = None if staging is None else staging / "values.npy"
        values = allocate_array(file, (12 * n_side**2, len(setup.bands)))
        footprint = np.zeros(len(values), bool)
        if cutouts:
            fill_from_images([m for m in maps if isinstance(m, Image)], frames, factors, values, footprint)
        else:
            healpix = [m for m in maps if isinstance(m, HealpixFile)]
            orders = [m.require_ordering(ordering) for m in healpix]
            _fill_from_healpix(healpix, orders, frames, factors, values, footprint)
        if keeps is not None and footprint.any():
            _leave_out(values, footprint, keeps)
            if not footprint.any():
                raise ValueError("the mask is False wherever the maps are observed, expected some sky to be left")
        if not footprint.any():
            raise ValueError(
                f"no pixel is observed in every band of {', '.join(repr(m.path.name) for m in maps)}: "
                "all are UNSEEN, NaN, Inf or exactly 0 in one or the other; expected overlapping maps"
            )
        skymaps = SkyMaps(values, footprint, setup.bands)
        _remove_dipole(skymaps, setup)
        if check:
            check_bands(skymaps, setup, units_in, tuple(m.path.name for m in maps))
        if target is None:
            return skymaps
        if staging is None:
            return SkyMaps.open(skymaps.save(target))
        np.save(staging / "footprint.npy", footprint)
        (staging / "bands.json").write_text(json.dumps([asdict(band) for band in setup.bands], indent=1))
        values.flush()  # type: ignore[attr-defined]
        remove_path(target)
        staging.rename(target)
    except BaseException:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        raise
    return SkyMaps.open(target)


def check_band_names(files: Mapping[str, object], instrument: Instrument, *, all_of_them: bool) -> None:
    """Refuse bands that the instrument does not have, a file given twice and, where all are needed, missing bands.

    Raises
    ------
    ValueError
        Names them.
    """
    names = instrument.band_names
    missing = [name for name in names if name not in files] if all_of_them or not files else []
    unknown = [str(name) for name in files if name not in names]
    if missing or unknown:
        faults = [f"no file for {', '.join(missing)}"] * bool(missing)
        faults += [f"unknown band {', '.join(unknown)}"] * bool(unknown)
        raise ValueError(f"{' and '.join(faults)}; {instrument.name} has the bands {', '.join(names)}")
    paths = [(name, Path(file)) for name in names if isinstance(file := files.get(name), str | os.PathLike)]
    for (first, path), (second, other) in combinations(paths, 2):
        if path.resolve() == other.resolve():
            raise ValueError(f"'{path}' is given for {first} and for {second}, expected one file a band")


def check_stated_units(unit: Stated, instrument: Instrument) -> None:
    """Refuse units stated for bands that the instrument does not have."""
    names = instrument.band_names
    if isinstance(unit, Mapping) and (unknown := [name for name in unit if name not in names]):
        raise ValueError(f"unit names the band {', '.join(unknown)}, expected one of {', '.join(names)}")


def stated_unit(given: Stated, band: str) -> str | None:
    """What the argument ``unit`` says of a band."""
    return given.get(band) if isinstance(given, Mapping) else given


def unit_factor(path: Path, found: str | None, given: Stated, instrument: Instrument, b: int) -> float:
    """Factor from the unit of a map to that of band number b.

    Raises
    ------
    ValueError
        If neither header nor argument states a unit, or it is none of brightness.
    """
    band = instrument.bands[b]
    stated = stated_unit(given, band.name) or found
    if stated is None and (stated := instrument.details[b].published_unit or None):
        log.info("'%s' states no unit: %s, in which maps of %s are published", path.name, stated, band.name)
    # surveys that publish microkelvins, as ACT in 'uK', mean those of the CMB; in maps of HFI kelvins are refused
    from_ground = normalise_unit(instrument.details[b].published_unit) == "UK_CMB"
    if stated is not None and from_ground and normalise_unit(stated) in _PLAIN_UNITS:
        log.info("'%s' is in '%s': thermodynamic temperature (%s_CMB) is taken", path.name, stated, stated)
        stated += "_CMB"
    ways_out = (
        f"pass unit='K_CMB', 'mK_CMB', 'uK_CMB' or 'MJy/sr', or state it after the name: '{path.name}[TUNIT=K_CMB]'"
    )
    if stated is None:
        raise ValueError(f"'{path}' does not say its unit (TUNIT or BUNIT), expected {band.unit}; {ways_out}")
    kcmb = kcmb_per_unit(stated, instrument, b)
    if kcmb is None:
        raise ValueError(
            f"'{path}' is in '{stated}', which is unknown; expected {band.unit} at {band.name}; {ways_out}"
        )
    same = normalise_unit(stated) in _MJYSR_UNITS and band.unit == "MJy/sr"
    factor = 1.0 if same else kcmb * float(instrument.unit_per_kcmb[b])
    if factor != 1.0:
        log.info("'%s': %s -> %s, factor %.6g", path.name, stated, band.unit, factor)
    return factor


def kcmb_per_unit(unit: str, instrument: Instrument, b: int) -> float | None:
    """K_CMB of one of this unit in band number b; None where it is no unit of brightness."""
    word = normalise_unit(unit)
    return 1.0 / float(instrument.mjysr_per_kcmb[b]) if word in _MJYSR_UNITS else _K_PER_UNIT.get(word)


def normalise_unit(unit: str) -> str:
    """A unit in capitals, with u for micro."""
    return re.sub("[\u00b5\u03bc]", "u", unit).strip().upper()  # micro sign and Greek mu


def _common_nside(maps: Sequence[Image | HealpixFile], nside: int | None) -> int:
    if isinstance(maps[0], Image):
        if nside is not None:
            if nside < 1 or nside & (nside - 1):
                raise ValueError(f"nside is {nside}, expected a power of two")
            return nside
        return max(m.nside for m in maps)
    found = {m.path.name: m.nside for m in maps if isinstance(m, HealpixFile)}
    if len(set(found.values())) > 1:
        listed = ", ".join(f"'{name}' {n}" for name, n in found.items())
        raise ValueError(f"bands differ in nside ({listed}), expected one for all; degrade or fetch the odd ones")
    n_side = next(iter(found.values()))
    if nside not in (None, n_side):
        raise ValueError(f"the maps have nside {n_side}, asked for {nside}; nside= only sets that of image cut-outs")
    return n_side


def _leave_out(
    values: NDArray[np.float32],
    footprint: NDArray[np.bool_],
    keeps: Callable[[NDArray[np.int64]], NDArray[np.bool_]],
) -> None:
    """Take pixels that a mask does not keep out of the maps."""
    for first in range(0, len(values), _BLOCK_PIXELS):
        ipix = first + np.flatnonzero(footprint[first : first + _BLOCK_PIXELS])
        lost = ipix[~keeps(ipix)]
        values[lost], footprint[lost] = 0.0, False


# --- HEALPix files ---------------------------------------------------------------------------------------


def _fill_from_healpix(
    maps: Sequence[HealpixFile],
    orders: Sequence[str],
    frames: Sequence[str],
    factors: NDArray[np.float64],
    values: NDArray[np.float32],
    footprint: NDArray[np.bool_],
) -> None:
    """Scatter whole Galactic files block by block, all bands of a block together; the others one by one.

    Pixels that are exactly 0 were not observed: no measurement is 0, and many codes mark so. What no band observed is
    not touched, and takes no memory.
    """
    n_zero = 0
    n_seen = np.zeros(len(values), np.uint8)
    together = [m.is_whole_sky and where == "galactic" for m, where in zip(maps, frames, strict=True)]
    for order in ("RING", "NESTED"):
        group = [b for b in range(len(maps)) if together[b] and orders[b] == order]
        streams = [maps[b].read_blocks() for b in group]
        start, pending = 0, {b: np.zeros(0, np.float32) for b in group}
        while group and start < len(values):
            for b, stream in zip(group, streams, strict=True):
                if not len(pending[b]):
                    pending[b] = next(stream)[1]
            n = min(len(block) for block in pending.values())
            blocks = np.stack([pending[b][:n] for b in group])
            pending = {b: block[n:] for b, block in pending.items()}
            target = np.arange(start, start + n)
            if order == "NESTED":
                target = healpy.nest2ring(maps[0].nside, target)
            n_zero += _scatter(values, n_seen, target, blocks, factors[group].astype(np.float32), np.array(group))
            start += n
    for b, m in enumerate(maps):
        if not together[b]:
            factor = np.array([factors[b]], np.float32)
            for target, block in m.read_ring_blocks(frames[b], orders[b]):
                n_zero += _scatter(values, n_seen, target, block[None], factor, np.array([b]))
    if n_zero:
        log.warning("%d pixels are exactly 0, counted in each band: taken as not observed", n_zero)
    for first in range(0, len(values), _BLOCK_PIXELS):
        part = slice(first, first + _BLOCK_PIXELS)
        if n_seen[part].any():
            np.equal(n_seen[part], len(maps), out=footprint[part])
            if not footprint[part].all():
                values[part][(n_seen[part] > 0) & ~footprint[part]] = 0.0


@numba.njit(cache=True)
def _scatter(
    values: NDArray[np.float32],
    n_seen: NDArray[np.uint8],
    target: NDArray[np.int64],
    blocks: NDArray[np.float32],
    factors: NDArray[np.float32],
    columns: NDArray[np.int64],
) -> int:
    """values[target, columns] = blocks.T * factors where observed; n_seen counts the bands of a pixel that are.

    Returns how many are 0, which count as not observed.
    """
    n_zero = 0
    for i in range(len(target)):
        pixel = target[i]
        for k in range(len(columns)):
            value = blocks[k, i] * factors[k]
            if value == 0.0:
                n_zero += 1
            elif not np.isnan(value):
                values[pixel, columns[k]] = value
                n_seen[pixel] += 1
    return n_zero


# --- solar dipole ----------------------------------------------------------------------------------------


def dipole_amplitude(skymaps: SkyMaps, instrument: Instrument) -> NDArray[np.float64]:
    """Amplitude of the solar dipole in each K_CMB band up to 217 GHz, in units of the published dipole.

    Least squares of the map on the dipole template and a constant, the constant held to the zero levels of CMB
    maps (100 uK) so that a small field tells the dipole's level there from its own zero level.

    Source: Planck 2018 results I (A&A 641, A1), Table 3: 3362.08 uK towards (l, b) = (264.021, 48.253) deg.

    Returns
    -------
    (n,) float64
        One amplitude per such band, about 1 where the dipole is in and 0 where it was taken out.
    """
    ipix = np.flatnonzero(skymaps.footprint)
    ipix = ipix[:: max(1, len(ipix) // 200_000)]
    lat_deg = healpy.pix2ang(skymaps.nside, ipix, lonlat=True)[1]
    high = np.abs(lat_deg) > 30.0
    ipix = ipix[high] if high.sum() > 100 else ipix
    template = _dipole_at(skymaps.nside, ipix)
    columns = [
        b for b, band in enumerate(skymaps.bands) if band.unit == "K_CMB" and instrument.bands[b].freq_ghz < 300.0
    ]
    amplitudes = []
    cmb_rms = 100e-6  # the CMB's own large-scale structure is the noise of this fit: 3 modes, more on more sky
    modes = 3.0 + 300.0 * float(skymaps.footprint.mean())
    weight = modes / cmb_rms**2 / len(ipix)
    for b in columns:
        design = np.stack([template, np.ones_like(template)], axis=1)
        normal = weight * design.T @ design + np.diag([0.0, ZERO_LEVEL_KCMB**-2])
        amplitudes.append(np.linalg.solve(normal, weight * design.T @ skymaps.values[ipix, b].astype(np.float64))[0])
    return np.array(amplitudes)


def _dipole_at(nside: int, ipix: NDArray[np.int64]) -> NDArray[np.float64]:
    """K_CMB of the solar dipole at RING pixels."""
    axis = healpy.ang2vec(DIPOLE_LON_DEG, DIPOLE_LAT_DEG, lonlat=True)
    return DIPOLE_KCMB * np.asarray(np.stack(healpy.pix2vec(nside, ipix), axis=1) @ axis)


def _remove_dipole(skymaps: SkyMaps, instrument: Instrument) -> None:
    """Take the solar dipole out of all bands where every CMB band shows it; say so in the log.

    Bands that show it with different amplitudes are mis-scaled or exchanged; they stay as they are, so that the
    check of the bands finds CMB and dipole with the same wrong factor.
    """
    amplitudes = dipole_amplitude(skymaps, instrument)
    found = np.abs(amplitudes - 1.0) < 0.4
    if not found.all() or not len(found):
        if found.any():
            log.warning(
                "solar dipole in some bands only (%s of 3362.08 uK): left in", np.round(amplitudes, 2).tolist()
            )
        return
    log.info("solar dipole found (%s of 3362.08 uK) and removed from all bands", np.round(amplitudes, 2).tolist())
    seen = np.flatnonzero(skymaps.footprint)
    per_kcmb = instrument.unit_per_kcmb.astype(np.float32)
    for first in range(0, len(seen), 1 << 20):
        ipix = seen[first : first + (1 << 20)]
        skymaps.values[ipix] -= _dipole_at(skymaps.nside, ipix).astype(np.float32)[:, None] * per_kcmb
