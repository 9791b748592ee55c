"""The loops of the matched filter over pixels and modes, compiled."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def sum_products(transform, modes, share, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Add Re(conj(b) c) x share of every mode to its multipole, for every pair c <= b of bands in turn."""
    n_band, rows, columns = transform.shape
    for i in range(rows):
        for j in range(columns):
            pair = 0
            row = out[modes[i, j]]
            for b in range(n_band):
                one = transform[b, i, j]
                for c in range(b + 1):
                    other = transform[c, i, j]
                    row[pair] += (one.real * other.real + one.imag * other.imag) * share[j]
                    pair += 1


@njit(cache=True, nogil=True)
def add_scaled(transform, modes, scale, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Add scale(l) x transform, mode by mode."""
    rows, columns = transform.shape
    for i in range(rows):
        for j in range(columns):
            out[i, j] += scale[modes[i, j]] * transform[i, j]


@njit(cache=True, nogil=True)
def raise_best(values, number, best, size):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Where values exceed the best ones, put them there, and their number."""
    rows, columns = values.shape
    for i in range(rows):
        for j in range(columns):
            if values[i, j] > best[i, j]:
                best[i, j] = values[i, j]
                size[i, j] = number


@njit(cache=True, nogil=True, fastmath=True)
def weight_modes(transform, modes, weights, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """out_b = sum over c of weights_bc(l) transform_c, mode by mode."""
    n_band, rows, columns = transform.shape
    for i in range(rows):
        for j in range(columns):
            for b in range(n_band):
                total = np.complex64(0.0)
                for c in range(n_band):
                    total += weights[modes[i, j], b, c] * transform[c, i, j]
                out[i, j, b] = total


@njit(cache=True, nogil=True, fastmath=True)
def sum_rings(weighted, modes, along_row, along_column, out):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Add the real part of weighted x phase to the multipole of each mode."""
    rows, columns, n_band = weighted.shape
    for i in range(rows):
        for j in range(columns):
            phase = along_row[i] * along_column[j]
            for b in range(n_band):
                value = weighted[i, j, b]
                out[modes[i, j], b] += value.real * phase.real - value.imag * phase.imag


@njit(cache=True, nogil=True)
def relax(values, beside):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Laplace's equation by successive over-relaxation; 1.9 suits holes of some tens of pixels.

    ``values`` (n_cell, n_band), of which the first are relaxed in turn: those of ``beside`` (n_hole, 4), the numbers
    of the cells above, below, left and right of each.
    """
    n_band = values.shape[1]
    mean = np.empty(n_band)
    for _ in range(200):
        for k in range(len(beside)):
            here, up, down = values[k], values[beside[k, 0]], values[beside[k, 1]]
            left, right = values[beside[k, 2]], values[beside[k, 3]]
            for b in range(n_band):
                mean[b] = 0.25 * (up[b] + down[b] + left[b] + right[b])
            for b in range(n_band):
                here[b] += np.float32(1.9) * (mean[b] - here[b])
