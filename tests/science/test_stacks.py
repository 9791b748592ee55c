"""Stacks give back what was painted; then the real Coma field. Errors and nulls are tested in the unit tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table

from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.simulate.components.clusters import paint_y
from szeek.sky.skymaps import SkyMaps
from szeek.stack.catalogue import StackMap, read_maps, stack_catalogue
from szeek.stack.products import StackOptions
from szeek.stack.profiles import measure_fluxes
from szeek.stack.stacks import Field, stack_at

Y5R500_PER_Y500 = 1.79  # Arnaud et al. (2010), cylindrical within 5 R500


def random_positions(rng: np.random.Generator, n: int) -> Table:
    return Table({"lon_deg": rng.uniform(0, 360, n), "lat_deg": np.degrees(np.arcsin(rng.uniform(-1, 1, n)))})


def test_stacked_flux_is_the_painted_one() -> None:
    """300 clusters of known Y500, 10 arcmin beam, in noise ten times as large as their peaks' tenth: the mean flux
    within 25 arcmin is 1.79 Y500 within 3 %, source by source and in the stack."""
    rng = np.random.default_rng(1)
    clusters = random_positions(rng, 300)
    clusters["theta500_arcmin"] = rng.uniform(1, 3, 300)
    clusters["y500_arcmin2"] = 1e-3 * rng.lognormal(0, 0.5, 300)
    y_map = paint_y(clusters, 1024, 10.0)
    y_map += rng.normal(0, 1e-6, y_map.size).astype(np.float32)
    truth = Y5R500_PER_Y500 * np.asarray(clusters["y500_arcmin2"])

    flux = measure_fluxes(y_map, clusters, 25.0, (35.0, 50.0))[:, 0]
    error = flux.std() / np.sqrt(300)
    assert error < 0.05 * truth.mean()
    assert flux.mean() / truth.mean() == pytest.approx(1, abs=0.03)
    # each cluster's flux follows its own truth
    slope, intercept = np.polyfit(truth, flux, 1)
    assert slope == pytest.approx(1, abs=0.03)
    assert abs(intercept) < 0.03 * truth.mean()
    # the same in the stacked image
    stack = stack_at(y_map, clusters, Field(80, background_arcmin=(40.0, 60.0)))
    inside = stack.radius_arcmin < 25
    area_arcmin2 = np.count_nonzero(inside) * stack.pixel_arcmin**2
    assert stack.mean[inside, 0].mean() * area_arcmin2 / truth.mean() == pytest.approx(1, abs=0.03)
    # and a shuffled sky has none
    elsewhere = measure_fluxes(y_map, random_positions(rng, 300), 25.0, (35.0, 50.0))[:, 0]
    assert abs(np.median(elsewhere)) < 0.05 * truth.mean()


@pytest.fixture(scope="module")
def coma_maps(real_data: Path) -> dict[str, SkyMaps]:
    """The six HFI bands, and MILCA: mean of its halves and half their difference."""
    folder = real_data / "maps" / "coma"
    files = {band: folder / f"hfi_{band}_coma.fits" for band in read_instrument().band_names}
    halves = [folder / f"milca_{name}_coma.fits" for name in ("first", "last")]
    return read_maps({"bands": StackMap(files), "y": StackMap(halves, "y", 10.0)})


def stack_around_coma(
    maps: dict[str, SkyMaps], catalogue: Path, folder: Path, n_null_sets: int, **settings: Any
) -> tuple[dict[str, Any], Table, Table]:
    """What went in, the spectrum, and the profiles of all sources, in the field without 1.5 deg about Coma itself."""
    coma = Table({"lon_deg": [57.80], "lat_deg": [88.00]})
    options = StackOptions(size=60, n_p_bins=1, n_null_sets=n_null_sets)
    stack_catalogue(read_catalogue(catalogue), maps, folder, options, cut=[(coma, 90.0)], **settings)
    profiles = Table.read(folder / "profiles.ecsv")
    record = json.loads((folder / "stacks.json").read_text())
    return record, Table.read(folder / "spectrum.ecsv"), profiles[profiles["inner_arcmin"] == 0]


def centre(rows: Table, name: str, sample: str) -> tuple[float, float]:
    row = rows[(rows["map"] == name) & (rows["sample"] == sample)][0]
    return float(row["mean"]), float(row["error"])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("catalogue", "least", "n_source"),
    [
        ("redmapper_sdss_dr8_v6.3.csv", {"richness": 30.0}, 155),
        ("redmapper_sdss_dr8_v6.3.csv", {"richness": 50.0}, 42),
        ("mcxc.fits", {}, 15),
    ],
)
def test_clusters_in_real_milca_and_bands(
    real_data: Path, coma_maps: dict[str, SkyMaps], tmp_path: Path, catalogue: str, least: dict[str, float],
    n_source: int,
) -> None:  # fmt: skip
    """Catalogued clusters of the Coma field stand out in the real y map; half the difference of its halves, and
    matched positions, do not. The tSZ flux fitted to the six bands agrees with MILCA's."""
    record, spectrum, rows = stack_around_coma(
        coma_maps, real_data / "catalogues" / catalogue, tmp_path, 10, least=least
    )
    assert record["n_source"] == n_source
    y, null = centre(rows, "y", "all"), centre(rows, "y", "null")
    print(f"{catalogue} {least}: {record['n_source']} sources, y {y[0]:.2e} +- {y[1]:.1e}, nulls {null[0]:.1e} +- "
          f"{null[1]:.1e} each; {spectrum.meta['fit']['tsz']} {spectrum.meta['y_map']}")  # fmt: skip
    # in the scatter of null sets, each of as many positions, which ten sets know to 1 / sqrt(18), 24 %: 8.1, 6.4 and
    # 5.3 sigma; the largest sample, at 6.6 sigma, in that of its sources as well
    assert y[0] > 4 * y[1] or n_source < 155
    assert y[0] - null[0] > 4 * null[1] * np.sqrt(1 + 1 / 10)
    assert abs(null[0]) < 3 * null[1] / np.sqrt(10)
    noise, error = centre(rows, "y_noise", "all")
    assert abs(noise) < 3 * error
    assert abs(spectrum.meta["y_map"]["difference_sigma"]) < 2


@pytest.mark.realdata
def test_tsz_spectrum_at_psz2_positions_agrees_with_milca(
    real_data: Path, coma_maps: dict[str, SkyMaps], tmp_path: Path
) -> None:
    """The confirmed, isolated PSZ2 clusters of the Coma field: six bands fitted with tSZ, dust, radio and CMB give
    the y of MILCA."""
    psz2 = real_data / "catalogues" / "HFI_PCCS_SZ-union_R2.08.fits"
    record, spectrum, _ = stack_around_coma(
        coma_maps, psz2, tmp_path, 100, least={"z": 0.0}, extent_arcmin=6.0
    )
    fit, own = spectrum.meta["fit"], spectrum.meta["y_map"]
    print(record["n_source"], fit, own, spectrum.meta["chi2"])
    assert record["n_source"] == 3
    assert fit["tsz"]["sigma"] > 3
    assert abs(own["difference_sigma"]) < 2
    assert spectrum.meta["p_value"] > 1e-3
    # the decrement itself, CMB taken off with 217 GHz: negative at 143 GHz
    assert spectrum["flux"][1] - spectrum["flux"][2] < 0
