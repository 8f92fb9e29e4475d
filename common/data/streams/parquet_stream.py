"""Stream of record batches of a Parquet file, with the interface of `csv_stream.CsvStream`."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from common.data.streams.csv_stream import Keep, check_columns
from common.errors import SourceError
from common.files.hashing import ReadProgress, describe_file

_BATCH_ROWS = 1 << 17


class ParquetStream:
    """Stream of Arrow record batches of chosen columns of a Parquet file.

    Args:
        path: the file.
        table: the table's name, for messages.
        types: Arrow type of each column to read, by lower-case name; None keeps the file's own
            type.
        keep: applied to each batch.
        progress: called after each batch, in proportion to the file's size.

    Attributes:
        schema: of the batches: lower-case names in the order of `types`.

    Raises:
        SourceError: the file is not Parquet, lacks a column or has it twice, or has ICD codes as
            numbers.
    """

    def __init__(
        self,
        path: Path,
        table: str,
        types: Mapping[str, pa.DataType | None],
        *,
        keep: Keep | None = None,
        progress: ReadProgress | None = None,
    ) -> None:
        self._path = path
        self._table = table
        self._keep = keep
        self._progress = progress
        try:
            own = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(error) from error
        check_columns([name.lower() for name in own.names], list(types), table, path)
        fields = {field.name.lower(): field for field in own}
        self._check_codes(fields)
        self._names = [fields[name].name for name in types]
        self.schema = pa.schema([(name, kind or fields[name].type) for name, kind in types.items()])

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """Read the file once and yield its rows in order.

        Raises:
            SourceError: the file is damaged, or a value does not fit its type.
        """
        size, read = self._path.stat().st_size, 0
        try:
            with pq.ParquetFile(self._path) as file:
                for batch in file.iter_batches(_BATCH_ROWS, columns=self._names):
                    read += len(batch)
                    typed = self._typed(batch)
                    yield typed if self._keep is None else self._keep(typed)
                    if self._progress is not None:
                        self._progress(size * read // file.metadata.num_rows, size)
        except (pa.ArrowInvalid, OSError) as error:
            raise self._unreadable(error) from error

    def digest(self) -> dict[str, Any]:
        """Return `file`, `bytes` and `sha256`, in a pass of its own: batches skip columns."""
        return describe_file(self._path)

    def _typed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            batch[name].cast(field.type)
            for name, field in zip(self._names, self.schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _check_codes(self, fields: Mapping[str, pa.Field]) -> None:
        for name in ("icd9_code", "icd_code"):
            code = fields.get(name)
            if code is not None and pa.types.is_primitive(code.type):
                raise SourceError(
                    f"{self._table}: {self._path} holds {code.name} as {code.type}, which has lost "
                    "the leading zeros of the codes; write it as text"
                )

    def _unreadable(self, error: Exception) -> SourceError:
        return SourceError(f"{self._table}: {self._path} cannot be read as Parquet: {error}")
