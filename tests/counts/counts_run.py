"""A selection and a run folder with known laws, for the tests of counts."""

from __future__ import annotations

import json
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table

from szeek.assess.selection import NOISE_THETA500_ARCMIN, Selection
from szeek.inputs.instrument import read_instrument
from szeek.measure.candidates import make_candidates, write_candidates
from szeek.physics.scaling import theta500_from_mass, y500_from_mass
from szeek.sky.skymaps import SkyMaps

SIZES = np.array(NOISE_THETA500_ARCMIN)
#: Half of the injections of this S/N are found, with this width.
SNR50, WIDTH = 4.0, 0.5


def make_noise() -> np.ndarray:
    """sigma = 1.2e-4 arcmin^2 at 1 arcmin, growing with size, twice that in the south; a cap is not seen."""
    _, lat_deg = healpy.pix2ang(8, np.arange(768), lonlat=True)
    noise = 1.2e-4 * np.where(lat_deg < 0, 2.0, 1.0)[:, None] * SIZES[None, :]
    noise[lat_deg < -70] = np.nan
    return noise


def make_selection(n: int = 4000, seed: int = 1, *, own_snr: bool = True, p_max: float = 0.1) -> Selection:
    """Injections whose S/N is 0.9 q with a scatter of 15 % and noise, found by a logistic law of it."""
    rng = np.random.default_rng(seed)
    noise_map = make_noise()
    lon_deg, lat_deg = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-0.9, 1, n)))
    size = np.exp(rng.uniform(0, np.log(20), n))
    noise = noise_map[healpy.ang2pix(8, lon_deg, lat_deg, lonlat=True), 0] * size
    q = np.exp(rng.uniform(np.log(0.5), np.log(30), n))
    factor = (0.9 * np.exp(0.15 * rng.standard_normal(n))) if own_snr else np.ones(n)
    snr = factor * q + rng.standard_normal(n)
    found = rng.random(n) < 1 / (1 + np.exp(-(snr - SNR50) / WIDTH))
    table = Table({"lon_deg": lon_deg, "lat_deg": lat_deg, "y500_arcmin2": q * noise, "theta500_arcmin": size})
    table["noise_arcmin2"] = noise
    table["p"], table["offset_arcmin"] = np.where(found, 0.9, np.nan), np.where(found, 1.0, np.nan)
    if own_snr:
        table["snr_there"] = snr
    return Selection(table[np.isfinite(noise)], SIZES, noise_map, p_max)


def make_counts_run(folder: Path, p_max: float = 0.1, nside: int = 16) -> Path:
    """A run's folder with maps of a part of the sky, candidates, photometry and a selection."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    instrument = read_instrument("planck-hfi")
    _, lat_deg = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    footprint = lat_deg > 0
    SkyMaps(np.zeros((12 * nside**2, 6), np.float32), footprint, instrument.bands).save(folder / "maps")
    n = 60
    lon, lat = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(0.1, 0.95, n)))
    z = np.where(np.arange(n) % 3 == 0, np.nan, rng.uniform(0.05, 0.6, n))
    snr = rng.uniform(3, 20, n)
    table = Table({"lon_deg": lon, "lat_deg": lat, "p": rng.uniform(0.2, 1, n), "snr": snr})
    table["purity"] = np.where(np.arange(n) % 3 == 0, 0.7, 0.95)
    table["match_z"] = z
    table["match_name"] = np.where(np.isfinite(z), "ABELL", "").astype("U16")
    candidates = make_candidates(table)
    write_candidates(candidates, folder / "candidates.fits")
    make_photometry(np.nan_to_num(z, nan=0.2), np.full(n, 6.0), names=candidates["NAME"]).write(
        folder / "photometry.fits"
    )
    make_selection(1500, p_max=p_max).write(folder / "selection.fits")
    (folder / "prediction.fits").write_text("stands for the map of p")
    (folder / "run.json").write_text(json.dumps({"config": {"detect": {"p_max": 0.1}}, "stages": {}}))
    return folder


def make_photometry(z: np.ndarray, m500: np.ndarray, names=None, error: float = 0.05) -> Table:
    """Fluxes against size of clusters of true masses, as precise as ``error``, without noise."""
    sizes = np.geomspace(0.8, 32.0, 24)
    flux = 1.79 * y500_from_mass(m500, z)
    best = theta500_from_mass(m500, z)
    # as of a matched filter: the error grows with the size that is assumed, S/N is highest at the true one
    sigma = error * flux[:, None] * (sizes / best[:, None])
    at = sigma / error * np.exp(-0.05 * np.log(sizes / best[:, None]) ** 2)
    table = Table({"name": names if names is not None else [f"C{k}" for k in range(len(z))]})
    table["size_snr"], table["size_y5r500_arcmin2"], table["size_y5r500_err_arcmin2"] = at / sigma, at, sigma
    table.meta = {f"SIZE{k}": round(float(size), 4) for k, size in enumerate(sizes, 1)}
    return table
