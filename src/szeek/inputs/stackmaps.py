"""The maps that are stacked beside the frequency bands, from their public formats to HEALPix with unit and beam.

With the six bands they are the sixteen of Bonjean (2020), Fig. 5: Compton y, 100 um, lensing convergence, X-rays,
and six maps made here from the WISE x SuperCOSMOS galaxies: over-density of all, passive, transitioning and active
ones, star-formation-rate density and stellar-mass density.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path

import healpy
import numpy as np
from astropy.cosmology import FlatLambdaCDM
from astropy.table import Table
from numpy.typing import NDArray

from szeek.arguments import plain_table
from szeek.inputs.fits_files import open_fits, open_stream
from szeek.inputs.healpix_files import describe_healpix, read_frame
from szeek.inputs.image_files import read_cutout
from szeek.sky.skymaps import Band, SkyMaps

#: Published maps: column, unit where the file does not say, beam in arcmin.
#: Planck 2015 results XXII (A&A 594, A22): MILCA and NILC at 10 arcmin, y without unit.
#: Miville-Deschenes & Lagache (2005, ApJS 157, 302), Table 1: IRIS 100 um, 4.3 arcmin.
#: Voges et al. (1999, A&A 349, 389): ROSAT survey, PSPC, about 1.8 arcmin (90 % radius at 1 keV, survey average).
PUBLISHED: dict[str, tuple[str | None, str | None, float]] = {
    "milca": ("FULL", "y", 10.0),
    "nilc": ("FULL", "y", 10.0),
    "iris_100um": (None, "MJy/sr", 4.3),
    "rosat": (None, None, 1.8),
}
#: Cosmology of distances: the paper's, Planck 2015 results XIII (A&A 594, A13), rounded.
COSMOLOGY = FlatLambdaCDM(H0=67.8, Om0=0.308)

#: Columns of wiseScosPhotoz160708.csv (Bilicki et al. 2016, ApJS 225, 5); W3 is joined from AllWISE.
WISEXSCOS_COLUMNS = {
    "lon_deg": "l",
    "lat_deg": "b",
    "z": "zPhoto_Corr",
    "w1": "w1mCorr",
    "w2": "w2mCorr",
    "w3": "w3mCorr",
}


def read_stack_map(
    name: str,
    path: str | os.PathLike[str],
    *,
    column: str | None = None,
    unit: str | None = None,
    frame: str | None = None,
    ordering: str | None = None,
    fwhm_arcmin: float | None = None,
) -> SkyMaps:
    """Read one map of any quantity, HEALPix or a TAN cut-out: a SkyMaps of one band, RING, Galactic.

    Parameters
    ----------
    name : str
        What it is; 'milca', 'nilc', 'iris_100um' and 'rosat' bring column, unit and beam with them.
    path : path
        HEALPix FITS, plain or compressed, or a TAN image; extension, column and what its header leaves unsaid may
        follow its name in brackets (:mod:`szeek.inputs.fits_files`).
    column, unit, frame, ordering, fwhm_arcmin : optional
        Where the file or the name does not say, or to overrule them.

    Raises
    ------
    ValueError
        Unit, frame, ordering or beam are stated nowhere; no pixel is observed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "y.fits"
    ...     healpy.write_map(path, np.full(12 * 64**2, 2e-6), coord="G", dtype=np.float32)
    ...     y_map = read_stack_map("my_y", path, unit="y", fwhm_arcmin=10.0)
    >>> y_map.nside, y_map.bands[0].fwhm_arcmin, round(float(y_map.values.mean()), 8)
    (64, 10.0, 2e-06)
    """
    known_column, known_unit, known_beam = PUBLISHED.get(name, (None, None, math.nan))
    beam = fwhm_arcmin if fwhm_arcmin is not None else known_beam
    cutout = read_cutout(path, frame)
    values, footprint, found = cutout or _read_healpix(path, column or known_column, frame, ordering)
    said = unit or found or known_unit
    if said is None:
        raise ValueError(
            f"the unit of '{path}' is stated nowhere; pass unit=, or state it after the name: '{path}[TUNIT=K_CMB]'"
        )
    if math.isnan(beam):
        raise ValueError(f"the beam of '{path}' is stated nowhere; pass fwhm_arcmin=")
    if not footprint.any():
        raise ValueError(f"'{path}' has no observed pixel")
    return SkyMaps(values, footprint, (Band(name, math.nan, beam, said),))


def _read_healpix(
    path: str | os.PathLike[str], column: str | None, frame: str | None, ordering: str | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_], str | None]:
    """Values (n_pix, 1), footprint and unit of a HEALPix file, RING, Galactic."""
    file = describe_healpix(path, column)
    values = file.read_ring(frame, ordering)
    footprint = np.isfinite(values)
    values[~footprint] = 0.0
    return values[:, None], footprint, file.unit


def read_convergence(
    path: str | os.PathLike[str],
    *,
    nside: int = 2048,
    fwhm_arcmin: float = 15.0,
    lmin: int = 8,
    lmax: int | None = 2048,
    noise: str | os.PathLike[str] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> SkyMaps:
    """Map of the lensing convergence from published kappa_lm.

    kappa(n) = sum_lm w_l b_l kappa_lm Y_lm(n), b_l a Gaussian beam and w_l = C_l / (C_l + N_l) the Wiener filter
    where the noise is given.

    Source: Planck 2018 results VIII (A&A 641, A8): files dat_klm.fits and nlkk.dat, trusted for 8 <= l <= 2048.

    Parameters
    ----------
    path : path
        kappa_lm in healpy's FITS format, Galactic where the header does not say.
    nside, fwhm_arcmin : int, float
        Of the map.
    lmin, lmax : int
        Multipoles kept; lmax None keeps those of the file.
    noise : path, optional
        Text file with l, N_l, C_l + N_l.
    mask : (12 nside^2,) bool, optional
        Footprint; the whole sky without it.

    Raises
    ------
    OSError
        If it is not a FITS file.
    ValueError
        If it is in another frame, or the mask of another resolution.
    """
    with open_fits(Path(path)) as hdus:  # what is not FITS is told here
        frame = read_frame([hdu.header for hdu in hdus])
        if frame not in (None, "galactic"):
            raise ValueError(f"'{path}' has COORDSYS = '{frame}', expected Galactic kappa_lm; rotate them by healpy")
        alm = healpy.read_alm(str(path))
    top = healpy.Alm.getlmax(len(alm))
    ell = np.arange(top + 1)
    weight = healpy.gauss_beam(np.radians(fwhm_arcmin / 60), top) * (ell >= lmin)
    if lmax is not None:
        weight[lmax + 1 :] = 0.0
    if noise is not None:
        order, noise_l, total_l = np.loadtxt(noise, usecols=(0, 1, 2)).T
        wiener = np.where(total_l > 0, (total_l - noise_l) / np.where(total_l > 0, total_l, 1.0), 0.0)
        weight *= np.interp(ell, order, np.clip(wiener, 0.0, 1.0), left=0.0, right=0.0)
    values = healpy.alm2map(healpy.almxfl(alm, weight), nside).astype(np.float32)
    footprint = np.ones(len(values), bool) if mask is None else np.asarray(mask, bool)
    if footprint.shape != values.shape:
        raise ValueError(f"mask has {footprint.size} pixels, expected {values.size} (nside {nside})")
    values[~footprint] = 0.0
    return SkyMaps(values[:, None], footprint, (Band("convergence", math.nan, fwhm_arcmin, "kappa"),))


def read_wisexscos(
    path: str | os.PathLike[str],
    *,
    z_range: tuple[float, float] = (0.1, 0.3),
    columns: Mapping[str, str] | None = None,
    n_block: int = 1_000_000,
) -> Table:
    """Galaxies of the WISE x SuperCOSMOS catalogue in a redshift range, read block by block.

    Source: Bonjean et al. (2019, A&A 622, A137): 0.1 < z < 0.3.

    Parameters
    ----------
    path : path
        CSV with a header line, plain or compressed.
    z_range : (float, float)
        Photometric redshifts kept.
    columns : mapping, optional
        Our name -> the file's, where it differs from :data:`WISEXSCOS_COLUMNS`. 'log_mass' and 'log_sfr' may be given
        too (a value-added catalogue); then no magnitudes are needed.

    Returns
    -------
    Table
        `lon_deg`, `lat_deg`, `z` and whichever of `w1`, `w2`, `w3` (Vega mag), `log_mass` (Msun), `log_sfr`
        (Msun / yr) the file has.

    Raises
    ------
    ValueError
        If the file lacks position or redshift.
    """
    wanted = {**WISEXSCOS_COLUMNS, "log_mass": "log_mass", "log_sfr": "log_sfr", **(columns or {})}
    path = Path(path)
    blocks: list[NDArray[np.float64]] = []
    with io.TextIOWrapper(open_stream(path), encoding="utf-8") as stream:
        header = [name.strip().strip('"') for name in stream.readline().removeprefix("\ufeff").split(",")]
        # the exact name before one in other letters: l and b are there beside magnitudes
        at = {name.lower(): k for k, name in reversed(list(enumerate(header)))}
        at |= {name: k for k, name in reversed(list(enumerate(header)))}
        found = {ours: at.get(name, at.get(name.lower(), -1)) for ours, name in wanted.items()}
        found = {ours: k for ours, k in found.items() if k >= 0}
        missing = [wanted[k] for k in ("lon_deg", "lat_deg", "z") if k not in found]
        if missing:
            raise ValueError(
                f"'{path}' lacks the columns {', '.join(missing)}, found {', '.join(header)}; rename them, "
                "or name them with columns= from Python"
            )
        z_column = list(found).index("z")
        while lines := stream.readlines(n_block * 100):
            rows = np.genfromtxt(lines, delimiter=",", usecols=tuple(found.values()), ndmin=2)
            z = rows[:, z_column]
            blocks.append(rows[(z > z_range[0]) & (z < z_range[1])])
    galaxies = np.concatenate(blocks) if blocks else np.zeros((0, len(found)))
    for i, name in enumerate(found):
        if name in ("w1", "w2", "w3"):  # -99 and 99 are marks of missing ones
            galaxies[(galaxies[:, i] <= 0) | (galaxies[:, i] > 50), i] = np.nan
    return Table({name: galaxies[:, i] for i, name in enumerate(found)})


def galaxy_properties(
    w1: NDArray[np.float64], w2: NDArray[np.float64], w3: NDArray[np.float64], z: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Stellar mass and star-formation rate from WISE magnitudes and redshift.

    log M / L_W1 = -1.96 (W1 - W2) - 0.03, L_W1 in solar W1 luminosities (absolute magnitude 3.24);
    log SFR = 0.889 log L_12um - 7.76, L_12um = nu L_nu in solar luminosities.

    Source: Cluver et al. (2014, ApJ 782, 90), Eq. 2; Cluver et al. (2017, ApJ 850, 68), Eq. 4.
    Deviation: Bonjean et al. (2019) learn both from SDSS spectra with a random forest on the same magnitudes; that
    training set is not among the public inputs here. No K-corrections: 0.1 dex at z = 0.3.

    Parameters
    ----------
    w1, w2, w3 : (n,) float64
        Vega magnitudes at 3.4, 4.6 and 12 um; NaN gives NaN.
    z : (n,) float64
        Redshift.

    Returns
    -------
    (n,), (n,) float64
        log10 of Msun and of Msun / yr.

    Examples
    --------
    >>> mass, sfr = galaxy_properties(*(np.array([v]) for v in (14.0, 13.8, 11.0, 0.15)))
    >>> round(float(mass[0]), 1), round(float(sfr[0]), 1)
    (11.0, 0.9)
    """
    distance_mpc = COSMOLOGY.luminosity_distance(z).value if len(z) else np.zeros(0)
    modulus = 5.0 * np.log10(distance_mpc * 1e5)
    log_l_w1 = -0.4 * (w1 - modulus - 3.24)
    log_mass = log_l_w1 - 1.96 * (w1 - w2) - 0.03
    # W3 zero point 31.674 Jy at 11.56 um: Jarrett et al. (2011, ApJ 735, 112), Table 1; solar luminosity 3.828e26 W
    flux = 31.674e-26 * 10 ** (-0.4 * w3) * 2.998e8 / 11.56e-6
    luminosity = 4.0 * np.pi * (distance_mpc * 3.0857e22) ** 2 * flux / 3.828e26
    with np.errstate(divide="ignore", invalid="ignore"):
        log_sfr = 0.889 * np.log10(luminosity) - 7.76
    return log_mass, log_sfr


def below_main_sequence(log_mass: NDArray[np.float64], log_sfr: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance below the main sequence of star-forming galaxies in dex of SFR, (n,).

    Source: Elbaz et al. (2007, A&A 468, 33), as in Bonjean et al. (2019), Eq. 1: SFR = 8.7 (M / 1e11 Msun)^0.77.

    Examples
    --------
    >>> float(below_main_sequence(np.array([11.0]), np.log10([0.87]))[0].round(6))
    1.0
    """
    return np.asarray(np.log10(8.7) + 0.77 * (log_mass - 11.0) - log_sfr)


def galaxy_maps(
    galaxies: Table,
    *,
    nside: int = 1024,
    fwhm_arcmin: float = 10.0,
    footprint: NDArray[np.bool_] | None = None,
    active_below_dex: float = 0.4,
    passive_above_dex: float = 1.25,
) -> SkyMaps:
    """Over-density, star-formation and stellar-mass maps of galaxies.

    Over-density: (n / <n>) - 1, n the smoothed number per pixel over the smoothed footprint, so that the survey's
    edge is no hole. Densities: smoothed sums per deg^2.

    Source: Bonjean (2020), Sect. 4: maps of all, passive, transitioning and active galaxies, SFR and stellar mass.
    Deviation: pixel counts smoothed by a Gaussian, where the paper uses a Delaunay tessellation; the limits between
    active, transitioning and passive are arguments, since they depend on how mass and SFR were measured.

    Parameters
    ----------
    galaxies : Table
        `lon_deg`, `lat_deg`, and `log_mass`, `log_sfr`, or `z`, `w1`, `w2`, `w3` to compute them.
    nside, fwhm_arcmin : int, float
        Of the maps.
    footprint : (12 nside^2,) bool, optional
        Where galaxies could have been found; without it, nside-32 pixels that hold any.
    active_below_dex, passive_above_dex : float
        Distance below the main sequence that divides active, transitioning and passive.

    Returns
    -------
    SkyMaps
        Bands 'galaxies', 'passive', 'transitioning', 'active' (over-density), 'sfr' (Msun / yr / deg2) and
        'stellar_mass' (Msun / deg2).

    Raises
    ------
    ValueError
        If there are no galaxies, or none inside the footprint.
    """
    galaxies = plain_table(galaxies, "galaxies")
    ipix = healpy.ang2pix(nside, np.asarray(galaxies["lon_deg"]), np.asarray(galaxies["lat_deg"]), lonlat=True)
    if footprint is None:
        coarse = np.zeros(12 * 32**2)
        coarse[healpy.ang2pix(32, *healpy.pix2ang(nside, ipix))] = 1
        footprint = np.asarray(healpy.ud_grade(coarse, nside) > 0)
    inside = footprint[ipix]
    if not inside.any():
        raise ValueError(f"none of {len(galaxies)} galaxies lies inside the footprint, expected some")
    if {"log_mass", "log_sfr"} <= set(galaxies.colnames):
        log_mass, log_sfr = (np.asarray(galaxies[c], float) for c in ("log_mass", "log_sfr"))
    else:
        lacking = [c for c in ("w1", "w2", "w3", "z") if c not in galaxies.colnames]
        if lacking:
            raise ValueError(
                f"the galaxies lack {', '.join(lacking)}, expected log_mass and log_sfr, or w1, w2, w3 and z; "
                "join missing magnitudes from AllWISE"
            )
        log_mass, log_sfr = galaxy_properties(*(np.asarray(galaxies[c], float) for c in ("w1", "w2", "w3", "z")))
    below = below_main_sequence(log_mass, log_sfr)
    samples = {
        "galaxies": np.ones(len(ipix)),
        "passive": (below > passive_above_dex) * 1.0,
        "transitioning": ((below >= active_below_dex) & (below <= passive_above_dex)) * 1.0,
        "active": (below < active_below_dex) * 1.0,
        "sfr": 10 ** np.nan_to_num(log_sfr, nan=-99.0),
        "stellar_mass": 10 ** np.nan_to_num(log_mass, nan=-99.0),
    }
    per_deg2 = 1.0 / healpy.nside2pixarea(nside, degrees=True)
    smooth_footprint = _smooth(footprint.astype(np.float64), fwhm_arcmin)
    values = np.zeros((len(footprint), len(samples)), np.float32)
    bands = []
    for i, (name, weight) in enumerate(samples.items()):
        counts = np.bincount(ipix[inside], weight[inside], len(footprint)).astype(np.float64)
        density = _smooth(counts, fwhm_arcmin)[footprint] / np.maximum(smooth_footprint[footprint], 0.1)
        if name in ("sfr", "stellar_mass"):
            values[footprint, i] = density * per_deg2
            unit = "Msun / (yr deg2)" if name == "sfr" else "Msun / deg2"
        else:
            mean = counts[footprint].mean()
            values[footprint, i] = density / mean - 1.0 if mean > 0 else 0.0
            unit = "over-density"
        bands.append(Band(name, math.nan, fwhm_arcmin, unit))
    return SkyMaps(values, footprint, tuple(bands))


def _smooth(values: NDArray[np.float64], fwhm_arcmin: float) -> NDArray[np.float64]:
    return np.asarray(healpy.smoothing(values, fwhm=np.radians(fwhm_arcmin / 60)))
