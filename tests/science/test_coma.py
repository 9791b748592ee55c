"""The shipped network on real sky: six HFI cut-outs around Coma, read as they are.

These are development data: they were looked at while the method was made. What is said here of real sky is that
nothing has broken, and no measure of how good the network is.
"""

import healpy
import numpy as np
import pytest
from astropy.table import Table

from szeek.assess.calibrate import Calibration
from szeek.assess.match import match
from szeek.find.detect import detect_sources
from szeek.find.predict import predict
from szeek.inputs.catalogues import read_catalogue, select_clusters
from szeek.inputs.mapfiles import read_skymaps
from szeek.inputs.reddening import reddening_mag
from szeek.learn.model import find_model, load_model
from szeek.sky.healpix import unit_vectors

pytestmark = pytest.mark.realdata

CONFIRMED = ("PSZ2 G023.17+86.71", "PSZ2 G259.30+84.41", "PSZ2 G343.33+83.19")
#: Infrared sources at S/N 7 to 9 of the matched filter, Q_NEURAL < 0.05.
SPURIOUS = ("PSZ2 G310.81+83.91", "PSZ2 G318.46+83.79", "PSZ2 G320.94+83.69")


@pytest.fixture(scope="module")
def field(real_data):
    bands = ("100", "143", "217", "353", "545", "857")
    files = {band: real_data / f"maps/coma/hfi_{band}_coma.fits" for band in bands}
    maps = read_skymaps(files)
    psz2 = read_catalogue(real_data / "catalogues/HFI_PCCS_SZ-union_R2.08.fits")
    redmapper = read_catalogue(real_data / "catalogues/redmapper_sdss_dr8_v6.3.csv")
    mcxc = read_catalogue(real_data / "catalogues/mcxc.fits")
    return (
        maps,
        psz2,
        select_clusters([psz2, mcxc, redmapper], "rm30"),
        predict(maps, load_model("szeek-1"), rotations=4),
    )


def _nearest(sources, cluster):
    """Separation in arcmin of the nearest source, and its p."""
    here = unit_vectors(np.asarray(sources["lon_deg"], float), np.asarray(sources["lat_deg"], float))
    cosine = here @ unit_vectors(float(cluster["lon_deg"]), float(cluster["lat_deg"]))
    k = int(cosine.argmax())
    return float(np.degrees(np.arccos(min(cosine[k], 1.0)))) * 60, float(sources["p"][k])


def _sources(p_map):
    return detect_sources(p_map, 0.1, weighted=True, deblend=True)


def test_coma_is_found_within_three_arcmin(field):
    """As the clusters below: it is 1.1 arcmin away."""
    _, psz2, _, p_map = field
    coma = psz2[psz2["name"] == "PSZ2 G057.80+88.00"][0]
    separation_arcmin, p = _nearest(_sources(p_map), coma)
    assert separation_arcmin < 3 and p > 0.5


def test_confirmed_clusters_are_found_within_three_arcmin_and_infrared_sources_are_not(field):
    """At the paper's threshold. A random position has a source within 5 arcmin in 0.9 % (56 in 133 deg^2).

    Within 2.3 to 3.5 arcmin lie 95 % of the haloes found at such p (positions.ecsv of the model), and PSZ2's own
    positions are uncertain by as much: 3 arcmin is less than both together. No source lies within a degree of an
    infrared one.
    """
    _, psz2, _, p_map = field
    sources = _sources(p_map)
    nearest = {name: _nearest(sources, psz2[psz2["name"] == name][0])[0] for name in (*CONFIRMED, *SPURIOUS)}
    assert all(nearest[name] < 3 for name in CONFIRMED)
    assert all(nearest[name] > 10 for name in SPURIOUS)


def test_few_others_are_sure(field):
    """Less than 0.5 unmatched sources per deg^2 of a calibrated purity above 0.5."""
    maps, psz2, _, p_map = field
    sources = _sources(p_map)
    calibration = Calibration.from_table(Table.read(find_model("szeek-1") / "calibration.ecsv"))
    purity = calibration.predict(sources["p"], reddening_mag(sources["lon_deg"], sources["lat_deg"]))
    sure = sources[purity > 0.5]
    unmatched = len(sure) - len(match(sure, psz2, 5.0))
    assert unmatched / (maps.footprint.mean() * 41252.96) < 0.5
    assert len(sure) >= 4


def test_p_is_higher_at_redmapper_clusters_than_at_random_positions(field):
    """Clusters too faint to be found one by one raise mean log p; 200 sets of random positions give the error,
    to 5 per cent: 5.7 of it."""
    maps, _, rich, p_map = field
    nside = maps.nside
    pixels = healpy.ang2pix(nside, np.asarray(rich["lon_deg"]), np.asarray(rich["lat_deg"]), lonlat=True)
    here = p_map[pixels[maps.footprint[pixels]]]
    rng = np.random.default_rng(1)
    seen = np.flatnonzero(maps.footprint)
    random = np.array([np.log(p_map[rng.choice(seen, len(here))]).mean() for _ in range(200)])
    assert len(here) > 100
    assert np.log(here).mean() > random.mean() + 4 * random.std()
