"""Table of stays, loaded before the rows: its stays, and the patient of each encounter.

Three tables are made of it:

    stay_source  patient, encounter, stay (its key), chosen, part; *_at, *_is_utc and *_note of its
                 start, its end and the moment that offsets count from (`since`); a row per stay
    encounters   encounter, patient; where the rows have encounters
    stay_texts   patient, key, and the columns of `[patients]` as text, if the mapping has any
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import duckdb

from client.ingest.diagnostics.time_check import check_bounds
from client.ingest.duckdb_helpers import literal, literals, only_row, text_of
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.reshape.stay_fields import NOTE_LENGTH, bounds_of, flag_of
from client.ingest.sources.joined_table import JoinedTable
from client.ingest.sources.source import ROWS, Source, check_column
from client.site_split.stay_sides import part_bits
from common.errors import SourceError


@dataclass
class StayTableFacts:
    """Unread bounds and counted rows of a table of stays.

    Attributes:
        signs: signs of bounds that were not read, as `time_check.check_bounds` gives them.
        rows: rows read, rows without a patient, rows that `keep` leaves out, by name.
    """

    signs: list[dict[str, Any]] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)


def load_stay_table(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, source: Source
) -> StayTableFacts:
    """Create `stay_source`, `encounters` and `stay_texts`.

    Raises:
        UsageError: the table lacks a column, or its times have another format.
        SourceError: it is damaged, no row of it is a stay, or an encounter is of two patients.
    """
    names = [*mapping.stay_columns, *mapping.patients.columns.values()]
    columns = list(dict.fromkeys(check_column(source, name) for name in names))
    connection.execute(
        "CREATE TABLE stay_source (patient VARCHAR, encounter VARCHAR, start_at BIGINT, "
        "start_is_utc BOOLEAN, start_note VARCHAR, end_at BIGINT, end_is_utc BOOLEAN, "
        "end_note VARCHAR, since_at BIGINT, since_is_utc BOOLEAN, since_note VARCHAR, "
        "stay VARCHAR, chosen BOOLEAN, part UTINYINT, other VARCHAR"
        f"{''.join(f', {name} VARCHAR' for name in mapping.patients.columns)})"
    )
    source.load(connection, columns, f"INSERT INTO stay_source {_stay_rows(source, mapping)}")
    if mapping.stay_encounter:
        _create_encounters(connection, mapping, source)
    facts = StayTableFacts(rows=_leave_out(connection, mapping, source))
    facts.signs = check_bounds(connection, mapping, "stay_source")
    if texts := ", ".join(f"min({name}) AS {name}" for name in mapping.patients.columns):
        connection.execute(
            f"CREATE TABLE stay_texts AS SELECT patient, stay AS key, {texts} FROM stay_source "
            "GROUP BY ALL"
        )
    return facts


def _stay_rows(source: Source, mapping: SiteMapping) -> str:
    """Return the query from the table's rows to rows of `stay_source`."""
    stay, encounter = mapping.stay, mapping.stay_encounter
    owner = text_of(encounter) if encounter else "NULL::VARCHAR"
    # Without an id, stays of a patient are distinguished by admission; those of two encounters may
    # have the same offset.
    counted = f"concat_ws(' ', {owner}, CAST(start_at AS VARCHAR))"
    key = text_of(stay.id) if stay.id else f"CASE WHEN start_at IS NOT NULL THEN {counted} END"
    facts = "".join(f", {text_of(name)}" for name in mapping.patients.columns.values())
    return (
        f"SELECT {text_of(mapping.stay_patient)}, {owner}, {bounds_of(source, mapping)}, {key}, "
        f"{flag_of(source, mapping)}, {part_bits(mapping.split)}, {_other(mapping)}{facts} "
        f"FROM {ROWS}"
    )


def _other(mapping: SiteMapping) -> str:
    """Return the SQL of the text for which `keep` leaves a row out; NULL if it keeps the row."""
    cases = "".join(
        f" WHEN coalesce(lower({text_of(name)}) NOT IN "
        f"({literals(value.lower() for value in values)}), true) "
        f"THEN left(coalesce({text_of(name)}, ''), {NOTE_LENGTH})"
        for name, values in mapping.stay.keep.items()
    )
    return f"CASE{cases} END" if cases else "NULL::VARCHAR"


def _create_encounters(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, source: Source
) -> None:
    pairs = "SELECT DISTINCT encounter, patient FROM stay_source"
    if isinstance(source, JoinedTable):
        # An encounter without a stay has a patient too.
        found = source.looked_up(mapping.stay_encounter, mapping.stay_patient)
        if found is not None:
            connection.register("looked_up", found)
            connection.execute("CREATE TEMP TABLE more_encounters AS SELECT * FROM looked_up")
            connection.unregister("looked_up")
            pairs += " UNION SELECT key, value FROM more_encounters"
    connection.execute(
        f"CREATE TABLE encounters AS SELECT encounter, patient FROM ({pairs}) "
        "WHERE encounter IS NOT NULL AND patient IS NOT NULL"
    )
    (several,) = only_row(
        connection,
        "SELECT count(*) FROM (SELECT encounter FROM encounters GROUP BY encounter "
        "HAVING count(*) > 1)",
    )
    if several:
        raise SourceError(
            f"{source.name}: {several:,} encounters ({mapping.stay_encounter}) are of two patients "
            f"({mapping.stay_patient}) each; an encounter is of one: export the table again, or "
            "leave them out"
        )


def _leave_out(
    connection: duckdb.DuckDBPyConnection, mapping: SiteMapping, source: Source
) -> dict[str, int]:
    """Delete the rows that are no stay, and count them."""
    read, nobody, other = only_row(
        connection,
        "SELECT count(*), count(*) FILTER (patient IS NULL), "
        "count(*) FILTER (patient IS NOT NULL AND other IS NOT NULL) FROM stay_source",
    )
    if read and other + nobody == read and other:
        columns = " and ".join(mapping.stay.keep)
        texts = connection.execute(
            "SELECT other FROM stay_source WHERE other <> '' GROUP BY other "
            "ORDER BY count(*) DESC, other LIMIT 3"
        ).fetchall()
        shown = f" (it has {', '.join(literal(row[0]) for row in texts)})" if texts else ""
        raise SourceError(
            f"{source.name}: no row has a value of [stay] keep in the column {columns}{shown}"
        )
    connection.execute(
        "DELETE FROM stay_source WHERE patient IS NULL OR stay IS NULL OR other IS NOT NULL"
    )
    counts = {"read": read, "without a patient": nobody, "left out by keep": other}
    return {name: count for name, count in counts.items() if count}
