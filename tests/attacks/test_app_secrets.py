"""A hostile app cannot read or replace the site's key, policy and secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import client.node.supernode as node_module
from client.node.isolation import landlock
from tests.attacks.scenarios.hostile_apps import FIND, HIDE, STEAL, app
from tests.attacks.scenarios.local_node import LocalNode
from tests.client.node.hospital import make_hospital, other_bundle
from tests.samples.federation import tiny_run


@pytest.mark.slow
@pytest.mark.skipif(landlock.landlock_version() == 0, reason="no Landlock on this machine")
def test_the_app_cannot_come_by_the_secret(node: LocalNode, tmp_path: Path) -> None:
    """It is not readable from file, command line, environment, open files or a process's memory.

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
    """In a hidden file's folder an app can rename and write nothing, though its user owns it.

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
    """A bundle in a dry run can read neither the app's secret nor a key that its user could read.

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
