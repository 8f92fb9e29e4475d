"""NDJSON file as a table source, read by DuckDB: every column is text."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from client.ingest.duckdb_helpers import TEXT, literal, quoted
from client.ingest.sources.file_kind import FileKind
from client.ingest.sources.ndjson.fhir_columns import FIELDS, table_of
from client.ingest.sources.source import Source
from common.errors import SourceError, UsageError
from common.files.hashing import describe_file

_PACKINGS = {"": "uncompressed", "gzip": "gzip", "zstd": "zstd"}
_MOST_BYTES = 1 << 26
"""Most bytes of one object; a waveform in an observation may have some megabytes."""


class NdjsonFile(Source):
    """A file with a JSON object a line: FHIR resources of one type, or flat records.

    Of a FHIR resource the columns are those of `fhir_columns`; of other objects their own keys, as
    text.

    Args:
        path: the file.
        kind: what it is by its bytes.
        codes: the codes that the mapping names, see `fhir_columns.table_of`.

    Raises:
        UsageError: two keys differ only in case.
        SourceError: it is packed in a way that is not read, damaged, or of another FHIR resource.
    """

    def __init__(self, path: Path, kind: FileKind, codes: Sequence[str] = ()) -> None:
        self.name = path.name
        self._path = path
        if kind.packing not in _PACKINGS or kind.encoding not in ("utf-8", "utf-8-sig"):
            what = kind.packing or kind.encoding
            raise SourceError(f"{path} is NDJSON in {what}; give it in UTF-8, plain or with gzip")
        self._packing = _PACKINGS[kind.packing]
        resource = str(first_object(kind.sample).get("resourceType", ""))
        if resource and resource not in FIELDS:
            raise SourceError(
                f"{path} holds FHIR resources {resource!r}; read are NDJSON files of "
                f"{', '.join(FIELDS)}, as a Bulk export writes them"
            )
        self._connection = duckdb.connect(
            config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
        )
        if resource:
            where = f"WHERE resourceType = {literal(resource)}"
            self._query = (
                f"WITH resources AS (SELECT * FROM {self._read(FIELDS[resource])} {where})"
            )
            self._query += table_of(resource, codes)
        else:
            self._query = f"SELECT * FROM {self._read(dict.fromkeys(self._keys(), TEXT))}"
        names = [row[0] for row in self._run(f"DESCRIBE {self._query}").fetchall()]
        self.types = dict.fromkeys((name.lower() for name in names), TEXT)
        if len(self.types) < len(names):
            raise UsageError(f"{path.name} has keys that differ only in upper and lower case")

    def batches(self, columns: Sequence[str]) -> Generator[pa.RecordBatch, None, None]:
        """Yield the rows of the given columns."""
        shown = ", ".join(f"{quoted(name)}::VARCHAR AS {quoted(name)}" for name in columns)
        try:
            found = self._connection.sql(f"SELECT {shown} FROM ({self._query})")
            reader = pa.RecordBatchReader.from_stream(found)
            yield from reader
        except (duckdb.Error, OSError) as error:
            raise self._unreadable(error) from None

    def digest(self) -> dict[str, Any]:
        """Return name, size and digest of the file."""
        return describe_file(self._path)

    def _read(self, fields: dict[str, str]) -> str:
        columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in fields.items())
        return (
            f"read_json({literal(str(self._path))}, format = 'newline_delimited', "
            f"compression = '{self._packing}', maximum_object_size = {_MOST_BYTES}, "
            f"columns = {{{columns}}})"
        )

    def _keys(self) -> list[str]:
        """Return the keys of all objects."""
        rows = self._run(
            f"SELECT DISTINCT unnest(json_keys(json)) AS key FROM read_json("
            f"{literal(str(self._path))}, format = 'newline_delimited', records = false, "
            f"compression = '{self._packing}', columns = {{'json': 'JSON'}}) ORDER BY key"
        ).fetchall()
        return [str(row[0]) for row in rows]

    def _run(self, query: str) -> duckdb.DuckDBPyConnection:
        try:
            return self._connection.execute(query)
        except duckdb.Error as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> SourceError:
        # Without DuckDB's words, which quote the line.
        place = re.search(r"line (\d+)", str(error))
        where = f"line {int(place[1]):,}" if place else "a line"
        return SourceError(
            f"{self._path} cannot be read as NDJSON: {where} is no JSON object of the form of the "
            "others, or is cut off; copy or export it again"
        )


def first_object(sample: bytes) -> dict[str, Any]:
    """Return the first line of a text as an object; empty where it is none."""
    lines = sample.lstrip().split(b"\n", 1)
    try:
        found = json.loads(lines[0])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
