"""Single streaming pass over a large table of MIMIC, of which the rows of some patients are kept.

Only rows of the requested patients and items are passed to DuckDB, which converts their types.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.data.streams.csv_stream import Keep
from common.files.hashing import ReadProgress
from simulation.cohorts.source_tables import SourceTables

_KEYS = {"subject_id": pa.int64(), "itemid": pa.int32()}


def stream_patients(
    tables: SourceTables,
    table: str,
    needed_for: str,
    subjects: Collection[int],
    *,
    items: Collection[int] | None = None,
    columns: Sequence[str] | None = None,
    progress: ReadProgress | None = None,
) -> str:
    """Read a table once and keep the rows of the given patients and items.

    Args:
        tables: the folder of MIMIC tables.
        table: the table's name in the layout; it has SUBJECT_ID.
        needed_for: what needs the table, for messages.
        subjects: SUBJECT_IDs to keep.
        items: ITEMIDs to keep; None = all rows.
        columns: columns to load; None = all of the layout.
        progress: called with the bytes of the file read so far and its size.

    Returns:
        The name of the DuckDB table, which replaces that of an earlier pass. The order of its rows
        is undefined.

    Raises:
        SourceError: the table or a column is missing, the file is damaged, or a field of a kept row
            cannot be read.
    """
    names = list(tables.layout.columns[table]) if columns is None else columns
    keys = {name: kind for name, kind in _KEYS.items() if name in names}
    return tables.stream(table, needed_for, names, keys, _keep(items, subjects), progress)


def _keep(items: Collection[int] | None, subjects: Collection[int]) -> Keep:
    wanted_items = None if items is None else pa.array(sorted(items), type=_KEYS["itemid"])
    # With a number above all others at the end, so that a search stays within the array.
    wanted_subjects = np.array([*sorted(subjects), np.iinfo(np.int64).max])

    def keep(batch: pa.RecordBatch) -> pa.RecordBatch:
        if wanted_items is not None:
            batch = batch.filter(pc.is_in(batch["itemid"], value_set=wanted_items))
        # Patients after items: most rows are gone by then. By search, since `is_in` would build a
        # hash table of tens of thousands of patients for each batch.
        subject = batch["subject_id"].fill_null(-1).to_numpy()
        found = wanted_subjects[np.searchsorted(wanted_subjects, subject)] == subject
        return batch.filter(pa.array(found))

    return keep
