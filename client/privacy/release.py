"""What may leave a site besides its adapter when privacy is on: what depends on no patient.

Counts, losses, validation scores and seconds are functions of the patients' records that no noise
covers. They stay, unless the site itself allows them by name; then they are outside the guarantee,
and this is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.config import PrivacyConfig
from common.names import check_name
from common.vitals import VITAL_NAMES

PUBLIC = frozenset({"steps"})
"""Known from the settings alone."""

ALLOWABLE = (
    "patients",
    "windows",
    "validation-windows",
    "loss",
    "seconds.validation",
    "seconds.training",
    "validation.wql",
    *(f"validation.{metric}.{vital}" for metric in ("mae", "wql") for vital in VITAL_NAMES),
)
"""What a site may allow by name; a name that ends in ``*`` stands for all that begin like it."""


def released(
    numbers: Mapping[str, float | int], privacy: PrivacyConfig, allow: Sequence[str]
) -> dict[str, float | int]:
    """Return the numbers that may leave.

    Args:
        numbers: all that there are, by name.
        privacy: whether the run promises a guarantee; without one all may leave.
        allow: what the site allows by name, e.g. ``validation.wql`` or ``validation.*``.

    Raises:
        UsageError: where a name is allowed that does not exist.
    """
    if not privacy.on:
        return dict(numbers)
    free = PUBLIC | allowed_names(allow)
    return {name: value for name, value in numbers.items() if name in free}


def spoken(privacy: PrivacyConfig, allow: Sequence[str]) -> str:
    """Return in words what is outside the guarantee; empty where nothing is."""
    if not privacy.on or not allow:
        return ""
    allowed_names(allow)
    return f"{', '.join(sorted(allow))}: allowed by the site, outside the guarantee"


def allowed_names(allow: Sequence[str]) -> frozenset[str]:
    """Return every single name that a site's list stands for; errors as `released`."""
    names: set[str] = set()
    for name in allow:
        alike = {one for one in ALLOWABLE if name.endswith("*") and one.startswith(name[:-1])}
        if not alike:
            check_name("number that a site may allow", name, ALLOWABLE)
        names |= alike or {name}
    return frozenset(names)
