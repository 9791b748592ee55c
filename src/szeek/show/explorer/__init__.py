"""The sky explorer: a page on this machine's loopback that shows a run's maps, candidates and verdicts."""

from szeek.show.explorer.dossierset import write_dossiers
from szeek.show.explorer.filters import Filters, choose_candidates
from szeek.show.explorer.hips import HipsLayer, write_hips
from szeek.show.explorer.layers import list_layers
from szeek.show.explorer.server import ExplorerServer, serve
from szeek.show.explorer.verdicts import VERDICTS, VerdictStore, vetted_candidates

__all__ = [
    "VERDICTS",
    "ExplorerServer",
    "Filters",
    "HipsLayer",
    "VerdictStore",
    "choose_candidates",
    "list_layers",
    "serve",
    "vetted_candidates",
    "write_dossiers",
    "write_hips",
]
