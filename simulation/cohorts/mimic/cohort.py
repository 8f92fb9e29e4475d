"""Last steps of a MIMIC cohort: vitals by step, rules on them, facts for table 1."""

from __future__ import annotations

import pandas as pd

from common.data.characteristics import STAY_FACTS
from common.data.cohort_writer import Cohort
from common.data.demographics import describe_patients
from common.data.exclusion_flow import ExclusionFlow
from common.files.hashing import ReadProgress
from simulation.cohorts.mimic.chartevents import stream_chartevents
from simulation.cohorts.mimic.code_rules import coded_admissions
from simulation.cohorts.mimic.settings import MimicSettings
from simulation.cohorts.mimic.vitals import hourly_vitals
from simulation.cohorts.source_tables import SourceTables
from simulation.cohorts.stay_selection import by_unit, long_enough, one_site_a_patient

_DAY_S = 24 * 60 * 60


def chartevents_of(
    tables: SourceTables,
    stays: pd.DataFrame,
    items: frozenset[int],
    progress: ReadProgress | None,
    *,
    with_text: bool = False,
) -> str:
    """Read the charted values of the patients of some stays; see `stream_chartevents`."""
    subjects = stays["subject_id"].unique().tolist()
    return stream_chartevents(tables, items, subjects, with_text=with_text, progress=progress)


def register_stays(tables: SourceTables, name: str, stays: pd.DataFrame) -> str:
    """Create a DuckDB table of stays and return its name.

    Args:
        tables: the folder of MIMIC tables.
        name: name of the table.
        stays: one row per stay: `subject_id`, `hadm_id`, `stay_id`, `intime`, `outtime`.
    """
    columns = stays[["subject_id", "hadm_id", "stay_id", "intime", "outtime"]]
    tables.connection.register(f"{name}_frame", columns)
    tables.connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM {name}_frame")
    tables.connection.unregister(f"{name}_frame")
    return name


def cohort_of_stays(
    tables: SourceTables,
    settings: MimicSettings,
    stays: pd.DataFrame,
    chartevents: str,
    flow: ExclusionFlow,
    source: str,
) -> Cohort:
    """Average the vital signs of the chosen stays and apply the rules that need them.

    Args:
        tables: the folder of MIMIC tables.
        settings: selection and step length.
        stays: the chosen stays in the order of patient and time: `subject_id`, `hadm_id`,
            `stay_id`, `intime`, `outtime`, `unit`, `patient_id`, `age` in years, `sex`.
        chartevents: a DuckDB table with the charted values of their patients.
        flow: the exclusions so far.
        source: the cohort's source name.

    Returns:
        The cohort, ready for `common.data.cohort_writer.write_cohort`.

    Raises:
        SourceError: a table is missing or damaged.
    """
    kept = register_stays(tables, "kept_stays", stays)
    vitals, dropped = hourly_vitals(tables, kept, chartevents, settings.step_minutes)
    stays = long_enough(stays, vitals, settings.step_minutes, settings.min_hours, flow)
    stays = one_site_a_patient(stays, flow)
    facts, sepsis = _facts(tables, settings.sepsis, stays)
    return Cohort(
        source=source,
        rule=settings.rule,
        step_minutes=settings.step_minutes,
        parameters=settings.to_json(),
        inputs=tables.digests(),
        flow=flow,
        dropped=dropped,
        sites=by_unit(stays, vitals),
        patients=describe_patients(stays),
        stays=facts,
        sepsis=sepsis,
        warnings=tables.warnings(),
    )


def _facts(tables: SourceTables, rule: str, stays: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return facts of the stays for table 1, and the rule of its septic ones in words.

    Deaths need ADMISSIONS. Without a rule of the cohort, sepsis is the coded one, if
    DIAGNOSES_ICD is there. Neither table is required.
    """
    rows = stays.assign(stay_id=stays["stay_id"].astype(str))
    rows["icu_days"] = (rows["outtime"] - rows["intime"]).dt.total_seconds() / _DAY_S
    if tables.has("ADMISSIONS"):
        admissions = tables.load("ADMISSIONS", "deaths in hospital")
        died = "deathtime IS NOT NULL"
        if "discharge_location" in tables.layout.columns["ADMISSIONS"]:
            died += " OR coalesce(discharge_location = 'DIED', false)"
        deaths = tables.connection.sql(
            f"SELECT hadm_id, bool_or({died}) AS died FROM {admissions} GROUP BY ALL"
        ).df()
        rows = rows.merge(deaths, on="hadm_id", how="left", validate="many_to_one")
    if rule != "none":
        rows["septic"] = True
    elif tables.has("DIAGNOSES_ICD"):
        rule = "explicit"
        coded = tables.connection.execute(coded_admissions(tables, rule)).fetchall()
        rows["septic"] = rows["hadm_id"].isin({admission for (admission,) in coded})
    columns = ["stay_id", *(name for name in STAY_FACTS if name in rows)]
    return rows[columns], "" if rule == "none" else f"rule {rule}"
