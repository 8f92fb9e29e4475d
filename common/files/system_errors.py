"""Errors of the operating system that end a command: a full disk, a missing right, no memory.

Libraries wrap them: DuckDB and safetensors raise exceptions of their own that have the system's
words in their text.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from common.errors import FedvitalsError

REMEDIES = {
    errno.ENOSPC: "make room on that disk, or write to another",
    errno.EDQUOT: "make room within your quota, or write to another disk",
    errno.EFBIG: "write to a disk and with limits that allow larger files",
    errno.EROFS: "write to another folder",
    errno.EACCES: "change its permissions, or use another",
    errno.EPERM: "change its permissions, or use another",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "give a file",
    errno.EEXIST: "use another name",
    errno.ENOTEMPTY: "use another folder",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs: the machine has too many open files",
    errno.ENOMEM: "close other programs, or use a machine with more memory",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the network folder",
}
"""Advice by the system's error number. Other numbers are a defect, or another kind of error."""

_WRAPPED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EMFILE)
"""Numbers that are looked for in the text of other exceptions."""


class OperatingSystemError(FedvitalsError):
    """The operating system does not allow it: a full disk, a missing right, too little memory."""

    exit_code = 12


def system_error(error: BaseException) -> OperatingSystemError | None:
    """Return the operating system's error behind an exception; None if there is none.

    Args:
        error: any exception; its causes are looked at, too.
    """
    for one in causes(error):
        if isinstance(one, OSError) and one.errno in REMEDIES:
            files = [str(name) for name in (one.filename, one.filename2) if name is not None]
            place = f"{' -> '.join(files)}: " if files else ""
            return OperatingSystemError(f"{place}{os.strerror(one.errno)}; {REMEDIES[one.errno]}")
        if isinstance(one, MemoryError) or type(one).__name__ == "OutOfMemoryException":
            return OperatingSystemError(f"not enough memory; {REMEDIES[errno.ENOMEM]}")
        for number in _WRAPPED:
            if os.strerror(number).lower() in str(one).lower():
                return OperatingSystemError(f"{_first_line(one)}; {REMEDIES[number]}")
    return None


def is_interrupt(error: BaseException) -> bool:
    """Return whether an exception comes from Ctrl-C; DuckDB raises exceptions of its own for it."""
    return any(
        isinstance(one, KeyboardInterrupt)
        or type(one).__name__ == "InterruptException"
        or (type(one) is RuntimeError and str(one) == "Query interrupted")
        for one in causes(error)
    )


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those that led to it, the latest first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _first_line(error: BaseException) -> str:
    return next((line.strip(" .;") for line in str(error).splitlines() if line.strip()), "error")
