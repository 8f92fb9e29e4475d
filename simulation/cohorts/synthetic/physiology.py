"""Latent course of each stay: vital signs, sepsis, vasopressor and ventilator, hour by hour.

Each vital sign is a level, plus a daily rhythm, plus mean-reverting fluctuations at two time scales
(Ornstein-Uhlenbeck processes with innovations correlated between the vitals), plus events: septic
episodes, painful stimuli, rewarming, pacing, atrial fibrillation, beta blockers, antipyretics.
Blood pressure is in a closed loop: when it is low, norepinephrine is started and titrated, and
pressure follows the dose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulation.cohorts.arrays import Bools, Floats
from simulation.cohorts.synthetic.sepsis import draw_severity, fever, hypotension, titrate
from simulation.cohorts.synthetic.units import of_unit

_SIGNS = ("heart_rate", "pressure", "pulse_pressure", "resp_rate", "temperature", "spo2")
_CORRELATION = np.array(
    [
        [1.00, 0.15, -0.10, 0.35, 0.30, -0.10],
        [0.15, 1.00, 0.55, 0.15, 0.00, 0.05],
        [-0.10, 0.55, 1.00, 0.05, 0.00, 0.00],
        [0.35, 0.15, 0.05, 1.00, 0.20, -0.30],
        [0.30, 0.00, 0.00, 0.20, 1.00, 0.00],
        [-0.10, 0.05, 0.00, -0.30, 0.00, 1.00],
    ]
)
"""Correlation of the innovations, in the order of `_SIGNS`."""
_SLOW_SD = np.array([7.0, 5.0, 5.5, 1.8, 0.35, 0.35])
_FAST_SD = np.array([4.5, 4.5, 4.0, 1.4, 0.10, 0.20])
"""In the units of the vitals; of SpO2, the logarithm of its difference from 100 %."""


@dataclass(frozen=True)
class Course:
    """Course of the stays, hour by hour from admission; all arrays are [S, T].

    Attributes:
        vitals: by the site table's names, in its units; DBP < MBP < SBP throughout.
        severity: of the sepsis, 0 (none) to 3.
        norepinephrine: dose in the hour, mcg/kg/min.
        ventilated: whether the patient is on a ventilator.
        onset_h: hour of the first septic episode, infinite without sepsis, [S].
    """

    vitals: dict[str, Floats]
    severity: Floats
    norepinephrine: Floats
    ventilated: Bools
    onset_h: Floats


def simulate(rng: np.random.Generator, stays: pd.DataFrame) -> Course:
    """Simulate the stays.

    Args:
        rng: random generator.
        stays: frame of `draw_stays`, [S].

    Returns:
        Their course over T hours, one more than the longest stay needs; values after a stay's end
        have no meaning.
    """
    units, count = stays["unit"].to_numpy(), len(stays)
    hours = int(np.ceil(stays["hours"].max())) + 2
    clock = (stays["intime"].to_numpy()[:, None] / 3600 + np.arange(hours)) % 24  # [S, T]
    onset, severity = draw_severity(rng, stays, hours)
    surgical = rng.random(count) < of_unit("surgical", units)
    ventilated = _ventilation(rng, stays, severity, surgical)
    sign = _spontaneous(rng, units, clock, surgical)
    stimulus = _stimuli(rng, of_unit("stimuli_per_day", units), clock)
    blocked = _beta_blockade(rng, of_unit("beta_blocker", units), hours)
    temperature = sign["temperature"] + fever(rng, severity) + _rewarming(rng, surgical, hours)
    warm = temperature - of_unit("temperature", units)[:, None]
    untreated = sign["pressure"] + 9 * stimulus - 6 * blocked
    untreated -= hypotension(rng, units, severity, surgical)
    in_shock = np.isfinite(onset) & (rng.random(count) < of_unit("shock", units))
    dilated = surgical & (rng.random(count) < 0.5)
    pressure, dose = titrate(rng, untreated, in_shock | dilated)
    pulse = np.clip(sign["pulse_pressure"] + 6 * stimulus - 5 * severity, 14, 115)
    heart_rate = sign["heart_rate"] + 10 * stimulus - 9 * blocked + 14 * severity + 5 * warm
    # The baroreceptor reflex counteracts deviations from the patient's own pressure.
    heart_rate -= 0.25 * (pressure - pressure.mean(axis=1, keepdims=True))
    resp_rate = sign["resp_rate"] + 3.5 * stimulus + 3.8 * severity + 0.8 * warm
    newborn = (stays["role"] == "neonate").to_numpy()[:, None]
    vitals = {
        "heart_rate": _rhythm(rng, units, heart_rate, surgical).clip(
            np.where(newborn, 80, 36), np.where(newborn, 210, 182)
        ),
        **_split_pressure(rng, pressure, pulse),
        "resp_rate": _breathing(rng, resp_rate, ventilated),
        "temperature_c": temperature.clip(33.2, 41.3),
        "spo2": _saturation(rng, sign["spo2"], severity, ventilated),
    }
    return Course(vitals, severity, dose, ventilated, onset)


def _mean_reverting(rng: np.random.Generator, shape: tuple[int, int], tau: Floats) -> Floats:
    """Draw correlated Ornstein-Uhlenbeck processes of unit variance.

    Args:
        rng: random generator.
        shape: stays and hours, (S, T).
        tau: time constants in hours, [S].

    Returns:
        One process per stay and sign, [S, T, signs].
    """
    keep = np.exp(-1 / tau)[:, None]
    mix = np.linalg.cholesky(_CORRELATION).T
    steps = rng.standard_normal((*shape, len(_SIGNS))) @ mix
    for hour in range(1, shape[1]):
        steps[:, hour] = keep * steps[:, hour - 1] + np.sqrt(1 - keep**2) * steps[:, hour]
    return steps


def _spontaneous(
    rng: np.random.Generator, units: npt.NDArray[np.int64], clock: Floats, surgical: Bools
) -> dict[str, Floats]:
    """Return level, daily rhythm and fluctuations by sign, [S, T]; SpO2 as a log factor."""
    stays, hours = clock.shape
    slow = _mean_reverting(rng, (stays, hours), of_unit("slow_tau_h", units)) * _SLOW_SD
    fast = _mean_reverting(rng, (stays, hours), of_unit("fast_tau_h", units)) * _FAST_SD
    individual = of_unit("variability", units) * np.exp(0.25 * rng.standard_normal(stays))
    # Circulation swings in the first hours after surgery.
    unrest = 1 + surgical[:, None] * np.exp(-np.arange(hours) / 7)
    moving = (slow + fast * unrest[..., None]) * individual[:, None, None]
    rhythm = of_unit("circadian", units) * np.exp(0.3 * rng.standard_normal(stays))
    peak = np.array([15.0, 14.0, 14.0, 15.0, 18.0, 12.0])  # o'clock
    swing = np.array([4.0, 4.0, 3.0, 0.8, 0.2, 0.0])
    day = np.cos((clock[..., None] - peak) * np.pi / 12) * swing * rhythm[:, None, None]
    levels = np.stack(
        [rng.normal(of_unit(name, units), of_unit(f"{name}_sd", units)) for name in _SIGNS[:-1]]
        + [np.log(of_unit("spo2_deficit", units)) + 0.4 * rng.standard_normal(stays)],
        axis=-1,
    )
    total = moving + day + levels[:, None, :]
    return {name: total[..., place] for place, name in enumerate(_SIGNS)}


def _ventilation(
    rng: np.random.Generator, stays: pd.DataFrame, severity: Floats, surgical: Bools
) -> Bools:
    """Return ventilation: from the start or the peak of the sepsis until weaned; [S, T]."""
    units, (count, hours) = stays["unit"].to_numpy(), severity.shape
    when = np.arange(hours)
    at_start = rng.random(count) < of_unit("ventilated", units)
    weaned = np.where(surgical, rng.uniform(4, 14, count), rng.gamma(2, 30, count))
    intubated = (rng.random(count) < 0.4) & (severity.max(axis=1) > 1.2)
    begin = np.argmax(severity > 1.1, axis=1)
    end = begin + rng.gamma(2.5, 24, count)
    first = at_start[:, None] & (when < weaned[:, None])
    later = intubated[:, None] & (when >= begin[:, None]) & (when < end[:, None])
    return np.asarray(first | later)


def _stimuli(rng: np.random.Generator, per_day: Floats, clock: Floats) -> Floats:
    """Return the decaying effect of painful stimuli, more frequent by day; [S, T]."""
    by_day = 1 + 0.6 * np.cos((clock - 14) * np.pi / 12)
    hit = rng.random(clock.shape) < per_day[:, None] / 24 * by_day
    felt = hit * rng.gamma(3, 0.4, clock.shape)
    for hour in range(1, clock.shape[1]):
        felt[:, hour] += 0.45 * felt[:, hour - 1]
    return np.asarray(felt)


def _beta_blockade(rng: np.random.Generator, share: Floats, hours: int) -> Floats:
    """Return the effect of a dose every 6 or 8 hours: full after 2, gone after about 6; [S, T]."""
    count = len(share)
    takes = (rng.random(count) < share) * rng.uniform(0.6, 1.4, count)
    every, offset = rng.choice([6, 8], count), rng.uniform(0, 8, count)
    since = (np.arange(hours) - offset[:, None]) % every[:, None]
    return np.asarray(takes[:, None] * since / 2 * np.exp(1 - since / 2))


def _rewarming(rng: np.random.Generator, surgical: Bools, hours: int) -> Floats:
    """Return the temperature after surgery: cold, warm after four hours, then too warm; [S, T]."""
    when = np.arange(hours)
    cold = rng.uniform(1.2, 2.6, len(surgical))[:, None] * np.exp(-when / 3.5)
    above = rng.uniform(0.3, 1.0, len(surgical))[:, None] * (when / 12) * np.exp(1 - when / 12)
    return np.asarray(surgical[:, None] * (above - cold))


def _rhythm(
    rng: np.random.Generator,
    units: npt.NDArray[np.int64],
    heart_rate: Floats,
    surgical: Bools,
) -> Floats:
    """Add intermittent atrial fibrillation, and pacing at a lowest rate after surgery; [S, T]."""
    count, hours = heart_rate.shape
    prone = rng.random(count) < of_unit("fibrillation", units)
    faster = rng.uniform(15, 40, count)
    begins = prone[:, None] & (rng.random((count, hours)) < 1 / 36)
    ends = rng.random((count, hours)) < 1 / 9
    jitter = 6 * rng.standard_normal((count, hours))
    fibrillates, extra = np.zeros(count, dtype=bool), np.zeros((count, hours))
    for hour in range(hours):
        fibrillates = np.where(fibrillates, ~ends[:, hour], begins[:, hour])
        extra[:, hour] = fibrillates * (faster + jitter[:, hour])
    paced_h = np.where(surgical & (rng.random(count) < 0.55), rng.gamma(3, 6, count), 0)
    paced = np.arange(hours) < paced_h[:, None]
    lowest = rng.choice([80.0, 88.0, 90.0], count)[:, None]
    return np.where(paced, np.maximum(heart_rate, lowest), heart_rate + extra)


def _breathing(rng: np.random.Generator, spontaneous: Floats, ventilated: Bools) -> Floats:
    """Return the rate, set by the ventilator with a damped spontaneous part; [S, T]."""
    setting = rng.choice([12.0, 14.0, 16.0, 18.0, 20.0], len(ventilated))[:, None]
    return np.where(
        ventilated, setting + 0.25 * np.maximum(spontaneous - setting, 0), spontaneous
    ).clip(6, 62)


def _saturation(
    rng: np.random.Generator, log_deficit: Floats, severity: Floats, ventilated: Bools
) -> Floats:
    """Return SpO2: 100 % less a log-normal deficit, larger in sepsis, and short desaturations."""
    fall = (rng.random(severity.shape) < 0.012 * (1 + severity)) * rng.gamma(2, 2.5, severity.shape)
    for hour in range(1, severity.shape[1]):
        fall[:, hour] += 0.3 * fall[:, hour - 1]
    deficit = np.exp(log_deficit) * np.where(ventilated, 0.6, 1.0) * (1 + 0.2 * severity) + fall
    return np.asarray(np.clip(100.3 - deficit, 72, 100))


def _split_pressure(rng: np.random.Generator, pressure: Floats, pulse: Floats) -> dict[str, Floats]:
    """Return SBP, DBP and MBP: MBP is about a third of the pulse pressure above DBP."""
    above = (1 / 3 + 0.03 * rng.standard_normal(len(pressure))).clip(0.25, 0.42)[:, None]
    # Even at the lowest mean pressure the diastolic one stays well above zero.
    pulse = np.minimum(pulse, 1.5 * pressure)
    return {
        "sbp": pressure + (1 - above) * pulse,
        "dbp": pressure - above * pulse,
        "mbp": pressure,
    }
