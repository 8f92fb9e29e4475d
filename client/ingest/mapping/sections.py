"""The sections of mapping.toml: the layout and the units of a hospital's table."""

from __future__ import annotations

import math
import zoneinfo
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Self

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from common.config.error_line import value_text
from common.config.field_types import OneOf, Parsed, PositiveCount, PrintableText, invalid
from common.config.strict_model import StrictModel
from common.errors import UsageError

DATABASES = ("sqlite", "postgres")

ENCODINGS = ("utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be")
"""Encodings that a mapping may state. UTF-16 is found without it."""

ISO = "iso"
EPOCHS = {"epoch-s": 1_000_000, "epoch-ms": 1_000, "epoch-us": 1, "epoch-ns": 0.001}
"""Formats of times that are numbers, with the microseconds of their unit."""

EPOCH, EXCEL = "epoch", "excel"
"""Numbers since 1970 in a unit told by their size; days since the end of 1899, as Excel counts."""
OFFSETS = {"minutes": 60_000_000, "hours": 3_600_000_000}
"""Formats of times that count from a moment of each stay, such as its admission."""


def text_list(value: object, key: str = "") -> tuple[str, ...]:
    """Return a list of texts and whole numbers as texts; one alone is a list of one.

    Raises:
        PydanticCustomError: the list is empty, or an item is something else.
    """
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items or not all(isinstance(item, str | int) for item in items):
        raise invalid(f"takes a list of texts, got {value_text(value)}", key)
    return tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in items)


def _one_character(text: str) -> str:
    if len(text) != 1:
        raise invalid(f"is one character, got {value_text(text)}")
    return text


def _zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        # Not by OneOf, which would list six hundred zones.
        near = get_close_matches(text[:100], zoneinfo.available_timezones(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "take an IANA name, e.g. Europe/London"
        raise UsageError(f"is not a time zone, got {value_text(text)}; {hint}") from None
    return text


def _formats(formats: tuple[str, ...]) -> tuple[str, ...]:
    patterns = [text for text in formats if "%" in text]
    words = (ISO, EPOCH, *EPOCHS, EXCEL, *OFFSETS)
    if not patterns and (len(formats) != 1 or formats[0] not in words):
        raise invalid(
            f"is {', '.join(words)} or a pattern as %d.%m.%Y %H:%M, "
            f"got {' and '.join(map(value_text, formats))}"
        )
    twice = next((one for one in patterns if swapped(one) in patterns), None)
    if twice is not None and twice != swapped(twice):
        raise invalid(
            f"has day and month in both orders, {value_text(twice)} and "
            f"{value_text(swapped(twice))}; 03/04 would be read by the first alone: give one"
        )
    if patterns and (len(patterns) < len(formats) or len({"%z" in one for one in patterns}) > 1):
        raise invalid("must all be patterns where it is several, with %z in all or in none")
    return formats


def swapped(pattern: str) -> str:
    """Return a pattern of times with day and month exchanged, if it has both as numbers."""
    if "%d" not in pattern or "%m" not in pattern:
        return pattern
    return "%d".join(part.replace("%d", "%m") for part in pattern.split("%m"))


def _cohort_rule(text: str) -> str:
    if not text.strip():
        raise invalid("is empty; describe how the sepsis patients were found")
    return text


TextList = Annotated[tuple[str, ...], PlainValidator(lambda value: text_list(value))]


class FileFormat(StrictModel):
    """`[file]`, or `file` in `[stay]`: format of a text file or a workbook; Parquet needs none.

    Attributes:
        delimiter: character between two fields of a text file; empty = found from the file.
        decimal: decimal sign of numbers that are text.
        encoding: of a text file; empty = found from the file.
        sheet: sheet of a workbook; empty = its only one with cells.
        header_row: number of the header line or row, from 1; 0 = the first that is not blank.
        name_column: column to add that holds the file's name without its suffix, for exports of
            one file per patient or stay; empty = none.
    """

    delimiter: Annotated[str, AfterValidator(_one_character)] = ""
    decimal: Annotated[str, OneOf((".", ","))] = "."
    encoding: Annotated[str, OneOf(ENCODINGS)] = ""
    sheet: str = ""
    header_row: Annotated[int, Field(ge=0)] = 0
    name_column: str = ""


class SqlSource(StrictModel):
    """`[source]`: a query instead of a file.

    Attributes:
        attach: one of `DATABASES`; empty = the table is a file.
        database: SQLite's file, or PostgreSQL's connection string, never with a password.
        query: query of the rows, with the columns that the mapping names, in the database's SQL.
        stays_query: query of the table of stays, where `[stay]` takes them from one.
    """

    attach: str = ""
    database: str = ""
    query: str = ""
    stays_query: str = ""

    @model_validator(mode="after")
    def _check_query(self) -> Self:
        known = f"one of: {', '.join(DATABASES)}"
        if not self.attach:
            if self.database or self.query or self.stays_query:
                raise invalid(f"is missing; set it to {known}", "attach")
            return self
        if self.attach not in DATABASES:
            raise invalid(f"must be {known}, got {value_text(self.attach)}", "attach")
        for key, text in (("database", self.database), ("query", self.query)):
            if not text.strip():
                raise invalid("is missing; a source that is attached needs it", key)
        if _has_password(self.database):
            # Without the string itself: it would be in the log then.
            raise invalid(
                "holds a password; take it out and put it into the file that PGPASSFILE names, or "
                "into PGPASSWORD",
                "database",
            )
        return self


class Columns(StrictModel):
    """`[columns]`: the table's column names, in upper or lower case.

    Attributes:
        patient: the patient's id.
        time: time of the measurement.
        code: long tables: name of the vital sign in a row.
        value: long tables: its value.
        unit: long tables: its unit, row by row; empty = the units that the vital signs name.
    """

    patient: str
    time: str
    code: str = ""
    value: str = ""
    unit: str = ""


class Clock(StrictModel):
    """`[time]`: how times are written, and the clock that they were read from.

    Attributes:
        zone: an IANA name as ``Europe/London``; ``UTC`` takes times without an offset as they are,
            which is right for dates shifted for privacy. A time with an offset is taken by that.
        format: ``iso``; a number since 1970 as ``epoch-s``, ``epoch-ms``, ``epoch-us``,
            ``epoch-ns``, or ``epoch``, whose unit is told by its size; Excel's days as ``excel``;
            one or several patterns as ``%d.%m.%Y %H:%M``; or for times that count from a moment of
            each stay ``minutes`` or ``hours``.
        fold: reading of the hour that the clocks pass twice in autumn.
        gap: reading of the hour that the clocks skip in spring; ``shift`` reads it by the clock
            that was not yet put forward.
    """

    zone: Annotated[str, Parsed(_zone)]
    format: Annotated[TextList, AfterValidator(_formats)] = (ISO,)
    fold: Annotated[str, OneOf(("drop", "first", "second"))] = "drop"
    gap: Annotated[str, OneOf(("drop", "shift"))] = "drop"

    @property
    def is_number(self) -> bool:
        """True where times are numbers."""
        return self.format[0] in (*EPOCHS, *OFFSETS)


class StayRule(StrictModel):
    """`[stay]`: definition of a stay: an id's column, its bounds, or a silence between two.

    Attributes:
        id: column of the stay's id.
        per_patient: true where ids are counted within each patient (1, 2, 3 ...).
        start: column of its admission.
        end: column of its discharge; an empty cell = until the patient's next stay.
        table: file of the stays, a row each; the columns are then its own.
        patient: the patient's column in that table; empty = as in the rows.
        gap_hours: instead of all these: a silence longer than these hours ends a stay.
        max_days: longer stays are taken for a mistake in a date and left out.
        time: the clock of `start` and `end` where it is not that of the rows.
        file: format of `table`; what is unset is found from that file, not taken from `[file]`.
    """

    id: str = ""
    per_patient: bool = False
    start: str = ""
    end: str = ""
    table: str = ""
    patient: str = ""
    gap_hours: float = Field(default=0.0, ge=0)
    max_days: PositiveCount = 365
    time: Clock | None = None
    file: FileFormat | None = None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.file and not self.table:
            raise invalid("is the format of a table of stays; give table too", "file")
        if self.by_gap:
            given = [name for name in ("id", "start", "end", "table") if getattr(self, name)]
            if given:
                raise invalid(f"does not go with {given[0]}; give one of them", "gap-hours")
        elif not (self.id or self.start):
            raise invalid("needs id, start or gap-hours")
        if self.end and not self.start:
            raise invalid("needs start beside it", "end")
        return self

    @property
    def by_gap(self) -> bool:
        """True where a silence separates stays."""
        return self.gap_hours > 0


class PatientColumns(StrictModel):
    """`[patients]`: columns of the table of stays for table 1, which stays at the hospital.

    Attributes:
        age: column of the age at admission, in years.
        sex: column of the sex; texts other than `female` and `male` count as not recorded.
        unit: column of the care unit.
        septic: column that says whether the stay was septic; empty cells count as not recorded.
        died: column that says whether the patient died in hospital, likewise.
        female: texts of the column `sex`, in lower case.
        male: texts of the column `sex`, in lower case.
        yes: texts of `septic` and `died` that mean yes, in lower case.
    """

    age: str = ""
    sex: str = ""
    unit: str = ""
    septic: str = ""
    died: str = ""
    female: TextList = ("f", "female", "w")
    male: TextList = ("m", "male")
    yes: TextList = ("1", "true", "t", "yes", "y")

    @property
    def columns(self) -> dict[str, str]:
        """The columns given, by what they hold."""
        named = {name: getattr(self, name) for name in ("age", "sex", "unit", "septic", "died")}
        return {name: column for name, column in named.items() if column}


class CohortRule(StrictModel):
    """`[cohort]`: the stays that the hospital has chosen, and its rule in words.

    Attributes:
        rule: how the sepsis patients were found; the site table carries it, and the coordinator
            sees it.
        keep_patients: file with the ids of the patients to keep, one a line.
        keep_stays: file with the ids of the stays to keep, one a line.
        flag: a column; a stay is kept where a row of it holds one of `flag_values`.
        flag_values: see `flag`.
        min_hours: least hours from a stay's start to its last vital sign.
    """

    rule: Annotated[PrintableText, AfterValidator(_cohort_rule)]
    keep_patients: str = ""
    keep_stays: str = ""
    flag: str = ""
    flag_values: TextList = ("1", "true", "t", "yes", "y")
    min_hours: float = Field(default=12.0, ge=0)


class TableSettings(StrictModel):
    """`[table]`: the site table to make.

    Attributes:
        step_minutes: length of a time step.
        source: origin of the rows, as the table states it; the coordinator sees it.
    """

    step_minutes: PositiveCount = 60
    source: str = "own-export"


class IdSettings(StrictModel):
    """`[ids]`: the table holds keyed hashes of the hospital's ids if `hash`, else the ids."""

    hash: bool = False


class VitalSource(StrictModel):
    """One source of a vital sign.

    Attributes:
        codes: long tables: texts in the column `code`.
        column: wide tables: the column.
        unit: of its values; empty = the column `unit`, or where there is none the vital's own.
        units: units that its values mix; each value is read in the one whose range it is in.
        unit_column: wide tables: the column of its unit, row by row.
        low: values must be above this, in `unit`.
        high: values must be below this, in `unit`.
    """

    codes: TextList = ()
    column: str = ""
    unit: str = ""
    units: TextList = ()
    unit_column: str = ""
    low: float = -math.inf
    high: float = math.inf

    @model_validator(mode="after")
    def _check_unit(self) -> Self:
        given = [key for key in ("unit", "units", "unit_column") if getattr(self, key)]
        if len(given) > 1:
            names = [key.replace("_", "-") for key in given]
            raise invalid(f"does not go with {names[1]}; give one of them", names[0])
        for key in ("low", "high"):
            if self.units and math.isfinite(getattr(self, key)):
                raise invalid("is in one unit and does not go with units; leave it out", key)
        return self


class VitalTable(VitalSource):
    """`[vitals.NAME]`: one source of a vital sign, or a list of several.

    Attributes:
        sources: the sources, the most trusted first; instead of the keys of one.
        combine: of several values of a step, ``mean`` takes the mean, ``priority`` those of the
            first source that has any.
    """

    sources: Annotated[tuple[VitalSource, ...], Field(strict=False, min_length=1)] | None = None
    combine: Annotated[str, OneOf(("mean", "priority"))] = "mean"

    @model_validator(mode="after")
    def _check_one_form(self) -> Self:
        own = self.model_fields_set - {"sources", "combine"}
        if self.sources is not None and own:
            raise invalid("does not go with sources; move it into one of them", min(own))
        return self


@dataclass(frozen=True)
class VitalMapping:
    """The sources of a vital sign; attributes as of `VitalTable`."""

    name: str
    sources: tuple[VitalSource, ...]
    combine: str = "mean"


@dataclass(frozen=True)
class DropRule:
    """A line of `[drop]`: rows whose column holds one of the values are left out."""

    column: str
    values: tuple[str, ...]


def _has_password(database: str) -> bool:
    text = database.lower().replace(" ", "")
    if "password=" in text:
        return True
    _, scheme, rest = database.partition("://")
    user, at, _ = rest.rpartition("@")
    return bool(scheme and at and ":" in user)
