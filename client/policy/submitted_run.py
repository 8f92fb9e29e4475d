"""What the node knows of a run: its app bundle by the bytes, and its resolved settings.

Both are read once, when the run's first message comes, and hold for all its messages: a coordinator
that changes them later changes nothing here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from flwr.common.config import get_fused_config_from_fab
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run

from client.policy.bundle_identity import check_run_bundle
from client.policy.refusal import RefusedError
from client.policy.run_settings import RunSettings
from common.config.run_config import RunConfig
from common.errors import UsageError


@dataclass(frozen=True)
class RunFacts:
    """A run, as far as the gate judges it.

    Attributes:
        bundle: SHA-256 of the app bundle's bytes; empty where it brought none.
        settings: the resolved settings; None where they have not been read, or cannot be.
        problem: why the run is not one that a site takes part in; empty where it may be.
    """

    bundle: str
    settings: RunSettings | None = None
    problem: str = ""


def bundle_digest(fab: Fab) -> str:
    """Return the SHA-256 of a bundle's bytes, which is taken here and not believed."""
    return hashlib.sha256(fab.content).hexdigest()


def read_run(run: Run, fab: Fab) -> RunFacts:
    """Read a run's settings out of its approved bundle and the coordinator's overrides.

    Flower hands the app the same two, put together by the same function.

    Args:
        run: as the coordinator describes it.
        fab: its bundle, which the site has approved: a foreign zip file is not opened in the node.
    """
    digest = bundle_digest(fab)
    if run.primary_task_type == TaskType.AGENT_APP:
        # An agent's run would be given tools and models on the internet by Flower's own processes.
        return RunFacts(digest, problem="it is a run of agents, which no site takes part in")
    try:
        check_run_bundle(run.fab_id, run.fab_version, run.fab_hash, fab.content)
        config = RunConfig.parse(get_fused_config_from_fab(fab.content, run))
    except RefusedError as problem:
        return RunFacts(digest, problem=problem.detail)
    except UsageError as problem:
        return RunFacts(digest, problem=f"its settings are not accepted: {problem}")
    except Exception as problem:  # Flower's reader fails in as many ways as a zip file has
        return RunFacts(digest, problem=f"its settings cannot be read: {type(problem).__name__}")
    return RunFacts(digest, RunSettings(config))
