"""Format of the audit log, and its verification: JSON lines, each with the hash of the one before.

    {"number": 3, "previous": "<SHA-256 of line 2>", "time": "2026-03-02T09:30:00+00:00", …}

The anchor beside the log holds the number of lines and the hash of the last. `verify_log` finds a
line that was changed, removed, added or moved, and lines cut off at the end.

Whoever may write both files can cut the log and make the anchor fit, or write a new chain. Only an
anchor kept elsewhere reveals that: `client.egress.audit.anchor_shipping` signs anchors and ships
them, and `verify_log` accepts kept anchors to check against.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from common.errors import AuditError

BEGINNING = "0" * 64
"""The hash before the first line."""

_ANCHOR = re.compile(r"([0-9]{1,12}):([0-9a-f]{64})")


@dataclass(frozen=True)
class Anchor:
    """State of a log: its number of lines, and the SHA-256 of the last."""

    lines: int
    head: str

    def __str__(self) -> str:
        return f"{self.lines}:{self.head}"

    @classmethod
    def parse(cls, text: str) -> Anchor:
        """Parse the form that `str` gives; `AuditError` for anything else."""
        match = _ANCHOR.fullmatch(text.strip())
        if match is None:
            raise AuditError(f"an anchor is NUMBER:SHA256, as verify prints it, got {text!r}")
        return cls(int(match[1]), match[2])


def anchor_path(path: Path) -> Path:
    """Return the path of the anchor beside a log."""
    return path.with_name(f"{path.name}.anchor")


def verify_log(path: Path, *kept: Anchor) -> Anchor:
    """Verify a log from its first line to its last.

    Args:
        path: the file; an absent file is a log of no lines.
        kept: earlier anchors, which the log must still match.

    Returns:
        The log's anchor, to be kept elsewhere.

    Raises:
        AuditError: naming the first line that was changed, or what is missing.
    """
    anchors = list(kept)
    beside = anchor_path(path)
    if beside.is_file():
        anchors.append(Anchor.parse(beside.read_text(encoding="utf-8")))
    expected = {anchor.lines: anchor.head for anchor in anchors}
    if any(expected[anchor.lines] != anchor.head for anchor in anchors):
        raise AuditError(f"{path}: the anchors kept and the one beside the log are of two logs")
    number, head = 0, BEGINNING
    for number, line in enumerate(_lines(path), start=1):
        _check_line(path, number, line, head)
        head = line_hash(line)
        if expected.get(number, head) != head:
            raise AuditError(f"{path}: line {number} is not the one that the anchor was made for")
    most = max(expected, default=0)
    if most and not path.exists():
        raise AuditError(f"{path} is missing, but {most} lines of it are anchored; was it removed?")
    if number < most:
        raise AuditError(f"{path}: {most - number} lines are missing at the end, after {number}")
    # A crash can leave one line without its anchor, never two.
    if beside.is_file() and number > anchors[-1].lines + 1:
        raise AuditError(f"{path}: {number - anchors[-1].lines} lines were added after the anchor")
    if not beside.is_file() and number > 1:
        raise AuditError(f"{path}: its anchor {beside.name} is missing; was it removed?")
    return Anchor(number, head)


def _check_line(path: Path, number: int, line: bytes, previous: str) -> None:
    entry = _decode(path, number, line)
    if entry.get("number") != number:
        raise AuditError(
            f"{path}: line {number} has the number {entry.get('number')!r}; lines were removed, "
            "added or moved"
        )
    if entry.get("previous") != previous:
        raise AuditError(
            f"{path}: line {number} does not follow from the one before; line {max(number - 1, 1)} "
            "was changed"
        )
    if encode_entry(entry) != line:
        raise AuditError(f"{path}: line {number} is not written as the node writes it")


def read_entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a log, the oldest first, without verifying their chain."""
    for number, line in enumerate(_lines(path), start=1):
        yield _decode(path, number, line)


def entries_since(path: Path, moment: datetime) -> Iterator[dict[str, Any]]:
    """Yield the entries of a log from a moment on, without verifying their chain."""
    for entry in read_entries(path):
        if datetime.fromisoformat(entry["time"]) >= moment:
            yield entry


def encode_entry(entry: Mapping[str, Any]) -> bytes:
    """Return an entry as its line, without a line break."""
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def line_hash(line: bytes) -> str:
    """Return the SHA-256 of a line without its line break, in hexadecimal digits."""
    return hashlib.sha256(line).hexdigest()


def _lines(path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            yield line.rstrip(b"\n")


def _decode(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        entry = json.loads(line)
        datetime.fromisoformat(entry["time"])
    except (ValueError, TypeError, KeyError) as problem:
        raise AuditError(f"{path}: line {number} is not an entry; it was changed") from problem
    checked: dict[str, Any] = entry
    return checked
