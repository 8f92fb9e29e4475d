"""Smoke test of a backbone: load it, time a training step and a forecast, try a private step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from client.training.adapter_training import choose_device
from client.training.dpsgd import train_privately
from client.training.random_source import Randomness
from common.backbones.base import ModelForecaster
from common.backbones.lora import AdaptedBackbone, adapted_backbone
from common.config.run_config import LoraConfig, PrivacyConfig, TrainConfig
from common.data.windows import Windows
from common.errors import PrivacyError, TrainingError
from simulation.made_up_windows import made_up_windows

BATCH = 64
_REPEATS = 3


@dataclass(frozen=True)
class SmokeTestResult:
    """Digest, sizes and timings of a backbone.

    Attributes:
        digest: SHA-256 of the frozen tensors.
        parameters: numbers in the frozen tensors.
        adapter_parameters: numbers in the adapter with the default settings.
        step_s: seconds of one training step of `BATCH` windows, the median of a few.
        forecast_s: seconds of one forecast of as many windows, likewise.
        device: the device that was used.
        private_refusal: why a step with differential privacy fails; empty if it works.
        facts: the family's loss, input and forecast, in words.
    """

    digest: str
    parameters: int
    adapter_parameters: int
    step_s: float
    forecast_s: float
    device: str
    private_refusal: str
    facts: dict[str, str]


def try_backbone(name: str) -> SmokeTestResult:
    """Load a backbone, take a few training steps and make a few forecasts on made-up windows.

    Raises:
        BackboneError: it cannot be loaded.
    """
    adapted = adapted_backbone(name, LoraConfig(), choose_device("auto"))
    windows = made_up_windows(BATCH)
    batch = adapted.backbone.collate(windows.context, windows.target, windows.vital)
    device = next(adapted.model.parameters()).device
    batch = {key: tensor.to(device) for key, tensor in batch.items()}
    horizon_steps = windows.target.shape[1]
    forecaster = ModelForecaster(adapted.backbone, adapted.model)

    def step() -> None:
        loss = adapted.backbone.window_loss(adapted.model, batch).mean()
        loss.backward()  # type: ignore[no-untyped-call]

    return SmokeTestResult(
        digest=adapted.digest,
        parameters=sum(p.numel() for p in adapted.model.parameters() if not p.requires_grad),
        adapter_parameters=adapted.adapter().num_parameters,
        step_s=_seconds(step),
        forecast_s=_seconds(
            lambda: forecaster.forecast(windows.context, windows.vital, horizon_steps)
        ),
        device=str(device),
        private_refusal=private_refusal(adapted, windows),
        facts=adapted.backbone.facts(adapted.model),
    )


def private_refusal(adapted: AdaptedBackbone, windows: Windows) -> str:
    """Return why a step of DP-SGD fails on a model with an adapter; empty if it works.

    Args:
        adapted: the model; its adapter is changed.
        windows: at least one window.
    """
    count = len(windows.patient_ids)
    try:
        train_privately(
            adapted.model,
            adapted.backbone,
            windows,
            TrainConfig(),
            PrivacyConfig(noise_multiplier=1.0),
            patients=count,
            trained="b",
            learning_rate=0.01,
            noise_multiplier=1.0,
            steps=1,
            randomness=Randomness.of_seed(0),
        )
    except (TrainingError, PrivacyError) as error:
        return str(error)
    return ""


def _seconds(work: Callable[[], object]) -> float:
    work()  # the first call includes one-time initialisation
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return float(np.median(times))
