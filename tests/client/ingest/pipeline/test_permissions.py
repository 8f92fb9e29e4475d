"""Permissions of all that an ingest writes, also while it runs, whatever the umask is."""

from __future__ import annotations

import grp
import os
from pathlib import Path
from typing import Any

import pytest

from client.ingest.pipeline import pipeline
from client.ingest.pseudonyms import read_secret
from client.ingest.stays import selection
from common.errors import UsageError
from common.files.private import access_of
from tests.client.ingest.hospital import hours_of, long_mapping, run, write_rows


def modes(*paths: Path) -> set[tuple[bool, int]]:
    """Return kind (folder or not) and mode of all paths and of what is in them."""
    found = [inside for path in paths for inside in (path, *path.rglob("*"))]
    return {(path.is_dir(), path.stat().st_mode & 0o777) for path in found}


def test_a_site_table_and_the_secret(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[tuple[bool, int]] = set()

    def watched(*arguments: Any) -> Any:
        (scratch,) = tmp_path.glob(".out.*")
        (scratch / "spill").mkdir(exist_ok=True)
        seen.update(modes(scratch))
        return original(*arguments)

    original = selection.keep_stays
    monkeypatch.setattr(pipeline, "keep_stays", watched)
    rows = hours_of("a", "1", dict.fromkeys(range(20), "80"))
    mapping = long_mapping(tmp_path, more="[ids]\nhash = true\n")
    table = write_rows(tmp_path / "t.csv", rows)
    run(mapping, [table], tmp_path / "out")
    assert seen == {(True, 0o700), (False, 0o600)}
    assert modes(tmp_path / "out", tmp_path / "secret") == {(True, 0o700), (False, 0o600)}
    group = access_of(grp.getgrgid(os.getegid()).gr_name)
    # A secret that was the owner's alone stays so.
    run(mapping, [table], tmp_path / "out", access=group)
    assert modes(tmp_path / "out") == {(True, 0o750), (False, 0o640)}
    assert modes(tmp_path / "secret") == {(False, 0o600)}
    assert umask == os.umask(umask), "the process's own umask is restored"


def test_a_secret_of_a_group(tmp_path: Path, umask: int) -> None:
    group = access_of(grp.getgrgid(os.getegid()).gr_name)
    path = tmp_path / "site" / "id-secret"
    secret = read_secret(path, group)
    assert modes(path.parent) == {(True, 0o750), (False, 0o640)}
    assert read_secret(path, group) == secret
    with pytest.raises(UsageError, match="others may read the secret"):
        read_secret(path)
