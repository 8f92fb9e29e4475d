from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest

from common.evaluation.bootstrap import Interval
from simulation.experiments.output.figures import (
    Point,
    sites_figure,
    standalone,
    trade_off_figure,
)

LOW = Interval(-0.03, -0.04, -0.02)
UNKNOWN = Interval(-0.01, float("nan"), float("nan"))


def trade_off() -> str:
    return trade_off_figure(
        {"LoRA": [Point(10, LOW, "1"), Point(100, UNKNOWN, "8")]},
        name="trade-off",
        x_label="numbers",
        y_label="WQL",
    )


def by_site() -> str:
    rows = {"ccu": {"a": LOW, "b": UNKNOWN}, "micu": {"a": UNKNOWN, "b": LOW}}
    return sites_figure(rows, name="sites", metric="WQL", reference="zero-shot")


@pytest.mark.parametrize("svg", [trade_off(), by_site()])
def test_a_figure_has_a_description_and_only_the_pages_colours(svg: str) -> None:
    root = ET.fromstring(svg)
    assert root.attrib["role"] == "img"
    description = root.find("{http://www.w3.org/2000/svg}desc")
    assert description is not None
    assert "-3.00 %" in str(description.text)
    assert not re.search(r"#0[12]02", svg)


def test_a_logarithmic_axis_is_labelled_by_numbers() -> None:
    drawn = trade_off_figure(
        {"LoRA": [Point(900, LOW, "1"), Point(2_000_000, LOW, "8")]},
        name="trade-off",
        x_label="numbers",
        y_label="WQL",
    )
    texts = {
        element.text for element in ET.fromstring(drawn).iter() if element.tag.endswith("text")
    }
    assert {"1,000", "1,000,000"} <= texts
    assert not any("$" in str(text) for text in texts)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        (
            [4_608, 9_216, 36_864, 147_456, 811_120],
            ["3,000", "10,000", "30,000", "100,000", "300,000", "1,000,000"],
        ),
        ([1, 3, 10], ["1", "3", "10"]),
        ([900, 1_100], ["900", "1,100"]),
    ],
)
def test_the_chart_of_ranks_has_its_ticks(values: list[float], ticks: list[str]) -> None:
    points = [Point(value, LOW, "") for value in values]
    drawn = trade_off_figure(
        {"a": points, "b": points}, name="ranks", x_label="numbers", y_label="WQL"
    )
    texts = [element for element in ET.fromstring(drawn).iter() if element.tag.endswith("text")]
    # The axis' own labels are in a row, below the per cents of the other axis.
    row = max(float(text.attrib["y"]) for text in texts if text.text == ticks[0])
    assert [text.text for text in texts if float(text.attrib["y"]) == row] == ticks


def test_a_file_of_a_figure_brings_every_colour_that_it_uses() -> None:
    text = standalone(trade_off())
    ET.fromstring(text.encode())
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert used
    assert all(f"{name}: #" in text for name in used)
