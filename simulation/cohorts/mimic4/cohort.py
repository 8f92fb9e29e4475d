"""MIMIC-IV cohort: stays by rule, vitals by step, nine care units as nine hospitals.

The rules are applied in a fixed order, each with its count, as in a CONSORT flow chart. CHARTEVENTS
is read once, after all exclusions by small tables; for Sepsis-3, after those without a suspected
infection.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from common.data.cohort_writer import Cohort
from common.data.exclusion_flow import ExclusionFlow
from common.files.hashing import ReadProgress
from simulation.cohorts.mimic.code_rules import CODE_RULE_TABLES, coded_admissions, require_icd9
from simulation.cohorts.mimic.cohort import chartevents_of, cohort_of_stays, register_stays
from simulation.cohorts.mimic.sepsis3 import infection_windows, sepsis3_stays
from simulation.cohorts.mimic.settings import MimicSettings
from simulation.cohorts.mimic.suspected_infection import suspected_infections
from simulation.cohorts.mimic.vitals import METAVISION_ITEMS
from simulation.cohorts.mimic4.care_units import CARE_UNITS, OTHER_UNIT, SITE_OF_UNIT
from simulation.cohorts.mimic4.schema import mimic4_tables
from simulation.cohorts.mimic4.sepsis3_records import (
    METAVISION_SOFA_ITEMS,
    check_sepsis3_tables,
    mimic4_infection_records,
    mimic4_sofa_records,
)
from simulation.cohorts.source_tables import SourceTables
from simulation.cohorts.stay_selection import adults, check_joined, in_units

MIMIC4_RULES: tuple[str, ...] = (*CODE_RULE_TABLES, "sepsis3", "none")
"""Sepsis rules of MIMIC-IV."""


@dataclass(frozen=True, kw_only=True)
class Mimic4Settings(MimicSettings):
    """Settings of a MIMIC-IV cohort."""

    RULES: ClassVar[tuple[str, ...]] = MIMIC4_RULES
    UNITS: ClassVar[tuple[str, ...]] = CARE_UNITS

    units: tuple[str, ...] = CARE_UNITS


def mimic4_cohort(
    folder: Path,
    settings: Mimic4Settings,
    *,
    memory_gb: float = 2.0,
    progress: ReadProgress | None = None,
) -> Cohort:
    """Read MIMIC-IV tables into per-step means of each care unit.

    Args:
        folder: has `hosp` (PATIENTS, ADMISSIONS and the tables of the sepsis rule) and `icu`
            (ICUSTAYS, CHARTEVENTS and, for sepsis3, `sepsis3_records.SEPSIS3_TABLES`), each table
            as .csv, .csv.gz or .parquet.
        settings: selection and step length.
        memory_gb: bound on the memory of the queries, in gigabytes.
        progress: called during the pass over CHARTEVENTS.

    Returns:
        The cohort, ready for `common.data.cohort_writer.write_cohort`.

    Raises:
        SourceError: a table or column is missing, a file is damaged, or the sepsis rule does not
            cover the version of the admissions' codes.
    """
    with mimic4_tables(folder, memory_gb=memory_gb) as tables:
        # Checked before anything is read, not an hour into the pass.
        tables.path("CHARTEVENTS", "the vital signs")
        for table in CODE_RULE_TABLES.get(settings.sepsis, ()):
            tables.path(table, f"the sepsis rule {settings.sepsis}")
        if settings.sepsis == "sepsis3":
            check_sepsis3_tables(tables)
        flow = ExclusionFlow()
        stays = _candidate_stays(tables, settings, flow)
        if settings.sepsis == "sepsis3":
            stays, chartevents = _sepsis3(tables, stays, flow, progress)
        else:
            stays = _septic(tables, settings.sepsis, stays, flow)
            chartevents = chartevents_of(tables, stays, METAVISION_ITEMS, progress)
        cohort = cohort_of_stays(tables, settings, stays, chartevents, flow, "mimic4")
        # MIMIC-IV flags no errors: a count of 0 would claim that they were looked for.
        del cohort.dropped["error flag"]
        return cohort


def _candidate_stays(
    tables: SourceTables, settings: Mimic4Settings, flow: ExclusionFlow
) -> pd.DataFrame:
    icustays = tables.load("ICUSTAYS", "the ICU stays")
    patients = tables.load("PATIENTS", "the patients' age and sex")
    admissions = tables.load("ADMISSIONS", "the age at admission")
    # As MIT-LCP/mimic-code's `age`: the anchor's age is that in the anchor's year, 91 if over 89.
    stays: pd.DataFrame = tables.connection.sql(
        f"""
        SELECT s.subject_id, s.hadm_id, s.stay_id, s.intime, s.outtime, s.first_careunit,
               s.subject_id::VARCHAR AS patient_id,
               p.anchor_age + year(coalesce(a.admittime, s.intime)) - p.anchor_year AS age,
               CASE p.gender WHEN 'F' THEN 'female' WHEN 'M' THEN 'male' ELSE '' END AS sex,
               p.subject_id IS NOT NULL AS is_joined
        FROM {icustays} s LEFT JOIN {patients} p USING (subject_id)
        LEFT JOIN (SELECT hadm_id, min(admittime) AS admittime FROM {admissions} GROUP BY ALL) a
        USING (hadm_id)
        ORDER BY s.subject_id, s.intime, s.stay_id
        """
    ).df()
    check_joined(stays, "icustays", "patients")
    stays["unit"] = stays["first_careunit"].map(SITE_OF_UNIT).fillna(OTHER_UNIT)
    flow.record("ICU stays in the source", stays)
    stays = stays[stays["unit"] != OTHER_UNIT]
    flow.record("known care units", stays)
    stays = adults(stays, flow)
    return in_units(stays, settings.units, CARE_UNITS, flow)


def _septic(
    tables: SourceTables, rule: str, stays: pd.DataFrame, flow: ExclusionFlow
) -> pd.DataFrame:
    if rule == "none":
        return stays
    require_icd9(tables, rule, register_stays(tables, "candidate_stays", stays))
    coded = tables.connection.execute(coded_admissions(tables, rule)).fetchall()
    stays = stays[stays["hadm_id"].isin({admission for (admission,) in coded})]
    flow.record(f"sepsis by the rule {rule}", stays)
    return stays


def _sepsis3(
    tables: SourceTables, stays: pd.DataFrame, flow: ExclusionFlow, progress: ReadProgress | None
) -> tuple[pd.DataFrame, str]:
    """Return the stays with Sepsis-3, and the table of their patients' charted values."""
    connection = tables.connection
    candidates = register_stays(tables, "candidate_stays", stays)
    patients = stays["subject_id"].unique().tolist()
    antibiotics_and_cultures = mimic4_infection_records(tables, candidates, patients)
    infections = suspected_infections(connection, antibiotics_and_cultures, candidates)
    windows = infection_windows(connection, infections, candidates)
    # Infections before SOFA: the tables of SOFA are the large ones, and half the patients are gone.
    found = connection.execute(f"SELECT DISTINCT stay_id FROM {windows}").fetchall()
    suspected = stays[stays["stay_id"].isin({stay_id for (stay_id,) in found})]
    items = METAVISION_ITEMS | METAVISION_SOFA_ITEMS
    chartevents = chartevents_of(tables, suspected, items, progress, with_text=True)
    patients = suspected["subject_id"].unique().tolist()
    records = mimic4_sofa_records(tables, chartevents, patients)
    stays = stays[stays["stay_id"].isin(sepsis3_stays(connection, records, windows))]
    flow.record("sepsis by the rule sepsis3", stays)
    return stays, chartevents
