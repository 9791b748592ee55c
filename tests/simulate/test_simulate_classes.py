"""What else than clusters a simulated sky holds, as the network learns it."""

import healpy
import numpy as np
from astropy.coordinates import SkyCoord

from szeek.inputs.instrument import read_instrument
from szeek.simulate.classes import LEAST_CO_KKMS, LEAST_FLUX_JY, list_classes
from szeek.simulate.components.dust import co_intensity
from szeek.simulate.components.sources import Sources, draw_cold_clumps, draw_dusty_sources, draw_radio_sources

HFI = read_instrument("planck-hfi")


def make_sources(fluxes, extents):
    place = np.linspace(1.0, 80.0, len(fluxes))
    return Sources(place, place, np.repeat(np.array(fluxes)[:, None], 6, axis=1), np.array(extents))


def test_each_class_holds_what_is_bright_enough_and_clusters_lend_their_radio_galaxies():
    radio = make_sources([0.1, 0.03, 0.05], [0.0, 0.0, 0.0])
    dusty = make_sources([0.05, 0.07], [0.0, 0.0])
    galaxies = make_sources([0.2, 0.2], [0.0, 6.0])  # a radio galaxy, and the dust of all members
    clumps = make_sources([0.001], [8.0])
    listed = list_classes(radio, dusty, galaxies, clumps, HFI)
    counts = {name: int((listed["survey"] == name).sum()) for name in ("RADIO", "DUSTY", "CLUMP")}
    # thresholds of 40 and 60 mJy; clumps count however faint
    assert LEAST_FLUX_JY == {"radio": ("143", 0.04), "dusty": ("353", 0.06)}
    assert counts == {"RADIO": 3, "DUSTY": 1, "CLUMP": 1}
    assert listed["extent_arcmin"][listed["survey"] == "CLUMP"].tolist() == [8.0]
    icrs = SkyCoord(listed["lon_deg"], listed["lat_deg"], unit="deg", frame="galactic").icrs
    np.testing.assert_allclose(listed["dec_deg"], icrs.dec.deg)


def test_cells_of_co_cover_what_shines_and_little_else():
    kinds = draw_radio_sources(HFI, 1), draw_dusty_sources(HFI, 1), make_sources([], []), draw_cold_clumps(HFI, 1)
    listed = list_classes(*kinds, HFI)
    cells = listed[listed["survey"] == "CO"]
    fine = 256
    covered = np.zeros(12 * fine**2, bool)
    for row in cells:
        vector = healpy.ang2vec(row["lon_deg"], row["lat_deg"], lonlat=True)
        covered[healpy.query_disc(fine, vector, np.radians(0.5 * row["extent_arcmin"] / 60))] = True
    bright = co_intensity() > LEAST_CO_KKMS
    parent = healpy.vec2pix(64, *healpy.pix2vec(fine, np.arange(covered.size)))
    assert covered[bright[parent]].mean() > 0.999
    # discs of 78 arcmin around cells of 55: what they cover besides lies beside bright cells
    assert covered.mean() < 1.4 * bright.mean()
