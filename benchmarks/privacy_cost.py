"""What differential privacy costs in quality: the error at several epsilons, beside none at all.

    python benchmarks/privacy_cost.py --data COHORT [--out DIR] [--seeds 0 1 2] [--epsilons 10 3 1]
                                      [--trained b ab] [-c KEY=VALUE ...] [--figure FILE.svg]

Each cell is a federation of `chronos-bolt-nano` over the cohort's sites, evaluated on its test
patients: without privacy (the defaults), and at each epsilon with A frozen (FFA-LoRA) or both
matrices trained. The learning rate falls with epsilon, as more noise asks for: 5, 2 and 0.3 at
epsilon 10, 3 and 1, and a third of that where both matrices are trained, whose product squares the
noise. These rates, and the defaults of privacy.*, were chosen on the validation patients of the
challenge 2019 by 50 trials; with patients whose privacy counts, every trial would spend budget.
The noise has a fixed seed, so that a table can be repeated. What is in DIR already is not run
again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config import RunConfig
from common.settings import split_pairs
from server.global_evaluation import evaluate_run
from server.run_folder import EVALUATION_FILE
from simulation.engines.inprocess import quiet_flower
from simulation.experiments.privacy import EPSILONS, private_rate
from simulation.federate import federate

Scores = dict[tuple[str, str], list[dict[str, float]]]
"""WQL and MAE, and their relative differences to zero-shot, by (trained, epsilon), a seed each."""


def main() -> None:
    """Run, evaluate and print."""
    parser = argparse.ArgumentParser(description="The error at several epsilons.")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/privacy"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epsilons", type=float, nargs="+", default=list(EPSILONS))
    parser.add_argument("--trained", nargs="+", default=["b", "ab"])
    parser.add_argument("-c", "--config", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    quiet_flower()
    more = split_pairs(options.config, {})
    scores: Scores = {}
    for seed in options.seeds:
        for trained in options.trained:
            for epsilon in (0.0, *options.epsilons):
                name = f"{trained}-{epsilon:g}-{seed}"
                settings = {**cell(trained, epsilon, seed), **more}
                one = score(options.data, options.out / name, settings)
                scores.setdefault((trained, label(epsilon)), []).append(one)
                print(f"{name}: WQL {one['wql']:.5f}, {one['wql_to']:+.2%}", flush=True)
    print("\n".join(table(scores)))
    if options.figure:
        draw(scores, options.figure)


def cell(trained: str, epsilon: float, seed: int) -> dict[str, Any]:
    """Return the settings of a cell; epsilon 0 stands for none."""
    settings: dict[str, Any] = {"lora.train": trained, "seed": seed}
    if epsilon == 0:
        return settings
    return settings | {
        "privacy.epsilon": epsilon,
        "privacy.learning-rate": private_rate(epsilon, trained),
        "privacy.noise-seed": seed,
    }


def label(epsilon: float) -> str:
    """Return how the table calls an epsilon."""
    return "none" if epsilon == 0 else f"{epsilon:g}"


def score(data: Path, run: Path, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return WQL and MAE of a run in the mean over vitals, and relative to zero-shot."""
    if not (run / "adapter").is_dir():
        federate(RunConfig.parse({**settings, "data": str(data), "out": str(run)}))
    told = run / EVALUATION_FILE
    result = json.loads(told.read_text()) if told.is_file() else evaluate_run(run, data)
    mean = result["pooled"]["models"]["adapter"]["mean"]
    differences = result["pooled"]["differences"]["zero_shot"]["mean"]
    return {
        "wql": mean["wql"],
        "mae": mean["mae"],
        "wql_to": differences["wql"]["relative"]["estimate"],
        "mae_to": differences["mae"]["relative"]["estimate"],
    }


def table(scores: Scores) -> Iterator[str]:
    """Give the lines of a Markdown table: means over the seeds, and from least to most."""
    yield "| trained | epsilon | WQL | WQL to zero-shot | MAE to zero-shot |"
    yield "|---|--:|--:|--:|--:|"
    names = {"b": "B (FFA-LoRA)", "ab": "A and B"}
    for (trained, epsilon), seeds in scores.items():
        cells = [f"{statistics.mean(one['wql'] for one in seeds):.5f}"]
        for metric in ("wql_to", "mae_to"):
            values = [one[metric] for one in seeds]
            spread = f"[{min(values):+.2%}, {max(values):+.2%}]" if len(values) > 1 else ""
            cells.append(f"{statistics.mean(values):+.2%} {spread}".strip())
        yield f"| {names[trained]} | {epsilon} | {' | '.join(cells)} |"


def draw(scores: Scores, path: Path) -> None:
    """Draw WQL relative to zero-shot over epsilon, a line for each way to train."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "fedvitals"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for trained, style in (("b", "o-"), ("ab", "s--")):
        points = [(e, seeds) for (kind, e), seeds in scores.items() if kind == trained]
        places = range(len(points))
        means = [100 * statistics.mean(one["wql_to"] for one in seeds) for _, seeds in points]
        axes.plot(places, means, style, label={"b": "B (FFA-LoRA)", "ab": "A and B"}[trained])
        _dots(axes, points)
        axes.set_xticks(list(places), [epsilon for epsilon, _ in points])
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.set_xlabel("epsilon of each site's whole run")
    axes.set_ylabel("WQL to zero-shot, %")
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def _dots(axes: Any, points: Sequence[tuple[str, list[dict[str, float]]]]) -> None:
    for place, (_, seeds) in enumerate(points):
        axes.plot([place] * len(seeds), [100 * one["wql_to"] for one in seeds], ".", color="0.6")


if __name__ == "__main__":
    main()
