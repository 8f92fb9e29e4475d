"""`[file]`, `[source]` and `[columns]` of mapping.toml: where the rows are and their columns."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from common.config.error_line import value_text
from common.config.field_types import OneOf, invalid
from common.config.strict_model import StrictModel

DATABASES = ("sqlite", "postgres", "duckdb")

ENCODINGS = ("utf-8", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-16-be")
"""Encodings that a mapping may state. UTF-16 is found without it."""


def _one_character(text: str) -> str:
    if len(text) != 1:
        raise invalid(f"is one character, got {value_text(text)}")
    return text


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
        database: file of SQLite or DuckDB, or PostgreSQL's connection string, never with a
            password; with DuckDB it may be empty, for a query that reads files.
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
            # Without a database, DuckDB's query reads files.
            needs = key == "query" or self.attach != "duckdb"
            if needs and not text.strip():
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
        encounter: instead, the id of an encounter (visit, hospitalization, case), by which the
            table of stays gives the patient.
        time: time of the measurement.
        code: long tables: name of the vital sign in a row.
        value: long tables: its value.
        unit: long tables: its unit, row by row; empty = the units that the vital signs name.
    """

    patient: str = ""
    encounter: str = ""
    time: str
    code: str = ""
    value: str = ""
    unit: str = ""

    @model_validator(mode="after")
    def _check_who(self) -> Self:
        if not (self.patient or self.encounter):
            raise invalid("is missing (or encounter, to look it up in a table of stays)", "patient")
        if self.patient and self.encounter:
            raise invalid(
                "does not go with patient: the patient is in the rows, or is looked up by the "
                "encounter; give one of them",
                "encounter",
            )
        return self


def _has_password(database: str) -> bool:
    text = database.lower().replace(" ", "")
    if "password=" in text:
        return True
    _, scheme, rest = database.partition("://")
    user, at, _ = rest.rpartition("@")
    return bool(scheme and at and ":" in user)
