"""Stays whose values of a vital sign are those of another unit."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from client.data_quality.finding import QualityFinding
from client.data_quality.stay_checks.stay_rows import StayRows
from client.data_quality.unit_mixture import remedy_of_units
from client.ingest.units import UNITS
from common.data.vitals import VITALS
from common.forecasting.reference_ranges import EXPECTED

LEAST_VALUES = 3
"""Least values of a stay in another unit."""

USUAL_SHARE = 0.5
"""Least share of them that are usual values in that unit: artefacts and last hours are not."""

PRESSURES = ("sbp", "dbp", "mbp")


def usual_range(vital: str) -> tuple[float, float]:
    """Return the values usual within a stay, in the site table's unit.

    They are half-way between the plausible medians of a unit's patients and the plausible values.
    Of pressures high ones are left out: a very low pressure in mmHg is a high one in kPa.
    """
    expected = EXPECTED[vital]
    low, high = expected.low + expected.median_low, expected.high + expected.median_high
    return low / 2, expected.median_high if vital in PRESSURES else high / 2


def stays_in_other_units(rows: StayRows, told: Collection[str]) -> Iterator[QualityFinding]:
    """Find stays with implausible values that are usual in another unit.

    Args:
        rows: the table.
        told: vital signs that another check reports.
    """
    for vital in VITALS:
        units = UNITS[vital.name]
        if vital.name in told or len(units) == 1:
            continue
        values = rows.values(vital.name)
        expected = EXPECTED[vital.name]
        odd = np.flatnonzero((values < expected.low) | (values > expected.high))
        for unit in units[1:]:
            converted = (values[odd].astype(np.float64) - unit.subtract) * unit.multiply
            converted /= unit.divide
            low, high = usual_range(vital.name)
            fits = (converted >= expected.low) & (converted <= expected.high)
            usual = fits & (converted >= low) & (converted <= high)
            explained, typical = rows.count(odd[fits]), rows.count(odd[usual])
            stays = (explained >= LEAST_VALUES) & (typical >= USUAL_SHARE * explained)
            if not stays.any():
                continue
            row = int(odd[fits & stays[rows.stay[odd]]][0])
            yield rows.finding(
                "stay-other-unit",
                f"{vital.label} looks like {unit.name} ({values[row]:.3g})",
                remedy_of_units(vital.name, units[0].name, unit.name, is_mixed=True),
                stays=stays,
                values=explained,
                row=row,
            )
            break
