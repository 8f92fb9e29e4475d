"""All checks of the stays of a site table."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from client.data_quality.finding import QualityFinding
from client.data_quality.stay_checks.copies import stays_with_copies
from client.data_quality.stay_checks.frozen import stays_with_frozen_values
from client.data_quality.stay_checks.other_units import stays_in_other_units
from client.data_quality.stay_checks.pressures import stays_with_disordered_pressures
from client.data_quality.stay_checks.stay_rows import StayRows
from client.data_quality.stay_checks.time_jumps import stays_with_time_jumps


def find_in_stays(
    frame: pd.DataFrame, step_minutes: int, *, told: Collection[str], constant: Collection[str]
) -> list[QualityFinding]:
    """Run all checks of stays.

    Args:
        frame: the rows of a valid site table.
        step_minutes: length of a step.
        told: vital signs whose values in another unit are reported elsewhere.
        constant: vital signs with one value in the whole table.
    """
    rows = StayRows.of(frame, step_minutes)
    return [
        *stays_in_other_units(rows, told),
        *stays_with_disordered_pressures(rows),
        *stays_with_frozen_values(rows, constant),
        *stays_with_time_jumps(rows),
        *stays_with_copies(rows),
    ]
