"""What is cut out before stacking, and that what is not is said."""

from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.table import Table

from szeek.inputs.download import add
from szeek.sky.skymaps import Band, SkyMaps
from szeek.stack.cutting import cut_maps, way_to_get

NSIDE = 128


def flat(name: str, nside: int = NSIDE) -> SkyMaps:
    return SkyMaps(np.ones((12 * nside**2, 1), np.float32), np.ones(12 * nside**2, bool), (Band(name, 0, 0, ""),))


def write_list(path: Path, lon_deg: list[float]) -> Path:
    path.write_text("NAME,GLON,GLAT\n" + "".join(f"S{k},{lon},40\n" for k, lon in enumerate(lon_deg)))
    return path


def is_cut(keep: np.ndarray, lon_deg: float) -> bool:
    return not keep[healpy.ang2pix(healpy.npix2nside(keep.size), lon_deg, 40.0, lonlat=True)]


def test_point_sources_that_are_there_are_cut_and_the_others_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SZEEK_DATA", str(tmp_path / "data"))
    groups = {"bands": flat("100"), "y": flat("y"), "xray": flat("xray", 64), "kappa": flat("kappa")}
    nothing = cut_maps(groups, {}, real_sky=True)
    assert nothing.masks == {} and nothing.used == {}
    assert nothing.lacking["bands"] == nothing.lacking["y"] == {"pccs2": "`szeek data fetch pccs2`"}
    assert list(nothing.lacking["xray"]) == ["2rxs", "csc", "3xmm"]
    assert "2rxs sources are not cut out of xray: `szeek data fetch 2rxs`" in nothing.warning()
    add("2rxs", write_list(tmp_path / "2rxs.csv", [10.0, 50.0]))
    some = cut_maps(groups, {}, real_sky=True)
    assert list(some.masks) == ["xray"]
    assert some.used == {"xray": ["2rxs: 2 sources, 3 arcmin"]}
    assert list(some.lacking["xray"]) == ["csc", "3xmm"]
    assert (
        is_cut(some.masks["xray"], 10.0) and is_cut(some.masks["xray"], 50.0) and not is_cut(some.masks["xray"], 30)
    )
    # a simulated sky has sources of its own
    assert cut_maps(groups, {}, real_sky=False).warning() == ""


def test_masks_and_lists_add_up(tmp_path: Path) -> None:
    groups = {"y": flat("y"), "xray": flat("xray", 64)}
    north = healpy.pix2ang(NSIDE, np.arange(12 * NSIDE**2), lonlat=True)[1] > 0
    file = tmp_path / "plane.fits"
    healpy.write_map(file, north.astype(np.float32), coord="G", dtype=np.float32)
    own = write_list(tmp_path / "own.csv", [10.0])
    cuts = cut_maps(groups, {"y": file}, sources=[(own, 60.0), (Table({"lon_deg": [70.0], "lat_deg": [40.0]}), 60.0)])
    assert cuts.used["y"] == ["mask plane.fits", "own.csv: 1 source, 60 arcmin", "1 source, 60 arcmin"]
    assert cuts.used["xray"] == cuts.used["y"][1:]
    keep = cuts.masks["y"]
    assert is_cut(keep, 10.0) and is_cut(keep, 70.0) and not is_cut(keep, 40.0) and not keep[~north].any()
    # two discs of a degree: 3.14 square degrees each, whole pixels that they touch
    lost = np.count_nonzero(north & ~keep) * healpy.nside2pixarea(NSIDE, degrees=True)
    assert 2 * 3.14 < lost < 2 * 3.14 * 2
    assert cuts.record() == {"cut_out": cuts.used, "not_cut_out": {}}
    with pytest.raises(ValueError, match="masks of radio, expected some of y, xray"):
        cut_maps(groups, {"radio": north})


def test_what_has_no_public_file_is_the_users_own_to_bring() -> None:
    assert way_to_get("iris").startswith("`szeek data add iris PATH` (")
