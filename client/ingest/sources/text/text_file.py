"""Delimited text file as a table source: every column is text, empty fields are NULL."""

from __future__ import annotations

import codecs
import io
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from client.ingest.duckdb_helpers import TEXT
from client.ingest.mapping.source_sections import FileFormat
from client.ingest.sources.file_kind import FileKind
from client.ingest.sources.source import Source
from client.ingest.sources.text.byte_streams import XZ, ZIP, converted, unpacked
from client.ingest.sources.text.delimiter import Layout, find_layout
from common.data.streams.csv_stream import CsvStream
from common.errors import SourceError
from common.files.hashing import ReadProgress


class TextFile(Source):
    """A delimited text file, compressed or not, in any of the encodings of `FileKind`.

    Args:
        path: the file.
        kind: what it is by its bytes.
        form: its format in the mapping; what is unset there is found from the file.
        wanted: columns that the mapping names.
        progress: called while it is read.

    Attributes:
        layout: its delimiter and header line.
        encoding: its encoding.

    Raises:
        UsageError: delimiter or header line are ambiguous.
        SourceError: the header is damaged.
    """

    def __init__(
        self,
        path: Path,
        kind: FileKind,
        form: FileFormat,
        wanted: Sequence[str],
        progress: ReadProgress | None,
    ) -> None:
        self.name = path.name
        self._path = path
        self._kind = kind
        # UTF-16 is certain, whatever the mapping says; of eight-bit encodings, the mapping knows
        # better.
        self.encoding = kind.encoding
        is_certain = kind.is_wide_encoding or kind.encoding == "utf-8-sig"
        if form.encoding and not is_certain and not form.encoding.startswith("utf-16"):
            self.encoding = form.encoding
        self.layout: Layout = find_layout(
            path, self._sample_text(), form.delimiter, form.header_row, wanted
        )
        self._is_mac = b"\r" in kind.sample and b"\n" not in kind.sample
        # Thousands of files may be open: none holds its sample.
        self._kind = replace(kind, sample=b"")
        self._open: Callable[[Sequence[str]], CsvStream] = lambda columns: CsvStream(
            path,
            path.name,
            dict.fromkeys(columns, pa.string()),
            progress=progress,
            delimiter=self.layout.delimiter,
            encoding=self._byte_encoding(),
            unpack=self._unpack,
        )
        self.types = dict.fromkeys((name.lower() for name in self._open([]).header), TEXT)
        self._digest: dict[str, Any] = {}

    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows of the given columns.

        Raises:
            SourceError: the file is damaged or has bytes of another encoding.
        """
        stream = self._open(columns)
        try:
            yield from stream.batches()
        except SourceError as error:
            if "UTF8" not in str(error):
                raise
            raise SourceError(
                f"{self._path} has a line that cannot be read as UTF-8: {error}; set "
                'encoding = "cp1252" (or "latin-1") in [file]'
            ) from error
        self._digest = stream.digest()

    def digest(self) -> dict[str, Any]:
        """Return name, size and digest of the file on disk, after `load`."""
        return self._digest

    def _byte_encoding(self) -> str:
        """Encoding of the bytes that `_unpack` returns."""
        is_rewritten = self._kind.is_wide_encoding or self.encoding == "utf-8-sig"
        return "utf-8" if is_rewritten else self.encoding

    def _sample_text(self) -> str:
        decoder = codecs.getincrementaldecoder(self._byte_encoding())("replace")
        return decoder.decode(self._kind.sample)

    def _unpack(self, raw: io.RawIOBase) -> io.BufferedIOBase:
        content = unpacked(raw, self._kind.packing, self._path)
        wide = self.encoding if self._kind.is_wide_encoding else ""
        if wide or self._is_mac or self._kind.packing in (XZ, ZIP):
            content = converted(content, wide, self._is_mac)
        for _ in range(self.layout.header_row - 1):
            content.readline()
        return content
