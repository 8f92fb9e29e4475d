"""Every reply is checked before it can touch the average; one refused is named with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common.adapter import Adapter
from common.errors import AdapterError

MAX_TEXT = 200
"""Reasons come partly from the sites and end in our logs: no longer than this."""


@dataclass(frozen=True)
class Report:
    """A site's numbers of one round, checked.

    Attributes:
        patients: training patients, above zero.
        windows: training windows.
        steps: optimiser steps.
        loss: mean training loss.
        validation: metrics of the adapter as the site received it.
        seconds: wall time by part.
    """

    patients: int
    windows: int
    steps: int
    loss: float
    validation: dict[str, float]
    seconds: dict[str, float]


class RefusedError(Exception):
    """A reply that must not be used; the message is the reason."""


def check_report(values: Mapping[str, Any]) -> Report:
    """Read a site's numbers.

    Args:
        values: as they arrived.

    Raises:
        RefusedError: where one is absent, not finite or impossible.
    """
    for name, value in values.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise RefusedError(f"the value of {name[:MAX_TEXT]} is not a finite number")
    for name in ("patients", "windows", "steps", "loss"):
        if name not in values:
            raise RefusedError(f"the report lacks {name}")
    if values["patients"] < 1:
        raise RefusedError(f"it reports {values['patients']} patients")
    return Report(
        patients=int(values["patients"]),
        windows=int(values["windows"]),
        steps=int(values["steps"]),
        loss=float(values["loss"]),
        validation=_below(values, "validation."),
        seconds=_below(values, "seconds."),
    )


def check_adapter(adapter: Adapter, reference: Adapter, site: str) -> None:
    """Check that a site's adapter can be averaged with the others'.

    Args:
        adapter: as decoded from the wire, which has checked types, shapes and finiteness.
        reference: the adapter that the round began with.
        site: the site's name.

    Raises:
        RefusedError: where settings, names, shapes or the backbone differ, or a number is not
            finite.
    """
    try:
        adapter.check_compatible(reference, sender=f"site {site!r}")
    except AdapterError as error:
        raise RefusedError(str(error)) from error
    if not adapter.is_finite():
        raise RefusedError(f"the adapter holds NaN or infinity in {adapter.first_nonfinite()}")


def _below(values: Mapping[str, Any], prefix: str) -> dict[str, float]:
    return {
        name.removeprefix(prefix): float(value)
        for name, value in sorted(values.items())
        if name.startswith(prefix)
    }
