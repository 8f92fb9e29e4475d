"""The gate's verdict on a run before its first round is trained and charged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from client.egress.reply_builder import ERROR_REASONS, REFUSED
from client.policy.refusal import PublicReason
from tests.client.egress.gated_site import POLICY, GatedSite, Make

PRIVACY, BACKBONE, SHAPE = (
    PublicReason.PRIVACY,
    PublicReason.BACKBONE,
    PublicReason.ADAPTER_SHAPE,
)
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
