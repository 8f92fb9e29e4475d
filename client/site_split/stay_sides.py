"""Assignment of whole patients to train, validation and test by a hospital's own rule.

The patient is the unit of privacy and of leakage: two stays of one patient are never in two parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from client.ingest.duckdb_helpers import literals, text_of
from client.site_split.split_rule import SplitRule
from common.data.splits import SPLITS, draw_validation
from common.errors import CohortError, SourceError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OTHER = 1 << len(SPLITS)
"""Bit of a value that is in none of the rule's lists; before it, a bit for each of `SPLITS`."""


@dataclass(frozen=True, eq=False)
class Sides:
    """Parts of the stays.

    Attributes:
        parts: one of `SPLITS` for each stay, [N].
        facts: content of ``split`` in ingest.json.
    """

    parts: npt.NDArray[np.object_]
    facts: dict[str, Any]


def part_bits(rule: SplitRule | None) -> str:
    """Return the SQL of a row's part as a bit, to be joined by `bit_or`; 0 where none is named."""
    if rule is None or not rule.column:
        return "0::UTINYINT"
    text = text_of(rule.column)
    cases = " ".join(
        f"WHEN {text} IN ({literals(values)}) THEN {1 << place}"
        for place, name in enumerate(SPLITS)
        if (values := getattr(rule, name))
    )
    return f"CAST(CASE WHEN {text} IS NULL THEN 0 {cases} ELSE {OTHER} END AS UTINYINT)"


def assign_sides(stays: pd.DataFrame, rule: SplitRule, zone: str) -> Sides:
    """Assign the stays of a cohort, each patient whole.

    Args:
        stays: the stays kept: `patient_id`, `start_us` (UTC), and `part` (bits of `part_bits`).
        rule: the rule.
        zone: the time zone of admissions, in which the day of `rule.before` begins.

    Raises:
        SourceError: a stay has no part or several, or a patient has stays in several parts and the
            rule refuses that.
        CohortError: train or test has no patient.
    """
    start = stays["start_us"].to_numpy(np.int64)
    facts: dict[str, Any] = {"rule": rule.text, "by": "time" if rule.in_time else "column"}
    if rule.in_time:
        cut = _cut(start, rule, zone)
        place = np.where(start >= cut, SPLITS.index("test"), SPLITS.index("train"))
        # As the hospital's calendar has them: midnight in Berlin is the day before in UTC.
        begun, ended, test_from = (_local(at, zone) for at in (start.min(), start.max(), cut))
        facts |= {"test_from": test_from.date().isoformat(), "years": [begun.year, ended.year]}
    else:
        place = _by_column(stays["part"].to_numpy(np.int64), rule)
    frame = pd.DataFrame(
        {"patient": stays["patient_id"].to_numpy(), "start": start, "place": place}
    )
    several = frame.groupby("patient")["place"].nunique().gt(1)
    facts["patients_on_both_sides"] = int(several.sum())
    if rule.refuses_both_sides and several.any():
        raise SourceError(
            f"[split] puts stays of {int(several.sum()):,} of {len(several):,} patients into "
            'several parts; a patient is in one part only: set both-sides = "first" to put a '
            "patient into the part of the first stay, or leave such stays out (keep-stays)"
        )
    first = frame.sort_values(["patient", "start"], kind="stable").groupby("patient")["place"]
    whole = frame["patient"].map(first.first()).to_numpy(np.int64)
    for name in ("train", "test"):
        if not (whole == SPLITS.index(name)).any():
            raise CohortError(
                f"[split] leaves no {name} patient of {len(several):,} ({rule.text}); change it, "
                "or remove [split] for the split by the patient's hash"
            )
    return Sides(np.array(SPLITS, object)[whole], facts)


def with_validation(steps: pd.DataFrame, rule: SplitRule) -> npt.NDArray[np.object_]:
    """Return the splits with validation patients drawn from the training patients.

    Args:
        steps: `patient_id` as in the site table, by which the split by hash draws too, and `split`.
        rule: the rule, which names no validation patients.

    Raises:
        CohortError: no training patient is left.
    """
    share = rule.validation_percent / 100
    drawn = draw_validation(steps["patient_id"], steps["split"], share)
    if not (drawn == "train").any():
        raise CohortError(
            "[split] leaves no training patient: all were drawn for validation; lower "
            "validation-percent, or name the validation patients by a column"
        )
    return drawn


def _by_column(bits: npt.NDArray[np.int64], rule: SplitRule) -> npt.NDArray[np.int64]:
    named = [bits == 1 << place for place in range(len(SPLITS))]
    wrong = {
        "no value": bits == 0,
        "a value that is in none of train, validation and test": bits == OTHER,
        "several values of different parts": ~np.any([*named, bits == 0, bits == OTHER], axis=0),
    }
    for what, where in wrong.items():
        if where.any():
            raise SourceError(
                f"{int(where.sum()):,} of {len(bits):,} stays have {what} in the column "
                f"{rule.column} of [split]; name every value there, or leave the rows out with "
                "[drop]"
            )
    return np.asarray(np.argmax(named, axis=0), np.int64)


def _cut(start: npt.NDArray[np.int64], rule: SplitRule, zone: str) -> int:
    """Return the first admission of the test stays, in microseconds of UTC."""
    if rule.before is not None:
        local = datetime.combine(rule.before, time(), ZoneInfo(zone))
        return int((local - _EPOCH).total_seconds() * 1_000_000)
    last = max(1, round(len(start) * rule.last_percent / 100))
    return int(np.sort(start)[-last])


def _local(at_us: int, zone: str) -> datetime:
    return datetime.fromtimestamp(int(at_us) / 1e6, ZoneInfo(zone))
