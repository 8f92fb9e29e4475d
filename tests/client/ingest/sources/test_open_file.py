from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.sources.source import Source
from common.data.streams import csv_stream
from common.errors import SourceError, UsageError
from tests.client.ingest.hospital import HEADER, hours_of, long_mapping, run, write_rows

ROWS = [*hours_of("a", "1", {0: "80", 2: "82"}), *hours_of("b", "2", {1: "", 3: "90.5"})]


def bytes_of(out: Path) -> bytes:
    return (out / "sites" / "st-mary.parquet").read_bytes()


@pytest.fixture
def expected(tmp_path: Path) -> bytes:
    mapping = long_mapping(tmp_path)
    run(mapping, [write_rows(tmp_path / "expected.csv", ROWS)], tmp_path / "expected")
    return bytes_of(tmp_path / "expected")


def query_mapping(folder: Path, attach: str, database: str, query: str) -> SiteMapping:
    section = f'attach = "{attach}"\ndatabase = "{database}"\nquery = """{query}"""\n'
    return long_mapping(folder, more=f"[source]\n{section}")


def test_gzip_a_byte_order_mark_and_another_case_of_names(tmp_path: Path, expected: bytes) -> None:
    text = (tmp_path / "expected.csv").read_text().replace("pid,enc,at", "PID,Enc,AT")
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode("utf-8-sig")))
    record = run(long_mapping(tmp_path), [tmp_path / "t.csv.gz"], tmp_path / "out")
    assert bytes_of(tmp_path / "out") == expected
    assert record["inputs"][0]["bytes"] == (tmp_path / "t.csv.gz").stat().st_size


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_parts_change_nothing(
    tmp_path: Path, expected: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Source, "load_rows", 1)
    monkeypatch.setattr(Source, "fetch_rows", 1)
    monkeypatch.setattr(csv_stream, "CSV_BLOCK_BYTES", 40)
    path = tmp_path / "expected.csv"
    if kind == "parquet":
        path = tmp_path / "expected.parquet"
        pd.read_csv(tmp_path / "expected.csv", dtype=str).to_parquet(path)
    record = run(long_mapping(tmp_path), [path], tmp_path / "out")
    assert bytes_of(tmp_path / "out") == expected
    assert record["rows"]["read"] == len(ROWS)


def test_semicolons_commas_and_latin_1(tmp_path: Path, expected: bytes) -> None:
    lines = [";".join(HEADER).replace("result", "Messwert für Wert")]
    lines += [";".join(str(field).replace(".", ",") for field in row) for row in ROWS]
    (tmp_path / "t.csv").write_bytes("\r\n".join(lines).encode("latin-1"))
    mapping = long_mapping(
        tmp_path,
        more='[file]\ndelimiter = ";"\ndecimal = ","\nencoding = "latin-1"\n',
        replaced={'value = "result"': 'value = "Messwert für Wert"'},
    )
    run(mapping, [tmp_path / "t.csv"], tmp_path / "out")
    assert bytes_of(tmp_path / "out") == expected


def test_a_query_of_sqlite(tmp_path: Path, expected: bytes) -> None:
    database = sqlite3.connect(tmp_path / "hospital.db")
    database.execute("CREATE TABLE obs (pid, enc, at, what, result REAL, unit)")
    rows = [[None if field == "" else field for field in row] for row in ROWS]
    database.executemany("INSERT INTO obs VALUES (?, ?, ?, ?, ?, ?)", rows)
    database.commit()
    database.close()
    mapping = query_mapping(tmp_path, "sqlite", "hospital.db", "SELECT * FROM obs -- all of it\n;")
    record = run(mapping, [], tmp_path / "out")
    assert bytes_of(tmp_path / "out") == expected
    assert record["inputs"][0]["rows"] == len(ROWS)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("SELECT * FROM nowhere", "SQLite refuses the query of .*: no such table"),
        ("DROP TABLE obs", "SQLite refuses the query"),
        ("SELECT 1; DROP TABLE obs", "SQLite refuses the query"),
    ],
)
def test_a_query_that_sqlite_refuses(tmp_path: Path, query: str, message: str) -> None:
    database = sqlite3.connect(tmp_path / "hospital.db")
    database.execute("CREATE TABLE obs (a)")
    database.close()
    with pytest.raises(SourceError, match=message):
        run(query_mapping(tmp_path, "sqlite", "hospital.db", query), [], tmp_path / "out")
    database = sqlite3.connect(tmp_path / "hospital.db")
    assert database.execute("SELECT count(*) FROM obs").fetchone() == (0,)
    database.close()


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A PostgreSQL of its own on a socket; skipped where its programs or psycopg are absent."""
    pytest.importorskip("psycopg", reason="it comes with the extra postgres")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    found = shutil.which("initdb") or next((str(folder / "initdb") for folder in programs), None)
    if found is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    # A short path, since a socket's may have a hundred characters; PostgreSQL refuses to be root.
    folder = tmp_path_factory.mktemp("pg")
    as_user = []
    if os.geteuid() == 0:
        as_user = ["runuser", "-u", "postgres", "--"]
        for parent in (folder, folder.parent, folder.parent.parent):
            parent.chmod(0o755)
        shutil.chown(folder, "postgres")
    (folder / "word").write_text("geheim\n")
    (folder / "word").chmod(0o644)
    data = folder / "data"

    def call(program: str, *arguments: str) -> None:
        command = [*as_user, str(Path(found).parent / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)

    call("initdb", "-D", str(data), "-U", "app", "-A", "scram-sha-256", f"--pwfile={folder}/word")
    options = f"-k {folder} -p 54321 -c listen_addresses="
    call("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-o", options, "-w", "start")
    try:
        (folder / "pass").write_text("*:*:*:app:geheim\n")
        (folder / "pass").chmod(0o600)
        yield {"socket": str(folder), "passfile": str(folder / "pass")}
    finally:
        call("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")


@pytest.mark.slow
def test_a_query_of_postgres(
    tmp_path: Path, expected: bytes, postgres: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    database = f"host={postgres['socket']} port=54321 user=app dbname=postgres"
    mapping = query_mapping(tmp_path, "postgres", database, "SELECT * FROM obs -- all of it\n;")
    monkeypatch.delenv("PGPASSFILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SourceError, match="PGPASSFILE") as caught:
        run(mapping, [], tmp_path / "out")
    assert "geheim" not in str(caught.value)
    monkeypatch.setenv("PGPASSFILE", postgres["passfile"])
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE obs (pid text, enc int, at timestamptz, what text, "
            "result double precision, unit text)"
        )
        connection.execute("SET timezone = 'UTC'")
        for row in ROWS:
            values = [None if field == "" else field for field in row]
            connection.execute("INSERT INTO obs VALUES (%s, %s, %s, %s, %s, %s)", values)
        # What the server would say by itself must not matter.
        connection.execute("ALTER ROLE app SET timezone = 'Asia/Tokyo'")
        connection.execute("ALTER ROLE app SET datestyle = 'German'")
    record = run(mapping, [], tmp_path / "out")
    assert bytes_of(tmp_path / "out") == expected
    assert record["inputs"][0]["rows"] == len(ROWS)
    refused = query_mapping(tmp_path, "postgres", database, "SELECT * FROM nothing")
    with pytest.raises(SourceError, match='PostgreSQL refuses the query: relation "nothing"'):
        run(refused, [], tmp_path / "other")
    twice = query_mapping(tmp_path, "postgres", database, "SELECT 1 AS a, 2 AS a")
    with pytest.raises(UsageError, match="'a' twice"):
        run(twice, [], tmp_path / "other")


@pytest.mark.parametrize("kept", [0.5, 0.9, -4])
def test_a_truncated_file_is_never_a_smaller_cohort(tmp_path: Path, kept: float) -> None:
    rows = [
        row for n in range(200) for row in hours_of(str(n), str(n), dict.fromkeys(range(30), "80"))
    ]
    data = gzip.compress(write_rows(tmp_path / "t.csv", rows).read_bytes())
    (tmp_path / "t.csv.gz").write_bytes(data[: int(kept * len(data)) if kept > 0 else int(kept)])
    with pytest.raises(SourceError, match=r"t\.csv\.gz is damaged.*cut off"):
        run(long_mapping(tmp_path), [tmp_path / "t.csv.gz"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    mapping = long_mapping(tmp_path)
    with pytest.raises(SourceError, match=r"there is no file .*absent\.csv"):
        run(mapping, [tmp_path / "absent.csv"], tmp_path / "out")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(SourceError, match=r"t\.parquet cannot be read as Parquet"):
        run(mapping, [tmp_path / "t.parquet"], tmp_path / "out")
    (tmp_path / "t.csv").write_bytes(b"pid,enc,at,what,result,unit\n\xff\xfe,1,,HR,80,\n")
    in_utf8 = long_mapping(tmp_path, more='[file]\nencoding = "utf-8"\n')
    with pytest.raises(SourceError, match=r'read as UTF-8.*encoding = "cp1252"'):
        run(in_utf8, [tmp_path / "t.csv"], tmp_path / "out")
    path = write_rows(tmp_path / "u.csv", [], ("pid", "enc", "at", "what", "value", "unit"))
    with pytest.raises(UsageError, match=r"unknown column of u\.csv 'result'"):
        run(mapping, [path], tmp_path / "out")
