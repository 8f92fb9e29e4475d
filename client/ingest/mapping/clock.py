"""`[time]` of mapping.toml: the formats of times, and the clock that they were read from."""

from __future__ import annotations

import zoneinfo
from difflib import get_close_matches
from typing import Annotated

from pydantic import AfterValidator

from client.ingest.mapping.text_lists import TextList
from common.config.error_line import value_text
from common.config.field_types import OneOf, Parsed, invalid
from common.config.strict_model import StrictModel
from common.errors import UsageError

ISO = "iso"
EPOCHS = {"epoch-s": 1_000_000, "epoch-ms": 1_000, "epoch-us": 1, "epoch-ns": 0.001}
"""Formats of times that are numbers, with the microseconds of their unit."""

EPOCH, EXCEL = "epoch", "excel"
"""Numbers since 1970 in a unit told by their size; days since the end of 1899, as Excel counts."""
OFFSETS = {"seconds": 1_000_000, "minutes": 60_000_000, "hours": 3_600_000_000}
"""Formats of times that count from a moment of each stay, such as its admission."""


def _zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        # Not by OneOf, which would list six hundred zones.
        near = get_close_matches(text[:100], zoneinfo.available_timezones(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "take an IANA name, e.g. Europe/London"
        raise UsageError(f"is not a time zone, got {value_text(text)}; {hint}") from None
    return text


def _formats(formats: tuple[str, ...]) -> tuple[str, ...]:
    patterns = [text for text in formats if "%" in text]
    words = (ISO, EPOCH, *EPOCHS, EXCEL, *OFFSETS)
    if not patterns and (len(formats) != 1 or formats[0] not in words):
        raise invalid(
            f"is {', '.join(words)} or a pattern as %d.%m.%Y %H:%M, "
            f"got {' and '.join(map(value_text, formats))}"
        )
    twice = next((one for one in patterns if swapped(one) in patterns), None)
    if twice is not None and twice != swapped(twice):
        raise invalid(
            f"has day and month in both orders, {value_text(twice)} and "
            f"{value_text(swapped(twice))}; 03/04 would be read by the first alone: give one"
        )
    if patterns and len(patterns) < len(formats):
        raise invalid("must all be patterns where it is several")
    return formats


def swapped(pattern: str) -> str:
    """Return a pattern of times with day and month exchanged, if it has both as numbers."""
    if "%d" not in pattern or "%m" not in pattern:
        return pattern
    return "%d".join(part.replace("%d", "%m") for part in pattern.split("%m"))


class Clock(StrictModel):
    """`[time]`: how times are written, and the clock that they were read from.

    Attributes:
        zone: an IANA name as ``Europe/London``; ``UTC`` takes times without an offset as they are,
            which is right for dates shifted for privacy. A time with an offset is taken by that.
        format: ``iso``; a number since 1970 as ``epoch-s``, ``epoch-ms``, ``epoch-us``,
            ``epoch-ns``, or ``epoch``, whose unit is told by its size; Excel's days as ``excel``;
            one or several patterns as ``%d.%m.%Y %H:%M``, those with ``%z`` beside others; or
            for times that count from a moment of each stay, such as its admission, ``seconds``,
            ``minutes`` or ``hours``.
        fold: reading of the hour that the clocks pass twice in autumn.
        gap: reading of the hour that the clocks skip in spring; ``shift`` reads it by the clock
            that was not yet put forward.
    """

    zone: Annotated[str, Parsed(_zone)]
    format: Annotated[TextList, AfterValidator(_formats)] = (ISO,)
    fold: Annotated[str, OneOf(("drop", "first", "second"))] = "drop"
    gap: Annotated[str, OneOf(("drop", "shift"))] = "drop"

    @property
    def is_number(self) -> bool:
        """True where times are numbers."""
        return self.format[0] in (*EPOCHS, *OFFSETS)

    @property
    def is_offset(self) -> bool:
        """True where times count from a moment of each stay."""
        return self.format[0] in OFFSETS
