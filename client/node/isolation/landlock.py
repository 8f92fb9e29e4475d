"""Landlock sandbox of the app's processes; it needs no privileges.

Processes in it can read and write every file except the hidden ones. They cannot inspect a process
outside nor, on newer kernels, send it a signal: neither their supervisor nor the process that knows
the node's secret.

Landlock has no deny rules; access is granted folder by folder. For each hidden file, everything
beside the path from the root to the file is granted. A file that is created later in a folder of
that path cannot be read either, until the next message. In such a folder nothing can be created,
removed or renamed: the next message's sandbox finds a hidden file by its name.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from client.node.isolation.linux import ON_LINUX, set_no_new_privileges

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _READ_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 2, 1 << 13, 1 << 14
_CHANGE_FOLDER = sum(1 << bit for bit in range(4, 13))
"""Rights to remove from a folder, and to create in it, files and folders of any kind."""
_NO_ABSTRACT_SOCKETS, _NO_SIGNALS = 1 << 0, 1 << 1
_MOVES_SINCE, _TRUNCATE_SINCE, _SCOPES_SINCE = 2, 3, 6
"""First versions with `_REFER` (moving files between folders), `_TRUNCATE` and the two scopes."""


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def landlock_version() -> int:
    """Return the kernel's Landlock version; 0 without Landlock, or if it may not be used."""
    if not ON_LINUX:
        return 0
    return max(0, _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))


def restrict_files(hidden: Iterable[Path]) -> bool:
    """Restrict this process and its descendants to files that are not hidden, permanently.

    With or without Landlock, it can no longer gain privileges by starting a program.

    Args:
        hidden: files to hide; those that cannot be opened anyway are skipped.

    Returns:
        Whether the sandbox is active, and every hidden file unreadable.
    """
    no_privileges, known = set_no_new_privileges(), landlock_version()
    if not known or not no_privileges:
        return False
    files = [path.resolve() for path in hidden if _can_open(path)]
    of_files, of_folders = _rights(known)
    asked = _Ruleset(of_files | of_folders, 0, 0)
    size = 16
    if known >= _SCOPES_SINCE:
        asked.scoped = _NO_ABSTRACT_SOCKETS | _NO_SIGNALS
        size = ctypes.sizeof(asked)
    elif known < 4:  # the version that brought the network's field
        size = 8
    rules = _call(_CREATE_RULESET, ctypes.byref(asked), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if rules < 0:
        return False
    try:
        for path in _beside(files):
            _grant(rules, path, of_files, of_folders)
        if _call(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0)) != 0:
            return False
    finally:
        os.close(rules)
    return not any(_can_open(path) for path in files)


def _rights(known: int) -> tuple[int, int]:
    """Return the rights that a Landlock version can control: on files, and on folders."""
    truncate = _TRUNCATE if known >= _TRUNCATE_SINCE else 0
    moves = _REFER if known >= _MOVES_SINCE else 0
    return _READ_FILE | _WRITE_FILE | truncate, _CHANGE_FOLDER | moves


def _beside(hidden: list[Path]) -> Iterator[Path]:
    """Yield everything beside the paths from the root to the hidden files; the root without any."""
    if not hidden:
        yield Path("/")
    way = {folder for path in hidden for folder in path.parents}
    inodes = {_inode(path.stat()) for path in hidden}
    for folder in way:
        with (
            suppress(OSError),
            os.scandir(folder) as entries,
        ):  # an unlistable folder grants nothing
            for entry in entries:
                if Path(entry.path) not in way and _is_another(entry, inodes):
                    yield Path(entry.path)


def _is_another(entry: os.DirEntry[str], hidden: set[tuple[int, int]]) -> bool:
    """Return whether an entry is neither a hidden file by another name nor a symbolic link."""
    try:
        return not entry.is_symlink() and _inode(entry.stat(follow_symlinks=False)) not in hidden
    except OSError:  # gone meanwhile
        return False


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _grant(rules: int, path: Path, of_files: int, of_folders: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # gone meanwhile
        return
    try:
        is_folder = stat.S_ISDIR(os.fstat(place).st_mode)
        rule = _PathBeneath(of_files | (of_folders if is_folder else 0), place)
        _call(
            _ADD_RULE,
            ctypes.c_int(rules),
            ctypes.c_int(_PATH_BENEATH),
            ctypes.byref(rule),
            ctypes.c_uint32(0),
        )
    finally:
        os.close(place)


def _can_open(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(ctypes.c_long(number), *arguments))
