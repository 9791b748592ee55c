"""How known clusters look: the dust that was painted comes back, whatever their temperature."""

import healpy
import numpy as np
import pytest
from astropy.table import Table
from noise_field import CENTRE, HFI, NSIDE, cluster_grid

from szeek.assess.looks import LookFit, LookSums, fit_look, published_look, stack_spectra, sum_looks
from szeek.filter.layout import list_fields
from szeek.filter.matchedfilter import FilteredField
from szeek.filter.states import FieldState
from szeek.physics.looks import ClusterLook
from szeek.physics.scaling import MASS_BIAS, mass_and_redshift
from szeek.simulate.components.cmb import draw_cmb
from szeek.simulate.components.noise import white_level
from szeek.simulate.inject import inject_clusters
from szeek.sky.harmonics import synthesise
from szeek.sky.skymaps import SkyMaps

DUST, TEMPERATURE = 2.5, 0.4


def clusters_of(look: ClusterLook, shift_deg: float) -> Table:
    """25 clusters of 5 arcmin and 4e-3 arcmin^2, some deg apart: S/N of forty."""
    clusters = cluster_grid(5.0, 4e-3, 5, 2.2)
    clusters["lat_deg"] += shift_deg
    mass, z = mass_and_redshift(clusters["y500_arcmin2"], clusters["theta500_arcmin"])
    clusters["m500_1e14msun"], clusters["z"], clusters["survey"] = mass, z, "TRUTH"
    for name, column in look.columns(len(clusters), np.random.default_rng(1)).items():
        clusters[name] = column
    return clusters


@pytest.fixture(scope="module")
def looked_at() -> tuple[list[LookSums], list[LookSums], SkyMaps, dict[int, FieldState], Table]:
    """Known clusters of another look than the published one, and injections of that, in noise and CMB."""
    disc = healpy.query_disc(NSIDE, healpy.ang2vec(*CENTRE, lonlat=True), np.radians(10.0))
    values, footprint = np.zeros((12 * NSIDE**2, 6), np.float32), np.zeros(12 * NSIDE**2, bool)
    values[disc] = white_level(HFI, NSIDE) * np.random.default_rng(2).standard_normal((disc.size, 6))
    cmb = synthesise(draw_cmb(1500, 3), 512)
    values[disc] += healpy.get_interp_val(cmb, *healpy.pix2ang(NSIDE, disc))[:, None] * HFI.unit_per_kcmb
    footprint[disc] = True
    known = clusters_of(ClusterLook(dust=DUST, temperature=TEMPERATURE, radio=0.0), 0.0)
    maps = inject_clusters(SkyMaps(values, footprint, HFI.bands), known, HFI, galaxies_seed=3)
    states = {
        int(row["pixel"]): FilteredField(maps, float(row["lon_deg"]), float(row["lat_deg"]), HFI).state
        for row in list_fields(maps)
    }
    others = clusters_of(ClusterLook(dust=0.8, radio=0.0), 1.1)
    painted = inject_clusters(maps, others, HFI, galaxies_seed=4)
    return (
        sum_looks(maps, known, HFI, states),
        sum_looks(painted, others, HFI, states, injected=True),
        maps,
        states,
        known,
    )


Looked = tuple[list[LookSums], list[LookSums], SkyMaps, dict[int, FieldState], Table]


def test_painted_look_comes_back(looked_at: Looked) -> None:
    known, injected, *_ = looked_at
    assert len(known) == len(injected) == 25
    fit = fit_look(known, injected)
    dust, dust_err = fit.from_clusters["dust"]
    # each cluster's dust scatters by 0.4 in ln: 8 % of the mean of 25, twice
    assert dust_err < 0.2 * DUST and abs(dust - DUST) < 3 * dust_err
    assert abs(fit.mean["dust"] - dust) < 0.5 * dust_err  # what is published hardly pulls
    assert fit.varied.vary and fit.varied.dust == pytest.approx(fit.mean["dust"])


def test_injections_correct_what_comes_out_wrong(looked_at: Looked) -> None:
    """If those painted with 0.8 of the published dust come out with 1.0, known ones are 0.2 lower than they seem."""
    known, injected, *_ = looked_at
    wrong = [part._replace(right=part.normal * (part.painted + 0.2)) for part in injected]
    right = [part._replace(right=part.normal * part.painted) for part in injected]
    one, other = (fit_look(known, each).from_clusters["dust"] for each in (right, wrong))
    assert one[0] - other[0] == pytest.approx(0.2)
    assert fit_look(known).mean["dust"] == pytest.approx(fit_look(known, right).mean["dust"])


def test_catalogued_masses_are_x_ray_calibrated(looked_at: Looked) -> None:
    known, _, maps, states, clusters = looked_at
    survey = clusters.copy()
    survey["survey"], survey["m500_1e14msun"] = "PSZ2", MASS_BIAS * np.asarray(clusters["m500_1e14msun"])
    for one, other in zip(known, sum_looks(maps, survey, HFI, states), strict=True):
        np.testing.assert_allclose(one.normal, other.normal, rtol=1e-9)


def test_spectra_are_stacked_by_flux_and_size(looked_at: Looked) -> None:
    """Of one flux and size: dark in two bands, bright in the higher ones, dust on top."""
    known, injected, *_ = looked_at
    one, other = (stack_spectra(parts, HFI.band_names) for parts in (known, injected))
    assert one["n"].tolist() == [0, 0, 25, 0] and one.meta["BANDS"] == "100,143,217,353,545,857"
    spectrum, error = (np.asarray(one[name][2]) for name in ("spectrum", "spectrum_err"))
    assert np.all(np.abs(spectrum[:2] + 1) < 0.1) and spectrum[3] > 0.9
    # 2.5 times the published dust against 0.8 times
    ratio = (spectrum[5] - 1) / (float(other["spectrum"][2][5]) - 1)
    assert ratio == pytest.approx(2.5 / 0.8, rel=0.3)
    # dust scatters by 0.4 in ln: a median of 25 by 0.1
    assert 0.04 < error[5] / spectrum[5] < 0.2
    assert np.isnan(one["spectrum"][0]).all()


def test_few_clusters_leave_the_published_look(looked_at: Looked) -> None:
    known, injected, maps, states, clusters = looked_at
    assert fit_look(known[:19], injected) == published_look() == fit_look([])
    unknown = clusters.copy()
    unknown["z"] = np.nan
    assert sum_looks(maps, unknown, HFI, states) == []


def test_table_has_what_was_fitted() -> None:
    table = LookFit({"dust": 2.0}, {"dust": 0.1}, 50, {"dust": (2.1, 0.11)}).to_table()
    assert list(table[0]) == ["dust", 2.0, 0.1, 2.1, 0.11] and table.meta == {"N_KNOWN": 50}
    assert np.isnan(published_look().to_table()["clusters_mean"]).all()
