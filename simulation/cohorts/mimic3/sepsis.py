"""Sepsis rules that select a cohort.

| rule     | a stay is septic if                                                       |
|----------|---------------------------------------------------------------------------|
| explicit | 995.92 (severe sepsis) or 785.52 (septic shock) is coded                  |
| angus    | an infection and organ dysfunction or ventilation are coded, or explicit  |
| martin   | septicaemia and organ failure are coded                                   |
| sepsis3  | an infection is suspected around the stay, with SOFA >= 2 around its time |
| none     | always                                                                    |

Codes are assigned at discharge: they may select patients but must never be an input of a model.
Sepsis-3: Singer et al. 2016, doi 10.1001/jama.2016.0287; the others are cited in `icd9` and
`suspected_infection`.

To add a rule, add its name to `SEPSIS_RULES`, its tables to `RULE_TABLES`, its query to
`select_septic`, and its name to the help of ``--sepsis`` in `simulation.cli.prepare.mimic3`.
"""

from __future__ import annotations

import pandas as pd

from common.errors import UsageError
from simulation.cohorts.mimic3 import icd9
from simulation.cohorts.mimic3.sofa.score import SOFA_TABLES, sofa_scores
from simulation.cohorts.mimic3.suspected_infection import suspected_infections
from simulation.cohorts.source_tables import SourceTables

SEPSIS_RULES: tuple[str, ...] = ("explicit", "angus", "martin", "sepsis3", "none")

SOFA_BEFORE_H = 48
SOFA_AFTER_H = 24
"""Hours before and after the suspected infection in which organ dysfunction counts."""

SEPSIS3_SOFA = 2
"""Least SOFA of a septic patient; the SOFA before the illness is taken as 0, as usual."""

_CODE_TABLES = ("DIAGNOSES_ICD", "PROCEDURES_ICD")
RULE_TABLES: dict[str, tuple[str, ...]] = {
    "explicit": ("DIAGNOSES_ICD",),
    "angus": _CODE_TABLES,
    "martin": _CODE_TABLES,
    "sepsis3": ("PRESCRIPTIONS", "MICROBIOLOGYEVENTS", "CHARTEVENTS", *SOFA_TABLES),
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
        stays: a DuckDB table of candidate stays: `subject_id`, `hadm_id`, `icustay_id`, `intime`,
            `outtime`.
        chartevents: for sepsis3, a DuckDB table with the CHARTEVENTS rows of these patients and
            `sofa.score.SOFA_ITEMS`, with text values.

    Returns:
        The `icustay_id` of the stays kept, ascending.

    Raises:
        UsageError: the rule is unknown.
        SourceError: a table of the rule is absent.
        ValueError: sepsis3 without `chartevents`.
    """
    check_tables(tables, rule)
    if rule == "none":
        query = f"SELECT icustay_id FROM {stays} ORDER BY icustay_id"
    elif rule == "sepsis3":
        if chartevents is None:
            raise ValueError("the rule sepsis3 scores SOFA and needs the table of chart events")
        query = _sepsis3(tables, stays, chartevents)
    else:
        admissions = {"explicit": _explicit, "angus": _angus, "martin": _martin}[rule](tables)
        query = (
            f"SELECT icustay_id FROM {stays} WHERE hadm_id IN ({admissions}) ORDER BY icustay_id"
        )
    return [int(icustay_id) for (icustay_id,) in tables.connection.execute(query).fetchall()]


def flags(tables: SourceTables) -> pd.DataFrame:
    """Return for every ICU stay which code-based rules its admission satisfies.

    Args:
        tables: has ICUSTAYS, DIAGNOSES_ICD and PROCEDURES_ICD.

    Returns:
        One row per stay, ascending: `icustay_id`, `hadm_id` and the booleans `sepsis` (995.91, in
        no rule), `severe_sepsis` (995.92), `septic_shock` (785.52), `explicit`, `angus`,
        `martin_septicaemia`, `martin_organ_failure`, `martin`.

    Raises:
        SourceError: one of the tables is absent.
    """
    icustays = tables.load("ICUSTAYS", "the sepsis rules")
    conditions = {
        "sepsis": _diagnosed(tables, icd9.SEPSIS_CODES, "explicit"),
        "severe_sepsis": _diagnosed(tables, icd9.SEVERE_SEPSIS_CODES, "explicit"),
        "septic_shock": _diagnosed(tables, icd9.SEPTIC_SHOCK_CODES, "explicit"),
        "explicit": _explicit(tables),
        "angus": _angus(tables),
        "martin_septicaemia": _diagnosed(tables, icd9.MARTIN_SEPTICAEMIA_CODES, "martin"),
        "martin_organ_failure": _martin_organ_failure(tables),
        "martin": _martin(tables),
    }
    columns = ", ".join(f"hadm_id IN ({query}) AS {name}" for name, query in conditions.items())
    return tables.connection.execute(
        f"SELECT icustay_id, hadm_id, {columns} FROM {icustays} ORDER BY icustay_id"
    ).df()


def _known(rule: str) -> str:
    if rule not in SEPSIS_RULES:
        raise UsageError(f"--sepsis {rule!r} is not known; choose from {', '.join(SEPSIS_RULES)}")
    return rule


# Each of the following returns a query for the `hadm_id` of the admissions with a condition.


def _explicit(tables: SourceTables) -> str:
    codes = (*icd9.SEVERE_SEPSIS_CODES, *icd9.SEPTIC_SHOCK_CODES)
    return _diagnosed(tables, codes, "explicit")


def _angus(tables: SourceTables) -> str:
    infection = _diagnosed(tables, icd9.ANGUS_INFECTION_CODES, "angus")
    organ = _diagnosed(tables, icd9.ANGUS_ORGAN_CODES, "angus")
    ventilation = _treated(tables, icd9.ANGUS_VENTILATION_PROCEDURES, "angus")
    return (
        f"(({infection}) INTERSECT (({organ}) UNION ({ventilation}))) UNION ({_explicit(tables)})"
    )


def _martin(tables: SourceTables) -> str:
    septicaemia = _diagnosed(tables, icd9.MARTIN_SEPTICAEMIA_CODES, "martin")
    return f"({septicaemia}) INTERSECT ({_martin_organ_failure(tables)})"


def _martin_organ_failure(tables: SourceTables) -> str:
    diagnosed = _diagnosed(tables, icd9.MARTIN_ORGAN_CODES, "martin")
    return f"({diagnosed}) UNION ({_treated(tables, icd9.MARTIN_ORGAN_PROCEDURES, 'martin')})"


def _diagnosed(tables: SourceTables, codes: tuple[str, ...], rule: str) -> str:
    return _admissions_with(tables, "DIAGNOSES_ICD", codes, rule)


def _treated(tables: SourceTables, codes: tuple[str, ...], rule: str) -> str:
    return _admissions_with(tables, "PROCEDURES_ICD", codes, rule)


def _admissions_with(tables: SourceTables, table: str, codes: tuple[str, ...], rule: str) -> str:
    name = tables.load(table, f"the sepsis rule {rule}")
    # NULL in a list makes `NOT IN` and `IN` unknown instead of false.
    return (
        f"SELECT hadm_id FROM {name} "
        f"WHERE hadm_id IS NOT NULL AND {icd9.any_code('icd9_code', codes)}"
    )


def _sepsis3(tables: SourceTables, stays: str, chartevents: str) -> str:
    infections = suspected_infections(tables, stays)
    # An admission may have an infection weeks before or after the stay. It makes the stay septic
    # only if its window overlaps the stay; of several infections, any with SOFA >= 2 does.
    tables.connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE sepsis3_windows AS
        SELECT i.subject_id, i.hadm_id, i.icustay_id,
               i.infection_time - to_hours({SOFA_BEFORE_H}) AS window_start,
               i.infection_time + to_hours({SOFA_AFTER_H}) AS window_end
        FROM {infections} i JOIN {stays} s USING (icustay_id)
        WHERE i.infection_time + to_hours({SOFA_AFTER_H}) >= s.intime
          AND i.infection_time - to_hours({SOFA_BEFORE_H}) <= coalesce(s.outtime, i.infection_time)
        """
    )
    scores = sofa_scores(tables, chartevents, "sepsis3_windows")
    return (
        f"SELECT DISTINCT icustay_id FROM {scores} WHERE sofa >= {SEPSIS3_SOFA} ORDER BY icustay_id"
    )
