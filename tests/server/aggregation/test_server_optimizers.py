from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.adapter.adapter import Adapter
from common.config.run_config import AggregationConfig
from common.errors import FederationError
from server.aggregation.server_optimizers import ServerOptimizer
from tests.server.aggregation.samples import adapter, with_tensors

NAMES = ("fedavgm", "fedadam", "fedyogi")


def scalar_steps(config: AggregationConfig, start: float, averages: list[float]) -> Iterator[float]:
    """One number's way, written down from the paper."""
    x, m, v = start, 0.0, config.tau**2
    for averaged in averages:
        delta = averaged - x
        if config.optimizer == "fedavgm":
            m = config.momentum * m + delta
            x = x + config.learning_rate * m
        else:
            m = config.momentum * m + (1 - config.momentum) * delta
            if config.optimizer == "fedadam":
                v = config.beta2 * v + (1 - config.beta2) * delta**2
            else:
                sign = (v > delta**2) - (v < delta**2)
                v = v - (1 - config.beta2) * delta**2 * sign
            x = x + config.learning_rate * m / (math.sqrt(v) + config.tau)
        yield x


configs = st.builds(
    AggregationConfig,
    optimizer=st.sampled_from(NAMES),
    learning_rate=st.floats(0.01, 1.5),
    momentum=st.floats(0.0, 0.95),
    beta2=st.floats(0.5, 0.999),
    tau=st.sampled_from([1e-4, 1e-3, 1e-1]),
)


@settings(max_examples=60)
@given(configs, st.integers(0, 1000), st.integers(1, 6))
def test_equals_the_slow_reference(config: AggregationConfig, seed: int, rounds: int) -> None:
    optimizer = ServerOptimizer(config)
    start = adapter(seed, sizes={"block.0.q": (2, 3)})
    averages = [adapter(seed + 1 + i, sizes={"block.0.q": (2, 3)}) for i in range(rounds)]
    seen = [start]
    for averaged in averages:
        seen.append(optimizer.step(seen[-1], averaged))
        assert all(m.dtype == np.float32 for m in seen[-1].tensors.values())
    for name, matrix in start.tensors.items():
        for place in np.ndindex(matrix.shape):
            series = [float(averaged.tensors[name][place]) for averaged in averages]
            for after, expected in zip(
                seen[1:], scalar_steps(config, float(matrix[place]), series), strict=True
            ):
                assert after.tensors[name][place] == pytest.approx(expected, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_resumed_run_goes_on_with_the_same_bits(name: str, rounds: int) -> None:
    config = AggregationConfig(optimizer=name, learning_rate=0.1)
    whole = ServerOptimizer(config)
    here = there = adapter(0)
    for number in range(rounds):
        here = there = whole.step(here, adapter(number + 1))
    state = whole.state()
    assert all(array.dtype == np.float32 for array in state.values())
    resumed = ServerOptimizer(config)
    resumed.load(state)
    for number in range(10, 13):
        here = whole.step(here, adapter(number))
        there = resumed.step(there, adapter(number))
        assert here == there
    assert whole.state().keys() == resumed.state().keys()
    assert float(whole.state()["steps"][0]) == rounds + 3


def test_a_state_is_a_copy_of_the_moment() -> None:
    optimizer = ServerOptimizer(AggregationConfig(optimizer="fedadam"))
    moved = optimizer.step(adapter(0), adapter(1))
    state = optimizer.state()
    before = {name: array.copy() for name, array in state.items()}
    optimizer.step(moved, adapter(2))
    assert all(np.array_equal(state[name], before[name]) for name in state)


@pytest.mark.parametrize("name", NAMES)
def test_where_a_does_not_travel_it_keeps_its_bits_and_no_state(name: str) -> None:
    optimizer = ServerOptimizer(AggregationConfig(optimizer=name))
    start = with_tensors(adapter(0), lambda _, m: np.where(m > 0.5, -0.0, m))
    now = start
    for number in range(3):
        averaged = with_tensors(
            adapter(number + 1), lambda key, m: start.tensors[key] if "lora_A" in key else m
        )
        now = optimizer.step(now, averaged)
    for module in start.modules:
        assert now.pair(module)[0].tobytes() == start.pair(module)[0].tobytes()
        assert not np.array_equal(now.pair(module)[1], start.pair(module)[1])
    assert not any("lora_A" in key for key in optimizer.state())


@pytest.mark.parametrize("name", NAMES)
def test_a_matrix_that_starts_late_is_as_if_it_had_stood_still(name: str) -> None:
    """Two rounds of no update leave m at zero and v where the formula brings it."""
    config = AggregationConfig(optimizer=name, tau=0.5, beta2=0.6, learning_rate=0.3)
    sizes = {"block.0.q": (1, 1)}
    start, averaged = adapter(0, rank=1, sizes=sizes), adapter(1, rank=1, sizes=sizes)
    optimizer, now = ServerOptimizer(config), adapter(0, rank=1, sizes=sizes)
    for target in (start, start, averaged):
        now = optimizer.step(now, target)
    for key, matrix in start.tensors.items():
        x, y = float(matrix[0, 0]), float(averaged.tensors[key][0, 0])
        *_, expected = scalar_steps(config, x, [x, x, y])
        assert now.tensors[key][0, 0] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_no_update_and_no_momentum_changes_no_bit(name: str) -> None:
    start = with_tensors(adapter(0), lambda _, m: np.where(m > 0.5, -0.0, m))
    optimizer = ServerOptimizer(AggregationConfig(optimizer=name))
    assert optimizer.step(start, start) == start


def test_plain_averaging_is_fedavgm_without_momentum() -> None:
    optimizer = ServerOptimizer(AggregationConfig(optimizer="fedavgm", momentum=0.0))
    averaged: Adapter = adapter(1)
    stepped = optimizer.step(adapter(0), averaged)
    for key, matrix in averaged.tensors.items():
        np.testing.assert_allclose(stepped.tensors[key], matrix, rtol=1e-6)


def test_another_optimizers_state_is_refused() -> None:
    adam = ServerOptimizer(AggregationConfig(optimizer="fedadam"))
    adam.step(adapter(0), adapter(1))
    momentum = ServerOptimizer(AggregationConfig(optimizer="fedavgm"))
    momentum.step(adapter(0), adapter(1))
    for optimizer, state in ((adam, momentum.state()), (momentum, adam.state()), (adam, {})):
        with pytest.raises(
            FederationError, match=r"is not one of fed.*; set aggregation.optimizer"
        ):
            optimizer.load(state)
