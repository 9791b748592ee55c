"""Preflight and band check of maps on their own grids: a survey such as ACT's, and the mistakes that users make."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from act_like import Patch, act_like, act_like_instrument
from astropy.table import Table

from szeek.inputs.bandcheck import BandError, _cmb_amplitudes, _jackknife, check_bands, measure_bands
from szeek.inputs.instrument import read_instrument
from szeek.inputs.preflight import PreflightError, preflight
from szeek.sky.imagemaps import ImageMaps
from szeek.sky.mapset import MapSet
from szeek.sky.skymaps import SkyMaps

ACT = act_like_instrument()
PATCH = Patch(16.0, 9.0)


@pytest.fixture(scope="module")
def clusters():
    rng = np.random.default_rng(3)
    table = Table({"x_arcmin": rng.uniform(-400, 400, 60), "y_arcmin": rng.uniform(-220, 220, 60)})
    table["theta500_arcmin"], table["y500_arcmin2"] = 2.0, 6e-4
    return PATCH.add_lonlat(table)


@pytest.fixture(scope="module")
def maps(clusters):
    return act_like(PATCH, clusters=clusters)


def change(maps, *, order=(0, 1, 2), factors=(1.0, 1.0, 1.0), flip=None):
    """Bands that hold others' maps, in other units, or of which the arrays run the other way."""
    (group,) = maps.groups
    signal = []
    for source, factor in zip(order, factors, strict=True):
        part = group.signal[source]
        values = part.values if flip is None else np.flip(part.values, flip)
        signal.append(replace(part, values=values, factor=part.factor * factor))
    return MapSet((replace(group, signal=tuple(signal)),), maps.coverage)


def test_right_bands_pass(maps):
    check_bands(maps, ACT)
    measured = measure_bands(maps, ACT)
    # scales of the beams: a fifth of Planck's
    assert (measured.zoom, measured.nside_degree, measured.nside_fine) == (4, 512, 4096)


@pytest.mark.parametrize("n_part", [4, 8, 16])
def test_a_right_band_is_beyond_three_errors_as_seldom_as_a_gaussian_number(n_part):
    """0.27 % of means of a few parts, with errors from these parts; of eight 2 % lie beyond three plain errors."""
    rng, n = np.random.default_rng(1), 6000
    parts = rng.standard_normal((n, n_part))
    means = parts.mean(axis=1)
    without = (parts.sum(axis=1, keepdims=True) - parts) / (n_part - 1)
    beyond = sum(abs(mean) > _jackknife(list(logs), 3.0) for mean, logs in zip(means, without, strict=True))
    expected = 0.0027 * n
    assert abs(beyond - expected) < 3 * np.sqrt(expected)
    assert _jackknife([0.1], 3.0) == np.inf and _jackknife([], 3.0) == 0.0


@pytest.mark.parametrize("pair", [(0, 1), (0, 2)])
def test_exchanged_bands_are_named(maps, pair):
    """All in K_CMB: the beams alone tell, of 2.1, 1.4 and 1.0 arcmin; 1.4 and 1.0 not with this noise."""
    order = [0, 1, 2]
    order[pair[0]], order[pair[1]] = pair[1], pair[0]
    wrong = change(maps, order=order)
    first, second = (ACT.band_names[k] for k in pair)
    with pytest.raises(BandError, match=f"'{first}' and '{second}' are exchanged"):
        check_bands(wrong, ACT)


@pytest.mark.parametrize(
    ("factors", "words"),
    [((1, 1e6, 1), "'f150' is 1e6 times too bright: it holds uK_CMB"),
     ((1e-6, 1, 1), "'f090' is 1e6 times too faint"),
     ((1e6,) * 3, "all bands are 1e6 times too bright"), ((1e-6,) * 3, "all bands are 1e6 times too faint")],
)  # fmt: skip
def test_wrong_units_are_named(maps, factors, words):
    with pytest.raises(BandError, match=words):
        check_bands(change(maps, factors=factors), ACT)


def test_units_of_a_single_band_are_checked_by_its_brightness(maps):
    (group,) = maps.groups
    one = ImageMaps(group.grid, group.bands[1:2], group.signal[1:2], (None,))
    alone = MapSet((one,), maps.coverage[:, 1:2])
    check_bands(alone, ACT.select([1]))
    for factor, words in ((1e6, "it holds uK_CMB, not K_CMB"), (1e-6, "it holds K_CMB, not uK_CMB")):
        dim = replace(one, signal=(replace(one.signal[0], factor=factor),))
        with pytest.raises(BandError, match=f"'f150' has an rms of .*{words}"):
            check_bands(replace(alone, groups=(dim,)), ACT.select([1]))


def test_clusters_are_seen(maps, clusters):
    report = preflight(maps, clusters, ACT)
    assert report.lit and report.n_clusters > 50 and report.significance > 20
    one = ImageMaps(maps.groups[0].grid, *(part[1:2] for part in
                    (maps.groups[0].bands, maps.groups[0].signal, maps.groups[0].ivar)))  # fmt: skip
    assert preflight(MapSet((one,), maps.coverage[:, 1:2]), clusters, ACT).lit


@pytest.mark.parametrize(
    ("axis", "words"), [(1, "at mirrored longitudes: .*CDELT1"), (0, "at mirrored latitudes: .*CDELT2")]
)
def test_flipped_images_are_named(maps, clusters, axis, words):
    with pytest.raises(PreflightError, match=f"detected in f090, f150, f220 {words}"):
        preflight(change(maps, flip=axis), clusters, ACT)


def test_an_array_that_runs_the_other_way_than_its_header_says(maps, clusters):
    """The reference pixel is far from the image's middle, so that no sign of CDELT explains it."""
    (group,) = maps.groups
    off = replace(group.grid, shape=(group.grid.shape[0] - 300, group.grid.shape[1] - 500))
    parts = [replace(part, values=part.values[300:, 500:][::-1]) for part in group.signal]
    # what is left of the sky lies where the first rows and columns were: the same pixels, counted from there
    off = replace(off, reference=(group.grid.reference[0] - 300, group.grid.reference[1] - 500))
    flipped = MapSet((ImageMaps(off, group.bands, tuple(parts), (None,) * 3),), maps.coverage)
    with pytest.raises(PreflightError, match="with rows in reverse: the array is flipped in y and its header is not"):
        preflight(flipped, clusters, ACT)


def test_a_catalogue_in_another_frame_is_named(maps, clusters):
    from healpy import Rotator

    wrong = clusters.copy()
    wrong["lon_deg"], wrong["lat_deg"] = Rotator(coord=["G", "C"])(
        clusters["lon_deg"], clusters["lat_deg"], lonlat=True
    )
    with pytest.raises(PreflightError, match="the catalogue's Galactic columns hold RA and Dec"):
        preflight(maps, wrong, ACT)
    far = clusters.copy()
    far["lon_deg"] = (far["lon_deg"] + 180) % 360
    far["lat_deg"] = -far["lat_deg"] * 0.5
    with pytest.raises(PreflightError, match="none of the 60 clusters lies inside the maps' footprint"):
        preflight(maps, far, ACT)


def test_a_wrong_group_is_named_beside_a_right_one(maps, clusters):
    """Two groups of the same sky: one as it is, the other flipped."""
    (group,) = maps.groups
    renamed = replace(group, bands=tuple(replace(band, name=f"{band.name}-right") for band in group.bands))
    (wrong,) = change(maps, flip=1).groups
    both = MapSet((renamed, wrong), np.tile(maps.coverage, (1, 2)))
    setup = replace(
        ACT,
        bands=(*renamed.bands, *wrong.bands),
        details=ACT.details * 2,
        **{name: np.tile(getattr(ACT, name), 2) for name in ("mjysr_per_kcmb", "tsz_kcmb", "noise_uk_deg")},
    )
    with pytest.raises(PreflightError, match="detected in f090, f150, f220 at mirrored longitudes"):
        preflight(both, clusters, setup)


def test_a_band_full_of_noise_does_not_speak_against_the_others():
    """Beside f220, whose atmosphere hides the CMB on these scales, amplitudes are known from the other experiment."""
    degree = np.full((6, 6), 80e-6**2) + np.diag([0, 4e-9, 1.6e-7, 0, 0, 0])
    degree[2, :2] = degree[:2, 2] = 0.3 * 80e-6**2, 0.9 * 80e-6**2  # by chance, of what noise and CMB share
    amplitudes, typical = _cmb_amplitudes(degree, [0, 1, 2, 3, 4, 5])
    assert [amplitudes[b] for b in (0, 1, 3, 4, 5)] == pytest.approx([80e-6] * 5)
    assert typical == pytest.approx(80e-6)


def test_numbers_of_a_set_come_with_how_well_they_are_known():
    """Also at the scales of Planck's beams, with one of its maps in the set."""
    values = np.random.default_rng(1).normal(scale=1e-4, size=(12 * 64**2, 6)).astype(np.float32)
    planck = read_instrument()
    one, other = (
        SkyMaps(values[:, bands].copy(), np.ones(len(values), bool), planck.bands[bands])
        for bands in (slice(0, 3), slice(3, 6))
    )
    measured = measure_bands(MapSet.of(one, other), planck)
    assert measured.zoom == 1 and len(measured.without) == 16
    assert measure_bands(SkyMaps(values, np.ones(len(values), bool), planck.bands), planck).without == ()
