"""Vital signs of a sample: the columns or codes that hold each, their units and their order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from client.ingest.suggest.column_roles import matching
from client.ingest.suggest.sample import Sample
from client.ingest.suggest.value_units import UnitGuess, guess_unit, known_units
from client.ingest.suggest.vital_names import VitalName, vital_of_code, vital_of_name
from common.data.vitals import VITAL_NAMES

_LEAST_PLAUSIBLE = 0.5
_LONGEST_CODE = 60
_FEW_CODES = 30
_CODES_PER_ROW = 0.2
_SEVERAL_PATIENTS = 3


@dataclass(frozen=True)
class FoundSource:
    """A column or a code of a vital sign.

    Attributes:
        name: the column, or the code.
        meaning: what its name says.
        unit: its unit, by range; of a source whose rows have a known unit, empty.
        count: values in the sample.
    """

    name: str
    meaning: VitalName
    unit: UnitGuess
    count: int

    @property
    def order(self) -> tuple[bool, bool, int, str]:
        """Sort key: an artery's pressure before a cuff's, a clear name before an unclear one."""
        return not self.meaning.is_invasive, not self.meaning.is_sure, -self.count, self.name


@dataclass(frozen=True)
class LongColumns:
    """The columns of a long table."""

    code: str
    value: str
    unit: str


def wide_sources(sample: Sample, taken: Iterable[str]) -> dict[str, list[FoundSource]]:
    """Return the sources of each vital sign in the columns of a wide table.

    Args:
        sample: the table.
        taken: columns that have another role.
    """
    found: dict[str, list[FoundSource]] = defaultdict(list)
    for column in sample.columns:
        meaning = None if column in taken else vital_of_name(column)
        if meaning is not None:
            _add(found, column, meaning, sample.numbers(column), known=False)
    return _sorted(found)


def find_long_columns(sample: Sample) -> LongColumns | None:
    """Return the columns of a long table; None if the table has no column of vital signs' codes."""
    best, most = "", 0
    for column in matching(sample.columns, "code"):
        counts = sample.counts(column)
        if len(counts) > max(_FEW_CODES, _CODES_PER_ROW * sample.rows):
            continue  # free text, not codes
        vitals = {name.vital for text in counts if (name := _code_meaning(text)) is not None}
        if len(vitals) > most:
            best, most = column, len(vitals)
    values = [column for column in matching(sample.columns, "value") if column != best]
    if not best or not values:
        return None
    shares = {column: np.isfinite(sample.numbers(column)).sum() for column in values}
    value = max(values, key=lambda column: shares[column])
    units = [name for name in matching(sample.columns, "unit") if name not in (best, value)]
    return LongColumns(best, value, units[0] if units else "")


def long_sources(sample: Sample, columns: LongColumns) -> dict[str, list[FoundSource]]:
    """Return the sources of each vital sign among the codes of a long table."""
    codes = sample.texts(columns.code)
    numbers = sample.numbers(columns.value)
    units = sample.texts(columns.unit) if columns.unit else None
    personal = codes_of_one_patient(sample, columns)
    found: dict[str, list[FoundSource]] = defaultdict(list)
    for code in sample.counts(columns.code):
        meaning = _code_meaning(code)
        if meaning is None or code in personal:
            continue
        rows = pc.fill_null(pc.equal(codes, code), False)
        known = units is not None and _rows_have_units(meaning.vital, pc.filter(units, rows))
        _add(found, code, meaning, numbers[rows.to_numpy(zero_copy_only=False)], known=known)
    return _sorted(found)


def codes_of_one_patient(sample: Sample, columns: LongColumns) -> set[str]:
    """Return a vital sign's codes that one patient alone of several has.

    Their texts may name the patient, so that they are not written.
    """
    patients = next(iter(matching(sample.columns, "patient")), "")
    if not patients:
        return set()
    ids = sample.texts(patients)
    if len(pc.unique(ids.drop_null())) < _SEVERAL_PATIENTS:
        return set()
    table = pa.table({"code": sample.texts(columns.code), "patient": ids}).group_by("code")
    counts = table.aggregate([("patient", "count_distinct")])
    few = pc.less(counts["patient_count_distinct"], 2)
    texts = map(str, counts["code"].filter(few).drop_null().to_pylist())
    return {text for text in texts if _code_meaning(text) is not None}


def _code_meaning(code: str) -> VitalName | None:
    return vital_of_code(code) if len(code) <= _LONGEST_CODE else None


def _rows_have_units(vital: str, units: pa.Array) -> bool:
    texts = units.drop_null()
    return len(texts) > 0.5 * len(units) and known_units(vital, pc.unique(texts).to_pylist())


def _add(
    found: dict[str, list[FoundSource]],
    name: str,
    meaning: VitalName,
    values: npt.NDArray[np.float64],
    *,
    known: bool,
) -> None:
    count = int(np.isfinite(values).sum())
    guess = guess_unit(meaning.vital, values)
    if count == 0 or (guess.share < _LEAST_PLAUSIBLE and not known and not guess.others):
        return
    found[meaning.vital].append(
        FoundSource(name, meaning, UnitGuess("", 1.0) if known else guess, count)
    )


def _sorted(found: dict[str, list[FoundSource]]) -> dict[str, list[FoundSource]]:
    return {
        vital: sorted(found[vital], key=lambda one: one.order)
        for vital in VITAL_NAMES
        if vital in found
    }
