"""The latent course: limits, differences between units, and the answers to sepsis and treatment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from simulation.cohorts.synthetic.patients import SEPSIS_SHARES, draw_stays
from simulation.cohorts.synthetic.physiology import Course, simulate
from simulation.cohorts.synthetic.sepsis import PRESSURE_TARGET, titrate
from simulation.cohorts.synthetic.units import CARE_UNITS, UNIT_NAMES

Simulated = tuple[pd.DataFrame, Course, npt.NDArray[np.bool_]]


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    rng = np.random.default_rng(7)
    stays = draw_stays(rng, 600)
    course = simulate(rng, stays)
    inside = np.arange(course.severity.shape[1]) < stays["hours"].to_numpy()[:, None]
    return stays, course, inside


def level(simulated: Simulated, vital: str, unit: str) -> float:
    stays, course, inside = simulated
    of_unit = (stays["unit"] == UNIT_NAMES.index(unit)).to_numpy()[:, None]
    return float(course.vitals[vital][inside & of_unit].mean())


def test_pressures_are_ordered_everywhere(simulated: Simulated) -> None:
    vitals = simulated[1].vitals
    assert np.all(vitals["dbp"] > 0)
    assert np.all(vitals["mbp"] - vitals["dbp"] > 2)
    assert np.all(vitals["sbp"] - vitals["mbp"] > 4)
    third = (vitals["sbp"] + 2 * vitals["dbp"]) / 3
    assert np.abs(vitals["mbp"] - third).mean() < 3


def test_vitals_stay_within_what_a_patient_survives(simulated: Simulated) -> None:
    vitals = simulated[1].vitals
    for name, low, high in (
        ("heart_rate", 30, 215),
        ("sbp", 40, 260),
        ("resp_rate", 5, 65),
        ("temperature_c", 33, 41.5),
        ("spo2", 70, 100),
    ):
        assert np.all((vitals[name] >= low) & (vitals[name] <= high)), name


def test_units_differ_in_level_and_size(simulated: Simulated) -> None:
    rates = {unit: level(simulated, "heart_rate", unit) for unit in CARE_UNITS}
    assert max(rates.values()) - min(rates.values()) > 12
    assert rates["TSICU"] == max(rates.values())
    assert rates["CCU"] == min(rates.values())
    assert level(simulated, "sbp", "SICU") - level(simulated, "sbp", "CCU") > 8
    sizes = np.bincount(simulated[0]["unit"])[: len(CARE_UNITS)] / len(simulated[0])
    assert sizes.max() > 0.4
    assert 0.07 < sizes.min() < 0.1


def test_sepsis_raises_heart_rate_and_breathing(simulated: Simulated) -> None:
    _, course, inside = simulated
    ill, well = inside & (course.severity > 1.2), inside & (course.severity < 0.2)
    difference = {
        name: course.vitals[name][ill].mean() - course.vitals[name][well].mean()
        for name in ("heart_rate", "mbp", "temperature_c", "spo2")
    }
    assert difference["heart_rate"] > 10
    assert difference["mbp"] < -3
    assert difference["temperature_c"] > 0.2
    assert difference["spo2"] < 0
    own = inside & ~course.ventilated
    breathing = course.vitals["resp_rate"]
    assert breathing[own & ill].mean() - breathing[own & well].mean() > 3


def test_temperature_rises_after_surgery(simulated: Simulated) -> None:
    stays, course, _ = simulated
    surgical = (stays["unit"] == UNIT_NAMES.index("CSRU")) & (stays["hours"] > 16)
    temperature = course.vitals["temperature_c"][surgical.to_numpy()]
    assert temperature[:, 10].mean() - temperature[:, 0].mean() > 1


def test_vitals_revert_to_their_mean(simulated: Simulated) -> None:
    stays, course, _ = simulated
    long = (stays["hours"] > 72).to_numpy() & (stays["role"] == "plain").to_numpy()
    for name in ("heart_rate", "mbp", "resp_rate"):
        values = course.vitals[name][long][:, 12:72]
        deviation = values - values.mean(axis=1, keepdims=True)
        variance = np.mean(deviation**2)
        correlation = [
            np.mean(deviation[:, lag:] * deviation[:, :-lag]) / variance for lag in (1, 8)
        ]
        assert correlation[0] > 0.5, name
        assert correlation[1] < 0.35, name


def test_pressure_recovers_while_norepinephrine_runs() -> None:
    untreated = np.concatenate([np.full((50, 10), 80.0), np.full((50, 14), 48.0)], axis=1)
    treated = np.arange(50) < 25

    pressure, dose = titrate(np.random.default_rng(0), untreated, treated)

    assert np.all(dose[:, :10] == 0)
    assert np.all(dose[25:] == 0)
    np.testing.assert_array_equal(pressure[25:], untreated[25:])
    assert np.all(dose[:25, 12:] > 0)
    assert np.all(np.abs(pressure[:25, -1] - PRESSURE_TARGET) < 8)


def test_norepinephrine_is_weaned_once_pressure_is_back() -> None:
    untreated = np.concatenate([np.full((20, 10), 45.0), np.full((20, 80), 85.0)], axis=1)
    _, dose = titrate(np.random.default_rng(0), untreated, np.ones(20, dtype=bool))
    assert np.all(dose[:, 9] > 0)
    assert np.all(dose[:, -1] == 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("stays", [60, 77, 400])
def test_every_unit_has_its_share_of_sepsis_and_every_role(stays: int, seed: int) -> None:
    frame = draw_stays(np.random.default_rng(seed), stays)

    assert len(frame) == stays
    assert set(frame["role"]) == {"plain", "minor", "short", "open", "return", "neonate"}
    adult = frame[frame["unit"] < len(CARE_UNITS)]
    explicit = (adult["sepsis"] == "explicit").groupby(adult["unit"]).agg(["sum", "size"])
    # The stays that return within an admission take over its codes, so some units move a little.
    expected = SEPSIS_SHARES["explicit"] * explicit["size"]
    assert ((explicit["sum"] - expected).abs() <= 1 + 0.06 * explicit["size"]).all()
    back = frame[frame["role"] == "return"]
    units = frame[frame["subject_id"].isin(back["subject_id"])].groupby("subject_id")["unit"]
    assert (units.nunique() == 2).all()
