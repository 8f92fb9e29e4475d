"""Code of hostile apps, and bundles that run it."""

from __future__ import annotations

from pathlib import Path

from tests.client.node.hospital import other_bundle

PLANTED = "from pathlib import Path\nPath({told!r}).write_text('planted')\n"
TELL = "from pathlib import Path\nPath({told!r}).write_text({word!r})\n"

LINGER = """
import os, time
from pathlib import Path
told = Path({told!r})
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        told.with_suffix(".new").write_text(str(os.getpid()))
        told.with_suffix(".new").rename(told)
        time.sleep(600)
    os._exit(0)
while not told.exists():
    time.sleep(0.01)
"""
"""Leaves a process behind that is in no group of the app's, and goes on when it has begun."""

LOOK = """
import os
from pathlib import Path
pid = Path({told!r}).read_text()
Path({looked!r}).write_text("alive" if os.path.exists(f"/proc/{{pid}}") else "gone")
"""

STEAL = """
import json, os, urllib.request
from pathlib import Path
secret, got = {secret!r}.encode(), {{}}

def attempt(name, does):
    try:
        got[name] = does()
    except OSError as problem:
        got[name] = type(problem).__name__

def above():
    pid = os.getppid()
    while pid > 1:
        yield pid
        status = Path(f"/proc/{{pid}}/stat").read_text()
        pid = int(status.rpartition(")")[2].split()[1])
        if Path(f"/proc/{{pid}}/comm").read_text().startswith("pytest"):
            return

pids = list(above())[:3]
attempt("file", lambda: Path({file!r}).read_text())
attempt("environment", lambda: secret in str(os.environ).encode() + b"".join(
    Path(f"/proc/{{pid}}/cmdline").read_bytes() for pid in pids))
for number, pid in enumerate(pids):
    attempt(f"memory {{number}}", lambda: bool(open(f"/proc/{{pid}}/mem", "rb")))
    attempt(f"files {{number}}", lambda: os.open(f"/proc/{{pid}}/fd/0", os.O_RDONLY))
    attempt(f"signal {{number}}", lambda: os.kill(pid, 0))
files = [os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.exists()]
got["own files"] = [name for name in files if name.startswith(("pipe:", {root!r}))]
got["table"] = Path({table!r}).read_text()
Path({told!r}).write_text(json.dumps(got))
"""

HIDE = """
from pathlib import Path
for hidden in map(Path, {hidden!r}.split(":")):
    rename, write = lambda: hidden.rename(hidden.with_name("taken")), lambda: hidden.write_text("x")
    for act in (rename, write):
        try:
            act()
        except OSError:
            pass
"""
"""Renames and overwrites hidden files, which the next message's sandbox would find by name."""

FIND = """
from pathlib import Path
found = []
for path in Path({folder!r}).iterdir():
    try:
        found.append(path.read_text())
    except OSError:
        pass
Path({told!r}).write_text("\\n".join(found))
"""


def plant(folder: Path, told: Path) -> None:
    """Write packages of our names into a folder; they write a file when they are imported."""
    for package in ("client", "common", "server", "flwr", "torch"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(PLANTED.format(told=str(told)))


def app(where: Path, first: str, **values: Path | str) -> bytes:
    """A bundle that does something when it is loaded."""
    texts = {name: str(value) for name, value in values.items()}
    return other_bundle(where, first=first.format(**texts))
