"""`szeek evidence` on a small run: what is put at the candidates is found there and not at random positions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from runmaker import make_run
from typer.testing import CliRunner

from szeek import __version__
from szeek.cli.app import app
from szeek.cli.evidence import describe_evidence
from szeek.pipeline.evidence import EvidenceOptions
from szeek.pipeline.products import RunFolder
from szeek.show.figures.dossier import list_evidence, list_numbers
from szeek.verbs import measure_evidence

NSIDE = 512


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, a sky of photons with 25 at every second candidate, galaxies at every third, a list of every fourth."""
    folder = tmp_path_factory.mktemp("evidence")
    run = make_run(folder / "run", nside=64, n_clusters=12)
    record = json.loads((run / "run.json").read_text())
    record["versions"]["szeek"] = __version__
    (run / "run.json").write_text(json.dumps(record))
    candidates = RunFolder(run).candidates
    assert candidates is not None
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.4, 12 * NSIDE**2).astype(np.float32)
    lon_deg, lat_deg = np.asarray(candidates["lon_deg"]), np.asarray(candidates["lat_deg"])
    counts[healpy.ang2pix(NSIDE, lon_deg[::2], lat_deg[::2], lonlat=True)] += 25
    common = {"coord": "G", "dtype": np.float32, "overwrite": True}
    healpy.write_map(folder / "x.fits", counts, column_names=["COUNTS"], column_units="count", **common)
    # 0.09 galaxies an arcmin2 within 2 deg of each candidate, where the ring is
    parts = [
        np.column_stack([lon + rng.uniform(-2, 2, 5000) / np.cos(np.radians(lat)),
                         np.clip(lat + rng.uniform(-2, 2, 5000), -89.9, 89.9), rng.uniform(0.05, 0.5, 5000)])
        for lon, lat in zip(lon_deg, lat_deg, strict=True)
    ]  # fmt: skip
    parts += [
        np.column_stack([lon + rng.normal(0, 0.03, 30) / np.cos(np.radians(lat)), lat + rng.normal(0, 0.03, 30),
                         rng.normal(0.2, 0.035, 30)])
        for lon, lat in zip(lon_deg[::3], lat_deg[::3], strict=True)
    ]  # fmt: skip
    Table(np.concatenate(parts), names=("glon", "glat", "z_phot")).write(folder / "g.fits")
    names = [f"L{k}" for k in range(len(lon_deg[::4]))]
    Table({"name": names, "glon": lon_deg[::4], "glat": lat_deg[::4]}).write(folder / "mine.fits")
    return folder


def test_evidence_is_where_it_was_put(home: Path) -> None:
    run, options = (
        home / "run",
        EvidenceOptions(
            (str(home / "x.fits"),), (300.0,), (str(home / "g.fits"),), (f"MINE={home / 'mine.fits'}",), n_null_sets=5
        ),
    )
    found = measure_evidence(run, options)
    folder = RunFolder(run)
    evidence = folder.evidence
    assert evidence is not None and folder.candidates is not None
    assert evidence["NAME"].tolist() == folder.candidates["name"].tolist()
    n = len(evidence)
    bright, rich, listed = (np.arange(n) % k == 0 for k in (2, 3, 4))
    # 25 photons over a background of 2: S/N of 7 and more
    assert (evidence["X_SNR"][bright] > 5).all() and (evidence["X_PCHANCE"][bright] < 0.05).all()
    assert (evidence["X_SNR"][~bright] < 5).all()
    # 25 / 300 s at 1.2e-11: 1.0e-12 erg/s/cm2, and the Poisson background under it
    assert evidence["X_FLUX"][bright].mean() == pytest.approx(1.0e-12, rel=0.15)
    assert evidence["G_Z"][rich] == pytest.approx(0.2, abs=0.03)
    # 0.2 is MCMF's limit for ROSAT; n_null_sets = 5 gives no less than 0.5 / 5 to a candidate that has no equal
    assert (evidence["F_CONT"][rich] < 0.2).all() and np.median(evidence["F_CONT"][~rich]) > 0.2
    assert [text == "MINE" for text in evidence["COUNTERPARTS"]] == listed.tolist()
    table = folder.table("evidence.fits", "COUNTERPARTS")
    assert table is not None and len(table) == listed.sum() and (table["SEPARATION"] < 0.01).all()
    assert found.xray is not None and found.xray[0] == n and found.xray[1] >= bright.sum()
    assert found.xray[2] == pytest.approx(0.05, abs=0.03)  # of random positions 5 % lie below a chance of 5 %
    assert found.catalogues["MINE"][0] == listed.sum() and found.catalogues["MINE"][1] < 0.05
    lines = describe_evidence(found, run).splitlines()
    assert lines[0].startswith(f"X-rays: {found.xray[1]} of {n} candidates with chance below 0.05")
    # the dossier says it too
    name = str(evidence["NAME"][0])
    said = dict(list_evidence(folder, name))
    assert said["also listed in"] == "MINE" and said["galaxies"].startswith("z = 0.")
    assert said.items() <= dict(list_numbers(folder, 0)).items()
    with fits.open(run / "evidence.fits") as hdus:
        assert hdus["EVIDENCE"].header["TUNIT2"] == "deg" and "Li & Ma" in str(hdus["EVIDENCE"].header["TCOMM*"])


def test_seeds_repeat_and_the_record_names_the_stage(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(home / "run", run)
    options = EvidenceOptions((str(home / "x.fits"),), (300.0,), n_null_sets=2)
    assert measure_evidence(run, options) == measure_evidence(run, options)
    assert json.loads((run / "run.json").read_text())["stages"]["evidence"]["n_candidates"] > 0
    evidence = RunFolder(run).evidence
    assert evidence is not None and "G_Z" not in evidence.colnames  # no galaxies were given


def test_the_second_stage_comes_with_the_network_or_from_held_out_tiles(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(home / "run", run)
    options = EvidenceOptions((str(home / "x.fits"),), (300.0,), n_null_sets=1)
    record = json.loads((run / "run.json").read_text())
    record["config"] |= {"model": "szeek-2", "sky": {"simulate": False}}
    (run / "run.json").write_text(json.dumps(record))
    measure_evidence(run, options)
    stage = RunFolder(run).xray_purity
    evidence = RunFolder(run).evidence
    assert stage is not None and stage.made_from.startswith("szeek-2") and evidence is not None
    # measured of the candidates as they are in the catalogue
    purity = {row["name"]: row["purity"] for row in RunFolder(run).candidates or []}
    expected = stage.predict([purity[name] for name in evidence["NAME"]], evidence["X_SNR_FIXED"])
    assert evidence["PURITY_X"] == pytest.approx(expected, abs=1e-5)
    assert evidence["PURITY_X"][::2].mean() > evidence["PURITY_X"][1::2].mean() + 0.2  # photons were put at the first
    # a run that trained its network on a simulated sky fits its own, where enough is held out
    record["config"] |= {"model": "", "sky": {"simulate": True}}
    record["config"]["split"] = {"test_tiles": list(range(24)), "validation_tiles": list(range(24, 48))}
    (run / "run.json").write_text(json.dumps(record))
    candidates = RunFolder(run).candidates
    assert candidates is not None
    bright = candidates["lon_deg", "lat_deg"][::2]
    bright["y500_arcmin2"], bright["theta500_arcmin"], bright["m500_1e14msun"], bright["z"] = 1e-3, 5.0, 5.0, 0.2
    bright["name"], bright["survey"] = "H", "TRUTH"
    (run / "simulated").mkdir()
    bright.write(run / "simulated" / "truth.fits")
    measure_evidence(run, options)
    own, evidence = RunFolder(run).xray_purity, RunFolder(run).evidence
    assert own is not None and own.n_clusters == len(bright) and own != stage and evidence is not None
    assert evidence["PURITY_X"][::2].min() > evidence["PURITY_X"][1::2].max()  # X-rays tell them apart without fail


def test_what_is_missing_is_said_before_anything_is_read(home: Path) -> None:
    with pytest.raises(ValueError, match=r"no evidence is given, expected X-rays, galaxies or catalogues"):
        measure_evidence(home / "run", EvidenceOptions())
    with pytest.raises(ValueError, match=r"exposure of 'x.fits' is not given; give --exposure"):
        measure_evidence(home / "run", EvidenceOptions(("x.fits",)))
    with pytest.raises(ValueError, match="2 exposures are given for 3 maps, expected one for each"):
        measure_evidence(home / "run", EvidenceOptions(("a", "b", "c"), (300.0, 200.0)))
    result = CliRunner().invoke(
        app, ["evidence", str(home / "run"), "--xray", str(home / "none.fits"), "--exposure", "9"]
    )
    assert isinstance(result.exception, FileNotFoundError)
