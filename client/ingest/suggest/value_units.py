"""Unit of a vital sign by the range of its values, and the decimal sign of a column of texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from client.ingest.units import UNITS, Unit, normalised, spellings
from common.forecasting.reference_ranges import EXPECTED

_ENOUGH = 0.9
_MIXED = 0.02
_COMMA = r"^\s*[-+]?\d+,\d+\s*$"
_POINT = r"^\s*[-+]?\d+\.\d+\s*$"
_THOUSANDS = r"^\s*[-+]?\d{1,3}([.,' ]\d{3})+[.,]\d+\s*$"


@dataclass(frozen=True)
class UnitGuess:
    """The unit that values are in.

    Attributes:
        unit: its name; empty = that of the site table, or of the rows.
        share: share of the values that are plausible in it.
        others: names of other units that some values are in.
    """

    unit: str
    share: float
    others: tuple[str, ...] = ()

    @property
    def is_sure(self) -> bool:
        """True if nearly all values fit one unit."""
        return self.share >= _ENOUGH and not self.others


def guess_unit(vital: str, values: npt.NDArray[np.float64]) -> UnitGuess:
    """Return the unit in which most values are plausible; of two, the site table's own.

    Args:
        vital: the vital sign.
        values: in the file's unit; NaN = no number.
    """
    given = values[~np.isnan(values)]
    if not len(given):
        return UnitGuess("", 0.0)
    expected = EXPECTED[vital]
    shares, medians = {}, {}
    for unit in UNITS[vital]:
        converted = _converted(given, unit)
        fits = (converted >= expected.low) & (converted <= expected.high)
        shares[unit.name] = float(fits.mean())
        medians[unit.name] = expected.has_median(float(np.median(converted)))
    own = UNITS[vital][0].name
    best = max(shares, key=lambda name: (medians[name] and shares[name] > 0.5, shares[name]))
    if shares[own] >= shares[best] - 0.05 and (medians[own] or not medians[best]):
        best = own
    others = tuple(
        name
        for name, share in shares.items()
        if name != best and share > _MIXED and share + shares[best] <= 1.02 and vital != "spo2"
    )
    return UnitGuess("" if best == own else best, shares[best], others)


def _converted(values: npt.NDArray[np.float64], unit: Unit) -> npt.NDArray[np.float64]:
    return (values - unit.subtract) * unit.multiply / unit.divide


def known_units(vital: str, texts: Iterable[str]) -> bool:
    """Return whether all texts of a column of units are known for a vital sign."""
    known = {spelling for unit in UNITS[vital] for spelling in spellings(unit)}
    return all(normalised(text) in known for text in texts)


def decimal_of(texts: pa.Array) -> tuple[str, bool]:
    """Return the decimal sign of a column of texts, and whether thousands are separated in it."""
    commas, points, thousands = (
        pc.sum(pc.match_substring_regex(texts, pattern)).as_py() or 0
        for pattern in (_COMMA, _POINT, _THOUSANDS)
    )
    return ("," if commas > points else "."), thousands > 0
