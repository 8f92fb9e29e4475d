from __future__ import annotations

import pytest
import typer

from common import console
from common.errors import SourceError


def make_app() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def work(fail: bool = False, interrupt: bool = False) -> None:
        if fail:
            raise SourceError("TABLE [x] is missing\nin /data; put it there")
        if interrupt:
            raise KeyboardInterrupt

    return app


def test_success_is_zero() -> None:
    assert console.run(make_app(), []) == 0


def test_a_users_mistake_is_one_line_and_the_errors_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert console.run(make_app(), ["--fail"]) == SourceError.exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: TABLE [x] is missing in /data; put it there\n"


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(make_app(), ["--fail", "--debug"]) == SourceError.exit_code
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" in error
    assert "raise SourceError" in error


def test_unknown_option_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(make_app(), ["--nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


def test_interrupt_ends_as_a_shell_expects() -> None:
    assert console.run(make_app(), ["--interrupt"]) == console.INTERRUPTED
