"""One message of the node: the app's process, and the keeper that outlives it.

The keeper unpacks nothing and runs nothing of the app. It starts the app in a session of its own,
waits for its end, kills whatever the app has left running, takes away the folder that was made for
this message alone, and ends. So nothing of a message is there when the next one begins: no process,
and no unpacked bundle that could be taken for the next one's.

    python -P -m client.node.isolation.message_process < JSON: {"arguments": [...], "hidden": [...],
    "parent": PID}

is a keeper by itself; `client.node.isolation.fork_server` forks one for each message.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from flwr.supernode.cli import flwr_clientapp
from flwr.supernode.runtime import run_clientapp

from client.node.isolation.landlock import landlock_version, restrict_files
from client.node.isolation.linux import adopt_orphans, end_descendants, end_with_parent, hide_memory
from client.policy.bundle_identity import check_run_bundle

PREFIX = "fedvitals-message-"
OURS = frozenset({"client", "common", "server", "simulation"})
"""Packages that the bundle brings, and that must not be there before it."""
_SIGNALS = frozenset({signal.SIGCHLD, signal.SIGTERM, signal.SIGINT})

log = logging.getLogger("flwr.fedvitals.client")


def message_folder(base: Path | None = None) -> Path:
    """Make a folder for one message, which nobody else may enter.

    Args:
        base: where; None = where temporary files go.
    """
    return Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))


def forget_own_modules() -> None:
    """Make way for the bundle's modules of the same names; functions that are at work stay."""
    for name in list(sys.modules):
        if name.partition(".")[0] in OURS:
            del sys.modules[name]


def keep(arguments: Sequence[str], folder: Path, hidden: Sequence[Path]) -> None:
    """Run the app for one message, and return when nothing of it is left.

    SIGTERM ends it early.

    Args:
        arguments: the command line of `flwr-clientapp`, its name first.
        folder: of this message alone; it is removed.
        hidden: files that the app shall not read.
    """
    held = adopt_orphans()
    hide_memory()
    _leave_input()
    # Waited for, and not handled: nothing can come between the app's end and its descendants'.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    keeper = os.getpid()
    app = os.fork()
    if app == 0:
        _be_the_app(arguments, folder, hidden, keeper)
    _wait_for(app)
    if not held:
        _kill_group(app)
    end_descendants()
    shutil.rmtree(folder, ignore_errors=True)


def _leave_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)


def _wait_for(app: int) -> None:
    """Return when the app's first process has ended, or this one is told to end."""
    while signal.sigwait(_SIGNALS) == signal.SIGCHLD:
        # WNOWAIT: its number stays its own, for the group to be killed by it.
        if os.waitid(os.P_PID, app, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return


def _kill_group(app: int) -> None:
    """Without a subreaper, so not on Linux: who has left the app's session is not found."""
    log.warning("processes that the app has put into another session live on: this is no Linux")
    try:
        os.killpg(app, signal.SIGKILL)
    except ProcessLookupError:
        return


def _be_the_app(
    arguments: Sequence[str], folder: Path, hidden: Sequence[Path], keeper: int
) -> NoReturn:
    """Be what `flwr-clientapp` is: take one message, run the app, push the reply, end."""
    code = 1
    try:
        os.setsid()
        end_with_parent(keeper, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        _take_nothing_along(folder)
        if not restrict_files(hidden) and landlock_version():
            log.warning("the app can read one of %s", ", ".join(map(str, hidden)))
        run_clientapp.pull_task_input = _checked(run_clientapp.pull_task_input)
        forget_own_modules()
        sys.argv = list(arguments)
        flwr_clientapp()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:  # never back into the keeper's own code
        with suppress(Exception):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _take_nothing_along(folder: Path) -> None:
    """Close what is the keeper's; unpack and write temporary files in the message's folder."""
    for file in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        if file > 2:
            with suppress(OSError):  # that of the list itself is closed already
                os.close(file)
    for name, part in (("FLWR_HOME", "flower"), ("TMPDIR", "tmp")):
        (folder / part).mkdir(mode=0o700)
        os.environ[name] = str(folder / part)
    tempfile.tempdir = None  # it is remembered from before


def _checked(pull: Any) -> Any:
    """Wrap Flower's fetching of a message's run and bundle: they have to belong together."""

    def pull_task_input(client: Any) -> Any:
        message, context, run, bundle = pull(client)
        check_run_bundle(run.fab_id, run.fab_version, run.fab_hash, bundle.content)
        return message, context, run, bundle

    return pull_task_input


def main() -> None:
    """Be the keeper of the one message that standard input tells of."""
    order = json.loads(sys.stdin.buffer.read())
    end_with_parent(order["parent"], signal.SIGTERM)
    keep(order["arguments"], message_folder(), [Path(path) for path in order["hidden"]])


if __name__ == "__main__":
    main()
