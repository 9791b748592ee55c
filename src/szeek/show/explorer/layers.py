"""The maps of a run as HiPS layers."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import healpy
import numpy as np
from numpy.typing import NDArray

from szeek.inputs.healpix_files import describe_healpix
from szeek.inputs.stackmaps import read_stack_map
from szeek.pipeline import products
from szeek.pipeline.products import RunFolder
from szeek.show.explorer.hips import HipsLayer, nested_reader, ring_reader
from szeek.show.figures.style import P_COLOURS, P_TICKS
from szeek.sky.further import FurtherMap
from szeek.sky.mapset import COVERAGE_NSIDE, MapSet, draw_seen, nearest
from szeek.sky.skymaps import SkyMaps

#: Puts every pixel where it belongs on the screen, down to a view of an arcminute, see szeek.show.explorer.hips.
_ORDER_LEAST = 9
#: A simulated sky's companion maps (:mod:`szeek.simulate.components.companions`): file, title and colours.
_COMPANIONS = (
    ("xray", "X-rays", "magma"),
    ("kappa", "lensing convergence", "RdBu_r"),
    ("galaxies_all", "galaxies", "viridis"),
    ("galaxies_passive", "passive galaxies", "viridis"),
    ("galaxies_active", "active galaxies", "viridis"),
)


def list_layers(run: RunFolder, more: Mapping[str, str | os.PathLike[str]] | None = None) -> list[HipsLayer]:
    """The maps of a run (p, y, bands and what is seen beside them, companion maps), those that exist, and any others.

    Parameters
    ----------
    run : RunFolder
    more : mapping of name to path, optional
        HEALPix FITS files of other maps, in the frame that their headers give.

    Raises
    ------
    FileNotFoundError
        If the run has none of them, or there is no such file.
    ValueError
        If two layers share a name, or a file's header lacks frame or ordering.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     p = np.full(12 * 64**2, 0.2, np.float32)
    ...     healpy.write_map(f"{folder}/prediction.fits", p, nest=True, coord="G", dtype=np.float32)
    ...     [layer.title for layer in list_layers(RunFolder(folder))]
    ['p, the network']
    """
    layers = []
    if run.p_nested is not None:
        nside = healpy.npix2nside(run.p_nested.size)
        layers.append(
            HipsLayer(
                "p", "p, the network", nested_reader(run.p_nested), nside, "", 0.0, 1.0, P_COLOURS, "maximum",
                stretch="asinh", ticks=P_TICKS,
            )
        )  # fmt: skip
    layers += [_class_layer(run, name) for name in run.classes]
    y_nested = run.y_nested
    if y_nested is not None:
        nside = healpy.npix2nside(y_nested.size)
        sample = 1e6 * y_nested[:: max(1, y_nested.size // 500_000)]
        high = _round_limit(float(np.nanpercentile(sample, 99.99)))
        layers.append(HipsLayer("y", "Compton y", nested_reader(y_nested, 1e6), nside, "1e-6", 0.0, high, "inferno"))
    if run.maps is not None:
        layers += _band_layers(run.maps)
        layers += [_further_layer(one) for one in run.maps.further]
    for name, title, colours in _COMPANIONS:
        if (file := run.path / products.SIMULATED / f"{name}.fits").is_file():
            layers.append(_file_layer(name, title, file, colours))
    layers += [_file_layer(name, name, Path(file), "viridis") for name, file in (more or {}).items()]
    names = [layer.name for layer in layers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"two maps are named '{twice[0]}'; expected a name other than {', '.join(dict.fromkeys(names))}"
        )
    if not layers:
        raise FileNotFoundError(
            f"'{run.path}' holds neither {products.PREDICTION} nor {products.Y_MAP} nor {products.MAPS}/; "
            "run `szeek run` first"
        )
    return [replace(layer, order_least=_ORDER_LEAST) for layer in layers]


def _class_layer(run: RunFolder, name: str) -> HipsLayer:
    """A layer of p of a further class of the network, read when its first tile is requested."""
    product = f"{products.CLASSES}/{name}.fits"
    loading = threading.Lock()

    @lru_cache(maxsize=1)
    def load() -> NDArray[np.float32]:
        values = run.healpix(product, nested=True)
        assert values is not None  # the run lists classes whose maps are there
        return values

    def read(first: int, n: int) -> NDArray[np.float32]:
        with loading:
            values = load()
        return nested_reader(values)(first, n)

    nside = describe_healpix(run.file(product)).nside
    title = f"p of {name.upper() if name == 'co' else name}"
    return HipsLayer(
        f"p-{name}", title, read, nside, "", 0.0, 1.0, P_COLOURS, "maximum", stretch="asinh", ticks=P_TICKS
    )


def _band_layers(maps: SkyMaps | MapSet) -> list[HipsLayer]:
    """One layer per band; colours about the median, as wide as the sky away from the Galactic plane needs."""
    nside, layers = maps.nside, []
    samples = draw_seen(maps, 40_000)[1] if isinstance(maps, MapSet) else _values_off_plane(maps)
    for column, band in enumerate(maps.bands):
        factor, unit = (1e6, "uK_CMB") if band.unit == "K_CMB" else (1.0, "MJy/sr")
        sample = factor * np.asarray(samples[:, column], float)
        sample = sample[np.isfinite(sample)]
        middle = float(np.median(sample)) if sample.size else 0.0
        half = _round_limit(float(np.percentile(np.abs(sample - middle), 98))) if sample.size else 1.0
        observed = None
        if isinstance(maps, MapSet):
            read, observed = _set_reader(maps, column, factor), _set_coverage(maps, column)
        else:
            read = ring_reader(maps.values, column, maps.footprint, factor)
        title = f"{band.name} GHz" if band.name.isdigit() else band.name
        low, high, name = middle - half, middle + half, f"band-{band.name}"
        layers.append(HipsLayer(name, title, read, nside, unit, low, high, "RdBu_r", observed=observed))
    return layers


def _further_layer(one: FurtherMap) -> HipsLayer:
    """What the network sees beside the bands: the first window of photons, or a density, over its scatter."""
    part = one.values

    def read(first: int, n: int) -> NDArray[np.float32]:
        return part[healpy.nest2ring(part.nside, np.arange(first, first + n))][:, 0]

    title = f"{one.name}, S/N" if one.kind == "photons" else one.name
    return HipsLayer(f"further-{one.name}", title, read, part.nside, "sigma", -4.0, 10.0, "magma")


def _set_reader(maps: MapSet, column: int, factor: float) -> Callable[[int, int], NDArray[np.float32]]:
    """Reader of NESTED pixels of a band on whatever grid it is: the nearest pixel's value."""

    def read(first: int, n: int) -> NDArray[np.float32]:
        vectors = np.stack(healpy.pix2vec(maps.nside, np.arange(first, first + n), nest=True), axis=1)
        return nearest(maps, vectors)[:, column] * np.float32(factor)

    return read


def _set_coverage(maps: MapSet, column: int) -> Callable[[int, int], bool]:
    """Whether a band was observed somewhere in the cells that NESTED pixels lie in."""
    cells = maps.coverage[healpy.nest2ring(COVERAGE_NSIDE, np.arange(12 * COVERAGE_NSIDE**2)), column]

    def observed(first: int, n: int) -> bool:
        low, high = (end * COVERAGE_NSIDE**2 // maps.nside**2 for end in (first, first + n - 1))
        return bool(cells[low : high + 1].any())

    return observed


def _values_off_plane(maps: SkyMaps) -> NDArray[np.float32]:
    """Pixels at latitudes above 30 deg, of all where there are too few: (n, n_band)."""
    nside = maps.nside
    lon = np.random.default_rng(0).uniform(0, 360, 40_000)
    height = np.random.default_rng(1).uniform(0.5, 1, 40_000) * np.where(lon < 180, 1, -1)
    ipix = healpy.ang2pix(nside, lon, np.degrees(np.arcsin(height)), lonlat=True)
    ipix = ipix[maps.footprint[ipix]]
    if ipix.size < 100:
        ipix = np.flatnonzero(maps.footprint)[:: max(1, int(maps.footprint.sum()) // 40_000)]
    return np.asarray(maps.values[ipix], np.float32)


def _file_layer(name: str, title: str, file: Path, colours: str) -> HipsLayer:
    """A layer of a HEALPix file, sampled now for its colour limits and read when its first tile is requested."""
    described = describe_healpix(file)
    described.require_frame()
    described.require_ordering()
    sample = np.concatenate([values[::61] for _, values in described.read_blocks()])
    sample = sample[np.isfinite(sample)]
    low, high = (float(v) for v in np.percentile(sample, [1, 99.5])) if sample.size else (0.0, 1.0)
    low = float(f"{low:.2g}")
    high = float(f"{high:.2g}") if float(f"{high:.2g}") > low else low + 1.0
    loading = threading.Lock()

    @lru_cache(maxsize=1)
    def load() -> SkyMaps:
        return read_stack_map(name, file, unit=described.unit or "as in the file", fwhm_arcmin=0.0)

    def read(first: int, n: int) -> NDArray[np.float32]:
        with loading:
            maps = load()
        return ring_reader(maps.values, 0, maps.footprint)(first, n)

    return HipsLayer(name, title, read, described.nside, described.unit or "", low, high, colours)


def _round_limit(value: float) -> float:
    """A positive limit with two digits, 1 where there is none."""
    return float(f"{value:.2g}") if np.isfinite(value) and value > 0 else 1.0
