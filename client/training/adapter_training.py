"""Local training of a site without privacy: AdamW on the adapter, the base frozen."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from common.backbones.base import Batch, Network
from common.backbones.lora import trained_parameters
from common.config.run_config import TrainConfig
from common.data.windows import Windows
from common.errors import TrainingError


@dataclass(frozen=True)
class TrainingResult:
    """Result of a round's training.

    Attributes:
        steps: optimiser steps taken.
        loss: mean training loss of a window over the steps.
    """

    steps: int
    loss: float


def train_adapter(
    model: torch.nn.Module,
    backbone: Network,
    windows: Windows,
    config: TrainConfig,
    *,
    learning_rate: float,
    seed: int,
    trained: str = "ab",
) -> TrainingResult:
    """Train a model's adapter on a site's windows, in place.

    Args:
        model: a model with an adapter, on the device of the training.
        backbone: the model's family.
        windows: the site's training windows; at least one.
        config: optimiser and length of training.
        learning_rate: this round's rate.
        seed: seed of the order of the windows and of the dropout.
        trained: ``ab``, or ``b`` for FFA-LoRA, where A is frozen.

    Returns:
        Steps and mean loss; the model is left in eval mode.

    Raises:
        TrainingError: where there is no window, or the loss is not finite.
    """
    if not len(windows):
        raise TrainingError(
            "this site has no training window; its stays are too short or too sparse for windows.*"
        )
    with trained_parameters(model, trained) as named:
        parameters = [parameter for _, parameter in named]
        steps, mean = _optimise(model, backbone, windows, config, parameters, learning_rate, seed)
    model.eval()
    if not math.isfinite(mean):
        raise TrainingError(
            f"the training loss is {mean} after {steps} steps; lower train.learning-rate "
            f"(this round's is {learning_rate:g})"
        )
    return TrainingResult(steps, mean)


def _optimise(
    model: torch.nn.Module,
    backbone: Network,
    windows: Windows,
    config: TrainConfig,
    parameters: list[torch.nn.Parameter],
    learning_rate: float,
    seed: int,
) -> tuple[int, float]:
    """Take the steps; return their number and the mean of their losses."""
    device = parameters[0].device
    anchors = [parameter.detach().clone() for parameter in parameters]
    optimiser = torch.optim.AdamW(
        parameters, lr=learning_rate, weight_decay=config.weight_decay, foreach=True
    )
    total = torch.zeros((), device=device)
    steps = 0
    model.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for batch in _batches(backbone, windows, config, device):
            optimiser.zero_grad(set_to_none=True)
            with autocast(device):
                loss = backbone.window_loss(model, batch).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            pull_towards(parameters, anchors, config.proximal)
            if config.clip > 0:
                torch.nn.utils.clip_grad_norm_(parameters, config.clip)
            optimiser.step()
            # Summed on the device: reading each loss would synchronise the GPU at every step.
            total += loss.detach()
            steps += 1
    return steps, float(total) / steps


def _batches(
    backbone: Network, windows: Windows, config: TrainConfig, device: torch.device
) -> Iterator[Batch]:
    """Yield batches in random order: whole epochs, or `steps` batches."""
    everything = backbone.collate(windows.context, windows.target, windows.vital)
    steps_an_epoch = -(-len(windows) // config.batch)
    remaining = config.steps or config.epochs * steps_an_epoch
    while remaining > 0:
        order = torch.randperm(len(windows))
        for rows in torch.split(order, config.batch)[:remaining]:
            yield to_device({name: tensor[rows] for name, tensor in everything.items()}, device)
        remaining -= steps_an_epoch


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device; pinned memory lets the copy overlap with the GPU's work."""
    if device.type != "cuda":
        return {name: tensor.to(device) for name, tensor in batch.items()}
    return {
        name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in batch.items()
    }


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return bfloat16 autocast on a GPU, where it is faster; no autocast elsewhere."""
    if device.type != "cuda":
        return nullcontext()
    return torch.autocast("cuda", dtype=torch.bfloat16)


def pull_towards(
    parameters: list[torch.nn.Parameter], anchors: list[torch.Tensor], strength: float
) -> None:
    """Add FedProx's gradient, mu (w - w at the round's start), to each parameter's own."""
    if strength <= 0:
        return
    for parameter, anchor in zip(parameters, anchors, strict=True):
        if parameter.grad is not None:
            parameter.grad.add_(parameter.detach() - anchor, alpha=strength)


def choose_device(setting: str) -> torch.device:
    """Return the device of `train.device`; ``auto`` is the fastest available one.

    Raises:
        TrainingError: where the named device is not available.
    """
    devices = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if setting == "auto":
        return torch.device(next(name for name, available in devices.items() if available))
    if not devices[setting]:
        raise TrainingError(f"train.device = {setting} is not available here; use auto or cpu")
    return torch.device(setting)
