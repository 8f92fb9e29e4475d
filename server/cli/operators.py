"""`python -m server operators`: who may start runs, let sites in and ask how things stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.console import narrow_table, output_console
from common.errors import UsageError
from server.cli.services import SERVER_FILE, ServerFile, say
from server.deployment.operators import Operators, write_credential
from server.deployment.server_config import read_server_config

app = typer.Typer(help="Who may call the control API.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The operator's name, e.g. a.meyer.")]
Out = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Where the credential goes, a new file. [default: NAME.operator]"
    ),
]


@app.command()
def add(name: Name, config: ServerFile = SERVER_FILE, out: Out = None) -> None:
    """Let somebody operate this coordinator, and write their credential into a file, once."""
    operators = Operators(read_server_config(config).state)
    file = out or Path(f"{name}.operator")
    credential = operators.add(name)
    try:
        write_credential(file, credential)
    except UsageError:
        operators.remove(name)
        raise
    say(f"{name} may operate this coordinator, with the credential in {file}; it is kept nowhere")


@app.command()
def remove(name: Name, config: ServerFile = SERVER_FILE) -> None:
    """Refuse an operator's credential, at once and for good; their runs go on."""
    Operators(read_server_config(config).state).remove(name)
    say(f"{name} is refused from now on")


@app.command(name="list")
def list_(config: ServerFile = SERVER_FILE) -> None:
    """Show the operators."""
    table = narrow_table("Operators", ["operator", "since"], [])
    for name, since in Operators(read_server_config(config).state).since().items():
        table.add_row(name, since)
    output_console().print(table)
