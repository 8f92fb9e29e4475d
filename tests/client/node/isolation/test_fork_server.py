"""The fork server preloads libraries, but none of our own modules."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[4]
PRELOAD = """
import json, sys
from client.node.isolation.fork_server import preload
from client.node.isolation.message_process import OURS
preload()
ours = sorted(name for name in sys.modules if name.partition(".")[0] in OURS)
print(json.dumps({"ours": ours, "torch": "torch" in sys.modules, "peft": "peft" in sys.modules}))
"""
SERVER = """
import gc, json, os, sys, time
from client.node.isolation import fork_server, message_process
fork_server.preload = lambda: None
fork_server.GRACE_S = 0.5
APP
message_process.flwr_clientapp = app
fork_server.main()
"""
TELL = """
def app():
    text, frozen = sys.stdin.read(), gc.get_freeze_count() > 0
    ours = [name for name in sys.modules if name.partition(".")[0] in message_process.OURS]
    said = {"arguments": sys.argv, "pid": os.getpid(), "stdin": text, "frozen": frozen}
    said |= {"home": os.environ["FLWR_HOME"], "fds": os.listdir("/proc/self/fd"), "ours": ours}
    os.write(1, f"{json.dumps(said)}\\n".encode())
"""
HANG = """
def app():
    os.write(1, f"{sys.argv[1]} {os.getpid()}\\n".encode())
    time.sleep(0 if sys.argv[1] == "quick" else 600)
"""


def python(code: str, *arguments: str, given: str = "") -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, input=given, cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.slow
def test_libraries_are_loaded_and_our_own_modules_forgotten() -> None:
    assert json.loads(python(PRELOAD)) == {"ours": [], "torch": True, "peft": True}


def test_each_line_is_a_process_of_its_own_with_nothing_of_the_others(tmp_path: Path) -> None:
    lines = [["flwr-clientapp", "--token", str(number)] for number in range(3)]
    given = "".join(f"{json.dumps(line)}\n" for line in lines)
    folder = tmp_path / "messages"
    folder.mkdir()
    said = python(SERVER.replace("APP", TELL), str(folder), given=given).splitlines()
    apps = [json.loads(line) for line in said]
    assert [app["arguments"] for app in apps] == lines
    assert len({app["pid"] for app in apps}) == len({app["home"] for app in apps}) == len(lines)
    assert {app["stdin"] for app in apps} == {""}
    assert all(app["frozen"] for app in apps)
    # The last is that of the list itself.
    assert all(app["fds"] == ["0", "1", "2", "3"] for app in apps)
    assert all(app["ours"] == [] for app in apps)
    assert all(Path(app["home"]).is_relative_to(folder) for app in apps)
    assert not folder.exists()


def test_an_app_that_hangs_is_killed_before_the_next_message(tmp_path: Path) -> None:
    (tmp_path / "messages").mkdir()
    command = [sys.executable, "-c", SERVER.replace("APP", HANG), str(tmp_path / "messages")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        before = 0
        for name in ("hangs", "quick", "hangs", "quick"):
            server.stdin.write(f"{json.dumps(['app', name])}\n")
            server.stdin.flush()
            said, pid = server.stdout.readline().split()
            assert said == name
            assert not before or not Path(f"/proc/{before}").exists()
            before = int(pid)
        server.stdin.close()


def test_what_the_supervisor_left_is_ended_where_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / "messages"
    folder.mkdir()
    killing = """
import signal
def app():
    supervisor = os.getppid()
    if os.fork() == 0:
        os.setsid()
        os.write(1, f"{supervisor} {os.getpid()}\\n".encode())
        time.sleep(600)
    time.sleep(600)
"""
    command = [sys.executable, "-c", SERVER.replace("APP", killing), str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write('["app"]\n')
        server.stdin.flush()
        supervisor, left = map(int, server.stdout.readline().split())
        subprocess.run(["kill", "-KILL", str(supervisor)], check=True)
        deadline = time.monotonic() + 20
        while Path(f"/proc/{left}").exists() or list(folder.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        server.stdin.close()
