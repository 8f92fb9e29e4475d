"""Cost of a private step relative to a plain LoRA step: time and peak memory, as ratios.

    python benchmarks/private_step.py [--backbone chronos-bolt-nano] [--patients 16] [--windows 16]
                                      [--repeats 9]

Steps of all kinds use the same windows of the same patients. Plain steps and the others alternate,
and the median of the pairs' time ratios is printed. Memory is the peak of a process that takes
steps of one kind only, above one that has only loaded the model; medians of five.

    plain           the mean loss of all windows, AdamW: `client.training.adapter_training`'s step
    A and B         this project's hooks: gradients per patient, clipped and noised
    B (FFA-LoRA)    the same with A frozen; its plain step trains both, as without privacy
    opacus hooks    Opacus' GradSampleModule for gradients per window, folded and clipped here
    one at a time   one backward pass per window: the naive way
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import torch
from peft import PeftModel

from client.training.clipping import clip_factors, clipped
from client.training.dpsgd import add_noise, sum_clipped
from client.training.poisson_sampling import Draw
from client.training.random_source import Randomness
from common.backbones.base import Batch
from common.backbones.lora import (
    AdaptedBackbone,
    adapted_backbone,
    lora_parameters,
    trained_parameters,
)
from common.config.run_config import LoraConfig
from common.data.vitals import VITALS

CLIP, SIGMA = 0.05, 1.0
KINDS = ("plain", "A and B", "B (FFA-LoRA)", "opacus hooks", "one at a time")
TARGETS = {"A and B": 1.35, "B (FFA-LoRA)": 1.15}
MEMORY_TARGET = 1.2
Step = Callable[[], None]


def main() -> None:
    """Measure all kinds and print the table."""
    parser = argparse.ArgumentParser(description="The cost of a private step.")
    parser.add_argument("--backbone", default="chronos-bolt-nano")
    parser.add_argument("--patients", type=int, default=16)
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--kind", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    if options.kind:
        take_alone(options)
        return
    # Before this process grows: Linux lets a child's peak begin at its parent's.
    peak = {kind: memory(options, kind) for kind in ("nothing", *KINDS)}
    steps = make_steps(options.backbone, options.patients, options.windows)
    print("| step | time / plain | target | memory / plain | target |")
    print("|---|--:|--:|--:|--:|")
    for kind in KINDS[1:]:
        repeats = 3 if kind == "one at a time" else options.repeats
        ratio = statistics.median(paired(steps["plain"], steps[kind], repeats))
        size = (peak[kind] - peak["nothing"]) / (peak["plain"] - peak["nothing"])
        target = f"{TARGETS[kind]}" if kind in TARGETS else ""
        limit = f"{MEMORY_TARGET}" if kind in TARGETS else ""
        print(f"| {kind} | {ratio:.2f} | {target} | {size:.2f} | {limit} |", flush=True)


def take_alone(options: argparse.Namespace) -> None:
    """Take three steps of one kind, or none, and print the peak kB of this process."""
    steps = make_steps(options.backbone, options.patients, options.windows)
    if options.kind != "nothing":
        for _ in range(3):
            steps[options.kind]()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def paired(plain: Step, other: Step, repeats: int) -> list[float]:
    """Return the ratios of processor time, other to plain, of steps taken in turn."""
    ratios = []
    for _ in range(repeats + 1):
        times = []
        for step in (plain, other):
            started = time.process_time()
            step()
            times.append(time.process_time() - started)
        ratios.append(times[1] / times[0])
    return ratios[1:]  # the first of each warms up


def memory(options: argparse.Namespace, kind: str) -> float:
    """Return the peak kB of a process that takes three steps of a kind, the median of five."""
    command = [sys.executable, __file__, "--kind", kind, "--backbone", options.backbone]
    command += ["--patients", str(options.patients), "--windows", str(options.windows)]
    peaks = []
    for _ in range(5):
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(result.stdout.split()[-1]))
    return statistics.median(peaks)


def make_steps(backbone: str, patients: int, windows: int) -> dict[str, Step]:
    """Return a step of each kind, on one model; none changes what another one computes."""
    adapted = adapted_backbone(backbone, LoraConfig(), torch.device("cpu"))
    adapted.fresh_adapter(0)
    batch = random_batch(adapted, patients * windows)
    owner = np.repeat(np.arange(patients), windows)
    draw = Draw(np.arange(patients * windows), owner)
    return {
        "plain": lambda: plain_step(adapted, batch),
        "A and B": lambda: private_step(adapted, batch, draw, "ab"),
        "B (FFA-LoRA)": lambda: private_step(adapted, batch, draw, "b"),
        "opacus hooks": lambda: opacus_step(adapted, batch, draw),
        "one at a time": lambda: slow_step(adapted, batch, draw),
    }


def random_batch(adapted: AdaptedBackbone, count: int) -> Batch:
    """Return windows of 48 and 6 steps around the vitals' usual values."""
    random = np.random.default_rng(0)
    vital = random.integers(0, len(VITALS), count)
    centre = np.array([VITALS[place].clinical_offset for place in vital])[:, None]
    scale = np.array([VITALS[place].scale_floor for place in vital])[:, None]
    values = (centre + 2 * scale * random.normal(size=(count, 54))).astype(np.float32)
    return adapted.backbone.collate(values[:, :48], values[:, 48:], vital)


def plain_step(adapted: AdaptedBackbone, batch: Batch) -> None:
    """Take a step of `client.training.adapter_training` with a learning rate of 0."""
    with trained_parameters(adapted.model, "ab") as named:
        parameters = [parameter for _, parameter in named]
        optimiser = torch.optim.AdamW(parameters, lr=0.0, foreach=True)
        loss = adapted.backbone.window_loss(adapted.model, batch).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)


def private_step(adapted: AdaptedBackbone, batch: Batch, draw: Draw, trained: str) -> None:
    """Take a step of `client.training.dpsgd`."""
    with trained_parameters(adapted.model, trained) as named:
        drawn = sum_clipped(
            adapted.model, adapted.backbone, batch, named, draw, CLIP, len(draw.rows)
        )
        add_noise(drawn.gradients, SIGMA * CLIP, Randomness.of_system())


def opacus_step(adapted: AdaptedBackbone, batch: Batch, draw: Draw) -> None:
    """Take a step with Opacus' gradients per window, summed by patient and clipped as ours."""
    wrapped = opacus_model(adapted)
    loss = adapted.backbone.window_loss(wrapped, batch).sum() * draw.patients / len(draw.rows)
    loss.backward()  # type: ignore[no-untyped-call]
    owner = torch.from_numpy(draw.owner)
    named: list[tuple[str, Any]] = [*lora_parameters(wrapped)]
    folded = {
        name: torch.zeros((draw.patients, *weight.shape)).index_add_(0, owner, weight.grad_sample)
        for name, weight in named
    }
    factors = clip_factors(folded, CLIP)
    sums = {name: clipped(gradient, factors).sum(dim=0) for name, gradient in folded.items()}
    add_noise(sums, SIGMA * CLIP, Randomness.of_system())
    for _, weight in named:
        weight.grad = weight.grad_sample = None


@cache
def opacus_model(adapted: AdaptedBackbone) -> PeftModel:
    """Return a copy of the model with Opacus' hooks, cached so that no step includes its cost."""
    from opacus.grad_sample import GradSampleModule

    model: PeftModel = deepcopy(adapted.model)
    GradSampleModule(model, loss_reduction="sum", strict=False)
    for name, module in model.named_modules():
        if "lora_" in name:
            module.train()  # the hooks record nothing in eval mode
    return model


def slow_step(adapted: AdaptedBackbone, batch: Batch, draw: Draw) -> None:
    """Take a step with one backward pass per window."""
    with trained_parameters(adapted.model, "ab") as named:
        weights = [weight for _, weight in named]
        folded = [torch.zeros((draw.patients, *weight.shape)) for weight in weights]
        share = draw.patients / len(draw.rows)  # a patient's loss is the mean of its windows'
        for row, owner in zip(draw.rows, draw.owner, strict=True):
            one = {name: tensor[row : row + 1] for name, tensor in batch.items()}
            loss = adapted.backbone.window_loss(adapted.model, one).sum() * share
            for total, gradient in zip(folded, torch.autograd.grad(loss, weights), strict=True):
                total[owner] += gradient
        factors = clip_factors({str(place): part for place, part in enumerate(folded)}, CLIP)
        for part in folded:
            clipped(part, factors).sum(dim=0)


if __name__ == "__main__":
    main()
