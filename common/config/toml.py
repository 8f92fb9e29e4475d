"""TOML files that an administrator writes, read into strict models."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from common.errors import FedvitalsError

MAX_FILE_BYTES = 2**20
"""Larger than any such file; a path to something else must not be read into memory."""


def read_toml(path: Path, error: type[FedvitalsError]) -> dict[str, Any]:
    """Return the values of a file.

    Raises:
        FedvitalsError: `error`, where the file cannot be read, is too large or is not TOML.
    """
    return parse_toml(read_bytes(path, error), path, error)


def read_bytes(path: Path, error: type[FedvitalsError]) -> bytes:
    """Return the bytes of a file of at most `MAX_FILE_BYTES`; errors as `read_toml`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem
    if len(data) > MAX_FILE_BYTES:
        raise error(f"{path} is larger than {MAX_FILE_BYTES} bytes; is it the right file?")
    return data


def parse_toml(data: bytes, path: Path, error: type[FedvitalsError]) -> dict[str, Any]:
    """Return the values that a file's bytes hold; errors as `read_toml`."""
    try:
        return tomllib.loads(data.decode("utf-8"))
    except ValueError as problem:  # of TOML, of UTF-8, or a number of more than 4,300 digits
        raise error(f"{path} is not TOML: {problem}") from problem
    except RecursionError:
        raise error(f"{path} is not TOML: its arrays are nested too deeply") from None


_REQUIRED = object()


class TomlTable:
    """One table of a file.

    Args:
        values: what the file holds.
        file: its name, for messages.
        name: the table's name; empty at the top.
        error: what to raise where something is wrong.
    """

    def __init__(
        self, values: Mapping[str, Any], file: str, name: str, error: type[FedvitalsError]
    ) -> None:
        self._values = values
        self._file = file
        self._name = name
        self._error = error

    def __contains__(self, key: object) -> bool:
        return key in self._values

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that are given."""
        return tuple(self._values)

    def only(self, known: Collection[str]) -> None:
        """Refuse every key that is not known, naming the nearest one that is."""
        for key in self._values:
            if key in known:
                continue
            near = get_close_matches(key.lower(), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise self.wrong(key, f"is unknown; {hint}known are: {', '.join(known)}")

    def wrong(self, key: str, what: str) -> FedvitalsError:
        """Return the error that says what is wrong with a key."""
        where = f"{self._name}.{key}" if self._name else key
        return self._error(f"{self._file}: {where} {what}")

    def table(self, key: str) -> TomlTable:
        """Return a table in this one; an absent one is empty."""
        value = self._values.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, f"must be a table [{key}]")
        name = f"{self._name}.{key}" if self._name else key
        return TomlTable(value, self._file, name, self._error)

    def tables(self, key: str) -> list[TomlTable]:
        """Return an array of tables, ``[[key]]``; an absent one is empty."""
        value = self._values.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
            raise self.wrong(key, f"must be tables, each headed [[{key}]]")
        return [
            TomlTable(one, self._file, f"{key}[{index}]", self._error)
            for index, one in enumerate(value)
        ]

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text; not empty where it is required."""
        value = self._get(key, default)
        if not isinstance(value, str) or (default is None and not value):
            raise self.wrong(key, f'must be a text in "quotes", got {value!r}')
        return value

    def whole(self, key: str, default: int | None = None, least: int = 0) -> int:
        """Return a whole number of at least `least`."""
        value = self._get(key, default)
        if type(value) is not int or value < least:
            raise self.wrong(key, f"must be a whole number of at least {least}, got {value!r}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Return a finite number of at least 0."""
        value = self._get(key, default)
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise self.wrong(key, f"must be a number of at least 0, got {value!r}")
        return float(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Return true or false."""
        value = self._get(key, default)
        if type(value) is not bool:
            raise self.wrong(key, f"must be true or false, got {value!r}")
        return value

    def texts(self, key: str, default: Collection[str] | None = None) -> tuple[str, ...]:
        """Return a list of texts, none of them empty or twice."""
        value = self._get(key, None if default is None else list(default))
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise self.wrong(key, f'must be a list of texts, ["one", "two"], got {value!r}')
        if len(set(value)) != len(value):
            raise self.wrong(key, "names one thing twice")
        return tuple(value)

    def raw(self, key: str) -> object:
        """Return a value of any type."""
        return self._get(key, None)

    def _get(self, key: str, default: object) -> Any:
        value = self._values.get(key, _REQUIRED if default is None else default)
        if value is _REQUIRED:
            raise self.wrong(key, "is missing")
        return value
