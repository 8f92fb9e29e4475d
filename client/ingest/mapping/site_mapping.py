"""mapping.toml: a hospital's description of its own table."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, PlainValidator, PrivateAttr, model_validator

from client.ingest.mapping.clock import Clock
from client.ingest.mapping.source_sections import Columns, FileFormat, SqlSource
from client.ingest.mapping.stay_sections import CohortRule, PatientColumns, StayRule
from client.ingest.mapping.vital_sections import (
    DropRule,
    IdSettings,
    TableSettings,
    VitalMapping,
    VitalSource,
    VitalTable,
    check_vitals,
    drop_rules,
)
from client.ingest.units import check_unit, check_units_by_range, unit_of_any_vital
from client.site_split.split_rule import SplitRule
from common.config.error_line import value_text
from common.config.field_types import OneOf, Parsed, checked_values, invalid
from common.config.strict_model import StrictModel
from common.config.toml import parse_toml, read_bytes
from common.data.vitals import VITAL_NAMES
from common.errors import UsageError
from common.names import check_site_name


def _site_name(text: str) -> str:
    try:
        return check_site_name(text)
    except UsageError as problem:
        raise UsageError(f"is not valid: {problem}") from None


class SiteMapping(StrictModel):
    """mapping.toml, validated as far as is possible without the table.

    Attributes:
        site: the site's name.
        shape: ``long``, a row a measurement, or ``wide``, a row a time with a column a vital sign.
        file, source, columns, time, stay, cohort, patients, table, ids: the sections of the same
            names.
        drop: the rows to leave out.
        split: the hospital's own split; None = by a keyed hash of the patient's id.
        units: meaning of texts in a column of units, or after a number, that are not known.
    """

    site: Annotated[str, Parsed(_site_name)]
    shape: Annotated[str, OneOf(("long", "wide"))]
    file: FileFormat = Field(default_factory=FileFormat)
    source: SqlSource = Field(default_factory=SqlSource)
    columns: Columns
    time: Clock
    stay: StayRule
    cohort: CohortRule
    patients: PatientColumns = Field(default_factory=PatientColumns)
    table: TableSettings = Field(default_factory=TableSettings)
    ids: IdSettings = Field(default_factory=IdSettings)
    split: SplitRule | None = None
    drop: Annotated[tuple[DropRule, ...], PlainValidator(drop_rules)] = ()
    units: Annotated[dict[str, str], checked_values(unit_of_any_vital)] = Field(
        default_factory=dict
    )
    vital_tables: Annotated[dict[str, VitalTable], AfterValidator(check_vitals)] = Field(
        alias="vitals"
    )
    _folder: Path = PrivateAttr(default=Path())
    _sha256: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        self._check_columns()
        self._check_stays()
        for vital in self.vitals:
            self._check_vital(vital)
        sources = [source for vital in self.vitals for source in vital.sources]
        _refuse_twice((code for source in sources for code in source.codes), "code")
        _refuse_twice((one.column.lower() for one in sources if one.column), "column")
        return self

    def _check_columns(self) -> None:
        of_long = {"code": self.columns.code, "value": self.columns.value}
        if self.shape == "long":
            for key, column in of_long.items():
                if not column:
                    raise invalid('is missing, which shape = "long" needs', f"columns.{key}")
            return
        for key, column in {**of_long, "unit": self.columns.unit}.items():
            if column:
                raise invalid(
                    'does not go with shape = "wide", where each vital sign names its column and '
                    "its unit in [vitals]",
                    f"columns.{key}",
                )

    def _check_stays(self) -> None:
        stay, query = self.stay, self.source.stays_query
        if stay.table and query:
            raise invalid("and source.stays-query are both given; give one", "stay.table")
        for key in ("patient", "encounter", "keep", "merge_hours", "since"):
            if getattr(stay, key) and not self.has_stay_table:
                name = key.replace("_", "-")
                raise invalid("is of a table of stays; give table too", f"stay.{name}")
        self._check_encounters()
        if self.patients.columns and not self.has_stay_table:
            raise invalid("names columns of a table of stays; give stay.table too", "patients")
        if stay.end and not stay.start and not self.time.is_offset:
            raise invalid("needs start beside it", "stay.end")
        if self.has_stay_table and not stay.start and not self.time.is_offset:
            raise invalid("is missing, which a table of stays needs", "stay.start")
        if self.split and self.split.in_time and self.has_own_clocks:
            raise invalid(
                "in time needs dates, and the times count from each admission; give the admission "
                "in [stay], or split by a column",
                "split",
            )

    def _check_encounters(self) -> None:
        stay = self.stay
        if self.columns.encounter:
            if not self.has_stay_table:
                raise invalid("needs a table of stays; give stay.table too", "columns.encounter")
            if not stay.patient:
                raise invalid(
                    "is missing: the patient's column in the table of stays, or in a file joined "
                    "to it",
                    "stay.patient",
                )
        elif self.has_stay_table:
            if stay.encounter or stay.since:
                key = "encounter" if stay.encounter else "since"
                raise invalid("needs encounters in the rows; give columns.encounter", f"stay.{key}")
            if self.time.is_offset and not self.stay_clock.is_offset:
                raise invalid(
                    "counts from an admission, and a patient may have several; give "
                    "columns.encounter, so that each row has its own",
                    "time.format",
                )
        if stay.since and not self.time.is_offset:
            raise invalid("goes with offsets in [time] format alone", "stay.since")
        if stay.since and self.stay_clock.is_offset:
            raise invalid(
                "is a date, and the bounds of stays are offsets by [stay] time: leave it out; "
                "offsets of one encounter count from one moment",
                "stay.since",
            )

    def _check_vital(self, vital: VitalMapping) -> None:
        needed, other = ("codes", "column") if self.shape == "long" else ("column", "codes")
        for source in vital.sources:
            if not getattr(source, needed) or getattr(source, other):
                raise invalid(
                    f'needs {needed} where shape = "{self.shape}", and {other} does not go with it',
                    f"vitals.{vital.name}",
                )
            if source.unit_column and self.shape == "long":
                raise invalid(
                    'goes with shape = "wide"; name the column of units in [columns] unit',
                    f"vitals.{vital.name}.unit-column",
                )
            self._check_units(vital.name, source)

    def _check_units(self, name: str, source: VitalSource) -> None:
        key = "unit" if source.unit else "units"
        try:
            if source.unit:
                check_unit(name, source.unit)
            elif source.units:
                check_units_by_range(name, source.units)
        except UsageError as problem:
            raise invalid(f"is not valid: {problem}", f"vitals.{name}.{key}") from None

    @property
    def vitals(self) -> tuple[VitalMapping, ...]:
        """The sources of each vital sign, in the order of the site table's columns."""
        given = self.vital_tables
        return tuple(_vital(name, given[name]) for name in VITAL_NAMES if name in given)

    @property
    def codes(self) -> list[str]:
        """The codes of all vital signs; none in a wide table."""
        return [code for vital in self.vitals for one in vital.sources for code in one.codes]

    @property
    def folder(self) -> Path:
        """The mapping's folder, base of its relative paths."""
        return self._folder

    @property
    def sha256(self) -> str:
        """Digest of the mapping's file."""
        return self._sha256

    @property
    def has_stay_table(self) -> bool:
        """True if stays come from a table of their own."""
        return bool(self.stay.table or self.source.stays_query)

    @property
    def has_stay_keys(self) -> bool:
        """True if each row has its stay's id or admission."""
        return not (self.stay.by_gap or self.has_stay_table)

    @property
    def since(self) -> str:
        """The column of the moment that offsets count from; empty = each stay has its own clock."""
        if not self.time.is_offset:
            return ""
        return self.stay.since or ("" if self.stay_clock.is_offset else self.stay.start)

    @property
    def has_own_clocks(self) -> bool:
        """True if the times of two stays cannot be compared."""
        return self.time.is_offset and not self.since

    @property
    def stay_patient(self) -> str:
        """The patient's column in the table of stays."""
        return self.stay.patient or self.columns.patient

    @property
    def stay_encounter(self) -> str:
        """The encounter's column in the table of stays; empty = rows have the patient."""
        return self.columns.encounter and (self.stay.encounter or self.columns.encounter)

    @property
    def row_columns(self) -> list[str]:
        """The columns that the rows must have, each once, as the mapping writes them."""
        names = [self.columns.patient, self.columns.encounter, self.columns.time]
        names += [self.columns.code, self.columns.value, self.columns.unit]
        places = [place for vital in self.vitals for place in vital.sources]
        names += [name for place in places for name in (place.column, place.unit_column)]
        names += [rule.column for rule in self.drop]
        if not self.has_stay_table:
            names += [self.stay.id, self.stay.start, self.stay.end, self.cohort.flag]
            names += [self.split.column] if self.split else []
        return list(dict.fromkeys(name for name in names if name))

    @property
    def stay_columns(self) -> list[str]:
        """The columns that a table of stays must have with what is joined to it, each once."""
        names = [self.stay_patient, self.stay_encounter, self.since, *self.stay.keep]
        names += [self.stay.id, self.stay.start, self.stay.end, self.cohort.flag]
        names += [self.split.column] if self.split else []
        return list(dict.fromkeys(name for name in names if name))

    @property
    def stay_clock(self) -> Clock:
        """The clock of admissions and discharges."""
        return self.stay.time or self.time

    @property
    def rule(self) -> str:
        """The cohort rule in words, as the site table carries it."""
        text = (
            f"{self.cohort.rule}, at least {self.cohort.min_hours:g} h, "
            f"{self.table.step_minutes} min steps"
        )
        return f"{text}, {self.split.short_text}" if self.split else text


def read_mapping(path: Path) -> SiteMapping:
    """Read a mapping and check everything that can be checked without the table.

    Raises:
        UsageError: the file cannot be read or is not TOML, a key is unknown or missing, or a value
            is invalid.
    """
    data = read_bytes(path, UsageError)
    mapping = SiteMapping.load(parse_toml(data, path, UsageError), UsageError, str(path))
    mapping._folder, mapping._sha256 = path.parent, sha256(data).hexdigest()
    return mapping


def _vital(name: str, table: VitalTable) -> VitalMapping:
    return VitalMapping(name, table.sources or (table,), table.combine)


def _refuse_twice(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise invalid(f"names the {what} {value_text(name)} for two vital signs", "vitals")
        seen.add(name)
