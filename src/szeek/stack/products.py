"""The stacking stage: maps and candidates in; stacks.fits, profiles.ecsv, scaling.ecsv and a spectrum out."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from numpy.typing import ArrayLike, NDArray

from szeek.inputs.instrument import Instrument
from szeek.sky.projection import PIXEL_ARCMIN
from szeek.sky.skymaps import SkyMaps
from szeek.stack.nulls import matched_positions
from szeek.stack.profiles import gaussian_aperture_fraction, measure_fluxes, measure_profile, measure_significance
from szeek.stack.scaling import fit_scaling, measure_flux_in_bins
from szeek.stack.spectrum import fit_spectrum
from szeek.stack.stacks import Stack, equal_count_bins, measure_error, stack_at

#: Rings of the profiles, arcmin.
EDGES_ARCMIN = (0.0, 3.0, 6.0, 9.0, 12.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0)


def stack_sources(
    maps: Mapping[str, SkyMaps | NDArray[np.float32]],
    sources: Table,
    dust: NDArray[np.floating],
    folder: str | os.PathLike[str],
    *,
    footprint: NDArray[np.bool_] | None = None,
    masks: Mapping[str, NDArray[np.bool_]] | None = None,
    flux_map: str | None = None,
    comparisons: Mapping[str, Table] | None = None,
    edges_arcmin: ArrayLike = EDGES_ARCMIN,
    n_p_bins: int = 5,
    n_null_sets: int = 20,
    size: int = 120,
    median: bool = True,
    seed: int = 0,
) -> dict[str, Path]:
    """Stack sources in every map, with matched nulls; profiles in bins of p; flux against p.

    Source: Bonjean (2020), Figs. 4 to 7. Deviation: nulls, covariances and significances beside every stack.

    Parameters
    ----------
    maps : mapping of name to SkyMaps or (n_pix,) or (n_pix, n_map) float32 array
        Each is read once; all maps of a SkyMaps together. Nsides may differ.
    sources : Table
        ``lon_deg``, ``lat_deg``, ``p``.
    dust : (12 nside^2,) float
        RING map for the matched nulls, see :func:`szeek.stack.nulls.matched_positions`.
    folder : path
        Products are written here, each whole or not at all.
    footprint : (12 nside^2,) bool, optional
        Where null positions may lie.
    masks : mapping of name to (n_pix,) bool, optional
        True where pixels of that map count.
    flux_map : str, optional
        Name of the y map: aperture fluxes are measured in it and scaling.ecsv is written.
    comparisons : mapping of name to Table, optional
        Catalogues whose mean flux is put beside: PSZ2, MCXC, RM50, RM30.
    edges_arcmin : (n_ring + 1,) float
        Rings of the profiles.
    n_p_bins : int
        Bins of p of equal counts, for the profiles and the fluxes.
    n_null_sets : int
        Sets of matched random positions.
    size : int
        Pixels on a side, of 1.7177 arcmin; the background annulus runs from 0.58 to 0.97 of the half width (60 to
        100 arcmin for 120 pixels).
    median : bool
        Also the median image; with many sources it costs more than all the rest.
    seed : int
        Of everything random.

    Returns
    -------
    dict
        'stacks', 'profiles', and 'scaling' if there is a ``flux_map``: the files written.

    Raises
    ------
    ValueError
        If there are no sources, no maps, fewer than two null sets, or ``flux_map`` is none of the maps.
    """
    if len(sources) == 0 or not maps:
        raise ValueError(f"{len(sources)} sources and {len(maps)} maps, expected at least one of each")
    if n_null_sets < 2:
        raise ValueError(f"n_null_sets is {n_null_sets}, expected at least 2 for a mean with a scatter")
    if flux_map is not None and flux_map not in maps:
        raise ValueError(f"flux_map is '{flux_map}', expected one of {', '.join(maps)}")
    places = [matched_positions(sources, dust, footprint, seed=seed + k) for k in range(n_null_sets)]
    bins = equal_count_bins(sources["p"], min(n_p_bins, len(sources)))
    hdus: list[Any] = [fits.PrimaryHDU()]
    profiles, significances = [], []
    for name, sky in maps.items():
        settings: dict[str, Any] = {"mask": (masks or {}).get(name), "size": size}
        settings["background_arcmin"] = (0.58 * size * PIXEL_ARCMIN * 0.5, 0.97 * size * PIXEL_ARCMIN * 0.5)
        stack = stack_at(sky, sources, median=median, seed=seed, **settings)
        profile = measure_profile(stack, edges_arcmin, seed=seed)
        null_image, null_profiles = _stack_nulls(sky, places, edges_arcmin, seed, settings)
        hdus += _image_hdus(name, stack, null_image)
        profiles.append(_labelled(profile.to_table(), name, "all"))
        profiles.append(_labelled(profile.to_table(), name, "null"))
        profiles[-1]["mean"] = null_profiles.mean(axis=0).ravel()
        profiles[-1]["error"] = null_profiles.std(axis=0, ddof=1).ravel()  # of one set, not of their mean
        if profile.n_group > profile.mean.shape[1]:
            significances.append(_labelled(measure_significance(profile, null_profiles.mean(axis=0)), name, "all"))
        for k, members in enumerate(bins):
            part = measure_profile(stack_at(sky, sources[members], seed=seed, **settings), edges_arcmin, seed=seed)
            profiles.append(_labelled(part.to_table(), name, f"p bin {k + 1}"))
    if significances:
        hdus.append(fits.table_to_hdu(vstack(significances)))
        hdus[-1].name = "SIGNIFICANCE"

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = {"stacks": target / "stacks.fits", "profiles": target / "profiles.ecsv"}
    with tempfile.TemporaryDirectory(prefix=".stacks-", dir=target) as staging:
        room = Path(staging)
        fits.HDUList(hdus).writeto(room / "stacks.fits")
        vstack(profiles).write(room / "profiles.ecsv")
        if flux_map is not None:
            mask = (masks or {}).get(flux_map)
            _flux_table(maps[flux_map], sources, comparisons or {}, len(bins), mask, seed).write(
                room / "scaling.ecsv"
            )
            written["scaling"] = target / "scaling.ecsv"
        for path in written.values():
            os.replace(room / path.name, path)
    return written


def measure_spectrum(
    bands: SkyMaps,
    sources: Table,
    nulls: Table,
    instrument: Instrument,
    mask: NDArray[np.bool_] | None = None,
    radius_arcmin: float = 10.0,
    background_arcmin: tuple[float, float] = (15.0, 25.0),
) -> Table:
    """Mean aperture flux of sources in every band less that of null positions, and what it is made of.

    The components are fitted (:func:`szeek.stack.spectrum.fit_spectrum`) with the part of a point source's flux that
    each band's beam leaves in the aperture; the covariance is that of the means, sources and nulls.

    Parameters
    ----------
    bands : SkyMaps
        The instrument's bands.
    sources, nulls : Table
        ``lon_deg``, ``lat_deg``; nulls from :func:`szeek.stack.nulls.matched_positions`.
    instrument : Instrument
    mask : (n_pix,) bool, optional
        True where pixels count.
    radius_arcmin, background_arcmin : float
        Disc and annulus, see :func:`szeek.stack.profiles.measure_fluxes`.

    Returns
    -------
    Table
        One row per band: ``band``, ``freq_ghz``, ``unit`` (of the map, times arcmin^2), ``flux``, ``error``,
        ``null``, and with more sources than bands ``tsz``, ``dust``, ``radio``, ``cmb``, the fitted parts; the
        amplitudes in the metadata ``fit``.
    """
    settings: dict[str, Any] = {"mask": mask, "radius_arcmin": radius_arcmin, "background_arcmin": background_arcmin}
    values = [measure_fluxes(bands, where, **settings) for where in (sources, nulls)]
    flux, null = (v[np.isfinite(v).all(axis=1)] for v in values)
    enough = min(len(flux), len(null)) > bands.n_band + 1
    out = Table({"band": [band.name for band in bands.bands], "freq_ghz": [band.freq_ghz for band in bands.bands]})
    out["unit"] = [f"{band.unit} arcmin2" for band in bands.bands]
    out["null"] = null.mean(axis=0) if len(null) else np.nan
    out["flux"] = (flux.mean(axis=0) if len(flux) else np.nan) - out["null"]
    out.meta["n_source"], out.meta["n_null"] = len(flux), len(null)
    out["error"] = np.nan
    if enough:
        covariance = np.cov(flux, rowvar=False) / len(flux) + np.cov(null, rowvar=False) / len(null)
        out["error"] = np.sqrt(np.diag(covariance))
        kept = [gaussian_aperture_fraction(b.fwhm_arcmin, radius_arcmin, background_arcmin) for b in bands.bands]
        fit = fit_spectrum(np.asarray(out["flux"]), covariance, instrument, beam_factor=kept)
        for name, part in zip(fit.components, fit.model, strict=True):
            out[name] = part
        parts = fit.to_table()
        out.meta["fit"] = {c: {k: _plain(row[k]) for k in parts.colnames[1:]} for c, row in zip(
            fit.components, parts, strict=True)}  # fmt: skip
        out.meta["chi2"], out.meta["n_freedom"], out.meta["p_value"] = fit.chi2, fit.n_freedom, fit.p_value
    return out


def _plain(value: Any) -> float | str:
    return str(value) if isinstance(value, str) else float(value)


def read_stacks(path: str | os.PathLike[str]) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Images of a stacks.fits: name of the map -> kind ('mean', 'median' if there is one, 'error',
    'block_error', 'null') -> (ny, nx).

    A map of several bands gives one entry per band, ``'name: band'``.
    """
    images: dict[str, dict[str, NDArray[np.float32]]] = {}
    with fits.open(path) as hdus:
        for hdu in hdus[1:]:
            if not isinstance(hdu, fits.ImageHDU):
                continue
            kind = hdu.header["KIND"]
            names = [hdu.header[f"MAP{k + 1}"] for k in range(len(hdu.data))]
            for name, image in zip(names, hdu.data, strict=True):
                label = hdu.header["MAPS"] if len(names) == 1 else f"{hdu.header['MAPS']}: {name}"
                images.setdefault(label, {})[kind] = np.asarray(image, np.float32)
    return images


def _stack_nulls(
    sky: SkyMaps | NDArray[np.float32],
    places: Sequence[Table],
    edges_arcmin: ArrayLike,
    seed: int,
    settings: Mapping[str, Any],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Mean image of the null sets, and the profile of each, (n_set, n_map, n_ring); one stack in memory at a time."""
    image, profiles = np.zeros(()), []
    for k, where in enumerate(places):
        null = stack_at(sky, where, seed=seed + k, **settings)
        image = image + null.mean / len(places)
        profiles.append(measure_profile(null, edges_arcmin, n_bootstrap=2).mean)
    return image.astype(np.float32), np.array(profiles)


def _image_hdus(name: str, stack: Stack, null: NDArray[np.float32]) -> list[fits.ImageHDU]:
    images = {
        "mean": stack.mean,
        "median": stack.median,
        "error": measure_error(stack),
        "block_error": measure_error(stack, blocks=True),
        "null": null,
    }
    hdus = []
    for kind, image in images.items():
        if image is None:
            continue
        hdu = fits.ImageHDU(np.moveaxis(np.asarray(image, np.float32), 2, 0), name=f"{name}_{kind}")
        hdu.header["MAPS"] = (name, "map or set of maps")
        hdu.header["KIND"] = (kind, "null: matched positions")
        hdu.header["NSOURCE"] = (stack.n_source, "sources stacked")
        hdu.header["PIXSIZE"] = (stack.pixel_arcmin, "[arcmin] pixel size")
        for k, band in enumerate(stack.names):
            hdu.header[f"MAP{k + 1}"] = (band, f"plane {k + 1}")
        hdus.append(hdu)
    return hdus


def _labelled(table: Table, maps: str, sample: str) -> Table:
    table.add_columns([[maps] * len(table), [sample] * len(table)], names=["maps", "sample"], indexes=[0, 0])
    return table


def _flux_table(
    sky: SkyMaps | NDArray[np.float32],
    sources: Table,
    comparisons: Mapping[str, Table],
    n_bins: int,
    mask: NDArray[np.bool_] | None,
    seed: int,
) -> Table:
    """Mean flux in bins of p, then of each comparison catalogue (p is NaN there); the law in the metadata."""
    flux = measure_fluxes(sky, sources, mask=mask)[:, 0]
    rows = measure_flux_in_bins(sources["p"], flux, n_bins, seed=seed)
    rows.add_column([f"p bin {k + 1}" for k in range(len(rows))], name="sample", index=0)
    parts = [rows]
    for name, clusters in comparisons.items():
        value = measure_fluxes(sky, clusters, mask=mask)[:, 0]
        if np.isfinite(value).any():
            row = measure_flux_in_bins(np.zeros(value.size), value, 1, seed=seed)
            for column in ("p_low", "p_high", "p_mean"):
                row[column] = np.nan
            row.add_column([name], name="sample", index=0)
            parts.append(row)
    out = vstack(parts)
    if np.count_nonzero(np.isfinite(flux)) >= 10 * max(3, n_bins):
        law = fit_scaling(sources["p"], flux, max(3, n_bins), seed=seed).to_table()
        out.meta["law"] = {name: float(law[name][0]) for name in law.colnames}
    return out
