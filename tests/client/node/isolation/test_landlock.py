"""Hidden files cannot be read or changed, all others can; no process outside is reachable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from client.node.isolation import landlock

PROGRAM = """
import json, os, sys
from pathlib import Path
from client.node.isolation.landlock import landlock_version, restrict_files

root, outside = Path(sys.argv[1]), int(sys.argv[2])
tried = {}

def attempt(name, does):
    try:
        tried[name] = str(does() or "done")
    except OSError as problem:
        tried[name] = type(problem).__name__

secret = root / "private" / "secret"
assert restrict_files([root / "link", root / "absent"])
attempt("secret", lambda: secret.read_text())
attempt("link", lambda: (root / "link").read_text())
attempt("second name", lambda: (root / "second").read_text())
attempt("through proc", lambda: Path(f"/proc/self/root{secret}").read_text())
attempt("renamed", lambda: secret.rename(secret.with_name("new")).read_text())
attempt("folder renamed", lambda: (root / "private").rename(root / "new"))
attempt("removed", lambda: secret.unlink())
attempt("written", lambda: secret.write_text("another"))
attempt("replaced", lambda: (root / "open" / "file").rename(secret))
attempt("linked", lambda: secret.with_name("third").hardlink_to(secret))
attempt("moved", lambda: secret.rename(root / "open" / "new"))
attempt("truncated", lambda: os.truncate(secret, 0))
attempt("beside", lambda: (root / "private" / "beside").read_text())
attempt("within", lambda: (root / "open" / "file").read_text())
attempt("made", lambda: (root / "open" / "made").write_text("1"))
(root / "open" / "deeper").mkdir()
attempt("changed", lambda: (root / "private" / "beside").write_text("changed"))
attempt("between folders", lambda: (root / "open" / "made").rename(root / "open" / "deeper" / "m"))
attempt("memory", lambda: Path(f"/proc/{outside}/mem").open("rb").read(1))
attempt("signal", lambda: os.kill(outside, 0))
attempt("own child", lambda: os.waitpid(os.spawnlp(os.P_NOWAIT, "cat", "cat", "/etc/hosts"), 0)[1])
print(json.dumps(tried))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (
        ("private/secret", "the secret"),
        ("private/beside", "beside"),
        ("open/file", "open"),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to("private/secret")
    (tmp_path / "second").hardlink_to(tmp_path / "private/secret")
    return tmp_path


@pytest.mark.skipif(landlock.landlock_version() == 0, reason="no Landlock on this machine")
def test_what_is_hidden_cannot_be_read_and_all_else_can(folder: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(folder), str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tried = json.loads(done.stdout.splitlines()[-1])
    denied = ("secret", "link", "second name", "through proc")
    assert {name: tried[name] for name in denied} == dict.fromkeys(denied, "PermissionError")
    kept = ("renamed", "folder renamed", "removed", "written", "replaced", "linked", "moved")
    for name in kept:
        assert tried[name] in ("OSError", "PermissionError"), name
    assert {path.name for path in (folder / "private").iterdir()} == {"secret", "beside"}
    if landlock.landlock_version() >= 3:
        assert tried["truncated"] == "PermissionError"
        assert (folder / "private" / "secret").read_text() == "the secret"
    assert (tried["beside"], tried["within"], tried["changed"]) == ("beside", "open", "7")
    assert tried["memory"] == "PermissionError"
    assert tried["own child"] == "done"
    if landlock.landlock_version() >= 2:
        assert tried["between folders"].endswith("/deeper/m")
    if landlock.landlock_version() >= 6:
        assert tried["signal"] == "PermissionError"


def test_without_landlock_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landlock, "_call", lambda *_: -1)
    assert landlock.landlock_version() == 0
    assert not landlock.restrict_files([folder / "private" / "secret"])
