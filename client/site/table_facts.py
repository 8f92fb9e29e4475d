"""What the node itself knows of the site table, if it may read it: the rest is the app's."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def training_patients(table: Path) -> int | None:
    """Return the number of training patients; None where the table is not there or not readable.

    In the deployment files the data are mounted for the app's process alone.
    """
    try:
        rows = pq.read_table(table, columns=["patient_id", "split"])
    except (OSError, pa.ArrowException):
        return None
    training = rows.filter(pc.equal(rows["split"], "train"))
    return len(training["patient_id"].unique())
