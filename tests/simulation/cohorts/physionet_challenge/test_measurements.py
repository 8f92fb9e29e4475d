from __future__ import annotations

from collections import defaultdict
from random import Random
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.data.vitals import VITAL_NAMES, VITALS
from simulation.cohorts.physionet_challenge.measurements import Measurements, clean, means_per_step

Entry = tuple[int, int, int, int, float]
"""Record, vital, parameter, minute and value."""
HR, SBP, TEMPERATURE, SPO2 = 0, 1, 5, 6


def measured(entries: list[Entry]) -> Measurements:
    columns = list(zip(*entries, strict=True)) or [()] * 5
    record, vital, parameter, minute = (np.array(column, dtype=np.int64) for column in columns[:4])
    return Measurements(record, vital, parameter, minute, np.array(columns[4], dtype=np.float64))


entries = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.integers(0, len(VITALS) - 1),
        st.integers(0, 1),
        st.integers(0, 200),
        st.sampled_from([11.0, 12.5, 40.1, 0.0, -1.0, 1000.0, float("nan")]),
    ),
    max_size=60,
)


def loop_means(entries: list[Entry], step_minutes: int) -> dict[tuple[int, int, str], float]:
    charted: dict[tuple[int, int, int], list[float]] = defaultdict(list)
    for record, vital, _, minute, value in set(entries):
        if VITALS[vital].valid(np.array(value)):
            charted[record, vital, minute].append(value)
    steps: dict[tuple[int, int, str], list[float]] = defaultdict(list)
    for (record, vital, minute), values in charted.items():
        steps[record, minute // step_minutes, VITAL_NAMES[vital]].append(fmean(values))
    return {key: fmean(values) for key, values in steps.items()}


@settings(max_examples=30)
@given(entries, st.sampled_from([1, 30, 60, 90]))
def test_step_means_equal_a_plain_loop(entries: list[Entry], step_minutes: int) -> None:
    kept, _ = clean(measured(entries))
    frame = means_per_step(kept, step_minutes)

    assert not frame.duplicated(["record", "step"]).any()
    long = frame.melt(["record", "step"]).dropna()
    keys = zip(long["record"], long["step"], long["variable"], strict=True)
    got = dict(zip(keys, long["value"].tolist(), strict=True))
    assert got == pytest.approx(loop_means(entries, step_minutes), rel=1e-6)


@settings(max_examples=30)
@given(entries, st.randoms(use_true_random=False))
def test_the_order_of_the_source_means_nothing(entries: list[Entry], random: Random) -> None:
    shuffled = entries.copy()
    random.shuffle(shuffled)
    one, dropped_one = clean(measured(entries))
    two, dropped_two = clean(measured(shuffled))
    pd.testing.assert_frame_equal(
        means_per_step(one, 60), means_per_step(two, 60), check_exact=True
    )
    assert dropped_one == dropped_two


@settings(max_examples=30)
@given(entries)
def test_every_measurement_is_kept_or_counted(entries: list[Entry]) -> None:
    kept, dropped = clean(measured(entries))
    assert len(kept) + sum(dropped.values()) == len(entries)
    assert all(dropped.values())


def test_drops_are_counted_by_reason() -> None:
    kept, dropped = clean(
        measured(
            [
                (0, HR, 0, 5, 80.0),
                (0, HR, 0, 5, 80.0),  # a duplicate
                (0, HR, 0, 5, 90.0),  # another value
                (0, HR, 1, 5, 80.0),  # another parameter
                (0, HR, 0, 6, 80.0),  # another time
                (1, HR, 0, 5, 80.0),  # another stay
                (0, HR, 0, 7, -1.0),
                (0, HR, 0, 7, 300.0),
                (0, SPO2, 0, 7, 100.0),
                (0, HR, 0, 8, float("nan")),
                (0, HR, 0, 8, 1e300),
            ]
        )
    )
    assert dropped == {"duplicate": 1, "impossible value": 3, "no number": 1}
    assert len(kept) == 6


def test_a_value_that_float32_would_round_onto_the_limit_is_dropped() -> None:
    below = float(np.nextafter(300, 0))
    kept, dropped = clean(measured([(0, HR, 0, 0, below), (0, TEMPERATURE, 0, 0, 37.0)]))
    assert dropped == {"impossible value": 1}
    assert kept.vital.tolist() == [TEMPERATURE]


def test_a_value_that_millionths_round_onto_the_limit_is_dropped() -> None:
    kept, dropped = clean(measured([(0, HR, 0, 0, 1e-7), (0, HR, 0, 0, 1e-6)]))
    assert dropped == {"impossible value": 1}
    assert len(means_per_step(kept, 60)) == 1


def test_cuff_and_line_of_one_minute_weigh_once() -> None:
    kept, _ = clean(
        measured([(0, SBP, 0, 10, 100.0), (0, SBP, 1, 10, 120.0), (0, SBP, 0, 50, 140.0)])
    )
    frame = means_per_step(kept, 60)
    assert frame["sbp"].tolist() == [125.0]  # not 120, the mean of the three
    assert frame["sbp"].dtype == np.float32
