"""A run as the coordinator submitted it: the app bundle's digest and the resolved settings.

Both are read once, with the run's first message, and apply to all its messages: if the coordinator
changes them later, the node does not notice.
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
class SubmittedRun:
    """The facts of a run that the gate judges.

    Attributes:
        bundle: SHA-256 of the app bundle's bytes; empty without one.
        settings: the resolved settings; None if they were not or could not be read.
        problem: why no site takes part in the run; empty if a site may.
    """

    bundle: str
    settings: RunSettings | None = None
    problem: str = ""


def bundle_digest(fab: Fab) -> str:
    """Return the SHA-256 of a bundle's bytes; the declared digest is not trusted."""
    return hashlib.sha256(fab.content).hexdigest()


def read_submitted_run(run: Run, fab: Fab) -> SubmittedRun:
    """Read a run's settings from its approved bundle and the coordinator's overrides.

    Flower passes the app the same two, merged by the same function.

    Args:
        run: the run as the coordinator describes it.
        fab: its bundle, approved by the site: the node opens no other zip file.
    """
    digest = bundle_digest(fab)
    if run.primary_task_type == TaskType.AGENT_APP:
        # Flower's own processes would give an agent tools and models on the internet.
        return SubmittedRun(digest, problem="it is a run of agents, which no site takes part in")
    try:
        check_run_bundle(run.fab_id, run.fab_version, run.fab_hash, fab.content)
        config = RunConfig.parse(get_fused_config_from_fab(fab.content, run))
    except RefusedError as problem:
        return SubmittedRun(digest, problem=problem.detail)
    except UsageError as problem:
        return SubmittedRun(digest, problem=f"its settings are not accepted: {problem}")
    except Exception as problem:  # Flower's reader raises whatever a zip file can cause
        name = type(problem).__name__
        return SubmittedRun(digest, problem=f"its settings cannot be read: {name}")
    return SubmittedRun(digest, RunSettings(config))
