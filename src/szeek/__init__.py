"""SZeek: galaxy clusters in maps of the microwave sky, found through their Sunyaev-Zel'dovich effect.

The pipeline in ten lines::

    import szeek

    maps = szeek.read_skymaps({"100": "HFI_100.fits", ..., "857": "HFI_857.fits"})
    known = szeek.read_catalogue("HFI_PCCS_SZ-union_R2.08.fits")
    config = szeek.load_config("bonjean2020")
    model = szeek.train(maps, known, config, "my-model")
    p_map = szeek.predict(maps, model)
    sources = szeek.detect_sources(p_map, p_max=0.1)
    pairs = szeek.match(sources, known, radius_arcmin=5.0)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from szeek._version import __version__
from szeek.lazy import load_lazily
from szeek.surroundings import provide_caches

if TYPE_CHECKING:
    from szeek.assess.match import match
    from szeek.config import load_config
    from szeek.find.detect import detect_sources
    from szeek.find.predict import predict
    from szeek.inputs.catalogues import read_catalogue
    from szeek.inputs.mapfiles import read_skymaps
    from szeek.learn.model import load_model
    from szeek.learn.train import train
    from szeek.simulate.sky import simulate_sky
    from szeek.sky.skymaps import SkyMaps
    from szeek.verbs import run

provide_caches(Path(__file__).resolve().parent)

__all__ = [
    "SkyMaps",
    "__version__",
    "detect_sources",
    "load_config",
    "load_model",
    "match",
    "predict",
    "read_catalogue",
    "read_skymaps",
    "run",
    "simulate_sky",
    "train",
]

__getattr__ = load_lazily(__name__)
