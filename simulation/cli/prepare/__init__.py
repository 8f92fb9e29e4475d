"""`python -m simulation prepare`: conversion of a source of ICU data to one site table per site.

Begin with `prepare_cohort`, the steps that all sources share. Each other file has the commands of
its sources; `options` has the options that they share.
"""

from __future__ import annotations

import typer
from rich.table import Table

from common.console import output_console
from simulation.cli.prepare.challenges import prepare_challenge_2012, prepare_challenge_2019
from simulation.cli.prepare.eicu import prepare_eicu
from simulation.cli.prepare.meds import prepare_meds
from simulation.cli.prepare.mimic3 import prepare_mimic3, prepare_synthetic
from simulation.cli.prepare.mimic4 import prepare_mimic4

app = typer.Typer(
    help="Convert a source of ICU data to one site table per hospital.",
    invoke_without_command=True,
)

SOURCES = {
    "mimic3": "MIMIC-III v1.4 tables (credentialed access, or the open demo): five care units",
    "mimic4": "MIMIC-IV v2 or v3 tables (credentialed access, or the open demo): nine care units",
    "eicu": "eICU-CRD v2.0 tables (credentialed access, or the open demo): 208 hospitals",
    "meds": "Events in MEDS, of MIMIC-IV or by a table of codes: care unit, or any code as site",
    "challenge-2019": "PhysioNet/CinC Challenge 2019 (open): hospital and unit, Sepsis-3 label",
    "challenge-2012": "PhysioNet/CinC Challenge 2012 (open): four unit types, first 48 hours",
    "synthetic": "A synthetic MIMIC-III, generated: no data needed",
}


@app.callback()
def prepare(context: typer.Context) -> None:
    """Show the sources if none is given."""
    if context.invoked_subcommand is not None:
        return
    table = Table(title="Sources", title_justify="left")
    table.add_column("python -m simulation prepare ...")
    table.add_column("source")
    for name, source in SOURCES.items():
        table.add_row(name, source)
    output_console().print(table)
    output_console().print("`python -m simulation prepare SOURCE --help` shows a source's options.")


app.command("mimic3")(prepare_mimic3)
app.command("mimic4")(prepare_mimic4)
app.command("eicu")(prepare_eicu)
app.command("meds")(prepare_meds)
app.command("synthetic")(prepare_synthetic)
app.command("challenge-2019")(prepare_challenge_2019)
app.command("challenge-2012")(prepare_challenge_2012)
