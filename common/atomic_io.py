"""Atomic writes of files and folders: written under a temporary name, then renamed.

A process killed at any moment leaves at most a hidden `.<name>.<random>.partial` beside the target,
which fedvitals never reads; the target itself is either the old version or the new one.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL_SUFFIX = ".partial"


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Context manager that yields a path to write to, and renames it to `target` on success.

    Args:
        target: the file to create or to replace; its folder is created if absent.

    Yields:
        A path in the same folder that does not exist yet.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_name(target)
    try:
        yield partial
        _flush(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Context manager that yields an empty folder to fill, and renames it to `target` on success.

    An existing `target` is moved aside first and removed last: a crash between the two renames
    loses neither the old content nor the new one.

    Args:
        target: the folder to create or to replace.

    Yields:
        An empty folder beside the target.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_name(target)
    partial.mkdir()
    try:
        yield partial
        for path in partial.rglob("*"):
            if path.is_file():
                _flush(path)
        _swap(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write a text file atomically, in UTF-8 with its newlines unchanged."""
    with atomic_file(target) as partial:
        partial.write_bytes(text.encode())


def _partial_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")


def _flush(path: Path) -> None:
    # Without fsync a power cut can leave a renamed but empty file.
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _swap(new: Path, target: Path) -> None:
    if not target.exists():
        new.replace(target)
        return
    old = _partial_name(target)
    target.replace(old)
    try:
        new.replace(target)
    except OSError:
        old.replace(target)
        raise
    shutil.rmtree(old)
