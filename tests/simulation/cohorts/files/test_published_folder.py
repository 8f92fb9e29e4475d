from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from common.errors import SourceError
from simulation.cohorts.files.published_folder import PublishedFolder
from simulation.cohorts.source_tables import SourceTables, TableLayout

LAYOUT = TableLayout("a data set", {"PEOPLE": {"id": "BIGINT"}})
IN_PARTS = TableLayout("a data set", {"PEOPLE": {"id": "BIGINT"}}, ("hosp", "icu"))
ROWS = "ID\n1\n2\n3\n"
ONE_LINE = r"[^\n]*"


def publish(folder: Path, name: str, content: bytes, form: str = "{sha}  {name}\n") -> Path:
    """Write a file and a SHA256SUMS.txt that lists it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    sha = hashlib.sha256(content).hexdigest()
    (folder / "SHA256SUMS.txt").write_text(form.format(sha=sha, name=name))
    return path


def load(folder: Path, layout: TableLayout = LAYOUT) -> int:
    with SourceTables(folder, layout) as tables:
        name = tables.load("PEOPLE", "the test")
        return len(tables.connection.execute(f"SELECT * FROM {name}").fetchall())


@pytest.mark.parametrize("form", ["{sha}  {name}\n", "{sha} *./{name}\r\n\r\n"])
def test_the_published_file_is_read(tmp_path: Path, form: str) -> None:
    publish(tmp_path, "people.csv", ROWS.encode(), form)
    assert load(tmp_path) == 3


def test_a_csv_that_is_cut_at_a_lines_end_is_found(tmp_path: Path) -> None:
    path = publish(tmp_path, "people.csv", ROWS.encode())
    path.write_text(ROWS[:-2])
    with pytest.raises(SourceError, match=rf"people\.csv is not the published file{ONE_LINE}$"):
        load(tmp_path)


def test_a_gzip_that_is_cut_between_its_members_is_found(tmp_path: Path) -> None:
    first, second = (gzip.compress(text.encode()) for text in (ROWS, "4\n"))
    path = publish(tmp_path, "hosp/people.csv.gz", first + second)
    assert load(tmp_path, IN_PARTS) == 4
    path.write_bytes(first)
    with pytest.raises(SourceError, match=r"people\.csv\.gz is not .* for hosp/people\.csv\.gz"):
        load(tmp_path, IN_PARTS)


def test_a_file_without_a_published_digest_is_read(tmp_path: Path) -> None:
    publish(tmp_path, "people.csv.gz", gzip.compress(ROWS.encode()))
    (tmp_path / "people.csv.gz").unlink()
    (tmp_path / "people.csv").write_text(ROWS)
    assert load(tmp_path) == 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"not a digest  people.csv\n", "line 1 is not a SHA-256"),
        (b"\xff\xfe", "utf-8"),
        (b"\n" * (9 << 20), "larger than 8 MiB"),
    ],
)
def test_a_list_of_digests_that_is_none_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "SHA256SUMS.txt").write_bytes(content)
    with pytest.raises(SourceError, match=rf"SHA256SUMS\.txt cannot be read: .*{reason}"):
        PublishedFolder(tmp_path, (), "a data set")


@pytest.mark.parametrize(("given", "right"), [(".", "inner"), ("inner/deeper", "inner")])
def test_the_right_level_of_the_folder_is_named(tmp_path: Path, given: str, right: str) -> None:
    (tmp_path / "inner" / "deeper").mkdir(parents=True)
    (tmp_path / "inner" / "people.csv").write_text(ROWS)
    with pytest.raises(SourceError, match=rf"no table PEOPLE{ONE_LINE}; \S*{right} has it$"):
        load(tmp_path / given)


def test_a_single_file_is_no_folder(tmp_path: Path) -> None:
    path = publish(tmp_path, "people.csv", ROWS.encode())
    with pytest.raises(SourceError, match=r"people\.csv is not a folder; give the folder of the a"):
        load(path)


def test_another_delimiter_is_named(tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text("id;age\n1;2\n")
    with pytest.raises(SourceError, match=r"people\.csv has its fields separated by semicolons"):
        load(tmp_path)
