"""SQL of what a row has of its stay: bounds, the cohort's flag, the part in the own split."""

from __future__ import annotations

from client.ingest.duckdb_helpers import literals, text_of
from client.ingest.mapping.clock import Clock
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.sources.source import Source, check_column
from client.ingest.timestamps import time_of
from client.site_split.stay_sides import part_bits

NOTE_LENGTH = 40
"""Most characters of a text kept as an example of what was not understood."""


def bounds_of(source: Source, mapping: SiteMapping) -> str:
    """Return the SQL columns of a stay's bounds: of start and end *_at, *_is_utc and *_note.

    Of a table of stays, likewise those of `since`, the moment that offsets count from.
    """
    columns = {"start": mapping.stay.start, "end": mapping.stay.end}
    if mapping.has_stay_table:
        columns["since"] = mapping.since
    clock = mapping.stay_clock
    return ", ".join(_time(source, column, clock, name) for name, column in columns.items())


def flag_of(source: Source, mapping: SiteMapping) -> str:
    """Return the SQL condition that a row has the cohort's flag."""
    cohort = mapping.cohort
    if not cohort.flag:
        return "true"
    check_column(source, cohort.flag)
    values = literals(value.lower() for value in cohort.flag_values)
    return f"coalesce(lower({text_of(cohort.flag)}) IN ({values}), false)"


def stay_columns(source: Source, mapping: SiteMapping) -> str:
    """Return the SQL columns of `staged` that say which stay a row is of."""
    stay = mapping.stay
    if mapping.has_stay_table or stay.by_gap:
        # Stays are then found by patient (or encounter) and time.
        encounter = mapping.columns.encounter
        owner = text_of(encounter) if encounter else "NULL"
        of_stay_table = mapping.has_stay_table
        flag = "true" if of_stay_table else flag_of(source, mapping)
        part = part_bits(None if of_stay_table else mapping.split)
        bounds = ", ".join(
            f"NULL AS {end}_{what}" for end in ("start", "end") for what in ("at", "is_utc", "note")
        )
        return f"{owner} AS stay, {bounds}, {flag} AS chosen, {part} AS part"
    bounds = bounds_of(source, mapping)
    # Without an id, stays of a patient are distinguished by admission.
    key = text_of(stay.id) if stay.id else "CAST(start_at AS VARCHAR)"
    part = part_bits(mapping.split)
    return f"{bounds}, {key} AS stay, {flag_of(source, mapping)} AS chosen, {part} AS part"


def _time(source: Source, column: str, clock: Clock, name: str) -> str:
    if not column:
        # Offsets count from the admission, if it has no column.
        at = "0" if name != "end" and clock.is_offset else "NULL"
        return f"{at}::BIGINT AS {name}_at, true AS {name}_is_utc, NULL::VARCHAR AS {name}_note"
    time = time_of(column, source.types[check_column(source, column)], clock)
    text = f"left({text_of(column)}, {NOTE_LENGTH})"
    return (
        f"{time.at} AS {name}_at, coalesce({time.is_utc}, true) AS {name}_is_utc, "
        f"CASE WHEN {name}_at IS NULL THEN {text} END AS {name}_note"
    )
