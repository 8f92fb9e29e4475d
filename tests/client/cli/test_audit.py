"""`python -m client audit`: ship an anchor, and check log and anchors here or elsewhere."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from client.cli import app
from client.egress.audit.audit_log import AuditLog
from common.console import run
from tests.client.egress.audit.receiver import receiver
from tests.integration.setup.gate_setting import make_node_key


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site's folder with a log of two lines."""
    folder = tmp_path / "site"
    folder.mkdir()
    make_node_key(folder / "node.key")
    (folder / "site.toml").write_text(
        '[site]\nid = "hosp1"\ntable = "t.parquet"\nstate = "state"\npolicy = "policy.toml"\n'
        '[server]\naddress = "localhost:443"\nca = "ca.crt"\n[node]\nkey = "node.key"\n'
    )
    log = AuditLog(folder / "state" / "audit.jsonl")
    for number in range(2):
        log.append({"kind": "train", "round": number, "decision": "sent"})
    return folder


def audit(*arguments: object) -> int:
    return run(app, ["audit", *map(str, arguments)])


def test_an_anchor_is_shipped_to_a_file_and_checked_here_and_elsewhere(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, anchors = ("--config", site / "site.toml"), tmp_path / "anchors.jsonl"
    assert audit("anchor", *config, "--to", anchors) == 0
    assert "2 lines of " in capsys.readouterr().out
    assert audit("verify", *config, "--anchors", anchors) == 0
    said = capsys.readouterr().out
    assert "1 anchors of hosp1, the newest of 2 lines at " in said
    assert "all are signed, none is missing, and the log holds each" in said
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for path in (site / "state" / "audit.jsonl", site / "state" / "audit.jsonl.anchor", anchors):
        shutil.copy(path, elsewhere)
    shutil.copy(site / "node.key.pub", elsewhere / "node.pub")
    copy = ("--log", elsewhere / "audit.jsonl", "--anchors", elsewhere / "anchors.jsonl")
    assert audit("verify", *copy, "--key", elsewhere / "node.pub") == 0
    assert audit("verify", *copy) == 2
    assert "give the node's public key with --key node.pub" in capsys.readouterr().err


def test_what_is_found_ends_with_one_line_and_the_code_of_the_log(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, anchors = ("--config", site / "site.toml"), tmp_path / "anchors.jsonl"
    assert audit("verify", *config, "--anchors", anchors) == 21
    for _ in range(2):
        assert audit("anchor", *config, "--to", anchors) == 0
    first = anchors.read_text().splitlines(keepends=True)[0]
    anchors.write_text(first)
    capsys.readouterr()
    assert audit("verify", *config, "--anchors", anchors) == 21
    assert "anchors are missing at the end" in capsys.readouterr().err
    shutil.rmtree(site / "state")
    assert audit("verify", *config, "--anchors", anchors) == 21
    message = capsys.readouterr().err
    assert "is missing, but 2 lines of it are anchored" in message
    assert message.count("\n") == 1
    assert audit("verify", *config) == 21
    assert audit("anchor", *config, "--to", anchors) == 21
    assert audit("verify", *config, "--key", site / "node.key.pub") == 2


def test_an_anchor_is_shipped_to_a_server(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ("--config", site / "site.toml")
    with receiver(tmp_path / "server") as server:
        to = ("--to", server.url)
        assert audit("anchor", *config, *to, "--ca", tmp_path / "server" / "ca.crt") == 0
        anchors = server.file(tmp_path / "anchors.jsonl")
        assert audit("verify", *config, "--anchors", anchors) == 0
        server.status = 500
        capsys.readouterr()
        assert audit("anchor", *config, *to, "--ca", tmp_path / "server" / "ca.crt") == 21
        message = capsys.readouterr().err
    assert "does not take the anchor: HTTP status 500" in message
    assert message.count("\n") == 1


def test_anchors_printed_and_kept_are_checked_too(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ("--config", site / "site.toml")
    assert audit("verify", *config) == 0
    kept = capsys.readouterr().out.split("anchor: ")[1].split()[0]
    assert audit("verify", *config, "--anchor", kept, "--anchor", kept) == 0
    assert audit("verify", *config, "--anchor", f"2:{'0' * 64}") == 21


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_ships_leaves_the_nodes_user_its_folder(site: Path, tmp_path: Path) -> None:
    for path in (site / "state").iterdir():
        os.chown(path, 4242, 4242)
    assert audit("anchor", "--config", site / "site.toml", "--to", tmp_path / "anchors") == 0
    folder = site / "state" / "anchors"
    assert {path.stat().st_uid for path in (folder, *folder.iterdir())} == {4242}
