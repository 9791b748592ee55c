"""What surveys publish, read and checked: maps, masks, catalogues, instruments, data sets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from szeek.lazy import load_lazily

if TYPE_CHECKING:
    from szeek.inputs.catalogues import find_cluster, read_catalogue, select_clusters, write_catalogue
    from szeek.inputs.download import data_folder, fetch
    from szeek.inputs.instrument import list_instruments, read_bandpasses, read_instrument
    from szeek.inputs.knownclusters import read_clusters
    from szeek.inputs.mapfiles import read_skymaps
    from szeek.inputs.masks import mask_sources, read_mask, read_masks, write_moc
    from szeek.inputs.photons import read_photons
    from szeek.inputs.reddening import reddening_mag
    from szeek.inputs.stackmaps import read_stack_map
    from szeek.inputs.surveymaps import read_maps

__all__ = [
    "data_folder",
    "fetch",
    "find_cluster",
    "list_instruments",
    "mask_sources",
    "read_bandpasses",
    "read_catalogue",
    "read_clusters",
    "read_instrument",
    "read_maps",
    "read_mask",
    "read_masks",
    "read_photons",
    "read_skymaps",
    "read_stack_map",
    "reddening_mag",
    "select_clusters",
    "write_catalogue",
    "write_moc",
]

__getattr__ = load_lazily(__name__)
