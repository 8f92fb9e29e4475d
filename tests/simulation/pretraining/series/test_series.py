from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import UsageError
from simulation.pretraining.series.kernel_synth import kernel_synth
from simulation.pretraining.series.series import (
    SERIES_FAMILIES,
    draw_series,
    mix_series,
    standardise,
)

EVERY = dict.fromkeys(SERIES_FAMILIES, 1.0)


@pytest.mark.parametrize("name", sorted(SERIES_FAMILIES))
def test_family_is_reproducible_finite_and_of_the_asked_shape(name: str) -> None:
    first = SERIES_FAMILIES[name](np.random.default_rng(3), 40, 96)
    again = SERIES_FAMILIES[name](np.random.default_rng(3), 40, 96)
    other = SERIES_FAMILIES[name](np.random.default_rng(4), 40, 96)

    assert first.shape == (40, 96)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", sorted(SERIES_FAMILIES))
def test_family_gives_no_series_for_a_count_of_zero(name: str) -> None:
    assert SERIES_FAMILIES[name](np.random.default_rng(0), 0, 64).shape == (0, 64)


def _increment_kurtosis(series: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    steps = np.diff(series, axis=1)
    steps = steps - steps.mean(axis=1, keepdims=True)
    variance = np.maximum((steps**2).mean(axis=1), 1e-12)
    return float(np.median((steps**4).mean(axis=1) / variance**2))


def _autocorrelation(series: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    scaled = standardise(series)
    return float(np.median((scaled[:, 1:] * scaled[:, :-1]).mean(axis=1)))


def test_families_are_distinct() -> None:
    drawn = {
        name: SERIES_FAMILIES[name](np.random.default_rng(1), 256, 256) for name in SERIES_FAMILIES
    }
    correlation = {name: _autocorrelation(series) for name, series in drawn.items()}
    kurtosis = {name: _increment_kurtosis(series) for name, series in drawn.items()}

    assert correlation["random_walk"] > 0.95
    assert correlation["arma"] < 0.6
    assert kurtosis["level_shifts"] > kurtosis["arma"]
    assert kurtosis["garch"] > kurtosis["season_and_trend"]
    signatures = {(round(correlation[n], 3), round(kurtosis[n], 3)) for n in SERIES_FAMILIES}
    assert len(signatures) == len(SERIES_FAMILIES)


def test_arma_is_stationary() -> None:
    series = SERIES_FAMILIES["arma"](np.random.default_rng(2), 2000, 256)

    early, late = series[:, :64].std(), series[:, -64:].std()

    assert late / early == pytest.approx(1.0, abs=0.15)


def test_one_kernel_serves_a_block_but_draws_differ() -> None:
    series = kernel_synth(np.random.default_rng(5), 33, 64)

    assert series.shape == (33, 64)
    assert len(np.unique(series[:, 10])) > 1


def test_draws_do_not_depend_on_the_number_of_threads() -> None:
    before = torch.get_num_threads()
    drawn = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            drawn.append(kernel_synth(np.random.default_rng(6), 64, 256))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)

    assert drawn[0].tobytes() == drawn[1].tobytes()


def test_draw_series_is_standardised_and_follows_the_mix() -> None:
    series = draw_series(np.random.default_rng(0), 200, 128, EVERY)

    assert series.shape == (200, 128)
    assert series.dtype == np.float32
    np.testing.assert_allclose(series.mean(axis=1), 0.0, atol=1e-4)
    np.testing.assert_allclose(series.std(axis=1), 1.0, atol=1e-3)
    only_walks = draw_series(np.random.default_rng(0), 50, 256, {"random_walk": 2.0, "arma": 0.0})
    assert _autocorrelation(only_walks.astype(np.float64)) > 0.9


def test_draw_series_is_decided_by_the_seed() -> None:
    first, again, other = (
        draw_series(np.random.default_rng(seed), 64, 64, EVERY) for seed in (7, 7, 8)
    )

    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()


@pytest.mark.parametrize("mix", [{"arma": 0.0}, {}, {"heartbeat": 1.0}])
def test_draw_series_refuses_a_mix_it_cannot_draw(mix: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="family mix"):
        draw_series(np.random.default_rng(0), 8, 64, mix)


def test_standardise_turns_a_constant_into_zeros() -> None:
    assert not standardise(np.full((2, 8), 98.0)).any()


def test_mix_series_changes_about_the_asked_share() -> None:
    rng = np.random.default_rng(0)
    pool = draw_series(rng, 300, 64, {"arma": 1.0})
    rows = pool.astype(np.float64)

    mixed = mix_series(rng, rows, pool, 0.25)
    untouched = mix_series(rng, rows, pool, 0.0)

    changed = (mixed != rows).any(axis=1).mean()
    assert 0.15 < changed < 0.35
    np.testing.assert_array_equal(untouched, rows)
