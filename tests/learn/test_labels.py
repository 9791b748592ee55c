import healpy
import numpy as np
import pytest

from szeek.learn.labels import IGNORED, ClusterLabels
from szeek.sky.healpix import unit_vectors
from szeek.sky.projection import field_directions


@pytest.mark.parametrize(("lon", "lat"), [(0.0, 0.0), (359.99, 10.0), (123.0, 89.99), (77.0, -45.0)])
def test_disc_has_the_area_of_a_circle_of_five_arcmin_diameter(lon, lat):
    """pi 2.5^2 = 19.63 arcmin^2: counted in pixels of 0.25 arcmin, to the pixels on the rim."""
    labels = ClusterLabels(np.array([lon]), np.array([lat]))
    area = labels.draw(lon, lat, 20.0, 101, 101, 0.25).sum() * 0.25**2
    assert area == pytest.approx(np.pi * 2.5**2, rel=0.01)


def test_mean_number_of_pixels_is_6_7():
    rng = np.random.default_rng(1)
    counts = []
    for _ in range(2000):
        offset = rng.uniform(-0.5, 0.5, 2) * 1.7177 / 60
        labels = ClusterLabels(np.array([100 + offset[0]]), np.array([offset[1]]))
        counts.append(labels.draw(100.0, 0.0, rng.uniform(0, 360), 16, 16).sum())
    assert np.mean(counts) == pytest.approx(np.pi * (2.5 / 1.7177) ** 2, abs=0.1)


def test_draw_is_brute_force_over_all_pixels_and_clusters():
    rng = np.random.default_rng(2)
    lon, lat = rng.uniform(40, 44, 60), rng.uniform(58, 62, 60)
    labels = ClusterLabels(lon, lat, 12.0)
    drawn = labels.draw(42.0, 60.0, 33.0, 48, 64, 2.0)
    directions = field_directions(42.0, 60.0, 33.0, 48, 64, 2.0)
    directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
    cosine = directions @ unit_vectors(lon, lat).T
    np.testing.assert_array_equal(drawn == 1, (cosine >= np.cos(np.radians(6 / 60))).any(axis=-1))


def test_clusters_behind_and_far_away_leave_nothing():
    labels = ClusterLabels(np.array([180.0, 90.0]), np.array([0.0, 0.0]))
    assert labels.draw(0.0, 0.0, 0.0, 64, 64).sum() == 0


def test_ignored_sources_give_way_to_clusters():
    labels = ClusterLabels(np.array([10.0]), np.array([0.0]), 20.0, np.array([10.0, 10.5]), np.array([0.0, 0.0]))
    target = labels.draw(10.25, 0.0, 0.0, 64, 64)
    assert set(np.unique(target)) == {0, 1, IGNORED}
    vectors = field_directions(10.25, 0.0, 0.0, 64, 64)
    near = healpy.rotator.angdist(healpy.ang2vec(10, 0, lonlat=True), vectors.reshape(-1, 3).T) < np.radians(9.9 / 60)
    assert np.all(target.ravel()[near] == 1)


def test_empty_selection_is_refused():
    with pytest.raises(ValueError, match="no clusters to learn from"):
        ClusterLabels(np.zeros(0), np.zeros(0))


def test_each_cluster_has_a_disc_of_its_own_size():
    labels = ClusterLabels(np.array([0.0, 1.0]), np.array([0.0, 0.0]), np.array([10.0, 20.0]), [0.5], [0.5])
    target = labels.draw(0.5, 0.0, 0.0, 401, 601, 0.25)
    columns = np.arange(601) < 300
    areas = [(target[:, half] == 1).sum() * 0.25**2 for half in (columns, ~columns)]
    np.testing.assert_allclose(areas, [np.pi * 5**2, np.pi * 10**2], rtol=0.01)
    assert (target == IGNORED).sum() * 0.25**2 == pytest.approx(np.pi * 5**2, rel=0.01)


def test_of_two_discs_that_overlap_the_larger_value_stays():
    """The fainter one is given last, and its middle is the rim of the other."""
    labels = ClusterLabels(np.array([0.0, 0.1]), np.zeros(2), 12.0, [0.1], [0.0], np.array([1.0, 0.25]))
    target = labels.draw(0.05, 0.0, 0.0, 301, 301, 0.1)
    assert set(np.unique(target)) == {0, 0.25, 1}
    alone = [
        ClusterLabels(np.array([lon]), np.zeros(1), 12.0).draw(0.05, 0.0, 0.0, 301, 301, 0.1) for lon in (0, 0.1)
    ]
    np.testing.assert_array_equal(target, np.maximum(alone[0], 0.25 * alone[1]))
