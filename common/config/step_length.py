"""Length of a site's time steps, checked against the run: the same words at site and server."""

from __future__ import annotations

from common.config.run_config import RunConfig
from common.config.tasks import TASKS
from common.errors import UsageError


def step_refusal(step_minutes: int, config: RunConfig) -> str:
    """Return why a run cannot take a site with these steps; empty where it can.

    Args:
        step_minutes: length of the site's steps; 0 = not known.
        config: the run's settings.
    """
    wanted = config.step_minutes
    if not wanted or step_minutes in (0, wanted):
        return ""
    return f"its steps are {step_minutes} min, the run's {wanted} min (step-minutes)"


def check_cohort_steps(step_minutes: int, config: RunConfig, cohort: str) -> None:
    """Raise `UsageError` where a cohort's steps are not those of the run's settings.

    Args:
        step_minutes: length of the cohort's steps.
        config: the run's settings.
        cohort: the cohort's name in the message.
    """
    if not step_refusal(step_minutes, config):
        return
    wanted = config.step_minutes
    what = f"task={config.task}" if config.task in TASKS else f"step-minutes={wanted}"
    raise UsageError(
        f"a run with {what} needs a cohort at {wanted}-minute steps: python -m simulation prepare "
        f"SOURCE --step-minutes {wanted}; {cohort} has {step_minutes}. Or give "
        f"-c step-minutes={step_minutes}"
    )
