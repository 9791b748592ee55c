"""What else than clusters a simulated sky holds, as catalogues that a network of several classes is trained on.

A network learns to tell apart what it may be asked for: point sources that Planck can list, cold clumps, and where CO
shines. Entries of all classes are rows of one table, told apart by ``survey``, as known clusters are.
"""

from __future__ import annotations

import healpy
import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from numpy.typing import NDArray

from szeek.physics.instrument import Instrument
from szeek.simulate.components.dust import co_intensity
from szeek.simulate.components.sources import Sources

#: Classes beside clusters.
CLASSES = ("radio", "dusty", "clump", "co")
#: Faintest source of a class, and the band in which it counts: half of what MultiPoSeIDoN lists at 90 % completeness
#: at 143 GHz (79 mJy), and what it lists at 353 GHz (60 mJy). Casas et al. (2022, A&A 658, A110).
LEAST_FLUX_JY = {"radio": ("143", 0.04), "dusty": ("353", 0.06)}
#: Bright CO, the mean of a cell of 55 arcmin, as :data:`szeek.measure.flags.FLAGS` has it.
LEAST_CO_KKMS = 2.0
#: Cells of HEALPix nside 64 lie within circles of this diameter.
_CELL_ARCMIN = 78.0


def list_classes(
    radio: Sources, dusty: Sources, galaxies: Sources, clumps: Sources, instrument: Instrument
) -> Table:
    """Everything of the simulated sky that belongs to a class of :data:`CLASSES`.

    Parameters
    ----------
    radio, dusty, galaxies, clumps : Sources
        As they are painted; of the galaxies in clusters the point-like ones are radio galaxies.
    instrument : Instrument

    Returns
    -------
    Table
        ``survey`` (the class in capitals), ``name``, ``lon_deg``, ``lat_deg`` (Galactic), ``ra_deg``, ``dec_deg``,
        ``extent_arcmin`` (FWHM of a clump, size of a cell of CO, 0 of a point), ``flux_BAND_jy`` of each band, and
        ``co_kkms`` of CO; NaN where there is none.
    """
    in_clusters = galaxies.take(galaxies.fwhm_arcmin == 0.0)
    tables = [_list_sources("radio", _join(radio, in_clusters), instrument)]
    tables += [_list_sources("dusty", dusty, instrument), _list_sources("clump", clumps, instrument), _list_co()]
    listed = vstack(tables, metadata_conflicts="silent")
    for name in listed.colnames:
        if listed[name].dtype.kind == "f":
            listed[name] = np.asarray(np.ma.filled(np.ma.asarray(listed[name]), np.nan))
    return listed


def _list_sources(kind: str, sources: Sources, instrument: Instrument) -> Table:
    if kind in LEAST_FLUX_JY:
        band, least_jy = LEAST_FLUX_JY[kind]
        sources = sources.take(sources.flux_jy[:, instrument.band_names.index(band)] > least_jy)
    fluxes = {f"flux_{name}_jy": sources.flux_jy[:, k] for k, name in enumerate(instrument.band_names)}
    return _table(kind, sources.lon_deg, sources.lat_deg, sources.fwhm_arcmin, fluxes)


def _list_co() -> Table:
    intensity = co_intensity()
    cells = np.flatnonzero(intensity > LEAST_CO_KKMS)
    lon_deg, lat_deg = healpy.pix2ang(healpy.npix2nside(intensity.size), cells, lonlat=True)
    return _table("co", lon_deg, lat_deg, np.full(cells.size, _CELL_ARCMIN), {"co_kkms": intensity[cells]})


def _table(
    kind: str,
    lon_deg: NDArray[np.float64],
    lat_deg: NDArray[np.float64],
    extent_arcmin: NDArray[np.float64],
    measured: dict[str, NDArray[np.float64]],
) -> Table:
    names = [f"{kind} {number}" for number in range(len(lon_deg))]
    icrs = SkyCoord(lon_deg, lat_deg, frame="galactic", unit="deg").icrs
    columns = {"survey": np.full(len(names), kind.upper()), "name": np.array(names, str)}
    columns |= {"lon_deg": lon_deg, "lat_deg": lat_deg, "ra_deg": icrs.ra.deg, "dec_deg": icrs.dec.deg}
    columns |= {"extent_arcmin": extent_arcmin, **measured}
    return Table(columns)


def _join(*kinds: Sources) -> Sources:
    columns = zip(*((kind.lon_deg, kind.lat_deg, kind.flux_jy, kind.fwhm_arcmin) for kind in kinds), strict=True)
    return Sources(*(np.concatenate(parts) for parts in columns))
