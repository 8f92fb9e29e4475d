"""Federated LoRA as a cell: the real apps in the in-process engine, gone on with where it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.backbones.base import ModelForecaster
from common.backbones.lora import merged_model
from common.config.run_config import RunConfig
from server.release.adapter_source import load_subject
from server.runs.run_folder import ADAPTER_FOLDER, CONFIG_FILE, read_rounds
from server.runs.run_reader import read_run
from simulation.experiments.cell_cache import Cell, Outcome
from simulation.experiments.models.scoring import cohort_windows, forecast_device, score
from simulation.progress import RunProgress
from simulation.run import federate


class _Telling(RunProgress):
    """Tells in words how far the run is; the bar belongs to the experiment."""

    def __init__(self, run: Path, rounds: int, say: Callable[[str], None]) -> None:
        super().__init__(run, rounds)
        self._told = say
        self._folder, self._rounds = run, rounds

    def site_works(self, message_type: str, site: str) -> None:
        """Note that a site begins with a message."""
        if message_type == "train":
            number = min(len(read_rounds(self._folder)) + 1, self._rounds)
            self._told(f"round {number} of {self._rounds}, {site}")

    def look(self) -> None:
        """Leave the drawing to the experiment."""


def federated(cell: Cell, run: Path, say: Callable[[str], None]) -> Outcome:
    """Run the federation, or what is left of it, and score the released adapter at every site.

    Args:
        cell: the cell.
        run: its run folder.
        say: told how far it is.

    Raises:
        FedvitalsError: where the run fails; it can be gone on with.
    """
    config = cell.config.replace(out=str(run), resume=(run / CONFIG_FILE).exists())
    if not (run / ADAPTER_FOLDER).is_dir():
        own: dict[str, dict[str, Any]] = {site: dict(keys) for site, keys in cell.own.items()}
        federate(config, "inprocess", _Telling(run, config.rounds, say), own)
    say("test patients")
    subject = load_subject(run)
    model = merged_model(subject.loaded, subject.adapter).to(forecast_device())
    forecaster = ModelForecaster(subject.loaded.backbone, model)
    record = read_run(run, subject.adapter)
    return Outcome(
        scores=score(cohort_windows(config, cell.tested), lambda _name, _site: forecaster),
        facts={
            "parameters": _parameters(config),
            "bytes": record.traffic().total,
            "rounds": record.trained_rounds,
            "best_round": record.best_round,
            **_spent(record.rounds),
        },
        measured={"seconds": sum(float(line.get("seconds", 0.0)) for line in record.rounds)},
    )


def _parameters(config: RunConfig) -> int:
    """Numbers that a site of the run's own rank trains."""
    from client.training.adapter_training import choose_device
    from common.backbones.lora import adapted_backbone

    device = choose_device(config.train.device)
    tensors = adapted_backbone(config.backbone, config.lora, device).adapter().tensors
    trained = [
        tensor for name, tensor in tensors.items() if config.trained == "ab" or ".lora_B." in name
    ]
    return sum(tensor.size for tensor in trained)


def _spent(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """The largest epsilon that a site says it has spent; empty without privacy."""
    told = [
        float(entry["privacy"]["epsilon"])
        for line in rounds
        for entry in line.get("sites", {}).values()
        if "privacy" in entry
    ]
    return {"epsilon": max(told)} if told else {}
