"""Cost of many sites in one process: a round, memory, and the evaluation of the cohort.

    python benchmarks/many_sites.py [--data COHORT] [--sites 186] [--few 20] [--rounds 1]

Takes the sites of a prepared cohort, e.g. eICU's hospitals, or makes synthetic ones of unequal
sizes, about a dozen stays each. Each measurement has a process of its own, on one thread:

    round       the in-process federation of all sites, from the first site's first message to the
                end of the last round, against a plain loop of PEFT and torch that takes the same
                steps on batches of the same sizes from the same sites: without validation,
                messages, checks, average and checkpoint.
    memory      peak of the whole federation at all sites and at `--few` of them.
    evaluation  forecast and scores of the test patients, and the whole of `server evaluate`, at all
                sites against the same windows in one site.

Prints processor seconds (the machine may be shared), wall seconds and ratios. Targets: 1.1 for the
round, 1.0 for forecast and scores, and memory that does not grow with the sites.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from common.backbones.base import ModelForecaster
from common.backbones.loading import load_backbone
from common.backbones.lora import add_adapter
from common.config.run_config import RunConfig, WindowConfig
from common.data.cohort_folder import SITES_FOLDER, site_table_paths
from common.data.site_table import (
    SiteTable,
    SiteTableInfo,
    make_site_table,
    read_site_table,
    write_site_table,
)
from common.data.vitals import VITALS
from common.data.windows import make_windows
from common.evaluation.evaluate_sites import evaluate_sites
from common.evaluation.metrics import METRICS
from server.release.adapter_source import load_adapter
from server.release.evaluation import evaluate_adapter
from simulation.engines.inprocess import quiet_flower
from simulation.progress import RunProgress
from simulation.run import federate


def main() -> None:
    """Measure and print; with `--task`, measure one thing and print it as JSON."""
    parser = argparse.ArgumentParser(description="The cost of many sites in one process.")
    parser.add_argument("--data", type=Path, help="a prepared cohort; default: synthetic sites")
    parser.add_argument("--sites", type=int, default=186)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--stride", type=int, default=6, help="hours between two windows")
    parser.add_argument("--task", choices=[*TASKS], help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory(prefix="fedvitals-benchmark-") as scratch:
        compare(options, Path(scratch))


def compare(options: argparse.Namespace, scratch: Path) -> None:
    """Run each measurement in a process of its own and print the ratios."""
    everything = make_cohort(options.data, options.sites, scratch / "all")
    few = make_cohort(everything, options.few, scratch / "few")
    one = pooled_cohort(everything, scratch / "one")
    sites = len(site_table_paths(everything))
    found: dict[str, dict[str, Any]] = {}
    for name, task, data in (
        ("federation", "federation", everything),
        ("plain", "plain", everything),
        ("few", "federation", few),
        ("evaluate-all", "evaluation", everything),
        ("evaluate-one", "evaluation", one),
    ):
        run = scratch / ("federation" if task == "evaluation" else name)
        found[name] = in_new_process(task, data, run, options)
        numbers = {key: round(value, 2) for key, value in found[name].items()}
        print(f"{name}: {numbers}", flush=True)
    print(f"\n{sites} sites, seconds of processor time but where wall is written")
    lines = (
        ("round / plain loop", "cpu", "federation", "plain"),
        ("the same, wall", "wall", "federation", "plain"),
        ("forecast and scores, all sites / one", "score", "evaluate-all", "evaluate-one"),
        ("whole evaluation, all sites / one", "evaluate", "evaluate-all", "evaluate-one"),
    )
    for label, key, mine, other in lines:
        a, b = found[mine][key], found[other][key]
        print(f"{label}: {a:.2f} / {b:.2f} s, ratio {a / b:.3f}")
    small, large = found["few"]["peak_mb"], found["federation"]["peak_mb"]
    print(f"peak memory: {large:.0f} MB at {sites} sites, {small:.0f} MB at {options.few}")


def in_new_process(task: str, data: Path, run: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure in a new process, whose peak memory is its own."""
    command = [sys.executable, __file__, "--task", task, "--data", str(data), "--run", str(run)]
    command += ["--rounds", str(options.rounds), "--stride", str(options.stride)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Return the seconds of a task and the peak memory of this process in MB."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    quiet_flower()
    config = RunConfig(
        rounds=options.rounds,
        data=str(options.data),
        out=str(options.run),
        windows=WindowConfig(stride=options.stride),
    )
    found = TASKS[options.task](config)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {**found, "peak_mb": peak}


class Clock:
    """Processor and wall seconds since its start."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def seconds(self) -> dict[str, float]:
        """Return the seconds of both clocks."""
        return {
            "cpu": time.process_time() - self._cpu,
            "wall": time.perf_counter() - self._wall,
        }


class RoundClock(RunProgress):
    """Clock from the first training to the first validation after the last round."""

    def __init__(self) -> None:
        super().__init__(Path(), 0)
        self._clock: Clock | None = None
        self.found: dict[str, float] = {}

    def site_works(self, message_type: str, site: str) -> None:
        """Start with the first training; stop with the first validation."""
        del site
        if message_type == "train" and self._clock is None:
            self._clock = Clock()
        if message_type == "evaluate" and self._clock is not None and not self.found:
            self.found = self._clock.seconds()


def run_federation(config: RunConfig) -> dict[str, float]:
    """Run the federation; return the seconds of its rounds."""
    clock = RoundClock()
    federate(config, progress=clock)
    return clock.found


def run_plain_loop(config: RunConfig) -> dict[str, float]:
    """Train on each site's windows in turn; return the seconds of the steps."""
    settings = config.windows.settings()
    sites = [
        make_windows(read_site_table(path), "train", settings)
        for path in site_table_paths(Path(config.data)).values()
    ]
    loaded = load_backbone(config.backbone)
    model = add_adapter(loaded.model, loaded.backbone, config.lora).train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.train.learning_rate, weight_decay=0.0)
    clock = Clock()
    for _ in range(config.rounds):
        for windows in sites:
            batches = loaded.backbone.collate(windows.context, windows.target, windows.vital)
            for rows in torch.split(torch.randperm(len(windows)), config.train.batch):
                if not len(rows):
                    continue
                optimiser.zero_grad()
                batch = {name: tensor[rows] for name, tensor in batches.items()}
                loss = loaded.backbone.window_loss(model, batch).mean()
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(parameters, config.train.clip)
                optimiser.step()
    return clock.seconds()


def run_evaluation(config: RunConfig) -> dict[str, float]:
    """Evaluate the long run's adapter: the scores of one model alone, then everything."""
    loaded = load_adapter(Path(config.out))
    settings = config.windows.settings()
    sites = {
        name: make_windows(read_site_table(path), "test", settings)
        for name, path in site_table_paths(Path(config.data)).items()
    }
    model = ModelForecaster(loaded.loaded_backbone.backbone, loaded.loaded_backbone.model)
    clock = Clock()
    evaluate_sites(sites, model, metrics=tuple(METRICS))
    score = clock.seconds()["cpu"]
    clock = Clock()
    evaluate_adapter(loaded, Path(config.data))
    return {"score": score, "evaluate": clock.seconds()["cpu"]}


TASKS: dict[str, Callable[[RunConfig], dict[str, float]]] = {
    "federation": run_federation,
    "plain": run_plain_loop,
    "evaluation": run_evaluation,
}


def make_cohort(data: Path | None, sites: int, folder: Path) -> Path:
    """Return a folder with the first sites of a cohort, or with synthetic ones."""
    (folder / SITES_FOLDER).mkdir(parents=True)
    if data is None:
        for number in range(sites):
            path = folder / SITES_FOLDER / f"hospital-{number}.parquet"
            write_site_table(synthetic_site(number), path)
        return folder
    for name, path in list(site_table_paths(data).items())[:sites]:
        (folder / SITES_FOLDER / f"{name}.parquet").symlink_to(path.absolute())
    return folder


def synthetic_site(number: int) -> SiteTable:
    """Return a hospital of 4 to 40 stays of two to five days, vitals that wander and gaps."""
    rng = np.random.default_rng(number)
    stays = int(np.clip(rng.geometric(1 / 12), 4, 40))
    frames = []
    for stay in range(stays):
        hours = int(rng.integers(50, 120))
        columns = {}
        for vital in VITALS:
            walk = np.cumsum(rng.normal(0, 0.3 * vital.scale_floor, hours))
            values = np.clip(vital.clinical_offset + walk, vital.low, vital.high)
            columns[vital.name] = np.where(rng.random(hours) < 0.2, np.nan, values)
        name = f"{number}-{stay}"
        frames.append(
            pd.DataFrame({"patient_id": name, "stay_id": name, "step": np.arange(hours), **columns})
        )
    info = SiteTableInfo(f"hospital-{number}", "synthetic", "random walks", 60)
    return make_site_table(pd.concat(frames), info)


def pooled_cohort(data: Path, folder: Path) -> Path:
    """Write the tables of all sites as one site, with patients named by their site."""
    tables = {name: read_site_table(path) for name, path in site_table_paths(data).items()}
    frames = [
        table.frame.assign(
            patient_id=name + "/" + table.frame["patient_id"].astype(str),
            stay_id=name + "/" + table.frame["stay_id"].astype(str),
        )
        for name, table in tables.items()
    ]
    # The split of each site's own table, not that of the new names.
    first = next(iter(tables.values()))
    info = replace(first.info, site="all", split_rule="as at the sites")
    (folder / SITES_FOLDER).mkdir(parents=True)
    write_site_table(
        make_site_table(pd.concat(frames), info), folder / SITES_FOLDER / "all.parquet"
    )
    return folder


if __name__ == "__main__":
    main()
