from __future__ import annotations

from typing import Any

import pytest

from common.reporting.phrasing import (
    NO_BREAK,
    bounds,
    byte_size,
    clean_line,
    difference_in_words,
    duration,
    listed,
    number,
    percent,
    small_number,
    verdict,
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


def test_a_difference_in_words_is_no_stronger_than_its_interval() -> None:
    words = {
        "lower": difference_in_words("WQL", BELOW, "x"),
        "higher": difference_in_words("WQL", ABOVE, "x"),
        "unclear": difference_in_words("WQL", AROUND, "x"),
        "unknown": difference_in_words("WQL", POINT, "x"),
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
    assert "cannot be compared" in difference_in_words("WQL", interval(None, None, None), "x")


def test_numbers_have_a_typographic_minus_and_no_break() -> None:
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


def test_times_and_numbers_read_as_prose() -> None:
    assert [duration(minutes).replace(NO_BREAK, " ") for minutes in (60, 360, 90, 30, 1)] == [
        "1 hour",
        "6 hours",
        "90 minutes",
        "30 minutes",
        "1 minute",
    ]
    assert [small_number(value) for value in (1, 5, 10, 11, 2000)] == [
        "one",
        "five",
        "ten",
        "11",
        "2,000",
    ]


def test_text_from_a_site_is_one_bounded_line() -> None:
    assert clean_line("a\nb\x00c") == "a b c"
    assert clean_line("a" * 5000, 20) == "a" * 19 + "…"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([], ""),
        (["ccu"], "ccu"),
        (["ccu", "micu"], "ccu and micu"),
        (("a", "b", "c"), "a, b and c"),
    ],
)
def test_names_are_listed_as_in_a_sentence(names: list[str], text: str) -> None:
    assert listed(names) == text
