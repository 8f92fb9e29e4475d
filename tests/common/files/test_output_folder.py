from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from common.errors import FederationError, UsageError
from common.files.output_folder import (
    check_output,
    check_output_file,
    check_replaceable,
    check_writable,
)

RECORDS = ("config.json", "rounds.jsonl")


@pytest.mark.parametrize("held", [None, [], ["config.json", "x"], [".x.partial"]], ids=repr)
def test_an_absent_an_empty_and_our_own_folder_are_free(
    tmp_path: Path, held: list[str] | None
) -> None:
    folder = tmp_path / "a" / "out"
    if held is not None:
        folder.mkdir(parents=True)
        for name in held:
            (folder / name).touch()
    before = sorted(tmp_path.rglob("*"))
    check_output(folder, RECORDS)
    assert sorted(tmp_path.rglob("*")) == before  # nothing is left of the probe


@pytest.mark.parametrize("replaced", [False, True])
def test_a_foreign_folder_and_a_file_are_refused(tmp_path: Path, replaced: bool) -> None:
    folder, file = tmp_path / "docs", tmp_path / "file"
    folder.mkdir()
    (folder / "README.md").touch()
    file.touch()
    with pytest.raises(UsageError, match=r"docs has files of another kind \(README.md\) and no c"):
        check_output(folder, RECORDS, replaced=replaced)
    with pytest.raises(FederationError, match="file is a file, not a folder; give"):
        check_output(file, RECORDS, replaced=replaced, error=FederationError)
    if not replaced:
        with pytest.raises(UsageError, match="below cannot be written"):
            check_output(file / "below", RECORDS)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_found_by_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("common.files.output_folder.os.fsync", full)
    with pytest.raises(UsageError, match=rf"out cannot be written \({os.strerror(number)}\); free"):
        check_writable(tmp_path / "new" / "out")
    assert not any(tmp_path.iterdir())


def test_an_output_file_replaces_its_own_kind_alone(tmp_path: Path) -> None:
    def is_ours(file: Path) -> bool:
        return "ours" in json.loads(file.read_text())

    file = tmp_path / "new" / "a.json"
    check_output_file(file, is_ours, kind="list")
    assert not file.parent.exists()
    file = tmp_path / "a.json"
    file.write_text('["ours"]')
    check_output_file(file, is_ours, kind="list")
    for theirs in ("[]", "no JSON", "\xff"):
        file.write_text(theirs)
        with pytest.raises(UsageError, match=r"a.json exists and is no list; give another --out"):
            check_output_file(file, is_ours, kind="list")
    with pytest.raises(UsageError, match="is a folder"):
        check_output_file(tmp_path, is_ours, kind="list")


def test_what_cannot_be_replaced_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, there in (("link", "data"), ("broken", "nowhere"), ("loop", "loop")):
        (tmp_path / name).symlink_to(tmp_path / there)
    (tmp_path / "data").mkdir()
    check_replaceable(tmp_path / "link")
    check_replaceable(tmp_path / "broken")  # is created where the link points to
    with pytest.raises(UsageError, match="loop is a link that points to no folder"):
        check_replaceable(tmp_path / "loop")
    monkeypatch.setattr(Path, "is_mount", lambda path: path == tmp_path / "data")
    with pytest.raises(UsageError, match="link is a mount point, which cannot be replaced; give"):
        check_replaceable(tmp_path / "link")
    with pytest.raises(UsageError, match="data is a mount point"):
        check_output(tmp_path / "data", replaced=True)
    check_output(tmp_path / "data")  # a run's files are written into it
