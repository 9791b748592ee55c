"""The shipped network on the notebooks' simulated field, held against what SZeek 0.1.0 found there.

On one machine the values are the same bits; another processor's convolutions round otherwise.
"""

from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table

from szeek.find.predict import read_prediction
from szeek.verbs import config_of_model, run

HERE = Path(__file__).parent
FIELD = HERE.parents[1] / "notebooks" / "field"


def test_szeek_1_finds_what_it_found(tmp_path):
    bands = ("100", "143", "217", "353", "545", "857")
    sky = {"simulate": False, "maps": {band: str(FIELD / f"sim_{band}.fits") for band in bands}}
    sky["catalogues"] = [str(FIELD / "known.ecsv")]
    # in float32, which all processors multiply alike
    config = config_of_model("szeek-1", sky=sky, predict={"bfloat16": False})
    result = run(config, tmp_path / "out", until="measure")
    expected = Table.read(HERE / "golden_p.ecsv")
    p_map = read_prediction(tmp_path / "out" / "prediction.fits")
    ipix = np.asarray(expected["ipix"])
    np.testing.assert_allclose(p_map[ipix], expected["p"], atol=2e-5)
    seen = np.isfinite(p_map)
    assert np.array_equal(np.flatnonzero(seen)[::997], ipix) and healpy.npix2nside(len(p_map)) == 2048
    sources, found = Table.read(HERE / "golden_sources.ecsv"), Table.read(tmp_path / "out" / "candidates.fits")
    assert list(np.char.strip(found["NAME"].astype(str))) == list(sources["NAME"])
    for name, atol in (("GLON", 1e-4), ("GLAT", 1e-4), ("GLON_PEAK", 1e-9), ("GLAT_PEAK", 1e-9), ("P", 2e-5)):
        np.testing.assert_allclose(found[name], sources[name], atol=atol, err_msg=name)
    assert abs(np.asarray(found["NPIX"]) - np.asarray(sources["NPIX"])).max() <= 2
    # and what it measures of them: every candidate a degree inside the field has its S/N, kind and flags
    assert (result.measured.n_known, result.measured.n_known_found) == (36, 10)
    inside = np.isfinite(found["SNR"])
    assert inside.sum() >= 20 and (found["CHECKED"][inside] > 0).all() and (found["KIND"][inside] != "").all()
    # a small field takes little room: its maps are files with holes
    blocks = sum(file.stat().st_blocks * 512 for file in (tmp_path / "out" / "maps").iterdir())
    assert blocks < 100e6
