"""The y map of a run: value and error per pixel; and what a network learns from that of a simulated sky."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import healpy
import numpy as np
from astropy.table import Table

from szeek.filter.ilc import NeedletILC, list_spectra
from szeek.filter.ymap import FREE_NSIDE, Combined, combine_bands, make_y_map
from szeek.find.predict import find_foregrounds
from szeek.inputs.catalogues import TRUTH_Y500_ARCMIN2, read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.learn.model import find_model, load_model
from szeek.parallel import Progress
from szeek.physics.instrument import Instrument
from szeek.pipeline import products
from szeek.pipeline.stage import Facts, Run, Stage
from szeek.simulate.sky import core_fwhm_arcmin, paint_sky_y
from szeek.sky.harmonics import Floats, Map32
from szeek.sky.mapset import open_maps
from szeek.sky.skymaps import SkyMaps


@dataclass(frozen=True)
class YMapMade(Facts):
    """Area of the sky with a y, and the median of its errors."""

    area_deg2: float = 0.0
    sigma_y: float = 0.0


def ymap_stage(instrument: Instrument, deproject: Sequence[str] = (), model: str = "") -> Stage:
    """Make the y map of a run's maps, see :func:`szeek.filter.ymap.make_y_map`.

    Beams are those of the cores (:func:`szeek.simulate.sky.core_fwhm_arcmin`), for real maps and simulated ones.

    Parameters
    ----------
    instrument : Instrument
        Of the run's maps.
    deproject : sequence of str
    model : str
        Network that says what foregrounds left in the ILC, a shipped model's name or a folder; none where empty.

    Raises
    ------
    ValueError
        If a spectrum is unknown; the network is of other bands; or one is given beside spectra to null: it knows what
        is left where the CMB alone is.
    """
    list_spectra(instrument, deproject)  # refused before minutes of work, as all of this
    if model and deproject:
        raise ValueError(
            f"model is '{model}' and deproject names {', '.join(deproject)}, expected one of the two: the network "
            "knows what is left in the map where the CMB alone is nulled"
        )
    if model and (known := load_model(model, target="foregrounds").instrument.band_names) != instrument.band_names:
        raise ValueError(
            f"the maps are of the bands {', '.join(instrument.band_names)}, but '{model}' was trained on "
            f"{', '.join(known)}; leave the model out, or train one on yours"
        )

    def work(run: Run, progress: Progress | None) -> YMapMade:
        maps = _open_healpix(run)
        if progress is not None:
            progress("ymap", 0, 0, "needlet ILC")
        foregrounds = find_foregrounds(model, threads=run.threads, progress=progress) if model else None
        found = make_y_map(
            maps, instrument, core_fwhm_arcmin(instrument), deproject=deproject, foregrounds=foregrounds,
            threads=run.threads,
        )  # fmt: skip
        found.write(run.target(products.Y))
        seen = np.isfinite(found.y)
        area = float(seen.mean()) * 4 * np.pi * (180 / np.pi) ** 2
        return YMapMade(area, float(np.nanmedian(found.sigma)))

    return Stage(
        "ymap",
        work,
        sections=("sky",),
        reads=(products.MAPS,),
        writes=(products.Y,),
        facts=YMapMade,
        options={"deproject": list(deproject), **({"model": model} if model else {})},
        files=lambda _: [find_model(model) / products.WEIGHTS] if model else [],
    )


def foreground_skies(runs: Sequence[Run], progress: Progress | None = None) -> list[tuple[Combined, Map32, Table]]:
    """What a network for y maps learns from simulated skies: ILC and signal-free maps, painted y, and the haloes.

    At nside 1024 at most, which holds maps of 10 arcmin; the signal-free maps with the first sky's mean weights.
    """
    skies: list[tuple[Combined, Map32, Table]] = []
    for run in runs:
        skies.append(_foreground_sky(run, skies[0][0].reference if skies else None, progress))
    return skies


def _foreground_sky(run: Run, reference: Floats | None, progress: Progress | None) -> tuple[Combined, Map32, Table]:
    maps = _open_healpix(run)
    if maps.nside > FREE_NSIDE:
        coarse = [healpy.ud_grade(np.ascontiguousarray(band), FREE_NSIDE) for band in maps.values.T]
        seen = healpy.ud_grade(maps.footprint.astype(np.float32), FREE_NSIDE) == 1.0
        maps = SkyMaps(np.stack(coarse, axis=1).astype(np.float32), seen, maps.bands)
    instrument = read_instrument(run.config.sky.instrument)
    if progress is not None:
        progress("train", 0, 0, f"y map of seed {run.config.seed}")
    combined = combine_bands(maps, instrument, core_fwhm_arcmin(instrument), reference=reference, threads=run.threads)
    haloes = read_catalogue(run.file(products.TRUTH))
    painted = paint_sky_y(haloes, run.config.seed, maps.nside, NeedletILC.fwhm_arcmin, run.threads or 0)
    return combined, painted, haloes[np.asarray(haloes["y500_arcmin2"]) > TRUTH_Y500_ARCMIN2]


def _open_healpix(run: Run) -> SkyMaps:
    maps = open_maps(run.file(products.MAPS))
    if not isinstance(maps, SkyMaps):
        raise ValueError(
            f"the maps of '{run.folder}' are images on grids of their own, expected HEALPix maps of one "
            "resolution or tangential cut-outs; resample them to one"
        )
    return maps
