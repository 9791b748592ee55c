"""Injection: what is put in comes out, band by band, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from scipy.stats import ks_2samp

from szeek.inputs.instrument import read_instrument
from szeek.physics.gas import y5r500_per_y500
from szeek.physics.looks import ClusterLook
from szeek.physics.scaling import MASS_BIAS, electron_temperature_kev
from szeek.physics.tsz import band_response
from szeek.simulate.components.clusters import paint_clusters
from szeek.simulate.components.sources import draw_cluster_galaxies
from szeek.simulate.haloes import draw_haloes
from szeek.simulate.inject import draw_injections, inject_clusters, with_looks
from szeek.sky.skymaps import Band, SkyMaps

PLANCK = read_instrument("planck-hfi")
N_PIX = 12 * 128**2


def noise_maps(footprint: np.ndarray | None = None) -> SkyMaps:
    inside = np.ones(N_PIX, bool) if footprint is None else footprint
    values = 1e-4 * np.random.default_rng(1).standard_normal((N_PIX, 6)).astype(np.float32)
    values[~inside] = 0
    return SkyMaps(values, inside, PLANCK.bands)


def test_injected_flux_per_band() -> None:
    maps = noise_maps()
    before = maps.values.copy()
    clusters = draw_injections(4, 5, y500_range_arcmin2=(5e-3, 1e-2))
    clusters["z"] = np.nan
    after = inject_clusters(maps, clusters, PLANCK)
    np.testing.assert_array_equal(maps.values, before)
    area = 4 * np.pi / N_PIX * (10800 / np.pi) ** 2
    flux = (after.values.astype(float) - before).sum(axis=0) * area
    # no redshift, no temperature: the non-relativistic response
    np.testing.assert_allclose(flux, 1.79 * clusters["y500_arcmin2"].sum() * PLANCK.tsz_response, rtol=0.01)


def test_relativistic_response_of_weighed_clusters() -> None:
    halo = draw_haloes(2, m500_min_1e14msun=10.0, z_max=0.4)[:1]
    halo["pair_id"] = -1
    empty = SkyMaps(np.zeros((N_PIX, 6), np.float32), np.ones(N_PIX, bool), PLANCK.bands)
    flux = inject_clusters(empty, halo, PLANCK).values.sum(axis=0, dtype=float)
    temperature = electron_temperature_kev(MASS_BIAS * halo["m500_1e14msun"][0], halo["z"][0])
    response = band_response(PLANCK, temperature)
    np.testing.assert_allclose(flux / flux[0], response / response[0], rtol=0.002)
    halo["survey"] = "PSZ2"  # a survey's mass is the X-ray calibrated one already: hotter
    hotter = inject_clusters(empty, halo, PLANCK).values.sum(axis=0, dtype=float)
    assert hotter[5] > flux[5] and abs(hotter[0]) < abs(flux[0])


def test_nothing_is_painted_outside_the_footprint() -> None:
    inside = np.arange(N_PIX) < N_PIX // 2
    clusters = Table({"lon_deg": [10.0], "lat_deg": [0.0], "theta500_arcmin": [20.0], "y500_arcmin2": [0.01]})
    after = inject_clusters(noise_maps(inside), clusters, PLANCK)
    assert not after.values[~inside].any() and after.footprint is not None


def test_bands_in_another_order_and_number() -> None:
    bands = (PLANCK.bands[3], PLANCK.bands[1])
    empty = SkyMaps(np.zeros((N_PIX, 2), np.float32), np.ones(N_PIX, bool), bands)
    clusters = draw_injections(4, 1)
    flux = inject_clusters(empty, clusters, PLANCK).values.sum(axis=0, dtype=float)
    temperature = electron_temperature_kev(MASS_BIAS * clusters["m500_1e14msun"], clusters["z"])
    response = band_response(PLANCK, temperature)[0]
    assert flux[0] / flux[1] == pytest.approx(response[3] / response[1], rel=0.002)


def test_member_galaxies_bring_their_flux() -> None:
    """What the maps gain over the gas alone is the flux that the galaxies are drawn with, in bands of any order."""
    columns = [5, 4]
    empty = SkyMaps(np.zeros((N_PIX, 2), np.float32), np.ones(N_PIX, bool), tuple(PLANCK.bands[k] for k in columns))
    clusters = draw_injections(4, 20, y500_range_arcmin2=(5e-3, 1e-2), theta500_range_arcmin=(8.0, 20.0))
    clusters["z"][10:] = np.nan
    gas = inject_clusters(empty, clusters, PLANCK).values
    dusty = inject_clusters(empty, clusters, PLANCK, galaxies_seed=3).values
    drawn = draw_cluster_galaxies(clusters[:10], PLANCK, 3).flux_jy[:, columns].sum(axis=0)
    # both bands are in MJy/sr
    gained = (dusty - gas).sum(axis=0, dtype=float) * 4 * np.pi / N_PIX * 1e6
    assert drawn[0] > 10  # Jy
    np.testing.assert_allclose(gained, drawn, rtol=0.01)


def test_positions_keep_their_distance() -> None:
    import healpy

    footprint = np.zeros(N_PIX, bool)
    footprint[healpy.query_disc(128, healpy.ang2vec(30.0, 80.0, lonlat=True), np.radians(10))] = True
    known = draw_injections(9, 30, footprint=footprint)
    drawn = draw_injections(1, 60, footprint=footprint, avoid=known, min_separation_arcmin=40.0)
    assert footprint[healpy.ang2pix(128, drawn["lon_deg"], drawn["lat_deg"], lonlat=True)].all()
    a = healpy.ang2vec(drawn["lon_deg"], drawn["lat_deg"], lonlat=True)
    b = healpy.ang2vec(known["lon_deg"], known["lat_deg"], lonlat=True)
    near = np.cos(np.radians(40 / 60))
    assert (a @ b.T).max() <= near + 1e-9
    assert (a @ a.T - 2 * np.eye(60)).max() <= near + 1e-9
    assert drawn["y500_arcmin2"].min() >= 2e-4 and drawn["theta500_arcmin"].max() <= 20.0


def test_draws_are_seeded_and_uniform_on_the_sphere() -> None:
    first = draw_injections(1, 2000, min_separation_arcmin=1.0)
    again = draw_injections(1, 2000, min_separation_arcmin=1.0)
    np.testing.assert_array_equal(first["lon_deg"], again["lon_deg"])
    sine = np.sin(np.radians(first["lat_deg"]))
    assert abs(sine.mean()) < 4 / np.sqrt(3 * 2000) and sine.std() == pytest.approx(3**-0.5, rel=0.05)
    assert np.log(first["y500_arcmin2"]).mean() == pytest.approx(np.log(np.sqrt(2e-6)), abs=0.1)
    assert len(draw_injections(1, 0)) == 0


def test_shapes_are_those_of_haloes_and_leave_everything_else() -> None:
    round_ones, shaped = (draw_injections(3, 2000, min_separation_arcmin=1.0, shapes=s) for s in (False, True))
    for name in round_ones.colnames:
        np.testing.assert_array_equal(round_ones[name], shaped[name])
    haloes = draw_haloes(3, m500_min_1e14msun=5.0)
    lone = haloes[haloes["pair_id"] < 0]
    for name in ("axis_ratio", "position_angle_deg", "concentration", "clump_fraction", "clump_distance"):
        assert ks_2samp(shaped[name], lone[name]).pvalue > 1e-3
    # shape moves flux about, and adds none
    few = shaped[(shaped["theta500_arcmin"] > 10)][:20]
    plain = few[[name for name in few.colnames if name in round_ones.colnames]]
    beams, response = np.array([5.0]), np.array([1.0])
    sums = [float(paint_clusters(t, 512, beams, response).sum(dtype=np.float64)) for t in (few, plain)]
    assert sums[0] == pytest.approx(sums[1], rel=5e-3)
    assert (
        np.abs(paint_clusters(few, 512, beams, response) - paint_clusters(plain, 512, beams, response)).max() > 1e-6
    )


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"y500 range is 0\.0 to 1\.0"):
        draw_injections(1, 3, y500_range_arcmin2=(0.0, 1.0))
    with pytest.raises(ValueError, match="footprint is empty"):
        draw_injections(1, 3, footprint=np.zeros(12, bool))
    with pytest.raises(ValueError, match=r"only \d+ of 500 clusters fit"):
        draw_injections(1, 500, min_separation_arcmin=900.0)
    wrong = SkyMaps(np.zeros((12, 1), np.float32), np.ones(12, bool), (Band("143", 143.0, 7.3, "MJy/sr"),))
    with pytest.raises(ValueError, match="band 143 in MJy/sr is none of planck-hfi's"):
        inject_clusters(wrong, draw_injections(1, 1), PLANCK)


def test_looks_of_injections() -> None:
    """Dust, radio galaxies and temperature as the columns say; the flux of another profile as its integral has it."""
    clusters = with_looks(
        draw_injections(4, 40, y500_range_arcmin2=(5e-3, 1e-2)), ClusterLook(dust=2.0, radio=0.0), 4
    )
    plain = clusters[[name for name in clusters.colnames if not name.endswith("_factor")]]
    double, single = (draw_cluster_galaxies(table, PLANCK, 1) for table in (clusters, plain))
    n_dusty = len(double)  # no radio galaxies
    assert not np.any(double.fwhm_arcmin == 0) and np.any(single.fwhm_arcmin == 0)
    np.testing.assert_allclose(double.flux_jy, 2 * single.flux_jy[:n_dusty], rtol=1e-12)
    cold = with_looks(
        draw_injections(4, 5, y500_range_arcmin2=(5e-3, 1e-2)), ClusterLook(temperature=0, profile="planck-2013"), 4
    )
    empty = SkyMaps(np.zeros((N_PIX, 6), np.float32), np.ones(N_PIX, bool), PLANCK.bands)
    area = 4 * np.pi / N_PIX * (10800 / np.pi) ** 2
    flux = inject_clusters(empty, cold, PLANCK).values.sum(axis=0, dtype=float) * area
    expected = y5r500_per_y500("planck-2013") * cold["y500_arcmin2"].sum() * PLANCK.tsz_response
    np.testing.assert_allclose(flux, expected, rtol=0.01)


def test_few_bright_injections() -> None:
    """Log-uniform to the knee of 1e-3 arcmin^2, N(>Y) ~ (Y / knee)^-2 - (Y_max / knee)^-2 above it."""
    drawn = draw_injections(
        1, 20_000, y500_range_arcmin2=(1e-4, 1e-2), theta500_range_arcmin=(1.0, 5.0), min_separation_arcmin=1.0,
        few_bright=True,
    )["y500_arcmin2"]  # fmt: skip
    below, above = np.log(10), 0.5 * (1 - 0.01)
    for flux in (2e-4, 5e-4, 1e-3, 2e-3, 5e-3):
        rest = above if flux <= 1e-3 else 0.5 * ((1e-3 / flux) ** 2 - 0.01)
        share = (max(np.log(1e-3 / flux), 0.0) + rest) / (below + above)
        assert np.mean(drawn > flux) == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 20_000))
    assert drawn.min() >= 1e-4 and drawn.max() <= 1e-2
