from __future__ import annotations

from typing import Any

import pytest

from common.reporting.phrasing import (
    NO_BREAK,
    bounds,
    byte_size,
    finding,
    number,
    percent,
    verdict,
    vitals_by_verdict,
)


def interval(estimate: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    return {"estimate": estimate, "low": low, "high": high}


BELOW = interval(-0.03, -0.04, -0.02)
ABOVE = interval(0.03, 0.02, 0.04)
AROUND = interval(-0.03, -0.07, 0.01)
POINT = interval(-0.03, None, None)


@pytest.mark.parametrize(
    ("given", "expected"),
    [(BELOW, "lower"), (ABOVE, "higher"), (AROUND, "unclear"), (POINT, "unknown")],
)
def test_the_verdict_is_the_interval_s(given: dict[str, Any], expected: str) -> None:
    assert verdict(given) == expected


def test_an_interval_that_touches_zero_decides_nothing() -> None:
    assert verdict(interval(-0.01, -0.02, 0.0)) == "unclear"
    assert verdict(interval(0.0, 0.0, 0.0)) == "unclear"


def test_a_finding_is_no_stronger_than_its_interval() -> None:
    words = {
        "lower": finding("WQL", BELOW, "x"),
        "higher": finding("WQL", ABOVE, "x"),
        "unclear": finding("WQL", AROUND, "x"),
        "unknown": finding("WQL", POINT, "x"),
    }
    spoken = {kind: text.replace(NO_BREAK, " ") for kind, text in words.items()}
    assert spoken["lower"] == (
        "WQL is 3.00 % lower than that of x (95 % interval 2.00 % to 4.00 % lower)"
    )
    assert spoken["higher"].endswith(
        "higher than that of x (95 % interval 2.00 % to 4.00 % higher)"
    )
    assert "cannot be told apart" in spoken["unclear"]
    assert "nothing follows" in spoken["unknown"]
    for kind in ("unclear", "unknown"):
        assert "lower" not in spoken[kind]
    assert "cannot be compared" in finding("WQL", interval(None, None, None), "x")


def test_vitals_are_grouped_by_what_their_intervals_say() -> None:
    def evaluation(**vitals: dict[str, Any]) -> dict[str, Any]:
        rows = {name: {"wql": {"relative": value}} for name, value in vitals.items()}
        return {"pooled": {"differences": {"zero_shot": {"vitals": rows}}}}

    mixed = vitals_by_verdict(evaluation(sbp=BELOW, dbp=AROUND, spo2=BELOW, mbp=ABOVE), "wql")
    assert mixed == (
        "Vital by vital, the interval of WQL lies below zero for systolic blood pressure and "
        "oxygen saturation; it lies above zero for mean blood pressure; it includes zero for "
        "diastolic blood pressure"
    )
    same = vitals_by_verdict(evaluation(sbp=BELOW, dbp=BELOW), "wql")
    assert same.endswith("lies below zero for all 2 vital signs")


def test_numbers_have_a_true_minus_and_no_break() -> None:
    assert percent(-0.0321) == f"\u22123.21{NO_BREAK}%"
    assert percent(0.5) == f"+50.00{NO_BREAK}%"
    assert percent(None) == number(None) == "\u2013"
    assert number(-1.25, 2) == "\u22121.25"
    assert bounds(AROUND) == "[\u22127.00, +1.00]"
    assert bounds(POINT) == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2.5e12, "2,500.0 GB")],
)
def test_bytes_have_a_fitting_unit(count: float, text: str) -> None:
    assert byte_size(count) == text
