"""Reasons why a series cannot be forecast, per patient and vital sign.

A fault of one series refuses that series alone: one wrong value must not stop a ward's forecasts.
A fault of most series of a vital sign is one of the export, e.g. a column in °F, and raises; that
of a single patient does not, unless nothing else was to be forecast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.data.vitals import VITAL_NAMES, VITALS
from common.data.windows import FloatArray, IntArray
from common.errors import UsageError
from common.forecasting.unit_checks import unit_mistake

_SYSTOLIC, _DIASTOLIC = VITAL_NAMES.index("sbp"), VITAL_NAMES.index("dbp")
_PAIRS = 4
"""Least number of steps with both pressures by which their order is judged."""


@dataclass(frozen=True)
class EnoughObserved:
    """Least observation of a series for a forecast.

    The defaults were chosen on validation patients of the PhysioNet Challenge 2012, whose stays are
    sparsely charted. With 8 values or more the 80 % range holds 79 to 81 % of the measured values,
    with 4 to 7 it holds 74 %, with one 38 %. With a last value 6 to 11 hours old it holds 61 %, and
    the loss is that of the vital's distribution over all patients (0.97 of it), which needs no
    model; with one 3 to 5 hours old 66 %, at 0.94 of that loss.

    Attributes:
        values: least number of observed values in the context.
        recent_hours: a value must have been observed within this time, in hours.
    """

    values: int = 8
    recent_hours: float = 6.0

    def __post_init__(self) -> None:
        if self.values < 1:
            raise UsageError(f"at least one observed value is needed, got values={self.values}")
        if not self.recent_hours > 0:
            raise UsageError(f"recent_hours must be above 0, got {self.recent_hours}")


def check_series(context: FloatArray, vital: IntArray, patient: IntArray) -> list[str]:
    """Check the values of N series of patients.

    Args:
        context: ``[N, C]``, NaN = not measured.
        vital: ``[N]``, index into `common.data.vitals.VITALS`.
        patient: ``[N]``; equal numbers are one stay, whose pressures are compared.

    Returns:
        For each series the reason why it is refused, empty if its values can be forecast.

    Raises:
        UsageError: more than half of the series of a vital, which are two or more or the only one,
            seem to have another unit, or the systolic and diastolic pressures of more than half of
            two or more stays are exchanged.
    """
    units = [unit_mistake(v, row) for v, row in zip(vital, context, strict=True)]
    observed = ~np.isnan(context).all(axis=1)
    for index, name in enumerate(VITAL_NAMES):
        of_vital = observed & (vital == index)
        mistakes = [units[row] for row in np.flatnonzero(of_vital)]
        _refuse_column(mistakes, f"patients with {name}", is_only=len(context) == 1)
    exchanged = _exchanged_pressures(context, vital, patient, units)
    return [
        _infinite(v, row) or unit or _out_of_range(v, row) or order
        for v, row, unit, order in zip(vital, context, units, exchanged, strict=True)
    ]


def check_observed(context: FloatArray, step_minutes: int, minimum: EnoughObserved) -> list[str]:
    """Check that enough is observed.

    Args:
        context: ``[N, C]``, NaN = not measured; the last step is the newest.
        step_minutes: length of a step.
        minimum: what is required.

    Returns:
        For each series the reason why it is refused, empty if enough is observed.
    """
    observed = ~np.isnan(context)
    count = observed.sum(axis=1)
    hours = context.shape[1] * step_minutes / 60
    age_hours = last_observed_minutes(context, step_minutes) / 60
    reasons = []
    for number, age in zip(count, age_hours, strict=True):
        reason = ""
        if not number:
            reason = f"no observed value in the last {hours:g} h"
        elif number < minimum.values:
            values = "value" if number == 1 else "values"
            reason = (
                f"{number} observed {values} in the last {hours:g} h, at least {minimum.values} "
                "are needed"
            )
        elif age >= minimum.recent_hours:
            reason = (
                f"the last observed value is {age:g} h old, at least one in the last "
                f"{minimum.recent_hours:g} h is needed"
            )
        reasons.append(reason)
    return reasons


def last_observed_minutes(context: FloatArray, step_minutes: int) -> FloatArray:
    """Return the minutes from the last observed value to the end of the context.

    Args:
        context: ``[N, C]``, NaN = not measured.
        step_minutes: length of a step.

    Returns:
        ``[N]``; 0 = in the last step; NaN = nothing is observed.
    """
    observed = ~np.isnan(context)
    steps = np.argmax(observed[:, ::-1], axis=1) if context.shape[1] else np.zeros(len(context))
    minutes = np.where(observed.any(axis=1), steps * step_minutes, np.nan)
    return minutes.astype(np.float32)


def _refuse_column(mistakes: list[str], judged: str, *, is_only: bool) -> None:
    wrong = [mistake for mistake in mistakes if mistake]
    # One artefact of a single patient must not stop the patient's other vital signs.
    if (len(wrong) > 1 or is_only) and 2 * len(wrong) > len(mistakes):
        raise UsageError(f"{wrong[0]} (in {len(wrong)} of {len(mistakes)} {judged})")


def _infinite(vital: int, values: FloatArray) -> str:
    if np.isinf(values).any():
        return f"{VITALS[vital].name} holds infinity; NaN = not measured"
    return ""


def _out_of_range(vital: int, values: FloatArray) -> str:
    kind = VITALS[vital]
    observed = values[~np.isnan(values)]
    wrong = observed[~kind.valid(observed)]
    if not len(wrong):
        return ""
    return (
        f"{kind.name} {wrong[-1]:.4g} is outside {kind.range_text}; if it is an artefact, replace "
        "it by NaN = not measured"
    )


def _exchanged_pressures(
    context: FloatArray, vital: IntArray, patient: IntArray, units: list[str]
) -> list[str]:
    """Return a reason for the pressures of the stays whose systolic one is usually the lower."""
    rows = {
        kind: {patient[row]: int(row) for row in np.flatnonzero(vital == kind) if not units[row]}
        for kind in (_SYSTOLIC, _DIASTOLIC)
    }
    reasons = [""] * len(context)
    judged = []
    for one in sorted(rows[_SYSTOLIC].keys() & rows[_DIASTOLIC].keys()):
        systolic, diastolic = rows[_SYSTOLIC][one], rows[_DIASTOLIC][one]
        pulse = context[systolic] - context[diastolic]
        pulse = pulse[np.isfinite(pulse)]
        if len(pulse) < _PAIRS:
            continue
        middle = float(np.median(pulse))
        reason = f"sbp is {-middle:.4g} mmHg below dbp: are they exchanged?" if middle < 0 else ""
        judged.append(reason)
        reasons[systolic] = reasons[diastolic] = reason
    _refuse_column(judged, "patients with sbp and dbp", is_only=False)
    return reasons
