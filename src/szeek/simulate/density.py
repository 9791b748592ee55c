"""Lognormal matter density in redshift shells: what haloes, the CIB, lensing and galaxies all follow.

C_l of a shell = 1/chi^2 int dk_par/(2 pi) P(sqrt(k_par^2 + (l+1/2)^2/chi^2)) sinc^2(k_par depth/2)
over-density of a tracer of bias b = exp(b g - b^2 var/2) - 1,   g Gaussian with xi_g = ln(1 + xi)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any
from zlib import crc32

import ducc0
import numpy as np
from colossus.cosmology import cosmology as colossus_cosmology
from numpy.typing import NDArray

from szeek.parallel import side_by_side
from szeek.physics.cosmology import COSMOLOGY, SIGMA8, SPECTRAL_INDEX

Floats = NDArray[np.float64]

SHELL_NSIDE = 256
_SHELL_LMAX = 3 * SHELL_NSIDE - 1
_SHELL_DEPTH_MPC = 150.0
_SMOOTHING_MPC = 3.0  # a Lagrangian radius: the linear spectrum is no guide below it


def random_generator(seed: int, component: str) -> np.random.Generator:
    """Random generator of one named component, so that a new component leaves the others' draws alone."""
    return np.random.default_rng(np.random.SeedSequence([seed, crc32(component.encode())]))


@cache
def set_colossus() -> Any:
    """The cosmology as colossus has it, which its functions then use; without its cache files."""
    parameters = {"flat": True, "H0": COSMOLOGY.H0.value, "Om0": COSMOLOGY.Om0, "Ob0": COSMOLOGY.Ob0}
    parameters |= {"Tcmb0": COSMOLOGY.Tcmb0.value, "Neff": COSMOLOGY.Neff, "sigma8": SIGMA8, "ns": SPECTRAL_INDEX}
    return colossus_cosmology.setCosmology("szeek", params=parameters, persistence="")


@dataclass(frozen=True)
class DensityShell:
    """One redshift shell of a lognormal matter density field on HEALPix.

    Parameters
    ----------
    index : int
        Number of the shell, 0 nearest.
    z_min, z_max, z : float
        Edges, and the redshift of the comoving middle.
    gaussian : (12 * 256**2,) float32
        RING, Galactic: the Gaussian field g; the matter over-density is exp(g - var/2) - 1.
    variance : float
        Variance of g.
    """

    index: int
    z_min: float
    z_max: float
    z: float
    gaussian: NDArray[np.float32]
    variance: float

    @property
    def delta(self) -> NDArray[np.float32]:
        """Matter over-density, (n_pix,) float32, mean 0 over an ensemble."""
        return self.overdensity(1.0)

    def overdensity(self, bias: float) -> NDArray[np.float32]:
        """Over-density of a tracer of linear bias ``bias``, (n_pix,) float32 > -1: exp(b g - b^2 var/2) - 1."""
        exponent = np.float32(bias) * self.gaussian - np.float32(bias * bias * self.variance / 2)
        return np.asarray(np.expm1(exponent, out=exponent))


@cache
def _shell_edges() -> tuple[float, ...]:
    """Redshift edges of the shells: equal comoving depth to z = 1.5, three times deeper from there to z = 3.5."""
    near, far, end = (float(COSMOLOGY.comoving_distance(z).value) for z in (0.01, 1.5, 3.5))
    chi = np.append(
        np.linspace(near, far, 1 + round((far - near) / _SHELL_DEPTH_MPC)),
        np.linspace(far, end, 1 + round((end - far) / (3 * _SHELL_DEPTH_MPC)))[1:],
    )
    z = np.linspace(0.005, 3.6, 4000)
    return tuple(np.interp(chi, COSMOLOGY.comoving_distance(z).value, z))


def _shell_spectrum(z_min: float, z_max: float) -> Floats:
    """C_l of the matter over-density averaged over a shell, linear, (lmax+1,), flat-sky with a finite depth.

    C_l = 1/chi^2 int dk_par/(2 pi) P(sqrt(k_par^2 + (l+1/2)^2/chi^2)) sinc^2(k_par depth/2)
    """
    near, far = COSMOLOGY.comoving_distance([z_min, z_max]).value
    chi, depth = (near + far) / 2, far - near
    h = COSMOLOGY.h
    k_parallel = np.linspace(0, 40 / depth, 161)[:, None]
    k = np.hypot(k_parallel, (np.arange(_SHELL_LMAX + 1) + 0.5) / chi)
    grid = np.geomspace(1e-5, 50.0, 1000)  # 1/Mpc
    z = (z_min + z_max) / 2
    power = set_colossus().matterPowerSpectrum(grid / h, z) / h**3 * np.exp(-((grid * _SMOOTHING_MPC) ** 2))
    window = np.sinc(k_parallel * depth / 2 / np.pi) ** 2
    spectrum = np.trapezoid(np.interp(k, grid, power) * window, k_parallel, axis=0)
    return np.asarray(spectrum / np.pi / chi**2)


@cache
def _legendre() -> tuple[Floats, Floats, Floats]:
    """Gauss-Legendre nodes and weights, and P_l at the nodes, (lmax+1, n_node)."""
    nodes, weights = np.polynomial.legendre.leggauss(2 * (_SHELL_LMAX + 1))
    values = np.empty((_SHELL_LMAX + 1, nodes.size))
    values[0], values[1] = 1.0, nodes
    for degree in range(2, _SHELL_LMAX + 1):
        values[degree] = ((2 * degree - 1) * nodes * values[degree - 1] - (degree - 1) * values[degree - 2]) / degree
    return nodes, weights, values


def _gaussian_spectrum(spectrum: Floats) -> Floats:
    """Spectrum of the Gaussian field whose lognormal has ``spectrum``: xi_g = ln(1 + xi)."""
    _, weights, legendre = _legendre()
    order = 2 * np.arange(_SHELL_LMAX + 1) + 1
    correlation = (order * spectrum / (4 * np.pi)) @ legendre
    return np.maximum(2 * np.pi * (legendre @ (weights * np.log1p(correlation))), 0.0)


def _draw_field(seed: int, index: int, spectrum: Floats) -> NDArray[np.float32]:
    """Gaussian random field with a spectrum, RING nside 256."""
    random = random_generator(seed, f"density shell {index}")
    lmax = _SHELL_LMAX
    order = _multipole_of_coefficient()
    alm = random.standard_normal(2 * order.size, dtype=np.float32).view(np.complex64)
    alm *= np.sqrt(spectrum / 2).astype(np.float32)[order]
    alm[: lmax + 1] = alm[: lmax + 1].real * np.float32(np.sqrt(2))
    geometry = ducc0.healpix.Healpix_Base(SHELL_NSIDE, "RING").sht_info()
    values = ducc0.sht.synthesis(alm=alm[None], spin=0, lmax=lmax, nthreads=1, **geometry)
    return np.asarray(values[0], np.float32)


@cache
def _multipole_of_coefficient() -> NDArray[np.int64]:
    """l of each coefficient of a shell, m-major."""
    return np.concatenate([np.arange(m, _SHELL_LMAX + 1) for m in range(_SHELL_LMAX + 1)])


@cache
def _field_spectrum(z_min: float, z_max: float) -> Floats:
    """C_l of a shell's Gaussian field, (lmax + 1,); one for all seeds."""
    return _gaussian_spectrum(_shell_spectrum(z_min, z_max))


def density_shells(seed: int, *, z_max: float = 3.5) -> Iterator[DensityShell]:
    """Lognormal matter density in redshift shells, the very fields that the haloes follow.

    Each shell's C_l is the linear matter spectrum (Eisenstein & Hu 1998), projected over the shell's depth of
    about 150 Mpc (450 Mpc beyond z = 1.5); shells are independent of one another. Whoever needs them more than
    once keeps them in a list: drawing all takes some seconds.

    Parameters
    ----------
    seed : int
        Seed of the sky; the same as given to :func:`draw_haloes`.
    z_max : float
        Shells that begin beyond it are left out; at most 3.5.

    Yields
    ------
    DensityShell
        From near to far. 3 MB each.

    Examples
    --------
    >>> shell = next(density_shells(1))
    >>> shell.delta.shape, bool(abs(shell.delta.mean()) < 0.5)
    ((786432,), True)
    """
    for index, (near, far) in enumerate(pairwise(_shell_edges())):
        if near >= z_max:
            return
        yield _draw_density_shell(seed, index, near, far)


def all_density_shells(seed: int, threads: int = 0) -> list[DensityShell]:
    """All of :func:`density_shells` in a list, drawn side by side.

    Parameters
    ----------
    seed : int
    threads : int
        0 uses all cores; the result has the same bits for any number.

    Examples
    --------
    >>> shells = all_density_shells(1)
    >>> len(shells), bool((shells[0].delta == next(density_shells(1)).delta).all())
    (35, True)
    """
    edges = list(enumerate(pairwise(_shell_edges())))
    for _, (near, far) in edges:
        _field_spectrum(near, far)  # colossus is for one thread
    return side_by_side(lambda shell: _draw_density_shell(seed, shell[0], *shell[1]), edges, threads)


def _draw_density_shell(seed: int, index: int, near: float, far: float) -> DensityShell:
    spectrum = _field_spectrum(near, far)
    variance = float(((2 * np.arange(spectrum.size) + 1) * spectrum).sum() / (4 * np.pi))
    return DensityShell(index, near, far, (near + far) / 2, _draw_field(seed, index, spectrum), variance)
