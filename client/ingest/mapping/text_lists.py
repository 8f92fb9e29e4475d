"""Lists of texts of mapping.toml: codes, values and formats."""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainValidator

from common.config.error_line import value_text
from common.config.field_types import invalid


def text_list(value: object, key: str = "") -> tuple[str, ...]:
    """Return a list of texts and whole numbers as texts; one alone is a list of one.

    Raises:
        PydanticCustomError: the list is empty, or an item is something else.
    """
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not items or not all(isinstance(item, str | int) for item in items):
        raise invalid(f"takes a list of texts, got {value_text(value)}", key)
    return tuple(str(item).lower() if isinstance(item, bool) else str(item) for item in items)


TextList = Annotated[tuple[str, ...], PlainValidator(lambda value: text_list(value))]
