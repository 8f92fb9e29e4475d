from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from client.cli import app
from client.config.site_config import SiteConfig, load_site_config
from client.egress.audit.audit_log import AuditLog
from client.policy.policy import load_policy
from client.preflight.check_result import CheckResult
from client.preflight.machine import check_machine
from client.preflight.site import check_approvals, check_site
from common.backbones.loading import load_backbone
from tests.client.preflight.coordinator import coordinator
from tests.integration.setup.deployed import replaced
from tests.integration.setup.gate_setting import make_node_key
from tests.samples.approvals import NOW, UNTIL, approved

END = datetime.fromisoformat(f"{UNTIL}T00:00:00+00:00") + timedelta(days=1)
"""The end of an approval."""
BUNDLE = f"\n{approved('0' * 64)}"


def policy(folder: Path, *, least: int = 0, required: bool = True) -> None:
    """Write the shipped policy with an approved bundle."""
    own = {
        "texts = []": 'texts = ["synthetic", "random walks"]',
        "min-patients = 50": f"min-patients = {least}",
        "required = true": f"required = {str(required).lower()}",
    }
    (folder / "policy.toml").write_text(replaced("policy.toml", own) + BUNDLE)


@pytest.fixture
def config(tmp_path: Path, tiny_cohort: Path) -> SiteConfig:
    """A site where all is well."""
    make_node_key(tmp_path / "node.key")
    policy(tmp_path)
    write_settings(tmp_path, tiny_cohort / "sites" / "micu.parquet", "localhost:443")
    (tmp_path / "app.secret").write_bytes(b"secret")
    return load_site_config(tmp_path / "site.toml")


def write_settings(folder: Path, table: Path, address: str) -> None:
    (folder / "site.toml").write_text(
        f'[site]\nid = "micu"\ntable = "{table}"\nstate = "state"\npolicy = "policy.toml"\n'
        'patients = 10\nsource = "synthetic"\nrule = "random walks"\nstep-minutes = 60\n'
        f'[server]\naddress = "{address}"\nca = "ca.crt"\n'
        '[node]\nkey = "node.key"\nsecret = "app.secret"\n'
    )


def found(config: SiteConfig) -> dict[str, CheckResult]:
    """The findings about the site by code; what is not OK has a remedy."""
    findings = {finding.code: finding for finding in check_site(config)}
    assert all(bool(one.remedy) == (one.level != "OK") for one in findings.values())
    return findings


def test_a_site_where_all_is_well(config: SiteConfig) -> None:
    findings = found(config)
    judged = {"files", "policy", "settings", "budget", "table", "declared", "key", "audit"}
    assert set(findings) == judged | {"secret"}
    assert {finding.level for finding in findings.values()} == {"OK"}


@pytest.mark.parametrize("name", ["policy.toml", "node.key", "site.toml"])
@pytest.mark.parametrize("how", ["writable", "linked"])
def test_a_file_that_somebody_else_could_change(
    config: SiteConfig, tmp_path: Path, name: str, how: str
) -> None:
    path = tmp_path / name
    if how == "writable":
        path.chmod(0o622)
    else:
        path.rename(tmp_path / "elsewhere")
        path.symlink_to("elsewhere")
    (finding,) = [one for one in check_site(config, tmp_path / "site.toml") if one.code == "files"]
    assert finding.level == "FAIL"
    assert name.partition(".")[0] in finding.what
    assert finding.remedy.startswith(f"chmod go-w {path}" if how == "writable" else "name the file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_root_asks_for_the_user_whom_the_key_belongs_to(config: SiteConfig) -> None:
    os.chown(config.node.key, 4242, 4242)
    assert found(config)["files"].level == "OK"
    os.chown(config.site.policy, 4243, 4243)
    assert "belongs to user 4243" in found(config)["files"].what


def test_a_policy_that_is_missing_or_approves_nothing(config: SiteConfig) -> None:
    text = config.site.policy.read_text()
    config.site.policy.write_text(text.replace(BUNDLE, ""))
    assert found(config)["policy"].level == "WARN"
    config.site.policy.unlink()
    assert found(config)["policy"].level == "FAIL"


def test_a_table_that_is_missing_or_too_small(config: SiteConfig, tmp_path: Path) -> None:
    policy(tmp_path, least=1000)
    assert "the policy requires 1000" in found(config)["table"].what
    assert found(config)["table"].level == "FAIL"
    write_settings(tmp_path, tmp_path / "absent.parquet", "localhost:443")
    assert found(load_site_config(tmp_path / "site.toml"))["table"].level == "FAIL"


@pytest.mark.parametrize(("declared", "level"), [(0, "FAIL"), (10, "OK"), (1000, "FAIL")])
def test_the_number_of_patients_that_the_site_declares(
    config: SiteConfig, declared: int, level: str
) -> None:
    finding = found(config.replace(site=config.site.replace(patients=declared)))["table"]
    assert finding.level == level


def test_what_site_toml_declares_of_the_table_is_held_against_it(
    config: SiteConfig, tmp_path: Path
) -> None:
    other = config.replace(site=config.site.replace(rule="another rule"))
    finding = found(other)["declared"]
    assert finding.level == "FAIL"
    assert 'rule = "random walks"' in finding.remedy
    policy(tmp_path, required=False)
    assert found(other)["declared"].level == "WARN"


def test_a_policy_that_names_no_setting_accepts_no_run(config: SiteConfig) -> None:
    text = config.site.policy.read_text()
    config.site.policy.write_text(text.replace('"lora.rank" = { min = 1, max = 16 }', ""))
    finding = found(config)["settings"]
    assert finding.level == "WARN"
    assert "lora.rank" in finding.what


def test_the_budget_and_what_is_spent_of_it(config: SiteConfig, tmp_path: Path) -> None:
    assert "0% of epsilon 10 at delta 1e-05 is spent" in found(config)["budget"].what
    privacy = {"sample-rate": 1.0, "noise-multiplier": 2.0, "steps": 1}
    AuditLog(config.audit_log).append({"decision": "reserved", "run": "ab", "privacy": privacy})
    assert "7% of epsilon 10" in found(config)["budget"].what
    policy(tmp_path, required=False)
    text = config.site.policy.read_text()
    config.site.policy.write_text(text.replace("budget-epsilon = 10.0", ""))
    assert found(config)["budget"].level == "WARN"
    policy(tmp_path)
    AuditLog(config.audit_log).append({"decision": "reserved", "run": "cd", "privacy": {}})
    assert found(config)["budget"].level == "FAIL"


def test_a_source_that_the_policy_does_not_say(config: SiteConfig, tmp_path: Path) -> None:
    policy(tmp_path, required=False)
    text = config.site.policy.read_text()
    config.site.policy.write_text(text.replace("random walks", "another rule"))
    finding = found(config)["texts"]
    assert finding.level == "WARN"
    assert '"random walks"' in finding.what
    assert '"synthetic"' not in finding.what


@pytest.mark.parametrize(("mode", "level"), [(0o600, "OK"), (0o640, "WARN"), (0o604, "FAIL")])
def test_who_may_read_the_key(config: SiteConfig, mode: int, level: str) -> None:
    config.node.key.chmod(mode)
    assert found(config)["key"].level == level


def test_a_key_that_is_none_or_of_another_curve(config: SiteConfig) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    config.node.key.write_bytes(
        other.private_bytes(pem, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    assert "not ECDSA P-384" in found(config)["key"].what
    config.node.key.write_bytes(b"no key")
    assert "no OpenSSH private key" in found(config)["key"].what
    config.node.key.unlink()
    assert "cannot be read" in found(config)["key"].what


def test_an_audit_log_that_was_changed(config: SiteConfig) -> None:
    log = AuditLog(config.audit_log)
    log.append({"decision": "sent"})
    assert "1 lines" in found(config)["audit"].what
    config.audit_log.write_text(config.audit_log.read_text().replace("sent", "kept"))
    assert found(config)["audit"].level == "FAIL"


def test_an_app_under_the_nodes_user_is_warned_of(config: SiteConfig, tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_text(path.read_text() + 'isolation = "subprocess"\n')
    findings = found(load_site_config(path))
    assert findings["isolation"].level == "WARN"
    assert 'node.isolation = "process"' in findings["isolation"].remedy
    assert "secret" not in findings


def test_a_secret_that_is_missing_or_not_set(config: SiteConfig, tmp_path: Path) -> None:
    (tmp_path / "app.secret").unlink()
    assert found(config)["secret"].level == "FAIL"
    path = tmp_path / "site.toml"
    path.write_text(path.read_text().replace('secret = "app.secret"\n', ""))
    assert found(load_site_config(path))["secret"].level == "WARN"


@pytest.mark.parametrize(
    ("free", "level"), [(100 * 2**20, "FAIL"), (2**30, "WARN"), (10 * 2**30, "OK")]
)
def test_the_room_on_the_disk(
    config: SiteConfig, tiny_bolt: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(free))
    findings = {one.code: one for one in check_machine(config, str(tiny_bolt))}
    assert findings["disk"].level == level


def test_the_backbone_and_its_declared_digest(config: SiteConfig, tiny_bolt: Path) -> None:
    def backbone(name: str) -> CheckResult:
        return {one.code: one for one in check_machine(config, name)}["backbone"]

    name = str(tiny_bolt)
    digest = load_backbone(name).digest
    assert backbone(name).level == "WARN"
    assert f'"{name}" = "{digest}"' in backbone(name).remedy
    config = config.replace(backbones={name: digest})
    assert backbone(name).level == "OK"
    config = config.replace(backbones={name: "0" * 64})
    assert backbone(name).level == "FAIL"
    assert backbone("no-such-model").level == "FAIL"


def test_the_command_ends_with_one_where_something_fails(
    config: SiteConfig, tiny_bolt: Path, tmp_path: Path
) -> None:
    command = ["preflight", "--config", str(tmp_path / "site.toml"), "--backbone", str(tiny_bolt)]
    with coordinator(tmp_path) as server:
        write_settings(tmp_path, config.site.table, str(server.address))
        done = CliRunner().invoke(app, [*command, "--json"])
        assert done.exit_code == 0, done.output
        findings = json.loads(done.stdout)
        assert [one["code"] for one in findings[:3]] == ["dns", "tcp", "tls"]
        assert {"code", "level", "what", "remedy"} == set(findings[0])
        config.node.key.unlink()
        shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 1
    assert "ssh-keygen" in shown.stdout


def approvals(folder: Path, entries: str, now: datetime = NOW) -> CheckResult:
    path = folder / "policy.toml"
    path.write_text(f"{replaced('policy.toml', {})}\n{entries}")
    return check_approvals(path, load_policy(path), now)


def test_a_policy_that_lets_nothing_run(tmp_path: Path) -> None:
    finding = approvals(tmp_path, "")
    assert finding.level == "WARN"
    assert "lets no app bundle run: it has no approval" in finding.what
    ended = approvals(tmp_path, approved("ab" * 32), END)
    assert ended.level == "WARN"
    assert f"ended on {UNTIL}" in ended.what


@pytest.mark.parametrize(("days", "level"), [(15, "OK"), (14, "OK"), (13, "WARN")])
def test_an_approval_that_soon_ends(tmp_path: Path, days: int, level: str) -> None:
    later = approved("cd" * 32, name="another", until=(END + timedelta(days=9)).isoformat())
    finding = approvals(tmp_path, approved("ab" * 32) + later, END - timedelta(days=days))
    assert finding.level == level
    assert f"2 app bundles may run, fedvitals until {UNTIL}" in finding.what
    assert ("--renew" in finding.remedy) == (level == "WARN")
