"""The code that runs is the code that was approved, and it ends with its message.

A hostile coordinator and a hostile app against the processes of a site: its SuperExec, the process
that forks, the supervisor of a message and the app itself.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from client.dry_run import egress_report
from client.node.isolation.network_sandbox import FAILED
from common.flower.environment import flower_environment
from tests.attacks.scenarios.hostile_apps import LINGER, LOOK, PLANTED, TELL, app
from tests.attacks.scenarios.local_node import LocalNode
from tests.client.node.hospital import make_hospital, other_bundle
from tests.samples.federation import tiny_run

PREFIX = 8
"""Hexadecimal digits of the hash by which Flower names the folder that it unpacks into."""


@pytest.mark.slow
def test_a_bundle_whose_hash_begins_like_an_approved_one_runs_itself(
    node: LocalNode, tmp_path: Path
) -> None:
    """Each message is unpacked anew, whatever was unpacked before.

    Before: the second bundle's message ran the first one's code.
    """
    told = tmp_path / "told"
    bundles = [app(tmp_path / word, TELL, told=told, word=word) for word in ("first", "second")]
    first, second = same_prefix(*bundles)
    assert hashlib.sha256(first).hexdigest()[:PREFIX] == hashlib.sha256(second).hexdigest()[:PREFIX]
    node.ask(first)
    assert told.read_text() == "first"
    node.ask(second)
    assert told.read_text() == "second"


def same_prefix(one: bytes, other: bytes) -> tuple[bytes, bytes]:
    """Two bundles whose SHA-256 begin alike: one of each that differ in the archive's comment."""
    begun = [hashlib.sha256(with_comment(bundle, 0)[:-PREFIX]) for bundle in (one, other)]
    seen = {digest(begun[0], number): number for number in range(2**18)}
    for number in range(2**24):
        if (found := seen.get(digest(begun[1], number))) is not None:
            return with_comment(one, found), with_comment(other, number)
    raise AssertionError("no two begin alike")


def digest(begun: hashlib._Hash, number: int) -> str:
    whole = begun.copy()
    whole.update(b"%08d" % number)
    return whole.hexdigest()[:PREFIX]


def with_comment(bundle: bytes, number: int) -> bytes:
    made = io.BytesIO(bundle)
    with zipfile.ZipFile(made, "a") as archive:
        archive.comment = b"%08d" % number
    return made.getvalue()


@pytest.mark.slow
def test_what_an_app_changes_in_its_unpacked_copy_is_gone(node: LocalNode, tmp_path: Path) -> None:
    """The next message of the same bundle runs what was approved.

    Before: it ran the edited copy.
    """
    told = tmp_path / "told"
    edit = (
        TELL
        + "own = Path(__file__)\n"
        + "own.write_text(own.read_text().replace({word!r}, 'edited', 1))\n"
        + "Path({folder!r}).write_text(str(own.parents[1]))\n"
    )
    bundle = app(tmp_path / "b", edit, told=told, word="approved", folder=tmp_path / "folder")
    node.ask(bundle)
    unpacked = Path((tmp_path / "folder").read_text())
    node.ask(bundle)
    assert told.read_text() == "approved"
    assert Path((tmp_path / "folder").read_text()) != unpacked
    assert not unpacked.exists()


@pytest.mark.slow
def test_a_run_cannot_name_a_folder_elsewhere(node: LocalNode, tmp_path: Path) -> None:
    """The id and version of a run are compared with the bundle's own, in the app's process too.

    Before: `fab_id="/"` and `fab_version="/../planted"` loaded a folder beside FLWR_HOME.
    """
    told = tmp_path / "told"
    bundle = app(tmp_path / "b", TELL, told=told, word="approved")
    prefix = hashlib.sha256(bundle).hexdigest()[:PREFIX]
    shutil.copytree(tmp_path / "b", tmp_path / f"planted.{prefix}")
    planted = tmp_path / f"planted.{prefix}" / "client" / "app" / "client_app.py"
    planted.write_text(PLANTED.format(told=str(told)))
    # From wherever the app is unpacked, up to the root.
    version = f"/{'../' * 20}{(tmp_path / 'planted').relative_to('/')}"
    node.ask(bundle, fab_id="/", fab_version=version)
    assert not told.exists()


@pytest.mark.slow
def test_nothing_is_imported_from_where_the_processes_run(node: LocalNode, tmp_path: Path) -> None:
    """No process of ours imports code from the working directory, in which an app may write.

    Before: `python -m client` imported the `client/` there.
    """
    told = tmp_path / "told"
    node.ask(app(tmp_path / "b", TELL, told=told, word="approved"))
    assert told.read_text() == "approved"
    assert not (node.folder / "imported").exists()
    assert flower_environment()["PYTHONSAFEPATH"] == "1"
    for module in (
        "client.node.isolation.network_sandbox",
        "client.node.isolation.message_process",
    ):
        done = subprocess.run(
            [sys.executable, "-P", "-m", module, str(tmp_path / "none"), "--help"],
            cwd=node.folder / "state",
            env=node.environment,
            input=b"",
            capture_output=True,
            check=False,
        )
        assert b"planted" not in done.stderr
        if module == "client.node.isolation.network_sandbox":
            assert done.returncode in (0, FAILED)
    assert not (node.folder / "imported").exists()


@pytest.mark.slow
def test_what_an_app_leaves_running_is_gone_before_the_next_message(
    node: LocalNode, tmp_path: Path
) -> None:
    """The next app finds no process of the one before, even a detached one.

    Before: a process that was forked twice, in a session of its own, lived on.
    """
    told, looked = tmp_path / "told", tmp_path / "looked"
    node.ask(app(tmp_path / "a", LINGER, told=told))
    node.ask(app(tmp_path / "b", LOOK, told=told, looked=looked))
    assert looked.read_text() == "gone"


@pytest.mark.slow
def test_it_is_gone_with_its_own_message_too(node: LocalNode, tmp_path: Path) -> None:
    """No other message has to come for that.

    Before: it lived until it ended by itself.
    """
    told = tmp_path / "told"
    node.ask(app(tmp_path / "a", LINGER, told=told))
    left = Path("/proc") / told.read_text()
    deadline = time.monotonic() + 20
    while left.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_it_is_gone_before_a_dry_runs_page_is_written(
    tmp_path: Path, tiny_bolt: Path, tiny_cohort: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that a bundle leaves running cannot change the report of the dry run.

    Before: it was there while the page was written, and after.
    """
    told = tmp_path / "told"
    config = tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run")
    hospital = make_hospital(tmp_path, tiny_cohort / "sites" / "micu.parquet", config)
    hospital.approve(app(tmp_path / "a", LINGER, told=told))
    alive: list[bool] = []
    write = egress_report.write_dry_run

    def look_and_write(*arguments: Any) -> None:
        alive.append(Path(f"/proc/{told.read_text()}").exists())
        write(*arguments)

    monkeypatch.setattr(egress_report, "write_dry_run", look_and_write)
    assert hospital.call() == 20  # its answer is none
    assert alive == [False]


def test_a_dry_run_whose_supervisor_was_killed_writes_no_page(
    tmp_path: Path,
    tiny_bolt: Path,
    tiny_cohort: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """If processes of a bundle may still be running, the dry run reports nothing.

    Before: remaining processes were not checked.
    """
    config = tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run")
    hospital = make_hospital(tmp_path, tiny_cohort / "sites" / "micu.parquet", config)
    hospital.approve(other_bundle(tmp_path / "a"))
    killed = tmp_path / "python"
    killed.write_text("#!/bin/sh\nkill -KILL $$\n")
    killed.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(killed))
    assert hospital.call() == 22
    assert "the supervisor of the app's processes ended with -9" in capsys.readouterr().err
    assert not (tmp_path / "out/what-would-leave.md").exists()
