"""A process that has torch loaded and forks itself for each message.

Flower starts a process for every message, whose imports alone take five seconds and more. This one
imports once and then only forks, a few milliseconds a message. Nothing of the app is kept from one
message to the next: what is loaded beforehand are the libraries; our own modules are forgotten
again, so that each child takes them from the bundle that the site approved.

    python -m client.host.fork_server < lines of JSON, each the arguments of `flwr-clientapp`
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import sys
from collections import deque

from flwr.supernode.cli import flwr_clientapp

PRELOADED = ("client.app", "common.backbones.chronos_bolt", "common.backbones.chronos2")
"""Modules whose import brings torch, transformers, peft, chronos and pandas."""
OURS = frozenset({"client", "common", "server", "simulation"})
"""Packages that the bundle brings, and that must not be there before it."""

KEPT = 2
"""A node has one message in work. Whoever works on the one before the last hangs."""


def preload() -> None:
    """Import the libraries that the app needs, and forget our own modules."""
    for name in PRELOADED:
        importlib.import_module(name)
    for name in list(sys.modules):
        if name.partition(".")[0] in OURS:
            del sys.modules[name]


def main() -> None:
    """Fork for each line of standard input; end when it ends, letting the children finish."""
    preload()
    # A child's collector would go through all that is here, and so copy 130 MB of its pages: a
    # third of a second, as long as the rest of a short message takes.
    gc.freeze()
    # The kernel takes the dead children away; nobody asks how they ended but the node.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    children: deque[int] = deque()
    # Unbuffered, or a child would hold the lines, and so the tokens, of the messages after its own.
    lines = open(sys.stdin.fileno(), "rb", buffering=0, closefd=False)  # noqa: SIM115
    for line in iter(lines.readline, b""):
        child = os.fork()
        if child == 0:
            _work(json.loads(line))
            return
        children.append(os.pidfd_open(child))
        if len(children) > KEPT:
            _end(children.popleft())


def _end(child: int) -> None:
    """Kill a process, by a handle that stands for no other, if it still is there."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(child, signal.SIGKILL)
    os.close(child)


def _work(arguments: list[str]) -> None:
    """Be what `flwr-clientapp` is: take one message, run the app, push the reply, end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, sys.stdin.fileno())
    os.close(null)
    sys.argv = arguments
    flwr_clientapp()


if __name__ == "__main__":
    main()
