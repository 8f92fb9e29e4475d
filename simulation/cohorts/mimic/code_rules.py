"""Sepsis rules by diagnosis and procedure codes: explicit, angus and martin.

Each function returns a query for the `hadm_id` of the admissions with a condition. The explicit
codes exist in ICD-9 and ICD-10. The lists of Angus and Martin are published for ICD-9 alone:
`require_icd9` refuses these rules where admissions are coded in ICD-10.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from common.errors import SourceError
from simulation.cohorts.mimic import icd9, icd10
from simulation.cohorts.source_tables import SourceTables

_CODE_TABLES = ("DIAGNOSES_ICD", "PROCEDURES_ICD")
CODE_RULE_TABLES: dict[str, tuple[str, ...]] = {
    "explicit": ("DIAGNOSES_ICD",),
    "angus": _CODE_TABLES,
    "martin": _CODE_TABLES,
}
"""Tables that each rule by codes reads."""


def coded_admissions(tables: SourceTables, rule: str) -> str:
    """Return the query of the admissions that satisfy a rule of `CODE_RULE_TABLES`.

    Raises:
        SourceError: a table of the rule is absent.
    """
    return {"explicit": explicit, "angus": angus, "martin": martin}[rule](tables)


def explicit(tables: SourceTables) -> str:
    """Return the query of severe sepsis (995.92, R65.20) or septic shock (785.52, R65.21)."""
    return diagnosed(
        tables,
        (*icd9.SEVERE_SEPSIS_CODES, *icd9.SEPTIC_SHOCK_CODES),
        "explicit",
        (*icd10.SEVERE_SEPSIS_CODES, *icd10.SEPTIC_SHOCK_CODES),
    )


def angus(tables: SourceTables) -> str:
    """Return the query of an infection and organ dysfunction or ventilation, or `explicit`."""
    infection = diagnosed(tables, icd9.ANGUS_INFECTION_CODES, "angus")
    organ = diagnosed(tables, icd9.ANGUS_ORGAN_CODES, "angus")
    ventilation = treated(tables, icd9.ANGUS_VENTILATION_PROCEDURES, "angus")
    return f"(({infection}) INTERSECT (({organ}) UNION ({ventilation}))) UNION ({explicit(tables)})"


def martin(tables: SourceTables) -> str:
    """Return the query of septicaemia and organ failure."""
    septicaemia = diagnosed(tables, icd9.MARTIN_SEPTICAEMIA_CODES, "martin")
    return f"({septicaemia}) INTERSECT ({martin_organ_failure(tables)})"


def martin_organ_failure(tables: SourceTables) -> str:
    """Return the query of organ failure after Martin."""
    failure = diagnosed(tables, icd9.MARTIN_ORGAN_CODES, "martin")
    return f"({failure}) UNION ({treated(tables, icd9.MARTIN_ORGAN_PROCEDURES, 'martin')})"


def diagnosed(
    tables: SourceTables, codes: Iterable[str], rule: str, icd10_codes: Iterable[str] = ()
) -> str:
    """Return the query of admissions with a diagnosis that begins with one of the codes.

    Args:
        tables: has DIAGNOSES_ICD.
        codes: ICD-9 codes or categories, without dots.
        rule: the rule that needs them, for messages.
        icd10_codes: ICD-10 codes or categories, without dots.
    """
    return _admissions_with(tables, "DIAGNOSES_ICD", rule, codes, icd10_codes)


def treated(tables: SourceTables, codes: Iterable[str], rule: str) -> str:
    """Return the query of admissions with a procedure of ICD-9; arguments as for `diagnosed`."""
    return _admissions_with(tables, "PROCEDURES_ICD", rule, codes, ())


def require_icd9(tables: SourceTables, rule: str, stays: str) -> None:
    """Refuse the rules that are published for ICD-9 alone if admissions have ICD-10 diagnoses.

    Args:
        tables: has the tables of the rule.
        rule: the rule by codes.
        stays: a DuckDB table of the candidate stays: `hadm_id`.

    Raises:
        SourceError: an admission has ICD-10 diagnoses; says how many have.
    """
    if rule not in ("angus", "martin") or not _has_version(tables, "DIAGNOSES_ICD"):
        return
    name = tables.load("DIAGNOSES_ICD", f"the sepsis rule {rule}")
    query = f"""
        SELECT count(DISTINCT s.hadm_id) FILTER (d.hadm_id IS NOT NULL), count(DISTINCT s.hadm_id)
        FROM {stays} s LEFT JOIN (SELECT hadm_id FROM {name} WHERE icd_version = 10) d
        USING (hadm_id)"""
    ((coded, admissions),) = tables.connection.execute(query).fetchall()
    if coded:
        raise SourceError(
            f"the sepsis rule {rule} is published for ICD-9 alone, and {coded:,} of the "
            f"{admissions:,} admissions have ICD-10 diagnoses, which it would take for no sepsis; "
            "choose explicit, whose codes exist in both, or none"
        )


def any_code(column: str, codes: Iterable[str]) -> str:
    """Return an SQL condition: `column` begins with one of `codes`.

    Args:
        column: the column with codes as MIMIC writes them.
        codes: the codes or categories, without dots.
    """
    by_length: defaultdict[int, list[str]] = defaultdict(list)
    for code in codes:
        by_length[len(code)].append(code)
    tests = [
        f"left({column}, {length}) IN ({', '.join(repr(code) for code in same_length)})"
        for length, same_length in sorted(by_length.items())
    ]
    return f"({' OR '.join(tests)})"


def _has_version(tables: SourceTables, table: str) -> bool:
    return "icd_version" in tables.layout.columns[table]


def _admissions_with(
    tables: SourceTables,
    table: str,
    rule: str,
    codes: Iterable[str],
    icd10_codes: Iterable[str],
) -> str:
    name = tables.load(table, f"the sepsis rule {rule}")
    condition = any_code("icd_code", codes)
    if _has_version(tables, table):
        # Codes of the two versions can be equal in text and differ in meaning.
        condition = f"icd_version = 9 AND {condition}"
        if later := list(icd10_codes):
            condition = f"({condition} OR icd_version = 10 AND {any_code('icd_code', later)})"
    # NULL in a list makes `NOT IN` and `IN` unknown instead of false.
    return f"SELECT hadm_id FROM {name} WHERE hadm_id IS NOT NULL AND {condition}"
