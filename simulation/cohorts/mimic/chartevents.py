"""Single streaming pass over CHARTEVENTS, 330 million rows in the full MIMIC-III.

Only the requested columns are converted, and only rows of the requested items and patients are
passed to DuckDB, which converts their types. About one row in six is a vital sign and a cohort has
a part of the patients, so the pass is mostly reading.
"""

from __future__ import annotations

from collections.abc import Collection

from common.files.hashing import ReadProgress
from simulation.cohorts.mimic.patient_rows import stream_patients
from simulation.cohorts.source_tables import SourceTables

_TABLE = "CHARTEVENTS"
_NUMBERS = ("subject_id", "itemid", "charttime", "valuenum", "error")


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
    return stream_patients(
        tables, _TABLE, "the vital signs", subjects, items=items, columns=names, progress=progress
    )
