"""Rows of a site table by stay, and the finding about some of its stays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from client.data_quality.finding import ConcernedStays, QualityFinding, share_text

FEW_STAYS = 0.002
"""Share of the stays below which a finding is a note."""

LEAVE_OUT = (
    'or leave the stays out: in [drop], COLUMN = ["ID"] with the column of the stay\'s id and the '
    "ids concerned"
)

Flags = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StayRows:
    """The rows of a site table, numbered by stay.

    Attributes:
        frame: the rows, sorted as a site table is: the steps of a stay are 0, 1, 2 ...
        step_minutes: length of a step.
        first: the row at which each stay begins, (stays,).
        stay: the number of each row's stay, from 0, (rows,).
    """

    frame: pd.DataFrame
    step_minutes: int
    first: Counts
    stay: Counts

    @classmethod
    def of(cls, frame: pd.DataFrame, step_minutes: int) -> StayRows:
        """Number the stays of a valid site table's rows."""
        starts = frame["step"].to_numpy() == 0
        first = np.flatnonzero(starts).astype(np.int64)
        return cls(frame, step_minutes, first, np.cumsum(starts, dtype=np.int64) - 1)

    def values(self, vital: str) -> npt.NDArray[np.float32]:
        """Return a vital sign, (rows,), NaN where not measured."""
        return np.asarray(self.frame[vital].to_numpy(np.float32))

    def count(self, rows: npt.NDArray[Any]) -> Counts:
        """Return the number of rows of each stay, (stays,), given as numbers or flags of rows."""
        return np.bincount(self.stay[rows], minlength=len(self.first)).astype(np.int64)

    def steps_in(self, hours: float) -> int:
        """Return the number of steps in some hours, rounded up."""
        return int(np.ceil(hours * 60 / self.step_minutes))

    def first_of(self, stays: Flags, rows: Flags) -> int:
        """Return the first flagged row of the first flagged stay."""
        return int(np.argmax(rows & stays[self.stay]))

    def finding(
        self, code: str, what: str, remedy: str, *, stays: Flags, values: Counts, row: int
    ) -> QualityFinding:
        """Return the finding about some stays.

        Args:
            code: its name.
            what: description; the numbers follow it.
            remedy: what to do.
            stays: the stays concerned, (stays,).
            values: the values concerned of each stay, (stays,); those of other stays are ignored.
            row: a row concerned, from 0.
        """
        concerned = ConcernedStays(
            stays=int(stays.sum()),
            of=len(self.first),
            value_count=int(values[stays].sum()),
            example=str(self.frame["stay_id"].iloc[row]),
            row=row + 1,
        )
        return finding_of_stays(code, what, remedy, concerned)


def finding_of_stays(
    code: str, what: str, remedy: str, concerned: ConcernedStays, *, who: str = "stays"
) -> QualityFinding:
    """Return a finding with the numbers of stays and values, and the example, in its text.

    Args:
        code: its name.
        what: description; the numbers follow it.
        remedy: what to do.
        concerned: the numbers.
        who: of whom they are, if not of stays.
    """
    share = concerned.stays / concerned.of
    text = (
        f"{what} in {concerned.stays:,} of {concerned.of:,} {who} ({share_text(share)}), "
        f"{concerned.value_count:,} values"
    )
    if concerned.example:
        row = f"row {concerned.row:,} of the table, " if concerned.row else ""
        text += f", e.g. {row}stay {concerned.example}"
    severity = "warning" if share >= FEW_STAYS else "note"
    return QualityFinding(severity, code, text, remedy, concerned)
