"""The most that can be found: how a finder would fare that knows beams, noise, spectrum and profile, and how many
clusters there are of which flux and size.

python benchmarks/limit.py RUN --prior RUN [RUN ..] [--draws 10] [--seed 1] [--threads 2]

For every halo of the run's truth, and for sky without any, it draws what the matched filter would measure at that
place at 24 sizes, from the noise that the filter has in the run's own maps; position known, noise Gaussian. Of these
S/N it makes Bayes' odds, with the haloes of the prior's runs (other seeds) as prior:

    p(Y500 > cut | d) = sum_{Y > cut, theta} n(Y, theta) L / (n_empty + sum_{Y, theta} n(Y, theta) L)
    ln L = Y v_theta - Y^2 / (2 sigma_theta^2),    v_theta = (S/N)_theta / sigma_theta

and ranks by them: by p for the haloes, and by p(listed in Planck_z | d) / (1 - p) for Planck_z, which no other order of the
same data beats. Beside it the order of the highest S/N, which is the filter's own. Real finders have less: positions
are unknown (here one place per coherence area of the smallest filter), foregrounds are not Gaussian, neighbours overlap.
What they can have more is knowledge beyond the power spectrum, of the dust's shape for example.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table

from szeek.filter.matchedfilter import FIELD_NSIDE, FilteredField, list_fields
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.inputs.instrument import read_instrument
from szeek.inputs.reddening import reddening_mag
from szeek.simulate.surveys import planck_noise_arcmin2
from szeek.sky.gas import Y5R500_PER_Y500, profile_transform
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import tile_of
from szeek.threads import core_pool

TILES = (1, 6, 9, 14, 32, 38, 41, 45)
THETA500_ARCMIN = np.geomspace(0.8, 40.0, 24)
Y500_ARCMIN2 = np.geomspace(3e-5, 3e-2, 70)  # of the prior; below, haloes are noise
PURITIES = (0.9, 0.8, 0.5)
ARCMIN = np.pi / 10800
LEAST_SNR = 2.0  # at no size above: never among the pure


def field_noise(maps: SkyMaps, place: tuple[int, float, float]) -> tuple[np.ndarray, float]:
    """Information on Y500 between sizes, (24, 24) in arcmin^-4, and the coherence area in arcmin^2."""
    field = FilteredField(maps, place[1], place[2], read_instrument())
    shape = np.stack([profile_transform(field.ell * theta * ARCMIN) for theta in THETA500_ARCMIN])
    area = (field.n * field.pixel_arcmin * ARCMIN) ** 2
    modes = field._count * field._information / area * (Y5R500_PER_Y500 * ARCMIN**2) ** 2
    signal = shape[0] ** 2 * field._information
    coherence = area * (field._count @ signal**2) / (field._count @ signal) ** 2 / ARCMIN**2
    return np.einsum("il,jl,l->ij", shape, shape, modes), float(coherence)


def read_haloes(run: Path) -> Table:
    """Haloes above the prior's least flux: ``y``, ``m``, ``size``, ``listed`` (in Planck_z), ``planck_snr``, ``field``, ``tile``."""
    truth, known = read_catalogue(run / "simulated" / "truth.fits"), read_catalogue(run / "clusters.fits")
    listed = np.zeros(len(truth), bool)
    rows = np.asarray(select_clusters(known, "planck_z")["truth_row"])
    listed[rows[rows >= 0]] = True
    kept = np.asarray(truth["y500_arcmin2"]) > Y500_ARCMIN2[0]
    truth, listed = truth[kept], listed[kept]
    lon, lat, theta = (np.asarray(truth[name], float) for name in ("lon_deg", "lat_deg", "theta500_arcmin"))
    dust = np.sort(reddening_mag(*healpy.pix2ang(64, np.arange(12 * 64**2), lonlat=True)))
    share = np.searchsorted(dust, reddening_mag(lon, lat)) / dust.size
    table = Table({"y": np.asarray(truth["y500_arcmin2"], float), "m": np.asarray(truth["m500_1e14msun"], float)})
    table["size"] = np.abs(np.log(theta[:, None] / THETA500_ARCMIN)).argmin(axis=1)
    table["listed"] = listed
    table["planck_snr"] = table["y"] / planck_noise_arcmin2(theta, share)
    table["field"] = healpy.ang2pix(FIELD_NSIDE, lon, lat, lonlat=True)
    table["tile"] = tile_of(lon, lat)
    return table


class Prior:
    """How many haloes there are of each flux and size, and which of them Planck_z lists."""

    def __init__(self, skies: list[Table]) -> None:
        self.number = np.zeros((Y500_ARCMIN2.size - 1, THETA500_ARCMIN.size))
        self.listed = np.zeros_like(self.number)
        for sky in skies:
            row = np.clip(np.searchsorted(Y500_ARCMIN2, sky["y"]) - 1, 0, len(self.number) - 1)
            np.add.at(self.number, (row, sky["size"]), 1 / len(skies))
            np.add.at(self.listed, (row, sky["size"]), sky["listed"] / len(skies))
        self.y = np.sqrt(Y500_ARCMIN2[1:] * Y500_ARCMIN2[:-1])

    def odds(self, snr: np.ndarray, information: np.ndarray, n_empty: float, cut: float) -> np.ndarray:
        """p(Y500 > cut | d) and p(listed | d) / (1 - p), (n, 2), of S/N at the sizes, (n, 24)."""
        error = 1 / np.sqrt(np.diag(information))
        out = np.empty((len(snr), 2))
        for start in range(0, len(snr), 2000):
            v = snr[start : start + 2000] / error
            log_l = self.y[:, None] * v[:, None, :] - 0.5 * (self.y[:, None] / error) ** 2
            likelihood = np.exp(np.minimum(log_l, 300.0))
            halo = (likelihood * self.number).sum(axis=2)
            total = halo.sum(axis=1) + n_empty
            p = halo[:, self.y > cut].sum(axis=1) / total
            listed = (likelihood * self.listed).sum(axis=(1, 2)) / total
            out[start : start + 2000] = np.stack([p, listed / np.maximum(1 - p, 1e-12)], axis=1)
        return out


def completeness(score: np.ndarray, real: np.ndarray, sample: np.ndarray, n_sample: int) -> list[float]:
    """Share of a sample at or above the lowest score to which the purity asked for holds."""
    order = np.argsort(-score, kind="stable")
    purity = np.cumsum(real[order]) / np.arange(1, real.size + 1)
    found = np.cumsum(sample[order])
    return [float(found[np.flatnonzero(purity >= asked)[-1]]) / n_sample for asked in PURITIES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--prior", type=Path, nargs="+", required=True)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    maps, haloes = SkyMaps.open(asked.run / "maps"), read_haloes(asked.run)
    haloes = haloes[np.isin(haloes["tile"], TILES)]
    prior = Prior([read_haloes(run) for run in asked.prior])
    places = [tuple(row) for row in list_fields(maps, TILES)["pixel", "lon_deg", "lat_deg"]]
    with core_pool(asked.threads) as pool:
        noise = dict(zip([p[0] for p in places], pool.map(lambda place: field_noise(maps, place), places), strict=True))
    error = np.median([1 / np.sqrt(np.diag(i)) for i, _ in noise.values()], axis=0)
    print("median error of Y500, arcmin^2: " + ", ".join(f"{t:.1f}': {e:.2e}" for t, e in zip(THETA500_ARCMIN[::4], error[::4], strict=True)))  # fmt: skip
    rng = np.random.default_rng(asked.seed)
    for cut in (3e-4, 2e-4):
        results: dict[tuple[str, str], list[list[float]]] = {}
        for _ in range(asked.draws):
            parts = []
            for pixel, (information, coherence) in noise.items():
                mine = haloes[haloes["field"] == pixel]
                area = healpy.nside2pixarea(FIELD_NSIDE) / ARCMIN**2
                n_empty = int(area / coherence)
                sigma = 1 / np.sqrt(np.diag(information))
                correlation = np.linalg.cholesky(information * np.outer(sigma, sigma) + 1e-6 * np.eye(sigma.size))
                snr = rng.standard_normal((len(mine) + n_empty, sigma.size)) @ correlation.T
                snr[: len(mine)] += np.asarray(mine["y"])[:, None] * information[mine["size"]] * sigma
                kept = snr.max(axis=1) > LEAST_SNR
                # the prior's numbers are of the whole sky, so is the number of empty places
                odds = prior.odds(snr[kept], information, 4 * np.pi / ARCMIN**2 / coherence, cut)
                halo = np.r_[np.arange(len(haloes))[haloes["field"] == pixel], np.full(n_empty, -1)][kept]
                parts.append(np.column_stack([halo, odds, snr[kept].max(axis=1)]))
            row, p, listed, snr = np.concatenate(parts).T
            row = row.astype(int)
            halo = haloes[row]
            real = (row >= 0) & (halo["y"] > cut) & (halo["m"] > 1)
            samples = {"Planck_z": (row >= 0) & halo["listed"]}
            numbers = {"Planck_z": int(haloes["listed"].sum())}
            for least in (5e-4, 1e-3, 2e-3):
                samples[f"Y500 > {least:g}"] = (row >= 0) & (halo["y"] > least) & (halo["m"] > 1)
                numbers[f"Y500 > {least:g}"] = int(((haloes["y"] > least) & (haloes["m"] > 1)).sum())
            for name, sample in samples.items():
                best = listed if name == "Planck_z" else p
                for order, score in (("odds", best), ("S/N", snr)):
                    found = completeness(score, np.asarray(real), np.asarray(sample), numbers[name])
                    results.setdefault((order, name), []).append(found)
        for (order, name), found in results.items():
            mean, spread = np.mean(found, axis=0), np.std(found, axis=0)
            print(
                f"cut {cut:g}, order of {order}, {name}: "
                + " / ".join(f"{m:.2f}" for m in mean)
                + "  (one draw "
                + " / ".join(f"{s:.2f}" for s in spread)
                + ")",
                flush=True,
            )


if __name__ == "__main__":
    main()
