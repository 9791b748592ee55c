"""The stacking stage: maps and candidates in; stacks.fits, profiles.ecsv, scaling.ecsv and a spectrum out."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from numpy.typing import NDArray

from szeek.arguments import plain_array, plain_mask, plain_table
from szeek.files import whole_files
from szeek.parallel import spread
from szeek.physics.instrument import Instrument
from szeek.physics.scaling import electron_temperature_kev, y500_from_mass
from szeek.sky.projection import PIXEL_ARCMIN
from szeek.sky.skymaps import SkyMaps
from szeek.stack.nulls import matched_positions, rotated_positions
from szeek.stack.profiles import (
    Profile,
    gaussian_aperture_fraction,
    measure_fluxes,
    measure_part,
    measure_significance,
)
from szeek.stack.scaling import fit_scaling, measure_flux_in_bins, measure_selection_bias
from szeek.stack.spectrum import SpectrumFit, fit_spectrum, separable_components
from szeek.stack.stacks import Field, equal_count_bins, measure_error, stack_samples

if TYPE_CHECKING:
    from distributed import Client

#: Rings of the profiles, arcmin.
EDGES_ARCMIN = (0.0, 3.0, 6.0, 9.0, 12.0, 16.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0)
_OWN_SCATTER = 30  # so many sources tell their own scatter


@dataclass(frozen=True)
class StackOptions:
    """How sources are stacked.

    Parameters
    ----------
    size : int
        Pixels on a side, of 1.7177 arcmin; the background annulus runs from 0.58 to 0.97 of the half width (60 to
        100 arcmin for 120 pixels).
    n_p_bins : int
        Bins of p of equal counts, for the profiles and the fluxes.
    n_null_sets : int
        Sets of null positions, at least two.
    null_kind : {'matched', 'rotated'}
        'matched': random positions of the sources' latitude and dust level. 'rotated': the sources themselves, turned
        about the Galactic pole by equal steps of longitude, with their clustering.
    median : bool
        Also the median image; with many sources it costs more than all the rest.
    oriented : bool
        Galactic north up in every field, as in Bonjean (2020), where dust and scan stripes add up. Default: each
        field is turned at random.
    weights : str, optional
        Column of the sources to weight them with in the means, such as 'p' or 'snr'; NaN counts as 0. A null position
        has the weight of its source.
    edges_arcmin : (n_ring + 1,) float
        Rings of the profiles; those that reach the outer tenth of the background annulus are left out.
    seed : int
        Of everything random.

    Examples
    --------
    >>> StackOptions(n_null_sets=20).null_kind
    'matched'
    """

    size: int = 120
    n_p_bins: int = 5
    n_null_sets: int = 5
    null_kind: str = "matched"
    median: bool = False
    oriented: bool = False
    weights: str | None = None
    edges_arcmin: Sequence[float] = EDGES_ARCMIN
    seed: int = 0

    @property
    def field(self) -> Field:
        """The field about each source."""
        inner, outer = (part * self.size * PIXEL_ARCMIN * 0.5 for part in (0.58, 0.97))
        # the mean over the annulus is zero by construction: rings that make it up would have a singular covariance
        edges = [float(edge) for edge in self.edges_arcmin if edge <= 0.9 * outer]
        return Field(self.size, background_arcmin=(inner, outer), edges_arcmin=edges)

    def weights_of(self, sources: Table) -> NDArray[np.float64]:
        """Weight of each source, (n,)."""
        if self.weights is None:
            return np.ones(len(sources))
        if self.weights not in sources.colnames:
            numbers = ", ".join(name for name in sources.colnames if sources[name].dtype.kind in "fiu")
            raise ValueError(f"the catalogue has no column '{self.weights}' for weights, expected one of {numbers}")
        weight: NDArray[np.float64] = np.nan_to_num(np.asarray(sources[self.weights], float))
        return weight

    def record(self) -> dict[str, int | str | bool | None]:
        """For stacks.json: what the positions and their weights depend on."""
        names = ("weights", "oriented", "null_kind", "n_null_sets", "seed")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class FluxMap:
    """The map in which fluxes are measured, and what they are put beside.

    Parameters
    ----------
    name : str
        Of the y map.
    comparisons : mapping of name to Table, optional
        Catalogues whose mean flux is put beside: PSZ2, MCXC, RM50, RM30.
    injections : Table, optional
        From :func:`szeek.stack.scaling.measure_injected_fluxes`: the law of flux against p is corrected for selection
        bias with them.

    Examples
    --------
    >>> FluxMap("y").comparisons
    {}
    """

    name: str
    comparisons: Mapping[str, Table] = dataclass_field(default_factory=dict)
    injections: Table | None = None


def stack_sources(
    maps: Mapping[str, SkyMaps | NDArray[np.float32]],
    sources: Table,
    dust: NDArray[np.floating],
    folder: str | os.PathLike[str],
    options: StackOptions = StackOptions(),
    *,
    footprint: NDArray[np.bool_] | None = None,
    masks: Mapping[str, NDArray[np.bool_]] | None = None,
    flux_map: FluxMap | None = None,
    client: Client | None = None,
) -> dict[str, Path]:
    """Stack sources in every map, with matched nulls; profiles in bins of p; flux against p.

    Source: Bonjean (2020), Figs. 4 to 7. Deviation: nulls, covariances and significances beside every stack.

    Parameters
    ----------
    maps : mapping of name to SkyMaps or (n_pix,) or (n_pix, n_map) float32 array
        Each is read once, all positions in one pass over all maps of a SkyMaps; only aperture fluxes, in small
        fields, and the median go back to it. Nsides may differ.
    sources : Table
        ``lon_deg``, ``lat_deg``, ``p``.
    dust : (12 nside^2,) float
        RING map for the matched nulls, see :func:`szeek.stack.nulls.matched_positions`.
    folder : path
        Products are written here, each whole or not at all.
    options : StackOptions
    footprint : (12 nside^2,) bool, optional
        Where null positions may lie.
    masks : mapping of name to (n_pix,) bool, optional
        True where pixels of that map count.
    flux_map : FluxMap, optional
        Measure aperture fluxes in this map and write scaling.ecsv.
    client : distributed.Client, optional
        Stack on the workers of this Dask cluster, for which maps must be mapped from a folder; without ``masks``,
        which would be sent along. The products are the same.

    Returns
    -------
    dict
        'stacks', 'profiles', and 'scaling' if there is a ``flux_map``: the files written.

    Raises
    ------
    ValueError
        If there are no sources, no maps, fewer than two null sets, the weights are no column of the sources, or
        ``flux_map`` is none of the maps.

    Examples
    --------
    >>> import tempfile
    >>> sky = np.full(12 * 64**2, 2e-6, np.float32)
    >>> where = {"lon_deg": np.arange(20, 60, 2.0), "lat_deg": np.linspace(30, 60, 20)}
    >>> where["p"] = np.linspace(0.1, 0.9, 20)
    >>> options = StackOptions(size=60, n_null_sets=2, n_p_bins=1)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = stack_sources({"y": sky}, Table(where), np.ones(12 * 64**2), folder, options)
    ...     images = read_stacks(written["stacks"])
    >>> sorted(written), float(np.abs(images["y"]["mean"]).max()) < 1e-9  # the background is taken off
    (['profiles', 'stacks'], True)
    """
    sources, dust = plain_table(sources, "sources"), plain_array(dust, "dust", "mag")
    footprint = None if footprint is None else plain_mask(footprint, "footprint")
    maps = {name: m if isinstance(m, SkyMaps) else plain_array(m, f"map {name}") for name, m in maps.items()}
    masks = {name: plain_mask(mask, f"mask of {name}") for name, mask in (masks or {}).items()}
    if len(sources) == 0 or not maps:
        raise ValueError(f"{len(sources)} sources and {len(maps)} maps, expected at least one of each")
    if options.n_null_sets < 2:
        raise ValueError(f"n_null_sets is {options.n_null_sets}, expected at least 2 for a mean with a scatter")
    if flux_map is not None and flux_map.name not in maps:
        raise ValueError(f"flux_map is '{flux_map.name}', expected one of {', '.join(maps)}")
    weight = options.weights_of(sources)
    places = null_sets(sources, dust, footprint, options.n_null_sets, options.null_kind, options.seed)
    at = Table({"lon_deg": sources["lon_deg"], "lat_deg": sources["lat_deg"], "weight": weight})
    bins = equal_count_bins(sources["p"], min(options.n_p_bins, len(sources)))
    samples = {"all": at}
    for k, where in enumerate(places, start=1):
        samples[f"null {k}"] = where["lon_deg", "lat_deg"]
        samples[f"null {k}"]["weight"] = weight[where["source"]]
    # one pass over a map for all samples; on a cluster its workers share the samples
    together = [tuple(samples)] if client is None else [(sample,) for sample in samples]
    parts = [_Part(name, chosen) for name in maps for chosen in together]
    stacked: dict[str, dict[str, _Stacked]] = {name: {} for name in maps}
    n_threads = None if client is None else 1
    work = spread(_stack_part, parts, maps, masks, samples, bins, options, n_threads, client=client)
    for number, found in work:
        stacked[parts[number].maps] |= found
    hdus: list[Any] = [fits.PrimaryHDU()]
    profiles, significances = [], []
    for name, of in stacked.items():
        nulls = [of[sample].profile for sample in samples if sample != "all"]
        hdus += _image_hdus(name, of["all"], [of[sample] for sample in samples if sample != "all"])
        profiles.append(_labelled(of["all"].profile.to_table(), name, "all"))
        profiles.append(_labelled(_typical(nulls).to_table(), name, "null"))
        significances.append(_labelled(_significance(of["all"].profile, nulls), name, "all"))
        in_bins = (f"p bin {k}" for k in range(1, len(bins) + 1))
        profiles += [_labelled(of[sample].profile.to_table(), name, sample) for sample in in_bins]
    hdus.append(fits.table_to_hdu(vstack(significances)))
    hdus[-1].name = "SIGNIFICANCE"

    target = Path(folder)
    written = {"stacks": target / "stacks.fits", "profiles": target / "profiles.ecsv"}
    with whole_files(target) as room:
        fits.HDUList(hdus).writeto(room / "stacks.fits")
        vstack(profiles).write(room / "profiles.ecsv")
        if flux_map is not None:
            sky, mask = maps[flux_map.name], masks.get(flux_map.name)
            fluxes = _flux_table(sky, sources, flux_map, len(bins), mask, options.seed)
            fluxes.write(room / "scaling.ecsv")
            written["scaling"] = target / "scaling.ecsv"
        else:  # an earlier one, of other maps
            (target / "scaling.ecsv").unlink(missing_ok=True)
    return written


def null_sets(
    sources: Table,
    dust: NDArray[np.floating],
    footprint: NDArray[np.bool_] | None,
    n_sets: int,
    kind: str = "matched",
    seed: int = 0,
) -> list[Table]:
    """Sets of null positions of sources, each with ``source``, the row that a position stands for.

    Parameters
    ----------
    sources, dust, footprint
        As for :func:`szeek.stack.nulls.matched_positions`.
    n_sets : int
    kind : {'matched', 'rotated'}
        See :class:`StackOptions`.
    seed : int

    Raises
    ------
    ValueError
        If the kind is unknown, or a set has no position inside the footprint.
    """
    if kind == "matched":
        sets = [matched_positions(sources, dust, footprint, seed=seed + k) for k in range(n_sets)]
    elif kind == "rotated":
        sets = [rotated_positions(sources, 360 * (k + 1) / (n_sets + 1), footprint) for k in range(n_sets)]
    else:
        raise ValueError(f"null_kind is '{kind}', expected 'matched' or 'rotated'")
    if empty := sum(not len(where) for where in sets):
        raise ValueError(f"{empty} of {n_sets} sets of {kind} nulls have no position inside the maps; use the other")
    return sets


def measure_spectrum(
    bands: SkyMaps,
    sources: Table,
    nulls: Table,
    instrument: Instrument,
    mask: NDArray[np.bool_] | None = None,
    radius_arcmin: float = 10.0,
    background_arcmin: tuple[float, float] = (15.0, 25.0),
    *,
    extent_arcmin: float = 0.0,
    y_map: SkyMaps | None = None,
    y_mask: NDArray[np.bool_] | None = None,
) -> Table:
    """Mean aperture flux of sources in every band less that of null positions, and what it is made of.

    The components are fitted (:func:`szeek.stack.spectrum.fit_spectrum`) with the part of a source's flux that each
    band's beam leaves in the aperture. The covariance is that of the means, sources and nulls; of fewer than 30
    sources it is that of null positions, which have the same noise but not the sources' own scatter.

    Hot gas shines less per y, by 8 % at 6 keV in the HFI bands: where masses and redshifts of sources are known the
    tSZ spectrum is that of their mean temperature.

    Parameters
    ----------
    bands : SkyMaps
        The instrument's bands.
    sources, nulls : Table
        ``lon_deg``, ``lat_deg``, and ``m500_1e14msun`` and ``z`` of sources where they are known; nulls from
        :func:`szeek.stack.nulls.matched_positions`, any number.
    instrument : Instrument
    mask : (n_pix,) bool, optional
        True where pixels count.
    radius_arcmin, background_arcmin : float
        Disc and annulus, see :func:`szeek.stack.profiles.measure_fluxes`.
    extent_arcmin : float
        FWHM of the sources themselves, taken as Gaussian; 0 for points.
    y_map : SkyMaps, optional
        A Compton-y map of the same sky, in which the same flux is measured, to compare with that of the bands.
    y_mask : (n_pix,) bool, optional
        True where its pixels count.

    Returns
    -------
    Table
        One row per band: ``band``, ``freq_ghz``, ``unit`` (of the map, times arcmin^2), ``flux``, ``error``,
        ``null``, and with more sources or nulls than bands ``tsz``, ``dust``, ``radio``, ``cmb``, the fitted parts
        (of fewer than four bands not all, see :func:`szeek.stack.spectrum.separable_components`),
        and ``rest``, ``rest_error``, the flux less all of them but tSZ: bands share CMB and dust, whose errors hide
        the tSZ of few sources in ``flux``; the amplitudes in the metadata ``fit``, the temperature in ``t_e_kev``.
        With a y map the metadata ``y_map`` too: ``flux`` (arcmin^2, beam and extent corrected as in the fit),
        ``error``, ``difference`` (fitted tSZ flux less this one), ``difference_error`` (from their difference at
        single positions, so that noise which both share counts once) and ``difference_sigma``.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> hfi, rng = read_instrument("planck-hfi"), np.random.default_rng(1)
    >>> noise = rng.normal(size=(12 * 256**2, 6)).astype(np.float32)
    >>> bands = SkyMaps(noise, np.ones(len(noise), bool), hfi.bands)
    >>> where = Table({"lon_deg": rng.uniform(0, 360, 200), "lat_deg": rng.uniform(-60, 60, 200)})
    >>> disc = {"radius_arcmin": 30.0, "background_arcmin": (45.0, 75.0)}
    >>> spectrum = measure_spectrum(bands, where[:100], where[100:], hfi, **disc)
    >>> bool((abs(spectrum["flux"]) < 5 * spectrum["error"]).all())  # noise alone
    True
    """
    disc = radius_arcmin, background_arcmin
    values = [measure_fluxes(bands, where, *disc, mask=mask) for where in (sources, nulls)]
    with_y = [np.zeros(len(v)) for v in values]
    if y_map is not None:
        kept_y = gaussian_aperture_fraction(math.hypot(y_map.bands[0].fwhm_arcmin, extent_arcmin), *disc)
        with_y = [measure_fluxes(y_map, at, *disc, mask=y_mask)[:, 0] / kept_y for at in (sources, nulls)]
    seen = [np.isfinite(v).all(axis=1) & np.isfinite(y) for v, y in zip(values, with_y, strict=True)]
    flux, null = (v[good] for v, good in zip(values, seen, strict=True))
    out = Table({"band": [band.name for band in bands.bands], "freq_ghz": [band.freq_ghz for band in bands.bands]})
    out["unit"] = [f"{band.unit} arcmin2" for band in bands.bands]
    out["null"] = null.mean(axis=0) if len(null) else np.nan
    out["flux"] = (flux.mean(axis=0) if len(flux) else np.nan) - out["null"]
    out.meta["n_source"], out.meta["n_null"] = len(flux), len(null)
    out["error"] = np.nan
    scatter = flux if len(flux) >= _OWN_SCATTER else null
    if not len(flux) or min(len(scatter), len(null)) <= bands.n_band + 1:
        return out
    out.meta["covariance"] = "sources" if scatter is flux else "nulls"
    out.meta["t_e_kev"] = _mean_temperature_kev(sources[seen[0]])
    covariance = np.cov(scatter, rowvar=False) / len(flux) + np.cov(null, rowvar=False) / len(null)
    out["error"] = np.sqrt(np.diag(covariance))
    kept = [gaussian_aperture_fraction(math.hypot(b.fwhm_arcmin, extent_arcmin), *disc) for b in bands.bands]

    def fitted(spectrum: NDArray[np.float64]) -> SpectrumFit:
        components, t_e_kev = separable_components(bands.n_band), out.meta["t_e_kev"]
        return fit_spectrum(spectrum, covariance, instrument, components, beam_factor=kept, t_e_kev=t_e_kev)

    fit = fitted(np.asarray(out["flux"], float))
    for name, part in zip(fit.components, fit.model, strict=True):
        out[name] = part
    tsz = fit.components.index("tsz")
    shape = fit.model / fit.amplitude[:, None]
    # a least-squares fit's residual is independent of its amplitudes: that of tSZ is added back with its variance
    left = covariance - shape.T @ fit.covariance @ shape + np.outer(shape[tsz], shape[tsz]) * fit.covariance[tsz, tsz]
    out["rest"] = out["flux"] - (fit.model.sum(axis=0) - fit.model[tsz])
    out["rest_error"] = np.sqrt(np.maximum(np.diag(left), 0))
    parts = fit.to_table()
    out.meta["fit"] = {c: {k: _plain(row[k]) for k in parts.colnames[1:]} for c, row in zip(
        fit.components, parts, strict=True)}  # fmt: skip
    out.meta["chi2"], out.meta["n_freedom"], out.meta["p_value"] = fit.chi2, fit.n_freedom, fit.p_value
    if y_map is not None:
        weight = np.array([fitted(one).amplitude[tsz] for one in np.eye(bands.n_band)])  # the fit is linear
        y, y_null = (y[good] for y, good in zip(with_y, seen, strict=True))
        excess, n = float(y.mean() - y_null.mean()), len(flux)
        errors = [
            math.sqrt((own if n >= _OWN_SCATTER else far).var(ddof=1) / n + far.var(ddof=1) / len(far))
            for own, far in ((y, y_null), (flux @ weight - y, null @ weight - y_null))
        ]
        difference = float(fit.amplitude[tsz]) - excess
        out.meta["y_map"] = {
            "flux": excess, "error": errors[0], "difference": difference, "difference_error": errors[1],
            "difference_sigma": difference / errors[1],
        }  # fmt: skip
    return out


def _mean_temperature_kev(clusters: Table) -> float:
    """Electron temperature of clusters of known mass and redshift, weighted as their flux goes; 0 where none is."""
    if not {"m500_1e14msun", "z"} <= set(clusters.colnames):
        return 0.0
    columns = [np.ma.masked_array(clusters[name], dtype=float).filled(np.nan) for name in ("m500_1e14msun", "z")]
    mass, z = (np.asarray(column) for column in columns)
    known = np.isfinite(mass) & np.isfinite(z)
    if not known.any():
        return 0.0
    temperature = electron_temperature_kev(mass[known], z[known])
    return float(np.average(temperature, weights=y500_from_mass(mass[known], z[known])))


def _plain(value: Any) -> float | str:
    return str(value) if isinstance(value, str) else float(value)


def read_stacks(path: str | os.PathLike[str]) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Images of a stacks.fits: name of the map -> kind ('mean', 'median' if there is one, 'error',
    'block_error', 'null') -> (ny, nx).

    A map of several bands gives one entry per band, ``'name: band'``.

    Examples
    --------
    >>> import tempfile
    >>> hdu = fits.ImageHDU(np.ones((1, 60, 60), np.float32))
    >>> hdu.header.update({"MAPS": "y", "KIND": "mean", "MAP1": "y"})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "stacks.fits"
    ...     fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    ...     read_stacks(path)["y"]["mean"].shape
    (60, 60)
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


class _Part(NamedTuple):
    """One pass over one of the maps, for some of the samples."""

    maps: str
    samples: tuple[str, ...]


class _Stacked(NamedTuple):
    """What is kept of a stack: its images by kind, (ny, nx, n_map) float32, and its profile."""

    images: dict[str, NDArray[np.float32]]
    profile: Profile
    n_source: int
    pixel_arcmin: float


def _stack_part(
    part: _Part,
    maps: Mapping[str, SkyMaps | NDArray[np.float32]],
    masks: Mapping[str, NDArray[np.bool_]],
    samples: Mapping[str, Table],
    bins: Sequence[NDArray[np.int64]],
    options: StackOptions,
    n_threads: int | None,
) -> dict[str, _Stacked]:
    """The stacks of 'all' sources, of their bins of p ('p bin 1' and so on), and of null sets ('null 1' ...)."""
    stacks = stack_samples(
        maps[part.maps], {name: samples[name] for name in part.samples}, options.field, mask=masks.get(part.maps),
        angle_deg=0.0 if options.oriented else None, weights={name: samples[name]["weight"] for name in part.samples},
        medians=("all",) if options.median else (), means=[name for name in part.samples if name != "all"],
        seed=options.seed, n_threads=n_threads,
    )  # fmt: skip
    out = {}
    for name, stack in stacks.items():
        rows = {name: np.arange(len(samples[name]))}
        images = {"mean": stack.mean}
        if stack.median is not None:
            images["median"] = stack.median
        if name == "all":
            images |= {"error": measure_error(stack), "block_error": measure_error(stack, blocks=True)}
            rows |= {f"p bin {k}": members for k, members in enumerate(bins, start=1)}
        for of, members in rows.items():
            profile = measure_part(stack, members, seed=options.seed)
            out[of] = _Stacked(images if of == name else {}, profile, stack.n_source, stack.pixel_arcmin)
    return out


def _typical(nulls: Sequence[Profile]) -> Profile:
    """Mean profile of null sets with the mean covariance of one of them: what as many sources show by chance."""
    mean, covariance, block_covariance = (
        np.mean([getattr(null, name) for null in nulls], axis=0)
        for name in ("mean", "covariance", "block_covariance")
    )
    return replace(nulls[0], mean=mean, covariance=covariance, block_covariance=block_covariance)


def _significance(profile: Profile, nulls: Sequence[Profile]) -> Table:
    """Significances of a profile: in the scatter of the sources, NaN for too few of them, and ``null_sigma``, its
    first ring less the null sets' in the error of one of them: what it would be if nothing were there. That error is
    the sets' own bootstrap, or, of fewer than 30 sources, which tell none, the scatter between the sets."""
    n_map, n_ring = profile.mean.shape
    if profile.n_group > n_ring:
        table = measure_significance(profile, nulls)
    else:
        table = Table({"map": list(profile.names), "n_ring": np.full(n_map, n_ring)})
        of_blocks = ("block_centre_sigma", "block_p_value", "block_sigma")
        for name in ("centre_sigma", "chi2", "p_value", "sigma", *of_blocks):
            table[name] = np.full(n_map, np.nan)
    centre = np.array([null.mean[:, 0] for null in nulls])
    variance = centre.var(axis=0, ddof=1)
    if min(null.n_group for null in nulls) >= _OWN_SCATTER:
        variance = np.mean([null.covariance[:, 0, 0] for null in nulls], axis=0)
    spread = np.sqrt(variance * (1 + 1 / len(nulls)))
    with np.errstate(invalid="ignore", divide="ignore"):
        table["null_sigma"] = (profile.mean[:, 0] - centre.mean(axis=0)) / spread
    return table


def _image_hdus(name: str, stacked: _Stacked, nulls: Sequence[_Stacked]) -> list[fits.ImageHDU]:
    null = sum((of.images["mean"] / len(nulls) for of in nulls), np.zeros(()))
    hdus = []
    for kind, image in {**stacked.images, "null": null}.items():
        hdu = fits.ImageHDU(np.moveaxis(np.asarray(image, np.float32), 2, 0), name=f"{name}_{kind}")
        hdu.header["MAPS"] = (name, "map or set of maps")
        hdu.header["KIND"] = (kind, "null: matched positions")
        hdu.header["NSOURCE"] = (stacked.n_source, "sources stacked")
        hdu.header["PIXSIZE"] = (stacked.pixel_arcmin, "[arcmin] pixel size")
        for k, band in enumerate(stacked.profile.names):
            hdu.header[f"MAP{k + 1}"] = (band, f"plane {k + 1}")
        hdus.append(hdu)
    return hdus


def _labelled(table: Table, maps: str, sample: str) -> Table:
    table.add_columns([[maps] * len(table), [sample] * len(table)], names=["maps", "sample"], indexes=[0, 0])
    return table


def _flux_table(
    sky: SkyMaps | NDArray[np.float32],
    sources: Table,
    beside: FluxMap,
    n_bins: int,
    mask: NDArray[np.bool_] | None,
    seed: int,
) -> Table:
    """Mean flux in bins of p, then of each comparison catalogue (p is NaN there); the law in the metadata.

    With injections: ``bias`` and ``bias_error``, measured over true flux, and the law corrected for it; the one
    without correction is ``law_uncorrected`` then. ``correction`` says in words what was done.
    """
    flux = measure_fluxes(sky, sources, mask=mask)[:, 0]
    rows = measure_flux_in_bins(sources["p"], flux, n_bins, seed=seed)
    rows.add_column([f"p bin {k + 1}" for k in range(len(rows))], name="sample", index=0)
    injections, said = beside.injections, "none: the run has no injections; `szeek selection` makes them"
    if injections is not None:
        try:
            bias = measure_selection_bias(injections, rows, seed=seed)
            rows["bias"], rows["bias_error"] = bias["ratio"], bias["ratio_error"]
            said = f"selection bias, with {bias['n'].sum()} injected clusters that were found"
        except ValueError as error:
            injections, said = None, f"none: {error}"
    parts = [rows]
    for name, clusters in beside.comparisons.items():
        clusters = plain_table(clusters, name)
        value = measure_fluxes(sky, clusters, mask=mask)[:, 0]
        if np.isfinite(value).any():
            row = measure_flux_in_bins(np.zeros(value.size), value, 1, seed=seed)
            for column in ("p_low", "p_high", "p_mean", *(c for c in ("bias", "bias_error") if c in rows.colnames)):
                row[column] = np.nan
            row.add_column([name], name="sample", index=0)
            parts.append(row)
    out = vstack(parts)
    p = np.asarray(sources["p"], float)
    has_p = bool(np.all((p > 0) & (p < 1))) and np.unique(p).size > max(3, n_bins)  # not a rank of another kind
    if has_p and np.count_nonzero(np.isfinite(flux)) >= 10 * max(3, n_bins):
        laws = {"law": fit_scaling(p, flux, max(3, n_bins), seed=seed)}
        if injections is not None and n_bins >= 3:
            laws["law_uncorrected"] = laws["law"]
            laws["law"] = fit_scaling(p, flux, n_bins, injections=injections, seed=seed)
        for name, law in laws.items():
            row = law.to_table()
            out.meta[name] = {column: float(row[column][0]) for column in row.colnames}
        out.meta["correction"] = said
    return out
