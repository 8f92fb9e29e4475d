"""A run's settings at the site: the values that the policy accepts, and the audit log's record.

The settings come from the coordinator and control what the app computes from the patients: the
windows, the trained matrices, the noise. `[settings]` in policy.toml names, for
each key, the values or the range that the site accepts::

    backbone = ["chronos-bolt-nano"]              # one of these
    "lora.rank" = { min = 1, max = 16 }           # a range, ends included
    "privacy.noise-seed" = -1                     # this value alone

A key of `GUARDED` that is not named there is refused whatever its value. Other keys are checked
only if named: they control the coordinator's rounds alone.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from pydantic_core import PydanticKnownError

from client.policy.refusal import MAX_DETAIL_CHARACTERS
from common.config.error_line import known_names, value_text
from common.config.field_types import invalid
from common.config.run_config import RunConfig, Value, key_types

GUARDED = ("backbone", "lora.", "privacy.", "train.", "windows.", "wire.")
"""Keys that are refused unless the policy names them; one that ends in a dot is a whole section."""


@dataclass(frozen=True)
class Accepted:
    """Values of one setting that the site accepts.

    Attributes:
        values: the accepted values; empty where a range is given.
        least: the smallest accepted number.
        most: the largest.
    """

    values: tuple[Value, ...] = ()
    least: float = -math.inf
    most: float = math.inf

    def __contains__(self, value: Value) -> bool:
        if self.values:
            return value in self.values
        return not isinstance(value, str) and self.least <= value <= self.most

    def __str__(self) -> str:
        if self.values:
            return " or ".join(json.dumps(value) for value in self.values)
        return f"{self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class RunSettings:
    """Resolved settings of a run: the bundle's own, overridden by the coordinator's.

    Attributes:
        config: the settings, checked by this release.
    """

    config: RunConfig
    flat: Mapping[str, Value] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "flat", self.config.flat())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all settings, as JSON with sorted keys."""
        text = json.dumps(dict(self.flat), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def record(self) -> dict[str, object]:
        """Return the audit log's record: the digest of all settings, and the changed ones.

        Long texts are cut; the digest covers them whole.
        """
        usual = RunConfig().flat()
        changed = {key: _cut(value) for key, value in self.flat.items() if value != usual[key]}
        return {"sha256": self.digest, "changed": changed}


def _cut(value: Value) -> Value:
    if isinstance(value, str) and len(value) > MAX_DETAIL_CHARACTERS:
        return f"{value[:MAX_DETAIL_CHARACTERS]}… ({len(value)} characters)"
    return value


def read_accepted(table: object) -> dict[str, Accepted]:
    """Return the values of `[settings]` in policy.toml, as a pydantic validator.

    Raises:
        PydanticCustomError: a key is no setting, or a value is invalid.
    """
    if not isinstance(table, dict):
        raise PydanticKnownError("dict_type")
    types = key_types()
    for key in table:
        if key not in types:
            raise invalid(f"is unknown; {known_names(key, types)}", key)
    return {key: _accepted(key, types[key], value) for key, value in table.items()}


def refused_setting(settings: Mapping[str, Value], accepted: Mapping[str, Accepted]) -> str:
    """Return the reason why the policy does not accept a run's settings; empty if it does.

    The reason begins with the setting's key and a space.

    Args:
        settings: all settings, as flat pairs.
        accepted: the policy's accepted values, by key.
    """
    for key, value in settings.items():
        if key in accepted:
            if value not in accepted[key]:
                return f"{key} = {json.dumps(value)}, the policy accepts {accepted[key]}"
        elif is_guarded(key):
            return f"{key} = {json.dumps(value)}, which the policy's [settings] does not name"
    return ""


def unnamed_settings(accepted: Mapping[str, Accepted]) -> list[str]:
    """Return the guarded keys that a policy does not name; if there is one, it accepts no run."""
    return [key for key in key_types() if is_guarded(key) and key not in accepted]


def is_guarded(key: str) -> bool:
    """Return true if a setting is refused unless the policy names it."""
    return any(key == one or (one.endswith(".") and key.startswith(one)) for one in GUARDED)


def _accepted(key: str, kind: type, value: object) -> Accepted:
    if isinstance(value, Accepted):
        return value
    if isinstance(value, dict):
        return _range(key, kind, value)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise invalid("accepts nothing; name a value, or leave the key out", key)
    return Accepted(values=tuple(_value(key, kind, one) for one in values))


def _range(key: str, kind: type, given: Mapping[str, object]) -> Accepted:
    if kind not in (int, float):
        raise invalid("is no number and has no range; name a value or a list of values", key)
    if not given or not given.keys() <= {"min", "max"}:
        raise invalid(f"must be {{ min = …, max = … }}, got {value_text(sorted(given))}", key)
    ends = {name: float(_value(key, float, end)) for name, end in given.items()}
    least, most = ends.get("min", -math.inf), ends.get("max", math.inf)
    if least > most:
        raise invalid(f"accepts nothing: min {least:g} is above max {most:g}", key)
    return Accepted(least=least, most=most)


def _value(key: str, kind: type, given: object) -> Value:
    """Return an accepted value of exactly a setting's type; an int may replace a float."""
    with suppress(OverflowError):  # of an int beyond the largest float
        if type(given) is int and kind is float:
            return float(given)
        finite = not isinstance(given, float) or math.isfinite(given)
        if isinstance(given, bool | int | float | str) and type(given) is kind and finite:
            return given
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    raise invalid(f"must be {names[kind]}, got {value_text(given)}", key)
