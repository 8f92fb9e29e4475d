from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from client.cli import app
from client.data_quality.report import check_folder
from common.console import run
from common.data.site_table import SiteTableInfo, make_site_table, write_site_table
from common.data.vitals import VITALS
from tests.client.ingest.hospital import hours_of, long_mapping, write_rows
from tests.client.ingest.hospital import run as ingest

PATIENTS, HOURS = 100, 48


def plausible() -> pd.DataFrame:
    """Steps of patients without any finding."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"patient_id": np.repeat(np.arange(PATIENTS), HOURS)})
    rows["stay_id"] = rows["patient_id"]
    rows["step"] = np.tile(np.arange(HOURS), PATIENTS)
    for vital in VITALS:
        values = vital.clinical_offset + rng.normal(0, vital.scale_floor, len(rows))
        rows[vital.name] = np.minimum(values, 100) if vital.name == "spo2" else values
    return rows


def folder_with(tmp_path: Path, rows: pd.DataFrame) -> Path:
    info = SiteTableInfo("st-mary", "own-export", "all", 60)
    write_site_table(make_site_table(rows, info), tmp_path / "cohort" / "sites" / "st-mary.parquet")
    return tmp_path / "cohort"


def codes_of(folder: Path) -> set[str]:
    (report,) = check_folder(folder)
    return {finding.code for finding in report.findings} - {"few-for-privacy"}


def test_nothing_looks_wrong_with_believable_patients(tmp_path: Path) -> None:
    (report,) = check_folder(folder_with(tmp_path, plausible()))
    assert codes_of(tmp_path / "cohort") == set()
    assert (report.patients, report.stays, report.hours) == (PATIENTS, PATIENTS, PATIENTS * HOURS)
    assert sum(split.patients for split in report.splits.values()) == PATIENTS
    # Origins at 6, 12 ... 42 with 8 observed values before them are 12 to 42, of seven vitals.
    assert sum(split.windows for split in report.splits.values()) == PATIENTS * 6 * 7
    assert report.vitals["heart_rate"].median == pytest.approx(85, abs=0.5)


def fahrenheit(rows: pd.DataFrame) -> None:
    # What is left of Fahrenheit values in a table of Celsius: those of a wrongly named unit.
    rows["temperature_c"] = (rows["temperature_c"] - 32) / 1.8 + 14


def kilopascal(rows: pd.DataFrame) -> None:
    rows["sbp"] *= 0.1333


def some_kilopascal(rows: pd.DataFrame) -> None:
    rows.loc[rows["step"] % 20 == 0, "mbp"] *= 0.1333


def fraction(rows: pd.DataFrame) -> None:
    rows["spo2"] /= 100


def never(rows: pd.DataFrame) -> None:
    rows["resp_rate"] = np.nan


def rare(rows: pd.DataFrame) -> None:
    rows.loc[rows["step"] > 0, "spo2"] = np.nan
    rows.loc[rows["patient_id"] > 20, "spo2"] = np.nan


def constant(rows: pd.DataFrame) -> None:
    rows["temperature_c"] = 37.0


def swapped(rows: pd.DataFrame) -> None:
    rows[["sbp", "dbp"]] = rows[["dbp", "sbp"]].to_numpy()


def mean_outside(rows: pd.DataFrame) -> None:
    rows.loc[rows["step"] < 5, "mbp"] = 50.0


def four_hourly(rows: pd.DataFrame) -> None:
    rows.loc[rows["step"] % 4 != 0, [vital.name for vital in VITALS]] = np.nan


def with_pauses(rows: pd.DataFrame) -> None:
    rows.loc[rows["step"] % 12 > 5, [vital.name for vital in VITALS]] = np.nan


@pytest.mark.parametrize(
    ("spoil", "codes"),
    [
        (fahrenheit, {"unusual-median"}),
        (kilopascal, {"unit-left-over", "pressures-swapped"}),
        (some_kilopascal, {"unit-left-over"}),
        (fraction, {"unit-left-over"}),
        (never, {"never-observed"}),
        (rare, {"rarely-observed"}),
        (constant, {"constant"}),
        (swapped, {"unusual-median", "pressures-swapped"}),
        (mean_outside, {"mean-pressure-outside"}),
        (four_hourly, {"sparse-steps"}),
        (with_pauses, {"irregular-steps"}),
    ],
)
def test_what_looks_wrong_is_found(tmp_path: Path, spoil: Any, codes: set[str]) -> None:
    rows = plausible()
    spoil(rows)
    assert codes <= codes_of(folder_with(tmp_path, rows))
    (report,) = check_folder(tmp_path / "cohort")
    assert report.can_train
    assert all(finding.what and finding.remedy for finding in report.findings)


def test_a_table_without_a_window_cannot_be_trained_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = plausible()
    folder = folder_with(tmp_path, rows[rows["step"] < 6])
    assert run(app, ["check", str(folder)]) == 9
    text = capsys.readouterr().out
    assert "cannot be trained on" in text
    assert "error: no stay of a training patient" in text
    assert {"no-window", "no-test-window", "no-validation-window"} <= codes_of(folder)


def test_few_patients_are_warned_of(tmp_path: Path) -> None:
    rows = plausible()
    assert "few-patients" in codes_of(folder_with(tmp_path, rows[rows["patient_id"] < 30]))


def test_the_page_fits_eighty_columns_and_json_says_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_with(tmp_path, plausible())
    assert run(app, ["check", str(folder)]) == 0
    page = capsys.readouterr().out
    assert all(vital.label in page for vital in VITALS)
    assert "…" not in page
    assert run(app, ["check", str(folder), "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert report["can_train"] is True
    assert set(report["vitals"]) == {vital.name for vital in VITALS}
    assert run(app, ["check", str(folder / "sites" / "st-mary.parquet")]) == 0


def test_a_folder_without_a_table_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, ["check", str(tmp_path)]) == 4
    error = capsys.readouterr().err
    assert "python -m client ingest" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("text", ["{half", "[]", '{"schema_version": 99}'])
def test_a_record_that_cannot_be_read_is_named(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_with(tmp_path, plausible())
    (folder / "ingest.json").write_text(text)
    assert run(app, ["check", str(folder)]) == 4
    error = capsys.readouterr().err
    assert "ingest.json" in error
    assert error.count("\n") == 1


def test_what_the_ingest_saw_is_told(tmp_path: Path) -> None:
    rows = []
    for number in range(20):
        patient = str(number)
        temperatures = dict.fromkeys(range(12), "98.6")
        rows += hours_of(patient, f"s{patient}", temperatures, "T")
        rows += hours_of(patient, f"s{patient}", dict.fromkeys(range(24), "80"))
        rows += hours_of(patient, f"t{patient}", dict.fromkeys(range(5, 30), "81"))
        rows += hours_of(patient, f"s{patient}", {0: "soon"}, "ART-S")
    rows += rows[:400]
    stays = 'id = "enc"\nstart = "admitted"'
    table = [(*row, "2024-03-01 02:00") for row in rows]
    header = ("pid", "enc", "at", "what", "result", "unit", "admitted")
    (tmp_path / "keep.txt").write_text("\n".join([f"s{n}" for n in range(20)] + ["t0", "u0"]))
    mapping = long_mapping(
        tmp_path, stay=stays, replaced={"min-hours = 0": 'min-hours = 0\nkeep-stays = "keep.txt"'}
    )
    out = tmp_path / "out"
    ingest(mapping, [write_rows(tmp_path / "t.csv", table, header)], out)
    (report,) = check_folder(out)
    found = {finding.code: finding for finding in report.findings}
    expected = {"impossible-values", "duplicate", "overlapping-stays", "early", "ids-not-found"}
    assert expected <= set(found)
    assert "degF" in found["impossible-values"].what
    assert 'unit = "degF"' in found["impossible-values"].remedy
    assert "1 stays begin before" in found["overlapping-stays"].what
    assert "2 h in the median" in found["early"].what
    # A table that is not the ingest's own, and a folder that a killed ingest left.
    assert not {"changed", "left-over"} & set(found)
    scratch = tmp_path / ".out.abc.partial"
    scratch.mkdir()
    write_site_table(
        make_site_table(plausible(), SiteTableInfo("st-mary", "own-export", "all", 60)),
        out / "sites" / "st-mary.parquet",
    )
    assert {"changed", "left-over"} <= codes_of(out)
