"""The stacking stage on a small painted sky: its files hold what was painted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from szeek.cli import app
from szeek.cli.options import named_numbers
from szeek.cli.stack import stack_maps
from szeek.inputs.catalogues import read_catalogue
from szeek.inputs.instrument import read_instrument
from szeek.physics.scaling import electron_temperature_kev
from szeek.physics.spectra import spectral_templates
from szeek.show.figures.stackfigures import draw_stack_folder
from szeek.sky.projection import sample_field
from szeek.sky.skymaps import Band, SkyMaps
from szeek.stack import stacks
from szeek.stack.catalogue import StackMap, stack_catalogue
from szeek.stack.products import FluxMap, StackOptions, measure_spectrum, read_stacks, stack_sources

NSIDE = 512
EDGES = (0, 8, 16, 30)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], Table, np.ndarray]:
    """60 sources whose y goes with the odds of p; two bands, the first with half the y, the second with none."""
    rng = np.random.default_rng(0)
    n_pix = 12 * NSIDE**2
    lat_deg = np.degrees(np.arcsin(rng.uniform(0.3, 0.9, 60)))
    sources = Table({"lon_deg": rng.uniform(0, 360, 60), "lat_deg": lat_deg, "p": rng.uniform(0.1, 0.9, 60)})
    y_map = rng.normal(0, 1e-7, n_pix).astype(np.float32)
    for row in sources:
        centre = healpy.ang2vec(row["lon_deg"], row["lat_deg"], lonlat=True)
        ipix = healpy.query_disc(NSIDE, centre, np.radians(1))
        radius = np.degrees(healpy.rotator.angdist(centre, healpy.pix2vec(NSIDE, ipix))) * 60
        y_map[ipix] += 2e-6 * row["p"] / (1 - row["p"]) * np.exp(-4 * np.log(2) * (radius / 14) ** 2)
    noise = rng.normal(0, 1e-7, (n_pix, 2)).astype(np.float32)
    noise[:, 0] += 0.5 * y_map
    bands = SkyMaps(noise, np.ones(n_pix, bool), tuple(Band(n, 100.0, 10.0, "K_CMB") for n in ("100", "143")))
    dust = 1 / (0.1 + np.abs(np.sin(np.radians(healpy.pix2ang(64, np.arange(12 * 64**2), lonlat=True)[1]))))
    folder = tmp_path_factory.mktemp("run")
    files = stack_sources(
        {"y": y_map, "bands": bands}, sources, dust, folder,
        StackOptions(size=60, n_p_bins=4, n_null_sets=3, median=True, edges_arcmin=EDGES),
        flux_map=FluxMap("y", {"PSZ2": sources[:20]}),
    )  # fmt: skip
    assert sorted(path.name for path in folder.iterdir()) == ["profiles.ecsv", "scaling.ecsv", "stacks.fits"]
    return files, sources, y_map


def test_images_are_those_of_each_map(run: tuple[dict[str, Path], Table, np.ndarray]) -> None:
    files, sources, y_map = run
    images = read_stacks(files["stacks"])
    assert list(images) == ["y", "bands: 100", "bands: 143"]
    assert list(images["y"]) == ["mean", "median", "error", "block_error", "null"]
    y_peak = images["y"]["mean"][29:31, 29:31].mean()
    # healpy's value at the sources, less 4 ln 2 (1.2 / 14)^2 = 2 %: the four pixels lie 1.2 arcmin from the centre
    at_sources = healpy.get_interp_val(y_map, sources["lon_deg"], sources["lat_deg"], lonlat=True).mean()
    assert y_peak == pytest.approx(0.98 * at_sources, rel=0.01)
    assert images["bands: 100"]["mean"][29:31, 29:31].mean() == pytest.approx(0.5 * y_peak, rel=0.05)
    assert np.abs(images["bands: 143"]["mean"]).max() < 6 * images["bands: 143"]["error"].mean()
    for entry in images.values():
        assert np.abs(entry["null"]).max() < 0.1 * y_peak
        assert entry["mean"].shape == (60, 60)
    with fits.open(files["stacks"]) as hdus:
        assert hdus["Y_MEAN"].header["NSOURCE"] == 60
        table = Table(hdus["SIGNIFICANCE"].data)
    assert table["map"].tolist() == ["map0", "100", "143"]
    assert table["null_sigma"][0] > 5
    assert (table["p_value"][:2] < 1e-6).all()
    assert table["p_value"][2] > 1e-3


def test_profiles_rise_with_p(run: tuple[dict[str, Path], Table, np.ndarray]) -> None:
    profiles = Table.read(run[0]["profiles"])
    y = profiles[profiles["maps"] == "y"]
    centre = [float(y[y["sample"] == f"p bin {k}"]["mean"][0]) for k in (1, 2, 3, 4)]
    assert np.all(np.diff(centre) > 0)
    everything = y[y["sample"] == "all"]
    assert np.all(np.diff(everything["mean"]) < 0)
    null = y[y["sample"] == "null"]
    assert np.all(np.abs(null["mean"]) < 5 * null["error"] + 1e-8)
    assert len(profiles) == 3 * 3 * 6  # maps, rings, samples


def test_fluxes_and_their_law(run: tuple[dict[str, Path], Table, np.ndarray]) -> None:
    files = run[0]
    scaling = Table.read(files["scaling"])
    assert scaling["sample"].tolist() == ["p bin 1", "p bin 2", "p bin 3", "p bin 4", "PSZ2"]
    assert np.all(np.diff(scaling["flux"][:4]) > 0)
    assert scaling["n"].tolist() == [15, 15, 15, 15, 20]
    assert np.isnan(scaling["p_mean"][4])
    # flux goes with the odds: the slope of ln Y against logit p is 1
    law = scaling.meta["law"]
    assert abs(law["slope"] - 1) < 4 * law["slope_error"]


def test_injections_correct_the_law(tmp_path: Path) -> None:
    """Found injections twice as bright as they are, at any p: the law's amplitude halves and its slope stays."""
    rng = np.random.default_rng(4)
    lat_deg = np.degrees(np.arcsin(rng.uniform(-0.9, 0.9, 90)))
    sources = Table({"lon_deg": rng.uniform(0, 360, 90), "lat_deg": lat_deg, "p": rng.uniform(0.1, 0.9, 90)})
    y_map = np.zeros(12 * 256**2, np.float32)
    for row in sources:
        centre = healpy.ang2vec(row["lon_deg"], row["lat_deg"], lonlat=True)
        y_map[healpy.query_disc(256, centre, np.radians(0.2))] += 1e-6 * (1 + row["p"])
    injections = Table({"p": np.linspace(0.1, 0.9, 60), "flux": np.full(60, 2.0), "flux_true": np.ones(60)})
    options = StackOptions(size=30, n_p_bins=3, n_null_sets=2, edges_arcmin=(0, 8, 14))
    tables = {}
    for name, given in (("with", injections), ("without", None), ("too few", injections[:1])):
        files = stack_sources(
            {"y": y_map}, sources, np.ones(12 * 32**2), tmp_path / name, options,
            flux_map=FluxMap("y", injections=given),
        )  # fmt: skip
        tables[name] = Table.read(files["scaling"])
    law, plain = tables["with"].meta["law"], tables["with"].meta["law_uncorrected"]
    assert law["amplitude"] == pytest.approx(plain["amplitude"] / 2, rel=1e-3)
    assert law["slope"] == pytest.approx(plain["slope"], rel=1e-2)
    assert tables["with"]["bias"].tolist() == [2.0] * 3
    assert tables["with"].meta["correction"] == "selection bias, with 60 injected clusters that were found"
    assert tables["without"].meta["law"] == plain
    assert tables["without"].meta["correction"].startswith("none: the run has no injections; `szeek selection`")
    assert tables["too few"].meta["correction"].startswith("none: 1 injections were detected")
    assert tables["too few"].meta["law"] == plain


def test_each_map_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen maps in one array, twelve sources, three null sets, two bins of p: every position is sampled once."""
    rng = np.random.default_rng(3)
    sky = rng.standard_normal((12 * 32**2, 16)).astype(np.float32)
    sources = Table({"lon_deg": rng.uniform(0, 360, 12), "lat_deg": rng.uniform(30, 60, 12), "p": rng.random(12)})
    sampled = []

    def sample(maps: np.ndarray, *where: float) -> np.ndarray:
        sampled.append((maps.shape[1], *where[:2]))
        return sample_field(maps, *where)

    monkeypatch.setattr(stacks, "sample_field", sample)
    files = stack_sources(
        {"all": sky}, sources, np.ones(12 * 32**2), tmp_path,
        StackOptions(size=40, n_p_bins=2, n_null_sets=3, edges_arcmin=EDGES),
    )  # fmt: skip
    assert len(sampled) == len(set(sampled)) == 12 * (1 + 3)
    assert {n_map for n_map, *_ in sampled} == {16}
    profiles = Table.read(files["profiles"])
    assert set(profiles["sample"]) == {"all", "null", "p bin 1", "p bin 2"}
    # errors of both kinds, and the rings' covariances, whose diagonals they are
    rings = profiles[(profiles["sample"] == "p bin 2") & (profiles["map"] == "map7")]
    for error, covariance in (("error", "covariance"), ("block_error", "block_covariance")):
        np.testing.assert_allclose(np.diag(rings[covariance]), rings[error] ** 2)


def test_bad_input_is_refused(tmp_path: Path) -> None:
    sources = Table({"lon_deg": [1.0], "lat_deg": [50.0], "p": [0.5]})
    sky, dust = np.zeros(12 * 16**2, np.float32), np.ones(12 * 16**2)
    with pytest.raises(ValueError, match="0 sources and 1 maps"):
        stack_sources({"y": sky}, sources[:0], dust, tmp_path)
    with pytest.raises(ValueError, match="flux_map is 'z', expected one of y"):
        stack_sources({"y": sky}, sources, dust, tmp_path, flux_map=FluxMap("z"))
    with pytest.raises(ValueError, match="n_null_sets is 1, expected at least 2"):
        stack_sources({"y": sky}, sources, dust, tmp_path, StackOptions(n_null_sets=1))
    assert list(tmp_path.iterdir()) == []


def test_any_maps_at_any_catalogue(tmp_path: Path) -> None:
    """Ten sources of a table without p, in a map from a file: the plateau comes back, and the nulls are flat."""
    nside = 256
    rng = np.random.default_rng(2)
    values = rng.normal(0, 0.01, 12 * nside**2).astype(np.float32)
    sources = Table({"lon_deg": np.arange(10) * 30.0 + 20, "lat_deg": np.linspace(30, 60, 10)})
    for row in sources:
        values[healpy.query_disc(nside, healpy.ang2vec(*row, lonlat=True), np.radians(0.3))] += 1.0
    file = tmp_path / "map.fits"
    healpy.write_map(file, values, coord="G", column_units="K", dtype=np.float32)
    catalogue = tmp_path / "mine.csv"
    catalogue.write_text("NAME,GLON,GLAT\n" + "".join(f"S{k},{lon},{lat}\n" for k, (lon, lat) in enumerate(sources)))
    (tmp_path / "out").mkdir()
    for name in ("scaling.ecsv", "spectrum.ecsv"):  # of an earlier stack of other maps: not left beside this one
        (tmp_path / "out" / name).write_text("old")
    listed = read_catalogue(catalogue, "MINE")
    options = StackOptions(size=60, n_p_bins=1, n_null_sets=2)
    folder = stack_catalogue(listed, {"mine": StackMap(file, fwhm_arcmin=5.0)}, tmp_path / "out", options)
    assert sorted(path.name for path in folder.iterdir()) == ["profiles.ecsv", "stacks.fits", "stacks.json"]
    images = read_stacks(folder / "stacks.fits")["mine"]
    assert images["mean"][29:31, 29:31].mean() == pytest.approx(1.0, abs=0.05)
    assert np.abs(images["null"]).max() < 0.2
    record = json.loads((folder / "stacks.json").read_text())
    assert record["maps"]["mine"] == {"bands": ["mine"], "units": ["K"], "fwhm_arcmin": [5.0], "nside": nside}
    assert (record["n_source"], record["n_listed"]) == (10, 10)
    assert [path.name for path in draw_stack_folder(folder)] == ["stacks.png"]
    with pytest.raises(ValueError, match=r"the beam of .*map\.fits' is stated nowhere"):
        stack_catalogue(listed, {"mine": file}, tmp_path / "out")
    with pytest.raises(ValueError, match="no map is given to stack"):
        stack_catalogue(listed, {}, tmp_path / "out")


def test_lensing_of_a_sample_is_significant_where_mass_was_painted(tmp_path: Path) -> None:
    """Discs of kappa 0.03 at 40 places, in noise of 0.05 a pixel: NSIDE 256, the first ring a disc of 16 arcmin.

    A mean over 804 arcmin^2 of pixels of 189 arcmin^2 has 0.05 / sqrt(804 / 189) a place and 0.0038 over 40: 7.8
    sigma, 7.0 against four null sets; a little less, for what is interpolated between pixels shares their noise.
    Where nothing was painted there is none.
    """
    rng = np.random.default_rng(6)
    kappa = rng.normal(0, 0.05, 12 * 256**2).astype(np.float32)
    lat_deg = np.degrees(np.arcsin(rng.uniform(0.4, 0.9, 40)))
    sample = Table({"lon_deg": np.arange(40) * 9.0, "lat_deg": lat_deg})
    for row in sample:
        kappa[healpy.query_disc(256, healpy.ang2vec(*row, lonlat=True), np.radians(0.5))] += 0.03
    healpy.write_map(tmp_path / "kappa.fits", kappa, coord="G", column_units="kappa", dtype=np.float32)
    options = StackOptions(size=120, n_p_bins=1, n_null_sets=4, edges_arcmin=(0, 16, 30))
    elsewhere = Table({"lon_deg": sample["lon_deg"], "lat_deg": -lat_deg})
    sigma, value = [], []  # of the first ring
    for name, places in (("there", sample), ("elsewhere", elsewhere)):
        given = {"kappa": StackMap(tmp_path / "kappa.fits", fwhm_arcmin=0.0)}
        folder = stack_catalogue(places, given, tmp_path / name, options)
        with fits.open(folder / "stacks.fits") as hdus:
            sigma.append(float(hdus["SIGNIFICANCE"].data["null_sigma"][0]))
        profile = Table.read(folder / "profiles.ecsv")
        value.append(float(profile["mean"][(profile["maps"] == "kappa") & (profile["sample"] == "all")][0]))
    assert value[0] == pytest.approx(0.03, abs=3 * 0.0038) and abs(value[1]) < 3 * 0.0038
    assert 5 < sigma[0] < 10 and abs(sigma[1]) < 3, sigma


def plateau(lon_deg: float, height: float) -> np.ndarray:
    """A map that is 0 but for a disc of 22 arcmin at latitude 40, without what lies more than 10 arcmin south."""
    values = np.zeros(12 * NSIDE**2, np.float32)
    disc = healpy.query_disc(NSIDE, healpy.ang2vec(lon_deg, 40.0, lonlat=True), np.radians(22 / 60))
    values[disc[healpy.pix2ang(NSIDE, disc, lonlat=True)[1] > 40 - 10 / 60]] = height
    return values


def test_halves_limits_cuts_weights_and_rotated_nulls(tmp_path: Path) -> None:
    """Three plateaus of 1, 2 and 4, and one that is cut out; the halves differ by a tenth."""
    lon_deg = [20.0, 100.0, 180.0, 260.0]
    values = sum(plateau(lon, height) for lon, height in zip(lon_deg, (1.0, 2.0, 4.0, 8.0), strict=True))
    for name, factor in (("first", 1.1), ("last", 0.9)):
        healpy.write_map(tmp_path / f"{name}.fits", factor * values, coord="G", dtype=np.float32)
    sources = Table({"name": list("ABCD"), "lon_deg": lon_deg, "lat_deg": [40.0] * 4, "richness": [20.0, 40, 60, 80]})
    options = StackOptions(size=60, n_p_bins=1, n_null_sets=2, null_kind="rotated")
    halves = [tmp_path / "first.fits", tmp_path / "last.fits"]
    maps = {"y": StackMap(halves, "y", 10.0)}
    cut = [(sources[3:], 120.0)]
    folder = stack_catalogue(sources, maps, tmp_path / "all", options, cut=cut)
    images = read_stacks(folder / "stacks.fits")
    centre = {name: float(image["mean"][28:32, 28:32].mean()) for name, image in images.items()}
    assert centre["y: y"] == pytest.approx(7 / 3, rel=1e-3)  # (1 + 2 + 4) / 3
    assert centre["y: y_noise"] == pytest.approx(0.1 * 7 / 3, rel=1e-3)  # (1.1 - 0.9) / 2 of it
    assert np.abs(images["y: y"]["null"]).max() == 0  # 120 and 240 deg further in longitude there is nothing
    record = json.loads((folder / "stacks.json").read_text())
    assert record["cut_out"] == {"y": ["1 source, 120 arcmin"]}
    richer = stack_catalogue(
        sources, maps, tmp_path / "rich", replace(options, weights="richness", oriented=True), cut=cut,
        least={"richness": 30.0},
    )  # fmt: skip
    mean = read_stacks(richer / "stacks.fits")["y: y"]["mean"]
    assert mean[28:32, 28:32].mean() == pytest.approx((40 * 2 + 60 * 4) / 100, rel=1e-3)
    # Galactic north up: 14 arcmin north of the centre as bright as there, 18 arcmin south nothing
    assert mean[37:39, 28:32].mean() == pytest.approx(3.2, rel=1e-3)
    assert mean[18:20, 28:32].mean() == pytest.approx(0, abs=0.05)
    for least, changed, message in (
        ({"mass": 1.0}, {}, "the catalogue has no column 'mass', expected one of "),
        ({}, {"weights": "mass"}, "the catalogue has no column 'mass' for weights"),
        ({"richness": 100.0}, {}, "none of the 4 sources with richness > 100 lies inside all of y"),
        ({}, {"null_kind": "none"}, "null_kind is 'none', expected 'matched' or 'rotated'"),
    ):
        with pytest.raises(ValueError, match=message):
            stack_catalogue(sources, maps, tmp_path / "wrong", replace(options, **changed), cut=cut, least=least)
    with pytest.raises(ValueError, match="3 files are given for the map 'y', expected one, or two halves"):
        stack_catalogue(sources, {"y": [*halves, "x"]}, tmp_path / "wrong")


def test_sources_without_p_have_no_law_of_p(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    sky = SkyMaps(rng.normal(size=(12 * 64**2, 1)).astype(np.float32), np.ones(12 * 64**2, bool), (
        Band("y", 0.0, 10.0, "y"),))  # fmt: skip
    sources = Table({"lon_deg": rng.uniform(0, 360, 40), "lat_deg": rng.uniform(40, 60, 40), "snr": np.full(40, 5.0)})
    for listed in (sources, sources["lon_deg", "lat_deg"]):
        folder = stack_catalogue(listed, {"y": sky}, tmp_path, StackOptions(size=32, n_p_bins=1, n_null_sets=2))
        scaling = Table.read(folder / "scaling.ecsv")
        assert scaling["sample"].tolist() == ["p bin 1", "NULL"]
        assert "law" not in scaling.meta


def test_fitted_y_of_few_sources_beside_a_y_map() -> None:
    """Five sources in bands of pure tSZ and noise, and a y map of the same sky: fit and map agree within errors that
    know their common noise; a y map that is 30 % too bright does not."""
    instrument = read_instrument("planck-hfi")
    rng = np.random.default_rng(4)
    lon_deg, lat_deg = np.arange(20.0, 360.0, 70.0), np.full(5, 40.0)
    y_map = np.zeros(12 * NSIDE**2)
    for where in zip(lon_deg, lat_deg, strict=True):
        centre = healpy.ang2vec(*where, lonlat=True)
        ipix = healpy.query_disc(NSIDE, centre, np.radians(1.5))
        radius = np.degrees(healpy.rotator.angdist(centre, healpy.pix2vec(NSIDE, ipix))) * 60
        y_map[ipix] += 1e-4 * np.exp(-4 * np.log(2) * (radius / 12) ** 2)
    tsz = spectral_templates(instrument, ["tsz"])[0]
    noise = rng.normal(0, 2e-6, (y_map.size, 6)) * np.abs(tsz)
    beams = tuple(replace(band, fwhm_arcmin=12.0) for band in instrument.bands)
    bands = SkyMaps((y_map[:, None] * tsz + noise).astype(np.float32), np.ones(y_map.size, bool), beams)
    # the y map shares the bands' noise at 143 GHz
    own = (y_map + noise[:, 1] / tsz[1]).astype(np.float32)
    sources = Table({"lon_deg": lon_deg, "lat_deg": lat_deg})
    nulls = Table({"lon_deg": rng.uniform(0, 360, 200), "lat_deg": rng.uniform(-70, -30, 200)})
    settings = {"radius_arcmin": 20.0, "background_arcmin": (40.0, 60.0)}
    beam = (Band("y", 0.0, 12.0, "y"),)
    own_map, bright_map = (SkyMaps(factor * own[:, None], bands.footprint, beam) for factor in (1.0, 1.3))
    table = measure_spectrum(bands, sources, nulls, instrument, y_map=own_map, **settings)
    found = table.meta["y_map"]
    assert table.meta["covariance"] == "nulls"
    # 2 pi sigma^2 1e-4 with sigma = 12 / 2.355 and the pixels' smoothing: 0.0163 arcmin^2, all of it within 20 arcmin
    assert found["flux"] == pytest.approx(0.0163, rel=0.03)
    assert abs(found["difference_sigma"]) < 3
    # without what is not tSZ the flux is that of 0.0163 arcmin^2 in every band
    assert np.all(np.abs(table["rest"] - 0.0163 * tsz) < 3 * table["rest_error"] + 0.03 * 0.0163 * np.abs(tsz))
    assert np.all(table["rest_error"] <= np.hypot(table["error"], table.meta["fit"]["tsz"]["error"] * np.abs(tsz)))
    assert found["difference_error"] < 1.5 * found["error"]
    brighter = measure_spectrum(bands, sources, nulls, instrument, y_map=bright_map, **settings)
    assert brighter.meta["y_map"]["difference_sigma"] < -5


def test_spectrum_of_clusters_of_known_mass_is_relativistic() -> None:
    """40 clusters of 9e14 Msun at z = 0.1 shine as gas of 8.6 keV does. With their masses the fit gives their flux;
    without, it is low, as hot gas shines less per y."""
    instrument = read_instrument()
    rng = np.random.default_rng(7)
    sources = Table({"lon_deg": np.arange(40) * 9.0, "lat_deg": np.tile([35.0, 55.0], 20)})
    t_e_kev = float(electron_temperature_kev(9.0, 0.1))
    assert t_e_kev == pytest.approx(5 * (9 * 1.047 / 3.84) ** (1 / 1.71), rel=0.03)  # E(0.1) = 1.047
    y = np.zeros(12 * 256**2, np.float32)
    for row in sources:
        y[healpy.query_disc(256, healpy.ang2vec(*row, lonlat=True), np.radians(0.2))] = 1e-4
    values = y[:, None] * spectral_templates(instrument, ["tsz"], t_e_kev=t_e_kev)[0]
    values = values + rng.normal(0, 1e-8, values.shape) * instrument.unit_per_kcmb
    bands = SkyMaps(values.astype(np.float32), np.ones(y.size, bool), tuple(
        replace(band, fwhm_arcmin=1.0) for band in instrument.bands))  # fmt: skip
    nulls = Table({"lon_deg": rng.uniform(0, 360, 200), "lat_deg": rng.uniform(-70, -30, 200)})
    settings = {"radius_arcmin": 25.0, "background_arcmin": (40.0, 60.0)}
    cold = measure_spectrum(bands, sources, nulls, instrument, **settings)
    assert cold.meta["t_e_kev"] == 0
    sources["m500_1e14msun"], sources["z"] = 9.0, 0.1
    hot = measure_spectrum(bands, sources, nulls, instrument, **settings)
    assert hot.meta["t_e_kev"] == pytest.approx(t_e_kev)
    # discs of 12 arcmin, of which pixels of 13.7 arcmin make what they make
    ipix = [healpy.query_disc(256, healpy.ang2vec(*row, lonlat=True), np.radians(0.2)).size for row in sources[
        "lon_deg", "lat_deg"]]  # fmt: skip
    flux = 1e-4 * np.mean(ipix) * healpy.nside2pixarea(256, degrees=True) * 3600
    assert hot.meta["fit"]["tsz"]["amplitude"] == pytest.approx(flux, rel=0.03)
    assert cold.meta["fit"]["tsz"]["amplitude"] < 0.95 * hot.meta["fit"]["tsz"]["amplitude"]


def test_three_bands_of_another_instrument() -> None:
    """ACT's three bands cannot tell radio sources from dust: tSZ, dust and CMB are fitted, and tSZ comes back."""
    instrument = read_instrument("act-dr6")
    rng = np.random.default_rng(8)
    sources = Table({"lon_deg": np.arange(40) * 9.0, "lat_deg": np.tile([35.0, 55.0], 20)})
    nulls = Table({"lon_deg": rng.uniform(0, 360, 200), "lat_deg": rng.uniform(-70, -30, 200)})
    tsz, dust = spectral_templates(instrument, ["tsz", "dust"])
    values = rng.normal(0, 1e-6, (12 * 256**2, 3))
    for row in sources:
        values[healpy.query_disc(256, healpy.ang2vec(*row, lonlat=True), np.radians(0.2))] += 1e-4 * tsz + 0.5 * dust
    bands = SkyMaps(values.astype(np.float32), np.ones(12 * 256**2, bool), instrument.bands)
    found = measure_spectrum(bands, sources, nulls, instrument, radius_arcmin=20.0, background_arcmin=(40.0, 60.0))
    assert list(found.meta["fit"]) == ["tsz", "dust", "cmb"] and found.meta["n_freedom"] == 0
    ipix = [healpy.query_disc(256, healpy.ang2vec(*row, lonlat=True), np.radians(0.2)).size for row in sources]
    area = np.mean(ipix) * healpy.nside2pixarea(256, degrees=True) * 3600
    for name, amplitude in (("tsz", 1e-4), ("dust", 0.5)):
        fit = found.meta["fit"][name]
        assert abs(fit["amplitude"] - amplitude * area) < 4 * fit["error"] + 0.03 * amplitude * area


def test_words_of_the_command() -> None:
    files = ["hfi_{band}.fits", "y=first.fits", "y=last.fits", "kappa=k.fits", "143x=one.fits"]
    maps = stack_maps(files, ["143=K_CMB", "y=y"], ["y=10"], ["bands=mask.fits"])
    assert list(maps) == ["bands", "y", "kappa", "143x"]
    assert maps["bands"].source["143"] == "hfi_143.fits" and len(maps["bands"].source) == 6
    assert (maps["bands"].unit, maps["bands"].mask) == ({"143": "K_CMB"}, "mask.fits")
    assert maps["y"] == StackMap(["first.fits", "last.fits"], "y", 10.0)
    assert maps["kappa"] == StackMap("k.fits")
    of_act = stack_maps(["act_{band}.fits"], instrument="act-dr6")
    assert dict(of_act["bands"].source) == {band: f"act_{band}.fits" for band in ("f090", "f150", "f220")}
    # one band alone is a map as any other
    assert stack_maps(["143=one.fits"]) == {"143": StackMap("one.fits")}
    for option, value in (("unit", "x=y"), ("beam", "x=1"), ("mask", "x=mask.fits")):
        with pytest.raises(ValueError, match=f"--{option} names the map 'x', expected one of y"):
            stack_maps(["y=y.fits"], **{option: [value]})
    assert named_numbers("--cut", ["a=b.csv=90", "c.csv=2.5"]) == {"a=b.csv": 90.0, "c.csv": 2.5}
    for wrong in ("coma.csv", "=90", "coma.csv=much"):
        with pytest.raises(ValueError, match=f"--cut '{wrong}' is not NAME=NUMBER"):
            named_numbers("--cut", [wrong])


def test_the_command_says_how_many_sources_it_stacked(monkeypatch, tmp_path, capsys):
    """Of a list of the whole sky few may lie in one's maps."""
    (tmp_path / "stacks.json").write_text('{"n_source": 2, "n_listed": 235}')
    monkeypatch.setattr("szeek.inputs.catalogues.read_catalogue", lambda *_, **__: Table())
    monkeypatch.setattr("szeek.stack.catalogue.stack_catalogue", lambda *_, **__: tmp_path)
    monkeypatch.setattr("szeek.show.figures.stackfigures.draw_stack_folder", lambda _: [tmp_path / "stacks.png"])
    app(["stack", "list.csv", "--map", "y=y.fits"], standalone_mode=False)
    assert "2 of 235 listed sources are asked for and lie inside all maps" in capsys.readouterr().out
