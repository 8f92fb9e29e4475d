"""Rules for the report of a round: allowed names, ranges, decimals, and the privacy guarantee.

Under privacy only `steps`, the guarantee and the numbers in site.toml's `allow` leave. The node
computes the guarantee from the run's settings; the app must report the same values, and the node's
are sent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from client.config.site_facts import SiteFacts
from client.egress.server_request import ServerRequest
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from client.privacy.run_plan import RunPlan, plan_of
from common.adapter.adapter import shown
from common.config.run_config import RunConfig
from common.data.vitals import VITAL_NAMES, VITALS

SIGNIFICANT = 6
"""Significant digits of a number that the policy does not round: all 53 bits could hold a text."""
WHOLE = frozenset({"patients", "windows", "validation-windows", "steps", "privacy.steps"})
"""Numbers of a round that are counts."""
GUARANTEE = "privacy."
"""Prefix of the numbers that state the privacy guarantee."""
NEVER_IN_A_ROUND = frozenset({"validation-windows"})
"""Numbers that `allow` may name and only a join reply has."""
ALWAYS_REPORTED = (
    *("patients", "windows", "steps", "loss"),
    *("seconds.validation", "seconds.training"),
)
"""Numbers of every round without privacy."""
_GUARANTEE_TOLERANCE = 1e-6
"""Largest relative difference between the app's guarantee and the node's."""

_DAY_S = 86_400.0
_MOST = 10_000_000
RANGES: Mapping[str, tuple[float, float]] = {
    "patients": (0, _MOST),
    "windows": (0, 100 * _MOST),
    "validation-windows": (0, 100 * _MOST),
    "steps": (0, _MOST),
    "loss": (-100.0, 1000.0),
    "seconds.validation": (0.0, _DAY_S),
    "seconds.training": (0.0, _DAY_S),
    "validation.wql": (0.0, 10.0),
    **{f"validation.wql.{vital.name}": (0.0, 10.0) for vital in VITALS},
    # The error of a possible forecast is at most the vital sign's range.
    **{f"validation.mae.{vital.name}": (0.0, vital.high - vital.low) for vital in VITALS},
}
"""Smallest and largest value of each number of `client.app.local_round.RoundReport`, and of the
counts in a join reply; other numbers do not leave."""


def planned_numbers(site: SiteFacts, config: RunConfig) -> tuple[str, ...]:
    """Return the names of the numbers that every round of this release reports.

    Under privacy, scores of vital signs are among them where `allow` names them and the run
    forecasts the vital. Without it they depend on the table.

    Args:
        site: the site's facts, with `allow`.
        config: the run's settings.
    """
    if not config.privacy.on:
        return ALWAYS_REPORTED
    vitals = config.windows.names()
    unused = tuple(f".{name}" for name in VITAL_NAMES if name not in vitals)
    named = sorted(name for name in site.allow - NEVER_IN_A_ROUND if not name.endswith(unused))
    guarantee = (f"{GUARANTEE}{name}" for name in plan_of(config).facts())
    return ("steps", *guarantee, *named)


def check_round_report(
    site: SiteFacts, request: ServerRequest, reported: Mapping[str, Any], policy: Policy
) -> dict[str, int | float]:
    """Return the numbers of a round as they may leave.

    Args:
        site: the site's facts.
        request: the request that is answered.
        reported: the app's report.
        policy: what may leave.

    Raises:
        RefusedError: if a number is not allowed, out of range, or contradicts the run's settings.
    """
    plan = plan_of(request.config) if request.private and request.config else None
    private = policy.privacy_required or plan is not None
    report: dict[str, int | float] = {}
    for name, value in reported.items():
        if name not in policy.metrics:
            raise RefusedError("metric", f"{shown(name)} is not among the policy's metrics")
        if private and not _may_leave_privately(name, site):
            raise RefusedError("metric", f"{name} is not in site.toml's allow, and privacy is on")
        if not name.startswith(GUARANTEE):
            report[name] = rounded(ranged(name, value), policy.metrics[name])
    if "steps" in reported:
        _check_steps(reported["steps"], request, plan)
    report |= _guarantee(reported, plan, policy)
    check_min_patients(site, reported.get("patients"), policy)
    return report


def _may_leave_privately(name: str, site: SiteFacts) -> bool:
    return name == "steps" or name.startswith(GUARANTEE) or name in site.allow


def ranged(name: str, value: Any) -> int | float:
    """Return a number after checking its type and range.

    Raises:
        RefusedError: if the name is unknown, the type wrong or the value out of range.
    """
    if name not in RANGES:
        raise RefusedError("metric", f"{shown(name)} is no number of this release")
    if type(value) is not int and (name in WHOLE or type(value) is not float):
        kind = "a count" if name in WHOLE else "a number"
        raise RefusedError("number", f"{shown(name)} is {shown(value)}, not {kind}")
    least, most = RANGES[name]
    if not least <= value <= most:
        raise RefusedError("number", f"{name} is {shown(value)}, not from {least:g} to {most:g}")
    checked: int | float = value
    return checked


def rounded(value: int | float, decimals: int | None) -> int | float:
    """Return a number with the decimals that the policy keeps; negative zero becomes zero."""
    if decimals is not None:
        return round(value, decimals) + 0
    return value if type(value) is int else float(f"{value:.{SIGNIFICANT}g}") + 0.0


def _check_steps(steps: object, request: ServerRequest, plan: RunPlan | None) -> None:
    """Check the number of steps; under privacy the run's settings alone determine it."""
    if plan is None:
        return
    expected = plan.round_steps.steps if request.kind == "train" else 0
    if steps != expected:
        raise RefusedError("number", f"steps is {shown(steps)}, the run's settings give {expected}")


def _guarantee(reported: Mapping[str, Any], plan: RunPlan | None, policy: Policy) -> dict[str, Any]:
    """Return the guarantee as the node computes it; the app must report the same."""
    names = {name for name in reported if name.startswith(GUARANTEE)}
    if plan is None:
        if policy.privacy_required:
            raise RefusedError(
                "privacy", "the run has no privacy guarantee; the policy requires one"
            )
        if names:
            raise RefusedError("privacy", f"{min(names)} is reported in a run without privacy")
        return {}
    expected = {f"{GUARANTEE}{name}": value for name, value in plan.facts().items()}
    if names != expected.keys():
        raise RefusedError("privacy", "the report does not state the whole guarantee")
    for name, value in expected.items():
        own = reported[name]
        if type(own) not in (int, float) or not math.isclose(
            own, value, rel_tol=_GUARANTEE_TOLERANCE
        ):
            raise RefusedError("privacy", f"{name} is {shown(own)}, the node computes {value:g}")
    check_guarantee(plan, policy)
    return {name: rounded(value, policy.metrics[name]) for name, value in expected.items()}


def check_guarantee(plan: RunPlan, policy: Policy) -> None:
    """Refuse a run whose guarantee is weaker than the policy allows for one run.

    Raises:
        RefusedError: if epsilon or delta is too large.
    """
    for name, value, most in (
        ("epsilon", plan.epsilon.prv, policy.max_epsilon),
        ("delta", plan.delta, policy.max_delta),
    ):
        if not 0 <= value <= most:
            raise RefusedError("privacy", f"{name} is {value:g}, the policy allows {most:g}")


def check_min_patients(site: SiteFacts, reported: object, policy: Policy) -> None:
    """Refuse a site that is too small by the node's count, or by the app's if it reports one.

    Raises:
        RefusedError: if there are fewer patients than the policy's minimum.
    """
    counts = [reported] if isinstance(reported, int | float) else []
    patients = min([site.patients, *counts])
    if patients < policy.min_patients:
        raise RefusedError(
            "patients", f"{patients:g} patients, the policy requires {policy.min_patients}"
        )


def report_capacity_bits(metrics: Mapping[str, int | None]) -> float:
    """Return an upper bound of the bits that an app could hide in the numbers of one report.

    Args:
        metrics: the numbers that leave, with the decimals kept; None = `SIGNIFICANT` digits. The
            guarantee does not count, since the node writes it.
    """
    return sum(
        math.log2(_possible_values(name, metrics[name])) for name in metrics if name in RANGES
    )


def _possible_values(name: str, decimals: int | None) -> float:
    """Return how many values a number of a report can take."""
    least, most = RANGES[name]
    if decimals is not None:
        return math.floor((most - least) * math.pow(10.0, decimals)) + 1
    if name in WHOLE:
        return most - least + 1
    # Each power of ten down to the smallest normal number, both signs, and zero.
    signs = 2 if least < 0 else 1
    return signs * 9 * math.pow(10.0, SIGNIFICANT - 1) * (308 + math.log10(most)) + 1
