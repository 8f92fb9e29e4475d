"""The sources of an ingest, opened as its mapping describes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.mapping.source_sections import FileFormat
from client.ingest.sources.joined_table import JoinedTable, Lookup
from client.ingest.sources.open_file import open_file
from client.ingest.sources.queries.query_source import open_query
from client.ingest.sources.source import Source
from common.errors import UsageError
from common.files.hashing import ReadProgress


def open_sources(
    mapping: SiteMapping, tables: Sequence[Path], progress: ReadProgress | None
) -> tuple[list[Source], Source | None]:
    """Open the tables or the query, and the table of stays if the mapping has one.

    Args:
        mapping: the mapping.
        tables: the files of the rows; none if the mapping has a query.
        progress: called while a text file is read.

    Raises:
        UsageError: files and mapping do not match.
        SourceError: a file or a database cannot be read.
    """
    if mapping.source.attach:
        if tables:
            raise UsageError("the mapping names a query in [source]; leave --table out")
        sources = [open_query(mapping.source, mapping.source.query, mapping.folder)]
    elif not tables:
        raise UsageError("no table is given; give one with --table, or a query in [source]")
    else:
        sources = [
            open_file(
                path,
                mapping.file,
                wanted=mapping.row_columns,
                times=_times(mapping),
                codes=mapping.codes,
                progress=progress,
            )
            for path in tables
        ]
    if mapping.source.stays_query:
        return sources, open_query(mapping.source, mapping.source.stays_query, mapping.folder)
    return sources, _open_stay_table(mapping) if mapping.stay.table else None


def _open_stay_table(mapping: SiteMapping) -> Source:
    stay = mapping.stay
    bounds = [name for name in (stay.start, stay.end, mapping.since) if name]
    times = [] if mapping.stay_clock.is_number else bounds

    def opened(path: str, form: FileFormat | None, wanted: list[str]) -> Source:
        own = form or FileFormat(decimal=mapping.file.decimal)
        return open_file(mapping.folder / path, own, wanted=wanted, times=times)

    if not stay.joins:
        return opened(stay.table, stay.file, mapping.stay_columns)
    table = opened(stay.table, stay.file, [stay.joins[0].looked_up])
    lookups = [
        Lookup(opened(one.table, one.file, [one.key]), one.key, one.looked_up) for one in stay.joins
    ]
    return JoinedTable(table, lookups)


def _times(mapping: SiteMapping) -> list[str]:
    """Return the columns of the rows whose numbers are dates where the file is a workbook."""
    times = [] if mapping.time.is_number else [mapping.columns.time]
    if not (mapping.has_stay_table or mapping.stay_clock.is_number):
        times += [mapping.stay.start, mapping.stay.end]
    return [name for name in times if name]
