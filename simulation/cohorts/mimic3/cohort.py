"""MIMIC-III cohort: stays by rule, vitals by step, five care units as five hospitals.

The rules are applied in a fixed order, each with its count, as in a CONSORT flow chart.
CHARTEVENTS (330 million rows in the full set) is read once, after all exclusions by small tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.data.characteristics import STAY_FACTS
from common.data.cohort_writer import Cohort
from common.data.demographics import describe_patients
from common.data.exclusion_flow import ExclusionFlow
from common.errors import UsageError
from common.files.hashing import ReadProgress
from simulation.cohorts import ADULT_YEARS
from simulation.cohorts.mimic3.chartevents import stream_chartevents
from simulation.cohorts.mimic3.schema import mimic3_tables
from simulation.cohorts.mimic3.sepsis import SEPSIS_RULES, check_tables, select_septic
from simulation.cohorts.mimic3.sofa.score import SOFA_ITEMS
from simulation.cohorts.mimic3.vitals import VITAL_ITEMS, hourly_vitals
from simulation.cohorts.source_tables import SourceTables

ADULT_UNITS: tuple[str, ...] = ("ccu", "csru", "micu", "sicu", "tsicu")
_DAY_S = 24 * 60 * 60
ERAS: tuple[str, ...] = ("all", "metavision")


@dataclass(frozen=True)
class Mimic3Settings:
    """Settings of a MIMIC-III cohort.

    Attributes:
        sepsis: one of `SEPSIS_RULES`.
        era: ``metavision`` keeps the stays charted in MetaVision (2008-2012), whose antibiotics
            and codes are complete; ``all`` keeps CareVue's too.
        step_minutes: length of a time step.
        min_hours: least hours from admission to the last vital sign.
        units: care units to keep.
    """

    sepsis: str = "explicit"
    era: str = "all"
    step_minutes: int = 60
    min_hours: int = 12
    units: tuple[str, ...] = ADULT_UNITS

    def __post_init__(self) -> None:
        _one_of("--sepsis", self.sepsis, SEPSIS_RULES)
        _one_of("--era", self.era, ERAS)
        for unit in self.units:
            _one_of("--units", unit, ADULT_UNITS)
        if not self.units:
            raise UsageError(f"--units is empty; choose from {', '.join(ADULT_UNITS)}")
        if self.step_minutes < 1:
            raise UsageError(f"--step-minutes must be at least 1, got {self.step_minutes}")
        if self.min_hours < 0:
            raise UsageError(f"--min-hours must not be negative, got {self.min_hours}")

    @property
    def rule(self) -> str:
        """Description of the cohort rule, as in every artefact."""
        return (
            f"sepsis={self.sepsis}, era={self.era}, age>={ADULT_YEARS}, "
            f"at least {self.min_hours} h, {self.step_minutes} min steps"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values; units sorted, since their order has no meaning."""
        return {**asdict(self), "units": sorted(set(self.units))}


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
            chartevents = _stream(tables, stays, VITAL_ITEMS | SOFA_ITEMS, progress, with_text=True)
            stays = _septic(tables, settings, stays, chartevents, flow)
        else:
            stays = _septic(tables, settings, stays, None, flow)
            chartevents = _stream(tables, stays, VITAL_ITEMS, progress, with_text=False)
        vitals, dropped = hourly_vitals(
            tables, _register(tables, "kept_stays", stays), chartevents, settings.step_minutes
        )
        stays = _long_enough(stays, vitals, settings, flow)
        stays = _one_site_a_patient(stays, flow)
        facts, sepsis = _facts(tables, settings, stays)
        return Cohort(
            source=source,
            rule=settings.rule,
            step_minutes=settings.step_minutes,
            parameters=settings.to_json(),
            inputs=tables.digests(),
            flow=flow,
            dropped=dropped,
            sites=_by_unit(stays, vitals),
            patients=describe_patients(stays),
            stays=facts,
            sepsis=sepsis,
        )


def _candidate_stays(
    tables: SourceTables, settings: Mimic3Settings, flow: ExclusionFlow
) -> pd.DataFrame:
    icustays = tables.load("ICUSTAYS", "the ICU stays")
    patients = tables.load("PATIENTS", "the patients' age and sex")
    # Patients over 89 are born 300 years before: whole years by DuckDB's calendar, never a
    # difference in nanoseconds, which overflows at 292 years.
    stays: pd.DataFrame = tables.connection.sql(
        f"""
        SELECT s.subject_id, s.hadm_id, s.icustay_id, s.intime, s.outtime, s.dbsource,
               lower(s.first_careunit) AS unit, s.subject_id::VARCHAR AS patient_id,
               date_sub('year', p.dob, s.intime) AS age,
               CASE p.gender WHEN 'F' THEN 'female' WHEN 'M' THEN 'male' ELSE '' END AS sex
        FROM {icustays} s JOIN {patients} p USING (subject_id)
        ORDER BY s.subject_id, s.intime, s.icustay_id
        """
    ).df()
    flow.record("ICU stays in the source", stays)
    stays = stays[stays["unit"].isin(ADULT_UNITS)]
    flow.record("adult units (NICU out)", stays)
    stays = stays[stays["age"] >= ADULT_YEARS]
    flow.record(f"adults ({ADULT_YEARS} years or older)", stays)
    if set(settings.units) != set(ADULT_UNITS):
        stays = stays[stays["unit"].isin(settings.units)]
        flow.record(f"units {', '.join(sorted(set(settings.units)))}", stays)
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
    candidates = _register(tables, "candidate_stays", stays)
    septic = select_septic(tables, settings.sepsis, candidates, chartevents)
    stays = stays[stays["icustay_id"].isin(septic)]
    flow.record(f"sepsis by the rule {settings.sepsis}", stays)
    return stays


def _facts(
    tables: SourceTables, settings: Mimic3Settings, stays: pd.DataFrame
) -> tuple[pd.DataFrame, str]:
    """Return facts of the stays for table 1, and the rule of its septic ones in words.

    Deaths need ADMISSIONS. Without a rule of the cohort, sepsis is the coded one, if
    DIAGNOSES_ICD is there. Neither table is required.
    """
    rows = stays.assign(stay_id=stays["icustay_id"].astype(str))
    rows["icu_days"] = (rows["outtime"] - rows["intime"]).dt.total_seconds() / _DAY_S
    if tables.has("ADMISSIONS"):
        admissions = tables.load("ADMISSIONS", "deaths in hospital")
        deaths = tables.connection.sql(
            f"SELECT hadm_id, bool_or(deathtime IS NOT NULL) AS died FROM {admissions} GROUP BY ALL"
        ).df()
        rows = rows.merge(deaths, on="hadm_id", how="left", validate="many_to_one")
    rule = settings.sepsis
    if rule != "none":
        rows["septic"] = True
    elif tables.has("DIAGNOSES_ICD"):
        rule = "explicit"
        kept = _register(tables, "described_stays", stays)
        rows["septic"] = rows["icustay_id"].isin(select_septic(tables, rule, kept))
    columns = ["stay_id", *(name for name in STAY_FACTS if name in rows)]
    return rows[columns], "" if rule == "none" else f"rule {rule}"


def _stream(
    tables: SourceTables,
    stays: pd.DataFrame,
    items: frozenset[int],
    progress: ReadProgress | None,
    with_text: bool,
) -> str:
    subjects = stays["subject_id"].unique().tolist()
    return stream_chartevents(tables, items, subjects, with_text=with_text, progress=progress)


def _register(tables: SourceTables, name: str, stays: pd.DataFrame) -> str:
    columns = stays[["subject_id", "hadm_id", "icustay_id", "intime", "outtime"]]
    tables.connection.register(f"{name}_frame", columns)
    tables.connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM {name}_frame")
    tables.connection.unregister(f"{name}_frame")
    return name


def _long_enough(
    stays: pd.DataFrame, vitals: pd.DataFrame, settings: Mimic3Settings, flow: ExclusionFlow
) -> pd.DataFrame:
    last = vitals.groupby("stay_id")["step"].max()
    hours = (last + 1) * settings.step_minutes / 60
    long = hours[hours >= settings.min_hours].index
    stays = stays[stays["icustay_id"].astype(str).isin(long)]
    flow.record(f"at least {settings.min_hours} h of vital signs", stays)
    return stays


def _one_site_a_patient(stays: pd.DataFrame, flow: ExclusionFlow) -> pd.DataFrame:
    # A hospital has only its own charts: a later stay in another unit is left out, not moved, so
    # that no patient is in two hospitals and no hospital has another's records.
    first_unit = stays.groupby("subject_id", sort=False)["unit"].transform("first")
    stays = stays[stays["unit"] == first_unit]
    flow.record("in the patient's first kept unit", stays)
    return stays


def _by_unit(stays: pd.DataFrame, vitals: pd.DataFrame) -> dict[str, pd.DataFrame]:
    unit_of_stay = stays.set_index(stays["icustay_id"].astype(str))["unit"]
    units = vitals["stay_id"].map(unit_of_stay)
    return {str(unit): rows for unit, rows in vitals.groupby(units, sort=True)}


def _one_of(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(f"{option} {value!r} is not known; choose from {', '.join(choices)}")
