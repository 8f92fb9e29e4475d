"""`python -m server operators`: accounts that may call the control API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.console import narrow_table, output_console, print_line
from server.cli.services import ServerFile
from server.deployment.operators import Operators
from server.deployment.server_config import read_server_config

app = typer.Typer(
    help="Add, remove and list the operators of the control API.", no_args_is_help=True
)

_Name = Annotated[str, typer.Argument(help="The operator's name, e.g. a.meyer.")]
_Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The new file for the credential. [default: NAME.operator]"),
]


@app.command()
def add(name: _Name, config: ServerFile, out: _Out = None) -> None:
    """Add an operator and write the credential to a new file; it is stored nowhere else."""
    operators = Operators(read_server_config(config).state)
    file = out or Path(f"{name}.operator")
    operators.add(name, file)
    print_line(f"{name} may operate this coordinator, with the credential in {file}, the only copy")


@app.command()
def remove(name: _Name, config: ServerFile) -> None:
    """Revoke an operator's credential at once; their runs continue."""
    Operators(read_server_config(config).state).remove(name)
    print_line(f"{name} is refused from now on")


@app.command(name="list")
def list_(config: ServerFile) -> None:
    """List the operators."""
    table = narrow_table("Operators", ["operator", "since"], [])
    for name, since in Operators(read_server_config(config).state).since().items():
        table.add_row(name, since)
    output_console().print(table)
