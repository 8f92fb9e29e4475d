"""The ServerApp: Flower's way into `server.strategy.Federation`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.backbones.forecaster import ModelForecaster
from common.backbones.lora import AdaptedBackbone, adapted_backbone
from common.config import RunConfig
from common.home import home
from common.seeds import derive_seed
from server.gathering import gather
from server.release import release
from server.run_folder import RunFolder
from server.sites import Membership
from server.strategy import Federation
from server.versions import library_versions

log = logging.getLogger("flwr.fedvitals.server")

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Conduct one run and release its adapter; an error ends the run as failed."""
    config = RunConfig.parse(context.run_config)
    path = Path(config.out) if config.out else home() / "runs" / str(context.run_id)
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    # On the CPU: the server only draws the first adapter; A is then the same on every machine.
    adapted = adapted_backbone(config.backbone, config.lora, torch.device("cpu"))
    _check_forecast(adapted, config)
    adapter = adapted.fresh_adapter(derive_seed(config.seed, "adapter"))
    folder = RunFolder(path)
    try:
        membership = gather(grid, config.federation, adapted.digest)
    except BaseException:
        folder.abandon()
        raise
    folder.write_config(_resolved(config, adapted, membership))
    best = Federation(grid, config, membership, adapter, folder).run()
    release(folder.path, best.adapter, best.round)
    log.info("released the adapter of round %d in %s", best.round, folder.path)


def _check_forecast(adapted: AdaptedBackbone, config: RunConfig) -> None:
    """Try the windows' lengths here, where the reason can be told, before any site does."""
    nothing = np.full((1, config.windows.context), np.nan, np.float32)
    forecaster = ModelForecaster(adapted.backbone, adapted.model)
    forecaster.forecast(nothing, np.zeros(1, np.int64), config.windows.horizon)


def _resolved(
    config: RunConfig, adapted: AdaptedBackbone, membership: Membership
) -> dict[str, Any]:
    """What config.json keeps: all that it takes to understand and to repeat the run."""
    return {
        "settings": config.flat(),
        "backbone": {
            "name": adapted.name,
            "family": adapted.backbone.family,
            "facts": adapted.backbone.facts(adapted.model),
            "digest": adapted.digest,
            "parameters": sum(
                parameter.numel()
                for parameter in adapted.model.parameters()
                if not parameter.requires_grad
            ),
            "adapter_parameters": adapted.adapter().num_parameters,
        },
        "sites": {
            name: {
                "patients": member.patients,
                "windows": member.windows,
                "source": member.source,
                "rule": member.rule,
                "step_minutes": member.step_minutes,
            }
            for name, member in sorted(membership.members.items())
        },
        "sites_refused": dict(sorted(membership.refused.items())),
        "versions": library_versions(adapted.backbone.family),
    }
