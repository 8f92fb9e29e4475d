"""A dry run reports exactly what would leave; it sends and spends nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from client.app.client_app import app
from client.cli import app as commands
from client.config.site_facts import site_facts
from client.dry_run.first_round import round_request, starting_adapter
from client.egress.audit.audit_log import AuditLog
from client.egress.audit.hash_chain import read_entries, verify_log
from client.egress.gate import Gate
from client.egress.server_request import parse_request
from client.policy.policy import PolicyFile
from client.policy.run_settings import RunSettings
from client.policy.submitted_run import SubmittedRun
from client.privacy.budget_ledger import Ledger, Plan
from common.adapter.serialization.message import decode
from common.console import run
from common.errors import UsageError
from server.aggregation.truncation import truncate
from tests.client.node.hospital import DEATH, Hospital, make_hospital, other_bundle
from tests.integration.setup.deployed import REPOSITORY
from tests.samples.federation import tiny_run, with_settings

Make = Callable[..., Hospital]


@pytest.fixture
def make(tmp_path: Path, tiny_bolt: Path, tiny_cohort: Path) -> Make:
    def hospital(changes: Mapping[str, str] | None = None, **settings: Any) -> Hospital:
        config = tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run", **settings)
        return make_hospital(tmp_path, tiny_cohort / "sites" / "micu.parquet", config, changes)

    return hospital


@pytest.fixture
def answered(make: Make, app_bundle: bytes) -> Hospital:
    """A hospital after a dry run of this release's own app."""
    hospital = make()
    hospital.approve(app_bundle)
    assert hospital.call() == 0
    return hospital


def live(hospital: Hospital, bundle: str) -> dict[str, Any]:
    """Return the decision of a connected node's gate on the same round, from its audit log."""
    config, policy = hospital.config, PolicyFile(hospital.config.site.policy)
    request = round_request(hospital.settings, config.site.id, config.site.lora_rank)
    context = Context(1, 2, config.node_config(), RecordDict(), hospital.settings.flat())
    answer = app(request, context)
    gate = Gate(site_facts(config, 24), policy.current, AuditLog(config.audit_log))
    asked = {name: one.deflate() for name, one in get_all_nested_objects(request).items()}
    told = {name: one.deflate() for name, one in get_all_nested_objects(answer).items()}
    facts = SubmittedRun(bundle, RunSettings(hospital.settings))
    known = parse_request(request, get_object_tree(request), asked.__getitem__, facts)
    assert gate.admit(known) is None
    gate.filter_reply(known, answer, get_object_tree(answer), told.__getitem__)
    return list(read_entries(config.audit_log))[-1]


def timeless(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if not key.startswith("seconds.")}


@pytest.mark.slow
def test_it_decides_and_writes_what_the_live_gate_does(answered: Hospital) -> None:
    said = answered.record["answers"]["round"]
    due = live(answered, answered.record["bundle"]["sha256"])
    assert (said["decision"], said["reason"]) == (due["decision"], due["reason"])
    assert timeless(said["metrics"]) == timeless(due["metrics"])
    assert said["metrics"]["loss"] == round(said["metrics"]["loss"], 4)
    for key in ("sha256", "tensors", "rank", "norm", "bytes"):
        assert said["adapter"][key] == due["adapter"][key], key
    data = (answered.folder / "out/round/adapter.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == due["adapter"]["sha256"]
    assert decode(data).rank == answered.settings.lora.rank
    for name, size, digest in (
        one for a in answered.record["answers"].values() for one in a["files"]
    ):
        content = (answered.folder / "out" / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (size, digest)
    page = (answered.folder / "out/what-would-leave.md").read_text()
    matrix = "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight"
    for word in ("round: would leave", matrix, "| validation.wql |", "lora.rank = 2"):
        assert word in page


@pytest.mark.slow
def test_neither_ledger_nor_audit_log_is_touched(make: Make, app_bundle: bytes) -> None:
    private = {"privacy.noise-multiplier": 3.0, "privacy.sample-rate": 0.5}
    hospital = make({"max-delta = 1e-5": "max-delta = 1e-4"}, **private)
    hospital.approve(app_bundle)
    state = hospital.config.site.state
    Ledger(state).begin("ab12", "micu", "d1", Plan(0.5, 3.0, 10, 1e-5, 0.05))
    AuditLog(hospital.config.audit_log).append({"kind": "train", "decision": "sent"})
    before = contents(state)
    assert hospital.call() == 0
    assert contents(state) == before
    assert verify_log(hospital.config.audit_log).lines == 1
    assert hospital.record["copied-ledger"]
    assert hospital.record["answers"]["round"]["epsilon"] > 0


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


WATCH = """import os, sys

def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{arguments[1] if event != 'socket.getaddrinfo' else arguments[0]}\\n")

sys.addaudithook(note)
"""
"""Notes whom a process talks to, in every process that is started with it on its path."""


@pytest.mark.slow
def test_the_code_that_runs_is_the_bundles_and_talks_to_nobody_outside_this_machine(
    make: Make, tmp_path: Path
) -> None:
    hospital = make()
    said = 'return Message(RecordDict({"r": MetricRecord({"ward": 7})}), reply_to=message)'
    hospital.approve(other_bundle(tmp_path / "other", train=said))
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch/sitecustomize.py").write_text(WATCH)
    path = os.pathsep.join([str(tmp_path / "watch"), str(REPOSITORY)])
    offline = ("HF_HUB_OFFLINE", "FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK")
    environment = {key: value for key, value in os.environ.items() if key not in offline}
    environment |= {"PYTHONPATH": path, "WATCHED": str(tmp_path / "watched")}
    command = [sys.executable, "-m", "client", *hospital.command()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 20, done.stderr  # the other app's answer is none
    talked = (tmp_path / "watched").read_text().splitlines()
    assert talked
    assert all("127.0.0.1" in one for one in talked), set(talked)

    join, train = hospital.record["answers"].values()
    assert (join["reason"], join["detail"]) == ("record", "configs: node is missing")
    assert train["detail"] == "arrays: adapter is missing"
    assert "adapter" not in train
    assert not (tmp_path / "out/round/adapter.safetensors").exists()
    assert "join would stay at the site: configs: node is missing" in done.stderr
    assert b"ward" not in b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*.bin"))


@pytest.mark.slow
def test_an_app_that_dies_or_fails_leaves_its_words_here(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hospital = make()
    fails = "raise RuntimeError('Meier, bed 7')"
    hospital.approve(other_bundle(tmp_path / "other", query=DEATH, train=fails))
    assert hospital.call() == 22
    assert "join: the app stopped at this site; see" in capsys.readouterr().err
    reasons = [answer["reason"] for answer in hospital.record["answers"].values()]
    assert reasons == ["the app stopped at this site", "the app failed at this site"]
    assert "Meier" in (tmp_path / "out/app.log").read_text()
    assert b"Meier" not in b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*.bin"))
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0


def test_a_bundle_that_is_not_approved_is_refused(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hospital = make()
    path = tmp_path / "other.fab"
    path.write_bytes(other_bundle(tmp_path / "other"))
    assert hospital.call("--bundle", str(path)) == 20
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "is not approved" in error
    assert "python -m client approve" in error
    assert hospital.call() == 2
    assert "0 approved bundles" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-c", "lora.rnak=4"], "lora.rnak"),
        (["-c", "lora.rank=2"], "lora.rank is given twice"),
    ],
)
def test_mistakes_end_before_anything_is_made(
    make: Make, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    hospital = make()
    assert hospital.call(*options) == 2
    assert message in capsys.readouterr().err
    assert not (hospital.folder / "out").exists()


def test_its_options_belong_to_it(make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    hospital = make()
    command = [part for part in hospital.command() if part != "--dry-run"]
    assert run(commands, command) == 2
    assert "need --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_a_site_of_a_lower_rank_starts_from_what_the_server_sends(
    tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path, rank: int
) -> None:
    settings = {"lora.rank": 4, "lora.min-rank": 1, "aggregation.rule": "svd"}
    config = with_settings(tiny_run(tiny_bolt, tiny_cohort, tmp_path), settings)
    started, due = starting_adapter(config, rank), truncate(starting_adapter(config, 4), rank)
    assert (started.rank, started.alpha) == (due.rank, due.alpha)
    for name, tensor in due.tensors.items():
        np.testing.assert_array_equal(started.tensors[name], tensor, name)


def test_a_rank_that_the_run_does_not_allow(
    tiny_bolt: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    config = tiny_run(tiny_bolt, tiny_cohort, tmp_path)
    with pytest.raises(UsageError, match="its lora-rank is 4, the run allows 2"):
        round_request(config, "micu", 4)
