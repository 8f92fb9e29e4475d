"""Checks of a command's output folder or file before its work begins."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from common.errors import FedvitalsError, UsageError
from common.files.atomic_io import real_folder

_PROBE_BYTES = 4096


def check_output(
    folder: Path,
    records: Collection[str] = (),
    *,
    replaced: bool = False,
    error: type[FedvitalsError] = UsageError,
    remedy: str = "give another folder with --out",
) -> None:
    """Refuse a folder that has files of someone else, or that cannot be written.

    A folder is free if it is absent, empty, or has one of `records`. Nothing of it is changed.

    Args:
        folder: the output folder.
        records: names of files or folders that only this kind of output has.
        replaced: whether the command replaces the folder, by one written beside it.
        error: class of the error.
        remedy: what the user can do.

    Raises:
        FedvitalsError: of class `error`, in one line.
    """
    if folder.is_dir():
        held = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
        if held and not set(held) & set(records):
            raise error(
                f"{folder} has files of another kind ({held[0]}) and no {_any_of(records)}; "
                f"{remedy}"
            )
    elif os.path.lexists(folder):
        raise error(f"{folder} is {_other_than_folder(folder)}; {remedy}")
    if replaced:
        check_replaceable(folder, error=error, remedy=remedy)
    else:
        check_writable(folder, error=error, remedy=remedy)


def check_replaceable(
    folder: Path,
    *,
    error: type[FedvitalsError] = UsageError,
    remedy: str = "free space or give another folder",
) -> None:
    """Refuse a folder, absent or not, that `atomic_folder` cannot create or replace.

    Args:
        folder: the folder.
        error: class of the error.
        remedy: what the user can do.

    Raises:
        FedvitalsError: of class `error`, in one line.
    """
    real = real_folder(folder)
    if os.path.lexists(real) and not real.is_dir():
        raise error(f"{folder} is {_other_than_folder(folder)}; {remedy}")
    if real.is_mount():
        raise error(f"{folder} is a mount point, which cannot be replaced; give a folder in it")
    _probe(real.parent, folder, error, remedy)


def _other_than_folder(path: Path) -> str:
    return "a file, not a folder" if path.exists() else "a link that points to no folder"


def check_output_file(
    file: Path, is_ours: Callable[[Path], bool], *, kind: str, remedy: str = "give another --out"
) -> None:
    """Refuse a file of someone else, a folder, or a place that cannot be written.

    Args:
        file: the output file; absent, or an earlier output of the same command, which is replaced.
        is_ours: whether an existing file is one; an `OSError`, `ValueError`
            or `UsageError` means that it is none.
        kind: the output's kind, e.g. ``app bundle``.
        remedy: what the user can do.

    Raises:
        UsageError: in one line.
    """
    if file.is_dir():
        raise UsageError(f"{file} is a folder; give a file's name, {remedy}")
    if os.path.lexists(file):
        try:
            ours = file.is_file() and is_ours(file)
        except (OSError, ValueError, UsageError):
            ours = False
        if not ours:
            raise UsageError(f"{file} exists and is no {kind}; {remedy}, or remove it first")
    check_writable(file.absolute().parent, remedy=remedy)


def check_writable(
    folder: Path,
    *,
    error: type[FedvitalsError] = UsageError,
    remedy: str = "free space or give another folder",
) -> None:
    """Refuse a folder, absent or not, in which no file can be written.

    It is found by writing: missing permissions, a full disk and a read-only file system alike.

    Args:
        folder: the folder.
        error: class of the error.
        remedy: what the user can do.

    Raises:
        FedvitalsError: of class `error`, in one line.
    """
    _probe(folder.absolute(), folder, error, remedy)


def _probe(present: Path, named: Path, error: type[FedvitalsError], remedy: str) -> None:
    while not os.path.lexists(present):
        present = present.parent
    try:
        with tempfile.NamedTemporaryFile(dir=present, prefix=".fedvitals-", buffering=0) as probe:
            probe.write(bytes(_PROBE_BYTES))
            os.fsync(probe.fileno())
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise error(f"{named} cannot be written ({reason}); {remedy}") from problem


def _any_of(records: Collection[str]) -> str:
    return " or ".join(records) if records else "output of this command"
