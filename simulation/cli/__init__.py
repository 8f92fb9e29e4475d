"""Commands of `python -m simulation`, a file each: they parse options, call the work, and print.

Begin with the table at the end of this file, which has every command.
`prepare` makes a cohort; `run` trains on it; `experiments` holds what the studies share.
"""

from __future__ import annotations

from common.console import application
from server.cli import export
from simulation.cli import (
    attack,
    backbones,
    compare,
    cost,
    diff,
    prepare,
    pretrain,
    reproduce,
    run,
    settings,
    sweep,
)
from simulation.cli.cohort import sites, statistics

app = application("Make hospitals out of ICU data and run the federation on one machine.")
app.add_typer(prepare.app, name="prepare")
app.command(name="sites")(sites.sites)
app.command(name="statistics")(statistics.statistics)
app.command(name="run")(run.run)
app.command(name="diff")(diff.diff)
app.command(name="export")(export.export)
app.command(name="compare")(compare.compare)
app.add_typer(sweep.app, name="sweep")
app.add_typer(attack.app, name="attack")
app.command(name="cost")(cost.cost)
app.command(name="reproduce")(reproduce.reproduce)
app.command(name="settings")(settings.settings)
app.command(name="backbones")(backbones.backbones)
app.command(name="pretrain")(pretrain.pretrain)
