"""Ownership check of a site's files: only root and the node's user may change or replace them.

`site.toml`, `policy.toml` and the node's key decide what leaves a hospital. A file is refused if

- it is a symbolic link, or not a regular file;
- its group or every user may write it;
- it belongs to a user other than root and the one that runs the node;
- a folder on its path, from `/` on, belongs to another user or is writable by others, who could
  replace the file. A sticky folder such as `/tmp` is allowed, since no user can replace others'
  files in it. Symbolic links between folders are followed, and each is checked as a file is.

In a container a mounted file may show an owner that the container does not know: with a user
namespace (rootless engines, `userns-remap`) every outside user shows as the overflow user, mostly
65534. That may be anybody, and is refused: on the host the file must belong to the user who is root
or the node's user inside. Write access by an access list (`setfacl`) shows in the group's bits.

A file is checked by the handle from which it is then read, so it cannot be replaced in between. The
folders are checked from `/` on: a folder that only trusted users can change cannot change later.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.errors import FedvitalsError

MAX_OWN_FILE_BYTES = 2**20
"""Larger than any such file; a wrong path must not be read into memory."""

_MAX_LINKS = 40
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class OwnershipProblem:
    """Reason why other users can change a file.

    Attributes:
        what: which file, and what is wrong with it.
        remedy: the command that fixes it.
    """

    what: str
    remedy: str


class _OwnershipError(Exception):
    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.problem = OwnershipProblem(what, remedy)


def ownership_problem(path: Path, what: str, also: Collection[int] = ()) -> OwnershipProblem | None:
    """Return why other users can change a file; None if they cannot.

    Args:
        path: the file.
        what: the setting that names it, for messages, e.g. ``site.policy``.
        also: users who may own it, besides root and the user of this process.
    """
    try:
        with _opened(path, what, {0, os.geteuid(), *also}):
            return None
    except _OwnershipError as error:
        return error.problem


def check_own_file(
    path: Path, what: str, error: type[FedvitalsError], also: Collection[int] = ()
) -> None:
    """Refuse a file that other users can change or replace.

    Args:
        path: the file.
        what: the setting that names it, for messages, e.g. ``site.policy``.
        error: the exception to raise; its message has the command that fixes it.
        also: users who may own it, besides root and the user of this process.
    """
    problem = ownership_problem(path, what, also)
    if problem is not None:
        raise error(f"{problem.what}; {problem.remedy}")


def read_own_bytes(
    path: Path, what: str, error: type[FedvitalsError], also: Collection[int] = ()
) -> bytes:
    """Check a file as `check_own_file` does, and read it from the handle that was checked."""
    try:
        with (
            _opened(path, what, {0, os.geteuid(), *also}) as handle,
            os.fdopen(handle, "rb", closefd=False) as file,
        ):
            data = file.read(MAX_OWN_FILE_BYTES + 1)
    except _OwnershipError as failed:
        raise error(f"{failed.problem.what}; {failed.problem.remedy}") from failed
    except OSError as problem:
        raise error(f"{what} = {path} cannot be read: {problem.strerror}") from problem
    if len(data) > MAX_OWN_FILE_BYTES:
        raise error(
            f"{what} = {path} is larger than {MAX_OWN_FILE_BYTES} bytes; is it the right file?"
        )
    return data


def read_own_text(
    path: Path, what: str, error: type[FedvitalsError], also: Collection[int] = ()
) -> str:
    """Read a UTF-8 text as `read_own_bytes` does."""
    try:
        return read_own_bytes(path, what, error, also).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{what} = {path} is not UTF-8 text: {problem}") from problem


@contextmanager
def _opened(path: Path, what: str, owners: Collection[int]) -> Iterator[int]:
    """Check a file's folders, open it, and check its handle; close it at the end."""
    name = f"{what} = {path}"
    try:
        folder = _check_folders(path.absolute().parent, name, owners)
        handle = os.open(
            os.path.join(folder, path.name),  # noqa: PTH118 (no part of it is resolved again)
            # O_NONBLOCK: do not wait for a pipe's other end.
            os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
        )
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise _is_a_link(path, what) from problem
        reason = problem.strerror or str(problem)
        raise _OwnershipError(f"{name} cannot be read: {reason}", "is it there?") from problem
    try:
        _check_file(path, name, os.fstat(handle), owners)
        yield handle
    finally:
        os.close(handle)


def _check_folders(folder: Path, name: str, owners: Collection[int]) -> str:
    """Check every folder from the root on, and return the last one's path without links."""
    todo = list(reversed(folder.parts[1:]))
    here = "/"
    links = 0
    _check_folder(here, name, os.lstat(here), owners)
    while todo:
        part = todo.pop()
        if part == "..":
            here = os.path.dirname(here)  # noqa: PTH120 (here has no links)
            continue
        step = os.path.join(here, part)  # noqa: PTH118
        status = os.lstat(step)
        _check_folder(step, name, status, owners)
        if not stat.S_ISLNK(status.st_mode):
            here = step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        target = Path(os.readlink(step))  # noqa: PTH115
        if target.is_absolute():
            here = "/"
        todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return here


def _check_folder(path: str, name: str, status: os.stat_result, owners: Collection[int]) -> None:
    shown = shlex.quote(path)
    if status.st_uid not in owners:
        raise _OwnershipError(
            f"{name} is reached through {path}, which belongs to {_user(status)}, who could "
            "replace the file",
            f"chown --no-dereference root {shown}",
        )
    # A link has no permissions of its own: its folder's decide who may replace it.
    if stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & _OTHERS_WRITE:
        raise _OwnershipError(
            f"{name} is in {path}, which can be written by {_writers(status)}, who could replace "
            "the file",
            f"chmod go-w {shown}",
        )


def _check_file(path: Path, name: str, status: os.stat_result, owners: Collection[int]) -> None:
    shown = shlex.quote(str(path))
    if not stat.S_ISREG(status.st_mode):
        raise _OwnershipError(f"{name} is not a regular file", f"put a file there: ls -ld {shown}")
    if status.st_uid not in owners:
        raise _OwnershipError(f"{name} belongs to {_user(status)}", f"chown root {shown}")
    if status.st_mode & _OTHERS_WRITE:
        raise _OwnershipError(
            f"{name} can be written by {_writers(status)}",
            f"chmod go-w {shown}",
        )


def _is_a_link(path: Path, what: str) -> _OwnershipError:
    target = os.path.realpath(path)
    return _OwnershipError(
        f"{what} = {path} is a symbolic link, which may later point to another file",
        f'name the file itself: {what} = "{target}"',
    )


def _user(status: os.stat_result) -> str:
    if status.st_uid == _overflow():
        return (
            f"user {status.st_uid}, which in a container stands for every user outside it, "
            f"neither root nor the node's user ({os.geteuid()})"
        )
    return f"user {status.st_uid}, neither root nor the node's user ({os.geteuid()})"


def _overflow() -> int:
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_bytes())
    except (OSError, ValueError):
        return 65534


def _writers(status: os.stat_result) -> str:
    mode = f"{stat.S_IMODE(status.st_mode):o}"
    if status.st_mode & stat.S_IWOTH:
        return f"every user ({mode})"
    return f"its group {status.st_gid} ({mode})"
