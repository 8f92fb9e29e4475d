"""What may leave a private site beside its adapter: nothing that counts or scores its patients.

The adapter is covered by the guarantee. A loss, a count, a validation score and the time that
training took are not: each is computed from the patients without noise. So with privacy on they
stay, unless the site itself names them in `allow`; then they leave as they are, and it is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.data.site_table import VITAL_NAMES
from common.errors import PrivacyError, UsageError
from common.names import check_name

PUBLIC_NUMBERS = frozenset({"steps"})
"""Known to everyone before the round: the settings alone decide them."""

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
"""Numbers that depend on patients, as a report names them; seconds tell how much data there is."""


@dataclass(frozen=True)
class Release:
    """Numbers that may leave.

    Attributes:
        numbers: what may leave.
        outside: the names among them that no guarantee covers; none where privacy is off.
        sentence: the same in plain words, for the log, the report and the model card; empty where
            privacy is off.
    """

    numbers: dict[str, float]
    outside: tuple[str, ...]
    sentence: str


def parse_allow(text: str) -> frozenset[str]:
    """Read a site's `allow`: names with commas between; `validation.*` is all that begin so.

    Returns:
        The names of `PRIVATE_NUMBERS` that are allowed.

    Raises:
        PrivacyError: where a name is unknown, or a star matches nothing.
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


def release(
    numbers: Mapping[str, float], allow: str, *, private: bool, site: str = "this site"
) -> Release:
    """Choose what of a report may leave.

    Args:
        numbers: the report's numbers by name.
        allow: the site's `allow`.
        private: whether privacy is on; off, everything leaves.
        site: the site's name, for the sentence.

    Raises:
        PrivacyError: where `allow` names what does not exist.
    """
    allowed = parse_allow(allow)
    if not private:
        return Release(dict(numbers), (), "")
    leaving = {
        name: value for name, value in numbers.items() if name in allowed or name in PUBLIC_NUMBERS
    }
    outside = tuple(sorted(leaving.keys() - PUBLIC_NUMBERS))
    return Release(leaving, outside, _sentence(site, outside))


def _sentence(site: str, outside: tuple[str, ...]) -> str:
    if not outside:
        return f"{site} sends no number that depends on its patients but the noisy adapter."
    return (
        f"By its own choice {site} also sends {', '.join(outside)}, computed from its patients "
        "without noise: the guarantee does not cover these numbers."
    )


def _known(given: str) -> str:
    try:
        return check_name("number in allow", given, PRIVATE_NUMBERS)
    except UsageError as error:
        raise PrivacyError(str(error)) from error
