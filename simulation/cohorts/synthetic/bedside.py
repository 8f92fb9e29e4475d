"""Charting besides the vitals: coma scale, ventilator, oxygen, weight, and urine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulation.cohorts.arrays import Floats
from simulation.cohorts.synthetic.charting import in_metavision
from simulation.cohorts.synthetic.events import Events, hourly, join_events, keys, make_events
from simulation.cohorts.synthetic.physiology import Course
from simulation.cohorts.synthetic.tables import TableWriter, timestamps

_EYE = ("", "None", "To Pain", "To Speech", "Spontaneously")
_VERBAL = ("", "No Response", "Incomp sounds", "Inapprop words", "Confused", "Oriented")
_MOTOR = ("", "No response", "Abnorm extensn", "Abnorm flexion", "Flex-withdraws",
          "Localizes Pain", "Obeys Commands")  # fmt: skip


def inspired_oxygen(course: Course) -> Floats:
    """Return the fraction of inspired oxygen, 0.21 to 1; [S, T]."""
    fraction = np.where(course.ventilated, 0.4, 0.25) + 0.12 * course.severity
    return np.asarray(np.round(fraction.clip(0.21, 1.0) / 0.05) * 0.05)


def chart_bedside(rng: np.random.Generator, stays: pd.DataFrame, course: Course) -> Events:
    """Chart coma scale (numbers with texts), FiO2, ventilator mode, PEEP, oxygen and weight."""
    return join_events(
        [
            *_coma_scale(rng, stays, course),
            *_ventilator(rng, stays, course),
            _weight(stays),
        ]
    )


def _every(rng: np.random.Generator, shape: tuple[int, ...], hours: int) -> npt.NDArray[np.bool_]:
    return np.asarray(
        (np.arange(shape[1]) + rng.integers(0, hours, shape[0])[:, None]) % hours == 0
    )


def _coma_scale(rng: np.random.Generator, stays: pd.DataFrame, course: Course) -> list[Events]:
    shape = course.severity.shape
    drowsy = course.severity + 1.5 * course.ventilated + 0.35 * rng.standard_normal(shape)
    eye = np.clip(np.round(4.4 - 0.8 * drowsy), 1, 4).astype(np.int64)
    motor = np.clip(np.round(6.5 - 0.7 * drowsy), 1, 6).astype(np.int64)
    verbal = np.clip(np.round(5.4 - 1.0 * drowsy), 1, 5).astype(np.int64)
    verbal = np.where(course.ventilated, 1, verbal)
    stay, hour, time = hourly(stays, _every(rng, shape, 4))
    metavision = in_metavision(stays, stay, hour.astype(np.float64))
    tube = course.ventilated[stay, hour]
    carevue_tube, metavision_tube = "1.0 ET/Trach", "No Response-ETT"
    charted = []
    for score, names, carevue, item in (
        (eye, _EYE, 184, 220739),
        (verbal, _VERBAL, 723, 223900),
        (motor, _MOTOR, 454, 223901),
    ):
        value = score[stay, hour]
        text = np.array(names, dtype=object)[value]
        numbered = value.astype(str).astype(object) + " " + text
        if score is verbal:
            text = np.where(tube, metavision_tube, text)
            numbered = np.where(tube, carevue_tube, numbered)
        charted.append(
            make_events(
                stay,
                np.where(metavision, item, carevue),
                time,
                value,
                np.where(metavision, text, numbered),
            )
        )
    total = (eye + verbal + motor)[stay, hour]
    charted.append(make_events(stay, 198, time, total).take(~metavision))
    return charted


def _ventilator(rng: np.random.Generator, stays: pd.DataFrame, course: Course) -> list[Events]:
    shape, fraction = course.severity.shape, inspired_oxygen(course)
    stay, hour, time = hourly(stays, course.ventilated & _every(rng, shape, 3), 5)
    metavision = in_metavision(stays, stay, hour.astype(np.float64))
    # CareVue charts a fraction, MetaVision percent.
    oxygen = np.where(metavision, 100, 1) * fraction[stay, hour]
    mode = np.where(metavision, "CMV/ASSIST/AutoFlow", "Assist Control").astype(object)
    set_rate = [
        make_events(stay, np.where(metavision, 223835, 190), time, oxygen.round(2)),
        make_events(stay, np.where(metavision, 223849, 720), time, np.nan, mode),
        make_events(
            stay,
            np.where(metavision, 220339, 506),
            time,
            5 + 2 * course.severity[stay, hour].round(),
        ),
    ]
    stay, hour, time = hourly(stays, ~course.ventilated & _every(rng, shape, 6), 5)
    metavision = in_metavision(stays, stay, hour.astype(np.float64))
    device = np.full(len(stay), "Nasal cannula", dtype=object)
    item = np.where(metavision, 226732, 467)
    return [*set_rate, make_events(stay, item, time, np.nan, device)]


def _weight(stays: pd.DataFrame) -> Events:
    stay = np.arange(len(stays))
    soon = np.minimum(1800, stays["hours"].to_numpy() * 1800).astype(np.int64)
    item = np.where(in_metavision(stays, stay, np.zeros(len(stays))), 226512, 762)
    return make_events(stay, item, stays["intime"].to_numpy() + soon, stays["weight_kg"].to_numpy())


def write_urine(
    rng: np.random.Generator, writer: TableWriter, stays: pd.DataFrame, course: Course
) -> None:
    """Write OUTPUTEVENTS: urine every two hours, much less of it in severe sepsis."""
    stay, hour, time = hourly(stays, _every(rng, course.severity.shape, 2), 0)
    metavision = in_metavision(stays, stay, hour.astype(np.float64))
    per_hour = (
        1.1 * stays["weight_kg"].to_numpy()[stay] * np.exp(-0.6 * course.severity[stay, hour])
    )
    volume = np.round(2 * per_hour * np.exp(0.4 * rng.standard_normal(len(stay))) / 5) * 5
    writer.write(
        "OUTPUTEVENTS",
        {
            **keys(stays, stay),
            "CHARTTIME": timestamps(time),
            "ITEMID": np.where(metavision, 226559, 40055),
            "VALUE": volume,
            "VALUEUOM": np.where(metavision, "mL", "ml").astype(object),
            "STORETIME": timestamps(time + 1200),
        },
    )
