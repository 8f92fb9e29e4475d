"""Sepsis rules that select a cohort.

| rule     | a stay is septic if                                                       |
|----------|---------------------------------------------------------------------------|
| explicit | 995.92 (severe sepsis) or 785.52 (septic shock) is coded                  |
| angus    | an infection and organ dysfunction or ventilation are coded, or explicit  |
| martin   | septicaemia and organ failure are coded                                   |
| sepsis3  | an infection is suspected around the stay, with SOFA >= 2 around its time |
| none     | always                                                                    |

Codes are assigned at discharge: they may select patients but must never be an input of a model.
Sources: `mimic.sepsis3`, `mimic.suspected_infection` and `mimic.icd9`.

To add a rule, add its name to `SEPSIS_RULES`, its tables to `RULE_TABLES`, its query to
`select_septic`, and its name to the help of ``--sepsis`` in `simulation.cli.prepare.mimic3`.
"""

from __future__ import annotations

import pandas as pd

from common.errors import UsageError
from simulation.cohorts.mimic import code_rules, icd9
from simulation.cohorts.mimic.sepsis3 import infection_windows, sepsis3_stays
from simulation.cohorts.mimic.suspected_infection import suspected_infections
from simulation.cohorts.mimic3.sepsis3_records import (
    INFECTION_TABLES,
    SOFA_TABLES,
    mimic3_infection_records,
    mimic3_sofa_records,
)
from simulation.cohorts.source_tables import SourceTables

SEPSIS_RULES: tuple[str, ...] = ("explicit", "angus", "martin", "sepsis3", "none")

RULE_TABLES: dict[str, tuple[str, ...]] = {
    **code_rules.CODE_RULE_TABLES,
    "sepsis3": (*INFECTION_TABLES, "CHARTEVENTS", *SOFA_TABLES),
    "none": (),
}
"""Tables that each rule reads, besides ICUSTAYS."""


def check_tables(tables: SourceTables, rule: str) -> None:
    """Check, before anything large is read, that the tables of a rule exist.

    Raises:
        UsageError: the rule is unknown.
        SourceError: names the first absent table and the rule.
    """
    for table in RULE_TABLES[_known(rule)]:
        tables.path(table, f"the sepsis rule {rule}")


def select_septic(
    tables: SourceTables, rule: str, stays: str, chartevents: str | None = None
) -> list[int]:
    """Select the ICU stays that satisfy a sepsis rule.

    Args:
        tables: the MIMIC-III tables.
        rule: one of `SEPSIS_RULES`.
        stays: a DuckDB table of candidate stays: `subject_id`, `hadm_id`, `stay_id`, `intime`,
            `outtime`.
        chartevents: for sepsis3, a DuckDB table with the CHARTEVENTS rows of these patients and
            `sofa.score.SOFA_ITEMS`, with text values.

    Returns:
        The `stay_id` of the stays kept, ascending.

    Raises:
        UsageError: the rule is unknown.
        SourceError: a table of the rule is absent.
        ValueError: sepsis3 without `chartevents`.
    """
    check_tables(tables, rule)
    if rule == "none":
        query = f"SELECT stay_id FROM {stays} ORDER BY stay_id"
    elif rule == "sepsis3":
        if chartevents is None:
            raise ValueError("the rule sepsis3 scores SOFA and needs the table of chart events")
        return _sepsis3(tables, stays, chartevents)
    else:
        admissions = code_rules.coded_admissions(tables, rule)
        query = f"SELECT stay_id FROM {stays} WHERE hadm_id IN ({admissions}) ORDER BY stay_id"
    return [int(stay_id) for (stay_id,) in tables.connection.execute(query).fetchall()]


def flags(tables: SourceTables) -> pd.DataFrame:
    """Return for every ICU stay which code-based rules its admission satisfies.

    Args:
        tables: has ICUSTAYS, DIAGNOSES_ICD and PROCEDURES_ICD.

    Returns:
        One row per stay, ascending: `stay_id`, `hadm_id` and the booleans `sepsis` (995.91, in
        no rule), `severe_sepsis` (995.92), `septic_shock` (785.52), `explicit`, `angus`,
        `martin_septicaemia`, `martin_organ_failure`, `martin`.

    Raises:
        SourceError: one of the tables is absent.
    """
    icustays = tables.load("ICUSTAYS", "the sepsis rules")
    conditions = {
        "sepsis": code_rules.diagnosed(tables, icd9.SEPSIS_CODES, "explicit"),
        "severe_sepsis": code_rules.diagnosed(tables, icd9.SEVERE_SEPSIS_CODES, "explicit"),
        "septic_shock": code_rules.diagnosed(tables, icd9.SEPTIC_SHOCK_CODES, "explicit"),
        "explicit": code_rules.explicit(tables),
        "angus": code_rules.angus(tables),
        "martin_septicaemia": code_rules.diagnosed(tables, icd9.MARTIN_SEPTICAEMIA_CODES, "martin"),
        "martin_organ_failure": code_rules.martin_organ_failure(tables),
        "martin": code_rules.martin(tables),
    }
    columns = ", ".join(f"hadm_id IN ({query}) AS {name}" for name, query in conditions.items())
    return tables.connection.execute(
        f"SELECT stay_id, hadm_id, {columns} FROM {icustays} ORDER BY stay_id"
    ).df()


def _known(rule: str) -> str:
    if rule not in SEPSIS_RULES:
        raise UsageError(f"--sepsis {rule!r} is not known; choose from {', '.join(SEPSIS_RULES)}")
    return rule


def _sepsis3(tables: SourceTables, stays: str, chartevents: str) -> list[int]:
    connection = tables.connection
    infections = suspected_infections(connection, mimic3_infection_records(tables), stays)
    windows = infection_windows(connection, infections, stays)
    return sepsis3_stays(connection, mimic3_sofa_records(tables, chartevents), windows)
