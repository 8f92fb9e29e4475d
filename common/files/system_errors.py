"""Failures of the operating system as one line: a full disk, missing permissions, a closed pipe.

Libraries wrap them in exceptions of their own (DuckDB, Arrow, safetensors), in which the system's
message is all that is left: `describe_failure` also recognises it there.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import tempfile

from common.interrupts import causes

_FULL = "free space there, or give another folder"
_RIGHTS = "change its permissions, or give another folder"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: "raise the limit on a file's size (ulimit -f), or give another folder",
    errno.EROFS: "give another folder",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOENT: "check the path",
    errno.EISDIR: "give a file",
    errno.ENOTDIR: "a part of the path is a file; give another path",
    errno.EEXIST: "give another path",
    errno.ENAMETOOLONG: "give a shorter path",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "raise the limit on open files (ulimit -n)",
    errno.ENOMEM: "free memory, or use a machine with more",
    errno.EIO: "check the disk",
}
"""What to do, by error number."""

_WRAPPED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
"""Error numbers whose message is looked for in the exceptions of libraries."""

_QUOTED = re.compile(r"""['"]([^'"]+)['"]""")
_LONGEST = 200
_FULL_BYTES = 1 << 20


def describe_failure(error: BaseException) -> str | None:
    """Return what failed, on which file and what to do; None for any other exception.

    Args:
        error: an exception, whose causes are looked at as well.
    """
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno is not None:
            return _line(cause.errno, _name(cause) or _full_place(cause.errno))
        if isinstance(cause, MemoryError):
            return f"not enough memory; {_REMEDIES[errno.ENOMEM]}"
    for cause in causes(error):
        for number in _WRAPPED:
            if os.strerror(number) in str(cause):
                quoted = _QUOTED.search(str(cause))
                if quoted:
                    return _line(number, quoted[1])
                text = " ".join(str(cause).split())[:_LONGEST]
                return f"{text}; {_REMEDIES[number]}"
    return None


def is_closed_pipe(error: BaseException) -> bool:
    """Return whether the reader of standard output has ended, as `head` does."""
    return any(isinstance(cause, BrokenPipeError) for cause in causes(error))


def abandon_output() -> None:
    """Send what is still to be written to standard output nowhere.

    Python flushes it when it exits, and would report the failure a second time.
    """
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # no real file, as under a test
        return


def _line(number: int, name: str) -> str:
    reason = os.strerror(number)
    what = f"{name}: {reason}" if name else reason
    remedy = _REMEDIES.get(number)
    return f"{what}; {remedy}" if remedy else what


def _full_place(number: int) -> str:
    """Return the folder of temporary files where its disk is full: the error names no file."""
    if number not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    folder = tempfile.gettempdir()
    full = shutil.disk_usage(folder).free < _FULL_BYTES
    return f"the folder of temporary files, {folder} (TMPDIR)" if full else ""


def _name(error: OSError) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if _is_path(name)]
    return " -> ".join(names)


def _is_path(name: object) -> bool:
    return isinstance(name, (str, bytes)) and bool(name)
