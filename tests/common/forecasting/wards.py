"""Small wards: tables of a few patients, and a forecaster that needs no weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from common.data.vitals import VITAL_NAMES, VITALS
from common.data.windows import FloatArray, IntArray
from common.evaluation.evaluate import LEVELS

STEPS = 48


@dataclass(frozen=True)
class TypicalValues:
    """Forecaster of typical adult values, whatever it sees, with bands beyond every range.

    Attributes:
        spread: half the width of the bands, in the vital's unit.
    """

    spread: float = 0.0

    def forecast(self, context: FloatArray, vital: IntArray, horizon_steps: int) -> FloatArray:
        middle = np.array([VITALS[index].clinical_offset for index in vital], np.float32)
        spread = np.linspace(-self.spread, self.spread, len(LEVELS), dtype=np.float32)
        shape = (len(vital), horizon_steps, len(LEVELS))
        return np.broadcast_to(middle[:, None, None] + spread, shape).astype(np.float32)


def ward(patients: int = 3, steps: int = STEPS) -> pd.DataFrame:
    """Return complete hourly histories of the patients p0, p1 ..., near typical values."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame(
        {
            "patient_id": [f"p{patient}" for patient in range(patients) for _ in range(steps)],
            "step": np.tile(np.arange(steps), patients),
        }
    )
    for vital in VITALS:
        noise = vital.scale_floor * random.normal(size=len(rows)) / 2
        rows[vital.name] = np.minimum(vital.clinical_offset + noise, vital.high)
    return rows


def context_of(vital: str, steps: int = STEPS) -> FloatArray:
    """Return one complete context of a vital sign, [1, steps]."""
    typical = VITALS[VITAL_NAMES.index(vital)].clinical_offset
    return np.full((1, steps), typical, np.float32)
