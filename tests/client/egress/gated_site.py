"""A site behind its gate, its run, and this release's app to answer requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, Metadata, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from client.app.client_app import app
from client.config.site_facts import SiteFacts
from client.egress.audit.audit_log import AuditLog
from client.egress.audit.hash_chain import read_entries
from client.egress.gate import Gate
from client.egress.server_request import ServerRequest, parse_request
from client.node.statistics.answers import StatisticsAnswers
from client.policy.policy import PolicyFile
from client.policy.run_settings import RunSettings
from client.policy.submitted_run import SubmittedRun
from client.privacy.allowlist import parse_allow
from common.adapter.adapter import Adapter
from common.adapter.serialization.message import to_record
from common.backbones.lora import adapted_backbone
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from tests.samples.approvals import approved
from tests.samples.federation import tiny_run, with_settings

BUNDLE = "ab" * 32
POLICY = """
APPROVED
[adapter]
tensors = '.*\\.(q|k|v|o)\\.lora_[AB]\\.weight'
max-rank = 2
max-bytes = 100000
max-norm = 500.0
[metrics]
steps = "exact"
"privacy.epsilon" = "exact"
"privacy.epsilon-rdp" = "exact"
"privacy.delta" = "exact"
"privacy.noise-multiplier" = "exact"
"privacy.sample-rate" = "exact"
"privacy.clip-norm" = "exact"
"privacy.steps" = "exact"
loss = 3
patients = -1
[join]
usable = "exact"
rank = "exact"
step-minutes = "exact"
outside = "exact"
patients = -1
source = "exact"
rule = "exact"
backbone-digest = "exact"
texts = ["synthetic", "random walks", "DIGEST"]
[settings]
backbone = "BACKBONE"
"lora.rank" = 2
"lora.alpha" = { min = 1, max = 64 }
"lora.dropout" = 0
"lora.scope" = "attention"
"lora.train" = ["auto", "b"]
"lora.min-rank" = 0
"windows.context" = { min = 12, max = 48 }
"windows.horizon" = { min = 1, max = 6 }
"windows.stride" = { min = 1, max = 48 }
"windows.min-context" = { min = 1, max = 8 }
"windows.vitals" = ["all", "heart_rate,mbp"]
"train.epochs" = 1
"train.steps" = { min = 0, max = 10 }
"train.batch" = { min = 1, max = 512 }
"train.learning-rate" = { min = 1e-5, max = 1 }
"train.schedule" = ["cosine", "constant"]
"train.weight-decay" = 0
"train.clip" = 1
"train.proximal" = 0
"train.device" = ["auto", "cpu"]
"train.threads" = 1
"privacy.epsilon" = { min = 0, max = 8 }
"privacy.delta" = 1e-5
"privacy.noise-multiplier" = { min = 0, max = 100 }
"privacy.learning-rate" = { min = 0.01, max = 10 }
"privacy.clip-norm" = { min = 0.001, max = 10 }
"privacy.sample-rate" = { min = 0.1, max = 1 }
"privacy.patient-windows" = { min = 1, max = 64 }
"privacy.chunk" = { min = 1, max = 4096 }
"privacy.noise-seed" = -1
"wire.dtype" = ["float32", "float16", "int8"]
[limits]
min-patients = 5
rounds-per-day = 3
evaluations-per-day = 2
joins-per-day = 3
errors-per-day = 30
[privacy]
required = true
max-epsilon = 8.0
max-delta = 1e-4
budget-epsilon = 12.0
budget-delta = 1e-5
""".replace("APPROVED", approved(BUNDLE))
OPEN = (
    POLICY.replace("required = true", "required = false")
    .replace("budget-epsilon = 12.0", "")
    .replace("loss = 3", 'loss = 3\nwindows = -2\n"seconds.training" = 0\n"seconds.validation" = 0')
)
"""A policy without privacy, and so without a budget."""

PRIVATE: Mapping[str, Any] = {"privacy.noise-multiplier": 3.0, "privacy.sample-rate": 0.5}
PATIENTS = 10
"""Declared number of patients; the table has a few more."""


@dataclass
class GatedSite:
    """The site `micu` behind its gate, and its run.

    Attributes:
        config: the run's settings.
        table: the site table.
        folder: with policy.toml, the audit log and the app's state.
        allow: what may leave beside the guarantee.
        site: the site as the gate knows it.
        gate: the gate.
        answers: the app's replies, by request.
    """

    config: RunConfig
    table: Path
    folder: Path
    allow: str
    site: SiteFacts
    gate: Gate
    answers: dict[tuple[str, ...], Message]
    asked: int = 0

    def ask(self, kind: str, number: int = 1, site: str = "micu", run: str = "ab12") -> Message:
        """Return a message of the server, with the run's first adapter if the kind has one."""
        content = RecordDict()
        if kind != "query":
            content["adapter"] = to_record(self.shared_adapter(), trained=self.config.trained)
            content["round"] = ConfigRecord({"site": site, "round": number, "run": run})
        self.asked += 1
        created_at = float(self.asked)  # so that no two are alike
        metadata = Metadata(1, "", 1, 2, "", "", created_at, 3600.0, kind, 1, 1)
        # As it comes out of a connection; Flower's own way to make one, which it does not declare.
        message: Message = Message(content=content, metadata=metadata)  # type: ignore[call-overload]
        metadata.__dict__["_message_id"] = message.object_id
        return message

    def shared_adapter(self) -> Adapter:
        """Return the run's first adapter, whose A all sides share under privacy."""
        adapted = adapted_backbone(self.config.backbone, self.config.lora, torch.device("cpu"))
        return adapted.fresh_adapter(derive_seed(self.config.seed, "adapter"))

    def request(self, message: Message, bundle: str = BUNDLE) -> ServerRequest:
        """Return a message as the node parses it."""
        message.metadata.__dict__["_message_id"] = message.object_id  # its content may be another
        tree, contents = objects(message)
        facts = SubmittedRun(bundle, RunSettings(self.config))
        return parse_request(message, tree, contents.__getitem__, facts)

    def answer(self, message: Message) -> Message:
        """Return the reply of this release's app, which runs once for each kind of request."""
        key = (message.metadata.message_type, self.allow, str(self.config))
        if key not in self.answers:
            self.answers[key] = self._answer(message)
        answer = deepcopy(self.answers[key])
        answer.metadata.__dict__["_reply_to_message_id"] = message.metadata.message_id
        if "round" in message.content.config_records:
            answer.content["round"] = deepcopy(message.content.config_records["round"])
        return answer

    def _answer(self, message: Message) -> Message:
        node: dict[str, bool | float | int | str] = {
            "data-path": str(self.table),
            "site-id": "micu",
            "state-path": str(self.folder / "state"),
            "allow": self.allow,
            "patients": PATIENTS,
        }
        return app(message, Context(1, 2, node, RecordDict(), dict(self.config.flat())))

    def admitted(self, message: Message, bundle: str = BUNDLE) -> Message | None:
        """Return the node's own reply to a message; None if the app may be started."""
        answer = self.gate.admit(self.request(message, bundle))
        return None if answer is None else answer.message

    def passed(self, message: Message, answer: Message, bundle: str = BUNDLE) -> Message:
        """Return what the gate sends for the app's reply, without a call of `admit`."""
        sent = self.sent(message, answer, bundle)
        assert sent is not None
        return sent

    def sent(self, message: Message, answer: Message, bundle: str = BUNDLE) -> Message | None:
        """Return what `passed` does; None if the gate sends nothing."""
        tree, contents = objects(answer)
        return self.gate.filter_reply(
            self.request(message, bundle), answer, tree, contents.__getitem__
        )

    def asked_and_answered(self, message: Message) -> Message:
        """Return what leaves when a message is admitted, answered and filtered."""
        own = self.admitted(message)
        return self.passed(message, self.answer(message)) if own is None else own

    def reopened(self) -> Gate:
        """Return the gate as it is after a restart of the node."""
        path = self.folder / "policy.toml"
        counted = StatisticsAnswers(self.table, self.folder / "state")
        self.gate = Gate(self.site, PolicyFile(path).current, AuditLog(self.log), counted)
        return self.gate

    def change_policy(self, old: str, new: str) -> None:
        """Replace a text in policy.toml, which is there."""
        path = self.folder / "policy.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def use(self, **settings: Any) -> None:
        """Let the coordinator choose other settings."""
        self.config = with_settings(self.config, settings)

    @property
    def log(self) -> Path:
        """The audit log."""
        return self.folder / "audit.jsonl"

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        return list(read_entries(self.log))

    @property
    def last(self) -> dict[str, Any]:
        """The last line of the audit log."""
        return self.entries[-1]


def objects(message: Message) -> tuple[ObjectTree, dict[str, bytes]]:
    """Return a message as a node stores it: the tree of its objects, and their bytes."""
    contents = {name: one.deflate() for name, one in get_all_nested_objects(message).items()}
    return get_object_tree(message), contents


Make = Callable[..., GatedSite]


def make_gated_site(
    folder: Path,
    backbone: Path,
    cohort: Path,
    answers: dict[tuple[str, ...], Message],
    allow: str = "",
    policy: str = POLICY,
    patients: int = PATIENTS,
    rank: int = 0,
    **settings: Any,
) -> GatedSite:
    """Make a site whose run is private, unless the settings say otherwise.

    Args:
        folder: for its files.
        backbone: the run's.
        cohort: with the site's table.
        answers: replies shared by the sites of a module, so that the app runs once for each.
        allow: what may leave beside the guarantee.
        policy: policy.toml, in which DIGEST and BACKBONE stand for the run's.
        patients: as the site declares them.
        rank: of the site's adapter; 0 = the run's.
        settings: of the run, by their flat keys.
    """
    config = tiny_run(backbone, cohort, folder / "run", **{**PRIVATE, **settings})
    digest = adapted_backbone(config.backbone, config.lora, torch.device("cpu")).digest
    path = folder / "policy.toml"
    path.write_text(policy.replace("DIGEST", digest).replace("BACKBONE", config.backbone))
    site = SiteFacts(
        name="micu",
        patients=patients,
        declared_patients=patients,
        allow=parse_allow(allow),
        rank=rank,
        source="synthetic",
        rule="random walks",
        step_minutes=60,
        backbones={config.backbone: digest},
    )
    table = cohort / "sites" / "micu.parquet"
    counted = StatisticsAnswers(table, folder / "state")
    gate = Gate(site, PolicyFile(path).current, AuditLog(folder / "audit.jsonl"), counted)
    return GatedSite(config, table, folder, allow, site, gate, answers)


@pytest.fixture(scope="module")
def answers() -> dict[tuple[str, ...], Message]:
    """The honest app's replies, shared by a module."""
    return {}


@pytest.fixture
def make(
    tmp_path: Path, tiny_bolt: Path, tiny_cohort: Path, answers: dict[tuple[str, ...], Message]
) -> Make:
    """A function that makes a gated site."""

    def site(**options: Any) -> GatedSite:
        return make_gated_site(tmp_path, tiny_bolt, tiny_cohort, answers, **options)

    return site
