"""Every family on one cohort: last value, zero-shot and federated LoRA, side by side.

    python benchmarks/families.py --data COHORT [--out DIR] [--rounds 10] [NAME ...]

Runs the federation with each backbone (by default those of the package, a few hundred thousand
parameters each) on the same cohort with the same settings, evaluates each on the test patients and
prints two Markdown tables: errors of heart rate and mean pressure; and trained parameters, bytes of
an adapter on the wire and median seconds of a round. A run that is already in DIR is evaluated
again, not trained again.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from common.adapter.peft_io import load_peft_folder
from common.backbones.catalog import packaged_backbones
from common.config.run_config import RunConfig
from server.release.evaluation import evaluate_run
from server.runs.run_folder import read_rounds
from simulation.engines.inprocess import quiet_flower
from simulation.run import federate

METRICS = {"mae": "MAE", "mse": "MSE", "mape": "MAPE", "dtw": "DTW", "wql": "WQL"}
VITALS = {"heart_rate": "HR", "mbp": "MBP"}


class Result(NamedTuple):
    """A run: its evaluation.json, its rounds, and the number of trained parameters."""

    evaluation: dict[str, Any]
    rounds: list[dict[str, Any]]
    parameters: int


def main() -> None:
    """Run, evaluate and print."""
    parser = argparse.ArgumentParser(description="Every family on one cohort.")
    parser.add_argument("names", nargs="*", default=packaged_backbones())
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
    print("\n".join([*error_table(results), "", *cost_table(results)]))


def error_table(results: dict[str, Result]) -> Iterator[str]:
    """Yield the lines of the table of errors; the last value's are equal for all families."""
    first, *others = VITALS.values()
    metrics = list(METRICS.values())
    header = [f"{first} {metrics[0]}", *metrics[1:]]
    for vital in others:
        header += [f"{vital} {metrics[0]}", *metrics[1:]]
    yield f"| | {' | '.join(header)} |"
    yield f"|---|{'--:|' * len(header)}"
    any_result = next(iter(results.values()))
    yield f"| last value | {' | '.join(scores(any_result, 'last_value'))} |"
    for name, result in results.items():
        yield f"| `{name}`, zero-shot | {' | '.join(scores(result, 'zero_shot'))} |"
        yield f"| the same, federated LoRA | {' | '.join(scores(result, 'adapter'))} |"


def scores(result: Result, model: str) -> list[str]:
    """Return a model's errors on the pooled test patients, by vital and metric."""
    vitals = result.evaluation["pooled"]["models"][model]["vitals"]
    return [f"{vitals[vital][metric]:#.4g}" for vital in VITALS for metric in METRICS]


def cost_table(results: dict[str, Result]) -> Iterator[str]:
    """Yield the lines of the table of trained parameters, bytes and seconds."""
    yield "| | parameters trained | adapter, kB a message | seconds a round |"
    yield "|---|--:|--:|--:|"
    for name, result in results.items():
        trained = [entry for entry in result.rounds if entry["trained"]]
        messages = [site["bytes_received"] for entry in trained for site in entry["sites"].values()]
        seconds = statistics.median(entry["seconds"] for entry in trained)
        size = statistics.median(messages) / 1e3
        yield f"| `{name}` | {result.parameters:,} | {size:.0f} | {seconds:.1f} |"


if __name__ == "__main__":
    main()
