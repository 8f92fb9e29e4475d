"""A fence around the app's processes, made with Linux' Landlock, which needs no rights.

Processes inside can read and write every file but those that are hidden from them. They can neither
look into a process outside nor, on newer kernels, send it a signal: not the one that waits for
their end, nor the one that knows the secret of this site's node.

Landlock has no "all but this": what may be done is given folder by folder. From the root down to a
hidden file, all that lies beside the way is given. A file that is made later in a folder of that
way cannot be read either, until the next message. Within such a folder nothing is made, removed or
renamed: the next message's fence finds a hidden file by its name.

Source: https://docs.kernel.org/userspace-api/landlock.html
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from client.node.isolation.linux import ON_LINUX, give_up_rights

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION, _PATH_BENEATH = 1, 1
_WRITE_FILE, _READ_FILE, _REFER, _TRUNCATE = 1 << 1, 1 << 2, 1 << 13, 1 << 14
_CHANGE_FOLDER = sum(1 << bit for bit in range(4, 13))
"""To remove from a folder a file or a folder, and to make one there, of whatever kind."""
_NO_ABSTRACT_SOCKETS, _NO_SIGNALS = 1 << 0, 1 << 1
_MOVES_SINCE, _TRUNCATE_SINCE, _SCOPES_SINCE = 2, 3, 6
"""The versions that know `_REFER` (to move files between folders), `_TRUNCATE`, the two scopes."""


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def version() -> int:
    """The kernel's Landlock version; 0 where there is none, or it may not be used."""
    if not ON_LINUX:
        return 0
    return max(0, _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))


def fence_in(hidden: Iterable[Path]) -> bool:
    """Put this process and all that it will start behind the fence, for good.

    Whether there is a fence or not, it gains no rights any more by starting a program.

    Args:
        hidden: files that cannot be opened any more; those that could not be are passed over.

    Returns:
        Whether the fence stands, and every hidden file behind it.
    """
    given_up, known = give_up_rights(), version()
    if not known or not given_up:
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
            _give(rules, path, of_files, of_folders)
        if _call(_RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0)) != 0:
            return False
    finally:
        os.close(rules)
    return not any(_can_open(path) for path in files)


def _rights(known: int) -> tuple[int, int]:
    """What a Landlock version can forbid: to do with a file, and to do with a folder."""
    truncate = _TRUNCATE if known >= _TRUNCATE_SINCE else 0
    moves = _REFER if known >= _MOVES_SINCE else 0
    return _READ_FILE | _WRITE_FILE | truncate, _CHANGE_FOLDER | moves


def _beside(hidden: list[Path]) -> Iterator[Path]:
    """All that lies beside the ways from the root to the hidden files; the root, without any."""
    if not hidden:
        yield Path("/")
    way = {folder for path in hidden for folder in path.parents}
    inodes = {_inode(path.stat()) for path in hidden}
    for folder in way:
        with suppress(OSError), os.scandir(folder) as entries:  # who cannot list it gives nothing
            for entry in entries:
                if Path(entry.path) not in way and _is_another(entry, inodes):
                    yield Path(entry.path)


def _is_another(entry: os.DirEntry[str], hidden: set[tuple[int, int]]) -> bool:
    """Whether it is no second name of a hidden file, and no link, whose goal is given by itself."""
    try:
        return not entry.is_symlink() and _inode(entry.stat(follow_symlinks=False)) not in hidden
    except OSError:  # gone meanwhile
        return False


def _inode(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _give(rules: int, path: Path, of_files: int, of_folders: int) -> None:
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
