"""The gate with the answers of this release's own app, and with answers that were changed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import ConfigRecord, Context, Message, Metadata, MetricRecord, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from client.app import app
from client.privacy.release import parse_allow
from client.site.audit import AuditLog, read_entries, verify
from client.site.gate import REFUSED, Gate
from client.site.policy import PolicyFile
from client.site.question import read_question
from client.site.rules import Site
from common.backbones.lora import adapted_backbone
from common.config import RunConfig
from common.seeds import derive_seed
from common.wire import to_record
from tests.approval_samples import approved
from tests.federation_samples import tiny_run

BUNDLE = "ab" * 32
POLICY = f"""
{approved(BUNDLE)}
[adapter]
tensors = '.*\\.(q|k|v|o)\\.lora_[AB]\\.weight'
max-rank = 2
max-bytes = 100000
max-norm = 50.0
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
[limits]
min-patients = 5
rounds-per-day = 3
[privacy]
required = true
max-epsilon = 8.0
max-delta = 1e-4
"""


@dataclass
class Setting:
    """A site behind its gate, and the run that asks it."""

    config: RunConfig
    table: Path
    folder: Path
    allow: str
    gate: Gate
    answers: dict[tuple[str, str, str], Message]

    def ask(self, kind: str, number: int = 1, asked: str = "micu") -> Message:
        """Return a message of the server, with the run's first adapter where one is due."""
        content = RecordDict()
        if kind != "query":
            adapted = adapted_backbone(self.config.backbone, self.config.lora, torch.device("cpu"))
            fresh = adapted.fresh_adapter(derive_seed(self.config.seed, "adapter"))
            content["adapter"] = to_record(fresh, trained=self.config.trained)
            content["round"] = ConfigRecord({"site": asked, "round": number, "run": "ab12"})
        metadata = Metadata(1, "question", 1, 2, "", "", 1.0, 3600.0, kind, 1, 1)
        # As it comes out of a connection; Flower's own way to make one, which it does not declare.
        return Message(content=content, metadata=metadata)  # type: ignore[call-overload, no-any-return]

    def answer(self, message: Message) -> Message:
        """Return what this release's app answers; it is asked once for each kind of answer."""
        key = (message.metadata.message_type, self.allow, str(self.config.privacy))
        if key not in self.answers:
            self.answers[key] = self._answer(message)
        return deepcopy(self.answers[key])

    def _answer(self, message: Message) -> Message:
        node: dict[str, bool | float | int | str] = {
            "data-path": str(self.table),
            "site-id": "micu",
            "state-path": str(self.folder / "state"),
            "allow": self.allow,
        }
        return app(message, Context(1, 2, node, RecordDict(), dict(self.config.flat())))

    def passed(self, message: Message, answer: Message, bundle: str = BUNDLE) -> Message:
        """Return what the gate sends in the answer's place."""
        tree, contents = objects(message)
        question = read_question(message, tree, contents.__getitem__)
        tree, contents = objects(answer)
        return self.gate.pass_on(question, answer, tree, contents.__getitem__, bundle)

    @property
    def last(self) -> dict[str, Any]:
        """The last line of the audit log."""
        return list(read_entries(self.folder / "audit.jsonl"))[-1]


def objects(message: Message) -> tuple[ObjectTree, dict[str, bytes]]:
    """A message as it lies in a node: the tree of its objects, and their bytes."""
    contents = {name: one.deflate() for name, one in get_all_nested_objects(message).items()}
    return get_object_tree(message), contents


Make = Callable[..., Setting]


@pytest.fixture(scope="module")
def answers() -> dict[tuple[str, str, str], Message]:
    return {}


@pytest.fixture
def make(
    tmp_path: Path,
    tiny_bolt: Path,
    tiny_cohort: Path,
    answers: dict[tuple[str, str, str], Message],
) -> Make:
    def setting(
        allow: str = "", policy: str = POLICY, patients: int = 24, **settings: Any
    ) -> Setting:
        private = {"privacy.noise-multiplier": 3.0, "privacy.sample-rate": 0.5, **settings}
        config = tiny_run(tiny_bolt, tiny_cohort, tmp_path / "run", **private)
        adapted = adapted_backbone(config.backbone, config.lora, torch.device("cpu"))
        path = tmp_path / "policy.toml"
        path.write_text(policy.replace("DIGEST", adapted.digest))
        words = ", ".join(sorted(parse_allow(allow)))
        site, audit = Site("micu", patients, words), AuditLog(tmp_path / "audit.jsonl")
        gate = Gate(site, PolicyFile(path).current, audit)
        table = tiny_cohort / "sites" / "micu.parquet"
        return Setting(config, table, tmp_path, allow, gate, answers)

    return setting


def test_what_the_app_says_of_its_site_may_leave(make: Make) -> None:
    setting = make()
    message = setting.ask("query")
    sent = setting.passed(message, setting.answer(message)).content
    said = dict(sent.config_records["site.micu"])
    assert (said["usable"], said["rank"], said["step-minutes"]) == (True, 2, 60)
    assert (said["source"], said["rule"], said["outside"]) == ("synthetic", "random walks", "")
    assert "patients" not in said
    assert setting.last["decision"] == "sent"


def test_what_the_site_allows_is_said_and_rounded(make: Make) -> None:
    setting = make(allow="patients,loss")
    message = setting.ask("query")
    answer = setting.answer(message)
    exact = int(str(answer.content.config_records["site.micu"]["patients"]))
    said = dict(setting.passed(message, answer).content.config_records["site.micu"])
    assert said["outside"] == "loss, patients"
    assert said["patients"] == round(exact, -1) != exact


def test_a_private_round_may_leave_with_its_guarantee(make: Make) -> None:
    setting = make(allow="loss")
    message = setting.ask("train")
    answer = setting.answer(message)
    sent = setting.passed(message, answer).content
    report = dict(sent.metric_records["report"])
    assert 0 < float(str(report["privacy.epsilon"])) <= 8.0
    assert report["loss"] == round(float(str(report["loss"])), 3)
    given = answer.content.array_records["adapter"]["adapter"]
    assert sent.array_records["adapter"]["adapter"].data == given.data
    assert setting.last["epsilon"] == report["privacy.epsilon"]
    assert verify(setting.folder / "audit.jsonl").lines == 1


def test_a_round_without_a_guarantee_stays(make: Make) -> None:
    setting = make(**{"privacy.noise-multiplier": 0.0})
    message = setting.ask("train")
    answer = setting.answer(message)
    answer.content["report"] = MetricRecord({"loss": 0.5})
    sent = setting.passed(message, answer)
    assert sent.error.code == REFUSED
    assert setting.last["reason"] == "privacy"


Change = Callable[[Message], None]


def _renamed(answer: Message) -> None:
    answer.content["table"] = answer.content.array_records["adapter"]


def _unnamed(answer: Message) -> None:
    answer.content["report"] = MetricRecord({**answer.content.metric_records["report"], "age": 77})


def _loud(answer: Message) -> None:
    report = dict(answer.content.metric_records["report"])
    answer.content["report"] = MetricRecord({**report, "privacy.epsilon": 9.0})


def _text(answer: Message) -> None:
    answer.content["round"] = ConfigRecord(
        {"site": "micu", "round": 1, "run": "ab12", "n": "Meier"}
    )


def _few(answer: Message) -> None:
    report = dict(answer.content.metric_records["report"])
    answer.content["report"] = MetricRecord({**report, "patients": 4})


def _written(answer: Message) -> None:
    report = dict(answer.content.metric_records["report"])
    answer.content["report"] = MetricRecord({**report, "steps": 1.5})


def _padded(answer: Message) -> None:
    array = answer.content.array_records["adapter"]["adapter"]
    array.data = array.data + b"Meier"
    array.shape = (len(array.data),)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_renamed, "record"),
        (_unnamed, "metric"),
        (_loud, "privacy"),
        (_text, "round"),
        (_few, "patients"),
        (_written, "number"),
        (_padded, "adapter"),
    ],
)
def test_a_changed_answer_stays(make: Make, change: Change, reason: str) -> None:
    setting = make()
    message = setting.ask("train")
    answer = setting.answer(message)
    change(answer)
    sent = setting.passed(message, answer)
    assert not sent.has_content()
    assert sent.error.reason == "refused by the site's policy"
    assert (setting.last["decision"], setting.last["reason"]) == ("refused", reason)


def test_a_number_that_leaves_exactly_has_no_room_for_a_text(make: Make) -> None:
    setting = make()
    message = setting.ask("train")
    answer = setting.answer(message)
    (text,) = struct.unpack(">d", b"@HANSMEI")
    report = dict(answer.content.metric_records["report"])
    answer.content["report"] = MetricRecord({**report, "privacy.clip-norm": text})
    sent = setting.passed(message, answer).content.metric_records["report"]
    assert sent["privacy.clip-norm"] == pytest.approx(text, rel=1e-5)
    assert struct.pack(">d", sent["privacy.clip-norm"])[2:] != b"ANSMEI"
    assert len(repr(sent["privacy.clip-norm"])) <= 7


def test_the_sites_own_count_holds_where_the_app_tells_none(make: Make) -> None:
    setting = make(patients=4)
    for kind in ("query", "train"):
        message = setting.ask(kind)
        assert setting.passed(message, setting.answer(message)).error.code == REFUSED
        assert setting.last["reason"] == "patients"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("max-rank = 2", "max-rank = 1", "rank"),
        ("max-norm = 50.0", "max-norm = 1e-6", "norm"),
        ("max-bytes = 100000", "max-bytes = 100", "size"),
        ("rounds-per-day = 3", "rounds-per-day = 0", "rate"),
        ("(q|k|v|o)", "(q|k)", "tensor"),
    ],
)
def test_each_limit_of_the_policy_holds(make: Make, old: str, new: str, reason: str) -> None:
    assert old in POLICY
    setting = make(policy=POLICY.replace(old, new))
    message = setting.ask("train")
    assert setting.passed(message, setting.answer(message)).error.code == REFUSED
    assert setting.last["reason"] == reason


def test_a_bundle_that_is_not_approved_and_another_sites_round(make: Make) -> None:
    setting = make()
    message = setting.ask("train")
    answer = setting.answer(message)
    assert setting.passed(message, answer, bundle="cd" * 32).error.code == REFUSED
    assert setting.last["reason"] == "bundle"
    assert setting.passed(setting.ask("train", asked="sicu"), answer).error.code == REFUSED
    assert setting.last["reason"] == "question"


def test_words_that_are_not_the_sites_own_stay(make: Make) -> None:
    setting = make()
    message = setting.ask("query")
    for key, value in (("outside", "Meier"), ("source", "Meier"), ("rank", -1), ("name", "Meier")):
        answer = setting.answer(message)
        answer.content.config_records["site.micu"][key] = value
        assert setting.passed(message, answer).error.code == REFUSED
        assert setting.last["reason"] == "config"


def test_a_policy_that_has_gone_lets_nothing_out(make: Make) -> None:
    setting = make()
    message = setting.ask("query")
    answer = setting.answer(message)
    (setting.folder / "policy.toml").unlink()
    assert setting.passed(message, answer).error.code == REFUSED
    assert setting.last["reason"] == "policy"
