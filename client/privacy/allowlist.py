"""Allowlist of the numbers that a private site may send besides its adapter.

The guarantee covers the adapter. It does not cover a loss, a count, a validation score or the time
that training took: each is computed from the patients without noise. With privacy on they are not
sent, unless the site itself names them in `allow`; then they are sent without noise, and the site
reports their names when it joins.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.data.vitals import VITAL_NAMES
from common.errors import PrivacyError, UsageError
from common.names import check_name

PUBLIC_NUMBERS = frozenset({"steps"})
"""Numbers that follow from the settings alone."""

PRIVATE_NUMBERS: tuple[str, ...] = (
    "loss",
    "patients",
    "windows",
    "validation-windows",
    "seconds.training",
    "seconds.validation",
    "validation.wql",
    *(f"validation.{metric}.{vital}" for metric in ("mae", "wql") for vital in VITAL_NAMES),
)
"""Numbers of `client.app.local_round.RoundReport` that depend on patients; seconds depend on the
amount of data."""


def allowed_numbers(numbers: Mapping[str, float], allow: str, *, private: bool) -> dict[str, float]:
    """Return the numbers of a report that may be sent.

    Args:
        numbers: the report's numbers by name.
        allow: the site's `allow`.
        private: True with privacy on; otherwise all numbers are sent.

    Raises:
        PrivacyError: as `parse_allow`.
    """
    sent = PUBLIC_NUMBERS | parse_allow(allow)
    return {name: value for name, value in numbers.items() if name in sent or not private}


def unprotected_outputs(allow: str, *, private: bool) -> tuple[str, ...]:
    """Return the names of the numbers that a site sends outside its privacy guarantee, sorted.

    Args:
        allow: the site's `allow`.
        private: True with privacy on; without it there is no guarantee, and the result is empty.

    Raises:
        PrivacyError: as `parse_allow`.
    """
    return tuple(sorted(parse_allow(allow))) if private else ()


def parse_allow(text: str) -> frozenset[str]:
    """Parse a site's `allow`: comma-separated names; `validation.*` matches a prefix.

    Returns:
        The names of `PRIVATE_NUMBERS` that are allowed.

    Raises:
        PrivacyError: where a name is unknown, or a prefix matches nothing.
    """
    allowed: set[str] = set()
    for given in (part.strip() for part in text.split(",")):
        if given.endswith("*"):
            found = [name for name in PRIVATE_NUMBERS if name.startswith(given[:-1])]
            if not found:
                raise PrivacyError(
                    f"allow names {given!r}, which matches nothing; known are: "
                    f"{', '.join(PRIVATE_NUMBERS)}"
                )
            allowed.update(found)
        elif given and given not in PUBLIC_NUMBERS:
            allowed.add(_known(given))
    return frozenset(allowed)


def _known(given: str) -> str:
    try:
        return check_name("number in allow", given, PRIVATE_NUMBERS)
    except UsageError as error:
        raise PrivacyError(str(error)) from error
