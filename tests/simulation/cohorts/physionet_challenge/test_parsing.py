from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from common.errors import SourceError
from simulation.cohorts.physionet_challenge import parsing
from simulation.cohorts.physionet_challenge.archive import StayRecord
from simulation.cohorts.physionet_challenge.parsing import (
    parse_numbers,
    parse_records,
    record_maximum,
)


def rows(*contents: bytes, columns: tuple[str, ...] = ("a", "b")) -> list[tuple[object, ...]]:
    records = [StayRecord(f"r/{index}.txt", content) for index, content in enumerate(contents)]
    table = parse_records(records, ",", columns)
    return list(zip(*(table[name].to_pylist() for name in (*columns, "record")), strict=True))


def test_each_row_knows_its_record() -> None:
    assert rows(b"a,b\n1,2\n3,4\n", b"a,b\n5,6\n") == [("1", "2", 0), ("3", "4", 0), ("5", "6", 1)]


def test_columns_are_found_by_name_in_each_record() -> None:
    assert rows(b"a,b\n1,2\n", b"b,x,a\n3,9,4\n", b"a,b\n5,6\n") == [
        ("1", "2", 0),
        ("4", "3", 1),
        ("5", "6", 2),
    ]


def test_batches_keep_the_count_of_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "_BATCH_BYTES", 10)
    contents = [b"a,b\n" + b"%d,0\n" % index * 2 for index in range(9)]
    assert rows(*contents) == [(str(i), "0", i) for i in range(9) for _ in range(2)]


@pytest.mark.parametrize(
    "content",
    [
        b"a,b\r\n1,2\r\n3,4\r\n",
        b"a,b\r1,2\r3,4",
        b"a,b\n\n1,2\n\n\n\n3,4\n\n",
        b"\na,b\n1,2\n3,4",
        b"a,b\n 1 ,2\n3,\t4\n",
    ],
)
def test_line_ends_and_blanks_mean_nothing(content: bytes) -> None:
    expected = [("1", "2", 0), ("3", "4", 0), ("5", "6", 1)]
    assert rows(content, b"a,b\n5,6\n") == expected


def test_a_quote_is_a_character_like_others() -> None:
    assert rows(b'a,b\n"1,2\n3,4\n', b'a,b\n5",6\n') == [
        ('"1', "2", 0),
        ("3", "4", 0),
        ('5"', "6", 1),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"record r/1\.txt holds no rows"),
        (b"a,b\n", r"record r/1\.txt holds no rows"),
        (b"a,c\n1,2\n", r"record r/1\.txt lacks the column b; it has a, c"),
        (b"a,b,a\n1,2,3\n", r"record r/1\.txt has the column a twice"),
        (b"a,b\n1,2\n3\n4,5\n", r"record r/1\.txt: row 2 has 1 fields, its header 2: '3'"),
        (b"a,b\n1,2,3\n", r"record r/1\.txt: row 1 has 3 fields, its header 2: '1,2,3'"),
        (b"a,b\n1,\xff\n", r"record r/1\.txt is not plain ASCII text"),
    ],
)
def test_a_malformed_record_is_named(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        rows(b"a,b\n1,2\n", content, b"a,b\n1,2\n")


def test_numbers_tells_nothing_from_no_number() -> None:
    texts = ["1", "-1.5", ".5", "2.", "1e2", "", "NaN", "abc", "1,5", "inf", "0x10", "--1"]
    values, wrong = parse_numbers(pa.chunked_array([texts[:3], texts[3:]]))
    assert values[:5].tolist() == [1, -1.5, 0.5, 2, 100]
    assert np.isnan(values[5:]).all()
    assert wrong.tolist() == [False] * 7 + [True] * 5


def test_record_maximum_passes_over_gaps() -> None:
    records = [StayRecord(str(index), b"") for index in range(3)]
    table = pa.table({"record": pa.array([0, 0, 0, 2], pa.int32())})
    largest = record_maximum(np.array([1.0, np.nan, 3.0, np.nan]), table, records)
    np.testing.assert_array_equal(largest, [3, np.nan, np.nan])
