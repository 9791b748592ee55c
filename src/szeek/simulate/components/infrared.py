"""The last three of the sixteen stacked maps: dust at 100 um, star formation and stellar mass of the near galaxies.

iris_100um.fits        MJy/sr, 4.3 arcmin: the bands' Galaxy, dusty galaxies and cluster dust at 100 um, and noise
sfr.fits               Msun / yr / deg2, 10 arcmin: the galaxies of galaxies_{passive,transitioning,active}.fits, each
stellar_mass.fits      Msun / deg2          with a star-formation rate and a mass of its kind

Nothing else of the sky depends on it: noise comes from generators of its own, dust and galaxies from what there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import healpy
import numpy as np
from astropy.table import Table

from szeek._version import __version__
from szeek.physics.instrument import Instrument
from szeek.simulate.components.companions import GALAXIES_PER_ARCMIN2, GALAXY_KINDS
from szeek.simulate.components.dust import GalacticEmission, log_colours
from szeek.simulate.components.sources import draw_cluster_galaxies, draw_dusty_sources, paint_sources
from szeek.simulate.haloes import random_generator
from szeek.simulate.planckfits import write_planck_map
from szeek.sky.harmonics import (
    Floats,
    Map32,
    beam_window,
    gaussian_alm,
    multipole_limit,
    pixel_window,
    synthesise,
)
from szeek.sky.skymaps import Band

#: IRIS at 100 um. Miville-Deschenes & Lagache (2005, ApJS 157, 302), Table 1: 4.3 arcmin, noise 0.06 MJy/sr, which a
#: white level of 6.5 kJy/sr deg leaves behind that beam.
IRIS = Instrument(
    "iris",
    (Band("iris_100um", 2997.9, 4.3, "MJy/sr"),),
    mjysr_per_kcmb=np.ones(1),
    tsz_kcmb=np.zeros(1),
    noise_uk_deg=np.array([6.5]),
)
_GALAXY_FWHM_ARCMIN = 10.0


@dataclass(frozen=True)
class Kind:
    """Masses and star formation of one kind of galaxies, both lognormal.

    Parameters
    ----------
    log_mass : float
        log10 of the median stellar mass in Msun.
    below_dex : float
        Median distance below the main sequence, in dex of the star-formation rate.
    """

    log_mass: float
    below_dex: float

    def mass_moments(self) -> tuple[float, float]:
        """Mean in Msun and variance of the stellar mass."""
        return _lognormal(self.log_mass, _MASS_SCATTER_DEX)

    def rate_moments(self) -> tuple[float, float]:
        """Mean in Msun / yr and variance of the star-formation rate: SFR = 8.7 (M / 1e11 Msun)^0.77 10^-below.

        Source: Elbaz et al. (2007, A&A 468, 33), as :func:`szeek.inputs.stackmaps.below_main_sequence`.
        """
        scatter = np.hypot(0.77 * _MASS_SCATTER_DEX, _RATE_SCATTER_DEX)
        return _lognormal(np.log10(8.7) + 0.77 * (self.log_mass - 11.0) - self.below_dex, float(scatter))


# WISExSCOS at 0.1 < z < 0.3: most galaxies between 1e10 and 1e11.5 Msun; active within 0.4 dex of the main sequence,
# passive more than 1.25 below it. Bonjean et al. (2019, A&A 622, A137), Figs. 7 and 8, read off.
KINDS = {"passive": Kind(10.9, 1.7), "transitioning": Kind(10.8, 0.8), "active": Kind(10.6, 0.0)}
_MASS_SCATTER_DEX, _RATE_SCATTER_DEX = 0.3, 0.2


def write_infrared_maps(
    haloes: Table, galaxy: GalacticEmission, seed: int, nside: int, folder: Path, *, threads: int = 0
) -> dict[str, Path]:
    """Make and write the three maps of a sky whose galaxy maps are in the folder.

    Parameters
    ----------
    haloes : Table
        The sky's truth.
    galaxy : GalacticEmission
        The sky's Galaxy, in any bands.
    seed : int
    nside : int
        Of the galaxy maps too.
    folder : Path
    threads : int

    Returns
    -------
    dict of str to Path
    """
    cards = {"SEED": seed, "CREATOR": f"szeek {__version__}"}
    over_density = {
        kind: np.asarray(healpy.read_map(folder / f"galaxies_{kind}.fits", dtype=np.float32)) for kind in KINDS
    }
    return {
        name: write_planck_map(folder / f"{name}.fits", values, column=column, unit=unit, extra=cards)
        for name, column, unit, values in (
            ("iris_100um", "I_STOKES", "MJy/sr", iris_map(haloes, galaxy, seed, nside, threads)),
            ("sfr", "SFR", "Msun / (yr deg2)", density_map("sfr", over_density, seed, threads)),
            ("stellar_mass", "MASS", "Msun / deg2", density_map("stellar_mass", over_density, seed, threads)),
        )
    }


def iris_map(haloes: Table, galaxy: GalacticEmission, seed: int, nside: int, threads: int = 0) -> Map32:
    """Sky at 100 um, (12 nside^2,) float32 in MJy/sr: Galactic dust, dusty galaxies, dust of cluster galaxies, noise.

    The galaxies are those of the bands, with their spectra. Deviation: no zodiacal light, no unresolved CIB.
    """
    lmax = multipole_limit(galaxy.log_column)
    beam = beam_window(IRIS.bands[0].fwhm_arcmin, lmax)
    dust = GalacticEmission(galaxy.log_column, log_colours(IRIS, seed), IRIS)
    values = dust.band_map(0, nside, beam * pixel_window(nside, lmax), threads)
    painted = np.zeros((values.size, 1), np.float32)
    beams = np.array([IRIS.bands[0].fwhm_arcmin])
    for sources in (draw_dusty_sources(IRIS, seed), draw_cluster_galaxies(haloes, IRIS, seed)):
        paint_sources(sources, IRIS, nside, beams, out=painted, threads=threads)
    values += painted[:, 0]
    white = (1e-3 * IRIS.noise_uk_deg[0] * np.pi / 180) ** 2
    noise = gaussian_alm(white * beam**2, lmax, random_generator(seed, "iris noise"))
    values += synthesise(noise, nside, threads)
    return values


def density_map(what: str, over_density: dict[str, Map32], seed: int, threads: int = 0) -> Map32:
    """Star-formation rate ('sfr', Msun / yr / deg2) or stellar mass ('stellar_mass', Msun / deg2), (12 nside^2,).

    Sum over the kinds of their number per deg2 times the mean of one galaxy. That galaxies of one kind differ adds
    noise: a white field of the variance of their sum, behind the same beam.

    Parameters
    ----------
    what : {'sfr', 'stellar_mass'}
    over_density : dict of str to (12 nside^2,) float32
        n / <n> - 1 of each of :data:`KINDS`, 10 arcmin.
    """
    nside = healpy.npix2nside(len(next(iter(over_density.values()))))
    total = np.zeros(12 * nside**2, np.float32)
    mean, variance = 0.0, 0.0
    for name, kind in KINDS.items():
        number = GALAXY_KINDS[name][0] * GALAXIES_PER_ARCMIN2 * 3600
        one, scatter = kind.rate_moments() if what == "sfr" else kind.mass_moments()
        total += np.float32(number * one) * (1 + over_density[name])
        mean, variance = mean + number * one, variance + number * scatter
    lmax = 2 * nside
    spectrum = variance / mean**2 * (np.pi / 180) ** 2 * beam_window(_GALAXY_FWHM_ARCMIN, lmax) ** 2
    noise = synthesise(gaussian_alm(spectrum, lmax, random_generator(seed, f"galaxies {what}")), nside, threads)
    total += np.float32(mean) * noise * np.sqrt(np.maximum(total / np.float32(mean), 0))
    return total


def _lognormal(log_median: Floats | float, scatter_dex: float) -> tuple[float, float]:
    """Mean and variance of 10^N(log_median, scatter_dex).

    Examples
    --------
    >>> _lognormal(0.0, 0.0)
    (1.0, 0.0)
    """
    spread = (np.log(10) * scatter_dex) ** 2
    mean = 10**log_median * np.exp(spread / 2)
    return float(mean), float(mean**2 * np.expm1(spread))
