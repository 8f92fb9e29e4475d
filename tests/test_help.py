"""Help of every command, as it is shown at 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import typer
from typer.core import TyperGroup

from client.cli import app as client
from common.console import click_command, run
from server.cli import app as server
from simulation.cli import app as simulation
from simulation.programs import PROGRAMS
from simulation.programs import app as fedvitals

if TYPE_CHECKING:
    from click import Command

APPS = {"client": client, "server": server, "simulation": simulation, "fedvitals": fedvitals}

NO_VERBS = {"a", "an", "the", "what", "how", "whether", "who", "where", "which", "every", "one"}
NOT_CHECKED = {"sweep", "compare", "cost"}
"""Commands whose summary need not be an imperative sentence."""


def commands(command: Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Command]]:
    yield path, command
    if isinstance(command, TyperGroup):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


ALL = [
    found
    for name, app in APPS.items()
    for found in commands(click_command(app), (name,))
    if found[0] not in {("fedvitals", program) for program in PROGRAMS}
]
IDS = [" ".join(path) for path, _ in ALL]


def test_the_commands_are_found_at_all() -> None:
    assert {"client audit verify", "server sites add", "simulation prepare mimic3"} <= set(IDS)


@pytest.mark.parametrize(("path", "command"), ALL, ids=IDS)
def test_the_help_fits_80_columns(
    path: tuple[str, ...],
    command: Command,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(APPS[path[0]], [*path[1:], "--help"], path[0]) == 0
    text = capsys.readouterr().out
    assert "…" not in text
    assert "..." not in text.replace("[ARGS]...", "")
    for line in text.splitlines():
        assert len(line) <= 80
    shown = " ".join(text.replace("│", " ").split())
    # Every paragraph of the help, rendered as Markdown and wrapped.
    for paragraph in (command.help or "").split("\n\n"):
        assert " ".join(paragraph.replace("`", "").split()) in shown
    if isinstance(command, TyperGroup):
        for child in command.commands.values():
            assert summary(child).replace("`", "") in shown


def summary(command: Command) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


@pytest.mark.parametrize(("path", "command"), ALL, ids=IDS)
def test_every_option_and_argument_has_help(path: tuple[str, ...], command: Command) -> None:
    for parameter in command.params:
        if not getattr(parameter, "hidden", False):
            assert getattr(parameter, "help", None), f"{path}: {parameter.name}"


@pytest.mark.parametrize(("path", "command"), ALL, ids=IDS)
def test_the_summary_is_an_imperative_sentence(path: tuple[str, ...], command: Command) -> None:
    if NOT_CHECKED & set(path):
        return
    text = summary(command)
    first = text.partition(" ")[0]
    assert text.endswith("."), text
    assert first[0].isupper(), text
    assert first.lower() not in NO_VERBS, text
    assert not first.endswith(("s", "ing")), text


def test_the_script_summarises_the_programs() -> None:
    for package, app_summary in PROGRAMS.values():
        app = APPS[package.partition(".")[0]]
        assert summary(click_command(app)) == app_summary


@pytest.mark.parametrize("spelling", ["-c", "--set", "--config"])
@pytest.mark.parametrize(
    ("app", "command"),
    [
        (simulation, ["run", "--data", "/nowhere"]),
        (simulation, ["compare", "--data", "/nowhere"]),
        (simulation, ["sweep", "ranks", "--data", "/nowhere"]),
        (server, ["evaluate", "--adapter", "/nowhere", "--data", "/nowhere"]),
    ],
    ids=["run", "compare", "sweep", "evaluate"],
)
def test_a_setting_is_taken_by_its_present_and_its_former_option(
    app: typer.Typer, command: list[str], spelling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(app, [*command, "-c", "seed=1", spelling, "no-pair"]) == 2
    error = capsys.readouterr().err
    assert "-c takes KEY=VALUE" in error or "an experiment sets seed=1 itself" in error


def test_the_former_option_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for app, name in ((simulation, "run"), (server, "evaluate")):
        assert run(app, [name, "--help"]) == 0
        shown = capsys.readouterr().out
        assert "--set" in shown
        assert "--config" not in shown
