"""nemo on the very files of a simulated field.

python benchmarks/peers/run_nemo.py RUN [RUN ...] --nemo ENVIRONMENT/bin/nemo

RUN is a simulated field (`szeek run field.toml --out RUN --until sky`) of three bands with inverse variances; nemo
(`pip install nemo-sz`, version 0.9) is installed in an environment of its own. Its configuration is that of ACT DR6
(Hilton et al. 2025, arXiv:2507.21459; examples/ACT-DR6-clusters of nemo's repository): source passes at 50 and at 5
sigma in each band, subtracted and filled, then Arnaud et al. (2010) templates twice, the second time with the first
one's detections out of the noise; rings flagged; S/N of the reference template's catalogue. It is cut to four of its
sixteen templates and has no masks of real dust, stars and galaxies. Frequencies are those of the
simulation's tSZ response.

RUN/nemo.fits gets the catalogue, with nemo's `flags`, and RUN/nemo.json core-seconds, wall time and peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import yaml
from astropy.io import fits
from astropy.wcs import WCS
from scipy.optimize import brentq

from szeek.inputs.instrument import read_instrument
from szeek.physics.bandpass import T_CMB_K
from szeek.physics.tsz import tsz_spectrum

#: Mass in 1e14 Msun and redshift of the templates; the first is the reference.
TEMPLATES = ((2.0, 0.4), (1.0, 0.8), (4.0, 0.4), (4.0, 0.2))
PASSES = ((1, 50.0), (2, 5.0))
#: Overlap of the tiles. One that reaches beyond what is observed by so much has a wrong filter.
OVERLAP_DEG, ROWS_PER_DEG = 1.0, 120


def write_beam(table: Path, out: Path) -> None:
    """A table of l and b_l with the solid angle that nemo reads from the header, in nsr."""
    ell, window = np.loadtxt(table, unpack=True)
    # B(0) of a beam of unit integral is sum (2l + 1) b_l / 4 pi, and its solid angle the inverse
    solid_angle_nsr = 1e9 * 4 * np.pi / np.sum((2 * ell + 1) * window)
    np.savetxt(out, np.transpose([ell, window]), header=f"solid angle = {solid_angle_nsr:.3f} +/- 0.000 nsr")


def effective_frequency(tsz_kcmb: float) -> float:
    """Frequency in GHz at which the tSZ effect is as strong as in a band, between 60 and 300."""

    def excess(freq_ghz: float) -> float:
        return T_CMB_K * float(tsz_spectrum([freq_ghz])[0]) - tsz_kcmb

    return round(float(brentq(excess, 60.0, 300.0)), 2)


def write_mask(ivar: list[Path], out: Path) -> None:
    """1 where all bands are observed, which must be the whole of the field but for its margin.

    In a tile that reaches a degree beyond, nemo's errors of y were a quarter of those elsewhere, and 72 of its 80
    detections above S/N 5 false.
    """
    seen = np.logical_and.reduce([fits.getdata(file) > 0 for file in ivar])
    rows = np.flatnonzero(seen.any(axis=1))
    empty = max(rows[0], len(seen) - 1 - rows[-1])
    if empty >= OVERLAP_DEG * ROWS_PER_DEG:
        raise SystemExit(f"'{ivar[0].parent}' has {empty} rows without observations at an end; cut its maps")
    fits.PrimaryHDU(seen.astype(np.uint8), fits.getheader(ivar[0])).writeto(out, overwrite=True)


def list_tiles(mask: Path) -> list[dict[str, object]]:
    """Tiles as wide as a field and about four degrees high. nemo's own tiling finds none in a field of one."""
    with fits.open(mask) as file:
        wcs, (ny, nx) = WCS(file[0].header), file[0].data.shape
    n_tile = round(ny / 480)
    edges = np.linspace(1, ny - 2, n_tile + 1)
    (east, west), _ = wcs.all_pix2world([1, nx - 2], [ny / 2, ny / 2], 0)
    _, dec_deg = wcs.all_pix2world(np.full(n_tile + 1, nx / 2), edges, 0)
    return [
        {"tileName": f"1_{k}_1", "RADecSection": [float(x) for x in (west, east, dec_deg[k], dec_deg[k + 1])]}
        for k in range(n_tile)
    ]


def configure(run: Path, folder: Path, instrument: str) -> dict[str, object]:
    """nemo's configuration for a field; writes the beams and the mask that it names."""
    simulated = run.resolve() / "simulated"
    record = json.loads((simulated / "simulate.json").read_text())
    setup = read_instrument(instrument)
    maps = []
    for band, tsz_kcmb in zip(setup.bands, setup.tsz_kcmb, strict=True):
        beam = folder / f"beam_{band.name}.txt"
        write_beam(simulated / record["beams"][band.name], beam)
        maps.append(
            {
                "mapFileName": str(simulated / record["maps"][band.name]),
                "weightsFileName": str(simulated / record["ivar"][band.name]),
                "obsFreqGHz": effective_frequency(tsz_kcmb),
                "units": "uK",
                "beamFileName": str(beam),
                "label": band.name,
            }
        )
    mask = folder / "mask.fits"
    write_mask([Path(str(one["weightsFileName"])) for one in maps], mask)
    sets: dict[int, dict[str, object]] = {}
    for number, band in enumerate(setup.bands):
        first, second = 2 * number + 1, 2 * number + 2
        common = {"mapToUse": band.name, "objIdent": "ACT-S"}
        sets[first] = {**common, "thresholdSigma": 50.0, "measureShapes": True, "ignoreSurveyMask": True}
        sets[second] = {
            **common, "thresholdSigma": 5.0, "subtractModelFromSets": [first], "addSiphonedFromSets": [first],
            "maskAndFillFromSets": [first], "maskHoleDilationFactor": 3.0, "saveCatalog": True,
            "saveFilteredMaps": False, "fileLabel": f"ptsrc_{band.name}",
        }  # fmt: skip
    bright, faint = [2 * n + 1 for n in range(len(maps))], [2 * n + 2 for n in range(len(maps))]
    clean = {"subtractModelFromSets": faint, "maskAndFillFromSets": bright, "maskHoleDilationFactor": 3.0}
    sets |= {10: clean, 11: {**clean, "noiseModelCatalogFromSets": [10]}}
    filters: list[dict[str, object]] = [
        {
            "label": f"BeamPass{number}", "class": "BeamMatchedFilter", "filterSets": which,
            "params": {"outputUnits": "uK", "noiseParams": {"method": method}},
        }
        for number, which, method in ((1, bright, "model"), (2, faint, "dataMap"))
    ]  # fmt: skip
    names = []
    for mass, redshift in TEMPLATES:
        names.append(f"Arnaud_M{mass:g}e14_z{redshift:g}".replace(".", "p"))
        filters.append({"label": names[-1], "params": {"M500MSun": mass * 1e14, "z": redshift}})
    filters[2]["params"] |= {"saveFilteredMaps": True, "savePlots": False}  # type: ignore[operator]
    scaling = {"tenToA0": 4.95e-5, "B0": 0.08, "Mpivot": 3e14, "sigma_int": 0.2, "relativisticCorrection": True}
    return {
        "unfilteredMaps": maps,
        "surveyMask": str(mask),
        "thresholdSigma": 3.0, "minObjPix": 1, "findCenterOfMass": True, "optimalCatalogMethod": "ref-first",
        "useInterpolator": True, "rejectBorder": 0, "objIdent": "ACT-CL", "longNames": False,
        "catalogCuts": ["fixed_SNR > 3"],
        "flagRings": True, "ringFlagDistArcmin": 12.0, "ringFlagMinRingerSNR": 20, "ringThresholdSigma": 0.5,
        "photFilter": names[0],
        "massOptions": {"scalingRelations": [{**scaling, "delta": 500, "rhoType": "critical"}]},
        "fitQ": False, "calcSelFn": False,
        # without them it ends in a KeyError after all the filtering
        "selFnOptions": {"fixedSNRCut": 5.0, "method": "fast", "massLimitMaps": [{"z": 0.5}], "maxFlags": 0},
        "filterSetOptions": sets,
        "allFilters": {
            "class": "ArnaudModelMatchedFilter", "filterSets": [10, 11],
            "params": {
                "noiseParams": {"method": "dataMap", "noiseGridArcmin": 80.0}, "saveFilteredMaps": False,
                "saveRMSMap": False, "savePlots": False, "saveDS9Regions": False, "outputUnits": "yc",
                "edgeTrimArcmin": 0.0,
            },
        },
        "mapFilters": filters,
        "useTiling": True, "stitchTiles": False, "tileOverlapDeg": OVERLAP_DEG,
        "tileDefinitions": list_tiles(mask),
    }  # fmt: skip


def run_nemo(run: Path, nemo: str, instrument: str) -> dict[str, float]:
    """Run nemo on a field; the catalogue and what it cost are written beside it."""
    folder = run.resolve() / "nemo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    file = folder / "field.yml"
    file.write_text(yaml.safe_dump(configure(run, folder, instrument), sort_keys=False))
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with (folder / "log.txt").open("w") as log:
        subprocess.run(
            [nemo, str(file)], check=True, cwd=folder, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    (catalogue,) = folder.glob("field/field_optimalCatalog.fits")
    shutil.copyfile(catalogue, run / "nemo.fits")
    cost = {
        "core_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall_s": time.perf_counter() - start,
        "peak_gib": after.ru_maxrss / 2**20,
    }
    (run / "nemo.json").write_text(json.dumps(cost))
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--nemo", default="nemo")
    parser.add_argument("--instrument", default="act-dr6")
    given = parser.parse_args()
    for run in given.runs:
        print(run, run_nemo(run, given.nemo, given.instrument), flush=True)


if __name__ == "__main__":
    main()
