"""Formats that read a sample of texts of times: patterns, numbers since 1970, Excel's days."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import median

import duckdb

from client.ingest.duckdb_helpers import literal
from client.ingest.mapping.clock import EPOCHS, EXCEL, swapped
from client.ingest.timestamps import EPOCH_LIMIT, FIRST_YEAR, LAST_YEAR, epoch_format

ENOUGH = 0.95
"""Least share of a sample that a format must read."""

_DATES = ("%d-%m-%Y", "%m-%d-%Y", "%Y-%m-%d", "%Y-%d-%m", "%d-%m-%y", "%m-%d-%y")
_NAMED = ("%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d%b%Y", "%b %d %Y", "%d-%B-%Y", "%d %B %Y")
_COMPACT = ("%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S", "%Y%m%d %H%M", "%Y%m%d %H:%M", "%d%m%Y")
_HOURS = ("%H:%M:%S", "%H:%M", "%I:%M:%S %p", "%I:%M %p", "%H:%M:%S.%f", "%H.%M", "%H%M", "%H")
_GAPS = (" ", "T", ", ", ":")
_EXCEL_LOW, _EXCEL_HIGH = 366, 146_098
_EPOCH_LEAST = 3e8


def guess_formats(
    connection: duckdb.DuckDBPyConnection, texts: Sequence[str]
) -> tuple[tuple[str, ...], ...]:
    """Return the formats that read nearly all texts.

    Args:
        connection: any database; nothing is written.
        texts: a sample of the texts.

    Returns:
        Nothing if none is known; one format, of several patterns where the texts have several; or
        two, if day and month may be exchanged.
    """
    if numbers := _numbers(texts):
        compact = _best(connection, texts, _COMPACT)
        if compact[1] >= ENOUGH:
            return ((compact[0],),)
        number = number_format(numbers)
        return ((number,),) if number else ()
    patterns = list(_patterns(texts))
    found: list[str] = []
    left = list(texts)
    while left and len(found) < 3:
        # Never both orders of day and month: the first would read all days up to 12.
        allowed = [one for one in patterns if swapped(one) not in found or one in found]
        pattern, share = _best(connection, left, allowed)
        if not share:
            return ()
        found.append(pattern)
        left = [text for text in left if not _read(connection, [text], pattern)]
        if len(left) <= (1 - ENOUGH) * len(texts):
            break
    others = tuple(map(swapped, found))
    if not found or len(left) > (1 - ENOUGH) * len(texts):
        return ()
    if others == tuple(found) or swapped(found[0]) not in patterns:
        return (tuple(found),)
    is_either = all(any(_read(connection, [text], one) for one in others) for text in texts)
    return (tuple(found), others) if is_either else (tuple(found),)


def _numbers(texts: Sequence[str]) -> list[float]:
    """Return the texts as numbers, if nearly all are."""
    numbers = []
    for text in texts:
        try:
            numbers.append(abs(float(text)))
        except ValueError:
            continue
    return numbers if len(numbers) >= ENOUGH * len(texts) else []


def number_format(numbers: Sequence[float]) -> str:
    """Return the format of absolute times that are numbers, by their size; empty if none fits."""
    size = median(numbers)
    if _EXCEL_LOW < size < _EXCEL_HIGH:
        return EXCEL
    is_epoch = _EPOCH_LEAST <= size < EPOCH_LIMIT * 1000 ** (len(EPOCHS) - 1)
    return epoch_format(size) if is_epoch else ""


def _patterns(texts: Sequence[str]) -> list[str]:
    """Return the patterns that the texts' separators allow, dates without a time included."""
    signs = [sign for sign in "-/." if any(sign in text for text in texts)]
    dates = [date.replace("-", sign) for sign, date in itertools.product(signs, _DATES)]
    if any(text[:1].isalpha() or any(map(str.isalpha, text[2:])) for text in texts):
        dates += [
            date.replace("-", sign) for sign, date in itertools.product([*signs, "-"], _NAMED)
        ]
    times = [f"{gap}{hours}" for gap, hours in itertools.product(_GAPS, _HOURS)]
    whole = [f"{date}{time}" for date, time in itertools.product(dates, ["", *times])]
    return list(dict.fromkeys([*whole, *_COMPACT]))


def _best(
    connection: duckdb.DuckDBPyConnection, texts: Sequence[str], patterns: Sequence[str]
) -> tuple[str, float]:
    """Return the pattern that reads most texts, of several the first, and its share."""
    shares = {pattern: _read(connection, texts, pattern) / len(texts) for pattern in patterns}
    best = max(shares, key=lambda pattern: shares[pattern])
    return best, shares[best]


def _read(connection: duckdb.DuckDBPyConnection, texts: Sequence[str], pattern: str) -> int:
    rows = connection.execute(
        f"SELECT count(*) FROM (SELECT try_strptime(unnest(?), {literal(pattern)}) AS moment) "
        f"WHERE year(moment) BETWEEN {FIRST_YEAR} AND {LAST_YEAR - 1}",
        [list(texts)],
    ).fetchall()
    return int(rows[0][0])
