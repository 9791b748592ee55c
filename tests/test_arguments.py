"""Public functions on what people pass: big-endian, masked, with units, memory-mapped, lists, QTables, records."""

from __future__ import annotations

import astropy.units as u
import healpy
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, QTable, Table
from astropy.utils.masked import Masked

import szeek
from szeek.arguments import plain_array, plain_mask, plain_table
from szeek.assess.match import chance_rate, match
from szeek.assess.recovery import measure_recovery
from szeek.inputs.catalogues import read_catalogue, select_clusters, separation_arcmin, write_catalogue
from szeek.measure.candidates import make_candidates, name_candidates
from szeek.measure.identify import identify_sources
from szeek.measure.pairs import truth_radius
from szeek.measure.photometry import measure_sources
from szeek.sky.skymaps import Band, SkyMaps
from szeek.stack.cutting import cut_maps

NSIDE = 32


@pytest.fixture(scope="module")
def p_map():
    """Sources at twenty places of random height, on a floor."""
    rng = np.random.default_rng(3)
    p = np.full(12 * NSIDE**2, 0.01, np.float32)
    p[rng.choice(p.size, 20, replace=False)] = rng.uniform(0.2, 0.9, 20)
    return p


def ways_to_hold(values):
    """The same numbers as other programs hand them on."""
    return {
        "big-endian": values.astype(values.dtype.newbyteorder(">")),
        "float64": values.astype(np.float64),
        "list": values.tolist(),
        "strided": np.repeat(values, 2)[::2],
        "read-only": np.frombuffer(values.tobytes(), values.dtype),
        "Quantity": values * u.dimensionless_unscaled,
        "percent": (values * 100) * u.percent,
        "column": Table({"p": values})["p"],
        "masked, nothing masked": np.ma.array(values),
    }


@pytest.mark.parametrize("kind", ways_to_hold(np.zeros(1, np.float32)))
def test_detect_sources_on_other_arrays(p_map, kind):
    right = szeek.detect_sources(p_map)
    found = szeek.detect_sources(ways_to_hold(p_map)[kind])
    np.testing.assert_allclose(found["lon_deg"], right["lon_deg"])
    np.testing.assert_allclose(found["p"], right["p"], rtol=1e-6)
    for options in ({"weighted": True}, {"deblend": True}):
        assert len(szeek.detect_sources(ways_to_hold(p_map)[kind], **options)) == len(right)


def test_detect_sources_on_a_file_and_a_mask(p_map, tmp_path):
    healpy.write_map(str(tmp_path / "p.fits"), p_map, dtype=np.float32)
    right = szeek.detect_sources(p_map)
    big_endian = fits.getdata(tmp_path / "p.fits").field(0).ravel()
    assert not big_endian.dtype.isnative
    assert len(szeek.detect_sources(big_endian)) == len(right) == 20
    np.save(tmp_path / "p.npy", p_map)
    assert len(szeek.detect_sources(np.load(tmp_path / "p.npy", mmap_mode="r"))) == 20
    north = healpy.pix2ang(NSIDE, np.arange(p_map.size), lonlat=True)[1] > 0
    n_south = int((right["peak_lat_deg"] <= 0).sum())
    for masked in (np.ma.array(p_map, mask=north), Masked(p_map, mask=north), Masked(p_map * u.one, mask=north)):
        assert len(szeek.detect_sources(masked)) == n_south < 20
    hidden = healpy.ma(np.where(north, healpy.UNSEEN, p_map))
    assert len(szeek.detect_sources(hidden)) == n_south
    with pytest.raises(ValueError, match="p_map is in 'K', expected a number without unit; convert it"):
        szeek.detect_sources(p_map * u.K)
    with pytest.raises(ValueError, match="p_map holds complex64, expected real numbers"):
        szeek.detect_sources(p_map.astype(complex).astype(np.complex64))


def tables_alike(lon_deg, lat_deg, **columns):
    """The same positions as other programs hand them on."""
    plain = Table({"lon_deg": lon_deg, "lat_deg": lat_deg, **columns})
    rad = QTable(plain)
    rad["lon_deg"], rad["lat_deg"] = (lon_deg * u.deg).to(u.rad), (lat_deg * u.deg).to(u.arcmin)
    with_unit = plain.copy()
    with_unit["lon_deg"] = np.radians(lon_deg)
    with_unit["lon_deg"].unit = "rad"
    record = fits.table_to_hdu(plain).data
    return {
        "QTable in rad": rad, "column in rad": with_unit, "FITS record": record, "dict": dict(plain.columns),
        "masked table": Table(plain, masked=True), "QTable": QTable(plain), "big-endian": Table(np.array(record)),
    }  # fmt: skip


@pytest.mark.parametrize("kind", tables_alike(np.zeros(1), np.zeros(1)))
def test_tables_of_other_kinds(kind):
    rng = np.random.default_rng(4)
    lon, lat = rng.uniform(0, 360, 40), rng.uniform(-60, 60, 40)
    sources = Table({"lon_deg": lon, "lat_deg": lat + 2 / 60, "p": rng.uniform(0.1, 1, 40)})
    plain = Table({"lon_deg": lon, "lat_deg": lat})
    extra = {"name": np.array([f"c{i}" for i in range(40)]), "survey": np.full(40, "X"), "z": np.full(40, 0.1)}
    extra |= {"m500_1e14msun": np.full(40, 5.0), "theta500_arcmin": np.full(40, 3.0)}
    other = tables_alike(lon, lat, **extra)[kind]
    right = match(sources, plain)
    assert len(right) == 40
    for found in (match(sources, other), szeek.match(sources, other, 5.0)):
        assert found["cluster"].tolist() == right["cluster"].tolist()
    backwards = tables_alike(lon, lat + 2 / 60, p=np.asarray(sources["p"]))[kind]
    assert match(backwards, plain)["source"].tolist() == right["source"].tolist()
    assert chance_rate(sources, other, n_shifts=2) == chance_rate(sources, plain, n_shifts=2)
    np.testing.assert_allclose(separation_arcmin(other, sources), 2.0, rtol=1e-6)
    named = identify_sources(sources, other)
    assert named["match_name"].tolist() == extra["name"].tolist() and named["match_z"].tolist() == [0.1] * 40
    recovery = measure_recovery(sources, {"x": other}, [0.0], n_shifts=2)
    assert recovery["n_recovered"][0] == 40
    assert make_candidates(backwards)["NAME"].tolist() == make_candidates(sources)["NAME"].tolist()
    assert len(select_clusters(other, "x")) == 40


def test_radii_with_units_and_masks():
    sources = Table({"lon_deg": [10.0, 50.0], "lat_deg": [0.5, 0.5], "p": [0.9, 0.8]})
    clusters = Table({"lon_deg": [10.0, 50.0], "lat_deg": [0.0, 0.0]})
    assert len(match(sources, clusters, 29.0)) == 0
    for radius in (31.0, 31 * u.arcmin, 0.52 * u.deg, np.array([31.0, 31.0], ">f8"), [31, 31], [0.52, 0.52] * u.deg):
        assert len(match(sources, clusters, radius)) == 2
    with pytest.raises(ValueError, match="radius_arcmin is in 'K', expected arcmin; convert it"):
        match(sources, clusters, 5 * u.K)
    theta = QTable({"theta500_arcmin": [0.5, 1.0] * u.deg})
    assert truth_radius(theta).tolist() == [18.0, 36.0]
    masked = Table({"theta500_arcmin": MaskedColumn([60.0, 60.0], mask=[False, True])})
    assert truth_radius(masked).tolist() == [36.0, 5.0]
    unknown = Table({"lon_deg": MaskedColumn([10.0, 50.0], mask=[False, True]), "lat_deg": [0.0, 0.0]})
    with pytest.raises(ValueError, match=r"1 positions are no positions, the first in row 1: lon_deg = nan"):
        match(sources, unknown)
    with pytest.raises(ValueError, match="column lon_deg of clusters is in 'K', expected deg"):
        match(sources, QTable({"lon_deg": [1, 2] * u.K, "lat_deg": [1, 2] * u.deg}))
    with pytest.raises(ValueError, match="clusters is a list, expected a Table with columns"):
        match(sources, [1, 2, 3])


def test_names_of_positions_with_units():
    right = name_candidates([57.809], [88.0])
    assert name_candidates(np.radians([57.809]) * u.rad, [88.0] * u.deg) == right
    assert name_candidates(np.array([57.809], ">f8"), np.ma.array([88.0])) == right


def test_skymaps_of_other_arrays():
    values, seen = np.ones((48, 1), np.float32), np.ones(48, bool)
    band = (Band("y", 0.0, 10.0, "y"),)
    big = SkyMaps(values.astype(">f4"), seen, band)
    assert big.values.dtype.isnative and big.values[0, 0] == 1
    for wrong, kind in ((np.ma.array(values), "MaskedArray"), (values * u.K, "Quantity")):
        with pytest.raises(TypeError, match=rf"values is a {kind}, whose mask or unit would be lost"):
            SkyMaps(wrong, seen, band)
    with pytest.raises(TypeError, match="footprint is a MaskedArray"):
        SkyMaps(values, np.ma.array(seen), band)


def test_masks_of_other_arrays():
    sky = SkyMaps(np.ones((48, 1), np.float32), np.ones(48, bool), (Band("y", 0.0, 10.0, "y"),))
    keep = np.arange(48) > 5
    for mask in (keep, keep.astype(int), keep.astype(">f4"), np.ma.array(np.ones(48, bool), mask=~keep)):
        assert cut_maps({"y": sky}, {"y": mask}).masks["y"].tolist() == keep.tolist()
    with pytest.raises(
        ValueError, match=r"mask of y holds float64 other than 0 and 1, expected bool; pass mask of y > 0\.5"
    ):
        cut_maps({"y": sky}, {"y": np.full(48, 0.5)})


def test_measure_sources_on_a_qtable():
    rng = np.random.default_rng(1)
    names = szeek.inputs.instrument.read_instrument().band_names
    bands = tuple(Band(name, float(name), 7.0, "K_CMB" if int(name) < 500 else "MJy/sr") for name in names)
    values = rng.normal(size=(12 * 64**2, len(bands))).astype(np.float32)
    maps = SkyMaps(values, np.ones(len(values), bool), bands)
    plain = Table({"lon_deg": [57.8], "lat_deg": [80.0], "theta500_arcmin": [5.0], "z": [0.1]})
    other = QTable({"lon_deg": [np.radians(57.8)] * u.rad, "lat_deg": [80 * 60.0] * u.arcmin,
                    "theta500_arcmin": [5 / 60] * u.deg, "z": Masked([0.1], mask=[False])})  # fmt: skip
    right, found = measure_sources(maps, plain, threads=1), measure_sources(maps, other, threads=1)
    np.testing.assert_allclose(found["fixed_snr"], right["fixed_snr"], rtol=1e-6)
    np.testing.assert_allclose(found["snr"], right["snr"], rtol=1e-6)


@pytest.mark.parametrize("ending", ["fits", "vot", "ecsv"])
def test_what_is_written_keeps_its_unit(tmp_path, ending):
    """The mass too: read by astropy alone, it is in solar masses."""
    clusters = QTable({"name": ["A"], "lon_deg": [1.0] * u.rad, "lat_deg": [30.0] * u.deg, "survey": ["X"]})
    clusters["theta500_arcmin"], clusters["m500_1e14msun"] = [0.5] * u.deg, [5e14] * u.solMass
    path = write_catalogue(clusters, tmp_path / f"a.{ending}")
    back = Table.read(path, format="votable" if ending == "vot" else None)
    for name, unit, value in (("m500_1e14msun", "solMass", 5e14), ("theta500_arcmin", "arcmin", 30.0),
                              ("lon_deg", "rad", 1.0)):  # fmt: skip
        assert (float(back[name][0]) * u.Unit(back[name].unit)).to_value(unit) == pytest.approx(value)
    again = read_catalogue(path)
    assert again["m500_1e14msun"][0] == pytest.approx(5) and again["lon_deg"][0] == pytest.approx(np.degrees(1.0))


def test_plain_pieces():
    table = Table({"lon_deg": [1.0], "name": ["A"], "n": [1]})
    assert plain_table(table, "t") is table and plain_table(None, "t") is None
    array = np.ones(3, np.float32)
    assert plain_array(array, "a") is array
    assert plain_array(np.array([1, 2], ">i4"), "a").dtype == np.float64
    assert np.isnan(plain_array(np.ma.array([1, 2], mask=[0, 1]), "a")).tolist() == [False, True]
    assert plain_mask([True, False], "m").tolist() == [True, False]
    found = plain_table(
        Table({"name": MaskedColumn([b"A", b"B"], mask=[0, 1]), "edge": MaskedColumn([True, True], mask=[0, 1]),
               "tile": MaskedColumn(np.array([1, 2], ">i2"), mask=[0, 1]), "n": np.array([1, 2], ">i2")}), "t"
    )  # fmt: skip
    assert found["name"].tolist() == ["A", ""] and found["edge"].tolist() == [True, False]
    assert found["n"].dtype.isnative and np.isnan(found["tile"][1])
