"""Values on the sphere: map sets, the HEALPix grid, tangent-plane fields, tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.sky.fields import Field, cover_sphere
    from szeek.sky.further import FurtherMap
    from szeek.sky.grids import ImageGrid
    from szeek.sky.healpix import lonlat_deg, nside_of, unit_vectors
    from szeek.sky.imagemaps import ImageMaps, Pixels
    from szeek.sky.mapset import MapSet, open_maps
    from szeek.sky.partial import PartialMap
    from szeek.sky.photons import PhotonMap
    from szeek.sky.projection import field_basis, field_directions, interpolate, project, sample_field
    from szeek.sky.skymaps import Band, SkyMaps
    from szeek.sky.tiles import pixels_in_tiles, tile_of

__all__ = [
    "Band",
    "Field",
    "FurtherMap",
    "ImageGrid",
    "ImageMaps",
    "MapSet",
    "PartialMap",
    "PhotonMap",
    "Pixels",
    "SkyMaps",
    "cover_sphere",
    "field_basis",
    "field_directions",
    "interpolate",
    "lonlat_deg",
    "nside_of",
    "open_maps",
    "pixels_in_tiles",
    "project",
    "sample_field",
    "tile_of",
    "unit_vectors",
]

__getattr__ = load_lazily(__name__)
