"""ingest.json, read again: by the next ingest into its folder, and by `client check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from common.data.cohort_folder import INGEST_FILE
from common.errors import CohortError

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
