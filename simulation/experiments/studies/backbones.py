"""Sweep: every family of backbones on the same patients, alone and tuned by the federation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.backbones.catalog import CATALOG
from common.config.run_config import RunConfig
from common.errors import UsageError
from common.reporting.components import Part, Row, Section, Table, difference, short
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.statements import against
from simulation.experiments.cell_cache import Cell
from simulation.experiments.experiment import Experiment
from simulation.experiments.models.registry import METHODS
from simulation.experiments.output.html import Shown
from simulation.experiments.output.html import seed_range as range_of_seeds

LAST_VALUE = METHODS["last-value"].label
_ALONE, _TUNED = "zero-shot", "federated LoRA"


def packaged_backbones() -> list[str]:
    """Return the backbones that are in the package and whose libraries are installed."""
    return [name for name, entry in CATALOG.items() if entry.packaged and not entry.missing_extra]


def backbones_sweep(config: RunConfig, names: Sequence[str]) -> Experiment:
    """Compare backbones, each without an adapter and with the federation's.

    Raises:
        UsageError: where none is named.
    """
    if not names:
        raise UsageError("--backbones names none; leave it out for those in the package")
    groups = {"reference": [Cell(LAST_VALUE, "last-value", config)]}
    for name in names:
        own = config.replace(backbone=name)
        shown = _shown(name)
        groups[shown] = [
            Cell(f"{shown}, {_ALONE}", "zero-shot", own),
            Cell(f"{shown}, {_TUNED}", "federated", own),
        ]
    return Experiment(
        name="backbones",
        title="Backbones side by side",
        question="Does federated LoRA better every family, and which forecasts best?",
        groups=groups,
        references=(LAST_VALUE,),
        notes=(
            "All families have the same settings, which suit one better than another: this table "
            "compares what the defaults give, not what each family could reach.",
        ),
    )


def show_backbones(analysis: Analysis) -> Shown:
    """Say what the families show."""
    names = [arm.removesuffix(f", {_TUNED}") for arm in analysis.arms if arm.endswith(_TUNED)]
    pairs = [(f"{name}, {_TUNED}", f"{name}, {_ALONE}") for name in names]
    rows = [
        Row(
            name,
            [
                *(
                    difference(analysis.difference(tuned, alone, metric).to_json())
                    for metric in ("wql", "mae")
                ),
                range_of_seeds(analysis, tuned, alone, "wql"),
            ],
        )
        for name, (tuned, alone) in zip(names, pairs, strict=True)
    ]
    table = Table(
        "Federated LoRA relative to the same backbone alone",
        ["Backbone", "WQL", "MAE", "WQL, range of seeds"],
        rows,
    )
    findings = [against(analysis, tuned, alone) for tuned, alone in pairs]
    return Shown(
        findings[0],
        findings=findings[1:],
        sections=[Section("own", "Against its own zero-shot", [Part(tables=[table])])],
    )


def _shown(name: str) -> str:
    """A catalog's name, or of a folder the last part."""
    return short(name if name in CATALOG else Path(name).name)
