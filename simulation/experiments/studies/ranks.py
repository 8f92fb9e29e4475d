"""Study of the adapter's rank: how small may the adapter be?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.backbones.loading import load_backbone
from common.backbones.lora import largest_rank
from common.config.run_config import RunConfig
from common.errors import UsageError
from common.reporting.components import Figure, raw_html
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.statements import against
from simulation.experiments.cell_cache import Cell
from simulation.experiments.defaults import FULL_RATE
from simulation.experiments.experiment import Experiment, Study, StudySummary
from simulation.experiments.models.registry import FULL, ZERO_SHOT
from simulation.experiments.output.figures import Point, trade_off_figure

RANKS = (1, 2, 4, 8, 16, 32)


def ranks_experiment(
    config: RunConfig,
    _out: Path,
    ranks: Sequence[int] | None = None,
    full_rate: float = FULL_RATE,
) -> Experiment:
    """Return federated LoRA at several ranks, with full fine-tuning as the end point.

    Args:
        config: the settings that all arms share.
        ranks: different numbers from 1; None = those of `RANKS` that the backbone can have.
        full_rate: learning rate of full fine-tuning.

    Raises:
        UsageError: no rank is given, one twice, or one below 1.
    """
    notes: tuple[str, ...] = ()
    if ranks is None:
        ranks = possible_ranks(config, RANKS)
        if len(ranks) < len(RANKS):
            notes = (f"Ranks above {ranks[-1]} are left out: the adapted layers are smaller.",)
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
            *notes,
            f"alpha / rank is {config.lora.alpha / config.lora.rank:g} at every rank. {FULL}: "
            "FedAvg in a plain loop through the site's own training function, not through Flower's "
            f"messages, with a learning rate of {full_rate:g}; its bytes are counted, not sent.",
        ),
    )


def possible_ranks(config: RunConfig, ranks: Sequence[int]) -> list[int]:
    """Return those of some ranks that are not above the adapted layers' smallest dimension."""
    loaded = load_backbone(config.backbone)
    largest = largest_rank(loaded.model, loaded.backbone, config.lora.scope)
    return [rank for rank in ranks if rank <= largest]


def summarise_ranks(analysis: Analysis) -> StudySummary:
    """Compare the highest rank with the lowest, and all weights with the highest rank."""
    ranks = [arm for arm in analysis.arms if arm.startswith("rank ")]
    lowest, highest = ranks[0], ranks[-1]
    findings = [against(analysis, highest, lowest)]
    # The word once: beside every point it would cover the next one.
    labels = {arm: arm if arm == lowest else arm.removeprefix("rank ") for arm in ranks}
    lines = {"LoRA, by rank": [_point(analysis, arm, labels[arm]) for arm in ranks]}
    if FULL in analysis.arms:
        findings.append(against(analysis, FULL, highest))
        lines[FULL] = [_point(analysis, FULL, "all weights")]
    svg = trade_off_figure(
        lines, name="trade-off", x_label="trained numbers", y_label="WQL vs zero-shot"
    )
    figure = Figure(
        "Trained numbers and error",
        "One point per rank, with its 95 % interval over patients; lower is better.",
        raw_html(svg),
    )
    return StudySummary(findings[0], findings=findings[1:], figures=[("trade-off", figure)])


def _point(analysis: Analysis, arm: str, label: str) -> Point:
    parameters = analysis.arms[arm].fact("parameters")
    if parameters is None:
        raise UsageError(f"the cells of {arm} do not record how many numbers they train")
    return Point(parameters, analysis.difference(arm, ZERO_SHOT, "wql"), label)


STUDY = Study("sweep ranks", ranks_experiment, summarise_ranks)
