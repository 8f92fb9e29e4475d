"""Study of differential privacy: accuracy lost by epsilon, training B alone or both matrices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.config.run_config import RunConfig
from common.errors import UsageError
from common.reporting.components import Figure, raw_html
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.statements import grouped
from simulation.experiments.cell_cache import Cell
from simulation.experiments.experiment import Experiment, Study, StudySummary
from simulation.experiments.models.registry import ZERO_SHOT
from simulation.experiments.output.figures import Point, trade_off_figure

EPSILONS = (10.0, 3.0, 1.0)
TRAINED = {"b": "B alone", "ab": "A and B"}
RATES = {10.0: 5.0, 3.0: 2.0, 1.0: 0.3}
"""Learning rates by epsilon, chosen on validation patients: more noise needs smaller steps."""
_RATE_SHARE_OF_BOTH = 1 / 3
"""Factor of the rate when A is trained too: the product B A multiplies the noise of both."""


def private_rate(epsilon: float, trained: str) -> float:
    """Return `privacy.learning-rate` for a budget; ``trained`` is ``b`` or ``ab``."""
    return RATES.get(epsilon, min(5.0, 0.6 * epsilon)) * (
        _RATE_SHARE_OF_BOTH if trained == "ab" else 1.0
    )


def privacy_experiment(
    config: RunConfig, _out: Path, epsilons: Sequence[float] = EPSILONS, rate: float = 0.0
) -> Experiment:
    """Return no privacy and several budgets, training B alone or both matrices.

    Args:
        config: the settings that all arms share, with privacy off.
        epsilons: budgets of a site's whole run.
        rate: ``privacy.learning-rate`` of every arm; 0 = by `private_rate`.

    Raises:
        UsageError: privacy is already on, or an epsilon is not above 0.
    """
    if config.privacy.on:
        raise UsageError("this sweep sets privacy.epsilon itself; leave it out of -c")
    if not epsilons or min(epsilons) <= 0:
        raise UsageError(f"--epsilons takes numbers above 0, got {list(epsilons)}")
    groups = {"reference": [Cell(ZERO_SHOT, "zero-shot", config)]}
    for trained, words in TRAINED.items():
        base = config.replace(lora=config.lora.replace(train=trained))
        cells = [Cell(f"{words}, no privacy", "federated", base)]
        for epsilon in sorted(epsilons, reverse=True):
            private = config.privacy.replace(
                epsilon=epsilon,
                learning_rate=rate or private_rate(epsilon, trained),
                noise_seed=0,  # replaced by each cell's own seed, so that the table can be repeated
            )
            weights = base.federation.replace(weights="auto")
            arm = base.replace(privacy=private, federation=weights)
            cells.append(Cell(f"{words}, epsilon {epsilon:g}", "federated", arm))
        groups[trained] = cells
    return Experiment(
        name="privacy",
        title="Cost of differential privacy",
        question="How much of the gain remains under differential privacy per patient?",
        groups=groups,
        references=(ZERO_SHOT,),
        notes=(
            f"Epsilon is the budget of a site's whole run at delta {config.privacy.delta:g}. With "
            "privacy the sites report no validation, so the last round is released; without, the "
            "best round. The noise has a fixed seed here; a hospital never fixes it.",
        ),
    )


def summarise_privacy(analysis: Analysis) -> StudySummary:
    """Compare every budget with zero-shot, and plot the error over epsilon."""
    lines: dict[str, list[Point]] = {}
    for words in TRAINED.values():
        points = []
        for arm in analysis.arms:
            if arm.startswith(f"{words}, epsilon "):
                epsilon = float(arm.rpartition(" ")[2])
                interval = analysis.difference(arm, ZERO_SHOT, "wql")
                points.append(Point(epsilon, interval, f"{words}, {epsilon:g}"))
        if points:
            lines[words] = sorted(points, key=lambda point: point.x)
    svg = trade_off_figure(lines, name="budget", x_label="epsilon", y_label="WQL vs zero-shot")
    caption = "One point per budget, with its 95 % interval over patients; lower is better."
    figures = [("budget", Figure("Budget and error", caption, raw_html(svg)))] if lines else []
    return StudySummary(grouped(analysis, ZERO_SHOT), figures=figures)


STUDY = Study("sweep privacy", privacy_experiment, summarise_privacy)
