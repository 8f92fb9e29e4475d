"""mapping.toml, read into typed frozen objects; what is not known is refused by name."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from client.ingest.mapping_sections import (
    SHAPES,
    Clock,
    CohortRule,
    Columns,
    DropRule,
    FileFormat,
    IdSettings,
    SqlSource,
    StayRule,
    TableSettings,
    VitalMapping,
    VitalSource,
)
from common.data.site_table import VITAL_NAMES
from common.errors import UsageError
from common.names import check_name, check_site_name

Section = TypeVar("Section")

_SECTIONS: dict[str, type] = {
    "file": FileFormat,
    "source": SqlSource,
    "columns": Columns,
    "time": Clock,
    "stay": StayRule,
    "cohort": CohortRule,
    "table": TableSettings,
    "ids": IdSettings,
}
_KEYS = ("site", "shape", *_SECTIONS, "drop", "vitals")


@dataclass(frozen=True)
class SiteMapping:
    """A hospital's description of its own table.

    Attributes:
        site: the site's name.
        shape: one of `SHAPES`: a row a measurement, or a row a time with a column a vital sign.
        file, source, columns, time, stay, cohort, table, ids: the sections of the same names.
        drop: the rows to leave out.
        vitals: where each vital sign stands, in the order of the site table's columns.
        folder: that of the mapping; paths in it are relative to this.
        sha256: digest of the mapping's file.
    """

    site: str
    shape: str
    file: FileFormat
    source: SqlSource
    columns: Columns
    time: Clock
    stay: StayRule
    cohort: CohortRule
    table: TableSettings
    ids: IdSettings
    drop: tuple[DropRule, ...]
    vitals: tuple[VitalMapping, ...]
    folder: Path
    sha256: str

    @property
    def has_stay_table(self) -> bool:
        """Whether stays come from a table of their own."""
        return bool(self.stay.table or self.source.stays_query)

    @property
    def stay_clock(self) -> Clock:
        """The clock of admissions and discharges."""
        return self.stay.time or self.time

    @property
    def rule(self) -> str:
        """The cohort rule in words, as the site table carries it."""
        return (
            f"{self.cohort.rule}, at least {self.cohort.min_hours:g} h, "
            f"{self.table.step_minutes} min steps"
        )


def read_mapping(path: Path) -> SiteMapping:
    """Read a mapping and check everything that can be checked without the table.

    Raises:
        UsageError: where the file is absent or no TOML, or a key or a value of it cannot be; the
            message names the section, and for an unknown key the nearest known one.
    """
    try:
        data = path.read_bytes()
        values = tomllib.loads(data.decode("utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"the mapping {path} cannot be read: {reason}") from error
    try:
        return _mapping(values, path, sha256(data).hexdigest())
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _mapping(values: dict[str, Any], path: Path, digest: str) -> SiteMapping:
    for key in values:
        check_name("key", key, _KEYS)
    for key in ("site", "shape"):
        if not isinstance(values.get(key), str):
            raise UsageError(f'{key} is missing or no text; write {key} = "..." at the top')
    shape = check_name("shape", values["shape"], SHAPES)
    sections: dict[str, Any] = {
        name: _section(f"[{name}]", kind, values.get(name, {})) for name, kind in _SECTIONS.items()
    }
    sections["columns"].check_shape(shape)
    _located("", sections["stay"].check_table, sections["source"].stays_query)
    return SiteMapping(
        site=check_site_name(values["site"]),
        shape=shape,
        **sections,
        drop=_drop_rules(_as_table("[drop]", values.get("drop", {}))),
        vitals=_vitals(_as_table("[vitals]", values.get("vitals", {})), shape),
        folder=path.parent,
        sha256=digest,
    )


def _section(where: str, kind: type[Section], given: Any) -> Section:
    """Build a section from its keys, each converted to the type of its field."""
    values = _as_table(where, given)
    hints = get_type_hints(kind)
    names = {field.name.replace("_", "-"): field for field in fields(kind)}  # type: ignore[arg-type]
    _known_keys(where, values, names)
    for key, field in names.items():
        if key not in values and field.default is MISSING:
            raise UsageError(f"{where} lacks {key}")
    converted = {
        names[key].name: _value(f"{where} {key}", value, hints[names[key].name])
        for key, value in values.items()
    }
    section: Section = _located(where, kind, **converted)
    return section


def _value(where: str, given: Any, kind: Any) -> Any:
    """Return a TOML value as the type of its field; text stands alone for a list of one."""
    if kind == Clock | None:
        return _section(where, Clock, given)
    if kind == tuple[str, ...]:
        items = given if isinstance(given, list) else [given]
        if items and all(isinstance(item, str | int) for item in items):
            return tuple(_text(item) for item in items)
        raise UsageError(f"{where} takes a list of texts, got {given!r}")
    if kind is float and type(given) is int:
        return float(given)
    if type(given) is not kind:
        word = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise UsageError(f"{where} must be {word}, got {given!r}")
    return given


def _text(item: str | int) -> str:
    return str(item).lower() if isinstance(item, bool) else str(item)


def _drop_rules(values: Mapping[str, Any]) -> tuple[DropRule, ...]:
    return tuple(
        DropRule(column, _value(f"[drop] {column}", given, tuple[str, ...]))
        for column, given in values.items()
    )


def _vitals(values: Mapping[str, Any], shape: str) -> tuple[VitalMapping, ...]:
    if not values:
        raise UsageError("[vitals] is missing; name at least one vital sign, e.g. [vitals.spo2]")
    for name in values:
        check_name("vital in [vitals]", name, VITAL_NAMES)
    vitals = tuple(_vital(name, values[name], shape) for name in VITAL_NAMES if name in values)
    _refuse_twice([code for v in vitals for source in v.sources for code in source.codes], "code")
    columns = [source.column.lower() for v in vitals for source in v.sources if source.column]
    _refuse_twice(columns, "column")
    return vitals


def _vital(name: str, given: Any, shape: str) -> VitalMapping:
    where = f"[vitals.{name}]"
    values = dict(_as_table(where, given))
    combine = _value(f"{where} combine", values.pop("combine", "mean"), str)
    if "sources" in values:
        _known_keys(where, values, ("sources", "combine"))
        given_sources = values["sources"]
        if not isinstance(given_sources, list) or not given_sources:
            raise UsageError(f"{where} sources takes a list of tables, got {given_sources!r}")
    else:
        given_sources = [values]
    sources = tuple(_section(where, VitalSource, source) for source in given_sources)
    vital = VitalMapping(name, sources, combine)
    _located(where, vital.check, shape)
    return vital


def _known_keys(where: str, values: Mapping[str, Any], known: Collection[str]) -> None:
    for key in values:
        check_name(f"key in {where}", key, known)


def _located(where: str, build: Any, *values: Any, **keys: Any) -> Any:
    """Call a check or a constructor; say in its error in which section it was."""
    try:
        return build(*values, **keys)
    except UsageError as error:
        raise UsageError(f"{where} {error}") from None


def _as_table(where: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise UsageError(f"{where} must be a table of keys, got {given!r}")
    return given


def _refuse_twice(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"the {what} {twice[0]!r} stands for two vital signs; name it once")
