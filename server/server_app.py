"""ServerApp of a run: enroll the sites, run the rounds, release the adapter."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.supercore.constant import TaskType

from common.adapter.adapter import Adapter
from common.backbones.limits import check_backbone_limits
from common.backbones.lora import AdaptedBackbone, adapted_backbone
from common.config.run_config import RunConfig
from common.config.seeds import derive_seed
from common.data.cohort_folder import cohort_line
from common.files.paths import PREPARED_LAST, current_cohort, home
from common.flower.log_colours import plain_flower_log
from server.aggregation.rules import check_site_count
from server.deployment.control_log import started_by
from server.release.release import write_release
from server.rounds.checkpoint import Checkpoint, check_same_settings, load_checkpoint
from server.rounds.enrollment import enroll_sites
from server.rounds.federation import Federation
from server.rounds.model_selection import BestAdapter, ModelSelection
from server.rounds.round_record import log as round_log
from server.rounds.site_registry import SiteRegistry
from server.runs.follow import STARTS, Start
from server.runs.run_folder import (
    CHECKPOINT_FILE,
    SITE_SETTINGS,
    RunFolder,
    library_versions,
    read_rounds,
    read_run_config,
)
from server.statistics_run.collection import collect_statistics
from server.statistics_run.output import check_statistics_folder, write_statistics

log = logging.getLogger("flwr.fedvitals.server")

SIMULATED_GRID = "InMemoryGrid"
"""Flower's class for the nodes of a simulation, by name: its package needs more than a site has."""

plain_flower_log()
app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the federation and release its best adapter; an error ends the run as failed.

    A run of statistics only collects these.
    """
    config = RunConfig.parse(context.run_config)
    if type(grid).__name__ == SIMULATED_GRID:
        log.info("%s", simulated_cohort(config))
    path = Path(config.out) if config.out else home() / "runs" / str(context.run_id)
    if config.statistics:
        check_statistics_folder(path)
        replies = collect_statistics(grid, config)
        write_statistics(path, replies.sites, replies.refused)
        return
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
    check_backbone_limits(config)
    # On the CPU: the server only draws the first adapter, whose A is the same on every machine.
    adapted = adapted_backbone(config.backbone, config.lora, torch.device("cpu"))
    fresh = adapted.fresh_adapter(derive_seed(config.seed, "adapter"))
    simulated = grid.run.primary_task_type == TaskType.SIMULATION
    folder = RunFolder(path, config.resume, simulated=simulated)
    try:
        if folder.renewed:
            log.info("%s held a run without a whole round; it is started anew", path)
        if folder.has_run:
            recorded = read_run_config(path)["settings"]
            check_same_settings(config, recorded, begun=(path / CHECKPOINT_FILE).exists())
        registry = enroll_sites(grid, config, adapted.digest)
        check_site_count(config, len(registry.members))
    except BaseException:
        folder.abandon()
        raise
    flower_run = str(context.run_id)
    with closing(folder):
        if folder.has_run:
            run_id, state = _resume(folder, config, fresh, flower_run)
        else:
            # Only the in-process engine gives its sites settings of their own.
            own = dict(context.node_config)
            run_id, state = _start(folder, config, adapted, registry, fresh, flower_run, own)
        best = Federation(grid, config, registry, folder, run_id, state).run()
        write_release(folder.path, best.adapter, best.round)
    log.info("released the adapter of round %d in %s", best.round, folder.path)


def simulated_cohort(config: RunConfig) -> str:
    """Return a line about the cohort that `flwr run .` shares out among its nodes.

    Raises:
        CohortError: there is none.
    """
    if config.data:
        return cohort_line(Path(config.data), "named by data")
    return cohort_line(current_cohort(), f"{PREPARED_LAST}; -c 'data=\"FOLDER\"' names another")


def _resume(
    folder: RunFolder, config: RunConfig, fresh: Adapter, flower_run: str
) -> tuple[str, Checkpoint]:
    """Resume the folder's run; return its id and the state after its last complete round."""
    state = load_checkpoint(folder.path, config) or _initial_state(fresh)
    record = read_run_config(folder.path)
    record["resumed_after"] = [*record["resumed_after"], state.round]
    record["operators"] = [*record.get("operators", []), started_by(flower_run)]
    folder.rewind_rounds(state.round, state.record)
    round_log.info("resuming after round %d", state.round)
    lines = len(read_rounds(folder.path))
    start = Start(flower_run, state.round, lines)._asdict()
    folder.write_config({**record, STARTS: [*record.get(STARTS, []), start]})
    return str(record["run"]), state


def _start(
    folder: RunFolder,
    config: RunConfig,
    adapted: AdaptedBackbone,
    registry: SiteRegistry,
    fresh: Adapter,
    flower_run: str,
    site_settings: Mapping[str, Any],
) -> tuple[str, Checkpoint]:
    """Start a run in the folder; return its id and the state before its first round."""
    record = {
        **_config_record(config, adapted, registry),
        SITE_SETTINGS: site_settings,
        # Random, so that a site's budget ledger never takes one run for another.
        "run": token_hex(8),
        "resumed_after": [],
        STARTS: [Start(flower_run, 0, 0)._asdict()],
        # The operator of the start and of each resumption; empty in a simulation.
        "operators": [started_by(flower_run)],
    }
    folder.write_config(record)
    return str(record["run"]), _initial_state(fresh)


def _initial_state(fresh: Adapter) -> Checkpoint:
    return Checkpoint(0, fresh, None, ModelSelection(BestAdapter(fresh)))


def _config_record(
    config: RunConfig, adapted: AdaptedBackbone, registry: SiteRegistry
) -> dict[str, Any]:
    """The content of config.json that describes the run: settings, backbone, sites, versions."""
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
                "outside": member.unprotected_outputs,
            }
            for name, member in sorted(registry.members.items())
        },
        "sites_refused": dict(sorted(registry.refused.items())),
        "versions": library_versions(adapted.backbone.family),
    }
