"""Suggestion of a mapping for a hospital's files, to be completed by someone who knows them.

The suggestion is TOML that `client.ingest.mapping` reads. Of the files' content it has
names of columns, sheets and files, and the codes that stand for a vital sign; never a value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.compute as pc

from client.ingest.mapping.site_mapping import SiteMapping
from client.ingest.suggest.column_roles import matching
from client.ingest.suggest.mapping_text import TODO, SuggestedSection, mapping_toml
from client.ingest.suggest.ready_mappings import ready_mapping
from client.ingest.suggest.row_table import RowTable, find_rows
from client.ingest.suggest.sample import Sample, read_samples
from client.ingest.suggest.stay_section import StayTable, find_stay_table, stay_section
from client.ingest.suggest.time_format import TimeGuess, guess_time
from client.ingest.suggest.vital_section import vital_section
from client.ingest.suggest.vital_sources import (
    codes_of_one_patient,
)
from common.config.toml import parse_toml
from common.data.vitals import VITAL_NAMES
from common.errors import UsageError

NAME_COLUMN = "file"
_MOST_SAMPLES = 20
_TIME_TEXTS = 20_000


@dataclass
class Suggestion:
    """A suggested mapping.

    Attributes:
        text: the mapping, TOML.
        shape: ``long`` or ``wide``.
        vitals: the vital signs that were found.
        tables: the files that hold the rows.
        ready: file of a ready mapping for tables of this layout; empty = none is known.
        todos: number of lines to confirm.
    """

    text: str
    shape: str
    vitals: list[str]
    tables: list[Path]
    ready: str = ""
    todos: int = field(init=False)

    def __post_init__(self) -> None:
        self.todos = self.text.count(f"{TODO}:")


def suggest_mapping(paths: Sequence[Path], folder: Path) -> Suggestion:
    """Return a first mapping for files of rows, and for a table of stays beside them.

    Args:
        paths: the files; those with the same columns as the first with vital signs are its parts.
        folder: the mapping's folder, base of its relative paths.

    Raises:
        UsageError: no file has a vital sign, or a file has no header.
        SourceError: a file cannot be read.
    """
    samples = [sample for path in paths[:_MOST_SAMPLES] for sample in read_samples(path)]
    rows = find_rows(samples)
    others = [sample for sample in samples if sample.columns != rows.first.columns]
    apart = {other.path for other in others} - {sample.path for sample in rows.samples}
    tables = [path for path in paths if path not in apart]
    text = _Writer(rows, others, folder, len(tables)).text()
    # What is written can be read.
    SiteMapping.load(parse_toml(text.encode(), folder, UsageError), UsageError, "the suggestion")
    found = [vital for vital in VITAL_NAMES if vital in rows.vitals]
    ready = ready_mapping(rows.first.columns)
    return Suggestion(text, "long" if rows.long else "wide", found, tables, ready)


def write_suggestion(suggestion: Suggestion, path: Path) -> None:
    """Write a suggestion; never over a file, which may be someone's work.

    Raises:
        UsageError: the file exists or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(suggestion.text)
    except FileExistsError:
        raise UsageError(
            f"{path} exists and is not replaced; give another file with --mapping"
        ) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


class _Writer:
    """The sections of the mapping."""

    def __init__(self, rows: RowTable, others: list[Sample], folder: Path, files: int) -> None:
        self._rows = rows
        self._others = others
        self._folder = folder
        self._files = files
        names = rows.first.columns
        taken = [source.name for found in rows.vitals.values() for source in found]
        free = [name for name in names if rows.long is not None or name not in taken]
        self._role = {
            role: next(iter(matching(free, role)), "")
            for role in ("patient", "stay", "time", "start", "end", "flag", "state")
        }
        if not self._role["time"]:
            raise UsageError(
                f"{rows.first.path}: no column looks like a time; the columns are: "
                f"{', '.join(names)}; rename one to 'time' or write the mapping by hand"
            )
        self._time = self._guess(rows.first, self._role["time"])

    def text(self) -> str:
        table = find_stay_table(self._others, self._role["patient"])
        sections = [
            self._top(),
            self._file(),
            self._columns(),
            self._clock(),
            stay_section(self._rows.first, self._role, table, self._time, self._folder),
            self._cohort(),
            self._ids(),
            self._unused(table),
            *(vital_section(name, found, is_long=self._rows.long is not None)
              for name, found in self._rows.vitals.items()),
            self._missing(),
        ]  # fmt: skip
        name = self._rows.first.path.name
        head = [
            f"Suggested from {name} ({self._rows.first.rows:,} rows read"
            f"{f', and {self._files - 1} files like it' if self._files > 1 else ''}).",
            "Confirm each line marked TODO and remove the mark. docs/how-to/ingest.md explains",
            "the keys. `python -m client ingest` counts what a wrong line drops.",
        ]
        return mapping_toml(head, sections)

    def _guess(self, sample: Sample, column: str) -> TimeGuess:
        texts = pc.unique(sample.texts(column).drop_null())[:_TIME_TEXTS].to_pylist()
        return guess_time(column, texts, is_date=sample.is_date(column))

    def _top(self) -> SuggestedSection:
        top = SuggestedSection("")
        top.add("site", "my-site", "the site's name in the federation", sure=False)
        if self._rows.long is not None:
            top.add("shape", "long", "a row per measurement: a column of codes and one of values")
        else:
            top.add("shape", "wide", "a row per time with a column per vital sign")
        return top

    def _file(self) -> SuggestedSection:
        section = SuggestedSection("file")
        for key, value, why in self._rows.first.file_lines():
            section.add(key, int(value) if key == "header-row" else value, why)
        decimal = self._rows.first.decimal
        if decimal != ".":
            section.add("decimal", decimal, "numbers as 36,6")
        if self._rows.has_thousands:
            section.note("some numbers have a thousands separator; such a text is no number")
        if not (self._role["patient"] or self._role["stay"]):
            why = "no column of patients is found: each file is taken for one patient"
            section.add("name-column", NAME_COLUMN, why, sure=False)
        return section

    def _columns(self) -> SuggestedSection:
        section, role = SuggestedSection("columns"), self._role
        if role["patient"]:
            section.add("patient", role["patient"], "by its name")
        elif role["stay"]:
            why = "stays, no patients: a patient with two stays may be in two splits; add the id"
            section.add("patient", role["stay"], why, sure=False)
        else:
            section.add("patient", NAME_COLUMN, "see name-column")
        section.add("time", role["time"], "by its name")
        if self._rows.long is not None:
            long = self._rows.long
            section.add("code", long.code, "has codes of vital signs")
            section.add("value", long.value, "has the most numbers")
            if long.unit:
                section.add("unit", long.unit, "by its name")
        return section

    def _clock(self) -> SuggestedSection:
        section, time = SuggestedSection("time"), self._time
        section.add("zone", time.zone, time.zone_why, sure=time.is_zone_sure)
        formats = time.formats[0] if len(time.formats) == 1 else list(time.formats)
        section.add("format", formats, time.why, sure=time.is_sure)
        return section

    def _cohort(self) -> SuggestedSection:
        section = SuggestedSection("cohort")
        why = "say how the sepsis patients were selected; the coordinator sees it"
        section.add("rule", "all stays of the table", why, sure=False)
        if self._role["flag"]:
            section.note(f'flag = "{self._role["flag"]}" keeps only the stays that it flags')
        section.add("min-hours", 12, "shorter stays are left out", sure=True)
        if self._role["state"]:
            section.note(
                f'column "{self._role["state"]}": rows with errors can be left out: [drop]'
            )
        return section

    @staticmethod
    def _ids() -> SuggestedSection:
        section = SuggestedSection("ids")
        section.add("hash", True, "keyed hashes in place of the hospital's ids")
        return section

    def _unused(self, table: StayTable | None) -> SuggestedSection:
        section = SuggestedSection("")
        for other in self._others:
            if table is None or other is not table.sample:
                section.note(
                    f"{other.path.name} is not used: it has no vital signs, and no admissions "
                    "beside the rows' patients"
                )
        return section

    def _missing(self) -> SuggestedSection:
        section = SuggestedSection("")
        long = self._rows.long
        if long and (personal := len(codes_of_one_patient(self._rows.first, long))):
            section.note(
                f"{personal} codes of vital signs are left out: each occurs with one patient only, "
                "whom its text may name"
            )
        for vital in VITAL_NAMES:
            if vital not in self._rows.vitals:
                section.note(f"{vital} is not found; add [vitals.{vital}] if the table has it")
        return section
