"""Processes of one message: the app's process, and the supervisor that outlives it.

The supervisor unpacks and runs no code of the app. It starts the app in a new session, waits for
its end, kills every process that the app has left running, removes the message's folder, and ends.
When the next message begins, no process is left, and no unpacked bundle that could be mistaken for
the next one's.

    python -P -m client.node.isolation.message_process < JSON: {"arguments": [...], "hidden": [...],
    "parent": PID}

starts one supervisor; `client.node.isolation.fork_server` forks one for each message.
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
from common.interrupts import SIGNALS

OURS = frozenset({"client", "common", "server", "simulation"})
"""Packages that are in the bundle, and must not be loaded before it."""
_SIGNALS = frozenset({signal.SIGCHLD, *SIGNALS})

log = logging.getLogger("flwr.fedvitals.client")


def message_folder(base: Path | None = None) -> Path:
    """Create a folder for one message, which no other user may enter.

    Args:
        base: the folder to create it in; None = the folder of temporary files.
    """
    return Path(tempfile.mkdtemp(prefix="fedvitals-message-", dir=base))


def forget_own_modules() -> None:
    """Unload our modules, so that the bundle's are imported; running functions keep working."""
    for name in list(sys.modules):
        if name.partition(".")[0] in OURS:
            del sys.modules[name]


def supervise(arguments: Sequence[str], folder: Path, hidden: Sequence[Path]) -> None:
    """Run the app for one message, and return when none of its processes is left.

    A signal that ends a program ends it early.

    Args:
        arguments: the command line of `flwr-clientapp`, its name first.
        folder: this message's own folder; it is removed.
        hidden: files to hide from the app.
    """
    is_subreaper = adopt_orphans()
    hide_memory()
    _close_input()
    # Blocked and waited for: no handler runs between the app's end and its descendants'.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    supervisor = os.getpid()
    app = os.fork()
    if app == 0:
        _run_app(arguments, folder, hidden, supervisor)
    _wait_for(app)
    if not is_subreaper:
        _kill_group(app)
    end_descendants()
    shutil.rmtree(folder, ignore_errors=True)


def _close_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)


def _wait_for(app: int) -> None:
    """Return when the app's first process has ended, or this one receives a signal to end."""
    while signal.sigwait(_SIGNALS) == signal.SIGCHLD:
        # WNOWAIT: its id is not reused until its process group is killed.
        if os.waitid(os.P_PID, app, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return


def _kill_group(app: int) -> None:
    """Kill the app's process group: elsewhere than on Linux, other sessions cannot be found."""
    log.warning("not on Linux: processes that the app moved to another session keep running")
    try:
        os.killpg(app, signal.SIGKILL)
    except ProcessLookupError:
        return


def _run_app(
    arguments: Sequence[str], folder: Path, hidden: Sequence[Path], supervisor: int
) -> NoReturn:
    """Run `flwr-clientapp` in this process: pull one message, run the app, push the reply, exit."""
    code = 1
    try:
        os.setsid()
        end_with_parent(supervisor, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        _isolate_files(folder)
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
    finally:  # never return into the supervisor's code
        with suppress(Exception):
            logging.shutdown()
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _isolate_files(folder: Path) -> None:
    """Close inherited files; unpack bundles and put temporary files into the message's folder."""
    for file in [int(entry.name) for entry in Path("/dev/fd").iterdir()]:
        if file > 2:
            with suppress(OSError):  # the listing's own is closed already
                os.close(file)
    for name, part in (("FLWR_HOME", "flower"), ("TMPDIR", "tmp")):
        (folder / part).mkdir(mode=0o700)
        os.environ[name] = str(folder / part)
    tempfile.tempdir = None  # the cached value is the supervisor's


def _checked(pull: Any) -> Any:
    """Wrap Flower's pull of a message, and check that its run and its bundle belong together."""

    def pull_task_input(client: Any) -> Any:
        message, context, run, bundle = pull(client)
        check_run_bundle(run.fab_id, run.fab_version, run.fab_hash, bundle.content)
        return message, context, run, bundle

    return pull_task_input


def main() -> None:
    """Supervise one message, which standard input describes."""
    order = json.loads(sys.stdin.buffer.read())
    end_with_parent(order["parent"], signal.SIGTERM)
    supervise(order["arguments"], message_folder(), [Path(path) for path in order["hidden"]])


if __name__ == "__main__":
    main()
