"""The gate's verdict on a run before its first round is trained and charged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from client.egress.reply_builder import ERROR_REASONS
from client.policy.refusal import REFUSED, PublicReason
from common.adapter.serialization.message import to_record
from tests.client.egress.gated_site import OPEN, POLICY, GatedSite, Make

PRIVACY, BACKBONE, SHAPE = (
    PublicReason.PRIVACY,
    PublicReason.BACKBONE,
    PublicReason.ADAPTER_SHAPE,
)
NOT_PRIVATE: dict[str, Any] = {"privacy.noise-multiplier": 0.0}
SETTINGS, REPORT, NONE = PublicReason.SETTINGS, PublicReason.REPORT, PublicReason.NONE

POLICIES = [
    ("max-rank = 2", "max-rank = 1", "rank", SHAPE),
    ("max-bytes = 100000", "max-bytes = 100", "size", SHAPE),
    ("(q|k|v|o)", "(q|k)", "tensor", SHAPE),
    ('"lora.alpha" = { min = 1, max = 64 }', '"lora.alpha" = 64', "settings", SHAPE),
    ('"wire.dtype" = ["float32", "float16", "int8"]', '"wire.dtype" = "int8"', "settings", SHAPE),
    ('backbone = "BACKBONE"', 'backbone = "chronos-2"', "settings", BACKBONE),
    ('"train.steps" = { min = 0, max = 10 }', '"train.steps" = 1', "settings", SETTINGS),
    ('"windows.context" = { min = 12, max = 48 }\n', "", "settings", SETTINGS),
    ('"privacy.steps" = "exact"\n', "", "metric", REPORT),
    ("loss = 3\n", "", "metric", REPORT),
    ('"privacy.clip-norm" = { min = 0.001, max = 10 }\n', "", "settings", PRIVACY),
    ("max-epsilon = 8.0", "max-epsilon = 0.1", "privacy", PRIVACY),
    ("max-delta = 1e-4", "max-delta = 1e-7", "privacy", PRIVACY),
    ("budget-epsilon = 12.0", "budget-epsilon = 0.1", "budget", PRIVACY),
    ("rounds-per-day = 3", "rounds-per-day = 0", "rate", NONE),
    ("min-patients = 5", "min-patients = 11", "patients", NONE),
]


def refused(site: GatedSite, kind: str = "train", run: str = "ab12") -> str:
    """Return what the coordinator is told of a request; the budget must not be charged."""
    before = site.gate._budget.history
    refusal = site.admitted(site.ask(kind, run=run))
    assert refusal is not None
    assert refusal.error.code == REFUSED
    assert site.last["decision"] == "refused"
    assert site.gate._budget.history == before
    return str(refusal.error.reason)


def text_of(reason: PublicReason) -> str:
    return f"{ERROR_REASONS[REFUSED]}: {reason}" if reason else ERROR_REASONS[REFUSED]


@pytest.mark.parametrize(("old", "new", "code", "told"), POLICIES)
def test_what_the_policy_says_of_a_run_comes_before_its_charge(
    make: Make, old: str, new: str, code: str, told: PublicReason
) -> None:
    assert old in POLICY
    site = make(allow="loss", policy=POLICY.replace(old, new))
    assert refused(site) == text_of(told)
    assert site.last["reason"] == code
    assert site.last.get("told", "") == told
    assert len(site.entries) == 1


def test_the_refusal_of_a_reply_tells_no_reason(make: Make) -> None:
    site = make(policy=POLICY.replace("max-norm = 500.0", "max-norm = 1e-6"))
    message = site.ask("train")
    assert site.admitted(message) is None
    sent = site.passed(message, site.answer(message))
    said = str(sent.error.reason)
    assert not any(reason in said for reason in PublicReason if reason)
    assert [entry["decision"] for entry in site.entries] == ["reserved", "refused"]


@pytest.mark.parametrize("kind", ["query", "train"])
def test_a_rank_of_the_sites_own_is_compared_too(make: Make, kind: str) -> None:
    site = make()
    object.__setattr__(site.site, "rank", 3)
    assert refused(site, kind) == text_of(SHAPE)


def test_an_adapter_of_another_backbone_is_not_charged(make: Make) -> None:
    site = make()
    object.__setattr__(site.site, "backbones", {site.config.backbone: "0" * 64})
    assert refused(site) == text_of(BACKBONE)


def test_the_epsilon_limit_holds_before_the_app_would_apply_it(make: Make) -> None:
    strong: dict[str, Any] = {
        "privacy.noise-multiplier": 2.2,
        "privacy.sample-rate": 1.0,
        "rounds": 1,
    }
    site = make(policy=POLICY.replace("budget-epsilon = 12.0", "budget-epsilon = 100.0"), **strong)
    site.gate._site = replace(site.site, epsilon_limit=4.0)
    message = site.ask("train", run="aa")
    assert not site.asked_and_answered(message).has_error()
    assert refused(site, run="bb") == text_of(PRIVACY)
    assert "above its epsilon-limit of 4" in site.last["detail"]
    again = site.ask("train", run="aa")
    assert site.admitted(again) is None, "the same bytes are sent again"


CHANGES: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.3},
    "alpha": {"alpha": 3.0},
    "backbone": {"backbone": "other"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_adapter_with_other_settings_than_the_run_s_is_not_charged(
    make: Make, change: dict[str, Any]
) -> None:
    """Before: the round was trained and charged, and its reply, with the run's own, was refused."""
    site = make()
    message = site.ask("train")
    other = replace(site.shared_adapter(), **change)
    message.content["adapter"] = to_record(other, trained=site.config.trained)
    refusal = site.admitted(message)
    assert refusal is not None
    assert refusal.error.reason == text_of(SHAPE)
    assert [entry["decision"] for entry in site.entries] == ["refused"]


@pytest.mark.parametrize("name", ["windows = -2\n", '"seconds.training" = 0\n', "loss = 3\n"])
def test_a_number_of_every_round_without_privacy_is_compared_too(make: Make, name: str) -> None:
    """Before: the run was trained and recorded as unbounded, and no reply of it could leave."""
    assert name in OPEN
    site = make(policy=OPEN.replace(name, ""), **NOT_PRIVATE)
    assert refused(site) == text_of(REPORT)
    assert not site.gate._budget.unbounded


def test_a_reply_stays_where_the_policy_no_longer_accepts_the_settings(make: Make) -> None:
    """Before: the settings were compared with the policy of the request alone."""
    site = make()
    message = site.ask("train")
    assert site.admitted(message) is None
    answer = site.answer(message)
    site.change_policy('"train.steps" = { min = 0, max = 10 }', '"train.steps" = 1')
    assert site.passed(message, answer).has_error()
    assert site.last["reason"] == "settings"


def test_an_earlier_round_is_charged_before_it_is_trained_again(make: Make) -> None:
    """The app keeps the last reply of a run alone, and trains any other round anew.

    Before: the second training of round 1 was charged after it, or refused then.
    """
    site = make(rounds=2)
    for number in (1, 2):
        assert not site.asked_and_answered(site.ask("train", number)).has_error()
    assert site.admitted(site.ask("train", 2)) is None, "the app sends the same bytes"
    assert refused(site) == text_of(PRIVACY)
    assert "has spent its" in site.last["detail"]
