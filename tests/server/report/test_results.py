from __future__ import annotations

import re
from dataclasses import replace

from common.config.run_config import RunConfig
from common.reporting.cells import NumberCell
from server.release.console_tables import evaluation_tables
from server.report.model_card import model_card
from server.report.results import results_section
from server.runs.run_reader import RunRecord


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
    cells = [cell for cell in table.rows[0].cells if isinstance(cell, NumberCell)]
    assert all(cell.value is not None for cell in cells)
    # Fewer than ten test patients at the site.
    assert all(cell.low is None for cell in cells)


def test_the_effect_comes_first_in_the_unit_and_in_per_cent(record: RunRecord) -> None:
    section = results_section(record.evaluation)
    tables = {table.caption: table for part in section.parts for table in part.tables}
    mae, wql = tables["MAE per vital sign"], tables["WQL per vital sign"]
    assert list(tables) == [
        "MAE per vital sign",
        "WQL per vital sign",
        "In the mean over vital signs",
    ]
    assert mae.header[1:5] == [
        "Adapter − zero-shot, in the unit",  # noqa: RUF001
        "Adapter vs zero-shot",
        "Federated adapter",
        "Zero-shot",
    ]
    assert wql.header[1:3] == ["Adapter vs zero-shot", "Federated adapter"]
    assert all(
        len(row.cells) == len(table.header) - 1 for table in tables.values() for row in table.rows
    )
    assert record.evaluation is not None
    differences = record.evaluation["pooled"]["differences"]["zero_shot"]["vitals"]
    units = [row.unit for row in mae.rows]
    assert units == ["bpm", "mmHg", "mmHg", "mmHg", "breaths/min", "°C", "%", ""]
    for row, of_vital in zip(mae.rows[:-1], differences.values(), strict=True):
        absolute = of_vital["mae"]["absolute"]
        in_unit, low, high = (
            float(text.replace("−", "-"))  # noqa: RUF001
            for text in re.findall(r"[−+]?[0-9.]+", re.sub("<[^>]*>", "", row.cells[0]))  # noqa: RUF001
        )
        for shown, value in (
            (in_unit, absolute["estimate"]),
            (low, absolute["low"]),
            (high, absolute["high"]),
        ):
            assert abs(shown - value) <= 0.0051
        assert "%" in row.cells[1]
    assert mae.rows[-1].cells[0] == "–"  # noqa: RUF001


def test_the_floors_of_mape_are_stated_and_a_small_count_is_not(record: RunRecord) -> None:
    assert record.evaluation is not None
    floors = {"heart_rate": 30.0, "resp_rate": 5.0}
    vitals = record.evaluation["pooled"]["models"]["adapter"]["vitals"]
    everything = {**dict.fromkeys(vitals, 1.0), **floors}

    def notes(found: dict[str, object] | None) -> str:
        evaluation = dict(record.evaluation or {})
        evaluation.pop("mape_floors", None)
        if found is not None:
            evaluation["mape_floors"] = found
        return " ".join(results_section(evaluation).parts[-1].notes)

    text = notes({"floors": everything, "steps_below": 1234})
    assert "30 bpm (heart rate)" in text
    assert "Observed steps below their floor: 1,234." in text
    assert "below their floor: fewer than 10." in notes({"floors": everything, "steps_below": None})
    assert "floor" not in notes(None)


def test_the_report_of_a_task_without_a_change_names_none(record: RunRecord) -> None:
    evaluation = dict(record.evaluation or {})
    settings = RunConfig.parse({"task": "paper"}).flat()
    sites = {site: {**about, "step_minutes": 5} for site, about in evaluation["data"].items()}
    evaluation |= {"settings": settings, "data": sites}
    note = results_section(evaluation).parts[-1].notes[0]
    assert note.startswith("This is the task paper. ")


def test_a_task_s_metrics_come_first_and_its_changes_are_named(record: RunRecord) -> None:
    evaluation = dict(record.evaluation or {})
    evaluation["settings"] = evaluation["settings"] | {"task": "paper"}
    section = results_section(evaluation)
    titles = [table.caption.split()[0] for table in section.parts[1].tables]
    assert titles == ["MSE", "MAPE", "DTW"]
    note = section.parts[-1].notes[0]
    assert "step-minutes = 60 in place of 5" in note
    tables = evaluation_tables(evaluation)
    assert [str(table.title).split()[0] for table in tables[1:4]] == ["MSE", "MAPE", "DTW"]
    card = model_card(replace(record, evaluation=evaluation))
    assert "MSE by vital sign" in card
    assert "MSE, MAPE and DTW, lower is better" in card
