"""Known clusters painted into maps: simulated or real, away from the clusters that are already there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar, cast

import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from szeek.physics.beams import FWHM_PER_SIGMA
from szeek.physics.instrument import Instrument
from szeek.physics.looks import ClusterLook
from szeek.physics.scaling import MASS_BIAS, electron_temperature_kev, mass_and_redshift
from szeek.physics.tsz import band_response
from szeek.simulate.components.clusters import paint_clusters
from szeek.simulate.components.sources import Sources, draw_cluster_galaxies, paint_sources
from szeek.simulate.haloes import draw_shapes, random_generator
from szeek.simulate.imagepainting import paint_clusters_on, paint_sources_on
from szeek.sky.healpix import unit_vectors
from szeek.sky.imagemaps import ImageMaps, Pixels
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps

Floats = NDArray[np.float64]
Maps = TypeVar("Maps", bound=SkyMaps | MapSet)


def inject_clusters(
    skymaps: Maps,
    clusters: Table,
    instrument: Instrument,
    *,
    galaxies_seed: int | None = None,
    threads: int | None = None,
) -> Maps:
    """Add clusters to maps, each band through its beam and with its tSZ response, and the galaxies in them.

    Parameters
    ----------
    skymaps : SkyMaps or MapSet
        Any maps whose bands the instrument has; left unchanged.
    clusters : Table
        As for :func:`szeek.simulate.components.clusters.paint_clusters`; where ``m500_1e14msun`` and ``z`` are known,
        with the relativistic correction for their temperature.
    instrument : Instrument
        Beams (tables where it has them; of the galaxies Gaussians), units and tSZ response.
    galaxies_seed : int, optional
        Paint the infrared and radio emission of member galaxies too, drawn from this seed as those of simulated skies
        are (:func:`szeek.simulate.components.sources.draw_cluster_galaxies`); clusters of unknown mass or redshift
        have none.
    threads : int, optional
        Number of threads for painting.

    Returns
    -------
    SkyMaps or MapSet
        New maps, without S/N maps; still 0 outside the footprint.

    Raises
    ------
    ValueError
        If the maps have a band that the instrument has not, or in another unit.

    Examples
    --------
    >>> from szeek.inputs.instrument import read_instrument
    >>> planck = read_instrument("planck-hfi")
    >>> empty = SkyMaps(np.zeros((12 * 64**2, 6), np.float32), np.ones(12 * 64**2, bool), planck.bands)
    >>> one = draw_injections(1, 1, y500_range_arcmin2=(1e-3, 2e-3))
    >>> inject_clusters(empty, one, planck).values[:, 0].min() < 0
    np.True_
    """
    known = {band.name: band for band in instrument.bands}
    for band in skymaps.bands:
        if band.name not in known or known[band.name].unit != band.unit:
            raise ValueError(
                f"band {band.name} in {band.unit} is none of {instrument.name}'s: "
                + ", ".join(f"{b.name} in {b.unit}" for b in instrument.bands)
            )
    columns = [instrument.band_names.index(band.name) for band in skymaps.bands]
    temperature = np.zeros(len(clusters))
    weighed = np.zeros(len(clusters), bool)
    if "m500_1e14msun" in clusters.colnames and "z" in clusters.colnames:
        mass, z = (np.asarray(clusters[name], np.float64) for name in ("m500_1e14msun", "z"))
        weighed = np.isfinite(mass) & np.isfinite(z)
        # Truth tables hold true masses, surveys X-ray calibrated ones.
        survey = np.asarray(clusters["survey"]) if "survey" in clusters.colnames else np.full(mass.size, "")
        xray = mass * np.where(survey == "TRUTH", MASS_BIAS, 1.0)
        temperature[weighed] = electron_temperature_kev(xray[weighed], z[weighed])
    if "temperature_factor" in clusters.colnames:
        temperature = temperature * np.asarray(clusters["temperature_factor"], float)
    response = band_response(instrument, temperature)[:, columns]
    own, galaxies = instrument.select(columns), None
    if galaxies_seed is not None:
        galaxies = draw_cluster_galaxies(clusters[weighed], instrument, galaxies_seed)
        galaxies = replace(galaxies, flux_jy=galaxies.flux_jy[:, columns])
    if isinstance(skymaps, SkyMaps):
        return cast(Maps, _inject_healpix(skymaps, clusters, response, galaxies, own, threads))
    groups: list[SkyMaps | ImageMaps] = []
    for number, group in zip(skymaps.columns, skymaps.groups, strict=True):
        some = None if galaxies is None else replace(galaxies, flux_jy=galaxies.flux_jy[:, number])
        parts = (clusters, response[:, number], some, own.select(list(number)))
        groups.append(
            _inject_healpix(group, *parts, threads) if isinstance(group, SkyMaps) else _inject_images(group, *parts)
        )
    return cast(Maps, MapSet(tuple(groups), skymaps.coverage))


def _inject_healpix(
    skymaps: SkyMaps,
    clusters: Table,
    response: Floats,
    galaxies: Sources | None,
    instrument: Instrument,
    threads: int | None,
) -> SkyMaps:
    """Clusters and galaxies in HEALPix maps."""
    values = np.array(skymaps.values)
    beams = np.array([band.fwhm_arcmin for band in skymaps.bands])
    tables, windows = zip(*((detail.beam, detail.pixel_window) for detail in instrument.details), strict=True)
    paint_clusters(
        clusters, skymaps.nside, beams, response, out=values, pixel_window=windows, tables=tables, threads=threads
    )
    if galaxies is not None:
        paint_sources(galaxies, instrument, skymaps.nside, beams, out=values, threads=threads or 0)
    values[~skymaps.footprint] = 0.0
    return replace(skymaps, values=values, snr=None, theta500_arcmin=())


def _inject_images(
    maps: ImageMaps,
    clusters: Table,
    response: Floats,
    galaxies: Sources | None,
    instrument: Instrument,
) -> ImageMaps:
    """Clusters and galaxies in images; what was not observed stays so."""
    beams = np.array([band.fwhm_arcmin for band in maps.bands])
    images = [np.asarray(part.values, np.float32) * np.float32(part.factor) for part in maps.signal]
    unseen = [~np.isfinite(image) | (image == 0.0) for image in images]
    # as the filter has it: a pixel of the image holds the mean of the sky inside it
    window = np.where([detail.pixel_window for detail in instrument.details], maps.pixel_arcmin / np.sqrt(12), 0.0)
    tables = [detail.beam for detail in instrument.details]
    paint_clusters_on(maps.grid, clusters, beams, response, images, tables, window)
    if galaxies is not None:
        paint_sources_on(maps.grid, galaxies, instrument, np.hypot(beams, FWHM_PER_SIGMA * window), images)
    for image, lost in zip(images, unseen, strict=True):
        image[lost] = 0.0
    return replace(maps, signal=tuple(Pixels(image) for image in images))


def draw_injections(
    seed: int,
    n: int,
    *,
    y500_range_arcmin2: tuple[float, float] = (2e-4, 1e-2),
    theta500_range_arcmin: tuple[float, float] = (1.0, 20.0),
    footprint: NDArray[np.bool_] | None = None,
    avoid: Table | None = None,
    min_separation_arcmin: float = 30.0,
    shapes: bool = False,
    few_bright: bool = False,
) -> Table:
    """Clusters to inject: log-uniform in Y500 and theta500, uniform on the sky, apart from each other and others.

    Mass and redshift are those that the mean relations give flux and size
    (:func:`szeek.physics.scaling.mass_and_redshift`).

    Parameters
    ----------
    seed : int
        Seed of the draw.
    n : int
        Number of clusters.
    y500_range_arcmin2, theta500_range_arcmin : (float, float)
        Ranges, both ends positive.
    footprint : (n_pix,) bool, optional
        RING; centres fall where it is True, anywhere if not given.
    avoid : Table, optional
        Known clusters, ``lon_deg`` and ``lat_deg``.
    min_separation_arcmin : float
        Least distance to those and between injections.
    shapes : bool
        Draw elongation, concentration and second peaks as simulated haloes have them; round and alike otherwise.
    few_bright : bool
        Above 1e-3 arcmin^2 (and theta500 / 5 arcmin times that, where it is more) draw fluxes as dN/dY ~ Y^-3, about
        as the sky has them: what is brighter is found anyhow, and dims its surroundings in filtered maps.

    Returns
    -------
    Table
        Truth, common catalogue columns, survey 'TRUTH', and with shapes the columns that have them;
        ``density`` of the draws there per ln Y500 and ln theta500, up to a factor.

    Raises
    ------
    ValueError
        For a bad range, an empty footprint, or where the sky has no room for ``n`` clusters.

    Examples
    --------
    >>> len(draw_injections(1, 5))
    5
    """
    for name, (low, high) in (("y500", y500_range_arcmin2), ("theta500", theta500_range_arcmin)):
        if not 0 < low <= high:
            raise ValueError(f"{name} range is {low} to {high}, expected 0 < low <= high")
    if footprint is not None and not footprint.any():
        raise ValueError("the footprint is empty: there is no sky to inject clusters into")
    random = random_generator(seed, "injections")
    taken = [np.zeros((0, 3))]
    if avoid is not None and len(avoid):
        taken.append(unit_vectors(np.asarray(avoid["lon_deg"]), np.asarray(avoid["lat_deg"])))
    lon, lat = _place(random, n, footprint, np.concatenate(taken), min_separation_arcmin)
    y500, theta = (
        np.exp(random.uniform(np.log(low), np.log(high), n))
        for low, high in (y500_range_arcmin2, theta500_range_arcmin)
    )
    density = np.ones(n)
    if few_bright:
        y500, density = _steepen(y500, y500_range_arcmin2, 1e-3 * np.maximum(theta / 5.0, 1.0))
    icrs = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs
    mass, z = mass_and_redshift(y500, theta)
    missing = np.full(n, np.nan)
    gas: dict[str, NDArray[Any]] = {}
    if shapes:
        gas = {**draw_shapes(random, np.zeros(n, bool)), "pair_id": np.full(n, -1)}
    return Table(
        {
            "name": np.array([f"INJECTED {i:06d}" for i in range(n)], dtype="U15"),
            "lon_deg": lon,
            "lat_deg": lat,
            "ra_deg": icrs.ra.deg,
            "dec_deg": icrs.dec.deg,
            "z": z,
            "m500_1e14msun": mass,
            "y500_arcmin2": y500,
            "theta500_arcmin": theta,
            "richness": missing,
            "snr": missing.copy(),
            "survey": np.full(n, "TRUTH"),
            "density": density,
            **gas,
        }
    )


def with_looks(injections: Table, look: ClusterLook, seed: int) -> Table:
    """The same clusters, each of a look; as published they are without.

    Examples
    --------
    >>> dusty = with_looks(draw_injections(1, 3), ClusterLook(dust=2.0), 1)
    >>> dusty["dust_factor"].tolist()
    [2.0, 2.0, 2.0]
    """
    looking = injections.copy()
    for name, values in look.columns(len(injections), random_generator(seed, "injected looks")).items():
        looking[name] = values
    return looking


def _steepen(y500: Floats, y500_range: tuple[float, float], knee: Floats) -> tuple[Floats, Floats]:
    """From log-uniform fluxes those log-uniform to the knee, falling as dN/dY ~ Y^-3 above it; and their density."""
    low, high = y500_range
    knee = np.clip(knee, low, high)
    below, above = np.log(knee / low), 0.5 * (1 - (knee / high) ** 2)  # integrals of dN/dln Y, 1 at the knee
    at = np.log(y500 / low) / np.log(high / low) * (below + above)
    bright = np.maximum(at - below, 0.0)
    tail = knee / np.sqrt(np.maximum(1 - 2 * bright, (knee / high) ** 2))
    drawn = np.where(bright > 0, tail, low * np.exp(at))
    density = np.minimum(1.0, (knee / drawn) ** 2) * np.log(high / low) / (below + above)
    return np.asarray(drawn), np.asarray(density)


def _place(
    random: np.random.Generator,
    n: int,
    footprint: NDArray[np.bool_] | None,
    taken: Floats,
    min_separation_arcmin: float,
) -> tuple[Floats, Floats]:
    """Uniform positions in the footprint, each at least a distance from ``taken`` (m, 3) and the earlier ones."""
    chord = 2 * np.sin(np.radians(min_separation_arcmin / 60.0) / 2)
    placed = np.zeros((0, 3))
    for _ in range(200):
        if len(placed) >= n:
            break
        vectors = random.standard_normal((max(4 * n, 1000), 3))
        if footprint is not None:
            nside = healpy.npix2nside(footprint.size)
            # Inside the footprint from the start: a small field would otherwise hardly ever be hit.
            fine = max(nside, 1 << 14)
            ratio = (fine // nside) ** 2
            pixels = healpy.ring2nest(nside, random.choice(np.flatnonzero(footprint), len(vectors)))
            nested = pixels * ratio + random.integers(0, ratio, len(vectors))
            vectors = np.stack(healpy.pix2vec(fine, nested, nest=True), axis=-1)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        known = np.concatenate([taken, placed])
        if len(known):
            distance, _ = cKDTree(known).query(vectors)
            vectors = vectors[distance >= chord]
        if len(vectors):
            near = cKDTree(vectors).query_pairs(chord, output_type="ndarray")
            later = np.zeros(len(vectors), bool)
            later[near.max(axis=1)] = True  # drops one of a pair, the later one
            placed = np.concatenate([placed, vectors[~later]])
    if len(placed) < n:
        raise ValueError(
            f"only {len(placed)} of {n} clusters fit {min_separation_arcmin} arcmin apart from each other and the "
            "known ones; ask for fewer, or for a larger part of the sky"
        )
    lon, lat = healpy.vec2ang(placed[:n], lonlat=True) if n else (np.zeros(0), np.zeros(0))
    return np.asarray(lon, np.float64), np.asarray(lat, np.float64)
