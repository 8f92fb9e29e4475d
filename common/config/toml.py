"""TOML files that an administrator writes, read into strict models."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from common.errors import FedvitalsError

MAX_TOML_BYTES = 2**20
"""Larger than any such file; a path to something else must not be read into memory."""


def read_toml(path: Path, error: type[FedvitalsError]) -> dict[str, Any]:
    """Return the values of a file.

    Raises:
        FedvitalsError: `error`, where the file cannot be read, is too large or is not TOML.
    """
    return parse_toml(read_bytes(path, error), path, error)


def read_bytes(path: Path, error: type[FedvitalsError]) -> bytes:
    """Return the bytes of a file of at most `MAX_TOML_BYTES`; errors as `read_toml`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOML_BYTES + 1)
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror or problem}") from problem
    if len(data) > MAX_TOML_BYTES:
        raise error(f"{path} is larger than {MAX_TOML_BYTES} bytes; is it the right file?")
    return data


def parse_toml(data: bytes, path: Path, error: type[FedvitalsError]) -> dict[str, Any]:
    """Return the values that a file's bytes hold; errors as `read_toml`."""
    try:
        return tomllib.loads(data.decode("utf-8"))
    except ValueError as problem:  # of TOML, of UTF-8, or a number of more than 4,300 digits
        raise error(f"{path} is not TOML: {problem}") from problem
    except RecursionError:
        raise error(f"{path} is not TOML: its arrays are nested too deeply") from None
