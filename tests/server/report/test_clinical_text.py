from __future__ import annotations

from typing import Any

import pytest

from common.reporting.phrasing import NO_BREAK
from server.report.clinical_text import (
    duration,
    error_in_words,
    mean_error,
    range_in_words,
    sites_in_words,
    small_number,
    vital_errors,
)


def interval(estimate: float | None, low: float | None, high: float | None) -> dict[str, Any]:
    return {"estimate": estimate, "low": low, "high": high}


def spoken(text: str) -> str:
    return text.replace(NO_BREAK, " ")


@pytest.mark.parametrize(
    ("difference", "words"),
    [
        (
            interval(-0.302, -0.513, -0.092),
            "Heart rate: off by 8.98 beats/min on average, against 9.28 without the adapter: 0.30 "
            "less (95 % interval 0.09 to 0.51 less).",
        ),
        (
            interval(0.302, 0.092, 0.513),
            "Heart rate: off by 8.98 beats/min on average, against 9.28 without the adapter: 0.30 "
            "more (95 % interval 0.09 to 0.51 more).",
        ),
        (
            interval(-0.302, -0.7, 0.1),
            "Heart rate: off by 8.98 beats/min on average, against 9.28 without the adapter; the "
            "two cannot be told apart (the 95 % interval of the difference is −0.70 to +0.10).",  # noqa: RUF001
        ),
        (
            interval(-0.302, None, None),
            "Heart rate: off by 8.98 beats/min on average, against 9.28 without the adapter; "
            "there are too few patients to say whether that is more than chance.",
        ),
    ],
)
def test_a_vital_s_error_is_said_no_stronger_than_its_interval(
    difference: dict[str, Any], words: str
) -> None:
    assert spoken(error_in_words("heart_rate", 8.9826, 9.2845, difference)) == words


def test_no_end_of_an_interval_is_shown_as_zero() -> None:
    text = spoken(error_in_words("temperature_c", 0.343, 0.3541, interval(-0.011, -0.019, -0.0004)))
    assert "0.0110 less (95 % interval 0.0004 to 0.0190 less)" in text
    none = error_in_words("spo2", 1.0, 1.0, interval(0.0, 0.0, 0.0))
    assert "cannot be told apart" in none
    assert "percentage points" in none


def evaluation(mean: dict[str, Any], **sites: dict[str, Any]) -> dict[str, Any]:
    def block(relative: dict[str, Any]) -> dict[str, Any]:
        difference = {"relative": relative, "absolute": interval(-0.3, -0.5, -0.1)}
        return {
            "models": {
                "adapter": {"vitals": {"sbp": {"mae": 12.0}}},
                "zero_shot": {"vitals": {"sbp": {"mae": 12.3}}},
            },
            "differences": {
                "zero_shot": {"mean": {"mae": difference}, "vitals": {"sbp": {"mae": difference}}}
            },
        }

    return {"pooled": block(mean), "sites": {name: block(one) for name, one in sites.items()}}


BELOW, ABOVE = interval(-0.03, -0.04, -0.02), interval(0.03, 0.02, 0.04)
AROUND, POINT = interval(-0.03, -0.07, 0.01), interval(-0.03, None, None)


def test_the_mean_error_is_said_no_stronger_than_its_interval() -> None:
    said = {
        name: spoken(mean_error(evaluation(one)))
        for name, one in (("below", BELOW), ("above", ABOVE), ("around", AROUND), ("point", POINT))
    }
    assert said["below"] == (
        "the forecasts' average error is 3.00 % smaller with the adapter than without it "
        "(95 % interval 2.00 % to 4.00 % smaller)"
    )
    assert said["above"].endswith("(95 % interval 2.00 % to 4.00 % larger)")
    assert "cannot be told apart" in said["around"]
    assert "too few patients" in said["point"]
    for name in ("around", "point"):
        assert "smaller" not in said[name]
    assert "cannot be compared" in mean_error(evaluation(interval(None, None, None)))


def test_every_vital_has_its_sentence() -> None:
    (only,) = vital_errors(evaluation(BELOW))
    assert only.startswith("Systolic blood pressure: off by 12.00 mmHg on average, against 12.30")


def test_sites_are_grouped_by_what_their_intervals_say() -> None:
    result = evaluation(BELOW, ccu=BELOW, micu=ABOVE, sicu=AROUND, tsicu=POINT, csru=BELOW)
    names = {site: site.upper() for site in result["sites"]}
    assert sites_in_words(result, names) == (
        "Site by site, the average error is smaller with the adapter at CCU and CSRU; larger "
        "with the adapter at MICU; not to be told apart at SICU; of too few patients to compare "
        "at TSICU."
    )
    many = evaluation(BELOW, **{f"site{number}": BELOW for number in range(40)})
    assert "at 40 sites." in sites_in_words(many, {site: site for site in many["sites"]})


def calibration(mean: dict[str, Any], **vitals: dict[str, Any]) -> dict[str, Any]:
    return {
        "mean": {"inside_80": mean},
        "vitals": {vital: {"inside_80": one} for vital, one in vitals.items()},
    }


NARROW, WIDE = interval(0.77, 0.76, 0.78), interval(0.83, 0.82, 0.85)
RIGHT, FEW = interval(0.79, 0.77, 0.81), interval(0.79, None, None)


def test_ranges_are_called_narrow_or_wide_only_where_that_can_be_shown() -> None:
    narrow = spoken(" ".join(range_in_words(calibration(NARROW, sbp=NARROW, spo2=WIDE))))
    assert "held 77.0 %" in narrow
    assert "(95 % interval 76.0 % to 78.0 %): 2.0 to 4.0 points fewer than announced" in narrow
    assert "too narrow for systolic blood pressure and too wide for oxygen saturation" in narrow
    wide = " ".join(range_in_words(calibration(WIDE)))
    assert "2.0 to 5.0 points more than announced, so that they are too wide" in wide
    right = " ".join(range_in_words(calibration(RIGHT, sbp=RIGHT)))
    assert "no difference from what was announced can be shown" in right
    assert "For no single vital sign" in right
    for text in (right, " ".join(range_in_words(calibration(FEW, sbp=FEW)))):
        assert "too narrow" not in text
        assert "too wide" not in text
    assert "nothing follows from it" in " ".join(range_in_words(calibration(FEW)))
    assert range_in_words(calibration(interval(None, None, None))) == []


def test_times_and_numbers_read_as_prose() -> None:
    assert [spoken(duration(minutes)) for minutes in (60, 360, 90, 30, 1)] == [
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
