"""Lengths of time in settings, converted to time steps: the one place where hours become steps."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from common.errors import UsageError

STEP_KEY = "step-minutes"
STEP_COUNTS = ("windows.context", "windows.horizon", "windows.stride", "windows.min-context")
"""Settings that count time steps, and may be given as a time instead."""

_TIME = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?) *(h|min)")
_MINUTES = {"h": 60, "min": 1}


def times_as_steps(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat settings with every time, such as ``6h`` or ``90min``, as a number of steps.

    Args:
        pairs: flat settings; a time needs `step-minutes` among them.

    Raises:
        UsageError: the step length is not given, or a time is no whole number of steps.
    """
    return {
        key: _steps(key, time, pairs) if (time := _time(key, value)) is not None else value
        for key, value in pairs.items()
    }


def _time(key: str, value: Any) -> re.Match[str] | None:
    """Return the parts of a time; None for any other value, which is checked as a number."""
    return _TIME.fullmatch(value) if key in STEP_COUNTS and isinstance(value, str) else None


def _steps(key: str, time: re.Match[str], pairs: Mapping[str, Any]) -> int:
    length = str(pairs.get(STEP_KEY, 0))
    if not re.fullmatch("[1-9][0-9]{0,3}", length):
        raise UsageError(
            f"{key} = {time[0]} is a time and needs the length of a step: give -c {STEP_KEY}=5, "
            "or a number of steps"
        )
    steps = float(time[1]) * _MINUTES[time[2]] / int(length)
    if steps < 1 or steps != round(steps):
        raise UsageError(
            f"{key} = {time[0]} is no whole number of steps of {length} minutes; give a multiple, "
            "or a number of steps"
        )
    return round(steps)
