from __future__ import annotations

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from client.ingest.mapping.source_sections import SqlSource
from client.ingest.sources.queries.query_source import open_query
from common.errors import FedvitalsError, SourceError, UsageError


def settings(query: str, database: str = "") -> SqlSource:
    return SqlSource(attach="duckdb", database=database, query=query)


def test_a_database_is_read_with_its_types_and_not_written(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "w.duckdb") as connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS Pid, TIMESTAMP '2024-03-01 10:00' AS at_")
    before = (tmp_path / "w.duckdb").read_bytes()
    query = settings("SELECT * FROM t;", "w.duckdb")
    source = open_query(query, query.query, tmp_path)
    assert source.types == {"pid": "INTEGER", "at_": "TIMESTAMP"}
    table = pa.Table.from_batches(list(source.batches(["at_", "pid"])))
    assert table.column_names == ["at_", "pid"]
    assert table["pid"].to_pylist() == [7]
    assert (tmp_path / "w.duckdb").read_bytes() == before


def test_files_are_found_from_the_mappings_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hospital").mkdir()
    (tmp_path / "hospital" / "t.csv").write_text("pid,value\na,1\n")
    monkeypatch.chdir("/")
    query = settings("SELECT pid, value FROM read_csv('t.csv')")
    source = open_query(query, query.query, tmp_path / "hospital")
    assert pa.Table.from_batches(list(source.batches(["pid"])))["pid"].to_pylist() == ["a"]


@pytest.mark.parametrize(
    ("query", "database", "error", "message"),
    [
        ("SELECT 1 AS a", "no.duckdb", SourceError, "there is no DuckDB database"),
        ("SELECT FROM WHERE", "", SourceError, "DuckDB refuses the query: Parser Error"),
        ("SELECT * FROM absent", "", SourceError, "DuckDB refuses the query: Catalog Error"),
        ("SELECT 1 AS a, 2 AS A", "", UsageError, "the query has the column 'a' twice"),
    ],
)
def test_a_query_that_fails_is_one_line(
    tmp_path: Path, query: str, database: str, error: type[FedvitalsError], message: str
) -> None:
    given = settings(query, database)
    with pytest.raises(error) as caught:
        open_query(given, given.query, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
