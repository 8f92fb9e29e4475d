"""Attacks on a site's audit log, on its configuration files and on a checkpoint."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from client.cli import app
from client.egress.audit.audit_log import AuditLog
from common.console import run
from tests.common.backbones.torch_pickle.bombs import doubled
from tests.integration.setup.deployed import REPOSITORY
from tests.integration.setup.gate_setting import make_node_key

SITE = """[site]
id = "hosp1"
table = "t.parquet"
state = "state"
policy = "{policy}"
[server]
address = "127.0.0.1:1"
ca = "ca.crt"
[node]
key = "node.key"
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site's folder: settings, the shipped policy, a key."""
    folder = tmp_path / "site"
    folder.mkdir()
    make_node_key(folder / "node.key")
    shutil.copyfile(REPOSITORY / "deploy" / "site" / "policy.toml", folder / "policy.toml")
    settings(folder, "policy.toml")
    for path in folder.iterdir():
        path.chmod(0o600)
    return folder


def settings(folder: Path, policy: str) -> None:
    (folder / "site.toml").write_text(SITE.format(policy=policy))


def left(folder: Path, answer: str, lines: int) -> None:
    """Write a log of messages that left, with the anchor beside it, as the node does."""
    log = AuditLog(folder / "state" / "audit.jsonl")
    for number in range(lines):
        log.append({"kind": "train", "round": number, "decision": answer})


@pytest.mark.parametrize("attack", ["deleted", "rewritten", "shortened"])
def test_log_and_anchor_changed_together_are_found(
    site: Path, tmp_path: Path, attack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An attacker with the site's machine rewrites the log and the anchor beside it.

    The shipped anchors contradict it, verified on another machine with the public key alone.
    Before: only an anchor that somebody had copied by hand revealed it.
    """
    shipped, key = tmp_path / "shipped.jsonl", tmp_path / "node.pub"
    shutil.copy(site / "node.key.pub", key)
    left(site, "sent", 5)
    own = ["--config", str(site / "site.toml")]
    assert run(app, ["audit", "anchor", *own, "--to", str(shipped)]) == 0
    shutil.rmtree(site / "state")
    if attack != "deleted":
        left(site, "refused", 5 if attack == "rewritten" else 2)
        assert run(app, ["audit", "verify", *own]) == 0
    capsys.readouterr()
    # With the public key alone, as on another machine.
    alone = ["--log", str(site / "state" / "audit.jsonl"), "--anchors", str(shipped)]
    assert run(app, ["audit", "verify", *alone, "--key", str(key)]) == 21
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ("is missing, but" in error) == (attack == "deleted")


@pytest.mark.parametrize("attack", ["writable", "linked", "exchangeable"])
def test_a_policy_that_others_can_change_is_refused(
    site: Path, tmp_path: Path, attack: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another user of the machine decides what leaves: by writing, by a link, by the folder.

    Before: the node read the file, and preflight reported OK.
    """
    if attack == "writable":
        (site / "policy.toml").chmod(0o666)
    elif attack == "linked":
        (site / "policy.toml").rename(tmp_path / "theirs.toml")
        (site / "policy.toml").symlink_to(tmp_path / "theirs.toml")
    else:
        (site / "policy").mkdir()
        (site / "policy.toml").rename(site / "policy" / "policy.toml")
        (site / "policy").chmod(0o777)
        settings(site, "policy/policy.toml")
    assert run(app, ["preflight", "--config", str(site / "site.toml"), "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    (finding,) = [one for one in findings if one["code"] == "files"]
    assert finding["level"] == "FAIL"
    assert finding["what"].startswith("site.policy = ")
    assert finding["remedy"].startswith("chmod go-w " if attack != "linked" else "name the file")


def _little() -> None:
    """Limit a new process's memory and time; it is enough to load torch."""
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["duplicated", "remembered"])
def test_a_tuple_nested_in_itself_as_a_key_ends_at_once(tmp_path: Path, how: str) -> None:
    """A checkpoint of a few hundred bytes whose one key takes 2^54 steps to hash.

    Before: the converter hung.
    """
    key = b")" + b"2\x86" * 54 if how == "duplicated" else doubled(54, b"%\x86")
    bomb = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(bomb, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}" + key + b"Ns.")
    assert bomb.stat().st_size == {"duplicated": 245, "remembered": 407}[how]
    command = [sys.executable, "-m", "client", "convert", "lag-llama", bomb, tmp_path / "out"]
    done = subprocess.run(
        list(map(str, command)),
        cwd=REPOSITORY,
        env={**os.environ, "FEDVITALS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=_little,
    )
    assert done.returncode == 6, done.stderr
    assert done.stderr.count("\n") == 1
    assert "cannot be converted" in done.stderr
