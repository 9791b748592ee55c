"""p of several networks around Coma side by side: `python docs/make_networks_figure.py DATA TITLE=FOLDER ...`.

FOLDER is what `szeek predict --model RUN --map 'hfi_{band}_coma.fits' --out FOLDER` wrote, DATA holds catalogues/ as
for the tests on real data. Writes docs/images/coma-demo-networks.png and prints a column of the page's table for
each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from szeek.find.predict import read_prediction
from szeek.inputs.catalogues import read_catalogue, separation_arcmin
from szeek.show.figures.style import journal
from szeek.sky.projection import field_basis, field_directions, project, unit_vectors

CONFIRMED = ("G057.80+88.00", "G023.17+86.71", "G259.30+84.41", "G343.33+83.19")
INFRARED = ("G310.81+83.91", "G318.46+83.79", "G320.94+83.69")
#: Of the field: l, b and the angle that its edges have there, in degrees.
CENTRE, NY, NX, PIXEL_ARCMIN = (330.0, 87.0, -27.0), 290, 430, 2.0


def positions(psz2: Table, names: tuple[str, ...]) -> Table:
    """Rows of the entries, in the order of the names."""
    return psz2[[next(k for k, name in enumerate(psz2["name"]) if entry in str(name)) for entry in names]]


@journal
def draw(folders: dict[str, Path], psz2: Table) -> Figure:
    """A panel for each network."""
    figure = Figure(figsize=(5.2 * len(folders) + 0.8, 4.6), layout="constrained")
    basis = field_basis(*CENTRE)
    at = field_directions(*CENTRE, NY, NX, PIXEL_ARCMIN)

    def place(table: Table) -> tuple[np.ndarray, np.ndarray]:
        there = unit_vectors(np.asarray(table["lon_deg"], float), np.asarray(table["lat_deg"], float))
        x, y, _ = project(basis, there, PIXEL_ARCMIN)
        return x + 0.5 * (NX - 1), y + 0.5 * (NY - 1)

    for axes, (title, folder) in zip(np.ravel(figure.subplots(1, len(folders))), folders.items(), strict=True):
        p_map = read_prediction(folder / "prediction.fits")
        p = p_map[healpy.vec2pix(healpy.npix2nside(p_map.size), *np.moveaxis(at, -1, 0))]
        image = axes.imshow(p, origin="lower", cmap="magma", norm=LogNorm(1e-3, 1))
        found = candidates(folder)
        found = found[found["p"] > 0.3]
        axes.plot(*place(found), "o", color="cyan", mfc="none", ms=9, label="sources with $p$ > 0.3")
        for names, marker, what in ((CONFIRMED, "s", "PSZ2, confirmed"), (INFRARED, "x", "PSZ2, infrared")):
            axes.plot(*place(positions(psz2, names)), marker, color="lime", mfc="none", ms=14, ls="none", label=what)
        axes.set(title=f"{title}: {len(found)} sources with $p$ > 0.3", xticks=[], yticks=[])
        axes.set(xlim=(0, NX), ylim=(0, NY))
    figure.colorbar(image, ax=figure.axes, label="$p$", fraction=0.03)
    legend = figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=True)
    legend.get_frame().set_facecolor("0.3")
    for text in legend.get_texts():
        text.set_color("white")
    return figure


def candidates(folder: Path) -> Table:
    """Position and p of what was found."""
    table = Table.read(folder / "candidates.csv")
    return Table({"lon_deg": table["GLON"], "lat_deg": table["GLAT"], "p": table["P"]})


def describe(title: str, found: Table, psz2: Table) -> None:
    """The column of a network in the table."""
    print(title, "sources above 0.1, 0.3, 0.5:", [int((found["p"] > least).sum()) for least in (0.1, 0.3, 0.5)])
    entries = positions(psz2, (*CONFIRMED, *INFRARED))
    for number, entry in enumerate(entries):
        apart = separation_arcmin(found, entries[number : number + 1])
        k = int(np.argmin(apart))
        rank = int((found["p"] > found["p"][k]).sum()) + 1
        print(f"  {entry['name']}: {float(apart[k]):.1f} arcmin, p {found['p'][k]:.2f}, rank {rank}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folders", nargs="+", metavar="TITLE=FOLDER")
    given = parser.parse_args()
    entries = read_catalogue(given.data / "catalogues" / "HFI_PCCS_SZ-union_R2.08.fits")
    named = {title: Path(folder) for title, folder in (item.split("=", 1) for item in given.folders)}
    draw(named, entries).savefig(Path(__file__).parent / "images" / "coma-demo-networks.png", dpi=110)
    for title, folder in named.items():
        describe(title, candidates(folder), entries)
