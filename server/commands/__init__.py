"""The commands of `python -m server`, a file each; what they do lives elsewhere."""

from __future__ import annotations

import typer

from server.commands import evaluate

app = typer.Typer(
    help="Evaluate and release the global adapter of a federation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="--debug, anywhere on the line, shows the traceback of an error.",
)


@app.callback()
def server() -> None:
    """Evaluate and release the global adapter of a federation."""


app.command(name="evaluate")(evaluate.evaluate)
