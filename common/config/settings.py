"""Settings from the command line: `-c key=value` into one `RunConfig`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from common.config.run_config import RunConfig
from common.errors import UsageError


def parse_settings(pairs: Sequence[str], given: Mapping[str, Any]) -> RunConfig:
    """Return the settings of a command.

    Args:
        pairs: what stood behind each ``-c``, e.g. ``lora.rank=4``.
        given: settings that have options of their own; a pair must not contradict them.

    Raises:
        UsageError: where a pair is not ``key=value``, a key is unknown or given twice.
    """
    return RunConfig.parse(split_pairs(pairs, given))


def split_pairs(pairs: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as flat pairs, not yet checked; arguments and errors as above."""
    values: dict[str, Any] = dict(given)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"-c takes KEY=VALUE, e.g. -c lora.rank=4, got {pair!r}")
        if key.strip() in values:
            raise UsageError(f"{key.strip()} is given twice; give it once")
        values[key.strip()] = value.strip()
    return values
