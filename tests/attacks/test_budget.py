"""Attacks on the privacy budget: more runs, other names, a ledger that the app can write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flwr.app import ArrayRecord, Message, MetricRecord

from client.egress.reply_builder import NO_REPLY
from client.policy.refusal import REFUSED
from client.privacy.accountant import spent
from client.privacy.ledger_schema import FILE_NAME
from common.adapter.adapter import Adapter
from common.adapter.serialization.message import from_record, to_record
from tests.client.egress.gated_site import OPEN, POLICY, GatedSite, Make

STRONG: dict[str, Any] = {"privacy.noise-multiplier": 2.2, "privacy.sample-rate": 1.0, "rounds": 1}
"""One round of three steps at epsilon 3.3: three fit into the budget of 12, and no fourth."""


def trained(site: GatedSite, run: str, number: int = 1) -> str:
    """Request a round and let the app answer; return the refusal, empty if the reply was sent."""
    message = site.ask("train", number, run=run)
    refusal = site.admitted(message)
    if refusal is None:
        answer = site.passed(message, site.answer(message))
        return str(site.last["reason"]) if answer.has_error() else ""
    assert refusal.error.code == REFUSED
    return str(site.last["reason"])


def test_runs_compose_whatever_they_are_called(make: Make) -> None:
    """A coordinator starts run after run, each within the epsilon of one run.

    Before: without `epsilon-limit` six runs at epsilon 8 composed to 25.
    """
    site = make(policy=POLICY.replace("rounds-per-day = 3", "rounds-per-day = 100"), **STRONG)
    reasons = [trained(site, run) for run in ("aa", "bb", "cc", "dd", "ee", "ff")]
    left = reasons.count("")
    assert left >= 1
    assert reasons == [""] * left + ["budget"] * (6 - left)
    steps = [entry["privacy"] for entry in site.entries if entry["decision"] == "reserved"]
    assert len(steps) == left
    history = site.gate._budget.history
    assert spent(history, 1e-5).prv <= 12.0


def test_neither_a_restart_nor_a_new_name_nor_an_empty_ledger_begins_anew(make: Make) -> None:
    """A site is renamed, its node restarted, and the app deletes the ledger that it keeps.

    Before: the app kept the ledger, by the site's name.
    """
    site = make(policy=POLICY.replace("rounds-per-day = 3", "rounds-per-day = 100"), **STRONG)
    while not trained(site, f"{len(site.entries):x}"):
        pass
    assert site.last["reason"] == "budget"
    (site.folder / "state" / FILE_NAME).unlink()
    object.__setattr__(site.site, "name", "renamed")
    site.reopened()
    message = site.ask("train", site="renamed", run="99")
    assert site.admitted(message) is not None
    assert site.last["reason"] == "budget"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("privacy.epsilon", 0.5),
        ("privacy.noise-multiplier", -9.9e-123),
        ("privacy.noise-multiplier", 3.1),
        ("privacy.steps", 1),
        ("privacy.delta", 1e-6),
        ("privacy.sample-rate", 0.25),
    ],
)
def test_an_app_cannot_state_another_guarantee_than_the_settings_have(
    make: Make, name: str, value: float
) -> None:
    """An app reports an epsilon other than the settings'.

    Before: 40 messages that stated 7.997 each left, and a noise multiplier of -9.9e-123.
    """
    site = make()
    message = site.ask("train")
    assert site.admitted(message) is None
    answer = site.answer(message)
    report = dict(answer.content.metric_records["report"])
    answer.content["report"] = MetricRecord({**report, name: value})
    assert site.passed(message, answer).error.code == NO_REPLY
    assert site.last["reason"] == "privacy"


def test_a_run_without_privacy_is_entered_as_unbounded(make: Make) -> None:
    """A site takes part without privacy first, and sets itself a budget later.

    Before: such runs never entered the ledger, and the budget began at zero.
    """
    site = make(policy=OPEN, **{"privacy.noise-multiplier": 0.0, "privacy.sample-rate": 1.0})
    message = site.ask("train", run="cafe")
    assert site.admitted(message) is None
    assert site.last["privacy"] == {}
    assert site.admitted(site.ask("train", 2, run="cafe")) is None
    assert len(site.entries) == 1, "once a run"
    text = site.folder / "policy.toml"
    text.write_text(
        text.read_text().replace("required = false", "required = true\nbudget-epsilon = 100")
    )
    site.use(**{"privacy.noise-multiplier": 3.0})
    site.reopened()
    assert trained(site, "beef") == "budget"
    assert "cafe" in site.last["detail"]


def test_a_validation_without_privacy_is_entered_too(make: Make) -> None:
    """A coordinator has its own adapters scored, and never trains.

    Before: the run was not entered, and a budget that was set later began at zero.
    """
    site = make(policy=OPEN, **{"privacy.noise-multiplier": 0.0, "privacy.sample-rate": 1.0})
    assert site.admitted(site.ask("evaluate", run="cafe")) is None
    assert site.last["decision"] == "reserved"
    assert site.reopened()._budget.unbounded == {"cafe"}


def test_the_same_request_costs_nothing_only_where_the_same_bytes_leave(make: Make) -> None:
    """A coordinator asks for a round again, and the app trains it again.

    Before: each of the answers left, and the node counted none.
    """
    site = make()
    message = site.ask("train")
    answer = site.answer(message)
    assert site.admitted(message) is None
    site.passed(message, answer)
    again = site.ask("train")
    assert site.admitted(again) is None
    assert not site.passed(again, site.answer(again)).has_error()
    assert _reserved(site) == 1
    third = site.ask("train")
    assert site.admitted(third) is None
    other = site.answer(third)
    other.content["adapter"] = _changed(other, site.shared_adapter())
    assert not site.passed(third, other).has_error()
    assert _reserved(site) == 2


def test_a_run_that_fills_the_budget_may_have_its_last_answer_again(make: Make) -> None:
    """A server loses a reply and requests it again; an app that trains anew has no budget left.

    Before: a spent budget refused the same bytes too, though they reveal nothing new.
    """
    site = make(policy=POLICY.replace("rounds-per-day = 3", "rounds-per-day = 100"), **STRONG)
    runs = ["aa", "bb", "cc"]
    assert [trained(site, run) for run in (*runs, "dd")] == ["", "", "", "budget"]
    assert trained(site, "cc") == ""
    assert _reserved(site) == len(runs)
    message = site.ask("train", run="cc")
    assert site.admitted(message) is None
    other = site.answer(message)
    other.content["adapter"] = _changed(other, site.shared_adapter())
    assert site.passed(message, other).error.code == NO_REPLY
    assert site.last["reason"] == "budget"
    assert _reserved(site) == len(runs)


def test_a_run_that_is_resumed_does_not_pay_again_for_a_round_that_was_answered(make: Make) -> None:
    """A disconnected coordinator resumes its run, and requests the last round again.

    Before: `resume` and `out` made it another request, so that the round was spent twice.
    """
    site = make()
    first = site.ask("train")
    answer = site.answer(first)
    assert site.admitted(first) is None
    site.passed(first, answer)
    site.use(out="another", resume=True)
    resumed = site.ask("train")
    assert site.admitted(resumed) is None
    assert not site.passed(resumed, site.answer(resumed)).has_error()
    assert _reserved(site) == 1


def test_a_run_spends_the_steps_of_its_rounds_and_no_more(make: Make) -> None:
    """A coordinator asks for one round again and again, each time from another adapter.

    Before: the node took each for the run's round, beside an epsilon that covers them once.
    """
    site = make(**{"privacy.noise-multiplier": 30.0}, rounds=2)
    for seed in range(4):
        site.use(seed=seed)
        refusal = site.admitted(site.ask("train", 1))
        assert (refusal is None) == (seed < 2)
    assert site.last["reason"] == "privacy"
    assert _reserved(site) == 2
    site.reopened()
    assert site.admitted(site.ask("train", 2)) is not None


def test_a_budget_that_was_lowered_meanwhile_holds_for_what_has_not_left(make: Make) -> None:
    """The site lowers its budget while an app is training.

    Before: the budget was not checked again before a reply left.
    """
    site = make()
    message = site.ask("train")
    assert site.admitted(message) is None
    answer = site.answer(message)
    site.change_policy("budget-epsilon = 12.0", "budget-epsilon = 0.5")
    assert site.passed(message, answer).error.code == NO_REPLY
    assert site.last["reason"] == "budget"


def _reserved(site: GatedSite) -> int:
    return sum(entry["decision"] == "reserved" for entry in site.entries)


def _changed(answer: Message, shared: Adapter) -> ArrayRecord:
    """The answer's adapter with one number changed, as of another training."""
    adapter = from_record(answer.content.array_records["adapter"], shared=shared)
    name = next(name for name in adapter.tensors if ".lora_B." in name)
    tensor = adapter.tensors[name].copy()
    tensor[0, 0] += 0.25
    return to_record(replace(adapter, tensors={**adapter.tensors, name: tensor}), trained="b")
