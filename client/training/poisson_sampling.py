"""Poisson sampling of the patients of a step, and of some windows of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from client.training.random_source import Randomness
from common.data.windows import IntArray


@dataclass(frozen=True, eq=False)
class Draw:
    """The W windows of a step, grouped by patient.

    Attributes:
        rows: ``[W]``, indices of windows.
        owner: ``[W]``, each window's patient as an index of the draw: 0 to P - 1, ascending.
    """

    rows: IntArray
    owner: IntArray

    @property
    def patients(self) -> int:
        """P, the number of patients; 0 in an empty draw."""
        return int(self.owner[-1]) + 1 if len(self.owner) else 0

    def chunks(self, most_windows: int) -> Iterator[Draw]:
        """Yield the draw in parts of whole patients, each of at most that many windows.

        A patient with more windows than that is a part of its own.
        """
        ends = np.searchsorted(self.owner, np.arange(self.patients), side="right")
        start = 0
        while start < len(self.rows):
            fitting = ends[(ends > start) & (ends <= start + most_windows)]
            end = int(fitting[-1]) if len(fitting) else int(ends[ends > start][0])
            owner = self.owner[start:end]
            yield Draw(self.rows[start:end], owner - owner[0])
            start = end


def draw_patients(
    patient: IntArray, patients: int, rate: float, most_windows: int, randomness: Randomness
) -> Draw:
    """Sample each patient independently with the same probability (Poisson sampling).

    The accountants' bound for a sampled step holds for Poisson sampling only: a shuffled pass over
    the patients would spend more than they compute.

    Args:
        patient: ``[N]``, each window's patient.
        patients: number of patients, including those without a window.
        rate: the probability q of each patient.
        most_windows: K; for a patient with more windows, K are drawn uniformly.
        randomness: source of the random numbers.
    """
    taken = randomness.uniform(patients) < rate
    rows = np.flatnonzero(taken[patient])
    order = np.lexsort((randomness.uniform(len(rows)), patient[rows]))  # shuffled within patients
    rows = rows[order]
    _, first, owner = np.unique(patient[rows], return_index=True, return_inverse=True)
    place = np.arange(len(rows)) - first[owner]
    kept = place < most_windows
    return Draw(rows[kept], owner[kept].astype(np.int64))
