"""The most that can be found: how a finder would fare that knows beams, noise, spectrum and profile, and how many
haloes there are of which flux and size.

python benchmarks/limit.py RUN --prior RUN [RUN ..] [--draws 10] [--seed 1] [--threads 2]

For every halo of the run's truth, and for sky without any, it draws what the matched filter would measure at that
place at 24 sizes, with the noise that the filter has in the run's own maps, and as much of the flux as it sees there
of bright haloes; position known, noise Gaussian. The Planck catalogue is drawn anew from the same noise. Of these S/N
it makes Bayes' odds, with the haloes of the prior's runs (other seeds) as prior, Y as far as it is seen:

    p(Y500 > cut | d) = sum_{Y > cut, theta} n(Y, theta) L / (n_empty + sum_{Y, theta} n(Y, theta) L)
    ln L = Y v_theta - Y^2 / (2 sigma_theta^2),    v_theta = (S/N)_theta / sigma_theta

The order of p has the most haloes above the cut at a purity, that of p(in Planck_z | d) / (1 - p) the most of
Planck_z.
Beside them the order of the highest S/N, which is the filter's own. A real finder has less: it does not know the
position (here there is one place per coherence area of the smallest filter), foregrounds are not Gaussian,
neighbours overlap. It has more where it knows more of foregrounds than their power spectrum.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import healpy
import numpy as np
from astropy.table import Table
from scipy import ndimage
from scipy.special import ndtr

from szeek.filter.layout import FIELD_NSIDE, list_fields
from szeek.filter.matchedfilter import FilteredField
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.inputs.reddening import reddening_mag
from szeek.parallel import core_pool
from szeek.physics.gas import Y5R500_PER_Y500, profile_transform
from szeek.simulate import surveys
from szeek.sky.skymaps import SkyMaps
from szeek.sky.tiles import tile_of

TILES = (1, 6, 9, 14, 32, 38, 41, 45)
THETA500_ARCMIN = np.geomspace(0.8, 40.0, 24)
Y500_ARCMIN2 = np.geomspace(3e-5, 3e-2, 70)  # of the prior; below, haloes are noise
PURITIES = (0.9, 0.8, 0.5)
BRIGHT_ARCMIN2, SIZE_EDGES_ARCMIN = 5e-4, (3.5, 5.0, 8.0, 12.0)
ARCMIN = np.pi / 10800
SKY_ARCMIN2 = 4 * np.pi / ARCMIN**2
LEAST_SNR = 2.0  # at no size above: never among the pure


class FieldNoise(NamedTuple):
    """What the filter's noise is in one field, and what it sees of bright haloes there."""

    information: np.ndarray  # on Y500 between sizes, (24, 24), arcmin^-4
    coherence_arcmin2: float
    bright: np.ndarray  # size, S/N expected, S/N seen: (n, 3)


def measure_field(maps: SkyMaps, place: tuple[int, float, float], haloes: Table) -> FieldNoise:
    """Noise of the filter in the field about a pixel of nside 8."""
    field = FilteredField(maps, place[1], place[2], read_instrument())
    shape = np.stack([profile_transform(field.ell * theta * ARCMIN) for theta in THETA500_ARCMIN])
    area = (field.n * field.pixel_arcmin * ARCMIN) ** 2
    modes = field._count * field._information / area * (Y5R500_PER_Y500 * ARCMIN**2) ** 2
    information = np.einsum("il,jl,l->ij", shape, shape, modes)
    signal = shape[0] ** 2 * field._information
    coherence = area * (field._count @ signal**2) / (field._count @ signal) ** 2 / ARCMIN**2
    mine = haloes[(haloes["field"] == place[0]) & (haloes["y500_arcmin2"] > BRIGHT_ARCMIN2)]
    vectors = healpy.ang2vec(np.asarray(mine["lon_deg"]), np.asarray(mine["lat_deg"]), lonlat=True)
    row, column = field.pixels(vectors.reshape(-1, 3))
    size, seen = np.asarray(mine["size"]), np.zeros(len(mine))
    for number in np.unique(size):
        of = size == number
        at = [row[of], column[of]]
        seen[of] = ndimage.map_coordinates(field.snr_map(THETA500_ARCMIN[number])[0], at, order=1)
    expected = np.asarray(mine["y500_arcmin2"]) * np.sqrt(information[size, size])
    return FieldNoise(information, float(coherence), np.column_stack([size, expected, seen]))


def flux_share(fields: list[FieldNoise]) -> np.ndarray:
    """Share of the painted flux that the filter sees, by size, (24,): sums over the bright haloes of like size."""
    size, expected, seen = np.concatenate([field.bright for field in fields]).T
    group = np.searchsorted(SIZE_EDGES_ARCMIN, THETA500_ARCMIN)
    of = group[size.astype(int)]
    share = np.bincount(of, seen, group[-1] + 1) / np.bincount(of, expected, group[-1] + 1)
    return np.asarray(share[group])


def read_haloes(run: Path) -> Table:
    """Haloes of the truth above the prior's least flux, with ``size``, ``field`` and ``tile``."""
    truth = read_catalogue(run / "simulated" / "truth.fits")
    truth = truth[np.asarray(truth["y500_arcmin2"]) > Y500_ARCMIN2[0]]
    theta = np.asarray(truth["theta500_arcmin"], float)
    truth["size"] = np.abs(np.log(theta[:, None] / THETA500_ARCMIN)).argmin(axis=1)
    truth["field"] = healpy.ang2pix(FIELD_NSIDE, truth["lon_deg"], truth["lat_deg"], lonlat=True)
    truth["tile"] = tile_of(np.asarray(truth["lon_deg"]), np.asarray(truth["lat_deg"]))
    return truth


class Prior:
    """How many haloes the whole sky has of each flux and size, and what share of the flux is seen."""

    def __init__(self, skies: list[Table], share: np.ndarray) -> None:
        self.share = share
        self.y = np.sqrt(Y500_ARCMIN2[1:] * Y500_ARCMIN2[:-1])
        self.number = np.zeros((self.y.size, THETA500_ARCMIN.size))
        for sky in skies:
            row = np.clip(np.searchsorted(Y500_ARCMIN2, sky["y500_arcmin2"]) - 1, 0, self.y.size - 1)
            np.add.at(self.number, (row, sky["size"]), 1 / len(skies))

    def odds(
        self, snr: np.ndarray, information: np.ndarray, n_empty: float, sky_share: float, cut: float
    ) -> np.ndarray:
        """p(Y500 > cut | d) and p(in Planck_z | d) / (1 - p), (n, 2), of S/N at the sizes, (n, 24)."""
        y, error = self.y[:, None] * self.share, 1 / np.sqrt(np.diag(information))
        planck = self.y[:, None] / surveys.planck_noise_arcmin2(
            THETA500_ARCMIN, np.full(THETA500_ARCMIN.size, sky_share)
        )
        out = np.empty((len(snr), 2))
        for start in range(0, len(snr), 1000):
            v = snr[start : start + 1000, None, :]
            halo = self.number * np.exp(np.minimum(y * v / error - 0.5 * (y / error) ** 2, 300.0))
            total = halo.sum(axis=(1, 2)) + n_empty
            p = halo[:, self.y > cut].sum(axis=(1, 2)) / total
            # what the pipelines would see, given the noise that this flux and size leave over
            seen = planck + np.sqrt(surveys._COMMON_NOISE) * (v - y / error)
            redshift = np.interp(seen, surveys._REDSHIFT_SNR, surveys._REDSHIFT_SHARE) * (planck > 2)
            beyond = (surveys._SNR_MIN - seen) / np.sqrt(1 - surveys._COMMON_NOISE)
            listed = (halo * redshift * (1 - ndtr(beyond) ** surveys._PIPELINES)).sum(axis=(1, 2)) / total
            out[start : start + 1000] = np.stack([p, listed / np.maximum(1 - p, 1e-12)], axis=1)
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
    y, size, field = (np.asarray(haloes[name]) for name in ("y500_arcmin2", "size", "field"))
    massive = np.asarray(haloes["m500_1e14msun"]) > 1
    dust = reddening_mag(*healpy.pix2ang(64, np.arange(12 * 64**2), lonlat=True))
    rank = np.sort(dust)
    places = [tuple(row) for row in list_fields(maps, TILES)["pixel", "lon_deg", "lat_deg"]]
    with core_pool(asked.threads) as pool:
        fields = list(pool.map(lambda place: measure_field(maps, place, haloes), places))
    share = flux_share(fields)
    prior = Prior([read_haloes(run) for run in asked.prior], share)
    sky_share = {p[0]: np.searchsorted(rank, reddening_mag(p[1], p[2])) / rank.size for p in places}
    error = np.median([1 / np.sqrt(np.diag(i)) for i, _, _ in fields], axis=0)
    print("median error of Y500, arcmin^2: " + ", ".join(
        f"{theta:.1f}' {value:.2e}" for theta, value in zip(THETA500_ARCMIN[::4], error[::4], strict=True)
    ))  # fmt: skip
    print("share of the flux that is seen: " + ", ".join(
        f"{theta:.1f}' {value:.2f}" for theta, value in zip(THETA500_ARCMIN[::4], share[::4], strict=True)
    ))  # fmt: skip
    rng = np.random.default_rng(asked.seed)
    results: dict[tuple[float, str, str], list[list[float]]] = {}
    numbers: dict[str, list[int]] = {}
    for draw in range(asked.draws):
        deviate, parts = np.zeros(len(haloes)), []
        for (pixel, _, _), (information, coherence, _) in zip(places, fields, strict=True):
            mine = np.flatnonzero(field == pixel)
            n_empty = int(healpy.nside2pixarea(FIELD_NSIDE) / ARCMIN**2 / coherence)
            sigma = 1 / np.sqrt(np.diag(information))
            correlation = np.linalg.cholesky(information * np.outer(sigma, sigma) + 1e-6 * np.eye(sigma.size))
            snr = rng.standard_normal((len(mine) + n_empty, sigma.size)) @ correlation.T
            deviate[mine] = snr[np.arange(len(mine)), size[mine]]
            snr[: len(mine)] += (share[size[mine]] * y[mine])[:, None] * information[size[mine]] * sigma
            kept = snr.max(axis=1) > LEAST_SNR
            # numbers of the prior are of the whole sky, so is the number of empty places
            odds = [
                prior.odds(snr[kept], information, SKY_ARCMIN2 / coherence, float(sky_share[pixel]), cut)
                for cut in (3e-4, 2e-4)
            ]
            halo = np.append(mine, np.full(n_empty, -1))[kept]
            parts.append(np.column_stack([halo, *odds, snr[kept].max(axis=1)]))
        planck = surveys.mock_psz2(haloes, asked.seed + draw, dust=dust, map_noise=deviate)
        planck = planck[np.isfinite(planck["z"])]
        samples = {"Planck_z": np.isin(np.arange(len(haloes)), planck["truth_row"])}
        samples |= {f"Y500 > {least:g}": massive & (y > least) for least in (5e-4, 1e-3, 2e-3)}
        table = np.concatenate(parts)
        row = table[:, 0].astype(int)
        for k, cut in enumerate((3e-4, 2e-4)):
            p, listed, snr = table[:, 1 + 2 * k], table[:, 2 + 2 * k], table[:, 5]
            real = (row >= 0) & (massive & (y > cut))[row]
            for name, sample in samples.items():
                if k == 0:
                    numbers.setdefault(name, []).append(int(sample.sum()))
                for order, score in (("odds", listed if name == "Planck_z" else p), ("S/N", snr)):
                    found = completeness(score, real, (row >= 0) & sample[row], int(sample.sum()))
                    results.setdefault((cut, order, name), []).append(found)
    for (cut, order, name), found in results.items():
        mean, spread = (" / ".join(f"{v:.2f}" for v in f(found, axis=0)) for f in (np.mean, np.std))
        print(f"cut {cut:g}, order of {order}, {np.mean(numbers[name]):.0f} {name}: {mean} (one draw {spread})")


if __name__ == "__main__":
    main()
