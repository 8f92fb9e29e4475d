"""Sepsis: severity, effect on temperature and pressure, and treatment with vasopressors."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from simulation.cohorts.arrays import Bools, Floats
from simulation.cohorts.synthetic.units import of_unit

PRESSURE_TARGET = 66.0
"""Mean arterial pressure, mmHg, that the vasopressor is titrated to."""


def draw_severity(
    rng: np.random.Generator, stays: pd.DataFrame, hours: int
) -> tuple[Floats, Floats]:
    """Draw septic episodes: a steep rise within hours, slow abatement, relapses.

    Args:
        rng: random generator.
        stays: frame of `draw_stays`, [S].
        hours: number of hours, T.

    Returns:
        The hour of onset, infinite without sepsis, [S], and the severity, 0 to 3, [S, T].
    """
    count, units = len(stays), stays["unit"].to_numpy()
    length = stays["hours"].to_numpy()
    early = rng.random(count) < np.where(of_unit("surgical", units) > 0.5, 0.3, 0.65)
    onset = np.where(early, rng.uniform(0, 6, count), rng.uniform(0.1, 0.6, count) * length)
    onset = np.where(stays["sepsis"] == "none", np.inf, onset)
    size = np.exp(0.3 + 0.35 * rng.standard_normal(count))
    when = np.arange(hours)
    impulse = np.where(when == np.floor(onset)[:, None], size[:, None], 0.0)
    rate = of_unit("episodes_per_day", units)[:, None] / 24
    relapse = (rng.random((count, hours)) < rate) & (when > onset[:, None] + 12)
    impulse += relapse * rng.gamma(4, 0.2, (count, hours))
    # Patients who arrive during an episode have a history of it.
    impulse[:, 0] += (early & np.isfinite(onset)) * 0.5 * size
    abate = np.exp(
        -1 / (of_unit("episode_tau_h", units) * np.exp(0.3 * rng.standard_normal(count)))
    )
    drive, severity = np.zeros(count), np.zeros((count, hours))
    level = np.zeros(count)
    for hour in range(hours):
        drive = drive * 0.6 + impulse[:, hour] * 0.4
        level = level * abate + drive
        severity[:, hour] = level
    return onset, 3 * np.tanh(severity / 3)


def fever(rng: np.random.Generator, severity: Floats) -> Floats:
    """Return the change of temperature by sepsis and antipyretics; [S, T] in °C."""
    count, hours = severity.shape
    cold = rng.random(count) < 0.15
    response = np.where(cold, -rng.uniform(0.4, 0.9, count), rng.uniform(0.5, 1.3, count))
    treated = rng.random(count) < 0.6
    shift, drug, since = np.zeros(count), np.zeros(count), np.full(count, 99.0)
    course = np.zeros((count, hours))
    for hour in range(hours):
        give = treated & (shift > 1.2) & (since >= 6)
        drug, since = drug * 0.8 + 1.5 * give, np.where(give, 0.0, since + 1)
        # Body temperature follows its set point with a lag of about five hours.
        shift = shift + 0.2 * (response * severity[:, hour] - 0.9 * drug - shift)
        course[:, hour] = shift
    return course


def hypotension(
    rng: np.random.Generator, units: npt.NDArray[np.int64], severity: Floats, surgical: Bools
) -> Floats:
    """Return the fall of the untreated pressure by sepsis and after surgery; mmHg, [S, T]."""
    fall = rng.uniform(5, 17, len(units))[:, None] * severity
    after_surgery = rng.uniform(0, 16, len(units)) * surgical
    return np.asarray(fall + after_surgery[:, None] * np.exp(-np.arange(severity.shape[1]) / 9))


def titrate(rng: np.random.Generator, untreated: Floats, may_press: Bools) -> tuple[Floats, Floats]:
    """Simulate the control loop of pressure and norepinephrine.

    Args:
        rng: random generator.
        untreated: mean pressure without the drug, mmHg, [S, T].
        may_press: whether the patient may get a vasopressor, [S].

    Returns:
        The mean pressure under treatment, mmHg, and the running dose, mcg/kg/min; both [S, T].
    """
    count, hours = untreated.shape
    gain = rng.uniform(14, 24, count)
    dose, effect = np.zeros(count), np.zeros(count)
    pressure, doses = np.empty_like(untreated), np.zeros_like(untreated)
    for hour in range(hours):
        effect = effect + 0.7 * (gain * np.log1p(dose / 0.08) - effect)
        pressure[:, hour] = np.clip(untreated[:, hour] + effect, 34, 150)
        doses[:, hour] = dose
        error = PRESSURE_TARGET - pressure[:, hour]
        # A dose is changed only for a clear deviation, and weaned slowly.
        change = np.where(error > 3, 0.006 * error, np.where(error < -6, 0.003 * (error + 2), 0.0))
        running = np.where(dose > 0, dose + change, np.where(error > 5, 0.06, 0.0))
        running = np.round(np.clip(running, 0, 1.0), 2)
        dose = np.where(may_press & (running >= 0.02), running, 0.0)
    return pressure, doses
