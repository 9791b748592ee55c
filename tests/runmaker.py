"""Makes a small run folder with every product that `szeek.show` reads: one sky, shared by report and explorer tests.

The sky is CMB (a falling power law) with white noise and, at known positions, Compton-y blobs with the published
tSZ response of each band; p is a disc around most of the clusters and around some random positions.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table, vstack

from szeek.inputs.instrument import read_instrument
from szeek.measure.candidates import make_candidates, write_candidates
from szeek.sky.skymaps import SkyMaps

#: Would run in a page, and stop matplotlib's formulas.
EVIL_NAME = '<script>alert("x")</script> & $\\co$'


def _positions(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    lon = rng.uniform(0, 360, n)
    return lon, np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def make_clusters(rng: np.random.Generator, n: int) -> Table:
    """Clusters in the common catalogue columns, three selections, the first five inside the test tile."""
    tables = []
    for selection, survey, share in (
        ("planck_z", "PSZ2", 1.0),
        ("planck_no-z", "PSZ2", 0.5),
        ("mcxcwp", "MCXC", 1.6),
    ):
        count = int(n * share)
        lon, lat = _positions(rng, count)
        lon[:5] = 112.5 + np.array([-8.0, -4.0, 0.0, 5.0, 9.0])
        lat[:5] = 41.8 + rng.uniform(-6, 6, 5)
        z = rng.uniform(0.05, 0.6, count)
        mass = 2.5 + 6 * z + rng.exponential(1.0, count)
        nothing = np.full(count, np.nan)
        tables.append(
            Table(
                {
                    "name": [f"{survey} G{a:06.2f}{b:+06.2f}" for a, b in zip(lon, lat, strict=True)],
                    "lon_deg": lon, "lat_deg": lat, "ra_deg": nothing, "dec_deg": nothing,
                    "z": z if selection != "planck_no-z" else nothing, "m500_1e14msun": mass,
                    "y500_arcmin2": 1e-3 * (mass / 5) ** 1.8, "theta500_arcmin": 6 * (mass / 5) ** (1 / 3) * 0.2 / z,
                    "richness": nothing, "snr": 4.5 + rng.exponential(2.0, count) if survey == "PSZ2" else nothing,
                    "survey": np.full(count, survey), "selection": np.full(count, selection),
                }
            )
        )  # fmt: skip
    return vstack(tables)


def make_run(folder: Path, nside: int = 64, n_clusters: int = 40, seed: int = 1) -> Path:
    """Write a run folder; everything in it follows from nside, n_clusters and seed."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    n_pix = 12 * nside**2
    clusters = make_clusters(rng, n_clusters)
    clusters["name"] = clusters["name"].astype("U64")
    clusters["name"][6] = EVIL_NAME
    clusters.write(folder / "clusters.fits", overwrite=True)

    instrument = read_instrument("planck-hfi")
    np.random.seed(seed)  # noqa: NPY002  healpy.synfast draws from numpy's global state
    spectrum = 6e-9 / np.maximum(np.arange(2 * nside + 1), 2.0) ** 2.1
    cmb = healpy.synfast(spectrum, nside)
    y_map = np.full(n_pix, 1e-7)
    pixel_arcmin = healpy.nside2resol(nside, arcmin=True)
    p_map = np.full(n_pix, 2e-3, np.float32) * rng.lognormal(0, 0.5, n_pix).astype(np.float32)
    found = rng.random(len(clusters)) < np.where(clusters["selection"] == "mcxcwp", 0.2, 0.85)
    found[6] = True
    extra_lon, extra_lat = _positions(rng, 2 * n_clusters)
    rows = [(a, b, f, True) for a, b, f in zip(clusters["lon_deg"], clusters["lat_deg"], found, strict=True)]
    rows += [(a, b, True, False) for a, b in zip(extra_lon, extra_lat, strict=True)]
    sources: list[dict[str, object]] = []
    for index, (lon, lat, is_found, known) in enumerate(rows):
        vector = healpy.ang2vec(lon, lat, lonlat=True)
        near = healpy.query_disc(nside, vector, np.radians(4 * max(10.0, pixel_arcmin) / 60))
        offset = np.degrees(np.arccos(np.clip(np.array(healpy.pix2vec(nside, near)).T @ vector, -1, 1))) * 60
        y_map[near] += 6e-5 * np.exp(-0.5 * (offset / max(5.0, pixel_arcmin)) ** 2)
        if is_found:
            p = float(rng.uniform(0.15, 1.0))
            inside = near[offset <= max(6.0, 0.8 * pixel_arcmin)]
            p_map[inside] = np.maximum(p_map[inside], p * rng.uniform(0.7, 1.0, len(inside)).astype(np.float32))
            p_map[healpy.ang2pix(nside, lon, lat, lonlat=True)] = p
            matched = str(clusters["name"][index]) if known else ""
            sources.append({"lon": lon, "lat": lat, "p": p, "matched": matched})
    values = np.empty((n_pix, 6), np.float32)
    for k, response in enumerate(instrument.tsz_response):
        unit = instrument.unit_per_kcmb[k]
        noise = instrument.noise_uk_deg[k] * (1e-6 if instrument.bands[k].unit == "K_CMB" else 1e-3)
        values[:, k] = unit * cmb + response * y_map + rng.normal(0, noise * 60 / pixel_arcmin, n_pix)
    footprint = np.ones(n_pix, bool)
    footprint[healpy.query_disc(nside, healpy.ang2vec(0, -60, lonlat=True), np.radians(6))] = False
    values[~footprint] = 0
    p_map[~footprint] = np.nan
    SkyMaps(values, footprint, instrument.bands).save(folder / "maps")
    for name, single, unit in (("prediction.fits", p_map, ""), ("y_map.fits", y_map, "")):
        nested = healpy.reorder(np.where(np.isfinite(single), single, healpy.UNSEEN).astype(np.float32), r2n=True)
        healpy.write_map(
            str(folder / name), nested, nest=True, coord="G", dtype=np.float32, overwrite=True, column_units=unit
        )

    p = np.array([s["p"] for s in sources], float)
    table = Table({"lon_deg": [s["lon"] for s in sources], "lat_deg": [s["lat"] for s in sources], "p": p})
    table["pos_err_arcmin"], table["purity"] = 1.7, np.clip(p, 0, 0.97)
    table["area_arcmin2"] = rng.integers(8, 60, len(p)).astype(float)
    table["snr"], table["y5r500_arcmin2"], table["y5r500_err_arcmin2"] = 3 + 8 * p, 1.5e-3 * p, 2e-4
    table["match_name"] = [s["matched"] for s in sources]
    table["kind"] = ["" if s["matched"] or k % 3 else "dusty" for k, s in enumerate(sources)]
    table["match_survey"] = [str(s["matched"])[:4] for s in sources]
    write_candidates(make_candidates(table), folder / "candidates.fits")

    make_recovery().write(folder / "recovery.ecsv", overwrite=True)
    epochs = np.arange(1, 9)
    curve = [
        {
            "epoch": int(e),
            "train_loss": 0.01 + 0.05 / e,
            "valid_loss": 0.013 + 0.05 / e + 0.0006 * max(0, e - 6),
            "seconds": 31.5,
        }
        for e in epochs
    ]
    names = list(instrument.band_names)
    card = {"preset": "demo", "bands": names,
            "normaliser": {"kind": "left-gaussian", "offset": [0.0] * 6,
                           "matrix": np.diag(1 / values.std(axis=0)).tolist(), "background_nside": 0},
            "tiles": list(range(7, 48)), "seed": seed, "version": "0.1.0", "data": {}, "curve": curve}  # fmt: skip
    (folder / "model.json").write_text(json.dumps(card))
    record = {
        "config": {"preset": "demo", "detect": {"p_max": 0.1}, "sky": {"simulate": True},
                   "split": {"test_tiles": [6], "validation_tiles": [9, 38, 41]}}, "seed": seed,
        "versions": {"szeek": "0.1.0", "numpy": np.__version__},
        "timings": {"simulate": 201.5, "train": 252.0, "predict": 120.2},
        "stages": {"calibrate": {"n_sources": 900, "n_clusters": 400, "tiles": [6, 9, 38, 41],
                                 "expected_calibration_error": 0.021, "reliability": make_reliability()}},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "assessment.json").write_text(json.dumps({"completeness_purity": make_assessment()}))
    (folder / "config.toml").write_text('preset = "demo"\nseed = 1\n')
    return folder


def make_recovery() -> Table:
    """recovery.ecsv of a finder whose recovered fraction falls linearly with the threshold."""
    rows = []
    for name, n, top in (("planck_z", 40, 0.97), ("planck_no-z", 18, 0.89), ("mcxcwp", 50, 0.14)):
        for tile, p_max in itertools.product((6, -1), (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)):
            fraction = top * (1 - 0.5 * p_max)
            error = np.sqrt(fraction * (1 - fraction) / n)
            rows.append(
                {
                    "catalogue": name, "tile": tile, "p_max": p_max, "n_clusters": n,
                    "n_recovered": round(n * fraction),
                    "recovered": fraction, "recovered_low": fraction - error,
                    "recovered_high": min(1.0, fraction + error),
                    "chance": 0.01, "n_sources": int(300 * (1 - p_max)), "n_unmatched": int(220 * (1 - p_max)),
                }
            )  # fmt: skip
    return Table(rows)


def make_reliability() -> list[dict[str, float]]:
    """Rows of a reliability diagram close to the diagonal."""
    return [
        {"n": 90, "predicted": x, "observed": x + 0.02, "observed_low": x - 0.03, "observed_high": x + 0.07}
        for x in (0.05, 0.15, 0.3, 0.5, 0.7, 0.9)
    ]


def make_assessment() -> list[dict[str, object]]:
    """Rows of completeness_purity: completeness falls with the purity asked for."""
    rows: list[dict[str, object]] = []
    for purity in (0.5, 0.6, 0.7, 0.8, 0.9, None):
        for sample, top in (("planck_z", 1.0), ("y500>5e-4", 0.6), ("y500>1e-3", 0.8), ("y500>2e-3", 0.95)):
            real = 0.65 if purity is None else purity
            value = top * (1 - 0.4 * real**2)
            rows.append(
                {
                    "purity_asked": purity, "p_threshold": real / 2, "n_detections": 200, "n_true": int(200 * real),
                    "purity": real, "purity_low": real - 0.03, "purity_high": real + 0.03, "purity_tile_std": 0.05,
                    "purity_chance": 0.01, "median_offset_arcmin": 1.6, "sample": sample, "n_sample": 60,
                    "n_found": int(60 * value), "completeness": value, "completeness_low": value - 0.05,
                    "completeness_high": min(1, value + 0.05), "completeness_tile_std": 0.06,
                    "completeness_chance": 0.01,
                }
            )  # fmt: skip
    return rows
