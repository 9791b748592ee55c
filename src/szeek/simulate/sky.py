"""A Planck-HFI-like full sky with known truth, from nothing but a seed.

    haloes -> clusters, their galaxies -> \\
    radio, dusty sources, cold clumps -->   painted into interleaved maps (pixels)  -> \\
    CMB + CIB + unresolved groups + noise tail = one alm a band -> one synthesis ->   + -> six maps -> y map (ILC)
    Galaxy = exp(one synthesis)  ->  white noise with the scan's depth              -> /

Every component draws from its own random generator, so that a new one leaves the others alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from szeek._version import __version__
from szeek.config import FieldConfig
from szeek.files import write_json, write_table
from szeek.filter.ilc import NeedletILC
from szeek.inputs.catalogues import write_catalogue
from szeek.inputs.instrument import read_bandpasses, read_beams, read_instrument
from szeek.inputs.reddening import read_column_map
from szeek.parallel import Progress
from szeek.physics.bandpass import Bandpass
from szeek.physics.instrument import Instrument
from szeek.physics.looks import ClusterLook
from szeek.physics.scaling import MASS_BIAS, electron_temperature_kev
from szeek.physics.tsz import band_response
from szeek.simulate.classes import list_classes
from szeek.simulate.components.cib import FLUX_CUT_JY, draw_cib
from szeek.simulate.components.clusters import paint_clusters, paint_y
from szeek.simulate.components.cmb import draw_cmb
from szeek.simulate.components.companions import write_companions, write_xray
from szeek.simulate.components.dust import draw_galaxy
from szeek.simulate.components.infrared import write_infrared_maps
from szeek.simulate.components.noise import (
    add_white_noise,
    draw_coloured_noise,
    noise_generator,
    noise_pattern,
    white_level,
)
from szeek.simulate.components.sources import (
    draw_cluster_galaxies,
    draw_cold_clumps,
    draw_dusty_sources,
    draw_radio_sources,
    paint_sources,
)
from szeek.simulate.density import all_density_shells
from szeek.simulate.haloes import draw_haloes, group_background
from szeek.simulate.mapnoise import noise_deviates
from szeek.simulate.planckfits import write_planck_map
from szeek.simulate.skypart import SkyPart
from szeek.simulate.surveys import mock_mcxc, mock_psz2, mock_redmapper
from szeek.sky.harmonics import (
    Alm,
    Floats,
    Map32,
    add_alm,
    analyse,
    band_limit,
    beam_window,
    filter_alm,
    pixel_window,
    synthesise,
)
from szeek.sky.partial import PartialMap, write_partial_map

#: Gaussian fits of the effective beams: HFI_RIMO_R3.00.fits, extension MAP_PARAMS, column FWHMGAUS; at 545 GHz (4.675
#: there) what the cross spectra 353x545 and 545x857 of real cut-outs around Coma fall off with, 1500 < l < 4000.
CORE_FWHM_ARCMIN = {"100": 9.659, "143": 7.22, "217": 4.90, "353": 4.916, "545": 4.40, "857": 4.216}


#: Name of the catalogue of what else than clusters a sky holds.
CLASSES_FILE = "classes.fits"


class SimulateConfig(BaseModel):
    """What to simulate.

    Parameters
    ----------
    nside : int
        HEALPix resolution, a power of two from 64 to 2048.
    seed : int
    instrument : str
        An experiment that ships with the package; the foreground models hold for Planck HFI.
    field : FieldConfig, optional
        Only this part of the sky of that seed: the same pixels, but catalogues of it alone, and a mock PSZ2 whose
        noise is not the maps', for there is no y map.
    rimo : Path, optional
        HFI instrument model (``HFI_RIMO_R3.00.fits``): beams and bandpasses of the bands come from it. Without it
        they are those of the package: the same beams but for 545 GHz, and tSZ responses of the published table.
    y_map : bool
        Make the ILC y map.
    companions : bool
        Make the X-ray, lensing, galaxy, star-formation, stellar-mass and 100 um maps that are stacked beside, and
        y maps of the first and the last half.
    half_missions : bool
        Write maps of the two half missions too: same sky, independent noise of twice the variance.
    clusters : ClusterLook
        How clusters look; as published by default.
    threads : int
        0 uses all cores; the result does not depend on it.

    Examples
    --------
    >>> SimulateConfig(nside=256, seed=7).y_map
    True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nside: Annotated[int, Field(ge=64, le=2048)] = 2048
    seed: Annotated[int, Field(ge=0)] = 1
    instrument: str = "planck-hfi"
    field: FieldConfig | None = None
    rimo: Path | None = None
    y_map: bool = True
    companions: bool = True
    half_missions: bool = False
    clusters: ClusterLook = ClusterLook()
    threads: Annotated[int, Field(ge=0)] = 0

    @field_validator("nside")
    @classmethod
    def _power_of_two(cls, nside: int) -> int:
        if nside & (nside - 1):
            raise ValueError(f"nside is {nside}, expected a power of two from 64 to 2048")
        return nside

    @model_validator(mode="after")
    def _whole_or_part(self) -> SimulateConfig:
        if self.field is not None and (self.y_map or self.companions or self.half_missions):
            raise ValueError("y map, companions and half missions are those of a whole sky; leave them or field out")
        return self


@dataclass(frozen=True)
class SimulatedSky:
    """Where a simulated sky lies.

    Parameters
    ----------
    folder : Path
    maps : dict of str to Path
        Frequency map of each band, by band name.
    catalogues : dict of str to Path
        'truth', 'psz2', 'mcxc', 'redmapper'.
    y_map : Path or None
    config : SimulateConfig

    Examples
    --------
    >>> sky = SimulatedSky(Path("sky"), {"143": Path("sky/143.fits")}, {}, None, SimulateConfig(y_map=False))
    >>> sorted(sky.maps)
    ['143']
    """

    folder: Path
    maps: dict[str, Path]
    catalogues: dict[str, Path]
    y_map: Path | None
    config: SimulateConfig


def simulate_sky(config: SimulateConfig, out: str | Path, *, progress: Progress | None = None) -> SimulatedSky:
    """Simulate a full sky and write it to a folder.

    Parameters
    ----------
    config : SimulateConfig
    out : path
        Folder, created; files of the same names are replaced one by one, ``simulate.json`` last, so that a
        folder with it is whole.
    progress : Progress, optional
        Called as progress('sky', 0, 0, step) when a step starts.

    Returns
    -------
    SimulatedSky

    Raises
    ------
    OSError
        If the folder cannot be written; nothing half-written keeps its final name.

    Examples
    --------
    >>> sky = simulate_sky(SimulateConfig(nside=512, seed=1), "sky")  # doctest: +SKIP
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:  # refused before slow work
    ...     simulate_sky(SimulateConfig(nside=512, seed=1), file.name)  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    FileExistsError: a file stands where the folder is to be
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "simulate.json").unlink(missing_ok=True)
    clock = _Clock(progress)
    instrument, bandpasses = _observe_with(config)
    nside, seed, threads = config.nside, config.seed, config.threads
    lmax, part = band_limit(nside), SkyPart.of(config.field, nside)
    beams = core_fwhm_arcmin(instrument, config.rimo)

    clock("haloes and catalogues")
    shells = all_density_shells(seed, threads)
    haloes = draw_haloes(seed, shells=shells, look=config.clusters)
    dust = read_column_map("dust_ebv_Planck13")
    catalogues = {"truth": haloes, "mcxc": mock_mcxc(haloes, seed), "redmapper": mock_redmapper(haloes, seed)}
    if not config.y_map:  # else with the y map's noise, below
        catalogues["psz2"] = mock_psz2(haloes, seed, dust=dust)
    if part.field is not None:
        catalogues = _cut_catalogues(catalogues, part)
    files = {name: folder / f"{name}.fits" for name in ("truth", "psz2", "mcxc", "redmapper")}
    with ThreadPoolExecutor(1) as beside:  # catalogues of a million haloes take seconds to write
        written = [beside.submit(write_catalogue, table, files[name]) for name, table in catalogues.items()]

        clock("clusters")
        maps = np.zeros((12 * nside * nside, len(instrument.bands)), np.float32)
        seen = haloes[part.reaches(haloes["lon_deg"], haloes["lat_deg"])]
        paint_haloes(seen, instrument, nside, beams, out=maps, bandpasses=bandpasses, threads=threads)

        clock("compact sources")
        dusty = draw_dusty_sources(instrument, seed)
        kinds = (
            draw_radio_sources(instrument, seed),
            dusty,
            draw_cluster_galaxies(haloes, instrument, seed),
            draw_cold_clumps(instrument, seed),
        )
        classes = list_classes(*kinds, instrument)
        write_table(classes if part.field is None else classes[part.holds(classes)], folder / CLASSES_FILE)
        for kind in kinds:
            near = kind.take(part.reaches(kind.lon_deg, kind.lat_deg))
            paint_sources(near, instrument, nside, beams, out=maps, threads=threads)
        shot = dusty.shot_noise(np.array([FLUX_CUT_JY[name] for name in instrument.band_names]))

        clock("Galaxy")
        galaxy = draw_galaxy(instrument, nside, seed, threads)
        clock("CIB")
        cib = draw_cib(instrument, lmax, seed, shot_painted_jy2_sr=shot, shells=shells, threads=threads)
        clock("CMB")
        cmb = draw_cmb(lmax, seed)
        groups = analyse(group_background(seed, shells=shells), min(lmax, 512), threads, iterations=1)
        pattern = noise_pattern(nside)
    for catalogue in written:
        catalogue.result()

    paths = {}
    for index, band in enumerate(instrument.bands):
        clock(f"band {band.name}")
        window = beam_window(beams[index], lmax) * pixel_window(nside, lmax)
        diffuse = _diffuse_alm(index, instrument, window, cmb, cib[index], groups)
        cib[index] = np.zeros(0, np.complex64)
        rng = noise_generator(seed, band.name, "mean")
        add_alm(diffuse, draw_coloured_noise(instrument, index, lmax, rng), np.ones(lmax + 1))
        values = synthesise(diffuse, nside, threads, part.rings)
        del diffuse
        values += galaxy.band_map(index, nside, window, threads, part.rings)
        values += maps[part.pixels, index]
        add_white_noise(values, float(white_level(instrument, nside)[index]), pattern, rng, first=part.pixels.start)
        name = f"szeek_sim_{band.name}_{nside}.fits"
        paths[band.name] = folder / name
        if part.field is not None:
            own = PartialMap.from_pixels(nside, part.kept, values[part.kept - part.pixels.start])
            cards = {"CREATOR": f"szeek {__version__}, simulated"}
            write_partial_map(own, folder / name, ["I_STOKES"], unit=band.unit, **cards)
            continue
        maps[:, index] = values
        _write_band(folder / name, values, instrument, index, config)
        if config.half_missions:
            difference = half_difference(instrument, index, nside, seed, pattern, threads)
            for half, sign in (("half1", 1), ("half2", -1)):
                name = f"szeek_sim_{band.name}_{nside}_{half}.fits"
                _write_band(folder / name, values + np.float32(sign) * difference, instrument, index, config)
    del values, cmb, cib

    def make_companions() -> None:
        if config.companions:
            write_xray(haloes, seed, nside, folder)
            write_companions(haloes, shells, seed, min(nside, 1024), folder, threads=threads)
            write_infrared_maps(haloes, galaxy, seed, min(nside, 1024), folder, threads=threads)

    y_path = None
    if config.y_map:
        clock("y map and companion maps" if config.companions else "y map")
        with ThreadPoolExecutor(1) as beside:  # on the cores that the y map's small transforms leave idle
            companions = beside.submit(make_companions)
            y_path, y, fwhm_arcmin = _write_y_maps(maps, instrument, config, pattern, folder)
            companions.result()
        clock("PSZ2 from the maps' noise")
        map_noise = noise_deviates(y, fwhm_arcmin, haloes, threads)
        del y
        catalogues["psz2"] = mock_psz2(haloes, seed, dust=dust, map_noise=map_noise)
        write_catalogue(catalogues["psz2"], files["psz2"])
    elif config.companions:
        clock("companion maps")
        make_companions()
    del maps
    clock("done")
    record = {
        "config": config.model_dump(mode="json"),
        "version": __version__,
        "maps": {name: path.name for name, path in paths.items()},
        "catalogues": {name: path.name for name, path in files.items()},
        "rows": {name: len(table) for name, table in catalogues.items()},
        "y_map": y_path.name if y_path else None,
        "seconds": clock.seconds,
    }
    write_json(record, folder / "simulate.json")
    return SimulatedSky(folder, paths, files, y_path, config)


def paint_sky_y(haloes: Table, seed: int, nside: int, fwhm_arcmin: float, threads: int = 0) -> NDArray[np.float32]:
    """Compton y of all gas in a simulated sky, without the pixels' window.

    Parameters
    ----------
    haloes : Table
        Every halo that was painted: ``truth.fits`` of the sky.
    seed : int
        Of the sky, for the background of the haloes that were not painted one by one.
    nside : int
    fwhm_arcmin : float
        Gaussian resolution.
    threads : int
        0 uses all cores.

    Returns
    -------
    (12 nside^2,) float32
        RING.

    Examples
    --------
    >>> one = Table({"lon_deg": [0.0], "lat_deg": [0.0], "theta500_arcmin": [5.0], "y500_arcmin2": [1e-3]})
    >>> bool(1e-7 < np.median(paint_sky_y(one, 1, 128, 60.0)) < 1e-5)  # that of the background
    True
    """
    lmax = min(band_limit(nside), 512)  # as it was painted
    groups = analyse(group_background(seed, shells=all_density_shells(seed, threads)), lmax, threads, iterations=1)
    y = paint_y(haloes, nside, fwhm_arcmin, pixel_window=False, threads=threads or None)
    y += synthesise(filter_alm(groups, beam_window(fwhm_arcmin, lmax)), nside, threads)
    return y


def _observe_with(config: SimulateConfig) -> tuple[Instrument, Mapping[str, Bandpass] | None]:
    """The instrument, its tSZ responses averaged over the bandpasses where an instrument model is given."""
    instrument = read_instrument(config.instrument)
    if config.rimo is None:
        return instrument, None
    bandpasses = read_bandpasses(config.rimo)
    response = band_response(instrument, bandpasses=bandpasses) / instrument.unit_per_kcmb
    return replace(instrument, tsz_kcmb=response), bandpasses


def core_fwhm_arcmin(instrument: Instrument, rimo: Path | None = None) -> Floats:
    """Beam of each band, (n_band,) float64: the Gaussian fit where one is known, else the band's FWHM.

    The FWHM of the instrument file is that of a Gaussian of the beam's solid angle, shoulders included; real HFI
    maps at l > 2000 (545 x 857 GHz cross spectrum around Coma) follow the narrower core. With an instrument model,
    its Gaussian fits.
    """
    known = CORE_FWHM_ARCMIN if rimo is None else read_beams(rimo)
    return np.array([known.get(band.name, band.fwhm_arcmin) for band in instrument.bands])


class _Clock:
    """Reports each step when it starts, and keeps how long it took."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress = progress
        self.seconds: dict[str, float] = {}
        self._step: str | None = None
        self._start = 0.0

    def __call__(self, step: str) -> None:
        now = time.perf_counter()
        if self._step is not None:
            self.seconds[self._step] = round(now - self._start, 2)
        self._step, self._start = step, now
        if self.progress is not None:
            self.progress("sky", 0, 0, step)


def paint_haloes(
    haloes: Table,
    instrument: Instrument,
    nside: int,
    fwhm_arcmin: Floats,
    *,
    out: Map32,
    bandpasses: Mapping[str, Bandpass] | None = None,
    threads: int = 0,
) -> Map32:
    """Add the thermal SZ effect of haloes, with the relativistic correction of each one's temperature.

    The temperature belongs to the X-ray calibrated mass, (1-b) times the true one of the halo table.

    Examples
    --------
    >>> import healpy
    >>> halo = Table({"lon_deg": [30.0], "lat_deg": [40.0], "theta500_arcmin": [30.0], "y500_arcmin2": [0.05]})
    >>> halo["m500_1e14msun"], halo["z"] = 6.0, 0.05
    >>> hfi, maps = read_instrument("planck-hfi"), np.zeros((12 * 64**2, 6), np.float32)
    >>> maps = paint_haloes(halo, hfi, 64, np.array([band.fwhm_arcmin for band in hfi.bands]), out=maps)
    >>> np.sign(maps[healpy.ang2pix(64, 30.0, 40.0, lonlat=True)]).tolist()  # 100 to 857 GHz
    [-1.0, -1.0, 1.0, 1.0, 1.0, 1.0]
    """
    temperature = electron_temperature_kev(MASS_BIAS * haloes["m500_1e14msun"], haloes["z"])
    if "temperature_factor" in haloes.colnames:
        temperature = temperature * np.asarray(haloes["temperature_factor"], float)
    response = band_response(instrument, temperature, bandpasses=bandpasses)
    return paint_clusters(haloes, nside, fwhm_arcmin, response, out=out, threads=threads or None)


def _diffuse_alm(index: int, instrument: Instrument, window: Floats, cmb: Alm, cib: Alm, groups: Alm) -> Alm:
    """CMB + CIB + y of unresolved groups in one band, through beam and pixel, in map units."""
    total = filter_alm(cib, window)
    add_alm(total, cmb, window * instrument.unit_per_kcmb[index])
    add_alm(total, groups, window * instrument.tsz_response[index])
    return total


def half_difference(
    instrument: Instrument, index: int, nside: int, seed: int, pattern: Map32, threads: int = 0
) -> Map32:
    """Half the difference of the two half missions in one band: noise alone, as strong as that of the mean."""
    rng = noise_generator(seed, instrument.band_names[index], "half difference")
    values = synthesise(draw_coloured_noise(instrument, index, band_limit(nside), rng), nside, threads)
    add_white_noise(values, float(white_level(instrument, nside)[index]), pattern, rng)
    return values


def _cut_catalogues(catalogues: dict[str, Table], part: SkyPart) -> dict[str, Table]:
    """Rows in the field; ``truth_row`` is that of the truth in the field."""
    kept = np.flatnonzero(part.holds(catalogues["truth"]))
    row_of = np.full(len(catalogues["truth"]) + 1, -1)  # the last is that of spurious entries
    row_of[kept] = np.arange(kept.size)
    out = {name: table[part.holds(table)] for name, table in catalogues.items()}
    for name, table in out.items():
        if name != "truth":
            table["truth_row"] = row_of[np.asarray(table["truth_row"])]
    return out


def _write_band(
    path: Path, values: NDArray[np.float32], instrument: Instrument, index: int, config: SimulateConfig
) -> Path:
    band = instrument.bands[index]
    cards = {
        "FREQ": (band.name, "GHz"),
        "FWHM": (band.fwhm_arcmin, "arcmin, Gaussian beam"),
        "SEED": (config.seed, "of the simulation"),
        "CREATOR": (f"szeek {__version__}", "simulated sky, not a measurement"),
    }
    return write_planck_map(path, values, column="I_STOKES", unit=band.unit, extra=cards)


def _write_y_maps(
    maps: NDArray[np.float32], instrument: Instrument, config: SimulateConfig, pattern: Map32, folder: Path
) -> tuple[Path, Map32, float]:
    """y_map.fits; with companions y_map_first.fits and y_map_last.fits, the halves with the same weights."""
    ilc = NeedletILC(instrument, config.nside, core_fwhm_arcmin(instrument, config.rimo), config.threads)
    y = ilc.fit(maps)
    cards = {"FWHM": (ilc.fwhm_arcmin, "arcmin"), "SEED": config.seed, "CREATOR": f"szeek {__version__}"}
    path = write_planck_map(folder / "y_map.fits", y, column="Y", unit="", extra=cards)
    if not config.companions:
        return path, y, ilc.fwhm_arcmin
    for index in range(len(instrument.bands)):  # the six maps have been written: their room is free
        maps[:, index] = half_difference(instrument, index, config.nside, config.seed, pattern, config.threads)
    difference = ilc.combine(maps)
    for name, sign in (("first", 1), ("last", -1)):
        half = y + np.float32(sign) * difference
        write_planck_map(folder / f"y_map_{name}.fits", half, column="Y", unit="", extra=cards)
    return path, y, ilc.fwhm_arcmin
