"""`szeek stack TABLE --map ...`: any maps, HEALPix or cut-outs, at the positions of any catalogue, without a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray

from szeek.arguments import plain_table
from szeek.files import write_json, write_table
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.healpix_files import change_nside
from szeek.inputs.instrument import read_instrument
from szeek.inputs.mapfiles import read_skymaps
from szeek.inputs.reddening import reddening_mag
from szeek.inputs.stackmaps import read_stack_map
from szeek.sky.skymaps import Band, SkyMaps
from szeek.stack.cutting import cut_maps
from szeek.stack.products import measure_spectrum, null_sets, stack_sources

_DUST_NSIDE = 256

MapSource = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | SkyMaps


def stack_catalogue(
    catalogue: str | os.PathLike[str] | Table,
    maps: Mapping[str, MapSource],
    folder: str | os.PathLike[str],
    *,
    survey: str | None = None,
    columns: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    beams_arcmin: Mapping[str, float] | None = None,
    masks: Mapping[str, str | os.PathLike[str] | NDArray[np.bool_]] | None = None,
    cut: Sequence[tuple[str | os.PathLike[str] | Table, float]] = (),
    least: Mapping[str, float] | None = None,
    weights: str | None = None,
    oriented: bool = False,
    null_kind: str = "matched",
    extent_arcmin: float = 0.0,
    n_p_bins: int = 1,
    n_null_sets: int = 5,
    size: int = 120,
    median: bool = False,
    seed: int = 0,
) -> Path:
    """Stack any maps at the positions of any catalogue, without a run.

    Null positions have the latitude and the reddening of the sources and lie where every map is seen. Sources are
    ranked by ``p``, else by ``snr``, where the catalogue has it.

    Parameters
    ----------
    catalogue : path or Table
        As :func:`szeek.inputs.catalogues.read_catalogue` reads it.
    maps : mapping of name to path, two paths or SkyMaps
        HEALPix FITS files or TAN cut-outs. In the one named 'y' fluxes are measured. Two files are two halves of the
        data: their mean is stacked, and half their difference beside it as NAME_noise. All bands of Planck HFI, by
        their names, become one set, 'bands', in K_CMB and MJy/sr, without dipole, and give a spectrum.
    folder : path
        Receives stacks.fits, profiles.ecsv, stacks.json, with a map 'y' scaling.ecsv, with all bands spectrum.ecsv.
    survey : str, optional
        Name of the catalogue, where its columns do not tell.
    columns : mapping of str to str, optional
        Columns of the catalogue, as for ``read_catalogue``.
    units, beams_arcmin : mapping of name, optional
        Of maps whose files do not say.
    masks : mapping of name to path or (12 nside^2,) bool, optional
        True where pixels of that map ('bands': of all bands) count.
    cut : sequence of (path or Table, arcmin)
        Catalogues cut out of every map, each with its radius; sources of the stack inside are left out.
    least : mapping of column to float, optional
        Only sources above this in a column: ``{"richness": 30}``.
    weights : str, optional
        Column of the catalogue to weight the sources with.
    oriented, null_kind, n_p_bins, n_null_sets, size, median, seed
        As for :func:`szeek.stack.products.stack_sources`.
    extent_arcmin : float
        FWHM of the sources, for the spectrum, see :func:`szeek.stack.products.measure_spectrum`.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    ValueError
        If no source lies inside the maps, a map's unit or beam is stated nowhere, or a column is not there.
    """
    groups = read_maps(maps, units or {}, beams_arcmin or {})
    cuts = cut_maps(groups, masks or {}, sources=cut)
    seen = _seen_by_all(groups)
    if cut:
        everywhere = next(iter(groups))
        seen = seen & cut_maps({everywhere: groups[everywhere]}, {}, sources=cut).masks[everywhere]
    listed = (
        plain_table(catalogue, "catalogue")
        if isinstance(catalogue, Table)
        else read_catalogue(catalogue, survey, columns=columns)
    )
    sources = _choose(listed, seen, least or {})
    if not len(sources):
        limits = "".join(f" with {name} > {value:g}" for name, value in (least or {}).items())
        raise ValueError(f"none of the {len(listed)} sources{limits} lies inside all of {', '.join(groups)}")
    if weights is not None and weights not in sources.colnames:
        raise ValueError(f"the catalogue has no column '{weights}' for weights, expected {_columns(sources)}")
    dust = reddening_mag(*healpy.pix2ang(_DUST_NSIDE, np.arange(12 * _DUST_NSIDE**2), lonlat=True))
    dust[healpy.ud_grade(seen.astype(np.float32), _DUST_NSIDE) == 0] = np.nan
    nulls = vstack(null_sets(sources, dust, seen, n_null_sets, null_kind, seed), metadata_conflicts="silent")
    y_name = "y" if "y" in groups else None
    stack_sources(
        groups, sources, dust, folder, footprint=seen, masks=cuts.masks, flux_map=y_name,
        comparisons={"NULL": nulls}, n_p_bins=n_p_bins, n_null_sets=n_null_sets, size=size, median=median,
        weights=None if weights is None else np.asarray(sources[weights], float), oriented=oriented,
        null_kind=null_kind, seed=seed,
    )  # fmt: skip
    target = Path(folder)
    instrument = read_instrument()
    if "bands" in groups and tuple(band.name for band in groups["bands"].bands) == instrument.band_names:
        with_y: dict[str, Any] = {}
        if y_name is not None:
            with_y = {"y_map": groups["y"], "y_mask": cuts.masks.get("y")}
            with_y["y_fwhm_arcmin"] = groups["y"].bands[0].fwhm_arcmin
        mask = cuts.masks.get("bands")
        table = measure_spectrum(
            groups["bands"], sources, nulls, instrument, mask, extent_arcmin=extent_arcmin, **with_y
        )
        write_table(table, target / "spectrum.ecsv")
    else:  # an earlier one, of other maps
        (target / "spectrum.ecsv").unlink(missing_ok=True)
    record = {
        "n_source": len(sources), "n_listed": len(listed), "least": dict(least or {}), "weights": weights,
        "oriented": oriented, "null_kind": null_kind, "n_null_sets": n_null_sets, "seed": seed,
        "maps": describe_maps(groups), **cuts.record(),
    }  # fmt: skip
    write_json(record, target / "stacks.json")
    return target


def read_maps(
    maps: Mapping[str, MapSource], units: Mapping[str, str], beams_arcmin: Mapping[str, float]
) -> dict[str, SkyMaps]:
    """The maps by name, bands of Planck HFI together if all are there, see :func:`stack_catalogue`."""
    if not maps:
        raise ValueError("no map is given to stack, expected at least one")
    bands = read_instrument().band_names
    files = {name: source for name, source in maps.items() if name in bands and isinstance(source, str | os.PathLike)}
    groups: dict[str, SkyMaps] = {}
    for name, source in maps.items():
        if len(files) == len(bands) and name in files:
            if "bands" not in groups:
                given = {band: units[band] for band in bands if band in units}
                groups["bands"] = read_skymaps(files, unit=given or None)
        elif isinstance(source, SkyMaps):
            groups[name] = source
        elif isinstance(source, str | os.PathLike):
            groups[name] = read_stack_map(name, source, unit=units.get(name), fwhm_arcmin=beams_arcmin.get(name))
        else:
            groups[name] = _mean_and_noise(name, source, units.get(name), beams_arcmin.get(name))
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
