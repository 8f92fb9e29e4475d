"""The commands of `python -m server`, a file each; what they do lives elsewhere."""

from __future__ import annotations

import typer

from server.cli import bundle, evaluate, operators, run, services, sites

app = typer.Typer(
    help="Run a federation over real sites; evaluate and release its global adapter.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="--debug, anywhere on the line, shows the traceback of an error.",
)
app.command(name="start")(services.start)
app.command(name="status")(services.status)
app.command(name="stop")(services.stop)
app.add_typer(sites.app, name="sites")
app.add_typer(operators.app, name="operators")
app.command(name="bundle")(bundle.bundle)
app.command(name="run")(run.run)
app.command(name="stop-run")(run.stop_run)
app.command(name="evaluate")(evaluate.evaluate)
