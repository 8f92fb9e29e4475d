"""The warm process: libraries are there before the message, our own modules are not."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.host.fork_server import KEPT

REPOSITORY = Path(__file__).resolve().parents[3]
PRELOAD = """
import json, sys
from client.host.fork_server import OURS, preload
preload()
ours = sorted(name for name in sys.modules if name.partition(".")[0] in OURS)
print(json.dumps({"ours": ours, "torch": "torch" in sys.modules, "peft": "peft" in sys.modules}))
"""
FORK = """
import gc, json, os, sys
from client.host import fork_server
fork_server.preload = lambda: None
def app():
    text, frozen = sys.stdin.read(), gc.get_freeze_count() > 0
    said = {"arguments": sys.argv, "pid": os.getpid(), "stdin": text, "frozen": frozen}
    os.write(1, f"{json.dumps(said)}\\n".encode())
fork_server.flwr_clientapp = app
fork_server.main()
"""


def python(code: str, given: str = "") -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, input=given, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.slow
def test_libraries_are_loaded_and_our_own_modules_forgotten() -> None:
    assert json.loads(python(PRELOAD)) == {"ours": [], "torch": True, "peft": True}


def test_each_line_is_a_process_of_its_own_that_cannot_read_the_next() -> None:
    lines = [["flwr-clientapp", "--token", str(number)] for number in range(KEPT)]
    said = python(FORK, "".join(f"{json.dumps(line)}\n" for line in lines)).splitlines()
    apps = [json.loads(line) for line in said]
    assert sorted(app["arguments"] for app in apps) == lines
    assert len({app["pid"] for app in apps}) == KEPT
    assert {app["stdin"] for app in apps} == {""}
    assert all(app["frozen"] for app in apps)


HANG = """
import json, os, sys, time
from client.host import fork_server
fork_server.preload = lambda: None
def app():
    os.write(1, f"{sys.argv[1]} {os.getpid()}\\n".encode())
    time.sleep(0 if sys.argv[1] == "quick" else 600)
fork_server.flwr_clientapp = app
fork_server.main()
"""


def test_an_app_that_hangs_is_killed_two_messages_later() -> None:
    command = [sys.executable, "-c", HANG]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        pids = []
        for name in ("hangs", "quick", "quick"):
            server.stdin.write(f"{json.dumps(['app', name])}\n")
            server.stdin.flush()
            pids.append(int(server.stdout.readline().split()[1]))
        deadline = time.monotonic() + 20
        while Path(f"/proc/{pids[0]}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        server.stdin.close()
