"""LABEVENTS and MICROBIOLOGYEVENTS.

LABEVENTS has difficulties too: texts, the value 999999, rows without HADM_ID, samples before the
stay, blood gases that are arterial or venous only by their specimen row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from simulation.cohorts.arrays import Floats, Ints
from simulation.cohorts.synthetic.bedside import inspired_oxygen
from simulation.cohorts.synthetic.patients import HOUR_S
from simulation.cohorts.synthetic.physiology import Course
from simulation.cohorts.synthetic.tables import TableWriter, dates, timestamps


@dataclass(frozen=True)
class Analyte:
    """A laboratory value.

    Attributes:
        item: ITEMID.
        unit: as VALUEUOM states it.
        level: of a patient without sepsis.
        spread: between patients, of the logarithm.
        response: change of the logarithm per unit of severity.
        decimals: of its rounding.
        drawn: share of the samples in which it is measured.
    """

    item: int
    unit: str
    level: float
    spread: float
    response: float
    decimals: int
    drawn: float = 1.0


_BLOOD = (
    Analyte(50912, "mg/dL", 1.0, 0.35, 0.40, 1),  # creatinine
    Analyte(51006, "mg/dL", 20, 0.40, 0.30, 0),  # urea nitrogen
    Analyte(50885, "mg/dL", 0.7, 0.45, 0.40, 1, 0.6),  # bilirubin
    Analyte(51265, "K/uL", 215, 0.35, -0.30, 0),  # platelets
    Analyte(51301, "K/uL", 9.5, 0.30, 0.25, 1),  # white blood cells
    Analyte(51222, "g/dL", 10.5, 0.13, -0.03, 1),  # haemoglobin
    Analyte(50813, "mmol/L", 1.3, 0.25, 0.50, 1, 0.5),  # lactate
)
_SPECIMEN, _OXYGEN_TENSION, _OXYGEN = 50800, 50821, 50816
_SPECIMENS = np.array(["BLOOD CULTURE", "URINE", "SPUTUM", "MRSA SCREEN"], dtype=object)
_SPECIMEN_IDS = np.array([70012, 70079, 70062, 70091])
_ORGANISMS = np.array(
    ["ESCHERICHIA COLI", "STAPH AUREUS COAG +", "KLEBSIELLA PNEUMONIAE"], dtype=object
)
_ORGANISM_IDS = np.array([80002, 80023, 80004])
_TESTED = np.array(["VANCOMYCIN", "CEFTRIAXONE", "LEVOFLOXACIN"], dtype=object)
_TESTED_IDS = np.array([90012, 90005, 90025])


def write_laboratory(
    rng: np.random.Generator, writer: TableWriter, stays: pd.DataFrame, course: Course
) -> None:
    """Write blood samples about every ten hours, and arterial gases of the ventilated and ill."""
    stay, hour, time = _draw_samples(rng, stays, course, every=10, first=-6)
    severity = course.severity[stay, np.maximum(hour, 0)]
    for analyte in _BLOOD:
        own = analyte.spread * rng.standard_normal(len(stays))
        noise = 0.06 * rng.standard_normal(len(stay))
        value = analyte.level * np.exp(own[stay] + noise + analyte.response * severity)
        drawn = rng.random(len(stay)) < analyte.drawn
        value = np.maximum(value, 0.5 * 10.0**-analyte.decimals).round(analyte.decimals)[drawn]
        _write_rows(rng, writer, stays, stay[drawn], time[drawn], analyte.item, value, analyte.unit)
    _write_gases(rng, writer, stays, course)


def _draw_samples(
    rng: np.random.Generator, stays: pd.DataFrame, course: Course, every: int, first: int
) -> tuple[Ints, Ints, Ints]:
    """Return stay, hour and time of each sample; hours below 0 are before the stay."""
    count, hours = course.severity.shape
    grid = np.arange(first, hours, every) + rng.integers(0, every - 1, (count, 1))
    stay, place = np.nonzero(grid < np.minimum(stays["hours"].to_numpy(), hours - 1)[:, None])
    hour = grid[stay, place]
    time = stays["intime"].to_numpy()[stay] + hour * HOUR_S + rng.integers(0, 60, len(stay)) * 60
    return stay, hour, time - time % 60


def _write_gases(
    rng: np.random.Generator, writer: TableWriter, stays: pd.DataFrame, course: Course
) -> None:
    stay, hour, time = _draw_samples(rng, stays, course, every=7, first=0)
    severity, ventilated = course.severity[stay, hour], course.ventilated[stay, hour]
    taken = ventilated | (severity > 0.8)
    stay, hour, time = stay[taken], hour[taken], time[taken]
    fraction = inspired_oxygen(course)[stay, hour]
    own = 0.2 * rng.standard_normal(len(stays))
    ratio = 400 * np.exp(own[stay] - 0.35 * severity[taken] - 0.2 * ventilated[taken])
    venous = rng.random(len(stay)) < 0.1
    tension = np.where(venous, rng.uniform(32, 48, len(stay)), np.maximum(ratio * fraction, 45))
    text = np.where(venous, "VEN", "ART").astype(object)
    missing = np.full(len(stay), np.nan)
    _write_rows(rng, writer, stays, stay, time, _SPECIMEN, missing, None, text)
    _write_rows(rng, writer, stays, stay, time, _OXYGEN_TENSION, tension.round(), "mm Hg")
    _write_rows(rng, writer, stays, stay, time, _OXYGEN, (100 * fraction).round(), "%")


def _write_rows(
    rng: np.random.Generator,
    writer: TableWriter,
    stays: pd.DataFrame,
    stay: Ints,
    time: Ints,
    item: int,
    value: Floats,
    unit: str | None,
    text: npt.NDArray[np.object_] | None = None,
) -> None:
    """Append measurements to LABEVENTS, some of them with noise."""
    if text is None:
        fate = rng.random(len(stay))
        value = np.where(fate < 0.002, 999_999.0, np.where(fate > 0.996, np.nan, value))
        written = pa.array(value, from_pandas=True).cast(pa.string())
        written = pc.fill_null(written, "ERROR")
    else:
        written = pa.array(text, pa.string())
    columns = {
        "SUBJECT_ID": stays["subject_id"].to_numpy()[stay],
        "HADM_ID": pa.array(stays["hadm_id"].to_numpy()[stay], mask=rng.random(len(stay)) < 0.01),
        "ITEMID": item,
        "CHARTTIME": timestamps(time),
        "VALUE": written,
        "VALUENUM": value,
    }
    writer.write("LABEVENTS", columns if unit is None else {**columns, "VALUEUOM": unit})


def write_cultures(
    rng: np.random.Generator, writer: TableWriter, stays: pd.DataFrame, course: Course
) -> None:
    """Write cultures: a few around the onset of sepsis, a third of them positive; few without."""
    count, septic = len(stays), np.isfinite(course.onset_h)
    around_h = np.where(septic, course.onset_h, 8.0)[:, None] + rng.uniform(-3, 8, (count, 4))
    taken = rng.random((count, 4)) < np.where(septic[:, None], [0.97, 0.7, 0.5, 0.2], 0.08)
    stay, kind = np.nonzero(taken)
    time = stays["intime"].to_numpy()[stay] + np.round(around_h[taken] * HOUR_S).astype(np.int64)
    time -= time % 60
    # Screening for MRSA is no sign of an infection.
    positive = septic[stay] & (rng.random(len(stay)) < 0.35) & (kind < 3)
    # A positive culture has a row for each antibiotic that was tested.
    copies = np.where(positive, len(_TESTED), 1)
    row = np.repeat(np.arange(len(stay)), copies)
    tested = np.arange(len(row)) - np.repeat(np.cumsum(copies) - copies, copies)
    untimed = (rng.random(len(stay)) < 0.12)[row]
    writer.write(
        "MICROBIOLOGYEVENTS",
        {
            "SUBJECT_ID": stays["subject_id"].to_numpy()[stay[row]],
            "HADM_ID": stays["hadm_id"].to_numpy()[stay[row]],
            "CHARTDATE": dates(time[row]),
            "CHARTTIME": timestamps(time[row], untimed),
            "SPEC_ITEMID": _SPECIMEN_IDS[kind[row]],
            "SPEC_TYPE_DESC": _SPECIMENS[kind[row]],
            **_growth(rng, row, tested, ~positive[row]),
        },
    )


def _growth(
    rng: np.random.Generator, row: Ints, tested: Ints, sterile: npt.NDArray[np.bool_]
) -> dict[str, pa.Array]:
    """Return organism and antibiogram of each row, empty if nothing grew.

    Args:
        rng: random generator.
        row: index of the row's culture, [N].
        tested: index into `_TESTED` of the antibiotic, [N].
        sterile: where nothing grew, [N].
    """
    organism = rng.integers(0, len(_ORGANISMS), int(row.max(initial=0)) + 1)[row]
    verdict = np.where(rng.random(len(row)) < 0.7, "S", "R").astype(object)
    return {
        "ORG_ITEMID": pa.array(_ORGANISM_IDS[organism], mask=sterile),
        "ORG_NAME": pa.array(_ORGANISMS[organism], pa.string(), mask=sterile),
        "ISOLATE_NUM": pa.array(np.ones(len(row), np.int64), mask=sterile),
        "AB_ITEMID": pa.array(_TESTED_IDS[tested], mask=sterile),
        "AB_NAME": pa.array(_TESTED[tested], pa.string(), mask=sterile),
        "INTERPRETATION": pa.array(verdict, pa.string(), mask=sterile),
    }
