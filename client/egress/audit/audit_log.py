"""The site's record of what left it: JSON lines, each holding the hash of the one before.

    {"number": 3, "previous": "<SHA-256 of line 2>", "time": "2026-03-02T09:30:00+00:00", …}

A line is on the disk before its message goes. Beside the log lies its anchor, the number of lines
and the hash of the last. `verify` finds a line that was changed, removed, added or moved, and lines
cut off at the end.

What it cannot find by itself: whoever may write both files can cut the log and make the anchor fit,
or write a chain of his own. Only an anchor kept elsewhere finds that:
`client.egress.audit.anchor_shipping` signs anchors and ships them out, and `verify` takes any that
were kept to check against.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.atomic_io import write_text
from common.errors import AuditError

BEGINNING = "0" * 64
"""Stands for the hash of the line before the first."""

_ANCHOR = re.compile(r"([0-9]{1,12}):([0-9a-f]{64})")


@dataclass(frozen=True)
class Anchor:
    """How many lines a log has, and the SHA-256 of the last."""

    lines: int
    head: str

    def __str__(self) -> str:
        return f"{self.lines}:{self.head}"

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """Read what `str` wrote; `AuditError` for anything else."""
        match = _ANCHOR.fullmatch(text.strip())
        if match is None:
            raise AuditError(f"an anchor is NUMBER:SHA256, as verify prints it, got {text!r}")
        return cls(int(match[1]), match[2])


class AuditLog:
    """A log that only grows.

    Args:
        path: the file; made, readable by its owner alone, where it is absent.
        written: called with the log's anchor after each line, e.g. to ship it out; it must neither
            wait nor raise.

    Raises:
        AuditError: it cannot be written, or what is there has been changed.
    """

    def __init__(self, path: Path, written: Callable[[Anchor], None] | None = None) -> None:
        self._path = path
        self._written = written
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path):
                _set_torn_line_aside(path)
                self._anchor = verify(path)
        except OSError as problem:
            raise _unwritable(path, problem) from problem

    def append(self, entry: Mapping[str, Any], now: datetime | None = None) -> int:
        """Add a line and wait until the disk has it.

        Args:
            entry: what is recorded; plain values.
            now: the time; the clock's where None.

        Returns:
            The line's number.

        Raises:
            AuditError: where it cannot be written, or somebody else has written to the file.
        """
        moment = (datetime.now(UTC) if now is None else now).isoformat(timespec="seconds")
        try:
            with self._lock, _locked(self._path):
                self._check_untouched()
                head = {"number": self._anchor.lines + 1, "previous": self._anchor.head}
                line = _encode({**head, "time": moment, **entry})
                after = Anchor(self._anchor.lines + 1, _hash(line))
                with _all_or_nothing(self._path) as handle:
                    if os.write(handle, line + b"\n") != len(line) + 1:
                        raise OSError(None, "the disk took half a line; is it full?")
                    os.fsync(handle)
                    write_text(anchor_path(self._path), f"{after}\n")
                self._anchor = after
        except OSError as problem:
            raise _unwritable(self._path, problem) from problem
        if self._written is not None:
            self._written(after)
        return after.lines

    @property
    def anchor(self) -> Anchor:
        """The log's anchor after the last line of this process."""
        return self._anchor

    def since(self, moment: datetime) -> Iterator[dict[str, Any]]:
        """Give the entries from a moment on, the oldest first."""
        return entries_since(self._path, moment)

    def _check_untouched(self) -> None:
        last = _last_line(self._path)
        if (BEGINNING if last is None else _hash(last)) != self._anchor.head:
            raise AuditError(
                f"{self._path} was changed by somebody else; nothing leaves until it is looked "
                "into: `python -m client audit verify`"
            )


def anchor_now(path: Path, *kept: Anchor) -> Anchor:
    """Check a log as `verify` does, while nobody writes to it.

    Raises:
        AuditError: also where this process may not hold the log.
    """
    try:
        with _locked(path):
            return verify(path, *kept)
    except OSError as problem:
        raise AuditError(f"{path} cannot be read: {problem.strerror or problem}") from problem


def verify(path: Path, *kept: Anchor) -> Anchor:
    """Check a log from its first line to its last.

    Args:
        path: the file; an absent one is a log of no lines.
        kept: earlier anchors, all of which the log must still hold.

    Returns:
        The log's anchor, to be kept elsewhere.

    Raises:
        AuditError: naming the first line that is not as it was written, or what is missing.
    """
    anchors = list(kept)
    beside = anchor_path(path)
    if beside.is_file():
        anchors.append(Anchor.parse(beside.read_text(encoding="utf-8")))
    due = {anchor.lines: anchor.head for anchor in anchors}
    if any(due[anchor.lines] != anchor.head for anchor in anchors):
        raise AuditError(f"{path}: the anchors kept and the one beside the log are of two logs")
    number, head = 0, BEGINNING
    for number, line in enumerate(_lines(path), start=1):
        _check_line(path, number, line, head)
        head = _hash(line)
        if due.get(number, head) != head:
            raise AuditError(f"{path}: line {number} is not the one that the anchor was made for")
    most = max(due, default=0)
    if most and not path.exists():
        raise AuditError(
            f"{path} is not there, but {most} lines of it are anchored; was it removed?"
        )
    if number < most:
        raise AuditError(f"{path}: {most - number} lines are missing at the end, after {number}")
    # A crash may come between a line and its anchor, never between two lines.
    if beside.is_file() and number > anchors[-1].lines + 1:
        raise AuditError(f"{path}: {number - anchors[-1].lines} lines stand behind the anchor")
    if not beside.is_file() and number > 1:
        raise AuditError(f"{path}: its anchor {beside.name} is missing; was it removed?")
    return Anchor(number, head)


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Give the entries of a log, the oldest first, without checking their chain."""
    for number, line in enumerate(_lines(path), start=1):
        yield _decode(path, number, line)


def entries_since(path: Path, moment: datetime) -> Iterator[dict[str, Any]]:
    """Give the entries of a log from a moment on, without checking their chain."""
    for entry in read_entries(path):
        if datetime.fromisoformat(entry["time"]) >= moment:
            yield entry


def anchor_path(path: Path) -> Path:
    """Return where the anchor of a log lies."""
    return path.with_name(f"{path.name}.anchor")


def _check_line(path: Path, number: int, line: bytes, previous: str) -> None:
    entry = _decode(path, number, line)
    if entry.get("number") != number:
        raise AuditError(
            f"{path}: line {number} says it is number {entry.get('number')!r}; lines were removed, "
            "added or moved"
        )
    if entry.get("previous") != previous:
        raise AuditError(
            f"{path}: line {number} does not follow from the one before; line {max(number - 1, 1)} "
            "was changed"
        )
    if _encode(entry) != line:
        raise AuditError(f"{path}: line {number} is not written as the node writes it")


def _decode(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        datetime.fromisoformat(entry["time"])
    except (ValueError, TypeError, KeyError) as problem:
        raise AuditError(f"{path}: line {number} is not an entry; it was changed") from problem
    checked: dict[str, Any] = entry
    return checked


def _lines(path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def _last_line(path: Path) -> bytes | None:
    """The last whole line, read from the end: a log of years must not be read for each message."""
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


def _set_torn_line_aside(path: Path) -> None:
    """Move a line that a crash left half written: what it was about had not been sent yet."""
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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a log against other processes; a lock file, since the log itself may be moved."""
    lock = path.with_name(f"{path.name}.lock")
    handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _all_or_nothing(path: Path) -> Iterator[int]:
    """Open a log for one more line; where the block fails, the log is as it was before."""
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


def _encode(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _hash(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def _unwritable(path: Path, problem: OSError) -> AuditError:
    return AuditError(
        f"the audit log {path} cannot be written ({problem.strerror or problem}); "
        "nothing leaves without it"
    )
