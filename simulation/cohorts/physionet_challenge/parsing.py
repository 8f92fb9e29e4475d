"""Parser of thousands of small text files as a few large ones, with each row's record index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from common.errors import SourceError
from simulation.cohorts.arrays import Bools, Floats, Ints
from simulation.cohorts.physionet_challenge.archive import StayRecord

RECORD = "record"
"""Column of a parsed table with the index of the row's record."""

_BATCH_BYTES = 16 << 20
_NUMBER = r"^-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$"
_NOTHING = pa.array(["", "NaN", "nan"])


def parse_records(
    records: Sequence[StayRecord], delimiter: str, columns: Sequence[str]
) -> pa.Table:
    """Parse delimited text files, each with a header, into one table of texts.

    Args:
        records: the files, one per stay, at least one.
        delimiter: separator of the fields.
        columns: those to keep; files may have more, in any order.

    Returns:
        A table with the `columns` as trimmed text and `RECORD` as int32, in the order of the
        records and of the rows in each.

    Raises:
        SourceError: names the record that is not text, has no rows, lacks a column or has a row
            with another number of fields than its header.
    """
    return pa.concat_tables(
        _parse_batch(records, first, header, bodies, delimiter, columns)
        for first, header, bodies in _batches(records, delimiter, columns)
    )


def parse_numbers(texts: pa.ChunkedArray) -> tuple[Floats, Bools]:
    """Convert texts to numbers.

    Args:
        texts: the texts, [N].

    Returns:
        The values [N], NaN if the text is not a finite decimal number; and whether the text is
        neither a number nor empty nor NaN [N].
    """
    is_number = pc.match_substring_regex(texts, _NUMBER)
    values = pc.cast(pc.if_else(is_number, texts, None), pa.float64())
    wrong = pc.invert(pc.or_(is_number, pc.is_in(texts, _NOTHING)))
    return values.to_numpy().astype(np.float64), np.asarray(wrong.to_numpy(), dtype=bool)


def record_maximum(values: Floats, table: pa.Table, records: Sequence[StayRecord]) -> Floats:
    """Return the largest value of each record, NaN if it has none.

    Args:
        values: one per row of the table, [N]; NaN = missing.
        table: from `parse_records`.
        records: those it was parsed from, R.

    Returns:
        One value per record, [R].
    """
    largest = np.full(len(records), np.nan)
    np.fmax.at(largest, record_indices(table), values)
    return largest


def record_indices(table: pa.Table) -> Ints:
    """Return the index of each row's record, [N]."""
    return np.asarray(table[RECORD].to_numpy(), dtype=np.int64)


def refuse(
    wrong: Bools,
    table: pa.Table,
    records: Sequence[StayRecord],
    what: str,
    column: str,
) -> None:
    """Raise `SourceError` for the first wrong row, with its record and its content.

    Args:
        wrong: whether each row of the table is wrong, [N].
        table: from `parse_records`.
        records: those it was parsed from.
        what: valid content of the column, e.g. ``a time HH:MM``.
        column: the column that is wrong.
    """
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    record = records[table[RECORD][row].as_py()]
    raise SourceError(
        f"record {record.path}: {column} must be {what}, got {table[column][row].as_py()!r}"
    )


def _batches(
    records: Sequence[StayRecord], delimiter: str, columns: Sequence[str]
) -> Iterator[tuple[int, str, list[bytes]]]:
    """Yield batches of records with one header: index of the first, header, rows' texts."""
    first, size, header = 0, 0, ""
    bodies: list[bytes] = []
    for index, record in enumerate(records):
        own_header, body = _header_and_body(record)
        if bodies and (own_header != header or size > _BATCH_BYTES):
            yield first, header, bodies
            bodies, size = [], 0
        if not bodies:
            first = index
            if own_header != header:
                _check_header(record, own_header.split(delimiter), columns)
            header = own_header
        bodies.append(body)
        size += len(body)
    if bodies:
        yield first, header, bodies


def _header_and_body(record: StayRecord) -> tuple[str, bytes]:
    """Split a file into its header and its rows, each row ended by one newline."""
    content = record.content
    if not content.isascii():
        raise SourceError(f"record {record.path} is not plain ASCII text; fetch the source again")
    if b"\r" in content:
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    content = content.strip(b"\n") + b"\n"
    while b"\n\n" in content:
        content = content.replace(b"\n\n", b"\n")
    header, _, body = content.partition(b"\n")
    if not body:
        raise SourceError(f"record {record.path} holds no rows; fetch the source again")
    return header.decode("ascii"), body


def _check_header(record: StayRecord, header: Sequence[str], columns: Sequence[str]) -> None:
    missing = [column for column in columns if column not in header]
    if missing:
        raise SourceError(
            f"record {record.path} lacks the column {', '.join(missing)}; it has "
            f"{', '.join(header)}"
        )
    twice = [column for column in columns if header.count(column) > 1]
    if twice:
        raise SourceError(f"record {record.path} has the column {', '.join(twice)} twice")


def _parse_batch(
    records: Sequence[StayRecord],
    first: int,
    header: str,
    bodies: Sequence[bytes],
    delimiter: str,
    columns: Sequence[str],
) -> pa.Table:
    counts = np.array([body.count(b"\n") for body in bodies])
    text = b"".join(bodies)
    invalid: list[Any] = []

    def note(row: Any) -> str:
        invalid.append(row)
        return "error"

    try:
        table = pa_csv.read_csv(
            pa.BufferReader(text),
            # One block and one thread, since rows are numbered within a block.
            pa_csv.ReadOptions(
                use_threads=False, block_size=len(text) + 1, column_names=header.split(delimiter)
            ),
            # No quotes: a stray one would join rows of two records.
            pa_csv.ParseOptions(delimiter=delimiter, quote_char=False, invalid_row_handler=note),
            pa_csv.ConvertOptions(
                include_columns=list(columns),
                column_types=dict.fromkeys(columns, pa.string()),
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        _refuse_row(records, first, counts, invalid, error)
    trimmed = [pc.utf8_trim_whitespace(table[column]) for column in columns]
    record = pa.array(np.repeat(np.arange(first, first + len(bodies), dtype=np.int32), counts))
    return pa.table([*trimmed, record], names=[*columns, RECORD])


def _refuse_row(
    records: Sequence[StayRecord],
    first: int,
    counts: Ints,
    invalid: Sequence[Any],
    error: pa.ArrowInvalid,
) -> NoReturn:
    if not invalid or invalid[0].number is None:
        raise SourceError(
            f"records {records[first].path} to {records[first + len(counts) - 1].path} cannot be "
            f"parsed: {error}"
        ) from error
    row = invalid[0]
    ends = np.cumsum(counts)
    index = int(np.searchsorted(ends, row.number - 1, side="right"))
    place = row.number - int(ends[index] - counts[index])
    raise SourceError(
        f"record {records[first + index].path}: row {place} has {row.actual_columns} fields, its "
        f"header {row.expected_columns}: {row.text[:80]!r}"
    ) from error
