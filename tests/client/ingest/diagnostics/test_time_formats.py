from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.ingest.diagnostics.time_formats import guess_formats
from client.ingest.timestamps import epoch_format

START = datetime(2024, 1, 20, 22, 10)  # noqa: DTZ001  (local times have no zone of their own)
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def texts_of(write: str | Callable[[datetime], str], first: datetime = START) -> list[str]:
    """Forty times, twenty hours apart."""
    times = [first + timedelta(hours=20 * n, minutes=n, seconds=n) for n in range(40)]
    return [at.strftime(write) if isinstance(write, str) else write(at) for at in times]


@pytest.mark.parametrize(
    "pattern",
    [
        "%d.%m.%Y %H:%M",
        "%m/%d/%Y %H:%M:%S",
        "%d-%b-%Y %H:%M",
        "%m/%d/%y %I:%M %p",
        "%Y-%d-%m %H:%M",
        "%Y/%m/%dT%H:%M:%S",
        "%Y%m%d%H%M%S",
        "%d/%m/%Y",
    ],
)
def test_a_pattern_is_found(connection: duckdb.DuckDBPyConnection, pattern: str) -> None:
    assert guess_formats(connection, texts_of(pattern)) == ((pattern,),)


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda at: str(int((at - EPOCH).total_seconds())), "epoch-s"),
        (lambda at: str(int((at - EPOCH).total_seconds() * 1e3)), "epoch-ms"),
        (lambda at: str(int((at - EPOCH).total_seconds()) * 10**6), "epoch-us"),
        (lambda at: str(int((at - EPOCH).total_seconds()) * 10**9), "epoch-ns"),
        (lambda at: str((at - datetime(1899, 12, 30)).total_seconds() / 86400), "excel"),  # noqa: DTZ001
    ],
)
def test_a_number_is_told_by_its_size(
    connection: duckdb.DuckDBPyConnection, write: Callable[[datetime], str], expected: str
) -> None:
    assert guess_formats(connection, texts_of(write)) == ((expected,),)


def test_several_patterns_of_one_column(connection: duckdb.DuckDBPyConnection) -> None:
    texts = texts_of("%d.%m.%Y %H:%M") + texts_of("%d.%m.%Y %H:%M:%S")[:15]
    ((first, second),) = guess_formats(connection, texts)
    assert {first, second} == {"%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"}


def test_both_orders_are_given_where_no_day_is_above_twelve(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    texts = [f"{day:02d}/{month:02d}/2024 10:00" for day in range(1, 13) for month in (3, 4)]
    assert guess_formats(connection, texts) == (("%d/%m/%Y %H:%M",), ("%m/%d/%Y %H:%M",))


@pytest.mark.parametrize("texts", [["soon", "later"], ["12", "13"], ["5"], ["1e400"]])
def test_what_no_format_reads_has_none(
    connection: duckdb.DuckDBPyConnection, texts: list[str]
) -> None:
    assert guess_formats(connection, texts) == ()


def test_both_orders_in_one_column_are_no_format(connection: duckdb.DuckDBPyConnection) -> None:
    first = datetime(2024, 1, 13)  # noqa: DTZ001
    texts = texts_of("%d/%m/%Y", first)[:20] + texts_of("%m/%d/%Y", first)[:20]
    assert guess_formats(connection, texts) == ()


@settings(max_examples=100)
@given(st.datetimes(datetime(1971, 1, 1), datetime(2299, 1, 1)), st.sampled_from([0, 3, 6, 9]))  # noqa: DTZ001
def test_the_size_of_a_number_gives_its_unit(at: datetime, power: int) -> None:
    seconds = (at - EPOCH).total_seconds()
    unit = {0: "s", 3: "ms", 6: "us", 9: "ns"}[power]
    assert epoch_format(seconds * 10**power) == f"epoch-{unit}"
