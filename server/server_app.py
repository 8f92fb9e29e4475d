"""The ServerApp: Flower's way into `server.rounds.federation.Federation`."""

from __future__ import annotations

import logging
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.adapter.adapter import Adapter
from common.backbones.base import ModelForecaster
from common.backbones.lora import AdaptedBackbone, adapted_backbone
from common.config.run_config import RunConfig
from common.paths import home
from common.seeds import derive_seed
from server.deployment.control_log import started_by
from server.release.release import write_release
from server.rounds.checkpoint import Checkpoint, check_same_settings, load_checkpoint
from server.rounds.enrollment import gather
from server.rounds.federation import Federation
from server.rounds.model_selection import Best, Selection
from server.rounds.site_registry import Membership
from server.runs.run_folder import RunFolder, library_versions, read_config

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
    fresh = adapted.fresh_adapter(derive_seed(config.seed, "adapter"))
    folder = RunFolder(path, config.resume)
    try:
        if folder.begun:
            check_same_settings(config, read_config(path)["settings"])
        membership = gather(grid, config, adapted.digest)
    except BaseException:
        folder.abandon()
        raise
    operator = started_by(str(context.run_id))
    run, state = _begin(folder, config, adapted, membership, fresh, operator)
    best = Federation(grid, config, membership, folder, run, state).conduct()
    write_release(folder.path, best.adapter, best.round)
    folder.close()
    log.info("released the adapter of round %d in %s", best.round, folder.path)


def _begin(
    folder: RunFolder,
    config: RunConfig,
    adapted: AdaptedBackbone,
    membership: Membership,
    fresh: Adapter,
    operator: str,
) -> tuple[str, Checkpoint]:
    """Begin a run, or take up the one that the folder holds; return its id and where it stands."""
    state = None
    if folder.begun:
        state = load_checkpoint(folder.path, config)
        record = read_config(folder.path)
        record["resumed_after"] = [*record["resumed_after"], state.round if state else 0]
        record["operators"] = [*record.get("operators", []), operator]
        folder.rewind_rounds(state.round if state else 0, state.record if state else {})
        log.info("resuming after round %d", state.round if state else 0)
    else:
        # Random, so that a site's ledger never takes one run for another.
        record = {
            **_resolved(config, adapted, membership),
            "run": token_hex(8),
            "resumed_after": [],
            # Who started it and each of its continuations; empty in a simulation.
            "operators": [operator],
        }
    folder.write_config(record)
    return str(record["run"]), state or Checkpoint(0, fresh, None, Selection(Best(fresh)))


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
                "rank": member.rank,
                "outside": member.outside,
            }
            for name, member in sorted(membership.members.items())
        },
        "sites_refused": dict(sorted(membership.refused.items())),
        "versions": library_versions(adapted.backbone.family),
    }
