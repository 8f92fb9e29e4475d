"""Private files and folders: for their owner alone, or also for one group that may read them.

Site tables, ids, keys and ledgers are written this way, whatever the process's umask is. They are
private from their first byte; a group gets access when they are complete.
"""

from __future__ import annotations

import grp
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.errors import UsageError

_PRIVATE_UMASK = 0o077


@dataclass(frozen=True)
class Access:
    """Who may read private files.

    Attributes:
        group: id of the group that may read them; None = their owner alone.
    """

    group: int | None = None

    @property
    def file_mode(self) -> int:
        """Mode of a file: 0600, or 0640 with a group."""
        return 0o600 if self.group is None else 0o640

    @property
    def folder_mode(self) -> int:
        """Mode of a folder: 0700, or 0750 with a group."""
        return 0o700 if self.group is None else 0o750

    def allows(self, status: os.stat_result) -> bool:
        """Return whether no one else has access to a file, by its mode and group."""
        others = status.st_mode & 0o077
        return others == 0 or (status.st_gid == self.group and not others & ~0o040)


OWNER_ONLY = Access()


def access_of(group: str) -> Access:
    """Return the access of a group by its name; without a name, of the owner alone.

    Raises:
        UsageError: there is no such group, or this user is not in it.
    """
    if not group:
        return OWNER_ONLY
    try:
        number = grp.getgrnam(group).gr_gid
    except KeyError:
        raise UsageError(f"--group {group}: there is no such group; see `getent group`") from None
    if os.geteuid() != 0 and number not in {os.getegid(), *os.getgroups()}:
        raise UsageError(
            f"--group {group}: this user is not in that group; give one that `id -Gn` lists"
        )
    return Access(number)


@contextmanager
def private_umask() -> Iterator[None]:
    """Let all files that this process creates in the block be its owner's alone.

    It covers files that a library creates, such as DuckDB's. The umask is the whole process's.
    """
    before = os.umask(_PRIVATE_UMASK)
    try:
        yield
    finally:
        os.umask(before)


def create_private_file(path: Path) -> None:
    """Create an empty file that its owner alone may read and write.

    Raises:
        FileExistsError: there is a file already.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def make_private_folder(path: Path, access: Access = OWNER_ONLY) -> None:
    """Create a folder for private files if it is missing; one that exists is not changed."""
    if path.exists():
        return
    make_folders(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    grant(path, access)


def make_folders(path: Path) -> None:
    """Create a folder and those above it, none of which others may write, whatever the umask."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=0o755, exist_ok=True)


def grant(path: Path, access: Access) -> None:
    """Give a file, or a folder with all that is in it, the modes and the group of an access."""
    for inside in path.rglob("*") if path.is_dir() else ():
        _grant_one(inside, access)
    _grant_one(path, access)


def _grant_one(path: Path, access: Access) -> None:
    if path.is_symlink():
        return
    if access.group is not None:
        # Before the mode, which would otherwise admit the former group.
        os.chown(path, -1, access.group)
    path.chmod(access.folder_mode if path.is_dir() else access.file_mode)
