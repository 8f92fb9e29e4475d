"""Validation of the metrics that a site reports after a round.

With differential privacy on, a site sends the metrics that depend on no patient (steps and its
guarantee) and, beyond that, only the metrics on its own policy's allowlist.

The sites compute the metrics in `client.app.local_round`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from common.config.run_config import PrivacyConfig
from common.data.vitals import VITAL_NAMES
from server.rounds.site_registry import Member

MAX_TEXT = 200
"""Longest text from a site that enters logs, records and the report."""

VALIDATION_KEYS = frozenset(
    {"wql"} | {f"{metric}.{vital}" for metric in ("mae", "wql") for vital in VITAL_NAMES}
)
SECONDS_KEYS = frozenset({"validation", "training"})
PRIVACY_KEYS = frozenset(
    {"epsilon", "epsilon-rdp", "delta", "noise-multiplier", "sample-rate", "clip-norm", "steps"}
)
COUNT_KEYS = frozenset({"patients", "windows", "steps", "loss"})


class ReplyRefusedError(Exception):
    """A reply is refused; the message is the reason."""


@dataclass(frozen=True)
class SiteReport:
    """Validated metrics of a site's round; metrics that it does not report are None or empty.

    Attributes:
        steps: optimizer steps.
        patients: training patients, the number that the site joined with.
        windows: training windows.
        loss: mean training loss.
        validation: metrics of the adapter that the site received, by `VALIDATION_KEYS`.
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
        """Return the metrics for rounds.jsonl."""
        reported = {key: value for key, value in vars(self).items() if value is not None}
        return reported if self.privacy else {k: v for k, v in reported.items() if k != "privacy"}


def validate_report(
    values: Mapping[str, Any], member: Member, privacy: PrivacyConfig
) -> SiteReport:
    """Validate a site's metrics.

    Args:
        values: the metrics as they arrived.
        member: the site as it joined.
        privacy: the guarantee that the run promises, if any.

    Raises:
        ReplyRefusedError: a metric is missing, unknown, not finite or impossible, or the guarantee
            is weaker than the run's.
    """
    for name, value in values.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ReplyRefusedError(f"the value of {name} is not a finite number")
    groups = _grouped(values)
    for name in ("steps",) if privacy.on else sorted(COUNT_KEYS):
        if name not in groups[""]:
            raise ReplyRefusedError(f"the report lacks {name}")
    if privacy.on:
        _check_guarantee(groups["privacy"], privacy)
    counts = groups[""]
    # The number of patients is the site's weight, and may not change after it joined.
    if "patients" in counts and counts["patients"] != member.patients:
        raise ReplyRefusedError(
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


def _check_guarantee(reported: Mapping[str, float], privacy: PrivacyConfig) -> None:
    """Check that the site's guarantee is complete and no weaker than the run promises."""
    if reported.keys() != PRIVACY_KEYS:
        raise ReplyRefusedError("the report lacks the site's privacy guarantee, or part of it")
    expected = {
        "delta": privacy.delta,
        "sample-rate": privacy.sample_rate,
        "clip-norm": privacy.clip_norm,
    }
    for name, value in expected.items():
        if reported[name] != value:
            raise ReplyRefusedError(
                f"its privacy.{name} is {reported[name]:g}, the run's {value:g}"
            )
    if privacy.epsilon and reported["epsilon"] > privacy.epsilon * (1 + 1e-6):
        raise ReplyRefusedError(
            f"its epsilon is {reported['epsilon']:g}, the run promises {privacy.epsilon:g}"
        )
    if reported["noise-multiplier"] < privacy.noise_multiplier * (1 - 1e-6):
        raise ReplyRefusedError(
            f"its noise multiplier is {reported['noise-multiplier']:g}, the run's "
            f"{privacy.noise_multiplier:g}"
        )


def _grouped(values: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The metrics by the part of their name before the first dot; unknown names are refused."""
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
            raise ReplyRefusedError(f"the report contains the unknown metric {name}")
        groups[group][rest] = float(value)
    return groups
