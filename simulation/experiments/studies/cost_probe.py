"""One measurement of training time and memory, in a process of its own.

    python -m simulation.experiments.studies.cost_probe '{"backbone": ..., "rank": 8, ...}'

Prints one line of JSON. Every measurement needs a new process, because the memory peak of a process
only rises.
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
from common.backbones.loading import load_backbone
from common.backbones.lora import add_adapter, lora_parameters
from common.config.run_config import LoraConfig, TrainConfig
from simulation.made_up_windows import made_up_windows

_MEGABYTE = 1e6


def measure_training(probe: dict[str, Any]) -> dict[str, Any]:
    """Train a few steps on made-up windows and measure all but the first.

    Args:
        probe: `backbone`, `rank` (0 = all weights), `scope`, `alpha_per_rank`, `batch`, `steps`,
            `device`, `threads`.

    Returns:
        `parameters` trained; `step_s`, the median; `peak_mb` of the process (of the GPU memory on a
        GPU); `above_mb`, the peak above the memory of the loaded model; `device`.
    """
    torch.set_num_threads(probe["threads"] or torch.get_num_threads())
    device = choose_device(probe["device"])
    loaded = load_backbone(probe["backbone"])
    model = loaded.model.to(device)
    if probe["rank"]:
        alpha = probe["alpha_per_rank"] * probe["rank"]
        lora = LoraConfig(rank=probe["rank"], alpha=alpha, scope=probe["scope"])
        model = add_adapter(model, loaded.backbone, lora)
    else:
        model.requires_grad_(True)
    windows = made_up_windows(probe["batch"])
    before = _resident(device)
    seconds = []
    for number in range(probe["steps"] + 1):
        config = TrainConfig(steps=1, batch=probe["batch"], device=probe["device"])
        started = time.perf_counter()
        train_adapter(model, loaded.backbone, windows, config, learning_rate=1e-6, seed=number)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    peak = _peak(device)
    return {
        "parameters": sum(p.numel() for _, p in lora_parameters(model)),
        # The first step includes one-time initialisation.
        "step_s": float(np.median(seconds[1:])),
        "peak_mb": peak / _MEGABYTE,
        "above_mb": max(0.0, peak - before) / _MEGABYTE,
        "device": device_name(device),
    }


def device_name(device: torch.device) -> str:
    """Return the hardware's model name."""
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
    """Return the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return float(torch.cuda.memory_allocated())
    return _status("VmRSS") or _largest_resident()


def _peak(device: torch.device) -> float:
    """Return the most bytes ever in use."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated())
    # Not `getrusage` where /proc exists: there a child starts with the peak of its parent.
    return _status("VmHWM") or _largest_resident()


def _status(field: str) -> float:
    path = Path("/proc/self/status")
    if not path.is_file():
        return 0.0
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return 1024.0 * float(found[0]) if found else 0.0


def _largest_resident() -> float:
    unit = 1 if sys.platform == "darwin" else 1024
    return float(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    print(json.dumps(measure_training(json.loads(sys.argv[1]))))
