"""Check of a run's settings against its backbone, before anything is written."""

from __future__ import annotations

import numpy as np

from common.backbones.base import ModelForecaster
from common.backbones.loading import load_backbone
from common.backbones.lora import largest_rank
from common.config.run_config import RunConfig
from common.config.sections import WindowConfig
from common.errors import UsageError


def check_backbone_limits(config: RunConfig, *, adapted: bool = True) -> None:
    """Refuse settings that the run's backbone cannot have.

    Args:
        config: the settings.
        adapted: whether the backbone gets an adapter, so that `lora.*` counts.

    Raises:
        UsageError: `lora.rank` is too large; the message gives the largest possible.
        BackboneError: the backbone is unknown or absent, or `windows.*` too long for it.
    """
    loaded = load_backbone(config.backbone)
    if adapted:
        largest = largest_rank(loaded.model, loaded.backbone, config.lora.scope)
        if config.lora.rank > largest:
            raise UsageError(
                f"lora.rank = {config.lora.rank} is above the smallest dimension of the adapted "
                f"layers of this {loaded.backbone.family}; set lora.rank to at most {largest}"
            )
    check_window_lengths(ModelForecaster(loaded.backbone, loaded.model), config.windows)


def check_window_lengths(forecaster: ModelForecaster, windows: WindowConfig) -> None:
    """Try one forecast of the configured lengths, so that an error is raised before any training.

    The server can report the reason in full; a site's error is only one line of a reply.

    Raises:
        BackboneError: a length is beyond the backbone's; the message gives the largest possible.
    """
    nothing = np.full((1, windows.context), np.nan, np.float32)
    forecaster.forecast(nothing, np.zeros(1, np.int64), windows.horizon)
