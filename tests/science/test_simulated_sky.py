"""The simulated sky against the real one, where real cut-outs and a finished sky are at hand."""

from __future__ import annotations

import os
from itertools import combinations
from pathlib import Path

import pytest

from szeek.simulate.validate import validate_sky


@pytest.mark.realdata
def test_fields_like_coma(real_data: Path) -> None:
    """Auto spectra within 10 % of the real HFI cut-outs at 500 < l < 1500, within 20 % about that; correlation
    coefficients within 0.05, but for the CMB bands against 545 and 857 GHz: there the one real field has a chance
    correlation of CMB and dust of its own, which drops out of 217 - 143 GHz; all 15, its size taken from 100x857."""
    if not os.environ.get("SZEEK_SIMULATED_SKY"):
        pytest.skip("needs a simulated sky of nside 2048 in SZEEK_SIMULATED_SKY: coarser pixels damp the spectra")
    folder = Path(os.environ["SZEEK_SIMULATED_SKY"])
    rows = {str(row["check"]): row for row in validate_sky(folder, cutouts=real_data / "maps" / "coma")}

    def apart(check: str) -> float:
        return abs(float(rows[check]["ours"]) - float(rows[check]["published"]))

    for band in ("100", "143", "217", "353", "545", "857"):
        for span, most in (("300-500", 0.20), ("500-1500", 0.10), ("1500-2000", 0.20)):
            assert apart(f"auto spectrum {band} GHz, l = {span}, ours / real") < most, (band, span)
    cmb, dust = ("100", "143", "217", "353"), ("353", "545", "857")
    for first, second in (*combinations(cmb, 2), *combinations(dust, 2)):
        assert apart(f"correlation {first}x{second}, l = 500-1500") < 0.05, (first, second)
    assert apart("largest of the 15 differences, CMB x far infrared as 100x857 has it taken out, l = 500-1500") < 0.05
    for band in ("545", "857"):
        assert apart(f"(217 - 143) x {band} GHz, l = 500-1500, ours / real") < 0.10, band
