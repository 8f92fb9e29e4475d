"""Problems that `ingest.json` tells: of the source, of its stays and ids, and what was dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from client.data_quality.finding import QualityFinding, share_text
from client.data_quality.losses import find_losses
from client.data_quality.stay_checks.ingest_signs import find_stay_signs
from client.data_quality.unit_mixture import find_other_units

EARLY_SHARE = 0.25
LOST_STAYS = 0.01
FEW_ROWS = 0.01
MANY_STAYS = 100
"""Stays from which on each patient having one is suspicious: of ICU patients some return."""

_LOST = {
    "an id that is one patient's": "check [stay] id; where ids count within each patient, set "
    "per-patient = true",
    "with a vital sign": "check whether both tables write ids and times alike; stays of other "
    "wards are no loss",
    "at most": "check [time] format: a date read wrongly makes a stay of years",
}
_Record = Mapping[str, Any]


def find_in_record(record: _Record) -> list[QualityFinding]:
    """Return the problems that the record of an ingest tells, the worst first.

    Args:
        record: content of `ingest.json`; with `is_same_table`, if the table was compared.
    """
    found = [
        *_table(record),
        *_ids(record),
        *_times(record),
        *_stays(record),
        *_other_codes(record),
        *find_other_units(record),
        *find_stay_signs(record),
        *find_losses(record),
    ]
    return sorted(found, key=lambda finding: finding.severity == "note")


def _table(record: _Record) -> Iterator[QualityFinding]:
    if not record.get("is_same_table", True):
        yield QualityFinding(
            "warning",
            "changed",
            "the site table is not the one that ingest.json describes",
            "ingest the table again",
        )
    if overlapping := record["signs"]["overlapping_stays"]:
        yield QualityFinding(
            "warning",
            "overlapping-stays",
            f"{overlapping} stays begin before an earlier stay of the same patient has ended",
            "check whether one person has two ids, or one stay is listed twice",
        )
    early = record["signs"].get("early", {"share": 0.0, "hours": 0.0})
    if early["share"] > EARLY_SHARE:
        yield QualityFinding(
            "warning",
            "early",
            f"{share_text(early['share'])} of the stays have measurements before the admission, by "
            f"{early['hours']:g} h in the median: another time zone, or an earlier ward",
            "check whether [time] and [stay.time] name the zones of the two exports",
        )


def _ids(record: _Record) -> Iterator[QualityFinding]:
    for column, count in record["ids_not_found"].items():
        if count:
            yield QualityFinding(
                "warning",
                "ids-not-found",
                f"{count:,} ids of the list are of no {column.removesuffix('_id')} in the table",
                "check whether both are written alike, leading zeros included",
            )
    ids = record["signs"].get("ids")
    if ids is None or ids["patients"] != ids["stays"]:
        return
    if ids["same_column"] or ids["stays"] >= MANY_STAYS:
        why = ": both ids are of the same column" if ids["same_column"] else ""
        yield QualityFinding(
            "warning",
            "one-stay-per-patient",
            f"each of {ids['patients']:,} patients has one stay{why}; if the patient's id is that "
            "of an encounter, a person with several is in training and test at once",
            "set [columns] patient (patient in [stay] for a table of stays) to the column of the "
            "person's id; no mistake if only one stay of each person was exported",
        )


def _times(record: _Record) -> Iterator[QualityFinding]:
    for sign in record["signs"].get("times", []):
        if sign["kind"] == "order":
            yield QualityFinding(
                "warning",
                "date-order",
                f"{sign['key']}: no day is above 12, so nothing shows which number is the day: "
                f"{_either(sign)}",
                "confirm the format with an entry whose date you know; the other order moves every "
                "date",
            )
        elif "column" in sign["key"] and sign["count"] > LOST_STAYS * sign["of"]:
            yield QualityFinding(
                "warning",
                "bounds-unread",
                f"{sign['key']}: {sign['count']:,} of {sign['of']:,} "
                f"({share_text(sign['count'] / sign['of'])}) are no time, e.g. {sign['example']!r}",
                "check whether the format fits all rows",
            )


def _either(sign: Mapping[str, Any]) -> str:
    text = sign["example"]
    forms = [form for form, *_ in sign["formats"]]
    try:
        days = [datetime.strptime(text, form) for form in forms]  # noqa: DTZ007
    except ValueError:
        # DuckDB has directives that Python lacks, e.g. %g of milliseconds.
        return f"it fits {' and '.join(map(repr, forms))}"
    readings = (f"{d.day} {d:%B} by {form!r}" for d, form in zip(days, forms, strict=True))
    return f"{text!r} is {', '.join(readings)}"


def _stays(record: _Record) -> Iterator[QualityFinding]:
    for step in record["flow"]:
        before = step["stays"] + step["excluded"]
        remedies = [text for label, text in _LOST.items() if step["label"].startswith(label)]
        # "at least 12 h" is the hospital's own rule.
        if remedies and step["excluded"] > LOST_STAYS * before:
            yield QualityFinding(
                "warning",
                "stays-lost",
                f"{step['excluded']:,} of {before:,} stays "
                f"({share_text(step['excluded'] / before)}) left out by '{step['label']}'",
                remedies[0],
            )


def _other_codes(record: _Record) -> Iterator[QualityFinding]:
    rows, others = record["rows"]["read"], record.get("other_codes", [])
    for one in others:
        if one["near"] and one["rows"] > FEW_ROWS * rows:
            yield QualityFinding(
                "warning",
                "code-near",
                f"{one['rows']:,} of {rows:,} rows ({share_text(one['rows'] / rows)}) have the "
                f"code {one['code']!r}, which the mapping does not name; it names {one['near']!r}",
                f"add {one['code']!r} to the codes in [vitals], if they mean the same",
            )
    count = record["rows"].get("of other codes", 0)
    if count > FEW_ROWS * rows and others:
        most = ", ".join(f"{one['code']!r} ({one['rows']:,})" for one in others[:3])
        yield QualityFinding(
            "note",
            "other-codes",
            f"{count:,} of {rows:,} rows ({share_text(count / rows)}) have codes that the mapping "
            f"does not name, e.g. {most}",
            "expected where the table holds more than vital signs; else add them in [vitals]",
        )
