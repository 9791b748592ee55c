"""What nobody knows well of how clusters look: the dust and radio galaxies in them, their temperature, their profile.

Two clusters of one flux, size and shape differ in these, and a network that has seen one kind alone takes its look
for a sign of clusters. So skies can be simulated, and clusters injected, with other looks than the published means.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

#: Profiles of which ``vary`` draws: those of cool-core and disturbed clusters, and of all (Arnaud et al. 2010).
VARIED_PROFILES = ("universal", "cool-core", "disturbed")
_PUBLISHED_Y_SLOPE = 1.79


class ClusterLook(BaseModel):
    """How clusters look, against what is published of them.

    Parameters
    ----------
    dust : float
        Dust of member galaxies, times the mean of Planck Intermediate Results XLIII.
    temperature : float
        Electron temperature, times the mean relation; 0 for no relativistic correction.
    radio : float
        Share of clusters with a radio galaxy, times that of Gupta et al. (2017).
    profile : str
        Pressure profile, one of :data:`szeek.physics.gas.PROFILES`.
    y_slope : float
        Slope of Y500 with mass; 1.79 in Planck 2013 results XX.
    vary : bool
        Draw dust, temperature and radio share of each cluster evenly between none and twice those numbers, and its
        profile from :data:`VARIED_PROFILES`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dust: Annotated[float, Field(ge=0, le=10)] = 1.0
    temperature: Annotated[float, Field(ge=0, le=3)] = 1.0
    radio: Annotated[float, Field(ge=0, le=10)] = 1.0
    profile: Literal["universal", "cool-core", "disturbed", "planck-2013", "mcdonald-2014", "he-2021"] = "universal"
    y_slope: Annotated[float, Field(ge=1, le=3)] = _PUBLISHED_Y_SLOPE
    vary: bool = False

    def columns(self, n: int, random: np.random.Generator) -> dict[str, NDArray[np.float64] | NDArray[np.str_]]:
        """``dust_factor``, ``temperature_factor``, ``radio_factor`` and ``profile`` of n clusters.

        Nothing for the published look, which is that of clusters without these columns.

        Examples
        --------
        >>> sorted(ClusterLook(dust=2.0).columns(1, np.random.default_rng(1)))
        ['dust_factor', 'profile', 'radio_factor', 'temperature_factor']
        """
        names = ("dust_factor", "temperature_factor", "radio_factor")
        means = (self.dust, self.temperature, self.radio)
        if self.vary:
            drawn = {name: random.uniform(0.0, 2 * mean, n) for name, mean in zip(names, means, strict=True)}
            return {**drawn, "profile": np.array(VARIED_PROFILES)[random.integers(len(VARIED_PROFILES), size=n)]}
        if self.model_copy(update={"y_slope": _PUBLISHED_Y_SLOPE}) == ClusterLook():
            return {}
        fixed = {name: np.full(n, mean) for name, mean in zip(names, means, strict=True)}
        return {**fixed, "profile": np.full(n, self.profile)}
