from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import server
from common.reporting.phrasing import LONGEST_TEXT
from common.reporting.style import STYLE
from common.reporting.svg import Drawing
from server.report.learning_curves import MOST_LINES
from server.report.run_report import report_page
from server.runs.run_reader import RunRecord

MakeRun = Callable[..., Path]

HOSTILE = '<script>alert("x")</script><img src=http://evil/x.png>&amp;"\'$\\frac{'


class Elements(HTMLParser):
    """All elements of a page with their attributes, and those that were never closed."""

    VOID = frozenset({"meta", "link", "br", "img", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag in tags]


def report_of(run: Path) -> str:
    return (run / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def full_report(evaluated_run: Path) -> Path:
    return evaluated_run / "report.html"


def test_the_page_is_self_contained(full_report: Path) -> None:
    text = full_report.read_text()
    elements = Elements(text)
    assert not elements.all("script", "img", "iframe", "object", "embed", "base")
    assert elements.all("link") == [{"rel": "icon", "href": "data:,"}]
    assert not re.search(r"@import|@font-face|url\((?!#)", text)
    for _, attributes in elements.found:
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert str(attributes.get(name, "#")).startswith(("#", "data:,"))


def test_the_page_is_well_formed_and_ids_are_unique(full_report: Path) -> None:
    elements = Elements(full_report.read_text())
    assert not elements.wrong
    assert not elements.open
    ids = [str(a["id"]) for _, a in elements.found if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in elements.found:
        for name in str(attributes.get("aria-labelledby") or "").split():
            assert name in ids
        anchor = attributes.get("href") or ""
        assert not anchor.startswith("#") or anchor[1:] in ids


def test_headings_figures_and_tables_work_with_a_screen_reader(full_report: Path) -> None:
    text = full_report.read_text()
    elements = Elements(text)
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(a.get("scope") in ("row", "col") for a in elements.all("th"))
    assert len(elements.all("caption")) == len(elements.all("table"))
    figures = elements.all("svg")
    assert all(a.get("role") == "img" or a.get("aria-hidden") == "true" for a in figures)
    named = sum(a.get("role") == "img" for a in figures)
    assert named == len(elements.all("title")) - 1 == len(elements.all("desc")) == 4 + 2 + 7 + 21
    assert elements.all("html") == [{"lang": "en"}]


def test_every_wide_thing_scrolls_in_a_box_that_the_keyboard_reaches(full_report: Path) -> None:
    text = full_report.read_text()
    boxes = re.findall(r'<div class="scroll" tabindex="0" role="region" aria-label="[^"]+">', text)
    assert len(boxes) == text.count("<table")


def test_results_have_their_intervals(
    full_report: Path,
) -> None:
    text = full_report.read_text()
    for heading in (
        "Summary",
        "Results",
        "Calibration",
        "Example forecasts",
        "Learning curves",
        "Cohort",
        "What was exchanged",
        "Privacy",
        "To reproduce it",
    ):
        assert f">{heading}</h2>" in text
    for label in ("Last value", "Weighted mean", "Zero-shot", "Federated adapter"):
        assert label in text
    assert text.count('class="interval">[') >= 2 * 2 * 8


def test_exchanges_and_refusals_are_listed(make_run: MakeRun) -> None:
    text = report_of(make_run()).replace("\u00a0", " ")
    # 9 adapters of 400 bytes out, 5 of 300 back, against 14 copies of 10,000 numbers.
    assert "14 adapters were sent, one a message: 3.6 kB to the sites and 1.5 kB from them" in text
    assert "0.91 % of what full fine-tuning" in text
    assert "560.0 kB" in text
    assert "no reply within 5 s" in text
    assert "no usable window" in text
    assert "Seconds of work, by part: training, validation." in text
    assert "WQL in the mean over vital signs; WQL of oxygen saturation" in text


def test_text_from_sites_is_escaped_and_bounded(
    make_run: MakeRun, run_config: dict[str, Any], run_rounds: list[dict[str, Any]]
) -> None:
    for place in ("sites", "sites_refused"):
        run_config[place][HOSTILE] = run_config[place].pop("ccu", "x" * 9999)
    run_config["sites"]["micu"]["rule"] = HOSTILE
    for record in run_rounds:
        record["sites"][HOSTILE] = record["sites"].pop("ccu")
        record["sites"]["sicu"].setdefault("seconds", {})[HOSTILE] = 1.0
    run_rounds[1]["sites"]["sicu"]["refused"] = HOSTILE
    text = report_of(make_run(config=run_config, rounds=run_rounds))
    elements = Elements(text)
    assert not elements.all("script", "img")
    assert not elements.wrong
    assert "&lt;script&gt;" in text
    assert "x" * (LONGEST_TEXT + 1) not in text


def test_sparse_runs_do_not_break_the_report(
    make_run: MakeRun, run_config: dict[str, Any], run_rounds: list[dict[str, Any]]
) -> None:
    for record in run_rounds:
        record["validation_wql"] = None
        record["sites"] = {
            site: {"bytes_sent": 0, "bytes_received": 0, "refused": "x"} for site in record["sites"]
        }
    silent = report_of(make_run("silent", rounds=run_rounds))
    assert "nothing to draw" in silent
    assert "No adapter was sent" in silent
    failed = run_rounds[:1]
    failed[0]["failed"] = "below the quorum"
    assert "in 0 rounds" in report_of(make_run("failed", rounds=failed, best_round=0))
    unnamed = {**run_config, "backbone": {}, "versions": {}}
    assert "Full fine-tuning:" not in report_of(make_run("unnamed", config=unnamed))


def test_as_many_sites_as_have_lines_differ_in_colour_or_dashes(
    make_run: MakeRun, run_config: dict[str, Any], run_rounds: list[dict[str, Any]]
) -> None:
    sites = [f"site-{number:02d}" for number in range(MOST_LINES)]
    run_config["sites"] = dict.fromkeys(sites, run_config["sites"]["ccu"])
    for record in run_rounds:
        record["sites"] = dict.fromkeys(sites, record["sites"]["ccu"])
    text = report_of(make_run(config=run_config, rounds=run_rounds))
    styles = re.findall(r'<line [^>]*style="(stroke: var\(--series[^"]*)"', text)
    assert len(styles) == len(set(styles)) == MOST_LINES


def test_no_placeholder_colour_is_left(full_report: Path) -> None:
    assert not re.search(r"#0[12]0[23][0-9a-f]{2}", full_report.read_text())
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", full_report.read_text()))
    assert used <= set(re.findall(r"(--[a-z0-9-]+):", STYLE))


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(scheme: str) -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)", 1)
    block = light if scheme == "light" else dark.split("}", 1)[0]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
    for name, colour in colours.items():
        least = 4.5 if name in ("ink", "muted", "accent", "good", "bad") else 3.0
        if name in ("paper", "panel", "rule", "shade"):
            continue
        pair = sorted((luminance(colour), luminance(colours["paper"])))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= least, name


def test_an_app_bundle_contains_all_files_of_the_report() -> None:
    # It carries Python, but neither templates nor style sheets.
    root = Path(server.__file__).parent
    files = [path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {path.suffix for path in files if path.name != "py.typed"} == {".py"}


def test_the_report_describes_the_backbone_family(full_report: Path) -> None:
    text = full_report.read_text()
    assert "pinball loss" in text
    assert "patches of 4 steps" in text


def test_every_figure_of_the_page_can_be_exported(record: RunRecord) -> None:
    figures = [
        figure
        for section in report_page(record).sections
        for part in section.parts
        for figure in part.figures
    ]
    assert len(figures) >= 10
    assert all(isinstance(figure.svg, Drawing) for figure in figures)
