"""Single streaming pass over CHARTEVENTS, 330 million rows in the full MIMIC-III.

Only the requested columns are converted, and only rows of the requested items and patients are
passed to DuckDB, which converts their types. About one row in six is a vital sign and a cohort has
a part of the patients, so the pass is mostly reading.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.data.streams.csv_stream import Keep
from common.files.hashing import ReadProgress
from simulation.cohorts.source_tables import SourceTables

_TABLE = "CHARTEVENTS"
_NUMBERS = ("subject_id", "itemid", "charttime", "valuenum", "error")
_KEYS = {"subject_id": pa.int64(), "itemid": pa.int32()}


def stream_chartevents(
    tables: SourceTables,
    items: Collection[int],
    subjects: Collection[int],
    *,
    with_text: bool,
    progress: ReadProgress | None = None,
) -> str:
    """Read CHARTEVENTS once and keep the rows of the given items and patients.

    Args:
        tables: the folder of MIMIC tables.
        items: ITEMIDs to keep.
        subjects: SUBJECT_IDs to keep.
        with_text: whether to keep all columns of the layout; else only those of numeric series:
            `subject_id`, `itemid`, `charttime`, `valuenum`, and `error` where the layout has it.
        progress: called with the bytes of the file read so far and its size.

    Returns:
        The name of the DuckDB table, ``chartevents``, which replaces that of an earlier pass. The
        order of its rows is undefined.

    Raises:
        SourceError: the table or a column is missing, the file is damaged, or a field of a kept row
            cannot be read.
    """
    every = list(tables.layout.columns[_TABLE])
    names = every if with_text else [name for name in every if name in _NUMBERS]
    keep = _keep(items, subjects)
    return tables.stream(_TABLE, "the vital signs", names, _KEYS, keep, progress)


def _keep(items: Collection[int], subjects: Collection[int]) -> Keep:
    wanted_items = pa.array(sorted(items), type=_KEYS["itemid"])
    # With a number above all others at the end, so that a search stays within the array.
    wanted_subjects = np.array([*sorted(subjects), np.iinfo(np.int64).max])

    def keep(batch: pa.RecordBatch) -> pa.RecordBatch:
        batch = batch.filter(pc.is_in(batch["itemid"], value_set=wanted_items))
        # Patients after items: most rows are gone by then. By search, since `is_in` would build a
        # hash table of tens of thousands of patients for each batch.
        subject = batch["subject_id"].fill_null(-1).to_numpy()
        found = wanted_subjects[np.searchsorted(wanted_subjects, subject)] == subject
        return batch.filter(pa.array(found))

    return keep
