"""`[split]` of mapping.toml: the hospital's own split, by a column or in time."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Self

from pydantic import Field, PlainValidator, model_validator

from client.ingest.mapping.text_lists import text_list
from common.config.error_line import value_text
from common.config.field_types import OneOf, invalid
from common.config.strict_model import StrictModel
from common.data.splits import SPLITS

REFUSE, FIRST = "refuse", "first"


def _day(value: object) -> date | None:
    # None comes from Python code alone: TOML has none.
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise invalid(f"is a date as 2022-01-01, got {value_text(value)}")


def _values(value: object) -> tuple[str, ...]:
    return () if value == () else text_list(value)


_Values = Annotated[tuple[str, ...], PlainValidator(_values)]


class SplitRule(StrictModel):
    """`[split]`: the part of each stay; a patient's stays are all in one part.

    Without it, a keyed hash of the patient's id draws the split.

    Attributes:
        column: column of the rows, or of the table of stays, whose values are the parts.
        train: values of the training stays.
        validation: values of the validation stays; empty = drawn from the training patients.
        test: values of the test stays.
        before: instead of a column, the day from which on stays are test, by admission.
        last_percent: instead of a day, the share of the stays, the last by admission, that are
            test.
        validation_percent: share of the training patients that a keyed hash draws for validation,
            where no column does.
        both_sides: a patient with stays in several parts is refused, or is in the part of the
            first stay; empty = refused by a column, the first in time.
    """

    column: str = ""
    train: _Values = ()
    validation: _Values = ()
    test: _Values = ()
    before: Annotated[date | None, PlainValidator(_day)] = None
    last_percent: float = Field(default=0.0, ge=0, le=90)
    validation_percent: float = Field(default=12.5, ge=0, le=50)
    both_sides: Annotated[str, OneOf(("", REFUSE, FIRST))] = ""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        ways = {
            "column": bool(self.column),
            "before": self.before is not None,
            "last-percent": self.last_percent > 0,
        }
        given = [key for key, there in ways.items() if there]
        if len(given) != 1:
            raise invalid(
                f"takes one of column, before and last-percent, got {' and '.join(given) or 'none'}"
            )
        lists = {name: getattr(self, name) for name in SPLITS}
        if not self.column:
            named = next((name for name, values in lists.items() if values), None)
            if named:
                raise invalid(f"goes with column, not with {given[0]}", named)
            return self
        for name in ("train", "test"):
            if not lists[name]:
                raise invalid(f"is missing: the values of {self.column} that are {name}", name)
        values = [value for one in lists.values() for value in one]
        for value in values:
            if values.count(value) > 1:
                raise invalid(f"names {value_text(value)} in two parts, or twice")
        return self

    @property
    def in_time(self) -> bool:
        """True for a split by admission."""
        return not self.column

    @property
    def refuses_both_sides(self) -> bool:
        """True if a patient with stays in several parts is refused."""
        return (self.both_sides or (FIRST if self.in_time else REFUSE)) == REFUSE

    @property
    def short_text(self) -> str:
        """The kind of split, for the cohort rule that the coordinator sees: no value, no date."""
        return "split in time" if self.in_time else "split by a column"

    @property
    def text(self) -> str:
        """The rule in words, for the site table and its record."""
        if self.column:
            lists = ((name, getattr(self, name)) for name in SPLITS)
            parts = [f"{name} {', '.join(values)}" for name, values in lists if values]
            text = f"by the column {self.column}: {'; '.join(parts)}"
        elif self.before:
            text = f"in time: stays admitted from {self.before.isoformat()} on are test"
        else:
            text = f"in time: the last {self.last_percent:g} % of the stays by admission are test"
        if not self.validation:
            text += f"; {self.validation_percent:g} % of the training patients are validation"
        if not self.refuses_both_sides:
            text += "; a patient is in the part of the first stay"
        return text
