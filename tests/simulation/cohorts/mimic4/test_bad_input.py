"""Each kind of bad input ends in one line, and nothing is written."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from common.console import run
from simulation.cli import app
from tests.simulation.cohorts.mimic4.tables import Hospital


def remove(folder: Path) -> Path:
    (folder / "icu/icustays.csv.gz").unlink()
    return folder


def drop_column(folder: Path) -> Path:
    path = folder / "hosp/patients.csv.gz"
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(text.replace(b"anchor_age", b"age")))
    return folder


def use_semicolons(folder: Path) -> Path:
    path = folder / "icu/chartevents.csv.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b",", b";")))
    return folder


def empty(folder: Path) -> Path:
    (folder / "hosp/admissions.csv.gz").write_bytes(gzip.compress(b""))
    return folder


def cut_off(folder: Path) -> Path:
    path = folder / "icu/chartevents.csv.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return folder


def cut_at_a_line_end(folder: Path) -> Path:
    path = folder / "hosp/patients.csv.gz"
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))
    return folder


def repeat_a_row(folder: Path) -> Path:
    path = folder / "icu/icustays.csv.gz"
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(text + text.splitlines(keepends=True)[-1]))
    return folder


def number_as_text(folder: Path) -> Path:
    path = folder / "hosp/patients.csv.gz"
    text = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(text.replace(b",50,", b",fifty,")))
    return folder


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (remove, "holds no table ICUSTAYS, needed for the ICU stays"),
        (drop_column, "patients.csv.gz lacks the column ANCHOR_AGE"),
        (use_semicolons, "chartevents.csv.gz has its fields separated by semicolons"),
        (empty, "admissions.csv.gz is damaged: it is empty"),
        (cut_off, "chartevents.csv.gz is damaged: it ends before its gzip stream does"),
        (number_as_text, "fifty"),
        (cut_at_a_line_end, "patients lacks the rows of 1 of the 2 stays in icustays"),
        (repeat_a_row, "icustays or patients: the stay "),
        (lambda folder: folder / "icu", "mimic has it"),
        (lambda folder: folder / "hosp", "mimic has it"),
        (lambda folder: folder.parent, "mimic has it"),
        (lambda folder: folder / "absent", "absent does not exist"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], Path],
    message: str,
) -> None:
    hospital = Hospital()
    hospital.patient(1)
    hospital.patient(2)
    folder = damage(hospital.write(tmp_path / "mimic"))
    out = tmp_path / "out"
    words = ["prepare", "mimic4", "--mimic4-dir", str(folder), "--sepsis", "none"]
    assert run(app, [*words, "--out", str(out)]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()
