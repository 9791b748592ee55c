"""Jobs on a finished run: what it finds of injected clusters, and how much of what it finds is false."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.table import Table, vstack
from numpy.typing import NDArray
from scipy.special import chdtrc

from szeek.assess.match import match, truth_radius
from szeek.assess.nullsky import SHINING, THRESHOLDS, count_null_sources, flip_signs, rotate_bands
from szeek.assess.selection import (
    Selection,
    fit_position_errors,
    halo_offsets,
    judge_injections,
    measure_noise,
    predicted_counts,
)
from szeek.assess.sources import POSITIONS, find_sources
from szeek.config import Config
from szeek.files import write_table
from szeek.find.predict import predict, read_prediction
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import Model, load_model
from szeek.measure.photometry import measure_sources
from szeek.parallel import Progress, connect
from szeek.pipeline.stages import Run, say
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.inject import draw_injections, inject_clusters
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import pixels_in_tiles, pixels_near_tiles

#: Bins of flux, arcmin^2, in which a simulated sky's own haloes are counted.
_Y500_BINS = (3e-4, 4.5e-4, 7e-4, 1e-3, 1.5e-3, 2.5e-3, np.inf)
#: Sky around chosen tiles that the matched filter sees: two thirds of its field.
_AROUND_TILES_DEG = 5.0


def measure_selection(
    folder: str | os.PathLike[str],
    *,
    n: int = 10_000,
    tiles: Iterable[int] | None = None,
    seed: int = 0,
    threads: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> str:
    """Completeness and position errors of a run by injection; writes selection.fits and positions.ecsv.

    Clusters, of shapes as haloes have them, and the galaxies in them are painted into the run's own maps, 50 arcmin
    from one another and from those that are known, and looked for with the run's own network and detection; the
    matched-filter S/N maps are made anew with them inside. Position errors are those of the injections, but of a
    simulated run those of its own haloes; how many of these are found is held against the completeness.

    Parameters
    ----------
    folder : path
        Of a run that has got as far as its candidates.
    n : int
        Clusters to inject, log-uniform in Y500 from 1e-4 to 1e-2 arcmin^2 and in theta500 from 1 to 20 arcmin.
    tiles : iterable of int, optional
        Only there; the whole footprint by default. Where a network was trained on these maps its held-out tiles are
        the honest choice.
    seed : int
    threads : int, optional
    scheduler : str, optional
        Dask scheduler, by its address or its file, whose workers filter and predict; they must see the folder, in
        which the painted maps lie meanwhile. The products are the same.
    progress : Progress, optional
        Called as progress(stage, done, total, detail).

    Returns
    -------
    str
        What was found, in words.

    Raises
    ------
    ValueError, FileNotFoundError
        If the run has no maps or network, or the sky has no room for so many.
    """
    ground = _search_ground(folder, tiles, threads)
    home, maps, where = ground.job.folder, ground.maps, ground.where
    maps = replace(maps, footprint=maps.footprint & ground.around)
    config, network = ground.job.config, ground.network
    instrument = read_instrument(config.sky.instrument)
    injections = draw_injections(
        seed,
        n,
        y500_range_arcmin2=(1e-4, 1e-2),
        footprint=where,
        avoid=ground.known,
        min_separation_arcmin=50.0,
        shapes=True,
    )
    say(progress, "selection", 0, 0, f"painting {n} clusters")
    painted = inject_clusters(maps, injections, instrument, galaxies_seed=seed, threads=threads)
    p_max, options = config.detect.p_max, config.predict
    how: dict[str, Any] = {
        "margin": options.margin,
        "rotations": options.rotations,
        "where": where,
        "progress": progress,
    }
    with connect(scheduler) as client, tempfile.TemporaryDirectory(prefix=".selection-", dir=home) as scratch:
        if client is None:
            p_map = predict(painted, network, threads=threads, **how)
        else:
            maps, there = (SkyMaps.open(sky.save(Path(scratch) / k)) for k, sky in (("0", maps), ("1", painted)))
            network.prepare(there, client=client).save_snr(Path(scratch) / "1")
            p_map = predict(SkyMaps.open(Path(scratch) / "1"), network, client=client, **how)
        del painted
        sources = find_sources(p_map, p_max, deblend=config.detect.deblend)
        say(progress, "selection", 0, 0, "noise")
        noise = measure_noise(maps, instrument, threads=threads, client=client, progress=progress)
    selection = judge_injections(injections, sources, ground.sources, noise, p_max)
    selection.write(home / "selection.fits")
    found = int(np.isfinite(selection.injections["p"]).sum())
    summary = (
        f"{found} of {len(selection.injections)} injected clusters found at p > {p_max:g}; "
        f"{selection.chance:.1%} of the positions had a source before\ncompleteness: {home / 'selection.fits'}"
    )
    if ground.haloes is not None:
        own, true = (table[ground.is_inside(table)] for table in (ground.sources, ground.haloes))
        summary += "\n" + _hold_against_haloes(selection, own, true)
    try:
        if ground.haloes is None:
            errors = fit_position_errors(selection.injections, draw_haloes(seed, m500_min_1e14msun=2.0))
        else:
            errors = fit_position_errors(halo_offsets(own, true, where, seed=seed))
    except ValueError as error:  # too few were found
        (home / POSITIONS).unlink(missing_ok=True)
        return f"{summary}\nno position errors: {error}"
    write_table(errors.to_table(), home / POSITIONS)
    return f"{summary}\nposition errors: {home / POSITIONS}"


def _hold_against_haloes(selection: Selection, sources: Table, haloes: Table) -> str:
    """How many of a simulated sky's own haloes are found, and how many the injections say should be."""
    judged = haloes.copy()
    judged["found"] = False
    judged["found"][match(sources, haloes, truth_radius(haloes))["cluster"]] = True
    counts = predicted_counts(selection, judged, _Y500_BINS)
    known = np.asarray(counts["variance"]) > 0
    counts, covariance = counts[known], counts.meta["covariance"][np.ix_(known, known)]
    apart = np.asarray(counts["n_found"] - counts["expected"])
    chi2 = float(apart @ np.linalg.solve(covariance, apart))
    rows = ", ".join(f"{row['n_found']} ({row['expected']:.0f})" for row in counts)
    return (
        f"haloes found (expected) by Y500 from {_Y500_BINS[0]:g} arcmin2 up: {rows}; "
        f"probability {chdtrc(len(counts), chi2):.2g}"
    )


def measure_purity(
    folder: str | os.PathLike[str],
    *,
    tiles: Iterable[int] | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress | None = None,
) -> str:
    """Purity of a run without truth, from two null skies and from known clusters; writes purity.ecsv.

    The run's maps with signs flipped and with bands turned against each other (:mod:`szeek.assess.nullsky`) go
    through its own network and detection; of a simulated run the true purity stands beside.

    Parameters
    ----------
    folder, tiles, threads, progress
        As for :func:`measure_selection`.
    seed : int
        Of the shifted positions.

    Returns
    -------
    str
        What was found, in words.

    Raises
    ------
    ValueError, FileNotFoundError
        If the run has no maps, network or prediction.
    """
    ground = _search_ground(folder, tiles, threads)
    config = ground.job.config
    nulls = {}
    for name, make in (("flipped", flip_signs), ("rotated", rotate_bands)):

        def fields(_: str, done: int, total: int, detail: str = "", name: str = name) -> None:
            say(progress, "purity", done, total, f"{detail}, {name}")

        sky = make(ground.maps)
        sky = replace(sky, footprint=sky.footprint & ground.around)
        where = ground.where & sky.footprint
        options: dict[str, Any] = {"margin": config.predict.margin, "rotations": config.predict.rotations}
        p_map = predict(sky, ground.network, where=where, threads=threads, progress=fields, **options)
        found = find_sources(p_map, config.detect.p_max, deblend=config.detect.deblend)
        if name == "flipped":  # a source that shines is a hole there, which the sky has none of
            seen = replace(ground.maps, footprint=ground.maps.footprint & ground.around)
            kinds = measure_sources(seen, found, instrument=config.sky.instrument, threads=threads)["kind"]
            found = found[~np.isin(kinds, SHINING)]
        nulls[name] = found, float(ground.where.sum() / max(1, where.sum()))
    own, known = (table[ground.is_inside(table)] for table in (ground.sources, ground.catalogue))
    true_ones = None if ground.haloes is None else ground.haloes[ground.is_inside(ground.haloes)]
    # below the run's own threshold there are no candidates to count
    thresholds = [p for p in THRESHOLDS if p >= config.detect.p_max] or [config.detect.p_max]
    table = count_null_sources(own, nulls, known, true_ones, footprint=ground.where, thresholds=thresholds, seed=seed)
    write_table(table, ground.job.folder / "purity.ecsv")
    half = table[int(np.abs(np.asarray(table["p"]) - 0.5).argmin())]
    true = f", true {half['purity_true']:.2f}" if ground.haloes is not None else ""
    return (
        f"of {half['n']} sources with p > {half['p']:g}: purity {half['purity_flipped']:.2f} from the flipped sky, "
        f"{half['confirmed']:.2f} are known{true}\npurity: {ground.job.folder / 'purity.ecsv'}"
    )


@dataclass(frozen=True)
class _Ground:
    """Where a run is searched once more: its sky, what was found in it, and what is known to be there."""

    job: Run
    network: Model
    maps: SkyMaps
    where: NDArray[np.bool_]  # searched
    around: NDArray[np.bool_]  # filtered: some degrees more
    sources: Table
    catalogue: Table
    haloes: Table | None

    @property
    def known(self) -> Table:
        """Catalogued clusters and true haloes."""
        both = [self.catalogue] if self.haloes is None else [self.catalogue, self.haloes]
        return vstack(both, metadata_conflicts="silent")

    def is_inside(self, table: Table) -> NDArray[np.bool_]:
        """Whether the positions of a table are searched."""
        pixel = healpy.ang2pix(self.maps.nside, table["lon_deg"], table["lat_deg"], lonlat=True)
        return np.asarray(self.where[pixel])


def _search_ground(folder: str | os.PathLike[str], tiles: Iterable[int] | None, threads: int | None) -> _Ground:
    home = Path(folder)
    if not (home / "run.json").is_file():
        raise FileNotFoundError(
            f"'{home}' is no folder of a run (it has no run.json), expected what `szeek run` makes: its network "
            "searches its own maps once more"
        )
    network, maps = load_model(home), SkyMaps.open(home / "maps")
    config = Config.model_validate(json.loads((home / "run.json").read_text())["config"])
    job = Run(config, home, threads)
    if config.split.folds:
        raise ValueError(f"'{home}' has {config.split.folds} folds, expected one network: give a run without folds")
    # before slow work, so that a run without a prediction is refused at once
    p_map = read_prediction(home / "prediction.fits")
    sources = find_sources(p_map, config.detect.p_max, deblend=config.detect.deblend)
    catalogue, haloes = read_catalogue(home / "clusters.fits"), None
    if config.sky.simulate:
        haloes = select_clusters(read_catalogue(job.simulated / "truth.fits"), "truth")
    where = around = np.asarray(maps.footprint)
    if tiles is not None:
        chosen = tuple(tiles)
        near = pixels_near_tiles(64, chosen, _AROUND_TILES_DEG).astype(np.float32)
        around = healpy.ud_grade(near, maps.nside) > 0.5
        where = where & pixels_in_tiles(maps.nside, chosen)
    return _Ground(job, network, maps, where, around, sources, catalogue, haloes)
