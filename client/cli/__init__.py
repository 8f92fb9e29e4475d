"""Commands of `python -m client`, a file each: they parse options, call the work, and print.

Begin with the table at the end of this file, which has every command.
`node` runs the site; `ingest` makes its table; `approve` allows an app bundle.
"""

from __future__ import annotations

from client.cli import app as app_process
from client.cli import (
    approve,
    audit,
    check,
    convert,
    forecast,
    health,
    ingest,
    ledger,
    node,
    personalise,
    preflight,
)
from common.console import application

app = application("Prepare and run a hospital's side of a federation.")


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
app.command(name="forecast")(forecast.forecast)
