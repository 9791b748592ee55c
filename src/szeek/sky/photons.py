"""Counts of photons on the sphere with their exposure: on HEALPix, or on the pixels of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import healpy
import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class PhotonMap:
    """Counts and exposure of pixels of one size.

    Parameters
    ----------
    counts, exposure_s : (n,) float32
        Photons and seconds in each pixel; no exposure where nothing was observed.
    pixel_arcmin2 : float
        Area of a pixel.
    directions : (n, 3) float64, optional
        Unit vectors of the pixels, Galactic. Without them the pixels are all those of a HEALPix map, RING.
    rotation : (3, 3) float64, optional
        Takes Galactic unit vectors, as columns, to the frame of a HEALPix map that is not Galactic.

    Raises
    ------
    ValueError
        If counts are negative, or the arrays are not of one length.

    Examples
    --------
    >>> flat = PhotonMap(np.ones(12 * 64**2, np.float32), np.full(12 * 64**2, 300.0, np.float32), 3021.5)
    >>> len(flat.disc(np.array([0.0, 0.0, 1.0]), 60.0)[0])
    4
    """

    counts: NDArray[np.float32]
    exposure_s: NDArray[np.float32]
    pixel_arcmin2: float
    directions: NDArray[np.float64] | None = None
    rotation: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.counts.shape != self.exposure_s.shape:
            raise ValueError(
                f"counts has {self.counts.size} pixels and exposure_s {self.exposure_s.size}, expected the same ones"
            )
        if (lowest := float(self.counts.min(initial=0.0))) < 0:
            raise ValueError(f"counts go down to {lowest:g}, expected numbers of photons, none below 0")
        if self.directions is None:
            healpy.npix2nside(self.counts.size)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.directions)

    def disc(
        self, direction: NDArray[np.float64], radius_arcmin: float
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Observed pixels whose centres lie within a radius of a Galactic unit vector, and how far, in arcmin."""
        radius = np.radians(radius_arcmin / 60)
        if self.directions is not None:
            pixels = np.array(self._tree.query_ball_point(direction, 2 * np.sin(radius / 2)), np.int64)
            there = self.directions[pixels]
        else:
            nside = healpy.npix2nside(self.counts.size)
            direction = direction if self.rotation is None else self.rotation @ direction
            pixels = np.asarray(healpy.query_disc(nside, direction, radius))
            there = np.stack(healpy.pix2vec(nside, pixels), axis=-1)
        seen = self.exposure_s[pixels] > 0
        chord = np.linalg.norm(there[seen] - direction, axis=-1)
        return pixels[seen], np.degrees(2 * np.arcsin(np.minimum(chord / 2, 1))) * 60


def join_fields(fields: Sequence[PhotonMap]) -> PhotonMap:
    """Fields of a survey as one map; where they overlap, that whose centre is nearest counts.

    A photon of a survey that is published in overlapping fields is in all of them, so that they must not be added.

    Parameters
    ----------
    fields : sequence of PhotonMap
        From images with pixels of one size.

    Raises
    ------
    ValueError
        If one is on HEALPix, or their pixels are not of one size.
    """
    if len(fields) == 1:
        return fields[0]
    areas = [field.pixel_arcmin2 for field in fields]
    if max(areas) > 1.01 * min(areas):
        raise ValueError(f"the fields have pixels of {min(areas):g} to {max(areas):g} arcmin2, expected one size")
    places = []
    for field in fields:
        if field.directions is None:
            raise ValueError("one of the maps is on HEALPix, expected images of fields; give it alone")
        places.append(field.directions)
    pairs = zip(places, fields, strict=True)
    centres = np.array([place[field.exposure_s > 0].mean(axis=0) for place, field in pairs])
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    nearest = cKDTree(centres)
    own = [nearest.query(place)[1] == k for k, place in enumerate(places)]
    return PhotonMap(
        np.concatenate([field.counts[mine] for field, mine in zip(fields, own, strict=True)]),
        np.concatenate([field.exposure_s[mine] for field, mine in zip(fields, own, strict=True)]),
        areas[0],
        np.concatenate([place[mine] for place, mine in zip(places, own, strict=True)]),
    )
