"""A process that has torch loaded and forks itself for each message.

Flower starts a process for every message, whose imports alone take five seconds and more. This one
imports once and then only forks, a few milliseconds a message. Nothing of the app is kept from one
message to the next: what is loaded beforehand are the libraries; our own modules are forgotten
again, so that each child takes them from the bundle that the site approved. What is forked is a
keeper (`client.node.isolation.message_process`), and no message begins before the former one's is
gone.

    python -P -m client.node.isolation.fork_server FOLDER [HIDDEN...] < lines of JSON

FOLDER takes the messages' own folders, HIDDEN are files that no app shall read, and each line holds
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
from client.node.isolation.message_process import forget_own_modules, keep, message_folder

PRELOADED = (
    "client.app.client_app",
    "common.backbones.chronos.chronos_bolt",
    "common.backbones.chronos.chronos2",
)
"""Modules whose import brings torch, transformers, peft, chronos and pandas."""

GRACE_S = 10.0
"""A node has one message in work. Where the next one is there, the one before has been answered, or
nobody waits for its answer any more: its app may end by itself, for which Flower takes 5 s at most,
and hangs after that."""
_KEEPER_S = 5.0
"""Then the keeper has this long to end all of it, before this process does so in its place."""

log = logging.getLogger("flwr.fedvitals.client")


def preload() -> None:
    """Import the libraries that the app needs, and forget our own modules."""
    for name in PRELOADED:
        importlib.import_module(name)
    forget_own_modules()


class Message:
    """A message in work: its keeper, by a handle that stands for no other process, and its folder.

    Args:
        arguments: of `flwr-clientapp`.
        base: where its folder is made.
        hidden: files that its app shall not read.
    """

    def __init__(self, arguments: Sequence[str], base: Path, hidden: Sequence[Path]) -> None:
        self._folder = message_folder(base)
        server = os.getpid()
        keeper = os.fork()
        if keeper == 0:
            _keep(arguments, self._folder, hidden, server)
        self.handle = os.pidfd_open(keeper)

    def end(self) -> None:
        """Return when nothing of it is left; kill what is left after `GRACE_S`."""
        if not self._over(GRACE_S):
            log.warning("the app of the message before has not ended; it is killed")
            signal.pidfd_send_signal(self.handle, signal.SIGTERM)
            self._over(_KEEPER_S)
        self.clear()

    def clear(self) -> None:
        """Kill what the keeper has left, having been killed itself; nothing where it has ended."""
        end_descendants()
        os.close(self.handle)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _over(self, seconds: float) -> bool:
        return bool(select.select([self.handle], [], [], seconds)[0])


def _keep(arguments: Sequence[str], folder: Path, hidden: Sequence[Path], server: int) -> None:
    try:
        end_with_parent(server, signal.SIGTERM)
        keep(arguments, folder, hidden)
    except BaseException:
        traceback.print_exc()
    finally:  # never back into the loop
        os._exit(0)


def serve(base: Path, hidden: Sequence[Path]) -> None:
    """Fork for each line of standard input; with its end, end the message in work too."""
    # Unbuffered, or a child would hold the lines, and so the tokens, of the messages after its own.
    lines = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
    message: Message | None = None
    while True:
        watched = [lines.fileno(), *([message.handle] if message else [])]
        ready = select.select(watched, [], [])[0]
        if message is not None and message.handle in ready:
            message.clear()
            message = None
        elif line := lines.readline():
            if message is not None:
                message.end()
            message = Message(json.loads(line), base, hidden)
        else:
            break
    if message is not None:
        message.end()
    shutil.rmtree(base, ignore_errors=True)


def main() -> None:
    """Serve whoever has started this process."""
    adopt_orphans()
    hide_memory()
    preload()
    # A child's collector would go through all that is here, and so copy 130 MB of its pages: a
    # third of a second, as long as the rest of a short message takes.
    gc.freeze()
    serve(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])


if __name__ == "__main__":
    main()
