"""Tables of the mapping for the reshaping: meaning of each code, conversion of each unit."""

from __future__ import annotations

import duckdb

from client.ingest.duckdb_helpers import create_table
from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.units import normalised, unit_rows
from common.data.vitals import VITAL_NAMES, VITALS


def create_codes(connection: duckdb.DuckDBPyConnection, mapping: SiteMapping) -> None:
    """Create `codes` (meaning of each code or column) and `units` (conversion of each unit)."""
    rows: list[tuple[object, ...]] = []
    for vital in mapping.vitals:
        index = VITAL_NAMES.index(vital.name)
        for rank, source in enumerate(vital.sources):
            for text in source.codes or (source.column,):
                place = rank if vital.combine == "priority" else 0
                units = "/".join(map(normalised, source.units))
                limits = (source.low, source.high, *_range(index))
                unit = normalised(source.unit)
                rows.append((len(rows), text, index, place, unit, units, *limits))
    columns = (
        "code USMALLINT, text VARCHAR, vital UTINYINT, rank UTINYINT, unit VARCHAR, units VARCHAR, "
        "least DOUBLE, most DOUBLE, low DOUBLE, high DOUBLE, high_included BOOLEAN"
    )
    create_table(connection, "codes", columns, rows)
    columns = (
        "vital UTINYINT, spelling VARCHAR, name VARCHAR, subtract DOUBLE, multiply DOUBLE, "
        "divide DOUBLE"
    )
    create_table(connection, "units", columns, unit_rows(mapping.units))


def _range(index: int) -> tuple[float, float, bool]:
    vital = VITALS[index]
    return vital.low, vital.high, vital.high_included
