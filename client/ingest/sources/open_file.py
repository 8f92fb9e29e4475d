"""Choice of the reader of a hospital's file, by its content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from client.ingest.mapping.source_sections import FileFormat
from client.ingest.sources.file_kind import NDJSON_FILE, PARQUET_FILE, WORKBOOK, file_kind
from client.ingest.sources.ndjson.ndjson_file import NdjsonFile
from client.ingest.sources.parquet_file import ParquetFile
from client.ingest.sources.source import Source
from client.ingest.sources.text.text_file import TextFile
from client.ingest.sources.workbooks.workbook import Workbook
from common.files.hashing import ReadProgress


def open_file(
    path: Path,
    form: FileFormat,
    *,
    wanted: Sequence[str] = (),
    times: Sequence[str] = (),
    codes: Sequence[str] = (),
    progress: ReadProgress | None = None,
) -> Source:
    """Open a file as what it is, whatever its name says.

    Args:
        path: the file.
        form: its format in the mapping.
        wanted: columns that the mapping names; they decide between two possible delimiters.
        times: columns of times, in which a workbook's plain number is a date.
        codes: codes that the mapping names; of several codings of a FHIR observation one of these
            is taken.
        progress: called while a text file is read.

    Raises:
        UsageError: the mapping does not fit the file.
        SourceError: the file is absent, damaged or of a kind that is not supported.
    """
    added = form.name_column.lower()
    kind = file_kind(path)
    if kind.kind == NDJSON_FILE:
        source: Source = NdjsonFile(path, kind, codes)
    elif kind.kind == PARQUET_FILE:
        source = ParquetFile(path)
    elif kind.kind == WORKBOOK:
        source = Workbook(path, form, times)
    else:
        own = [name for name in wanted if name.lower() != added]
        source = TextFile(path, kind, form, own, progress)
    if form.name_column:
        source.add_constant(form.name_column, path.name.partition(".")[0])
    return source
