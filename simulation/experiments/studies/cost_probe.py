"""One measurement of training's time and memory, in a process of its own.

    python -m simulation.experiments.studies.cost_probe '{"backbone": ..., "rank": 8, ...}'

A process's peak of memory only rises, so that every measurement needs a new one. Prints one line of
JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client.training.adapter_training import choose_device, train_adapter
from common.backbones.base import offset_and_scale
from common.backbones.loading import load_backbone
from common.backbones.lora import add_adapter, lora_parameters
from common.config.run_config import LoraConfig, TrainConfig, WindowConfig
from common.data.site_table import VITALS
from common.data.windows import Windows

MEGABYTE = 1e6


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Train a few steps on made-up windows and measure the later ones.

    Args:
        order: `backbone`, `rank` (0 = all weights), `scope`, `alpha_per_rank`, `batch`, `steps`,
            `device`, `threads`.

    Returns:
        `parameters` trained, `step_s`, `peak_mb` of the process (on a GPU: of its memory) and
        `above_mb`, the peak above what the loaded model took.
    """
    torch.set_num_threads(order["threads"] or torch.get_num_threads())
    device = choose_device(order["device"])
    loaded = load_backbone(order["backbone"])
    model = loaded.model.to(device)
    if order["rank"]:
        alpha = order["alpha_per_rank"] * order["rank"]
        lora = LoraConfig(rank=order["rank"], alpha=alpha, scope=order["scope"])
        model = add_adapter(model, loaded.backbone, lora)
    else:
        model.requires_grad_(True)
    windows = made_up_windows(order["batch"])
    before = _resident(device)
    seconds = []
    for number in range(order["steps"] + 1):
        config = TrainConfig(steps=1, batch=order["batch"], device=order["device"])
        started = time.perf_counter()
        train_adapter(model, loaded.backbone, windows, config, learning_rate=1e-6, seed=number)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    peak = _peak(device)
    return {
        "parameters": sum(p.numel() for _, p in lora_parameters(model)),
        # The first step pays for what the others find ready.
        "step_s": float(np.median(seconds[1:])),
        "peak_mb": peak / MEGABYTE,
        "above_mb": max(0.0, peak - before) / MEGABYTE,
        "device": device_name(device),
    }


def made_up_windows(count: int) -> Windows:
    """Return random walks of the default lengths, a patient each."""
    random = np.random.default_rng(0)
    settings = WindowConfig()
    vital = random.integers(0, len(VITALS), count)
    centre, floor = (values[:, None] for values in offset_and_scale(vital))
    steps = random.normal(size=(count, settings.context + settings.horizon)).cumsum(axis=1)
    values = (centre + floor * steps).astype(np.float32)
    return Windows(
        context=values[:, : settings.context],
        target=values[:, settings.context :],
        vital=vital.astype(np.int64),
        patient=np.arange(count, dtype=np.int64),
        patient_ids=tuple(map(str, range(count))),
    )


def device_name(device: torch.device) -> str:
    """Return what the hardware calls itself."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    if device.type == "cpu":
        path = Path("/proc/cpuinfo")
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        if names:
            return names[0]
    return device.type


def _resident(device: torch.device) -> float:
    """Bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())
    return _status("VmRSS") or _most_ever()


def _peak(device: torch.device) -> float:
    """Most bytes ever in use."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated())
    # Not `getrusage`, where Linux can say: it hands a child the peak of the parent.
    return _status("VmHWM") or _most_ever()


def _status(field: str) -> float:
    path = Path("/proc/self/status")
    if not path.is_file():
        return 0.0
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return 1024.0 * float(found[0]) if found else 0.0


def _most_ever() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
