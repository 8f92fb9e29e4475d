"""Treatment: vasopressor and fluids, prescriptions, ventilation as a procedure.

INPUTEVENTS_CV has a row per hour with the rate from then on; INPUTEVENTS_MV a row per stretch of
one rate, and some rows that were rewritten later.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from simulation.cohorts.arrays import Floats, Ints
from simulation.cohorts.synthetic.charting import in_metavision
from simulation.cohorts.synthetic.events import hourly, keys
from simulation.cohorts.synthetic.patients import DAY_S, HOUR_S
from simulation.cohorts.synthetic.physiology import Course
from simulation.cohorts.synthetic.tables import TableWriter, dates, timestamps

_ANTIBIOTICS = (
    ("Vancomycin HCl", "IV", 0.75),
    ("Piperacillin-Tazobactam Na", "IV", 0.5),
    ("Levofloxacin", "IV", 0.3),
    ("Cefepime", "IV", 0.25),
    ("Metronidazole", "PO", 0.1),
)
"""Drug, route and share of the septic patients who get it at the onset."""


def write_infusions(
    rng: np.random.Generator, writer: TableWriter, stays: pd.DataFrame, course: Course
) -> None:
    """Write the norepinephrine of `course`, and boluses of saline in severe sepsis."""
    stretches = _stretches(stays, course.norepinephrine)
    _write_carevue_drip(rng, writer, stays, stretches)
    _write_metavision_drip(writer, stays, stretches)
    _write_saline(rng, writer, stays, course)


def _stretches(stays: pd.DataFrame, dose: Floats) -> tuple[Ints, Ints, Ints, Floats]:
    """Return stretches of one positive dose: stay, first hour, hour of the end, dose; all [N]."""
    inside = np.arange(dose.shape[1]) < np.floor(stays["hours"].to_numpy())[:, None]
    # A change of system ends a stretch too; zero before and after.
    running = np.pad(np.where(inside, dose, 0.0), ((0, 0), (1, 1)))
    half = np.ceil(stays["hours"].to_numpy() / 2).astype(np.int64)
    stay, start = np.nonzero((np.diff(running) != 0) & (running[:, 1:] > 0))
    _, stop = np.nonzero((np.diff(running) != 0) & (running[:, :-1] > 0))
    both = (stays["dbsource"] == "both").to_numpy()[stay]
    across = both & (start < half[stay]) & (half[stay] < stop)
    middle = half[stay[across]]
    return (
        np.concatenate([stay, stay[across]]),
        np.concatenate([start, middle]),
        np.concatenate([np.where(across, half[stay], stop), stop[across]]),
        running[np.concatenate([stay, stay[across]]), np.concatenate([start, middle]) + 1],
    )


def _write_carevue_drip(
    rng: np.random.Generator,
    writer: TableWriter,
    stays: pd.DataFrame,
    stretches: tuple[Ints, Ints, Ints, Floats],
) -> None:
    stay, start, stop, dose = stretches
    own = ~in_metavision(stays, stay, start.astype(np.float64))
    stay, start, stop, dose = stay[own], start[own], stop[own], dose[own]
    hours = stop - start
    row = np.repeat(np.arange(len(stay)), hours)
    hour = np.arange(len(row)) - np.repeat(np.cumsum(hours) - hours, hours) + start[row]
    # If no other stretch follows, the drip is charted as stopped.
    ends = ~np.isin(stay * 10_000 + stop, stay * 10_000 + start)
    stay = np.concatenate([stay[row], stay[ends]])
    hour = np.concatenate([hour, stop[ends]])
    rate = np.concatenate([dose[row], np.zeros(int(ends.sum()))])
    by_weight = (rng.random(len(stays)) < 0.7)[stay]
    time = _time(stays, stay, hour)
    writer.write(
        "INPUTEVENTS_CV",
        {
            **keys(stays, stay),
            "CHARTTIME": timestamps(time),
            "ITEMID": np.where(by_weight, 30120, 30047),
            "RATE": np.where(by_weight, rate, rate * stays["weight_kg"].to_numpy()[stay]).round(2),
            "RATEUOM": np.where(by_weight, "mcgkgmin", "mcgmin").astype(object),
            "STORETIME": timestamps(time + 900),
            "STOPPED": pa.array(np.full(len(stay), "D/C'd", dtype=object), mask=rate > 0),
        },
    )


def _write_metavision_drip(
    writer: TableWriter,
    stays: pd.DataFrame,
    stretches: tuple[Ints, Ints, Ints, Floats],
) -> None:
    stay, start, stop, dose = stretches
    own = in_metavision(stays, stay, start.astype(np.float64))
    stay, start, stop, dose = stay[own], start[own], stop[own], dose[own]
    # A rewritten row has a rate that was never given.
    wrong = np.arange(len(stay)) % 12 == 0
    stay, start, stop = (np.concatenate([x, x[wrong]]) for x in (stay, start, stop))
    rate = np.concatenate([dose, 3 * dose[wrong]])
    rewritten = np.arange(len(stay)) >= len(dose)
    weight = stays["weight_kg"].to_numpy()[stay]
    order = 3_000_000 + np.arange(len(stay))
    writer.write(
        "INPUTEVENTS_MV",
        {
            **keys(stays, stay),
            "STARTTIME": timestamps(_time(stays, stay, start)),
            "ENDTIME": timestamps(_time(stays, stay, stop)),
            "ITEMID": 221906,
            "AMOUNT": (rate * weight * (stop - start) * 60 / 1000).round(4),
            "AMOUNTUOM": "mg",
            "RATE": rate.round(3),
            "RATEUOM": "mcg/kg/min",
            "STORETIME": timestamps(_time(stays, stay, start) + 600),
            "ORDERID": order,
            "LINKORDERID": order,
            "ORDERCATEGORYNAME": "01-Drips",
            "ORDERCATEGORYDESCRIPTION": "Continuous Med",
            "PATIENTWEIGHT": weight,
            "STATUSDESCRIPTION": np.where(rewritten, "Rewritten", "FinishedRunning").astype(object),
        },
    )


def _write_saline(
    rng: np.random.Generator, writer: TableWriter, stays: pd.DataFrame, course: Course
) -> None:
    given = (course.severity > 1) & (rng.random(course.severity.shape) < 0.25)
    stay, hour, time = hourly(stays, given, 10)
    amount = rng.choice([250.0, 500.0, 1000.0], len(stay))
    new = in_metavision(stays, stay, hour.astype(np.float64))
    writer.write(
        "INPUTEVENTS_CV",
        {
            **keys(stays, stay[~new]),
            "CHARTTIME": timestamps(time[~new]),
            "ITEMID": 30018,
            "AMOUNT": amount[~new],
            "AMOUNTUOM": "ml",
        },
    )
    writer.write(
        "INPUTEVENTS_MV",
        {
            **keys(stays, stay[new]),
            "STARTTIME": timestamps(time[new]),
            "ENDTIME": timestamps(time[new] + 1800),
            "ITEMID": 225158,
            "AMOUNT": amount[new],
            "AMOUNTUOM": "ml",
            "ORDERCATEGORYNAME": "03-IV Fluid Bolus",
            "STATUSDESCRIPTION": "FinishedRunning",
        },
    )


def write_prescriptions(
    rng: np.random.Generator, writer: TableWriter, stays: pd.DataFrame, course: Course
) -> None:
    """Write PRESCRIPTIONS: antibiotics from the day of onset, prophylaxis, and common drugs."""
    septic, count = np.isfinite(course.onset_h), len(stays)
    intime = stays["intime"].to_numpy()
    onset_h = np.where(septic, course.onset_h + rng.uniform(0, 4, count), 0)
    onset = intime + np.round(onset_h * HOUR_S).astype(np.int64)
    drawn = rng.random((len(_ANTIBIOTICS), count))
    given = [septic & (drawn[n] < share) for n, (*_, share) in enumerate(_ANTIBIOTICS)]
    # Every septic patient gets at least one.
    given[0] |= septic & ~np.any(given, axis=0)
    prophylaxis = ~septic & (stays["role"] != "neonate").to_numpy() & (rng.random(count) < 0.25)
    everyone = np.ones(count, dtype=bool)
    rows = [
        *(
            (name, way, mask, onset)
            for (name, way, _), mask in zip(_ANTIBIOTICS, given, strict=True)
        ),
        ("CefazoLIN", "IV", prophylaxis, intime),
        # Local treatment, which is no sign of a suspected infection.
        ("Bacitracin Ointment", "TP", rng.random(count) < 0.05, intime),
        ("Pantoprazole", "PO", everyone, intime),
        ("Heparin", "SC", everyone & (rng.random(count) < 0.6), intime),
    ]
    stay = np.concatenate([np.flatnonzero(mask) for _, _, mask, _ in rows])
    start = np.concatenate([begin[mask] for _, _, mask, begin in rows])
    sizes = [int(mask.sum()) for _, _, mask, _ in rows]
    days = rng.integers(1, 9, len(stay))
    ids = stays["icustay_id"].to_numpy()[stay]
    writer.write(
        "PRESCRIPTIONS",
        {
            **keys(stays, stay),
            "ICUSTAY_ID": pa.array(ids, mask=rng.random(len(stay)) < 0.25),
            "STARTDATE": dates(start),
            "ENDDATE": dates(start + days * DAY_S, rng.random(len(stay)) < 0.01),
            "DRUG_TYPE": "MAIN",
            "DRUG": np.repeat(np.array([row[0] for row in rows], dtype=object), sizes),
            "ROUTE": np.repeat(np.array([row[1] for row in rows], dtype=object), sizes),
        },
    )


def write_procedures(writer: TableWriter, stays: pd.DataFrame, course: Course) -> None:
    """Write PROCEDUREEVENTS_MV: ventilation and extubation charted in MetaVision."""
    stay, start, stop, _ = _stretches(stays, course.ventilated.astype(np.float64))
    own = in_metavision(stays, stay, start.astype(np.float64))
    stay, start, stop = stay[own], start[own], stop[own]
    for item, begin, unit in ((225792, start, "min"), (227194, stop, "None")):
        until = stop if item == 225792 else stop + 1 / 60
        minutes = np.round((until - begin) * 60)
        first = _time(stays, stay, begin)
        writer.write(
            "PROCEDUREEVENTS_MV",
            {
                **keys(stays, stay),
                "STARTTIME": timestamps(first),
                "ENDTIME": timestamps(first + 60 * minutes.astype(np.int64)),
                "ITEMID": item,
                "VALUE": minutes,
                "VALUEUOM": unit,
                "STATUSDESCRIPTION": "FinishedRunning",
            },
        )


def _time(stays: pd.DataFrame, stay: Ints, hour: Ints) -> Ints:
    """Return the time of an hour since admission, in seconds since 1970, to the minute."""
    time = stays["intime"].to_numpy()[stay] + hour * HOUR_S
    return np.asarray(time - time % 60)
