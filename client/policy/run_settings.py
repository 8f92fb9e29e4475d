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
from dataclasses import dataclass, field
from functools import cached_property

from client.policy.refusal import MAX_DETAIL_CHARACTERS
from common.config.run_config import RunConfig, Value, key_types
from common.config.toml import TomlTable
from common.names import check_name

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
    if isinstance(value, str) and len(value) > MAX_DETAIL_CHARACTERS:
        return f"{value[:MAX_DETAIL_CHARACTERS]}… ({len(value)} characters)"
    return value


def read_accepted(table: TomlTable) -> dict[str, Accepted]:
    """Read `[settings]` of policy.toml.

    Raises:
        FedvitalsError: the table's own, where a key is no setting or a value cannot be.
    """
    types = key_types()
    table.only(tuple(types))
    return {key: _accepted(table, key, types[key]) for key in table.keys}


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


def _accepted(table: TomlTable, key: str, kind: type) -> Accepted:
    check_name("setting", key, key_types())
    value = table.raw(key)
    if isinstance(value, dict):
        return _range(table, key, kind, value)
    values = value if isinstance(value, list) else [value]
    if not values:
        raise table.wrong(key, "accepts nothing; name a value, or leave the key out")
    return Accepted(values=tuple(_value(table, key, kind, one) for one in values))


def _range(table: TomlTable, key: str, kind: type, given: Mapping[str, object]) -> Accepted:
    if kind not in (int, float):
        raise table.wrong(key, "is no number and has no range; name a value or a list of values")
    if not given or not given.keys() <= {"min", "max"}:
        raise table.wrong(key, f"must be {{ min = …, max = … }}, got {sorted(given)}")
    ends = {name: float(_value(table, key, float, end)) for name, end in given.items()}
    least, most = ends.get("min", -math.inf), ends.get("max", math.inf)
    if least > most:
        raise table.wrong(key, f"accepts nothing: min {least:g} is above max {most:g}")
    return Accepted(least=least, most=most)


def _value(table: TomlTable, key: str, kind: type, given: object) -> Value:
    if type(given) is int and kind is float:  # 8 may stand for 8.0
        return float(given)
    if isinstance(given, bool | int | float | str) and type(given) is kind:
        checked: Value = given
        if kind is not float or math.isfinite(float(given)):
            return checked
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    raise table.wrong(key, f"must be {names[kind]}, got {given!r}")
