"""Base of all settings: a strict pydantic model whose errors are one line.

A key that is misspelt must stop the program: in a site's policy it would be a rule that is not
applied. pydantic refuses unknown keys and wrong types; the errors here name the key, what is wrong,
what was given, and the nearest known key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    Strict,
    ValidationError,
    ValidationInfo,
)
from pydantic.fields import FieldInfo
from pydantic_core import (
    CoreSchema,
    ErrorDetails,
    PydanticCustomError,
    PydanticKnownError,
    core_schema,
)

from common.errors import FedvitalsError, UsageError

LARGEST_INT = 2**63 - 1
"""Largest whole number that Flower's settings carry."""

_MOST_SHOWN = 200
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.\[\]-]{1,100}", re.ASCII)
_TYPE_ERRORS = {
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "string_type": 'must be a text in "quotes"',
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "tuple_type": 'must be a list of texts, ["one", "two"]',
}
_WITHOUT_VALUE = ("missing", "model_type", "dict_type", "string_too_short", "too_short")
"""Errors whose value is a table, which may hold a password, or says nothing."""


class StrictModel(BaseModel):
    """Frozen settings without coercion: known keys, exact types, finite numbers.

    An int stands for a float, as in TOML; nothing else mixes. The field `min_rank` is the key
    `min-rank` of a file; Python code constructs by field names.
    """

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        allow_inf_nan=False,
        alias_generator=lambda name: name.replace("_", "-"),
        validate_by_alias=False,
        validate_by_name=True,
    )

    @classmethod
    def load(
        cls,
        values: Mapping[str, Any],
        error: type[FedvitalsError] = UsageError,
        source: str = "",
        folder: Path | None = None,
    ) -> Self:
        """Return the settings that a file or a node gives.

        Args:
            values: values by key; a table is a dict.
            error: class of the error to raise.
            source: name of the file, for messages; may be empty.
            folder: base of relative paths.

        Raises:
            FedvitalsError: `error`, one line, where a key is unknown or missing or a value invalid.
        """
        try:
            return cls.model_validate(values, by_alias=True, by_name=False, context=folder)
        except ValidationError as problem:
            line = _line(cls, problem)
            raise error(f"{source}: {line}" if source else line) from None

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with changed fields; pydantic's `model_copy` does not validate.

        Raises:
            UsageError: a value is invalid.
        """
        values = {name: getattr(self, name) for name in type(self).model_fields}
        try:
            return type(self)(**values | changes)
        except ValidationError as problem:
            raise UsageError(_line(type(self), problem)) from None


def invalid(what: str, key: str = "") -> PydanticCustomError:
    """Return the error that a validator raises.

    Args:
        what: what is wrong; it follows the key in the message.
        key: a key of the validated table, where a check of the whole table finds one at fault.
    """
    return PydanticCustomError("invalid", "invalid", {"what": what, "key": key})


@dataclass(frozen=True)
class OneOf:
    """Annotation of a text that must be one of some names."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, _: Any, __: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            self._check, core_schema.str_schema(strict=True)
        )

    def _check(self, text: str) -> str:
        if text not in self.names:
            raise PydanticCustomError("unknown_name", "unknown", {"names": self.names})
        return text


@dataclass(frozen=True)
class ZeroOr:
    """Annotation of a number that is 0 (off) or in a range, ends included."""

    low: float
    high: float

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __str__(self) -> str:
        return f"0, or {range_text(self.low, self.high)}"

    def _check(self, value: float) -> float:
        if value != 0 and not self.low <= value <= self.high:
            raise invalid(f"must be {self}, got {value:g}")
        return value


@dataclass(frozen=True)
class Parsed:
    """Annotation of a value that a function parses from text; the function raises `UsageError`."""

    parse: Callable[[str], Any]

    def __get_pydantic_core_schema__(self, source: Any, _: GetCoreSchemaHandler) -> CoreSchema:
        kind = get_origin(source) or source

        def validate(value: object) -> Any:
            if isinstance(value, str):
                try:
                    return self.parse(value)
                except UsageError as problem:
                    raise invalid(str(problem)) from None
            if isinstance(value, kind):  # from Python code; no file holds one
                return value
            raise PydanticKnownError("string_type")

        return core_schema.no_info_plain_validator_function(validate)


def _file_path(value: object, info: ValidationInfo) -> Path:
    """Return a path, relative ones from the folder that is the validation context."""
    if isinstance(value, Path):
        return value
    if not isinstance(value, str):
        raise PydanticKnownError("string_type")
    if not value:
        raise PydanticKnownError("string_too_short", {"min_length": 1})
    return Path(info.context or "", value)


def _optional_path(value: object, info: ValidationInfo) -> Path | None:
    return None if value in (None, "") else _file_path(value, info)


def _distinct(texts: tuple[str, ...]) -> tuple[str, ...]:
    if "" in texts:
        raise invalid("must be a list of texts, none of them empty")
    if len(set(texts)) != len(texts):
        raise invalid("names one thing twice")
    return texts


def _open_unit_interval(value: float) -> float:
    if not 0 < value < 1:
        raise invalid(f"must be between 0 and 1, both excluded, got {value:g}")
    return value


Count = Annotated[int, Field(ge=0, le=LARGEST_INT)]
PositiveCount = Annotated[int, Field(ge=1, le=LARGEST_INT)]
FilePath = Annotated[Path, PlainValidator(_file_path)]
OptionalPath = Annotated[Path | None, PlainValidator(_optional_path)]
"""A path; None where the text is empty."""
DistinctTexts = Annotated[tuple[str, ...], Strict(False), AfterValidator(_distinct)]
Delta = Annotated[float, AfterValidator(_open_unit_interval)]
"""Delta of an (epsilon, delta) guarantee, between 0 and 1."""


def flatten(values: Mapping[str, Any], sections: Iterable[str]) -> dict[str, Any]:
    """Return a file's values with the keys of some tables as dotted keys.

    ``{"adapter": {"max-rank": 8}}`` gives ``{"adapter.max-rank": 8}``. A key that has a dot itself
    is quoted, as in the file, so that it is no dotted key.

    Raises:
        PydanticCustomError: a section is not a table.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key not in sections:
            flat[f'"{key}"' if "." in key else key] = value
        elif isinstance(value, dict):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            raise invalid(f"must be a table [{key}]", key)
    return flat


def range_text(low: float, high: float) -> str:
    """Return a range in words: "from 1 to 1,024", or "at least 0" where it is not bounded."""
    if high in (LARGEST_INT, math.inf):
        return f"at least {_number(low)}"
    return f"from {_number(low)} to {_number(high)}"


def field_range(field: FieldInfo) -> str:
    """Return the range of a field in words; empty where it has none."""
    for one in field.metadata:
        if isinstance(one, ZeroOr):
            return str(one)
    bounds = {
        name: getattr(one, name)
        for one in field.metadata
        for name in ("ge", "le")
        if hasattr(one, name)
    }
    return range_text(bounds["ge"], bounds.get("le", math.inf)) if "ge" in bounds else ""


def fields_by_key(model: type[StrictModel]) -> dict[str, FieldInfo]:
    """Return the fields of a model by their keys."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _line(model: type[StrictModel], problem: ValidationError) -> str:
    """Return the first error in one line; an unknown key before all others.

    A misspelt key is missing too, and the misspelling is the cause.
    """
    first = min(problem.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    steps, context = list(first["loc"]), first.get("ctx", {})
    fields = _fields_at(model, steps[:-1])
    if context.get("key"):
        steps.append(context["key"])
    title = model.model_config.get("title")
    key = _key_text([title, *steps] if title else steps)
    last, given = str(steps[-1]) if steps else "", shown(first["input"])
    match first["type"]:
        case "extra_forbidden":
            return f"{key} is unknown; {known_names(last, _siblings(last, fields))}"
        case "unknown_name":
            return f"unknown {key} {given}; {known_names(first['input'], context['names'])}"
        case "invalid":
            return f"{key} {context['what']}".strip()
    what = _what(first, fields.get(last), key)
    return f"{key} {what}" if first["type"] in _WITHOUT_VALUE else f"{key} {what}, got {given}"


def _what(error: ErrorDetails, field: FieldInfo | None, key: str) -> str:
    """Return what is wrong with a value, in words that follow its key."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "missing":
        example = field.examples[0] if field and field.examples else ""
        hint = f'; add the line: {key.rpartition(".")[2]} = "{example}"' if example else ""
        return f"is missing{hint}"
    if kind in ("model_type", "dict_type"):
        return f"must be a table [{key}]"
    if kind == "tuple_type" and field and _nested_model(field.annotation):
        return f"must be tables, each headed [[{key}]]"
    if kind in ("greater_than_equal", "less_than_equal") and field:
        if context.get("le") == LARGEST_INT:
            return f"must be at most {LARGEST_INT:,}"
        return f"must be {field_range(field)}"
    if kind == "string_too_long":
        return f"must be text of at most {context['max_length']:,} characters"
    return _TYPE_ERRORS.get(kind, error["msg"])


def known_names(given: str, names: Iterable[str]) -> str:
    """Return the nearest of some names, if one is near, and all of them."""
    known = list(names)
    near = get_close_matches(given[:_MOST_SHOWN].lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known are: {', '.join(known)}"


def _siblings(key: str, fields: Iterable[str]) -> list[str]:
    """Return the known keys of the table that a key is in; dotted keys are keys of tables."""
    table, dot, _ = key.partition(".")
    same_table = [one for one in fields if dot and one.startswith(f"{table}.")]
    return same_table or list(dict.fromkeys(one.partition(".")[0] for one in fields))


def _fields_at(model: type[StrictModel], steps: Iterable[str | int]) -> dict[str, FieldInfo]:
    """Return the fields, by key, of the table at a location.

    A step that is no field is an index, or a name that the site chose.
    """
    fields = fields_by_key(model)
    for step in steps:
        if step in fields:
            nested = _nested_model(fields[str(step)].annotation)
            fields = fields_by_key(nested) if nested else {}
    return fields


def _nested_model(annotation: Any) -> type[StrictModel] | None:
    """Return the model in an annotation such as ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, StrictModel):
        return annotation
    return next(filter(None, map(_nested_model, get_args(annotation))), None)


def _key_text(steps: Iterable[str | int]) -> str:
    """Return a location as TOML writes it, e.g. ``bundles[0].until``, in one line."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _PLAIN_KEY.fullmatch(step) else shown(step))
    return text


def shown(value: object) -> str:
    """Return a value as an error repeats it: escaped, and cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # ValueError: an int of more than 4,300 digits
        return "a value too long to show"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
