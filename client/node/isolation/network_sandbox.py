"""Network sandbox of a dry run: a Linux network namespace with only a loopback interface.

A bundle may be tried before it is trusted. On Linux an unprivileged user can create a network
namespace inside a user namespace; the dry run starts in it. The services of the machine's own
loopback interface are not reachable there either. The sandbox does not cover files and Unix
sockets; only the node's key is hidden, by an empty file mounted over it. All privileges over the
namespace are dropped before anything runs.

    python -P -m client.node.isolation.network_sandbox KEY node --config site.toml --dry-run

runs a command of `python -m client` in the sandbox.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import UsageError
from common.interrupts import run_child

FAILED = 75
"""Exit code if the namespace could not be created, and nothing was run."""

_NEW_MOUNTS, _NEW_USER, _NEW_NETWORK = 0x0002_0000, 0x1000_0000, 0x4000_0000  # linux/sched.h
_BIND = 0x1000  # linux/mount.h
_DROP_BOUND, _NO_NEW_PRIVILEGES = 24, 38  # linux/prctl.h
_LAST_CAPABILITY = 63
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h
_LOOPBACK = "lo"


def in_network_sandbox() -> bool:
    """Return whether this process has no network except a loopback interface."""
    if not sys.platform.startswith("linux"):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        names = (name for _, name in socket.if_nameindex() if name != _LOOPBACK)
        return not any(_flags(one, name) & _UP for name in names)


def can_read(path: Path) -> bool:
    """Return whether this process can read a file that is not empty."""
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def run_in_sandbox(arguments: Sequence[str], key: Path) -> int:
    """Run a command of `python -m client` in a network sandbox.

    Args:
        arguments: the arguments of ``python -m client``.
        key: a file to hide from the command.

    Returns:
        Its exit code.

    Raises:
        UsageError: if it would run as root, or this machine allows no network namespace.
    """
    if os.geteuid() == 0:
        raise UsageError(
            "the bundle would run as root, which the sandbox cannot confine; start the dry run as "
            "the app's user, or give --unconfined if you trust the bundle"
        )
    command = [
        sys.executable,
        "-P",
        "-m",
        "client.node.isolation.network_sandbox",
        str(key),
        *arguments,
    ]
    code = run_child(command)
    if code == FAILED:
        raise UsageError(
            "the bundle cannot be sandboxed: this machine allows no network namespace; start the "
            "dry run without a network (docker run --network none, systemd-run -p "
            "PrivateNetwork=yes), or give --unconfined if you trust the bundle"
        )
    return code


def _enter(key: Path) -> None:
    """Move this process, which has one thread, into new namespaces.

    Raises:
        OSError: if that is not allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.geteuid(), os.getegid()
    _check(libc.unshare(_NEW_USER | _NEW_NETWORK | _NEW_MOUNTS))
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        request = struct.pack("16sH", _LOOPBACK.encode(), _flags(one, _LOOPBACK) | _UP)
        fcntl.ioctl(one, _SET_FLAGS, request.ljust(40, b"\0"))
    if can_read(key):
        empty, hidden = b"/dev/null", os.fsencode(key.resolve())
        _check(libc.mount(empty, hidden, None, ctypes.c_ulong(_BIND), None))
    _check(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    for capability in range(_LAST_CAPABILITY + 1):
        libc.prctl(_DROP_BOUND, capability, 0, 0, 0)  # fails for those that the kernel lacks


def _flags(one: socket.socket, name: str) -> int:
    answer = fcntl.ioctl(one, _GET_FLAGS, struct.pack("40s", name.encode()))
    return int(struct.unpack_from("H", answer, 16)[0])


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _main(key: Path, command: Sequence[str]) -> None:
    try:
        _enter(key)
    except (OSError, AttributeError):  # AttributeError: a system without these calls
        sys.exit(FAILED)
    if not in_network_sandbox() or can_read(key):
        sys.exit(FAILED)
    again = [sys.executable, "-P", "-m", "client", *command]
    os.execv(sys.executable, again)  # noqa: S606 (no shell)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2:])
