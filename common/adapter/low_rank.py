"""SVD of sums of low-rank products, without forming the product where that is faster.

With ``left = Q R`` and ``right^T = P S``, the singular values of ``left @ right`` are those of the
small core ``R S^T``, and its singular vectors are the core's, multiplied by Q and P.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DENSE_FROM = 0.75
"""Width, as a share of the smaller side, from which the product itself is decomposed.

At 768 x 768, QR of both factors and an SVD of the core then take about as long as its SVD.
"""

NEGLIGIBLE = float(np.finfo(np.float32).eps) / 2
"""Singular values below this share of the sum of the terms' norms are rounding error of float32."""


class Singular(NamedTuple):
    """Singular value decomposition ``u @ diag(s) @ v``; s is descending and positive.

    Attributes:
        u: orthonormal columns [out, k]; the largest entry of each is positive.
        s: singular values [k]; k may be 0.
        v: orthonormal rows [k, in].
    """

    u: Array
    s: Array
    v: Array


class LowRankSum:
    """Sum of products ``left @ right`` [out, in], accumulated in float64.

    It is stored as stacked factors while they are narrow and as the matrix afterwards, so that
    memory does not grow with the number of terms.

    Args:
        rows: out.
        columns: in.
    """

    def __init__(self, rows: int, columns: int) -> None:
        self._shape = (rows, columns)
        self._lefts: list[Array] = []
        self._rights: list[Array] = []
        self._width = 0
        self._dense: Array | None = None
        self._magnitude = 0.0

    def add(self, factor: float, left: npt.ArrayLike, right: npt.ArrayLike) -> None:
        """Add ``factor * left @ right``, left [out, m] and right [m, in]; both are copied."""
        scaled = factor * np.array(left, np.float64)
        right = np.array(right, np.float64)
        self._magnitude += float(np.linalg.norm(scaled) * np.linalg.norm(right))
        if self._dense is not None:
            self._dense += scaled @ right
            return
        self._lefts.append(scaled)
        self._rights.append(right)
        self._width += right.shape[0]
        if self._width > DENSE_FROM * min(self._shape):
            self._dense = np.concatenate(self._lefts, axis=1) @ np.concatenate(self._rights)
            self._lefts, self._rights = [], []

    def svd(self) -> Singular:
        """Return the singular value decomposition without negligible singular values."""
        if self._dense is not None:
            u, s, v = np.linalg.svd(self._dense, full_matrices=False)
        elif self._width:
            q, r = np.linalg.qr(np.concatenate(self._lefts, axis=1))
            p, t = np.linalg.qr(np.concatenate(self._rights).T)
            core_u, s, core_v = np.linalg.svd(r @ t.T)
            u, v = q @ core_u, core_v @ p.T
        else:
            u, s, v = (np.zeros(shape) for shape in ((self._shape[0], 0), 0, (0, self._shape[1])))
        kept = int(np.count_nonzero(s > NEGLIGIBLE * self._magnitude))
        return _with_fixed_signs(u[:, :kept], s[:kept], v[:kept])


def _with_fixed_signs(u: Array, s: Array, v: Array) -> Singular:
    """Make the largest entry of each column of u positive, since (-u, -v) is equivalent."""
    largest = np.abs(u).argmax(axis=0) if u.size else np.zeros(0, int)
    signs = np.where(u[largest, np.arange(u.shape[1])] < 0, -1.0, 1.0)
    return Singular(u * signs, s, v * signs[:, None])
