"""eICU-CRD cohort: unit stays by rule, vitals by step, each hospital a site of its own.

The rules are applied in a fixed order, each with its count, as in a CONSORT flow chart. The large
tables are read once, after the exclusions by small tables.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from common.data.characteristics import OLDEST_AGE, STAY_FACTS
from common.data.cohort_writer import Cohort
from common.data.demographics import describe_patients
from common.data.exclusion_flow import ExclusionFlow
from common.errors import SourceError, UsageError
from common.files.hashing import ReadProgress
from simulation.cohorts import ADULT_YEARS
from simulation.cohorts.eicu.schema import eicu_tables
from simulation.cohorts.eicu.sepsis import RULE_TABLES, SEPSIS_RULES, septic_unit_stays
from simulation.cohorts.eicu.sites import HOSPITAL_KINDS, SITE_KINDS, site_names, unit_slugs
from simulation.cohorts.eicu.vitals import VITAL_TABLES, eicu_vitals
from simulation.cohorts.source_tables import SourceTables
from simulation.cohorts.stay_selection import (
    adults,
    by_unit,
    check_joined,
    check_settings,
    long_enough,
    one_of,
    one_site_a_patient,
)

_DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class EicuSettings:
    """Settings of an eICU-CRD cohort.

    Attributes:
        sites: what a site is, one of `SITE_KINDS`.
        min_stays: hospitals with fewer stays left are dropped; 0 = none.
        sepsis: one of `SEPSIS_RULES`.
        step_minutes: length of a time step.
        min_hours: least hours from admission to the last vital sign.
    """

    sites: str = "hospital"
    min_stays: int = 0
    sepsis: str = "apache"
    step_minutes: int = 60
    min_hours: int = 12

    def __post_init__(self) -> None:
        one_of("--sites", self.sites, SITE_KINDS)
        one_of("--sepsis", self.sepsis, SEPSIS_RULES)
        check_settings(self.step_minutes, self.min_hours)
        if self.min_stays < 0:
            raise UsageError(f"--min-stays must not be negative, got {self.min_stays}")

    @property
    def rule(self) -> str:
        """Description of the cohort rule, as in every artefact."""
        hospitals = f", hospitals of {self.min_stays} stays or more" if self.min_stays else ""
        return (
            f"sepsis={self.sepsis}, age>={ADULT_YEARS}, at least {self.min_hours} h"
            f"{hospitals}, {self.step_minutes} min steps"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return asdict(self)


def eicu_cohort(
    folder: Path,
    settings: EicuSettings,
    *,
    memory_gb: float = 2.0,
    progress: ReadProgress | None = None,
) -> Cohort:
    """Read eICU-CRD tables into per-step means of each site.

    Args:
        folder: has patient, `VITAL_TABLES` and the tables of the sepsis rule and kind of site, each
            as .csv, .csv.gz or .parquet.
        settings: selection, sites and step length.
        memory_gb: bound on the memory of the queries, in gigabytes.
        progress: called during the passes over the large tables.

    Returns:
        The cohort, ready for `common.data.cohort_writer.write_cohort`.

    Raises:
        SourceError: a table or column is missing, or a file is damaged.
    """
    with eicu_tables(folder, memory_gb=memory_gb) as tables:
        _check_tables(tables, settings)
        flow = ExclusionFlow()
        stays = _candidate_stays(tables, settings, flow)
        if settings.sepsis != "none":
            stays = stays[
                stays["patientunitstayid"].isin(septic_unit_stays(tables, settings.sepsis))
            ]
            flow.record(f"sepsis by the rule {settings.sepsis}", stays)
        vitals, dropped, corrected = eicu_vitals(tables, stays, settings.step_minutes, progress)
        stays = long_enough(stays, vitals, settings.step_minutes, settings.min_hours, flow)
        stays = one_site_a_patient(stays, flow, "site")
        stays = _large_hospitals(stays, settings, flow)
        facts, sepsis = _facts(tables, settings, stays)
        return Cohort(
            source="eicu",
            rule=settings.rule,
            step_minutes=settings.step_minutes,
            parameters=settings.to_json(),
            inputs=tables.digests(),
            flow=flow,
            dropped=dropped,
            corrected=corrected,
            sites=by_unit(stays, vitals),
            patients=describe_patients(stays),
            stays=facts,
            sepsis=sepsis,
            warnings=tables.warnings(),
        )


def _check_tables(tables: SourceTables, settings: EicuSettings) -> None:
    # Checked before anything is read, not an hour into the passes.
    tables.path("patient", "the unit stays")
    for table in VITAL_TABLES:
        tables.require_rows(table, "the vital signs")
    for table in RULE_TABLES[settings.sepsis]:
        tables.path(table, f"the sepsis rule {settings.sepsis}")
    if settings.sites in HOSPITAL_KINDS:
        tables.path("hospital", f"sites by {settings.sites}")


def _candidate_stays(
    tables: SourceTables, settings: EicuSettings, flow: ExclusionFlow
) -> pd.DataFrame:
    patient = tables.load("patient", "the unit stays")
    source, is_joined = patient, "true"
    if settings.sites in HOSPITAL_KINDS:
        hospital = tables.load("hospital", f"sites by {settings.sites}")
        source = f"{patient} LEFT JOIN {hospital} USING (hospitalid)"
        is_joined = f"{hospital}.hospitalid IS NOT NULL"
    # Stays have no date but the year of discharge; the age rises with time as well. The order of
    # hospital stays within a year of age is not published: that of their ids is taken.
    stays: pd.DataFrame = tables.connection.sql(
        f"""
        SELECT *, uniquepid AS patient_id, patientunitstayid::VARCHAR AS stay_id,
            CASE WHEN starts_with(trim(patient.age), '>') THEN {OLDEST_AGE}
                 ELSE TRY_CAST(patient.age AS DOUBLE) END AS years,
            CASE patient.gender WHEN 'Female' THEN 'female' WHEN 'Male' THEN 'male' ELSE '' END
                AS sex,
            coalesce(unitdischargeoffset, hospitaldischargeoffset) AS until,
            {is_joined} AS is_joined
        FROM {source}
        ORDER BY uniquepid, hospitaldischargeyear, years, patienthealthsystemstayid,
            unitvisitnumber, patientunitstayid
        """
    ).df()
    _check_stays(stays)
    stays["age"] = stays["years"].astype(float)
    stays["unit"] = site_names(stays, settings.sites)
    flow.record("unit stays in the source", stays)
    stays = adults(stays, flow)
    if stays["until"].isna().any():
        stays = stays[stays["until"].notna()]
        flow.record("with a known discharge", stays)
    return stays


def _check_stays(stays: pd.DataFrame) -> None:
    for column in ("patientunitstayid", "uniquepid", "hospitalid"):
        missing = int(stays[column].isna().sum())
        if missing:
            raise SourceError(
                f"patient: {missing} rows have no {column.upper()}; download it again"
            )
    check_joined(stays, "patient", "hospital")


def _large_hospitals(
    stays: pd.DataFrame, settings: EicuSettings, flow: ExclusionFlow
) -> pd.DataFrame:
    if settings.min_stays > 0:
        sizes = stays.groupby("hospitalid")["stay_id"].transform("size")
        stays = stays[sizes >= settings.min_stays]
        flow.record(f"in a hospital with at least {settings.min_stays} such stays", stays)
    return stays


def _facts(
    tables: SourceTables, settings: EicuSettings, stays: pd.DataFrame
) -> tuple[pd.DataFrame, str]:
    """Return facts of the stays for table 1, and the rule of its septic ones in words.

    Without a rule of the cohort, sepsis is that of the admission diagnosis.
    """
    rule = "apache" if settings.sepsis == "none" else settings.sepsis
    died = stays["hospitaldischargestatus"].map({"Expired": True, "Alive": False})
    rows = stays.assign(
        unit=unit_slugs(stays),
        icu_days=stays["until"] / _DAY_MINUTES,
        died=died.astype("boolean"),
        septic=stays["patientunitstayid"].isin(septic_unit_stays(tables, rule)),
    )
    return rows[["stay_id", *STAY_FACTS]], f"rule {rule}"
