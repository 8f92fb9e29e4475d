"""Commands of `python -m server`, a file each: they parse options, call the work, and print.

Begin with the table at the end of this file, which has every command.
`services` starts and stops the services; `run` starts a run.
"""

from __future__ import annotations

from common.console import application
from server.cli import bundle, evaluate, export, operators, run, services, sites, statistics

app = application("Run a federation over real sites; evaluate and release its global adapter.")
app.command(name="start")(services.start)
app.command(name="status")(services.status)
app.command(name="stop")(services.stop)
app.add_typer(sites.app, name="sites")
app.add_typer(operators.app, name="operators")
app.command(name="bundle")(bundle.bundle)
app.command(name="statistics")(statistics.statistics)
app.command(name="run")(run.run)
app.command(name="stop-run")(run.stop_run)
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="export")(export.export)
