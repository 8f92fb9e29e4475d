"""Whether an app bundle may run, and for how long yet."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from client.policy.policy import Policy
from client.preflight.finding import Finding, ok, warn

SOON = timedelta(days=14)
"""So long before an approval ends, preflight warns."""


def check_approvals(path: Path, policy: Policy, now: datetime) -> Finding:
    """Give the finding about the bundles of a policy.

    Args:
        path: the policy's file.
        policy: what it says.
        now: the moment, with its offset.
    """
    reasons = {one: policy.refusal(one, now) for one in policy.bundles}
    usable = [policy.bundles[one] for one, reason in reasons.items() if reason is None]
    command = f"python -m client approve BUNDLE --policy {path}"
    if not usable:
        what = "; ".join(reason for reason in reasons.values() if reason) or "none is in it"
        return warn("policy", f"{path} lets no app bundle run: {what}", command)
    first = min(usable, key=lambda bundle: bundle.end)
    what = f"{path}, {len(usable)} app bundles may run, {first.name} until {first.last}"
    if first.end - now < SOON:
        return warn("policy", what, f"if the study goes on: {command} --renew --until DATE")
    return ok("policy", what)
