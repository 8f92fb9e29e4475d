"""Cohort rules that both challenges share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.data.cohort_writer import Cohort
from common.data.demographics import describe_patients
from common.data.exclusion_flow import ExclusionFlow
from common.data.site_table import VITAL_NAMES
from simulation.cohorts import ADULT_YEARS
from simulation.cohorts.physionet_challenge.measurements import Measurements, clean, means_per_step


def finish_cohort(
    stays: pd.DataFrame,
    measurements: Measurements,
    flow: ExclusionFlow,
    *,
    source: str,
    rule: str,
    parameters: dict[str, Any],
    inputs: dict[str, dict[str, Any]],
) -> Cohort:
    """Average the measurements of the chosen stays, drop short stays, and group the rest by site.

    Args:
        stays: the chosen stays: `patient_id`, `unit` (the site), `care_unit`, `age`, `sex`, and
            `septic` where the source has a label, indexed by record. The
            challenges have no patient ids: each stay is a patient of its own, and `patient_id` is
            its stay_id too.
        measurements: of these and of other stays.
        flow: the exclusions so far.
        source: the source's name.
        rule: description of the selection so far; the rules applied here are appended.
        parameters: the settings, among them `step_minutes` and `min_hours`.
        inputs: digests of what was read.

    Returns:
        The cohort. Its dropped measurements are those of the chosen stays.
    """
    step_minutes, min_hours = parameters["step_minutes"], parameters["min_hours"]
    chosen = np.isin(measurements.record, stays.index.to_numpy())
    measurements, dropped = clean(measurements[chosen])
    steps = means_per_step(measurements, step_minutes)

    hours = (steps.groupby("record")["step"].max() + 1) * step_minutes / 60
    stays = stays.loc[stays.index.isin(hours[hours >= min_hours].index)]
    flow.record(f"at least {min_hours} h of vital signs", stays)
    return Cohort(
        source=source,
        rule=f"{rule}, age>={ADULT_YEARS}, at least {min_hours} h, {step_minutes} min steps",
        step_minutes=step_minutes,
        parameters=parameters,
        inputs=inputs,
        flow=flow,
        sites=_by_unit(stays, steps),
        dropped=dropped,
        patients=describe_patients(stays),
        stays=stays.assign(stay_id=stays["patient_id"], unit=stays["care_unit"]),
        sepsis="SepsisLabel" if "septic" in stays else "",
    )


def sexes(codes: npt.NDArray[np.float64]) -> list[str]:
    """Return the sex of each of the challenges' codes, empty if missing or -1."""
    return [{0.0: "female", 1.0: "male"}.get(code, "") for code in codes.tolist()]


def _by_unit(stays: pd.DataFrame, steps: pd.DataFrame) -> dict[str, pd.DataFrame]:
    rows = steps.merge(stays[["patient_id", "unit"]], left_on="record", right_index=True)
    rows = rows.assign(stay_id=rows["patient_id"])
    columns = ["patient_id", "stay_id", "step", *VITAL_NAMES]
    return {
        str(unit): group[columns].reset_index(drop=True)
        for unit, group in rows.groupby("unit", sort=True)
    }
