"""The maps of a run as HiPS layers."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np

from szeek.show.hips import HipsLayer, nested_reader, ring_reader
from szeek.show.runfolder import RunFolder
from szeek.sky.skymaps import SkyMaps


def list_layers(run: RunFolder) -> list[HipsLayer]:
    """p, y and the frequency bands of a run, those that are there.

    Raises
    ------
    FileNotFoundError
        If the run has none of them.
    """
    layers = []
    if run.p_nested is not None:
        nside = healpy.npix2nside(run.p_nested.size)
        layers.append(
            HipsLayer("p", "p, the network", nested_reader(run.p_nested), nside, "", 0.0, 1.0, "cividis", "maximum")
        )
    y_nested = run.y_nested
    if y_nested is not None:
        nside = healpy.npix2nside(y_nested.size)
        sample = 1e6 * y_nested[:: max(1, y_nested.size // 500_000)]
        high = _round_limit(float(np.nanpercentile(sample, 99.5)))
        layers.append(HipsLayer("y", "Compton y", nested_reader(y_nested, 1e6), nside, "1e-6", 0.0, high, "inferno"))
    if run.maps is not None:
        layers += _band_layers(run.maps)
    if not layers:
        raise FileNotFoundError(
            f"'{Path(run.path)}' holds neither prediction.fits nor y_map.fits nor maps/; run `szeek run` first"
        )
    return layers


def _band_layers(maps: SkyMaps) -> list[HipsLayer]:
    """One layer per band; colours about the median, as wide as the sky away from the Galactic plane needs."""
    nside = maps.nside
    lon = np.random.default_rng(0).uniform(0, 360, 40_000)
    height = np.random.default_rng(1).uniform(0.5, 1, 40_000) * np.where(lon < 180, 1, -1)
    ipix = healpy.ang2pix(nside, lon, np.degrees(np.arcsin(height)), lonlat=True)
    ipix = ipix[maps.footprint[ipix]]
    if ipix.size < 100:
        ipix = np.flatnonzero(maps.footprint)[:: max(1, int(maps.footprint.sum()) // 40_000)]
    layers = []
    for column, band in enumerate(maps.bands):
        factor, unit = (1e6, "uK_CMB") if band.unit == "K_CMB" else (1.0, "MJy/sr")
        sample = factor * np.asarray(maps.values[ipix, column], float)
        middle = float(np.median(sample)) if sample.size else 0.0
        half = _round_limit(float(np.percentile(np.abs(sample - middle), 98))) if sample.size else 1.0
        read = ring_reader(maps.values, column, maps.footprint, factor)
        title = f"{band.name} GHz" if band.name.isdigit() else band.name
        layers.append(
            HipsLayer(f"band-{band.name}", title, read, nside, unit, middle - half, middle + half, "RdBu_r")
        )
    return layers


def _round_limit(value: float) -> float:
    """A positive limit with two digits, 1 where there is none."""
    return float(f"{value:.2g}") if np.isfinite(value) and value > 0 else 1.0
