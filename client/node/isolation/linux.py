"""Linux system calls that control a message's processes and separate them from ours.

Each returns whether the kernel did it. On other systems none is available: then a message ends with
its process group only, and the log says so.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

_PARENT_DEATH_SIGNAL, _DUMPABLE, _SUBREAPER, _NO_NEW_PRIVILEGES = 1, 4, 36, 38  # linux/prctl.h
_PAUSE_S = 0.001

ON_LINUX = sys.platform.startswith("linux")


def adopt_orphans() -> bool:
    """Become a "child subreaper": the parent of every descendant whose own parent ends."""
    return _prctl(_SUBREAPER, 1)


def hide_memory() -> bool:
    """Hide this process's memory, environment and open files from the user's other processes.

    Forked children are hidden too; a program that they start is not.
    """
    return _prctl(_DUMPABLE, 0)


def set_no_new_privileges() -> bool:
    """Give up gaining privileges by starting a program; the kernel requires it for a sandbox."""
    return _prctl(_NO_NEW_PRIVILEGES, 1)


def end_with_parent(parent: int, number: signal.Signals) -> bool:
    """Receive a signal when the parent ends; exit at once if it has ended already.

    Args:
        parent: its process id, read before this process was forked.
        number: the signal.
    """
    done = _prctl(_PARENT_DEATH_SIGNAL, number)
    if os.getppid() != parent:
        os._exit(1)
    return done


def end_descendants() -> None:
    """Kill every descendant of this process, and return when there is none.

    This process must have called `adopt_orphans`, and no child of it may have to survive. A process
    that loses its parent becomes a child of this one, even if it left the group or the session, so
    no child means no descendant. Children are read from the kernel's list, which includes those
    that are hidden from `/proc`.
    """
    before: list[int] = []
    while not _reaped():
        children = _children()
        for child in children:
            os.kill(child, signal.SIGKILL)  # safe: its id is not reused until it is reaped
        if children == before:
            time.sleep(_PAUSE_S)  # they are dying; while new ones appear, kill without a pause
        before = children


def _reaped() -> bool:
    """Reap the dead children; return whether there are no others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return not ON_LINUX  # elsewhere living children cannot be listed


def _children() -> list[int]:
    lists = list(Path("/proc/self/task").glob("*/children"))
    if lists:
        return [int(child) for one in lists for child in one.read_text().split()]
    return _children_by_search()  # a kernel without CONFIG_PROC_CHILDREN


def _children_by_search() -> list[int]:
    own, found = str(os.getpid()), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state = (entry / "stat").read_text()
        except OSError:  # ended meanwhile
            continue
        if state.rpartition(")")[2].split()[1] == own:  # after the name, which may hold anything
            found.append(int(entry.name))
    return found


def _prctl(option: int, value: int) -> bool:
    if not ON_LINUX:
        return False
    none = ctypes.c_ulong(0)
    call = ctypes.CDLL(None, use_errno=True).prctl
    return bool(call(option, ctypes.c_ulong(value), none, none, none) == 0)
