"""The code that runs is the code that was approved, and it ends with its message.

A hostile coordinator and a hostile app against the processes of a site: its SuperExec, the process
that forks, the keeper of a message and the app itself.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.cli.config_utils import get_fab_metadata
from hypothesis import given
from hypothesis import strategies as st

import client.node.supernode as node_module
from client.dry_run import egress_report
from client.node.isolation import landlock
from client.node.isolation.network_sandbox import FAILED
from client.policy.bundle_identity import check_run_bundle
from client.policy.refusal import RefusedError
from common.flower.environment import flower_environment
from tests.attacks.local_node import LocalNode
from tests.client.node.hospital import make_hospital, other_bundle
from tests.federation_samples import tiny_run

PREFIX = 8
"""Hexadecimal digits of the hash by which Flower names the folder that it unpacks into."""
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
"""Takes a hidden file's name away, by which the next message's fence would find it."""

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


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """A site whose processes run in a folder into which an app has written."""
    made = LocalNode(tmp_path_factory.mktemp("site"))
    plant(made.folder / "state", made.folder / "imported")
    with made.open(made.folder / "state"):
        yield made


def plant(folder: Path, told: Path) -> None:
    """Lay packages of our names into a folder; they tell when they are imported."""
    for package in ("client", "common", "server", "flwr", "torch"):
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(PLANTED.format(told=str(told)))


def app(where: Path, first: str, **values: Path | str) -> bytes:
    """A bundle that does something when it is loaded."""
    texts = {name: str(value) for name, value in values.items()}
    return other_bundle(where, first=first.format(**texts))


def same_prefix(one: bytes, other: bytes) -> tuple[bytes, bytes]:
    """Two bundles whose SHA-256 begin alike: one of each that differ in the archive's comment."""
    seen: dict[str, int] = {}
    beginnings = [with_comment(bundle, 0)[:-PREFIX] for bundle in (one, other)]
    for number in range(2**18):
        seen[digest(beginnings[0], number)] = number
    for number in range(2**24):
        if (found := seen.get(digest(beginnings[1], number))) is not None:
            return with_comment(one, found), with_comment(other, number)
    raise AssertionError("no two begin alike")


def digest(beginning: bytes, number: int) -> str:
    return hashlib.sha256(beginning + b"%08d" % number).hexdigest()[:PREFIX]


def with_comment(bundle: bytes, number: int) -> bytes:
    made = io.BytesIO(bundle)
    with zipfile.ZipFile(made, "a") as archive:
        archive.comment = b"%08d" % number
    return made.getvalue()


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
    """The id and version of a run are held against the bundle's own, in the app's process too.

    Before: `fab_id="/"` and `fab_version="/../planted"` loaded what lay beside FLWR_HOME.
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


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return other_bundle(tmp_path_factory.mktemp("bundle") / "app")


def test_a_run_says_of_its_bundle_what_the_bundle_says(bundle: bytes) -> None:
    """The bundle's own id, version and hash pass; any other are refused.

    Before: all three were the coordinator's to choose.
    """
    own = (*get_fab_metadata(bundle), hashlib.sha256(bundle).hexdigest())
    check_run_bundle(*own, bundle)
    for place, others in enumerate(
        (("/", "", "a/b", "../x", own[0].upper()), ("/../planted", "", "9"), ("", own[2][:8]))
    ):
        for other in others:
            said = [*own[:place], other, *own[place + 1 :]]
            with pytest.raises(RefusedError, match="the run gives"):
                check_run_bundle(said[0], said[1], said[2], bundle)
    with pytest.raises(RefusedError, match="is not an app bundle"):
        check_run_bundle(own[0], own[1], hashlib.sha256(b"no zip").hexdigest(), b"no zip")


@pytest.mark.parametrize(
    ("name", "version"),
    [("../x", "1"), ("a/b", "1"), ("x", "/../planted"), ("x", "1/.."), ("x", "1..2"), ("", "1")],
)
def test_a_bundle_cannot_name_a_folder_elsewhere_either(
    bundle: bytes, name: str, version: str
) -> None:
    """What a bundle calls itself has to be safe too.

    Before: it was made a path as it stood.
    """
    changed = renamed(bundle, name, version)
    with pytest.raises(RefusedError):
        check_run_bundle(f"fedvitals/{name}", version, hashlib.sha256(changed).hexdigest(), changed)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_two_texts_make_a_run_of_a_bundle(bundle: bytes, fab_id: str, version: str) -> None:
    """Whatever the coordinator writes, but the bundle's own, is refused.

    Before: any text with one slash was taken.
    """
    own = get_fab_metadata(bundle)
    if (fab_id, version) != own:
        with pytest.raises(RefusedError):
            check_run_bundle(fab_id, version, hashlib.sha256(bundle).hexdigest(), bundle)


def renamed(bundle: bytes, name: str, version: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(bundle)) as given_, zipfile.ZipFile(made, "w") as archive:
        for one in given_.namelist():
            content = given_.read(one)
            if one == "pyproject.toml":
                text = content.decode()
                own, own_version = get_fab_metadata(bundle)
                text = text.replace(f'name = "{own.split("/")[1]}"', f'name = "{name}"', 1)
                text = text.replace(f'version = "{own_version}"', f'version = "{version}"', 1)
                content = text.encode()
            archive.writestr(one, content)
    return made.getvalue()


@pytest.mark.slow
def test_nothing_is_imported_from_where_the_processes_run(node: LocalNode, tmp_path: Path) -> None:
    """The working directory, in which an app may write, gives no code to any process of ours.

    Before: `python -m client` imported the `client/` that lay there.
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
    """The next app finds no process of the one before, however that has detached itself.

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
    """What a bundle leaves running cannot change the page that says what it did.

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


def test_a_dry_run_whose_keeper_was_killed_writes_no_page(
    tmp_path: Path,
    tiny_bolt: Path,
    tiny_cohort: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where nobody knows what a bundle has left running, nothing is said about what it would send.

    Before: nobody asked what was left.
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


@pytest.mark.slow
@pytest.mark.skipif(landlock.landlock_version() == 0, reason="no Landlock on this machine")
def test_the_app_cannot_come_by_the_secret(node: LocalNode, tmp_path: Path) -> None:
    """Neither the file, nor command line, environment or open file, nor a process's memory has it.

    Before: the app could read app.secret, and a process that it left take the next bundle's task.
    """
    table = tmp_path / "table"
    table.write_text("rows")
    told, secret = tmp_path / "told", node.config.node.secret
    assert secret is not None
    paths = {"file": secret, "told": told, "table": table, "root": secret.parent}
    node.ask(app(tmp_path / "a", STEAL, secret=node.secret, **paths))
    got = json.loads(told.read_text())
    assert got.pop("table") == "rows"
    assert got.pop("own files") == []
    assert got.pop("environment") is False
    if landlock.landlock_version() < 6:
        got = {name: value for name, value in got.items() if not name.startswith("signal")}
    assert len(got) >= 1 + 3 * 2
    assert set(got.values()) == {"PermissionError"}, got
    assert secret.read_text() == node.secret


@pytest.mark.slow
@pytest.mark.skipif(landlock.landlock_version() == 0, reason="no Landlock on this machine")
def test_an_app_cannot_rename_the_secret_for_the_next_one_to_read(
    node: LocalNode, tmp_path: Path
) -> None:
    """In the folder of a hidden file an app renames and writes nothing, though it is its user's.

    Before: the first message renamed app.secret, and the second one read it.
    """
    told, secret = tmp_path / "told", node.config.node.secret
    assert secret is not None
    try:
        node.ask(app(tmp_path / "a", HIDE, hidden=secret))
        node.ask(app(tmp_path / "b", FIND, folder=secret.parent, told=told))
    finally:
        taken = secret.with_name("taken")
        if taken.exists():
            taken.replace(secret)
    assert node.secret not in told.read_text()
    assert secret.read_text() == node.secret


@pytest.mark.skipif(landlock.landlock_version() == 0, reason="no Landlock on this machine")
def test_a_dry_runs_app_cannot_read_or_exchange_the_sites_secrets(
    tmp_path: Path, tiny_bolt: Path, tiny_cohort: Path
) -> None:
    """A bundle on trial finds neither the app's secret nor a key that lies open to its user.

    Before: nothing was hidden from it: it could keep the secret for a process to come.
    """
    config = tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run")
    hospital = make_hospital(tmp_path, tiny_cohort / "sites" / "micu.parquet", config)
    private = tmp_path / "private"
    private.mkdir(exist_ok=True)
    for name in ("app.secret", "node.key"):
        (private / name).write_text("the secret")
    told = tmp_path / "told" / "file"
    told.parent.mkdir()
    hidden = ":".join(str(private / name) for name in ("app.secret", "node.key"))
    attack = HIDE.format(hidden=hidden) + FIND.format(folder=str(private), told=str(told))
    hospital.approve(other_bundle(tmp_path / "a", first=attack))
    hospital.call()
    assert "the secret" not in told.read_text()
    assert {path.read_text() for path in private.iterdir()} == {"the secret"}


def test_where_the_node_starts_the_app_its_key_and_policy_are_out_of_reach(tmp_path: Path) -> None:
    """The app runs as the node's user there, who may write the policy.

    Before: an app could approve the next one.
    """
    config = LocalNode(tmp_path).config
    command = node_module._app_command(config)
    assert command[-2:] == [str(config.node.key), str(config.site.policy)]
