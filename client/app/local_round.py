"""One round at a site: validate the received adapter, train it, encode the site's own, report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from client.app.dataset import SiteData, declared_patients
from client.app.node_config import NodeSettings
from client.privacy.allowlist import parse_allow
from client.privacy.budget_session import PrivacySession
from client.training.adapter_training import TrainingResult, choose_device, train_adapter
from client.training.dpsgd import train_privately
from client.training.error_feedback import encode_with_feedback
from client.training.random_source import Randomness
from common.adapter.adapter import Adapter
from common.adapter.peft_io import load_into
from common.adapter.serialization.message import encode
from common.backbones.base import ModelForecaster
from common.backbones.lora import AdaptedBackbone, adapted_backbone
from common.backbones.residual_hook import residual_added
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.errors import ForecastError
from common.evaluation.evaluate import evaluate

VALIDATION_METRICS: tuple[str, ...] = ("mae", "wql")
"""Metrics of the validation split, reported per vital and, for WQL, as the mean."""


@dataclass(frozen=True)
class RoundRequest:
    """Server request for one round of one site.

    Attributes:
        site: the site's name; with the run's seed and the round it seeds the training.
        number: 1 to `config.rounds`; one more for the validation of the last adapter.
        run: the run's id; a resumed run keeps it.
        train: False for the last adapter, which is validated only.
        received: the global adapter.
        residual: its untrained low-rank part, where the aggregation rule has one.
    """

    site: str
    number: int
    run: str
    train: bool
    received: Adapter
    residual: Adapter | None = None


@dataclass(frozen=True)
class RoundReport:
    """Metrics of a site's round; with privacy on, the allowlist decides which of them are sent.

    A new metric also needs its name in `client.privacy.allowlist`, its range in
    `client.egress.report_rules.RANGES`, its name in `server.rounds.report_validation`, and an entry
    of `[metrics]` in the policy.toml of each site that sends it.

    Attributes:
        patients: training patients.
        windows: training windows.
        steps: optimiser steps taken; 0 where nothing was trained.
        loss: mean training loss; 0 where nothing was trained.
        validation: scores of the received adapter: `wql`, and `wql.<vital>`, `mae.<vital>`.
        seconds: wall time of the validation and of the training.
    """

    patients: int
    windows: int
    steps: int
    loss: float
    validation: dict[str, float]
    seconds: dict[str, float] = field(default_factory=dict)

    def numbers(self) -> dict[str, float | int]:
        """Return all metrics by the name under which they are sent."""
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


def run_local_round(
    request: RoundRequest,
    data: SiteData,
    config: RunConfig,
    node: NodeSettings,
    session: PrivacySession | None = None,
) -> tuple[bytes | None, RoundReport]:
    """Validate the received adapter at a site and train it there.

    Args:
        request: the server's request.
        data: the site's windows.
        config: the run's settings.
        node: the site's own settings.
        session: the privacy budget of the training; None without privacy.

    Returns:
        The site's own adapter as bytes, None where nothing was to be trained; and the report.

    Raises:
        AdapterError: where the received adapter was made on another backbone than the site's, or
            with other settings: averaging adapters of different bases means nothing.
        TrainingError: where the training diverges.
        PrivacyError: where the budget does not allow the training.
    """
    adapted = site_backbone(config, node)
    request.received.check_compatible(adapted.layout, sender="the server")
    load_into(request.received, adapted.model)
    site = _RoundAtSite(request, data, config, node, adapted)
    started = time.perf_counter()
    with residual_added(adapted.model, request.residual):
        validation = site.validate()
        validated = time.perf_counter()
        encoded, result = None, TrainingResult(0, 0.0)
        if request.train and session is not None:
            encoded, result = site.train_privately(session)
        elif request.train:
            encoded, result = site.train()
    seconds = {"validation": validated - started, "training": time.perf_counter() - validated}
    report = RoundReport(
        patients=len(data.train.patient_ids),
        windows=len(data.train),
        steps=result.steps,
        loss=result.loss,
        validation=validation,
        seconds=seconds,
    )
    return encoded, report


@dataclass(frozen=True)
class _RoundAtSite:
    """Steps of one round on a model that the received adapter is loaded into."""

    request: RoundRequest
    data: SiteData
    config: RunConfig
    node: NodeSettings
    adapted: AdaptedBackbone

    def validate(self) -> dict[str, float]:
        """Score the received adapter, unless the site would not send any score.

        Under privacy, forecasts that cannot be scored are no error: an error would depend on the
        patients.
        """
        if not self.config.privacy.on:
            return _score(self.adapted, self.data)
        allowed = parse_allow(self.node.allow)
        if not any(name.startswith("validation.") for name in allowed):
            return {}
        try:
            return _score(self.adapted, self.data)
        except ForecastError:
            return {}

    def train(self) -> tuple[bytes, TrainingResult]:
        """Train without privacy; return the encoded adapter."""
        result = train_adapter(
            self.adapted.model,
            self.adapted.backbone,
            self.data.train,
            self.config.train,
            trained=self.config.trained,
            learning_rate=self.config.learning_rate(self.request.number),
            seed=derive_seed(self.config.seed, self.request.site, self.request.number),
        )
        return self._encode(), result

    def train_privately(self, session: PrivacySession) -> tuple[bytes, TrainingResult]:
        """Train by DP-SGD within a budget; return the encoded adapter.

        A request for the same round and adapter, e.g. after a crash of the server, gets the same
        reply at no cost.
        """
        config, request = self.config, self.request
        received = request.received.digest()
        kept = session.kept_reply(received)
        if kept is not None:
            return kept, TrainingResult(config.private_steps, 0.0)
        randomness = Randomness.of_system()
        if config.privacy.noise_seed >= 0:  # in a simulation; `client_app` refuses it elsewhere
            seed = derive_seed(config.privacy.noise_seed, "noise", request.site, request.number)
            randomness = Randomness.of_seed(seed)
        # A simulated site may have no patient: its steps are noise alone, whatever the divisor.
        patients = max(1, declared_patients(self.node, self.data))
        # On disk before the first step: after a crash the steps count as spent.
        session.reserve(received)
        result = train_privately(
            self.adapted.model,
            self.adapted.backbone,
            self.data.train,
            config.train,
            config.privacy,
            patients=patients,
            trained=config.trained,
            learning_rate=config.learning_rate(request.number),
            noise_multiplier=session.plan.noise_multiplier,
            steps=config.private_steps,
            randomness=randomness,
        )
        encoded = self._encode()
        session.keep(encoded)
        return encoded, result

    def _encode(self) -> bytes:
        adapter, number = self.adapted.adapter(), self.request.number
        dtype, trained = self.config.wire.dtype, self.config.trained
        if dtype != "int8":
            return encode(adapter, dtype, trained)
        # A run's id comes from the server: as a folder's name it must not point anywhere else.
        run = "".join(c for c in self.request.run if c.isalnum())[:64] or "run"
        folder = self.node.state_path / self.request.site / run / "rounding"
        return encode_with_feedback(adapter, dtype, trained, folder, number)


def _score(adapted: AdaptedBackbone, data: SiteData) -> dict[str, float]:
    """Score the loaded adapter on the validation split; empty where that has no window."""
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
