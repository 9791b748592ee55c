"""A field of a ground-based survey with known truth: maps, inverse variances and beams as such surveys publish them.

    haloes, their galaxies, radio and dusty sources, Galaxy -> painted through one narrow beam G -> \\
    the full sky's CMB and CIB at the field's pixels; white fields beyond its band limit         -> one filter a band
      B_l / G_l and B_l C_l^(1/2)  ->  + noise of the scan's depth, atmosphere                   -> maps

It is a part of the full sky of the same seed and nside: the same haloes, sources, CMB, CIB and dust.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from szeek._version import __version__
from szeek.config import FieldConfig
from szeek.files import whole_file, write_json, write_table
from szeek.inputs.catalogues import write_catalogue
from szeek.inputs.instrument import read_instrument, split_instrument
from szeek.inputs.reddening import read_column_map
from szeek.parallel import Progress
from szeek.physics.instrument import Instrument
from szeek.physics.looks import ClusterLook
from szeek.physics.scaling import MASS_BIAS, electron_temperature_kev
from szeek.physics.tsz import band_response
from szeek.simulate.components.sources import (
    Sources,
    draw_cluster_galaxies,
    draw_cold_clumps,
    draw_dusty_sources,
    draw_faint_radio_sources,
    draw_radio_sources,
)
from szeek.simulate.density import DensityShell, all_density_shells
from szeek.simulate.field.coverage import (
    add_noise,
    atmosphere_on,
    depth,
    inverse_variance,
    noise_generator,
    resample,
)
from szeek.simulate.field.diffuse import (
    FREQUENCIES_GHZ,
    add_galaxy,
    cib_filters,
    cib_on,
    cmb_filters,
    cmb_on,
    narrow_beam,
)
from szeek.simulate.field.haloes import (
    CELL_NSIDE,
    draw_faint_haloes,
    draw_velocities_kms,
    join_haloes,
    ksz_response_kcmb,
    within_reach,
)
from szeek.simulate.field.lattice import Lattice, multipoles
from szeek.simulate.field.paint import paint_clusters_on, paint_sources_on
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.sky import SimulateConfig, simulate_sky
from szeek.simulate.surveys import mock_mcxc, mock_psz2, mock_redmapper
from szeek.sky.harmonics import band_limit

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]

#: Dust of cluster galaxies is painted from here on, at 857 GHz: 0.1 mJy at 220 GHz.
_FAINTEST_DUST_JY = 0.005
_FAINTEST_LISTED_JY = 1e-4
#: Of a combination, the experiment that sees the full sky; and the widest beam of a field, two sigma of its margin.
_SATELLITE, _WIDEST_ARCMIN = "planck-hfi", 15.0


@dataclass(frozen=True)
class SimulatedField:
    """Where a simulated field lies.

    Parameters
    ----------
    folder : Path
    maps, ivar, beams : dict of str to Path
        Of each band, by its name; of those of Planck HFI, full-sky maps alone.
    catalogues : dict of str to Path
        'truth', 'psz2', 'mcxc', 'redmapper'; 'sources', the compact ones.

    Examples
    --------
    >>> made = SimulatedField(Path("field"), {"f150": Path("field/f150.fits")}, {}, {}, {})
    >>> sorted(made.maps)
    ['f150']
    """

    folder: Path
    maps: dict[str, Path]
    ivar: dict[str, Path]
    beams: dict[str, Path]
    catalogues: dict[str, Path]


@dataclass(frozen=True)
class FieldHaloes:
    """Haloes about a field, brightest first, and the emission of their galaxies.

    Parameters
    ----------
    table : Table
        All that may be seen in the field, with ``velocity_kms``.
    galaxies : Sources
    full_sky : Table
        The haloes of the full sky, as :func:`szeek.simulate.haloes.draw_haloes` has them.
    """

    table: Table
    galaxies: Sources
    full_sky: Table


def draw_field_haloes(
    lattice: Lattice,
    instrument: Instrument,
    seed: int,
    shells: Sequence[DensityShell],
    look: ClusterLook | None = None,
) -> FieldHaloes:
    """Haloes above 1e13 Msun that may be seen in a field, and their galaxies.

    Those above 7e13 Msun at z < 1.5 are the very ones of the full sky.
    """
    full_sky = draw_haloes(seed, shells=shells, look=look)
    cells = lattice.cells(CELL_NSIDE)
    faint = draw_faint_haloes(seed, cells, shells, look)
    galaxies = [draw_cluster_galaxies(full_sky, instrument, seed, faintest_jy=_FAINTEST_DUST_JY)]
    galaxies += [
        draw_cluster_galaxies(
            table,
            instrument,
            seed,
            component=f"cluster galaxies of cell {cell}",
            faintest_jy=_FAINTEST_DUST_JY,
            radio=False,  # radio galaxies of groups are among those drawn from counts
        )
        for cell, table in zip(cells, faint, strict=True)
        if len(table)
    ]
    moving = full_sky.copy(copy_data=False)
    moving["velocity_kms"] = draw_velocities_kms(full_sky, seed)
    table = join_haloes([part[within_reach(lattice, part)] for part in (moving, *faint)])
    return FieldHaloes(table, _near(lattice, join_sources(galaxies)), full_sky)


def draw_field_sources(lattice: Lattice, instrument: Instrument, seed: int) -> Sources:
    """Compact sources that may be seen in a field: those of the full sky, and radio galaxies down to 0.1 mJy."""
    parts = [
        draw_radio_sources(instrument, seed),
        draw_dusty_sources(instrument, seed),
        draw_cold_clumps(instrument, seed),
        *(draw_faint_radio_sources(instrument, seed, CELL_NSIDE, int(cell)) for cell in lattice.cells(CELL_NSIDE)),
    ]
    return _near(lattice, join_sources(parts))


def join_sources(parts: Sequence[Sources]) -> Sources:
    """Sources of several kinds as one."""
    return Sources(
        *(
            np.concatenate([getattr(p, name) for p in parts])
            for name in ("lon_deg", "lat_deg", "flux_jy", "fwhm_arcmin")
        )
    )


def _near(lattice: Lattice, sources: Sources) -> Sources:
    """Those within three of their own widths and a tenth of a degree of a field."""
    icrs = SkyCoord(sources.lon_deg, sources.lat_deg, unit="deg", frame="galactic").icrs
    row, column = lattice.places(icrs.ra.deg, icrs.dec.deg)
    per_degree = 1 / abs(lattice.dec_deg[1] - lattice.dec_deg[0])
    up = per_degree * (0.1 + 3 * sources.fwhm_arcmin / 60)
    along = up / np.cos(np.radians(np.minimum(np.abs(icrs.dec.deg) + 1.0, 89.0)))
    ny, nx = lattice.shape
    return sources.take((row > -up) & (row < ny + up) & (column > -along) & (column < nx + along))


def halo_response(haloes: Table, instrument: Instrument) -> Floats:
    """Signal per unit Compton y of each halo, thermal with its temperature and kinetic, (n, n_band), map units."""
    temperature = electron_temperature_kev(MASS_BIAS * haloes["m500_1e14msun"], haloes["z"])
    if "temperature_factor" in haloes.colnames:
        temperature = temperature * np.asarray(haloes["temperature_factor"], float)
    return band_response(instrument, temperature) + ksz_response_kcmb(haloes)[:, None] * instrument.unit_per_kcmb


def field_lattice(field: FieldConfig) -> Lattice:
    """Pixels of a field with its margin."""
    ra_deg, dec_deg = field.centre_deg
    return Lattice.around(ra_deg, dec_deg, field.width_deg, field.height_deg)


def field_instrument(source: str) -> Instrument:
    """The bands of an instrument that a field is simulated in: all but Planck HFI's of a combination.

    Raises
    ------
    ValueError
        If a band's maps are not in temperature, its frequency is beyond those that ground-based surveys use, or its
        beam is wider than what is made about a field allows.
    """
    parts = split_instrument(source)
    name = "+".join(part for part in parts if part != _SATELLITE or len(parts) == 1)
    instrument = read_instrument(name)
    low, high = FREQUENCIES_GHZ
    for band in instrument.bands:
        if band.unit != "K_CMB" or not low <= band.freq_ghz <= high:
            raise ValueError(
                f"band {band.name} of '{name}' is at {band.freq_ghz:g} GHz in {band.unit}, expected bands between "
                f"{low:g} and {high:g} GHz in K_CMB; simulate the full sky for others (leave sky.field out)"
            )
        if band.fwhm_arcmin > _WIDEST_ARCMIN:
            raise ValueError(
                f"the beam of band {band.name} of '{name}' is {band.fwhm_arcmin:g} arcmin wide, expected at most "
                f"{_WIDEST_ARCMIN:g} in a field; leave the band out of the instrument file"
            )
    return instrument


def simulate_signal(
    lattice: Lattice,
    instrument: Instrument,
    haloes: FieldHaloes,
    sources: Sources,
    shells: Sequence[DensityShell],
    nside: int,
    seed: int,
    *,
    threads: int = 0,
    clock: Callable[[str], None] = lambda step: None,
) -> list[Map32]:
    """Maps of a field without noise, each through its band's beam, map units, (ny, nx) with margin."""
    lmax, n_band, ell = band_limit(nside), len(instrument.bands), multipoles()
    per_jy = 1e-6 * instrument.unit_per_kcmb / instrument.mjysr_per_kcmb
    painted = np.zeros((*lattice.shape, n_band), np.float32)
    clock("clusters")
    paint_clusters_on(lattice, haloes.table, halo_response(haloes.table, instrument), painted)
    clock("compact sources")
    paint_sources_on(lattice, sources, per_jy, painted)
    clock("Galaxy")
    add_galaxy(lattice, instrument, lmax, seed, painted, threads)
    clock("CMB and CIB")
    diffuse = [
        cmb_on(lattice, lmax, seed, threads),
        cib_on(lattice, lmax, seed, shells, threads),
        lattice.white(seed, "cmb beyond the full sky"),
        lattice.white(seed, "cib beyond the full sky"),
    ]
    clock("beams")
    beams = instrument.beam(ell).T
    cmb = cmb_filters(lmax)
    cib = cib_filters(instrument, draw_dusty_sources(instrument, seed), lmax, seed)
    filters: list[list[Floats | None]] = []
    for band, unit in enumerate(instrument.unit_per_kcmb):
        sharper = np.divide(beams[band], narrow_beam(ell))
        row: list[Floats | None] = [None] * n_band
        row[band] = np.minimum(sharper, 10.0)
        filters.append([*row, *(beams[band] * f for f in (cmb[0] * unit, cib[0][band], cmb[1] * unit, cib[1][band]))])
    parts = [np.ascontiguousarray(painted[:, :, band]) for band in range(n_band)]
    del painted
    return lattice.convolve([*parts, *diffuse], filters)


class _Clock:
    """Reports each step when it starts, and keeps how long it took."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.seconds = progress, dict[str, float]()
        self._step, self._start = "", 0.0

    def __call__(self, step: str) -> None:
        now = time.perf_counter()
        if self._step:
            self.seconds[self._step] = round(now - self._start, 2)
        self._step, self._start = step, now
        if self.progress is not None:
            self.progress("sky", 0, 0, step)


class FieldOptions(BaseModel):
    """What of a field is to be simulated.

    Parameters
    ----------
    field : FieldConfig
    instrument : str
        Name or file, or several joined by '+'. Bands of planck-hfi in a combination are simulated in HEALPix pixels
        of the field, into the folder planck-hfi.
    seed : int
    nside : int
        Of the full sky that it is a part of.
    clusters : ClusterLook
    threads : int
        0 uses all cores.

    Examples
    --------
    >>> field = FieldConfig(ra_deg=30.0, dec_deg=-10.0, width_deg=4.0, height_deg=4.0)
    >>> FieldOptions(field=field, instrument="act-dr6").nside
    2048
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    field: FieldConfig
    instrument: str
    seed: int = 1
    nside: int = 2048
    clusters: ClusterLook = ClusterLook()
    threads: int = 0


def simulate_field(options: FieldOptions, out: str | Path, *, progress: Progress | None = None) -> SimulatedField:
    """Simulate a field and write it to a folder.

    Parameters
    ----------
    options : FieldOptions
    out : path
        Folder, created; ``simulate.json`` is written last, so that a folder with it is whole.
    progress : Progress, optional
        Called as progress('sky', 0, 0, step) when a step starts.

    Returns
    -------
    SimulatedField

    Raises
    ------
    ValueError
        If the instrument has bands that no field can be simulated in.

    Examples
    --------
    >>> field = FieldConfig(ra_deg=30.0, dec_deg=-10.0, width_deg=4.0, height_deg=4.0)
    >>> simulate_field(FieldOptions(field=field, instrument="act-dr6"), "field")  # doctest: +SKIP
    >>> full_sky = FieldOptions(field=field, instrument="planck-hfi")
    >>> simulate_field(full_sky, "field")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    ValueError: simulate the full sky for others
    """
    instrument = field_instrument(options.instrument)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "simulate.json").unlink(missing_ok=True)
    clock = _Clock(progress)
    seed, pixel, observed = options.seed, options.field.pixel_arcmin, options.field.observed
    lattice = field_lattice(options.field)
    inner = lattice.without_margin()
    clock("haloes and catalogues")
    shells = all_density_shells(seed, options.threads)
    haloes = draw_field_haloes(lattice, instrument, seed, shells, options.clusters)
    sources = join_sources([haloes.galaxies, draw_field_sources(lattice, instrument, seed)])
    catalogues = field_catalogues(inner, haloes, seed) | {"sources": list_sources(inner, sources, instrument)}
    files = {name: folder / f"{name}.fits" for name in catalogues}
    for name, table in catalogues.items():
        write_catalogue(table, files[name]) if name != "sources" else write_table(table, files[name])
    signal = simulate_signal(
        lattice, instrument, haloes, sources, shells, options.nside, seed, threads=options.threads, clock=clock
    )
    maps, ivars, beams = {}, {}, {}
    for index, band in enumerate(instrument.bands):
        clock(f"band {band.name}")
        values = signal[index]
        noise = atmosphere_on(lattice, instrument, index, seed)
        deep = depth(inner, index, observed)
        rows, columns = inner.shape
        inside = (
            slice(_margin(lattice), _margin(lattice) + rows),
            slice(_margin(lattice), _margin(lattice) + columns),
        )
        values[inside] += noise[inside] / np.sqrt(np.maximum(deep, 0.01))
        image = np.ascontiguousarray(resample(values[inside], pixel))
        ivar = inverse_variance(inner, instrument, index, pixel, observed)
        add_noise(image, ivar, noise_generator(seed, instrument, index))
        header = inner.header(pixel)
        header["FREQ"] = (band.freq_ghz, "GHz")
        header["FWHM"] = (band.fwhm_arcmin, "arcmin")
        header["SEED"] = (seed, "of the simulation")
        header["CREATOR"] = (f"szeek {__version__}", "simulated field, not a measurement")
        start = folder / f"szeek_sim_{band.name}"
        maps[band.name] = _write_image(Path(f"{start}_map.fits"), image * 1e6, header, "uK_CMB")
        ivars[band.name] = _write_image(Path(f"{start}_ivar.fits"), ivar * 1e-12, header, "uK_CMB^-2")
        beams[band.name] = _write_beam(Path(f"{start}_beam.txt"), instrument, index)
        signal[index] = np.zeros((0, 0), np.float32)
    if _SATELLITE in split_instrument(options.instrument):
        clock("Planck HFI")
        beside = SimulateConfig(
            field=options.field,
            nside=options.nside,
            seed=seed,
            y_map=False,
            companions=False,
            clusters=options.clusters,
            threads=options.threads,
        )
        maps |= simulate_sky(beside, folder / _SATELLITE).maps
    clock("done")
    record = {
        "config": options.model_dump(mode="json"),
        "version": __version__,
        "maps": {name: str(path.relative_to(folder)) for name, path in maps.items()},
        "ivar": {name: path.name for name, path in ivars.items()},
        "beams": {name: path.name for name, path in beams.items()},
        "catalogues": {name: path.name for name, path in files.items()},
        "rows": {name: len(table) for name, table in catalogues.items()},
        "seconds": clock.seconds,
    }
    write_json(record, folder / "simulate.json")
    return SimulatedField(folder, maps, ivars, beams, files)


def _margin(lattice: Lattice) -> int:
    return lattice.without_margin().first_row - lattice.first_row


def field_catalogues(lattice: Lattice, haloes: FieldHaloes, seed: int) -> dict[str, Table]:
    """Truth and mock surveys of a field: the full sky's entries inside, with the rows of the field's own truth."""
    inside = lattice.contains(np.asarray(haloes.table["ra_deg"]), np.asarray(haloes.table["dec_deg"]))
    truth = haloes.table[inside]
    row_of = {str(name): row for row, name in enumerate(truth["name"])}
    names = np.asarray(haloes.full_sky["name"])
    mocks = {
        "psz2": mock_psz2(haloes.full_sky, seed, dust=read_column_map("dust_ebv_Planck13")),
        "mcxc": mock_mcxc(haloes.full_sky, seed),
        "redmapper": mock_redmapper(haloes.full_sky, seed),
    }
    out = {"truth": truth}
    for name, mock in mocks.items():
        here = mock[lattice.contains(np.asarray(mock["ra_deg"]), np.asarray(mock["dec_deg"]))]
        rows = [row_of.get(str(names[row]), -1) if row >= 0 else -1 for row in here["truth_row"]]
        here["truth_row"] = np.array(rows, np.int64)
        out[name] = here
    return out


def list_sources(lattice: Lattice, sources: Sources, instrument: Instrument) -> Table:
    """The compact sources inside a field that have a tenth of a mJy in some band, brightest first.

    Columns ``lon_deg``, ``lat_deg``, ``ra_deg``, ``dec_deg``, ``fwhm_arcmin`` (own extent) and ``flux_mjy_BAND``.
    """
    icrs = SkyCoord(sources.lon_deg, sources.lat_deg, unit="deg", frame="galactic").icrs
    peak = sources.flux_jy.max(axis=1)
    rows = np.flatnonzero(lattice.contains(icrs.ra.deg, icrs.dec.deg) & (peak > _FAINTEST_LISTED_JY))
    rows = rows[np.argsort(-peak[rows], kind="stable")]
    table = Table({"lon_deg": sources.lon_deg[rows], "lat_deg": sources.lat_deg[rows]})
    table["ra_deg"], table["dec_deg"] = icrs.ra.deg[rows], icrs.dec.deg[rows]
    table["fwhm_arcmin"] = sources.fwhm_arcmin[rows]
    for band, name in enumerate(instrument.band_names):
        table[f"flux_mjy_{name}"] = 1e3 * sources.flux_jy[rows, band]
    return table


def _write_image(path: Path, values: Map32, header: fits.Header, unit: str) -> Path:
    card = header.copy()
    card["BUNIT"] = unit
    with whole_file(path) as staging:
        fits.PrimaryHDU(np.asarray(values, ">f4"), card).writeto(staging, overwrite=True)
    return path


def _write_beam(path: Path, instrument: Instrument, band: int) -> Path:
    """Multipoles and b_l, two columns, to where the beam has fallen to 1e-4."""
    ell = np.arange(0.0, 30_001.0)
    beam = instrument.beam(ell)[:, band]
    last = int(np.argmax(beam < 1e-4)) or ell.size
    with whole_file(path) as staging:
        np.savetxt(staging, np.stack([ell[:last], beam[:last]], axis=1), fmt="%d %.8f", header="l b_l")
    return path
