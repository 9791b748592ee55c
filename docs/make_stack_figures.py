"""The figures and the table of the page on stacks, from real data: `python docs/make_stack_figures.py DATA`.

DATA holds maps/coma/{hfi_{band},milca_{first,last}}_coma.fits and catalogues/, as the tests have them. Writes
docs/images/stacks-*.png and prints the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table

from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.show.figures.stackfigures import draw_stack_folder, read_significance
from szeek.stack.catalogue import StackMap, read_maps, stack_catalogue
from szeek.stack.products import StackOptions

SAMPLES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "rm30": ("redMaPPer, richness > 30", "redmapper_sdss_dr8_v6.3.csv", {"least": {"richness": 30.0}}),
    "rm50": ("redMaPPer, richness > 50", "redmapper_sdss_dr8_v6.3.csv", {"least": {"richness": 50.0}}),
    "mcxc": ("MCXC", "mcxc.fits", {}),
    "psz2": (
        "PSZ2 with a redshift",
        "HFI_PCCS_SZ-union_R2.08.fits",
        {"least": {"z": 0.0}, "extent_arcmin": 6.0},
    ),
}
#: Pictures that the page shows.
SHOWN = ("rm30-stacks", "rm30-spectrum", "psz2-stacks", "psz2-spectrum")


def main(data: Path, images: Path) -> None:
    folder = data / "maps" / "coma"
    files = {band: folder / f"hfi_{band}_coma.fits" for band in read_instrument().band_names}
    halves = [folder / f"milca_{name}_coma.fits" for name in ("first", "last")]
    maps = read_maps({"bands": StackMap(files), "y": StackMap(halves, "y", 10.0)})
    coma = Table({"lon_deg": [57.80], "lat_deg": [88.00]})
    print("| sample | sources | y, centre | nulls | half difference | tSZ in six bands | MILCA | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (title, catalogue, own) in SAMPLES.items():
        options = StackOptions(size=60, n_p_bins=1, n_null_sets=100 if name == "psz2" else 20)
        with tempfile.TemporaryDirectory() as scratch:
            sources = read_catalogue(data / "catalogues" / catalogue)
            out = stack_catalogue(sources, maps, scratch, options, cut=[(coma, 90.0)], **own)
            for picture in draw_stack_folder(out):
                if f"{name}-{picture.stem}" in SHOWN:
                    shutil.copy(picture, images / f"stacks-{name}-{picture.name}")
            print(describe(title, out))


def describe(title: str, folder: Path) -> str:
    """A row of the table: y in 1e-6, fluxes in 1e-4 arcmin^2."""
    rows = Table.read(folder / "profiles.ecsv")
    rows = rows[rows["inner_arcmin"] == 0]
    centre = {}
    for band in ("y", "y_noise"):
        for sample in ("all", "null"):
            row = rows[(rows["map"] == band) & (rows["sample"] == sample)][0]
            centre[band, sample] = np.array([row["mean"], row["error"]]) * 1e6
    n_sets = json.loads((folder / "stacks.json").read_text())["n_null_sets"]
    sigma = read_significance(folder / "stacks.fits")
    meta = Table.read(folder / "spectrum.ecsv").meta
    tsz, y_map = meta["fit"]["tsz"], meta["y_map"]
    nulls, noise = centre["y", "null"], centre["y_noise", "all"][0]
    return (
        f"| {title} | {meta['n_source']} | {centre['y', 'all'][0]:.2f} ({sigma['y']:.1f} σ) | "
        f"{nulls[0]:.2f} ± {nulls[1] / n_sets**0.5:.2f} | {noise:.2f} ({sigma['y_noise']:.1f} σ) | "
        f"{1e4 * tsz['amplitude']:.2f} ± {1e4 * tsz['error']:.2f} | {1e4 * y_map['flux']:.2f} ± "
        f"{1e4 * y_map['error']:.2f} | {y_map['difference_sigma']:.1f} σ |"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--images", type=Path, default=Path(__file__).parent / "images")
    arguments = parser.parse_args()
    main(arguments.data, arguments.images)
