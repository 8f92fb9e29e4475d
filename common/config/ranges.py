"""The range that a number of the settings may lie in: declared with its field, checked for all.

The settings come from whoever starts a run. Numbers far outside of what trains anything (a scale of
1e-22, a million windows a patient) serve no run, and only lead the arithmetic to its ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from common.errors import UsageError


@dataclass(frozen=True)
class Range:
    """Where a number may lie, ends included.

    Attributes:
        low: the least.
        high: the largest; None = no bound.
        or_zero: whether 0 may stand for "off" or "none" beside it.
    """

    low: float
    high: float | None = None
    or_zero: bool = False

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {_number(self.low)}"
        zero = "0, or " if self.or_zero else ""
        return f"{zero}from {_number(self.low)} to {_number(self.high)}"

    def holds(self, value: float) -> bool:
        """Whether a value lies in it; what is no number does not."""
        if self.or_zero and value == 0:
            return True
        return value >= self.low and (self.high is None or value <= self.high)

    def check(self, key: str, value: float) -> None:
        """Raise `UsageError` where a value does not lie in it."""
        if not self.holds(value):
            raise UsageError(f"{key} must be {self}, got {value:g}")


def setting(default: Any, text: str, range_: Range | None = None) -> Any:
    """A setting: its default, the line of help that the reference of keys shows, and its range."""
    if range_ is not None and range_.high is not None:
        text = f"{text} ({range_})"
    return field(default=default, metadata={"help": text, "range": range_})


def check_ranges(section: str, config: Any) -> None:
    """Check every number of a section of the settings.

    Args:
        section: its name; empty for the settings that stand in none.
        config: the section.

    Raises:
        UsageError: where a number is outside of its range.
    """
    for item in fields(config):
        range_: Range | None = item.metadata.get("range")
        if range_ is not None:
            key = f"{section}.{dashed(item.name)}" if section else dashed(item.name)
            range_.check(key, getattr(config, item.name))


def dashed(name: str) -> str:
    """Return a field's name as its key writes it."""
    return name.replace("_", "-")


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"
