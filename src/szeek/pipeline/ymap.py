"""The y map of a run: value and error per pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from szeek.filter.ymap import make_y_map
from szeek.inputs.instrument import read_instrument
from szeek.parallel import Progress
from szeek.pipeline import products
from szeek.pipeline.stage import Facts, Run, Stage
from szeek.simulate.sky import core_fwhm_arcmin
from szeek.sky.mapset import open_maps
from szeek.sky.skymaps import SkyMaps


@dataclass(frozen=True)
class YMapMade(Facts):
    """Area of the sky with a y, and the median of its errors."""

    area_deg2: float = 0.0
    sigma_y: float = 0.0


def ymap_stage(deproject: Sequence[str] = ()) -> Stage:
    """Make the y map of a run's maps, see :func:`szeek.filter.ymap.make_y_map`.

    Beams are those of the cores (:func:`szeek.simulate.sky.core_fwhm_arcmin`), for real maps and simulated ones.
    """

    def work(run: Run, progress: Progress | None) -> YMapMade:
        maps = open_maps(run.file(products.MAPS))
        if not isinstance(maps, SkyMaps):
            raise ValueError(
                f"the maps of '{run.folder}' are images on grids of their own, expected HEALPix maps of one "
                "resolution or tangential cut-outs; resample them to one"
            )
        instrument = read_instrument(run.config.sky.instrument)
        if progress is not None:
            progress("ymap", 0, 0, "needlet ILC")
        found = make_y_map(maps, instrument, core_fwhm_arcmin(instrument), deproject=deproject, threads=run.threads)
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
        options={"deproject": list(deproject)},
    )
