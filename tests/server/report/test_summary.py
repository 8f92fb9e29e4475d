from __future__ import annotations

import html
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from common.adapter.adapter import Adapter
from common.config.run_config import RunConfig, parse_settings
from common.evaluation.evaluate import LEVELS
from common.reporting.components import Part, Section
from server.report.calibration import calibration_section, calibration_text, departure_span
from server.report.cohort import cohort_section
from server.report.data_transfer import exchange_section
from server.report.privacy import privacy_section
from server.report.provenance import reproduction_section, rerun_command
from server.report.results import results_section
from server.report.summary import headline, summary_section
from server.runs.run_reader import RunRecord

MakeRun = Callable[..., Path]


@pytest.fixture
def record(
    evaluated_run: Path,
    trained_adapter: Adapter,
    run_config: dict[str, Any],
    run_rounds: list[dict[str, Any]],
) -> RunRecord:
    """The evaluated run, read, for a test to change."""
    evaluation = json.loads((evaluated_run / "evaluation.json").read_text())
    return RunRecord(trained_adapter, 2, run_config, run_rounds, evaluation)


def words(section: Section | None) -> str:
    """All text of a section but that of its figures."""
    assert section is not None
    return " ".join(text for part in section.parts for text in _of_part(part)).replace(
        "\u00a0", " "
    )


def _of_part(part: Part) -> list[str]:
    cells = [
        text
        for table in (*part.tables, *part.folded)
        for row in table.rows
        for text in (row.label, row.unit, *row.cells)
    ]
    stages = [f"{one.left} {one.of} {one.rule} {one.out}" for one in part.flow]
    texts = [part.heading, *part.paragraphs, *part.items, *part.warnings, *stages, *cells]
    return [*texts, part.code, *part.notes]


def test_the_summary_says_what_each_error_means(record: RunRecord) -> None:
    text = words(summary_section(record))
    assert "looks at up to 24 hours of one vital sign" in text
    assert "forecasts the next 4 hours" in text
    assert "Three sites, with 33 training patients, adapted it in 2 rounds" in text
    assert len(re.findall(r"off by \d+\.\d+ \S+", text)) == 7
    assert "Around each forecast stands a range" in text
    assert "they say nothing about real patients" in text


def test_only_synthetic_patients_are_called_so(record: RunRecord) -> None:
    record.config["sites"]["ccu"]["source"] = "mimic3"
    assert "At some sites: The patients of this run are synthetic" in words(summary_section(record))
    for site in record.config["sites"].values():
        site["source"] = "mimic3"
    assert "synthetic" not in words(summary_section(record))


def test_before_an_evaluation_nothing_is_said_of_test_patients(record: RunRecord) -> None:
    untested = replace(record, evaluation=None)
    assert "not yet evaluated" in headline(untested)
    text = words(summary_section(untested))
    assert "off by" not in text
    assert "optimistic" in text
    assert calibration_section(None) is None
    assert cohort_section(untested) is None
    assert "No round improved" in headline(replace(record, best_round=0))


def test_an_evaluation_of_an_older_release_has_no_calibration(record: RunRecord) -> None:
    assert record.evaluation is not None
    del record.evaluation["pooled"]["calibration"], record.evaluation["cohort"]
    assert "evaluate again" in words(calibration_section(record.evaluation))
    assert "Around each forecast" not in words(summary_section(record))
    assert cohort_section(record) is None
    assert "How the cohort was prepared" not in words(reproduction_section(record))


def test_calibration_is_drawn_and_told_in_numbers(record: RunRecord) -> None:
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
    assert "at the level of 40 %: 52.0 % of the measurements lay at or below it" in text
    assert "80 % range held 75.0 %" in text
    assert (
        calibration_text(some_curves(None, None, None), (0.4, 0.5)) == "There is nothing to draw."
    )


def test_the_flow_shows_what_each_rule_took_away(record: RunRecord) -> None:
    section = cohort_section(record)
    text = words(section)
    assert "60 stays of 55 patients walks in the source" in text
    assert "52 stays of 52 patients adult units 8 stays left out" in text
    assert section is not None
    assert section.parts[0].folded[0].header == [
        "Rule",
        "Stays",
        "Patients",
        "ccu",
        "micu",
        "nicu",
        "sicu",
    ]
    divided = {row.label: row.cells[0] for row in section.parts[1].tables[0].rows}
    assert divided == {"ccu": "10", "micu": "11", "sicu": "12"}


def test_a_cohort_s_text_is_escaped(record: RunRecord) -> None:
    assert record.evaluation is not None
    record.evaluation["cohort"]["flow"][0]["label"] = "x" * 9999
    assert "x" * 999 not in words(cohort_section(record))


def test_every_site_and_vital_sign_has_its_row(record: RunRecord) -> None:
    section = results_section(record.evaluation)
    (table,) = (
        table
        for part in section.parts
        for table in part.folded
        if table.caption.startswith("Every")
    )
    assert len(table.rows) == 3 * 7
    assert table.rows[0].label == "ccu: heart rate"
    assert len(re.findall(r"\[[^\]]+\]", " ".join(table.rows[0].cells))) == 2


def test_what_left_is_named_as_a_policy_names_it(
    record: RunRecord, trained_adapter: Adapter
) -> None:
    text = words(exchange_section(record))
    for name in ("validation.wql, validation.wql.spo2", "seconds.training", "validation-windows"):
        assert name in text
    for module in trained_adapter.modules:
        assert module in text
    record.config["sites"]["ccu"]["patients"] = None
    assert "validation-windows" not in words(exchange_section(record))


def test_privacy_says_what_the_report_itself_shows(record: RunRecord) -> None:
    shown, withheld = (words(privacy_section(record, examples=shows)) for shows in (True, False))
    assert "measured values of single patients" in shown
    assert "no measured value of a patient" in withheld
    assert "This was a simulation" in shown
    assert re.search(r"as few as \d+ patients? \(\w+\)", shown)
    record.config["settings"]["data"] = ""
    assert "simulation" not in words(privacy_section(record, examples=False))


def test_the_command_gives_the_same_settings_again(record: RunRecord, tiny_bolt: Path) -> None:
    changed = {
        "lora.rank": 4,
        "privacy.epsilon": 2.5,
        "federation.weights": "ccu=2,micu=1,sicu=1",
        "seed": 7,
    }
    settings = RunConfig.parse({**record.settings, **changed}).flat()
    record.config["settings"] = settings
    record.config["sites"]["micu"]["rank"] = 2
    command = rerun_command(record)
    assert str(tiny_bolt.parent) not in command
    assert "/somewhere" not in command
    parts = shlex.split(command.replace("\\\n", " "))
    assert parts[:8] == shlex.split("python -m simulation run --data COHORT --out RUN")
    assert parts[8:10] == ["--backbone", f"path/to/{tiny_bolt.name}"]
    assert parts[-2:] == ["--site", "micu.lora-rank=2"]
    pairs = [value for flag, value in pairwise(parts) if flag == "-c"]
    again = parse_settings(pairs, {}).flat()
    own = ("data", "out", "backbone")
    assert {k: v for k, v in again.items() if k not in own} == {
        k: v for k, v in settings.items() if k not in own
    }


def test_digests_and_parameters_of_the_cohort_are_told(record: RunRecord) -> None:
    text = html.unescape(words(reproduction_section(record)))
    assert "Source table WALKS" in text
    assert "0f" * 32 in text
    assert "ccu, micu, sicu" in text
    assert record.adapter.digest() in text
