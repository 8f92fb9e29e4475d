from __future__ import annotations

from typing import Any

import pytest

from common.evaluation.evaluate import LEVELS
from server.report.calibration import calibration_section, calibration_text, departure_span
from server.runs.run_reader import RunRecord
from tests.server.report.samples import text_of


def test_there_is_no_section_before_an_evaluation() -> None:
    assert calibration_section(None) is None


def test_an_evaluation_of_an_older_release_has_no_curves(record: RunRecord) -> None:
    assert record.evaluation is not None
    del record.evaluation["pooled"]["calibration"]
    assert "evaluate again" in text_of(calibration_section(record.evaluation))


def test_calibration_is_drawn_and_given_in_numbers(record: RunRecord) -> None:
    assert record.evaluation is not None
    section = calibration_section(record.evaluation)
    assert section is not None
    assert [len(part.figures) for part in section.parts] == [2, 7, 0]
    band, levels = section.parts[2].tables[0], section.parts[2].folded[0]
    assert len(band.rows) == len(levels.rows) == 8
    assert all(len(row.cells) == len(LEVELS) for row in levels.rows)
    inside = record.evaluation["pooled"]["calibration"]["adapter"]["mean"]["inside_80"]
    assert f"{100 * inside['estimate']:.1f}" in band.rows[-1].cells[1]


def some_curves(low: float | None, estimate: float | None, high: float | None) -> dict[str, Any]:
    one = {"estimate": estimate, "low": low, "high": high}
    curve = {"below": [one, one], "inside_80": {"estimate": 0.75, "low": None, "high": None}}
    return {"adapter": curve, "zero_shot": curve}


def test_one_axis_holds_all_curves_and_their_intervals() -> None:
    levels = (0.4, 0.5)
    assert departure_span([some_curves(0.40, 0.45, 0.50)], levels) == pytest.approx(11.0)
    assert departure_span([some_curves(0.44, 0.45, 0.46)], levels) == pytest.approx(6.6)
    assert departure_span([some_curves(None, None, None)], levels) == 5.0


def test_a_figure_s_text_names_the_farthest_level() -> None:
    text = calibration_text(some_curves(0.5, 0.52, 0.6), (0.4, 0.5))
    assert "at the level of 40 %: 52.0 % of the measurements were at or below it" in text
    assert "80 % range contained 75.0 %" in text
    assert (
        calibration_text(some_curves(None, None, None), (0.4, 0.5)) == "There is nothing to draw."
    )
