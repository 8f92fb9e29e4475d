"""Result of a forecast: one table of quantiles and reasons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from common.data.vitals import VITAL_NAMES, VITALS
from common.data.windows import FloatArray, IntArray
from common.errors import UsageError
from common.evaluation.evaluate import LEVELS

QUANTILE_COLUMNS: tuple[str, ...] = tuple(f"q{round(100 * level):02d}" for level in LEVELS)
"""Columns of the quantiles at `LEVELS`: q10 … q90; q50 is the median, q10 to q90 holds 80 %."""


@dataclass(frozen=True, eq=False)
class Forecasts:
    """Forecasts of N series, each a vital sign of one stay.

    Attributes:
        keys: N rows of `patient_id`, and `stay_id` if it was given.
        vital: ``[N]``, index into `common.data.vitals.VITALS`.
        context: ``[N, C]``, what the model saw, in the vital's unit; NaN = not measured.
        quantiles: ``[N, H, Q]`` at `common.evaluation.evaluate.LEVELS`, in the vital's unit and its
            valid range, rising along Q; NaN for a series that is refused.
        reasons: ``[N]``, why a series is refused; empty if it is forecast.
        step_minutes: length of a step.
        last_step: ``[N]``, number of the history's last step; the forecast begins with the next.
        last_observed: ``[N]``, minutes from the last observed value to the end of the history; NaN
            = nothing is observed.
    """

    keys: pd.DataFrame
    vital: IntArray
    context: FloatArray
    quantiles: FloatArray
    reasons: tuple[str, ...]
    step_minutes: int
    last_step: IntArray
    last_observed: FloatArray

    @property
    def table(self) -> pd.DataFrame:
        """The forecasts as a table, N x H rows.

        Its columns:

        - `patient_id`, and `stay_id` if it was given;
        - `vital`, the name; `unit`, the unit of the quantiles;
        - `step`, 1 = the step after the last row of the stay; `minutes`, from that last row;
        - `minutes_since_observed`, from the vital's last observed value to that last row;
        - `q10` … `q90`, the quantiles in `unit`; NaN where refused;
        - `reason`, why there is no forecast; empty where there is one.
        """
        count, horizon, _ = self.quantiles.shape
        rows = np.repeat(np.arange(count), horizon)
        table = self.keys.iloc[rows].reset_index(drop=True)
        table["vital"] = np.array(VITAL_NAMES, object)[self.vital[rows]]
        table["unit"] = np.array([vital.unit for vital in VITALS], object)[self.vital[rows]]
        table["step"] = np.tile(np.arange(1, horizon + 1), count)
        table["minutes"] = table["step"] * self.step_minutes
        table["minutes_since_observed"] = self.last_observed[rows]
        values = self.quantiles.reshape(count * horizon, len(LEVELS))
        table[list(QUANTILE_COLUMNS)] = values
        table["reason"] = np.array(self.reasons, object)[rows]
        return table

    def of_patient(self, patient_id: str, stay_id: str | None = None) -> IntArray:
        """Return the places of a patient's series among the N.

        Args:
            patient_id: the patient.
            stay_id: one of the patient's stays; needed if the patient has several.

        Raises:
            UsageError: there is no such patient or stay, or the patient has several stays.
        """
        wanted = (self.keys["patient_id"].astype(str) == str(patient_id)).to_numpy()
        if not wanted.any():
            raise UsageError(f"there is no patient {patient_id!r} among the forecasts")
        if "stay_id" in self.keys:
            stays = self.keys["stay_id"].astype(str).to_numpy()
            if stay_id is None and len(found := pd.unique(stays[wanted])) > 1:
                raise UsageError(
                    f"patient {patient_id!r} has the stays {', '.join(found)}; name one of them"
                )
            if stay_id is not None:
                wanted &= stays == str(stay_id)
                if not wanted.any():
                    raise UsageError(f"patient {patient_id!r} has no stay {stay_id!r}")
        return np.flatnonzero(wanted)

    def refused(self) -> pd.DataFrame:
        """Return the refused series: `patient_id` (and `stay_id`), `vital`, `reason`."""
        rows = np.array([bool(reason) for reason in self.reasons], bool)
        table = self.keys[rows].reset_index(drop=True)
        table["vital"] = np.array(VITAL_NAMES, object)[self.vital[rows]]
        table["reason"] = np.array(self.reasons, object)[rows]
        return table
