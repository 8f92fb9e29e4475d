"""Format and zone of a column of times, found from its texts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from client.ingest.diagnostics.time_formats import number_format
from client.ingest.mapping.clock import EXCEL, ISO
from client.ingest.suggest.vital_names import folded
from client.ingest.timestamps import EXCEL_DAYS

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?)?(Z|[+-]\d{2}(:?\d{2})?)?")
_DATE = re.compile(
    r"(?P<a>\d{1,4})(?P<sep>[./-])(?P<b>\d{1,2})(?P=sep)(?P<c>\d{2,4})"
    r"(?P<gap>[ T,]+)?(?P<hm>\d{1,2}:\d{2})?(?P<s>:\d{2})?(?P<f>\.\d+)?"
    r"(?P<noon> ?[AaPp]\.?[Mm]\.?)?"
)
_COMPACT = {r"\d{14}": "%Y%m%d%H%M%S", r"\d{12}": "%Y%m%d%H%M", r"\d{8}": "%Y%m%d"}
_SHIFTED_YEAR = 2035


@dataclass(frozen=True)
class TimeGuess:
    """Format and zone of a column's times.

    Attributes:
        formats: `format` of the mapping.
        zone: `zone` of the mapping.
        why: reason for the format.
        zone_why: reason for the zone.
        is_sure: False if the format must be confirmed.
        is_zone_sure: False if the zone must be confirmed.
    """

    formats: tuple[str, ...]
    zone: str
    why: str
    zone_why: str
    is_sure: bool = True
    is_zone_sure: bool = True


def guess_time(column: str, texts: Sequence[str], *, is_date: bool) -> TimeGuess:
    """Return format and zone of a column.

    Args:
        column: its name.
        texts: distinct texts of it.
        is_date: whether the file has it as dates.
    """
    numbers = [float(text) for text in texts if re.fullmatch(r"-?\d+(\.\d+)?", text)]
    if is_date:
        return _with_zone((ISO,), texts, "dates in the file", sure=True)
    if texts and len(numbers) > 0.95 * len(texts):
        return _of_numbers(column, numbers, texts)
    if sum(bool(_ISO.fullmatch(text)) for text in texts) > 0.95 * len(texts):
        return _with_zone((ISO,), texts, "as 2024-03-31 14:05", sure=True)
    return _of_patterns(texts)


def _of_numbers(column: str, numbers: list[float], texts: Sequence[str]) -> TimeGuess:
    for pattern, form in _COMPACT.items():
        if all(re.fullmatch(pattern, text) and text[:2] in ("19", "20") for text in texts):
            return _with_zone((form,), texts, "digits of date and time", sure=True)
    name = folded(column)
    hours = re.search(r"hour|stunde|heure|iculos|\bh\b", name) is not None
    minutes = re.search(r"offset|minute|\bmin\b", name) is not None
    form = number_format(numbers)
    # Minutes of a stay are as large as Excel's days, but begin near its start.
    if form == EXCEL and min(numbers) >= EXCEL_DAYS and not (hours or minutes):
        return _with_zone((form,), (), "Excel's days, as 45292.5", sure=False)
    if form and form != EXCEL:
        return TimeGuess((form,), "UTC", "numbers since 1970", "such numbers are UTC")
    return TimeGuess(
        ("hours",) if hours and not minutes else ("minutes",),
        "UTC",
        "numbers from a moment of each stay; the unit is by the column's name",
        "times are relative, so no clock changes",
        is_sure=hours or minutes,
    )


def _with_zone(
    formats: tuple[str, ...], texts: Sequence[str], why: str, *, sure: bool
) -> TimeGuess:
    offsets = sum(bool(re.search(r":\d{2}(\.\d+)?(Z|[+-]\d{2}(:?\d{2})?)$", t)) for t in texts)
    if texts and offsets == len(texts):
        return TimeGuess(formats, "UTC", why, "each text has its offset", sure)
    years = [int(year) for text in texts if (year := _year(text))]
    if years and max(years) > _SHIFTED_YEAR:
        zone_why = "years in the future: dates shifted for privacy have no clock changes"
        return TimeGuess(formats, "UTC", why, zone_why, sure)
    zone_why = "the local time zone of the clock, e.g. Europe/Berlin; UTC if dates are shifted"
    return TimeGuess(formats, "UTC", why, zone_why, sure, is_zone_sure=False)


def _year(text: str) -> str:
    found = re.search(r"\b(1[89]|2\d)\d{2}\b", text) or re.match(r"(19|2\d)\d{2}", text)
    return found[0] if found else ""


def _of_patterns(texts: Sequence[str]) -> TimeGuess:
    found = [match for text in texts if (match := _DATE.fullmatch(text))]
    if len(found) < 0.5 * max(1, len(texts)):
        return TimeGuess(
            (ISO,), "UTC", "the texts are no known format; write a pattern as %d.%m.%Y %H:%M",
            "the local time zone, e.g. Europe/Berlin", is_sure=False, is_zone_sure=False,
        )  # fmt: skip
    year_first = sum(len(match["a"]) == 4 for match in found) > len(found) / 2
    day_first, why, sure = True, "year first", True
    if not year_first:
        day_first, why, sure = _order(found)
    shapes = Counter(_pattern(match, year_first, day_first) for match in found)
    formats = tuple(shape for shape, _ in shapes.most_common(4))
    return _with_zone(formats, texts, why, sure=sure)


def _order(found: Sequence[re.Match[str]]) -> tuple[bool, str, bool]:
    """Return whether the day is first, why, and whether that is sure."""
    firsts, seconds = (sum(int(match[part]) > 12 for match in found) for part in "ab")
    if firsts and not seconds:
        return True, "the first number exceeds 12: the day", True
    if seconds and not firsts:
        return False, "the second number exceeds 12: the day", True
    if firsts and seconds:
        return True, "BOTH numbers exceed 12 in some rows: day and month are mixed", False
    if found[0]["sep"] == ".":
        return True, "points: the day is first", True
    return True, "no number exceeds 12: is the day or the month first? %m/%d is the other", False


def _pattern(match: re.Match[str], year_first: bool, day_first: bool) -> str:
    sep = match["sep"]
    if year_first:
        date = f"%Y{sep}%m{sep}%d"
    else:
        year = "%Y" if len(match["c"]) == 4 else "%y"
        date = f"%d{sep}%m{sep}{year}" if day_first else f"%m{sep}%d{sep}{year}"
    if not match["hm"]:
        return date
    gap = match["gap"] or " "
    time = "%I:%M" if match["noon"] else "%H:%M"
    time += (":%S" if match["s"] else "") + (".%f" if match["f"] else "")
    return f"{date}{gap}{time}" + (
        f"{' ' if match['noon'][0] == ' ' else ''}%p" if match["noon"] else ""
    )
