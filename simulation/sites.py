"""The cohort folder: one site table a hospital and the record of how they came about.

    OUT/cohort.json          parameters, digests of what was read, versions, flow of exclusions
    OUT/sites/<site>.parquet the site tables

All sources end here, so that what follows does not know where the patients came from.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import file_digest
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from rich.table import Table

from common.atomic import atomic_file, atomic_folder
from common.cohort_folder import COHORT_FILE, SITES_FOLDER, site_table_paths
from common.console import narrow_table
from common.errors import CohortError
from common.splits import SPLITS
from common.vitals import (
    VITAL_NAMES,
    VITALS,
    SiteTable,
    SiteTableInfo,
    make_site_table,
    read_site_table,
    write_site_table,
)
from simulation.flow import ExclusionFlow

COHORT_SCHEMA_VERSION = 1
_LIBRARIES = ("fedvitals", "duckdb", "numpy", "pandas", "pyarrow")


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
    """

    source: str
    rule: str
    step_minutes: int
    parameters: dict[str, Any]
    inputs: dict[str, dict[str, Any]]
    flow: ExclusionFlow
    sites: dict[str, pd.DataFrame]
    dropped: dict[str, int] = field(default_factory=dict)


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
    if out.exists() and not out.is_dir():
        raise CohortError(f"{out} is a file; give a folder with --out")
    held = {path.name for path in out.iterdir()} if out.exists() else set()
    if not held:
        _check_writable(out)
        return
    if COHORT_FILE not in held:
        raise CohortError(f"{out} is not empty and holds no cohort; give another folder with --out")
    strangers = sorted(held - {COHORT_FILE, SITES_FOLDER})
    if strangers:
        raise CohortError(
            f"{out} holds {strangers[0]} beside its cohort, which would be lost; move it or give "
            "another folder with --out"
        )
    _check_writable(out)
    if overwrite:
        return
    record = read_cohort(out)
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
            record = _record(cohort, summaries)
            text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            (partial / COHORT_FILE).write_text(text, encoding="utf-8")
            if not overwrite:
                _check_same(out, text)
    except OSError as error:
        raise _unwritable(out, error) from error
    return record


def read_cohort(folder: Path) -> dict[str, Any]:
    """Read the record of a cohort folder.

    Raises:
        CohortError: where the folder holds no whole cohort.
    """
    path = folder / COHORT_FILE
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CohortError(
            f"{folder} holds no cohort; make one with `python -m simulation prepare`"
        ) from None
    except (OSError, ValueError) as error:
        raise CohortError(f"{path} cannot be read: {error}") from error
    version_read = record.get("schema_version") if isinstance(record, dict) else None
    if version_read != COHORT_SCHEMA_VERSION:
        raise CohortError(
            f"{path} has schema version {version_read}, this release reads "
            f"{COHORT_SCHEMA_VERSION}; prepare the cohort again"
        )
    return record


def sites_table(folder: Path) -> Table:
    """Draw what each site of a cohort holds, read from the site tables themselves.

    Raises:
        CohortError, SiteTableError: where the folder or a table in it is not valid.
    """
    numbers = ("patients", "split", "stays", "hours", *(vital.short for vital in VITALS))
    table = narrow_table(
        "Sites (split: train/validation/test patients; vital signs: % of steps observed)",
        ["site"],
        numbers,
    )
    for site, path in site_table_paths(folder).items():
        summary = summarise(read_site_table(path))
        per_split = summary["patients_per_split"]
        table.add_row(
            site,
            str(summary["patients"]),
            "/".join(str(per_split[split]) for split in SPLITS),
            *(f"{summary[key]:.0f}" for key in ("stays", "hours")),
            *(f"{100 * share:.0f}" for share in summary["observed"].values()),
        )
    return table


def summarise(table: SiteTable) -> dict[str, Any]:
    """Count patients, stays, hours and the share of steps observed, as plain values."""
    frame = table.frame
    per_split = frame.groupby("split")["patient_id"].nunique()
    return {
        "patients": int(frame["patient_id"].nunique()),
        "stays": int(frame["stay_id"].nunique()),
        "hours": len(frame) * table.info.step_minutes / 60,
        "patients_per_split": {split: int(per_split.get(split, 0)) for split in SPLITS},
        "observed": {name: round(float(frame[name].notna().mean()), 4) for name in VITAL_NAMES},
    }


def _write_site(cohort: Cohort, site: str, rows: pd.DataFrame, path: Path) -> dict[str, Any]:
    info = SiteTableInfo(site, cohort.source, cohort.rule, cohort.step_minutes)
    table = make_site_table(rows, info)
    write_site_table(table, path)
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
    return {"sha256": digest, **summarise(table)}


def _record(cohort: Cohort, summaries: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        "schema_version": COHORT_SCHEMA_VERSION,
        "source": cohort.source,
        "rule": cohort.rule,
        "parameters": {**cohort.parameters},
        "inputs": cohort.inputs,
        "flow": cohort.flow.to_json(),
        "dropped_measurements": cohort.dropped,
        "sites": summaries,
        "versions": {
            "python": platform.python_version(),
            **{library: version(library) for library in _LIBRARIES},
        },
    }


def _check_same(out: Path, text: str) -> None:
    # The settings may be the same while the source's files changed: that is another cohort too.
    existing = out / COHORT_FILE
    if existing.is_file() and existing.read_text(encoding="utf-8") != text:
        raise CohortError(
            f"{out} holds a cohort made with the same settings from other files or versions; "
            "give another folder with --out or replace it with --overwrite"
        )


def _check_writable(out: Path) -> None:
    # By doing it: permissions, a full disk and a read-only file system all show here.
    try:
        with atomic_file(out.parent / f".{out.name}.probe") as probe:
            probe.write_bytes(b"")
        (out.parent / f".{out.name}.probe").unlink()
    except OSError as error:
        raise _unwritable(out, error) from error


def _unwritable(out: Path, error: OSError) -> CohortError:
    return CohortError(
        f"{out} cannot be written ({error.strerror or error}); free space or give another folder "
        "with --out"
    )
