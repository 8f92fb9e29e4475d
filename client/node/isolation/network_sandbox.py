"""A process without a way into any network: one of its own, with nothing but a loopback interface.

A bundle may be tried before it is trusted. On Linux a user may make a network of his own, in a user
namespace of its own, and starts the dry run in it; there the services of this machine's loopback
interface do not listen either. What such a namespace does not cover: files, and sockets that lie in
files. The node's key alone is laid out of sight, beneath an empty file. Before anything is run, all
rights over the namespace are given up for good.

    python -P -m client.node.isolation.network_sandbox KEY node --config site.toml --dry-run

runs a command of `python -m client` so.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from common.errors import UsageError

FAILED = 75
"""Exit code where the namespace could not be made, and nothing was run."""

_NEW_MOUNTS, _NEW_USER, _NEW_NETWORK = 0x0002_0000, 0x1000_0000, 0x4000_0000  # linux/sched.h
_BIND = 0x1000  # linux/mount.h
_DROP_BOUND, _NO_NEW_PRIVILEGES = 24, 38  # linux/prctl.h
_LAST_CAPABILITY = 63
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h
_LOOPBACK = "lo"


def shut_in() -> bool:
    """Whether this process has no network but a loopback interface."""
    if not sys.platform.startswith("linux"):
        return False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        names = (name for _, name in socket.if_nameindex() if name != _LOOPBACK)
        return not any(_flags(one, name) & _UP for name in names)


def can_read(path: Path) -> bool:
    """Whether this process could read anything in a file."""
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def run_shut_in(arguments: Sequence[str], key: Path) -> int:
    """Run a command of `python -m client` in a network of its own.

    Args:
        arguments: what stands behind ``python -m client``.
        key: a file that the command shall not see.

    Returns:
        Its exit code.

    Raises:
        UsageError: where it would run as root, or this machine does not allow a network of its own.
    """
    if os.geteuid() == 0:
        raise UsageError(
            "the bundle would run as root, whom nothing here shuts in; start the dry run as the "
            "app's user, or give --unconfined if you trust the bundle"
        )
    command = [
        sys.executable,
        "-P",
        "-m",
        "client.node.isolation.network_sandbox",
        str(key),
        *arguments,
    ]
    code = subprocess.run(command, check=False).returncode  # noqa: S603 (our own interpreter)
    if code == FAILED:
        raise UsageError(
            "the bundle cannot be shut in: this machine allows no network namespace; start the dry "
            "run without a network (docker run --network none, systemd-run -p PrivateNetwork=yes), "
            "or give --unconfined if you trust the bundle"
        )
    return code


def _enter(key: Path) -> None:
    """Move this process, which has one thread, into namespaces of its own.

    Raises:
        OSError: where that is not allowed.
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
        libc.prctl(_DROP_BOUND, capability, 0, 0, 0)  # fails for those that this kernel has not


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
    if not shut_in() or can_read(key):
        sys.exit(FAILED)
    again = [sys.executable, "-P", "-m", "client", *command]
    os.execv(sys.executable, again)  # noqa: S606 (no shell)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), sys.argv[2:])
