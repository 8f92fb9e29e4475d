from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.console import run
from common.files.paths import current_cohort
from simulation.cli import app


def prepare(shared_data: Path, out: Path, *options: str) -> int:
    folder = shared_data / "mimic3-demo-grafted"
    return run(app, ["prepare", "mimic3", "--mimic-dir", str(folder), "--out", str(out), *options])


def test_without_a_subcommand_the_sources_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app, ["prepare"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("mimic3", "eicu", "challenge-2019", "synthetic"))


def test_mimic3_writes_the_cohort_and_shows_it(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cohort"
    assert prepare(shared_data, out, "--sepsis", "angus") == 0
    text = capsys.readouterr().out
    assert "sepsis by the rule angus" in text
    assert "micu" in text
    record = json.loads((out / "cohort.json").read_text())
    assert record["parameters"]["sepsis"] == "angus"
    assert set(record["inputs"]) >= {"ICUSTAYS", "PATIENTS", "CHARTEVENTS", "DIAGNOSES_ICD"}
    assert current_cohort() == out
    assert run(app, ["sites", str(out)]) == 0


def test_the_same_command_again_gives_the_same_bytes(shared_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "cohort"
    prepare(shared_data, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert prepare(shared_data, out) == 0
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--units", "micu,nicu"], 2, "'nicu' is not known"),
        (["--sepsis", "angus"], 4, "--overwrite"),
        (["--mimic-dir", "/nowhere"], 3, "/nowhere"),
    ],
)
def test_mistakes_end_with_one_line(
    shared_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    code: int,
    message: str,
) -> None:
    out = tmp_path / "cohort"
    prepare(shared_data, out)
    before = (out / "cohort.json").read_bytes()
    capsys.readouterr()
    changed = options if "--sepsis" in options else ["--overwrite", *options]
    assert prepare(shared_data, out, *changed) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert (out / "cohort.json").read_bytes() == before


@pytest.mark.parametrize("source", ["challenge-2019", "challenge-2012"])
def test_a_challenge_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str
) -> None:
    missing = str(tmp_path / "absent.tar.xz")
    assert run(app, ["prepare", source, "--source", missing, "--out", str(tmp_path / "out")]) == 3
    assert missing in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.5, 1.5, 2.5, 3.5])
def test_a_killed_run_leaves_no_cohort(shared_data: Path, tmp_path: Path, after_s: float) -> None:
    out = tmp_path / "cohort"
    source = shared_data / "challenge-2012-set-a.tar.xz"
    command = [sys.executable, "-m", "simulation", "prepare", "challenge-2012"]
    command += ["--source", str(source), "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        time.sleep(after_s)
        os.kill(process.pid, signal.SIGKILL)
    # Either absent or complete: never a folder that `sites` would accept in part.
    if out.exists():
        assert run(app, ["sites", str(out)]) == 0
    else:
        assert run(app, ["sites", str(out)]) == 4


def test_two_sources_make_one_cohort(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joint = tmp_path / "joint"
    header = "HR|O2Sat|Temp|SBP|MAP|DBP|Resp|Age|Gender|Unit1|Unit2|ICULOS|SepsisLabel"
    rows = [f"80|97|37|120|80|60|15|50|1|1|0|{hour}|1" for hour in range(1, 20)]
    for hospital, name in (("training_setA", "p000001"), ("training_setB", "p100001")):
        folder = tmp_path / hospital
        folder.mkdir()
        (folder / f"{name}.psv").write_text("\n".join([header, *rows]))
    both = [
        "--source",
        str(tmp_path / "training_setA"),
        "--source",
        str(tmp_path / "training_setB"),
    ]
    made_up = ["prepare", "synthetic", "--stays", "60", "--sepsis", "none", "--into", str(joint)]

    assert run(app, ["prepare", "challenge-2019", *both, "--into", str(joint)]) == 0
    assert run(app, made_up) == 0

    record = json.loads((joint / "cohort.json").read_text())
    assert list(record["sources"]) == ["challenge-2019", "synthetic"]
    assert list(record["sites"])[:2] == ["challenge-2019-a-micu", "challenge-2019-b-micu"]
    assert "synthetic-micu" in record["sites"]
    capsys.readouterr()
    assert run(app, [*made_up, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "error: give either --out or --into\n"
    assert run(app, [*made_up, "--seed", "1"]) == 4
    assert "with other settings" in capsys.readouterr().err
