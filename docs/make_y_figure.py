"""A y map with and without a network beside the painted y: `python docs/make_y_figure.py RUN LON LAT`.

RUN is a simulated sky with maps (`szeek run my.toml --out RUN --until maps`) that no network was trained on. Writes
docs/images/y-map.png.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import healpy
import numpy as np
from matplotlib.figure import Figure

from szeek.filter.ymap import make_y_map
from szeek.find.predict import find_foregrounds
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.show.figures.style import journal, save_figure
from szeek.simulate.sky import core_fwhm_arcmin, paint_sky_y
from szeek.sky.projection import sample_field
from szeek.sky.skymaps import SkyMaps

HFI = read_instrument("planck-hfi")
SIDE_DEG, PIXEL_ARCMIN, RADIUS_DEG = 8.0, 2.0, 7.0


@journal
def draw(fields: dict[str, np.ndarray]) -> Figure:
    """Fields of the same scale side by side."""
    figure = Figure(figsize=(9, 3.3), layout="constrained")
    half = SIDE_DEG / 2
    for axes, (name, field) in zip(figure.subplots(1, len(fields), sharey=True), fields.items(), strict=True):
        shown = axes.imshow(
            1e6 * (field - np.nanmedian(field)), origin="lower", extent=(half, -half, -half, half), vmin=-5, vmax=10,
            cmap="magma",
        )  # fmt: skip
        axes.set(title=name, xlabel="deg")
    figure.colorbar(shown, ax=figure.axes, label=r"$10^6\,y$", pad=0.01)
    return figure


def main(run: Path, lon_deg: float, lat_deg: float, target: Path) -> None:
    """Cut the field out of the sky, map it, and draw."""
    whole = SkyMaps.open(run / "maps")
    disc = healpy.query_disc(
        whole.nside, healpy.ang2vec(lon_deg, lat_deg, lonlat=True), np.radians(RADIUS_DEG), inclusive=True
    )
    values, seen = np.zeros(whole.values.shape, np.float32), np.zeros(len(whole.values), bool)
    values[disc], seen[disc] = whole.values[disc], True
    cut = SkyMaps(values, seen, whole.bands)
    seed = json.loads((run / "simulated" / "simulate.json").read_text())["config"]["seed"]
    truth = read_catalogue(run / "simulated" / "truth.fits")
    painted = {"painted": paint_sky_y(truth, seed, 1024, 10.0)}
    made = {
        name: make_y_map(cut, HFI, core_fwhm_arcmin(HFI), foregrounds=foregrounds).y
        for name, foregrounds in (("needlet ILC", None), ("with szeek-y", find_foregrounds("szeek-y")))
    }
    n = round(60 * SIDE_DEG / PIXEL_ARCMIN)
    fields = {
        name: sample_field(np.nan_to_num(y)[:, None], lon_deg, lat_deg, 0.0, n, n, PIXEL_ARCMIN)[..., 0]
        for name, y in (painted | made).items()
    }
    save_figure(draw(fields), target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("lon_deg", type=float)
    parser.add_argument("lat_deg", type=float)
    given = parser.parse_args()
    main(given.run, given.lon_deg, given.lat_deg, Path(__file__).parent / "images" / "y-map.png")
