"""`fedvitals sim|site|server`: the three programs as sub-commands of one script.

A program is imported when it is called: `fedvitals site` starts as fast as `python -m client`, and
runs where the extra `simulation` is not installed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from common.console import application, click_command

if TYPE_CHECKING:
    from click import Context

PROGRAMS = {
    "sim": (
        "simulation.cli",
        "Make hospitals out of ICU data and run the federation on one machine.",
    ),
    "site": ("client.cli", "Prepare and run a hospital's side of a federation."),
    "server": (
        "server.cli",
        "Run a federation over real sites; evaluate and release its global adapter.",
    ),
}
"""Package of the commands and summary, by sub-command."""


class _LazyProgram(TyperGroup):
    """Sub-command whose own commands are imported when it is called or completed."""

    def __init__(self, name: str, package: str, summary: str) -> None:
        super().__init__(name=name, help=summary)
        self.package = package

    def make_context(
        self, info_name: str | None, args: list[str], parent: Context | None = None, **extra: Any
    ) -> Context:
        """Parse the arguments with the imported program in this one's place."""
        program = click_command(import_module(self.package).app)
        return program.make_context(info_name, args, parent, **extra)


class _Programs(TyperGroup):
    """Group of the programs."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, (package, summary) in PROGRAMS.items():
            self.add_command(_LazyProgram(name, package, summary))


app = application(
    "Fine-tune time-series foundation models on ICU vital signs, federated.\n\n"
    "The programs are also `python -m simulation`, `python -m client` and `python -m server`.",
    completion=True,
    cls=_Programs,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("fedvitals"))
        raise typer.Exit


@app.callback()
def fedvitals(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options before the sub-command."""
