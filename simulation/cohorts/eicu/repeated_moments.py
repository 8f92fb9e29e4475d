"""Rows of moments (a stay and minute) that have several rows, found in any order of the rows.

The rows of a pass are written to a scratch file, and counted in slots of five minutes of each stay,
a byte a slot. The monitor writes a row every five minutes, so few slots have several rows; after
the pass only their rows are read again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa

from common.errors import SourceError
from simulation.cohorts.arrays import Bools, Ints

_SLOT_MINUTES = 5
_MAX_SLOTS = 1 << 17
"""Slots of a stay, 455 days; later moments, of a wrong discharge, share the last one."""

_MINUTE = "observationoffset"
_SLOT = "slot"


class RepeatedMoments:
    """Context manager of the scratch file and of the counts of rows by slot.

    Args:
        until: the last minute of each chosen stay, [S]; if negative, it has no moments.
        schema: of the rows.
        folder: for the scratch file, which is removed at the end of the context.
    """

    def __init__(self, until: Ints, schema: pa.Schema, folder: Path) -> None:
        slots = np.clip(until // _SLOT_MINUTES + 1, 0, _MAX_SLOTS)
        self._first = np.concatenate([[0], np.cumsum(slots)])
        # 0, 1, or 2 for several rows.
        self._rows = np.zeros(self._first[-1], np.uint8)
        self._schema = schema
        self._path = folder / "moments.arrow"
        self._lock = threading.Lock()
        self._file = pa.OSFile(str(self._path), "wb")
        self._writer = pa.ipc.new_stream(
            self._file,
            schema.append(pa.field(_SLOT, pa.int64())),
            options=pa.ipc.IpcWriteOptions(compression="lz4"),
        )

    def __enter__(self) -> RepeatedMoments:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, rows: pa.RecordBatch, place: Ints) -> None:
        """Add rows; may be called from several threads.

        Args:
            rows: N rows that are inside their stay.
            place: index of each row's stay in `until`, [N].

        Raises:
            SourceError: the scratch file cannot be written.
        """
        minute = rows[_MINUTE].to_numpy()
        slot = self._first[place] + np.minimum(minute // _SLOT_MINUTES, _MAX_SLOTS - 1)
        found, count = np.unique(slot, return_counts=True)
        with self._lock:
            self._rows[found] = np.minimum(self._rows[found] + count, 2)
            try:
                self._writer.write_batch(rows.append_column(_SLOT, pa.array(slot)))
            except OSError as error:
                raise SourceError(
                    f"rows cannot be kept in {self._path}: {error}; make room there"
                ) from error

    def candidates(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows of slots with several rows, after all are added.

        All rows of repeated moments are among them, and some of moments with one row.
        """
        self._writer.close()
        self._file.close()
        with pa.OSFile(str(self._path), "rb") as file, pa.ipc.open_stream(file) as reader:
            for batch in reader:
                several: Bools = self._rows[batch[_SLOT].to_numpy()] == 2
                yield batch.filter(pa.array(several)).select(self._schema.names)
