"""Values that are plausible only in another unit than the one that they were read in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from client.data_quality.finding import QualityFinding, share_text
from client.ingest.units import check_units_by_range
from common.data.vitals import VITALS
from common.errors import UsageError

FEW = 0.01
"""Share of a vital's measurements below which another unit is not reported."""

COLUMN_OF_UNITS = "name the column of units ([columns] unit, or unit-column in a wide table)"


def vitals_in_other_units(record: Mapping[str, Any]) -> set[str]:
    """Return the vital signs that `find_other_units` reports."""
    return {name for name in record["signs"].get("other_units", {}) if _share(record, name) > FEW}


def find_other_units(record: Mapping[str, Any]) -> Iterator[QualityFinding]:
    """Find vital signs of which used values look like another unit.

    Impossible values that do are a loss, which `losses.find_losses` reports.

    Args:
        record: content of `ingest.json`.
    """
    told = vitals_in_other_units(record)
    for vital in VITALS:
        if vital.name not in told:
            continue
        used = record["signs"]["other_units"][vital.name]["used"]
        read = record["measurements"][vital.name]["read"]
        if used > FEW * read:
            what, remedy = describe_other_unit(record, vital.name)
            yield QualityFinding(
                "warning",
                "unit-left-over",
                f"{vital.label}: {used:,} of {read:,} measurements ({share_text(used / read)}) are "
                f"used and {what}",
                remedy,
            )


def describe_other_unit(record: Mapping[str, Any], vital: str) -> tuple[str, str]:
    """Return what values of a vital of `vitals_in_other_units` look like, and what to do."""
    sign = record["signs"]["other_units"][vital]
    is_mixed = is_mixture(record, vital)
    what = f"look like {sign['unit']}"
    if is_mixed:
        what += f", others like {sign['assumed']}: the units are mixed"
    return what, remedy_of_units(vital, sign["assumed"], sign["unit"], is_mixed=is_mixed)


def is_mixture(record: Mapping[str, Any], vital: str) -> bool:
    """Return whether values in the assumed unit remain beside those in the other."""
    counts = record["measurements"][vital]
    rest = counts["used"] - record["signs"]["other_units"][vital]["used"]
    return bool(rest > FEW * counts["read"])


def remedy_of_units(vital: str, assumed: str, other: str, *, is_mixed: bool) -> str:
    """Return what to do about values in another unit.

    Args:
        vital: the vital sign.
        assumed: the unit that the values were read in.
        other: the unit that some look like.
        is_mixed: whether others are in the assumed unit.
    """
    if not is_mixed:
        return f'set unit = "{other}" in [vitals.{vital}], or {COLUMN_OF_UNITS}'
    try:
        check_units_by_range(vital, (assumed, other))
    except UsageError:
        return f"{COLUMN_OF_UNITS}; one unit would misread the others"
    return (
        f'set units = ["{assumed}", "{other}"] in [vitals.{vital}], which reads each value in the '
        f"unit whose range it is in, or {COLUMN_OF_UNITS}; one unit would lose the others"
    )


def _share(record: Mapping[str, Any], vital: str) -> float:
    sign = record["signs"]["other_units"][vital]
    read = record["measurements"].get(vital, {}).get("read", 0)
    return float(sign["impossible"] + sign["used"]) / read if read else 0.0
