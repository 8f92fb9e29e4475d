from __future__ import annotations

from typing import Any

import pytest

from server.report.clinical_text import error_in_words, range_in_words, vital_errors
from tests.server.report.samples import BELOW, evaluation, interval, plain_spaces


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
            "two cannot be told apart (the 95 % interval of the difference is −0.70 to +0.10 "  # noqa: RUF001
            "beats/min).",
        ),
        (
            interval(-0.302, None, None),
            "Heart rate: off by 8.98 beats/min on average, against 9.28 without the adapter; "
            "there are too few patients to say whether this is more than chance.",
        ),
    ],
)
def test_a_vital_s_error_is_no_stronger_than_its_interval(
    difference: dict[str, Any], words: str
) -> None:
    assert plain_spaces(error_in_words("heart_rate", 8.9826, 9.2845, difference)) == words


@pytest.mark.parametrize(
    ("difference", "relative", "words"),
    [
        (
            interval(-0.302, -0.513, -0.092),
            interval(-0.0326, -0.0534, -0.0105),
            "0.30 less (95 % interval 0.09 to 0.51 less), or 3.26 % (1.05 % to 5.34 %).",
        ),
        (
            interval(-0.302, -0.7, 0.1),
            interval(-0.0326, -0.07, 0.011),
            "is −0.70 to +0.10 beats/min, or −7.00 % to +1.10 %).",  # noqa: RUF001
        ),
        (
            interval(-0.302, None, None),
            interval(-0.0326, None, None),
            "too few patients to say whether this is more than chance.",
        ),
    ],
)
def test_an_error_in_the_unit_is_given_in_per_cent_too(
    difference: dict[str, Any], relative: dict[str, Any], words: str
) -> None:
    text = error_in_words("heart_rate", 8.9826, 9.2845, difference, relative)
    assert plain_spaces(text).endswith(words)


def test_no_end_of_an_interval_is_shown_as_zero() -> None:
    text = plain_spaces(
        error_in_words("temperature_c", 0.343, 0.3541, interval(-0.011, -0.019, -0.0004))
    )
    assert "0.0110 less (95 % interval 0.0004 to 0.0190 less)" in text
    none = error_in_words("spo2", 1.0, 1.0, interval(0.0, 0.0, 0.0))
    assert "cannot be told apart" in none
    assert "percentage points" in none


def test_every_vital_has_its_sentence() -> None:
    (only,) = vital_errors(evaluation(BELOW))
    assert only.startswith("Systolic blood pressure: off by 12.00 mmHg on average, against 12.30")


def calibration(mean: dict[str, Any], **vitals: dict[str, Any]) -> dict[str, Any]:
    return {
        "mean": {"inside_80": mean},
        "vitals": {vital: {"inside_80": one} for vital, one in vitals.items()},
    }


NARROW, WIDE = interval(0.77, 0.76, 0.78), interval(0.83, 0.82, 0.85)
RIGHT, FEW = interval(0.79, 0.77, 0.81), interval(0.79, None, None)


def test_ranges_are_called_narrow_or_wide_only_where_that_can_be_shown() -> None:
    narrow = plain_spaces(" ".join(range_in_words(calibration(NARROW, sbp=NARROW, spo2=WIDE))))
    assert "contained 77.0 % of the measurements" in narrow
    assert "(95 % interval 76.0 % to 78.0 %): 2.0 to 4.0 percentage points too few" in narrow
    assert "too narrow for systolic blood pressure and too wide for oxygen saturation" in narrow
    wide = " ".join(range_in_words(calibration(WIDE)))
    assert "2.0 to 5.0 percentage points too many, so the ranges are too wide" in wide
    right = " ".join(range_in_words(calibration(RIGHT, sbp=RIGHT)))
    assert "compatible with 80 of 100" in right
    assert "No difference can be shown for any single vital sign" in right
    for text in (right, " ".join(range_in_words(calibration(FEW, sbp=FEW)))):
        assert "too narrow" not in text
        assert "too wide" not in text
    assert "nothing follows from it" in " ".join(range_in_words(calibration(FEW)))
    assert range_in_words(calibration(interval(None, None, None))) == []
