"""Recognition of vital signs in another unit, by their values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from common.data.vitals import VITALS
from common.data.windows import FloatArray


@dataclass(frozen=True)
class OtherUnit:
    """A unit in which a vital sign is often charted, and the values that reveal it.

    Attributes:
        name: the unit, for messages, e.g. ``°F``.
        low: least revealing value, in this unit.
        high: greatest revealing value, in this unit.
        single: whether one value reveals the unit. False = the median of a patient's values does,
            because a single such value may be a sick patient's in the proper unit.
        remedy: the conversion, in words.
        subtract: a value x is ``(x - subtract) * multiply`` in the vital's own unit.
        multiply: see `subtract`.
    """

    name: str
    low: float
    high: float
    single: bool
    remedy: str
    subtract: float = 0.0
    multiply: float = 1.0

    def convert(self, value: float) -> float:
        """Return a value of this unit in the vital's own."""
        return (value - self.subtract) * self.multiply


_KPA_REMEDY = "convert to mmHg: x 7.50062"
_MMHG_IN_KPA = 7.50062

OTHER_UNITS: dict[str, tuple[OtherUnit, ...]] = {
    "heart_rate": (
        OtherUnit("beats per second", 0.1, 5.0, False, "convert to bpm: x 60", multiply=60.0),
    ),
    "sbp": (OtherUnit("kPa", 4.0, 35.0, False, _KPA_REMEDY, multiply=_MMHG_IN_KPA),),
    "dbp": (OtherUnit("kPa", 1.5, 15.0, False, _KPA_REMEDY, multiply=_MMHG_IN_KPA),),
    "mbp": (OtherUnit("kPa", 2.0, 20.0, False, _KPA_REMEDY, multiply=_MMHG_IN_KPA),),
    "resp_rate": (
        OtherUnit(
            "breaths per second", 0.05, 1.0, False, "convert to breaths/min: x 60", multiply=60.0
        ),
    ),
    "temperature_c": (
        OtherUnit("°F", 80.0, 115.0, True, "convert to °C: (x - 32) / 1.8", 32.0, 1 / 1.8),
        OtherUnit("K", 290.0, 320.0, True, "convert to °C: x - 273.15", 273.15),
    ),
    "spo2": (OtherUnit("a fraction", 1e-6, 1.0, True, "convert to %: x 100", multiply=100.0),),
}
"""Other units of each vital sign; no patient's median in the proper unit lies in their ranges."""


def unit_mistake(vital: int, values: FloatArray) -> str:
    """Describe the other unit that a series of one patient seems to have.

    Args:
        vital: index into `common.data.vitals.VITALS`.
        values: ``[C]``, NaN = not measured.

    Returns:
        E.g. ``temperature_c 98.6 looks like °F: convert to °C: (x - 32) / 1.8``; empty if the
        values look like the vital's own unit, or if there are none.
    """
    observed = values[np.isfinite(values)]
    if not len(observed):
        return ""
    name, median = VITALS[vital].name, float(np.median(observed))
    for unit in OTHER_UNITS[name]:
        revealing = observed[(observed >= unit.low) & (observed <= unit.high)]
        if unit.single and len(revealing):
            return _mistake(name, float(revealing[-1]), unit)
        if not unit.single and unit.low <= median <= unit.high:
            return _mistake(f"{name} with a median of", median, unit)
    return ""


def _mistake(what: str, value: float, unit: OtherUnit) -> str:
    return f"{what} {value:.4g} looks like {unit.name}: {unit.remedy}"
