"""Cohort folder: site tables and the record of how they were made.

    DIR/cohort.json            record of a cohort prepared by `simulation prepare`, or
    DIR/ingest.json            record of one hospital's table made by `client ingest`
    DIR/sites/<site>.parquet   site tables
    DIR/patients.parquet       age band and sex, beside cohort.json where the source has them
    DIR/stays.parquet          facts of the stays, if the cohort has several sources
    DIR/table1.md, table1.csv  characteristics of the patients, beside cohort.json

A folder is written whole or not at all, and never replaces files that are not its own.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common.config.run_config import RunConfig
from common.config.step_length import check_cohort_steps
from common.errors import CohortError, UsageError
from common.files.atomic_io import real_folder
from common.files.output_folder import check_replaceable
from common.files.private import make_folders

COHORT_FILE = "cohort.json"
INGEST_FILE = "ingest.json"
SITES_FOLDER = "sites"
PATIENTS_FILE = "patients.parquet"
STAYS_FILE = "stays.parquet"
TABLE1_MARKDOWN, TABLE1_CSV = "table1.md", "table1.csv"

RECORD_SCHEMA_VERSION = 1
"""Version of the keys of cohort.json and ingest.json."""

_REMEDIES = {COHORT_FILE: "prepare the cohort again", INGEST_FILE: "ingest the table again"}
_LIBRARIES = ("fedvitals", "duckdb", "numpy", "pandas", "pyarrow")
_COUNTS = ("stays", "excluded", "patients")


def site_table_paths(folder: Path) -> dict[str, Path]:
    """Return the site tables of a cohort by site, sorted by name.

    Raises:
        CohortError: the folder has none.
    """
    paths = sorted((folder / SITES_FOLDER).glob("*.parquet"))
    if not paths:
        raise _no_cohort(folder)
    return {path.stem: path for path in paths}


def single_site_table(data: Path) -> Path:
    """Return the site table of a folder of one site; a path of a file is returned as it is.

    Raises:
        CohortError: the folder has no site table.
        UsageError: the folder has several.
    """
    if data.is_file():
        return data
    paths = site_table_paths(data)
    if len(paths) > 1:
        raise UsageError(f"{data} has {len(paths)} sites; give the table of one, in its sites/")
    return next(iter(paths.values()))


def read_cohort_record(folder: Path, name: str = COHORT_FILE) -> dict[str, Any]:
    """Read a record of this release.

    Args:
        folder: a cohort folder.
        name: `COHORT_FILE` or `INGEST_FILE`.

    Raises:
        CohortError: the record is absent, damaged or of another schema version.
    """
    path = folder / name
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = record["schema_version"]
    except FileNotFoundError:
        raise _no_cohort(folder) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CohortError(f"{path} cannot be read: {error}; {_REMEDIES[name]}") from error
    if found != RECORD_SCHEMA_VERSION:
        raise CohortError(
            f"{path} has schema version {found}, this release reads {RECORD_SCHEMA_VERSION}; "
            f"{_REMEDIES[name]}"
        )
    return record


def read_provenance(data: Path) -> dict[str, Any] | None:
    """Read how a cohort was made, as an evaluation reports it: no path, nothing of one patient.

    Args:
        data: a cohort folder, or a single site table, which has no record.

    Returns:
        `source`, `rule`, `parameters` (by name), `inputs` (SHA-256 by name) and `flow` (as
        `common.data.exclusion_flow.ExclusionFlow.to_json` gives it), each empty where the record
        lacks it; None without a record.

    Raises:
        CohortError: the record cannot be read.
    """
    paths = (data / name for name in (COHORT_FILE, INGEST_FILE))
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {
            "source": str(record.get("source", "")),
            "rule": str(record.get("rule", "")),
            "parameters": {str(k): v for k, v in dict(record.get("parameters", {})).items()},
            "inputs": _input_digests(record.get("inputs", {})),
            "flow": [_flow_step(step) for step in record.get("flow", [])],
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CohortError(
            f"{path} cannot be read: {error!r}; prepare the cohort again, or give one of its "
            "sites/*.parquet alone"
        ) from error


def read_characteristics(data: Path) -> dict[str, Any] | None:
    """Read the characteristics of a prepared cohort's patients.

    Those of a hospital's own table are not read: they stay at the site.

    Args:
        data: a cohort folder, or a single site table, which has no record.

    Returns:
        `common.data.characteristics.characterise` of the cohort; None without a record of
        `simulation prepare`, or if an earlier release made it.

    Raises:
        CohortError: the record cannot be read.
    """
    if not (data / COHORT_FILE).is_file():
        return None
    found: dict[str, Any] | None = read_cohort_record(data).get("characteristics")
    return found


def cohort_line(folder: Path, why: str) -> str:
    """Return one line about the cohort that a run uses: folder, source, sites, patients, and why.

    Args:
        folder: the cohort folder.
        why: how it was chosen, e.g. ``named with --data``.

    Raises:
        CohortError: the folder has no site table.
    """
    sites = site_table_paths(folder)
    facts = f"{len(sites)} sites" if len(sites) != 1 else "1 site"
    # The record alone, not the tables: a damaged record is reported where it is needed.
    with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
        names = (COHORT_FILE, INGEST_FILE)
        path = next(folder / name for name in names if (folder / name).is_file())
        record = json.loads(path.read_text(encoding="utf-8"))
        facts = f"{record['source']}, {facts}"
        patients = sum(int(site["patients"]) for site in record["sites"].values())
        facts += f", {patients:,} patients"
    return f"cohort: {folder.absolute()} ({facts}), {why}"


def check_prepared_steps(config: RunConfig) -> None:
    """Check the length of the site tables' steps, from their metadata alone.

    Args:
        config: the settings; `data` is the cohort folder.

    Raises:
        UsageError: a table's steps are not those that the settings name.
        CohortError: the folder has no site table.
        SiteTableError: a site table cannot be read.
    """
    if not config.step_minutes:
        return
    from common.data.site_table import read_site_info

    for path in site_table_paths(Path(config.data)).values():
        check_cohort_steps(read_site_info(path).step_minutes, config, config.data)


def check_output_folder(out: Path, record_file: str) -> bool:
    """Refuse, before a long pass, a folder that cannot be written or has files of someone else.

    Args:
        out: the cohort folder to write.
        record_file: `COHORT_FILE` or `INGEST_FILE`, which marks a folder of the same kind.

    Returns:
        Whether a cohort of that kind, the same or another, is already in it.

    Raises:
        CohortError: `out` has other files, or cannot be written.
    """
    check_replaceable(out, error=CohortError, remedy="free space or give another folder with --out")
    held = {path.name for path in out.iterdir()} if out.exists() else set()
    if held and record_file not in held:
        raise CohortError(
            f"{out} is not empty and holds no cohort with {record_file}; give another folder with "
            "--out"
        )
    foreign = sorted(held - _own_files(out / record_file))
    if foreign:
        raise CohortError(
            f"{out} holds {foreign[0]} beside its cohort, which would be lost; move it or give "
            "another folder with --out"
        )
    try:
        make_folders(real_folder(out).parent)
    except OSError as error:
        raise unwritable(out, error) from error
    return bool(held)


def write_cohort_record(
    partial: Path, out: Path, name: str, record: Mapping[str, Any], overwrite: bool
) -> None:
    """Write a record into the folder that is about to replace `out`; equal records, equal bytes.

    Args:
        partial: the folder being filled.
        out: the folder that it will replace.
        name: `COHORT_FILE` or `INGEST_FILE`.
        record: plain values.
        overwrite: whether a different record in `out` may be replaced.

    Raises:
        CohortError: `out` has a different record and `overwrite` is false: the settings are the
            same, but the source's files or a library changed.
    """
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (partial / name).write_text(text, encoding="utf-8")
    existing = out / name
    if overwrite or not existing.is_file() or existing.read_text(encoding="utf-8") == text:
        return
    raise CohortError(
        f"{out} was made with the same settings from other inputs or library versions; give "
        "another folder with --out or replace it with --overwrite"
    )


def record_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that shape a cohort."""
    return {"python": platform.python_version(), **_library_versions()}


@lru_cache(maxsize=1)
def _library_versions() -> dict[str, str]:
    return {library: version(library) for library in _LIBRARIES}


def unwritable(out: Path, error: OSError) -> CohortError:
    """Return the error for a folder that cannot be written."""
    return CohortError(
        f"{out} cannot be written ({error.strerror or error}); free space or give another folder "
        "with --out"
    )


def _no_cohort(folder: Path) -> CohortError:
    return CohortError(
        f"{folder} holds no cohort; make one with `python -m simulation prepare`, or from a "
        "hospital's own table with `python -m client ingest`"
    )


def _input_digests(inputs: Any) -> dict[str, str]:
    # By number for a hospital's own record: names of its files may reveal something of its machine.
    tables = inputs.items() if isinstance(inputs, Mapping) else enumerate(inputs, start=1)
    return {
        str(name): str(table["sha256"])
        for name, table in tables
        if isinstance(table, Mapping) and "sha256" in table
    }


def _flow_step(step: Mapping[str, Any]) -> dict[str, Any]:
    per_unit = {str(unit): int(stays) for unit, stays in step["stays_per_unit"].items()}
    counts = {key: int(step[key]) for key in _COUNTS}
    return {"label": str(step["label"]), **counts, "stays_per_unit": per_unit}


def _own_files(record: Path) -> set[str]:
    """Names that a cohort folder may have; some of them only if its record says so."""
    names = {record.name, SITES_FOLDER}
    with suppress(OSError, ValueError, AttributeError):
        content = json.loads(record.read_text(encoding="utf-8"))
        if content.get("patients"):
            names.add(PATIENTS_FILE)
        if content.get("stays"):
            names.add(STAYS_FILE)
        if content.get("characteristics"):
            names |= {TABLE1_MARKDOWN, TABLE1_CSV}
    return names
