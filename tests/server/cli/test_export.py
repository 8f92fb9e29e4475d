from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from common.console import run as run_cli
from server.cli import app
from server.cli.export import export
from simulation.cli import app as simulation

MakeRun = Callable[..., Path]


@pytest.mark.slow
def test_a_finished_run_is_exported_and_stays_as_it_is(
    evaluated_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in evaluated_run.rglob("*") if path.is_file()}
    out = tmp_path / "out"
    assert run_cli(simulation, ["export", str(evaluated_run), str(out)]) == 0
    names = {path.name for path in out.iterdir()}
    assert {"differences-wql.pdf", "validation.svg", "results-mae-per-vital-sign.csv"} <= names
    # The values of single patients are in no run folder, and so in no export of one.
    assert not any(name.startswith("example") for name in names)
    assert "tables (.csv, .tex) and" in capsys.readouterr().out
    after = {path: path.read_bytes() for path in evaluated_run.rglob("*") if path.is_file()}
    assert after == before


def test_both_programs_have_the_command() -> None:
    for program in (app, simulation):
        (command,) = (one for one in program.registered_commands if one.name == "export")
        assert command.callback is export


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [("nowhere", 10, "holds no run"), ("empty", 10, "holds no run")],
)
def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, name: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run_cli(app, ["export", str(tmp_path / name), str(tmp_path / "out")]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_files_is_refused_before_the_evaluation(
    make_run: MakeRun, tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    (tmp_path / "notes.txt").write_text("mine")
    command = ["evaluate", "--adapter", str(run), "--data", str(tiny_cohort)]
    assert run_cli(app, [*command, "--export", str(tmp_path)]) == 2
    assert "which no export wrote" in capsys.readouterr().err
    assert not (run / "evaluation.json").exists()
    peft = ["evaluate", "--adapter", str(run / "adapter"), "--data", str(tiny_cohort)]
    assert run_cli(app, [*peft, "--export", str(tmp_path / "out")]) == 2
    assert "--export takes the tables and figures of a run's report" in capsys.readouterr().err
