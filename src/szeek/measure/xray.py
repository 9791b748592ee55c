"""X-ray photons at given positions: rate, flux and significance over the background of a ring."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numpy.typing import ArrayLike, NDArray

from szeek.arguments import plain_array, plain_table
from szeek.measure.pairs import table_vectors
from szeek.physics.xray import ROSAT_FLUX_PER_RATE, ROSAT_PSF_ARCMIN
from szeek.sky.photons import PhotonMap

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class XrayOptions:
    """How photons are counted.

    Parameters
    ----------
    psf_arcmin : float
        Radius that holds 90 % of a point's photons.
    flux_per_rate : float
        erg/s/cm2 of one count per second.
    theta500_arcmin : float
        Taken where a source's own is unknown.
    least_arcmin, greatest_arcmin : float
        Limits of the aperture, whose radius is theta500 and the PSF's in quadrature.
    ring : (float, float)
        Inner and outer radius of the background's ring, in apertures.
    """

    psf_arcmin: float = ROSAT_PSF_ARCMIN
    flux_per_rate: float = ROSAT_FLUX_PER_RATE
    theta500_arcmin: float = 5.0
    least_arcmin: float = 3.0
    greatest_arcmin: float = 15.0
    ring: tuple[float, float] = (1.5, 3.5)

    def aperture_arcmin(self, theta500_arcmin: ArrayLike) -> Floats:
        """Radius of the aperture for each size; NaN stands for an unknown one.

        Examples
        --------
        >>> XrayOptions(psf_arcmin=3.0).aperture_arcmin([4.0, 40.0, np.nan]).round(2).tolist()
        [5.0, 15.0, 5.83]
        """
        theta500 = np.asarray(theta500_arcmin, np.float64)
        theta500 = np.where(np.isfinite(theta500), theta500, self.theta500_arcmin)
        radius: Floats = np.clip(np.hypot(theta500, self.psf_arcmin), self.least_arcmin, self.greatest_arcmin)
        return radius


def li_ma_significance(n_on: ArrayLike, n_off: ArrayLike, alpha: ArrayLike) -> Floats:
    """Significance of counts over a background that was counted elsewhere; negative for a lack of photons.

    S = sign(N - a M) sqrt(2) {N ln[(1 + a)/a N/(N + M)] + M ln[(1 + a) M/(N + M)]}^1/2

    Source: Li & Ma (1983, ApJ 272, 317), Eq. 17.

    Parameters
    ----------
    n_on, n_off : float array
        Counts N in the aperture and M in the ring.
    alpha : float array
        Exposure times area of the aperture over that of the ring.

    Returns
    -------
    float64 array

    Examples
    --------
    >>> li_ma_significance([30.0, 10.0, 2.0], [50.0, 50.0, 50.0], 0.2).round(2).tolist()
    [4.46, 0.0, -2.91]
    """
    on, off, a = np.broadcast_arrays(*(np.asarray(v, np.float64) for v in (n_on, n_off, alpha)))
    with np.errstate(divide="ignore", invalid="ignore"):
        first = np.where(on > 0, on * np.log((1 + a) / a * on / (on + off)), 0.0)
        second = np.where(off > 0, off * np.log((1 + a) * off / (on + off)), 0.0)
    return np.asarray(np.sign(on - a * off) * np.sqrt(2 * np.maximum(first + second, 0.0)))


def measure_xray(sources: Table, photons: PhotonMap, options: XrayOptions = XrayOptions()) -> Table:
    """Photons of each source: counts within an aperture matched to its size, over the background in a ring about it.

    Parameters
    ----------
    sources : Table
        ``lon_deg``, ``lat_deg`` (Galactic); ``theta500_arcmin`` where it is known.
    photons : PhotonMap
    options : XrayOptions

    Returns
    -------
    Table
        ``xray_radius_arcmin`` of the aperture, ``xray_exposure_s``, ``xray_counts``, ``xray_background`` expected
        there, ``xray_rate`` and ``xray_rate_err`` (ct/s), ``xray_flux`` and ``xray_flux_err`` (erg/s/cm2, in the
        aperture), ``xray_snr`` (:func:`li_ma_significance`). NaN where less than half of aperture or ring was
        observed.

    Examples
    --------
    >>> counts = np.full(12 * 256**2, 3.0, np.float32)
    >>> sky = PhotonMap(counts, np.full(counts.size, 300.0, np.float32), 188.8)
    >>> found = measure_xray(Table({"lon_deg": [10.0], "lat_deg": [50.0], "theta500_arcmin": [60.0]}), sky,
    ...                      XrayOptions(greatest_arcmin=60.0))
    >>> float(found["xray_rate"][0]), float(found["xray_snr"][0])
    (0.0, 0.0)
    """
    sources = plain_table(sources, "sources")
    vectors = table_vectors(sources)
    size = np.full(len(sources), np.nan)
    if "theta500_arcmin" in sources.colnames:
        size = plain_array(sources["theta500_arcmin"], "theta500_arcmin", "arcmin")
    aperture = options.aperture_arcmin(size)
    inner, outer = options.ring
    sums = np.full((len(sources), 5), np.nan)  # counts, exposure sum, pixels inside; counts, exposure sum of the ring
    for row, (vector, radius) in enumerate(zip(vectors, aperture, strict=True)):
        pixels, separation = photons.disc(vector, outer * radius)
        inside, around = separation <= radius, separation > inner * radius
        wanted = np.pi * radius**2 / photons.pixel_arcmin2
        if inside.sum() < 0.5 * wanted or around.sum() < 0.5 * wanted * (outer**2 - inner**2):
            continue
        counts = photons.counts[pixels].astype(np.float64)
        exposure = photons.exposure_s[pixels].astype(np.float64)
        sums[row] = (
            counts[inside].sum(), exposure[inside].sum(), inside.sum(), counts[around].sum(), exposure[around].sum()
        )  # fmt: skip
    on, exposure_on, n_pixel, off, exposure_off = sums.T
    alpha = exposure_on / exposure_off
    seconds = exposure_on / n_pixel
    rate = (on - alpha * off) / seconds
    error = np.sqrt(np.maximum(on, 1.0) + alpha**2 * off) / seconds
    return Table(
        {
            "xray_radius_arcmin": aperture,
            "xray_exposure_s": seconds,
            "xray_counts": on,
            "xray_background": alpha * off,
            "xray_rate": rate,
            "xray_rate_err": error,
            "xray_flux": rate * options.flux_per_rate,
            "xray_flux_err": error * options.flux_per_rate,
            "xray_snr": li_ma_significance(on, off, alpha),
        }
    )


def chance_of_snr(snr: ArrayLike, exposure_s: ArrayLike, null_snr: ArrayLike, null_exposure_s: ArrayLike) -> Floats:
    """Share of random positions that have at least this S/N, (n,) float64; NaN where the S/N is.

    Counted among the thousand random positions whose exposure is nearest: in longer exposures more point sources
    stand out. (k + 1) / (n + 1) of k among n, which is never 0.

    Parameters
    ----------
    snr, exposure_s : (n,) float
        Of the sources.
    null_snr, null_exposure_s : (m,) float
        Of random positions.

    Examples
    --------
    >>> chance_of_snr([1.5, 9.0], [1.0, 1.0], np.arange(4), np.ones(4)).tolist()
    [0.6, 0.2]
    """
    value, at = np.asarray(snr, np.float64), np.asarray(exposure_s, np.float64)
    null, null_at = np.asarray(null_snr, np.float64), np.asarray(null_exposure_s, np.float64)
    known = np.isfinite(null)
    order = np.argsort(null_at[known], kind="stable")
    null, null_at = null[known][order], null_at[known][order]
    n = min(_N_NULL, null.size)
    first = np.clip(np.searchsorted(null_at, at) - n // 2, 0, null.size - n)
    out = np.full(value.shape, np.nan)
    for row in np.flatnonzero(np.isfinite(value)):
        out[row] = (1 + (null[first[row] : first[row] + n] >= value[row]).sum()) / (1 + n)
    return out


_N_NULL = 1000
