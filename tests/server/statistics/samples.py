"""Statistics of made-up sites, of patients drawn from one population unless changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from client.node.statistics.counts import CUTS, LEAVES, PatientCounts
from client.node.statistics.noise import NoisePlan, noisy_statistics
from client.node.statistics.suppression import exact_statistics
from client.training.random_source import Randomness
from common.data.statistics.edges import BINS, EDGES, HOURS
from common.data.vitals import VITAL_NAMES

Values = npt.NDArray[np.float64]
Change = Callable[[dict[str, Values]], None]

POPULATION = {
    "heart_rate": (86, 15),
    "sbp": (121, 17),
    "dbp": (62, 10),
    "mbp": (79, 11),
    "resp_rate": (19, 4),
    "temperature_c": (36.9, 0.45),
    "spo2": (97, 1.6),
}
"""Mean and standard deviation of the patients' medians."""


def draw_medians(rng: np.random.Generator, patients: int) -> dict[str, Values]:
    """Return each vital's median of each patient."""
    drawn = {name: rng.normal(*POPULATION[name], patients) for name in VITAL_NAMES}
    drawn["spo2"] = np.minimum(drawn["spo2"], 100)
    return drawn


def made_up_site(
    rng: np.random.Generator,
    patients: int = 400,
    change: Change | None = None,
    *,
    threshold: int = 10,
    multiplier: float = 0.0,
    hours: int = HOURS,
    **facts: Any,
) -> dict[str, Any]:
    """Return the statistics of one site, suppressed or with noise as a site's node does it.

    Args:
        rng: random generator.
        patients: number of patients.
        change: edits the patients' medians in place; NaN = never measured.
        threshold: of the suppression.
        multiplier: noise multiplier; 0 = no noise.
        hours: hours of the stay that have values.
        facts: replace keys of the result.
    """
    medians = draw_medians(rng, patients)
    if change is not None:
        change(medians)
    minutes = rng.lognormal(np.log(50 * 60), 0.9, patients)
    leaves = np.searchsorted(CUTS, minutes)
    vitals = np.zeros((len(VITAL_NAMES), BINS), np.int64)
    observed = np.zeros((len(VITAL_NAMES), HOURS, LEAVES), np.int64)
    for index, name in enumerate(VITAL_NAMES):
        known = ~np.isnan(medians[name])
        places = np.searchsorted(EDGES[name], medians[name][known], side="right")
        vitals[index] = np.bincount(places, minlength=BINS)
        rate = 0.4 if name == "temperature_c" else 0.92
        for hour in range(hours):
            seen = known & (minutes > 60 * hour) & (rng.random(patients) < rate)
            observed[index, hour] = np.bincount(leaves[seen], minlength=LEAVES)
    counts = PatientCounts(
        step_minutes=60,
        patients=patients,
        stays=patients + patients // 10,
        readmitted=patients // 10,
        vitals=vitals,
        lengths=np.bincount(leaves, minlength=LEAVES),
        observed=observed,
        age=rng.multinomial(patients, (0.15, 0.35, 0.35, 0.15)),
        sex=np.array([patients // 2, patients - patients // 2, 0]),
    )
    if multiplier:
        randomness = Randomness.of_seed(int(rng.integers(2**31)))
        counted = noisy_statistics(counts, NoisePlan(1.0, 1e-5, multiplier), randomness)
    else:
        counted = {"privacy": None, **exact_statistics(counts, threshold)}
    about = {"source": "own data", "rule": "all stays", "step_minutes": 60}
    return {"threshold": threshold, **about, **counted, **facts}


def statistics_of(
    sites: Mapping[str, Mapping[str, Any]], refused: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return the content of a `statistics.json`."""
    return {
        "version": 1,
        "fedvitals": "0",
        "created": "2026-01-01T00:00:00+00:00",
        "sites": dict(sites),
        "refused": dict(refused or {}),
    }


def several(rng: np.random.Generator, number: int = 8, **options: Any) -> dict[str, dict[str, Any]]:
    """Return equal sites named site-0, site-1 ..."""
    return {f"site-{place}": made_up_site(rng, **options) for place in range(number)}


def in_fahrenheit(medians: dict[str, Values]) -> None:
    medians["temperature_c"] = medians["temperature_c"] * 1.8 + 32


def as_fraction(medians: dict[str, Values]) -> None:
    medians["spo2"] = medians["spo2"] / 100


def in_kpa(medians: dict[str, Values]) -> None:
    for name in ("sbp", "dbp", "mbp"):
        medians[name] = medians[name] / 7.50062


def partly_in_kpa(medians: dict[str, Values]) -> None:
    for name in ("sbp", "dbp", "mbp"):
        medians[name][::4] /= 7.50062


def swapped(medians: dict[str, Values]) -> None:
    medians["sbp"], medians["dbp"] = medians["dbp"], medians["sbp"]


def without_temperature(medians: dict[str, Values]) -> None:
    medians["temperature_c"][3:] = np.nan


def with_faster_hearts(medians: dict[str, Values]) -> None:
    medians["heart_rate"] += 15
