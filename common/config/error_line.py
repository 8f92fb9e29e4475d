"""A validation error in one line: the key, what is wrong, what was given, the nearest known key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from common.config.field_types import LARGEST_INT, field_range

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


def error_line(model: type[BaseModel], problem: ValidationError, *, by_name: bool = False) -> str:
    """Return the first error in one line; an unknown key before all others.

    A misspelt key is missing too, and the misspelling is the cause.

    Args:
        model: the validated model.
        problem: its errors.
        by_name: the values were given by the fields' names, not by their keys.
    """
    first = min(problem.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    steps, context = list(first["loc"]), first.get("ctx", {})
    if by_name and steps and steps[0] in model.model_fields:
        steps[0] = model.model_fields[str(steps[0])].alias or steps[0]
    fields = _fields_at(model, steps[:-1])
    if context.get("key"):
        steps.append(context["key"])
    title = model.model_config.get("title")
    key = _key_text([title, *steps] if title else steps)
    last, given = str(steps[-1]) if steps else "", value_text(first["input"])
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


def fields_by_key(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return the fields of a model by their keys."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def known_names(given: str, names: Iterable[str]) -> str:
    """Return the nearest of some names, if one is near, and all of them."""
    known = list(names)
    near = get_close_matches(given[:_MOST_SHOWN].lower(), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known are: {', '.join(known)}"


def value_text(value: object) -> str:
    """Return a value as an error repeats it: escaped, and cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # ValueError: an int of more than 4,300 digits
        return "a value too long to show"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


def _siblings(key: str, fields: Iterable[str]) -> list[str]:
    """Return the known keys of the table that a key is in; dotted keys are keys of tables."""
    table, dot, _ = key.partition(".")
    same_table = [one for one in fields if dot and one.startswith(f"{table}.")]
    return same_table or list(dict.fromkeys(one.partition(".")[0] for one in fields))


def _fields_at(model: type[BaseModel], steps: Iterable[str | int]) -> dict[str, FieldInfo]:
    """Return the fields, by key, of the table at a location.

    A step that is no field is an index, or a name that the site chose.
    """
    fields = fields_by_key(model)
    for step in steps:
        if step in fields:
            nested = _nested_model(fields[str(step)].annotation)
            fields = fields_by_key(nested) if nested else {}
    return fields


def _nested_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model in an annotation such as ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_nested_model, get_args(annotation))), None)


def _key_text(steps: Iterable[str | int]) -> str:
    """Return a location as TOML writes it, e.g. ``bundles[0].until``, in one line."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            plain = step if _PLAIN_KEY.fullmatch(step) else value_text(step)
            text += f".{plain}" if text else plain
    return text
