"""Models trained without the federation's apps: zero-shot, LoRA, all weights, from scratch.

All training goes through `simulation.experiments.models.training_loop`, and so through a site's own
training function.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from client.training.adapter_training import choose_device
from common.adapter.peft_io import load_into
from common.backbones.base import ModelForecaster, Network, plain_model
from common.backbones.loading import LoadedBackbone, load_backbone
from common.backbones.lora import AdaptedBackbone, adapted_backbone
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.errors import UsageError
from common.evaluation.evaluate import Forecaster
from simulation.experiments.cell_cache import Cell, CellResult, SetStatus
from simulation.experiments.models.neural import NeuralForecast, build_network
from simulation.experiments.models.scoring import (
    POOLED,
    SiteWindows,
    cohort_windows,
    forecast_device,
    pooled_windows,
    score_model,
    score_sites,
    training_windows,
)
from simulation.experiments.models.training_loop import Trained, train_rounds
from simulation.pretraining import NANO_MODELS


def zero_shot(cell: Cell, _run: Path, set_status: SetStatus) -> CellResult:
    """Score the frozen backbone alone."""
    set_status("test patients")
    loaded = load_backbone(cell.config.backbone)
    forecaster = ModelForecaster(loaded.backbone, loaded.model.to(forecast_device()))
    return CellResult(score_model(cohort_windows(cell.config, cell.tested), forecaster))


def local(cell: Cell, _run: Path, set_status: SetStatus) -> CellResult:
    """Train an adapter at each site alone and score it on that site's own patients."""
    sites = cohort_windows(cell.config)
    adapted = _fresh(cell.config)
    start = adapted.adapter()
    done: list[Trained] = []

    def trained_here(name: str, site: SiteWindows) -> Forecaster:
        load_into(start, adapted.model)
        done.append(_train(adapted.model, adapted.backbone, {name: site}, cell.config, set_status))
        return ModelForecaster(adapted.backbone, adapted.model)

    scores = score_sites(sites, trained_here)
    facts: dict[str, float] = {
        "parameters": done[0].parameters,
        "bytes": 0,
        "rounds": cell.config.rounds,
    }
    return CellResult(scores, facts, {"seconds": sum(one.seconds for one in done)})


def centralised(cell: Cell, _run: Path, set_status: SetStatus) -> CellResult:
    """Train one adapter on all sites' patients together, which no hospital may do."""
    members, config = _pooled(cell.config)
    adapted = _fresh(config)
    trained = _train(adapted.model, adapted.backbone, members, config, set_status)
    tested = cohort_windows(config, cell.tested)
    return _scored(tested, adapted.backbone, adapted.model, trained, config)


def federated_full(cell: Cell, _run: Path, set_status: SetStatus) -> CellResult:
    """Train all weights at the sites and average them, in a plain loop."""
    config = _with_options(cell)
    loaded = load_backbone(config.backbone)
    sites = training_windows(config)
    return _train_all_weights(
        cell, loaded.backbone, loaded.model.requires_grad_(True), sites, config, set_status
    )


def centralised_full(cell: Cell, _run: Path, set_status: SetStatus) -> CellResult:
    """Train all weights on all sites' patients together."""
    members, config = _pooled(_with_options(cell))
    loaded = load_backbone(config.backbone)
    return _train_all_weights(
        cell, loaded.backbone, loaded.model.requires_grad_(True), members, config, set_status
    )


def from_scratch(cell: Cell, _run: Path, set_status: SetStatus) -> CellResult:
    """Train the backbone's architecture from random weights on the pooled patients."""
    members, config = _pooled(_with_options(cell))
    loaded = fresh_network(config.backbone, derive_seed(config.seed, "scratch"))
    return _train_all_weights(
        cell, loaded.backbone, loaded.model.requires_grad_(True), members, config, set_status
    )


def nhits(cell: Cell, _run: Path, set_status: SetStatus) -> CellResult:
    """Train N-HiTS from random weights on the pooled patients."""
    return _neural("nhits", cell, set_status)


def patchtst(cell: Cell, _run: Path, set_status: SetStatus) -> CellResult:
    """Train PatchTST from random weights on the pooled patients."""
    return _neural("patchtst", cell, set_status)


def fresh_network(name: str, seed: int) -> LoadedBackbone:
    """Return a backbone's architecture with random weights.

    Raises:
        UsageError: the family has random weights for its nano model only.
    """
    loaded = load_backbone(name)
    network = plain_model(loaded.model)
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed % 2**63)
        if loaded.name in NANO_MODELS:
            nano = NANO_MODELS[loaded.name]
            nano.save(nano.build(nano.recipe), Path(folder))
        elif hasattr(network, "save_pretrained") and hasattr(network, "config"):
            type(network)(network.config).save_pretrained(folder)
        else:
            raise UsageError(
                f"the family {loaded.backbone.family} has random weights for its nano model only, "
                f"got {name}; leave the arm scratch out"
            )
        return load_backbone(folder)


def _neural(name: str, cell: Cell, set_status: SetStatus) -> CellResult:
    members, config = _pooled(_with_options(cell))
    model = build_network(name, config.windows, derive_seed(config.seed, name))
    return _train_all_weights(cell, NeuralForecast(), model, members, config, set_status)


def _train_all_weights(
    cell: Cell,
    backbone: Network,
    model: torch.nn.Module,
    members: Mapping[str, SiteWindows],
    config: RunConfig,
    set_status: SetStatus,
) -> CellResult:
    """Train a model whose weights all require gradients, and score it."""
    model = model.to(choose_device(config.train.device))
    trained = _train(model, backbone, members, config, set_status)
    return _scored(cohort_windows(config, cell.tested), backbone, model, trained, config)


def _pooled(config: RunConfig) -> tuple[dict[str, SiteWindows], RunConfig]:
    """Return all sites' windows as one member, with the steps per round of all sites together."""
    sites = training_windows(config)
    train = config.train.replace(steps=config.train.steps * len(sites))
    return {POOLED: pooled_windows(sites)}, config.replace(train=train)


def _with_options(cell: Cell) -> RunConfig:
    """Return the cell's settings with the learning rate and the rounds of its options."""
    config, options = cell.config, cell.options
    rate = float(options.get("learning-rate", config.train.learning_rate))
    rounds = int(options.get("rounds", config.rounds))
    return config.replace(rounds=rounds, train=config.train.replace(learning_rate=rate))


def _fresh(config: RunConfig) -> AdaptedBackbone:
    """Return the backbone with the initial adapter of a federation with this seed."""
    adapted = adapted_backbone(config.backbone, config.lora, choose_device(config.train.device))
    adapted.fresh_adapter(derive_seed(config.seed, "adapter"))
    return adapted


def _train(
    model: torch.nn.Module,
    backbone: Network,
    members: Mapping[str, SiteWindows],
    config: RunConfig,
    set_status: SetStatus,
) -> Trained:
    names = ", ".join(members)
    set_status(f"{names}: round 1 of {config.rounds}")

    def on_round(done: int, rounds: int) -> None:
        set_status(f"{names}: round {min(done + 1, rounds)} of {rounds}")

    return train_rounds(model, backbone, members, config, on_round)


def _scored(
    sites: Mapping[str, SiteWindows],
    backbone: Network,
    model: torch.nn.Module,
    trained: Trained,
    config: RunConfig,
) -> CellResult:
    forecaster = ModelForecaster(backbone, model)
    return CellResult(
        scores=score_model(sites, forecaster),
        facts={
            "parameters": trained.parameters,
            "bytes": trained.traffic,
            "rounds": config.rounds,
            "best_round": trained.best_round,
            "validation": trained.validation,
        },
        measured={"seconds": trained.seconds},
    )
