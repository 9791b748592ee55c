"""Where the flux of clusters goes that the matched filter does not see: one part of the sky after another.

python benchmarks/flux_share.py RUN [--threads 2]

The filter is linear once the noise is known. It is made from the run's own maps, as ever, and then moved over maps of
parts of that sky, painted anew from the run's seed: round clusters, clusters as they are shaped, these with the
relativistic correction, the dust of their galaxies, and the radio sources in them. Read at the true position for the
true size, and summed over the haloes above 5e-4 arcmin^2 that lie on no compact source, each gives its share of the
painted flux; what the whole maps give beyond their sum is what else is there (CIB and groups about the halo, noise).
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import itertools
import json
from pathlib import Path

import healpy
import numpy as np
from scipy import fft, ndimage

from szeek.filter.layout import FIELD_NSIDE, list_fields
from szeek.filter.matchedfilter import FilteredField
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.physics.gas import Y5R500_PER_Y500
from szeek.physics.tsz import band_response
from szeek.simulate.components.clusters import paint_clusters
from szeek.simulate.components.sources import Sources, draw_cluster_galaxies, paint_sources
from szeek.simulate.sky import core_fwhm_arcmin, paint_haloes
from szeek.sky.healpix import unit_vectors
from szeek.sky.projection import sample_field
from szeek.sky.skymaps import SkyMaps

LEAST_ARCMIN2, SIZE_EDGES_ARCMIN, LEAST_LAT_DEG = 5e-4, (0.0, 3.5, 5.0, 8.0, 12.0, 90.0), 20.0


def paint_parts(run: Path, maps: SkyMaps, threads: int) -> dict[str, SkyMaps]:
    """Maps of parts of a simulated sky, all in the run's bands and beams."""
    haloes = read_catalogue(run / "simulated" / "truth.fits")
    seed = json.loads((run / "simulated" / "simulate.json").read_text())["config"]["seed"]
    instrument = read_instrument()
    fwhm, response = core_fwhm_arcmin(instrument), band_response(instrument)

    def blank() -> np.ndarray:
        return np.zeros(maps.values.shape, np.float32)

    galaxies = draw_cluster_galaxies(haloes, instrument, seed)
    round_ones = haloes.copy()
    round_ones.remove_column("axis_ratio")
    parts = {
        "round": paint_clusters(round_ones, maps.nside, fwhm, response, threads=threads),
        "shaped": paint_clusters(haloes, maps.nside, fwhm, response, threads=threads),
        "shaped, relativistic": paint_haloes(haloes, instrument, maps.nside, fwhm, out=blank(), threads=threads),
    }
    for name, these in (("dust", galaxies.fwhm_arcmin > 0), ("radio", galaxies.fwhm_arcmin == 0)):
        columns = (galaxies.lon_deg, galaxies.lat_deg, galaxies.flux_jy, galaxies.fwhm_arcmin)
        some = Sources(*(column[these] for column in columns))
        parts[name] = paint_sources(some, instrument, maps.nside, fwhm, out=blank(), threads=threads)
    return {name: dataclasses.replace(maps, values=values) for name, values in parts.items()}


def move_over(field: FilteredField, maps: SkyMaps, lon_deg: float, lat_deg: float) -> FilteredField:
    """The same filter over other maps: noise, window and units stay."""
    sky = sample_field(maps, lon_deg, lat_deg, 0.0, field.n, field.n, field.pixel_arcmin)
    bands = np.moveaxis(sky, -1, 0) / field.unit.astype(np.float32)[:, None, None]
    weight = field._window / field._window.sum(dtype=np.float64)
    bands = bands - np.einsum("bij,ij->b", bands, weight).astype(np.float32)[:, None, None]
    weights = np.einsum("lb,lbc->cl", field._beam * field.response, field._inverse).astype(np.float32)
    moved = copy.copy(field)
    transform = fft.rfft2(bands * field._window)
    moved._weighted = np.einsum("bij,bij->ij", weights[:, field._modes], transform)
    return moved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    whole = SkyMaps.open(asked.run / "maps")
    whole = dataclasses.replace(whole, snr=None, theta500_arcmin=())
    parts = paint_parts(asked.run, whole, asked.threads)
    haloes = read_catalogue(asked.run / "simulated" / "truth.fits")
    haloes = haloes[np.asarray(haloes["y500_arcmin2"]) > LEAST_ARCMIN2]
    home = healpy.ang2pix(FIELD_NSIDE, haloes["lon_deg"], haloes["lat_deg"], lonlat=True)
    rows = []
    for pixel, lon_deg, lat_deg in list_fields(whole, None)["pixel", "lon_deg", "lat_deg"]:
        mine = haloes[home == pixel]
        if abs(lat_deg) < LEAST_LAT_DEG or not len(mine):
            continue
        field = FilteredField(whole, lon_deg, lat_deg, read_instrument())
        row, column = field.pixels(unit_vectors(np.asarray(mine["lon_deg"]), np.asarray(mine["lat_deg"])))
        compact = field.compact[np.rint(row).astype(int), np.rint(column).astype(int)]
        views = [field, *(move_over(field, maps, lon_deg, lat_deg) for maps in parts.values())]
        for k in np.flatnonzero(~compact):
            y, theta = float(mine["y500_arcmin2"][k]), float(mine["theta500_arcmin"][k])
            seen = []
            for view in views:
                snr, error = view.snr_map(theta)
                at = ndimage.map_coordinates(snr, [[row[k]], [column[k]]], order=1)[0]
                seen.append(float(at) * error / Y5R500_PER_Y500)
            rows.append([theta, y, *seen])
    table = np.array(rows)
    names = ["all maps", *parts]
    print("theta500, arcmin | number | " + " | ".join(names))
    for low, high in itertools.pairwise(SIZE_EDGES_ARCMIN):
        mine = table[(table[:, 0] >= low) & (table[:, 0] < high)]
        if not len(mine):
            continue
        share = mine[:, 2:].sum(axis=0) / mine[:, 1].sum()
        rng = np.random.default_rng(1)  # bootstrap of the haloes
        draws = rng.integers(len(mine), size=(500, len(mine)))
        error = (mine[draws, 2:].sum(axis=1) / mine[draws, 1].sum(axis=1)[:, None]).std(axis=0)
        cells = [f"{value:.3f} +- {sigma:.3f}" for value, sigma in zip(share, error, strict=True)]
        print(f"{low:g} - {high:g} | {len(mine)} | " + " | ".join(cells))


if __name__ == "__main__":
    main()
