"""`python -m simulation backbones`: list of the backbones, and a smoke test of one."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from common.backbones.catalog import CATALOG, FAMILIES, Entry
from common.backbones.weights_store import local_weights
from common.console import narrow_table, output_console, print_line, working

_Check = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Load this backbone or folder of weights; time a training step and a forecast.",
    ),
]

_NOTES = """\
A folder of weights in the published layout of one of these families works too: backbone = FOLDER.
DP: whether it trains with differential privacy (privacy.epsilon); --check NAME tries a step."""


def backbones(check: _Check = None) -> None:
    """List the backbones and where their weights are, or try one with --check."""
    if check is not None:
        output_console().print(_trial_table(check))
        return
    output_console().print(_catalog_table())
    print_line(_NOTES)


def _catalog_table() -> Table:
    columns = ["family", "name", "weights", "extra", "DP"]
    table = narrow_table("Backbones", columns, ["parameters"])
    for entry in CATALOG.values():
        table.add_row(
            entry.family,
            entry.name,
            _place(entry),
            _extra(entry),
            "yes" if FAMILIES[entry.family].private else "no",
            _millions(entry.parameters),
        )
    return table


def _place(entry: Entry) -> str:
    if local_weights(entry) is not None:
        return "repository" if entry.packaged else "cache"
    return "to be converted" if entry.checkpoint else "to be downloaded"


def _extra(entry: Entry) -> str:
    if entry.missing_extra:
        return f"{entry.missing_extra} (missing)"
    return FAMILIES[entry.family].extra or "-"


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g} M"


def _trial_table(name: str) -> Table:
    with working("loading"):
        from simulation.backbone_smoke_test import BATCH, try_backbone

        trial = try_backbone(name)
    table = narrow_table(name, ["fact", "value"], [])
    table.show_header = False
    for label, value in (
        ("digest (SHA-256)", trial.digest),
        ("parameters", f"{trial.parameters:,}, frozen"),
        ("adapter", f"{trial.adapter_parameters:,} parameters with the default settings"),
        ("device", trial.device),
        ("training step", f"{trial.step_s * 1e3:.1f} ms for {BATCH} windows"),
        ("forecast", f"{trial.forecast_s * 1e3:.1f} ms for {BATCH} windows"),
        ("privacy", trial.private_refusal or "yes: a step with differential privacy works"),
        *trial.facts.items(),
    ):
        table.add_row(label, value)
    return table
