"""The sections of mapping.toml: how a hospital's table is read, each checked where it is made.

A field's name with dashes is its key in the file.
"""

from __future__ import annotations

import math
import zoneinfo
from dataclasses import dataclass, field
from difflib import get_close_matches

from client.ingest.units import check_unit
from common.errors import UsageError
from common.names import check_name

SHAPES = ("long", "wide")
DATABASES = ("sqlite", "postgres")
ENCODINGS = ("utf-8", "latin-1", "cp1252")
FOLDS = ("drop", "first", "second")
GAPS = ("drop", "shift")
COMBINATIONS = ("mean", "priority")

ISO = "iso"
EPOCHS = {"epoch-s": 1_000_000, "epoch-ms": 1_000}
"""Formats of times that are numbers, with the microseconds of their unit."""


@dataclass(frozen=True)
class FileFormat:
    """`[file]`: how a CSV file is written; Parquet says it of itself.

    Attributes:
        delimiter: between two fields.
        decimal: the decimal sign of numbers that are text, ``.`` or ``,``.
        encoding: one of `ENCODINGS`.
    """

    delimiter: str = ","
    decimal: str = "."
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1:
            raise UsageError(f"delimiter is one character, got {self.delimiter!r}")
        check_name("decimal sign", self.decimal, (".", ","))
        check_name("encoding", self.encoding, ENCODINGS)


@dataclass(frozen=True)
class SqlSource:
    """`[source]`: a query in the place of a file.

    Attributes:
        attach: one of `DATABASES`; empty = the table is a file.
        database: SQLite's file, or PostgreSQL's connection string, never with a password.
        query: gives the rows, with the columns that the mapping names, in the database's own SQL.
        stays_query: gives the table of stays, where `[stay]` takes them from one.
    """

    attach: str = ""
    database: str = ""
    query: str = ""
    stays_query: str = ""

    def __post_init__(self) -> None:
        if not self.attach:
            if self.database or self.query or self.stays_query:
                raise UsageError(f"attach is missing; set it to one of: {', '.join(DATABASES)}")
            return
        check_name("database to attach", self.attach, DATABASES)
        for name in ("database", "query"):
            if not getattr(self, name).strip():
                raise UsageError(f"{name} is missing; a source that is attached needs it")
        if _holds_password(self.database):
            # Without the string itself: it would be in the log then.
            raise UsageError(
                "database holds a password; take it out and put it into the file that PGPASSFILE "
                "names, or into PGPASSWORD"
            )


@dataclass(frozen=True)
class Columns:
    """`[columns]`: what the table calls its columns, in upper or lower case.

    Attributes:
        patient: the patient's id.
        time: when a value was measured.
        code: long tables: which vital sign a row is.
        value: long tables: its value.
        unit: long tables: its unit, row by row; empty = the units that the vital signs name.
    """

    patient: str
    time: str
    code: str = ""
    value: str = ""
    unit: str = ""

    def check_shape(self, shape: str) -> None:
        """Raise `UsageError` where the columns are not those of a shape."""
        long = {"code": self.code, "value": self.value}
        if shape == "long":
            missing = [name for name, column in long.items() if not column]
            if missing:
                raise UsageError(f'[columns] lacks {missing[0]}, which shape = "long" needs')
            return
        extra = [name for name, column in {**long, "unit": self.unit}.items() if column]
        if extra:
            raise UsageError(
                f'[columns] {extra[0]} does not go with shape = "wide", where each vital sign '
                "names its column and its unit in [vitals]"
            )


@dataclass(frozen=True)
class Clock:
    """`[time]`: how times are written, and the clock that they were read from.

    Attributes:
        zone: an IANA name as ``Europe/London``; ``UTC`` takes times without an offset as they
            stand, which is right for dates shifted for privacy. A time that carries an offset
            is taken by that.
        format: ``iso``, ``epoch-s``, ``epoch-ms``, or one or several patterns as
            ``%d.%m.%Y %H:%M``.
        fold: what the hour means that the clocks pass twice in autumn, one of `FOLDS`.
        gap: what an hour means that the clocks skip in spring, one of `GAPS`; ``shift`` reads it
            by the clock that was not yet put forward.
    """

    zone: str
    format: tuple[str, ...] = (ISO,)
    fold: str = "drop"
    gap: str = "drop"

    def __post_init__(self) -> None:
        check_name("fold", self.fold, FOLDS)
        check_name("gap", self.gap, GAPS)
        try:
            zoneinfo.ZoneInfo(self.zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            # Not by check_name, which would list six hundred zones.
            near = get_close_matches(self.zone, zoneinfo.available_timezones(), n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else "take an IANA name, e.g. Europe/London"
            raise UsageError(f"unknown time zone {self.zone!r}; {hint}") from None
        patterns = [text for text in self.format if "%" in text]
        if not patterns:
            words = (ISO, *EPOCHS)
            if len(self.format) != 1 or self.format[0] not in words:
                raise UsageError(
                    f"format is {', '.join(words)} or a pattern as %d.%m.%Y %H:%M, "
                    f"got {' and '.join(map(repr, self.format))}"
                )
        elif len(patterns) < len(self.format) or len({"%z" in text for text in patterns}) > 1:
            raise UsageError("several formats must all be patterns, with %z in all or in none")


@dataclass(frozen=True)
class StayRule:
    """`[stay]`: what a stay is: a column that names it, its bounds, or a silence between two.

    Attributes:
        id: the column of the stay's id.
        per_patient: whether ids are counted within each patient (1, 2, 3 ...).
        start: the column of its admission.
        end: the column of its discharge; an empty cell = until the patient's next stay.
        table: a file of the stays, a row each; the columns are then its own.
        patient: the patient's column in that table; empty = as in the rows.
        gap_hours: in place of all these: a silence longer than so many hours ends a stay.
        max_days: longer stays are taken for a mistake in a date and left out.
        time: the clock of `start` and `end` where it is not that of the rows.
    """

    id: str = ""
    per_patient: bool = False
    start: str = ""
    end: str = ""
    table: str = ""
    patient: str = ""
    gap_hours: float = 0.0
    max_days: int = 365
    time: Clock | None = None

    def __post_init__(self) -> None:
        positive("max-days", self.max_days)
        if self.gap_hours < 0:
            raise UsageError(f"gap-hours must be above 0, got {self.gap_hours:g}")
        if self.by_gap:
            given = [name for name in ("id", "start", "end", "table") if getattr(self, name)]
            if given:
                raise UsageError(f"gap-hours does not go with {given[0]}; give one of them")
        elif not (self.id or self.start):
            raise UsageError("a stay needs id, start or gap-hours")
        if self.end and not self.start:
            raise UsageError("end needs start beside it")

    @property
    def by_gap(self) -> bool:
        """Whether stays are told apart by silences."""
        return self.gap_hours > 0

    def check_table(self, query: str) -> None:
        """Raise `UsageError` where stays of their own table lack what they need."""
        if self.table and query:
            raise UsageError("[stay] table and [source] stays-query are both given; give one")
        if self.patient and not (self.table or query):
            raise UsageError("[stay] patient names a column of a table of stays; give table too")
        if (self.table or query) and not self.start:
            raise UsageError("[stay] lacks start, which a table of stays needs")


@dataclass(frozen=True)
class CohortRule:
    """`[cohort]`: which stays the hospital has chosen, and how, in words.

    Attributes:
        rule: how the sepsis patients were found; it stands in the site table and is told to the
            coordinator.
        keep_patients: a file with the ids of the patients to keep, one a line.
        keep_stays: a file with the ids of the stays to keep, one a line.
        flag: a column; a stay is kept where a row of it holds one of `flag_values`.
        flag_values: see `flag`.
        min_hours: least hours from a stay's start to its last vital sign.
    """

    rule: str
    keep_patients: str = ""
    keep_stays: str = ""
    flag: str = ""
    flag_values: tuple[str, ...] = ("1", "true", "t", "yes", "y")
    min_hours: float = 12

    def __post_init__(self) -> None:
        if not self.rule.strip():
            raise UsageError("rule is empty; say how the sepsis patients were found")
        if len(self.rule) > 200 or not self.rule.isprintable():
            raise UsageError("rule is one line of at most 200 characters")
        if self.min_hours < 0:
            raise UsageError(f"min-hours must not be negative, got {self.min_hours:g}")


@dataclass(frozen=True)
class TableSettings:
    """`[table]`: the site table to be made.

    Attributes:
        step_minutes: length of a time step.
        source: what the table calls its origin; told to the coordinator.
    """

    step_minutes: int = 60
    source: str = "own-export"

    def __post_init__(self) -> None:
        positive("step-minutes", self.step_minutes)


@dataclass(frozen=True)
class IdSettings:
    """`[ids]`: whether the table holds the hospital's ids, or keyed hashes of them."""

    hash: bool = False


@dataclass(frozen=True)
class VitalSource:
    """One place in which a vital sign stands.

    Attributes:
        codes: long tables: what the column `code` holds.
        column: wide tables: the column.
        unit: of its values; empty = the column `unit`, or where there is none the vital's own.
        low: values must be above this, in `unit`.
        high: values must be below this, in `unit`.
    """

    codes: tuple[str, ...] = ()
    column: str = ""
    unit: str = ""
    low: float = -math.inf
    high: float = math.inf


@dataclass(frozen=True)
class VitalMapping:
    """`[vitals.NAME]`: where a vital sign stands.

    Attributes:
        name: the vital, as the site table calls it.
        sources: the places, the most trusted first.
        combine: of several values of a step, ``mean`` takes the mean, ``priority`` those of the
            first source that has any.
    """

    name: str
    sources: tuple[VitalSource, ...]
    combine: str = "mean"

    def check(self, shape: str) -> None:
        """Raise `UsageError` where a source cannot be one of this vital in this shape."""
        check_name("way to combine", self.combine, COMBINATIONS)
        for source in self.sources:
            needed, other = ("codes", "column") if shape == "long" else ("column", "codes")
            if not getattr(source, needed) or getattr(source, other):
                raise UsageError(
                    f'needs {needed} where shape = "{shape}", and {other} does not go with it'
                )
            if source.unit:
                check_unit(self.name, source.unit)


@dataclass(frozen=True)
class DropRule:
    """A line of `[drop]`: rows whose column holds one of the values are left out."""

    column: str
    values: tuple[str, ...] = field(default=())


def positive(key: str, value: float) -> None:
    """Raise `UsageError` where a value is not above 0."""
    if value <= 0:
        raise UsageError(f"{key} must be above 0, got {value:g}")


def _holds_password(database: str) -> bool:
    text = database.lower().replace(" ", "")
    if "password=" in text:
        return True
    _, scheme, rest = database.partition("://")
    user, at, _ = rest.rpartition("@")
    return bool(scheme and at and ":" in user)
