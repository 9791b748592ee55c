"""Addresses of the explorer, for pages that lie on disk."""

from __future__ import annotations

from urllib.parse import urlencode

#: Port that `szeek view` takes where it is free, so that a report's links find it.
EXPLORER_PORT = 8217


def explorer_link(name: str = "", **state: float | str) -> str:
    """Address of a view of the explorer, as its page writes it itself.

    Parameters
    ----------
    name : str
        Candidate to select.
    **state
        Other parts of the page's state: ``l``, ``b`` and ``fov`` in degrees, ``base``, ``p_min`` ...

    Examples
    --------
    >>> explorer_link("SZeek G057.80+88.00")
    'http://127.0.0.1:8217/#at=SZeek+G057.80%2B88.00'
    """
    words = {"at": name} if name else {}
    return f"http://127.0.0.1:{EXPLORER_PORT}/#{urlencode({**words, **state})}"
