"""Atomic writes of files and folders: under a temporary name, then renamed.

A process killed at any moment leaves at most a hidden `.<name>.<random>.partial` beside the target,
which no reader of fedvitals accepts; the target is either the old or the new version.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.files.private import Access, create_private_file, grant, make_private_folder

PARTIAL_SUFFIX = ".partial"


@contextmanager
def atomic_file(target: Path, access: Access | None = None) -> Iterator[Path]:
    """Yield a temporary path; rename it to `target` when the block ends without an error.

    Args:
        target: the file to create or replace; its folder is created if absent.
        access: who may read the file and its folder if created; None = as the umask says.

    Yields:
        A path in the same folder, of no file yet, or with `access` of an empty private file.
    """
    if access is None:
        target.parent.mkdir(parents=True, exist_ok=True)
    else:
        make_private_folder(target.parent, access)
    partial = _partial_name(target)
    try:
        if access is not None:
            create_private_file(partial)
        yield partial
        if access is not None:
            grant(partial, access)
        _flush(partial)
        partial.replace(target)
    except OSError as error:
        _name_file(error, target)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path, access: Access | None = None) -> Iterator[Path]:
    """Yield an empty folder; move it to `target` when the block ends without an error.

    An existing `target` is renamed first and removed last: a crash between the two renames loses
    neither the old content nor the new one.

    Args:
        target: the folder to create or replace; of a link, the folder that it points to.
        access: who may read the folder and all that is in it; None = as the umask says.

    Yields:
        An empty folder beside the target; with `access` it is its owner's alone.
    """
    target = real_folder(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_name(target)
    partial.mkdir(mode=0o777 if access is None else 0o700)
    try:
        yield partial
        if access is not None:
            grant(partial, access)
        for path in partial.rglob("*"):
            if path.is_file():
                _flush(path)
        _swap(partial, target)
    except OSError as error:
        _name_file(error, target)
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def real_folder(target: Path) -> Path:
    """Return the absolute path of a folder with its links resolved; it need not exist."""
    return Path(os.path.realpath(target))


def write_text(target: Path, text: str, access: Access | None = None) -> None:
    """Write a text file atomically, in UTF-8, with its newlines unchanged; see `atomic_file`."""
    with atomic_file(target, access) as partial:
        partial.write_bytes(text.encode())


def write_private(target: Path, content: str | bytes) -> None:
    """Write a file atomically, readable only by its owner from its first byte on."""
    with atomic_file(target) as partial:
        partial.touch(0o600, exist_ok=False)
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def _partial_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")


def _name_file(error: OSError, target: Path) -> None:
    """Add the file to the system's error of a write or a flush, which names none."""
    if error.errno is not None and error.filename is None:
        error.filename = str(target)


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
