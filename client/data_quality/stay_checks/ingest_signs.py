"""Problems of some stays that `ingest.json` counts: units by code, and times within an hour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from client.data_quality.finding import ConcernedStays, QualityFinding
from client.data_quality.stay_checks.stay_rows import LEAVE_OUT, finding_of_stays
from client.data_quality.unit_mixture import remedy_of_units, vitals_in_other_units
from common.data.vitals import VITAL_NAMES, VITALS

MOST_PATIENTS = 0.5
"""Share of the patients from which on a day zero is the origin of shifted dates, not a mistake."""

_TIMES = {
    "midnight": (
        "midnight",
        "the times are at midnight or zero: the time of day is missing",
        "name the column that has the time of day in [columns] time, or set [time] format to one "
        f"that reads it; {LEAVE_OUT}",
    ),
    "day-in-hour": (
        "day-in-hour",
        "an hour holds the values of a day: they have the time of the entry, or a date alone",
        "name the column of the measurement's time in [columns] time, not that of its entry; "
        f"{LEAVE_OUT}",
    ),
    "set-back": (
        "clock-set-back",
        "the clock passes the same times twice, with different values",
        "check the device's clock, and zone and fold in [time] if it was set back with the season; "
        f"{LEAVE_OUT}",
    ),
    "outside": (
        "stay-outside",
        "values are a day or more outside their own stay",
        "check the dates in [columns] time, and start and end in [stay]; they are dropped",
    ),
    "too-long": (
        "stay-too-long",
        "the times jump by more than a stay can last, so they are left out",
        "check the dates in [columns] time; set max-days in [stay] if they are right",
    ),
    "zero-date": (
        "zero-date",
        "times are at the first day of a computer's calendar (1970-01-01 or 1900-01-01)",
        "they stand for a missing time: empty them in the export, or name their text in [drop]",
    ),
}
_Record = Mapping[str, Any]


def vitals_with_stays_in_other_units(record: _Record) -> set[str]:
    """Return the vital signs of which the ingest found stays in another unit."""
    return {sign["vital"] for sign in _signs(record) if sign["kind"] == "unit"}


def find_stay_signs(record: _Record) -> Iterator[QualityFinding]:
    """Find the stays whose values are in another unit, or whose times are wrong.

    Args:
        record: content of `ingest.json`; one of an earlier release has no counts by stay.
    """
    told = vitals_in_other_units(record)
    for sign in _signs(record):
        numbers = ConcernedStays(sign["stays"], sign["of"], sign["values"], sign["example"])
        if sign["kind"] == "unit":
            if sign["vital"] not in told:
                yield _unit(sign, record, numbers)
            continue
        who = sign.get("who", "stays")
        if who == "stays" or sign["stays"] <= MOST_PATIENTS * sign["of"]:
            code, what, remedy = _TIMES[sign["kind"]]
            yield finding_of_stays(code, what, remedy, numbers, who=who)


def _signs(record: _Record) -> list[dict[str, Any]]:
    return list(record["signs"].get("by_stay", []))


def _unit(sign: Mapping[str, Any], record: _Record, numbers: ConcernedStays) -> QualityFinding:
    vital = VITALS[VITAL_NAMES.index(sign["vital"])]
    dropped = f", {sign['dropped']:,} dropped" if sign["dropped"] else ""
    what = f"{vital.label} ({sign['source']}{dropped}) looks like {sign['unit']}"
    remedy = remedy_of_units(vital.name, sign["assumed"], sign["unit"], is_mixed=True)
    read = record["measurements"][vital.name]["read"]
    if sign["stays"] == sign["of_source"] and sign["values"] < read:
        # All stays with the code are concerned: the unit goes with the code.
        own = f'sources = [{{ ..., unit = "{sign["unit"]}" }}, {{ ... }}]'
        remedy = (
            f"give {sign['source']} a source of its own, {own} in [vitals.{vital.name}], or "
            f"{remedy}"
        )
    return finding_of_stays("stay-other-unit", what, remedy, numbers)
