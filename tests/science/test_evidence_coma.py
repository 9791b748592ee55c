"""What published catalogues say of known clusters, and of a network's candidates, in the real sky around Coma."""

import numpy as np
import pytest
from astropy.table import Table, vstack

from szeek.assess.match import shift_directions
from szeek.inputs.catalogues import read_catalogue
from szeek.measure.counterparts import find_counterparts
from szeek.measure.pairs import direction_table, table_vectors

pytestmark = pytest.mark.realdata

#: PSZ2 entries with a redshift, and MCXC clusters above 2e14 Msun that PSZ2 lacks, inside the six HFI cut-outs.
KNOWN = {
    "PSZ2 G023.17+86.71": {"MCXC", "CAMIRA", "REDMAPPER"},
    "PSZ2 G259.30+84.41": {"CAMIRA", "REDMAPPER"},
    "PSZ2 G343.33+83.19": {"CAMIRA", "REDMAPPER"},
    "PSZ2 G057.80+88.00": {"MCXC"},  # Coma, z = 0.023: below the redshifts of redMaPPer (0.08) and CAMIRA (0.1)
    "PSZ2 G056.62+88.42": set(),  # two within Coma's extent, for which PSZ2 gives z of 0.045 and 0.044
    "PSZ2 G061.75+88.11": set(),
    "MCXC J1243.3+2716": {"MCXC", "CAMIRA", "REDMAPPER"},
    "MCXC J1311.5+2200": {"MCXC"},  # z = 0.266; the nearest optical cluster of that redshift is 8.5 arcmin away
}
#: Candidates of szeek-2 in these maps with PURITY > 0.5 that PSZ2 lacks, and the first two that no list has.
UNMATCHED = {"G207.23+88.21": (207.23, 88.21), "G304.51+85.44": (304.51, 85.44)}
UNKNOWN = {"G195.23+84.65": (195.23, 84.65), "G330.11+84.21": (330.11, 84.21)}


@pytest.fixture(scope="module")
def lists(real_data):
    folder = real_data / "catalogues"
    return {
        "PSZ2": read_catalogue(folder / "HFI_PCCS_SZ-union_R2.08.fits"),
        "MCXC": read_catalogue(folder / "mcxc.fits"),
        "REDMAPPER": read_catalogue(folder / "redmapper_sdss_dr8_v6.3.csv"),
        "CAMIRA": read_catalogue(folder / "camira_sdss_dr8_v2.dat.gz", "CAMIRA"),
    }


def others(lists):
    """All lists but PSZ2, without the sizes of MCXC: a match is one within the position error alone."""
    joined = vstack([lists[name] for name in ("MCXC", "REDMAPPER", "CAMIRA")], metadata_conflicts="silent")
    joined["theta500_arcmin"] = np.nan
    return joined


def test_known_clusters_have_the_evidence_that_their_redshift_allows(lists):
    pool = vstack([lists["PSZ2"], lists["MCXC"]], metadata_conflicts="silent")
    clusters = pool[[int(np.flatnonzero(pool["name"] == name)[0]) for name in KNOWN]]
    found = find_counterparts(clusters, others(lists), 3.0)
    for name, expected in KNOWN.items():
        rows = found[found["candidate"] == name]
        assert set(rows["catalogue"]) == expected, name
        # redshifts of the two optical lists agree with the cluster's own, within their scatter; where each has one
        own = float(clusters["z"][clusters["name"] == name][0])
        z = np.asarray(rows["z"], float)
        assert (np.abs(z - own)[np.isfinite(z)] < 0.02 * (1 + own)).all(), name


def test_unmatched_candidates_are_rich_clusters_and_the_faint_ones_are_not_listed(lists):
    places = {**UNMATCHED, **UNKNOWN}
    lon_deg, lat_deg = np.array(list(places.values())).T
    sources = Table({"name": list(places), "lon_deg": lon_deg, "lat_deg": lat_deg})
    found = find_counterparts(sources, others(lists), 3.5)
    optical = found[np.isin(found["catalogue"], ("REDMAPPER", "CAMIRA"))]
    assert set(optical["candidate"]) == set(UNMATCHED)
    assert (optical["richness"] > 50).all()
    # random positions about them that have a cluster as rich within the same radius: 2 %
    rng = np.random.default_rng(1)
    vectors = np.tile(table_vectors(sources), (500, 1))
    random = direction_table(shift_directions(vectors, None, rng, 1.0, 4.0))
    random["name"] = np.arange(len(random)).astype(str)
    rich = lists["REDMAPPER"][np.asarray(lists["REDMAPPER"]["richness"]) > 50]
    share = len(find_counterparts(random, rich, 3.5)) / len(random)
    assert share < 0.03
