"""Named tasks: settings that `-c task=NAME` gives together, and the metrics that it reports first.

A task is resolved where a command reads its settings. A site receives the single settings alone,
and its policy judges those: at a site, the task is a name that changes no other setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.config.durations import STEP_KEY, times_as_steps

TASK_KEY = "task"


@dataclass(frozen=True)
class Task:
    """Settings and metrics of a named task.

    Attributes:
        settings: flat settings; lengths of windows are times, so that they hold at any step.
        metrics: the metrics reported first, by their names in `common.evaluation.metrics`.
    """

    settings: Mapping[str, Any]
    metrics: tuple[str, ...]


TASKS: dict[str, Task] = {
    "paper": Task(
        settings={
            # The small Chronos-Bolt and Chronos-T5 forecast at most 24 steps.
            "backbone": "moirai-nano",
            STEP_KEY: 5,
            "windows.context": "6h",
            "windows.horizon": "3h",
            "windows.stride": "3h",
            "windows.min-context": "1h",
            "windows.vitals": "heart_rate,mbp",
        },
        metrics=("mse", "mape", "dtw"),
    ),
}
"""`paper`: heart rate and mean blood pressure of sepsis patients (Gupta et al. 2024, arXiv
2405.10216), three hours from the six before (Bhatti et al. 2023, arXiv 2311.04770), at the
5-minute medians of eICU's table vitalPeriodic."""

DEFAULT_METRICS: tuple[str, ...] = ("mae", "wql")
"""Metrics reported first where no task is named."""


def with_task(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat settings with those of their task; a setting that is given stays as it is.

    Args:
        pairs: flat settings; an unknown task is left to their validation.
    """
    task = TASKS.get(str(pairs.get(TASK_KEY, "")))
    return {**(task.settings if task else {}), **pairs}


def first_metrics(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the metrics that are reported first for a run's recorded settings."""
    task = TASKS.get(str(settings.get(TASK_KEY, "")))
    return task.metrics if task else DEFAULT_METRICS


def changed_of_task(settings: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return where a run's settings differ from its task's.

    Args:
        settings: all flat settings of a run.

    Returns:
        The run's value and the task's by key; empty for a run without a task.
    """
    task = TASKS.get(str(settings.get(TASK_KEY, "")))
    if task is None:
        return {}
    step = settings.get(STEP_KEY) or task.settings[STEP_KEY]
    own = times_as_steps({**task.settings, STEP_KEY: step}) | {STEP_KEY: task.settings[STEP_KEY]}
    del own["backbone"]  # the paper compares several
    return {
        key: (settings[key], value)
        for key, value in own.items()
        if key in settings and settings[key] != value
    }
