"""Recipe of a pretrained nano model: everything that its weights depend on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.errors import UsageError
from simulation.pretraining.series.corruption import Corruption

GENERIC_MIX: Mapping[str, float] = {
    "kernel_synth": 0.35,
    "season_and_trend": 0.15,
    "level_shifts": 0.10,
    "arma": 0.15,
    "damped_oscillation": 0.08,
    "garch": 0.05,
    "random_walk": 0.12,
}
"""Shares of the series families in all shipped weights."""


@dataclass(frozen=True)
class PretrainingRecipe:
    """Architecture, data and schedule of a pretraining run.

    With one thread, the same recipe gives the same bytes on the same machine and library versions.

    Attributes:
        name: name of the model and of its folder.
        architecture: sizes for the model's builder.
        family_mix: share of each family of series (`simulation.pretraining.series.series`).
        seed: seed of the initial weights, the series and their order.
        steps: optimiser steps.
        batch_size: windows per step.
        learning_rate: peak of the schedule.
        schedule: linear warm-up, then a half cosine to zero; the only one available.
        warmup_share: share of the steps in warm-up.
        weight_decay: weight decay of AdamW, on matrices only.
        clip_norm: largest gradient norm of a step.
        series_length: steps of a drawn series, from which windows are cut.
        series_per_chunk: series drawn at a time.
        uses_per_series: windows cut from each series before it is discarded.
        mixup_probability: share of windows that are a mixture of series (TSMixup).
        min_context: shortest context; a batch has one length, log-uniform up to the longest.
        max_context: longest context.
        horizon: steps of the target.
        held_out_batches: batches of held-out synthetic series.
        log_rows: rows of the training log.
        corruption: measurement effects applied to a series.
    """

    name: str
    architecture: Mapping[str, Any]
    family_mix: Mapping[str, float]
    seed: int = 20260101
    steps: int = 4000
    batch_size: int = 128
    learning_rate: float = 3e-3
    schedule: str = "warmup-cosine"
    warmup_share: float = 0.03
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    series_length: int = 256
    series_per_chunk: int = 4096
    uses_per_series: int = 3
    mixup_probability: float = 0.25
    min_context: int = 24
    max_context: int = 192
    horizon: int = 24
    held_out_batches: int = 4
    log_rows: int = 100
    corruption: Corruption = field(default_factory=Corruption)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"steps: got {self.steps}; give at least 1")
        if self.seed < 0:
            raise UsageError(f"seed: got {self.seed}; give 0 or more")
        if self.schedule != "warmup-cosine":
            raise UsageError(f"schedule: got {self.schedule!r}; the only one is 'warmup-cosine'")
        if self.batch_size > self.series_per_chunk * self.uses_per_series:
            raise UsageError(
                f"batch_size: got {self.batch_size}, but a chunk gives "
                f"{self.series_per_chunk * self.uses_per_series} windows; raise series_per_chunk"
            )
        if self.max_context + self.horizon > self.series_length:
            raise UsageError(
                f"max_context {self.max_context} + horizon {self.horizon} exceed series_length "
                f"{self.series_length}; draw longer series"
            )

    @property
    def series_count(self) -> int:
        """Number of series that the run draws, without the held-out ones."""
        windows = self.steps * self.batch_size
        per_chunk = self.series_per_chunk * self.uses_per_series
        return -(-windows // per_chunk) * self.series_per_chunk

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> PretrainingRecipe:
        """Parse the JSON values of `to_json`.

        Raises:
            UsageError: a field is unknown or missing.
        """
        plain = dict(values)
        try:
            plain["corruption"] = Corruption(**plain.get("corruption", {}))
            return cls(**plain)
        except TypeError as error:
            known = ", ".join(entry.name for entry in dataclasses.fields(cls))
            raise UsageError(f"recipe: {error}; the fields are {known}") from error
