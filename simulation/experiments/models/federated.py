"""Federated LoRA as a cell: the real apps in the in-process engine, resumed if interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common.adapter.trained_adapter import ADAPTER_FOLDER, RUN_CONFIG_FILE
from common.backbones.base import ModelForecaster
from common.backbones.lora import merged_model
from common.config.run_config import RunConfig
from server.release.adapter_source import load_adapter
from server.runs.follow import RoundLines
from server.runs.run_reader import read_run_record
from simulation.experiments.cell_cache import Cell, CellResult, SetStatus
from simulation.experiments.models.scoring import cohort_windows, forecast_device, score_model
from simulation.progress import RunProgress
from simulation.run import federate


def federated(cell: Cell, run: Path, set_status: SetStatus) -> CellResult:
    """Run the federation, or its remaining rounds, and score the released adapter at every site.

    Args:
        cell: the cell.
        run: its run folder.
        set_status: shows the round and the site.

    Raises:
        FedvitalsError: the run failed; it can be resumed.
    """
    config = cell.config.replace(out=str(run), resume=(run / RUN_CONFIG_FILE).exists())
    if not (run / ADAPTER_FOLDER).is_dir():
        own: dict[str, dict[str, Any]] = {site: dict(keys) for site, keys in cell.own.items()}
        federate(config, "inprocess", _StatusProgress(run, config.rounds, set_status), own)
    set_status("test patients")
    loaded = load_adapter(run)
    model = merged_model(loaded.loaded_backbone, loaded.adapter).to(forecast_device())
    forecaster = ModelForecaster(loaded.loaded_backbone.backbone, model)
    record = read_run_record(run, loaded.adapter)
    return CellResult(
        scores=score_model(cohort_windows(config, cell.tested), forecaster),
        facts={
            "parameters": _parameters(config),
            "bytes": record.traffic().total,
            "rounds": record.trained_rounds,
            "best_round": record.best_round,
            **_spent(record.rounds),
        },
        measured={"seconds": sum(float(line.get("seconds", 0.0)) for line in record.rounds)},
    )


class _StatusProgress(RunProgress):
    """Reports the progress of a run as status text; the bar belongs to the experiment."""

    def __init__(self, run: Path, rounds: int, set_status: SetStatus) -> None:
        super().__init__(run, rounds)
        self._set_status = set_status
        self._following = RoundLines(run, lambda _line: None)
        self._rounds = rounds

    def site_works(self, message_type: str, site: str) -> None:
        """Report the round and the site that trains."""
        if message_type == "train":
            done = self._following.print_new()
            number = min(self._following.after_round + len(done) + 1, self._rounds)
            self._set_status(f"round {number} of {self._rounds}, {site}")

    def look(self) -> None:
        """Do nothing; the experiment draws."""


def _parameters(config: RunConfig) -> int:
    """Return how many numbers a site of the run's rank trains."""
    from client.training.adapter_training import choose_device
    from common.backbones.lora import adapted_backbone

    device = choose_device(config.train.device)
    tensors = adapted_backbone(config.backbone, config.lora, device).layout.tensors
    trained = [
        tensor for name, tensor in tensors.items() if config.trained == "ab" or ".lora_B." in name
    ]
    return sum(tensor.size for tensor in trained)


def _spent(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Return the largest epsilon that a site reports as spent; empty without privacy."""
    reported = [
        float(entry["privacy"]["epsilon"])
        for line in rounds
        for entry in line.get("sites", {}).values()
        if "privacy" in entry
    ]
    return {"epsilon": max(reported)} if reported else {}
