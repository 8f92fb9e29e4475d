"""A trial of a backbone: does it load, and how long do a training step and a forecast take?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from client.training.adapter_training import choose_device
from common.backbones.base import ModelForecaster, offset_and_scale
from common.backbones.lora import adapted_backbone
from common.config.run_config import LoraConfig, WindowConfig
from common.data.site_table import VITALS

BATCH = 64
_REPEATS = 3


@dataclass(frozen=True)
class Trial:
    """A backbone that was loaded and used once.

    Attributes:
        digest: SHA-256 of the frozen tensors.
        parameters: numbers in the frozen tensors.
        adapter_parameters: numbers in the adapter with the default settings.
        step_s: seconds of one training step of `BATCH` windows, the median of a few.
        forecast_s: seconds of one forecast of as many windows, likewise.
        device: where it ran.
        facts: what is the family's own, in words.
    """

    digest: str
    parameters: int
    adapter_parameters: int
    step_s: float
    forecast_s: float
    device: str
    facts: dict[str, str]


def try_backbone(name: str) -> Trial:
    """Load a backbone, take a few training steps and make a few forecasts on made-up windows.

    Raises:
        BackboneError: where it cannot be loaded.
    """
    adapted = adapted_backbone(name, LoraConfig(), choose_device("auto"))
    windows = WindowConfig()
    random = np.random.default_rng(0)
    vital = random.integers(0, len(VITALS), BATCH)
    centre, floor = (values[:, None] for values in offset_and_scale(vital))
    steps = random.normal(size=(BATCH, windows.context + windows.horizon)).cumsum(axis=1)
    values = (centre + floor * steps).astype(np.float32)
    context, target = values[:, : windows.context], values[:, windows.context :]
    batch = adapted.backbone.collate(context, target, vital)
    where = next(adapted.model.parameters()).device
    batch = {key: tensor.to(where) for key, tensor in batch.items()}
    forecaster = ModelForecaster(adapted.backbone, adapted.model)

    def step() -> None:
        loss = adapted.backbone.window_loss(adapted.model, batch).mean()
        loss.backward()  # type: ignore[no-untyped-call]

    return Trial(
        digest=adapted.digest,
        parameters=sum(p.numel() for p in adapted.model.parameters() if not p.requires_grad),
        adapter_parameters=adapted.adapter().num_parameters,
        step_s=_seconds(step),
        forecast_s=_seconds(lambda: forecaster.forecast(context, vital, windows.horizon)),
        device=str(where),
        facts=adapted.backbone.facts(adapted.model),
    )


def _seconds(work: Callable[[], object]) -> float:
    work()  # the first call pays for what the others find ready
    times = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return float(np.median(times))
