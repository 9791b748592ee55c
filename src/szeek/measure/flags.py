"""Flags of candidates: what else lies at a position, and whether that was looked for.

Two sums of the same bits: ``flags`` says what was found, ``checked`` what was looked for. A bit that is in neither is
not known; only one that is in ``checked`` and not in ``flags`` is clear.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import healpy
import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from szeek.inputs.instrument import read_instrument
from szeek.inputs.reddening import reddening_mag
from szeek.physics.instrument import Instrument
from szeek.sky.healpix import unit_vectors
from szeek.sky.mapset import MapSet
from szeek.sky.projection import interpolate
from szeek.sky.skymaps import SkyMaps

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: What each flag says of a candidate.
FLAG_MEANINGS: Mapping[str, str] = {
    "edge": "the area touches the border of the footprint",
    "galactic": "in the Galactic-plane mask, or E(B-V) above 0.365",
    "point_source": "a compact source within a beam, brighter than the tSZ signal can be: see PS_BAND; or P_RADIO or "
    "P_DUSTY above one half",
    "cold_clump": "has spectrum and size of a Galactic cold clump, P_CLUMP above one half, or a catalogued one "
    "(PGCC) is near",
    "co": "bright CO line emission, or P_CO above one half",
    "dust": "strong or uneven dust emission",
    "large": "extended: its tSZ signal is larger than a beam, at 3 sigma",
    "blend": "cut from the same connected area as another source",
}
#: Bits of FLAGS and of CHECKED: 1, 2, 4, ...
FLAGS: Mapping[str, int] = {name: 1 << k for k, name in enumerate(FLAG_MEANINGS)}

#: E(B-V) in mag above which a position counts as in the Galactic plane: the dustiest 16.4 per cent of the sky, as
#: much as the mask of PSZ2 leaves out (Planck 2015 results XXVII, A&A 594, A27, Sect. 2).
PLANE_REDDENING_MAG = 0.365
# Dust is uneven where the band of the highest frequency (857 GHz) differs, on the scale of a cluster, between a disc
# and its ring, up or down, by what at 353 GHz is as bright as y = 2e-5, a faint candidate's (modified blackbody of
# 19.7 K and index 1.62, Planck 2013 results XI, A&A 571, A11). On a simulated sky noise, CIB and galaxies make
# 0.1 MJy/sr there. Without the maps, and beside them, the reddening above which every other position is that uneven.
_DUST_EXCESS_MJYSR, _DUST_REDDENING_MAG = 0.4, 0.25
_LEAST_DUST_GHZ = 700.0
_DISC_ARCMIN, _RING_ARCMIN = 5.0, (15.0, 25.0)
# As bright as y = 2e-5 again: at 217 GHz, of the J=2-1 line, 27 uK per K km/s of J=1-0 (Planck 2013 results XIII, A&A
# 571, A13, Sect. 4.4.1), where y = 2e-5 has 56 uK at 143 GHz.
_CO_KKMS = 2.0
# Of a compact source's flux less the tSZ signal's: what compact sources are listed from. PCCS2 has the same.
_EXCESS_SNR = 5.0
# Below this S/N of dust in the fit to the spectrum, faint clusters with dusty galaxies have a clump's colour too
# (simulated skies: 17 of 23 false ones); PGCC's own threshold is 4 (Planck 2015 results XXVIII, A&A 594, A28).
_CLUMP_SNR = 5.0
# Half of the size that clumps have: 8 to 10 arcmin (the same, Sect. 4).
_CLUMP_ARCMIN = 5.0
# S/N^2 is twice the log-likelihood: by this many sigma a size explains more than the smallest, which is not resolved.
_RESOLVED_SNR = 3.0
_ARCMIN = np.pi / 10800
# Columns of the photometry that *cold_clump* and *point_source* need.
_SPECTRUM, _FLUX = frozenset({"kind", "dust_snr"}), frozenset({"y5r500_arcmin2", "y5r500_err_arcmin2"})


#: Columns of a network's other classes that set a flag where the probability is above one half.
_CLASSES_OF_FLAGS = {"point_source": ("p_radio", "p_dusty"), "cold_clump": ("p_clump",), "co": ("p_co",)}


class _Finding(NamedTuple):
    """Which sources have a property, and of which it is known."""

    hit: Mask
    known: Mask


def set_flags(
    sources: Table,
    maps: SkyMaps | MapSet | None = None,
    compact: Table | None = None,
    *,
    instrument: str | Instrument = "planck-hfi",
    galactic_mask: Mask | None = None,
    pgcc: Table | None = None,
    co_map: SkyMaps | None = None,
) -> Table:
    """Add flags to a source table, and which of them were checked.

    Each flag is checked where what it needs is given; the others keep what the table says already.

    Parameters
    ----------
    sources : Table
        ``lon_deg``, ``lat_deg`` (Galactic). ``edge`` and ``blend``, as :func:`szeek.find.detect.detect_sources` gives
        them, and ``p_radio``, ``p_dusty``, ``p_clump`` and ``p_co``
        (:func:`szeek.assess.classes.class_probabilities`) are checked where they are there; *cold_clump* needs
        ``kind`` and ``dust_snr``, *large* ``size_snr``,
        *point_source* ``y5r500_arcmin2`` and its error, all of :func:`szeek.measure.photometry.measure_sources`.
    maps : SkyMaps, optional
        The frequency maps; the band of the highest frequency tells of dust. Without them the reddening alone does.
    compact : Table, optional
        Compact sources: ``lon_deg``, ``lat_deg``, ``band``, ``snr``, ``flux_mjy``, ``flux_err_mjy``, from the maps
        (:func:`szeek.filter.snrmaps.filter_sky`), from PCCS2 (:func:`szeek.inputs.compact.read_pccs2`), or both
        stacked.
    instrument : str or Instrument
        Beams and tSZ response of the bands.
    galactic_mask : (12 nside^2,) bool, optional
        RING, Galactic; True where the sky is to be used, as :func:`szeek.inputs.masks.read_mask` gives it. Without
        it, the plane is where E(B-V) is above 0.365 mag.
    pgcc : Table, optional
        Catalogued cold clumps (:func:`szeek.inputs.compact.read_pgcc`): ``lon_deg``, ``lat_deg``.
    co_map : SkyMaps, optional
        Intensity of the CO J=1-0 line in K km/s, one band, as :func:`szeek.inputs.stackmaps.read_stack_map` gives it.

    Returns
    -------
    Table
        The sources with ``flags``, ``checked`` (int32, sums of :data:`FLAGS`) and, of the compact source behind
        *point_source*, ``ps_band`` (text, '' for none) and ``ps_snr``.

    Raises
    ------
    ValueError
        If a compact source is in a band that the instrument has not.

    Examples
    --------
    >>> sources = Table({"lon_deg": [57.8, 0.0], "lat_deg": [88.0, 0.0], "edge": [False, False]})
    >>> flagged = set_flags(sources)
    >>> name_flags(flagged["flags"][1]), name_flags(flagged["checked"][1])
    (('galactic', 'dust'), ('edge', 'galactic', 'dust'))
    """
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    out = sources.copy()
    lon_deg, lat_deg = np.asarray(sources["lon_deg"], float), np.asarray(sources["lat_deg"], float)
    vectors = unit_vectors(lon_deg, lat_deg).reshape(-1, 3)
    everywhere = np.ones(len(sources), bool)
    found = {
        name: _Finding(np.asarray(sources[name], bool), everywhere)
        for name in ("edge", "blend")
        if name in sources.colnames
    }
    reddening = reddening_mag(lon_deg, lat_deg)
    in_plane = reddening > PLANE_REDDENING_MAG
    if galactic_mask is not None:
        in_plane = ~galactic_mask[healpy.vec2pix(healpy.npix2nside(galactic_mask.size), *vectors.T)]
    found["galactic"] = _Finding(in_plane, everywhere)
    dusty = reddening > _DUST_REDDENING_MAG
    if maps is not None:
        dusty |= np.abs(measure_dust_excess(maps, vectors, setup)) > _DUST_EXCESS_MJYSR
    found["dust"] = _Finding(dusty, everywhere)
    if co_map is not None:
        line_kkms = interpolate(co_map.values, vectors, co_map.footprint)[:, 0]
        found["co"] = _Finding(line_kkms > _CO_KKMS, np.isfinite(line_kkms))
    if _SPECTRUM.issubset(sources.colnames) or pgcc is not None:
        found["cold_clump"] = _find_clumps(sources, vectors, pgcc)
    if "size_snr" in sources.colnames:
        snr = np.asarray(sources["size_snr"], float)
        improved = snr.max(axis=1, initial=0.0) ** 2 - np.maximum(snr[:, 0], 0.0) ** 2
        found["large"] = _Finding(improved > _RESOLVED_SNR**2, np.isfinite(improved))
    if compact is not None and _FLUX.issubset(sources.colnames):
        contaminants = find_contaminants(sources, compact, setup)
        out["ps_band"], out["ps_snr"] = contaminants["band"], contaminants["snr"]
        known = np.isfinite(np.asarray(sources["y5r500_arcmin2"], float))
        found["point_source"] = _Finding(np.isfinite(contaminants["snr"]), known)
    for flag, names in _CLASSES_OF_FLAGS.items():
        for name in set(names).intersection(sources.colnames):
            found[flag] = _either(found.get(flag), np.asarray(sources[name], float))
    flags, checked = (
        np.asarray(sources[name], np.int32) if name in sources.colnames else np.zeros(len(sources), np.int32)
        for name in ("flags", "checked")
    )
    for name, (hit, known) in found.items():
        flags = np.where(known, (flags & ~FLAGS[name]) | np.where(hit, FLAGS[name], 0), flags)
        checked = np.where(known, checked | FLAGS[name], checked)
    out["flags"], out["checked"] = flags.astype(np.int32), checked.astype(np.int32)
    return out


def _either(found: _Finding | None, probability: Floats) -> _Finding:
    """What was found before, or by a network: known where either knows."""
    hit, known = probability > 0.5, np.isfinite(probability)
    return _Finding(hit, known) if found is None else _Finding(found.hit & found.known | hit, found.known | known)


def name_flags(bits: int) -> tuple[str, ...]:
    """Names of the flags in a sum of bits.

    Examples
    --------
    >>> name_flags(5)
    ('edge', 'point_source')
    """
    return tuple(name for name, bit in FLAGS.items() if bits & bit)


def expect_tsz_mjy(y_arcmin2: ArrayLike, instrument: Instrument) -> Floats:
    """Flux density of the tSZ signal of an integrated Compton y in each band, (..., n_band) in mJy."""
    per_y = 1e9 * _ARCMIN**2 * instrument.tsz_kcmb * instrument.mjysr_per_kcmb
    return np.asarray(y_arcmin2, np.float64)[..., None] * per_y


def find_contaminants(sources: Table, compact: Table, instrument: Instrument) -> Table:
    """The compact source, if any, that adds to each source more than its own tSZ signal can be.

    A cluster is itself a compact source at 353 GHz and above. Its flux there is known from all bands together; only
    what a band has in excess of it counts. Below, where a cluster is dark, every compact source counts.

    Parameters
    ----------
    sources : Table
        ``lon_deg``, ``lat_deg``, ``y5r500_arcmin2``, ``y5r500_err_arcmin2``.
    compact : Table
        As of :func:`set_flags`.
    instrument : Instrument

    Returns
    -------
    Table
        A row per source: ``band`` (text) and ``snr`` of the compact source with the most significant excess within a
        beam of that band; '' and NaN where there is none, or the tSZ flux is not known.

    Raises
    ------
    ValueError
        If a compact source is in a band that the instrument has not.
    """
    names = np.asarray(compact["band"], str)
    if unknown := sorted(set(names.tolist()) - set(instrument.band_names)):
        raise ValueError(
            f"compact sources in band {', '.join(unknown)}, expected those of {instrument.name}: "
            f"{', '.join(instrument.band_names)}; leave the others out"
        )
    band = np.array([instrument.band_names.index(name) for name in names.tolist()], np.int64)
    position, where = (
        unit_vectors(np.asarray(table["lon_deg"], float), np.asarray(table["lat_deg"], float)).reshape(-1, 3)
        for table in (sources, compact)
    )
    reach_arcmin = np.array([b.fwhm_arcmin for b in instrument.bands])[band]
    y, y_error, flux, error, snr = (
        np.asarray(table[name], float)
        for table, name in (
            *((sources, name) for name in ("y5r500_arcmin2", "y5r500_err_arcmin2")),
            *((compact, name) for name in ("flux_mjy", "flux_err_mjy", "snr")),
        )
    )
    tsz = np.maximum(expect_tsz_mjy(np.maximum(y, 0.0), instrument), 0.0)
    tsz_error = np.where(tsz > 0, expect_tsz_mjy(y_error, instrument), 0.0)
    highest, chosen = np.full(len(sources), -np.inf), np.full(len(sources), -1)
    tree = cKDTree(position)
    for k, near in enumerate(tree.query_ball_point(where, 2 * np.sin(reach_arcmin * _ARCMIN / 2))):
        for source in near:
            excess = (flux[k] - tsz[source, band[k]]) / np.hypot(error[k], tsz_error[source, band[k]])
            if excess >= max(_EXCESS_SNR, highest[source]):
                highest[source], chosen[source] = excess, k
    hit = chosen >= 0
    found = Table({"band": np.full(len(sources), "", names.dtype), "snr": np.full(len(sources), np.nan)})
    found["band"][hit], found["snr"][hit] = names[chosen[hit]], snr[chosen[hit]]
    return found


def measure_dust_excess(maps: SkyMaps | MapSet, vectors: Floats, instrument: Instrument) -> Floats:
    """Brightness of the highest-frequency band in a disc of 5 arcmin above that of its ring, (n,) in MJy/sr.

    NaN where nothing is seen of either, or the band is not that of 857 GHz or above, where dust is what is brightest.
    Of a set of maps the HEALPix ones alone are looked at: no image has such a band.
    """
    if isinstance(maps, MapSet):
        groups = [group for group in maps.groups if isinstance(group, SkyMaps)]
        if not groups:
            return np.full(len(vectors), np.nan)
        maps = max(groups, key=lambda group: max(band.freq_ghz for band in group.bands))
    column = int(np.argmax([band.freq_ghz for band in maps.bands]))
    excess = np.full(len(vectors), np.nan)
    if maps.bands[column].freq_ghz < _LEAST_DUST_GHZ:
        return excess
    number = instrument.band_names.index(maps.bands[column].name)
    mjysr = float(instrument.mjysr_per_kcmb[number] / instrument.unit_per_kcmb[number])
    inner, outer = _RING_ARCMIN
    for k, vector in enumerate(vectors):
        pixels = healpy.query_disc(maps.nside, vector, outer * _ARCMIN)
        pixels = pixels[maps.footprint[pixels]]
        values = maps.values[pixels, column].astype(np.float64)
        offset = vector @ np.stack(healpy.pix2vec(maps.nside, pixels))
        disc, ring = offset > np.cos(_DISC_ARCMIN * _ARCMIN), offset < np.cos(inner * _ARCMIN)
        if disc.any() and ring.any():
            excess[k] = mjysr * (values[disc].mean() - values[ring].mean())
    return excess


def _find_clumps(sources: Table, vectors: Floats, pgcc: Table | None) -> _Finding:
    """Sources of a cold clump's spectrum and size, or near a catalogued one."""
    hit, known = np.zeros(len(sources), bool), np.zeros(len(sources), bool)
    if _SPECTRUM.issubset(sources.colnames):
        kind = np.asarray(sources["kind"], str)
        hit, known = (kind == "cold clump") & (np.asarray(sources["dust_snr"], float) > _CLUMP_SNR), kind != ""
    if pgcc is not None:
        clumps = unit_vectors(np.asarray(pgcc["lon_deg"], float), np.asarray(pgcc["lat_deg"], float)).reshape(-1, 3)
        distance, _ = cKDTree(clumps).query(vectors)
        hit, known = hit | (distance < 2 * np.sin(_CLUMP_ARCMIN * _ARCMIN / 2)), np.ones(len(sources), bool)
    return _Finding(hit, known)
