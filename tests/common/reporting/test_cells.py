from __future__ import annotations

import pytest
from markupsafe import Markup

from common.reporting.cells import bracketed, decimal, relative, shown_as
from common.reporting.components import difference
from common.reporting.phrasing import MINUS, NO_BREAK, NOTHING

INTERVAL = {"estimate": -0.0321, "low": -0.0430, "high": -0.0210}
ALONE = {"estimate": 0.5, "low": None, "high": None}


def test_a_cell_is_its_html_and_keeps_its_numbers() -> None:
    cell = difference(INTERVAL)
    assert isinstance(cell, Markup)
    assert cell.startswith('<span class="lower">')
    assert cell.plain == f"{MINUS}3.21{NO_BREAK}% [{MINUS}4.30, {MINUS}2.10]"
    assert (cell.value, cell.low, cell.high) == pytest.approx((-3.21, -4.30, -2.10))
    assert cell.unit == "%"


@pytest.mark.parametrize(
    ("cell", "text", "value"),
    [
        (decimal(1 / 3), "0.333", 1 / 3),
        (decimal(None), NOTHING, None),
        (bracketed(ALONE, 1, scale=100.0), "50.0", 50.0),
        (bracketed({}), NOTHING, None),
        (relative(ALONE), f"+50.00{NO_BREAK}%", 50.0),
        (shown_as(148_272, "148.3 kB", "bytes"), "148.3 kB", 148_272),
    ],
)
def test_a_number_is_rounded_in_its_text_alone(cell: object, text: str, value: object) -> None:
    assert getattr(cell, "plain") == text  # noqa: B009  # one type for all constructors
    assert getattr(cell, "value") == value  # noqa: B009
