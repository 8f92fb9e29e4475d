"""Who is in a step: each patient by chance, and of each some windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from client.training.random_source import Randomness
from common.data.windows import IntArray


@dataclass(frozen=True, eq=False)
class Draw:
    """The W windows of a step, those of one patient next to each other.

    Attributes:
        rows: ``[W]``, indices of windows.
        owner: ``[W]``, each window's patient as a number of the draw: 0 to P - 1, rising.
    """

    rows: IntArray
    owner: IntArray

    @property
    def patients(self) -> int:
        """P, the number of patients; 0 in an empty draw."""
        return int(self.owner[-1]) + 1 if len(self.owner) else 0

    def chunks(self, most_windows: int) -> Iterator[Draw]:
        """Give the draw in parts of whole patients, each of at most that many windows.

        A patient that has more than that by itself is a part of its own.
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
    """Draw each patient with the same chance, whoever else is drawn (Poisson sampling).

    The accountants' bound for a sampled step holds for this way of sampling and for no other: a
    shuffled pass over the patients would spend more than they say.

    Args:
        patient: ``[N]``, each window's patient.
        patients: their number; all are drawn for, also those without a window.
        rate: the chance q of each.
        most_windows: K; of a patient with more, K are drawn, each with the same chance.
        randomness: where chance comes from.
    """
    taken = randomness.uniform(patients) < rate
    rows = np.flatnonzero(taken[patient])
    order = np.lexsort((randomness.uniform(len(rows)), patient[rows]))  # shuffled within patients
    rows = rows[order]
    _, first, owner = np.unique(patient[rows], return_index=True, return_inverse=True)
    place = np.arange(len(rows)) - first[owner]
    kept = place < most_windows
    return Draw(rows[kept], owner[kept].astype(np.int64))
