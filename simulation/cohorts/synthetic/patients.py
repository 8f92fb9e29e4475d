"""Patients, admissions and ICU stays of the synthetic hospital.

Shares (units, sepsis, short stays ...) are met exactly, up to rounding, instead of drawn, so that
even a small hospital has every kind of stay in every unit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from common.data.splits import assign_splits
from simulation.cohorts.arrays import Bools, Floats, Ints
from simulation.cohorts.synthetic.units import CARE_UNITS, UNIT_NAMES, of_unit

HOUR_S = 3600
DAY_S = 86_400
MAX_STAY_H = 240.0

NEONATE_SHARE = 0.04
MINOR_SHARE = 0.02
SHORT_SHARE = 0.035
OPEN_ENDED_SHARE = 0.01
RETURN_SHARE = 0.06
METAVISION_SHARE = 0.45
BOTH_SYSTEMS_SHARE = 0.02
OVER_89_SHARE = 0.04
"""Shares: of all stays for neonates, of the adult units' stays for the others."""

SEPSIS_SHARES: dict[str, float] = {
    "explicit": 0.80,
    "angus": 0.04,
    "martin": 0.03,
    "angus and martin": 0.02,
    "sepsis only": 0.02,
    "none": 0.09,
}
"""Shares of stays by the codes of their sepsis: explicit; by one or both of the rules that combine
codes; 995.91 (sepsis without organ failure) only; none."""

# Ids are outside the ranges of MIMIC-III, so that no row can be mistaken for a real one.
_FIRST_SUBJECT_ID = 1_000_000
_FIRST_HADM_ID = 2_000_000
_FIRST_ICUSTAY_ID = 3_000_000
_YEAR_S = 365.25 * DAY_S
_NEONATE = UNIT_NAMES.index("NICU")


def draw_stays(rng: np.random.Generator, stays: int) -> pd.DataFrame:
    """Draw the ICU stays of the hospital.

    Args:
        rng: random generator.
        stays: number of ICU stays.

    Returns:
        One row per stay, sorted by patient: `unit` (index into `UNIT_NAMES`), `role` (plain, minor,
        short, open, return or neonate), `sepsis` (a key of `SEPSIS_SHARES`), `subject_id`,
        `hadm_id`, `icustay_id`, `gender`, `age` (years), `over_89`, `dob`, `intime`, `outtime`
        (seconds since 1970; `outtime` is set even if ICUSTAYS has it empty), `hours`
        (length), `dbsource`, `weight_kg`, `died`.
    """
    neonates = max(2, round(NEONATE_SHARE * stays))
    sizes = _apportion([unit.share for unit in CARE_UNITS.values()], stays - neonates)
    units = np.append(np.repeat(np.arange(len(CARE_UNITS)), sizes), np.full(neonates, _NEONATE))
    adult = units != _NEONATE
    frame = pd.DataFrame({"unit": units, "role": _draw_roles(rng, adult)})
    frame["sepsis"] = _draw_sepsis(rng, units)
    frame["subject_id"] = _draw_subjects(rng, frame)
    frame["hadm_id"] = rng.permutation(stays) + _FIRST_HADM_ID
    frame["icustay_id"] = rng.permutation(stays) + _FIRST_ICUSTAY_ID
    frame["gender"] = np.where(rng.random(stays) < 0.56, "M", "F")
    frame["age"] = _draw_ages(rng, frame)
    frame["over_89"] = _systematic(
        rng, adult & (frame["role"] == "plain").to_numpy(), OVER_89_SHARE
    )
    frame["hours"] = _draw_hours(rng, frame)
    frame["intime"] = _draw_intimes(rng, stays)
    frame["dbsource"] = _draw_sources(rng, adult)
    frame["weight_kg"] = np.where(adult, rng.normal(82, 17, stays).clip(45, 160), 2.6).round(1)
    frame = _let_return(rng, frame)
    frame["outtime"] = frame["intime"] + np.round(frame["hours"] * HOUR_S).astype(np.int64)
    frame["dob"] = _births(frame)
    last = frame.groupby("subject_id")["intime"].transform("max") == frame["intime"]
    frame["died"] = last & (rng.random(stays) < 0.14)
    return frame.sort_values(["subject_id", "intime"], ignore_index=True)


def _apportion(shares: list[float], total: int) -> Ints:
    """Apportion a whole number by shares, with the largest remainders rounded up."""
    exact = np.array(shares) / sum(shares) * total
    counts = np.floor(exact).astype(np.int64)
    short_of = total - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:short_of]] += 1
    return counts


def _systematic(rng: np.random.Generator, eligible: Bools, share: float) -> Bools:
    """Choose a share of the eligible at even distances, at least one."""
    places = np.flatnonzero(eligible)
    count = min(len(places), max(1, round(share * len(places))))
    chosen = np.zeros(len(eligible), dtype=bool)
    chosen[places[((np.arange(count) + rng.random()) * len(places) / count).astype(np.int64)]] = 1
    return chosen


def _draw_roles(rng: np.random.Generator, adult: Bools) -> npt.NDArray[np.object_]:
    roles = np.where(adult, "plain", "neonate").astype(object)
    for role, share in (
        ("minor", MINOR_SHARE),
        ("short", SHORT_SHARE),
        ("open", OPEN_ENDED_SHARE),
        ("return", RETURN_SHARE),
    ):
        roles[_systematic(rng, roles == "plain", share)] = role
    return roles


def _draw_sepsis(rng: np.random.Generator, units: Ints) -> npt.NDArray[np.object_]:
    kinds = np.array(list(SEPSIS_SHARES), dtype=object)
    bounds = np.cumsum(list(SEPSIS_SHARES.values()))[:-1]
    # Each unit's stays get evenly spaced positions between 0 and 1 in random order.
    order = pd.Series(rng.random(len(units))).groupby(units).rank().to_numpy()
    places = (order - rng.random(len(units))) / np.bincount(units)[units]
    sepsis = kinds[np.searchsorted(bounds, places, side="right")]
    sepsis[units == _NEONATE] = "none"
    return sepsis


def _draw_subjects(rng: np.random.Generator, frame: pd.DataFrame) -> Ints:
    """Assign patient ids so that every unit has its share of each split.

    The split of a patient is a hash of the id; with random ids, one in ten small hospitals would
    have a unit without a validation patient.
    """
    ids = rng.permutation(len(frame)) + _FIRST_SUBJECT_ID
    splits = pd.Series(assign_splits(ids.astype(str)))
    # Evenly interleaved, any run of ids has each split's share.
    places = (splits.groupby(splits).cumcount() + rng.random()) / splits.map(splits.value_counts())
    ids = ids[np.argsort(places, kind="stable")]
    alike = (frame["unit"], frame["role"] == "plain", frame["sepsis"] == "explicit")
    order = np.lexsort((rng.random(len(frame)), *reversed(alike)))
    subjects = np.empty(len(frame), dtype=np.int64)
    subjects[order] = ids
    return subjects


def _draw_ages(rng: np.random.Generator, frame: pd.DataFrame) -> Floats:
    units = frame["unit"].to_numpy()
    # Below 89 even at a return a year later; older patients are marked by `over_89`.
    age = rng.normal(of_unit("age", units), of_unit("age_sd", units)).clip(18.2, 87.5)
    age = np.where(frame["role"] == "minor", rng.uniform(15, 17.9, len(frame)), age)
    return np.where(frame["role"] == "neonate", 0.0, age)


def _draw_hours(rng: np.random.Generator, frame: pd.DataFrame) -> Floats:
    median = of_unit("stay_h", frame["unit"].to_numpy())
    hours = np.clip(median * np.exp(0.7 * rng.standard_normal(len(frame))), 16, MAX_STAY_H)
    return np.where(frame["role"] == "short", rng.uniform(2, 11, len(frame)), hours)


def _draw_intimes(rng: np.random.Generator, stays: int) -> Ints:
    # MIMIC-III shifts its dates into the years 2100 to 2200; times of day are kept.
    start = int(np.datetime64("2102-01-01", "s").astype(np.int64))
    days = rng.integers(0, 96 * 365, stays)
    hour_of_day = rng.normal(16, 5.5, stays) % 24
    return start + days * DAY_S + np.round(hour_of_day * HOUR_S).astype(np.int64)


def _draw_sources(rng: np.random.Generator, adult: Bools) -> npt.NDArray[np.object_]:
    # The neonatal unit never had MetaVision.
    both = _systematic(rng, adult, BOTH_SYSTEMS_SHARE)
    metavision = adult & (rng.random(len(adult)) < METAVISION_SHARE)
    return np.select([both, metavision], ["both", "metavision"], "carevue").astype(object)


def _let_return(rng: np.random.Generator, frame: pd.DataFrame) -> pd.DataFrame:
    """Give each stay of the role `return` to a patient with an earlier stay in another unit.

    Every other one returns within the same admission, the others months later.
    """
    back = np.flatnonzero(frame["role"] == "return")
    possible = frame["role"].isin(["plain", "short"]).to_numpy() & ~frame["over_89"].to_numpy()
    places = np.flatnonzero(possible)
    first = places[np.linspace(0, len(places) - 1, len(back) + 2)[1:-1].astype(np.int64)]
    # Both lists have the units in the same order and no unit has half of the stays: rotated by
    # about half, they pair different units.
    unit = frame["unit"].to_numpy()
    turns = [np.roll(first, len(first) // 2 + more) for more in (0, 1, -1)]
    first = min(turns, key=lambda turned: int(np.sum(unit[turned] == unit[back])))
    same = np.arange(len(back)) % 2 == 0
    gap_h = np.where(same, rng.uniform(6, 96, len(back)), rng.uniform(1000, 9000, len(back)))
    hours = frame["hours"].to_numpy()[first] + gap_h
    intime = frame["intime"].to_numpy()[first] + np.round(hours * HOUR_S).astype(np.int64)
    frame.loc[back, "intime"] = intime
    for column in ("subject_id", "gender", "weight_kg"):
        frame.loc[back, column] = frame[column].to_numpy()[first]
    for column in ("hadm_id", "sepsis", "dbsource"):
        frame.loc[back[same], column] = frame[column].to_numpy()[first[same]]
    years = (intime - frame["intime"].to_numpy()[first]) / _YEAR_S
    frame.loc[back, "age"] = frame["age"].to_numpy()[first] + years
    return frame


def _births(frame: pd.DataFrame) -> Ints:
    """Return dates of birth; over 89, 300 years before, as MIMIC-III hides these ages."""
    years = np.where(frame["over_89"], 300.0, frame["age"])
    births = (frame["intime"] - np.round(years * _YEAR_S).astype(np.int64)).to_numpy()
    births = births - births % DAY_S
    # One date per patient, from the first stay.
    earliest = frame.assign(dob=births).sort_values("intime").groupby("subject_id")["dob"]
    return np.asarray(earliest.transform("first").sort_index(), dtype=np.int64)
