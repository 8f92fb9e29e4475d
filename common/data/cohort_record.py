"""How the cohort came about that an adapter is evaluated on: its rule, sources and exclusions.

The record is that of the cohort folder (see `common.data.cohort_folder`). What is taken of it are
counts, digests and rules: no path, and nothing of a single patient.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.data.cohort_folder import COHORT_FILE, INGEST_FILE
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
