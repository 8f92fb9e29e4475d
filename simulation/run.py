"""A whole run on one machine: the sites of a cohort, an engine, a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.backbones.weights_store import install_packaged
from common.config.run_config import RunConfig
from common.data.cohort_folder import site_table_paths
from common.data.site_table import read_site_table
from common.errors import UsageError
from common.names import check_name
from simulation.progress import RunProgress

ENGINES = ("inprocess", "ray")


SiteSettings = Mapping[str, Mapping[str, Any]]
"""What single sites set for themselves, by site: see `client.app.node_config`."""


def federate(
    config: RunConfig,
    engine: str = "inprocess",
    progress: RunProgress | None = None,
    own: SiteSettings | None = None,
) -> Path:
    """Run the federation over a prepared cohort; both engines end in the same adapter bytes.

    Args:
        config: the settings; `data` and `out` are folders.
        engine: ``inprocess``, or ``ray`` for `flwr run` with a process a client.
        progress: shown while the run goes on.
        own: the sites' own settings; the in-process engine alone can give them.

    Returns:
        The run folder.

    Raises:
        FederationError: where the run failed.
        CohortError: where `data` holds no cohort.
    """
    check_name("engine", engine, ENGINES)
    if not config.data or not config.out:
        raise UsageError("a run needs a cohort folder and a run folder")
    # Absolute, since Flower's processes have folders of their own.
    config = config.replace(
        data=str(Path(config.data).absolute()), out=str(Path(config.out).absolute())
    )
    tables = site_table_paths(Path(config.data))
    for path in tables.values():
        read_site_table(path)  # a damaged one is told now, not after the rounds
    if len(tables) < config.federation.min_sites:
        raise UsageError(
            f"{config.data} has {len(tables)} site(s), the run needs federation.min-sites = "
            f"{config.federation.min_sites}"
        )
    nodes = len(tables)
    for site in own or {}:
        check_name("site", site, tables)
    if own and engine == "ray":
        raise UsageError("the Ray engine cannot give sites settings of their own; use inprocess")
    install_packaged()
    progress = progress or RunProgress.silent()
    if engine == "ray":
        from simulation.engines.ray import run_with_ray

        run_with_ray(
            config.flat(), nodes=nodes, gpus_a_client=_gpus_a_client(), on_poll=progress.look
        )
    else:
        from client.app.client_app import app as client_app
        from server.server_app import app as server_app
        from simulation.engines.inprocess import run_in_process

        run_in_process(
            server_app,
            client_app,
            config.flat(),
            nodes=nodes,
            on_message=progress.site_works,
            own=[(own or {}).get(site, {}) for site in tables],
        )
    progress.look()
    return Path(config.out)


def _gpus_a_client() -> float:
    """One GPU a client where there are any, so that sites do not share one's memory."""
    import torch

    return 1.0 if torch.cuda.is_available() else 0.0
