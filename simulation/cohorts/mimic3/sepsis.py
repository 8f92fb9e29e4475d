"""Sepsis rules that select a cohort.

| rule     | a stay is septic if                                                       |
|----------|---------------------------------------------------------------------------|
| explicit | 995.92 (severe sepsis) or 785.52 (septic shock) is coded                  |
| angus    | an infection and organ dysfunction or ventilation are coded, or explicit  |
| martin   | septicaemia and organ failure are coded                                   |
| sepsis3  | an infection is suspected around the stay, with SOFA >= 2 around its time |
| none     | always                                                                    |

Codes are assigned at discharge: they may select patients but must never be an input of a model.
Sepsis-3: Singer et al. 2016, doi 10.1001/jama.2016.0287; the others are cited in `mimic.icd9` and
`suspected_infection`.

To add a rule, add its name to `SEPSIS_RULES`, its tables to `RULE_TABLES`, its query to
`select_septic`, and its name to the help of ``--sepsis`` in `simulation.cli.prepare.mimic3`.
"""

from __future__ import annotations

import pandas as pd

from common.errors import UsageError
from simulation.cohorts.mimic import code_rules, icd9
from simulation.cohorts.mimic3.sofa.score import SOFA_TABLES, sofa_scores
from simulation.cohorts.mimic3.suspected_infection import suspected_infections
from simulation.cohorts.source_tables import SourceTables

SEPSIS_RULES: tuple[str, ...] = ("explicit", "angus", "martin", "sepsis3", "none")

SOFA_BEFORE_H = 48
SOFA_AFTER_H = 24
"""Hours before and after the suspected infection in which organ dysfunction counts."""

SEPSIS3_SOFA = 2
"""Least SOFA of a septic patient; the SOFA before the illness is taken as 0, as usual."""

RULE_TABLES: dict[str, tuple[str, ...]] = {
    **code_rules.CODE_RULE_TABLES,
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
        query = _sepsis3(tables, stays, chartevents)
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


def _sepsis3(tables: SourceTables, stays: str, chartevents: str) -> str:
    infections = suspected_infections(tables, stays)
    # An admission may have an infection weeks before or after the stay. It makes the stay septic
    # only if its window overlaps the stay; of several infections, any with SOFA >= 2 does.
    tables.connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE sepsis3_windows AS
        SELECT i.subject_id, i.hadm_id, i.stay_id,
               i.infection_time - to_hours({SOFA_BEFORE_H}) AS window_start,
               i.infection_time + to_hours({SOFA_AFTER_H}) AS window_end
        FROM {infections} i JOIN {stays} s USING (stay_id)
        WHERE i.infection_time + to_hours({SOFA_AFTER_H}) >= s.intime
          AND i.infection_time - to_hours({SOFA_BEFORE_H}) <= coalesce(s.outtime, i.infection_time)
        """
    )
    scores = sofa_scores(tables, chartevents, "sepsis3_windows")
    return f"SELECT DISTINCT stay_id FROM {scores} WHERE sofa >= {SEPSIS3_SOFA} ORDER BY stay_id"
