"""Suggested mappings: what is found, that they work as they are, and that they hold no values."""

from __future__ import annotations

import gzip
import random
import tarfile
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from client.cli import app
from client.ingest.mapping.site_mapping import SiteMapping, read_mapping
from client.ingest.suggest.suggestion import suggest_mapping
from common.console import run as run_command
from common.data.vitals import VITAL_NAMES
from common.errors import FedvitalsError, UsageError
from tests.client.ingest.example_tables import write_long, write_wide
from tests.client.ingest.hospital import run

VALUES = dict(zip(VITAL_NAMES, (84, 118, 61, 78, 19, 37.4, 96), strict=True))


def suggest(paths: Sequence[Path], folder: Path) -> tuple[SiteMapping, str, list[str]]:
    """The mapping, its text and the vital signs found."""
    found = suggest_mapping(paths, folder)
    (folder / "suggested.toml").write_text(found.text, encoding="utf-8")
    return read_mapping(folder / "suggested.toml"), found.text, found.vitals


def used(record: dict[str, Any]) -> dict[str, float]:
    """Share of the measurements read that were used, by vital sign."""
    return {vital: c["used"] / c["read"] for vital, c in record["measurements"].items()}


def ingested(mapping: SiteMapping, tables: list[Path], out: Path) -> dict[str, float]:
    return used(run(mapping, tables, out))


def test_the_long_example(tmp_path: Path) -> None:
    write_long(tmp_path)
    files = [tmp_path / "observations.csv.gz", tmp_path / "stays.csv"]
    mapping, _, found = suggest(files, tmp_path)
    assert found == list(VITAL_NAMES)
    assert mapping.time.format == ("%d.%m.%Y %H:%M",)
    stay = mapping.stay
    assert (stay.table, stay.id, stay.start, stay.end) == (
        "stays.csv",
        "encounter",
        "admitted",
        "discharged",
    )
    assert stay.time is not None
    assert stay.time.format == ("iso",)
    # The zone is not in the file: the hours of one patient are outside a stay of another zone.
    assert min(ingested(mapping, files[:1], tmp_path / "out").values()) > 0.9


def test_a_code_that_one_patient_alone_has_is_not_written(tmp_path: Path) -> None:
    rows = ["patient;time;parameter;value"]
    for name in ("Miller", "Smith", "Jones"):
        for hour in range(20):
            rows.append(f"{name};2024-01-02 {hour:02d}:00;Herzfrequenz {name};80")
            rows.append(f"{name};2024-01-02 {hour:02d}:00;Temperatur;36.6")
    (tmp_path / "a.csv").write_text("\n".join(rows), encoding="utf-8")
    _, text, found = suggest([tmp_path / "a.csv"], tmp_path)
    assert found == ["temperature_c"]
    assert "Miller" not in text
    assert "# TODO: 3 codes of vital signs are left out" in text
    assert "heart_rate is not found" in text


def test_the_wide_example(tmp_path: Path) -> None:
    write_wide(tmp_path)
    mapping, text, found = suggest([tmp_path / "flowsheet.csv"], tmp_path)
    assert found == list(VITAL_NAMES)
    assert (mapping.file.delimiter, mapping.file.decimal) == (";", ",")
    units = {vital.name: vital.sources[0].unit for vital in mapping.vitals}
    assert units == {
        "heart_rate": "",
        "sbp": "kPa",
        "dbp": "kPa",
        "mbp": "kPa",
        "resp_rate": "",
        "temperature_c": "degF",
        "spo2": "fraction",
    }
    assert 'flag = "septic"' in text
    shares = ingested(mapping, [tmp_path / "flowsheet.csv"], tmp_path / "out")
    assert min(shares.values()) > 0.99


LANGUAGES = {
    "English": ("Patient ID", "Encounter", "Observed at", "Parameter", "Value", "Unit"),
    "German": ("PatNr", "Fallnummer", "Messzeitpunkt", "Bezeichnung", "Messwert", "Einheit"),
    "French": ("IPP", "No séjour", "Date heure mesure", "Libellé", "Valeur", "Unité"),
}
NAMES = {
    "English": (
        "Heart Rate", "Systolic BP", "Diastolic BP", "Mean BP", "Resp Rate", "Temp", "SpO2",
    ),
    "German": (
        "Herzfrequenz", "Blutdruck systolisch", "Blutdruck diastolisch", "Mittlerer Blutdruck",
        "Atemfrequenz", "Körpertemperatur", "Sauerstoffsättigung",
    ),
    "French": (
        "Fréquence cardiaque", "PA systolique", "PA diastolique", "PA moyenne",
        "Fréquence respiratoire", "Température", "Saturation en O2",
    ),
    "LOINC": ("8867-4", "8480-6", "8462-4", "8478-0", "9279-1", "8310-5", "59408-5"),
    "OMOP": ("3027018", "3004249", "3012888", "3027598", "3024171", "3020891", "40762499"),
    "MIMIC-III": ("211", "51", "8368", "52", "618", "676", "646"),
    "eICU": (
        "Heart Rate", "Non-Invasive BP Systolic", "Non-Invasive BP Diastolic",
        "Non-Invasive BP Mean", "Respiratory Rate", "Temperature (C)", "O2 Saturation",
    ),
}  # fmt: skip


def long_rows(names: Sequence[str], decimal: str = ".") -> list[list[str]]:
    noise = random.Random(0)
    rows = []
    for patient in range(12):
        for hour in range(20):
            at = datetime(2023, 1, 5) + timedelta(days=patient, hours=hour)  # noqa: DTZ001
            for name, value in zip(names, VALUES.values(), strict=True):
                text = f"{value * noise.uniform(0.98, 1.02):.1f}".replace(".", decimal)
                rows.append([f"P{patient}", f"E{patient}", f"{at:%d.%m.%Y %H:%M}", name, text, ""])
            rows.append(
                [f"P{patient}", f"E{patient}", f"{at:%d.%m.%Y %H:%M}", "Note", "Geheim", ""]
            )
    return rows


def write_lines(path: Path, rows: Sequence[Sequence[str]], delimiter: str, encoding: str) -> Path:
    text = "\r\n".join(delimiter.join(row) for row in rows) + "\r\n"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("names", "language", "delimiter", "decimal", "encoding"),
    [
        ("English", "English", ",", ".", "utf-8"),
        ("German", "German", ";", ",", "cp1252"),
        ("French", "French", "\t", ",", "utf-16"),
        ("LOINC", "English", "|", ".", "utf-8-sig"),
        ("OMOP", "English", ",", ".", "utf-8"),
        ("MIMIC-III", "German", ",", ".", "utf-8"),
        ("eICU", "English", ",", ".", "utf-8"),
    ],
)
def test_names_and_codes(
    tmp_path: Path, names: str, language: str, delimiter: str, decimal: str, encoding: str
) -> None:
    rows = [LANGUAGES[language], *long_rows(NAMES[names], decimal)]
    path = write_lines(tmp_path / "t.csv", rows, delimiter, encoding)
    mapping, text, found = suggest([path], tmp_path)
    assert found == list(VITAL_NAMES)
    record = run(mapping, [path], tmp_path / "out")
    assert used(record) == dict.fromkeys(VITAL_NAMES, 1.0)
    assert record["table"]["patients"] == 12
    for value in ("P0", "E0", "Geheim", "2023", "Note"):
        assert value not in text, "no value of a row"


def test_a_workbook_of_two_sheets_with_a_title(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.title = "About"
    book.active.append(["Made by the data team"])
    stays, sheet = book.create_sheet("Stays"), book.create_sheet("Values")
    stays.append(["MRN", "Encounter", "Admitted", "Discharged"])
    sheet.append(["Ward 3, first quarter"])
    sheet.append([])
    sheet.append(["MRN", "Charted at", "HR", "ABP sys", "NBP sys", "Temp F", "SpO2 (%)"])
    for patient in range(5):
        start = datetime(2023, 5, 1) + timedelta(days=patient)  # noqa: DTZ001
        stays.append([100 + patient, 900 + patient, start, start + timedelta(days=1)])
        for hour in range(20):
            sheet.append(
                [100 + patient, start + timedelta(hours=hour), 80 + hour, 120, 118, 98.2, 97]
            )
    book.save(tmp_path / "export.xlsx")
    mapping, text, found = suggest([tmp_path / "export.xlsx"], tmp_path)
    assert found == ["heart_rate", "sbp", "temperature_c", "spo2"]
    assert (mapping.file.sheet, mapping.file.header_row) == ("Values", 3)
    assert mapping.stay.file is not None
    assert mapping.stay.file.sheet == "Stays"
    assert [one.column for one in mapping.vitals[1].sources] == ["abp sys", "nbp sys"]
    shares = ingested(mapping, [tmp_path / "export.xlsx"], tmp_path / "out")
    assert shares == dict.fromkeys(found, 1.0)
    assert "dbp is not found" in text


def one_time(times: Sequence[str], folder: Path, name: str = "time") -> tuple[SiteMapping, str]:
    rows = [["pid", "stay_id", name, "hr"], *(["a", "1", at, "80"] for at in times)]
    path = write_lines(folder / "t.csv", rows, ";", "utf-8")
    mapping, text, _ = suggest([path], folder)
    return mapping, next(line for line in text.splitlines() if line.startswith("format"))


@pytest.mark.parametrize(
    ("times", "name", "formats", "is_sure"),
    [
        (["2024-03-01 10:00", "2024-03-01 11:00:30"], "time", ("iso",), True),
        (["31.12.2023 10:00", "01.01.2024 10:00"], "time", ("%d.%m.%Y %H:%M",), True),
        (["01.02.2024", "02.02.2024"], "time", ("%d.%m.%Y",), True),
        (["12/31/2023 10:00 PM", "01/01/2024 1:00 AM"], "time", ("%m/%d/%Y %I:%M %p",), True),
        (["31/12/2023 10:00", "01/01/2024 10:00:05"], "time",
         ("%d/%m/%Y %H:%M", "%d/%m/%Y %H:%M:%S"), True),
        (["02/03/2024 10:00", "04/05/2024 10:00"], "time", ("%d/%m/%Y %H:%M",), False),
        (["31/12/2023 10:00", "12/31/2023 10:00"], "time",
         ("%d/%m/%Y %H:%M", ), False),
        (["20240301101500", "20240301111500"], "time", ("%Y%m%d%H%M%S",), True),
        (["1709287200", "1709290800"], "time", ("epoch-s",), True),
        (["1709287200000", "1709290800000"], "time", ("epoch-ms",), True),
        (["1709287200000000", "1709290800000000"], "time", ("epoch-us",), True),
        (["1709287200000000000", "1709290800000000000"], "time", ("epoch-ns",), True),
        (["45292.5", "45292.541667"], "time", ("excel",), False),
        (["0", "30000", "60000"], "time", ("minutes",), False),
        (["5", "65"], "observationoffset", ("minutes",), True),
        (["1", "2"], "hours", ("hours",), True),
        (["1", "2"], "time", ("minutes",), False),
        (["10:35", "11:35"], "time", ("iso",), False),
    ],
)  # fmt: skip
def test_formats_of_times(
    tmp_path: Path, times: list[str], name: str, formats: tuple[str, ...], is_sure: bool
) -> None:
    mapping, line = one_time(times, tmp_path, name)
    assert mapping.time.format == formats
    assert ("TODO" not in line) == is_sure


def test_mixed_units_are_marked(tmp_path: Path) -> None:
    rows = [["pid", "stay_id", "time", "temp"]]
    rows += [["a", "1", f"2024-03-01 {h:02}:00", "37.1" if h % 3 else "98.8"] for h in range(24)]
    path = write_lines(tmp_path / "t.csv", rows, ",", "utf-8")
    _, text, _ = suggest([path], tmp_path)
    assert "TODO: 67 % of the values are plausible in degC, others in degF" in text


def test_numbers_of_stays_within_a_patient(tmp_path: Path) -> None:
    rows = [["pid", "stay_id", "time", "hr"]]
    rows += [[p, s, f"2024-03-0{s} 10:00", "80"] for p in "abc" for s in "12"]
    mapping, _, _ = suggest([write_lines(tmp_path / "t.csv", rows, ",", "utf-8")], tmp_path)
    assert mapping.stay.per_patient


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a,b\n1,2\n", "no vital sign is found"),
        ("17,2024-03-01,88\n18,2024-03-02,99\n", "3 of 3 fields of the first line are numbers"),
        ("pid,hr\n1,80\n", "no column looks like a time"),
        ("pid,time,hr\n1,2024-03-01\nSecretName,2,3\n", "Expected 3 columns, got 2"),
        ("pid,time,hr\n", "a header and no row"),
        ("", "is empty"),
    ],
)
def test_what_gives_no_mapping(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(lines)
    with pytest.raises(FedvitalsError, match=message) as caught:
        suggest_mapping([tmp_path / "t.csv"], tmp_path)
    assert "2024-03-01" not in str(caught.value)
    assert "Secret" not in str(caught.value)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [LANGUAGES["English"], *long_rows(NAMES["English"])]
    path = write_lines(tmp_path / "t.csv", rows, ",", "utf-8")
    mapping = tmp_path / "mapping.toml"
    command = ["ingest", "--suggest", str(path), "--mapping", str(mapping)]
    assert run_command(app, command) == 0
    shown = capsys.readouterr().out
    assert "lines marked TODO" in shown
    assert f"ingest {path} --mapping" in shown
    written = mapping.read_text()
    assert run_command(app, command) == 2
    assert "exists and is not replaced" in capsys.readouterr().err
    assert mapping.read_text() == written
    assert run_command(app, ["ingest", "--mapping", str(mapping), str(path)]) == 2
    assert "--out is missing" in capsys.readouterr().err
    out = tmp_path / "out"
    assert (
        run_command(app, ["ingest", str(path), "--mapping", str(mapping), "--out", str(out)]) == 0
    )
    assert run_command(app, ["ingest", "--suggest"]) == 2


def cut(source: Path, target: Path, lines: int) -> Path:
    with gzip.open(source, "rt") as full, target.open("w") as out:
        out.writelines(line for _, line in zip(range(lines), full, strict=False))
    return target


def test_eicu(shared_data: Path, tmp_path: Path) -> None:
    path = cut(shared_data / "eicu-demo/vitalPeriodic.csv.gz", tmp_path / "vp.csv", 20_000)
    mapping, text, found = suggest([path], tmp_path)
    assert found == [vital for vital in VITAL_NAMES if vital != "temperature_c"]
    assert mapping.time.format == ("minutes",)
    assert "a patient with two stays may be in two splits" in text
    assert min(ingested(mapping, [path], tmp_path / "out").values()) > 0.9


def test_mimic_4(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "mimic4-demo" / "icu"
    events = cut(folder / "chartevents.csv.gz", tmp_path / "events.csv", 60_000)
    for stays in ([], [folder / "icustays.csv.gz"]):
        mapping, _, found = suggest([events, *stays], tmp_path)
        assert found == list(VITAL_NAMES)
        assert mapping.stay.id == "stay_id"
        assert bool(mapping.stay.table) == bool(stays)
        assert mapping.columns.value == "valuenum"
        out = tmp_path / f"out{len(stays)}"
        assert min(ingested(mapping, [events], out).values()) > 0.95


def test_challenge_2019(shared_data: Path, tmp_path: Path) -> None:
    paths: list[Path] = []
    with tarfile.open(shared_data / "challenge-2019-training_setB-even.tar.xz") as archive:
        while len(paths) < 25 and (member := archive.next()) is not None:
            if member.name.endswith(".psv"):
                archive.extract(member, tmp_path, filter="data")
                paths.append(tmp_path / member.name)
    mapping, _, found = suggest(paths, tmp_path)
    assert found == list(VITAL_NAMES)
    assert (mapping.file.name_column, mapping.time.format) == ("file", ("hours",))
    record = run(mapping, paths, tmp_path / "out")
    assert record["table"]["patients"] >= 23
    assert record["measurements"]["heart_rate"]["used"] > 500


def test_files_of_other_columns_are_left_out(tmp_path: Path) -> None:
    rows = [LANGUAGES["English"], *long_rows(NAMES["English"])]
    table = write_lines(tmp_path / "t.csv", rows, ",", "utf-8")
    other = write_lines(tmp_path / "o.csv", [["Patient ID", "Drug"], ["P0", "x"]], ",", "utf-8")
    found = suggest_mapping([other, table], tmp_path)
    assert found.tables == [table]
    assert "TODO: o.csv is not used" in found.text
    with pytest.raises(UsageError, match="no vital sign is found"):
        suggest_mapping([other], tmp_path)
