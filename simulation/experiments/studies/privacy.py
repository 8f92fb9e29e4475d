"""Sweep: what a guarantee costs, by epsilon and by what is trained."""

from __future__ import annotations

from collections.abc import Sequence

from common.config.run_config import RunConfig
from common.errors import UsageError
from common.reporting.components import Figure, drawn
from simulation.experiments.analysis.analysis import Analysis
from simulation.experiments.analysis.statements import grouped
from simulation.experiments.cell_cache import Cell
from simulation.experiments.experiment import Experiment
from simulation.experiments.models.registry import METHODS
from simulation.experiments.output.figures import Point, trade_off_figure
from simulation.experiments.output.html import Shown

ZERO_SHOT = METHODS["zero-shot"].label
EPSILONS = (10.0, 3.0, 1.0)
TRAINED = {"b": "B alone", "ab": "A and B"}
RATES = {10.0: 5.0, 3.0: 2.0, 1.0: 0.3}
"""Learning rates by epsilon, chosen on validation patients: more noise asks for smaller steps."""
BOTH = 1 / 3
"""The share of the rate where A is trained too, whose product with B squares the noise."""


def private_rate(epsilon: float, trained: str) -> float:
    """Return the learning rate of a budget."""
    return RATES.get(epsilon, min(5.0, 0.6 * epsilon)) * (BOTH if trained == "ab" else 1.0)


def privacy_sweep(
    config: RunConfig, epsilons: Sequence[float], rate: float | None = None
) -> Experiment:
    """Compare no privacy with several budgets, training B alone or both matrices.

    Args:
        config: the settings that all arms share; privacy is off in them.
        epsilons: the budgets of a site's whole run.
        rate: ``privacy.learning-rate`` of every arm; None = by `private_rate`.

    Raises:
        UsageError: where privacy is on already, or an epsilon is not above 0.
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
                learning_rate=private_rate(epsilon, trained) if rate is None else rate,
                noise_seed=0,  # becomes each cell's own seed: a table is there to be repeated
            )
            weights = base.federation.replace(weights="auto")
            arm = base.replace(privacy=private, federation=weights)
            cells.append(Cell(f"{words}, epsilon {epsilon:g}", "federated", arm))
        groups[trained] = cells
    return Experiment(
        name="privacy",
        title="What a guarantee costs",
        question="How much of the gain is left under differential privacy, patient by patient?",
        groups=groups,
        references=(ZERO_SHOT,),
        notes=(
            f"Epsilon is the budget of a site's whole run at delta {config.privacy.delta:g}. With "
            "privacy the sites tell no validation, so that the last round is released; without, "
            "the best. The noise has a fixed seed, which no hospital would take.",
        ),
    )


def show_privacy(analysis: Analysis) -> Shown:
    """Say what the budgets show."""
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
    caption = "A point a budget, with its 95 % interval over patients; lower is better."
    figures = [("budget", Figure("Budget and error", caption, drawn(svg)))] if lines else []
    return Shown(grouped(analysis, ZERO_SHOT), figures=figures)
