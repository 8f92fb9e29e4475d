"""`python -m simulation backbones`: the models that can be tuned, and a trial of one of them."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from common.backbones.catalog import CATALOG, FAMILIES, Entry
from common.backbones.weights_store import local_weights
from common.console import narrow_table, output_console

Check = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Load this one, or a folder of weights; time a training step and a forecast.",
    ),
]

_NOTES = """\
Any folder of weights in the published layout of these families serves too: backbone = FOLDER.
Differential privacy: not supported for any of them yet."""


def backbones(check: Check = None) -> None:
    """List the backbones that can be tuned and where their weights are; or try one."""
    console = output_console()
    if check is not None:
        console.print(_trial_table(check))
        return
    console.print(_catalog_table())
    console.print(_NOTES, soft_wrap=True, highlight=False)


def _catalog_table() -> Table:
    table = narrow_table("Backbones", ["family", "name", "weights", "extra"], ["parameters"])
    for entry in CATALOG.values():
        table.add_row(
            entry.family, entry.name, _place(entry), _extra(entry), _millions(entry.parameters)
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
    with Console(stderr=True).status("loading"):
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
        *trial.facts.items(),
    ):
        table.add_row(label, value)
    return table
