"""Overhead of the federation over the training itself: wall time and bytes on the wire.

    python benchmarks/federation.py [--rounds 10] [--repeats 2] [--stays 400]

Alternates the in-process federation of five synthetic hospitals with a plain loop of PEFT and torch
that takes the same number of optimiser steps on the same windows, pooled. Both read the same site
tables, cut the same windows and load the same backbone; the federation also validates at every site
and round, encodes, checks and averages. Then the messages that a site receives and sends in a
round, as Flower serialises them, are compared with the raw bytes of the adapters in them. Prints
ratios; the targets are at most 1.10 for the time and 1.02 for the bytes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict

from common.adapter.serialization.message import WireDtype, to_record
from common.backbones.loading import load_backbone
from common.backbones.lora import adapted_backbone, add_adapter
from common.config.run_config import RunConfig
from common.data.cohort_folder import site_table_paths
from common.data.cohort_writer import write_cohort
from common.data.site_table import read_site_table
from common.data.vitals import VITAL_NAMES
from common.data.windows import make_windows, pool_windows
from server.runs.run_folder import read_rounds
from simulation.cohorts.mimic3.cohort import Mimic3Settings, mimic3_cohort
from simulation.cohorts.synthetic import write_synthetic_mimic
from simulation.run import federate

TIME_TARGET = 1.10
BYTES_TARGET = 1.02


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="The federation's cost beside the training.")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--stays", type=int, default=400)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fedvitals-benchmark-") as scratch:
        cohort = make_cohort(Path(scratch), options.stays)
        config = RunConfig(rounds=options.rounds, data=str(cohort))
        ratios = []
        for repeat in range(options.repeats):
            run = Path(scratch) / f"run-{repeat}"
            federated, steps = time_federation(config.replace(out=str(run)))
            plain = time_plain_loop(config, cohort, steps)
            ratios.append(federated / plain)
            print(
                f"run {repeat + 1}: {steps} steps, federation {federated:.1f} s, "
                f"plain loop {plain:.1f} s, ratio {ratios[-1]:.3f}",
                flush=True,
            )
    print(f"time: median ratio {statistics.median(ratios):.3f} (target {TIME_TARGET})")
    for dtype in ("float32", "float16"):
        print(f"bytes on the wire, {dtype}: {wire_ratio(config, dtype):.4f} x the raw adapter's")
    print(f"(target {BYTES_TARGET})")


def make_cohort(scratch: Path, stays: int) -> Path:
    """Prepare five synthetic hospitals."""
    write_synthetic_mimic(scratch / "mimic", stays=stays)
    cohort = mimic3_cohort(scratch / "mimic", Mimic3Settings(), source="synthetic")
    write_cohort(cohort, scratch / "cohort")
    return scratch / "cohort"


def time_federation(config: RunConfig) -> tuple[float, int]:
    """Return the seconds of a whole run and the optimiser steps of all sites."""
    adapted_backbone.cache_clear()
    started = time.perf_counter()
    federate(config)
    seconds = time.perf_counter() - started
    rounds = read_rounds(Path(config.out))
    return seconds, sum(site["steps"] for entry in rounds for site in entry["sites"].values())


def time_plain_loop(config: RunConfig, cohort: Path, steps: int) -> float:
    """Return the seconds of the same steps without a federation."""
    started = time.perf_counter()
    settings = config.windows.settings()
    windows = pool_windows(
        {
            site: make_windows(read_site_table(path), "train", settings)
            for site, path in site_table_paths(cohort).items()
        }
    )
    loaded = load_backbone(config.backbone)
    model = add_adapter(loaded.model, loaded.backbone, config.lora)
    batches = loaded.backbone.collate(windows.context, windows.target, windows.vital)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.train.learning_rate, weight_decay=0.0)
    model.train()
    taken = 0
    while taken < steps:
        for rows in torch.split(torch.randperm(len(windows)), config.train.batch)[: steps - taken]:
            optimiser.zero_grad()
            batch = {name: tensor[rows] for name, tensor in batches.items()}
            loaded.backbone.window_loss(model, batch).mean().backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(parameters, config.train.clip)
            optimiser.step()
            taken += 1
    return time.perf_counter() - started


def wire_ratio(config: RunConfig, dtype: WireDtype) -> float:
    """Return the bytes of a site's two messages per round over those of the raw adapters in them.

    The server's has the adapter, the site and the round; the site's also has its report.
    """
    adapter = adapted_backbone(config.backbone, config.lora, torch.device("cpu")).adapter()
    third = 1 / 3  # as long in print as any measured number
    scores = [f"validation.{metric}.{vital}" for metric in ("mae", "wql") for vital in VITAL_NAMES]
    numbers = ["loss", "validation.wql", *scores, "seconds.validation", "seconds.training"]
    counts = {"patients": 100, "windows": 10_000, "steps": 100}
    order: dict[str, Any] = {
        "adapter": to_record(adapter, dtype),
        "round": ConfigRecord({"site": "micu", "round": 1}),
    }
    reply = {**order, "report": MetricRecord({**counts, **dict.fromkeys(numbers, third)})}
    messages = [
        Message(RecordDict(content), dst_node_id=1, message_type="train")
        for content in (order, reply)
    ]
    raw = sum(tensor.size for tensor in adapter.tensors.values()) * np.dtype(dtype).itemsize
    return sum(map(message_bytes, messages)) / (len(messages) * raw)


def message_bytes(message: Message) -> int:
    """Return the bytes of all objects into which Flower deflates a message for the network."""
    total = 0
    waiting: list[Any] = [message]
    while waiting:
        inflatable = waiting.pop()
        total += len(inflatable.deflate())
        waiting.extend((inflatable.children or {}).values())
    return total


if __name__ == "__main__":
    main()
