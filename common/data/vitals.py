"""Vital signs: names, units, valid ranges. Imported by every command, so without pandas.

Valid ranges are those of MIT-LCP/mimic-code's `pivoted_vital` for MIMIC-III. Models use the scale
floor and the clinical offset: the floor keeps a nearly constant series (SpO2 98, 98, 98 ...) from
being divided by almost zero, and the offset is subtracted before a model that scales by the mean
absolute value (temperatures around 37 would otherwise share a few bins).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Vital:
    """One vital sign.

    Attributes:
        name: the column of the site table.
        label: name in reports.
        short: label of a narrow column.
        unit: unit of every value in the column.
        low: values must be above this.
        high: values must be below this, or at most this where `high_included`.
        high_included: whether `high` itself is a valid value.
        scale_floor: the least standard deviation (in `unit`) that a model may scale by.
        clinical_offset: a typical adult value (in `unit`).
        mape_floor: the least denominator (in `unit`) of an error in per cent. Smaller values occur
            in adults around a cardiac arrest or as artefacts, and would outweigh all others: half
            a breath a minute among thousands of values would move the mean.
    """

    name: str
    label: str
    short: str
    unit: str
    low: float
    high: float
    scale_floor: float
    clinical_offset: float
    mape_floor: float
    high_included: bool = False

    def valid(self, values: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """Return which values are in the valid range; NaN is not.

        Args:
            values: an array of any shape, in `unit`.

        Returns:
            A boolean array of the same shape.
        """
        below = values <= self.high if self.high_included else values < self.high
        return np.asarray((values > self.low) & below)

    @property
    def range_text(self) -> str:
        """Valid range as text, e.g. ``0 < x < 300 bpm``."""
        return f"{self.low:g} < x {'<=' if self.high_included else '<'} {self.high:g} {self.unit}"


VITALS: tuple[Vital, ...] = (
    Vital("heart_rate", "Heart rate", "HR", "bpm", 0, 300, 2.0, 85.0, 30.0),
    Vital("sbp", "Systolic blood pressure", "SBP", "mmHg", 0, 400, 3.0, 120.0, 50.0),
    Vital("dbp", "Diastolic blood pressure", "DBP", "mmHg", 0, 300, 2.0, 60.0, 20.0),
    Vital("mbp", "Mean blood pressure", "MBP", "mmHg", 0, 300, 2.0, 78.0, 30.0),
    Vital("resp_rate", "Respiratory rate", "RR", "breaths/min", 0, 70, 1.0, 18.0, 5.0),
    Vital("temperature_c", "Temperature", "Temp", "°C", 10, 50, 0.1, 37.0, 30.0),
    Vital("spo2", "Oxygen saturation", "SpO2", "%", 0, 100, 0.5, 97.0, 50.0, high_included=True),
)
"""All vital signs in the order of the site table's columns; a vital's index is its position.

A new one also needs its units (`client.ingest.units.UNITS`) and the values that reveal a wrong one
(`common.forecasting.unit_checks.OTHER_UNITS`), its plausible values
(`common.forecasting.reference_ranges.EXPECTED`), its unit in words
(`server.report.clinical_text.UNIT_WORDS`), its items in each source of `simulation.cohorts`, and a
new `SITE_TABLE_SCHEMA_VERSION`.
"""

VITAL_NAMES: tuple[str, ...] = tuple(vital.name for vital in VITALS)
