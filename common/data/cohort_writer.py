"""Writer of a prepared cohort, the same for all sources: site tables, patients and record.

OUT/cohort.json            parameters, digests of the inputs, versions, flow of exclusions
OUT/sites/<site>.parquet   site tables
OUT/patients.parquet       age band and sex, where the source has them
OUT/table1.md, table1.csv  characteristics of the patients, overall and by site
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from common.data.characteristics import STAY_FACTS, characterise
from common.data.cohort_folder import (
    COHORT_FILE,
    PATIENTS_FILE,
    RECORD_SCHEMA_VERSION,
    SITES_FOLDER,
    STAYS_FILE,
    TABLE1_CSV,
    TABLE1_MARKDOWN,
    check_output_folder,
    read_cohort_record,
    record_versions,
    unwritable,
    write_cohort_record,
)
from common.data.demographics import write_patients
from common.data.exclusion_flow import ExclusionFlow
from common.data.site_table import SiteTable, SiteTableInfo, make_site_table, write_site_table
from common.data.summary import summarise
from common.data.windows import WindowSettings
from common.errors import CohortError
from common.files.atomic_io import atomic_folder
from common.files.hashing import file_sha256
from common.files.private import OWNER_ONLY, Access, private_umask
from common.reporting.characteristics import characteristics_in_csv, characteristics_in_markdown


@dataclass
class Cohort:
    """A cohort in memory, ready to be written.

    Attributes:
        source: the source's name, e.g. ``mimic3``.
        rule: description of the patients' selection.
        step_minutes: length of a time step.
        parameters: settings of the source, plain values.
        inputs: SHA-256 and size of each file or table read, by name.
        flow: the flow of exclusions.
        dropped: measurements dropped, by reason.
        corrected: measurements corrected, by reason.
        sites: per-step means by site: `patient_id`, `stay_id`, `step` and vitals.
        patients: frame of `common.data.demographics.describe_patients`, of these patients or more;
            None where the source has neither age nor sex.
        stays: facts of these stays or of more, see `common.data.characteristics.characterise`;
            None where the source has none. No model sees them.
        sepsis: the rule by which a stay is septic, in words.
        sources: of a joint cohort, how the sites of each source were made, by the source's name:
            `rule`, `sites` and what else is to be kept; see `simulation.cohorts.joint_cohort`.
        warnings: doubts about the files read, for whoever prepares the cohort; not written.
    """

    source: str
    rule: str
    step_minutes: int
    parameters: dict[str, Any]
    inputs: dict[str, dict[str, Any]]
    flow: ExclusionFlow
    sites: dict[str, pd.DataFrame]
    dropped: dict[str, int] = field(default_factory=dict)
    corrected: dict[str, int] = field(default_factory=dict)
    patients: pd.DataFrame | None = None
    stays: pd.DataFrame | None = None
    sepsis: str = ""
    sources: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def check_free(out: Path, source: str, parameters: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse, before a long pass, to overwrite another cohort or other files.

    Args:
        out: the cohort folder to write.
        source: the source's name.
        parameters: settings of the cohort to write.
        overwrite: whether another cohort may be replaced; other files never are.

    Raises:
        CohortError: `out` has something that must not be lost, or cannot be written.
    """
    if not check_output_folder(out, COHORT_FILE) or overwrite:
        return
    record = read_cohort_record(out)
    if (record["source"], record["parameters"]) != (source, json.loads(json.dumps(parameters))):
        raise CohortError(
            f"{out} holds another cohort ({record['source']}, {record['rule']}); "
            "give another folder with --out or replace it with --overwrite"
        )


def write_cohort(
    cohort: Cohort, out: Path, overwrite: bool = False, access: Access = OWNER_ONLY
) -> dict[str, Any]:
    """Write the cohort folder atomically; equal cohorts give equal bytes.

    Args:
        cohort: the cohort.
        out: the folder.
        overwrite: whether another cohort in it may be replaced.
        access: who may read the folder.

    Returns:
        The record, as in `cohort.json`.

    Raises:
        CohortError: no patient is left, or `out` has something that must not be lost.
    """
    check_free(out, cohort.source, cohort.parameters, overwrite)
    kept = {site: rows for site, rows in sorted(cohort.sites.items()) if len(rows)}
    if not kept:
        emptied = next((step.label for step in cohort.flow.steps if not step.total), "reading")
        raise CohortError(
            f"no stay is left after the rule '{emptied}'; loosen the cohort rule ({cohort.rule})"
        )
    try:
        with private_umask(), atomic_folder(out, access) as partial:
            tables = {site: _table(cohort, site, rows) for site, rows in kept.items()}
            summaries = {
                site: _write_site(table, partial / SITES_FOLDER / f"{site}.parquet")
                for site, table in tables.items()
            }
            patients = _write_patients(cohort, kept, partial / PATIENTS_FILE)
            record = _record(cohort, summaries, patients)
            if cohort.sources:
                record["stays"] = _write_stay_facts(cohort, tables, partial / STAYS_FILE)
            record["characteristics"] = _write_table1(cohort, tables, partial)
            write_cohort_record(partial, out, COHORT_FILE, record, overwrite)
    except OSError as error:
        raise unwritable(out, error) from error
    return record


def _table(cohort: Cohort, site: str, rows: pd.DataFrame) -> SiteTable:
    own = next((name for name, made in cohort.sources.items() if site in made["sites"]), None)
    source, rule = (
        (cohort.source, cohort.rule) if own is None else (own, cohort.sources[own]["rule"])
    )
    return make_site_table(rows, SiteTableInfo(site, source, rule, cohort.step_minutes))


def _write_site(table: SiteTable, path: Path) -> dict[str, Any]:
    write_site_table(table, path)
    return {"sha256": file_sha256(path), **summarise(table)}


def _write_patients(
    cohort: Cohort, kept: Mapping[str, pd.DataFrame], path: Path
) -> dict[str, Any] | None:
    """Write age band and sex of the patients left; return their entry of the record."""
    if cohort.patients is None:
        return None
    left = {str(patient) for rows in kept.values() for patient in rows["patient_id"].unique()}
    write_patients(cohort.patients[cohort.patients["patient_id"].isin(left)], path)
    return {"sha256": file_sha256(path)}


def _write_stay_facts(
    cohort: Cohort, tables: Mapping[str, SiteTable], path: Path
) -> dict[str, Any] | None:
    """Write the facts of the stays left; return their entry of the record."""
    if cohort.stays is None:
        return None
    left = pd.concat([table.frame["stay_id"] for table in tables.values()]).unique()
    columns = ["stay_id", *(name for name in STAY_FACTS if name in cohort.stays)]
    kept = cohort.stays[cohort.stays["stay_id"].isin(left)]
    kept[columns].to_parquet(path, index=False)
    return {"sha256": file_sha256(path)}


def read_stay_facts(folder: Path) -> pd.DataFrame | None:
    """Read the facts of the stays of a joint cohort.

    Returns:
        `stay_id` and those of `common.data.characteristics.STAY_FACTS` that are known, a patient's
        first stay first; None if no source has any.

    Raises:
        CohortError: the file cannot be read.
    """
    path = folder / STAYS_FILE
    if not path.exists():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise CohortError(
            f"{path} cannot be read ({error}); prepare the cohort again in another folder"
        ) from error


def _write_table1(cohort: Cohort, tables: Mapping[str, SiteTable], folder: Path) -> dict[str, Any]:
    """Write table 1 as Markdown and CSV; return its numbers for the record."""
    found = characterise(tables, cohort.stays, windows=WindowSettings(), sepsis=cohort.sepsis)
    for name, text in (
        (TABLE1_MARKDOWN, characteristics_in_markdown(found)),
        (TABLE1_CSV, characteristics_in_csv(found)),
    ):
        (folder / name).write_text(text, encoding="utf-8")
    return found


def _record(
    cohort: Cohort, summaries: dict[str, dict[str, Any]], patients: dict[str, Any] | None
) -> dict[str, Any]:
    joint = {"sources": cohort.sources} if cohort.sources else {}
    corrected = {"corrected_measurements": cohort.corrected} if cohort.corrected else {}
    return {
        "schema_version": RECORD_SCHEMA_VERSION,
        "source": cohort.source,
        "rule": cohort.rule,
        "parameters": {**cohort.parameters},
        "inputs": cohort.inputs,
        "flow": cohort.flow.to_json(),
        "dropped_measurements": cohort.dropped,
        **corrected,
        "sites": summaries,
        "patients": patients,
        "versions": record_versions(),
        **joint,
    }
