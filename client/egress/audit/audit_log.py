"""Append-only hash chain of every decision of the gate (format: `client.egress.audit.hash_chain`).

An entry is on the disk before its message is sent. The log's anchor, beside it, is updated with
each entry.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client.egress.audit.hash_chain import (
    BEGINNING,
    Anchor,
    anchor_path,
    encode_entry,
    entries_since,
    line_hash,
    verify_log,
)
from common.errors import AuditError
from common.files.atomic_io import write_text
from common.files.private import OWNER_ONLY, make_private_folder


class AuditLog:
    """An append-only log.

    Args:
        path: the file; created, readable by its owner only, if it is absent.
        on_append: called with the log's anchor after each entry, e.g. to ship it; it must neither
            block nor raise.

    Raises:
        AuditError: if it cannot be written, or was changed.
    """

    def __init__(self, path: Path, on_append: Callable[[Anchor], None] | None = None) -> None:
        self._path = path
        self._on_append = on_append
        self._lock = threading.Lock()
        try:
            make_private_folder(path.parent)
            with _locked(path):
                _set_torn_line_aside(path)
                self._anchor = verify_log(path)
        except OSError as problem:
            raise _unwritable(path, problem) from problem

    @property
    def anchor(self) -> Anchor:
        """The log's anchor after this process's last entry."""
        return self._anchor

    def append(self, entry: Mapping[str, Any], now: datetime | None = None) -> int:
        """Append an entry and wait until the disk has it.

        Args:
            entry: what is recorded; plain values.
            now: the time; None = the clock's.

        Returns:
            The entry's number.

        Raises:
            AuditError: if it cannot be written, or another process has written to the file.
        """
        moment = (datetime.now(UTC) if now is None else now).isoformat(timespec="seconds")
        try:
            with self._lock, _locked(self._path):
                self._check_unchanged()
                head = {"number": self._anchor.lines + 1, "previous": self._anchor.head}
                line = encode_entry({**head, "time": moment, **entry})
                after = Anchor(self._anchor.lines + 1, line_hash(line))
                with _all_or_nothing(self._path) as handle:
                    if os.write(handle, line + b"\n") != len(line) + 1:
                        raise OSError(None, "the disk took half a line; is it full?")
                    os.fsync(handle)
                    write_text(anchor_path(self._path), f"{after}\n", OWNER_ONLY)
                self._anchor = after
        except OSError as problem:
            raise _unwritable(self._path, problem) from problem
        if self._on_append is not None:
            self._on_append(after)
        return after.lines

    def _check_unchanged(self) -> None:
        last = _last_line(self._path)
        if (BEGINNING if last is None else line_hash(last)) != self._anchor.head:
            raise AuditError(
                f"{self._path} was changed by another process; nothing is sent until this is "
                "resolved, see: `python -m client audit verify`"
            )

    def since(self, moment: datetime) -> Iterator[dict[str, Any]]:
        """Yield the entries from a moment on, the oldest first."""
        return entries_since(self._path, moment)


def anchor_now(path: Path, *kept: Anchor) -> Anchor:
    """Verify a log as `verify_log` does, while other processes cannot write to it.

    Raises:
        AuditError: also if this process may not lock the log.
    """
    try:
        with _locked(path):
            return verify_log(path, *kept)
    except OSError as problem:
        raise AuditError(f"{path} cannot be read: {problem.strerror or problem}") from problem


def _set_torn_line_aside(path: Path) -> None:
    """Move away a line that a crash left half written: its message had not been sent yet."""
    if not path.exists():
        return
    whole, newline, torn = path.read_bytes().rpartition(b"\n")
    if not torn:
        return
    with path.with_name(f"{path.name}.torn").open("ab") as aside:
        aside.write(torn + b"\n")
    with path.open("r+b") as file:
        file.truncate(len(whole) + len(newline))
        os.fsync(file.fileno())


def _last_line(path: Path) -> bytes | None:
    """Return the last whole line, read from the end: the log may hold years of entries."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        tail = b""
        while size and tail.count(b"\n") < 2:
            step = min(size, 65536)
            size -= step
            file.seek(size)
            tail = file.read(step) + tail
    return tail.rstrip(b"\n").rpartition(b"\n")[2] or None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a log against other processes; by a lock file, since the log itself may be moved."""
    lock = path.with_name(f"{path.name}.lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _all_or_nothing(path: Path) -> Iterator[int]:
    """Open a log for one more line; if the block fails, the log is restored."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        try:
            yield handle
        except BaseException:
            os.ftruncate(handle, size)
            raise
    finally:
        os.close(handle)


def _unwritable(path: Path, problem: OSError) -> AuditError:
    return AuditError(
        f"the audit log {path} cannot be written ({problem.strerror or problem}); "
        "nothing leaves without it"
    )
