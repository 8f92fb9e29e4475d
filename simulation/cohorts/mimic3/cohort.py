"""MIMIC-III cohort: stays by rule, vitals by step, five care units as five hospitals.

The rules are applied in a fixed order, each with its count, as in a CONSORT flow chart.
CHARTEVENTS (330 million rows in the full set) is read once, after all exclusions by small tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from common.data.cohort_writer import Cohort
from common.data.exclusion_flow import ExclusionFlow
from common.files.hashing import ReadProgress
from simulation.cohorts.mimic.cohort import chartevents_of, cohort_of_stays, register_stays
from simulation.cohorts.mimic.settings import MimicSettings
from simulation.cohorts.mimic.sofa.score import SOFA_ITEMS
from simulation.cohorts.mimic.vitals import VITAL_ITEMS
from simulation.cohorts.mimic3.schema import mimic3_tables
from simulation.cohorts.mimic3.sepsis import SEPSIS_RULES, check_tables, select_septic
from simulation.cohorts.source_tables import SourceTables
from simulation.cohorts.stay_selection import adults, check_joined, in_units, one_of

ADULT_UNITS: tuple[str, ...] = ("ccu", "csru", "micu", "sicu", "tsicu")
ERAS: tuple[str, ...] = ("all", "metavision")


@dataclass(frozen=True, kw_only=True)
class Mimic3Settings(MimicSettings):
    """Settings of a MIMIC-III cohort.

    Attributes:
        era: ``metavision`` keeps the stays charted in MetaVision (2008-2012), whose antibiotics
            and codes are complete; ``all`` keeps CareVue's too.
    """

    RULES: ClassVar[tuple[str, ...]] = SEPSIS_RULES
    UNITS: ClassVar[tuple[str, ...]] = ADULT_UNITS

    units: tuple[str, ...] = ADULT_UNITS
    era: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("--era", self.era, ERAS)

    def own_rules(self) -> tuple[str, ...]:
        """Return the description of the era."""
        return (f"era={self.era}",)


def mimic3_cohort(
    folder: Path,
    settings: Mimic3Settings,
    *,
    memory_gb: float = 2.0,
    source: str = "mimic3",
    progress: ReadProgress | None = None,
) -> Cohort:
    """Read MIMIC-III tables into per-step means of each care unit.

    Args:
        folder: has ICUSTAYS, PATIENTS, CHARTEVENTS and the tables of the sepsis rule, each as
            .csv, .csv.gz or .parquet.
        settings: selection and step length.
        memory_gb: bound on the memory of the queries, in gigabytes.
        source: the cohort's source name.
        progress: called during the pass over CHARTEVENTS.

    Returns:
        The cohort, ready for `common.data.cohort_writer.write_cohort`.

    Raises:
        SourceError: a table or column is missing, or a file is damaged.
    """
    with mimic3_tables(folder, memory_gb=memory_gb) as tables:
        # Checked before anything is read, not an hour into the pass.
        tables.path("CHARTEVENTS", "the vital signs")
        check_tables(tables, settings.sepsis)
        flow = ExclusionFlow()
        stays = _candidate_stays(tables, settings, flow)
        if settings.sepsis == "sepsis3":
            items = VITAL_ITEMS | SOFA_ITEMS
            chartevents = chartevents_of(tables, stays, items, progress, with_text=True)
            stays = _septic(tables, settings, stays, chartevents, flow)
        else:
            stays = _septic(tables, settings, stays, None, flow)
            chartevents = chartevents_of(tables, stays, VITAL_ITEMS, progress)
        return cohort_of_stays(tables, settings, stays, chartevents, flow, source)


def _candidate_stays(
    tables: SourceTables, settings: Mimic3Settings, flow: ExclusionFlow
) -> pd.DataFrame:
    icustays = tables.load("ICUSTAYS", "the ICU stays")
    patients = tables.load("PATIENTS", "the patients' age and sex")
    # Patients over 89 are born 300 years before: whole years by DuckDB's calendar, never a
    # difference in nanoseconds, which overflows at 292 years.
    stays: pd.DataFrame = tables.connection.sql(
        f"""
        SELECT s.subject_id, s.hadm_id, s.stay_id, s.intime, s.outtime, s.dbsource,
               lower(s.first_careunit) AS unit, s.subject_id::VARCHAR AS patient_id,
               date_sub('year', p.dob, s.intime) AS age,
               CASE p.gender WHEN 'F' THEN 'female' WHEN 'M' THEN 'male' ELSE '' END AS sex,
               p.subject_id IS NOT NULL AS is_joined
        FROM {icustays} s LEFT JOIN {patients} p USING (subject_id)
        ORDER BY s.subject_id, s.intime, s.stay_id
        """
    ).df()
    check_joined(stays, "ICUSTAYS", "PATIENTS")
    flow.record("ICU stays in the source", stays)
    stays = stays[stays["unit"].isin(ADULT_UNITS)]
    flow.record("adult units (NICU out)", stays)
    stays = adults(stays, flow)
    stays = in_units(stays, settings.units, ADULT_UNITS, flow)
    if settings.era == "metavision":
        stays = stays[stays["dbsource"] == "metavision"]
        flow.record("charted in MetaVision", stays)
    return stays


def _septic(
    tables: SourceTables,
    settings: Mimic3Settings,
    stays: pd.DataFrame,
    chartevents: str | None,
    flow: ExclusionFlow,
) -> pd.DataFrame:
    if settings.sepsis == "none":
        return stays
    candidates = register_stays(tables, "candidate_stays", stays)
    septic = select_septic(tables, settings.sepsis, candidates, chartevents)
    stays = stays[stays["stay_id"].isin(septic)]
    flow.record(f"sepsis by the rule {settings.sepsis}", stays)
    return stays
