"""What was learnt of a field: kept in a file, and continued from to the same numbers."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from noise_field import CENTRE, HFI, cluster_grid, noise_sky, vectors_of
from safetensors.numpy import save_file

from szeek.filter.compact import find_compact_sources
from szeek.filter.matchedfilter import FilteredField
from szeek.filter.states import FieldState, read_states, write_states
from szeek.physics.gas import Y5R500_PER_Y500, profile_transform
from szeek.simulate.components.clusters import paint_clusters
from szeek.sky.skymaps import SkyMaps


@pytest.fixture(scope="module")
def sky() -> tuple[SkyMaps, np.ndarray, np.ndarray]:
    """Clusters and, between them, radio sources bright enough to be filled in; and where they are."""
    clusters = cluster_grid(4.0, 0.01, 3, 2.0)
    sources = cluster_grid(1e-3, 1.0, 2, 2.1)
    radio = np.array([band.freq_ghz for band in HFI.bands]) ** -0.7 * HFI.unit_per_kcmb / HFI.mjysr_per_kcmb
    sources["response"] = np.full((4, 1), 0.05 * abs(HFI.tsz_response[0])) * radio / radio[0] / Y5R500_PER_Y500
    return noise_sky(clusters, sources), vectors_of(clusters), vectors_of(sources)


@pytest.fixture(scope="module")
def filtered(sky: tuple[SkyMaps, np.ndarray, np.ndarray]) -> FilteredField:
    return FilteredField(sky[0], *CENTRE, HFI)


def seen(field: FilteredField, at: np.ndarray) -> list[np.ndarray]:
    shapes = profile_transform(field.ell * np.radians([[1 / 60], [10 / 60]]))
    return [field.ring_sums(at), field.information(shapes), field.snr_map(5.0)[0]]


def test_field_continues_to_the_same_numbers(
    sky: tuple[SkyMaps, np.ndarray, np.ndarray], filtered: FilteredField
) -> None:
    maps, clusters, sources = sky
    assert filtered.compact.any() and (filtered.state.holes[:, 0] == 2).any(), "sources and clusters were filled in"
    # nothing that was filled in is near the clusters: what is known is used as it is. A source that is kept changes
    # what is detected.
    for keep in (None, clusters, sources):
        at = clusters if keep is None else keep
        known = FilteredField(maps, *CENTRE, HFI, keep=keep, known=filtered.state)
        for one, other in zip(seen(FilteredField(maps, *CENTRE, HFI, keep=keep), at), seen(known, at), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * np.abs(one).max())
        np.testing.assert_array_equal(known.compact, filtered.compact)


def test_state_comes_back_from_its_file(filtered: FilteredField, tmp_path: Path) -> None:
    state, empty = filtered.state, FieldState(*(np.zeros_like(part) for part in vars(filtered.state).values()))
    states = {5: state, 3: FieldState(empty.unit, empty.holes[:0], *list(vars(empty).values())[2:]), 700: state}
    write_states(states, tmp_path / "states.safetensors")
    again = read_states(tmp_path / "states.safetensors")
    assert list(again) == [5, 3, 700]
    for pixel, one in states.items():
        for part in fields(FieldState):
            np.testing.assert_array_equal(getattr(one, part.name), getattr(again[pixel], part.name))
    np.testing.assert_allclose(state.full_inverse(), filtered._inverse[: len(state.inverse)], rtol=1e-8)
    # a field of a whole sky at nside 2048 takes 0.1 MB
    assert (tmp_path / "states.safetensors").stat().st_size / 3 < 110_000
    assert [path.name for path in tmp_path.iterdir()] == ["states.safetensors"]


def test_what_is_no_state_is_refused(
    sky: tuple[SkyMaps, np.ndarray, np.ndarray], filtered: FilteredField, tmp_path: Path
) -> None:
    other = noise_sky(seed=9)
    with pytest.raises(ValueError, match=r"learnt of a field is of other maps: .*run the filter stage"):
        FilteredField(SkyMaps(2 * other.values, other.footprint, other.bands), *CENTRE, HFI, known=filtered.state)
    with pytest.raises(ValueError, match="has not searched for compact sources"):
        find_compact_sources(FilteredField(sky[0], *CENTRE, HFI, known=filtered.state))
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(ValueError, match=r"'.*text' is not a file of field states.*run the filter stage again"):
        read_states(tmp_path / "text")
    save_file({"a": np.zeros(3)}, tmp_path / "weights")
    with pytest.raises(ValueError, match="holds field states of format None, expected 1; run the filter stage again"):
        read_states(tmp_path / "weights")


def test_injected_clusters_are_no_noise(sky: tuple[SkyMaps, np.ndarray, np.ndarray], filtered: FilteredField) -> None:
    """With the noise of the maps before, S/N is linear in what was added, and without additions as it was."""
    maps, _, _ = sky
    again = FilteredField(maps, *CENTRE, HFI, noise=filtered.state)
    one = filtered.snr_map(5.0)[0]
    np.testing.assert_allclose(again.snr_map(5.0)[0], one, atol=2e-4 * one.max())
    injected = cluster_grid(5.0, 0.004, 12, 0.8)
    added = []
    for times in (1, 2):
        values = maps.values.copy()
        for _ in range(times):
            paint_clusters(
                injected, maps.nside, [band.fwhm_arcmin for band in maps.bands], HFI.tsz_response, out=values
            )
        field = FilteredField(SkyMaps(values, maps.footprint, maps.bands), *CENTRE, HFI, noise=filtered.state)
        assert field.snr_map(5.0)[1] == pytest.approx(filtered.snr_map(5.0)[1], rel=1e-8)
        row, column = (np.rint(at).astype(int) for at in field.pixels(vectors_of(injected)))
        added.append((field.snr_map(5.0)[0] - one)[row, column])
    # away from the clusters that are filled in, and with neighbours in the filter's wings
    np.testing.assert_allclose(np.median(added[1]), 2 * np.median(added[0]), rtol=0.02)
