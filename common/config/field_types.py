"""Types of settings' fields, beyond pydantic's own."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_origin

from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    Strict,
    ValidationInfo,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, PydanticKnownError, core_schema

from common.errors import UsageError

LARGEST_INT = 2**63 - 1
"""Largest whole number that Flower's settings carry."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


def invalid(what: str, key: str = "") -> PydanticCustomError:
    """Return the error that a validator raises.

    Args:
        what: what is wrong; it follows the key in the message.
        key: a key of the validated table, where a check of the whole table finds one at fault.
    """
    return PydanticCustomError("invalid", "invalid", {"what": what, "key": key})


def checked_values(check: Callable[[str], object]) -> AfterValidator:
    """Return the annotation of a table of texts, each of which a function checks.

    Args:
        check: raises `UsageError` for a text that is not valid.
    """

    def check_all(texts: dict[str, str]) -> dict[str, str]:
        for key, text in texts.items():
            try:
                check(text)
            except UsageError as problem:
                raise invalid(f"is not valid: {problem}", key) from None
        return texts

    return AfterValidator(check_all)


@dataclass(frozen=True)
class OneOf:
    """Annotation of a text that must be one of some names."""

    names: tuple[str, ...]

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # `handler` keeps the annotations before this one; a Literal is checked as text.
        return core_schema.no_info_after_validator_function(self._check, handler(str))

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


def _printable(text: str) -> str:
    if not text.isprintable():
        raise invalid(f"must be printable, got {text!r:.200}")
    return text


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


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise UsageError(f"must be a digest, 64 of 0-9 a-f, got {text!r:.200}")
    return text


Count = Annotated[int, Field(ge=0, le=LARGEST_INT)]
PositiveCount = Annotated[int, Field(ge=1, le=LARGEST_INT)]
FilePath = Annotated[Path, PlainValidator(_file_path)]
OptionalPath = Annotated[Path | None, PlainValidator(_optional_path)]
"""A path; None where the text is empty."""
PrintableText = Annotated[str, Field(max_length=200), AfterValidator(_printable)]
DistinctTexts = Annotated[tuple[PrintableText, ...], Strict(False), AfterValidator(_distinct)]
Sha256 = Annotated[str, Parsed(_sha256)]
PrivacyDelta = Annotated[float, AfterValidator(_open_unit_interval)]
"""Delta of an (epsilon, delta) guarantee, between 0 and 1."""


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


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
