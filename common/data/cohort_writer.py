"""The cohort folder: one site table a hospital and the record of how they came about.

    OUT/cohort.json          parameters, digests of what was read, versions, flow of exclusions
    OUT/sites/<site>.parquet the site tables
    OUT/patients.parquet     age band and sex, where the source tells them

All sources end here, so that what follows does not know where the patients came from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from common.atomic_io import atomic_folder
from common.data.cohort_folder import (
    COHORT_FILE,
    PATIENTS_FILE,
    RECORD_SCHEMA_VERSION,
    SITES_FOLDER,
    check_output_folder,
    read_cohort_record,
    record_versions,
    unwritable,
    write_cohort_record,
)
from common.data.demographics import write_patients
from common.data.exclusion_flow import ExclusionFlow
from common.data.site_table import SiteTableInfo, make_site_table, write_site_table
from common.data.summary import summarise
from common.errors import CohortError
from common.hashing import file_sha256


@dataclass
class Cohort:
    """A cohort in memory, as a source hands it over.

    Attributes:
        source: the source's name, e.g. ``mimic3``.
        rule: how patients were chosen, in words.
        step_minutes: length of a time step.
        parameters: the settings that shaped it, plain values.
        inputs: of each file or table read, its SHA-256 and size.
        flow: the flow of exclusions.
        dropped: measurements dropped, by reason.
        sites: of each site, the per-step means: `patient_id`, `stay_id`, `step` and vitals.
        patients: what `common.data.demographics.describe_patients` returns of these patients at
        least,
            where the source tells it.
    """

    source: str
    rule: str
    step_minutes: int
    parameters: dict[str, Any]
    inputs: dict[str, dict[str, Any]]
    flow: ExclusionFlow
    sites: dict[str, pd.DataFrame]
    dropped: dict[str, int] = field(default_factory=dict)
    patients: pd.DataFrame | None = None


def check_free(out: Path, source: str, parameters: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse early, before a long pass, to write over another cohort or a stranger's files.

    Args:
        out: the cohort folder to be.
        source: the source's name.
        parameters: the settings of the cohort to be.
        overwrite: whether another cohort may be replaced. Anything else never is.

    Raises:
        CohortError: where `out` holds something that must not be lost, or cannot be written.
    """
    if not check_output_folder(out, COHORT_FILE) or overwrite:
        return
    record = read_cohort_record(out)
    if (record["source"], record["parameters"]) != (source, json.loads(json.dumps(parameters))):
        raise CohortError(
            f"{out} holds another cohort ({record['source']}, {record['rule']}); "
            "give another folder with --out or replace it with --overwrite"
        )


def write_cohort(cohort: Cohort, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """Write the cohort folder, whole or not at all; the same cohort gives the same bytes.

    Args:
        cohort: what to write.
        out: the folder.
        overwrite: whether another cohort that stands there may be replaced.

    Returns:
        The record, as it stands in `cohort.json`.

    Raises:
        CohortError: where no patient is left, or `out` holds something that must not be lost.
    """
    check_free(out, cohort.source, cohort.parameters, overwrite)
    kept = {site: rows for site, rows in sorted(cohort.sites.items()) if len(rows)}
    if not kept:
        emptied = next((step.label for step in cohort.flow.steps if not step.total), "reading")
        raise CohortError(
            f"no stay is left after the rule '{emptied}'; loosen the cohort rule ({cohort.rule})"
        )
    try:
        with atomic_folder(out) as partial:
            summaries = {
                site: _write_site(cohort, site, rows, partial / SITES_FOLDER / f"{site}.parquet")
                for site, rows in kept.items()
            }
            told = _write_patients(cohort, kept, partial / PATIENTS_FILE)
            record = _record(cohort, summaries, told)
            write_cohort_record(partial, out, COHORT_FILE, record, overwrite)
    except OSError as error:
        raise unwritable(out, error) from error
    return record


def _write_site(cohort: Cohort, site: str, rows: pd.DataFrame, path: Path) -> dict[str, Any]:
    info = SiteTableInfo(site, cohort.source, cohort.rule, cohort.step_minutes)
    table = make_site_table(rows, info)
    write_site_table(table, path)
    return {"sha256": file_sha256(path), **summarise(table)}


def _write_patients(
    cohort: Cohort, kept: Mapping[str, pd.DataFrame], path: Path
) -> dict[str, Any] | None:
    """Write what is known of the patients who are left; return what the record says of it."""
    if cohort.patients is None:
        return None
    left = {str(patient) for rows in kept.values() for patient in rows["patient_id"].unique()}
    write_patients(cohort.patients[cohort.patients["patient_id"].isin(left)], path)
    return {"sha256": file_sha256(path)}


def _record(
    cohort: Cohort, summaries: dict[str, dict[str, Any]], patients: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "schema_version": RECORD_SCHEMA_VERSION,
        "source": cohort.source,
        "rule": cohort.rule,
        "parameters": {**cohort.parameters},
        "inputs": cohort.inputs,
        "flow": cohort.flow.to_json(),
        "dropped_measurements": cohort.dropped,
        "sites": summaries,
        "patients": patients,
        "versions": record_versions(),
    }
