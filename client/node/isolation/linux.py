"""Calls of the Linux kernel that hold a message's processes together and apart from ours.

Each returns whether the kernel has done it. Elsewhere than on Linux none of them is there: then a
message ends with its process group alone, and the log says so.
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
    """Become the parent of every descendant whose own parent ends (a "child subreaper")."""
    return _prctl(_SUBREAPER, 1)


def hide_memory() -> bool:
    """Keep other processes of this user out of this one's memory, environment and open files.

    Children that are forked stay hidden as well; a program that they start is not.
    """
    return _prctl(_DUMPABLE, 0)


def give_up_rights() -> bool:
    """Gain no rights by starting a program, for good: the kernel asks for it before a sandbox."""
    return _prctl(_NO_NEW_PRIVILEGES, 1)


def end_with_parent(parent: int, number: signal.Signals) -> bool:
    """Get a signal when the parent ends; end at once where it has ended already.

    Args:
        parent: its process id, read before this process was made.
        number: the signal.
    """
    done = _prctl(_PARENT_DEATH_SIGNAL, number)
    if os.getppid() != parent:
        os._exit(1)
    return done


def end_descendants() -> None:
    """Kill every process below this one, and return when there is none.

    This process must have called `adopt_orphans` and have no child that shall live. Whoever loses
    its parent becomes a child of this process, however it had left the group or the session, so
    that no child means no descendant. Children are read from the kernel's own list: one that is
    hidden from `/proc` stands in it too.
    """
    before: list[int] = []
    while not _reaped():
        children = _children()
        for child in children:
            os.kill(child, signal.SIGKILL)  # no other's: its number is kept until it is reaped
        if children == before:
            time.sleep(_PAUSE_S)  # they are dying; else new ones come, and no time is to be lost
        before = children


def _reaped() -> bool:
    """Take the dead children away; whether there are no others."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return not ON_LINUX  # where the living cannot be listed


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
        except OSError:  # it has ended meanwhile
            continue
        if state.rpartition(")")[2].split()[1] == own:  # behind the name, which may hold anything
            found.append(int(entry.name))
    return found


def _prctl(option: int, value: int) -> bool:
    if not ON_LINUX:
        return False
    none = ctypes.c_ulong(0)
    call = ctypes.CDLL(None, use_errno=True).prctl
    return bool(call(option, ctypes.c_ulong(value), none, none, none) == 0)
