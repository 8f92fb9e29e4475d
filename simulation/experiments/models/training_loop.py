"""Training loop without the federation's apps: a site alone, pooled data, or FedAvg of all weights.

It calls a site's own training function (`client.training.adapter_training.train_adapter`) with the
rounds, learning rates, seeds and choice of the round of a federation. With one member it is that
site alone, with several FedAvg of all parameters that require a gradient; a test shows that it ends
in the adapter of the federation. Full fine-tuning uses this loop and not Flower's messages: the
bytes that it would exchange are counted, not sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from client.training.adapter_training import train_adapter
from common.backbones.base import ModelForecaster, Network
from common.backbones.lora import lora_parameters
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.evaluation.evaluate import evaluate
from simulation.experiments.models.scoring import SiteWindows

NamedTensors = dict[str, torch.Tensor]
OnRound = Callable[[int, int], None]
"""Called with the number of rounds done and the number of all rounds."""

_BYTES_PER_NUMBER = 4


@dataclass(frozen=True)
class Trained:
    """Result of the loop; the model holds the parameters of the best round.

    Attributes:
        parameters: number of trained parameters.
        best_round: round of the best validation; 0 is before training.
        validation: WQL of the best round relative to that before training, mean over members.
        traffic: bytes that several members and a server would have exchanged in float32.
        seconds: wall time.
    """

    parameters: int
    best_round: int
    validation: float
    traffic: int
    seconds: float


def train_rounds(
    model: torch.nn.Module,
    backbone: Network,
    members: Mapping[str, SiteWindows],
    config: RunConfig,
    on_round: OnRound | None = None,
) -> Trained:
    """Train the parameters that require gradients, member by member; average after every round.

    Args:
        model: on its device; changed in place.
        backbone: its family, or another kind of network.
        members: the windows of each member, weighted by its training patients.
        config: rounds, `train.*` and seed.
        on_round: called after every round.

    Raises:
        TrainingError: a training diverged.
    """
    started = time.perf_counter()
    weights = {name: len(site.train.patient_ids) for name, site in members.items()}
    state = best = _state(model)
    baseline = _validate(model, backbone, members)
    best_round, least = 0, _relative(baseline, baseline, weights)
    for number in range(1, config.rounds + 1):
        after = {}
        for name, site in members.items():
            _put(model, state)
            train_adapter(
                model,
                backbone,
                site.train,
                config.train,
                learning_rate=config.learning_rate(number),
                seed=derive_seed(config.seed, name, number),
            )
            after[name] = _state(model)
        state = average(after, weights)
        _put(model, state)
        score = _relative(_validate(model, backbone, members), baseline, weights)
        # Without validation the last round is kept.
        if score < least or not baseline:
            best, best_round, least = state, number, score
        if on_round is not None:
            on_round(number, config.rounds)
    _put(model, best)
    count = sum(tensor.numel() for tensor in state.values())
    # As in a federation: out and back every round, and out once more for the last validation.
    messages = len(members) * (2 * config.rounds + 1) if len(members) > 1 else 0
    return Trained(
        parameters=count,
        best_round=best_round,
        validation=least,
        traffic=messages * count * _BYTES_PER_NUMBER,
        seconds=time.perf_counter() - started,
    )


def average(states: Mapping[str, NamedTensors], weights: Mapping[str, float]) -> NamedTensors:
    """Return the weighted mean of the members' tensors, summed in float64."""
    total = sum(weights[name] for name in states)
    first = next(iter(states.values()))
    mean = {}
    for key, tensor in first.items():
        parts = [states[name][key].double() * (weights[name] / total) for name in sorted(states)]
        mean[key] = torch.stack(parts).sum(dim=0).to(tensor.dtype)
    return mean


def _state(model: torch.nn.Module) -> NamedTensors:
    return {name: tensor.detach().clone() for name, tensor in lora_parameters(model)}


def _put(model: torch.nn.Module, state: NamedTensors) -> None:
    with torch.no_grad():
        for name, tensor in lora_parameters(model):
            tensor.copy_(state[name])


def _validate(
    model: torch.nn.Module, backbone: Network, members: Mapping[str, SiteWindows]
) -> dict[str, float]:
    """Return the validation WQL of the members that have validation windows."""
    forecaster = ModelForecaster(backbone, model.eval())
    return {
        name: evaluate(site.validation, forecaster, metrics=("wql",)).metric("wql")
        for name, site in members.items()
        if len(site.validation)
    }


def _relative(
    wql: Mapping[str, float], baseline: Mapping[str, float], weights: Mapping[str, float]
) -> float:
    """Return the score by which a federation selects its round (`model_selection.Selection`)."""
    if not wql:
        return 1.0
    total = sum(weights[name] for name in wql)
    return sum(weights[name] * wql[name] / baseline[name] for name in wql) / total
