"""Whether the simulated maps show as many clusters as the real ones, and whether the mock PSZ2 is what they show.

python benchmarks/psz2_counts.py RUN HFI_PCCS_SZ-union_R2.08.fits [--threads 2]

Our matched filter on the run's maps against Planck's union of three pipelines and against those of its entries that
MMF3 has, the most like ours: number per 1000 deg2 above four S/N, at |b| > 30 deg outside the mask of PSZ2. Then the
filter's S/N at the clusters of the run's mock of PSZ2, the highest within 5 arcmin, over that of the mock.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from astropy.table import Table

from szeek.filter.search import matched_filter
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.reddening import read_column_map
from szeek.simulate.surveys import PSZ2_SKY_FRACTION, _sky_fraction
from szeek.sky.skymaps import SkyMaps

SNR, LEAST_LAT_DEG, RADIUS_ARCMIN = (5.0, 6.0, 8.0, 12.0), 30.0, 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("psz2", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    dust = read_column_map("dust_ebv_Planck13")

    def counts(table: Table) -> str:
        lon_deg, lat_deg, snr = (np.asarray(table[name], float) for name in ("lon_deg", "lat_deg", "snr"))
        here = (np.abs(lat_deg) > LEAST_LAT_DEG) & (_sky_fraction(lon_deg, lat_deg, dust) < PSZ2_SKY_FRACTION)
        return " | ".join(f"{1e3 * np.sum(here & (snr > least)) / area_deg2:.1f}" for least in SNR)

    lon_deg, lat_deg = healpy.pix2ang(128, np.arange(12 * 128**2), lonlat=True)
    seen = (np.abs(lat_deg) > LEAST_LAT_DEG) & (_sky_fraction(lon_deg, lat_deg, dust) < PSZ2_SKY_FRACTION)
    area_deg2 = seen.mean() * 4 * np.pi * np.degrees(1) ** 2
    rows = fits.getdata(asked.psz2, 1)
    real = Table({"lon_deg": rows["GLON"], "lat_deg": rows["GLAT"], "snr": rows["SNR"]})
    by_mmf3 = (rows["PIPE_DET"] // 10) % 10 == 1  # its digits are the pipelines: 1271 have MMF3's
    mock = read_catalogue(asked.run / "simulated" / "psz2.fits")
    maps = SkyMaps.open(asked.run / "maps")
    best = np.full(len(maps.values), np.nan, np.float32)
    found = matched_filter(maps, threads=asked.threads, out=best)
    print(f"per 1000 deg2 above S/N of {', '.join(f'{least:g}' for least in SNR)}; {area_deg2:.0f} deg2")
    for name, table in (
        ("real, union", real),
        ("real, MMF3", real[by_mmf3]),
        ("mock, union", mock),
        ("our filter on the maps", found),
    ):
        print(f"{name}: {counts(table)}")

    true = mock[(np.asarray(mock["truth_row"]) >= 0) & (np.abs(np.asarray(mock["lat_deg"])) > LEAST_LAT_DEG)]
    shown = []
    for vector in healpy.ang2vec(np.asarray(true["lon_deg"]), np.asarray(true["lat_deg"]), lonlat=True):
        near = healpy.query_disc(maps.nside, vector, np.radians(RADIUS_ARCMIN / 60))
        shown.append(np.nanmax(best[near], initial=-np.inf))
    snr, shown_snr = np.asarray(true["snr"]), np.array(shown)
    for low, high in zip((4.5, *SNR), (*SNR, np.inf), strict=True):
        mine = (snr >= low) & (snr < high)
        low_end, middle, high_end = np.percentile(shown_snr[mine] / snr[mine], [16, 50, 84])
        print(
            f"mock S/N {low:g} - {high:g}: {mine.sum()} clusters, filter over mock {middle:.2f} "
            f"({low_end:.2f} to {high_end:.2f}), filter below 3: {np.mean(shown_snr[mine] < 3):.2f}"
        )


if __name__ == "__main__":
    main()
