"""Counts of the measurements that an ingest dropped, by reason, with examples.

Examples are texts of the table itself. They are in `ingest.json` and in what `client check` prints,
both at the site; nothing sends them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import duckdb

from client.ingest.duckdb_helpers import only_row
from client.ingest.reshape.drop_reasons import DROP_REASONS, UNREADABLE, reason
from client.ingest.sources.source import Source
from common.data.vitals import VITAL_NAMES

Examples = dict[tuple[int, int], list[str]]
"""By code and reason: the first and the last text, in alphabetical order."""


def unknown_rows(connection: duckdb.DuckDBPyConnection, sources: list[Source]) -> int:
    """Return the number of rows of long sources whose code is not in the mapping."""
    (known,) = only_row(connection, "SELECT count(*) FROM staged")
    return sum(source.rows for source in sources) - int(known)


def find_examples(connection: duckdb.DuckDBPyConnection) -> Examples:
    """Return texts that were not understood, from `staged`; none is an id of a patient or stay."""
    rows = connection.execute(
        """
        SELECT code, reason, min(note), max(note) FROM staged
        WHERE reason IS NOT NULL AND note IS NOT NULL GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    texts = {text for row in rows for text in row[2:]}
    # A mapping that takes the column of ids for values must not put them into the record.
    secret = _ids_among(connection, texts)
    return {
        (code, why): [text for text in dict.fromkeys(found) if text not in secret]
        for code, why, *found in rows
    }


def _ids_among(connection: duckdb.DuckDBPyConnection, texts: Iterable[str]) -> set[str]:
    given = list(texts)
    if not given:
        return set()
    rows = connection.execute(
        "SELECT DISTINCT id FROM (SELECT patient AS id FROM staged WHERE patient IN "
        "(SELECT unnest(?)) UNION ALL SELECT stay FROM staged WHERE stay IN (SELECT unnest(?)))",
        [given, given],
    ).fetchall()
    return {row[0] for row in rows}


def count_dropped(
    connection: duckdb.DuckDBPyConnection, examples: Examples
) -> tuple[dict[str, dict[str, int]], list[dict[str, Any]]]:
    """Count the measurements: read, dropped by reason, and used.

    Args:
        connection: has the tables of `stays.assign_stays` and `selection.keep_stays`.
        examples: from `find_examples`.

    Returns:
        By vital: `read`, the `DROP_REASONS` that occur, and `used`; all but `read` sum up to it.
        And by code or column: a list of `vital`, `source` (the code or the column), `reason`,
        `count`, `of` (the source's measurements) and `examples`.
    """
    counts: dict[str, dict[str, int]] = {}
    losses = []
    for code, text, vital, by_reason, used in _by_code(connection):
        read = sum(by_reason.values()) + used
        of_vital = counts.setdefault(VITAL_NAMES[vital], {"read": 0})
        of_vital["read"] += read
        for why, count in [*by_reason.items(), ("used", used)]:
            of_vital[why] = of_vital.get(why, 0) + count
        losses += [
            {
                "vital": VITAL_NAMES[vital],
                "source": text,
                "reason": why,
                "count": count,
                "of": read,
                "examples": examples.get((code, reason(why)), []),
            }
            for why, count in by_reason.items()
        ]
    order = ("read", *DROP_REASONS, "used")
    return {
        name: {why: counts[name][why] for why in order if why in counts[name]}
        for name in VITAL_NAMES
        if name in counts
    }, losses


def _by_code(
    connection: duckdb.DuckDBPyConnection,
) -> list[tuple[int, str, int, dict[str, int], int]]:
    """Return of each code: number, text, vital, count by reason, and the measurements used."""
    rows = connection.execute(
        f"""
        SELECT m.code, c.text, c.vital, CASE WHEN m.reason IS NULL AND k.stay IS NULL
                THEN {reason("in a stay left out")} ELSE m.reason END AS why,
            count(*), CAST(sum(m.copies - 1) AS BIGINT)
        FROM measured m JOIN codes c ON m.code = c.code LEFT JOIN kept k ON m.stay = k.stay
        GROUP BY ALL ORDER BY m.code, why"""
    ).fetchall()
    found: dict[int, tuple[str, int, dict[str, int], int]] = {}
    for code, text, vital, why, distinct, copies in rows:
        _, _, by_reason, used = found.setdefault(code, (text, vital, {}, 0))
        if why is None:
            used += distinct
        elif DROP_REASONS[why] in UNREADABLE:
            # Such rows cannot be told from each other: without a time each is like the next.
            by_reason[DROP_REASONS[why]] = distinct + copies
            copies = 0
        else:
            by_reason[DROP_REASONS[why]] = distinct
        if copies:
            by_reason["duplicate"] = by_reason.get("duplicate", 0) + copies
        found[code] = (text, vital, by_reason, used)
    return [(code, *values) for code, values in found.items()]
