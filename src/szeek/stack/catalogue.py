"""`szeek stack TABLE --map ...`: any maps, HEALPix or cut-outs, at the positions of any catalogue, without a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from szeek.arguments import plain_table
from szeek.files import write_json, write_table
from szeek.inputs.healpix_files import change_nside
from szeek.inputs.instrument import read_instrument, record_instrument
from szeek.inputs.mapfiles import read_skymaps
from szeek.inputs.reddening import reddening_mag
from szeek.inputs.stackmaps import read_stack_map
from szeek.physics.instrument import Instrument
from szeek.sky.skymaps import Band, SkyMaps
from szeek.stack.cutting import cut_maps
from szeek.stack.products import FluxMap, StackOptions, measure_spectrum, null_sets, stack_sources

_DUST_NSIDE = 256

#: A file; two files, halves of the data; files of several bands by their names; or maps in memory.
MapSource = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]] | SkyMaps


@dataclass(frozen=True)
class StackMap:
    """A map to stack, and what its files do not say.

    Parameters
    ----------
    source : path, two paths, mapping of band to path, or SkyMaps
        HEALPix FITS files or TAN cut-outs. Two files are two halves of the data: their mean is stacked, and half
        their difference beside it as NAME_noise. Files of all bands of an instrument, by their names, are read in its
        units, without dipole.
    unit : str, optional
        Or, of several bands, a mapping of band to unit.
    fwhm_arcmin : float, optional
        Beam.
    mask : path or (12 nside^2,) bool, optional
        True where pixels count.

    Examples
    --------
    >>> StackMap("y_map.fits", fwhm_arcmin=10.0).unit is None
    True
    """

    source: MapSource
    unit: str | Mapping[str, str] | None = None
    fwhm_arcmin: float | None = None
    mask: str | os.PathLike[str] | NDArray[np.bool_] | None = None


def stack_catalogue(
    sources: Table,
    maps: Mapping[str, MapSource | StackMap],
    folder: str | os.PathLike[str],
    options: StackOptions = StackOptions(n_p_bins=1),
    *,
    cut: Sequence[tuple[str | os.PathLike[str] | Table, float]] = (),
    least: Mapping[str, float] | None = None,
    extent_arcmin: float = 0.0,
    instrument: str | Instrument = "planck-hfi",
) -> Path:
    """Stack any maps at the positions of any catalogue, without a run.

    Null positions have the latitude and the reddening of the sources and lie where every map is seen. Sources are
    ranked by ``p``, else by ``snr``, where the catalogue has it.

    Parameters
    ----------
    sources : Table
        From :func:`szeek.inputs.catalogues.read_catalogue`, or any with ``lon_deg``, ``lat_deg``.
    maps : mapping of name to StackMap
        Or what a StackMap is made from. In the one named 'y' fluxes are measured; 'bands', of all bands of the
        instrument, gives a spectrum.
    folder : path
        Receives stacks.fits, profiles.ecsv, stacks.json, with a map 'y' scaling.ecsv, with all bands spectrum.ecsv.
    options : StackOptions
    cut : sequence of (path or Table, arcmin)
        Catalogues cut out of every map, each with its radius; sources of the stack inside are left out.
    least : mapping of column to float, optional
        Only sources above this in a column: ``{"richness": 30}``.
    extent_arcmin : float
        FWHM of the sources, for the spectrum, see :func:`szeek.stack.products.measure_spectrum`.
    instrument : str or Instrument
        Of the map 'bands'.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If no source lies inside the maps, a map's unit or beam is stated nowhere, or a column is not there.

    Examples
    --------
    >>> import json, tempfile
    >>> values, band = np.full((12 * 64**2, 1), 2e-6, np.float32), Band("y", 0.0, 10.0, "y")
    >>> y_map = SkyMaps(values, np.ones(len(values), bool), (band,))
    >>> where = Table({"lon_deg": np.arange(20, 60, 2.0), "lat_deg": np.linspace(30, 60, 20)})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = stack_catalogue(where, {"y": y_map}, folder, StackOptions(size=60, n_null_sets=2, n_p_bins=1))
    ...     json.loads((Path(folder) / "stacks.json").read_text())["n_source"]
    20
    """
    setup = read_instrument(instrument) if isinstance(instrument, str) else instrument
    listed = plain_table(sources, "sources")
    described = {name: one if isinstance(one, StackMap) else StackMap(one) for name, one in maps.items()}
    groups = read_maps(described, setup)
    masks = {name: one.mask for name, one in described.items() if one.mask is not None}
    cuts = cut_maps(groups, masks, sources=cut)
    seen = _seen_by_all(groups)
    if cut:
        everywhere = next(iter(groups))
        seen = seen & cut_maps({everywhere: groups[everywhere]}, {}, sources=cut).masks[everywhere]
    chosen = _choose(listed, seen, least or {})
    if not len(chosen):
        limits = "".join(f" with {name} > {value:g}" for name, value in (least or {}).items())
        raise ValueError(f"none of the {len(listed)} sources{limits} lies inside all of {', '.join(groups)}")
    options.weights_of(chosen)  # refused before slow work
    dust = reddening_mag(*healpy.pix2ang(_DUST_NSIDE, np.arange(12 * _DUST_NSIDE**2), lonlat=True))
    dust[healpy.ud_grade(seen.astype(np.float32), _DUST_NSIDE) == 0] = np.nan
    sets = null_sets(chosen, dust, seen, options.n_null_sets, options.null_kind, options.seed)
    nulls = vstack(sets, metadata_conflicts="silent")
    flux_map = FluxMap("y", {"NULL": nulls}) if "y" in groups else None
    stack_sources(groups, chosen, dust, folder, options, footprint=seen, masks=cuts.masks, flux_map=flux_map)
    target = Path(folder)
    if "bands" in groups and tuple(band.name for band in groups["bands"].bands) == setup.band_names:
        table = measure_spectrum(
            groups["bands"], chosen, nulls, setup, cuts.masks.get("bands"), extent_arcmin=extent_arcmin,
            y_map=groups.get("y"), y_mask=cuts.masks.get("y"),
        )  # fmt: skip
        write_table(table, target / "spectrum.ecsv")
    else:  # an earlier one, of other maps
        (target / "spectrum.ecsv").unlink(missing_ok=True)
    record = {
        "n_source": len(chosen), "n_listed": len(listed), "least": dict(least or {}), **options.record(),
        "maps": describe_maps(groups), "instrument": record_instrument(instrument), **cuts.record(),
    }  # fmt: skip
    write_json(record, target / "stacks.json")
    return target


def read_maps(maps: Mapping[str, StackMap], instrument: str | Instrument = "planck-hfi") -> dict[str, SkyMaps]:
    """The maps by name, see :class:`StackMap`."""
    if not maps:
        raise ValueError("no map is given to stack, expected at least one")
    groups: dict[str, SkyMaps] = {}
    for name, one in maps.items():
        if isinstance(one.source, SkyMaps):
            groups[name] = one.source
        elif isinstance(one.source, Mapping):
            groups[name] = read_skymaps(dict(one.source), instrument, unit=one.unit)
        elif not (one.unit is None or isinstance(one.unit, str)):
            raise ValueError(f"units of the map '{name}' are given by band, expected one, as it is one map")
        elif isinstance(one.source, str | os.PathLike):
            groups[name] = read_stack_map(name, one.source, unit=one.unit, fwhm_arcmin=one.fwhm_arcmin)
        else:
            groups[name] = _mean_and_noise(name, one.source, one.unit, one.fwhm_arcmin)
    return groups


def describe_maps(groups: Mapping[str, SkyMaps]) -> dict[str, dict[str, Any]]:
    """Bands, units, beams and nside of sets of maps, for stacks.json.

    Examples
    --------
    >>> flat = SkyMaps(np.ones((48, 1), np.float32), np.ones(48, bool), (Band("y", 0.0, 10.0, "y"),))
    >>> describe_maps({"y": flat})
    {'y': {'bands': ['y'], 'units': ['y'], 'fwhm_arcmin': [10.0], 'nside': 2}}
    """
    return {
        name: {"bands": [band.name for band in sky.bands], "units": [band.unit for band in sky.bands],
               "fwhm_arcmin": [band.fwhm_arcmin for band in sky.bands], "nside": sky.nside}
        for name, sky in groups.items()
    }  # fmt: skip


def _mean_and_noise(
    name: str, files: Sequence[str | os.PathLike[str]], unit: str | None, fwhm_arcmin: float | None
) -> SkyMaps:
    if len(files) != 2:
        raise ValueError(f"{len(files)} files are given for the map '{name}', expected one, or two halves")
    first, last = (read_stack_map(name, file, unit=unit, fwhm_arcmin=fwhm_arcmin) for file in files)
    if first.nside != last.nside:
        raise ValueError(f"the halves of '{name}' have nside {first.nside} and {last.nside}, expected one for both")
    values = np.concatenate([(first.values + last.values) / 2, (first.values - last.values) / 2], axis=1)
    footprint = first.footprint & last.footprint
    values[~footprint] = 0.0
    band = first.bands[0]
    noise = Band(f"{name}_noise", band.freq_ghz, band.fwhm_arcmin, band.unit)
    return SkyMaps(values, footprint, (band, noise))


def _seen_by_all(groups: Mapping[str, SkyMaps]) -> NDArray[np.bool_]:
    """Footprint common to all maps, at the resolution of the first."""
    first, *others = groups.values()
    seen = first.footprint
    for sky in others:
        seen = seen & change_nside(sky.footprint, first.nside)
    return seen


def _choose(listed: Table, seen: NDArray[np.bool_], least: Mapping[str, float]) -> Table:
    """Sources inside the footprint and above the limits, with a rank ``p``."""
    if missing := [name for name in least if name not in listed.colnames]:
        raise ValueError(f"the catalogue has no column '{missing[0]}', expected {_columns(listed)}")
    lon_deg, lat_deg = (np.asarray(listed[name], float) for name in ("lon_deg", "lat_deg"))
    kept = seen[healpy.ang2pix(healpy.npix2nside(seen.size), lon_deg, lat_deg, lonlat=True)]
    for name, value in least.items():
        kept &= np.asarray(listed[name], float) > value
    sources = listed[kept]
    if "p" not in sources.colnames:
        rank = np.asarray(sources["snr"], float) if "snr" in sources.colnames else np.ones(len(sources))
        sources["p"] = np.nan_to_num(rank)
    return sources


def _columns(table: Table) -> str:
    return "one of " + ", ".join(name for name in table.colnames if table[name].dtype.kind in "fiu")
