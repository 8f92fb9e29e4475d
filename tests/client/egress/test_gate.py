"""The gate with replies of this release's own app, and with altered replies."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, MetricRecord
from flwr.common.constant import ErrorCode

from client.egress.audit.hash_chain import verify_log
from client.egress.reply_builder import ERROR_REASONS, NO_REPLY
from client.policy.refusal import REFUSED
from tests.client.egress.gated_site import OPEN, POLICY, Make

NOT_PRIVATE = {"privacy.noise-multiplier": 0.0, "privacy.sample-rate": 1.0}


def test_under_privacy_the_node_says_the_sites_own_constants(make: Make) -> None:
    site = make(allow="loss")
    sent = site.admitted(site.ask("query"))
    assert sent is not None
    said = dict(sent.content.config_records["site.micu"])
    assert (said["usable"], said["rank"], said["step-minutes"]) == (True, 2, 60)
    assert (said["source"], said["rule"], said["outside"]) == ("synthetic", "random walks", "loss")
    assert not said.keys() & {"patients", "windows", "validation-windows"}
    assert dict(sent.content.config_records["node"]) == {"nodes": 0}
    assert site.last["decision"] == "sent"


def test_a_rank_that_the_run_does_not_take_is_told_to_the_site(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    site = make(rank=1)
    site.admitted(site.ask("query"))
    assert "its lora-rank is 1, the run allows 2; leave lora-rank out" in site.last["detail"]
    assert "the coordinator will not admit this site: its lora-rank is 1" in caplog.text


def test_without_privacy_the_app_says_what_the_policy_allows(make: Make) -> None:
    site = make(policy=OPEN, **NOT_PRIVATE)
    message = site.ask("query")
    assert site.admitted(message) is None
    answer = site.answer(message)
    exact = int(str(answer.content.config_records["site.micu"]["patients"]))
    for name in ("windows", "validation-windows"):
        del answer.content.config_records["site.micu"][name]
    said = dict(site.passed(message, answer).content.config_records["site.micu"])
    assert (said["rank"], said["step-minutes"], said["source"]) == (2, 60, "synthetic")
    assert said["patients"] == round(exact, -1) != exact


def test_a_private_round_may_leave_with_its_guarantee(make: Make) -> None:
    site = make(allow="loss")
    message = site.ask("train")
    assert site.admitted(message) is None
    answer = site.answer(message)
    sent = site.passed(message, answer).content
    report = dict(sent.metric_records["report"])
    assert 0 < float(str(report["privacy.epsilon"])) <= 8.0
    assert report["loss"] == round(float(str(report["loss"])), 3)
    given = answer.content.array_records["adapter"]["adapter"]
    assert sent.array_records["adapter"]["adapter"].data == given.data
    assert site.last["epsilon"] == report["privacy.epsilon"]
    assert [entry["decision"] for entry in site.entries] == ["reserved", "sent"]
    assert verify_log(site.log).lines == 2


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("private", [True, False])
def test_each_type_of_number_leaves_as_it_was_written(
    make: Make, dtype: str, private: bool
) -> None:
    options: dict[str, Any] = {} if private else {"policy": OPEN, **NOT_PRIVATE}
    site = make(**{"wire.dtype": dtype, **options})
    assert site.config.trained == ("b" if private else "ab")
    message = site.ask("train")
    assert site.admitted(message) is None
    answer = site.answer(message)
    if not private:
        answer.content["report"] = MetricRecord({"steps": 3})
    sent = site.passed(message, answer).content
    given = answer.content.array_records["adapter"]["adapter"]
    assert sent.array_records["adapter"]["adapter"].data == given.data
    kinds = {kind for name, kind, _ in site.last["adapter"]["tensors"] if "scale" not in name}
    assert kinds == {dtype}


def test_another_type_of_number_than_the_run_s_stays(make: Make) -> None:
    site = make()
    message = site.ask("train")
    assert site.admitted(message) is None
    answer = site.answer(message)
    site.use(**{"wire.dtype": "float16"})
    assert site.passed(message, answer).error.code in (REFUSED, NO_REPLY)
    assert site.last["reason"] == "adapter"


def test_a_round_without_a_guarantee_is_not_started_and_would_stay(make: Make) -> None:
    site = make(**NOT_PRIVATE)
    message = site.ask("train")
    refusal = site.admitted(message)
    assert refusal is not None
    assert refusal.error.code == REFUSED
    assert site.last["reason"] == "privacy"
    answer = site.answer(message)
    answer.content["report"] = MetricRecord({"steps": 3})
    assert site.passed(message, answer).error.code == NO_REPLY
    assert site.last["reason"] == "privacy"


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


def _longer(answer: Message) -> None:
    report = dict(answer.content.metric_records["report"])
    answer.content["report"] = MetricRecord({**report, "steps": 4})


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
        (_longer, "number"),
        (_padded, "adapter"),
    ],
)
def test_a_changed_answer_stays(make: Make, change: Change, reason: str) -> None:
    site = make(allow="patients")
    message = site.ask("train")
    answer = site.answer(message)
    change(answer)
    sent = site.passed(message, answer)
    assert not sent.has_content()
    assert sent.error.reason == ERROR_REASONS[NO_REPLY]
    assert (site.last["decision"], site.last["reason"]) == ("refused", reason)


def test_a_number_that_leaves_exactly_has_no_room_for_a_text(make: Make) -> None:
    site = make(policy=OPEN.replace("loss = 3", 'loss = "exact"'), **NOT_PRIVATE)
    message = site.ask("train")
    answer = site.answer(message)
    (text,) = struct.unpack(">d", b"@HANSMEI")
    answer.content["report"] = MetricRecord({"steps": 3, "loss": text})
    sent = site.passed(message, answer).content.metric_records["report"]
    assert sent["loss"] == pytest.approx(text, rel=1e-5)
    assert struct.pack(">d", sent["loss"])[2:] != b"ANSMEI"
    assert len(repr(sent["loss"])) <= 7


def test_a_site_that_is_too_small_starts_no_app(make: Make) -> None:
    site = make(patients=4)
    for kind in ("query", "train", "evaluate"):
        refusal = site.admitted(site.ask(kind))
        assert refusal is not None
        assert refusal.error.code == REFUSED
        assert site.last["reason"] == "patients"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("max-rank = 2", "max-rank = 1", "rank"),
        ("max-norm = 500.0", "max-norm = 1e-6", "norm"),
        ("max-bytes = 100000", "max-bytes = 100", "size"),
        ("rounds-per-day = 3", "rounds-per-day = 0", "rate"),
        ("(q|k|v|o)", "(q|k)", "tensor"),
    ],
)
def test_each_limit_of_the_policy_holds(make: Make, old: str, new: str, reason: str) -> None:
    assert old in POLICY
    site = make(policy=POLICY.replace(old, new))
    message = site.ask("train")
    assert site.passed(message, site.answer(message)).error.code == NO_REPLY
    assert site.last["reason"] == reason


def test_a_bundle_that_is_not_approved_and_another_sites_round(make: Make) -> None:
    site = make()
    message = site.ask("train")
    refusal = site.admitted(message, bundle="cd" * 32)
    assert refusal is not None
    assert refusal.error.code == ErrorCode.INVALID_FAB
    assert site.passed(message, site.answer(message), bundle="cd" * 32).error.code == NO_REPLY
    assert site.last["reason"] == "bundle"
    elsewhere = site.ask("train", site="sicu")
    refusal = site.admitted(elsewhere)
    assert refusal is not None
    assert refusal.error.code == REFUSED
    assert site.last["reason"] == "question"
    assert site.passed(elsewhere, site.answer(elsewhere)).error.code == NO_REPLY
    assert site.last["reason"] == "question"


def test_words_that_are_not_the_sites_own_stay(make: Make) -> None:
    site = make(policy=OPEN, **NOT_PRIVATE)
    message = site.ask("query")
    for key, value in (
        ("outside", "Meier"),
        ("source", "Meier"),
        ("rank", 123_456_789),
        ("step-minutes", 987_654_321),
        ("name", "Meier"),
    ):
        answer = site.answer(message)
        answer.content.config_records["site.micu"][key] = value
        assert site.passed(message, answer).error.code == REFUSED
        assert site.last["reason"] == "config"


def test_a_policy_that_has_gone_lets_nothing_out(make: Make) -> None:
    site = make()
    message = site.ask("train")
    answer = site.answer(message)
    (site.folder / "policy.toml").unlink()
    assert site.passed(message, answer).error.code == NO_REPLY
    assert site.last["reason"] == "policy"
    refusal = site.admitted(message)
    assert refusal is not None
    assert refusal.error.code == REFUSED
