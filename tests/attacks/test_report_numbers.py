"""Covert channels in the numbers of a report and of a join reply."""

from __future__ import annotations

import math
from typing import Any

import pytest
from flwr.app import MetricRecord
from hypothesis import given
from hypothesis import strategies as st

from client.egress.reply_builder import NO_REPLY
from client.egress.report_rules import RANGES, WHOLE, ranged, report_capacity_bits, rounded
from client.policy.refusal import REFUSED, RefusedError
from tests.client.egress.gated_site import OPEN, GatedSite, Make

NOT_PRIVATE = {"privacy.noise-multiplier": 0.0, "privacy.sample-rate": 1.0}


def reported(site: GatedSite, **numbers: Any) -> str:
    """Let the app report numbers beside its adapter; return the refusal, empty if they left."""
    message = site.ask("train")
    answer = site.answer(message)
    answer.content["report"] = MetricRecord({"steps": 3, **numbers})
    sent = site.passed(message, answer)
    assert not sent.has_error() or sent.error.code in (REFUSED, NO_REPLY)
    return str(site.last["reason"]) if sent.has_error() else ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("loss", 1e9),
        ("loss", math.nan),
        ("loss", -math.inf),
        ("patients", -1),
        ("patients", 10**9),
        ("patients", 24.5),
        ("steps", 2**40),
    ],
)
def test_a_number_out_of_its_range_stays(make: Make, name: str, value: float) -> None:
    """An app writes a text into the digits of a number.

    Before: every number up to 1e9 left, with four decimals: 751 bits a round.
    """
    site = make(policy=OPEN, **NOT_PRIVATE)
    assert reported(site, **{name: value}) == "number"


def test_a_negative_zero_and_digits_beyond_the_policys_do_not_leave(make: Make) -> None:
    """An app hides a bit in a zero's sign, and more after the decimals that are kept.

    Before: the sign left.
    """
    site = make(policy=OPEN, **NOT_PRIVATE)
    assert reported(site, loss=-0.0) == ""
    assert math.copysign(1.0, site.last["metrics"]["loss"]) == 1.0
    site = make(policy=OPEN, **NOT_PRIVATE)
    assert reported(site, loss=0.1234567) == ""
    assert site.last["metrics"]["loss"] == 0.123


@given(name=st.sampled_from(sorted(RANGES)), value=st.floats() | st.integers())
def test_what_leaves_is_finite_in_range_and_of_its_kind(name: str, value: float) -> None:
    least, most = RANGES[name]
    try:
        checked = ranged(name, value)
    except RefusedError:
        assert not least <= value <= most or (name in WHOLE and type(value) is float)
    else:
        assert least <= checked <= most
        assert type(checked) is int or name not in WHOLE


@given(
    value=st.floats(-1e9, 1e9) | st.integers(-(10**9), 10**9),
    decimals=st.none() | st.integers(-6, 6),
)
def test_rounding_is_final(value: float, decimals: int | None) -> None:
    once = rounded(value, decimals)
    assert rounded(once, decimals) == once
    assert math.copysign(1.0, once) == 1.0 or once < 0


def test_the_bits_of_a_report_are_counted() -> None:
    """Upper bound of what an app could hide in the numbers that a policy allows.

    Before: 751 bits under the shipped policy.
    """
    assert report_capacity_bits({}) == 0.0
    assert report_capacity_bits({"patients": -1}) == pytest.approx(math.log2(10**6 + 1))
    assert report_capacity_bits({"loss": 4}) == pytest.approx(math.log2(11_000_001))
    assert report_capacity_bits({"privacy.epsilon": None, "unknown": 4}) == 0.0, (
        "the node's own, or none"
    )
