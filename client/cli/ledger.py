"""`python -m client ledger`: privacy budget that runs have spent at this site."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from client.privacy.ledger_statement import SiteStatement, as_json, make_statement
from common.console import narrow_table, output_console, print_line
from common.errors import UsageError
from common.files.paths import STATE_FOLDER, home

_State = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="The site's state-path. [default: FEDVITALS_HOME/site]",
        show_default=False,
    ),
]
_Site = Annotated[
    str | None, typer.Option(help="Show this site only. [default: all]", show_default=False)
]
_Delta = Annotated[
    float, typer.Option(help="Delta of each epsilon shown, as the site's epsilon-limit-delta.")
]
_Limit = Annotated[
    float | None,
    typer.Option(help="The site's epsilon-limit, to show the rest of it.", show_default=False),
]
_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def ledger(
    state: _State = None,
    site: _Site = None,
    delta: _Delta = 1e-5,
    limit: _Limit = None,
    json_: _AsJson = False,
) -> None:
    """Show the privacy budget spent at this site, per run and in total.

    Steps count as spent once they are reserved, also in a round that failed before its reply.
    Nothing is changed.
    """
    if not 0.0 < delta < 1.0 or (limit is not None and limit <= 0.0):
        raise UsageError(
            f"--delta must be between 0 and 1 and --limit above 0, got {delta:g}"
            + ("" if limit is None else f" and {limit:g}")
        )
    from client.privacy.budget_ledger import Ledger

    records = Ledger(home() / STATE_FOLDER if state is None else state).runs(site)
    if site is not None and not records:
        raise UsageError(f"the ledger has no run of site {site!r}; omit --site to see all")
    statements = make_statement(records, delta, limit)
    if json_:
        typer.echo(json.dumps(as_json(statements, delta), indent=2))
        return
    console = output_console()
    if not statements:
        print_line("No run has begun.")
    for statement in statements:
        console.print(_table(statement, delta))
        for line in _closing(statement, limit):
            print_line(line)
        print_line("")


def _table(statement: SiteStatement, delta: float) -> Table:
    table = narrow_table(
        f"Spent at site {statement.site}, delta {delta:g}",
        ("began", "run", "table"),
        ("steps", "unanswered", "sigma", "q", "epsilon"),
    )
    for line in statement.lines:
        entry, plan = line.entry, line.entry.plan
        table.add_row(
            entry.began[:10],
            entry.run[:12],
            entry.table_digest[:8],
            f"{entry.reserved} / {plan.steps}",
            str(entry.unanswered) if entry.unanswered else "",
            f"{plan.noise_multiplier:.3f}",
            f"{plan.sample_rate:g}",
            _number(line.epsilon.prv),
        )
    return table


def _closing(statement: SiteStatement, limit: float | None) -> list[str]:
    total = statement.total
    lines = [
        f"All runs and tables together: epsilon {_number(total.prv)} ({total.accountant}), "
        f"by RDP {_number(total.rdp)}",
        "That is for adding or removing a patient; for replacing one patient's data by others: "
        f"epsilon {_number(statement.replaced.prv)} ({statement.replaced.accountant})",
    ]
    if limit is not None and statement.left is not None:
        lines.append(
            f"Left of the limit of {limit:g}: {_number(statement.left)}. What a further run adds "
            "is composed with these, not summed."
        )
    return lines


def _number(epsilon: float) -> str:
    return "no bound" if math.isinf(epsilon) else f"{epsilon:.2f}"
