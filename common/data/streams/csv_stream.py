"""Single pass over a `.csv` or `.csv.gz` file: unpacked, hashed, parsed and filtered in parallel.

The calling thread reads and unpacks blocks of whole lines; a few workers parse and filter them with
pyarrow, without the interpreter's lock. A pass takes about as long as unpacking alone, and memory
is bounded by a few blocks. The digest of the file on disk is computed in the same pass, so that a
file of many gigabytes is read once.
"""

from __future__ import annotations

import csv
import io
import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from isal import igzip, isal_zlib

from common.errors import SourceError
from common.files.hashing import HashingReader, ReadProgress

CSV_BLOCK_BYTES = 4 << 20
"""Unpacked bytes per block: large enough for a small cost per block, small enough for the blocks in
progress to stay within some tens of megabytes."""

_MAX_WORKERS = 4
_LONGEST_RECORD = 1 << 24
_QUOTE = ord('"')
# Cast, since the type stubs of isal give this class as an instance.
_DAMAGED = (zlib.error, cast(type[Exception], isal_zlib.error), OSError)
_GZIP = b"\x1f\x8b"
"""First bytes of a gzip file."""
_CUT_OFF = "it ends before its gzip stream does (cut off)"

Keep = Callable[[pa.RecordBatch], pa.RecordBatch]
"""Filter of a batch's rows; called from several threads."""

Unpack = Callable[[io.RawIOBase], io.BufferedIOBase]
"""Converts the bytes on disk to those of a CSV file that begins with its header line."""


class CsvStream:
    """Stream of Arrow record batches of chosen columns of a CSV file.

    Quoted fields may have commas, doubled quotes and line breaks; empty fields, quoted or not, are
    null. No type is guessed: each column has the requested type.

    Args:
        path: a `.csv` or `.csv.gz` file with a header line.
        table: the table's name, for messages.
        types: Arrow type of each column to read, by lower-case name.
        keep: applied to each batch.
        progress: called after each read.
        delimiter: separator of two fields.
        encoding: a superset of ASCII, e.g. ``utf-8`` or ``latin-1``.
        unpack: applied to the open file; None = gzip by the suffix.
        published: whether the file is of a published data set, for the advice on a damaged one.

    Attributes:
        schema: of the batches: lower-case names in the order of `types`.
        header: names of all columns as the file writes them.
        rows: rows of the file, before `keep`, after `batches` is exhausted.

    Raises:
        SourceError: the header lacks a column or has it twice, or a `.gz` file is not gzip.
    """

    def __init__(
        self,
        path: Path,
        table: str,
        types: Mapping[str, pa.DataType],
        *,
        keep: Keep | None = None,
        progress: ReadProgress | None = None,
        delimiter: str = ",",
        encoding: str = "utf-8",
        unpack: Unpack | None = None,
        published: bool = False,
    ) -> None:
        self.schema = pa.schema(list(types.items()))
        self._path = path
        self._table = table
        self._keep = keep
        self._progress = progress
        self._delimiter = delimiter
        self._encoding = encoding
        self._unpack = unpack
        self._published = published
        self.rows = 0
        self.header = self._read_header()
        self._header = [name.lower() for name in self.header]
        self._digest: dict[str, Any] | None = None
        self._check_delimiter()
        check_columns(self._header, list(types), table, path)

    def batches(self) -> Generator[pa.RecordBatch, None, None]:
        """Read the file once and yield its rows in order.

        Raises:
            SourceError: the file is cut off or damaged, or a field does not fit its type.
        """
        workers = min(os.cpu_count() or 1, _MAX_WORKERS)
        with self._path.open("rb", buffering=0) as file, ThreadPoolExecutor(workers) as pool:
            raw = HashingReader(file, self._path.stat().st_size, self._progress)
            parsed: deque[Future[tuple[pa.RecordBatch, int]]] = deque()
            self.rows = 0
            try:
                for block in self._blocks(self._unpacked(raw)):
                    parsed.append(pool.submit(self._parse, block))
                    # One block more than there are workers, so that none waits for this thread.
                    if len(parsed) > workers + 1:
                        yield self._counted(parsed.popleft())
                while parsed:
                    yield self._counted(parsed.popleft())
            finally:
                pool.shutdown(cancel_futures=True)
            self._digest = {"file": self._path.name, **raw.finish()}

    def digest(self) -> dict[str, Any]:
        """Return `file`, `bytes` and `sha256` of the file, after `batches` is exhausted."""
        if self._digest is None:
            raise RuntimeError(f"{self._path} has not been read to its end")
        return self._digest

    @property
    def _zipped(self) -> bool:
        return self._path.suffix.lower() == ".gz"

    def _unpacked(self, raw: io.RawIOBase) -> io.BufferedIOBase:
        if self._unpack is not None:
            return self._unpack(raw)
        if self._zipped:
            return cast(io.BufferedIOBase, igzip.open(raw, "rb"))  # type: ignore[no-untyped-call]
        return io.BufferedReader(raw, CSV_BLOCK_BYTES)

    def _blocks(self, content: io.BufferedIOBase) -> Iterator[bytes]:
        """Cut the content after the header into blocks of whole records."""
        try:
            self._line(content)
            while block := content.read(CSV_BLOCK_BYTES):
                yield block + self._rest_of_record(content, block)
        except EOFError:
            raise self._damaged(_CUT_OFF) from None
        except _DAMAGED as error:
            raise self._damaged(f"it cannot be read ({error})") from error

    def _rest_of_record(self, content: io.BufferedIOBase, block: bytes) -> bytearray:
        # While a quote is open, a line end is part of a field.
        rest = bytearray(self._line(content))
        # numpy counts several times faster than bytes.count, which stops at each quote.
        quotes = np.count_nonzero(np.frombuffer(block, np.uint8) == _QUOTE) + rest.count(b'"')
        is_open = quotes % 2 == 1
        while is_open and (line := self._line(content)):
            rest += line
            is_open = line.count(b'"') % 2 == 0
            if len(rest) > _LONGEST_RECORD:
                raise self._damaged("a quoted field is never closed")
        return rest

    def _line(self, content: io.BufferedIOBase) -> bytes:
        """Read the rest of a line; memory is bounded, whatever a small packed file unpacks to."""
        line = content.readline(_LONGEST_RECORD)
        if len(line) == _LONGEST_RECORD and not line.endswith(b"\n"):
            raise self._damaged(f"a line is longer than {_LONGEST_RECORD >> 20} MiB")
        return line

    def _counted(self, parsed: Future[tuple[pa.RecordBatch, int]]) -> pa.RecordBatch:
        batch, rows = parsed.result()
        self.rows += rows
        return batch

    def _parse(self, block: bytes) -> tuple[pa.RecordBatch, int]:
        """Return the rows of a block that are kept, and the number of all its rows."""
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(block),
                # A single chunk: a record must not be cut again.
                read_options=pa_csv.ReadOptions(
                    use_threads=False,
                    # Room for an encoding whose single bytes take three in UTF-8.
                    block_size=3 * len(block) + 1,
                    column_names=self._header,
                    encoding=self._encoding,
                ),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._delimiter, newlines_in_values=True
                ),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=self.schema.names,
                    column_types=self.schema,
                    null_values=[""],
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid as error:
            raise self._unreadable(str(error)) from error
        batch = table.to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], self.schema)
        return (batch if self._keep is None else self._keep(batch)), len(table)

    def _read_header(self) -> list[str]:
        try:
            with self._path.open("rb", buffering=0) as file:
                start = file.read(len(_GZIP))
                file.seek(0)
                if self._unpack is None and start and self._zipped and start != _GZIP:
                    raise self._not_gzip()
                line = self._line(self._unpacked(file))
        except EOFError:
            raise self._damaged(_CUT_OFF) from None
        except _DAMAGED as error:
            raise self._damaged(f"it cannot be read ({error})") from error
        if not line.strip():
            raise self._damaged("it is empty")
        encoding = "utf-8-sig" if self._encoding == "utf-8" else self._encoding
        text = line.decode(encoding, errors="replace").strip("\r\n")
        try:
            return [name.strip() for name in next(csv.reader([text], delimiter=self._delimiter))]
        except csv.Error as error:
            raise self._damaged(f"its first line is no header ({error})") from error

    def _check_delimiter(self) -> None:
        """Refuse a published file that was saved with another delimiter."""
        found = re.search(r"[;\t|]", self.header[0])
        if self._published and len(self.header) == 1 and found:
            given = {";": "semicolons", "\t": "tabs", "|": "bars"}[found[0]]
            raise SourceError(
                f"{self._table}: {self._path} has its fields separated by {given}, not by commas; "
                f"{self._advice('')}"
            )

    def _unreadable(self, reason: str) -> SourceError:
        # pyarrow counts rows from the start of the block, which is meaningless to a user.
        reason = re.sub(r"Row #\d+: ", "", reason)
        if column := re.match(r"In CSV column #(\d+): ", reason):
            reason = f"column {self._header[int(column[1])].upper()}: {reason[column.end() :]}"
        return SourceError(f"{self._table}: {self._path} has a line that cannot be read: {reason}")

    def _damaged(self, reason: str) -> SourceError:
        advice = self._advice("copy or export it again")
        return SourceError(f"{self._table}: {self._path} is damaged: {reason}; {advice}")

    def _not_gzip(self) -> SourceError:
        advice = self._advice("name it without .gz, or compress it with gzip")
        return SourceError(
            f"{self._table}: {self._path} is not a gzip file, though its name ends in .gz; {advice}"
        )

    def _advice(self, own: str) -> str:
        """Return what to do about the file; `own` is for a hospital's own file."""
        if self._published:
            return "download it again and compare its SHA-256 with the published one"
        return own


def check_columns(header: list[str], needed: list[str], table: str, path: Path) -> None:
    """Refuse a header (lower-case names) that lacks a needed column or has it twice.

    Raises:
        SourceError: names table, column and file.
    """
    missing = [name for name in needed if name not in header]
    if missing:
        raise SourceError(
            f"{table}: {path} lacks the column {', '.join(missing).upper()}; it has "
            f"{', '.join(header).upper()}"
        )
    twice = [name for name in needed if header.count(name) > 1]
    if twice:
        raise SourceError(f"{table}: {path} has the column {', '.join(twice).upper()} twice")
