"""Sweep: the rank of the adapter against what it trains and how well it forecasts."""

from __future__ import annotations

from collections.abc import Sequence

from common.config.run_config import RunConfig
from common.errors import UsageError
from common.reporting.components import Figure, drawn
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.statements import against
from simulation.experiments.cell_cache import Cell
from simulation.experiments.defaults import FULL_RATE
from simulation.experiments.experiment import Experiment
from simulation.experiments.models.registry import METHODS
from simulation.experiments.output.figures import Point, trade_off_figure
from simulation.experiments.output.html import Shown

ZERO_SHOT = METHODS["zero-shot"].label
FULL = METHODS["federated-full"].label
RANKS = (1, 2, 4, 8, 16, 32)


def ranks_sweep(
    config: RunConfig, ranks: Sequence[int], full_rate: float = FULL_RATE
) -> Experiment:
    """Compare federated LoRA of several ranks, with all weights as the end point.

    Raises:
        UsageError: where no rank is given, one twice, or one below 1.
    """
    if not ranks or len(set(ranks)) < len(ranks) or min(ranks) < 1:
        raise UsageError(f"--ranks takes different numbers from 1, got {list(ranks)}")
    cells = [
        Cell(f"rank {rank}", "federated", config.replace(lora=config.lora.at_rank(rank)))
        for rank in sorted(ranks)
    ]
    options = {"learning-rate": full_rate}
    return Experiment(
        name="ranks",
        title="Rank, trained numbers and error",
        question="How small may the adapter be, and what would tuning all weights add?",
        groups={
            "reference": [Cell(ZERO_SHOT, "zero-shot", config)],
            "ranks": cells,
            "full": [Cell(FULL, "federated-full", config, options=options)],
        },
        references=(ZERO_SHOT,),
        notes=(
            f"alpha / rank is {config.lora.alpha / config.lora.rank:g} at every rank. {FULL}: "
            "FedAvg in a plain loop through the site's own training function, not through Flower's "
            f"messages, with a learning rate of {full_rate:g}; its bytes are counted, not sent.",
        ),
    )


def show_ranks(analysis: Analysis) -> Shown:
    """Say what the ranks show."""
    ranks = [arm for arm in analysis.arms if arm.startswith("rank ")]
    lowest, highest = ranks[0], ranks[-1]
    findings = [against(analysis, highest, lowest)]
    if FULL in analysis.arms:
        findings.append(against(analysis, FULL, highest))
    points = [_point(analysis, arm, arm.removeprefix("rank ")) for arm in ranks]
    lines = {"LoRA, by rank": points}
    if FULL in analysis.arms:
        lines[FULL] = [_point(analysis, FULL, "all weights")]
    svg = trade_off_figure(
        lines, name="trade-off", x_label="trained numbers", y_label="WQL vs zero-shot"
    )
    figure = Figure(
        "Trained numbers and error",
        "A point a rank, with its 95 % interval over patients; lower is better.",
        drawn(svg),
    )
    return Shown(findings[0], findings=findings[1:], figures=[("trade-off", figure)])


def _point(analysis: Analysis, arm: str, label: str) -> Point:
    parameters = analysis.arms[arm].fact("parameters")
    if parameters is None:
        raise UsageError(f"the cells of {arm} do not tell how many numbers they train")
    return Point(parameters, analysis.difference(arm, ZERO_SHOT, "wql"), label)
