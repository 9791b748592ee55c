"""A table as the page reads it: its columns as they lie in memory, which no browser has to parse."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack_columns(columns: Mapping[str, NDArray[Any] | Sequence[str]]) -> bytes:
    """Columns of one length as bytes: a head, and the values of one column after the other, little-endian.

    The first four bytes are the length of the head, which is JSON: ``n_rows`` and, for each of ``columns``, ``name``
    and ``type`` (f4, f8 or u4). The values of each begin at the next multiple of 8 bytes. Texts are numbers (u4) of
    the different ``words`` of the column, which the head lists.

    Parameters
    ----------
    columns : mapping of name to array or texts, shape (n_rows,)
        Numbers stay as they are, float32 or float64; others become float64. What is unknown is NaN.

    Examples
    --------
    >>> packed = pack_columns({"p": np.float32([0.5, 0.25]), "kind": ["dusty", ""]})
    >>> length = int.from_bytes(packed[:4], "little")
    >>> json.loads(packed[4 : 4 + length])["columns"][1]
    {'name': 'kind', 'words': ['dusty', ''], 'type': 'u4'}
    >>> np.frombuffer(packed[-16:-8], "<f4").tolist(), np.frombuffer(packed[-8:], "<u4").tolist()
    ([0.5, 0.25], [0, 1])
    """
    described, blocks = [], []
    for name, given in columns.items():
        about: dict[str, Any] = {"name": name}
        if isinstance(given, np.ndarray) and given.dtype.kind in "bifu":
            values = given.astype("<f4" if given.dtype.itemsize == 4 and given.dtype.kind == "f" else "<f8")
        else:
            texts = given.astype(str).tolist() if isinstance(given, np.ndarray) else given
            number = {word: k for k, word in enumerate(dict.fromkeys(texts))}
            values = np.fromiter(map(number.__getitem__, texts), "<u4", len(texts))
            about["words"] = list(number)
        described.append({**about, "type": values.dtype.str[1:]})
        blocks.append(values.tobytes())
    n_rows = len(next(iter(columns.values()), ()))
    head = json.dumps({"n_rows": n_rows, "columns": described}, separators=(",", ":")).encode()
    pieces = [len(head).to_bytes(4, "little"), head, bytes(-(4 + len(head)) % 8)]
    for block in blocks:
        pieces += [block, bytes(-len(block) % 8)]
    return b"".join(pieces)
