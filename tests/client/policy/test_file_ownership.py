"""Files that decide what leaves: every way in which another user could change or replace one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import client.policy.file_ownership as own_file
from client.policy.file_ownership import (
    check_own_file,
    ownership_problem,
    read_own_bytes,
    read_own_text,
)
from common.errors import NodeError, PolicyError, UsageError

FOREIGN = 4242
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "etc" / "fedvitals"
    folder.mkdir(parents=True)
    for one in (folder, folder.parent):
        one.chmod(0o755)
    path = folder / "policy.toml"
    path.write_text("a = 1\n")
    path.chmod(0o644)
    return path


def refused(path: Path) -> str:
    with pytest.raises(PolicyError) as error:
        check_own_file(path, "site.policy", PolicyError)
    message = str(error.value)
    with pytest.raises(PolicyError) as other:
        read_own_text(path, "site.policy", PolicyError)
    assert str(other.value) == message
    assert message.startswith(f"site.policy = {path} ")
    return message


def mended(message: str) -> None:
    """Run the command that a message ends with."""
    subprocess.run(message.rpartition("; ")[2], shell=True, check=True)


def test_nothing_stays_open(file: Path) -> None:
    open_before = set(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        check_own_file(file, "site.policy", PolicyError)
        read_own_bytes(file, "site.policy", PolicyError)
        file.chmod(0o666)
        refused(file)
        file.chmod(0o644)
    assert set(Path("/proc/self/fd").iterdir()) == open_before


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o600, 0o400, 0o444])
def test_a_file_of_the_nodes_user_or_root_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    check_own_file(file, "site.policy", PolicyError)
    assert read_own_text(file, "site.policy", PolicyError) == "a = 1\n"
    assert read_own_bytes(file, "node.key", NodeError) == b"a = 1\n"


@pytest.mark.parametrize(("mode", "who"), [(0o664, "its group"), (0o646, "every user")])
def test_a_file_that_others_can_write_is_refused(file: Path, mode: int, who: str) -> None:
    file.chmod(mode)
    message = refused(file)
    assert f"can be written by {who}" in message
    mended(message)
    check_own_file(file, "site.policy", PolicyError)


def test_a_link_is_refused_whatever_it_leads_to(file: Path) -> None:
    link = file.with_name("link.toml")
    link.symlink_to(file)
    message = refused(link)
    assert "is a symbolic link" in message
    assert f'site.policy = "{file}"' in message
    link.unlink()
    link.symlink_to("nowhere")
    assert "is a symbolic link" in refused(link)


def test_what_is_no_file_is_refused_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.unlink()
    assert "No such file" in refused(file)
    os.mkfifo(file)
    assert "not a regular file" in refused(file)  # and does not wait for who writes into it
    file.unlink()
    file.mkdir()
    assert "not a regular file" in refused(file)
    file.rmdir()
    monkeypatch.chdir(file.parent)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(file.name)
        assert "cannot be read" in refused(file)


@pytest.mark.parametrize("mode", [0o775, 0o757, 0o777])
@pytest.mark.parametrize("level", [0, 1])
def test_a_folder_in_which_others_can_exchange_it_is_refused(
    file: Path, mode: int, level: int
) -> None:
    folder = file.parents[level]
    folder.chmod(mode)
    message = refused(file)
    assert f"is in {folder}, which can be written by" in message
    mended(message)
    check_own_file(file, "site.policy", PolicyError)


def test_a_sticky_folder_is_none_of_those(file: Path) -> None:
    file.parent.chmod(0o1777)
    check_own_file(file, "site.policy", PolicyError)


def test_links_between_folders_are_judged_where_they_lead(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("etc/../etc/fedvitals")
    check_own_file(link / file.name, "site.policy", PolicyError)
    file.parent.parent.chmod(0o777)
    assert f"is in {file.parent.parent}" in refused(link / file.name)
    link.unlink()
    link.symlink_to(link)
    assert "Too many links" in refused(link / file.name)


def test_a_relative_path_is_judged_from_the_root_on(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    check_own_file(Path(file.name), "site.policy", PolicyError)
    file.parent.parent.chmod(0o777)
    assert f"is in {file.parent.parent}" in refused(Path(file.name))


@needs_root
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, FOREIGN, FOREIGN)
    message = refused(file)
    assert f"belongs to user {FOREIGN}" in message
    assert ownership_problem(file, "site.policy", also=[FOREIGN]) is None
    mended(message)
    check_own_file(file, "site.policy", PolicyError)


@needs_root
def test_a_folder_or_a_link_of_another_user_is_refused(file: Path, tmp_path: Path) -> None:
    os.chown(file.parent, FOREIGN, FOREIGN)
    message = refused(file)
    assert f"is reached through {file.parent}, which belongs to user {FOREIGN}" in message
    mended(message)
    check_own_file(file, "site.policy", PolicyError)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    link = shared / "link"
    link.symlink_to(file.parent)
    check_own_file(link / file.name, "site.policy", PolicyError)
    os.chown(link, FOREIGN, FOREIGN, follow_symlinks=False)
    assert f"is reached through {link}" in refused(link / file.name)


@needs_root
def test_the_user_whom_a_container_shows_for_all_others_is_nobody_in_particular(
    file: Path,
) -> None:
    overflow = own_file._overflow()
    os.chown(file, overflow, overflow)
    assert "which in a container stands for every user outside" in refused(file)


@needs_root
def test_another_user_reads_what_is_roots_and_his_own_and_no_thirds(tmp_path: Path) -> None:
    """As under systemd: the settings are root's, the key is the node's user's."""
    code = (
        "import os, sys; from pathlib import Path\n"
        "from client.policy.file_ownership import ownership_problem\n"
        f"os.setgid({FOREIGN}); os.setuid({FOREIGN})\n"
        "print([ownership_problem(Path(one), 'it') is None for one in sys.argv[1:]])"
    )
    folder = Path("/var/tmp") / f"fedvitals-own-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        paths = [folder / name for name in ("roots", "own", "thirds")]
        for path, owner in zip(paths, (0, FOREIGN, FOREIGN + 1), strict=True):
            path.write_text("")
            path.chmod(0o644)
            os.chown(path, owner, owner)
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, paths)],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for path in paths:
            path.unlink()
        folder.rmdir()
    assert done.stdout.strip() == "[True, True, False]", done.stderr


def test_a_file_that_is_exchanged_after_it_was_judged_is_not_what_is_read(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = own_file._check_file

    def exchange(*arguments: object) -> None:
        judge(*arguments)  # type: ignore[arg-type]
        file.unlink()
        file.write_text("b = 2\n")

    monkeypatch.setattr(own_file, "_check_file", exchange)
    assert read_own_text(file, "site.policy", PolicyError) == "a = 1\n"


def test_what_cannot_be_such_a_file_is_refused(file: Path) -> None:
    file.write_bytes(b"\xff")
    with pytest.raises(UsageError, match="not UTF-8 text"):
        read_own_text(file, "site.toml", UsageError)
    file.write_bytes(bytes(own_file.MAX_OWN_FILE_BYTES + 1))
    with pytest.raises(UsageError, match="is larger than"):
        read_own_text(file, "site.toml", UsageError)
