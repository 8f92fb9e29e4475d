"""Every descendant is found and ended, even a detached one."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from client.node.isolation import linux

PROGRAM = """
import ctypes, json, os, signal, time
from client.node.isolation import linux
SEARCH
assert linux.adopt_orphans()
reading, writing = os.pipe()

def tell(what):
    os.write(writing, f"{what} {os.getpid()}\\n".encode())

def gets_away():
    for _ in range(2):
        if os.fork():
            os._exit(0)
        os.setsid()
    for number in range(1, 31):
        if number not in (9, 19):
            signal.signal(number, signal.SIG_IGN)
    linux.hide_memory()
    tell("away")
    time.sleep(600)

def forks_on():
    # A new process each time, gone before anybody could signal it.
    tell("chain")
    while os.fork() == 0:
        pass
    os._exit(0)

def child(does):
    if os.fork() == 0:
        does()

child(lambda: time.sleep(600))
child(gets_away)
child(gets_away)
child(forks_on)
said = b""
while said.count(b"away") < 2 or said.count(b"chain") < 1:
    said += os.read(reading, 1000)
linux.end_descendants()
alive = [line.split()[1] for line in said.decode().splitlines()]
alive = [pid for pid in alive if os.path.exists(f"/proc/{pid}")]
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    alive.append("none")
print(json.dumps(alive))
"""


@pytest.mark.skipif(not linux.ON_LINUX, reason="needs a subreaper")
@pytest.mark.parametrize("search", ["", "linux._children = linux._children_by_search"])
def test_nobody_gets_away(search: str) -> None:
    command = [sys.executable, "-c", PROGRAM.replace("SEARCH", search)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert json.loads(done.stdout) == ["none"]


def test_elsewhere_there_are_no_such_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linux, "ON_LINUX", False)
    assert not linux.adopt_orphans()
    assert not linux.hide_memory()
