from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import pytest
import typer

from common import console
from common.errors import SourceError
from common.interrupts import Stopped, left_when_stopped

REPOSITORY = Path(__file__).resolve().parents[2]


def make_app() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    def work(fail: bool = False) -> None:
        if fail:
            raise SourceError("TABLE [x] is missing\nin /data; put it there")

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


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "Interrupted; start the command again"),
        (Stopped(signal.SIGTERM), 143, "Interrupted; start the command again"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/t"),
            1,
            "error: /data/t: No space left on device; free space there, or give another folder",
        ),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 141, "error: standard output was closed "),
        (
            ValueError("a\nb"),
            1,
            "error: the program failed unexpectedly (ValueError: a b); --debug shows where, for a ",
        ),
    ],
    ids=repr,
)
def test_every_exception_ends_in_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    app = console.application("Work.")

    @app.command()
    def work() -> None:
        raise error

    assert console.run(app, []) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, partial(OSError, errno.EIO, "x", "t")])
def test_what_is_left_follows_the_reason(
    error: Callable[[], BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    app = console.application("Work.")

    @app.command()
    def work() -> None:
        with left_when_stopped("nothing was written to out"):
            raise error()

    assert console.run(app, []) in (1, 130)
    assert capsys.readouterr().err.endswith("; nothing was written to out\n")


@pytest.mark.parametrize(
    ("closed", "code", "reason"),
    [(True, 141, "standard output was closed"), (False, 1, "No space left on device")],
    ids=["head", "/dev/full"],
)
def test_output_that_cannot_be_written_is_one_line(closed: bool, code: int, reason: str) -> None:
    command = [sys.executable, "-m", "simulation", "settings"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE if closed else full,
            stderr=subprocess.PIPE,
            text=True,
        )
    if process.stdout is not None:
        process.stdout.close()
    assert process.stderr is not None
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == code
    assert error.startswith(f"error: {reason}")
    assert error.count("\n") == 1


def test_the_help_shows_defaults_in_brackets_and_what_arguments_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = console.application("Work.")

    @app.command()
    def work(
        table: Annotated[str, typer.Argument(help="The table to read.")],
        by: Annotated[str, typer.Option(help="Name. [default: this user]")] = "",
    ) -> None: ...

    assert console.run(app, ["--help"], "work") == 0
    shown = capsys.readouterr().out
    assert "Usage: work " in shown
    assert "The table to read." in shown
    assert "Name. [default: this user]" in shown


def test_a_hidden_name_is_accepted_in_the_order_given_and_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = console.application("Work.")
    given: list[str] = []

    @app.command()
    def work(
        settings: Annotated[
            list[str] | None,
            typer.Option("-c", "--set", help="A setting."),
            console.HiddenName("--config"),
        ] = None,
    ) -> None:
        given.extend(settings or [])

    assert console.run(app, ["-c", "a=1", "--config", "b=2", "--set=c=3"]) == 0
    assert given == ["a=1", "b=2", "c=3"]
    assert console.run(app, ["--config"]) == 2
    assert "--config" in capsys.readouterr().err
    assert console.run(app, ["--help"]) == 0
    assert "--config" not in capsys.readouterr().out


def test_a_mistyped_command_gets_one_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    app = console.application("Work.")
    for name in ("run", "settings"):
        app.command(name=name)(lambda: None)
    assert console.run(app, ["rnu"]) == 2
    assert capsys.readouterr().err.count("Did you mean 'run'?") == 1


@pytest.mark.parametrize("variables", [{}, {"TERM": "dumb"}, {"NO_COLOR": "1", "FORCE_COLOR": "1"}])
def test_a_pipe_gets_no_codes(
    variables: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    console.run(make_app(), ["--fail"])
    with console.working("training") as update, console.byte_progress("reading") as read:
        update("validating")
        read(1, 2)
    console.output_console().print("[bold red]done[/]")
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out + captured.err


def test_forced_colours_never_move_the_cursor_of_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with console.working("training"), console.byte_progress("reading"):
        assert not console.is_live(console.error_console())
    assert capsys.readouterr().err == ""


def test_an_error_with_foreign_text_is_one_line_without_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before: a file's name or a server's reason could clear the screen."""
    app = typer.Typer()

    @app.command()
    def fail() -> None:
        raise SourceError("\x1b[2J\x1b]0;title\x07/a\r\nerror: b\u202e.csv" + "x" * 9000)

    assert console.run(app, []) == SourceError.exit_code
    said = capsys.readouterr().err
    assert said.rstrip("\n").isprintable()
    assert said.count("\n") == 1
    assert len(said) < 5000
