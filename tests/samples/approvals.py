"""Approvals of app bundles that hold today, for tests whose subject is something else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

NOW = datetime.now(UTC).replace(microsecond=0)
STUDY = "a test"
UNTIL = (NOW + timedelta(days=300)).date().isoformat()


def approved(sha256: str, **others: str) -> str:
    """Return the entry of a bundle in policy.toml.

    Args:
        sha256: of the bundle.
        others: keys with another value than usual, or more keys; `_` stands for `-`.
    """
    keys = {
        "name": "fedvitals",
        "study": STUDY,
        "until": UNTIL,
        "approved_by": "A. Meyer",
        "approved_at": (NOW - timedelta(days=30)).isoformat(),
        **others,
    }
    lines = [f'{key.replace("_", "-")} = "{value}"\n' for key, value in keys.items()]
    return f'[[bundles]]\nsha256 = "{sha256}"\n{"".join(lines)}'


def asking(policy: str, *lines: str) -> str:
    """Return a policy whose section [approval] has these lines, and defaults for the rest."""
    kept = re.sub(r"^\[approval\]\n(?:(?!\[).*\n)*", "", policy, flags=re.MULTILINE)
    return "\n".join(["[approval]", *lines, "", kept])
