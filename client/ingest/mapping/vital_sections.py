"""`[vitals]`, `[drop]`, `[table]` and `[ids]` of mapping.toml: the measurements to take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticKnownError

from client.ingest.mapping.text_lists import TextList, text_list
from common.config.error_line import known_names
from common.config.field_types import OneOf, PositiveCount, invalid
from common.config.strict_model import StrictModel
from common.data.vitals import VITAL_NAMES


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


def drop_rules(table: object) -> tuple[DropRule, ...]:
    """Return the rules of `[drop]`."""
    if not isinstance(table, dict):
        raise PydanticKnownError("dict_type")
    return tuple(DropRule(column, text_list(values, column)) for column, values in table.items())


def check_vitals(tables: dict[str, VitalTable]) -> dict[str, VitalTable]:
    """Return `[vitals]`, whose keys must be names of vital signs."""
    if not tables:
        raise invalid("is empty; name at least one vital sign, e.g. [vitals.spo2]")
    for name in tables:
        if name not in VITAL_NAMES:
            raise invalid(f"is not a vital sign; {known_names(name, VITAL_NAMES)}", name)
    return tables
