"""The example settings of deploy/, read by the loaders that read them at a hospital."""

from __future__ import annotations

import shutil
from pathlib import Path

from client.app.local_round import VALIDATION_METRICS, RoundReport
from client.config.site_config import load_site_config
from client.policy.policy import JOIN_FIELDS, load_policy
from client.policy.run_settings import RunSettings, refused_setting
from client.privacy.allowlist import PRIVATE_NUMBERS, PUBLIC_NUMBERS
from common.config.run_config import RunConfig, parse_settings
from common.config.tasks import TASKS
from common.data.vitals import VITAL_NAMES
from server.deployment.server_config import read_server_config
from server.rounds.report_validation import PRIVACY_KEYS
from tests.integration.setup.deployed import REPOSITORY

DEPLOY = REPOSITORY / "deploy"


def test_site_toml_is_read() -> None:
    config = load_site_config(DEPLOY / "site" / "site.toml")
    assert config.site.id == "hospital-1"
    assert config.site.policy == DEPLOY / "site" / "policy.toml"
    assert str(config.server.address) == "gateway:9443"
    assert config.node.isolation == "process"
    assert config.node.secret is not None
    assert config.node.client_api_tls is not None
    assert config.node.health.on_loopback


def test_site_tomls_optional_lines_are_read_too(tmp_path: Path) -> None:
    keys = ("lora-rank", "epsilon-limit", "allow", "file")
    lines = (DEPLOY / "site" / "site.toml").read_text().splitlines()
    optional = [line.removeprefix("# ") for line in lines]
    chosen = [
        short if short.startswith(keys) else line
        for line, short in zip(lines, optional, strict=True)
    ]
    assert sum(a != b for a, b in zip(lines, chosen, strict=True)) == 5
    (tmp_path / "site.toml").write_text("\n".join(chosen))
    config = load_site_config(tmp_path / "site.toml")
    assert (config.site.lora_rank, config.site.epsilon_limit) == (8, 8.0)
    assert config.site.allow == ("validation.wql",)
    assert str(config.log.file) == "/var/log/fedvitals/node.jsonl"


def test_policy_tomls_lines_for_the_paper_accept_its_task_alone(tmp_path: Path) -> None:
    shipped = DEPLOY / "site" / "policy.toml"
    paper = RunSettings(parse_settings(["task=paper"], {})).flat
    assert refused_setting(paper, load_policy(shipped).settings).startswith("backbone")
    before, after = shipped.read_text().split("[settings]\n")
    keys = [f'"{key}"' for key in TASKS["paper"].settings if key.startswith("windows.")]
    optional = {
        line.split(" = ")[0]: line.removeprefix("# ")
        for line in after.splitlines()
        if line.startswith(("# backbone = ", '# "windows.'))
    }
    assert set(optional) == {f"# {key}" for key in ("backbone", *keys)}
    lines = [
        optional.get(f"# {line.split(' = ')[0]}", line)
        for line in after.splitlines()
        if line not in [f"# {text}" for text in optional.values()]
    ]
    (tmp_path / "policy.toml").write_text(f"{before}[settings]\n" + "\n".join(lines))
    accepted = load_policy(tmp_path / "policy.toml").settings
    assert not refused_setting(paper, accepted)
    assert refused_setting(RunSettings(RunConfig()).flat, accepted)


def test_policy_toml_approves_no_bundle_and_asks_for_privacy() -> None:
    policy = load_policy(DEPLOY / "site" / "policy.toml")
    assert policy.bundles == {}
    assert policy.privacy_required
    assert policy.texts == frozenset()
    assert policy.min_patients > 0


def test_policy_toml_names_every_number_that_the_app_sends_and_no_other() -> None:
    """With a missing number the whole message would be refused."""
    scores = {"wql": 0.0} | {
        f"{metric}.{vital}": 0.0 for metric in VALIDATION_METRICS for vital in VITAL_NAMES
    }
    report = RoundReport(60, 600, 10, 0.1, scores, {"validation": 1.0, "training": 1.0})
    sent = set(report.numbers()) | {f"privacy.{name}" for name in PRIVACY_KEYS}
    policy = load_policy(DEPLOY / "site" / "policy.toml")
    assert set(policy.metrics) == sent
    # validation-windows is reported when a site joins, not in a round.
    assert sent >= (set(PRIVATE_NUMBERS) - {"validation-windows"}) | PUBLIC_NUMBERS
    assert set(policy.join) == set(JOIN_FIELDS)


def test_policy_toml_rounds_what_counts_patients() -> None:
    policy = load_policy(DEPLOY / "site" / "policy.toml")
    rounded = {name for name in policy.metrics if policy.metrics[name] is not None}
    exact = set(policy.metrics) - rounded
    assert exact == {"steps"} | {f"privacy.{name}" for name in PRIVACY_KEYS}
    for name in ("patients", "windows"):
        assert policy.metrics[name] == policy.join[name]
        assert (policy.join[name] or 0) < 0


def test_server_toml_is_read(tmp_path: Path) -> None:
    text = (DEPLOY / "server" / "server.toml").read_text()
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    (tmp_path / "server.toml").write_text(text.replace("/opt/fedvitals/app", str(tmp_path)))
    (tmp_path / "private").mkdir()
    for name in ("tls.crt", "tls.key", "ca.crt"):
        (tmp_path / "private" / name).touch()
    config = read_server_config(tmp_path / "server.toml")
    probes = (REPOSITORY / "deploy" / "server" / "Dockerfile").read_text()
    assert f'"{config.health}", "{config.superexec_health}"' in probes
    proxied = (REPOSITORY / "deploy" / "server" / "nginx.conf").read_text()
    assert f"proxy_pass https://{config.address};" in proxied
