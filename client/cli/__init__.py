"""The commands of `python -m client`, a file each; what they do lives elsewhere."""

from __future__ import annotations

import typer

from client.cli import app as app_process
from client.cli import (
    approve,
    audit,
    check,
    convert,
    health,
    ingest,
    ledger,
    node,
    personalise,
    preflight,
)

app = typer.Typer(
    help="Prepare and run a hospital's side of a federation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="--debug, anywhere on the line, shows the traceback of an error.",
)


@app.callback()
def client() -> None:
    """Prepare and run a hospital's side of a federation."""


app.command(name="app")(app_process.app)
app.command(name="convert")(convert.convert)
app.command(name="ingest")(ingest.ingest)
app.command(name="check")(check.check)
app.command(name="node")(node.node)
app.command(name="approve")(approve.approve)
app.command(name="preflight")(preflight.preflight)
app.command(name="health")(health.health)
app.add_typer(audit.app, name="audit")
app.command(name="ledger")(ledger.ledger)
app.command(name="personalise")(personalise.personalise)
