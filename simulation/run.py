"""A run of the federation on one machine, over the sites of a prepared cohort."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client.app.site_settings import check_site_settings
from common.adapter.trained_adapter import RUN_CONFIG_FILE
from common.backbones.weights_store import install_packaged
from common.config.run_config import RunConfig
from common.config.step_length import check_cohort_steps
from common.data.cohort_folder import site_table_paths
from common.data.site_table import read_site_table
from common.errors import UsageError
from common.names import check_name
from server.aggregation.rules import check_site_count
from server.runs.run_folder import SITE_SETTINGS, check_run_folder, read_run_config
from simulation.progress import RunProgress

ENGINES = ("inprocess", "ray")


def federate(
    config: RunConfig,
    engine: str = "inprocess",
    progress: RunProgress | None = None,
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Run the federation over a prepared cohort; both engines give the same adapter bytes.

    Args:
        config: the settings; `data` and `out` are folders.
        engine: ``inprocess``, or ``ray`` for `flwr run` with a process a client.
        progress: display during the run; None shows nothing.
        own: settings of single sites, by site (see `client.app.node_config`); in-process engine
            only. A resumed run has those that it began with.

    Returns:
        The run folder.

    Raises:
        FederationError: the run failed.
        CohortError: `data` holds no cohort.
        UsageError: the settings do not allow the run.
    """
    check_name("engine", engine, ENGINES)
    if not config.data or not config.out:
        raise UsageError("a run needs a cohort folder and a run folder")
    # Absolute, since Flower's processes have other working directories.
    config = config.replace(
        data=str(Path(config.data).absolute()), out=str(Path(config.out).absolute())
    )
    check_run_folder(Path(config.out), config.resume)
    tables = site_table_paths(Path(config.data))
    for path in tables.values():
        info = read_site_table(path).info  # a damaged one fails now, not after the rounds
        check_cohort_steps(info.step_minutes, config, config.data)
    if len(tables) < config.federation.min_sites:
        raise UsageError(
            f"{config.data} has {len(tables)} site(s), the run needs federation.min-sites = "
            f"{config.federation.min_sites}"
        )
    nodes = len(tables)
    check_site_count(config, nodes)
    own = _restored(config, own or {}) if config.resume else own or {}
    if own and engine == "ray":
        raise UsageError("the Ray engine does not support settings of single sites; use inprocess")
    _check_sites(config, own, list(tables))
    install_packaged()
    progress = progress or RunProgress.silent()
    progress.expect(_sites_a_round(config, nodes))
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
            own=[own.get(site, {}) for site in tables],
            site_settings=_by_site_and_key(own),
        )
    progress.look()
    return Path(config.out)


def _restored(config: RunConfig, own: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the settings of single sites with which a run to be resumed began.

    A run that was killed before its first file was whole begins with those that are given.

    Raises:
        UsageError: other ones are given.
    """
    if not (Path(config.out) / RUN_CONFIG_FILE).exists():
        return {site: dict(settings) for site, settings in own.items()}
    recorded: dict[str, Any] = read_run_config(Path(config.out)).get(SITE_SETTINGS, {})
    for key, value in _by_site_and_key(own).items():
        before = recorded.get(key, "none")
        if str(value) != str(before):
            raise UsageError(f"--site {key} is {value}, the run began with {before}; leave it out")
    restored: dict[str, dict[str, Any]] = {}
    for key, value in recorded.items():
        site, _, name = key.partition(".")
        restored.setdefault(site, {})[name] = value
    return restored


def _by_site_and_key(own: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        f"{site}.{key}": value for site, settings in own.items() for key, value in settings.items()
    }


def _check_sites(
    config: RunConfig, own: Mapping[str, Mapping[str, Any]], sites: Sequence[str]
) -> None:
    """Check all that names a single site against the cohort and the run.

    In a deployment a site that does not fit is left out, and the others go on. Here a typing error
    would silently drop a site from the study.
    """
    for site, settings in own.items():
        check_site_settings(check_name("site", site, sites), settings, config)
    fixed = config.federation.fixed_weights()
    for site in fixed:
        check_name("site in federation.weights", site, sites)
    missing = [site for site in sites if fixed and site not in fixed]
    if missing:
        raise UsageError(
            f"federation.weights names no weight for {', '.join(missing)}; give one to each "
            f"site of the cohort: {', '.join(sites)}"
        )


def _sites_a_round(config: RunConfig, sites: int) -> int:
    """Return the size of a round's sample, as `server.rounds.federation.sample_sites` draws it."""
    federation = config.federation
    return min(sites, max(federation.min_sites, math.ceil(federation.fraction * sites)))


def _gpus_a_client() -> float:
    """Return 1 if there is a GPU, so that sites do not share its memory; else 0."""
    import torch

    return 1.0 if torch.cuda.is_available() else 0.0
