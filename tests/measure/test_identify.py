import numpy as np
import pytest
from astropy.table import Table

from szeek.measure.identify import identify_sources


def _clusters(rng, n):
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    columns = {
        "name": [f"C{k}" for k in range(n)],
        "survey": ["S"] * n,
        "lon_deg": rng.uniform(0, 360, n),
        "lat_deg": lat,
    }
    return Table({**columns, "z": np.full(n, 0.2), "m500_1e14msun": np.full(n, 3.0)})


def test_chance_probability_is_the_fraction_of_random_positions_matched():
    """Of random positions with a chance probability below q, a fraction q has a match that close."""
    rng = np.random.default_rng(1)
    clusters = _clusters(rng, 30_000)
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    random = Table({"lon_deg": rng.uniform(0, 360, 20_000), "lat_deg": lat})
    p_chance = np.asarray(identify_sources(random, clusters, 10.0)["match_p_chance"])
    for q in (0.01, 0.03):
        # binomial error of 20,000 draws at 0.03: 0.0012
        assert np.mean(p_chance < q) == pytest.approx(q, abs=0.004)


def test_the_nearest_cluster_is_named_across_the_meridian_and_at_the_pole():
    clusters = _clusters(np.random.default_rng(2), 3)
    clusters["lon_deg"], clusters["lat_deg"] = [359.99, 40.0, 180.0], [0.0, 89.99, 10.0]
    found = identify_sources(Table({"lon_deg": [0.01, 220.0, 0.0], "lat_deg": [0.0, 89.99, -40.0]}), clusters)
    assert list(found["match_name"]) == ["C0", "C1", ""]
    assert found["match_sep_arcmin"][:2] == pytest.approx([1.2, 1.2], abs=1e-6)
    assert np.isnan(found["match_p_chance"][2]) and np.isnan(found["match_z"][2])


def test_without_known_clusters_only_the_tile_is_added():
    found = identify_sources(Table({"lon_deg": [112.5], "lat_deg": [41.8]}), None)
    assert found["tile"][0] == 6 and "match_name" not in found.colnames
