"""A site's part in a round: validate what was received, train it, hand it back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from client.site_data import SiteData
from client.training import TrainingResult, choose_device, train_adapter
from common.adapter import Adapter
from common.backbones.forecaster import ModelForecaster
from common.backbones.lora import AdaptedBackbone, adapted_backbone
from common.config import RunConfig
from common.evaluation import evaluate
from common.peft_adapter import load_into
from common.seeds import derive_seed

VALIDATION_METRICS: tuple[str, ...] = ("mae", "wql")
"""What a site reports of its validation split, per vital and in the mean."""


@dataclass(frozen=True)
class RoundReport:
    """What a site says of its round, besides the adapter.

    Attributes:
        patients: training patients.
        windows: training windows.
        steps: optimiser steps taken; 0 where nothing was trained.
        loss: mean training loss; 0 where nothing was trained.
        validation: of the adapter as received: `wql`, and `wql.<vital>`, `mae.<vital>`.
        seconds: wall time of the validation and of the training.
    """

    patients: int
    windows: int
    steps: int
    loss: float
    validation: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)


def take_part(
    site: str,
    data: SiteData,
    received: Adapter,
    config: RunConfig,
    *,
    round_number: int,
    train: bool,
) -> tuple[Adapter, RoundReport]:
    """Validate the received adapter at a site and train it there.

    Args:
        site: the site's name; with the run's seed and the round it decides everything random.
        data: the site's windows.
        received: the round's adapter.
        config: the run's settings.
        round_number: 1 to `config.rounds`.
        train: False after the last round, when the result is to be validated only.

    Returns:
        The site's own adapter (the received one where nothing was trained) and the report.

    Raises:
        AdapterError: where the adapter was made on another backbone than the site's, or with
            other settings: averaging adapters of different bases means nothing.
        TrainingError: where the training diverges.
    """
    adapted = adapted_backbone(config.backbone, config.lora, choose_device(config.train.device))
    received.check_compatible(adapted.adapter(), sender="the server")
    load_into(received, adapted.model)
    started = time.perf_counter()
    validation = _validate(adapted, data)
    validated = time.perf_counter()
    result = TrainingResult(0, 0.0)
    adapter = received
    if train:
        result = train_adapter(
            adapted.model,
            adapted.backbone,
            data.train,
            config.train,
            learning_rate=config.learning_rate(round_number),
            seed=derive_seed(config.seed, site, round_number),
        )
        adapter = adapted.adapter()
    seconds = {"validation": validated - started, "training": time.perf_counter() - validated}
    report = RoundReport(
        patients=len(data.train.patient_ids),
        windows=len(data.train),
        steps=result.steps,
        loss=result.loss,
        validation=validation,
        seconds=seconds,
    )
    return adapter, report


def _validate(adapted: AdaptedBackbone, data: SiteData) -> dict[str, float]:
    """Score the model as it stands on the validation split; empty where that has no window."""
    if not len(data.validation):
        return {}
    forecaster = ModelForecaster(adapted.backbone, adapted.model)
    table = evaluate(data.validation, forecaster, metrics=VALIDATION_METRICS).table()
    per_vital = {
        f"{metric}.{vital}": row[metric]
        for vital, row in table["vitals"].items()
        for metric in VALIDATION_METRICS
    }
    return {"wql": table["mean"]["wql"], **per_vital}
