"""Charting of the latent vitals by nurses: rounds, items, units, rounding and gaps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.signal import lfilter

from simulation.cohorts.arrays import Bools, Floats, Ints
from simulation.cohorts.synthetic.events import Events, join_events, make_events
from simulation.cohorts.synthetic.patients import HOUR_S
from simulation.cohorts.synthetic.physiology import Course
from simulation.cohorts.synthetic.tables import PRESSURE_ITEMS, PRESSURES
from simulation.cohorts.synthetic.units import of_unit

_MONITOR_MEMORY_MIN = 15.0
"""Time constant of a monitor's readings around the hourly course, in minutes."""


@dataclass(frozen=True)
class ChartingRounds:
    """Rounds of charting; all arrays are [N].

    Attributes:
        stay: index of the stay in the block.
        hour: hours since admission, whole.
        hours: hours since admission, exact.
        time: seconds since 1970, in whole minutes.
        metavision: whether it is charted in MetaVision.
        regular: whether it is the hourly round and not one between.
    """

    stay: Ints
    hour: Ints
    hours: Floats
    time: Ints
    metavision: Bools
    regular: Bools

    def __len__(self) -> int:
        return len(self.stay)

    def chart(
        self, mask: Bools, carevue: npt.ArrayLike, metavision: npt.ArrayLike, values: Floats
    ) -> Events:
        """Return the events of one measurement.

        Args:
            mask: rounds in which it is taken, [N].
            carevue: its item in CareVue, one for all or one per round.
            metavision: its item in MetaVision, likewise.
            values: charted values, [N].
        """
        item = np.where(self.metavision, metavision, carevue)
        return make_events(self.stay[mask], item[mask], self.time[mask], values[mask])


def chart_vitals(rng: np.random.Generator, stays: pd.DataFrame, course: Course) -> Events:
    """Chart the vitals of a block of stays.

    Args:
        rng: random generator.
        stays: frame of `draw_stays`, [S].
        course: their course.

    Returns:
        Heart rate, breathing and SpO2 of nearly every round, pressures by arterial line or cuff,
        temperatures in °F or °C at longer intervals.
    """
    rounds = draw_rounds(rng, stays, course)
    latent = {name: _at(values, rounds) for name, values in course.vitals.items()}
    count = len(rounds)
    moved = rng.standard_normal(count)  # shared by all measurements of a round
    heart_rate = latent["heart_rate"] + 2.0 * moved + 3.0 * rng.standard_normal(count)
    spo2 = np.minimum(latent["spo2"] + 0.5 * rng.standard_normal(count), 100)
    ventilated = course.ventilated[rounds.stay, rounds.hour]
    return join_events(
        [
            rounds.chart(rng.random(count) < 0.97, 211, 220045, heart_rate.round()),
            rounds.chart(rng.random(count) < 0.95, 646, 220277, spo2.round()),
            *_chart_breathing(rng, rounds, latent["resp_rate"], ventilated),
            *_chart_pressures(rng, stays, rounds, latent, moved),
            *_chart_temperature(rng, stays, rounds, latent["temperature_c"]),
        ]
    )


def chart_monitor(
    rng: np.random.Generator, stays: pd.DataFrame, course: Course, every_minutes: int
) -> Events:
    """Chart a bedside monitor's readings, as in data with a value every few minutes.

    Args:
        rng: random generator.
        stays: frame of `draw_stays`, [S].
        course: their course.
        every_minutes: time between two readings.

    Returns:
        Heart rate, SpO2, breathing and the pressures of an arterial line, with lost signals. The
        readings vary around the hourly course by a process with a memory of a quarter of an hour.
    """
    rounds = _monitor_rounds(rng, stays, every_minutes)
    keep = float(np.exp(-every_minutes / _MONITOR_MEMORY_MIN))
    circulation, breathing = _autoregressive(rng, len(rounds), keep)
    latent = {name: _at(values, rounds) for name, values in course.vitals.items()}
    seen = rng.random((4, len(rounds))) < 0.98
    heart_rate = latent["heart_rate"] + 2.5 * circulation
    spo2 = np.minimum(latent["spo2"] + 0.5 * breathing, 100)
    moves = {"sbp": 6.0, "dbp": 3.5, "mbp": 4.5}
    carevue, metavision = (PRESSURE_ITEMS["invasive", system][0] for system in (False, True))
    return join_events(
        [
            rounds.chart(seen[0], 211, 220045, heart_rate.round()),
            rounds.chart(seen[1], 646, 220277, spo2.round()),
            rounds.chart(seen[2], 618, 220210, (latent["resp_rate"] + 1.5 * breathing).round()),
            *(
                rounds.chart(seen[3], old, new, (latent[name] + moves[name] * circulation).round())
                for name, old, new in zip(PRESSURES, carevue, metavision, strict=True)
            ),
        ]
    )


def _monitor_rounds(
    rng: np.random.Generator, stays: pd.DataFrame, every_minutes: int
) -> ChartingRounds:
    """Return the times of a monitor's readings, without the hours in which it is disconnected."""
    length, intime = stays["hours"].to_numpy(), stays["intime"].to_numpy()
    minutes = np.arange(every_minutes, int(np.ceil(length.max() * 60)), every_minutes)
    connected = ~_gaps(rng, (len(stays), int(minutes[-1] // 60) + 1))
    within = minutes < (length[:, None] * 60 - 1)
    stay, place = np.nonzero(within & connected[:, minutes // 60])
    exact = minutes[place] / 60
    metavision = in_metavision(stays, stay, exact)
    regular = np.ones(len(stay), dtype=bool)
    # In whole minutes after the admission, so that each step has one reading.
    time = intime[stay] + 60 * minutes[place]
    return ChartingRounds(stay, exact.astype(np.int64), exact, time, metavision, regular)


def _autoregressive(rng: np.random.Generator, count: int, keep: float) -> Floats:
    """Return two processes of unit variance, [2, `count`], that keep a share at every reading."""
    drive = np.sqrt(1 - keep**2) * rng.standard_normal((2, count))
    return np.asarray(lfilter([1.0], [1.0, -keep], drive, axis=1))


def draw_rounds(rng: np.random.Generator, stays: pd.DataFrame, course: Course) -> ChartingRounds:
    """Draw the rounds: hourly with jitter, more often for unstable patients, with gaps."""
    units, shape = stays["unit"].to_numpy(), course.severity.shape
    intime, length = stays["intime"].to_numpy(), stays["hours"].to_numpy()
    hours = np.arange(shape[1])
    sparse = rng.random(len(stays)) < of_unit("sparse", units)
    present = (rng.random(shape) < 0.93) & ~(sparse[:, None] & (hours % 2 == 1))
    unstable = (course.severity > 1.3) | (course.vitals["mbp"] < 58) | (course.norepinephrine > 0.2)
    extra = np.where(unstable, 0.45, of_unit("extra_rounds", units)[:, None])
    slots = np.stack([present, rng.random(shape) < extra, rng.random(shape) < 0.3 * extra], axis=-1)
    slots &= ~_gaps(rng, shape)[..., None]
    stay, hour, slot = np.nonzero(slots)
    # The regular round is charted for the full hour or some minutes off it, the others between.
    jitter = np.where(rng.random(len(stay)) < 0.65, 0, rng.integers(-9, 15, len(stay)))
    between = np.array([0, 30, 15])[slot] + np.where(
        slot == 0, jitter, rng.integers(0, 12, len(stay))
    )
    time = (intime[stay] // HOUR_S + 1 + hour) * HOUR_S + 60 * between
    exact = (time - intime[stay]) / HOUR_S
    kept = (exact > 0) & (exact < length[stay])
    stay, time, exact, slot = stay[kept], time[kept], exact[kept], slot[kept]
    return ChartingRounds(
        stay, exact.astype(np.int64), exact, time, in_metavision(stays, stay, exact), slot == 0
    )


def in_metavision(stays: pd.DataFrame, stay: Ints, hours: Floats) -> Bools:
    """Return which events are charted in MetaVision.

    Args:
        stays: frame of `draw_stays`, [S].
        stay: index of each event's stay, [N].
        hours: hours since admission, [N].

    Returns:
        Booleans, [N]; a stay in both systems changes from CareVue halfway.
    """
    source = stays["dbsource"].to_numpy(object)[stay]
    second_half = hours > stays["hours"].to_numpy()[stay] / 2
    return np.asarray((source == "metavision") | ((source == "both") & second_half))


def _at(values: Floats, rounds: ChartingRounds) -> Floats:
    """Interpolate hourly values [S, T] at the rounds, [N]."""
    part = rounds.hours - rounds.hour
    before, after = values[rounds.stay, rounds.hour], values[rounds.stay, rounds.hour + 1]
    return np.asarray(before + part * (after - before))


def _gaps(rng: np.random.Generator, shape: tuple[int, int]) -> Bools:
    """Return hours without charting, [S, T]."""
    begins = rng.random(shape) < 1 / 60
    lengths = rng.integers(2, 7, shape)
    away, left = np.zeros(shape, dtype=bool), np.zeros(shape[0], dtype=np.int64)
    for hour in range(shape[1]):
        left = np.where(begins[:, hour], lengths[:, hour], left - 1)
        away[:, hour] = left > 0
    return away


def _chart_breathing(
    rng: np.random.Generator, rounds: ChartingRounds, latent: Floats, ventilated: Bools
) -> list[Events]:
    counted = latent + np.where(ventilated, 1.0, 3.0) * rng.standard_normal(len(rounds))
    seen = rng.random(len(rounds)) < 0.94
    # A ventilator's total rate is charted beside the nurse's count.
    total = seen & ventilated & (rng.random(len(rounds)) < 0.2)
    return [
        rounds.chart(seen, 618, 220210, counted.clip(2).round()),
        rounds.chart(total, 615, 224690, latent.round()),
    ]


def _chart_pressures(
    rng: np.random.Generator,
    stays: pd.DataFrame,
    rounds: ChartingRounds,
    latent: dict[str, Floats],
    moved: Floats,
) -> list[Events]:
    """Chart pressures by arterial line while in place, else by cuff (sometimes by both)."""
    line, noise = _arterial_line(rng, stays, rounds), rng.standard_normal((4, len(rounds)))
    newborn = (stays["role"] == "neonate").to_numpy()[rounds.stay]
    # From reading to reading the pressure moves as a whole, the systolic one most.
    common = (0.5 * moved + 0.85 * noise[0]) * np.where(newborn, 2.5, 7.0)
    share = {"sbp": 1.25, "dbp": 0.75, "mbp": 1.0}
    cuff_bias = {"sbp": -3.0, "dbp": 0.0, "mbp": -1.5}
    rare = (rng.random(len(stays)) < 0.12)[rounds.stay].astype(np.int64)
    seen = rng.random(len(rounds)) < 0.96
    beside = line & (rng.random(len(rounds)) < 0.12)
    charted = []
    for kind, mask in (("invasive", line & seen), ("cuff", (~line & seen) | beside)):
        carevue, metavision = (np.array(PRESSURE_ITEMS[kind, system]) for system in (False, True))
        for place, name in enumerate(PRESSURES):
            value = latent[name] + share[name] * common + 1.2 * noise[1 + place]
            value += cuff_bias[name] if kind == "cuff" else 0.0
            items = carevue[rare, place], metavision[rare, place]
            charted.append(rounds.chart(mask, *items, value.clip(12).round()))
    return charted


def _arterial_line(rng: np.random.Generator, stays: pd.DataFrame, rounds: ChartingRounds) -> Bools:
    """Return in which rounds an arterial line is in place, [N]."""
    count = len(stays)
    has_line = rng.random(count) < of_unit("arterial_line", stays["unit"].to_numpy())
    placed = np.where(rng.random(count) < 0.7, 0, rng.uniform(1, 12, count))
    removed = placed + rng.gamma(3, 20, count)
    since = rounds.hours >= placed[rounds.stay]
    return np.asarray(has_line[rounds.stay] & since & (rounds.hours < removed[rounds.stay]))


def _chart_temperature(
    rng: np.random.Generator, stays: pd.DataFrame, rounds: ChartingRounds, latent: Floats
) -> list[Events]:
    units = stays["unit"].to_numpy()
    every = of_unit("temperature_every_h", units)[rounds.stay]
    offset = rng.integers(0, 4, len(stays))[rounds.stay]
    # After surgery a core probe is read every hour until the patient is warm.
    after_surgery = of_unit("surgical", units) > 0.5
    probe = after_surgery[rounds.stay] & (rounds.hours < 14)
    due = rounds.regular & (((rounds.time // HOUR_S + offset) % every == 0) | probe)
    taken = due | (rng.random(len(rounds)) < 0.03)
    celsius = latent + np.where(probe, 0.06, 0.15) * rng.standard_normal(len(rounds))
    in_celsius = rng.random(len(stays)) < np.where(after_surgery, 0.7, 0.25)
    by_stay = in_celsius[rounds.stay]
    return [
        rounds.chart(taken & by_stay, 676, 223762, celsius.round(1)),
        rounds.chart(taken & ~by_stay, 678, 223761, (celsius * 1.8 + 32).round(1)),
    ]
