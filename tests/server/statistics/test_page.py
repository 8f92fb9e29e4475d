"""Page and tables: what they say, that hostile text stays text, their size, and in a browser."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.data.statistics.edges import BINS
from common.reporting.console import console_table
from server.statistics.comparison import compare_sites
from server.statistics.heat_strips import Scale, StripRow, heat_strips
from server.statistics.page import write_statistics_page
from server.statistics.tables import statistics_in_markdown, verdict_table
from tests.samples.browser import assert_accessible, needs_browser
from tests.server.statistics import samples
from tests.server.statistics.samples import made_up_site, several, statistics_of

HOSTILE = "<script>alert(1)</script>|\"'`[x](y)\n{{ 7*7 }}"


def nine_sites() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    sites = several(rng, 5)
    sites["hot"] = made_up_site(rng, 400, samples.in_fahrenheit)
    sites["noisy"] = made_up_site(rng, 400, multiplier=1.0)
    sites["tiny"] = made_up_site(rng, 5, age="not recorded", sex="not recorded")
    return statistics_of(sites, {"gone": "its policy allows no statistics"})


def page_of(statistics: dict[str, Any], folder: Path) -> str:
    path = folder / "statistics.html"
    write_statistics_page(statistics, path)
    return path.read_text()


def test_the_page_begins_with_what_to_do(tmp_path: Path) -> None:
    text = page_of(nine_sites(), tmp_path)
    assert "6 of 9 sites can join" in text
    assert "hot should mend first: temperature looks like °F or K" in text
    assert "gone sent no statistics: its policy allows no statistics" in text
    assert "not recorded" in text
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", text)


def test_a_suppressed_count_is_never_a_zero(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    text = page_of(statistics_of({"tiny": made_up_site(rng, 5)}), tmp_path)
    assert "0 of 1 site can join" in text
    assert text.count('<path class="hatch" d="M0 0h15"/>') == 7
    tables = re.findall(r"<td>(.*?)</td>", text, re.DOTALL)
    assert tables.count("suppressed") > 7 * BINS
    assert "0" not in tables


def test_noisy_counts_are_marked(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    text = page_of(statistics_of(several(rng, 2, patients=300, multiplier=1.0)), tmp_path)
    assert "≈\u00a0" in text
    assert "added noise to every count" in text


def test_a_page_without_sites(tmp_path: Path) -> None:
    assert "No site has replied." in page_of(statistics_of({}), tmp_path)
    assert "gone sent no statistics" in page_of(statistics_of({}, {"gone": "off"}), tmp_path)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    sites = several(rng, 3)
    sites["odd"] = made_up_site(rng, source=HOSTILE, rule=HOSTILE)
    statistics = statistics_of(sites, {"gone": HOSTILE})
    text = page_of(statistics, tmp_path)
    assert "<script" not in text
    assert "{{ 7*7 }}" in text
    markdown = statistics_in_markdown(statistics)
    assert r"\<script\>" in markdown
    rows = markdown.strip().splitlines()[2:]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {5}


def test_the_table_is_printed_on_a_console(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    table = verdict_table(compare_sites(nine_sites()).verdicts, html=False)
    Console(width=80).print(console_table(table))
    shown = capsys.readouterr().out
    assert "mend first" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_large_federation_fits_a_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    six = several(rng, 6, patients=150)
    sites = {f"hospital-{place}": six[f"site-{place % 6}"] for place in range(186)}
    assert len(page_of(statistics_of(sites), tmp_path)) < 1_000_000


def test_cells_of_one_shade_are_one_path() -> None:
    rows = [StripRow("<a>", [0.0, 0.5, 0.5, None, float("nan")]), StripRow("b", [0.5] * 5)]
    drawn = heat_strips("x", "t", "d", rows, [(1, "60")], Scale(0.1))
    assert 'd="M1 0h2M0 1h5"' in drawn
    assert '<path class="hatch" d="M3 0h1"/>' in drawn
    assert "&lt;a&gt;" in drawn


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_is_accessible_in_a_browser(tmp_path: Path, width: int, scheme: str) -> None:
    page_of(nine_sites(), tmp_path)
    found = assert_accessible(tmp_path / "statistics.html", width, scheme, tmp_path)
    assert len(found["figures"]) == 7 + 7
