"""The settings of a run: what the policy accepts of them, and what the audit log keeps of them.

A run's settings come from the coordinator and shape what the app does with the patients: how
windows are cut, what is trained, how strong the noise is. `[settings]` in policy.toml names, for
each key, the values or the range that the site accepts::

    backbone = ["chronos-bolt-nano"]              # one of these
    "lora.rank" = { min = 1, max = 16 }           # a range, ends included
    "privacy.noise-seed" = -1                     # this value alone

Keys of `GUARDED` that are not named there are refused whatever their value. Of the others only what
is named is checked: they say how the coordinator leads its rounds.
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

from client.policy.refusal import MOST_CHARACTERS
from common.config.error_line import known_names, shown
from common.config.field_types import invalid
from common.config.run_config import RunConfig, Value, key_types

GUARDED = ("backbone", "lora.", "privacy.", "train.", "windows.", "wire.")
"""Keys that are refused unless the policy names them: by name, or by the dot all that begin so."""


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
        """Return the audit log's account: the digest of all, and those that are not the default.

        Long texts are cut: the digest stands for the whole.
        """
        usual = RunConfig().flat()
        changed = {key: _cut(value) for key, value in self.flat.items() if value != usual[key]}
        return {"sha256": self.digest, "changed": changed}


def _cut(value: Value) -> Value:
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        return f"{value[:MOST_CHARACTERS]}… ({len(value)} characters)"
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
    """Return why the policy does not accept a run's settings, in words; empty where it does.

    Args:
        settings: all settings, as flat pairs.
        accepted: of the policy, by key.
    """
    for key, value in settings.items():
        if key in accepted:
            if value not in accepted[key]:
                return f"{key} = {json.dumps(value)}, the policy accepts {accepted[key]}"
        elif guarded(key):
            return f"{key} = {json.dumps(value)}, which the policy's [settings] does not name"
    return ""


def unnamed_settings(accepted: Mapping[str, Accepted]) -> list[str]:
    """Return the guarded keys that a policy does not name: with any of them no run is accepted."""
    return [key for key in key_types() if guarded(key) and key not in accepted]


def guarded(key: str) -> bool:
    """Whether a setting is refused unless the policy names it."""
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
        raise invalid(f"must be {{ min = …, max = … }}, got {shown(sorted(given))}", key)
    ends = {name: float(_value(key, float, end)) for name, end in given.items()}
    least, most = ends.get("min", -math.inf), ends.get("max", math.inf)
    if least > most:
        raise invalid(f"accepts nothing: min {least:g} is above max {most:g}", key)
    return Accepted(least=least, most=most)


def _value(key: str, kind: type, given: object) -> Value:
    """Return an accepted value of exactly a setting's type; an int may stand for a float."""
    with suppress(OverflowError):  # of an int beyond the largest float
        if type(given) is int and kind is float:
            return float(given)
        finite = not isinstance(given, float) or math.isfinite(given)
        if isinstance(given, bool | int | float | str) and type(given) is kind and finite:
            return given
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    raise invalid(f"must be {names[kind]}, got {shown(given)}", key)
