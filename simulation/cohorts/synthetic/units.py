"""Care units of the synthetic hospital: parameters of their patients, dynamics and charting.

Levels, spreads and charting densities are of the size in the open PhysioNet Challenge 2012 data
(doi 10.13026/C2MS32: CCU, CSRU, MICU, SICU). The differences in dynamics (rewarming after surgery,
pacing, atrial fibrillation, painful stimuli) are textbook knowledge.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class CareUnit:
    """One care unit; shares and probabilities are between 0 and 1.

    Attributes:
        share: share of the stays in adult units.
        age, age_sd: years; truncated to adults where patients are drawn.
        stay_h: median length of stay, hours.
        heart_rate, heart_rate_sd: level of a patient without sepsis and its spread between
            patients, bpm. The same for the next four, in mmHg, mmHg, /min and °C.
        pressure, pressure_sd: mean arterial pressure.
        pulse_pressure, pulse_pressure_sd: systolic less diastolic pressure.
        resp_rate, resp_rate_sd: respiratory rate.
        temperature, temperature_sd: core temperature.
        spo2_deficit: typical difference of the oxygen saturation from 100 %.
        variability: factor on all spontaneous fluctuations.
        slow_tau_h, fast_tau_h: time constants of the slow and the fast fluctuation, hours.
        circadian: factor on the daily rhythm.
        stimuli_per_day: pain, suction, turning: heart rate, pressure and breathing jump for an hour
            or two.
        episodes_per_day: septic relapses of a septic patient after the first onset.
        episode_tau_h: time constant with which such an episode abates, hours.
        shock: share of the septic patients who need a vasopressor.
        surgical: share who arrive cold from the operating theatre, are rewarmed and often paced.
        ventilated: share on a ventilator at the start of the stay.
        fibrillation: share with intermittent atrial fibrillation.
        beta_blocker: share on regular doses of a beta blocker.
        arterial_line: share with invasive pressures.
        extra_rounds: probability of another round of charting within an hour.
        sparse: share of the stays charted every two hours only.
        temperature_every_h: hours between two temperatures.
    """

    share: float
    age: float
    age_sd: float
    stay_h: float
    heart_rate: float
    heart_rate_sd: float
    pressure: float
    pressure_sd: float
    pulse_pressure: float
    pulse_pressure_sd: float
    resp_rate: float
    resp_rate_sd: float
    temperature: float
    temperature_sd: float
    spo2_deficit: float
    variability: float
    slow_tau_h: float
    fast_tau_h: float
    circadian: float
    stimuli_per_day: float
    episodes_per_day: float
    episode_tau_h: float
    shock: float
    surgical: float
    ventilated: float
    fibrillation: float
    beta_blocker: float
    arterial_line: float
    extra_rounds: float
    sparse: float
    temperature_every_h: float


CARE_UNITS: dict[str, CareUnit] = {
    "MICU": CareUnit(
        share=0.45, age=65, age_sd=16, stay_h=64,
        heart_rate=86, heart_rate_sd=13, pressure=81, pressure_sd=9,
        pulse_pressure=60, pulse_pressure_sd=11, resp_rate=19.5, resp_rate_sd=3.4,
        temperature=36.8, temperature_sd=0.35, spo2_deficit=3.2,
        variability=1.0, slow_tau_h=12, fast_tau_h=2.5, circadian=0.9, stimuli_per_day=2.5,
        episodes_per_day=0.45, episode_tau_h=16, shock=0.55, surgical=0, ventilated=0.35,
        fibrillation=0.10, beta_blocker=0.10, arterial_line=0.40,
        extra_rounds=0.12, sparse=0.05, temperature_every_h=4,
    ),
    "SICU": CareUnit(
        share=0.19, age=61, age_sd=17, stay_h=70,
        heart_rate=84, heart_rate_sd=12, pressure=86, pressure_sd=9,
        pulse_pressure=64, pulse_pressure_sd=11, resp_rate=17.5, resp_rate_sd=3.0,
        temperature=37.1, temperature_sd=0.35, spo2_deficit=2.3,
        variability=1.0, slow_tau_h=9, fast_tau_h=2.0, circadian=1.2, stimuli_per_day=4,
        episodes_per_day=0.4, episode_tau_h=14, shock=0.40, surgical=0.15, ventilated=0.40,
        fibrillation=0.08, beta_blocker=0.20, arterial_line=0.70,
        extra_rounds=0.16, sparse=0.10, temperature_every_h=4,
    ),
    "CCU": CareUnit(
        share=0.15, age=70, age_sd=13, stay_h=60,
        heart_rate=77, heart_rate_sd=11, pressure=83, pressure_sd=8,
        pulse_pressure=55, pulse_pressure_sd=10, resp_rate=19.5, resp_rate_sd=3.0,
        temperature=36.6, temperature_sd=0.3, spo2_deficit=3.0,
        variability=0.8, slow_tau_h=16, fast_tau_h=3.0, circadian=1.2, stimuli_per_day=1.5,
        episodes_per_day=0.35, episode_tau_h=18, shock=0.50, surgical=0, ventilated=0.25,
        fibrillation=0.45, beta_blocker=0.70, arterial_line=0.45,
        extra_rounds=0.15, sparse=0.08, temperature_every_h=4,
    ),
    "CSRU": CareUnit(
        share=0.12, age=67, age_sd=11, stay_h=56,
        heart_rate=84, heart_rate_sd=8, pressure=76, pressure_sd=6,
        pulse_pressure=58, pulse_pressure_sd=9, resp_rate=17, resp_rate_sd=2.6,
        temperature=37.2, temperature_sd=0.3, spo2_deficit=2.2,
        variability=0.85, slow_tau_h=8, fast_tau_h=1.5, circadian=0.5, stimuli_per_day=3,
        episodes_per_day=0.3, episode_tau_h=10, shock=0.40, surgical=0.90, ventilated=0.92,
        fibrillation=0.25, beta_blocker=0.30, arterial_line=0.96,
        extra_rounds=0.35, sparse=0, temperature_every_h=2,
    ),
    "TSICU": CareUnit(
        share=0.09, age=44, age_sd=17, stay_h=78,
        heart_rate=92, heart_rate_sd=13, pressure=86, pressure_sd=9,
        pulse_pressure=66, pulse_pressure_sd=11, resp_rate=18.5, resp_rate_sd=3.2,
        temperature=37.5, temperature_sd=0.4, spo2_deficit=1.8,
        variability=1.25, slow_tau_h=7, fast_tau_h=2.0, circadian=0.7, stimuli_per_day=8,
        episodes_per_day=0.6, episode_tau_h=9, shock=0.35, surgical=0.10, ventilated=0.60,
        fibrillation=0.02, beta_blocker=0.10, arterial_line=0.85,
        extra_rounds=0.20, sparse=0.05, temperature_every_h=3,
    ),
}  # fmt: skip
"""The adult units by their name in FIRST_CAREUNIT."""

NICU = CareUnit(
    share=0, age=0, age_sd=0, stay_h=96,
    heart_rate=146, heart_rate_sd=8, pressure=42, pressure_sd=4,
    pulse_pressure=24, pulse_pressure_sd=3, resp_rate=46, resp_rate_sd=5,
    temperature=36.8, temperature_sd=0.2, spo2_deficit=4,
    variability=0.6, slow_tau_h=6, fast_tau_h=2, circadian=0, stimuli_per_day=6,
    episodes_per_day=0, episode_tau_h=10, shock=0, surgical=0, ventilated=0.3,
    fibrillation=0, beta_blocker=0, arterial_line=0.1,
    extra_rounds=0.05, sparse=0.3, temperature_every_h=4,
)  # fmt: skip
"""Neonatal unit, which the cohort rules exclude."""

UNIT_NAMES: tuple[str, ...] = (*CARE_UNITS, "NICU")
_PROFILES = {
    field.name: np.array([getattr(unit, field.name) for unit in (*CARE_UNITS.values(), NICU)])
    for field in fields(CareUnit)
}


def of_unit(name: str, units: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return one attribute of the unit of each stay.

    Args:
        name: an attribute of `CareUnit`.
        units: index of each stay's unit in `UNIT_NAMES`, [S].

    Returns:
        The attribute's values, [S].
    """
    return np.asarray(_PROFILES[name][units], dtype=np.float64)
