r"""What shines between clusters and sources on a field: CMB, unresolved galaxies, and the Galaxy.

Up to the band limit of the full sky of the same seed they are that sky's own coefficients, evaluated at the field's
pixels; beyond it they go on as Gaussian fields on the lattice. The CIB keeps the pattern of the full sky's 217 GHz
band, with power

    C_l(nu, nu') = C_l^clustered(217, 217) h(nu) h(nu') + C^shot(150, 150) g(nu) g(nu'),    g, h ~ nu^beta B_nu(25 K)

that agrees with ground-based measurements, which Planck's model at 143 GHz exceeds by two thirds. It is one pattern
in all bands, as these measurements are modelled with too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources

import ducc0
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from szeek.inputs.instrument import read_instrument
from szeek.inputs.reddening import read_column_map
from szeek.physics.instrument import Instrument
from szeek.simulate.components.cib import FLUX_CUT_JY, clustered_spectra, draw_cib, dusty_shot_noise
from szeek.simulate.components.cmb import draw_cmb, lensed_spectrum
from szeek.simulate.components.dust import (
    cascade_amplitude,
    draw_octaves,
    large_scales,
    log_colours,
    modified_blackbody,
    octave_spectrum,
    with_ridges,
)
from szeek.simulate.components.sources import Sources, draw_dusty_sources
from szeek.simulate.density import DensityShell
from szeek.simulate.field.lattice import Lattice, multipoles
from szeek.simulate.field.paint import NARROW_SIGMA_ARCMIN
from szeek.sky.harmonics import Alm, filter_alm, multipole_limit

Floats = NDArray[np.float64]
Map32 = NDArray[np.float32]

_ARCMIN = np.pi / 180 / 60
_FINE_CMB_FROM = 2000
#: Lowest and highest frequency that the spectrum of unresolved galaxies is known at.
FREQUENCIES_GHZ = (20.0, 320.0)

#: Power D_3000 in uK^2 at 150 GHz of dusty galaxies below 6.4 mJy, and its dust: Reichardt et al. (2021, ApJ 908,
#: 199), Sect. 5: shot noise 7.24 +- 0.63, beta 1.48; clustered 4.03 (1-halo 2.21 +- 0.88, 2-halo 1.82 +- 0.31), beta
#: 2.23; 25 K.
SHOT_D3000_UK2, SHOT_BETA, CLUSTERED_BETA, DUST_K = 7.24, 1.48, 2.23, 25.0
SHOT_CUT_JY = 0.0064
_MJYSR_PER_KCMB_150 = 398.6
KSZ_D3000_UK2 = 2.85
_UNPAINTED = 0.05  # of the shot noise at least is drawn as a field, as in the full sky

_CASCADE_END = 12_000


def narrow_beam(ell: Floats) -> Floats:
    """Window of the beam that clusters and sources are painted through."""
    return np.asarray(np.exp(-0.5 * (ell * NARROW_SIGMA_ARCMIN * _ARCMIN) ** 2))


def synthesise_on(lattice: Lattice, alms: Sequence[Alm], threads: int = 0) -> list[Map32]:
    """Galactic coefficients of any lmax at the pixels of a field, (ny, nx) each."""
    colatitude, longitude = lattice.galactic
    at = np.stack([colatitude.ravel(), longitude.ravel() % (2 * np.pi)], axis=1)
    out = []
    for alm in alms:
        values = ducc0.sht.synthesis_general(
            alm=alm[None], spin=0, lmax=multipole_limit(alm), loc=at, epsilon=1e-5, nthreads=threads
        )
        out.append(np.asarray(values[0], np.float32).reshape(lattice.shape))
    return out


# --- CMB -----------------------------------------------------------------------------------------------------


@cache
def fine_cmb_spectrum() -> Floats:
    """Lensed C_l in K_CMB^2 at the nodes of the lattice's filters; 0 beyond l = 11,000, (n_ell,)."""
    with (resources.files("szeek.simulate") / "data" / "planck2018_lensed_tt_fine.txt").open() as lines:
        table = np.loadtxt(lines)
    ell = multipoles()
    coarse = lensed_spectrum(_FINE_CMB_FROM)
    inside = np.clip(ell, table[0, 0], table[-1, 0])
    band_power = np.exp(CubicSpline(table[:, 0], np.log(table[:, 1]))(inside)) * 1e-12
    with np.errstate(divide="ignore", invalid="ignore"):
        fine = np.where(ell <= table[-1, 0], band_power * 2 * np.pi / (ell * (ell + 1)), 0.0)
    return np.where(ell <= _FINE_CMB_FROM, coarse[np.minimum(ell, _FINE_CMB_FROM).astype(np.int64)], fine)


@cache
def ksz_spectrum() -> Floats:
    """C_l in K_CMB^2 of the kinetic SZ effect of gas outside the haloes, (n_ell,): flat D_l, falling below l = 1000.

    Source: D_3000 = 3.0 +- 1.0 uK^2, Reichardt et al. (2021), of which haloes above 1e13 Msun make 0.15.
    """
    ell = multipoles()
    band_power = KSZ_D3000_UK2 * 1e-12 * np.minimum(ell / 1000.0, 1.0)
    return np.divide(band_power * 2 * np.pi, ell * (ell + 1), out=np.zeros_like(ell), where=ell > 0)


def cmb_filters(lmax: int) -> tuple[Floats, Floats]:
    """What the full sky's CMB and white noise are filtered with to make that of a field, (n_ell,) each.

    The first mends the full sky's spectrum, 5 % low at l = 4000; the second has the kinetic SZ effect too.
    """
    ell, fine = multipoles(), fine_cmb_spectrum()
    drawn = lensed_spectrum(lmax)[np.minimum(ell, lmax).astype(np.int64)]
    mended = np.sqrt(np.divide(fine, drawn, out=np.ones_like(fine), where=(ell > _FINE_CMB_FROM) & (ell <= lmax)))
    return mended, np.sqrt(np.where(ell > lmax, fine, 0.0) + ksz_spectrum())


def cmb_on(lattice: Lattice, lmax: int, seed: int, threads: int = 0) -> Map32:
    """The full sky's CMB at the pixels of a field, K_CMB, no beam, (ny, nx)."""
    return synthesise_on(lattice, [draw_cmb(lmax, seed)], threads)[0]


# --- unresolved galaxies -------------------------------------------------------------------------------------


def grey_body(freq_ghz: Floats | float, beta: float, pivot_ghz: float) -> Floats:
    """Brightness of dust of :data:`DUST_K` against that at a pivot, (n,) float64."""
    ratio = [
        modified_blackbody(float(f), DUST_K, beta) / modified_blackbody(pivot_ghz, DUST_K, beta)
        for f in np.atleast_1d(freq_ghz)
    ]
    return np.asarray(ratio, np.float64)


def dusty_shot_jy2_sr(freq_ghz: Floats) -> Floats:
    """Shot noise of dusty galaxies below 6.4 mJy at 150 GHz, (n,) float64."""
    power = SHOT_D3000_UK2 * 1e-12 * 2 * np.pi / (3000 * 3001) * (_MJYSR_PER_KCMB_150 * 1e6) ** 2
    return power * grey_body(freq_ghz, SHOT_BETA, 150.0) ** 2


def clustered_jy2_sr(freq_ghz: Floats) -> Floats:
    """Clustered power of dusty galaxies at the nodes of the lattice's filters, (n, n_ell) float64."""
    ell = multipoles()
    table = clustered_spectra(int(ell[-1]))[ell.astype(np.int64), 2, 2]
    return np.asarray(grey_body(freq_ghz, CLUSTERED_BETA, 217.0)[:, None] ** 2 * table)


def cib_power_jy2_sr(instrument: Instrument, dusty: Sources) -> Floats:
    """Power of dusty galaxies that are not painted one by one, (n_band, n_ell) float64.

    Parameters
    ----------
    instrument : Instrument
    dusty : Sources
        Those of the full sky in the instrument's bands: what they have below the flux cut is left out here.
    """
    freq_ghz = np.array([band.freq_ghz for band in instrument.bands])
    shot = dusty_shot_jy2_sr(freq_ghz)
    cut = SHOT_CUT_JY * grey_body(freq_ghz, SHOT_BETA, 150.0)
    painted = np.diag(dusty.shot_noise(cut))
    left = np.maximum(shot - painted, _UNPAINTED * shot)
    return clustered_jy2_sr(freq_ghz) + left[:, None]


def cib_filters(instrument: Instrument, dusty: Sources, lmax: int, seed: int) -> tuple[Floats, Floats]:
    """What the full sky's CIB at 217 GHz and white noise are filtered with in each band, (n_band, n_ell) each.

    Both give map units, the first from K_CMB.
    """
    hfi, ell = read_instrument("planck-hfi"), multipoles()
    per_jy = 1e-6 * instrument.unit_per_kcmb / instrument.mjysr_per_kcmb
    root = np.sqrt(cib_power_jy2_sr(instrument, dusty)) * per_jy[:, None]
    painted = float(_painted_hfi(seed)[2, 2])
    shot = dusty_shot_noise()[2, 2]
    drawn = clustered_spectra(int(ell[-1]))[ell.astype(np.int64), 2, 2] + shot - min(painted, 0.95 * shot)
    from_drawn = root / np.sqrt(drawn) * 1e6 * hfi.mjysr_per_kcmb[2]
    return np.where((ell >= 2) & (ell <= lmax), from_drawn, 0.0), np.where(ell > lmax, root, 0.0)


def cib_on(lattice: Lattice, lmax: int, seed: int, shells: Sequence[DensityShell], threads: int = 0) -> Map32:
    """The full sky's CIB at 217 GHz at the pixels of a field, K_CMB, no beam, (ny, nx)."""
    hfi = read_instrument("planck-hfi")
    alm = draw_cib(hfi, lmax, seed, shot_painted_jy2_sr=_painted_hfi(seed), shells=shells, threads=threads)[2]
    return synthesise_on(lattice, [alm], threads)[0]


@cache
def _painted_hfi(seed: int) -> Floats:
    """Shot noise of the dusty sources that the full sky paints."""
    hfi = read_instrument("planck-hfi")
    return draw_dusty_sources(hfi, seed).shot_noise(np.array([FLUX_CUT_JY[name] for name in hfi.band_names]))


# --- the Galaxy ----------------------------------------------------------------------------------------------


def add_galaxy(lattice: Lattice, instrument: Instrument, lmax: int, seed: int, out: Map32, threads: int = 0) -> None:
    """Add the Galaxy in map units, through the narrow beam, to interleaved maps (ny, nx, n_band), in place.

    Its cascade of octaves (:mod:`szeek.simulate.components.dust`) goes on to l = 12,000 with fields of its own.
    """
    ell = multipoles()
    amplitude = cascade_amplitude()
    large = large_scales(np.log(read_column_map("dust_ebv_Planck13")))
    log_column = synthesise_on(lattice, [large], threads)[0]
    for alm, variance in draw_octaves(lmax, seed):
        smooth = filter_alm(alm, narrow_beam(np.arange(multipole_limit(alm) + 1.0)), out=alm)
        log_column += with_ridges(synthesise_on(lattice, [smooth], threads)[0], amplitude * variance)
    low = lmax + 1
    while low < _CASCADE_END:
        high = min(2 * low, _CASCADE_END)
        spectrum, variance = octave_spectrum(low, high)
        root = np.sqrt(np.append(spectrum, 0.0)[np.minimum(ell, high).astype(np.int64)]) * narrow_beam(ell)
        octave = lattice.convolve([lattice.white(seed, f"dust octave {low}")], [[root]])[0]
        log_column += with_ridges(octave, amplitude * variance)
        low *= 2
    colours = synthesise_on(lattice, log_colours(instrument, seed), threads)
    for band, colour in enumerate(colours):
        factor = instrument.unit_per_kcmb[band] / instrument.mjysr_per_kcmb[band]
        out[:, :, band] += np.exp(log_column + colour) * np.float32(factor)
