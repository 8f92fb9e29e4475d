"""Warnings about a hospital's own split, from the record of its ingest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from client.data_quality.finding import QualityFinding
from common.data.splits import SPLITS

FEW_IN_PART = 20
_TOO_FEW = {
    "train": "too few to train on",
    "validation": "a round chosen by so few is little more than chance",
    "test": "a score over so few is little more than chance",
}
LONGEST_YEARS = 40
"""A table that spans more years than this has shifted dates."""


def split_findings(
    facts: Mapping[str, Any] | None, patients: Mapping[str, int]
) -> list[QualityFinding]:
    """Return the findings about the split; none for the split by the patient's hash.

    Args:
        facts: ``split`` of ingest.json; None without a rule of the hospital's own.
        patients: number of patients by split.
    """
    return list(_find(facts, patients)) if facts else []


def _find(facts: Mapping[str, Any], patients: Mapping[str, int]) -> Iterator[QualityFinding]:
    both, in_time = facts["patients_on_both_sides"], facts["by"] == "time"
    if both:
        later = ", so that training has stays from after the cut" if in_time else ""
        yield QualityFinding(
            "warning",
            "split-both-sides",
            f"patients with stays in several parts of [split]: {both:,}; each is whole in the part "
            f"of the first stay{later}",
            "leave such stays out, if the parts must not share a time or a value",
        )
    if in_time:
        yield _dates(*facts["years"])
    for split in SPLITS:
        if patients[split] < FEW_IN_PART:
            yield QualityFinding(
                "warning",
                "split-small-part",
                f"[split] leaves few patients in {split}, {patients[split]}: {_TOO_FEW[split]}",
                f"change [split] so that at least {FEW_IN_PART} are in {split}",
            )


def _dates(first: int, last: int) -> QualityFinding:
    if last > datetime.now(UTC).year or last - first > LONGEST_YEARS:
        return QualityFinding(
            "warning",
            "split-dates-shifted",
            f"admissions are in {first} to {last}: these dates were shifted for privacy, patient "
            "by patient, and a split in time separates nothing",
            "split by a column that holds the true period, or remove [split]",
        )
    return QualityFinding(
        "note",
        "split-in-time",
        f"the split is by admission, {first} to {last}; dates that were shifted by patient within "
        "such a range cannot be told from real ones",
        "use it only if the dates are those of the hospital",
    )
