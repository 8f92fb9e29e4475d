"""What an ingest lost, as `client ingest` and `client check` tell it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from client.cli import app
from client.data_quality.finding import QualityFinding
from client.data_quality.record_checks import find_in_record
from client.data_quality.report import check_folder
from common.console import run
from common.data.cohort_folder import INGEST_FILE, read_cohort_record, read_provenance
from tests.client.ingest.hospital import HEADER, hours_of, long_mapping, write_rows
from tests.client.ingest.hospital import run as ingest

HOURS = range(20)


def hourly(values: list[str], code: str, unit: str = "") -> list[Any]:
    """Twenty values of two patients each, in turns of `values`."""
    rows = []
    for patient in ("a", "b"):
        every = {hour: values[hour % len(values)] for hour in HOURS}
        rows += [(*row[:5], unit) for row in hours_of(patient, f"s{patient}", every, code)]
    return rows


PULSE = hourly(["80", "82"], "HR")


def findings_of(
    folder: Path, rows: list[Any], replaced: Mapping[str, str] | None = None, more: str = ""
) -> dict[str, QualityFinding]:
    """Ingest rows and return the findings of the record by code, which check has too."""
    mapping = long_mapping(folder, replaced=replaced, more=more)
    record = ingest(mapping, [write_rows(folder / "t.csv", rows)], folder / "out")
    found = {finding.code: finding for finding in find_in_record(record)}
    (report,) = check_folder(folder / "out")
    assert set(found.values()) <= set(report.findings)
    return found


def test_mixed_units_are_told_apart_by_the_advice(tmp_path: Path) -> None:
    rows = PULSE + hourly(["37.2", "99.1", "36.9", "98.2", "37.0"], "T")
    found = findings_of(tmp_path, rows)["impossible-values"]
    assert "16 of 40 measurements (40 %) dropped: impossible value" in found.what
    assert "e.g. '98.2' and '99.1'; they look like degF, others like degC" in found.what
    assert 'set units = ["degC", "degF"] in [vitals.temperature_c]' in found.remedy
    # What the advice says loses nothing.
    mended = {'codes = ["T"]': 'codes = ["T"]\nunits = ["degC", "degF"]'}
    assert not findings_of(tmp_path / "mended", rows, mended)


def test_mixed_units_that_are_all_possible_are_told_too(tmp_path: Path) -> None:
    rows = PULSE + hourly(["120", "16.2", "118", "131"], "ART-S")
    found = findings_of(tmp_path, rows)
    assert "10 of 40 measurements (25 %) are used and look like kPa" in found["unit-left-over"].what
    assert 'set units = ["mmHg", "kPa"] in [vitals.sbp]' in found["unit-left-over"].remedy


def test_a_unit_that_all_values_have_is_one_unit(tmp_path: Path) -> None:
    found = findings_of(tmp_path, PULSE + hourly(["98.6", "99.5"], "T"))
    assert 'set unit = "degF" in [vitals.temperature_c]' in found["impossible-values"].remedy
    # Celsius where the mapping says Fahrenheit.
    mapped = {'codes = ["T"]': 'codes = ["T"]\nunit = "degF"'}
    found = findings_of(tmp_path / "other", PULSE + hourly(["37.2", "36.9"], "T"), mapped)
    assert 'set unit = "degC"' in found["impossible-values"].remedy


def test_a_unit_that_goes_with_a_code_is_that_of_its_source(tmp_path: Path) -> None:
    rows = PULSE + hourly(["98.6", "99.5"], "TF") + hourly(["37.2", "36.9"], "T")
    found = findings_of(tmp_path, rows, {'codes = ["T"]': 'codes = ["T", "TF"]'})
    assert "(of TF)" in found["impossible-values"].what
    assert 'sources = [{ ..., unit = "degF" }, { ... }]' in found["impossible-values"].remedy


@pytest.mark.parametrize(
    ("values", "unit", "code", "what", "remedy"),
    [
        (["37", "38 spm"], "", "no-number", "'38 spm'", '[units]: "spm" = "degC" or "degF"'),
        (["37", "38,2"], "", "no-number", "'38,2'", 'set decimal = "," in [file]'),
        (["37", "n/a"], "", "no-number", "20 of 40 measurements (50 %)", "names numbers"),
        (["37"], "Grad", "unknown-unit", "'Grad'", 'in [units]: "Grad" = "degC" or'),
        (["37"], "8653", "unknown-unit", "'8653'", "concept 8653 (degree Celsius)"),
        (["37"], "8840.0", "unknown-unit", "'8840.0'", 'in [units]: "8840.0" = "degC"'),
        (["37"], "0", "unknown-unit", "'0'", "take unit_source_value as the column of units"),
        (["37 °F"], "degC", "unknown-unit", "'37 °F'", "say what it means"),
    ],
)
def test_a_loss_has_its_count_an_example_and_a_remedy(
    tmp_path: Path, values: list[str], unit: str, code: str, what: str, remedy: str
) -> None:
    found = findings_of(tmp_path, PULSE + hourly(values, "T", unit))
    assert what in found[code].what
    assert remedy in found[code].remedy
    assert found[code].severity == "warning"


def test_a_loss_below_a_per_cent_is_not_told(tmp_path: Path) -> None:
    rows = [row for day in range(5) for row in hourly([f"{80 + day}"], "HR")]
    rows.append(("a", "sa", "2024-03-01 00:30", "HR", "n/a", ""))
    assert not findings_of(tmp_path, rows)


def test_a_number_with_its_unit_is_read(tmp_path: Path) -> None:
    rows = hourly(["80 bpm", "82", "84/min", "81 spm"], "HR")
    rows += hourly(["37.2°C", "98.6 °F", "36,8", "37"], "T")
    record = ingest(
        long_mapping(tmp_path, more='[units]\nspm = "bpm"\n'),
        [write_rows(tmp_path / "t.csv", rows)],
        tmp_path / "out",
    )
    assert record["measurements"]["heart_rate"] == {"read": 40, "used": 40}
    assert record["measurements"]["temperature_c"] == {"read": 40, "no number": 10, "used": 30}


def test_an_id_as_value_is_no_example(tmp_path: Path) -> None:
    rows = [(f"{patient}-77", *rest) for patient, *rest in PULSE]
    rows += [(*row[:3], "T", row[0], "") for row in rows]
    found = findings_of(tmp_path, rows, more="[ids]\nhash = true\n")
    assert "e.g." not in found["no-number"].what
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"a-77" not in path.read_bytes()


def test_examples_stay_in_the_record(tmp_path: Path) -> None:
    """What a result file takes from a cohort's record has no text of the table."""
    findings_of(tmp_path, PULSE + hourly(["37", "secret text"], "T"))
    assert "secret text" in str(read_cohort_record(tmp_path / "out", INGEST_FILE))
    assert "secret text" not in str(read_provenance(tmp_path / "out"))


def test_rows_without_a_time_are_no_duplicates(tmp_path: Path) -> None:
    rows = PULSE + [(*row[:2], "soon", *row[3:]) for row in PULSE[:10]]
    found = findings_of(tmp_path, rows)
    assert "10 of 50 measurements (20 %) dropped: no time, e.g. 'soon'" in found["no-time"].what
    assert "duplicate" not in found


@pytest.mark.parametrize(
    ("seconds", "what"),
    [
        ("", "'01/03/2024 00:00' is 1 March by '%d/%m/%Y %H:%M', 3 January by"),
        (":%S.%g", "it fits"),
    ],
)
def test_an_order_of_dates_that_nothing_shows_is_told(
    tmp_path: Path, seconds: str, what: str
) -> None:
    form = f"%d/%m/%Y %H:%M{seconds}"
    rows = [(*row[:2], f"01/03/2024 {row[2][11:]}", *row[3:]) for row in PULSE]
    rows = [(*r[:2], f"{r[2]}{':00.000' if seconds else ''}", *r[3:]) for r in rows]
    found = findings_of(tmp_path, rows, {'zone = "UTC"': f'zone = "UTC"\nformat = "{form}"'})
    assert what in found["date-order"].what


def test_ids_of_encounters_are_told(tmp_path: Path) -> None:
    many = [row for n in range(100) for row in hours_of(f"p{n}", f"e{n}", {0: "80"})]
    found = findings_of(tmp_path, many)["one-stay-per-patient"]
    assert "in training and test" in found.what
    assert "[columns] patient" in found.remedy
    assert not findings_of(tmp_path / "few", many[:50])
    # A hundred stays of which one patient has two.
    again = [*many, *hours_of("p0", "e100", {9: "80"})]
    assert not findings_of(tmp_path / "again", again)
    same = findings_of(tmp_path / "same", PULSE, {'patient = "pid"': 'patient = "ENC"'})
    assert "both ids are of the same column" in same["one-stay-per-patient"].what


def test_codes_that_the_mapping_misses_are_told(tmp_path: Path) -> None:
    rows = PULSE + hourly(["81"], "hr ") + hourly(["70"], "weight")
    found = findings_of(tmp_path, rows)
    assert "have the code 'hr', which the mapping does not name; it names 'HR'" in (
        found["code-near"].what
    )
    assert "'weight' (40)" in found["other-codes"].what


def test_the_unit_of_a_wide_table_may_be_a_column(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text(
        'site = "st-mary"\nshape = "wide"\n[columns]\npatient = "pid"\ntime = "at"\n'
        '[time]\nzone = "UTC"\n[stay]\ngap-hours = 48\n[cohort]\nrule = "all"\nmin-hours = 0\n'
        '[units]\nGrad = "degC"\n[vitals.temperature_c]\ncolumn = "temp"\nunit-column = "tu"\n'
    )
    units = {0: ("37", "Grad"), 1: ("98.6", "F"), 2: ("37", ""), 3: ("37", "stone")}
    rows = [("a", f"2024-03-01 {hour:02d}:00", *pair) for hour, pair in units.items()]
    path = write_rows(tmp_path / "t.csv", rows, ("pid", "at", "temp", "tu"))
    command = ["ingest", "--table", str(path), "--mapping", str(tmp_path / "mapping.toml")]
    assert run(app, [*command, "--out", str(tmp_path / "out")]) == 0
    record = read_cohort_record(tmp_path / "out", INGEST_FILE)
    assert record["measurements"]["temperature_c"] == {"read": 4, "unknown unit": 1, "used": 3}


def test_the_command_prints_what_check_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long_mapping(tmp_path)
    path = write_rows(tmp_path / "t.csv", PULSE + hourly(["37", "n/a"], "T"), HEADER)
    command = ["ingest", "--table", str(path), "--mapping", str(tmp_path / "mapping.toml")]
    assert run(app, [*command, "--out", str(tmp_path / "out")]) == 0
    line = "warning: Temperature: 20 of 40 measurements (50 %) dropped: no number, e.g. 'n/a'"
    assert line in " ".join(capsys.readouterr().out.split())
    assert run(app, ["check", str(tmp_path / "out")]) == 0
    assert line in " ".join(capsys.readouterr().out.split())


def test_a_record_of_an_earlier_release_is_read(tmp_path: Path) -> None:
    findings_of(tmp_path, PULSE + hourly(["37", "n/a"], "T"))
    record = dict(read_cohort_record(tmp_path / "out", INGEST_FILE))
    for key in ("losses", "other_codes"):
        del record[key]
    record["signs"] = {"impossible_median": {}, "overlapping_stays": 0}
    (found,) = find_in_record(record)
    assert "20 of 40 measurements (50 %) dropped: no number" in found.what
