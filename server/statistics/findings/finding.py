"""A finding about a site's statistics."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """Consequence of a finding."""

    FEW = "too few"
    MEND = "mend first"
    LOOK = "look"
    UNKNOWN = "cannot be told"


@dataclass(frozen=True)
class SiteFinding:
    """A finding about one site.

    Attributes:
        site: place of the site in the comparison.
        level: its consequence.
        text: what was found, a sentence without its full stop; may hold the site's own text.
        remedy: what to do, likewise; empty for nothing.
        vitals: the vital signs that it is about.
        kind: short name, for the table of all sites.
    """

    site: int
    level: Level
    kind: str
    text: str
    remedy: str = ""
    vitals: tuple[str, ...] = ()
