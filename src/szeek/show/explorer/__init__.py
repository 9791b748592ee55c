"""The sky explorer: a page on this machine's loopback that shows a run's maps, candidates and verdicts."""

from szeek.show.explorer.server import serve

__all__ = ["serve"]
