"""The rules by which the numbers of a round leave: names, ranges, decimals, and the guarantee.

Under privacy nothing leaves but `steps`, the guarantee and what site.toml's `allow` names. The
guarantee is the node's own computation from the run's settings: the app has to state the same, and
what is sent is the node's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from client.config.site_facts import Site
from client.egress.privacy_budget import RunPlan, plan_of
from client.egress.server_request import Question
from client.policy.policy import Policy
from client.policy.refusal import RefusedError
from common.adapter.adapter import shown
from common.data.site_table import VITALS

SIGNIFICANT = 6
"""Digits of a number that the policy lets out as it is: all 53 bits have room for a text."""
WHOLE = frozenset({"patients", "windows", "validation-windows", "steps", "privacy.steps"})
"""Numbers of a round that are counts."""
GUARANTEE = "privacy."
_AGREES = 1e-6
"""Relative difference that the app's guarantee may have to the node's."""

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
    # No forecast of a possible value of a vital sign is off by more than its range.
    **{f"validation.mae.{vital.name}": (0.0, vital.high - vital.low) for vital in VITALS},
}
"""Least and largest value of each number of a round; what is not here does not leave."""


def check_report(
    site: Site, question: Question, said: Mapping[str, Any], policy: Policy
) -> dict[str, int | float]:
    """Return the numbers of a round as they may leave.

    Args:
        site: the site itself.
        question: what the server asked.
        said: the app's report.
        policy: what may leave.

    Raises:
        RefusedError: where a number is not allowed, out of range, or not what the settings say.
    """
    plan = plan_of(question.config) if question.private and question.config else None
    private = policy.privacy_required or plan is not None
    report: dict[str, int | float] = {}
    for name, value in said.items():
        if name not in policy.metrics:
            raise RefusedError("metric", f"{shown(name)} is not among the policy's metrics")
        if private and not _may_leave_privately(name, site):
            raise RefusedError("metric", f"{name} is not in site.toml's allow, and privacy is on")
        if not name.startswith(GUARANTEE):
            report[name] = rounded(ranged(name, value), policy.metrics[name])
    if "steps" in said:
        _check_steps(said["steps"], question, plan)
    report |= _guarantee(said, plan, policy)
    check_patients(site, said.get("patients"), policy)
    return report


def check_patients(site: Site, said: object, policy: Policy) -> None:
    """Refuse a site that is too small, by its own count and by the app's, which need not tell any.

    Raises:
        RefusedError: where there are fewer patients than the policy asks.
    """
    told = [said] if isinstance(said, int | float) else []
    patients = min([site.patients, *told])
    if patients < policy.min_patients:
        raise RefusedError(
            "patients", f"{patients:g} patients, the policy asks {policy.min_patients}"
        )


def ranged(name: str, value: Any) -> int | float:
    """Return a number that is of its kind and within its range.

    Raises:
        RefusedError: where it is not.
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
    """Return a number with the decimals that the policy keeps; there is no negative zero."""
    if decimals is not None:
        return round(value, decimals) + 0
    return value if type(value) is int else float(f"{value:.{SIGNIFICANT}g}") + 0.0


def capacity_bits(metrics: Mapping[str, int | None]) -> float:
    """Return the most bits that an app could hide in one report of some numbers.

    Args:
        metrics: the numbers that leave, with the decimals kept; None = `SIGNIFICANT` digits. The
            guarantee counts nothing, since the node writes it.
    """
    return sum(math.log2(_values(name, metrics[name])) for name in metrics if name in RANGES)


def _values(name: str, decimals: int | None) -> float:
    """How many values a number of a report may have."""
    least, most = RANGES[name]
    if decimals is not None:
        return math.floor((most - least) * math.pow(10.0, decimals)) + 1
    if name in WHOLE:
        return most - least + 1
    # Of each power of ten down to the smallest normal number, both signs, and zero.
    signs = 2 if least < 0 else 1
    return signs * 9 * math.pow(10.0, SIGNIFICANT - 1) * (308 + math.log10(most)) + 1


def _may_leave_privately(name: str, site: Site) -> bool:
    return name == "steps" or name.startswith(GUARANTEE) or name in site.allow


def _check_steps(steps: object, question: Question, plan: RunPlan | None) -> None:
    """Under privacy the settings alone decide the number of steps."""
    if plan is None:
        return
    due = plan.round_steps.steps if question.kind == "train" else 0
    if steps != due:
        raise RefusedError("number", f"steps is {shown(steps)}, the run's settings make it {due}")


def _guarantee(said: Mapping[str, Any], plan: RunPlan | None, policy: Policy) -> dict[str, Any]:
    """The guarantee as the node computes it; the app has to have stated the same."""
    stated = {name for name in said if name.startswith(GUARANTEE)}
    if plan is None:
        if policy.privacy_required:
            raise RefusedError("privacy", "the run promises no guarantee, and one is required")
        if stated:
            raise RefusedError("privacy", f"{min(stated)} is stated in a run without privacy")
        return {}
    due = {f"{GUARANTEE}{name}": value for name, value in plan.facts().items()}
    if stated != due.keys():
        raise RefusedError("privacy", "the guarantee is not stated in full")
    for name, value in due.items():
        told = said[name]
        if type(told) not in (int, float) or not math.isclose(told, value, rel_tol=_AGREES):
            raise RefusedError("privacy", f"{name} is {shown(told)}, the node computes {value:g}")
    check_guarantee(plan, policy)
    return {name: rounded(value, policy.metrics[name]) for name, value in due.items()}


def check_guarantee(plan: RunPlan, policy: Policy) -> None:
    """Refuse a run whose guarantee is weaker than the policy allows for one run.

    Raises:
        RefusedError: where epsilon or delta is too large.
    """
    for name, value, most in (
        ("epsilon", plan.epsilon.prv, policy.max_epsilon),
        ("delta", plan.delta, policy.max_delta),
    ):
        if not 0 <= value <= most:
            raise RefusedError("privacy", f"{name} is {value:g}, the policy allows {most:g}")
