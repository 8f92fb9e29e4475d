"""Export of a page's tables and figures as files for a paper.

    FOLDER/contents.csv                what each file is
    FOLDER/<section>-<caption>.csv     a table at full precision, and .tex for LaTeX
    FOLDER/<figure>.svg                a figure, and .pdf

The folder is written whole or not at all, and never replaces files that are not its own.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from common.errors import UsageError
from common.files.atomic_io import atomic_folder
from common.files.output_folder import check_replaceable
from common.reporting.components import LegendEntry, Page, Section, Table
from common.reporting.export.figure_files import figure_files
from common.reporting.export.inert_csv import inert_csv
from common.reporting.export.table_files import csv_table, latex_table, plain_text
from common.reporting.svg import Drawing

CONTENTS_FILE = "contents.csv"
_LONGEST_NAME = 70


def export_page(page: Page, folder: Path) -> None:
    """Write every table and figure of a page.

    Args:
        page: the page, already rendered where it is rendered at all.
        folder: an absent or empty folder, or one of an earlier export, which is replaced.

    Raises:
        UsageError: the folder has other files, or cannot be written.
    """
    _write(_page_files(page.sections), folder)


def export_tables(tables: Mapping[str, Table], folder: Path) -> None:
    """Write tables by name; folder and errors as for `export_page`."""
    _write((file for name, table in tables.items() for file in _table_files(name, table)), folder)


def export_summary(folder: Path) -> str:
    """Return a line with the number of tables and figures of an export."""
    names = _own_names(folder)
    counts = [
        f"{count} {noun}{'' if count == 1 else 's'} ({kinds})"
        for noun, kinds in (("table", ".csv, .tex"), ("figure", ".svg, .pdf"))
        if (count := sum(name.endswith(kinds[-4:]) for name in names))
    ]
    return f"Exported: {folder}: {' and '.join(counts) or 'nothing'}"


def _write(files: Iterable[tuple[str, str, bytes]], folder: Path) -> None:
    """Write files, each a name, a title and bytes, with their list."""
    check_export_folder(folder)
    rows: list[tuple[str, str]] = []
    try:
        with atomic_folder(folder) as partial:
            for name, title, data in files:
                (partial / name).write_bytes(data)
                rows.append((name, title))
            (partial / CONTENTS_FILE).write_text(
                inert_csv([("file", "title"), *rows]), encoding="utf-8"
            )
    except OSError as error:
        raise _unwritable(folder, error) from error


def check_export_folder(folder: Path) -> None:
    """Refuse, before any work, a folder that cannot be written or has files of someone else.

    Raises:
        UsageError: see above.
    """
    check_replaceable(folder)
    try:
        foreign = sorted(set(_names(folder)) - set(_own_names(folder)))
        if foreign:
            raise UsageError(
                f"{folder} holds {foreign[0]}, which no export wrote and which would be lost; give "
                "an empty or a new folder"
            )
    except OSError as error:
        raise _unwritable(folder, error) from error


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def _own_names(folder: Path) -> list[str]:
    path = folder / CONTENTS_FILE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [CONTENTS_FILE, *(row[0] for row in csv.reader(file) if row)]


def _page_files(sections: Iterable[Section]) -> Iterator[tuple[str, str, bytes]]:
    taken: set[str] = set()
    for section in sections:
        legend: Sequence[LegendEntry] = ()
        for part in section.parts:
            # A legend holds for the figures after it, up to the next one of the section.
            legend = part.legend or legend
            for table in (*part.tables, *part.folded):
                yield from _table_files(_name(f"{section.id} {table.caption}", taken), table)
            for figure in part.figures:
                if isinstance(figure.svg, Drawing):
                    name = _name(figure.svg.name, taken)
                    for kind, data in figure_files(figure.svg, legend).items():
                        yield f"{name}.{kind}", figure.title, data


def _table_files(name: str, table: Table) -> Iterator[tuple[str, str, bytes]]:
    if table.rows:
        title = plain_text(table.caption)
        yield f"{name}.csv", title, csv_table(table).encode()
        yield f"{name}.tex", title, latex_table(table, name).encode()


def _name(text: str, taken: set[str]) -> str:
    """Return a file name without its ending that is not taken yet."""
    stem = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_LONGEST_NAME].rstrip("-")
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name)
    return name


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{folder} cannot be written ({error.strerror or error}); free space or give another folder"
    )
