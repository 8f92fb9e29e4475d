"""The numbers that a site reports of its round, checked one by one.

With differential privacy on, a site sends what depends on no patient (steps, and what its guarantee
is) and, beyond that, only what its own policy allows by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.config.run_config import PrivacyConfig
from common.data.site_table import VITAL_NAMES
from server.rounds.site_registry import Member

MAX_TEXT = 200
"""Text from a site ends in our logs, records and report: no longer than this."""

VALIDATION_KEYS = frozenset(
    {"wql"} | {f"{metric}.{vital}" for metric in ("mae", "wql") for vital in VITAL_NAMES}
)
SECONDS_KEYS = frozenset({"validation", "training"})
PRIVACY_KEYS = frozenset(
    {"epsilon", "epsilon-rdp", "delta", "noise-multiplier", "sample-rate", "clip-norm", "steps"}
)
COUNT_KEYS = frozenset({"patients", "windows", "steps", "loss"})


class RefusedError(Exception):
    """A reply that must not be used; the message is the reason."""


@dataclass(frozen=True)
class SiteReport:
    """A site's numbers of one round, checked; what it keeps to itself is None or empty.

    Attributes:
        steps: optimiser steps.
        patients: training patients, as many as when the site joined.
        windows: training windows.
        loss: mean training loss.
        validation: metrics of the adapter as the site received it, by `VALIDATION_KEYS`.
        seconds: wall time, by `SECONDS_KEYS`.
        privacy: the guarantee of the site's whole run, by `PRIVACY_KEYS`; empty without one.
    """

    steps: int
    patients: int | None = None
    windows: int | None = None
    loss: float | None = None
    validation: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    privacy: dict[str, float] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return what rounds.jsonl keeps: all that the site told."""
        told = {key: value for key, value in vars(self).items() if value is not None}
        return told if self.privacy else {k: v for k, v in told.items() if k != "privacy"}


def check_report(values: Mapping[str, Any], member: Member, privacy: PrivacyConfig) -> SiteReport:
    """Read a site's numbers.

    Args:
        values: as they arrived.
        member: what the site said of itself when it joined.
        privacy: the guarantee that the run promises, if it promises one.

    Raises:
        RefusedError: where one is absent, unknown, not finite or impossible.
    """
    for name, value in values.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise RefusedError(f"the value of {name} is not a finite number")
    groups = _grouped(values)
    for name in ("steps",) if privacy.on else sorted(COUNT_KEYS):
        if name not in groups[""]:
            raise RefusedError(f"the report lacks {name}")
    if privacy.on:
        _check_guarantee(groups["privacy"], privacy)
    counts = groups[""]
    # A site's weight in the average is its number of patients: it was said once and stands.
    if "patients" in counts and counts["patients"] != member.patients:
        raise RefusedError(
            f"it reports {counts['patients']:.0f} patients, {member.patients} when it joined"
        )
    return SiteReport(
        steps=int(counts["steps"]),
        patients=int(counts["patients"]) if "patients" in counts else None,
        windows=int(counts["windows"]) if "windows" in counts else None,
        loss=counts.get("loss"),
        validation=groups["validation"],
        seconds=groups["seconds"],
        privacy=groups["privacy"] if privacy.on else {},
    )


def _check_guarantee(said: Mapping[str, float], privacy: PrivacyConfig) -> None:
    """The site's guarantee is complete and no weaker than what the run promises for it."""
    if said.keys() != PRIVACY_KEYS:
        raise RefusedError("the report lacks the site's privacy guarantee, or garbles it")
    due = {
        "delta": privacy.delta,
        "sample-rate": privacy.sample_rate,
        "clip-norm": privacy.clip_norm,
    }
    for name, value in due.items():
        if said[name] != value:
            raise RefusedError(f"its privacy.{name} is {said[name]:g}, the run's {value:g}")
    if privacy.epsilon and said["epsilon"] > privacy.epsilon * (1 + 1e-6):
        raise RefusedError(
            f"its epsilon is {said['epsilon']:g}, the run promises {privacy.epsilon:g}"
        )
    if said["noise-multiplier"] < privacy.noise_multiplier * (1 - 1e-6):
        raise RefusedError(
            f"its noise multiplier is {said['noise-multiplier']:g}, the run's "
            f"{privacy.noise_multiplier:g}"
        )


def _grouped(values: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The numbers by the part of their name before the first dot; none that nobody asked for."""
    known = {
        "": COUNT_KEYS,
        "validation": VALIDATION_KEYS,
        "seconds": SECONDS_KEYS,
        "privacy": PRIVACY_KEYS,
    }
    groups: dict[str, dict[str, float]] = {group: {} for group in known}
    for name, value in sorted(values.items()):
        group, dot, rest = name.partition(".")
        if not dot:
            group, rest = "", name
        if rest not in known.get(group, ()):
            raise RefusedError(f"the report holds {name}, which nobody asked for")
        groups[group][rest] = float(value)
    return groups
