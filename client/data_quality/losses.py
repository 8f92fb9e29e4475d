"""Measurements that an ingest dropped: each loss above a per cent, with an example and a remedy.

Examples are texts of the hospital's table. They are printed at the site and sent nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from client.data_quality.finding import QualityFinding, share_text
from client.data_quality.unit_mixture import describe_other_unit, vitals_in_other_units
from client.ingest.units import TRAILING_UNIT, UNITS
from common.data.vitals import VITALS, Vital

FEW = 0.01
"""Share of a code's or a column's measurements below which a loss is not reported."""

_INTENDED = {"left out by a drop rule": "as [drop] says"}
# The flow of stays has these.
_TOLD_ELSEWHERE = ("in a stay left out",)
_CODES = {"impossible value": "impossible-values"}
_OTHER_DECIMAL = re.compile(r"[+-]?[0-9]+,[0-9]+")
_CONCEPTS = {
    "0": "no matching concept",
    "8582": "centimeter",
    "8645": "unit per liter",
    "8653": "degree Celsius",
    "8713": "gram per deciliter",
    "9529": "kilogram",
}
"""Unit concepts of the OMOP vocabulary that no vital sign has, or whose meaning is to confirm."""

_Record = Mapping[str, Any]
_Losses = Sequence[Mapping[str, Any]]


def find_losses(record: _Record) -> Iterator[QualityFinding]:
    """Find the reasons for which more than `FEW` of a code or column was dropped.

    Args:
        record: content of `ingest.json`.
    """
    told = vitals_in_other_units(record)
    every = record["losses"] if "losses" in record else _by_vital(record)
    for vital in VITALS:
        of_vital = [loss for loss in every if loss["vital"] == vital.name]
        read = record["measurements"].get(vital.name, {}).get("read", 0)
        for reason in dict.fromkeys(loss["reason"] for loss in of_vital):
            large = [
                loss
                for loss in of_vital
                if loss["reason"] == reason
                and loss["count"] > FEW * loss["of"]
                and loss["of"] >= FEW * read
            ]
            if large and reason not in _TOLD_ELSEWHERE:
                yield _loss(vital, reason, large, record, is_told=vital.name in told)


def _by_vital(record: _Record) -> list[dict[str, Any]]:
    """Return the losses of a record of an earlier release, which counts them by vital sign."""
    return [
        {"vital": name, "source": "", "reason": reason, "count": count, "of": counts["read"]}
        for name, counts in record["measurements"].items()
        for reason, count in counts.items()
        if reason not in ("read", "used")
    ]


def _loss(
    vital: Vital, reason: str, large: _Losses, record: _Record, *, is_told: bool
) -> QualityFinding:
    count, of = (sum(loss[key] for loss in large) for key in ("count", "of"))
    is_all = of == record["measurements"][vital.name]["read"]
    what = f"{vital.label}: {count:,} of {of:,} measurements ({share_text(count / of)}) dropped: "
    what += f"{reason} ({vital.range_text})" if reason == "impossible value" else reason
    examples = [text for loss in large for text in loss.get("examples", [])]
    if examples:
        what += f", e.g. {' and '.join(map(repr, dict.fromkeys((examples[0], examples[-1]))))}"
    if not is_all and large[0]["source"]:
        names = [loss["source"] for loss in large]
        what += f" (of {', '.join(names[:3])}{' and others' if len(names) > 3 else ''})"
    if reason in _INTENDED:
        return QualityFinding("note", "drop-rule", what, _INTENDED[reason])
    if reason == "impossible value" and is_told:
        looks, remedy = describe_other_unit(record, vital.name)
        what += f"; they {looks}"
        if not is_all and count == of:
            # The unit goes with the code, which is better evidence than the range.
            unit = record["signs"]["other_units"][vital.name]["unit"]
            own = f'sources = [{{ ..., unit = "{unit}" }}, {{ ... }}]'
            remedy = f"give them a source of their own, {own} in [vitals.{vital.name}], or {remedy}"
    else:
        remedy = _remedy(vital.name, reason, examples, record)
    return QualityFinding("warning", _CODES.get(reason, reason.replace(" ", "-")), what, remedy)


def _remedy(vital: str, reason: str, examples: Sequence[str], record: _Record) -> str:
    match reason:
        case "no time":
            return _no_time(record)
        case "no number":
            return _no_number(vital, examples)
        case "unknown unit":
            return _unknown_unit(vital, examples)
        case _:
            return _REMEDIES[reason].format(vital=vital)


def _no_time(record: _Record) -> str:
    for sign in record["signs"].get("times", []):
        if sign["kind"] == "unread" and len(sign["formats"]) == 1:
            formats = ", ".join(f'"{one}"' for one in sign["formats"][0])
            return f"add {formats} to [time] format, which reads them"
    return "check whether [time] format fits all rows"


def _no_number(vital: str, examples: Sequence[str]) -> str:
    for text in examples:
        if _OTHER_DECIMAL.fullmatch(text):
            return 'set decimal = "," in [file]'
        if found := re.fullmatch(TRAILING_UNIT, text):
            unit = f'"{found[2].strip()}" = {_units_of(vital)}'
            return f"if the text after the number is a unit, say which in [units]: {unit}"
    return f"check whether [vitals.{vital}] names numbers; such texts are left out"


def _unknown_unit(vital: str, examples: Sequence[str]) -> str:
    known = _units_of(vital)
    if not examples:
        return f"name the unit in [vitals.{vital}]"
    text = examples[0]
    concept = text.removesuffix(".0")
    if concept == "0":
        return (
            "0 is the OMOP vocabulary's 'no matching concept': take unit_source_value as the "
            f'column of units, or say what it means here in [units]: "0" = {known}'
        )
    if concept.isdecimal():
        name = _CONCEPTS.get(concept, "its name is in the vocabulary's table CONCEPT")
        concept = f"OMOP unit concept {concept} ({name})"
        return f'{concept}: say what it means in [units]: "{text}" = {known}'
    return f'say what it means in [units]: "{text}" = {known}; drop the rows if it is none'


def _units_of(vital: str) -> str:
    return " or ".join(f'"{unit.name}"' for unit in UNITS[vital])


_REMEDIES: dict[str, str] = {
    "duplicate": "check whether files overlap or a join repeats rows",
    "no patient": "check whether [columns] patient names the patient's id",
    "unknown encounter": "no row of the table of stays, or of the file joined to it that has the "
    "patient, has their encounter; export it for all of them",
    "ambiguous unit": "they are in the range of several units; name the column of units, if there "
    "is one",
    "impossible value": "check the codes and the unit in [vitals.{vital}]",
    "ambiguous hour": "see fold in [time]",
    "skipped hour": "see gap in [time]; shifted dates are in UTC",
    "outside every stay": "see the bounds in [stay], and both time zones; of other wards they are "
    "no loss",
}
