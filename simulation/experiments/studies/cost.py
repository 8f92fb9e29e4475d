"""Cost of training: time and memory of LoRA and of all weights, by family and rank."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.backbones.catalog import short_name
from common.config.run_config import RunConfig
from common.errors import TrainingError, UsageError
from common.files.atomic_io import write_text
from common.reporting.cells import shown_as
from common.reporting.components import (
    Bar,
    Page,
    Part,
    Row,
    Section,
    Table,
    Tile,
    render_page,
)
from common.reporting.export.export import export_page
from common.reporting.phrasing import NO_BREAK, byte_size, clean_line
from simulation.experiments.cell_cache import SetStatus, cell_key, folder_digest
from simulation.experiments.output.csv import csv_text
from simulation.experiments.output.html import PAGE_FILE

_COLUMNS = ("backbone", "trained", "rank", "parameters", "step_s", "peak_mb", "above_mb", "device")
_BYTES_PER_NUMBER = 4
_PROBE_MODULE = "simulation.experiments.studies.cost_probe"


@dataclass(frozen=True)
class Cost:
    """One measurement; see `simulation.experiments.studies.cost_probe.measure_training`.

    Attributes:
        backbone: name of the backbone.
        rank: rank of the adapter; 0 = all weights.
        parameters: number of trained parameters.
        step_s: seconds of a training step, the median.
        peak_mb: peak memory of the process, or of the GPU.
        above_mb: the part of the peak above the memory in use before the first step.
        device: model name of the hardware.
    """

    backbone: str
    rank: int
    parameters: int
    step_s: float
    peak_mb: float
    above_mb: float
    device: str

    @property
    def trained(self) -> str:
        """The trained parameters, in words."""
        return f"LoRA, rank {self.rank}" if self.rank else "all weights"


def measure_costs(
    config: RunConfig,
    names: Sequence[str],
    ranks: Sequence[int],
    steps: int,
    out: Path,
    set_status: SetStatus,
) -> list[Cost]:
    """Measure every backbone at every rank and with all weights; finished probes are reused.

    Args:
        config: batch, device, threads, scope and alpha / rank are read.
        names: backbones, at least one.
        ranks: at least one, from 1.
        steps: measured steps, after a first one that is not measured.
        out: the folder that experiments share.
        set_status: shows the current measurement.

    Raises:
        UsageError: a rank or the number of steps is below 1.
        TrainingError: a measurement failed.
    """
    if not ranks or min(ranks) < 1 or steps < 1:
        raise UsageError("cost needs ranks from 1 and at least one step")
    costs = []
    for name in names:
        for rank in (*sorted(ranks), 0):
            label = short_name(name)
            set_status(f"{label}, {f'rank {rank}' if rank else 'all weights'}")
            found = _run_probe(_probe(config, name, rank, steps), out / "probes")
            costs.append(Cost(backbone=label, rank=rank, **found))
    return costs


def write_costs(
    folder: Path,
    costs: Sequence[Cost],
    config: RunConfig,
    command: str,
    export: Path | None = None,
) -> Path:
    """Write cost.csv, the page and, where asked, its table as files; return the page's path."""
    rows = [{**asdict(cost), "trained": cost.trained} for cost in costs]
    write_text(folder / "cost.csv", csv_text(rows, _COLUMNS))
    page = _page(costs, config, command)
    write_text(folder / PAGE_FILE, render_page(page))
    if export is not None:
        export_page(page, export)
    return folder / PAGE_FILE


def cost_statement(costs: Sequence[Cost]) -> str:
    """Return a sentence with the range of LoRA's time and memory relative to all weights."""
    pairs = _pairs(costs)
    time = [lora.step_s / full.step_s for lora, full in pairs]
    memory = [lora.above_mb / full.above_mb for lora, full in pairs if full.above_mb > 0]
    text = (
        f"On {costs[0].device}, a LoRA step takes {_range(time)} of the time of a step on all "
        "weights"
    )
    if memory:
        text += f", and {_range(memory)} of the memory above the loaded model"
    return f"{text}, by backbone and rank."


def _pairs(costs: Sequence[Cost]) -> list[tuple[Cost, Cost]]:
    full = {cost.backbone: cost for cost in costs if not cost.rank}
    return [(cost, full[cost.backbone]) for cost in costs if cost.rank]


def _range(shares: Sequence[float]) -> str:
    low, high = round(100 * min(shares)), round(100 * max(shares))
    return f"{low} to {high}{NO_BREAK}%" if low < high else f"{low}{NO_BREAK}%"


def _probe(config: RunConfig, name: str, rank: int, steps: int) -> dict[str, Any]:
    return {
        "backbone": name,
        "weights": folder_digest(name),
        "rank": rank,
        "scope": config.lora.scope,
        "alpha_per_rank": config.lora.alpha / config.lora.rank,
        "batch": config.train.batch,
        "steps": steps,
        "device": config.train.device,
        "threads": config.train.threads,
    }


def _run_probe(probe: dict[str, Any], probes: Path) -> dict[str, Any]:
    """Return the measurement from the cache, or run it in a new process."""
    cached = probes / f"{cell_key(probe)}.json"
    if not cached.is_file():
        done = subprocess.run(  # noqa: S603  # our own interpreter and module
            [sys.executable, "-m", _PROBE_MODULE, json.dumps(probe)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            check=False,
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            raise TrainingError(
                f"the measurement of {probe['backbone']} at rank {probe['rank']} failed: {last[0]}"
            )
        write_text(cached, done.stdout.strip().splitlines()[-1] + "\n")
    found: dict[str, Any] = json.loads(cached.read_text(encoding="utf-8"))
    return found


def _page(costs: Sequence[Cost], config: RunConfig, command: str) -> Page:
    rows = [
        Row(
            clean_line(cost.backbone),
            [
                cost.trained,
                f"{cost.parameters:,}",
                shown_as(
                    _BYTES_PER_NUMBER * cost.parameters,
                    byte_size(_BYTES_PER_NUMBER * cost.parameters),
                    "bytes",
                ),
                shown_as(1e3 * cost.step_s, f"{1e3 * cost.step_s:,.1f}"),
                shown_as(cost.peak_mb, f"{cost.peak_mb:,.0f}"),
                shown_as(cost.above_mb, f"{cost.above_mb:,.0f}"),
            ],
        )
        for cost in costs
    ]
    header = ["Backbone", "Trained", "Numbers", "Message", "ms a step", "Peak MB", "Training MB"]
    table = Table("LoRA and all weights", header, rows)
    slowest = max(cost.step_s for cost in costs)
    bars = [
        Bar(
            f"{clean_line(cost.backbone)}, {cost.trained}: {1e3 * cost.step_s:,.1f} ms a step",
            round(100 * cost.step_s / slowest, 1),
            ours=bool(cost.rank),
        )
        for cost in costs
    ]
    threads = config.train.threads or "torch's choice of"
    how = (
        f"A step of {config.train.batch} made-up windows with the sites' own training function, on "
        f"{threads} CPU thread(s) where it runs on a CPU; the median of the steps after the first. "
        "Memory is the peak of a process of its own (on a GPU, the peak of GPU memory). Seconds "
        "depend on the load of the machine: compare the ratios."
    )
    return Page(
        kicker="experiment",
        title="Cost of training",
        headline=cost_statement(costs),
        tiles=[Tile("Device", clean_line(costs[0].device), f"{len(costs)} measurements")],
        sections=[
            Section("time", "Time of a training step", [Part(bars=bars)]),
            Section("table", "All measurements", [Part(tables=[table])]),
            Section("how", "Methods", [Part(paragraphs=[how], code=command)]),
        ],
    )
