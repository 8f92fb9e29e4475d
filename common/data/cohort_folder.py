"""What a cohort folder holds: a record of how it came about, and one table a site.

    DIR/cohort.json            the record of a simulation's cohort, or
    DIR/ingest.json            that of a hospital's own table
    DIR/sites/<site>.parquet   the site tables
    DIR/patients.parquet       age band and sex, in a simulation's cohort whose source tells them

A folder is written whole or not at all, and never in the place of something else.

How the cohort came about that an adapter is evaluated on: its rule, sources and exclusions.

The record is that of the cohort folder (see `common.data.cohort_folder`). What is taken of it are
counts, digests and rules: no path, and nothing of a single patient.

ingest.json, read again: by the next ingest into its folder, and by `client check`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from common.atomic_io import atomic_file
from common.errors import CohortError

_COUNTS = ("stays", "excluded", "patients")


def read_cohort_record(data: Path) -> dict[str, Any] | None:
    """Read what a cohort folder tells of itself.

    Args:
        data: a cohort folder, or one site table, which tells nothing of what was left out.

    Returns:
        `source`, `rule`, `parameters` (by name), `inputs` (SHA-256 by name of the source's table)
        and `flow` (as `common.data.exclusion_flow.ExclusionFlow.to_json` gives it), each empty
        where the record does not hold it; None where there is no record.

    Raises:
        CohortError: the record cannot be read.
    """
    for name in (COHORT_FILE, INGEST_FILE):
        if (data / name).is_file():
            return _read(data / name)
    return None


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {
            "source": str(record.get("source", "")),
            "rule": str(record.get("rule", "")),
            "parameters": {str(k): v for k, v in dict(record.get("parameters", {})).items()},
            "inputs": _digests(record.get("inputs", {})),
            "flow": [_step(step) for step in record.get("flow", [])],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CohortError(
            f"{path} cannot be read: {error!r}; prepare the cohort again, or give one of its "
            "sites/*.parquet alone"
        ) from error


def _digests(inputs: Any) -> dict[str, str]:
    # A hospital's own record lists its sources by file: their names may tell of its machine.
    tables = inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs, start=1)
    return {
        str(name): str(table["sha256"])
        for name, table in tables
        if isinstance(table, Mapping) and "sha256" in table
    }


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    per_unit = {str(unit): int(stays) for unit, stays in step["stays_per_unit"].items()}
    counts = {key: int(step[key]) for key in _COUNTS}
    return {"label": str(step["label"]), **counts, "stays_per_unit": per_unit}


INGEST_SCHEMA_VERSION = 1


def read_record(folder: Path) -> dict[str, Any]:
    """Read the record of a folder that `ingest` wrote.

    Raises:
        CohortError: where there is none, or of another release.
    """
    path = folder / INGEST_FILE
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        made_by = record["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CohortError(f"{path} cannot be read: {error}; ingest the table again") from error
    if made_by != INGEST_SCHEMA_VERSION:
        raise CohortError(
            f"{path} has schema version {made_by}, this release reads {INGEST_SCHEMA_VERSION}; "
            "ingest the table again"
        )
    return record


COHORT_FILE = "cohort.json"
INGEST_FILE = "ingest.json"
SITES_FOLDER = "sites"
PATIENTS_FILE = "patients.parquet"


def site_table_paths(folder: Path) -> dict[str, Path]:
    """Return a cohort's site tables by site, in the order of their names.

    Raises:
        CohortError: where the folder holds none.
    """
    paths = sorted((folder / SITES_FOLDER).glob("*.parquet"))
    if not paths:
        raise CohortError(
            f"{folder} holds no cohort; make one with `python -m simulation prepare`, or from a "
            "hospital's own table with `python -m client ingest`"
        )
    return {path.stem: path for path in paths}


def check_replaceable(out: Path, record_file: str) -> bool:
    """Refuse early, before a long pass, to write over a stranger's files.

    Args:
        out: the cohort folder to be.
        record_file: `COHORT_FILE` or `INGEST_FILE`, by which a folder of the same kind is known.

    Returns:
        Whether a cohort of that kind stands there, which may be another one.

    Raises:
        CohortError: where `out` holds something that must not be lost, or cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise CohortError(f"{out} is a file; give a folder with --out")
    held = {path.name for path in out.iterdir()} if out.exists() else set()
    if held and record_file not in held:
        raise CohortError(
            f"{out} is not empty and holds no cohort with {record_file}; give another folder with "
            "--out"
        )
    strangers = sorted(held - _own(out / record_file))
    if strangers:
        raise CohortError(
            f"{out} holds {strangers[0]} beside its cohort, which would be lost; move it or give "
            "another folder with --out"
        )
    _check_writable(out)
    return bool(held)


def record_text(record: Mapping[str, Any]) -> str:
    """Return the text of a record: equal records, equal bytes."""
    return json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def unwritable(out: Path, error: OSError) -> CohortError:
    """Return the error for a folder that cannot be written."""
    return CohortError(
        f"{out} cannot be written ({error.strerror or error}); free space or give another folder "
        "with --out"
    )


def _own(record: Path) -> set[str]:
    """The names of a folder's own files: the table of patients is one where the record says so."""
    names = {record.name, SITES_FOLDER}
    with suppress(OSError, ValueError, AttributeError):
        if json.loads(record.read_text(encoding="utf-8")).get("patients"):
            names.add(PATIENTS_FILE)
    return names


def _check_writable(out: Path) -> None:
    # By doing it: permissions, a full disk and a read-only file system all show here.
    try:
        with atomic_file(out.parent / f".{out.name}.probe") as probe:
            probe.write_bytes(b"")
        (out.parent / f".{out.name}.probe").unlink()
    except OSError as error:
        raise unwritable(out, error) from error
