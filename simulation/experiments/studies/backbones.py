"""Study of backbones: every family zero-shot and with federated LoRA, on the same patients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.backbones.catalog import packaged_backbones, short_name
from common.config.run_config import RunConfig
from common.reporting.components import Part, Row, Section, Table, difference
from common.reporting.phrasing import clean_line
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.statements import SUMMARY_METRICS, against, seed_range
from simulation.experiments.cell_cache import Cell
from simulation.experiments.experiment import Experiment, Study, StudySummary
from simulation.experiments.models.registry import LAST_VALUE

_ALONE, _TUNED = "zero-shot", "federated LoRA"


def backbones_experiment(
    config: RunConfig, _out: Path, backbones: Sequence[str] = ()
) -> Experiment:
    """Return each backbone without an adapter and with the federation's, one group each.

    Args:
        config: the settings that all arms share.
        backbones: names or folders; empty = those of the package that are installed.
    """
    groups = {"reference": [Cell(LAST_VALUE, "last-value", config)]}
    for name in backbones or packaged_backbones():
        own = config.replace(backbone=name)
        label = clean_line(short_name(name))
        groups[label] = [
            Cell(f"{label}, {_ALONE}", "zero-shot", own),
            Cell(f"{label}, {_TUNED}", "federated", own),
        ]
    return Experiment(
        name="backbones",
        title="Backbones side by side",
        question="Does federated LoRA improve every family, and which forecasts best?",
        groups=groups,
        references=(LAST_VALUE,),
        notes=(
            "All families have the same settings, which suit some better than others: the table "
            "compares the results of the defaults, not the best that each family could reach.",
        ),
    )


def summarise_backbones(analysis: Analysis) -> StudySummary:
    """Compare federated LoRA with zero-shot for each backbone."""
    names = [arm.removesuffix(f", {_TUNED}") for arm in analysis.arms if arm.endswith(_TUNED)]
    pairs = [(f"{name}, {_TUNED}", f"{name}, {_ALONE}") for name in names]
    rows = [
        Row(
            name,
            [
                *(
                    difference(analysis.difference(tuned, alone, metric).to_json())
                    for metric in SUMMARY_METRICS
                ),
                seed_range(analysis, tuned, alone, "wql"),
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
    return StudySummary(
        findings[0],
        findings=findings[1:],
        sections=[Section("own", "Against its own zero-shot", [Part(tables=[table])])],
    )


STUDY = Study("sweep backbones", backbones_experiment, summarise_backbones)
