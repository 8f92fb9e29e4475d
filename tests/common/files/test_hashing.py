"""Hashes of whole files, and of files that are read once."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from common.files.hashing import HashingReader, describe_file, file_sha256

CONTENT = b"0123456789" * 1000


def test_a_file_is_described_by_its_name_size_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(CONTENT)
    assert file_sha256(path) == sha256(CONTENT).hexdigest()
    expected = {"file": "table.csv", "bytes": len(CONTENT), "sha256": file_sha256(path)}
    assert describe_file(path) == expected


def test_a_reader_hashes_the_whole_file_whatever_was_read_of_it(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(CONTENT)
    seen: list[tuple[int, int]] = []
    with path.open("rb") as file:
        reader = HashingReader(file, len(CONTENT), lambda done, total: seen.append((done, total)))
        assert reader.read(10) == CONTENT[:10]
        assert reader.finish() == {"bytes": len(CONTENT), "sha256": sha256(CONTENT).hexdigest()}
    assert seen[0] == (10, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
