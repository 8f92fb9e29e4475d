"""Fork server: a process with torch loaded that forks itself for each message.

Flower starts a process for every message, whose imports take five seconds and more. The fork server
imports once; each message then takes only a fork of a few milliseconds. Nothing of an app is kept
from one message to the next: only libraries are preloaded, and our own modules are unloaded again,
so that each child imports them from the approved bundle. Each fork is a supervisor
(`client.node.isolation.message_process`), and no message begins before the last one's supervisor is
gone.

    python -P -m client.node.isolation.fork_server FOLDER [HIDDEN...] < lines of JSON

FOLDER holds the messages' own folders, HIDDEN are files to hide from the app, and each line holds
the arguments of `flwr-clientapp`.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from client.node.isolation.linux import adopt_orphans, end_descendants, end_with_parent, hide_memory
from client.node.isolation.message_process import forget_own_modules, message_folder, supervise
from common.flower.log_colours import plain_flower_log

PRELOADED = (
    "client.app.client_app",
    "common.backbones.chronos.chronos_bolt",
    "common.backbones.chronos.chronos2",
)
"""Modules that import torch, transformers, peft, chronos and pandas."""

GRACE_S = 10.0
"""Time for an app to end by itself once the next message is there.

A node has one message in work, so the earlier one has been answered or has timed out. Flower takes
5 s at most to end an app; one that takes longer hangs."""
_SUPERVISOR_S = 5.0
"""Time for the supervisor to end all its processes, before this process does."""

log = logging.getLogger("flwr.fedvitals.client")


def preload() -> None:
    """Import the libraries that the app needs, and unload our own modules."""
    # Collections would look at half a million objects, all of which stay, again and again.
    gc.disable()
    for name in PRELOADED:
        importlib.import_module(name)
    gc.enable()
    forget_own_modules()


class RunningMessage:
    """A message in work: its supervisor, by a process handle (pidfd), and its folder.

    Args:
        arguments: the command line of `flwr-clientapp`.
        base: the folder in which its own is created.
        hidden: files to hide from its app.
    """

    def __init__(self, arguments: Sequence[str], base: Path, hidden: Sequence[Path]) -> None:
        self._folder = message_folder(base)
        server = os.getpid()
        supervisor = os.fork()
        if supervisor == 0:
            _supervise(arguments, self._folder, hidden, server)
        self.handle = os.pidfd_open(supervisor)

    def end(self) -> None:
        """Return when none of its processes is left; kill them after `GRACE_S`."""
        if not self._ends_within(GRACE_S):
            log.warning("the previous message's app has not ended; it is killed")
            signal.pidfd_send_signal(self.handle, signal.SIGTERM)
            self._ends_within(_SUPERVISOR_S)
        self.clear()

    def clear(self) -> None:
        """Kill any processes left by a supervisor that was itself killed; remove the folder."""
        end_descendants()
        os.close(self.handle)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ends_within(self, seconds: float) -> bool:
        return bool(select.select([self.handle], [], [], seconds)[0])


def _supervise(arguments: Sequence[str], folder: Path, hidden: Sequence[Path], server: int) -> None:
    try:
        end_with_parent(server, signal.SIGTERM)
        supervise(arguments, folder, hidden)
    except BaseException:
        traceback.print_exc()
    finally:  # never return into the loop
        os._exit(0)


def serve_messages(base: Path, hidden: Sequence[Path]) -> None:
    """Fork for each line of standard input; when it ends, end the message in work."""
    # Unbuffered, or a child would inherit the lines, and so the tokens, of later messages.
    lines = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
    message: RunningMessage | None = None
    while True:
        watched = [lines.fileno(), *([message.handle] if message else [])]
        ready = select.select(watched, [], [])[0]
        if message is not None and message.handle in ready:
            message.clear()
            message = None
        elif line := lines.readline():
            if message is not None:
                message.end()
            message = RunningMessage(json.loads(line), base, hidden)
        else:
            break
    if message is not None:
        message.end()
    shutil.rmtree(base, ignore_errors=True)


def main() -> None:
    """Run the fork server for the process that has started this one."""
    adopt_orphans()
    hide_memory()
    preload()
    plain_flower_log()
    # A child's garbage collector would touch all objects, and so copy 130 MB of pages: a third of
    # a second, as long as the rest of a short message takes.
    gc.freeze()
    serve_messages(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])


if __name__ == "__main__":
    main()
