from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from common.errors import UsageError
from common.files.atomic_io import atomic_file, atomic_folder
from common.files.private import (
    OWNER_ONLY,
    Access,
    access_of,
    create_private_file,
    make_private_folder,
    private_umask,
)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_file_is_private_from_its_first_byte(tmp_path: Path, umask: int) -> None:
    target = tmp_path / "new" / "secret"
    for _ in range(2):  # it is also replaced by a private one
        with atomic_file(target, OWNER_ONLY) as partial:
            assert mode(partial) == 0o600
            partial.write_text("x")
            assert mode(partial) == 0o600
        assert (mode(target), mode(target.parent)) == (0o600, 0o700)
        target.chmod(0o644)


def test_a_folder_is_private_with_all_that_is_in_it(tmp_path: Path, umask: int) -> None:
    with atomic_folder(tmp_path / "out", OWNER_ONLY) as partial:
        assert mode(partial) == 0o700
        (partial / "sites").mkdir()
        (partial / "sites" / "a.parquet").write_text("x")
    modes = {path.name: mode(path) for path in (tmp_path / "out").rglob("*")}
    assert modes == {"sites": 0o700, "a.parquet": 0o600}
    assert mode(tmp_path / "out") == 0o700


def test_without_access_the_umask_decides(tmp_path: Path, umask: int) -> None:
    with atomic_folder(tmp_path / "out") as partial:
        (partial / "a").write_text("x")
    assert mode(tmp_path / "out") == 0o777 & ~umask
    assert mode(tmp_path / "out" / "a") == 0o666 & ~umask


def test_a_group_may_read(tmp_path: Path, umask: int) -> None:
    own = os.getegid()
    access = access_of(grp.getgrgid(own).gr_name)
    with atomic_folder(tmp_path / "new" / "out", access) as partial:
        assert mode(partial) == 0o700
        (partial / "a").write_text("x")
    for path, expected in (("new/out", 0o750), ("new/out/a", 0o640)):
        assert mode(tmp_path / path) == expected
        assert (tmp_path / path).stat().st_gid == own


def test_a_group_that_is_not_there() -> None:
    assert access_of("") == OWNER_ONLY
    with pytest.raises(UsageError, match="--group no-such-group: there is no such group"):
        access_of("no-such-group")


def test_a_group_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    other = next(group for group in grp.getgrall() if group.gr_gid != os.getegid())
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", list)
    with pytest.raises(UsageError, match="this user is not in that group"):
        access_of(other.gr_name)


@pytest.mark.parametrize(
    ("bits", "group", "allowed"),
    [
        (0o600, None, True),
        (0o640, None, False),
        (0o640, "own", True),
        (0o660, "own", False),
        (0o644, "own", False),
        (0o640, "other", False),
    ],
)
def test_who_is_allowed(tmp_path: Path, bits: int, group: str | None, allowed: bool) -> None:
    create_private_file(tmp_path / "a")
    (tmp_path / "a").chmod(bits)
    status = (tmp_path / "a").stat()
    number = None if group is None else status.st_gid + (group == "other")
    assert Access(number).allows(status) == allowed


def test_folders_that_exist_are_not_changed(tmp_path: Path, umask: int) -> None:
    (tmp_path / "old").mkdir(mode=0o755)
    before = mode(tmp_path / "old")
    make_private_folder(tmp_path / "old" / "a" / "b")
    assert mode(tmp_path / "old") == before
    assert mode(tmp_path / "old" / "a" / "b") == 0o700
    assert mode(tmp_path / "old" / "a") == 0o755


def test_the_umask_is_restored(umask: int, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), private_umask():
        (tmp_path / "a").write_text("x")
        raise RuntimeError
    (tmp_path / "b").write_text("x")
    assert (mode(tmp_path / "a"), mode(tmp_path / "b")) == (0o600, 0o666 & ~umask)
