"""Sepsis rules that select a cohort of eICU-CRD.

| rule      | a stay is septic if                                                           |
|-----------|-------------------------------------------------------------------------------|
| apache    | sepsis is its admission diagnosis in APACHE IV                                |
| icd9      | severe sepsis or septic shock is coded: 995.92, 785.52, R65.20 or R65.21      |
| diagnosis | sepsis or septic shock is on its list of diagnoses                            |
| none      | always                                                                        |

Sources: MIT-LCP/eicu-code, `concepts/diagnosis/apache-groups.sql` for the admission diagnoses and
the documentation of the table `diagnosis` for the other two.

- The admission diagnosis is that of the first day: sepsis acquired later does not count.
- The list of diagnoses has the time of entry, no end, and keeps what was ruled out later.
- `icd9code` has ICD-9 and ICD-10 codes together, with dots and separated by commas; in the demo it
  is empty in one row in seven.

To add a rule, add its name to `SEPSIS_RULES`, its table to `RULE_TABLES`, its query to
`septic_unit_stays`, and its name to the help of ``--sepsis`` in `simulation.cli.prepare.eicu`.
"""

from __future__ import annotations

from simulation.cohorts.source_tables import SourceTables

SEPSIS_RULES: tuple[str, ...] = ("apache", "icd9", "diagnosis", "none")

RULE_TABLES: dict[str, tuple[str, ...]] = {
    "apache": ("patient",),
    "icd9": ("diagnosis",),
    "diagnosis": ("diagnosis",),
    "none": (),
}
"""Tables that each rule reads."""

EXPLICIT_CODES: tuple[str, ...] = ("995.92", "785.52", "R65.20", "R65.21", "R65.2")
"""Severe sepsis and septic shock in ICD-9-CM and ICD-10-CM; eICU shortens R65.20 to R65.2."""

SEPSIS_PATHS: tuple[str, ...] = (
    "cardiovascular|shock / hypotension|sepsis",
    "cardiovascular|shock / hypotension|septic shock",
    "infectious diseases|systemic/other infections|sepsis",
    "infectious diseases|systemic/other infections|septic shock",
)
"""Paths of the list of diagnoses, themselves and with further levels. "Signs and symptoms of sepsis
(SIRS)", septic arthritis and renal failure due to sepsis are other paths."""

_APACHE_SEPSIS = "Sepsis, "
"""Beginning of the admission diagnoses of sepsis, by organ, as ``Sepsis, pulmonary``."""


def septic_unit_stays(tables: SourceTables, rule: str) -> frozenset[int]:
    """Select the unit stays that satisfy a sepsis rule.

    Args:
        tables: the eICU tables.
        rule: one of `SEPSIS_RULES` but ``none``.

    Returns:
        Their `patientunitstayid`.

    Raises:
        SourceError: the table of the rule is absent.
        KeyError: the rule is unknown.
    """
    (table,) = RULE_TABLES[rule]
    name = tables.load(table, f"the sepsis rule {rule}")
    condition = {
        "apache": f"starts_with(apacheadmissiondx, '{_APACHE_SEPSIS}')",
        "icd9": "list_has_any(string_split(replace(icd9code, ' ', ''), ','), "
        f"{list(EXPLICIT_CODES)})",
        "diagnosis": " OR ".join(
            f"diagnosisstring = '{path}' OR starts_with(diagnosisstring, '{path}|')"
            for path in SEPSIS_PATHS
        ),
    }[rule]
    rows = tables.connection.execute(
        f"SELECT DISTINCT patientunitstayid FROM {name} WHERE {condition}"
    ).fetchall()
    return frozenset(stay for (stay,) in rows)
