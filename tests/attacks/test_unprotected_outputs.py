"""Attacks on outputs beside the noised adapter: joins, numbers, errors, and their frequency."""

from __future__ import annotations

from typing import Any

import pytest
from flwr.app import Error, Message, MetricRecord
from flwr.common.constant import ErrorCode

from client.egress.reply_builder import APP_FAILED, ERROR_REASONS, NO_REPLY
from client.policy.refusal import REFUSED
from client.privacy.allowlist import PRIVATE_NUMBERS
from tests.client.egress.gated_site import POLICY, GatedSite, Make

NOT_PRIVATE = {"privacy.noise-multiplier": 0.0, "privacy.sample-rate": 1.0}


def said(message: Message | None) -> dict[str, object]:
    """Return a reply's content, without Flower's own numbers."""
    assert message is not None
    return {name: dict(record) for name, record in message.content.config_records.items()}


@pytest.mark.parametrize(
    "windows",
    [
        {"windows.context": 12},
        {"windows.context": 48, "windows.stride": 48},
        {"windows.horizon": 1, "windows.min-context": 1},
        {"windows.vitals": "heart_rate,mbp"},
    ],
)
def test_a_private_join_says_the_same_however_windows_are_cut(
    make: Make, windows: dict[str, Any]
) -> None:
    """A coordinator varies the windows of join requests, and reads `usable`.

    Before: 12 requests gave the longest stay, 32 one patient's hours of measurement.
    """
    site = make()
    due = said(site.admitted(site.ask("query")))
    site.use(**windows)
    assert said(site.admitted(site.ask("query"))) == due
    assert due["site.micu"]["usable"] is True  # type: ignore[index]


def test_a_private_join_does_not_come_from_the_app(make: Make) -> None:
    """An app answers a join request that it was not given, with arbitrary values.

    Before: the app reported `usable`, and counts that `allow` names.
    """
    site = make(allow="patients,windows")
    message = site.ask("query")
    assert site.passed(message, site.answer(message)).error.code == NO_REPLY
    assert site.last["reason"] == "join"


def test_without_the_required_privacy_no_join_is_answered(make: Make) -> None:
    """A coordinator turns privacy off and asks every site to join, for any `windows.*`.

    Before: counts of patients and windows left, as often as asked, with a budget set.
    """
    site = make(**NOT_PRIVATE)
    refusal = site.admitted(site.ask("query"))
    assert refusal is not None
    assert refusal.error.code == REFUSED
    assert site.last["reason"] == "privacy"


@pytest.mark.parametrize("kind", ["train", "evaluate"])
@pytest.mark.parametrize("name", PRIVATE_NUMBERS)
def test_under_privacy_no_number_leaves_that_the_site_does_not_name(
    make: Make, kind: str, name: str
) -> None:
    """An app reports a loss, a count, a score or its seconds, though `allow` is empty.

    Before: the gate passed them; only the app applied `allow`.
    """
    every = "".join(f'"{one}" = 4\n' for one in PRIVATE_NUMBERS if one not in ("loss", "patients"))
    site = make(policy=POLICY.replace("loss = 3\n", f"loss = 3\n{every}"))
    message = site.ask(kind)
    answer = site.answer(message)
    report = dict(answer.content.metric_records["report"])
    answer.content["report"] = MetricRecord({**report, name: 1})
    assert site.passed(message, answer).error.code == NO_REPLY
    assert "site.toml's allow" in site.last["detail"]


@pytest.mark.parametrize(
    "code",
    [APP_FAILED, REFUSED, ErrorCode.INVALID_FAB, ErrorCode.CLIENT_APP_CRASHED, 0, 5, 2**31],
)
def test_under_privacy_every_failure_of_an_app_says_the_same(make: Make, code: int) -> None:
    """An app sends bits by the error that it chooses.

    Before: four errors could be told apart, two bits a message.
    """
    site = make()
    message = site.ask("train")
    error = Message(Error(code=code, reason="Meier, bed 7"), reply_to=message)
    sent = site.passed(message, error).error
    assert (sent.code, sent.reason) == (NO_REPLY, ERROR_REASONS[NO_REPLY])
    refused = site.answer(message)
    refused.content["table"] = refused.content.array_records["adapter"]
    sent = site.passed(message, refused).error
    assert (sent.code, sent.reason) == (NO_REPLY, ERROR_REASONS[NO_REPLY])


def test_errors_are_counted_and_end_in_silence(make: Make) -> None:
    """An app signals by failing or not: a bit a message, without a limit.

    Before: `rounds-per-day` counted only what was sent.
    """
    site = make(policy=POLICY.replace("errors-per-day = 30", "errors-per-day = 2"))

    def fail() -> Message | None:
        message = site.ask("train")
        return site.sent(message, Message(Error(code=APP_FAILED), reply_to=message))

    assert [fail() is None for _ in range(4)] == [False, False, True, True]
    assert site.last["silent"]
    site.reopened()
    assert fail() is None, "a restart of the node begins no new day"
    assert site.gate.admit(site.request(site.ask("train"), "cd" * 32)) == (None,)


@pytest.mark.parametrize(("kind", "most"), [("query", 3), ("evaluate", 2)])
def test_every_kind_of_answer_has_a_limit_of_its_own(make: Make, kind: str, most: int) -> None:
    """A coordinator repeats requests other than to train.

    Before: joins were not limited at all, and an evaluation counted as a round.
    """
    site = make()
    for _ in range(most):
        assert not site.asked_and_answered(site.ask(kind)).has_error()
    assert _refused_for(site, kind) == "rate"
    other = "evaluate" if kind == "query" else "query"
    assert not site.asked_and_answered(site.ask(other)).has_error()
    site.reopened()
    assert _refused_for(site, kind) == "rate"


def _refused_for(site: GatedSite, kind: str) -> str:
    refusal = site.admitted(site.ask(kind))
    assert refusal is not None
    assert refusal.error.code == REFUSED
    return str(site.last["reason"])
