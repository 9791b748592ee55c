"""X-ray photons between 0.5 and 2 keV: what ROSAT counts of a flux, and what the Galaxy leaves of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Flux (0.5 - 2.0 keV, erg/s/cm2) of one ROSAT PSPC count per second in that band: 0.2 ct/s are 2.4e-12. Schwope et
#: al. 2000 (Astron. Nachr. 321, 1), ROSAT Bright Survey.
ROSAT_FLUX_PER_RATE = 1.2e-11
#: Radius that holds 90 % of the photons of a point in the ROSAT survey. Boese 2000 (A&AS 141, 507).
ROSAT_PSF_ARCMIN = 1.8
#: Flux between 0.5 and 2 keV over that between 0.1 and 2.4 keV, of gas of 2 to 10 keV: bremsstrahlung, E^-0.4
#: exp(-E/kT) in energy, gives 0.54 to 0.59, and lines of iron about 1 keV add to it.
CLUSTER_HARD_SHARE = 0.6
#: N_H for which ROSAT_FLUX_PER_RATE holds, of the high latitudes of that survey, cm^-2.
_NOMINAL_NH = 2e20
#: Cross-section of the interstellar medium at 1 keV, cm2 per hydrogen atom. Morrison & McCammon 1983 (ApJ 270, 119).
_CROSS_SECTION_CM2 = 2.42e-22


def absorption(n_h: ArrayLike) -> NDArray[np.float64]:
    """Share of the photons about 1 keV that is left behind a column of hydrogen, over that at high latitudes.

    Examples
    --------
    >>> absorption([2e20, 1e21]).round(3).tolist()
    [1.0, 0.824]
    """
    return np.asarray(np.exp(-_CROSS_SECTION_CM2 * (np.asarray(n_h, np.float64) - _NOMINAL_NH)))
