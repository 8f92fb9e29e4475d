"""Whether a file is the site's own: nobody but root and the node's user can change or exchange it.

`site.toml`, `policy.toml` and the node's key decide what leaves a hospital. A file is refused where

- it is a symbolic link, or no regular file;
- its group or every user may write it;
- it belongs to another user than root and the one that runs the node;
- a folder on the way to it, up to `/`, belongs to another user, or may be written by others: they
  could lay another file in its place. A sticky folder such as `/tmp` may be, since nobody exchanges
  others' files in it. Links between folders are followed, and each is judged as a file is.

In a container a mounted file may show an owner that the machine does not know it by: with a user
namespace (rootless engines, `userns-remap`) users outside it all show as the overflow user, mostly
65534. That may be anybody, and is refused: let the file belong, outside, to the user who is root or
the node's user inside. An access list (`setfacl`) that lets others write shows in the group's bits.

A file is judged by the very handle that it is then read from, so that it cannot be exchanged
between. The folders are judged from `/` on: one that only trusted users can change stays as it was.
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

MAX_BYTES = 2**20
"""Larger than any such file; a path to something else must not be read into memory."""

_MOST_LINKS = 40
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class OwnershipProblem:
    """Why a file is not the site's own.

    Attributes:
        what: which file, and what is wrong with it.
        remedy: the command that mends it.
    """

    what: str
    remedy: str


class _FaultError(Exception):
    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.fault = OwnershipProblem(what, remedy)


def ownership_problem(path: Path, what: str, also: Collection[int] = ()) -> OwnershipProblem | None:
    """Return why a file is not the site's own; None where it is.

    Args:
        path: the file.
        what: the setting that names it, for messages, e.g. ``site.policy``.
        also: users who may own it beside root and the user of this process.
    """
    try:
        with _opened(path, what, {0, os.geteuid(), *also}):
            return None
    except _FaultError as problem:
        return problem.fault


def check_own_file(
    path: Path, what: str, error: type[FedvitalsError], also: Collection[int] = ()
) -> None:
    """Refuse a file that somebody else can change or exchange.

    Args:
        path: the file.
        what: the setting that names it, for messages, e.g. ``site.policy``.
        error: what to raise, in one line with the command that mends it.
        also: users who may own it beside root and the user of this process.
    """
    fault = ownership_problem(path, what, also)
    if fault is not None:
        raise error(f"{fault.what}; {fault.remedy}")


def read_own_bytes(
    path: Path, what: str, error: type[FedvitalsError], also: Collection[int] = ()
) -> bytes:
    """Read a file that is judged as by `check_own_file`, from the handle that was judged."""
    try:
        with (
            _opened(path, what, {0, os.geteuid(), *also}) as handle,
            os.fdopen(handle, "rb", closefd=False) as file,
        ):
            data = file.read(MAX_BYTES + 1)
    except _FaultError as problem:
        raise error(f"{problem.fault.what}; {problem.fault.remedy}") from problem
    except OSError as problem:
        raise error(f"{what} = {path} cannot be read: {problem.strerror}") from problem
    if len(data) > MAX_BYTES:
        raise error(f"{what} = {path} is larger than {MAX_BYTES} bytes; is it the right file?")
    return data


def read_own_text(
    path: Path, what: str, error: type[FedvitalsError], also: Collection[int] = ()
) -> str:
    """Read a text in UTF-8, as `read_own_bytes` does."""
    try:
        return read_own_bytes(path, what, error, also).decode("utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{what} = {path} is no text in UTF-8: {problem}") from problem


@contextmanager
def _opened(path: Path, what: str, owners: Collection[int]) -> Iterator[int]:
    """Open a file, and judge the handle, which is closed at the end."""
    name = f"{what} = {path}"
    try:
        folder = _walk(path.absolute().parent, name, owners)
        handle = os.open(
            os.path.join(folder, path.name),  # noqa: PTH118 (no part of it is resolved again)
            # Not to wait for a pipe's other end.
            os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC,
        )
    except OSError as problem:
        if problem.errno == errno.ELOOP:
            raise _is_a_link(path, what) from problem
        reason = problem.strerror or str(problem)
        raise _FaultError(f"{name} cannot be read: {reason}", "is it there?") from problem
    try:
        _judge_file(path, name, os.fstat(handle), owners)
        yield handle
    finally:
        os.close(handle)


def _is_a_link(path: Path, what: str) -> _FaultError:
    target = os.path.realpath(path)
    return _FaultError(
        f"{what} = {path} is a symbolic link, which may come to mean another file",
        f'name the file itself: {what} = "{target}"',
    )


def _judge_file(path: Path, name: str, status: os.stat_result, owners: Collection[int]) -> None:
    shown = shlex.quote(str(path))
    if not stat.S_ISREG(status.st_mode):
        raise _FaultError(f"{name} is no regular file", f"put a file there: ls -ld {shown}")
    if status.st_uid not in owners:
        raise _FaultError(f"{name} belongs to {_user(status)}", f"chown root {shown}")
    if status.st_mode & _OTHERS_WRITE:
        raise _FaultError(
            f"{name} can be written by {_writers(status)}, not by the site alone",
            f"chmod go-w {shown}",
        )


def _walk(folder: Path, name: str, owners: Collection[int]) -> str:
    """Judge every folder from the root on, and return the last without links."""
    todo = list(reversed(folder.parts[1:]))
    here = "/"
    links = 0
    _judge_folder(here, name, os.lstat(here), owners)
    while todo:
        part = todo.pop()
        if part == "..":
            here = os.path.dirname(here)  # noqa: PTH120 (here has no links)
            continue
        step = os.path.join(here, part)  # noqa: PTH118
        status = os.lstat(step)
        _judge_folder(step, name, status, owners)
        if not stat.S_ISLNK(status.st_mode):
            here = step
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        target = Path(os.readlink(step))  # noqa: PTH115
        if target.is_absolute():
            here = "/"
        todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)
    return here


def _judge_folder(path: str, name: str, status: os.stat_result, owners: Collection[int]) -> None:
    shown = shlex.quote(path)
    if status.st_uid not in owners:
        raise _FaultError(
            f"{name} lies behind {path}, which belongs to {_user(status)}, who could lay another "
            "file there",
            f"chown --no-dereference root {shown}",
        )
    # A link has no rights of its own: who may exchange it is said by its folder.
    if stat.S_ISLNK(status.st_mode) or status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & _OTHERS_WRITE:
        raise _FaultError(
            f"{name} lies in {path}, which can be written by {_writers(status)}, who could lay "
            "another file there",
            f"chmod go-w {shown}",
        )


def _user(status: os.stat_result) -> str:
    if status.st_uid == _overflow():
        return (
            f"user {status.st_uid}, whom a container shows for everybody outside its own users, "
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
