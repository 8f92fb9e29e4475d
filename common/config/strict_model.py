"""Base of all settings: a strict pydantic model that raises errors of one line.

A key that is misspelt must stop the program: in a site's policy it would be a rule that is not
applied. `field_types` has the types of fields, `error_line` the words of an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from common.config.error_line import error_line
from common.config.field_types import invalid
from common.errors import FedvitalsError, UsageError


class StrictModel(BaseModel):
    """Frozen settings without coercion: known keys, exact types, finite numbers.

    An int may replace a float, as in TOML; nothing else mixes. The field `min_rank` is the key
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
            line = error_line(cls, problem)
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
            raise UsageError(error_line(type(self), problem, by_name=True)) from None


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
