"""Rules of a cohort that all sources share, and the last steps of those with charted stays."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from common.data.exclusion_flow import ExclusionFlow
from common.errors import SourceError, UsageError
from simulation.cohorts import ADULT_YEARS

MAX_DAYS = 365
"""Longer stays are taken for a mistake in a date; the site table has a row for each step."""


def check_settings(step_minutes: int, min_hours: int) -> None:
    """Refuse invalid settings.

    Raises:
        UsageError: names the option.
    """
    if step_minutes < 1:
        raise UsageError(f"--step-minutes must be at least 1, got {step_minutes}")
    if min_hours < 0:
        raise UsageError(f"--min-hours must not be negative, got {min_hours}")


def one_of(option: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a value of an option that is not among its choices.

    Raises:
        UsageError: names the option and its choices.
    """
    if value not in choices:
        raise UsageError(f"{option} {value!r} is not known; choose from {', '.join(choices)}")


def check_joined(stays: pd.DataFrame, table: str, joined: str) -> None:
    """Refuse stays that occur twice, or lack their row of a joined table.

    A table that is cut off at a line's end would otherwise make the cohort smaller in silence.

    Args:
        stays: the stays of a LEFT JOIN: `stay_id`, and `is_joined`, whether the row was found.
        table: the table of the stays.
        joined: the joined table.

    Raises:
        SourceError: names the tables.
    """
    lost = int((~stays["is_joined"]).sum())
    if lost:
        raise SourceError(
            f"{joined} lacks the rows of {lost:,} of the {len(stays):,} stays in {table}; one of "
            "the two is cut off or of another version; download both again"
        )
    twice = stays.loc[stays["stay_id"].duplicated(), "stay_id"]
    if len(twice):
        raise SourceError(
            f"{table} or {joined}: the stay {twice.iloc[0]} occurs twice; download both again"
        )


def in_units(
    stays: pd.DataFrame, units: Sequence[str], known: Sequence[str], flow: ExclusionFlow
) -> pd.DataFrame:
    """Keep the stays in the chosen care units; nothing is recorded if these are all.

    Args:
        stays: one row per stay, with `unit` and `patient_id`.
        units: the chosen units.
        known: all units.
        flow: gets the count.

    Returns:
        The stays left.
    """
    if set(units) != set(known):
        stays = stays[stays["unit"].isin(units)]
        flow.record(f"units {', '.join(sorted(set(units)))}", stays)
    return stays


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

    Stays of more than `MAX_DAYS` are left out too, and recorded if there are any.

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
    endless = hours[hours > MAX_DAYS * 24].index
    if len(endless):
        stays = stays[~stays["stay_id"].astype(str).isin(endless)]
        flow.record(f"at most {MAX_DAYS} days of vital signs", stays)
    long = hours[hours >= min_hours].index
    stays = stays[stays["stay_id"].astype(str).isin(long)]
    flow.record(f"at least {min_hours} h of vital signs", stays)
    return stays


def one_site_a_patient(
    stays: pd.DataFrame, flow: ExclusionFlow, place: str = "unit"
) -> pd.DataFrame:
    """Keep the stays in the unit of each patient's first one.

    A hospital has only its own charts: a later stay in another unit is left out, not moved, so that
    no patient is in two hospitals and no hospital has another's records.

    Args:
        stays: one row per stay, a patient's first one first: `unit` and `patient_id`.
        flow: gets the count.
        place: the word for a unit in the flow.

    Returns:
        The stays left.
    """
    first_unit = stays.groupby("patient_id", sort=False)["unit"].transform("first")
    stays = stays[stays["unit"] == first_unit]
    flow.record(f"in the patient's first kept {place}", stays)
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
