"""Every family on one cohort: last value, zero-shot and federated LoRA, side by side.

    python benchmarks/families.py --data COHORT [--out DIR] [--rounds 10] [NAME ...]

Runs the federation with each backbone (by default those of the package, a few hundred thousand
parameters each) on the same cohort with the same settings, evaluates each on the test patients and
prints a Markdown table: errors of heart rate and mean pressure, the numbers that were trained, the
bytes of an adapter on the wire and the median seconds of a round. A run that is already in DIR is
evaluated again, not trained again.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from common.backbones.catalog import CATALOG
from common.config import RunConfig
from common.peft_adapter import load_peft_folder
from server.global_evaluation import evaluate_run
from server.run_folder import read_rounds
from simulation.engines.inprocess import quiet_flower
from simulation.federate import federate

METRICS = {"mae": "MAE", "mse": "MSE", "mape": "MAPE %", "dtw": "DTW", "wql": "WQL"}
VITALS = {"heart_rate": "HR", "mbp": "MBP"}
MODELS = {"last_value": "last value", "zero_shot": "zero-shot", "adapter": "federated LoRA"}


class Result(NamedTuple):
    """A run: its evaluation.json, its rounds, and how many numbers it trained."""

    evaluation: dict[str, Any]
    rounds: list[dict[str, Any]]
    parameters: int


def main() -> None:
    """Run, evaluate and print."""
    packaged = [name for name, entry in CATALOG.items() if entry.packaged]
    parser = argparse.ArgumentParser(description="Every family on one cohort.")
    parser.add_argument("names", nargs="*", default=packaged)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/families"))
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    quiet_flower()
    results = {}
    for name in options.names:
        run = options.out / name.replace("/", "--")
        if not (run / "adapter").is_dir():
            config = RunConfig(
                rounds=options.rounds, data=str(options.data), out=str(run), backbone=name
            )
            federate(config, "inprocess")
        results[name] = Result(
            evaluate_run(run, options.data),
            read_rounds(run),
            load_peft_folder(run / "adapter").num_parameters,
        )
        print(f"{name}: done", flush=True)
    print("\n".join(table(results)))


def table(results: dict[str, Result]) -> Iterator[str]:
    """Give the lines of the Markdown table."""
    errors = [f"{vital} {metric}" for vital in VITALS.values() for metric in METRICS.values()]
    header = ["backbone", "", *errors, "trained", "kB a message", "s a round"]
    yield f"| {' | '.join(header)} |"
    yield f"|---|---|{'--:|' * (len(header) - 2)}"
    for place, (name, result) in enumerate(results.items()):
        for model, label in MODELS.items():
            if model == "last_value" and place:
                continue  # it is the same for every family
            row = ["" if model == "last_value" else name, label]
            row += scores(result.evaluation["pooled"]["models"][model]["vitals"])
            row += costs(result) if model == "adapter" else ["", "", ""]
            yield f"| {' | '.join(row)} |"


def scores(vitals: dict[str, dict[str, float]]) -> list[str]:
    """Give one model's errors, by vital and metric."""
    return [f"{vitals[vital][metric]:.4g}" for vital in VITALS for metric in METRICS]


def costs(result: Result) -> list[str]:
    """Give what the federation of a run trained, sent and took."""
    trained = [entry for entry in result.rounds if entry["trained"]]
    messages = [site["bytes_received"] for entry in trained for site in entry["sites"].values()]
    seconds = statistics.median(entry["seconds"] for entry in trained)
    return [
        f"{result.parameters:,}",
        f"{statistics.median(messages) / 1e3:.0f}",
        f"{seconds:.1f}",
    ]


if __name__ == "__main__":
    main()
