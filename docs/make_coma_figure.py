"""S/N and Y5R500 of the PSZ2 entries around Coma against PSZ2's own: `python docs/make_coma_figure.py DATA`.

DATA holds maps/coma and catalogues, as for the tests on real data. Writes docs/images/coma-psz2.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from matplotlib.figure import Figure

from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.mapfiles import read_skymaps
from szeek.measure.photometry import measure_sources
from szeek.show.figures.style import BLACK, BLUE, VERMILION, journal

BANDS = ("100", "143", "217", "353", "545", "857")
PSZ2_FILE = "catalogues/HFI_PCCS_SZ-union_R2.08.fits"
COMA = "PSZ2 G057.80+88.00"
CLUSTERS = (COMA, "PSZ2 G023.17+86.71", "PSZ2 G259.30+84.41", "PSZ2 G343.33+83.19")
SPURIOUS = ("PSZ2 G310.81+83.91", "PSZ2 G318.46+83.79", "PSZ2 G320.94+83.69")


@journal
def draw(published: dict[str, dict[str, float]], measured: dict[str, dict[str, float]]) -> Figure:
    """What is measured over what is published, an entry a line; bars are 1.5 sigma of both errors."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    entries = (*CLUSTERS, *SPURIOUS)
    for k, name in enumerate(entries):
        own, here = published[name], measured[name]
        colour, marker = (VERMILION, "*") if name == COMA else (BLUE, "o") if name in CLUSTERS else (BLACK, "x")
        left.plot(here["snr"] / own["snr"], k, marker, color=colour)
        sigma = np.hypot(here["y_err"], own["y_err"])
        right.errorbar(here["y"] / own["y"], k, xerr=1.5 * sigma / own["y"], fmt=marker, color=colour)
    for axes, label in ((left, "S/N"), (right, r"$Y_{5R500}$")):
        axes.axvline(1, color="0.6", lw=0.8, zorder=0)
        axes.axvline(0, color="0.85", lw=0.8, zorder=0)
        axes.set_xlabel(f"{label}, here / PSZ2")
        axes.tick_params(axis="y", which="minor", left=False, right=False)
    left.set_yticks(range(len(entries)), [f"{name[5:]}{', Coma' if name == COMA else ''}" for name in entries])
    left.invert_yaxis()
    return figure


def main(data: Path, target: Path) -> None:
    """Measure the entries and draw them."""
    maps = read_skymaps({band: data / f"maps/coma/hfi_{band}_coma.fits" for band in BANDS})
    psz2 = read_catalogue(data / PSZ2_FILE)
    psz2 = psz2[maps.footprint[healpy.ang2pix(maps.nside, psz2["lon_deg"], psz2["lat_deg"], lonlat=True)]]
    found = measure_sources(maps, psz2["lon_deg", "lat_deg", "z"])
    measured = {
        str(name): {
            "snr": float(row["snr"]),
            "y": 1e3 * float(row["y5r500_arcmin2"]),
            "y_err": 1e3 * float(row["y5r500_err_arcmin2"]),
        }
        for name, row in zip(psz2["name"], found, strict=True)
    }
    for name in (*CLUSTERS, *SPURIOUS):
        print(name, {key: round(value, 2) for key, value in measured[name].items()})
    with fits.open(data / PSZ2_FILE) as hdus:
        published = {
            str(row["NAME"]): {
                "snr": float(row["SNR"]),
                "y": float(row["Y5R500"]),
                "y_err": float(row["Y5R500_ERR"]),
            }
            for row in hdus[1].data
        }
    draw(published, measured).savefig(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    main(parser.parse_args().data, Path(__file__).parent / "images" / "coma-psz2.png")
