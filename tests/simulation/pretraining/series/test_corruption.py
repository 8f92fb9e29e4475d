from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from simulation.pretraining.series.corruption import Corruption

NONE = Corruption(**dict.fromkeys((f.name for f in dataclasses.fields(Corruption)), 0.0))


def _series(rows: int = 64, length: int = 96) -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).standard_normal((rows, length))


def _measured(**shares: float) -> npt.NDArray[np.float64]:
    corruption = dataclasses.replace(NONE, **shares)
    return corruption.measure(np.random.default_rng(1), _series())


def test_no_share_leaves_a_series_as_it_is() -> None:
    series = _series()

    np.testing.assert_array_equal(NONE.measure(np.random.default_rng(1), series), series)
    np.testing.assert_array_equal(NONE.lose(np.random.default_rng(1), series, 72), series)


@pytest.mark.parametrize("effect", ["flip", "skew", "noise", "bounds", "rounding", "shift"])
def test_each_effect_changes_every_row_at_share_one(effect: str) -> None:
    measured = _measured(**{effect: 1.0})

    assert np.isfinite(measured).all()
    assert (measured != _series()).any(axis=1).mean() > 0.95


def test_flip_turns_a_series_upside_down() -> None:
    np.testing.assert_array_equal(_measured(flip=1.0), -_series())


def test_rounding_leaves_fewer_values() -> None:
    counts = [len(np.unique(row)) for row in _measured(rounding=1.0)]

    assert max(counts) <= 96
    assert np.median(counts) < 60


def test_bounds_pile_values_up_at_an_end() -> None:
    for row in _measured(bounds=1.0):
        assert max((row == row.max()).sum(), (row == row.min()).sum()) >= 1
    assert np.median([(row == row.max()).sum() for row in _measured(bounds=1.0)]) > 1


def test_skew_lengthens_the_upper_tail() -> None:
    skewed = _measured(skew=1.0)

    centred = skewed - skewed.mean(axis=1, keepdims=True)
    assert np.median((centred**3).mean(axis=1) / centred.std(axis=1) ** 3) > 0.5


@pytest.mark.parametrize("context", [24, 72])
def test_missing_values_leave_enough_to_forecast_from(context: int) -> None:
    corruption = dataclasses.replace(NONE, missing=1.0, late_start=1.0)
    series = _series(rows=500)

    lost = corruption.lose(np.random.default_rng(2), series, context)

    seen = np.isfinite(lost)
    assert (~seen).any()
    assert seen[:, :context].sum(axis=1).min() >= 4
    assert seen[:, context:].sum(axis=1).min() >= 1
    np.testing.assert_array_equal(lost[seen], series[seen])


def test_late_start_only_empties_the_beginning() -> None:
    corruption = dataclasses.replace(NONE, late_start=1.0)

    lost = corruption.lose(np.random.default_rng(3), _series(), 72)

    first = np.isfinite(lost).argmax(axis=1)
    assert first.min() >= 1
    assert all(np.isfinite(row[start:]).all() for row, start in zip(lost, first, strict=True))
