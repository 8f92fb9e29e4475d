from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from common.console import run as run_cli
from server.cli import app

MakeRun = Callable[..., Path]


def test_the_command_writes_tables_and_files(
    make_run: MakeRun, tiny_cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = make_run(), tmp_path / "out"
    arguments = ["evaluate", "--adapter", str(run), "--data", str(tiny_cohort)]
    report = (run / "report.html").read_bytes()
    assert run_cli(app, [*arguments, "--out", str(out)]) == 0
    assert (out / "evaluation.json").is_file()
    assert (run / "report.html").read_bytes() == report
    assert run_cli(app, arguments) == 0
    assert (run / "report.html").read_bytes() != report
    assert str(run / "evaluation.json") in capsys.readouterr().out
    peft = ["evaluate", "--adapter", str(run / "adapter"), "--data", str(tiny_cohort)]
    settings = ["-c", "windows.context=24", "-c", "windows.horizon=4"]
    before = sorted((run / "adapter").iterdir())
    assert run_cli(app, [*peft, *settings]) == 0
    assert "Nothing written" in capsys.readouterr().out
    assert sorted((run / "adapter").iterdir()) == before


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (["--split", "tests"], 2, "unknown split"),
        (["-c", "windows.contxt=3"], 2, "did you mean 'windows.context'"),
        (["-c", "windows.context"], 2, "KEY=VALUE"),
        (["--data", "nowhere"], 4, "nowhere holds no cohort"),
        (["--backbone", "nowhere"], 6, "unknown backbone"),
    ],
)
def test_the_command_ends_with_one_line(
    make_run: MakeRun,
    tiny_cohort: Path,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    code: int,
    message: str,
) -> None:
    run = make_run()
    arguments = ["evaluate", "--adapter", str(run), "--data", str(tiny_cohort), *extra]
    assert run_cli(app, arguments) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (run / "evaluation.json").exists()


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from common.console import run; from server.cli import app;"
        "run(app, ['evaluate', '--help']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--adapter" in done.stdout
