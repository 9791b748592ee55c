"""The loops of the matched filter over pixels and modes, compiled."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

#: Rounds of relaxation leave exp(-20) of a mistake: less than the last digit of float32.
_SETTLED = 20.0


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
def sum_squares(transform, modes, share, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Add |b|^2 x share of every mode to its multipole, for every band."""
    n_band, rows, columns = transform.shape
    for i in range(rows):
        for j in range(columns):
            row = out[modes[i, j]]
            for b in range(n_band):
                one = transform[b, i, j]
                row[b] += (one.real * one.real + one.imag * one.imag) * share[j]


@njit(cache=True, nogil=True)
def scale_modes(transform, modes, scale, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """scale(l) x transform, mode by mode."""
    rows, columns = transform.shape
    for i in range(rows):
        for j in range(columns):
            out[i, j] = scale[modes[i, j]] * transform[i, j]


@njit(cache=True, nogil=True)
def sum_weighted(transform, modes, weights, out):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Sum over the bands of weights_b(l) x transform_b, mode by mode."""
    n_band, rows, columns = transform.shape
    for i in range(rows):
        for j in range(columns):
            weight, total = weights[modes[i, j]], np.complex64(0.0)
            for b in range(n_band):
                total += weight[b] * transform[b, i, j]
            out[i, j] = total


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


@njit(cache=True, nogil=True, fastmath=True)
def relax(values, beside):  # type: ignore[no-untyped-def]  # pragma: no cover - compiled
    """Laplace's equation by successive over-relaxation, as strong as is best for the widest hole (Young 1954).

    ``values`` (n_cell, n_band), of which the first are relaxed in turn: those of ``beside`` (n_hole, 4), the numbers
    of the cells above, below, left and right of each. They are in order of rows and columns.
    """
    n_hole, n_band = len(beside), values.shape[1]
    depth = np.zeros(len(values), np.int32)  # steps to the border, from above and left, then from below and right
    for k in range(n_hole):
        depth[k] = 1 + min(depth[beside[k, 0]], depth[beside[k, 2]])
    for k in range(n_hole - 1, -1, -1):
        depth[k] = min(depth[k], 1 + depth[beside[k, 1]], 1 + depth[beside[k, 3]])
    over = 2.0 / (1.0 + math.sin(math.pi / (2.0 * depth.max() + 2.0)))
    keep, share = np.float32(1.0 - over), np.float32(0.25 * over)
    for _ in range(min(200, math.ceil(-_SETTLED / math.log(over - 1.0)))):
        for k in range(n_hole):
            up, down, left, right = beside[k, 0], beside[k, 1], beside[k, 2], beside[k, 3]
            for b in range(n_band):
                around = values[up, b] + values[down, b] + values[left, b] + values[right, b]
                values[k, b] = keep * values[k, b] + share * around
