"""A site's part in a round: validate what was received, train it, and what is handed back."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from client.app.dataset import SiteData, declared_patients
from client.app.node_config import NodeSettings
from client.privacy.allowlist import parse_allow
from client.training.adapter_training import TrainingResult, choose_device, train_adapter
from client.training.error_feedback import encode_with_feedback
from common.adapter.adapter import Adapter
from common.adapter.peft_io import load_into
from common.adapter.serialization.message import encode
from common.backbones.base import ModelForecaster
from common.backbones.lora import AdaptedBackbone, adapted_backbone
from common.backbones.residual_hook import carrying
from common.config.run_config import RunConfig
from common.errors import ForecastError
from common.evaluation.evaluate import evaluate
from common.seeds import derive_seed

if TYPE_CHECKING:
    from client.privacy.budget_session import PrivacySession
    from client.training.random_source import Randomness

VALIDATION_METRICS: tuple[str, ...] = ("mae", "wql")
"""What a site reports of its validation split, per vital and in the mean."""


@dataclass(frozen=True)
class RoundOrder:
    """What the server asks of a site in a round.

    Attributes:
        site: the site's name; with the run's seed and the round it decides everything random.
        number: 1 to `config.rounds`.
        run: the run's id, which its continuations share.
        train: False after the last round, when the result is to be validated only.
        received: the round's adapter.
        carried: the low-rank part carried beside it, if there is one.
    """

    site: str
    number: int
    run: str
    train: bool
    received: Adapter
    carried: Adapter | None = None


@dataclass(frozen=True)
class RoundReport:
    """What a site may say of its round, besides the adapter.

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

    def numbers(self) -> dict[str, float | int]:
        """Return all of it by name, as it is sent."""
        return {
            "patients": self.patients,
            "windows": self.windows,
            "steps": self.steps,
            "loss": self.loss,
            **{f"validation.{name}": value for name, value in self.validation.items()},
            **{f"seconds.{name}": value for name, value in self.seconds.items()},
        }


def site_backbone(config: RunConfig, node: NodeSettings) -> AdaptedBackbone:
    """Return the run's backbone with an adapter of the site's own rank, on the site's device."""
    lora = config.lora.at_rank(node.lora_rank or config.lora.rank)
    return adapted_backbone(config.backbone, lora, choose_device(config.train.device))


def shared_adapter(config: RunConfig, adapted: AdaptedBackbone) -> Adapter | None:
    """Return the adapter whose A all sides share, drawn from the run's seed; None without one."""
    if config.trained != "b":
        return None
    return adapted.fresh_adapter(derive_seed(config.seed, "adapter"))


def take_part(
    order: RoundOrder,
    data: SiteData,
    config: RunConfig,
    node: NodeSettings,
    session: PrivacySession | None = None,
) -> tuple[bytes | None, RoundReport]:
    """Validate the received adapter at a site and train it there.

    Args:
        order: what the server asks.
        data: the site's windows.
        config: the run's settings.
        node: the site's own settings.
        session: the privacy budget that the training draws on; None without privacy.

    Returns:
        The site's own adapter in bytes, None where nothing was to be trained; and the report, of
        which not everything need be sent.

    Raises:
        AdapterError: where the adapter was made on another backbone than the site's, or with
            other settings: averaging adapters of different bases means nothing.
        TrainingError: where the training diverges.
        PrivacyError: where the budget does not allow the training.
    """
    adapted = site_backbone(config, node)
    order.received.check_compatible(adapted.adapter(), sender="the server")
    load_into(order.received, adapted.model)
    started = time.perf_counter()
    with carrying(adapted.model, order.carried):
        validation = _validation(adapted, data, config, node)
        validated = time.perf_counter()
        sent, result = None, TrainingResult(0, 0.0)
        if order.train:
            sent, result = _train(order, data, config, node, adapted, session)
    seconds = {"validation": validated - started, "training": time.perf_counter() - validated}
    report = RoundReport(
        patients=len(data.train.patient_ids),
        windows=len(data.train),
        steps=result.steps,
        loss=result.loss,
        validation=validation,
        seconds=seconds,
    )
    return sent, report


def _train(
    order: RoundOrder,
    data: SiteData,
    config: RunConfig,
    node: NodeSettings,
    adapted: AdaptedBackbone,
    session: PrivacySession | None,
) -> tuple[bytes, TrainingResult]:
    """Train the adapter that is on the model; return its bytes, as they are to be sent."""
    if session is not None:
        kept = session.kept_answer(order.received.digest())
        if kept is not None:
            # Asked again, e.g. after a crash of the server: the same answer costs no budget.
            return kept, TrainingResult(config.private_steps, 0.0)
        result = _train_privately(order, data, config, node, adapted, session)
    else:
        result = train_adapter(
            adapted.model,
            adapted.backbone,
            data.train,
            config.train,
            trained=config.trained,
            learning_rate=config.learning_rate(order.number),
            seed=derive_seed(config.seed, order.site, order.number),
        )
    sent = _encode(adapted.adapter(), order, config, node)
    if session is not None:
        session.keep(sent)
    return sent, result


def _train_privately(
    order: RoundOrder,
    data: SiteData,
    config: RunConfig,
    node: NodeSettings,
    adapted: AdaptedBackbone,
    session: PrivacySession,
) -> TrainingResult:
    from client.training.dpsgd import train_privately

    # A simulated site may hold nobody: its steps are noise alone, whatever they are divided by.
    patients = max(1, declared_patients(node, data))
    # On the disk before the first step: a crash from here on counts as spent.
    session.reserve(order.received.digest())
    return train_privately(
        adapted.model,
        adapted.backbone,
        data.train,
        config.train,
        config.privacy,
        patients=patients,
        trained=config.trained,
        learning_rate=config.learning_rate(order.number),
        noise_multiplier=session.plan.noise_multiplier,
        steps=config.private_steps,
        randomness=_randomness(order, config),
    )


def _randomness(order: RoundOrder, config: RunConfig) -> Randomness:
    """Who is drawn and the noise: from the operating system, but for a simulation with a seed."""
    from client.training.random_source import Randomness

    if config.privacy.noise_seed < 0:
        return Randomness.of_system()
    seed = derive_seed(config.privacy.noise_seed, "noise", order.site, order.number)
    return Randomness.of_seed(seed)


def _encode(adapter: Adapter, order: RoundOrder, config: RunConfig, node: NodeSettings) -> bytes:
    dtype, trained = config.wire.dtype, config.trained
    if dtype != "int8":
        return encode(adapter, dtype, trained)
    folder = site_state(node, order) / "rounding"
    return encode_with_feedback(adapter, dtype, trained, folder, order.number)


def site_state(node: NodeSettings, order: RoundOrder) -> Path:
    """Where a site keeps what one run leaves from round to round."""
    # A run's id comes from the server: as a folder's name it must not lead anywhere else.
    run = "".join(c for c in order.run if c.isalnum())[:64] or "run"
    return node.state_path / order.site / run


def _validation(
    adapted: AdaptedBackbone, data: SiteData, config: RunConfig, node: NodeSettings
) -> dict[str, float]:
    """Score the received adapter, if a score would leave the site: one that stays is not needed.

    Under privacy forecasts that cannot be scored are no error, which would tell of the patients.
    """
    if not config.privacy.on:
        return _validate(adapted, data)
    if not any(name.startswith("validation.") for name in parse_allow(node.allow)):
        return {}
    try:
        return _validate(adapted, data)
    except ForecastError:
        return {}


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
