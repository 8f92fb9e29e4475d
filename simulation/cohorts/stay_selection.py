"""Rules of a cohort that all sources share, and the last steps of those with charted stays."""

from __future__ import annotations

import pandas as pd

from common.data.exclusion_flow import ExclusionFlow
from common.errors import UsageError
from simulation.cohorts import ADULT_YEARS


def check_settings(step_minutes: int, min_hours: int) -> None:
    """Refuse invalid settings.

    Raises:
        UsageError: names the option.
    """
    if step_minutes < 1:
        raise UsageError(f"--step-minutes must be at least 1, got {step_minutes}")
    if min_hours < 0:
        raise UsageError(f"--min-hours must not be negative, got {min_hours}")


def adults(stays: pd.DataFrame, flow: ExclusionFlow) -> pd.DataFrame:
    """Keep the stays with a known age of 18 years or more.

    Args:
        stays: one row per stay, with `age` in years (NaN = unknown), `unit` and `patient_id`.
        flow: gets the count.

    Returns:
        The stays left.
    """
    stays = stays[stays["age"] >= ADULT_YEARS]
    flow.record(f"adults ({ADULT_YEARS} years or older)", stays)
    return stays


def long_enough(
    stays: pd.DataFrame,
    vitals: pd.DataFrame,
    step_minutes: int,
    min_hours: int,
    flow: ExclusionFlow,
) -> pd.DataFrame:
    """Keep the stays with at least `min_hours` hours from the start to the last vital sign.

    Args:
        stays: one row per stay: `stay_id`, `unit` and `patient_id`.
        vitals: the means of `simulation.cohorts.charted_vitals.charted_vitals`.
        step_minutes: length of a step.
        min_hours: least number of hours.
        flow: gets the count.

    Returns:
        The stays left.
    """
    last = vitals.groupby("stay_id")["step"].max()
    hours = (last + 1) * step_minutes / 60
    long = hours[hours >= min_hours].index
    stays = stays[stays["stay_id"].astype(str).isin(long)]
    flow.record(f"at least {min_hours} h of vital signs", stays)
    return stays


def one_site_a_patient(stays: pd.DataFrame, flow: ExclusionFlow) -> pd.DataFrame:
    """Keep the stays in the unit of each patient's first one.

    A hospital has only its own charts: a later stay in another unit is left out, not moved, so that
    no patient is in two hospitals and no hospital has another's records.

    Args:
        stays: one row per stay, a patient's first one first: `unit` and `patient_id`.
        flow: gets the count.

    Returns:
        The stays left.
    """
    first_unit = stays.groupby("patient_id", sort=False)["unit"].transform("first")
    stays = stays[stays["unit"] == first_unit]
    flow.record("in the patient's first kept unit", stays)
    return stays


def by_unit(stays: pd.DataFrame, vitals: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the means of the stays by site, which is the stay's unit.

    Args:
        stays: one row per stay: `stay_id` and `unit`.
        vitals: the means of these and of other stays.
    """
    unit_of_stay = stays.set_index(stays["stay_id"].astype(str))["unit"]
    units = vitals["stay_id"].map(unit_of_stay)
    return {str(unit): rows for unit, rows in vitals.groupby(units, sort=True)}
